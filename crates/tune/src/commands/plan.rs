//! `tune plan`

use std::process::ExitCode;

use tune_train::Job;

use super::open;
use crate::cli::RecipeOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &RecipeOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let (job, _) = open::job_on_device(options, printer)?;
    for (name, value) in rows(&job)? {
        printer.result(&format!("{name:<22}{value}"));
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rows(job: &Job) -> anyhow::Result<Vec<(&'static str, String)>> {
    let (recipe, prepared) = (&job.recipe, &job.prepared);
    let (mut tokens, mut supervised) = (0_u64, 0_u64);
    let stream = &prepared.train;
    for index in 0..stream.len() {
        let row = stream.row(index)?;
        tokens += row.input_ids.len() as u64;
        supervised += row.labels.iter().filter(|label| **label >= 0).count() as u64;
    }
    let facts = &prepared.facts;
    let estimate = tune_train::memory::estimate(job, recipe.micro_batch_size)?;
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
        ("memory (estimate)", format!("{:.2} GB on `{}`", estimate.total as f64 / 1e9, job.device.backend)),
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
