//! Products of rounded matrices: `c[i, j] = Σ_p a[i, p] · b[p, j]`, summed in f32 in a fixed order.
//!
//! A cube computes a square of outputs: of 128 × 128, or of 32 × 32 where one side of the outputs is thin, as with a
//! LoRA branch. Tiles of both operands lie in shared memory, two of each, so that one is filled while the other is used;
//! what lies beyond an operand is zero there. Matrix instructions multiply 16 × 16 × 16 pieces, the depth in ascending
//! order, into accumulators that stay in registers from the first piece to the last: no split of the depth, no atomics.
//! Which of the two squares it is depends on the weights' sizes alone, never on the number of tokens, so the rows of
//! other examples have no say in it.

use cubecl::cmma;
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::bf16;

use super::super::product::{Epilogue, Shape};
use super::super::{argument, cubes, room, words};
use super::{Rounded, has_matrix_instructions, lanes};

/// Units of a plane: the threads that matrix instructions are given to.
const PLANE: usize = 32;
/// Values between the rows of a tile beyond its own, against conflicts of memory banks.
const GAP: usize = 8;
/// Values between the rows of a piece that is written, likewise.
const PIECE: usize = 20;
/// Rows of squares whose cubes run side by side, so that they share what they read in the cache.
const GROUP: usize = 8;

/// What the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::cube) struct Form {
    /// Whether matrix instructions multiply; else each unit does, with `fma`.
    pub(in crate::cube) matrix: bool,
    /// Whether a cube computes 128 × 128 outputs; else 32 × 32.
    pub(in crate::cube) large: bool,
    /// Whether neighbours in memory lie along the depth, in `a` and in `b`.
    pub(in crate::cube) along: [bool; 2],
    pub(in crate::cube) bias: bool,
    pub(in crate::cube) previous: bool,
    pub(in crate::cube) plus: bool,
    pub(in crate::cube) times: bool,
}

impl Form {
    /// Outputs along each side of a cube's square.
    const fn side(self) -> usize {
        if self.large { 128 } else { 32 }
    }

    /// The part of the depth that lies in shared memory at a time: less of it where values have 32 bits, and devices
    /// perhaps 32 KiB.
    const fn steps(self) -> usize {
        match (self.matrix, self.large) {
            (true, true) | (false, false) => 32,
            (true, false) => 128,
            (false, true) => 8,
        }
    }

    /// Units of a cube.
    pub(in crate::cube) const fn units(self) -> usize {
        if self.large { 256 } else { 128 }
    }

    /// Planes of a cube along the columns of its square; along the rows there are two.
    const fn plane_columns(self) -> usize {
        self.units() / PLANE / 2
    }

    /// 16 × 16 pieces that a plane computes, along rows and columns.
    const fn pieces(self) -> [usize; 2] {
        [self.side() / 2 / 16, self.side() / self.plane_columns() / 16]
    }

    /// Values in a row of an operand's tile.
    const fn width(self, operand: usize) -> usize {
        if self.along[operand] { self.steps() } else { self.side() }
    }

    /// Values from one row of an operand's tile to the next.
    const fn stride(self, operand: usize) -> usize {
        self.width(operand) + GAP
    }

    /// Values of an operand's tile.
    const fn tile(self, operand: usize) -> usize {
        self.side() * self.steps() / self.width(operand) * self.stride(operand)
    }
}

/// A vector of an operand's tile, from global memory; zero beyond the operand. `lane` is the first output's row or column
/// and `start` the first step of the tile.
#[cube]
#[expect(clippy::too_many_arguments, reason = "a place in an operand")]
fn bring<E: Float, N: Size>(
    operand: &Array<Vector<E, N>>,
    at: usize,
    first: usize,
    outputs: usize,
    depth: usize,
    pitch: usize,
    lane: usize,
    start: usize,
    #[comptime] along: bool,
    #[comptime] width: usize,
) -> Vector<E, N> {
    let lanes = N::value();
    let in_line = comptime!(width / lanes);
    let (line, lines, part) = if comptime!(along) {
        (lane + at / in_line, outputs, start / lanes + at % in_line)
    } else {
        (start + at / in_line, depth, lane / lanes + at % in_line)
    };
    let mut vector = Vector::<E, N>::new(E::from_int(0));
    if line < lines && part < pitch {
        vector = operand[(first + line) * pitch + part];
    }
    vector
}

/// Where a vector of a tile lies in shared memory.
#[cube]
fn place(at: usize, #[comptime] width: usize, #[comptime] stride: usize) -> usize {
    at / width * stride + at % width
}

