//! `tune verify`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use tune_train::JobOptions;
use tune_verify::verdict::Conclusion;
use tune_verify::{Level, Outcome, Verdict};

use super::device::{on_device, select};
use crate::cli::{LevelName, VerifyOptions};
use crate::printer::Printer;

pub(crate) fn execute(options: &VerifyOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let mut locations: BTreeMap<String, PathBuf> = BTreeMap::new();
    for source in &options.sources {
        let (name, path) = source
            .split_once('=')
            .ok_or_else(|| anyhow!("`--source {source}` has no `=`: write `--source NAME=PATH`"))?;
        locations.insert(name.to_owned(), PathBuf::from(path));
    }
    let source =
        tune_source::Options { mode: tune_source::LockMode::Locked, offline: options.offline, ..Default::default() };
    let (opened, device) = select(&options.device)?;
    let library = tune_verify::VerifyOptions {
        level: match options.level {
            LevelName::Files => Level::Files,
            LevelName::Data => Level::Data,
            LevelName::Sample => Level::Sample,
            LevelName::Full => Level::Full,
        },
        segments: options.segments,
        seed: options.seed,
        job: JobOptions { source, locations, device },
    };
    printer.log_every(50);
    let target = &options.target;
    let verdict = on_device!(&opened, B, devices => tune_verify::verify::<B>(target, &library, devices, printer))?;
    printer.clear();
    if options.json {
        printer.result(&serde_json::to_string_pretty(&verdict)?);
    } else {
        print(&verdict, printer);
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

fn print(verdict: &Verdict, printer: &mut Printer) {
    for check in &verdict.checks {
        let (mark, detail) = match &check.outcome {
            Outcome::Verified(detail) => ("ok", detail),
            Outcome::Differs(detail) => ("DIFFERS", detail),
            Outcome::NotChecked(detail) => ("not checked", detail),
        };
        printer.result(&format!("{:<7} {:<24} {mark:<12} {detail}", check.level.name(), check.name));
    }
    if let Some(confidence) = &verdict.confidence {
        printer.result(confidence);
    }
    if let Some(claim) = verdict.claim_id {
        printer.result(&format!("claim: {claim}"));
    }
    let requested = verdict.requested.name();
    printer.result(&match (&verdict.conclusion, verdict.first_difference()) {
        (Conclusion::Verified, _) => format!("verified at level `{requested}`"),
        (_, Some(check)) => match &check.outcome {
            Outcome::Differs(detail) => format!("differs, first in {}: {detail}", check.name),
            _ => "differs".to_owned(),
        },
        _ => match verdict.reached {
            Some(level) => format!("could not be checked at level `{requested}`; verified up to `{}`", level.name()),
            None => format!("could not be checked at level `{requested}`"),
        },
    });
}
