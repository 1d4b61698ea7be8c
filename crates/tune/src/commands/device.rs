//! From the name of a device to code compiled for it.

use tune_kernels::cube::device::{Found, Opened, open};
use tune_schema::Devices;
use tune_schema::recipe::Numerics;
use tune_train::DeviceFacts;

/// Devices that may compute under a profile, and what goes into `environment.json`.
///
/// # Errors
/// A device that was named and cannot be had.
pub(crate) fn select(devices: &Devices, numerics: Numerics) -> anyhow::Result<(Opened, DeviceFacts)> {
    let opened = open(devices, numerics)?;
    let facts = match &opened {
        Opened::Cpu => DeviceFacts::default(),
        Opened::Cuda(found) => facts(found),
        Opened::Wgpu(found) => facts(found),
    };
    Ok((opened, facts))
}

fn facts<D>(found: &[Found<D>]) -> DeviceFacts {
    let joined = |text: fn(&Found<D>) -> String| found.iter().map(text).collect::<Vec<_>>().join(",");
    DeviceFacts {
        backend: joined(|found| found.choice.to_string()),
        name: joined(|found| found.name.clone()),
        driver: found.first().map(|found| found.driver.clone()).unwrap_or_default(),
        // Each holds the whole model.
        memory: found.iter().map(|found| found.memory).min().flatten(),
    }
}

/// Runs `$body`, which gives a result, with `$backend` standing for the devices' backend under the profile `$numerics` and
/// `$devices` for the devices. The failure of a GPU becomes an error like any other.
macro_rules! on_device {
    ($opened:expr, $numerics:expr, $backend:ident, $devices:ident => $body:expr) => {
        match $opened {
            tune_kernels::cube::device::Opened::Cpu => {
                type $backend = burn_flex::Flex;
                let $devices = &[burn_flex::FlexDevice][..];
                $body.map_err(anyhow::Error::from)
            }
            tune_kernels::cube::device::Opened::Cuda(found)
                if $numerics == tune_schema::recipe::Numerics::PinnedBf16V1 =>
            {
                type $backend = tune_kernels::cube::PinnedCuda;
                let devices: Vec<_> = found.iter().map(|found| found.device.clone()).collect();
                let $devices = &devices[..];
                $crate::commands::device::guarded(|| $body.map_err(anyhow::Error::from))
            }
            tune_kernels::cube::device::Opened::Cuda(found) => {
                type $backend = tune_kernels::cube::Cuda;
                let devices: Vec<_> = found.iter().map(|found| found.device.clone()).collect();
                let $devices = &devices[..];
                $crate::commands::device::guarded(|| $body.map_err(anyhow::Error::from))
            }
            tune_kernels::cube::device::Opened::Wgpu(found) => {
                type $backend = tune_kernels::cube::Wgpu;
                let devices: Vec<_> = found.iter().map(|found| found.device.clone()).collect();
                let $devices = &devices[..];
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
