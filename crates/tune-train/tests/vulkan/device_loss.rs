//! Losing a device in the middle of a run: an error that says so, the last checkpoint as it was, and the run goes on from
//! it on another device, to the claim that it would have had.

use burn_flex::{Flex, FlexDevice};
use cubecl::future::block_on;
use cubecl::wgpu::{RuntimeOptions, WgpuSetup, init_device};
use tune_kernels::cube::{Wgpu, guarded};
use tune_train::trainer::StepResult;
use tune_train::{Observer, RunFolder};

use crate::support::{Adapter, Device, claim, job};

/// A Vulkan device of the test's own, which it can destroy.
fn device(software: bool) -> (Device, wgpu::Device) {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let is_software = |adapter: &wgpu::Adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu;
    let adapter = adapters.into_iter().find(|adapter| is_software(adapter) == software).expect("the same adapter");
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..wgpu::DeviceDescriptor::default() };
    let (device, queue) = block_on(adapter.request_device(&descriptor)).expect("a device");
    let backend = wgpu::Backend::Vulkan;
    let setup = WgpuSetup { instance, adapter, device: device.clone(), queue, backend };
    (init_device(setup, RuntimeOptions::default()), device)
}

/// Destroys a device after the second step.
struct Loses(wgpu::Device);

impl Observer for Loses {
    fn step(&mut self, step: u64, _: &StepResult, _: f64) {
        if step == 2 {
            self.0.destroy();
        }
    }
}

#[test]
fn a_lost_device_leaves_a_run_that_goes_on_elsewhere() {
    let Some(adapter) = Adapter::find() else { return };
    adapter.match_the_cpu();
    let (device, handle) = device(adapter.software);
    let job = job(&["max_steps=4", "save_steps=1", "micro_batch_size=1", "val_set_size=2", "eval_exact_match=0"]);
    let place = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::new(place.path().join("run"));
    let lost = guarded(|| tune_train::run::<Wgpu>(&job, &folder, &[device], &mut Loses(handle)));
    let failure = lost.expect_err("the device is gone");
    assert!(failure.to_string().starts_with("the device failed: "), "{failure}");
    assert!(failure.hint().contains("the last checkpoint is as it was"), "{}", failure.hint());
    assert!(!tune_fs::exists(&folder.manifest()), "half a run has no manifest");
    assert!(tune_fs::exists(&folder.checkpoint(1)) && !tune_fs::exists(&folder.checkpoint(4)));
    let resumed = tune_train::run::<Flex>(&job, &folder, &[FlexDevice], &mut tune_train::Silent).expect("the rest");
    assert_eq!(resumed.manifest.claim, claim::<Flex>(&job, &[FlexDevice]));
}
