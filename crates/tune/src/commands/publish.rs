//! `tune publish`

use std::process::ExitCode;

use tune_publish::key::PrivateKey;
use tune_publish::{Facts, publication};

use super::open::verified_files;
use crate::cli::PublishOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &PublishOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    // Keys first: a run is large, and a wrong path should be told at once.
    let key = options.key.as_deref().map(PrivateKey::read).transpose()?;
    let hint = key.as_ref().map(|key| key.public().hint());
    printer.note("checking files");
    verified_files(&options.run)?;
    let facts = Facts::read(&options.run)?;
    let library = publication::PublishOptions { without_checkpoints: options.without_checkpoints, key };
    if options.dry_run {
        for path in publication::planned(&facts, &library)? {
            printer.result(&path);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let count = publication::publish(&facts, &options.to, &library)?;
    let place = options.to.display();
    printer.result(&format!("{count} files in {place}"));
    printer.result(&match hint {
        Some(hint) => format!("signed by the key {hint}"),
        None => "not signed: `--key FILE` signs it, `tune key new FILE` makes a key".to_owned(),
    });
    printer.result(&format!("claim: {}", facts.claim_id()));
    printer.result(&format!("next: `tune audit {}` says what the model card lacks", options.run.display()));
    Ok(ExitCode::SUCCESS)
}
