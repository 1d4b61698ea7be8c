//! What a job takes of a device's memory, and the largest micro-batch that it leaves room for.

use tune_model::{MemoryEstimate, Workload};

use crate::trainer::{kept_weights, lora_spec};
use crate::{Job, TrainError};

/// Estimate for micro-batches of `micro` rows.
///
/// # Errors
/// Rows that cannot be read.
pub fn estimate(job: &Job, micro: u32) -> Result<MemoryEstimate, TrainError> {
    Ok(estimates(job, &[micro])?.remove(0))
}

/// Estimates for several sizes of micro-batches, in one pass over the rows.
fn estimates(job: &Job, sizes: &[u32]) -> Result<Vec<MemoryEstimate>, TrainError> {
    let recipe = &job.recipe;
    let stream = &job.prepared.train;
    // Tokens and targets of the micro-batch at hand, and the most of any, for each size.
    let mut batches = vec![[[0_u64; 2]; 2]; sizes.len()];
    for index in 0..stream.len() {
        let row = stream.row(index)?;
        let targets = row.labels.iter().filter(|label| **label >= 0).count() as u64;
        for ([batch, most], micro) in batches.iter_mut().zip(sizes) {
            // A micro-batch does not reach over the end of a step.
            if (index % recipe.rows_per_step()).is_multiple_of(u64::from(*micro)) {
                *batch = [0, 0];
            }
            *batch = [batch[0] + row.input_ids.len() as u64, batch[1] + targets];
            *most = [most[0].max(batch[0]), most[1].max(batch[1])];
        }
    }
    let spec = lora_spec(recipe);
    let weights = job.base.bytes_in_memory(kept_weights(recipe));
    let estimate = |([_, most], micro): (&[[u64; 2]; 2], &u32)| {
        let workload = Workload {
            weights,
            tokens: most[0],
            targets: most[1],
            micro_rows: u64::from(*micro).min(stream.len()),
            rows: recipe.rows_per_step(),
            checkpointing: recipe.gradient_checkpointing,
            on_gpu: job.device.is_gpu(),
        };
        tune_model::estimate(&job.base.config, spec.as_ref(), workload)
    };
    Ok(batches.iter().zip(sizes).map(estimate).collect())
}

/// The largest even split of a step whose micro-batches fit in `bytes`, none where not even single rows do.
fn largest(job: &Job, bytes: u64) -> Result<Option<u32>, TrainError> {
    let rows = job.recipe.rows_per_step();
    let all = 1..=u32::try_from(rows).unwrap_or(u32::MAX);
    let splits: Vec<u32> = all.rev().filter(|micro| rows.is_multiple_of(u64::from(*micro))).collect();
    let estimates = estimates(job, &splits)?;
    Ok(splits.into_iter().zip(estimates).find(|(_, estimate)| estimate.total <= bytes).map(|(micro, _)| micro))
}

/// Chooses the micro-batch where the recipe leaves it to the tool, and refuses a job that its device cannot hold.
///
/// Where the device does not say how much memory it has, single rows are chosen; there and on the CPU nothing is refused.
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
    if !job.device.is_gpu() {
        return Ok(());
    }
    let micro = job.recipe.micro_batch_size;
    let needed = estimate(job, micro)?.total;
    if needed <= available {
        return Ok(());
    }
    let fits = largest(job, available)?.filter(|fitting| *fitting < micro);
    let (device, checkpointing) = (job.device.backend.clone(), job.recipe.gradient_checkpointing);
    Err(TrainError::DoesNotFit { device, needed, available, micro, fits, checkpointing })
}
