//! `tune verify`

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Serialize;
use tune_kernels::cube::device::Opened;
use tune_publish::key::{PrivateKey, PublicKey};
use tune_schema::recipe::Numerics;
use tune_train::{DeviceFacts, JobOptions};
use tune_verify::verdict::Conclusion;
use tune_verify::{Level, Outcome, SampleSize, Verdict};

use super::device::{on_device, select};
use super::fetch::{self, Origin};
use super::open::{locked_sources, places};
use crate::cli::{LevelName, VerifyOptions};
use crate::printer::Printer;

pub(crate) fn execute(options: &VerifyOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let locations = places(&options.sources)?.into_iter().collect();
    let key = options.attest.as_deref().map(PrivateKey::read).transpose()?;
    let publisher = options.signed_by.as_deref().map(PublicKey::read).transpose()?;
    let remote = fetch::named(&options.target);
    if remote.is_some() && key.is_some() {
        bail!(
            "`--attest` adds to the folder that is verified, and what is fetched is not kept\nhint: fetch the folder, and name the copy"
        );
    }
    let source = locked_sources(options.offline, options.secrets.as_deref());
    let fetched = remote.map(|text| fetch::fetch(text, options.yes, options.offline, printer)).transpose()?;
    let target = fetched.as_ref().map_or(&options.target, |fetched| &fetched.folder);
    let numerics = tune_verify::numerics(target);
    let (opened, device) = match select(&options.device, numerics) {
        // Nothing of such a run can be computed here, and what needs no computing still be compared.
        Err(_) if numerics == Numerics::PinnedBf16V1 => (Opened::Cpu, DeviceFacts::default()),
        selected => selected?,
    };
    let mut library = tune_verify::VerifyOptions {
        level: match options.level {
            LevelName::Files => Level::Files,
            LevelName::Data => Level::Data,
            LevelName::Sample => Level::Sample,
            LevelName::Full => Level::Full,
        },
        sample: match (options.confidence.zip(options.tampered), options.segments) {
            (Some((probability, forged)), _) => SampleSize::Confidence { probability, forged },
            (None, Some(count)) => SampleSize::Segments(count),
            (None, None) => SampleSize::default(),
        },
        seed: options.seed,
        publisher,
        origin: fetched.as_ref().map_or(tune_verify::Origin::Here, |fetched| fetched.origin.kind()),
        revealed: options.revealed.clone(),
        job: JobOptions { source, locations, device, ..JobOptions::default() },
    };
    if library.level > Level::Files {
        library.job.source = fetch::sources(&[target], &library.job, options.yes, printer)?;
    }
    printer.log_every(50);
    let verdict =
        on_device!(&opened, numerics, B, devices => tune_verify::verify::<B>(target, &library, devices, printer));
    let verdict = match &fetched {
        Some(fetched) => verdict.with_context(|| format!("{} cannot be verified", fetched.origin))?,
        None => verdict?,
    };
    printer.clear();
    if options.json {
        let report = Report { fetched: fetched.as_ref().map(|fetched| &fetched.origin), verdict: &verdict };
        printer.result(&serde_json::to_string_pretty(&report)?);
    } else {
        if let Some(fetched) = &fetched {
            printer.result(&format!("fetched: {}", fetched.origin));
        }
        print(&verdict, printer);
    }
    if let Some(key) = &key {
        let written = tune_verify::attest::attest(target, &verdict, &library.job.device, key)?;
        let hint = key.public().hint();
        printer.note(&if written {
            format!("the verdict was signed by the key {hint} and added to {}", tune_verify::attest::FILE_NAME)
        } else {
            "nothing was signed: the verdict says nothing of the claim".to_owned()
        });
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

/// A verdict as JSON, with where the folder came from if it was fetched.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched: Option<&'a Origin>,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

fn print(verdict: &Verdict, printer: &mut Printer) {
    for check in &verdict.checks {
        let mark = match &check.outcome {
            Outcome::Verified(_) => "ok",
            Outcome::Differs(_) => "DIFFERS",
            Outcome::NotChecked(_) => "not checked",
            Outcome::Withheld(_) => "withheld",
        };
        let detail = check.outcome.detail();
        printer.line(&format!("{:<7} {:<24} {mark:<12} {detail}", check.level.name(), check.name));
    }
    if let Some(confidence) = &verdict.confidence {
        printer.line(confidence);
    }
    if let Some(claim) = verdict.claim_id {
        printer.line(&format!("claim: {claim}"));
    }
    let requested = verdict.requested.name();
    let withheld = match verdict.withheld().join(", ") {
        names if names.is_empty() => String::new(),
        names => format!("; withheld: {names}"),
    };
    printer.line(&match (&verdict.conclusion, verdict.first_difference()) {
        (Conclusion::Verified, _) => format!("verified at level `{requested}`{withheld}"),
        (_, Some(check)) => format!("differs, first in {}: {}", check.name, check.outcome.detail()),
        _ => match verdict.reached {
            Some(level) => format!("could not be checked at level `{requested}`; verified up to `{}`", level.name()),
            None => format!("could not be checked at level `{requested}`"),
        },
    });
}
