//! `tune` makes fine-tunes that others can check.
//!
//! This crate is only the command line: each file in [`commands`] turns arguments into options, makes one library call
//! and prints the result. The rest of the system, from the bottom up:
//!
//! - `tune-schema`: types of recipe, lock, manifest and chain; no I/O
//! - `tune-fs`: atomic writes, digests, the content store; the only user of `std::fs`
//! - `tune-source`: fetches sources and locks their bytes
//! - `tune-data`: rows to examples to tokens to packed rows, and the digest of that stream
//! - `tune-kernels`: the numerics contract, with its scalar reference
//! - `tune-model`: decoders, LoRA, generation
//! - `tune-train`: steps, checkpoints, chain, manifest; start reading at `tune_train::run`
//! - `tune-publish`: what is published of a run: audit, documents, signature
//! - `tune-verify`: verdicts about somebody's run, and where two runs part
//!
//! Exit codes: 0 done (or verified); 1 the input is wrong, or something differs; 2 it could not be done.

mod cli;
mod commands;
mod failure;
mod printer;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Command};
use crate::printer::Printer;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tune_kernels::cpu::memory::keep_freed_memory();
    // On a thread of the pool: handing work to the pool from outside puts the caller to sleep and wakes it each time.
    rayon::scope(|_| execute(&arguments))
}

fn execute(arguments: &Arguments) -> ExitCode {
    let mut printer = Printer::new(arguments.quiet);
    let result =
        tune_kernels::cpu::Level::from_environment().map_err(anyhow::Error::from).and_then(|_| {
            match &arguments.command {
                Command::Run(options) => commands::run::execute(options, &mut printer),
                Command::Plan(options) => commands::plan::execute(options, &mut printer),
                Command::Bench(options) => commands::bench::execute(options, &mut printer),
                Command::Lock(options) => commands::lock::execute(options, &mut printer),
                Command::Data(options) => commands::data::execute(options, &mut printer),
                Command::Attest(options) => commands::attest::execute(options, &mut printer),
                Command::Audit(options) => commands::audit::execute(options, &mut printer),
                Command::Publish(options) => commands::publish::execute(options, &mut printer),
                Command::Export(options) => commands::export::execute(options, &mut printer),
                Command::Key(options) => commands::key::execute(options, &mut printer),
                Command::Doctor(options) => commands::doctor::execute(options, &mut printer),
                Command::Verify(options) => commands::verify::execute(options, &mut printer),
                Command::Reveal(options) => commands::reveal::execute(options, &mut printer),
                Command::Diff(options) => commands::diff::execute(options, &mut printer),
                Command::Schema => commands::schema::execute(&mut printer),
            }
        });
    match result.and_then(|code| printer.finish().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            printer.clear();
            let code = failure::report(&error, &mut printer);
            // Whatever stops a verification or comparison: nothing was found to differ, and it could not be checked.
            if matches!(arguments.command, Command::Verify(_) | Command::Diff(_)) { ExitCode::from(2) } else { code }
        }
    }
}
