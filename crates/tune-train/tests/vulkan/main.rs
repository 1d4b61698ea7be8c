//! Training on a Vulkan adapter, software before hardware. One program for all of it: each instance of the trainer takes
//! long to compile, and the tests take the adapter in turn.
//!
//! Without an adapter nothing is compared, which `TUNE_TEST_GPU=1` turns into a failure.

mod device_loss;
mod devices;
mod pinned;
#[path = "../support/mod.rs"]
mod support;