/// A value of a tile: of an output's row or column, at a step.
#[cube]
fn value<E: Float, N: Size>(
    tiles: &SharedMemory<Vector<E, N>>,
    tile: usize,
    lane: usize,
    step: usize,
    #[comptime] along: bool,
    #[comptime] stride: usize,
) -> f32 {
    let at = if comptime!(along) { lane * stride + step } else { step * stride + lane };
    let vector = tiles[tile + at / N::value()];
    f32::cast_from(vector[at % N::value()])
}

/// A 16 × 16 piece of a tile for matrix instructions: the outputs from `lane` on, the steps from `step` on.
#[cube]
fn piece<E: Float, N: Size>(
    tiles: &SharedMemory<Vector<E, N>>,
    tile: usize,
    lane: usize,
    step: usize,
    #[comptime] operand: usize,
    #[comptime] form: Form,
) -> cmma::Matrix<Vector<E, N>> {
    let stride = comptime!(form.stride(operand));
    let at = if comptime!(form.along[operand]) { lane * stride + step } else { step * stride + lane };
    let first = tile + at / N::value();
    let part = tiles.slice(first, first + comptime!(16 * form.stride(operand)) / N::value());
    let ident = comptime!(if operand == 0 { cmma::MatrixIdent::A } else { cmma::MatrixIdent::B });
    // Rows of `a` lie along the depth where memory does, columns of `b` likewise.
    let row_major = comptime!(form.along[operand] == (operand == 0));
    let layout = comptime!(if row_major { cmma::MatrixLayout::RowMajor } else { cmma::MatrixLayout::ColMajor });
    cmma::Matrix::<Vector<E, N>>::from_slice(ident, 16usize, 16usize, 16usize, layout, &part, stride as u32)
}

/// Writes an output with what follows a product: see [`Epilogue`].
#[cube]
#[expect(clippy::too_many_arguments, reason = "an output and what follows it")]
fn finish(
    c: &mut Array<f32>,
    bias: &Array<f32>,
    plus: &Array<f32>,
    scale: f32,
    at: usize,
    column: usize,
    sum: f32,
    #[comptime] form: Form,
) {
    let mut value = sum;
    if comptime!(form.bias) {
        value += bias[column];
    }
    if comptime!(form.previous) {
        value = fma(scale, c[at], value);
    }
    if comptime!(form.plus) {
        value += plus[at];
    }
    if comptime!(form.times) {
        value *= scale;
    }
    c[at] = value;
}

