//! `tune lock`

use std::process::ExitCode;

use super::open;
use crate::cli::LockOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &LockOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let source = tune_source::Options { update: true, ..open::source_options(&options.source) };
    for recipe in &options.recipes {
        let read = open::read(recipe, &[], printer)?;
        let locked = tune_train::job::lock(recipe, &read.loaded, &source, printer)?;
        printer.result(&format!("{}: {} sources, {}", recipe.display(), locked.sources, locked.place.display()));
    }
    Ok(ExitCode::SUCCESS)
}
