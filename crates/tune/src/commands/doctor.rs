//! `tune doctor`

use std::process::ExitCode;

use serde::Serialize;
use tune_kernels::cpu::Level;
use tune_kernels::cube::device::{Cuda, Probed, cuda, probe_all};

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

/// The profile that the probe is about.
const PROFILE: &str = "exact-f32/1";

impl Device {
    fn new(device: String, name: String, driver: String, reasons: Vec<String>) -> Self {
        let profiles = if reasons.is_empty() { vec![PROFILE] } else { Vec::new() };
        Self { device, name, driver, profiles, reasons }
    }
}

impl From<Probed> for Device {
    fn from(probed: Probed) -> Self {
        let reasons = probed.report.map_or_else(|error| vec![error.to_string()], |report| report.reasons());
        Self::new(probed.device, probed.name, probed.driver, reasons)
    }
}

pub(crate) fn execute(options: &DoctorOptions, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let threads = format!("{} vectors, {} threads", Level::current().name(), rayon::current_num_threads());
    let found = cuda();
    let mut devices = vec![Device::new("cpu".to_owned(), threads, String::new(), Vec::new())];
    devices.extend(probe_all(found).into_iter().map(Device::from));
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
            printer.result(&format!("        {PROFILE}: no, {reason}"));
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
