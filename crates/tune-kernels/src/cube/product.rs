//! Matrix products: `c[i, j] = chain over p of a[i, p] · b[p, j]`, one `fma` chain an output, `p` ascending.
//!
//! A cube of 16 × 16 units computes a square of outputs, each unit 8 × 8, 4 × 4 or one of them in registers; 16 steps of
//! both operands at a time lie in shared memory. Neither the size of the square nor blocking over `p` touches a chain.
//! Steps beyond the depth are left out, not padded: `fma(0, 0, -0)` is `+0` and would change a bit.

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::{argument, index, room, upload, words};

/// Sizes of a product, and where its operands' elements lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of `a` and `c`.
    pub rows: usize,
    /// Columns of `b` and `c`.
    pub columns: usize,
    /// Columns of `a`, rows of `b`.
    pub depth: usize,
    /// `a[i, p]` lies at `first[0] + i · a[0] + p · a[1]`.
    pub a: [usize; 2],
    /// `b[p, j]` lies at `first[1] + p · b[0] + j · b[1]`.
    pub b: [usize; 2],
    /// Where the operands begin.
    pub first: [usize; 2],
}

impl Shape {
    /// `x · Wᵀ` with `x: [tokens, inputs]`, `W: [outputs, inputs]`.
    #[must_use]
    pub fn linear(tokens: usize, inputs: usize, outputs: usize) -> Self {
        Self { rows: tokens, columns: outputs, depth: inputs, a: [inputs, 1], b: [1, inputs], first: [0, 0] }
    }

    /// `dy · W` with `dy: [tokens, outputs]`, `W: [outputs, inputs]`.
    #[must_use]
    pub fn input_gradient(tokens: usize, inputs: usize, outputs: usize) -> Self {
        Self { rows: tokens, columns: inputs, depth: outputs, a: [outputs, 1], b: [inputs, 1], first: [0, 0] }
    }

    /// `dyᵀ · x` over the tokens of one row, a range of those of `dy: [.., outputs]` and `x: [.., inputs]`.
    #[must_use]
    pub fn weight_gradient(row: &std::ops::Range<usize>, inputs: usize, outputs: usize) -> Self {
        let first = [row.start * outputs, row.start * inputs];
        Self { rows: outputs, columns: inputs, depth: row.len(), a: [1, outputs], b: [inputs, 1], first }
    }

    /// Values that the operands must have.
    fn needed(&self) -> [usize; 2] {
        let last = |[rows, columns]: [usize; 2], strides: [usize; 2]| {
            if rows == 0 || columns == 0 { 0 } else { (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1 }
        };
        let a = self.first[0] + last([self.rows, self.depth], self.a);
        [a, self.first[1] + last([self.depth, self.columns], self.b)]
    }
}

/// What becomes of a chain's value, in this order: `+ bias[j]`, `fma(factor, previous, ·)`, `plus + ·`; or by itself
/// `· factor`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Epilogue<'a> {
    /// `[columns]`
    pub(super) bias: Option<&'a Handle>,
    /// The buffer that the outputs replace, `[rows, columns]`, and its factor.
    pub(super) previous: Option<(&'a Handle, f32)>,
    /// `[rows, columns]`
    pub(super) plus: Option<&'a Handle>,
    /// A factor on the value, where there is nothing else.
    pub(super) times: Option<f32>,
}

/// What the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// A unit computes `side` × `side` outputs: 1, 4 or 8.
    pub(super) side: usize,
    /// Whether neighbours in memory lie along the depth, in `a` and in `b`.
    pub(super) along: [bool; 2],
    /// Whether chains begin with the value that `c` holds.
    pub(super) continues: bool,
    pub(super) bias: bool,
    pub(super) previous: bool,
    pub(super) plus: bool,
    pub(super) times: bool,
}

/// Steps of the depth in shared memory at a time.
const STEPS: usize = 16;

