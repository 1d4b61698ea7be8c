//! Jobs of the quickstart, and the Vulkan adapter that computes them.

#![allow(dead_code, reason = "each test uses a part")]

#[path = "../../../tune-kernels/tests/support/adapter.rs"]
mod adapter;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tune_kernels::KernelBackend;
use tune_kernels::cpu::Level;
use tune_kernels::cube::device::{Found, wgpu_adapters};
use tune_kernels::cube::{Wgpu, WgpuRuntime};
use tune_schema::manifest::Claim;
use tune_schema::recipe;
use tune_train::{DeviceFacts, Job, JobOptions, RunFolder, Silent, TrainError};

pub(crate) type Device = burn_tensor::Device<Wgpu>;

/// The adapter under test, which one test has at a time.
pub(crate) struct Adapter {
    _turn: MutexGuard<'static, ()>,
    found: Found<Device>,
    pub(crate) device: Device,
    pub(crate) software: bool,
}

impl Adapter {
    /// Software before hardware.
    pub(crate) fn find() -> Option<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = adapter::under_test(wgpu_adapters(), |adapter| adapter.software)?;
        Some(Self { _turn: turn, device: found.device.clone(), software: found.software, found })
    }

    /// Gives the CPU an unfused `fma` where the adapter has one. To be called before any kernel runs.
    pub(crate) fn match_the_cpu(&self) {
        static LEVEL: Once = Once::new();
        LEVEL.call_once(|| {
            if self.found.probe::<WgpuRuntime>().expect("a report").fma_not_fused > 0 {
                Level::Unfused.fix();
            }
        });
    }
}

/// The quickstart with these settings in place of its own.
pub(crate) fn job(overrides: &[&str]) -> Job {
    job_on(overrides, DeviceFacts::default()).expect("a job")
}

/// The same for a device.
pub(crate) fn job_on(overrides: &[&str], device: DeviceFacts) -> Result<Job, TrainError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/quickstart.yaml");
    let text = tune_fs::read(&path).expect("the recipe");
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let loaded = recipe::load("quickstart.yaml", std::str::from_utf8(&text).expect("UTF-8"), &overrides);
    let source =
        tune_source::Options { mode: tune_source::LockMode::Frozen, offline: true, ..tune_source::Options::default() };
    let options = JobOptions { source, device, ..JobOptions::default() };
    Job::open(&path, text, loaded.expect("a recipe"), &options, &mut Silent)
}

/// The claim of a whole run in a folder of its own.
pub(crate) fn claim<B: KernelBackend>(job: &Job, devices: &[B::Device]) -> Claim {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::new(folder.path().join("run"));
    tune_train::run::<B>(job, &folder, devices, &mut Silent).expect("a run").manifest.claim
}
