//! `environment.json`: where and when a run was computed. Nothing here is part of the claim.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tune_kernels::cpu::Level;

/// The device that computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// `cpu`, or the name of a device as a recipe has it.
    pub backend: String,
    /// The device's own name.
    pub name: String,
    /// Its driver and the driver's version; empty where there is none.
    pub driver: String,
    /// Bytes of memory that a job may take, where the driver or the system says.
    pub memory: Option<u64>,
}

impl Default for DeviceFacts {
    /// The CPU.
    fn default() -> Self {
        let name = processor_name().unwrap_or_else(|| "cpu".to_owned());
        Self { backend: "cpu".to_owned(), name, driver: String::new(), memory: available_memory() }
    }
}

impl DeviceFacts {
    /// Whether this is not the CPU.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        self.backend != "cpu"
    }
}

/// Bytes of memory that could be had without swapping, on Linux.
fn available_memory() -> Option<u64> {
    let info = tune_fs::read_to_string("/proc/meminfo".as_ref()).ok()?;
    kibibytes(&info, "MemAvailable:")
}

/// The number of a line `name   n kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The machine and the timings of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the tool.
    pub tune_version: String,
    /// SHA-256 of the running binary.
    pub binary: Option<tune_schema::Digest>,
    /// `cpu`, `cuda:0`, `wgpu:0`…
    pub backend: String,
    /// Name of the device.
    pub device: String,
    /// Driver of the device; empty for the CPU.
    #[serde(default)]
    pub driver: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Instructions the kernels used.
    pub cpu_level: String,
    /// Levels this processor has.
    pub cpu_features: Vec<String>,
    /// Threads of the kernels.
    pub threads: usize,
    /// Rows computed at a time.
    pub micro_batch_size: u32,
    /// Largest resident memory of the process, where the system tells.
    pub peak_rss_bytes: Option<u64>,
    /// Seconds spent in steps, over all parts of an interrupted run.
    pub train_seconds: f64,
    /// Median over the steps.
    pub tokens_per_second: f64,
    /// Seconds from start to manifest, of the last part of an interrupted run.
    pub total_seconds: f64,
    /// When the manifest was written, seconds since 1970.
    pub finished_unix_seconds: u64,
    /// Where each source was found, relative to the run folder: helps a later verification on the same machine.
    pub locations: BTreeMap<String, String>,
}

/// Facts about this process and machine.
#[must_use]
pub fn machine(device: &DeviceFacts) -> Environment {
    let available = Level::ALL.into_iter().filter(|level| level.available());
    Environment {
        tune_version: env!("CARGO_PKG_VERSION").to_owned(),
        binary: std::env::current_exe()
            .ok()
            .and_then(|path| tune_fs::digest_file(&path).ok())
            .map(|(digest, _)| digest),
        backend: device.backend.clone(),
        device: device.name.clone(),
        driver: device.driver.clone(),
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        cpu_level: Level::current().name().to_owned(),
        cpu_features: available.map(|level| level.name().to_owned()).collect(),
        threads: rayon::current_num_threads(),
        micro_batch_size: 0,
        peak_rss_bytes: None,
        train_seconds: 0.0,
        tokens_per_second: 0.0,
        total_seconds: 0.0,
        finished_unix_seconds: 0,
        locations: BTreeMap::new(),
    }
}

/// Model name of the processor, on Linux.
fn processor_name() -> Option<String> {
    let info = tune_fs::read_to_string("/proc/cpuinfo".as_ref()).ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

/// Largest resident memory of this process so far, in bytes, on Linux.
#[must_use]
pub fn peak_rss_bytes() -> Option<u64> {
    let status = tune_fs::read_to_string("/proc/self/status".as_ref()).ok()?;
    kibibytes(&status, "VmHWM:")
}

/// A clock for timings.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock for timings; its readings go to the environment only")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Seconds since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one calendar clock; its reading goes to the environment only")]
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
