//! `tune doctor`

use std::process::ExitCode;

use serde::Serialize;
use tune_kernels::cpu::Level;
use tune_kernels::cube::device::{Cuda, Found, cuda, reasons, wgpu_adapters};
use tune_kernels::cube::{CudaRuntime, Runtime, WgpuRuntime};

use crate::cli::DoctorOptions;
use crate::printer::Printer;

/// A device, and what it may do.
#[derive(Serialize)]
struct Device {
    /// As a recipe names it.
    device: String,
    name: String,
    driver: String,
    /// Bytes, where the driver says.
    memory: Option<u64>,
    /// Numerics profiles that the device computes as they ask.
    profiles: Vec<&'static str>,
    /// Why `exact-f32/1` is not among them.
    reasons: Vec<String>,
}

/// The profile that the probe is about.
const PROFILE: &str = "exact-f32/1";

impl Device {
    fn cpu() -> Self {
        let name = format!("{} vectors, {} threads", Level::current().name(), rayon::current_num_threads());
        let (driver, profiles) = (String::new(), vec![PROFILE]);
        Self { device: "cpu".to_owned(), name, driver, memory: None, profiles, reasons: Vec::new() }
    }

    /// Probes a device.
    fn probed<R: Runtime>(found: &Found<R::Device>) -> Self {
        let reasons = reasons::<R>(found);
        Self {
            device: found.choice.to_string(),
            name: found.name.clone(),
            driver: found.driver.clone(),
            memory: found.memory,
            profiles: if reasons.is_empty() { vec![PROFILE] } else { Vec::new() },
            reasons,
        }
    }
}

pub(crate) fn execute(options: &DoctorOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let found = cuda();
    let mut devices = vec![Device::cpu()];
    if let Cuda::Devices(found) = &found {
        devices.extend(found.iter().map(Device::probed::<CudaRuntime>));
    }
    devices.extend(wgpu_adapters().iter().map(Device::probed::<WgpuRuntime>));
    if options.json {
        printer.result(&serde_json::to_string_pretty(&devices)?);
        return Ok(ExitCode::SUCCESS);
    }
    for device in &devices {
        let memory = device.memory.map(gigabytes).unwrap_or_default();
        let facts = [&device.name, &device.driver, &memory];
        let facts: Vec<&str> = facts.into_iter().map(String::as_str).filter(|fact| !fact.is_empty()).collect();
        printer.result(&format!("{:<8}{}", device.device, facts.join(", ")));
        for profile in &device.profiles {
            printer.result(&format!("        {profile}: yes"));
        }
        for reason in &device.reasons {
            printer.result(&format!("        {PROFILE}: no, {reason}"));
        }
    }
    match found {
        Cuda::NoDriver => printer.result("cuda    no driver found"),
        Cuda::NoCompiler => printer.result("cuda    a driver, but not the library NVRTC, which compiles kernels"),
        Cuda::Devices(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