#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "operands and sizes")]
pub(in crate::cube) fn product_kernel<E: Float, N: Size>(
    a: &Array<Vector<E, N>>,
    b: &Array<Vector<E, N>>,
    c: &mut Array<f32>,
    bias: &Array<f32>,
    plus: &Array<f32>,
    scale: f32,
    rows: usize,
    columns: usize,
    depth: usize,
    a_first: usize,
    a_pitch: usize,
    b_first: usize,
    b_pitch: usize,
    #[comptime] form: Form,
) {
    let lanes = N::value();
    let side = comptime!(form.side());
    let steps = comptime!(form.steps());
    let units = comptime!(form.units());
    // In vectors: a row of each tile, with the gap and without; where `b`'s tile begins, and the second pair of tiles.
    let (a_width, b_width) = (comptime!(form.width(0) / lanes), comptime!(form.width(1) / lanes));
    let (a_stride, b_stride) = (comptime!(form.stride(0) / lanes), comptime!(form.stride(1) / lanes));
    let b_tile = comptime!(form.tile(0) / lanes);
    let pair = comptime!((form.tile(0) + form.tile(1)) / lanes);
    // Vectors of an operand that a unit brings.
    let each = comptime!(form.side() * form.steps() / lanes / form.units());
    // Aligned as matrix instructions ask for.
    let mut tiles = SharedMemory::<Vector<E, N>>::new_aligned(comptime!(2 * pair), 32usize);
    let unit = UNIT_POS as usize;

    // Squares in groups of some rows, column after column within a group.
    let (square_rows, square_columns) = (rows.div_ceil(side), columns.div_ceil(side));
    let in_group = square_columns * GROUP;
    let group = CUBE_POS / in_group * GROUP;
    let mut group_rows = GROUP.runtime();
    if group < square_rows && square_rows - group < GROUP {
        group_rows = square_rows - group;
    }
    let first_row = (group + CUBE_POS % in_group % group_rows) * side;
    let first_column = CUBE_POS % in_group / group_rows * side;

    // The plane's part of the square.
    let [piece_rows, piece_columns] = comptime!(form.pieces());
    let plane = unit / PLANE;
    let plane_row = plane / comptime!(form.plane_columns()) * comptime!(16 * form.pieces()[0]);
    let plane_column = plane % comptime!(form.plane_columns()) * comptime!(16 * form.pieces()[1]);
    let outputs = comptime!(form.side() * form.side() / form.units());
    // Without matrix instructions a unit computes some neighbours of a column.
    let (own_row, own_column) = (unit / side * outputs, unit % side);
    let mut pieces = Sequence::<cmma::Matrix<f32>>::new();
    let mut sums = Array::<f32>::new(outputs);
    if comptime!(form.matrix) {
        #[unroll]
        for _ in 0..comptime!(piece_rows * piece_columns) {
            pieces.push(cmma::Matrix::<f32>::from_value(
                cmma::MatrixIdent::Accumulator,
                16usize,
                16usize,
                16usize,
                cmma::MatrixLayout::Undefined,
                0.0,
            ));
        }
    } else {
        #[unroll]
        for i in 0..outputs {
            sums[i] = 0.0;
        }
    }

    #[unroll]
    for i in 0..each {
        let at = unit + i * units;
        tiles[place(at, a_width, a_stride)] = bring::<E, N>(
            a,
            at,
            a_first,
            rows,
            depth,
            a_pitch,
            first_row,
            0usize,
            comptime!(form.along[0]),
            comptime!(form.width(0)),
        );
        tiles[b_tile + place(at, b_width, b_stride)] = bring::<E, N>(
            b,
            at,
            b_first,
            columns,
            depth,
            b_pitch,
            first_column,
            0usize,
            comptime!(form.along[1]),
            comptime!(form.width(1)),
        );
    }
    sync_cube();
    let mut a_next = Array::<Vector<E, N>>::new(each);
    let mut b_next = Array::<Vector<E, N>>::new(each);
    let mut tile = 0usize;
    let mut start = 0usize;
    while start < depth {
        let next = start + steps;
        if next < depth {
            #[unroll]
            for i in 0..each {
                let at = unit + i * units;
                a_next[i] = bring::<E, N>(
                    a,
                    at,
                    a_first,
                    rows,
                    depth,
                    a_pitch,
                    first_row,
                    next,
                    comptime!(form.along[0]),
                    comptime!(form.width(0)),
                );
                b_next[i] = bring::<E, N>(
                    b,
                    at,
                    b_first,
                    columns,
                    depth,
                    b_pitch,
                    first_column,
                    next,
                    comptime!(form.along[1]),
                    comptime!(form.width(1)),
                );
            }
        }
        if comptime!(form.matrix) {
            #[unroll]
            for k in 0..comptime!(form.steps() / 16) {
                let mut b_pieces = Sequence::<cmma::Matrix<Vector<E, N>>>::new();
                #[unroll]
                for j in 0..piece_columns {
                    let lane = plane_column + j * 16;
                    b_pieces.push(piece::<E, N>(&tiles, tile + b_tile, lane, k * 16, 1usize, form));
                }
                #[unroll]
                for i in 0..piece_rows {
                    let a_piece = piece::<E, N>(&tiles, tile, plane_row + i * 16, k * 16, 0usize, form);
                    #[unroll]
                    for j in 0..piece_columns {
                        let sum = &pieces[i * piece_columns + j];
                        cmma::execute::<Vector<E, N>, Vector<E, N>, f32, f32>(&a_piece, &b_pieces[j], sum, sum);
                    }
                }
            }
        } else {
            for group in 0..comptime!(form.steps() / 4) {
                #[unroll]
                for n in 0..4usize {
                    let step = group * 4 + n;
                    let b_tile = tile + b_tile;
                    let y = value::<E, N>(&tiles, b_tile, own_column, step, form.along[1], comptime!(form.stride(1)));
                    #[unroll]
                    for i in 0..outputs {
                        let row = own_row + i;
                        let x = value::<E, N>(&tiles, tile, row, step, form.along[0], comptime!(form.stride(0)));
                        sums[i] = fma(x, y, sums[i]);
                    }
                }
            }
        }
        tile = pair - tile;
        if next < depth {
            #[unroll]
            for i in 0..each {
                let at = unit + i * units;
                tiles[tile + place(at, a_width, a_stride)] = a_next[i];
                tiles[tile + b_tile + place(at, b_width, b_stride)] = b_next[i];
            }
        }
        sync_cube();
        start = next;
    }

    if comptime!(form.matrix) {
        // Room for what follows, and one order of the blocks of memory: `CubeCL` places two at a time as a hash map has it.
        // SAFETY: every unit comes by, and nothing reads the tiles any more.
        unsafe { tiles.free() };
        // Where the values of a piece lie in registers is the instruction's own; written to memory they lie in rows.
        let mut staged = SharedMemory::<f32>::new_aligned(comptime!(form.units() / PLANE * 16 * PIECE), 32usize);
        let first = plane * comptime!(16 * PIECE);
        let lane = unit % PLANE;
        #[unroll]
        for i in 0..comptime!(piece_rows * piece_columns) {
            let mut part = staged.slice_mut(first, first + comptime!(16 * PIECE));
            cmma::store(&mut part, &pieces[i], comptime!(PIECE as u32), cmma::MatrixLayout::RowMajor);
            sync_plane();
            #[unroll]
            for n in 0..8usize {
                let at = lane + n * PLANE;
                let row = first_row + plane_row + comptime!(i / piece_columns * 16) + at / 16;
                let column = first_column + plane_column + comptime!(i % piece_columns * 16) + at % 16;
                if row < rows && column < columns {
                    let sum = staged[first + at / 16 * PIECE + at % 16];
                    finish(c, bias, plus, scale, row * columns + column, column, sum, form);
                }
            }
            sync_plane();
        }
    } else {
        #[unroll]
        for i in 0..outputs {
            let (row, column) = (first_row + own_row + i, first_column + own_column);
            if row < rows && column < columns {
                finish(c, bias, plus, scale, row * columns + column, column, sums[i], form);
            }
        }
    }
}

