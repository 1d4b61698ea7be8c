//! `environment.json`: where and when a run was computed. Nothing here is part of the claim.

use std::collections::BTreeMap;

use tune_kernels::cpu::Level;
pub use tune_schema::environment::Environment;

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
        secrets: None,
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
