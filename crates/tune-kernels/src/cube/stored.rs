//! Frozen weights on the device: as they are stored, becoming f32 where they are used, or rounded once under
//! `pinned-bf16/1`.

use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;
use cubecl::server::Handle;
use tune_schema::recipe::Numerics;

use super::arithmetic::Operand;
use super::pinned::Rounded;
use super::{UNITS, argument, cubes, room, upload};
use crate::encoding::Encoding;
use crate::stored::StoredMatrix;

/// A [`StoredMatrix`] on a device.
pub struct CubeStored<R: CubeRuntime> {
    pub(super) client: ComputeClient<R>,
    pub(super) device: R::Device,
    content: Content,
    shape: [usize; 2],
}

/// What is kept of a matrix.
#[derive(Debug, Clone)]
enum Content {
    /// Its bytes.
    Stored(Handle, Encoding),
    /// Its values, rounded to bf16.
    Rounded(Rounded),
}

impl<R: CubeRuntime> Clone for CubeStored<R> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            device: self.device.clone(),
            content: self.content.clone(),
            shape: self.shape,
        }
    }
}

impl<R: CubeRuntime> std::fmt::Debug for CubeStored<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CubeStored").field("content", &self.content).field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl<R: CubeRuntime> CubeStored<R> {
    /// Brings a matrix to the device.
    #[must_use]
    pub fn new(matrix: &StoredMatrix, device: &R::Device, numerics: Numerics) -> Self {
        let client = super::client::<R>(device);
        // Kernels read whole words.
        let mut bytes = matrix.bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(super::WORD), 0);
        let (bytes, encoding, shape) = (client.create_from_slice(&bytes), matrix.encoding(), matrix.shape());
        let content = match numerics {
            Numerics::ExactF32V1 => Content::Stored(bytes, encoding),
            Numerics::PinnedBf16V1 => {
                let values = decode(&client, &bytes, encoding, shape, None);
                Content::Rounded(Rounded::of(&client, &values, shape))
            }
        };
        Self { client, device: device.clone(), content, shape }
    }

    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The matrix as an operand.
    pub(super) fn operand(&self) -> Operand {
        match &self.content {
            Content::Stored(bytes, encoding) => {
                Operand::Exact(decode(&self.client, bytes, *encoding, self.shape, None))
            }
            Content::Rounded(rounded) => Operand::Pinned(rounded.clone()),
        }
    }

    /// The values of the rows `ids`.
    ///
    /// # Panics
    /// If an id lies beyond the matrix.
    pub(super) fn gather(&self, ids: &[u32]) -> Handle {
        assert!(ids.iter().all(|id| (*id as usize) < self.shape[0]), "gather: ids within the matrix");
        match &self.content {
            Content::Stored(bytes, encoding) => decode(&self.client, bytes, *encoding, self.shape, Some(ids)),
            Content::Rounded(rounded) => rounded.gather(&self.client, ids),
        }
    }
}

