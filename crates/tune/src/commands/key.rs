//! `tune key`

use std::process::ExitCode;

use tune_publish::key::{PrivateKey, public_path};

use crate::cli::{KeyCommand, KeyOptions};
use crate::printer::Printer;

pub(crate) fn execute(options: &KeyOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let KeyCommand::New { file } = &options.command;
    let key = PrivateKey::generate();
    key.write_new(file)?;
    printer.result(&format!("private key: {}", file.display()));
    printer.result(&format!("public key:  {}", public_path(file).display()));
    printer.result(&format!("hint: {}", key.public().hint()));
    Ok(ExitCode::SUCCESS)
}