/// The row or column in a cube's square of a unit's `i`-th: groups of four neighbours.
#[cube]
fn place(unit: usize, i: usize, #[comptime] side: usize) -> usize {
    let group = comptime!(if side < 4 { side } else { 4 });
    i / group * comptime!(16 * group) + unit * group + i % group
}

#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "operands, sizes and strides")]
pub(super) fn product_kernel(
    a: &Array<f32>,
    b: &Array<f32>,
    c: &mut Array<f32>,
    bias: &Array<f32>,
    plus: &Array<f32>,
    scale: f32,
    rows: usize,
    columns: usize,
    depth: usize,
    a_first: usize,
    a_row: usize,
    a_step: usize,
    b_first: usize,
    b_step: usize,
    b_column: usize,
    #[comptime] form: Form,
) {
    let side = comptime!(form.side);
    let square = comptime!(16 * form.side);
    // Four values more than the square, so that neither reading nor writing meets the same bank over and over.
    let stride = comptime!(16 * form.side + 4);
    let b_tile = comptime!(STEPS * (16 * form.side + 4));
    // Aligned, so that neighbouring values can be read as one.
    let mut tile = SharedMemory::<f32>::new_aligned(comptime!(2 * STEPS * (16 * form.side + 4)), 16usize);
    let unit = UNIT_POS as usize;
    let (unit_row, unit_column) = (unit / 16, unit % 16);
    let first_row = CUBE_POS_Y as usize * square;
    let first_column = CUBE_POS_X as usize * square;
    let mut sums = Array::<f32>::new(comptime!(form.side * form.side));
    let mut x = Array::<f32>::new(side);
    let mut y = Array::<f32>::new(side);
    #[unroll]
    for i in 0..side {
        #[unroll]
        for j in 0..side {
            sums[i * side + j] = 0.0;
            if comptime!(form.continues) {
                let row = first_row + place(unit_row, i, side);
                let column = first_column + place(unit_column, j, side);
                if row < rows && column < columns {
                    sums[i * side + j] = c[row * columns + column];
                }
            }
        }
    }
    let mut start = 0usize;
    while start < depth {
        let mut steps = depth - start;
        if steps > STEPS {
            steps = STEPS.runtime();
        }
        #[unroll]
        for n in 0..side {
            let at = unit + n * 256;
            let (along, across) = (at % STEPS, at / STEPS);
            let (step, lane) = if comptime!(form.along[0]) { (along, across) } else { (at / square, at % square) };
            if step < steps && first_row + lane < rows {
                tile[step * stride + lane] = a[a_first + (first_row + lane) * a_row + (start + step) * a_step];
            }
            let (step, lane) = if comptime!(form.along[1]) { (along, across) } else { (at / square, at % square) };
            if step < steps && first_column + lane < columns {
                tile[b_tile + step * stride + lane] =
                    b[b_first + (start + step) * b_step + (first_column + lane) * b_column];
            }
        }
        sync_cube();
        for p in 0..steps {
            #[unroll]
            for i in 0..side {
                x[i] = tile[p * stride + place(unit_row, i, side)];
                y[i] = tile[b_tile + p * stride + place(unit_column, i, side)];
            }
            #[unroll]
            for i in 0..side {
                #[unroll]
                for j in 0..side {
                    sums[i * side + j] = fma(x[i], y[j], sums[i * side + j]);
                }
            }
        }
        sync_cube();
        start += STEPS;
    }
    #[unroll]
    for i in 0..side {
        #[unroll]
        for j in 0..side {
            let row = first_row + place(unit_row, i, side);
            let column = first_column + place(unit_column, j, side);
            if row < rows && column < columns {
                let mut value = sums[i * side + j];
                if comptime!(form.bias) {
                    value += bias[column];
                }
                if comptime!(form.previous) {
                    value = fma(scale, c[row * columns + column], value);
                }
                if comptime!(form.plus) {
                    value += plus[row * columns + column];
                }
                if comptime!(form.times) {
                    value *= scale;
                }
                c[row * columns + column] = value;
            }
        }
    }
}

