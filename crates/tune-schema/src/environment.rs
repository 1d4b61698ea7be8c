//! `environment.json`: where and when a run was computed. Nothing here is part of the claim.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The machine and the timings of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the tool.
    pub tune_version: String,
    /// SHA-256 of the running binary.
    pub binary: Option<Digest>,
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
    /// Where the secrets of unshareable sources were found, relative to the run folder; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<String>,
}