/// The values of a stored matrix, row-major, or of its rows `ids`, which lie within it.
fn decode<R: Runtime>(
    client: &ComputeClient<R>,
    bytes: &Handle,
    encoding: Encoding,
    [rows, columns]: [usize; 2],
    ids: Option<&[u32]>,
) -> Handle {
    let n = ids.map_or(rows, <[u32]>::len) * columns;
    let values = room(client, n);
    let chosen = ids.map_or_else(|| bytes.clone(), |ids| upload(client, ids));
    // SAFETY: the rows lie within the matrix, of which every whole block is there; each value belongs to one unit.
    unsafe {
        decode_kernel::launch_unchecked::<R>(
            client,
            cubes(n, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(bytes),
            argument(&chosen),
            argument(&values),
            columns,
            n,
            encoding,
            ids.is_some(),
        );
    }
    values
}

/// The byte at `at`.
#[cube]
fn byte(words: &Array<u32>, at: usize) -> u32 {
    (words[at / 4] >> ((at % 4) as u32 * 8u32)) & 0xffu32
}

/// The bits of the 16 at `at`, which is even.
#[cube]
fn sixteen(words: &Array<u32>, at: usize) -> u32 {
    (words[at / 4] >> ((at % 4) as u32 * 8u32)) & 0xffffu32
}

/// A signed byte as f32.
#[cube]
fn signed(byte: u32) -> f32 {
    f32::cast_from(i32::cast_from(byte ^ 0x80u32) - 128)
}

/// The binary16 at `at` as f32, exactly.
#[cube]
fn half(words: &Array<u32>, at: usize) -> f32 {
    let bits = sixteen(words, at);
    let (sign, exponent, mantissa) = ((bits & 0x8000u32) << 16u32, (bits >> 10u32) & 0x1fu32, bits & 0x3ffu32);
    // A subnormal is its mantissa times 2^-24.
    let subnormal = u32::reinterpret(f32::cast_from(mantissa) * comptime!(1.0 / 16_777_216.0_f32));
    let normal = ((exponent + 112u32) << 23u32) | (mantissa << 13u32);
    let quiet = select(mantissa == 0u32, 0u32, 0x0040_0000u32);
    let beyond = 0x7f80_0000u32 | quiet | (mantissa << 13u32);
    f32::reinterpret(sign | select(exponent == 0u32, subnormal, select(exponent == 31u32, beyond, normal)))
}

/// Nibble `i` of 16 bytes: the low ones of all, then the high ones.
#[cube]
fn nibble(words: &Array<u32>, first: usize, i: usize) -> u32 {
    (byte(words, first + i % 16) >> (i as u32 / 16u32 * 4u32)) & 15u32
}

/// Bit `i` of the 32 from `first` on, which is even, as 16.
#[cube]
fn fifth(words: &Array<u32>, first: usize, i: usize) -> u32 {
    ((byte(words, first + i / 8) >> (i as u32 % 8u32)) & 1u32) << 4u32
}

/// The 6-bit scale, or with `minimum` the minimum, of a group of 32 in a block of `Q4_K` or `Q5_K`.
#[cube]
fn k_field(words: &Array<u32>, packed: usize, group: usize, #[comptime] minimum: bool) -> f32 {
    let own = if comptime!(minimum) { group + 4 } else { group };
    // Groups from 4 on keep four bits in the last four bytes and two above an earlier group's six.
    let shared = byte(words, packed + group + 4);
    let low = if comptime!(minimum) { shared >> 4u32 } else { shared & 15u32 };
    let high = byte(words, packed + select(group < 4, 0usize, own - 4));
    let late = low | ((high >> 6u32) << 4u32);
    f32::cast_from(select(group < 4, byte(words, packed + own) & 63u32, late))
}

#[cube(launch_unchecked)]
pub(super) fn decode_kernel(
    words: &Array<u32>,
    ids: &Array<u32>,
    values: &mut Array<f32>,
    columns: usize,
    n: usize,
    #[comptime] encoding: Encoding,
    #[comptime] gathered: bool,
) {
    if ABSOLUTE_POS < n {
        let at = if comptime!(gathered) {
            ids[ABSOLUTE_POS / columns] as usize * columns + ABSOLUTE_POS % columns
        } else {
            ABSOLUTE_POS
        };
        let values_of_block = comptime!(encoding.block_values());
        let block = at / values_of_block * comptime!(encoding.block_bytes());
        let i = at % values_of_block;
        values[ABSOLUTE_POS] = if comptime!(encoding == Encoding::F32) {
            f32::reinterpret(words[at])
        } else if comptime!(encoding == Encoding::F16) {
            half(words, block)
        } else if comptime!(encoding == Encoding::Bf16) {
            f32::reinterpret(sixteen(words, block) << 16u32)
        } else if comptime!(encoding == Encoding::Q8_0) {
            half(words, block) * signed(byte(words, block + 2 + i))
        } else if comptime!(encoding == Encoding::Q4_0) {
            half(words, block) * (f32::cast_from(nibble(words, block + 2, i)) - 8.0)
        } else if comptime!(encoding == Encoding::Q4_1) {
            let q = f32::cast_from(nibble(words, block + 4, i));
            fma(half(words, block), q, half(words, block + 2))
        } else if comptime!(encoding == Encoding::Q5_0) {
            let q = nibble(words, block + 6, i) | fifth(words, block + 2, i);
            half(words, block) * (f32::cast_from(q) - 16.0)
        } else if comptime!(encoding == Encoding::Q5_1) {
            let q = nibble(words, block + 8, i) | fifth(words, block + 4, i);
            fma(half(words, block), f32::cast_from(q), half(words, block + 2))
        } else if comptime!(encoding == Encoding::Q6K) {
            let (part, rest) = (i / 128, i % 128);
            let (quarter, lane) = (rest / 32, rest % 32);
            let low = byte(words, block + 64 * part + 32 * (quarter % 2) + lane);
            let low = (low >> (quarter as u32 / 2u32 * 4u32)) & 15u32;
            let high = (byte(words, block + 128 + 32 * part + lane) >> (2u32 * quarter as u32)) & 3u32;
            let scale = signed(byte(words, block + 192 + 8 * part + 2 * quarter + lane / 16));
            (half(words, block + 208) * scale) * (f32::cast_from(low | (high << 4u32)) - 32.0)
        } else {
            let (group, lane) = (i / 32, i % 32);
            let fields = comptime!(if encoding == Encoding::Q5K { 48usize } else { 16usize });
            let mut q = (byte(words, block + fields + group / 2 * 32 + lane) >> (group as u32 % 2u32 * 4u32)) & 15u32;
            if comptime!(encoding == Encoding::Q5K) {
                q |= ((byte(words, block + 16 + lane) >> group as u32) & 1u32) << 4u32;
            }
            let scale = half(words, block) * k_field(words, block + 4, group, false);
            let minimum = half(words, block + 2) * k_field(words, block + 4, group, true);
            fma(scale, f32::cast_from(q), -minimum)
        };
    }
}
