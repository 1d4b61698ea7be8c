//! Training under `pinned-bf16/1` on a Vulkan adapter, software before hardware, without matrix instructions: the same bits
//! twice, near what `exact-f32/1` gives, and not the same.

use burn_flex::{Flex, FlexDevice};
use tune_kernels::cube::PinnedWgpu;
use tune_train::bench::pinned::PinnedReport;
use tune_train::tolerance::{Divergence, PINNED_BF16_V1, StepDivergence};
use tune_train::{TrainError, Trainer, bench};

use crate::support::{Adapter, claim, job};

/// A few steps, few questions.
const FEW: [&str; 4] = ["max_steps=2", "val_set_size=2", "eval_exact_match=1", "eval_max_new_tokens=2"];

/// Runs of the quickstart under both profiles; none where there is no adapter to run on.
fn compare(runs: u32, settings: &[&str]) -> Option<PinnedReport> {
    let adapter = Adapter::find()?;
    adapter.match_the_cpu();
    let place = tempfile::tempdir().expect("a temporary folder");
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let places = [repository.as_path(), place.path()];
    let compare = bench::pinned::compare::<PinnedWgpu, Flex>;
    let report = compare(&adapter.device, &FlexDevice, places, runs, settings, &mut tune_train::Silent);
    Some(report.expect("a report"))
}

#[test]
fn a_run_has_the_same_bits_twice_and_stays_near_the_exact_one() {
    let Some(report) = compare(2, &FEW) else { return };
    assert!(report.is_right(), "{report:?}");
    let steps = &report.quickstart.divergence.steps;
    assert!(steps.len() == 2 && steps.iter().all(|step| step.loss > 0.0), "rounding shows: {steps:?}");
}

/// How the rows of a step are split into micro-batches changes no bit of it.
#[test]
fn micro_batches_change_nothing() {
    let Some(adapter) = Adapter::find() else { return };
    let settings = |micro: &'static str, times: &'static str| {
        let job = job(&["numerics=pinned-bf16/1", "max_steps=1", "val_set_size=2", "eval_exact_match=0", micro, times]);
        claim::<PinnedWgpu>(&job, std::slice::from_ref(&adapter.device)).chain_head
    };
    let whole = settings("micro_batch_size=8", "gradient_accumulation_steps=1");
    assert_eq!(settings("micro_batch_size=2", "gradient_accumulation_steps=4"), whole);
}

#[test]
fn a_backend_of_another_profile_is_refused() {
    let job = job(&["numerics=pinned-bf16/1", "max_steps=1"]);
    let refused = Trainer::<Flex>::new(&job, &[FlexDevice]);
    assert!(matches!(refused, Err(TrainError::Numerics { .. })), "{:?}", refused.err());
}

#[test]
fn the_tolerance_can_be_broken() {
    let steps = |loss, grad_norm| Divergence { steps: vec![StepDivergence { step: 1, loss, grad_norm }] };
    assert!(PINNED_BF16_V1.allows(&steps(1e-4, 1e-3)));
    for broken in [steps(0.1, 1e-3), steps(1e-4, 0.5), steps(f64::NAN, 0.0), Divergence { steps: Vec::new() }] {
        assert!(!PINNED_BF16_V1.allows(&broken), "{broken:?}");
    }
}

/// How far the profile goes from `exact-f32/1`: the figures of `docs/numerics.md`. `TUNE_STEPS` of the quickstart, 20
/// where it is not set.
#[test]
#[ignore = "takes minutes, and prints what it finds"]
#[allow(clippy::print_stdout, reason = "figures for people")]
fn divergence() {
    let steps = std::env::var("TUNE_STEPS").unwrap_or_else(|_| "20".to_owned());
    let settings = [&format!("max_steps={steps}"), "val_set_size=2", "eval_exact_match=0"];
    let Some(report) = compare(1, &settings) else { return };
    let divergence = report.quickstart.divergence;
    println!("step  loss, largest so far  norm, largest so far");
    for step in divergence.steps.iter().map(|one| one.step) {
        let (loss, norm) = divergence.largest(step);
        println!("{step:>4}  {loss:.2e}              {norm:.2e}");
    }
}
