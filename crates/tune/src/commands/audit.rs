//! `tune audit`

use std::process::ExitCode;

use tune_publish::Facts;
use tune_publish::audit::personal_data::ScanOptions;
use tune_publish::audit::{Audit, audit};
use tune_train::JobOptions;

use super::fetch;
use super::open::{locked_sources, places};
use crate::cli::AuditOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &AuditOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    fetch::on_this_machine(&options.run)?;
    tune_verify::sound(&options.run)?;
    let facts = Facts::read(&options.run)?;
    let mut job = JobOptions {
        locations: places(&options.located.sources)?.into_iter().collect(),
        source: locked_sources(options.located.offline, options.located.secrets.as_deref()),
        ..JobOptions::default()
    };
    if !options.no_rows {
        job.source = fetch::sources(&[&options.run], &job, options.located.yes, printer)?;
        printer.note("searching the training rows for personal data");
    }
    let rows = ScanOptions { locations: job.locations, source: job.source };
    let audit = audit(&facts, (!options.no_rows).then_some(&rows));
    if options.json {
        printer.result(&serde_json::to_string_pretty(&audit)?);
    } else {
        print(&audit, printer);
    }
    Ok(ExitCode::from(u8::from(options.strict && audit.needs_attention())))
}

fn print(audit: &Audit, printer: &mut Printer) {
    printer.result("Open Source AI Definition 1.0");
    for requirement in &audit.osaid {
        let mark = if requirement.met { "met" } else { "NOT MET" };
        printer.line(&format!("  {mark:<8} {}: {}", requirement.name, requirement.detail));
    }
    printer.result(&format!("Model Openness Framework 1.0: class {}", audit.mof_class.unwrap_or("none")));
    for scan in audit.personal_data.iter().filter(|scan| scan.found.is_empty()) {
        if let Some(rows) = scan.rows {
            printer.result(&format!("Personal data: no pattern found in {rows} rows of `{}`", scan.source));
        }
    }
    printer.result(if audit.findings.is_empty() { "Findings: none" } else { "Findings" });
    for finding in &audit.findings {
        printer.line(&format!("  {:<8} {}: {}", finding.severity.name(), finding.area, finding.finding));
        printer.line(&format!("           {}", finding.remedy));
    }
    printer.result(&format!("claim: {}", audit.claim_id));
}
