//! Row reductions in the contract's 32 lanes, and what is made of them.
//!
//! A cube of 256 units has eight rows of 32 lanes.

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::elementary::{ZERO, held};
use super::{argument, cubes, room, words};

/// Rows of a cube.
const ROWS: usize = 8;

/// The pairwise tree over the 32 lanes that hold `value`; every lane gets the sum. To be met by all units of a cube.
#[cube]
pub(super) fn tree(value: f32) -> f32 {
    let mut lanes = SharedMemory::<f32>::new(256usize);
    let unit = UNIT_POS as usize;
    let lane = unit % 32;
    lanes[unit] = value;
    sync_cube();
    #[unroll]
    for level in 0..5u32 {
        let distance = 16usize >> (level as usize);
        if lane < distance {
            lanes[unit] = lanes[unit] + lanes[unit + distance];
        }
        sync_cube();
    }
    lanes[unit - lane]
}

/// The row of a unit.
#[cube]
pub(super) fn row_of_unit() -> usize {
    CUBE_POS * ROWS + UNIT_POS as usize / 32
}

#[cube(launch_unchecked)]
pub(super) fn rms_norm_kernel(
    x: &Array<f32>,
    w: &Array<f32>,
    y: &mut Array<f32>,
    roots: &mut Array<f32>,
    rows: usize,
    features: usize,
    epsilon: f32,
) {
    let row = row_of_unit();
    let lane = UNIT_POS as usize % 32;
    let mut acc = 0.0f32.runtime();
    if row < rows {
        let mut i = lane;
        while i < features {
            let value = x[row * features + i];
            acc = fma(value, value, acc);
            i += 32;
        }
    }
    let squares = tree(acc);
    if row < rows {
        let root = 1.0 / f32::sqrt(squares / f32::cast_from(features) + epsilon);
        let mut i = lane;
        while i < features {
            y[row * features + i] = (x[row * features + i] * root) * w[i];
            i += 32;
        }
        if lane == 0 {
            roots[row] = root;
        }
    }
}

/// See [`crate::reference::rms_norm`].
pub(super) fn rms_norm<R: Runtime>(
    client: &ComputeClient<R>,
    x: &Handle,
    w: &Handle,
    [rows, features]: [usize; 2],
    epsilon: f32,
) -> [Handle; 2] {
    let (y, roots) = (room(client, rows * features), room(client, rows));
    assert!(words(x) >= rows * features && words(w) >= features, "rms_norm: sizes");
    // SAFETY: rows and features are checked against the buffers; each row belongs to the lanes of one cube.
    unsafe {
        rms_norm_kernel::launch_unchecked::<R>(
            client,
            cubes(rows, ROWS),
            CubeDim::new_1d(super::UNITS),
            argument(x),
            argument(w),
            argument(&y),
            argument(&roots),
            rows,
            features,
            epsilon,
        );
    }
    [y, roots]
}

#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub(super) fn rms_norm_input_gradient_kernel(
    dy: &Array<f32>,
    x: &Array<f32>,
    w: &Array<f32>,
    roots: &Array<f32>,
    plus: &Array<f32>,
    dx: &mut Array<f32>,
    rows: usize,
    features: usize,
    zero: u32,
    #[comptime] with_plus: bool,
) {
    let row = row_of_unit();
    let lane = UNIT_POS as usize % 32;
    let mut acc = 0.0f32.runtime();
    let mut root = 0.0f32.runtime();
    if row < rows {
        root = roots[row];
        let mut i = lane;
        while i < features {
            let at = row * features + i;
            acc = fma(dy[at] * w[i], x[at] * root, acc);
            i += 32;
        }
    }
    let dot = tree(acc);
    if row < rows {
        let c = dot / f32::cast_from(features);
        let mut i = lane;
        while i < features {
            let at = row * features + i;
            let inner = fma(-c, x[at] * root, dy[at] * w[i]);
            if comptime!(with_plus) {
                dx[at] = plus[at] + held(root * inner, zero);
            } else {
                dx[at] = root * inner;
            }
            i += 32;
        }
    }
}

/// See [`crate::reference::rms_norm_input_gradient`]; `plus + dx` where `plus` is given.
pub(super) fn rms_norm_input_gradient<R: Runtime>(
    client: &ComputeClient<R>,
    [dy, x, w, roots]: [&Handle; 4],
    plus: Option<&Handle>,
    [rows, features]: [usize; 2],
) -> Handle {
    let n = rows * features;
    let dx = room(client, n);
    assert!(words(dy) >= n && words(x) >= n && words(roots) >= rows, "rms_norm_input_gradient: sizes");
    assert!(words(w) >= features && plus.is_none_or(|plus| words(plus) >= n), "rms_norm_input_gradient: sizes");
    // SAFETY: rows and features are checked against the buffers; each row belongs to the lanes of one cube.
    unsafe {
        rms_norm_input_gradient_kernel::launch_unchecked::<R>(
            client,
            cubes(rows, ROWS),
            CubeDim::new_1d(super::UNITS),
            argument(dy),
            argument(x),
            argument(w),
            argument(roots),
            argument(plus.unwrap_or(x)),
            argument(&dx),
            rows,
            features,
            ZERO,
            plus.is_some(),
        );
    }
    dx
}

#[cube(launch_unchecked)]
pub(super) fn sums_kernel(
    x: &Array<f32>,
    sums: &mut Array<f32>,
    rows: usize,
    columns: usize,
    #[comptime] squared: bool,
) {
    let row = row_of_unit();
    let lane = UNIT_POS as usize % 32;
    let mut acc = 0.0f32.runtime();
    if row < rows {
        let mut i = lane;
        while i < columns {
            let value = x[row * columns + i];
            if comptime!(squared) {
                acc = fma(value, value, acc);
            } else {
                acc += value;
            }
            i += 32;
        }
    }
    let sum = tree(acc);
    if row < rows && lane == 0 {
        sums[row] = sum;
    }
}

/// The lane sum of each row, or of its squares. See [`crate::reference::row_sums_of_squares`].
pub(super) fn sums<R: Runtime>(
    client: &ComputeClient<R>,
    x: &Handle,
    [rows, columns]: [usize; 2],
    squared: bool,
) -> Handle {
    let sums = room(client, rows);
    assert!(words(x) >= rows * columns, "sums: sizes");
    // SAFETY: rows and columns are checked against the buffer; each row belongs to the lanes of one cube.
    unsafe {
        sums_kernel::launch_unchecked::<R>(
            client,
            cubes(rows, ROWS),
            CubeDim::new_1d(super::UNITS),
            argument(x),
            argument(&sums),
            rows,
            columns,
            squared,
        );
    }
    sums
}
