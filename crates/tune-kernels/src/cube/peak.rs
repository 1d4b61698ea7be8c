//! What a device can do at most: multiply-adds on registers alone.

use cubecl::prelude::*;

use super::{DeviceFailure, UNITS, argument, read, room};

/// Cubes of a launch: several for each multiprocessor of a large GPU.
const CUBES: u32 = 2048;
/// Chains of a unit, side by side: enough to hide an instruction's latency.
const CHAINS: usize = 16;

#[cube(launch_unchecked)]
pub(super) fn peak_kernel(out: &mut Array<f32>, rounds: u32, a: f32, b: f32) {
    let mut sums = Array::<f32>::new(CHAINS);
    #[unroll]
    for i in 0..CHAINS {
        sums[i] = a;
    }
    for _ in 0..rounds {
        #[unroll]
        for i in 0..CHAINS {
            sums[i] = fma(sums[i], a, b);
        }
    }
    let mut sum = 0.0f32.runtime();
    #[unroll]
    for i in 0..CHAINS {
        sum += sums[i];
    }
    out[ABSOLUTE_POS] = sum;
}

/// See [`KernelBackend::multiply_adds`](crate::KernelBackend::multiply_adds).
pub(super) fn multiply_adds<R: Runtime>(client: &ComputeClient<R>, rounds: u64) -> Result<f64, DeviceFailure> {
    let units = (CUBES * UNITS) as usize;
    let out = room(client, units);
    // SAFETY: the buffer has a value for each unit, and the loop ends.
    unsafe {
        peak_kernel::launch_unchecked::<R>(
            client,
            CubeCount::Static(CUBES, 1, 1),
            CubeDim::new_1d(UNITS),
            argument(&out),
            u32::try_from(rounds).unwrap_or(u32::MAX),
            0.999,
            1e-3,
        );
    }
    read::<R, f32>(client, out)?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let operations = 2.0 * rounds as f64 * (units * CHAINS) as f64;
    Ok(operations)
}
