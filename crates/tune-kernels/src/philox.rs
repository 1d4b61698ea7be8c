//! Random numbers without state: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! A number is a function of (seed, named stream, coordinates). Nothing needs saving, and a new consumer shifts no
//! other. The streams in use and their coordinates are listed in `docs/numerics.md`.

/// Ten rounds of Philox 4x32.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a 64-bit product")]
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key[0] = key[0].wrapping_add(0x9E37_79B9);
        key[1] = key[1].wrapping_add(0xBB67_AE85);
    }
    counter
}

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
        (radius * if index % 2 == 0 { libm::cos(angle) } else { libm::sin(angle) }) as f32
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

    /// The known-answer vectors of the Random123 library.
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

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
