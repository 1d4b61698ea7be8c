//! A whole run: lock, prepare, train, evaluate, manifest. Killed at any moment and started again, it ends in the same
//! claim, byte for byte.
//!
//! The order of writes makes that so: `inputs.json` first; a checkpoint is renamed into place before the chain's record
//! of its step is appended; `manifest.json` last. On a new start the run goes back to the last checkpoint that the chain
//! knows and drops every line written after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tune_fs::{AppendFile, FolderLock};
use tune_kernels::KernelBackend;
use tune_model::base::BaseModel;
use tune_schema::chain::{ChainRecord, F32Bits};
use tune_schema::lock::{LOCK_VERSION, Lock};
use tune_schema::manifest::{Claim, ClaimInputs, Evaluation, Manifest, StreamFacts, TrainingFacts};
use tune_schema::recipe::{Adapter, Recipe};
use tune_schema::{Digest, to_canonical_json};

use crate::TrainError;
use crate::chain_file::ChainFile;
use crate::checkpoint::{CheckpointState, SideFiles, State, read_checkpoint, write_checkpoint, write_weights};
use crate::environment::{Environment, Stopwatch, machine, peak_rss_bytes, unix_seconds};
use crate::evaluate::{Scores, evaluate, read_scores, write_scores};
use crate::job::Job;
use crate::layout::{ENVIRONMENT, RunFolder, checkpoint_step, claimed_paths, weights_file};
use crate::observer::Observer;
use crate::trainer::{StepResult, Trainer};

/// What a run ended with.
#[derive(Debug)]
pub struct RunOutcome {
    /// The sealed manifest.
    pub manifest: Manifest,
    /// Whether the folder held the finished run already.
    pub already_complete: bool,
    /// Scores before training.
    pub before: Scores,
    /// Scores after training.
    pub after: Scores,
    /// Machine and timings.
    pub environment: Environment,
}

/// One line of `metrics.jsonl`, for people and plots.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// From 1.
    pub step: u64,
    /// Mean loss of the step.
    pub loss: f32,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f32,
    /// Tokens of the step.
    pub tokens: u64,
    /// Supervised tokens of the step.
    pub supervised_tokens: u64,
    /// Speed of the step.
    pub tokens_per_second: f64,
    /// Duration of the step.
    pub seconds: f64,
    /// Held-out loss, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f32>,
}

/// Runs a job in `folder`, or goes on with what is there.
///
/// # Errors
/// Everything that stops a run; the folder is left so that the same command goes on.
pub fn run<B: KernelBackend>(
    job: &Job,
    folder: &RunFolder,
    devices: &[B::Device],
    observer: &mut dyn Observer,
) -> Result<RunOutcome, TrainError> {
    let clock = Stopwatch::start();
    // Without the lock first, so that a folder of another run is refused before anything is made.
    inspect(job, folder)?;
    let created = !tune_fs::exists(folder.path());
    tune_fs::create_dir_all(folder.path())?;
    let _lock = FolderLock::acquire(folder.path())?;
    // Again, now that nobody else can change it.
    let found = inspect(job, folder)?;
    if let Found::Finished(outcome) = found {
        return Ok(*outcome);
    }
    let begun = begin::<B>(job, folder, devices, observer);
    let Begun { mut trainer, mut chain, side, initial_root, before } = match begun {
        Err(error) if matches!(found, Found::Nothing) => {
            // What never became a run is not left lying about. What stopped it is the better message than what stops
            // the cleaning up.
            let _ = discard(folder.path(), created);
            return Err(error);
        }
        begun => begun?,
    };
    observer.scores(false, &before);
    train(job, folder, &mut trainer, &mut chain, &side, observer)?;
    observer.phase("evaluating after training");
    let after = evaluate(job, &trainer, "after")?;
    write_scores(&folder.evaluation("after"), &after)?;
    observer.scores(true, &after);
    let state = trainer.state();
    let result = folder.result(job.recipe.adapter);
    tune_fs::create_dir_all(&result)?;
    write_weights(&result, weights_file(&job.recipe), &state.parameters, &side)?;
    let saved = chain.records().iter().filter(|record| record.state_root.is_some()).map(|record| record.step);
    let claimed = claimed_paths(&job.recipe, saved, side.keys().map(String::as_str));
    let claim = Claim {
        inputs: job.inputs.clone(),
        training: training_facts_of(&job.recipe, trainer.step()),
        stream: stream_facts(job, chain.records()),
        chain_head: chain.head(),
        checkpoints: chain
            .records()
            .iter()
            .filter_map(|r| r.state_root.map(|root| (r.step.to_string(), root)))
            .collect(),
        initial_root,
        final_root: state.parameter_root(),
        evaluation: evaluation_facts(&before, &after)?,
        files: digests(folder, claimed.iter().map(String::as_str))?,
    };
    let environment = write_environment(job, folder, &clock)?;
    let manifest = Manifest::new(claim, digests(folder, ENVIRONMENT)?)?;
    tune_fs::write_atomic(&folder.manifest(), &to_canonical_json(&manifest)?)?;
    Ok(RunOutcome { manifest, already_complete: false, before, after, environment })
}

