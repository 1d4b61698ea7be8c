//! What a job takes of a device's memory, and the largest micro-batch that it leaves room for.

use tune_model::{MemoryEstimate, Workload};

use crate::trainer::{kept_weights, lora_spec};
use crate::{Job, TrainError};

/// Estimate for micro-batches of `micro` rows.
///
/// # Errors
/// Rows that cannot be read.
pub fn estimate(job: &Job, micro: u32) -> Result<MemoryEstimate, TrainError> {
    let recipe = &job.recipe;
    let stream = &job.prepared.train;
    // Tokens and targets of the micro-batch at hand, and the most of any.
    let (mut batch, mut most) = ([0_u64; 2], [0_u64; 2]);
    for index in 0..stream.len() {
        let row = stream.row(index)?;
        // A micro-batch does not reach over the end of a step.
        if (index % recipe.rows_per_step()).is_multiple_of(u64::from(micro)) {
            batch = [0, 0];
        }
        let targets = row.labels.iter().filter(|label| **label >= 0).count() as u64;
        batch = [batch[0] + row.input_ids.len() as u64, batch[1] + targets];
        most = [most[0].max(batch[0]), most[1].max(batch[1])];
    }
    let workload = Workload {
        weights: job.base.bytes_in_memory(kept_weights(recipe)),
        tokens: most[0],
        targets: most[1],
        micro_rows: u64::from(micro).min(stream.len()),
        rows: recipe.rows_per_step(),
        checkpointing: recipe.gradient_checkpointing,
        on_gpu: job.device.is_gpu(),
    };
    Ok(tune_model::estimate(&job.base.config, lora_spec(recipe).as_ref(), workload))
}

/// The micro-batches that split a step evenly, largest first.
fn splits(job: &Job) -> impl Iterator<Item = u32> + use<> {
    let rows = job.recipe.rows_per_step();
    (1..=u32::try_from(rows).unwrap_or(u32::MAX)).rev().filter(move |micro| rows.is_multiple_of(u64::from(*micro)))
}

/// The largest even split of a step whose micro-batches fit in `bytes`, none where not even single rows do.
fn largest(job: &Job, bytes: u64) -> Result<Option<u32>, TrainError> {
    for micro in splits(job) {
        if estimate(job, micro)?.total <= bytes {
            return Ok(Some(micro));
        }
    }
    Ok(None)
}

/// Chooses the micro-batch where the recipe leaves it to the tool, and refuses a job that its device cannot hold.
///
/// Where the device does not say how much memory it has, single rows are chosen and nothing is refused.
///
/// # Errors
/// A job that does not fit, with what to lower; rows that cannot be read.
pub fn fit(job: &mut Job) -> Result<(), TrainError> {
    let Some(available) = job.device.memory else { return Ok(()) };
    if job.recipe.micro_batch_size_auto
        && let Some(micro) = largest(job, available)?
    {
        job.recipe.split_into(micro);
        return Ok(());
    }
    let micro = job.recipe.micro_batch_size;
    let needed = estimate(job, micro)?.total;
    if needed <= available || !job.device.is_gpu() {
        return Ok(());
    }
    let fits = largest(job, available)?.filter(|fitting| *fitting < micro);
    let (device, checkpointing) = (job.device.backend.clone(), job.recipe.gradient_checkpointing);
    Err(TrainError::DoesNotFit { device, needed, available, micro, fits, checkpointing })
}
