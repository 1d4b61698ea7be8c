//! How stored weights become f32: one exact formula for each stored type.
//!
//! Rule 6 of the numerics contract wants every frozen weight turned into f32 by a stated formula. These are ggml's
//! `dequantize_row_*` (`ggml-quants.c`), block by block; `q` is an unsigned field of a block, `d`, `m` and `dmin` are
//! its binary16 numbers, converted exactly, and every operation is one binary32 operation, round to nearest even.
//!
//! | type | values, bytes a block | value |
//! |---|---|---|
//! | `F32` | 1, 4 | the stored bits |
//! | `F16` | 1, 2 | the same number (every binary16 is a binary32) |
//! | `BF16` | 1, 2 | the stored bits, then sixteen zero bits |
//! | `Q8_0` | 32, 34 | `d * q`, `q` a signed byte |
//! | `Q4_0` | 32, 18 | `d * (q - 8)` |
//! | `Q4_1` | 32, 20 | `(d * q) + m` |
//! | `Q5_0` | 32, 22 | `d * (q - 16)` |
//! | `Q5_1` | 32, 24 | `(d * q) + m` |
//! | `Q4_K` | 256, 144 | `((d * sc) * q) - (dmin * mn)`, `sc` and `mn` the 6-bit fields of the value's group of 32 |
//! | `Q5_K` | 256, 176 | the same with five bits of `q` |
//! | `Q6_K` | 256, 210 | `(d * sc) * (q - 32)`, `sc` the signed byte of the value's group of 16 |
//!
//! The products are written apart from the sums, which makes each formula a product rounded and then a sum rounded.
//! In fact no product here rounds: `d` has 11 significant bits and the integers beside it have at most 12 together
//! (6 + 5 in `Q5_K`, 7 + 5 in `Q6_K`), so every product fits the 24 bits of binary32. There is one rounding, in the
//! sum, and a compiler that contracts `d * q + m` into a fused multiply-add, as C compilers may in ggml, gets the
//! same bits. binary32's exponents cover all the products, those of subnormal `d` too. Where `d` or `m` is infinite or
//! NaN the values are not finite; their bits are not promised, and a tensor that has such a value is refused.

use half::f16;

/// A stored type that can be turned into f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// ggml's 8-bit blocks.
    Q8_0,
    /// ggml's 4-bit blocks with a scale.
    Q4_0,
    /// ggml's 4-bit blocks with scale and minimum.
    Q4_1,
    /// ggml's 5-bit blocks with a scale.
    Q5_0,
    /// ggml's 5-bit blocks with scale and minimum.
    Q5_1,
    /// ggml's 4-bit super-blocks.
    Q4K,
    /// ggml's 5-bit super-blocks.
    Q5K,
    /// ggml's 6-bit super-blocks.
    Q6K,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The type's name, the same in safetensors and in ggml where both have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Values in a block.
    #[must_use]
    pub fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes in a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The stored bytes of `values` values, if they are whole blocks and the number fits.
    #[must_use]
    pub fn stored_bytes(self, values: u64) -> Option<u64> {
        let block = self.block_values() as u64;
        values.is_multiple_of(block).then(|| (values / block).checked_mul(self.block_bytes() as u64))?
    }

    /// Appends the values of the whole blocks in `bytes` to `values`.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    pub fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        assert!(bytes.len().is_multiple_of(self.block_bytes()), "whole blocks of {}", self.name());
        values.reserve(bytes.len() / self.block_bytes() * self.block_values());
        match self {
            Self::F32 => values.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            Self::F16 => values.extend(bytes.as_chunks().0.iter().map(|&b| half(b))),
            Self::Bf16 => values
                .extend(bytes.as_chunks().0.iter().map(|&b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16))),
            Self::Q8_0 => bytes.as_chunks().0.iter().for_each(|block| q8_0(block, values)),
            Self::Q4_0 => bytes.as_chunks().0.iter().for_each(|block| q4_0(block, values)),
            Self::Q4_1 => bytes.as_chunks().0.iter().for_each(|block| q4_1(block, values)),
            Self::Q5_0 => bytes.as_chunks().0.iter().for_each(|block| q5_0(block, values)),
            Self::Q5_1 => bytes.as_chunks().0.iter().for_each(|block| q5_1(block, values)),
            Self::Q4K => bytes.as_chunks().0.iter().for_each(|block| q4_k(block, values)),
            Self::Q5K => bytes.as_chunks().0.iter().for_each(|block| q5_k(block, values)),
            Self::Q6K => bytes.as_chunks().0.iter().for_each(|block| q6_k(block, values)),
        }
    }
}