/// What lies where a run is to be.
enum Found {
    /// Nothing, or an empty folder.
    Nothing,
    /// This run, not finished.
    Begun,
    /// This run, with its manifest.
    Finished(Box<RunOutcome>),
}

/// Looks at the folder without changing it.
fn inspect(job: &Job, folder: &RunFolder) -> Result<Found, TrainError> {
    if !tune_fs::exists(&folder.inputs()) {
        let taken = tune_fs::exists(folder.path())
            && tune_fs::list_files_recursive(folder.path())?.iter().any(|path| !tune_fs::is_incomplete(path));
        return if taken { Err(TrainError::NotARun { folder: folder.path().to_owned() }) } else { Ok(Found::Nothing) };
    }
    let (found, wanted) = (tune_fs::read(&folder.inputs())?, to_canonical_json(&job.inputs)?);
    if found != wanted {
        let difference = first_difference(&found, &wanted);
        return Err(TrainError::OtherClaim { folder: folder.path().to_owned(), difference });
    }
    if !tune_fs::exists(&folder.manifest()) {
        return Ok(Found::Begun);
    }
    let manifest: Manifest = serde_json::from_slice(&tune_fs::read(&folder.manifest())?)
        .map_err(|source| TrainError::Json { path: folder.manifest(), source })?;
    for (name, stated) in manifest.claim.files.iter().chain(&manifest.environment) {
        let path = folder.path().join(name);
        if !tune_fs::digest_file(&path).is_ok_and(|(found, _)| found == *stated) {
            return Err(TrainError::Damaged { path });
        }
    }
    let environment = serde_json::from_slice(&tune_fs::read(&folder.environment())?)
        .map_err(|source| TrainError::Json { path: folder.environment(), source })?;
    let (before, after) = (read_scores(&folder.evaluation("before"))?, read_scores(&folder.evaluation("after"))?);
    Ok(Found::Finished(Box::new(RunOutcome { manifest, already_complete: true, before, after, environment })))
}

/// A run that steps can be added to.
struct Begun<B: KernelBackend> {
    trainer: Trainer<B>,
    chain: ChainFile,
    side: SideFiles,
    initial_root: Digest,
    before: Scores,
}

/// Loads the model, makes the folder ready, scores the initial state and goes back to the last checkpoint.
fn begin<B: KernelBackend>(
    job: &Job,
    folder: &RunFolder,
    devices: &[B::Device],
    observer: &mut dyn Observer,
) -> Result<Begun<B>, TrainError> {
    observer.phase("loading the model");
    let mut trainer = Trainer::<B>::new(job, devices)?;
    let initial_root = trainer.state().parameter_root();
    let side = side_files(&job.recipe, &job.base, &job.inputs);
    tune_fs::create_dir_all(&folder.checkpoints())?;
    tune_fs::remove_incomplete(folder.path())?;
    tune_fs::write_atomic(&folder.inputs(), &to_canonical_json(&job.inputs)?)?;
    tune_fs::write_atomic(&folder.recipe(), &job.recipe_text)?;
    tune_fs::write_atomic(&folder.resolved(), job.recipe.claimed_yaml().as_bytes())?;
    let sources = Lock { version: LOCK_VERSION, sources: job.sources.clone() };
    tune_fs::write_atomic(&folder.lock(), sources.to_yaml().as_bytes())?;
    // Of what an earlier start left, only checkpoints that their chain vouches for are taken over; scores are not.
    observer.phase("evaluating before training");
    let before = evaluate(job, &trainer, "before")?;
    write_scores(&folder.evaluation("before"), &before)?;
    let origin = job.inputs_digest()?;
    let mut chain = ChainFile::open(&folder.chain(), origin)?;
    resume(job, folder, &mut trainer, &mut chain, origin, &side)?;
    Ok(Begun { trainer, chain, side, initial_root, before })
}

/// Removes what was put into a folder that was empty or not there.
fn discard(folder: &Path, created: bool) -> Result<(), TrainError> {
    if created {
        return Ok(tune_fs::remove_dir_all(folder)?);
    }
    tune_fs::empty_dir(folder)?;
    Ok(())
}

