//! What `pinned-bf16/1` does differently: products of operands that are rounded to bf16, by a GPU's matrix instructions.
//!
//! - [`Rounded`]: a matrix rounded to bf16, ready to be an operand
//! - [`product`]: the product of two of them
//! - [`probe`]: whether a device computes such products
//!
//! A device without matrix instructions can do the same with `fma`: the same rounded operands, tiles and edges, one
//! chain an output. Its bits are others, so no recipe may ask for it; tests and measurements of the profile's
//! tolerance use it where there is no GPU.

pub(in crate::cube) mod probe;
pub(in crate::cube) mod product;

use cubecl::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::bf16;

use super::{UNITS, argument, cubes, room, upload, words};

/// Values that a row is padded to a multiple of, so that every row begins where 16 bytes begin.
const PADDED: usize = 8;

/// A matrix whose values were rounded to the nearest bf16, ties to even. Rows are padded with zeros to a multiple of
/// eight values.
#[derive(Debug, Clone)]
pub(in crate::cube) struct Rounded {
    /// bf16 where the device has matrix instructions, else f32 of the same values.
    buffer: Handle,
    rows: usize,
    columns: usize,
}

impl Rounded {
    /// Rounds a matrix.
    ///
    /// # Panics
    /// If the buffer holds fewer values.
    pub(in crate::cube) fn of<R: Runtime>(
        client: &ComputeClient<R>,
        values: &Handle,
        [rows, columns]: [usize; 2],
    ) -> Self {
        assert!(words(values) >= rows * columns, "values for each row and column");
        let rounded = Self { buffer: room_for(client, rows * pitch(columns)), rows, columns };
        let vectors = rows * pitch(columns) / lanes(client);
        if vectors == 0 {
            return rounded;
        }
        let (count, dim) = (cubes(vectors, UNITS as usize), CubeDim::new_1d(UNITS));
        let (x, y, n) = (argument(values), rounded.vectors(client), lanes(client));
        // SAFETY: every value that is read lies within the rows and columns checked above; each vector that is written
        // belongs to one unit.
        unsafe {
            if has_matrix_instructions(client) {
                round_kernel::launch_unchecked::<bf16, R>(client, count, dim, n, x, y, columns, vectors, true);
            } else {
                round_kernel::launch_unchecked::<f32, R>(client, count, dim, n, x, y, columns, vectors, false);
            }
        }
        rounded
    }

    /// Rows and columns.
    pub(in crate::cube) fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The rows `ids` as f32.
    ///
    /// # Panics
    /// If an id lies beyond the matrix.
    pub(in crate::cube) fn gather<R: Runtime>(&self, client: &ComputeClient<R>, ids: &[u32]) -> Handle {
        assert!(ids.iter().all(|id| (*id as usize) < self.rows), "gather: ids within the matrix");
        let n = ids.len() * self.columns;
        let y = room(client, n);
        let (count, dim) = (cubes(n, UNITS as usize), CubeDim::new_1d(UNITS));
        let (x, ids, out) = (self.vectors(client), upload(client, ids), argument(&y));
        let lanes = lanes(client);
        // SAFETY: ids lie within the matrix; each value belongs to one unit.
        unsafe {
            if has_matrix_instructions(client) {
                widen_kernel::launch_unchecked::<bf16, R>(
                    client,
                    count,
                    dim,
                    lanes,
                    x,
                    argument(&ids),
                    out,
                    self.columns,
                    n,
                );
            } else {
                widen_kernel::launch_unchecked::<f32, R>(
                    client,
                    count,
                    dim,
                    lanes,
                    x,
                    argument(&ids),
                    out,
                    self.columns,
                    n,
                );
            }
        }
        y
    }

    /// The buffer as a kernel's argument.
    fn vectors<R: Runtime>(&self, client: &ComputeClient<R>) -> ArrayArg<R> {
        // SAFETY: the buffer was made with this many values.
        unsafe { ArrayArg::from_raw_parts(self.buffer.clone(), self.rows * pitch(self.columns) / lanes(client)) }
    }
}

/// Values of a row with its padding.
fn pitch(columns: usize) -> usize {
    columns.next_multiple_of(PADDED)
}

/// Values that are read at a time, 16 bytes of them.
fn lanes<R: Runtime>(client: &ComputeClient<R>) -> usize {
    if has_matrix_instructions(client) { 8 } else { 4 }
}

/// A new buffer for rounded values.
fn room_for<R: Runtime>(client: &ComputeClient<R>, values: usize) -> Handle {
    client.empty(values * 16 / lanes(client))
}

/// Whether the device multiplies bf16 matrices of 16 × 16 with sums in f32.
pub(in crate::cube) fn has_matrix_instructions<R: Runtime>(client: &ComputeClient<R>) -> bool {
    let config = |input: FloatKind, k| MmaConfig {
        a_type: ElemType::Float(input).into(),
        b_type: ElemType::Float(input).into(),
        cd_type: ElemType::Float(FloatKind::F32).into(),
        m: 16,
        n: 16,
        k,
    };
    let known = &client.properties().features.matmul.cmma;
    // CubeCL lists bf16 for GPUs older than those that have it. The same generation brought tf32, which it lists rightly.
    known.contains(&config(FloatKind::BF16, 16)) && known.contains(&config(FloatKind::TF32, 8))
}

/// The nearest number with the upper 16 bits of an f32, ties to even; a NaN stays one.
#[cube]
fn nearest(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let rounded = (bits + 0x7fffu32 + ((bits >> 16u32) & 1u32)) & 0xffff_0000u32;
    let quiet = (bits & 0xffff_0000u32) | 0x0040_0000u32;
    f32::reinterpret(select((bits & 0x7fff_ffffu32) > 0x7f80_0000u32, quiet, rounded))
}

/// Each unit rounds a vector; `converts` where the element type has fewer bits than an f32, which rounds as it is made.
#[cube(launch_unchecked)]
pub(in crate::cube) fn round_kernel<E: Float, N: Size>(
    x: &Array<f32>,
    y: &mut Array<Vector<E, N>>,
    columns: usize,
    vectors: usize,
    #[comptime] converts: bool,
) {
    if ABSOLUTE_POS < vectors {
        let lanes = N::value();
        let in_row = columns.div_ceil(8) * comptime!(8 / lanes);
        let row = ABSOLUTE_POS / in_row;
        let first = ABSOLUTE_POS % in_row * lanes;
        let mut vector = Vector::<E, N>::empty();
        #[unroll]
        for lane in 0..lanes {
            let column = first + lane;
            let mut value = 0.0f32.runtime();
            if column < columns {
                value = x[row * columns + column];
            }
            vector[lane] = if comptime!(converts) { E::cast_from(value) } else { E::cast_from(nearest(value)) };
        }
        y[ABSOLUTE_POS] = vector;
    }
}

/// Each unit gives one value of the rows `ids`.
#[cube(launch_unchecked)]
pub(in crate::cube) fn widen_kernel<E: Float, N: Size>(
    x: &Array<Vector<E, N>>,
    ids: &Array<u32>,
    y: &mut Array<f32>,
    columns: usize,
    values: usize,
) {
    if ABSOLUTE_POS < values {
        let lanes = N::value();
        let in_row = columns.div_ceil(8) * comptime!(8 / lanes);
        let column = ABSOLUTE_POS % columns;
        let vector = x[ids[ABSOLUTE_POS / columns] as usize * in_row + column / lanes];
        y[ABSOLUTE_POS] = f32::cast_from(vector[column % lanes]);
    }
}
