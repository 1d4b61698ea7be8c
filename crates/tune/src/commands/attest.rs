//! `tune attest`

use std::process::ExitCode;

use super::fetch;
use crate::cli::{AttestCommand, AttestOptions};
use crate::printer::Printer;

pub(crate) fn execute(options: &AttestOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let AttestCommand::List { target, json } = &options.command;
    fetch::on_this_machine(target)?;
    let statements = tune_verify::attest::list(target)?;
    if *json {
        printer.result(&serde_json::to_string_pretty(&statements)?);
        return Ok(ExitCode::SUCCESS);
    }
    if statements.is_empty() {
        printer.result("no statements");
    }
    for one in &statements {
        printer.result(&match &one.problem {
            None => {
                let withheld = match one.withheld.join(", ") {
                    names if names.is_empty() => names,
                    names => format!(" (withheld: {names})"),
                };
                let (result, level, time) = (&one.result, &one.level, &one.time);
                format!("{result} at level `{level}`{withheld}, {time}, key {}, {}", one.key, one.machine)
            }
            Some(problem) => format!("does not count: {problem}"),
        });
    }
    Ok(ExitCode::SUCCESS)
}