/// The first member in which two sets of inputs differ, for a person.
fn first_difference(found: &[u8], wanted: &[u8]) -> String {
    let parse = |bytes: &[u8]| serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(bytes).unwrap_or_default();
    let (found, wanted) = (parse(found), parse(wanted));
    let differing = wanted.iter().find(|(name, value)| found.get(*name) != Some(value));
    differing.map_or_else(|| "its inputs cannot be read".to_owned(), |(name, _)| format!("its `{name}` differs"))
}

/// Goes back to the last checkpoint before which every checkpoint of the chain is sound; without one, starts from step
/// 0. Checkpoints beyond it are removed.
fn resume<B: KernelBackend>(
    job: &Job,
    folder: &RunFolder,
    trainer: &mut Trainer<B>,
    chain: &mut ChainFile,
    origin: Digest,
    side: &SideFiles,
) -> Result<(), TrainError> {
    let known: Vec<ChainRecord> =
        chain.records().iter().filter(|record| record.state_root.is_some()).cloned().collect();
    let sound =
        known.iter().map_while(|record| sound_checkpoint(job, folder, record, side).map(|state| (record, state)));
    let last = sound.last();
    let kept = last.as_ref().map(|(record, _)| record.step);
    for name in tune_fs::list_folder(&folder.checkpoints())? {
        let step = checkpoint_step(&name).filter(|step| known.iter().any(|record| record.step == *step));
        if checkpoint_step(&name).is_some() && (step.is_none() || step > kept) {
            tune_fs::remove_dir_all(&folder.checkpoints().join(&name))?;
        }
    }
    if let Some((record, state)) = last {
        trainer.restore(&state, record.step, record.rows, record.stream)?;
        return chain.truncate(usize::try_from(record.step).unwrap_or(usize::MAX).saturating_add(1), origin);
    }
    chain.truncate(0, origin)?;
    let state = trainer.state();
    let facts =
        CheckpointState { step: 0, rows: 0, stream: trainer.stream(), state_root: state.root(), previous: origin };
    write_checkpoint(&folder.checkpoint(0), weights_file(&job.recipe), &state, &facts, side)?;
    let record = ChainRecord {
        step: 0,
        loss: None,
        grad_norm: None,
        learning_rate: None,
        tokens: 0,
        supervised_tokens: 0,
        rows: 0,
        stream: facts.stream,
        eval_loss: None,
        state_root: Some(facts.state_root),
        previous: origin,
    };
    chain.append(record, true)
}

/// The state of a checkpoint, where all its files are what the chain's record and the job say.
fn sound_checkpoint(job: &Job, folder: &RunFolder, record: &ChainRecord, side: &SideFiles) -> Option<State> {
    let place = folder.checkpoint(record.step);
    let (state, facts) = read_checkpoint(&place, weights_file(&job.recipe)).ok()?;
    let stated = CheckpointState {
        step: record.step,
        rows: record.rows,
        stream: record.stream,
        state_root: record.state_root?,
        previous: record.previous,
    };
    let side_is_sound =
        side.iter().all(|(name, bytes)| tune_fs::read(&place.join(name)).is_ok_and(|found| found == *bytes));
    (facts == stated && side_is_sound).then_some(state)
}

/// All steps that are left.
fn train<B: KernelBackend>(
    job: &Job,
    folder: &RunFolder,
    trainer: &mut Trainer<B>,
    chain: &mut ChainFile,
    side: &SideFiles,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    let total = job.prepared.train.steps();
    let mut metrics = open_metrics(folder, trainer.step())?;
    observer.training(trainer.step(), total);
    while trainer.step() < total {
        let clock = Stopwatch::start();
        let result = trainer.train_step(&job.prepared.train)?;
        let seconds = clock.seconds();
        let step = trainer.step();
        observer.step(step, &result, seconds);
        let record = next_record(job, folder, trainer, chain.head(), &result, side)?;
        let eval_loss = record.eval_loss.map(F32Bits::value);
        if let Some(loss) = eval_loss {
            observer.evaluation(step, loss);
        }
        #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
        let metric = Metric {
            step,
            loss: result.loss,
            learning_rate: result.learning_rate,
            grad_norm: result.grad_norm,
            tokens: result.tokens,
            supervised_tokens: result.supervised_tokens,
            tokens_per_second: result.tokens as f64 / seconds.max(1e-9),
            seconds,
            eval_loss,
        };
        let mut line =
            serde_json::to_vec(&metric).map_err(|source| TrainError::Json { path: folder.metrics(), source })?;
        line.push(b'\n');
        metrics.append(&line)?;
        let durable = record.state_root.is_some();
        chain.append(record, durable)?;
    }
    metrics.sync()?;
    if trainer.rows() != job.prepared.train.len() {
        return Err(TrainError::RowCount { consumed: trainer.rows(), expected: job.prepared.train.len() });
    }
    Ok(())
}

