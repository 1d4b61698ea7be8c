//! Which devices a machine has, and what their probes find.

use cubecl::cuda::{CudaDevice, CudaRuntime};
use cubecl::wgpu::{WgpuDevice, WgpuRuntime};

use super::probe::{Report, probe};
use super::{ReadError, client};

/// A device, and what its probe found.
#[derive(Debug)]
pub struct Probed {
    /// As a recipe names it: `cuda:0`, `wgpu:1`.
    pub device: String,
    /// Name, as the driver gives it.
    pub name: String,
    /// Driver and its version; empty where it does not say.
    pub driver: String,
    /// The probe's report.
    pub report: Result<Report, ReadError>,
}

/// Probes every device of this machine: those of CUDA, then those of wgpu.
///
/// # Panics
/// If a driver lists a device that does not work.
#[must_use]
pub fn probe_all(cuda: Cuda) -> Vec<Probed> {
    let count = if let Cuda::Devices(count) = cuda { count } else { 0 };
    let of_cuda = (0..count).map(|index| Probed {
        device: format!("cuda:{index}"),
        name: "CUDA device".to_owned(),
        driver: String::new(),
        report: probe(&client::<CudaRuntime>(&CudaDevice::new(index))),
    });
    let of_wgpu = wgpu_adapters().into_iter().enumerate().map(|(index, adapter)| Probed {
        device: format!("wgpu:{index}"),
        report: probe(&client::<WgpuRuntime>(&adapter.device)),
        name: adapter.name,
        driver: adapter.driver,
    });
    of_cuda.chain(of_wgpu).collect()
}

/// An adapter that wgpu drives through Vulkan.
#[derive(Debug, Clone)]
pub struct WgpuAdapter {
    /// Handle for [`cubecl::wgpu::WgpuRuntime`].
    pub device: WgpuDevice,
    /// Name, as the driver gives it.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Whether it is software on the CPU, as Mesa's lavapipe is.
    pub software: bool,
}

/// Every Vulkan adapter, in the driver's order. Empty where there is no Vulkan loader or driver.
#[must_use]
pub fn wgpu_adapters() -> Vec<WgpuAdapter> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = cubecl::future::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    // `WgpuDevice` counts the adapters of each kind.
    let (mut discrete, mut integrated, mut virtual_) = (0, 0, 0);
    let place = |counter: &mut usize| std::mem::replace(counter, *counter + 1);
    let infos = adapters.iter().map(wgpu::Adapter::get_info);
    infos
        .map(|info| WgpuAdapter {
            device: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => WgpuDevice::DiscreteGpu(place(&mut discrete)),
                wgpu::DeviceType::IntegratedGpu => WgpuDevice::IntegratedGpu(place(&mut integrated)),
                wgpu::DeviceType::VirtualGpu => WgpuDevice::VirtualGpu(place(&mut virtual_)),
                wgpu::DeviceType::Cpu => WgpuDevice::Cpu,
                wgpu::DeviceType::Other => WgpuDevice::DefaultDevice,
            },
            software: info.device_type == wgpu::DeviceType::Cpu,
            name: info.name,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        })
        .collect()
}

/// How far CUDA is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cuda {
    /// There is no driver library.
    NoDriver,
    /// There is a driver, but not NVRTC, which compiles kernels.
    NoCompiler,
    /// Driver and compiler are there, with this many devices.
    Devices(usize),
}

/// Looks for the CUDA libraries, which are loaded at run time.
#[must_use]
#[expect(unsafe_code, reason = "loading a library")]
pub fn cuda() -> Cuda {
    // SAFETY: both only try to load the library that the platform's loader finds under the driver's names.
    let (driver, compiler) =
        unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
    match (driver, compiler) {
        (false, _) => Cuda::NoDriver,
        (true, false) => Cuda::NoCompiler,
        (true, true) => {
            let count = cudarc::driver::result::init().and_then(|()| cudarc::driver::result::device::get_count());
            Cuda::Devices(count.ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
        }
    }
}
