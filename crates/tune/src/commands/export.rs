//! `tune export`

use std::process::ExitCode;

use burn_flex::{Flex, FlexDevice};
use tune_train::JobOptions;
use tune_train::export::{ExportOptions, export};

use super::open::{locked_sources, places};
use crate::cli::ExportArguments;
use crate::printer::Printer;

pub(crate) fn execute(arguments: &ExportArguments, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let job = JobOptions {
        source: locked_sources(arguments.located.offline, arguments.located.secrets.as_deref()),
        locations: places(&arguments.located.sources)?.into_iter().collect(),
        ..JobOptions::default()
    };
    let (folder, manifest, job) = tune_verify::reopen(&arguments.run, &job, printer)?;
    let options = ExportOptions { gguf: arguments.gguf, merged: arguments.merged };
    let (to, claim) = (&arguments.to, manifest.claim_id);
    let record = export::<Flex>(&job, &folder, claim, to, options, &FlexDevice, printer)?;
    printer.clear();
    printer.result(&format!("{} files in {}", record.files.len() + 1, to.display()));
    for (form, fidelity) in &record.fidelity {
        printer.result(&format!(
            "{form}: largest difference of a logit {:e} over {} tokens, the same next token after {}",
            fidelity.largest_difference, fidelity.tokens, fidelity.same_next_token
        ));
    }
    printer.result(&format!("claim: {claim}"));
    Ok(ExitCode::SUCCESS)
}
