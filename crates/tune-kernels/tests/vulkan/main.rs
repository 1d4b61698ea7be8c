//! Kernels on a Vulkan adapter, software before hardware. One program for all of it, for it takes long to compile.
//!
//! Without an adapter nothing is compared, which `TUNE_TEST_GPU=1` turns into a failure.

#[path = "../support/adapter.rs"]
mod adapter;
mod operations;
mod pinned;
