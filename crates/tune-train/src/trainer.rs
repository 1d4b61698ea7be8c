//! One optimizer step after another: rows in, loss and new weights out.

use std::collections::BTreeMap;

use tune_data::{HeldOut, Row, Stream};
use tune_kernels::KernelBackend;
use tune_model::base::{BaseModel, Keep};
use tune_model::{Batch, LoraSpec, Mode, Model, RowView};
use tune_schema::Digest;
use tune_schema::recipe::{Adapter, Numerics, Recipe};
use tune_schema::seed::Seed;

use crate::TrainError;
use crate::checkpoint::State;
use crate::job::Job;
use crate::optimizer::{Moments, StepGradient, global_norm, scalars};
use crate::schedule::Schedule;

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepResult {
    /// Mean loss over the step's supervised tokens, f64 sum rounded once.
    pub loss: f32,
    /// Norm of the mean gradient before clipping.
    pub grad_norm: f32,
    /// The learning rate.
    pub learning_rate: f64,
    /// Tokens of the step.
    pub tokens: u64,
    /// Supervised tokens of the step.
    pub supervised_tokens: u64,
    /// Rows consumed after this step.
    pub rows: u64,
    /// Head of the stream's hash chain after this step.
    pub stream: Digest,
}

/// What [`Trainer::step_over`] did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Mean loss over the step's supervised tokens, f64 sum rounded once.
    pub loss: f32,
    /// Norm of the mean gradient before clipping.
    pub grad_norm: f32,
    /// The learning rate.
    pub learning_rate: f64,
    /// Supervised tokens of the step.
    pub supervised_tokens: u64,
}

/// A model being trained.
#[derive(Debug)]
pub struct Trainer<B: KernelBackend> {
    model: Model<B>,
    /// The same model on further devices, each of which takes a part of a step's rows.
    replicas: Vec<Model<B>>,
    moments: Moments<B>,
    schedule: Schedule,
    recipe: Recipe,
    step: u64,
    rows: u64,
    stream: tune_data::StreamHead,
}

/// The LoRA settings of a recipe.
#[must_use]
pub fn lora_spec(recipe: &Recipe) -> Option<LoraSpec> {
    (recipe.adapter == Adapter::Lora).then(|| LoraSpec {
        rank: recipe.lora_r as usize,
        scale: recipe.effective_scale(),
        dropout: recipe.lora_dropout,
        targets: recipe.lora_target_modules.clone(),
    })
}

/// Which base weights stay in memory as they are stored.
#[must_use]
pub fn kept_weights(recipe: &Recipe) -> Keep {
    match (recipe.adapter, recipe.keep_quantized) {
        (Adapter::None, _) => Keep::Values,
        (Adapter::Lora, _) if recipe.numerics == Numerics::PinnedBf16V1 => Keep::Rounded,
        (Adapter::Lora, false) => Keep::SixteenBit,
        (Adapter::Lora, true) => Keep::Stored,
    }
}

/// The model before the first step, which follows from recipe, base model and seed.
///
/// # Errors
/// Weights that cannot be read, or modules that the model does not have.
pub fn initial_model<B: KernelBackend>(
    recipe: &Recipe,
    base: &BaseModel,
    device: &B::Device,
) -> Result<Model<B>, TrainError> {
    let seed = Seed(recipe.seed);
    let positions = recipe.sequence_len as usize + recipe.eval_max_new_tokens as usize;
    let mut model = if recipe.reinit_weights {
        Model::init(base, seed, positions, kept_weights(recipe), device)?
    } else {
        Model::load(base, positions, kept_weights(recipe), device)?
    };
    match lora_spec(recipe) {
        Some(spec) => model.add_lora(&spec, seed)?,
        None => model.train_all(),
    }
    model.set_gradient_checkpointing(recipe.gradient_checkpointing);
    Ok(model)
}

/// Borrows a row of the stream.
fn view(row: &Row) -> RowView<'_> {
    RowView { ids: &row.input_ids, labels: &row.labels, positions: &row.position_ids, segments: &row.segment_ids }
}

impl<B: KernelBackend> Trainer<B> {
    /// The state before the first step. Devices share the rows of a step; how many there are changes no bit.
    ///
    /// # Errors
    /// Weights that cannot be read, modules that the model does not have, or a backend that computes under another profile.
    ///
    /// # Panics
    /// If there is no device.
    pub fn new(job: &Job, devices: &[B::Device]) -> Result<Self, TrainError> {
        if job.recipe.numerics != B::NUMERICS {
            return Err(TrainError::Numerics { wanted: job.recipe.numerics, device: job.device.backend.clone() });
        }
        let model = |device: &B::Device| initial_model(&job.recipe, &job.base, device);
        let (first, others) = devices.split_first().expect("a device");
        let trainer = Self::with_model(model(first)?, job.recipe.clone(), job.prepared.train.steps());
        let replicas = others.iter().map(model).collect::<Result<_, _>>()?;
        Ok(Self { replicas, stream: job.prepared.head.clone(), ..trainer })
    }

