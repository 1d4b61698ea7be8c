//! Which devices a machine has, what their probes find, and the one that a computation runs on.

use cubecl::Runtime;
use cubecl::cuda::{CudaDevice, CudaRuntime};
use cubecl::wgpu::{WgpuDevice, WgpuRuntime};
use cudarc::driver::result as driver;
use tune_schema::recipe::Numerics;
use tune_schema::{DeviceChoice, Devices};

use super::probe::{Report, probe};
use super::{DeviceFailure, client, guarded, pinned};

/// A device and what its driver says of it.
#[derive(Debug, Clone)]
pub struct Found<D> {
    /// Handle for the runtime.
    pub device: D,
    /// As a recipe names it.
    pub choice: DeviceChoice,
    /// Name, as the driver gives it.
    pub name: String,
    /// Driver and its version; empty where it does not say.
    pub driver: String,
    /// Bytes of its memory, where the driver says.
    pub memory: Option<u64>,
    /// Whether it is software on the CPU, as Mesa's lavapipe is.
    pub software: bool,
}

impl<D> Found<D> {
    /// Runs the probe.
    ///
    /// # Errors
    /// The device does not work, or gave no result.
    pub fn probe<R: Runtime<Device = D>>(&self) -> Result<Report, DeviceFailure> {
        guarded(|| probe(&client::<R>(&self.device))).and_then(|report| report)
    }

    /// Why the device may not compute under a profile; empty where it may.
    #[must_use]
    pub fn reasons<R: Runtime<Device = D>>(&self, numerics: Numerics) -> Vec<String> {
        let exact = || self.probe::<R>().map(|report| report.reasons());
        let pinned = || guarded(|| pinned::probe::probe(&client::<R>(&self.device))).and_then(|reasons| reasons);
        let reasons = match numerics {
            Numerics::ExactF32V1 => exact(),
            Numerics::PinnedBf16V1 if !matches!(self.choice, DeviceChoice::Cuda(_)) => {
                Ok(vec!["its kernels run on CUDA devices only".to_owned()])
            }
            // Everything but the products is the same.
            Numerics::PinnedBf16V1 => exact().and_then(|exact| Ok([exact, pinned()?].concat())),
        };
        reasons.unwrap_or_else(|error| vec![error.to_string()])
    }
}

/// How far CUDA is installed.
#[derive(Debug, Clone)]
pub enum Cuda {
    /// There is no driver library.
    NoDriver,
    /// There is a driver, but not NVRTC, which compiles kernels.
    NoCompiler,
    /// Driver and compiler are there, with these devices.
    Devices(Vec<Found<CudaDevice>>),
}

/// Looks for the CUDA libraries, which are loaded at run time, and for devices.
#[must_use]
#[expect(unsafe_code, reason = "loading a library, and asking it")]
pub fn cuda() -> Cuda {
    // SAFETY: both only try to load the library that the platform's loader finds under the driver's names.
    let (driver, compiler) =
        unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
    match (driver, compiler) {
        (false, _) => return Cuda::NoDriver,
        (true, false) => return Cuda::NoCompiler,
        (true, true) => {}
    }
    let count = driver::init().and_then(|()| driver::device::get_count()).unwrap_or(0);
    let mut version = 0;
    // SAFETY: the library is there, and writes one number.
    let known = unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version) };
    let version = if known == cudarc::driver::sys::CUresult::CUDA_SUCCESS { version } else { 0 };
    let devices = (0..count).filter_map(|ordinal| {
        let device = driver::device::get(ordinal).ok()?;
        let index = usize::try_from(ordinal).ok()?;
        Some(Found {
            device: CudaDevice::new(index),
            choice: DeviceChoice::Cuda(index),
            name: driver::device::get_name(device).unwrap_or_else(|_| "CUDA device".to_owned()),
            driver: format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
            // SAFETY: the device was just given by the driver.
            memory: unsafe { driver::device::total_mem(device) }.ok().map(|bytes| bytes as u64),
            software: false,
        })
    });
    Cuda::Devices(devices.collect())
}

/// Every Vulkan adapter, in the driver's order. Empty where there is no Vulkan loader or driver.
#[must_use]
pub fn wgpu_adapters() -> Vec<Found<WgpuDevice>> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = cubecl::future::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    // `WgpuDevice` counts the adapters of each kind.
    let (mut discrete, mut integrated, mut virtual_) = (0, 0, 0);
    let place = |counter: &mut usize| std::mem::replace(counter, *counter + 1);
    let infos = adapters.iter().map(wgpu::Adapter::get_info).enumerate();
    infos
        .map(|(index, info)| Found {
            device: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(place(&mut discrete)),
                wgpu::DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(place(&mut integrated)),
                wgpu::DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(place(&mut virtual_)),
                wgpu::DeviceType::Cpu => WgpuDevice::Cpu,
                wgpu::DeviceType::Other => WgpuDevice::DefaultDevice,
            },
            choice: DeviceChoice::Wgpu(index),
            software: info.device_type == wgpu::DeviceType::Cpu,
            name: info.name,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            memory: None,
        })
        .collect()
}

