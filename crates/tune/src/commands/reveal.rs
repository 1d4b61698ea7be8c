//! `tune reveal`

use std::process::ExitCode;

use tune_train::JobOptions;
use tune_verify::reveal::{Selection, reveal};

use super::fetch;
use super::open::{locked_sources, places};
use crate::cli::RevealOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &RevealOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    fetch::on_this_machine(&options.run)?;
    let (source, locations) = match options.source.split_once('=') {
        Some((name, _)) => (name, places(std::slice::from_ref(&options.source))?),
        None => (options.source.as_str(), Vec::new()),
    };
    let selection = Selection { source: source.to_owned(), rows: options.rows.0.clone() };
    let job = JobOptions {
        source: locked_sources(true, options.secrets.as_deref()),
        locations: locations.into_iter().collect(),
        ..JobOptions::default()
    };
    let revealed = reveal(&options.run, &selection, &options.to, &job)?;
    let (count, place) = (revealed.rows.len(), options.to.display());
    printer.result(&format!("{count} rows of `{source}` in {place}: readable by whoever gets the file"));
    printer.result(&format!("claim: {}", revealed.claim_id));
    printer.result(&format!("others check it with `tune verify RUN --revealed {place}`"));
    Ok(ExitCode::SUCCESS)
}