/// The chain's record of the step just done; where one is due, with a checkpoint written and the held-out loss measured.
fn next_record<B: KernelBackend>(
    job: &Job,
    folder: &RunFolder,
    trainer: &Trainer<B>,
    previous: Digest,
    result: &StepResult,
    side: &SideFiles,
) -> Result<ChainRecord, TrainError> {
    let step = trainer.step();
    let total = job.prepared.train.steps();
    let eval_loss = evaluation_due(job, trainer)?;
    let mut state_root = None;
    if checkpoint_due(&job.recipe, step, total) {
        let state = trainer.state();
        if !state.is_finite() {
            return Err(TrainError::WeightsNotFinite { step, learning_rate: result.learning_rate });
        }
        let facts =
            CheckpointState { step, rows: result.rows, stream: result.stream, state_root: state.root(), previous };
        write_checkpoint(&folder.checkpoint(step), weights_file(&job.recipe), &state, &facts, side)?;
        state_root = Some(facts.state_root);
    }
    Ok(record_of(step, result, eval_loss, state_root, previous))
}

/// The held-out loss, where the recipe asks for it after the trainer's step.
///
/// # Errors
/// Rows that make no batch.
pub fn evaluation_due<B: KernelBackend>(job: &Job, trainer: &Trainer<B>) -> Result<Option<f32>, TrainError> {
    match job.recipe.eval_steps {
        Some(every) if trainer.step().is_multiple_of(every) => trainer.evaluation_loss(&job.prepared.eval_rows),
        _ => Ok(None),
    }
}

/// The chain's record of a step.
#[must_use]
pub fn record_of(
    step: u64,
    result: &StepResult,
    eval_loss: Option<f32>,
    state_root: Option<Digest>,
    previous: Digest,
) -> ChainRecord {
    #[expect(clippy::cast_possible_truncation, reason = "the rate's bits in f32")]
    let learning_rate = result.learning_rate as f32;
    ChainRecord {
        step,
        loss: Some(F32Bits::new(result.loss)),
        grad_norm: Some(F32Bits::new(result.grad_norm)),
        learning_rate: Some(F32Bits::new(learning_rate)),
        tokens: result.tokens,
        supervised_tokens: result.supervised_tokens,
        rows: result.rows,
        stream: result.stream,
        eval_loss: eval_loss.map(F32Bits::new),
        state_root,
        previous,
    }
}

/// Files beside the weights that make them readable by other tools.
#[must_use]
pub fn side_files(recipe: &Recipe, base: &BaseModel, inputs: &ClaimInputs) -> SideFiles {
    match recipe.adapter {
        Adapter::Lora => {
            let suffixes = inputs.adapted_modules.iter().filter_map(|module| module.rsplit('.').next());
            let config = tune_schema::adapter_config::AdapterConfig::new(
                &recipe.base_model_name,
                None,
                recipe.lora_r,
                recipe.lora_alpha,
                recipe.lora_dropout,
                suffixes.map(str::to_owned).collect(),
                recipe.use_rslora,
            );
            SideFiles::from([("adapter_config.json".to_owned(), config.to_json().into_bytes())])
        }
        Adapter::None => model_files(base),
    }
}

/// The files beside the weights of a whole model in Hugging Face layout.
#[must_use]
pub fn model_files(base: &BaseModel) -> SideFiles {
    let tokenizer = &base.tokenizer;
    let mut files = SideFiles::from([
        ("config.json".to_owned(), base.config.to_config_json()),
        ("tokenizer.json".to_owned(), tokenizer.tokenizer_json.clone()),
    ]);
    files.extend(tokenizer.tokenizer_config.clone().map(|bytes| ("tokenizer_config.json".to_owned(), bytes)));
    files
}

/// Opens `metrics.jsonl`, keeping the lines up to `step`.
fn open_metrics(folder: &RunFolder, step: u64) -> Result<AppendFile, TrainError> {
    let kept: Vec<String> = read_metrics(folder)?
        .into_iter()
        .filter(|(metric, _)| metric.step <= step)
        .map(|(_, line)| line + "\n")
        .collect();
    tune_fs::write_atomic(&folder.metrics(), kept.concat().as_bytes())?;
    Ok(AppendFile::open(&folder.metrics())?)
}

