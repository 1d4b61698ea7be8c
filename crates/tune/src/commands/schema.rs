//! `tune schema`

use std::process::ExitCode;

use crate::printer::Printer;

pub(crate) fn execute(printer: &mut Printer) -> anyhow::Result<ExitCode> {
    printer.result(&serde_json::to_string_pretty(&tune_schema::recipe::json_schema())?);
    Ok(ExitCode::SUCCESS)
}