/// A product of two rounded matrices, row-major, and its epilogue.
///
/// # Panics
/// If a matrix has another shape than the product's says, or a buffer is smaller.
pub(in crate::cube) fn product<R: Runtime>(
    client: &ComputeClient<R>,
    a: &Rounded,
    b: &Rounded,
    shape: Shape,
    epilogue: Epilogue<'_>,
) -> Handle {
    let Shape { rows, columns, depth, .. } = shape;
    let c = epilogue.previous.map_or_else(|| room(client, rows * columns), |(c, _)| c.clone());
    let outputs = rows * columns;
    if outputs == 0 {
        return c;
    }
    let along = [shape.a[1] == 1 && a.columns == depth, shape.b[0] == 1 && b.columns == depth];
    // The lines of an operand that are used: those of its outputs, or from some line on those of the depth.
    let first = [shape.first[0] / a.columns.max(1), shape.first[1] / b.columns.max(1)];
    for ((operand, first), (along, outputs)) in
        [(a, first[0]), (b, first[1])].into_iter().zip(along.into_iter().zip([rows, columns]))
    {
        let [lines, in_line] = if along { [outputs, depth] } else { [depth, outputs] };
        assert!(
            first + lines <= operand.rows && in_line == operand.columns,
            "a matrix of {:?} is no operand of {shape:?}",
            operand.shape()
        );
    }
    assert!(words(&c) >= outputs, "room for the outputs of {shape:?}");
    assert!(epilogue.bias.is_none_or(|bias| words(bias) >= columns), "a bias for each column");
    assert!(epilogue.plus.is_none_or(|plus| words(plus) >= outputs), "a term for each output");
    let form = Form {
        matrix: has_matrix_instructions(client),
        large: large(shape, along),
        along,
        bias: epilogue.bias.is_some(),
        previous: epilogue.previous.is_some(),
        plus: epilogue.plus.is_some(),
        times: epilogue.times.is_some(),
    };
    assert!(!form.times || !(form.bias || form.previous || form.plus), "a factor stands by itself");
    let squares = rows.div_ceil(form.side()) * columns.div_ceil(form.side());
    let (count, dim) = (cubes(squares, 1), CubeDim::new_1d(super::super::index(form.units())));
    let vector = lanes(client);
    let pitches = [a, b].map(|operand| super::pitch(operand.columns) / vector);
    let scale = epilogue.previous.map(|(_, factor)| factor).or(epilogue.times).unwrap_or(0.0);
    macro_rules! launch {
        ($element:ty) => {
            product_kernel::launch_unchecked::<$element, R>(
                client,
                count,
                dim,
                vector,
                a.vectors(client),
                b.vectors(client),
                argument(&c),
                argument(epilogue.bias.unwrap_or(&a.buffer)),
                argument(epilogue.plus.unwrap_or(&a.buffer)),
                scale,
                rows,
                columns,
                depth,
                first[0],
                pitches[0],
                first[1],
                pitches[1],
                form,
            )
        };
    }
    // SAFETY: every line and vector that is read lies within the matrices, whose shapes were checked above, and their
    // padding; each output belongs to one unit, and the loop over the depth ends. A buffer that the form leaves out is not
    // read. Cubes beyond the last square write nothing.
    unsafe {
        if form.matrix {
            launch!(bf16);
        } else {
            launch!(f32);
        }
    }
    c
}

/// Whether a cube computes 128 × 128 outputs. Tokens have no say: they are rows where `a` lies along the depth, and depth
/// where it does not.
fn large(shape: Shape, along: [bool; 2]) -> bool {
    let thinnest = if along[0] { shape.columns } else { shape.rows.min(shape.columns) };
    thinnest >= 64
}
