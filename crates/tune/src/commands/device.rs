//! From the name of a device to code compiled for it.

use tune_kernels::cube::device::{Found, Opened, open};
use tune_schema::DeviceChoice;
use tune_train::DeviceFacts;

/// A device that may compute, and what goes into `environment.json`.
///
/// # Errors
/// A device that was named and cannot be had.
pub(crate) fn select(choice: DeviceChoice) -> anyhow::Result<(Opened, DeviceFacts)> {
    let opened = open(choice)?;
    let facts = match &opened {
        Opened::Cpu => DeviceFacts::default(),
        Opened::Cuda(found) => facts(found),
        Opened::Wgpu(found) => facts(found),
    };
    Ok((opened, facts))
}

fn facts<D>(found: &Found<D>) -> DeviceFacts {
    DeviceFacts {
        backend: found.choice.to_string(),
        name: found.name.clone(),
        driver: found.driver.clone(),
        memory: found.memory,
    }
}

/// Runs `$body`, which gives a result, with `$backend` standing for a device's backend and `$device` for the device.
/// The failure of a GPU becomes an error like any other.
macro_rules! on_device {
    ($opened:expr, $backend:ident, $device:ident => $body:expr) => {
        match $opened {
            tune_kernels::cube::device::Opened::Cpu => {
                type $backend = burn_flex::Flex;
                let $device = &burn_flex::FlexDevice;
                $body.map_err(anyhow::Error::from)
            }
            tune_kernels::cube::device::Opened::Cuda(found) => {
                type $backend = tune_kernels::cube::Cuda;
                let $device = &found.device;
                $crate::commands::device::guarded(|| $body.map_err(anyhow::Error::from))
            }
            tune_kernels::cube::device::Opened::Wgpu(found) => {
                type $backend = tune_kernels::cube::Wgpu;
                let $device = &found.device;
                $crate::commands::device::guarded(|| $body.map_err(anyhow::Error::from))
            }
        }
    };
}
pub(crate) use on_device;

/// Runs work on a GPU.
pub(crate) fn guarded<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    tune_kernels::cube::guarded(work)?
}
