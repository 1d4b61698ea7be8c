//! The contract's operations as `CubeCL` kernels, one source for CUDA and wgpu. So far: [`probe`] and [`product`];
//! training on a GPU is not there yet.
//!
//! - [`device`]: which devices there are, and what their probes find
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

use cubecl::Runtime;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::prelude::ComputeClient;

/// The client of a device. The first one gives `CubeCL` its default configuration, so that no `cubecl.toml` has a say, nor
/// a variable that stands for one.
///
/// # Panics
/// If the device does not work, or if `CubeCL` was configured by something else.
pub fn client<R: Runtime>(device: &R::Device) -> ComputeClient<R> {
    static CONFIGURED: std::sync::Once = std::sync::Once::new();
    CONFIGURED.call_once(|| CubeClRuntimeConfig::set(CubeClRuntimeConfig::default()));
    R::client(device)
}

/// A result could not be read back from a device.
#[derive(Debug, thiserror::Error)]
#[error("the device gave no result: {0}; `tune doctor` lists the devices that work")]
pub struct ReadError(String);

/// The values of a buffer.
fn read<R: Runtime, T: bytemuck::Pod>(
    client: &ComputeClient<R>,
    handle: cubecl::server::Handle,
) -> Result<Vec<T>, ReadError> {
    let bytes = client.read_one(handle).map_err(|error| ReadError(error.to_string()))?;
    Ok(bytemuck::pod_collect_to_vec(&bytes))
}