    /// A model as it is, before the first of `steps` steps; the digests of its stream are not salted.
    #[must_use]
    pub fn with_model(model: Model<B>, recipe: Recipe, steps: u64) -> Self {
        let moments = Moments::zeros(&model.trainable());
        let schedule = Schedule::new(&recipe, steps);
        Self {
            model,
            replicas: Vec::new(),
            moments,
            schedule,
            recipe,
            step: 0,
            rows: 0,
            stream: tune_data::StreamHead::new(None),
        }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model<B> {
        &self.model
    }

    /// Steps done.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Rows consumed.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Head of the stream's hash chain.
    #[must_use]
    pub fn stream(&self) -> Digest {
        self.stream.digest()
    }

    /// The state on the host, for hashing and writing.
    #[must_use]
    pub fn state(&self) -> State {
        State::from_device(&self.model.trainable(), &self.moments, &self.model.trainable_shapes())
    }

    /// Continues from a checkpoint.
    ///
    /// # Errors
    /// A checkpoint whose tensors are not exactly the trained ones.
    pub fn restore(&mut self, state: &State, step: u64, rows: u64, stream: Digest) -> Result<(), TrainError> {
        let names = |tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>| {
            tensors.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect::<BTreeMap<_, _>>()
        };
        let expected = self.model.trainable_shapes();
        for tensors in [&state.parameters, &state.first_moments, &state.second_moments] {
            let found = names(tensors);
            if found != expected {
                let differing =
                    expected.iter().find(|(name, shape)| found.get(*name) != Some(shape)).map(|(name, _)| name);
                let extra = found.keys().find(|name| !expected.contains_key(*name));
                let name = differing.or(extra).cloned().unwrap_or_default();
                return Err(TrainError::TrainableSet { step, name });
            }
        }
        self.model.set_trainable(&state.parameters)?;
        self.spread();
        self.moments = Moments {
            first: self.model.to_device(&state.first_moments),
            second: self.model.to_device(&state.second_moments),
        };
        self.step = step;
        self.rows = rows;
        self.stream = self.stream.at(stream);
        Ok(())
    }

    /// One optimizer step over the next rows, `micro_batch_size` of them at a time.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, or rows that cannot be read: the state is then that before the step.
    ///
    /// # Panics
    /// If all steps are done.
    pub fn train_step(&mut self, stream: &Stream) -> Result<StepResult, TrainError> {
        let rows = stream.step_rows(self.step);
        let (mut head, mut tokens, mut first) = (self.stream.clone(), 0_u64, 0_u32);
        let share = (rows.end - rows.start).div_ceil(1 + self.replicas.len() as u64);
        let micro = u64::from(self.recipe.micro_batch_size).min(share).max(1);
        let starts = (rows.start..rows.end).step_by(usize::try_from(micro).unwrap_or(usize::MAX));
        let batches = starts.map(|start| {
            let rows = start..(start + micro).min(rows.end);
            let rows: Vec<Row> = rows.map(|index| stream.row(index)).collect::<Result<_, _>>()?;
            for row in &rows {
                head.push(row);
                tokens += row.input_ids.len() as u64;
            }
            let views: Vec<RowView<'_>> = rows.iter().map(view).collect();
            let batch = Batch::from_rows(&views, first)?;
            first += u32::try_from(rows.len()).unwrap_or(u32::MAX);
            Ok(batch)
        });
        let Update { loss, grad_norm, learning_rate, supervised_tokens } = self.step_over(batches)?;
        self.rows = rows.end;
        self.stream = head;
        let (rows, stream) = (self.rows, self.stream.digest());
        Ok(StepResult { loss, grad_norm, learning_rate, tokens, supervised_tokens, rows, stream })
    }

    /// One optimizer step over these micro-batches.
    ///
    /// # Errors
    /// A loss or gradient that is not finite, or an error among the batches: the state is then that before the step.
    pub fn step_over(
        &mut self,
        batches: impl Iterator<Item = Result<Batch, TrainError>>,
    ) -> Result<Update, TrainError> {
        let step = u32::try_from(self.step).map_err(|_| TrainError::TooManySteps)?;
        let (mut losses, mut gradient) = (Losses::default(), StepGradient::<B>::default());
        let mut batches = batches;
        loop {
            let group = batches.by_ref().take(1 + self.replicas.len()).collect::<Result<Vec<Batch>, _>>()?;
            let Some((first, others)) = group.split_first() else { break };
            self.compute(first, others, Mode::Train { step }, &mut losses, &mut gradient);
        }
        let gradient = gradient.finish();
        let learning_rate = self.schedule.rate(self.step);
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let norm = global_norm(&gradient) / losses.count as f64;
        #[expect(clippy::cast_possible_truncation, reason = "rounded once, as the contract says")]
        let (loss, grad_norm) = (losses.mean(), norm as f32);
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(TrainError::NotFinite { step: self.step + 1, loss, grad_norm, learning_rate });
        }
        self.update(&gradient, learning_rate, losses.count, norm);
        self.spread();
        self.step += 1;
        Ok(Update { loss, grad_norm, learning_rate, supervised_tokens: losses.count })
    }

