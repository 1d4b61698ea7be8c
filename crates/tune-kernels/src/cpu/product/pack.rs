//! Operands copied into the order in which the inner loop reads them.

use std::ops::Range;

use super::View;
use crate::lanes::{Lanes, prefetch};

/// How many rows before its use a row of a large operand is asked for: it comes from main memory.
const ROWS_AHEAD: usize = 8;

/// Rows `rows` and steps `steps` of `a`, as `[step][row]`. `out` has room for one more vector, whose content is of no
/// meaning.
#[inline(always)]
pub(in crate::cpu) fn tile<L: Lanes>(a: View<'_>, rows: Range<usize>, steps: Range<usize>, out: &mut [f32]) {
    let (count, depth) = (rows.len(), steps.len());
    assert!(out.len() >= count * depth + L::WIDTH, "room for a tile");
    if a.row_stride == 1 {
        for (p, out) in steps.zip(out.chunks_exact_mut(count)) {
            let from = &a.data[p * a.column_stride + rows.start..];
            if count == L::TILE_ROWS {
                // The usual size, as a constant.
                out[..L::TILE_ROWS].copy_from_slice(&from[..L::TILE_ROWS]);
            } else {
                out.copy_from_slice(&from[..count]);
            }
        }
        return;
    }
    let mut done = 0;
    if a.column_stride == 1 && count <= L::WIDTH {
        let last = (rows.end - 1) * a.row_stride + steps.end;
        assert!(last <= a.data.len(), "the operand holds the tile");
        while done + L::WIDTH <= depth {
            let from = rows.start * a.row_stride + steps.start + done;
            // SAFETY: reads stay below `last`; the last of the overlapping writes ends `WIDTH - count` values after the
            // tile, for which `out` has room.
            unsafe {
                L::transpose(a.data.as_ptr().add(from), a.row_stride, count, out.as_mut_ptr().add(done * count), count);
            }
            done += L::WIDTH;
        }
    }
    for (p, out) in (steps.start + done..steps.end).zip(out[done * count..].chunks_exact_mut(count)) {
        for (i, out) in rows.clone().zip(out) {
            *out = a.at(i, p);
        }
    }
}

/// Columns `columns` and steps `steps` of `b`, as `[step][lane]` with `lanes` a step; zeros beyond the columns.
#[inline(always)]
pub(in crate::cpu) fn panel<L: Lanes>(
    b: View<'_>,
    columns: Range<usize>,
    steps: Range<usize>,
    lanes: usize,
    out: &mut [f32],
) {
    let (count, depth) = (columns.len(), steps.len());
    assert!(out.len() >= depth * lanes && count <= lanes && lanes.is_multiple_of(L::WIDTH), "room for a panel");
    if b.column_stride == 1 {
        for (p, out) in steps.zip(out.chunks_exact_mut(lanes)) {
            out[..count].copy_from_slice(&b.data[p * b.row_stride + columns.start..][..count]);
            out[count..].fill(0.0);
        }
        return;
    }
    let mut done = 0;
    if b.row_stride == 1 {
        let last = (columns.end - 1) * b.column_stride + steps.end;
        assert!(last <= b.data.len(), "the operand holds the panel");
        while done + L::WIDTH <= depth {
            for lane in (0..lanes).step_by(L::WIDTH) {
                let rows = count.saturating_sub(lane).min(L::WIDTH);
                let from = (columns.start + lane.min(count)) * b.column_stride + steps.start + done;
                // SAFETY: `rows` rows are read, which stay below `last`; writes stay within `depth` rows of `lanes`.
                unsafe {
                    let to = out.as_mut_ptr().add(done * lanes + lane);
                    L::transpose(b.data.as_ptr().wrapping_add(from), b.column_stride, rows, to, lanes);
                }
            }
            done += L::WIDTH;
        }
    }
    for (p, out) in (steps.start + done..steps.end).zip(out[done * lanes..].chunks_exact_mut(lanes)) {
        for (j, out) in columns.clone().zip(out.iter_mut()) {
            *out = b.at(p, j);
        }
        out[count..].fill(0.0);
    }
}

/// Columns `columns` and steps `steps` of `b`, whose rows lie in order, as panels of `lanes` columns that `next` hands out
/// room for: what follows one another in memory is read one after another.
#[inline(always)]
pub(in crate::cpu) fn panels_in_order<'a, L: Lanes>(
    b: View<'_>,
    columns: Range<usize>,
    steps: Range<usize>,
    lanes: usize,
    mut next: impl FnMut() -> &'a mut [f32],
) {
    assert!(lanes == L::WIDTH || lanes == 2 * L::WIDTH, "a panel has one or two vectors");
    // As many panels at a time as there are streams that a processor follows.
    for start in columns.clone().step_by(8 * lanes) {
        let columns = start..(start + 8 * lanes).min(columns.end);
        let mut outs: [&mut [f32]; 8] = Default::default();
        let panels = columns.len().div_ceil(lanes);
        outs[..panels].fill_with(&mut next);
        let (whole, rest) = (columns.len() / lanes, columns.len() % lanes);
        assert!(outs[..panels].iter().all(|out| out.len() >= steps.len() * lanes), "room for panels");
        for (n, p) in steps.clone().enumerate() {
            let row = &b.data[p * b.row_stride..][columns.clone()];
            let ahead = row.as_ptr().wrapping_add(ROWS_AHEAD * b.row_stride);
            for (panel, out) in outs.iter_mut().enumerate().take(whole) {
                prefetch(ahead.wrapping_add(panel * lanes));
                // SAFETY: `row` holds `whole` panels, and `out` every step, as was just checked.
                unsafe {
                    let (from, to) = (row.as_ptr().add(panel * lanes), out.as_mut_ptr().add(n * lanes));
                    L::load(from).store(to);
                    if lanes > L::WIDTH {
                        L::load(from.add(L::WIDTH)).store(to.add(L::WIDTH));
                    }
                }
            }
            if rest > 0 {
                let out = &mut outs[whole][n * lanes..(n + 1) * lanes];
                out[..rest].copy_from_slice(&row[whole * lanes..]);
                out[rest..].fill(0.0);
            }
        }
    }
}