/// A little-endian binary16. The `const` conversion never uses the processor's instruction, which for a signalling
/// NaN may give other bits.
fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32_const()
}

/// A field of at most eight bits as f32, exactly.
fn field(q: u8) -> f32 {
    f32::from(q)
}

fn q8_0(block: &[u8; 34], values: &mut Vec<f32>) {
    let d = half([block[0], block[1]]);
    values.extend(block[2..].iter().map(|&q| d * f32::from(q.cast_signed())));
}

/// The low nibbles of all 16 bytes are the first half of the block, the high nibbles the second.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    bytes.iter().map(|q| q & 0x0f).chain(bytes.iter().map(|q| q >> 4))
}

fn q4_0(block: &[u8; 18], values: &mut Vec<f32>) {
    let d = half([block[0], block[1]]);
    values.extend(nibbles(&block[2..]).map(|q| d * (field(q) - 8.0)));
}

fn q4_1(block: &[u8; 20], values: &mut Vec<f32>) {
    let d = half([block[0], block[1]]);
    let m = half([block[2], block[3]]);
    values.extend(nibbles(&block[4..]).map(|q| scaled_plus(d, q, m)));
}

/// `(d * q) + m` with the product in its own variable: two operations, never one fused.
fn scaled_plus(d: f32, q: u8, m: f32) -> f32 {
    let product = d * field(q);
    product + m
}

/// Nibbles with a fifth bit: bit `i` of `high` belongs to value `i` of the block.
fn fives(high: [u8; 4], bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let high = u32::from_le_bytes(high);
    nibbles(bytes).enumerate().map(move |(i, q)| q | if high >> i & 1 == 1 { 0x10 } else { 0 })
}

fn q5_0(block: &[u8; 22], values: &mut Vec<f32>) {
    let d = half([block[0], block[1]]);
    let high = [block[2], block[3], block[4], block[5]];
    values.extend(fives(high, &block[6..]).map(|q| d * (field(q) - 16.0)));
}

fn q5_1(block: &[u8; 24], values: &mut Vec<f32>) {
    let d = half([block[0], block[1]]);
    let m = half([block[2], block[3]]);
    let high = [block[4], block[5], block[6], block[7]];
    values.extend(fives(high, &block[8..]).map(|q| scaled_plus(d, q, m)));
}

/// The 6-bit scale and minimum of group `group` (0 to 7), packed into twelve bytes (`get_scale_min_k4`).
fn scale_and_minimum(group: usize, packed: &[u8]) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let scale = (packed[group + 4] & 0x0f) | (packed[group - 4] >> 6 << 4);
        let minimum = (packed[group + 4] >> 4) | (packed[group] >> 6 << 4);
        (scale, minimum)
    }
}

/// One group of 32 in a `Q4_K` or `Q5_K` block.
fn k_group(block: &[u8], group: usize, fields: impl Iterator<Item = u8>, values: &mut Vec<f32>) {
    let (scale, minimum) = scale_and_minimum(group, &block[4..16]);
    let d = half([block[0], block[1]]) * field(scale);
    let m = half([block[2], block[3]]) * field(minimum);
    values.extend(fields.map(|q| scaled_plus(d, q, -m)));
}

fn q4_k(block: &[u8; 144], values: &mut Vec<f32>) {
    for (pair, bytes) in block[16..].chunks_exact(32).enumerate() {
        k_group(block, 2 * pair, bytes.iter().map(|q| q & 0x0f), values);
        k_group(block, 2 * pair + 1, bytes.iter().map(|q| q >> 4), values);
    }
}

fn q5_k(block: &[u8; 176], values: &mut Vec<f32>) {
    let high = &block[16..48];
    let fifth = |group: usize, i: usize| (high[i] >> group & 1) << 4;
    for (pair, bytes) in block[48..].chunks_exact(32).enumerate() {
        let (low, top) = (2 * pair, 2 * pair + 1);
        k_group(block, low, bytes.iter().enumerate().map(|(i, q)| (q & 0x0f) | fifth(low, i)), values);
        k_group(block, top, bytes.iter().enumerate().map(|(i, q)| (q >> 4) | fifth(top, i)), values);
    }
}

