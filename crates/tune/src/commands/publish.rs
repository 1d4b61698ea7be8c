//! `tune publish`

use std::process::ExitCode;

use anyhow::bail;
use tune_publish::key::PrivateKey;
use tune_publish::publication::{self, Checkpoints};
use tune_publish::{Facts, local_paths};
use tune_source::hub::HubTarget;
use tune_train::export::ExportOptions;

use super::export;
use super::fetch::{self, temporary_folder};
use super::hub::Destination;
use crate::cli::PublishOptions;
use crate::printer::Printer;

pub(crate) fn execute(options: &PublishOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    fetch::on_this_machine(&options.run)?;
    // Keys, names and tokens first: a run is large, and what is wrong with them should be told at once.
    let key = options.key.as_deref().map(PrivateKey::read).transpose()?;
    let hint = key.as_ref().map(|key| key.public().hint());
    let named = options.to.to_str().filter(|text| HubTarget::is_meant_by(text));
    let target = named.map(HubTarget::parse_for_publishing).transpose()?;
    if options.private && target.is_none() {
        bail!("`--private` is for a repository on the hub\nhint: leave it out, or name one with `--to hf://user/repo`");
    }
    let destination = match target {
        Some(target) if !options.dry_run => Some(Destination::open(target, printer)?),
        _ => None,
    };
    printer.note("checking files");
    tune_verify::sound(&options.run)?;
    let facts = Facts::read(&options.run)?;
    let chosen = options.without_checkpoints || !options.checkpoints.is_empty();
    let checkpoints =
        if chosen { Checkpoints::Of(options.checkpoints.iter().copied().collect()) } else { Checkpoints::All };
    let mut library = publication::PublishOptions { checkpoints, key, gguf: None };
    // Before an export is made and before anything is sent: what is wrong with these options is told here.
    let planned = publication::planned(&facts, &library, options.gguf)?;
    let telling = local_paths(&facts)?;
    if !telling.is_empty() {
        printer.note(&format!("published as they are, with paths of this machine: {}", telling.join("; ")));
    }
    if options.dry_run {
        planned.iter().for_each(|path| printer.result(path));
        return Ok(ExitCode::SUCCESS);
    }
    // Lives until the folder is made.
    let exported = if options.gguf { Some(temporary_folder()?) } else { None };
    if let Some(place) = &exported {
        let form = ExportOptions { gguf: true, merged: false };
        let folder = place.path().join("export");
        export::write(&options.run, &options.located, &folder, form, printer)?;
        library.gguf = Some(folder);
    }
    if let Some(destination) = &destination {
        let place = temporary_folder()?;
        let folder = destination.folder(&place);
        let count = publication::publish(&facts, &folder, &library)?;
        let message = format!("tune publish: claim {}", facts.claim_id());
        let uploaded = destination.send(&folder, &message, options.private, printer)?;
        destination.report(count, &uploaded, printer);
    } else {
        let count = publication::publish(&facts, &options.to, &library)?;
        printer.result(&format!("{count} files in {}", options.to.display()));
    }
    printer.result(&match hint {
        Some(hint) => format!("signed by the key {hint}"),
        None => "not signed: `--key FILE` signs it, `tune key new FILE` makes a key".to_owned(),
    });
    printer.result(&format!("claim: {}", facts.claim_id()));
    if let Some(destination) = &destination {
        printer.result(&format!("others check it with `tune verify {}`", destination.target()));
    }
    printer.result(&format!("next: `tune audit {}` says what the model card lacks", options.run.display()));
    Ok(ExitCode::SUCCESS)
}
