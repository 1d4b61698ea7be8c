//! Operands as they lie in memory.

use std::ops::Range;

use crate::lanes::LINE;
use crate::stored::StoredMatrix;

/// Values that lie 4 KiB apart share places in a cache.
const SAME_PLACES: usize = 1024;

/// How far apart rows of `columns` values should start: each begins a cache line, and they do not displace one another.
pub(in crate::cpu) fn row_stride(columns: usize) -> usize {
    let stride = columns.next_multiple_of(LINE);
    if stride.is_multiple_of(SAME_PLACES) { stride + LINE } else { stride }
}

/// A matrix in memory, element `(i, j)` at `i · row_stride + j · column_stride`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> View<'a> {
    /// Row-major: rows of `columns` elements.
    #[must_use]
    pub fn rows(data: &'a [f32], columns: usize) -> Self {
        Self { data, row_stride: columns, column_stride: 1 }
    }

    /// A matrix whose rows start `row_stride` elements apart.
    #[must_use]
    pub fn strided(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride, column_stride: 1 }
    }

    /// The same memory, rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.column_stride]
    }

    /// Whether the elements of a row follow one another.
    pub(super) fn in_order(&self) -> bool {
        self.column_stride == 1
    }

    /// Whether rows or columns lie so far apart, by a multiple of 4 KiB, that they displace one another in a cache.
    pub(super) fn collides(&self) -> bool {
        [self.row_stride, self.column_stride].iter().any(|stride| *stride > 0 && stride.is_multiple_of(SAME_PLACES))
    }

    /// Whether an element of every place within `rows` by `columns` is there.
    pub(super) fn holds(&self, rows: usize, columns: usize) -> bool {
        let place = |n: usize, stride: usize| (n - 1).checked_mul(stride);
        rows == 0
            || columns == 0
            || place(rows, self.row_stride)
                .zip(place(columns, self.column_stride))
                .and_then(|(row, column)| row.checked_add(column))
                .is_some_and(|last| last < self.data.len())
    }
}

/// A right operand: values, or a weight as it is stored.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// Values in memory.
    Values(View<'a>),
    /// A stored matrix.
    Stored(&'a StoredMatrix),
    /// A stored matrix with rows and columns exchanged.
    Transposed(&'a StoredMatrix),
}

impl<'a> From<View<'a>> for Matrix<'a> {
    fn from(view: View<'a>) -> Self {
        Self::Values(view)
    }
}

impl<'a> Matrix<'a> {
    pub(super) fn holds(&self, rows: usize, columns: usize) -> bool {
        match self {
            Self::Values(view) => view.holds(rows, columns),
            Self::Stored(matrix) => matrix.shape() == [rows, columns],
            Self::Transposed(matrix) => matrix.shape() == [columns, rows],
        }
    }

    /// Whether a panel can be read where it lies.
    pub(super) fn in_order(&self) -> bool {
        matches!(self, Self::Values(view) if view.in_order())
    }

    /// The values from `(row, column)` on, and how far apart rows are. For operands that lie in order.
    pub(super) fn in_place(&self, row: usize, column: usize) -> (&'a [f32], usize) {
        match self {
            Self::Values(view) => (&view.data[row * view.row_stride + column..], view.row_stride),
            Self::Stored(_) | Self::Transposed(_) => unreachable!("`in_order` holds for values only"),
        }
    }

    /// A view that holds `rows` by `columns`, and which row and column its first element is. Stored values are turned
    /// into f32 in `decoded`, which is cleared before.
    pub(super) fn values<'b>(
        &self,
        rows: &Range<usize>,
        columns: &Range<usize>,
        decoded: &'b mut Vec<f32>,
    ) -> (View<'b>, [usize; 2])
    where
        'a: 'b,
    {
        let mut decode = |matrix: &StoredMatrix, rows: &Range<usize>, columns: &Range<usize>| {
            decoded.clear();
            rows.clone().for_each(|row| matrix.decode(row, columns, decoded));
            matrix.whole(columns)
        };
        match self {
            Self::Values(view) => (*view, [0, 0]),
            Self::Stored(matrix) => {
                let whole = decode(matrix, rows, columns);
                (View::rows(decoded, whole.len()), [rows.start, whole.start])
            }
            Self::Transposed(matrix) => {
                let whole = decode(matrix, columns, rows);
                (View::rows(decoded, whole.len()).transposed(), [whole.start, columns.start])
            }
        }
    }
}