/// Outputs of a unit along each side: more of them need fewer reads, fewer of them leave more units to share the work.
fn side(rows: usize, columns: usize) -> usize {
    let enough = |side: usize| {
        let square = 16 * side;
        rows.min(columns) >= square / 2 && rows.div_ceil(square) * columns.div_ceil(square) >= 48
    };
    if enough(8) {
        8
    } else if enough(4) {
        4
    } else {
        1
    }
}

/// A product of two buffers, row-major, and its epilogue.
///
/// # Panics
/// If a buffer is smaller than the shape says, or the outputs are more than a launch can cover.
pub(super) fn product<R: Runtime>(
    client: &ComputeClient<R>,
    a: &Handle,
    b: &Handle,
    shape: Shape,
    epilogue: Epilogue<'_>,
) -> Handle {
    let c = epilogue.previous.map_or_else(|| room(client, shape.rows * shape.columns), |(c, _)| c.clone());
    launch(client, [a, b, &c], shape, epilogue, false, side(shape.rows, shape.columns));
    c
}

/// Continues the chains that `c` holds over the depth of another product.
pub(super) fn continue_product<R: Runtime>(
    client: &ComputeClient<R>,
    a: &Handle,
    b: &Handle,
    shape: Shape,
    c: &Handle,
) {
    launch(client, [a, b, c], shape, Epilogue::default(), true, side(shape.rows, shape.columns));
}

/// One launch of the kernel.
pub(super) fn launch<R: Runtime>(
    client: &ComputeClient<R>,
    [a, b, c]: [&Handle; 3],
    shape: Shape,
    epilogue: Epilogue<'_>,
    continues: bool,
    side: usize,
) {
    let Shape { rows, columns, depth, a: a_strides, b: b_strides, first } = shape;
    let outputs = rows * columns;
    if outputs == 0 {
        return;
    }
    let needed = shape.needed();
    assert!(words(a) >= needed[0] && words(b) >= needed[1], "operands hold what {shape:?} says");
    assert!(words(c) >= outputs, "room for the outputs of {shape:?}");
    assert!(epilogue.bias.is_none_or(|bias| words(bias) >= columns), "a bias for each column");
    assert!(epilogue.plus.is_none_or(|plus| words(plus) >= outputs), "a term for each output");
    let form = Form {
        side,
        along: [a_strides[1] == 1, b_strides[0] == 1],
        continues,
        bias: epilogue.bias.is_some(),
        previous: epilogue.previous.is_some(),
        plus: epilogue.plus.is_some(),
        times: epilogue.times.is_some(),
    };
    // A product that fed one of the additions could be contracted with it.
    assert!(!form.times || !(form.bias || form.previous || form.plus), "a factor stands by itself");
    // SAFETY: every index the kernel forms lies within the sizes checked above; each output belongs to one unit, and
    // the loop over the depth ends. A buffer that the form leaves out is not read.
    unsafe {
        product_kernel::launch_unchecked::<R>(
            client,
            CubeCount::Static(index(columns.div_ceil(16 * side)), index(rows.div_ceil(16 * side)), 1),
            CubeDim::new_1d(super::UNITS),
            argument(a),
            argument(b),
            argument(c),
            argument(epilogue.bias.unwrap_or(a)),
            argument(epilogue.plus.unwrap_or(a)),
            epilogue.previous.map(|(_, factor)| factor).or(epilogue.times).unwrap_or(0.0),
            rows,
            columns,
            depth,
            first[0],
            a_strides[0],
            a_strides[1],
            first[1],
            b_strides[0],
            b_strides[1],
            form,
        );
    }
}

/// A product of values on the host.
///
/// # Errors
/// The device gave no result.
///
/// # Panics
/// If the values are fewer than the shape says.
pub fn product_of<R: Runtime>(
    client: &ComputeClient<R>,
    a: &[f32],
    b: &[f32],
    shape: Shape,
) -> Result<Vec<f32>, super::DeviceFailure> {
    let [a, b] = [a, b].map(|values| upload(client, values));
    super::read(client, product(client, &a, &b, shape, Epilogue::default()))
}
