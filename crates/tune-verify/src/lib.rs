//! Verification of a run by somebody who does not trust it.
//!
//! - [`verdict`]: what was compared, how far verification got, the first thing that differs
//! - [`files`]: level `files`: every hash in the folder, and that they fit together
//! - [`data`]: level `data`: the stream of rows, rebuilt from the sources
//! - [`sample`], [`full`]: levels `sample` and `full`: steps computed again
//! - [`verify`]: the levels in order; each includes the ones before it

pub mod data;
mod error;
pub mod files;
pub mod full;
pub mod sample;
pub mod verdict;

use std::path::{Path, PathBuf};

use tune_kernels::KernelBackend;
use tune_train::{JobOptions, Observer, RunFolder};

pub use error::VerifyError;
pub use verdict::{Check, Level, Outcome, Verdict};

/// What a verifier chooses.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How far to go.
    pub level: Level,
    /// Segments that level `sample` computes again.
    pub segments: usize,
    /// Chooses the segments; drawn anew each time where not given, so that nobody can know them beforehand.
    pub seed: Option<u64>,
    /// Where sources are, and whether the network may be used.
    pub job: JobOptions,
}

/// Verifies the run folder at `target`, or the one that the manifest file at `target` lies in.
///
/// Differences and things that could not be checked are part of the verdict.
///
/// # Errors
/// A target that is no run at all.
pub fn verify<B: KernelBackend>(
    target: &Path,
    options: &VerifyOptions,
    devices: &[B::Device],
    observer: &mut dyn Observer,
) -> Result<Verdict, VerifyError> {
    let folder = RunFolder::new(folder_of(target)?);
    observer.phase("checking files");
    let (mut verdict, evidence) = files::check(&folder)?;
    let Some(evidence) = evidence.filter(|_| options.level > Level::Files && !verdict.differs()) else {
        return Ok(verdict.finish(options.level));
    };
    observer.phase("rebuilding the data stream");
    let job = data::check(&folder, &evidence, &options.job, &mut verdict, observer);
    let Some(job) = job.filter(|_| options.level > Level::Data && !verdict.differs()) else {
        return Ok(verdict.finish(options.level));
    };
    sample::check::<B>(&folder, &evidence, &job, options, devices, &mut verdict, observer);
    if options.level == Level::Full && !verdict.differs() {
        full::check::<B>(&evidence, &job, devices, &mut verdict, observer);
    }
    Ok(verdict.finish(options.level))
}

/// The run folder that `target` names.
fn folder_of(target: &Path) -> Result<PathBuf, VerifyError> {
    if tune_fs::is_dir(target) {
        return Ok(target.to_owned());
    }
    if !tune_fs::exists(target) {
        return Err(VerifyError::NoTarget(target.to_owned()));
    }
    if target.file_name().is_none_or(|name| name != "manifest.json") {
        return Err(VerifyError::NotAManifest(target.to_owned()));
    }
    Ok(match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    })
}
