//! How far `pinned-bf16/1` goes from `exact-f32/1` on the quickstart: the figures of `docs/numerics.md`. Arguments are
//! settings of the recipe, such as `max_steps=100`.
//!
//! Runs on the first Vulkan adapter, software before hardware, without matrix instructions.

#![allow(clippy::print_stdout, reason = "the example prints its result")]

use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use tune_kernels::cube::PinnedWgpu;
use tune_kernels::cube::device::wgpu_adapters;
use tune_train::{Silent, bench};

fn main() {
    let settings: Vec<String> = std::env::args().skip(1).collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut adapters = wgpu_adapters();
    adapters.sort_by_key(|adapter| !adapter.software);
    let adapter = adapters.first().expect("a Vulkan adapter; mesa-vulkan-drivers brings one in software");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let runs = tempfile::tempdir().expect("a temporary folder");
    let places = [repository.as_path(), runs.path()];
    let compare = bench::pinned::compare::<PinnedWgpu, Flex>;
    let report = compare(&adapter.device, &FlexDevice, places, 1, &settings, &mut Silent).expect("both runs");
    println!("step  loss, largest so far  norm, largest so far");
    let steps = &report.quickstart.divergence.steps;
    for (i, step) in
        steps.iter().enumerate().filter(|(i, _)| i + 1 == steps.len() || [0, 4, 9, 19].contains(i) || (i + 1) % 50 == 0)
    {
        let (loss, norm) = report.quickstart.divergence.largest(step.step);
        println!("{:>4}  {loss:.2e}              {norm:.2e}", i + 1);
    }
    println!("within the tolerance: {}", report.quickstart.within_tolerance);
    println!("the same claim twice: {}", report.quickstart.claim == report.quickstart.claim_again);
}
