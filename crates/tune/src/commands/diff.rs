//! `tune diff`

use std::process::ExitCode;

use tune_train::JobOptions;
use tune_verify::diff::{Conclusion, Part, Report};

use super::fetch;
use super::open::{locked_sources, places};
use crate::cli::DiffOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &DiffOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    fetch::on_this_machine(&options.run_a)?;
    fetch::on_this_machine(&options.run_b)?;
    let places = places(&options.sources)?;
    let job = JobOptions {
        source: locked_sources(options.offline, options.secrets.as_deref()),
        locations: places.iter().cloned().collect(),
        ..JobOptions::default()
    };
    let source = fetch::sources(&[&options.run_a, &options.run_b], &job, options.yes, printer)?;
    let library = tune_verify::DiffOptions { source, places };
    let report = tune_verify::diff([&options.run_a, &options.run_b], &library, printer)?;
    if options.json {
        printer.result(&serde_json::to_string_pretty(&report)?);
    } else {
        print(&report, printer);
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// A line a part at least, then the cause.
fn print(report: &Report, printer: &mut Printer) {
    for (name, run) in [("A", &report.a), ("B", &report.b)] {
        let claim = run.claim_id.map_or_else(|| "no claim that can be read".to_owned(), |claim| claim.to_string());
        printer.result(&format!("{name:<14} {}: {claim}", run.folder.display()));
    }
    for remark in &report.remarks {
        printer.result(&format!("{:<14} {remark}", "remark"));
    }
    for part in Part::ALL {
        let found = report.differences.iter().filter(|found| found.part == part).map(ToString::to_string);
        let gaps = report.not_compared.iter().filter(|gap| gap.part == part);
        let mut words: Vec<String> = found.chain(gaps.map(|gap| format!("not compared: {}", gap.reason))).collect();
        if words.is_empty() {
            words.push("same".to_owned());
        }
        let mut title = part.name();
        for line in words.iter().flat_map(|text| text.lines()) {
            printer.result(&format!("{title:<14} {line}"));
            title = "";
        }
    }
    printer.result(&match report.conclusion {
        Conclusion::Same => report.cause.clone(),
        Conclusion::Differs | Conclusion::CouldNotBeCompared => format!("cause: {}", report.cause),
    });
}
