//! The training loop: from a resolved recipe to a run folder that others can check.
//!
//! - [`job`]: a recipe with its sources opened and its data prepared; what identifies the computation
//! - [`trainer`]: one optimizer step after another
//! - [`optimizer`], [`schedule`]: gradient tree, norm, AdamW; learning rates
//! - [`evaluate`]: held-out scores before and after
//! - [`checkpoint`], [`chain_file`], [`layout`]: what lies in a run folder
//! - [`mod@run`]: all of it in order, crash-safe, ending in a manifest
//! - [`mod@export`]: the result in the files of other tools, with measured fidelity
//! - [`mod@bench`]: how fast the steps of a recipe are, and why
//! - [`tolerance`]: how far a run under one profile may be from the same under another
//! - [`memory`]: whether a job fits its device
//! - [`environment`]: machine and timings, outside the claim
//! - [`observer`]: how a run tells what it is doing

pub mod bench;
pub mod chain_file;
pub mod checkpoint;
pub mod environment;
mod error;
pub mod evaluate;
pub mod export;
pub mod job;
pub mod layout;
pub mod memory;
pub mod observer;
pub mod optimizer;
pub mod run;
pub mod schedule;
pub mod tolerance;
pub mod trainer;

pub use environment::DeviceFacts;
pub use error::TrainError;
pub use job::{Job, JobOptions};
pub use layout::RunFolder;
pub use observer::{Observer, Silent};
pub use run::{RunOutcome, run};
pub use trainer::Trainer;