/// The whole lines of `metrics.jsonl`.
fn read_metrics(folder: &RunFolder) -> Result<Vec<(Metric, String)>, TrainError> {
    if !tune_fs::exists(&folder.metrics()) {
        return Ok(Vec::new());
    }
    let text = tune_fs::read(&folder.metrics())?;
    let text = String::from_utf8_lossy(&text);
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok().map(|metric| (metric, line.to_owned())))
        .collect())
}

/// The recipe's settings under the names that other tools know, after `steps` steps.
#[must_use]
pub fn training_facts_of(recipe: &Recipe, steps: u64) -> TrainingFacts {
    TrainingFacts {
        adam_beta1: recipe.adam_beta1,
        adam_beta2: recipe.adam_beta2,
        adam_epsilon: recipe.adam_epsilon,
        weight_decay: recipe.weight_decay,
        max_grad_norm: recipe.max_grad_norm,
        steps,
        rows_per_step: recipe.rows_per_step(),
        effective_scale: (recipe.adapter == Adapter::Lora).then(|| F32Bits::new(recipe.effective_scale())),
        loss_normalisation: "supervised-tokens-of-step".to_owned(),
    }
}

/// What the chain's records came to, with the counts of the preparation.
fn stream_facts(job: &Job, records: &[ChainRecord]) -> StreamFacts {
    let last = records.last();
    StreamFacts {
        digest: last.map_or(job.prepared.facts.digest, |record| record.stream),
        rows: last.map_or(0, |record| record.rows),
        tokens: records.iter().map(|record| record.tokens).sum(),
        supervised_tokens: records.iter().map(|record| record.supervised_tokens).sum(),
        ..job.prepared.facts.clone()
    }
}

/// Scores as the claim holds them.
///
/// # Errors
/// None in practice.
pub fn evaluation_facts(before: &Scores, after: &Scores) -> Result<Evaluation, TrainError> {
    let answers = (!before.answers.is_empty())
        .then(|| tune_schema::canonical_digest(&[&before.answers, &after.answers]))
        .transpose()?;
    Ok(Evaluation {
        loss_before: before.loss,
        loss_after: after.loss,
        exact_match_examples: before.answers.len() as u64,
        exact_match_before: before.correct(),
        exact_match_after: after.correct(),
        answers,
    })
}

/// Whether a run of `total` steps writes a checkpoint at `step`.
#[must_use]
pub fn checkpoint_due(recipe: &Recipe, step: u64, total: u64) -> bool {
    step.is_multiple_of(recipe.save_steps) || step == total
}

fn digests<'a>(
    folder: &RunFolder,
    paths: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, Digest>, TrainError> {
    let one = |path: &str| Ok((path.to_owned(), tune_fs::digest_file(&folder.path().join(path))?.0));
    paths.into_iter().map(one).collect()
}

/// Writes `environment.json`.
fn write_environment(job: &Job, folder: &RunFolder, clock: &Stopwatch) -> Result<Environment, TrainError> {
    let metrics = read_metrics(folder)?;
    let mut speeds: Vec<f64> = metrics.iter().map(|(metric, _)| metric.tokens_per_second).collect();
    speeds.sort_by(f64::total_cmp);
    let relative = |path: &Path| relative_to(folder.path(), path).unwrap_or_else(|| path.to_owned());
    let environment = Environment {
        micro_batch_size: job.recipe.micro_batch_size,
        peak_rss_bytes: peak_rss_bytes(),
        train_seconds: metrics.iter().map(|(metric, _)| metric.seconds).sum(),
        tokens_per_second: speeds.get(speeds.len() / 2).copied().unwrap_or(0.0),
        total_seconds: clock.seconds(),
        finished_unix_seconds: unix_seconds(),
        locations: job
            .locations
            .iter()
            .map(|(name, path)| (name.clone(), relative(path).to_string_lossy().into_owned()))
            .collect(),
        secrets: job.secrets_file.as_deref().map(|path| relative(path).to_string_lossy().into_owned()),
        ..machine(&job.device)
    };
    let text = serde_json::to_vec_pretty(&environment)
        .map_err(|source| TrainError::Json { path: folder.environment(), source })?;
    tune_fs::write_atomic(&folder.environment(), &text)?;
    Ok(environment)
}

/// `path` as seen from `folder`, with `..` where needed.
fn relative_to(folder: &Path, path: &Path) -> Option<PathBuf> {
    let (folder, path) = (std::path::absolute(folder).ok()?, std::path::absolute(path).ok()?);
    let (folder, path) = (tune_fs::normalised(&folder), tune_fs::normalised(&path));
    let common = folder.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| PathBuf::from(".."));
    let down: PathBuf = path.components().skip(common).collect();
    Some(up.collect::<PathBuf>().join(down))
}
