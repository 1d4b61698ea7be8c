//! Matrix products: `c[i, j] = chain over p of a[i, p] · b[p, j]`, one `fma` chain an output, `p` ascending.
//!
//! A cube of 256 units computes 64 × 64 outputs, each unit 4 × 4 of them in registers; 16 steps of both operands at a
//! time lie in shared memory. Blocking over `p` never breaks a chain. Steps beyond the depth are left out, not padded:
//! `fma(0, 0, -0)` is `+0` and would change a bit.

#![expect(unsafe_code, reason = "kernels are launched without bounds checks of their own")]

use cubecl::prelude::*;
use cubecl::server::Handle;

/// Rows and columns of a cube's outputs.
const TILE: usize = 64;
/// Units of a cube.
const UNITS: u32 = 256;

/// Sizes of a product, and where its operands' elements lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of `a` and `c`.
    pub rows: usize,
    /// Columns of `b` and `c`.
    pub columns: usize,
    /// Columns of `a`, rows of `b`.
    pub depth: usize,
    /// `a[i, p]` lies at `i · a[0] + p · a[1]`.
    pub a: [usize; 2],
    /// `b[p, j]` lies at `p · b[0] + j · b[1]`.
    pub b: [usize; 2],
}

impl Shape {
    /// `x · Wᵀ` with `x: [tokens, inputs]`, `W: [outputs, inputs]`.
    #[must_use]
    pub fn linear(tokens: usize, inputs: usize, outputs: usize) -> Self {
        Self { rows: tokens, columns: outputs, depth: inputs, a: [inputs, 1], b: [1, inputs] }
    }

    /// `dy · W` with `dy: [tokens, outputs]`, `W: [outputs, inputs]`.
    #[must_use]
    pub fn input_gradient(tokens: usize, inputs: usize, outputs: usize) -> Self {
        Self { rows: tokens, columns: inputs, depth: outputs, a: [outputs, 1], b: [inputs, 1] }
    }

    /// `dyᵀ · x` over `tokens` of one row.
    #[must_use]
    pub fn weight_gradient(tokens: usize, inputs: usize, outputs: usize) -> Self {
        Self { rows: outputs, columns: inputs, depth: tokens, a: [1, outputs], b: [inputs, 1] }
    }

    /// Values that an operand must have.
    fn values([rows, columns]: [usize; 2], strides: [usize; 2]) -> usize {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1 }
    }
}

#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "operands, sizes and strides")]
pub(super) fn product_kernel(
    a: &Array<f32>,
    b: &Array<f32>,
    c: &mut Array<f32>,
    rows: usize,
    columns: usize,
    depth: usize,
    a_row: usize,
    a_step: usize,
    b_step: usize,
    b_column: usize,
) {
    let mut a_tile = SharedMemory::<f32>::new(1024usize);
    let mut b_tile = SharedMemory::<f32>::new(1024usize);
    let unit = UNIT_POS as usize;
    let first_row = CUBE_POS_Y as usize * 64;
    let first_column = CUBE_POS_X as usize * 64;
    let row = (unit / 16) * 4;
    let column = (unit % 16) * 4;
    let mut sums = Array::<f32>::new(16usize);
    let mut x = Array::<f32>::new(4usize);
    let mut y = Array::<f32>::new(4usize);
    #[unroll]
    for i in 0..16usize {
        sums[i] = 0.0;
    }
    let mut start = 0usize;
    while start < depth {
        let mut steps = depth - start;
        if steps > 16 {
            steps = 16usize.runtime();
        }
        #[unroll]
        for n in 0..4usize {
            let at = unit + n * 256;
            let step = at / 64;
            let lane = at % 64;
            if step < steps {
                if first_row + lane < rows {
                    a_tile[at] = a[(first_row + lane) * a_row + (start + step) * a_step];
                }
                if first_column + lane < columns {
                    b_tile[at] = b[(start + step) * b_step + (first_column + lane) * b_column];
                }
            }
        }
        sync_cube();
        for p in 0..steps {
            #[unroll]
            for i in 0..4usize {
                x[i] = a_tile[p * 64 + row + i];
                y[i] = b_tile[p * 64 + column + i];
            }
            #[unroll]
            for i in 0..4usize {
                #[unroll]
                for j in 0..4usize {
                    sums[i * 4 + j] = fma(x[i], y[j], sums[i * 4 + j]);
                }
            }
        }
        sync_cube();
        start += 16;
    }
    #[unroll]
    for i in 0..4usize {
        #[unroll]
        for j in 0..4usize {
            let i_out = first_row + row + i;
            let j_out = first_column + column + j;
            if i_out < rows && j_out < columns {
                c[i_out * columns + j_out] = sums[i * 4 + j];
            }
        }
    }
}

/// The product of two buffers on a device, row-major.
///
/// # Panics
/// If a buffer is smaller than the shape says, or the outputs are more than a launch can cover.
#[must_use]
pub fn product<R: Runtime>(client: &ComputeClient<R>, a: Handle, b: Handle, shape: Shape) -> Handle {
    let Shape { rows, columns, depth, a: a_strides, b: b_strides } = shape;
    let outputs = rows * columns;
    let c = client.empty(outputs * size_of::<f32>());
    if outputs == 0 {
        return c;
    }
    let bytes = |values: usize| (values * size_of::<f32>()) as u64;
    let needed = [Shape::values([rows, depth], a_strides), Shape::values([depth, columns], b_strides)];
    assert!(a.size() >= bytes(needed[0]) && b.size() >= bytes(needed[1]), "operands hold what {shape:?} says");
    let cubes = |n: usize| u32::try_from(n.div_ceil(TILE)).expect("outputs within a launch");
    // SAFETY: every index the kernel forms lies within the sizes checked above; each output belongs to one unit, and
    // the loop over the depth ends.
    unsafe {
        product_kernel::launch_unchecked::<R>(
            client,
            CubeCount::Static(cubes(columns), cubes(rows), 1),
            CubeDim::new_1d(UNITS),
            ArrayArg::from_raw_parts(a, needed[0]),
            ArrayArg::from_raw_parts(b, needed[1]),
            ArrayArg::from_raw_parts(c.clone(), outputs),
            rows,
            columns,
            depth,
            a_strides[0],
            a_strides[1],
            b_strides[0],
            b_strides[1],
        );
    }
    c
}

/// [`product`] of values on the host.
///
/// # Errors
/// The device gave no result.
///
/// # Panics
/// As [`product`].
pub fn product_of<R: Runtime>(
    client: &ComputeClient<R>,
    a: &[f32],
    b: &[f32],
    shape: Shape,
) -> Result<Vec<f32>, super::ReadError> {
    let [a, b] = [a, b].map(|values| client.create_from_slice(bytemuck::cast_slice(values)));
    super::read(client, product(client, a, b, shape))
}
