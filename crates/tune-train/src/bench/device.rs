//! What one device can do: are its bits right, and how fast is it with models that are not at hand.

use std::path::Path;

use burn_tensor::{Tensor, TensorData};
use serde::Serialize;
use tune_kernels::KernelBackend;
use tune_kernels::backend::{Layer, Weight};
use tune_kernels::compare::{Comparison, compare};
use tune_kernels::layout::Rows;
use tune_kernels::reference::{Fused, Unfused};
use tune_kernels::stored::StoredMatrix;
use tune_model::base::ModelConfig;
use tune_model::{Batch, Model, RowView, weight_products};
use tune_schema::Digest;
use tune_schema::recipe::{self, Numerics};
use tune_schema::seed::Seed;

use super::pinned::{self, PinnedReport};
use super::{median, peak_flops};
use crate::environment::Stopwatch;
use crate::trainer::lora_spec;
use crate::{Job, Observer, RunFolder, Silent, TrainError, Trainer};

/// A model by its shape; what it weighs is drawn.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Name of the model.
    pub name: &'static str,
    /// Its configuration.
    pub config: ModelConfig,
    /// Rows and their tokens of the steps that are measured.
    pub batches: Vec<[usize; 2]>,
    /// Tokens of the products that are measured.
    pub product_tokens: usize,
}

/// The models that throughput is measured with, smallest first.
#[must_use]
pub fn shapes() -> Vec<Shape> {
    let usual = |name, [hidden, mlp, layers, heads, kv_heads, vocabulary]: [usize; 6], tied| Shape {
        name,
        batches: vec![[4, 2048], [8, 512]],
        product_tokens: 4096,
        config: ModelConfig {
            hidden_size: hidden,
            intermediate_size: mlp,
            num_layers: layers,
            num_heads: heads,
            num_kv_heads: kv_heads,
            head_dim: hidden / heads,
            vocab_size: vocabulary,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            tie_word_embeddings: tied,
            attention_bias: false,
            mlp_bias: false,
            max_position_embeddings: 2048,
            bos_token_id: None,
            eos_token_ids: vec![0],
            initializer_range: 0.02,
        },
    };
    // For trying the command itself, where there is no GPU.
    let tiny = usual("tiny", [64, 160, 2, 4, 2, 512], true);
    vec![
        Shape { batches: vec![[2, 48]], product_tokens: 64, ..tiny },
        usual("SmolLM2-135M", [576, 1536, 30, 9, 3, 49_152], true),
        usual("Llama-3.2-1B", [2048, 8192, 16, 32, 8, 128_256], true),
        usual("Llama-3-8B", [4096, 14_336, 32, 32, 8, 128_256], false),
    ]
}

/// How much to do.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Random shapes of each group of operations that are compared with the reference.
    pub comparisons: u32,
    /// Whether the device's `fma` is fused, as its probe found.
    pub fused: bool,
    /// Models to measure.
    pub shapes: Vec<Shape>,
    /// Steps measured of each, after one that warms up.
    pub steps: usize,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceReport {
    /// Operations against the scalar reference.
    pub comparisons: Vec<Compared>,
    /// The quickstart here and on the CPU; none where the device's `fma` is not fused.
    pub quickstart: Option<Quickstart>,
    /// Multiply-adds on registers alone, floating-point operations a second.
    pub peak_flops: f64,
    /// What was found of `pinned-bf16/1`; none where the device's `fma` is not fused.
    pub pinned: Option<PinnedReport>,
    /// Matrix products.
    pub products: Vec<ProductSpeed>,
    /// Training steps.
    pub training: Vec<TrainingSpeed>,
}

impl DeviceReport {
    /// Whether every bit that was compared is right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        let quickstart =
            self.quickstart.as_ref().is_none_or(|quickstart| quickstart.claim == quickstart.claim_on_the_cpu);
        let pinned = self.pinned.as_ref().is_none_or(PinnedReport::is_right);
        quickstart && pinned && self.comparisons.iter().all(|compared| compared.difference.is_none())
    }
}

/// A group of operations against the scalar reference.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// The operations.
    pub operations: String,
    /// Values compared bit for bit.
    pub values: u64,
    /// The first that differs.
    pub difference: Option<String>,
}

/// The quickstart's claim on two devices.
#[derive(Debug, Clone, Serialize)]
pub struct Quickstart {
    /// On the device.
    pub claim: Digest,
    /// On the CPU.
    pub claim_on_the_cpu: Digest,
}

/// Speed of a matrix product.
#[derive(Debug, Clone, Serialize)]
pub struct ProductSpeed {
    /// The model it belongs to.
    pub model: String,
    /// The numerics.
    pub numerics: String,
    /// Forward, or backward to the input.
    pub direction: String,
    /// Tokens, inputs and outputs.
    pub shape: [usize; 3],
    /// Floating-point operations a second.
    pub flops: f64,
    /// The same as a share of the device's peak of f32 multiply-adds.
    pub of_peak: f64,
}

