//! `tune doctor`

use std::process::ExitCode;

use serde::Serialize;
use tune_kernels::cpu::Level;
use tune_kernels::cube::device::{Cuda, Found, cuda, wgpu_adapters};
use tune_kernels::cube::{CudaRuntime, Runtime, WgpuRuntime};
use tune_schema::recipe::Numerics;

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
    /// Why `pinned-bf16/1` is not.
    pinned_reasons: Vec<String>,
}

/// The profiles, in the order of their reasons.
const PROFILES: [Numerics; 2] = [Numerics::ExactF32V1, Numerics::PinnedBf16V1];

impl Device {
    fn cpu() -> Self {
        let name = format!("{} vectors, {} threads", Level::current().name(), rayon::current_num_threads());
        Self {
            device: "cpu".to_owned(),
            name,
            driver: String::new(),
            memory: None,
            profiles: vec![Numerics::ExactF32V1.name()],
            reasons: Vec::new(),
            pinned_reasons: vec!["it needs a GPU's matrix instructions".to_owned()],
        }
    }

    /// Probes a device.
    fn probed<R: Runtime>(found: &Found<R::Device>) -> Self {
        let [reasons, pinned_reasons] = PROFILES.map(|numerics| found.reasons::<R>(numerics));
        let allowed = PROFILES.into_iter().zip([&reasons, &pinned_reasons]).filter(|(_, reasons)| reasons.is_empty());
        Self {
            device: found.choice.to_string(),
            name: found.name.clone(),
            driver: found.driver.clone(),
            memory: found.memory,
            profiles: allowed.map(|(numerics, _)| numerics.name()).collect(),
            reasons,
            pinned_reasons,
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
        for (numerics, reasons) in PROFILES.into_iter().zip([&device.reasons, &device.pinned_reasons]) {
            for reason in reasons {
                printer.result(&format!("        {}: no, {reason}", numerics.name()));
            }
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
