//! Verification of a run by somebody who does not trust it.
//!
//! - [`verdict`]: what was compared, how far verification got, the first thing that differs
//! - [`files`]: level `files`: every hash in the folder, and that they fit together
//! - [`data`]: level `data`: the stream of rows, rebuilt from the sources
//! - [`sample`], [`full`]: levels `sample` and `full`: steps computed again
//! - [`mod@reveal`]: rows of an unshareable source, shown with their proofs, and checked
//! - `device_bound`: what other bits mean under a profile that promises them on one model of device only
//! - [`attest`]: a verdict as a signed statement
//! - [`verify`]: the levels in order; each includes the ones before it
//! - [`network`]: what comparing a run with its sources would fetch
//! - [`remote`]: a run on a web server, in a folder of this machine
//! - [`mod@diff`]: where two runs part, and what explains it

pub mod attest;
pub mod data;
mod device_bound;
pub mod diff;
mod error;
mod export;
pub mod files;
pub mod full;
pub mod network;
pub mod remote;
pub mod reveal;
pub mod sample;
pub mod verdict;

use std::path::{Path, PathBuf};

use tune_kernels::KernelBackend;
use tune_publish::key::PublicKey;
use tune_schema::manifest::{Manifest, PUBLISHED_RUN};
use tune_schema::recipe::Numerics;
use tune_train::{Job, JobOptions, Observer, RunFolder};

pub use diff::{DiffOptions, diff};
pub use error::VerifyError;
pub use sample::SampleSize;
pub use verdict::{Check, Level, Outcome, Verdict};

/// Where a folder that is verified comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// It lies on this machine. Where it says that its sources lay is looked at, with the care of [`tune_source::recorded`].
    #[default]
    Here,
    /// It was fetched with every file that lies there. What it says of places on this machine is nothing.
    Fetched,
    /// The same, from a server that does not say which files there are.
    FetchedByName,
}

/// What a verifier chooses.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How far to go.
    pub level: Level,
    /// How many segments level `sample` computes again.
    pub sample: SampleSize,
    /// Chooses the segments; drawn anew each time where not given, so that nobody can know them beforehand.
    pub seed: Option<u64>,
    /// Whose signature the published folder must have.
    pub publisher: Option<PublicKey>,
    /// Where the folder comes from.
    pub origin: Origin,
    /// Files of rows that somebody revealed, to be checked against the claim.
    pub revealed: Vec<PathBuf>,
    /// Where sources are, and whether the network may be used.
    pub job: JobOptions,
}

/// Verifies the run folder or published folder at `target`, or the one that the manifest file at `target` lies in.
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
    let folder = folder_of(target)?;
    observer.phase("checking files");
    let (mut verdict, evidence) = files::check(&folder)?;
    if options.origin == Origin::FetchedByName {
        let reason = "a web server gives no list: files that the manifest does not name could not be looked for";
        verdict.record(Level::Files, "other files", Outcome::Withheld(reason.to_owned()));
    }
    // Where the folder holds what is no file, nothing more of it is opened.
    if let Some(key) = options.publisher.as_ref().filter(|_| verdict.claim_id.is_some()) {
        check_signature(&folder, key, &mut verdict);
    }
    for file in &options.revealed {
        let outcome = match &evidence {
            Some(evidence) => reveal::check(file, evidence),
            None => Outcome::NotChecked("the files of the run do not fit together".to_owned()),
        };
        verdict.record(Level::Files, format!("revealed {}", file.display()), outcome);
    }
    let Some(evidence) = evidence.filter(|_| options.level > Level::Files && !verdict.differs()) else {
        return Ok(verdict.finish(options.level));
    };
    observer.phase("rebuilding the data stream");
    let opened = data::check(&folder, &evidence, options.origin, &options.job, &mut verdict, observer);
    match opened.filter(|_| options.level > Level::Data && !verdict.differs()) {
        None => {}
        Some(data::Opened::WithoutRows(parts)) => {
            sample::check_initial::<B>(&evidence, &parts, devices, &mut verdict, observer);
        }
        Some(data::Opened::Whole(job)) => {
            sample::check::<B>(&folder, &evidence, &job, options, devices, &mut verdict, observer);
            if options.level == Level::Full && !verdict.differs() {
                full::check::<B>(&folder, &evidence, &job, devices, &mut verdict, observer);
                if let Some(device) = devices.first() {
                    export::check_full::<B>(&folder, &job, evidence.manifest.claim_id, device, &mut verdict, observer);
                }
            }
        }
    }
    Ok(verdict.finish(options.level))
}