/// Speed of training steps.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingSpeed {
    /// The model.
    pub model: String,
    /// The numerics.
    pub numerics: String,
    /// Rows and their tokens of a step.
    pub batch: [usize; 2],
    /// Tokens a second, the median over the steps; none where it could not be measured.
    pub tokens_per_second: Option<f64>,
    /// Floating-point operations a second of products with weights, over the whole steps.
    pub weight_product_flops: Option<f64>,
    /// Why it could not be measured.
    pub problem: Option<String>,
}

/// Measures a device. `quickstart_folder` holds the quickstart's recipe and base model, and gets its runs. `B` and
/// `P` compute on the device, under `exact-f32/1` and `pinned-bf16/1`, `C` on the CPU.
///
/// # Errors
/// A quickstart that cannot be opened or run.
pub fn measure<B: KernelBackend, P: KernelBackend<Device = B::Device>, C: KernelBackend>(
    device: &B::Device,
    cpu: &C::Device,
    quickstart_folder: &Path,
    options: &DeviceOptions,
    observer: &mut dyn Observer,
) -> Result<DeviceReport, TrainError> {
    observer.phase("comparing operations with the reference");
    let comparisons = if options.fused {
        compare::<B, Fused>(device, options.comparisons)
    } else {
        compare::<B, Unfused>(device, options.comparisons)
    };
    let compared = |Comparison { operations, values, difference, .. }: Comparison| Compared {
        operations: operations.to_owned(),
        values,
        difference,
    };
    let quickstart = if options.fused {
        observer.phase("the quickstart, on the device and on the CPU");
        let job = open_quickstart(quickstart_folder, &[])?;
        let folder = |name: &str| RunFolder::new(quickstart_folder.join(name));
        let claim =
            crate::run::<B>(&job, &folder("device"), std::slice::from_ref(device), &mut Silent)?.manifest.claim_id;
        let claim_on_the_cpu =
            crate::run::<C>(&job, &folder("cpu"), std::slice::from_ref(cpu), &mut Silent)?.manifest.claim_id;
        Some(Quickstart { claim, claim_on_the_cpu })
    } else {
        None
    };
    observer.phase("the peak of the device");
    let peak = peak_flops::<B>(device);
    let pinned = options
        .fused
        .then(|| pinned::compare::<P, B>(device, device, [quickstart_folder; 2], options.comparisons, &[], observer));
    let mut report = DeviceReport {
        comparisons: comparisons.into_iter().map(compared).collect(),
        quickstart,
        peak_flops: peak,
        pinned: pinned.transpose()?,
        products: Vec::new(),
        training: Vec::new(),
    };
    for shape in &options.shapes {
        observer.phase(&format!("matrix products of {}", shape.name));
        report.products.extend(products::<B>(device, shape, peak));
        report.products.extend(products::<P>(device, shape, peak));
    }
    for shape in &options.shapes {
        observer.phase(&format!("training {}", shape.name));
        report.training.extend(training::<B>(device, shape, options));
        report.training.extend(training::<P>(device, shape, options));
    }
    Ok(report)
}

/// The quickstart in a folder that holds nothing else, with these settings in place of its own.
pub(super) fn open_quickstart(folder: &Path, overrides: &[&str]) -> Result<Job, TrainError> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let path = folder.join("recipes/quickstart.yaml");
    let text = tune_fs::read(&path)?;
    let loaded = recipe::load("quickstart.yaml", &String::from_utf8_lossy(&text), &overrides)
        .map_err(|error| TrainError::Quickstart(error.to_string()))?;
    Job::open(&path, text, loaded, &crate::JobOptions::default(), &mut Silent)
}

/// The products of one block in both directions.
fn products<B: KernelBackend>(device: &B::Device, shape: &Shape, peak: f64) -> Vec<ProductSpeed> {
    let (config, tokens) = (&shape.config, shape.product_tokens);
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let query = config.num_heads * config.head_dim;
    let mut speeds = Vec::new();
    for [inputs, outputs] in [[hidden, query], [hidden, mlp], [mlp, hidden]] {
        let values = |rows: usize, columns: usize| {
            (0..rows * columns).map(|i| if i % 3 == 0 { 0.5 } else { -0.25 }).collect::<Vec<f32>>()
        };
        let filled = |rows: usize, columns: usize| {
            Tensor::<B, 2>::from_data(TensorData::new(values(rows, columns), [rows, columns]), device)
        };
        let (x, dy) = (filled(tokens, inputs), filled(tokens, outputs));
        let weight = match B::NUMERICS {
            Numerics::ExactF32V1 => Weight::Values(filled(outputs, inputs)),
            // Rounded once, as a frozen weight is.
            Numerics::PinnedBf16V1 => {
                Weight::Stored(B::stored(StoredMatrix::of_values([outputs, inputs], &values(outputs, inputs)), device))
            }
        };
        let forward = || {
            let layer = Layer { weight: &weight, bias: None, branch: None };
            drop(B::linears(&x, &[layer], None, &Rows::default(), &[]));
        };
        let backward = || drop(B::linear_input_gradient(&dy, &weight, None));
        let directions: [(&str, &dyn Fn()); 2] = [("forward", &forward), ("backward", &backward)];
        for (direction, product) in directions {
            let seconds = seconds_of::<B>(device, product);
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            let flops = 2.0 * (tokens * inputs * outputs) as f64 / seconds;
            speeds.push(ProductSpeed {
                model: shape.name.to_owned(),
                numerics: B::NUMERICS.name().to_owned(),
                direction: direction.to_owned(),
                shape: [tokens, inputs, outputs],
                flops,
                of_peak: flops / peak,
            });
        }
    }
    speeds
}

