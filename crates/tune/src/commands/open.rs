//! From the arguments that name a recipe to a job: shared by every command that takes one.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tune_kernels::cube::device::Opened;
use tune_schema::recipe::{self, Loaded};
use tune_source::{LockMode, Options};
use tune_train::{DeviceFacts, Job, JobOptions};

use super::device::select;
use crate::cli::{RecipeOptions, SourceOptions};
use crate::printer::Printer;

/// A recipe as read from its file.
pub(crate) struct Read {
    /// Its bytes.
    pub(crate) text: Vec<u8>,
    /// What it means.
    pub(crate) loaded: Loaded,
}

/// Reads a recipe and prints what its reader noticed.
pub(crate) fn read(path: &Path, overrides: &[String], printer: &mut Printer) -> anyhow::Result<Read> {
    if tune_fs::is_dir(path) {
        bail!("`{}` is a folder\nhint: name the recipe's file in it", path.display());
    }
    if !tune_fs::exists(path) {
        bail!(
            "`{}`: No such file or directory\nhint: name a recipe; its path is seen from the current folder",
            path.display()
        );
    }
    let text = tune_fs::read_limited(path, 1 << 20)?;
    let utf8 = std::str::from_utf8(&text).with_context(|| format!("{}: a recipe is UTF-8 text", path.display()))?;
    let loaded = recipe::load(&path.to_string_lossy(), utf8, overrides)?;
    for notice in &loaded.notices {
        printer.note(notice);
    }
    Ok(Read { text, loaded })
}

/// Places of sources by name, as `--source NAME=PATH` gives them.
pub(crate) fn places(given: &[String]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let one = |source: &String| {
        let parts = source.split_once('=');
        let (name, path) =
            parts.with_context(|| format!("`--source {source}` has no `=`: write `--source NAME=PATH`"))?;
        Ok((name.to_owned(), PathBuf::from(path)))
    };
    given.iter().map(one).collect()
}

/// Sources exactly as a run's lock has them.
pub(crate) fn locked_sources(offline: bool, secrets: Option<&Path>) -> Options {
    Options { mode: LockMode::Locked, offline, secrets: secrets.map(Path::to_owned), ..Options::default() }
}

/// The lock's treatment as the library names it.
pub(crate) fn source_options(options: &SourceOptions) -> Options {
    let mode = if options.frozen {
        LockMode::Frozen
    } else if options.locked {
        LockMode::Locked
    } else {
        LockMode::Normal
    };
    Options { mode, offline: options.offline || options.frozen, ..Options::default() }
}

/// Opens the job that the arguments name.
pub(crate) fn job(options: &RecipeOptions, printer: &mut Printer) -> anyhow::Result<Job> {
    let read = read(&options.recipe, &options.overrides, printer)?;
    open(options, read, DeviceFacts::default(), printer)
}

/// Opens the job that the arguments name, and before it the device that the recipe names.
pub(crate) fn job_on_device(options: &RecipeOptions, printer: &mut Printer) -> anyhow::Result<(Job, Opened)> {
    let read = read(&options.recipe, &options.overrides, printer)?;
    let (opened, device) = select(&read.loaded.recipe.device, read.loaded.recipe.numerics)?;
    Ok((open(options, read, device, printer)?, opened))
}

fn open(options: &RecipeOptions, read: Read, device: DeviceFacts, printer: &mut Printer) -> anyhow::Result<Job> {
    let Read { text, loaded } = read;
    printer.log_every(loaded.recipe.logging_steps);
    let job_options = JobOptions { source: source_options(&options.source), device, ..JobOptions::default() };
    Ok(Job::open(&options.recipe, text, loaded, &job_options, printer)?)
}

/// The run folder of a job, seen from the current folder: what is made lies where the command was given.
pub(crate) fn output_dir(job: &Job) -> PathBuf {
    PathBuf::from(&job.recipe.output_dir)
}
