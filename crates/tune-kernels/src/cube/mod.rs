//! The contract's operations as `CubeCL` kernels, one source for CUDA and wgpu.
//!
//! - [`device`]: which devices there are, and what their probes find
//! - [`probe`]: whether a device computes as the contract asks
//! - [`product`]: matrix products, one chain an output
//! - [`arithmetic`]: products under one of the profiles
//! - `linear`: linear layers with LoRA branches, forward and backward
//! - `rows`: row reductions in 32 lanes, and what is made of them
//! - `pointwise`: what takes each element by itself, and sums over tokens
//! - `attention`: causal attention within spans
//! - `head`: embedding, linear head and cross-entropy
//! - `stored`: weights that stay as they are stored
//! - `pinned`: products of rounded operands by matrix instructions, for `pinned-bf16/1`
//! - `peak`: what a device can do at most, for benchmarks
//! - `failure`: what becomes of a device that fails
//! - `elementary`: `exp`, `ln` and what is made of them
//! - `backend`: all of it as a [`KernelBackend`](crate::KernelBackend)
//!
//! Kernels contain no multiplication whose result feeds an addition except as an explicit `fma`, no atomics and no
//! fast-math option; a test reads the CUDA source that is generated from them. Each kernel has at most one block of
//! shared memory: `CubeCL` places several in the order of a hash map, and a kernel's source would not be the same twice.

#![expect(unsafe_code, reason = "kernels are launched without bounds checks of their own")]

pub mod arithmetic;
mod attention;
mod backend;
pub mod device;
mod elementary;
mod failure;
mod head;
mod linear;
mod peak;
mod pinned;
mod pointwise;
pub mod probe;
pub mod product;
mod rows;
mod stored;

#[cfg(test)]
mod tests;

pub use backend::{Cube, Cuda, PinnedCuda, PinnedWgpu, Wgpu};
pub use cubecl::Runtime;
pub use cubecl::cuda::CudaRuntime;
pub use cubecl::wgpu::WgpuRuntime;
pub use failure::{DeviceFailure, guarded};
pub use stored::CubeStored;

use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl::prelude::*;
use cubecl::server::Handle;

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

/// The values of a buffer.
fn read<R: Runtime, T: bytemuck::Pod>(client: &ComputeClient<R>, buffer: Handle) -> Result<Vec<T>, DeviceFailure> {
    read_all(client, vec![buffer])
}

/// The values of several buffers, one after another, in one wait for the device.
fn read_all<R: Runtime, T: bytemuck::Pod>(
    client: &ComputeClient<R>,
    buffers: Vec<Handle>,
) -> Result<Vec<T>, DeviceFailure> {
    let all = cubecl::future::block_on(client.read_async(buffers));
    let all = all.map_err(|error| DeviceFailure::new(error.to_string()))?;
    Ok(all.iter().flat_map(|bytes| bytemuck::pod_collect_to_vec::<u8, T>(bytes)).collect())
}

/// Units of a cube.
const UNITS: u32 = 256;

/// Bytes of an f32 and of a u32.
const WORD: usize = 4;

/// A new buffer with room for `values` f32.
fn room<R: Runtime>(client: &ComputeClient<R>, values: usize) -> Handle {
    client.empty(values * WORD)
}

/// A new buffer with these values.
fn upload<R: Runtime, T: bytemuck::Pod>(client: &ComputeClient<R>, values: &[T]) -> Handle {
    client.create_from_slice(bytemuck::cast_slice(values))
}

/// Words that a buffer holds.
fn words(buffer: &Handle) -> usize {
    usize::try_from(buffer.size_in_used()).expect("a buffer's size is a size") / WORD
}

/// A buffer as a kernel's argument.
fn argument<R: Runtime>(buffer: &Handle) -> ArrayArg<R> {
    // SAFETY: the length is the buffer's own.
    unsafe { ArrayArg::from_raw_parts(buffer.clone(), words(buffer)) }
}

/// Indices as the device takes them.
fn index(value: usize) -> u32 {
    u32::try_from(value).expect("tokens, rows and features of a micro-batch are counted in 32 bits")
}

/// Cubes enough for `items`, with `each` of them in a cube. A dimension of a launch is at most 65,535 on some devices.
fn cubes(items: usize, each: usize) -> CubeCount {
    let count = items.div_ceil(each);
    let rows = count.div_ceil(65_535).max(1);
    CubeCount::Static(index(count.div_ceil(rows)), index(rows), 1)
}
