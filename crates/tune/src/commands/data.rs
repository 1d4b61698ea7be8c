//! `tune data`

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use tune_train::Job;

use super::open;
use crate::cli::{DataCommand, DataOptions};
use crate::printer::Printer;

pub(crate) fn execute(options: &DataOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    match &options.command {
        DataCommand::Show { recipe, rows } => show(&open::job(recipe, printer)?, *rows, printer)?,
        DataCommand::Export { recipe, out } => export(&open::job(recipe, printer)?, out, printer)?,
        DataCommand::Audit { recipe } => audit(&open::job(recipe, printer)?, printer),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints rows token by token: supervised tokens in brackets (green on a terminal), segments on lines of their own.
fn show(job: &Job, rows: u64, printer: &mut Printer) -> anyhow::Result<()> {
    use std::io::IsTerminal;
    let colour = std::io::stdout().is_terminal();
    for index in 0..rows.min(job.prepared.train.len()) {
        let row = job.prepared.train.row(index)?;
        printer.result(&format!("row {index}: {} tokens", row.input_ids.len()));
        let mut line = String::new();
        let mut segment = 0;
        for token in row.tokens(&job.tokenizer) {
            if token.segment != segment {
                if segment != 0 {
                    printer.result(&std::mem::take(&mut line));
                }
                segment = token.segment;
                printer.result(&format!("segment {segment}:"));
            }
            match (token.supervised, colour) {
                (true, true) => line.push_str(&format!("\u{1b}[32m{}\u{1b}[0m", token.text)),
                (true, false) => line.push_str(&format!("[{}]", token.text)),
                (false, _) => line.push_str(&token.text),
            }
        }
        printer.result(&line);
    }
    Ok(())
}

/// One row a line: `step` from 1, `row` within the step from 0.
fn export(job: &Job, out: &Path, printer: &mut Printer) -> anyhow::Result<()> {
    let stream = &job.prepared.train;
    let mut lines = tune_fs::AtomicFile::create(out)?;
    for step in 0..stream.steps() {
        let rows = stream.step_rows(step);
        for index in rows.clone() {
            let row = stream.row(index)?;
            let line = json!({
                "step": step + 1,
                "row": index - rows.start,
                "input_ids": row.input_ids,
                "labels": row.labels,
                "position_ids": row.position_ids,
                "segment_ids": row.segment_ids,
            });
            lines.write(format!("{line}\n").as_bytes())?;
        }
    }
    lines.commit()?;
    printer.result(&format!("{} rows, {}", stream.len(), job.prepared.facts.digest));
    Ok(())
}

/// Counts and findings.
fn audit(job: &Job, printer: &mut Printer) {
    for line in job.prepared.report.lines() {
        printer.result(&line);
    }
}
