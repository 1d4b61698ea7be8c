//! `tune export`

use std::path::Path;
use std::process::ExitCode;

use burn_flex::{Flex, FlexDevice};
use tune_schema::export::ExportRecord;
use tune_train::JobOptions;
use tune_train::export::{ExportOptions, export};

use super::fetch;
use super::open::{locked_sources, places};
use crate::cli::{ExportArguments, LocatedSources};
use crate::printer::Printer;

pub(crate) fn execute(arguments: &ExportArguments, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    fetch::on_this_machine(&arguments.run)?;
    let options = ExportOptions { gguf: arguments.gguf, merged: arguments.merged };
    let record = write(&arguments.run, &arguments.located, &arguments.to, options, printer)?;
    printer.clear();
    printer.result(&format!("{} files in {}", record.files.len() + 1, arguments.to.display()));
    for (form, fidelity) in &record.fidelity {
        printer.result(&format!(
            "{form}: largest difference of a logit {:e} over {} tokens, the same next token after {}",
            fidelity.largest_difference, fidelity.tokens, fidelity.same_next_token
        ));
    }
    printer.result(&format!("claim: {}", record.claim_id));
    Ok(ExitCode::SUCCESS)
}

/// Writes the result of the run at `run` to the folder `to`.
pub(crate) fn write(
    run: &Path,
    located: &LocatedSources,
    to: &Path,
    options: ExportOptions,
    printer: &mut Printer,
) -> anyhow::Result<ExportRecord> {
    let mut job = JobOptions {
        source: locked_sources(located.offline, located.secrets.as_deref()),
        locations: places(&located.sources)?.into_iter().collect(),
        ..JobOptions::default()
    };
    job.source = fetch::sources(&[run], &job, located.yes, printer)?;
    let (folder, manifest, job) = tune_verify::reopen(run, &job, printer)?;
    Ok(export::<Flex>(&job, &folder, manifest.claim_id, to, options, &FlexDevice, printer)?)
}