fn q6_k(block: &[u8; 210], values: &mut Vec<f32>) {
    let d = half([block[208], block[209]]);
    for part in 0..2 {
        let low = &block[64 * part..][..64];
        let high = &block[128 + 32 * part..][..32];
        let scales = &block[192 + 8 * part..][..8];
        // Quarter 0 and 1: low nibbles of the first and second 32 bytes; 2 and 3: their high nibbles.
        for quarter in 0..4 {
            for i in 0..32 {
                let byte = low[32 * (quarter % 2) + i];
                let nibble = if quarter < 2 { byte & 0x0f } else { byte >> 4 };
                let q = nibble | ((high[i] >> (2 * quarter) & 3) << 4);
                let scale = d * f32::from(scales[2 * quarter + i / 16].cast_signed());
                values.push(scale * (field(q) - 32.0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::new();
        encoding.decode(bytes, &mut values);
        values
    }

    /// binary16 of 0.5, 0.1 (0x2e66 is 0.0999755859375) and -2.
    const HALF: [u8; 2] = [0x00, 0x38];
    const TENTH: [u8; 2] = [0x66, 0x2e];
    const MINUS_TWO: [u8; 2] = [0x00, 0xc0];

    #[test]
    fn plain_types() {
        assert_eq!(decode(Encoding::F32, &1.5e-40_f32.to_le_bytes()), [1.5e-40]);
        assert_eq!(
            decode(Encoding::F16, &[HALF, MINUS_TWO, TENTH, [0x01, 0x00]].concat()),
            [0.5, -2.0, 0.099_975_586, 5.960_464_5e-8]
        );
        assert_eq!(decode(Encoding::Bf16, &[0x80, 0x3f, 0x49, 0xc0]), [1.0, -3.140_625]);
        let infinite = decode(Encoding::F16, &[0x00, 0x7c, 0x00, 0xfc, 0x01, 0x7c]);
        assert_eq!(infinite[..2], [f32::INFINITY, f32::NEG_INFINITY]);
        assert!(infinite[2].is_nan());
    }

    #[test]
    fn q8_0_by_hand() {
        let mut block = HALF.to_vec();
        block.extend((0..32).map(|i: u8| i.wrapping_mul(8)));
        let expected: Vec<f32> = (0..32_u8).map(|i| 0.5 * f32::from(i.wrapping_mul(8).cast_signed())).collect();
        assert_eq!(decode(Encoding::Q8_0, &block), expected);
        assert_eq!(expected[16], -64.0);
    }

    #[test]
    fn q4_by_hand() {
        let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
        let values = decode(Encoding::Q4_0, &[&HALF[..], &nibbles].concat());
        assert_eq!((values[0], values[8], values[15]), (-4.0, 0.0, 3.5));
        assert_eq!((values[16], values[31]), (3.5, -4.0));

        let values = decode(Encoding::Q4_1, &[&TENTH[..], &MINUS_TWO[..], &nibbles].concat());
        // 0x2e66 is 1638 / 16384: 15 * 1638 / 16384 - 2 is exact.
        assert_eq!((values[0], values[15], values[16]), (-2.0, -8198.0 / 16384.0, -8198.0 / 16384.0));
        // A sum that has to round: d = 2047/2048 (0x3bff), m = 32768 (0x7800), q = 1; steps there are 1/256.
        let mut block = vec![0xff, 0x3b, 0x00, 0x78];
        block.extend([0x01; 16]);
        assert_eq!(decode(Encoding::Q4_1, &block)[0], 32769.0);
    }

    #[test]
    fn q5_by_hand() {
        // Value 0 and value 31 have their fifth bit set.
        let high = 0x8000_0001_u32.to_le_bytes();
        let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
        let values = decode(Encoding::Q5_0, &[&HALF[..], &high, &nibbles].concat());
        assert_eq!((values[0], values[1], values[16], values[31]), (0.0, -7.5, -0.5, 0.0));
        let values = decode(Encoding::Q5_1, &[&HALF[..], &MINUS_TWO, &high, &nibbles].concat());
        assert_eq!((values[0], values[1], values[16], values[31]), (6.0, -1.5, 5.5, 6.0));
    }

    #[test]
    fn k_blocks_by_hand() {
        // Every scale byte 0x41: groups 0 to 3 have scale 1 and minimum 1, groups 4 to 7 scale and minimum
        // 1 | 1 << 4 = 17 and 4 | 1 << 4 = 20.
        let mut block = [&HALF[..], &MINUS_TWO, &[0x41; 12]].concat();
        block.extend([0x53; 128]);
        let values = decode(Encoding::Q4K, &block);
        assert_eq!((values[0], values[32]), (0.5 * 3.0 + 2.0, 0.5 * 5.0 + 2.0));
        assert_eq!((values[128], values[255]), (8.5 * 3.0 + 40.0, 8.5 * 5.0 + 40.0));

        let mut block = [&HALF[..], &MINUS_TWO, &[0x41; 12]].concat();
        block.extend([0x02; 32]); // the fifth bit of group 1 only
        block.extend([0x53; 128]);
        let values = decode(Encoding::Q5K, &block);
        assert_eq!((values[0], values[32]), (0.5 * 3.0 + 2.0, 0.5 * 21.0 + 2.0));

        let mut block = vec![0x53; 128];
        block.extend([0b11_10_01_00; 64]);
        block.extend((0..16).map(|scale: i8| (scale - 8).cast_unsigned()));
        block.extend(HALF);
        let values = decode(Encoding::Q6K, &block);
        assert_eq!((values[0], values[16]), (-4.0 * (3.0 - 32.0), -3.5 * (3.0 - 32.0)));
        assert_eq!((values[32], values[64], values[96]), (-3.0 * (19.0 - 32.0), -2.0 * (37.0 - 32.0), -(53.0 - 32.0)));
        assert_eq!(values[128], 0.0 * (3.0 - 32.0));
    }

    /// Four blocks of bytes without structure, with finite `d` and `m`.
    fn sample(encoding: Encoding) -> Vec<u8> {
        let size = encoding.block_bytes();
        let mut bytes: Vec<u8> =
            (0..4 * size as u32).map(|i| (i * i * 31 + i * 17 + 7) as u8 ^ (i >> 3) as u8).collect();
        for block in bytes.chunks_exact_mut(size) {
            let at: &[usize] = match encoding {
                Encoding::Q6K => &[208],
                Encoding::Q4_1 | Encoding::Q5_1 | Encoding::Q4K | Encoding::Q5K => &[0, 2],
                _ => &[0],
            };
            for &at in at {
                block[at + 1] &= 0xbf;
            }
        }
        bytes
    }

    /// The expected digests are those of `gguf.quants.dequantize` (PyPI gguf 0.19.0) over the same bytes.
    #[test]
    fn golden_blocks() {
        let found: Vec<String> = Encoding::ALL[3..]
            .iter()
            .map(|&encoding| {
                let values = decode(encoding, &sample(encoding));
                assert_eq!(values.len(), 4 * encoding.block_values());
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                format!("{} {}", encoding.name(), &tune_schema::Digest::of(&bytes).hex()[..16])
            })
            .collect();
        assert_eq!(found, GOLDEN);
    }

    const GOLDEN: [&str; 8] = [
        "Q8_0 6ecb218cc8e2f6bb",
        "Q4_0 cbed27ee87e8a47f",
        "Q4_1 ff71cdd0cdbaa2de",
        "Q5_0 899d1af0eb59b069",
        "Q5_1 25efa048d6cddd38",
        "Q4_K 1db1559f114cbfec",
        "Q5_K 07d2ab1633e8afb6",
        "Q6_K 5fbf873df2a2eca8",
    ];

    #[test]
    fn sizes() {
        for encoding in Encoding::ALL {
            let block = encoding.block_values() as u64;
            assert_eq!(encoding.stored_bytes(3 * block), Some(3 * encoding.block_bytes() as u64));
            assert_eq!(encoding.stored_bytes(0), Some(0));
            if block > 1 {
                assert_eq!(encoding.stored_bytes(block + 1), None);
            } else {
                assert_eq!(encoding.stored_bytes(u64::MAX), None);
            }
        }
    }
}
