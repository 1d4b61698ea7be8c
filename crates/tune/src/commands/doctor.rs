//! `tune doctor`

use std::process::ExitCode;

use cubecl::Runtime;
use cubecl::cuda::{CudaDevice, CudaRuntime};
use cubecl::wgpu::WgpuRuntime;
use serde::Serialize;
use tune_kernels::cpu::Level;
use tune_kernels::cube::device::{Cuda, cuda, wgpu_adapters};
use tune_kernels::cube::probe::{Report, probe};
use tune_kernels::cube::{self, ReadError};

use crate::cli::DoctorOptions;
use crate::printer::Printer;

/// A device, and what it may do.
#[derive(Serialize)]
struct Device {
    device: String,
    name: String,
    driver: String,
    /// Numerics profiles that the device computes as they ask.
    profiles: Vec<&'static str>,
    /// Why `exact-f32/1` is not among them.
    reasons: Vec<String>,
}

impl Device {
    fn new(device: String, name: String, driver: String, report: Result<Report, ReadError>) -> Self {
        let reasons = report.map_or_else(|error| vec![error.to_string()], |report| report.reasons());
        let profiles = if reasons.is_empty() { vec!["exact-f32/1"] } else { Vec::new() };
        Self { device, name, driver, profiles, reasons }
    }
}

pub(crate) fn execute(options: &DoctorOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    cube::configure();
    let threads = format!("{} vectors, {} threads", Level::current().name(), rayon::current_num_threads());
    let mut devices = vec![Device {
        device: "cpu".to_owned(),
        name: threads,
        driver: String::new(),
        profiles: vec!["exact-f32/1"],
        reasons: Vec::new(),
    }];
    let found = cuda();
    if let Cuda::Devices(count) = found {
        for index in 0..count {
            let report = probe(&CudaRuntime::client(&CudaDevice::new(index)));
            devices.push(Device::new(format!("cuda:{index}"), "CUDA device".to_owned(), String::new(), report));
        }
    }
    for (index, adapter) in wgpu_adapters().into_iter().enumerate() {
        let report = probe(&WgpuRuntime::client(&adapter.device));
        devices.push(Device::new(format!("wgpu:{index}"), adapter.name, adapter.driver, report));
    }
    if options.json {
        printer.result(&serde_json::to_string_pretty(&devices)?);
        return Ok(ExitCode::SUCCESS);
    }
    for device in &devices {
        let driver = if device.driver.is_empty() { String::new() } else { format!(", {}", device.driver) };
        printer.result(&format!("{:<8}{}{driver}", device.device, device.name));
        for profile in &device.profiles {
            printer.result(&format!("        {profile}: yes"));
        }
        for reason in &device.reasons {
            printer.result(&format!("        exact-f32/1: no, {reason}"));
        }
    }
    match found {
        Cuda::NoDriver => printer.result("cuda    no driver found"),
        Cuda::NoCompiler => printer.result("cuda    a driver, but not the library NVRTC, which compiles kernels"),
        Cuda::Devices(_) => {}
    }
    printer.result("Training runs on the CPU; on GPUs the probe is all there is so far.");
    Ok(ExitCode::SUCCESS)
}