/// Seconds of `work`: the median of several rounds of so many repetitions that the device is busy.
fn seconds_of<B: KernelBackend>(device: &B::Device, work: &dyn Fn()) -> f64 {
    let round = |repetitions: u32| {
        let clock = Stopwatch::start();
        (0..repetitions).for_each(|_| work());
        // A device that failed has no figures; what it computes next says so.
        let _ = B::sync(device);
        clock.seconds() / f64::from(repetitions)
    };
    round(1);
    let once = round(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let repetitions = (0.02 / once).clamp(1.0, 100.0) as u32;
    median((0..5).map(|_| round(repetitions)))
}

/// Training steps of a model with every batch.
fn training<B: KernelBackend>(device: &B::Device, shape: &Shape, options: &DeviceOptions) -> Vec<TrainingSpeed> {
    let speed = |batch: &[usize; 2]| {
        let measured = tune_kernels::cube::guarded(|| steps::<B>(device, shape, *batch, options.steps));
        let measured = measured.map_err(|failure| failure.to_string());
        let seconds = measured.and_then(|seconds| seconds.map_err(|error| error.to_string()));
        let tokens = batch[0] * batch[1];
        let products = weight_products(&shape.config, false);
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let per_second = |count: u64| seconds.as_ref().ok().map(|seconds| count as f64 / seconds);
        let supervised = (tokens - batch[0]) as u64;
        TrainingSpeed {
            model: shape.name.to_owned(),
            numerics: B::NUMERICS.name().to_owned(),
            batch: *batch,
            tokens_per_second: per_second(tokens as u64),
            weight_product_flops: per_second(
                tokens as u64 * products.per_token + supervised * products.per_supervised_token,
            ),
            problem: seconds.as_ref().err().cloned(),
        }
    };
    shape.batches.iter().map(speed).collect()
}

/// The recipe of the measured steps.
const RECIPE: &str = "base_model: drawn\nlora_r: 16\nlora_alpha: 32\nlearning_rate: 1e-4\nlr_scheduler: constant\n\
                      datasets:\n  - path: drawn.jsonl\n    type: completion\n";

/// Seconds of a step, the median, after one that warms up.
fn steps<B: KernelBackend>(
    device: &B::Device,
    shape: &Shape,
    [rows, tokens]: [usize; 2],
    count: usize,
) -> Result<f64, TrainError> {
    let loaded = recipe::load("drawn.yaml", RECIPE, &[]).map_err(|error| TrainError::Quickstart(error.to_string()))?;
    let mut model = Model::<B>::synthetic(&shape.config, tokens, device)?;
    let spec = lora_spec(&loaded.recipe).expect("the recipe has an adapter");
    model.add_lora(&spec, Seed(0))?;
    let mut trainer = Trainer::with_model(model, loaded.recipe, 1 + count as u64);
    let batch = batch(&shape.config, rows, tokens)?;
    let mut step = || {
        let clock = Stopwatch::start();
        trainer.step_over(std::iter::once(Ok(batch.clone())))?;
        let _ = B::sync(device);
        Ok::<f64, TrainError>(clock.seconds())
    };
    step()?;
    let seconds: Vec<f64> = (0..count).map(|_| step()).collect::<Result<_, _>>()?;
    Ok(median(seconds.into_iter()))
}

/// Rows of pseudo-random tokens, every token but the first of a row supervised.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "token ids")]
fn batch(config: &ModelConfig, rows: usize, tokens: usize) -> Result<Batch, TrainError> {
    let id = |i: usize| (i as u32).wrapping_mul(2_654_435_761) % config.vocab_size as u32;
    let ids: Vec<Vec<u32>> = (0..rows).map(|row| (0..tokens).map(|i| id(row * tokens + i)).collect()).collect();
    let label = |(i, id): (usize, &u32)| if i == 0 { -1 } else { *id as i32 };
    let labels: Vec<Vec<i32>> = ids.iter().map(|ids| ids.iter().enumerate().map(label).collect()).collect();
    let (positions, segments) = ((0..tokens as u32).collect::<Vec<u32>>(), vec![1; tokens]);
    let views: Vec<RowView<'_>> = ids
        .iter()
        .zip(&labels)
        .map(|(ids, labels)| RowView { ids, labels, positions: &positions, segments: &segments })
        .collect();
    Ok(Batch::from_rows(&views, 0)?)
}