    /// Neighbouring micro-batches, each on a device of its own. What the other devices found is added after the first's,
    /// in the order of the micro-batches.
    fn compute(
        &self,
        first: &Batch,
        others: &[Batch],
        mode: Mode,
        losses: &mut Losses,
        gradient: &mut StepGradient<B>,
    ) {
        std::thread::scope(|scope| {
            let others: Vec<_> = self
                .replicas
                .iter()
                .zip(others)
                .map(|(model, batch)| {
                    scope.spawn(move || {
                        let mut kept = Vec::new();
                        let mut keep = |name: &str, rows| kept.push((name.to_owned(), rows));
                        let losses = model.forward_backward(batch, mode, &mut keep);
                        (losses, kept)
                    })
                })
                .collect();
            losses.add(&self.model.forward_backward(first, mode, &mut |name, rows| gradient.push(name, rows)));
            for other in others {
                let (found, kept) = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                losses.add(&found);
                for (name, rows) in kept {
                    let here = rows.into_iter().map(|row| row.to_device(self.model.device()));
                    gradient.push(&name, here.collect());
                }
            }
        });
    }

    /// Brings what is trained to the other devices.
    fn spread(&mut self) {
        self.replicas.iter_mut().for_each(|replica| replica.copy_trained(&self.model));
    }

    /// AdamW on every parameter.
    fn update(
        &mut self,
        gradient: &BTreeMap<String, burn_tensor::Tensor<B, 2>>,
        rate: f64,
        supervised: u64,
        norm: f64,
    ) {
        let scalars = scalars(&self.recipe, rate, self.step + 1, supervised, norm);
        let moments = &mut self.moments;
        self.model.update(|name, parameter| {
            // A parameter that no token of the step touched keeps its value: it has no gradient.
            let Some(gradient) = gradient.get(name) else { return parameter };
            let first = moments.first.remove(name).expect("every trained parameter has a first moment");
            let second = moments.second.remove(name).expect("every trained parameter has a second moment");
            let [parameter, first, second] = B::adamw(parameter, first, second, gradient, scalars);
            moments.first.insert(name.to_owned(), first);
            moments.second.insert(name.to_owned(), second);
            parameter
        });
    }

    /// Mean loss over the supervised tokens of held-out rows, a micro-batch at a time; nothing where there are none.
    ///
    /// # Errors
    /// Rows that cannot be read or make no batch, or a loss that is not finite.
    pub fn evaluation_loss(&self, held_out: &HeldOut) -> Result<Option<f32>, TrainError> {
        let mut losses = Losses::default();
        for start in (0..held_out.len()).step_by(self.recipe.micro_batch_size as usize) {
            let rows = start..(start + self.recipe.micro_batch_size as usize).min(held_out.len());
            let rows: Vec<Row> = rows.map(|i| held_out.row(i)).collect::<Result<_, _>>()?;
            let views: Vec<RowView<'_>> = rows.iter().map(view).collect();
            losses.add(&self.model.losses(&Batch::from_rows(&views, 0)?));
        }
        let loss = (losses.count > 0).then(|| losses.mean());
        match loss {
            Some(loss) if !loss.is_finite() => Err(TrainError::EvaluationNotFinite { step: self.step, loss }),
            loss => Ok(loss),
        }
    }
}

/// Losses of tokens, summed in f64 one after another in token order: independent of how rows are grouped.
#[derive(Debug, Default)]
struct Losses {
    sum: f64,
    count: u64,
}

impl Losses {
    fn add(&mut self, losses: &[f32]) {
        self.sum = losses.iter().fold(self.sum, |sum, loss| sum + f64::from(*loss));
        self.count += losses.len() as u64;
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "rounded once")]
    fn mean(&self) -> f32 {
        (self.sum / self.count as f64) as f32
    }
}
