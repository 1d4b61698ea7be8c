//! What one device does under `pinned-bf16/1`: are its products near enough, are its bits the same twice, and does training
//! go as it does under `exact-f32/1`.

use std::path::Path;

use serde::Serialize;
use tune_kernels::KernelBackend;
use tune_kernels::compare::{Comparison, compare_rounded};
use tune_schema::Digest;

use super::device::{Compared, open_quickstart};
use crate::tolerance::{Divergence, PINNED_BF16_V1};
use crate::{Job, Observer, RunFolder, Silent, TrainError, chain_file};

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct PinnedReport {
    /// Products against sums in f64, each computed twice.
    pub products: Compared,
    /// The quickstart.
    pub quickstart: PinnedQuickstart,
}

impl PinnedReport {
    /// Whether nothing was found wrong.
    #[must_use]
    pub fn is_right(&self) -> bool {
        let Self { products, quickstart } = self;
        products.difference.is_none() && quickstart.claim == quickstart.claim_again && quickstart.within_tolerance
    }
}

/// The quickstart under `pinned-bf16/1`, twice, beside the same under `exact-f32/1`.
#[derive(Debug, Clone, Serialize)]
pub struct PinnedQuickstart {
    /// Its claim.
    pub claim: Digest,
    /// The claim of the second run.
    pub claim_again: Digest,
    /// How far its losses and norms are from those of `exact-f32/1`.
    pub divergence: Divergence,
    /// Whether that lies within the tolerance of the profile.
    pub within_tolerance: bool,
}

/// Compares a device. `quickstart` holds the quickstart's recipe, whose settings `overrides` changes, and its base model;
/// `runs` gets the runs. `P` and `C` compute under the two profiles.
///
/// # Errors
/// A quickstart that cannot be opened or run.
pub fn compare<P: KernelBackend, C: KernelBackend>(
    device: &P::Device,
    exact: &C::Device,
    [quickstart, runs]: [&Path; 2],
    comparisons: u32,
    overrides: &[&str],
    observer: &mut dyn Observer,
) -> Result<PinnedReport, TrainError> {
    observer.phase("comparing products of rounded operands");
    let Comparison { operations, values, difference, .. } = compare_rounded::<P>(device, comparisons);
    let products = Compared { operations: operations.to_owned(), values, difference };
    observer.phase("the quickstart under both profiles");
    let job = |numerics: &str| open_quickstart(quickstart, &[overrides, &[&format!("numerics={numerics}")]].concat());
    let (pinned, exact_job) = (job(P::NUMERICS.name())?, job(C::NUMERICS.name())?);
    let folder = |name: &str| RunFolder::new(runs.join(name));
    let run = |name: &str| {
        let run = crate::run::<P>(&pinned, &folder(name), std::slice::from_ref(device), &mut Silent);
        run.map(|outcome| outcome.manifest.claim_id)
    };
    let (claim, claim_again) = (run("pinned")?, run("pinned-again")?);
    crate::run::<C>(&exact_job, &folder("exact"), std::slice::from_ref(exact), &mut Silent)?;
    let chain = |job: &Job, name: &str| {
        chain_file::parse_chain(name, &tune_fs::read(&folder(name).chain())?, job.inputs_digest()?)
            .map_err(TrainError::from)
    };
    let divergence = Divergence::between(&chain(&pinned, "pinned")?, &chain(&exact_job, "exact")?);
    let within_tolerance = PINNED_BF16_V1.allows(&divergence);
    Ok(PinnedReport { products, quickstart: PinnedQuickstart { claim, claim_again, divergence, within_tolerance } })
}
