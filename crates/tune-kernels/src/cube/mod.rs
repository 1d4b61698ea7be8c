//! The contract's operations as `CubeCL` kernels, one source for CUDA and wgpu. So far: [`probe`] and [`product`];
//! training on a GPU is not there yet.
//!
//! - [`device`]: which devices there are
//! - [`probe`]: whether a device computes as the contract asks
//! - [`product`]: matrix products, one chain an output
//!
//! Kernels contain no multiplication whose result feeds an addition except as an explicit `fma`, no atomics and no
//! fast-math option; a test reads the CUDA source that is generated from them.

pub mod device;
pub mod probe;
pub mod product;

#[cfg(test)]
mod tests;

use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Gives `CubeCL` its default configuration, so that no `cubecl.toml` and no variable of the environment has a say.
/// Before anything else of this module; later calls do nothing.
pub fn configure() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| CubeClRuntimeConfig::set(CubeClRuntimeConfig::default()));
}

/// A result could not be read back from a device.
#[derive(Debug, thiserror::Error)]
#[error("the device gave no result: {0}; `tune doctor` lists the devices that work")]
pub struct ReadError(String);

/// The values of a buffer.
fn read<R: cubecl::Runtime, T: bytemuck::Pod>(
    client: &cubecl::prelude::ComputeClient<R>,
    handle: cubecl::server::Handle,
) -> Result<Vec<T>, ReadError> {
    let bytes = client.read_one(handle).map_err(|error| ReadError(error.to_string()))?;
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}
