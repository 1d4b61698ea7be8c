//! Which devices a machine has, what their probes find, and the one that a computation runs on.

use cubecl::Runtime;
use cubecl::cuda::{CudaDevice, CudaRuntime};
use cubecl::wgpu::{WgpuDevice, WgpuRuntime};
use cudarc::driver::result as driver;
use tune_schema::{DeviceChoice, Devices};

use super::probe::{Report, probe};
use super::{DeviceFailure, client, guarded};

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
    #[error("`{choice}` ({name}) may not compute exact-f32/1: {}", reasons.join("; "))]
    Refused {
        /// What was named.
        choice: DeviceChoice,
        /// The device's name.
        name: String,
        /// What its probe found.
        reasons: Vec<String>,
    },
}

impl OpenError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        "`device=cpu` computes the same on any machine; `tune doctor` lists the devices of this one".to_owned()
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

/// The devices that are named, each of which may compute `exact-f32/1`.
///
/// # Errors
/// There is no such device, or its probe says that it may not compute `exact-f32/1`; never for `auto`.
pub fn open(devices: &Devices) -> Result<Opened, OpenError> {
    let mut all = Opened::Cpu;
    for choice in devices.choices() {
        if *choice == DeviceChoice::Auto {
            let Cuda::Devices(devices) = cuda() else { return Ok(Opened::Cpu) };
            let first = devices.into_iter().next().filter(|found| reasons::<CudaRuntime>(found).is_empty());
            return Ok(first.map_or(Opened::Cpu, |found| Opened::Cuda(vec![found])));
        }
        if *choice == DeviceChoice::Cpu {
            return Ok(Opened::Cpu);
        }
        let one = gpu(*choice)?;
        let (name, reasons) = match &one {
            Opened::Cpu => return Ok(one),
            Opened::Cuda(found) => (found[0].name.clone(), reasons::<CudaRuntime>(&found[0])),
            Opened::Wgpu(found) => (found[0].name.clone(), reasons::<WgpuRuntime>(&found[0])),
        };
        if !reasons.is_empty() {
            return Err(OpenError::Refused { choice: *choice, name, reasons });
        }
        all = match (all, one) {
            (Opened::Cuda(mut all), Opened::Cuda(one)) => {
                all.extend(one);
                Opened::Cuda(all)
            }
            (Opened::Wgpu(mut all), Opened::Wgpu(one)) => {
                all.extend(one);
                Opened::Wgpu(all)
            }
            (_, one) => one,
        };
    }
    Ok(all)
}

/// The one GPU that `choice` names, whatever its probe says; for `auto` the first CUDA device, else the first device of wgpu
/// that is not software.
///
/// # Errors
/// There is no such device, or `choice` is the CPU.
pub fn gpu(choice: DeviceChoice) -> Result<Opened, OpenError> {
    let missing = |reason: &str| OpenError::Missing { choice, reason: reason.to_owned() };
    let numbered = "its driver shows no device of this number";
    match (choice, cuda()) {
        (DeviceChoice::Cpu, _) => Err(missing("the CPU is no GPU")),
        (DeviceChoice::Wgpu(index), _) => wgpu_adapters()
            .into_iter()
            .nth(index)
            .map(|found| Opened::Wgpu(vec![found]))
            .ok_or_else(|| missing(numbered)),
        (DeviceChoice::Auto, Cuda::Devices(devices)) if !devices.is_empty() => {
            Ok(Opened::Cuda(devices.into_iter().take(1).collect()))
        }
        (DeviceChoice::Auto, _) => {
            let hardware = wgpu_adapters().into_iter().find(|adapter| !adapter.software);
            hardware.map(|found| Opened::Wgpu(vec![found])).ok_or_else(|| missing("no GPU was found"))
        }
        (DeviceChoice::Cuda(index), Cuda::Devices(devices)) => {
            devices.into_iter().nth(index).map(|found| Opened::Cuda(vec![found])).ok_or_else(|| missing(numbered))
        }
        (DeviceChoice::Cuda(_), Cuda::NoDriver) => Err(missing(NO_DRIVER)),
        (DeviceChoice::Cuda(_), Cuda::NoCompiler) => Err(missing(NO_COMPILER)),
    }
}

const NO_DRIVER: &str = "the library of NVIDIA's driver was not found";
const NO_COMPILER: &str = "the library NVRTC, which compiles kernels, was not found";

/// Why a device may not compute `exact-f32/1`.
pub fn reasons<R: Runtime>(found: &Found<R::Device>) -> Vec<String> {
    found.probe::<R>().map_or_else(|error| vec![error.to_string()], |report| report.reasons())
}