/// A device that was named and cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such device.
    #[error("there is no `{choice}`: {reason}")]
    Missing {
        /// What was named.
        choice: DeviceChoice,
        /// Why there is none.
        reason: String,
    },
    /// It does not compute as the contract asks.
    #[error("`{choice}` ({name}) may not compute {}: {}", numerics.name(), reasons.join("; "))]
    Refused {
        /// What was named.
        choice: DeviceChoice,
        /// The device's name.
        name: String,
        /// The profile it was to compute under.
        numerics: Numerics,
        /// What its probe found.
        reasons: Vec<String>,
    },
    /// The CPU was named, or nothing better found, and does not know the profile.
    #[error("{} needs an NVIDIA GPU with matrix instructions for bf16, and {found}", numerics.name())]
    NoneFor {
        /// The profile.
        numerics: Numerics,
        /// What there is instead.
        found: String,
    },
}

impl OpenError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        let other = match self {
            Self::Refused { numerics: Numerics::PinnedBf16V1, .. } | Self::NoneFor { .. } => {
                "`numerics=exact-f32/1` computes on any machine, other bits"
            }
            Self::Refused { .. } | Self::Missing { .. } => "`device=cpu` computes the same on any machine",
        };
        format!("{other}; `tune doctor` lists the devices of this one")
    }
}

/// Devices that compute together.
#[derive(Debug, Clone)]
pub enum Opened {
    /// The CPU.
    Cpu,
    /// NVIDIA GPUs.
    Cuda(Vec<Found<CudaDevice>>),
    /// Devices that wgpu drives.
    Wgpu(Vec<Found<WgpuDevice>>),
}

/// The devices that are named, each of which may compute under `numerics`.
///
/// # Errors
/// There is no such device, or its probe says that it may not compute under `numerics`; never for `auto` and
/// `exact-f32/1`.
pub fn open(devices: &Devices, numerics: Numerics) -> Result<Opened, OpenError> {
    let choices = devices.choices();
    let opened = if choices == [DeviceChoice::Auto] {
        match (cuda_devices().map(|found| found.into_iter().next()), numerics) {
            (Ok(Some(found)), Numerics::PinnedBf16V1) => Opened::Cuda(vec![found]),
            (Ok(Some(found)), _) if found.reasons::<CudaRuntime>(numerics).is_empty() => Opened::Cuda(vec![found]),
            (Err(reason), Numerics::PinnedBf16V1) => {
                return Err(OpenError::NoneFor { numerics, found: reason.to_owned() });
            }
            _ => Opened::Cpu,
        }
    } else {
        find(choices)?
    };
    match &opened {
        Opened::Cpu if numerics == Numerics::ExactF32V1 => {}
        Opened::Cpu => return Err(OpenError::NoneFor { numerics, found: "this is the CPU".to_owned() }),
        Opened::Cuda(found) => found.iter().try_for_each(|found| allowed::<CudaRuntime>(found, numerics))?,
        Opened::Wgpu(found) => found.iter().try_for_each(|found| allowed::<WgpuRuntime>(found, numerics))?,
    }
    Ok(opened)
}

/// The devices that are named, all of a kind, whatever their probes say; for `auto` the first CUDA device, else the first
/// device of wgpu that is not software.
///
/// # Errors
/// There is no such device.
pub fn find(choices: &[DeviceChoice]) -> Result<Opened, OpenError> {
    let missing =
        |choice: &DeviceChoice, reason: &str| OpenError::Missing { choice: *choice, reason: reason.to_owned() };
    let first = choices.first().unwrap_or(&DeviceChoice::Auto);
    match first {
        DeviceChoice::Cpu => Ok(Opened::Cpu),
        DeviceChoice::Auto => {
            if let Some(found) = cuda_devices().unwrap_or_default().into_iter().next() {
                return Ok(Opened::Cuda(vec![found]));
            }
            let hardware = wgpu_adapters().into_iter().find(|adapter| !adapter.software);
            hardware.map(|found| Opened::Wgpu(vec![found])).ok_or_else(|| missing(first, "no GPU was found"))
        }
        DeviceChoice::Cuda(_) => {
            named(choices, &cuda_devices().map_err(|reason| missing(first, reason))?).map(Opened::Cuda)
        }
        DeviceChoice::Wgpu(_) => named(choices, &wgpu_adapters()).map(Opened::Wgpu),
    }
}

/// The CUDA devices, or why there are none.
fn cuda_devices() -> Result<Vec<Found<CudaDevice>>, &'static str> {
    match cuda() {
        Cuda::NoDriver => Err("the library of NVIDIA's driver was not found"),
        Cuda::NoCompiler => Err("the library NVRTC, which compiles kernels, was not found"),
        Cuda::Devices(devices) => Ok(devices),
    }
}

/// Those of `found` that are named.
fn named<D: Clone>(choices: &[DeviceChoice], found: &[Found<D>]) -> Result<Vec<Found<D>>, OpenError> {
    let one = |choice: &DeviceChoice| {
        let reason = || "its driver shows no device of this number".to_owned();
        let found = found.iter().find(|found| found.choice == *choice).cloned();
        found.ok_or_else(|| OpenError::Missing { choice: *choice, reason: reason() })
    };
    choices.iter().map(one).collect()
}

/// Refuses a device whose probe finds a difference.
fn allowed<R: Runtime>(found: &Found<R::Device>, numerics: Numerics) -> Result<(), OpenError> {
    let reasons = found.reasons::<R>(numerics);
    if reasons.is_empty() {
        return Ok(());
    }
    Err(OpenError::Refused { choice: found.choice, name: found.name.clone(), numerics, reasons })
}