/// The profile that the manifest at `target` names; `exact-f32/1` where there is none to read, which verifying then says.
#[must_use]
pub fn numerics(target: &Path) -> Numerics {
    let path = folder_of(target).ok().map(|folder| folder.manifest());
    // Before it is opened: a pipe may never end.
    let path = path.filter(|path| tune_fs::is_file(path));
    let manifest = path.and_then(|path| tune_fs::read_limited(&path, files::TEXT_LIMIT).ok());
    let manifest = manifest.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
    manifest.map_or(Numerics::ExactF32V1, |manifest| manifest.claim.inputs.numerics)
}

/// A run whose files fit together: what is said of it afterwards is said of an unchanged one.
///
/// # Errors
/// A target that is no run, or one that does not verify at level `files`.
pub fn sound(target: &Path) -> Result<(RunFolder, files::Evidence), VerifyError> {
    let folder = folder_of(target)?;
    let (verdict, evidence) = files::check(&folder)?;
    match (evidence, verdict.first_problem()) {
        (Some(evidence), None) => Ok((folder, evidence)),
        (_, problem) => {
            let problem = problem.unwrap_or_else(|| "its files cannot be read".to_owned());
            Err(VerifyError::NotSound { target: target.to_owned(), problem })
        }
    }
}

/// The computation of a finished run, set up again from its sources.
///
/// # Errors
/// As [`sound`], or sources that cannot be had.
pub fn reopen(
    target: &Path,
    options: &JobOptions,
    observer: &mut dyn Observer,
) -> Result<(RunFolder, Manifest, Job), VerifyError> {
    let (folder, evidence) = sound(target)?;
    let job = data::reopen(&evidence, &data::located(&folder, &evidence, options), observer)?;
    Ok((folder, evidence.manifest, job))
}

/// The signature over a published folder.
fn check_signature(folder: &RunFolder, key: &PublicKey, verdict: &mut Verdict) {
    let place = folder.top();
    let name = tune_publish::signature::FILE_NAME;
    let outcome = if tune_fs::is_file(&place.join(name)) {
        match tune_publish::signature::verify_folder(place, key) {
            Ok(Ok(files)) => Outcome::Verified(format!("{files} files, by the key {}", key.hint())),
            Ok(Err(problem)) => Outcome::Differs(format!("{name}: {problem}")),
            Err(error) => Outcome::NotChecked(error.to_string()),
        }
    } else {
        Outcome::Differs(format!("the folder is not signed: it has no {name}"))
    };
    verdict.record(Level::Files, "signature", outcome);
}

/// The run that `target` names.
///
/// # Errors
/// Nothing is there, or a file that is no manifest.
pub fn folder_of(target: &Path) -> Result<RunFolder, VerifyError> {
    let manifest = Path::new("manifest.json");
    let folder = if tune_fs::is_dir(target) {
        target.to_owned()
    } else if !tune_fs::exists(target) {
        return Err(VerifyError::NoTarget(target.to_owned()));
    } else if target.file_name().is_none_or(|name| name != manifest) {
        return Err(VerifyError::NotAManifest(target.to_owned()));
    } else {
        target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
    };
    // The manifest of a published folder lies one below.
    let above = folder.file_name().is_some_and(|name| name == PUBLISHED_RUN).then(|| folder.parent()).flatten();
    let is_published = |folder: &Path| {
        let run = folder.join(PUBLISHED_RUN);
        tune_fs::is_file(&run.join(manifest)) && !tune_fs::is_file(&folder.join(manifest))
    };
    let has_no_result = !["adapter", "model"].iter().any(|name| tune_fs::is_dir(&folder.join(name)));
    Ok(match above {
        _ if is_published(&folder) => RunFolder::of_published(&folder),
        Some(above) if has_no_result && is_published(above) => RunFolder::of_published(above),
        _ => RunFolder::new(folder),
    })
}
