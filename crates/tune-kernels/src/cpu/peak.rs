//! What the processor can do at most, as a yardstick for benchmarks: multiply-adds on registers alone.

use rayon::prelude::*;

use super::{Level, dispatch};
use crate::lanes::Lanes;

/// Chains that run side by side: enough to hide an instruction's latency, few enough to stay in registers.
const CHAINS: usize = 12;

/// Runs `rounds` rounds of independent multiply-adds on every thread and gives the floating-point operations done.
/// Divided by the time it took, that is the peak of this machine at this level.
#[must_use]
pub fn multiply_adds(level: Level, rounds: u64) -> f64 {
    let threads = rayon::current_num_threads();
    let sums: Vec<f32> = (0..threads).into_par_iter().map(|_| dispatch!(level, L => chains::<L>(rounds))).collect();
    std::hint::black_box(sums);
    let width = dispatch!(level, L => L::WIDTH);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let operations = 2.0 * (rounds as f64) * (CHAINS * width * threads) as f64;
    operations
}

#[inline(always)]
fn chains<L: Lanes>(rounds: u64) -> f32 {
    let (a, b) = (L::splat(std::hint::black_box(0.999)), L::splat(std::hint::black_box(1e-3)));
    let mut acc = [L::splat(std::hint::black_box(1.0)); CHAINS];
    for _ in 0..rounds {
        for acc in &mut acc {
            *acc = acc.fma(a, b);
        }
    }
    let sum = acc.into_iter().fold(L::splat(0.0), L::add);
    let mut out = [0.0_f32; 16];
    super::pointwise::store(sum, &mut out[..L::WIDTH]);
    out[0]
}
