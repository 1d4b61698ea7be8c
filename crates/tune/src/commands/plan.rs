//! `tune plan`

use std::process::ExitCode;

use tune_model::Workload;
use tune_train::Job;
use tune_train::trainer::{kept_weights, lora_spec};

use super::open;
use crate::cli::RecipeOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &RecipeOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let job = open::job(options, printer)?;
    for (name, value) in rows(&job)? {
        printer.result(&format!("{name:<22}{value}"));
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rows(job: &Job) -> anyhow::Result<Vec<(&'static str, String)>> {
    let (recipe, prepared) = (&job.recipe, &job.prepared);
    let (mut tokens, mut supervised) = (0_u64, 0_u64);
    // Tokens and targets of the micro-batch at hand, and the most of any.
    let (mut batch, mut most) = ([0_u64; 2], [0_u64; 2]);
    let micro = u64::from(recipe.micro_batch_size);
    let stream = &prepared.train;
    for index in 0..stream.len() {
        let row = stream.row(index)?;
        tokens += row.input_ids.len() as u64;
        let targets = row.labels.iter().filter(|label| **label >= 0).count() as u64;
        supervised += targets;
        if index.is_multiple_of(micro) || index.is_multiple_of(recipe.rows_per_step()) {
            batch = [0, 0];
        }
        batch = [batch[0] + row.input_ids.len() as u64, batch[1] + targets];
        most = [most[0].max(batch[0]), most[1].max(batch[1])];
    }
    let facts = &prepared.facts;
    let workload = Workload {
        weights: job.base.bytes_in_memory(kept_weights(recipe)),
        tokens: most[0],
        targets: most[1],
        micro_rows: micro.min(stream.len()),
        rows: recipe.rows_per_step(),
        checkpointing: recipe.gradient_checkpointing,
    };
    let estimate = tune_model::estimate(&job.base.config, lora_spec(recipe).as_ref(), workload);
    let trainable = if job.inputs.adapted_modules.is_empty() {
        "all weights".to_owned()
    } else {
        format!("{} modules", job.inputs.adapted_modules.len())
    };
    Ok(vec![
        ("base model", recipe.base_model_name.clone()),
        ("trained", trainable),
        ("examples", format!("{} to train on, {} held out", facts.train_examples, facts.eval_examples)),
        ("too long", format!("{} dropped, {} truncated", facts.dropped_examples, facts.truncated_examples)),
        ("rows", format!("{} of at most {} tokens", stream.len(), recipe.sequence_len)),
        ("tokens", tokens.to_string()),
        ("supervised", format!("{supervised} ({:.1} %)", 100.0 * supervised as f64 / tokens.max(1) as f64)),
        ("steps", stream.steps().to_string()),
        (
            "batch",
            format!(
                "{} rows a step = {} micro × {} accumulation × 1 device; {:.0} supervised tokens a step",
                recipe.rows_per_step(),
                recipe.micro_batch_size,
                recipe.gradient_accumulation_steps,
                supervised as f64 / stream.steps().max(1) as f64
            ),
        ),
        ("stream", facts.digest.to_string()),
        ("memory (estimate)", format!("{:.2} GB", estimate.total as f64 / 1e9)),
        ("licences", licences(job)),
    ])
}

/// Licence of every source, and which have none on record.
fn licences(job: &Job) -> String {
    let one = |source: &tune_schema::lock::LockedSource| {
        format!("{}: {}", source.name, source.licence.as_deref().unwrap_or("not recorded (add it under `provenance`)"))
    };
    job.sources.iter().map(one).collect::<Vec<_>>().join("; ")
}
