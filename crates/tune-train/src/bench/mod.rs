//! Speed of a recipe's training steps on this machine, and where their time goes: `tune bench`; and [`device`], for a
//! device by itself, with [`pinned`] for its faster profile: `tune bench --gpu`.

pub mod device;
pub mod pinned;

use std::collections::BTreeMap;

use serde::Serialize;
use tune_kernels::KernelBackend;
use tune_kernels::profile::{self, Operation};
use tune_schema::recipe::Adapter;

use crate::environment::{Environment, Stopwatch, machine, peak_rss_bytes};
use crate::{Job, Observer, TrainError, Trainer};

/// What some steps of a recipe took.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Each step, without the first one, which warms up where there is more than one.
    pub steps: Vec<StepTime>,
    /// Tokens a second, the median over the steps.
    pub tokens_per_second: f64,
    /// Supervised tokens a second, the median over the steps.
    pub supervised_tokens_per_second: f64,
    /// Seconds a step by operation, the mean over the steps; what no operation took is under `rest`.
    pub seconds_by_operation: BTreeMap<String, f64>,
    /// Floating-point operations a second of all threads on registers alone, measured in the same run.
    pub peak_flops: f64,
    /// Those of the products with weights (linear layers and head, forward and backward; neither LoRA branches nor
    /// attention) over the time of the whole steps. Tokens that repeat others count like any, although their outputs are
    /// copied on the way forward, and so do the last supervised one of a segment and those after it, which are left out.
    pub weight_product_flops: f64,
    /// Largest resident memory, loading included; none where the system does not say.
    pub peak_rss_bytes: Option<u64>,
    /// The machine.
    pub machine: Environment,
}

/// One step.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StepTime {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Tokens.
    pub tokens: u64,
    /// Supervised tokens.
    pub supervised_tokens: u64,
}

/// Trains the first `steps` steps after a warm-up step, as [`crate::run()`] would, and writes nothing.
///
/// # Errors
/// What a training step can fail with.
pub fn bench<B: KernelBackend>(
    job: &Job,
    devices: &[B::Device],
    steps: u64,
    observer: &mut dyn Observer,
) -> Result<Measurement, TrainError> {
    observer.phase("loading the model");
    let mut trainer = Trainer::<B>::new(job, devices)?;
    let stream = &job.prepared.train;
    let last = stream.steps().min(steps.max(1) + 1);
    let mut measured = Vec::new();
    observer.phase("measuring");
    profile::start();
    for step in 0..last {
        let clock = Stopwatch::start();
        let result = trainer.train_step(stream)?;
        let (tokens, supervised_tokens) = (result.tokens, result.supervised_tokens);
        let time = StepTime { seconds: clock.seconds(), tokens, supervised_tokens };
        if step == 0 && last > 1 {
            profile::start();
        } else {
            measured.push(time);
        }
    }
    let operations = profile::stop();
    Ok(summary(job, measured, &operations, peak_flops::<B>(&devices[0])))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn summary(
    job: &Job,
    steps: Vec<StepTime>,
    operations: &BTreeMap<Operation, std::time::Duration>,
    peak_flops: f64,
) -> Measurement {
    let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
    let each = |seconds: f64| seconds / steps.len() as f64;
    let mut seconds_by_operation: BTreeMap<String, f64> =
        operations.iter().map(|(operation, time)| (operation.name().to_owned(), each(time.as_secs_f64()))).collect();
    let named: f64 = operations.values().map(std::time::Duration::as_secs_f64).sum();
    seconds_by_operation.insert("rest".to_owned(), each((seconds - named).max(0.0)));
    let per_second = |count: fn(&StepTime) -> u64| median(steps.iter().map(|step| count(step) as f64 / step.seconds));
    let tokens: u64 = steps.iter().map(|step| step.tokens).sum();
    let supervised: u64 = steps.iter().map(|step| step.supervised_tokens).sum();
    let products = tune_model::weight_products(&job.base.config, job.recipe.adapter == Adapter::None);
    let flops = tokens as f64 * products.per_token as f64 + supervised as f64 * products.per_supervised_token as f64;
    Measurement {
        tokens_per_second: per_second(|step| step.tokens),
        supervised_tokens_per_second: per_second(|step| step.supervised_tokens),
        seconds_by_operation,
        peak_flops,
        weight_product_flops: flops / seconds,
        peak_rss_bytes: peak_rss_bytes(),
        machine: machine(&job.device),
        steps,
    }
}

/// Multiply-adds a second on registers alone, in floating-point operations: rounds are doubled until they take long enough
/// to be timed, then the best of several counts, for whatever disturbs one makes it slower.
fn peak_flops<B: KernelBackend>(device: &B::Device) -> f64 {
    let once = |rounds: u64| {
        let clock = Stopwatch::start();
        let operations = B::multiply_adds(device, rounds);
        (operations, clock.seconds())
    };
    let mut rounds = 1 << 6;
    while once(rounds).1 < 0.02 && rounds < 1 << 30 {
        rounds *= 2;
    }
    (0..5).map(|_| once(rounds)).map(|(operations, seconds)| operations / seconds).fold(0.0, f64::max)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
