//! Random numbers without state: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! A number is a function of (seed, named stream, coordinates). Nothing needs saving, and a new consumer shifts no
//! other. The streams in use and their coordinates are listed in `docs/numerics.md`.

pub use tune_schema::philox::philox4x32_10;

/// The key of a named stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamKey(pub [u32; 2]);

impl StreamKey {
    /// Standard normal number `index` of this stream: the polar form needs rejection, so this is Box-Muller on two
    /// 32-bit draws, in f64 with the pure-Rust `libm`, rounded once. `index / 2` selects the block, its parity cosine or sine.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "counter words; and the one rounding to f32")]
    pub fn normal(self, index: u64) -> f32 {
        let pair = index / 2;
        let [a, b, c, d] = philox4x32_10([pair as u32, (pair >> 32) as u32, 0, 0], self.0);
        let radius = libm::sqrt(-2.0 * libm::log(unit_open(a, b)));
        let angle = 2.0 * std::f64::consts::PI * unit_open(c, d);
        (radius * if index.is_multiple_of(2) { libm::cos(angle) } else { libm::sin(angle) }) as f32
    }

    /// Uniform number `index` of this stream in (0, 1), as f64.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "counter words")]
    pub fn uniform(self, index: u64) -> f64 {
        let [a, b, _, _] = philox4x32_10([index as u32, (index >> 32) as u32, 0, 0], self.0);
        unit_open(a, b)
    }
}

/// (0, 1) from 52 bits, never 0 or 1.
#[expect(clippy::cast_precision_loss, reason = "52 bits fit a double")]
fn unit_open(high: u32, low: u32) -> f64 {
    let bits = (u64::from(high) << 20) | u64::from(low >> 12);
    (bits as f64 + 0.5) / 4_503_599_627_370_496.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_unit_variance() {
        let key = StreamKey([1, 2]);
        let n = 40_000_u64;
        let values: Vec<f64> = (0..n).map(|i| f64::from(key.normal(i))).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
