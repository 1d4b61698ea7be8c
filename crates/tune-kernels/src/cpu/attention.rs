//! Causal attention within spans. Scores live in a buffer of a few queries; nothing of size tokens × tokens is kept.
//!
//! A task is one span and one key-value head. It walks the queries of each head in blocks of as many as two vectors
//! have lanes. Scores lie as `[key][query]`: lanes run over the queries of a block where a query's keys are reduced (maximum,
//! sum), and over the features of a head where keys or queries are added up. What a query does not see takes part in
//! no chain: tiles end at the first query's last key, and for the few keys beyond it a tile has the form of a triangle.

#![expect(unsafe_code, reason = "tiles are multiplied through pointers, and tasks write disjoint columns")]

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::pointwise::{load, store};
use super::product::scratch::{Scratch, written};
use super::product::tile::{self, Triangle};
use super::product::{View, pack};
use super::{Level, Shared, dispatch};
use crate::elementary::exp;
use crate::lanes::{LINE, Lanes, prefetch};
use crate::layout::Span;
use crate::shapes::Heads;

/// Operands of the forward and the backward pass.
#[derive(Clone, Copy)]
struct Operands<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    heads: Heads,
}

/// Rows `first..first + count` of one head of `x: [tokens, heads × head_dim]`.
fn head_rows(x: &[f32], heads: usize, head_dim: usize, first: usize, head: usize) -> View<'_> {
    View::strided(&x[(first * heads + head) * head_dim..], heads * head_dim)
}

/// The rows as `[feature][lane]`, a row a lane, zeros beyond; each value times `scale` where there is one.
#[inline(always)]
fn columns_of<L: Lanes>(rows: View<'_>, count: usize, head_dim: usize, scale: Option<f32>, out: &mut [f32]) {
    pack::panel::<L>(rows.transposed(), 0..count, 0..head_dim, 2 * L::WIDTH, out);
    if let Some(scale) = scale {
        out.iter_mut().for_each(|value| *value *= scale);
    }
}

/// Asks for the rows of the block of queries that comes after one: the next ones, or the first ones of the next head.
#[inline(always)]
fn ask_for_next(of: &[&[f32]], heads: Heads, span: &Span, (head, block): (usize, &Range<usize>), lanes: usize) {
    let (next, head) = if block.end < span.queries.len() { (block.end, head) } else { (0, head + 1) };
    for (x, row) in of.iter().flat_map(|x| (next..(next + lanes).min(span.queries.len())).map(move |row| (x, row))) {
        let first = ((span.queries.start + row) * heads.heads + head) * heads.head_dim;
        (0..heads.head_dim).step_by(LINE).for_each(|d| prefetch(x.as_ptr().wrapping_add(first + d)));
    }
}

/// Keys or values of a task, close together.
struct Packed<'a> {
    /// `[key][feature]`, padded to whole vectors.
    rows: &'a [f32],
    /// Features of a padded row.
    width: usize,
    head_dim: usize,
}

impl<'a> Packed<'a> {
    /// `rows` is room for them, of any content.
    #[inline(always)]
    fn new<L: Lanes>(x: View<'_>, head_dim: usize, width: usize, rows: &'a mut [f32]) -> Self {
        pack::panel::<L>(x, 0..head_dim, 0..rows.len() / width, width, rows);
        Self { rows, width, head_dim }
    }

    /// `out[key][lane] = chain over features of key · column` for the first `count` keys, of which lane 0 sees `shared` and
    /// each next lane one more. What a lane does not see may be left as it was.
    #[inline(always)]
    fn by_columns<L: Lanes>(&self, count: usize, shared: usize, columns: &[f32], out: &mut [f32]) {
        let lanes = 2 * L::WIDTH;
        assert!(
            columns.len() >= self.head_dim * lanes
                && out.len() >= count * lanes
                && self.rows.len() >= count * self.width,
            "sizes"
        );
        for first in (0..count).step_by(L::TILE_ROWS) {
            // Lanes of the first vector may see none of these keys.
            let skip = if first + 1 >= shared + L::WIDTH { L::WIDTH } else { 0 };
            // SAFETY: the sizes were just checked.
            unsafe {
                let operands = tile::Operands {
                    depth: self.head_dim,
                    a: self.rows[first * self.width..].as_ptr(),
                    a_row: self.width,
                    a_step: 1,
                    b: columns[skip..].as_ptr(),
                    b_stride: lanes,
                    c: out[first * lanes + skip..].as_mut_ptr(),
                    c_stride: lanes,
                    onto: tile::Onto::Replace,
                };
                tile::multiply::<L>((count - first).min(L::TILE_ROWS), lanes - skip, operands, None);
            }
        }
    }

    /// `out[query][feature] = chain over the visible keys of weights[key][query] · key`, for the queries of a block.
    /// `shared` keys are visible to the first query, one more to each next one.
    #[inline(always)]
    fn weighted<L: Lanes>(&self, weights: &[f32], queries: usize, shared: usize, out: &mut [f32]) {
        let lanes = 2 * L::WIDTH;
        assert!(
            weights.len() >= (shared + queries - 1) * lanes && self.rows.len() >= (shared + queries - 1) * self.width
        );
        for first in (0..queries).step_by(L::TILE_ROWS) {
            let rows = first..(first + L::TILE_ROWS).min(queries);
            let depth = shared + first;
            let out = &mut out[rows.start * self.width..rows.end * self.width];
            multiply_rows::<L>(depth, (&weights[first..], [1, lanes]), (self.rows, self.width), out, Onto::Replace);
            // Each query after the tile's first sees one key more.
            if rows.len() > 1 {
                let (weights, keys) = (&weights[depth * lanes + first..], &self.rows[depth * self.width..]);
                let onto = Onto::Triangle(Triangle::After);
                multiply_rows::<L>(rows.len() - 1, (weights, [1, lanes]), (keys, self.width), out, onto);
            }
        }
    }
}

/// What becomes of the sums of [`multiply_rows`].
#[derive(Clone, Copy)]
enum Onto {
    Replace,
    Resume,
    /// Rows go on in those steps that they take part in.
    Triangle(Triangle),
}

/// `out[i][feature] = chain over p of a[i, p] · b[p][feature]`, all features of padded rows. Rows and steps of `a` are as far
/// apart as its strides say.
#[inline(always)]
fn multiply_rows<L: Lanes>(
    depth: usize,
    (a, [a_row, a_step]): (&[f32], [usize; 2]),
    (b, width): (&[f32], usize),
    out: &mut [f32],
    onto: Onto,
) {
    let rows = out.len() / width;
    assert!(depth == 0 || (a.len() > (rows - 1) * a_row + (depth - 1) * a_step && b.len() >= depth * width), "sizes");
    for feature in (0..width).step_by(2 * L::WIDTH) {
        let columns = (width - feature).min(2 * L::WIDTH);
        let operands = tile::Operands {
            depth,
            a: a.as_ptr(),
            a_row,
            a_step,
            b: b.as_ptr().wrapping_add(feature),
            b_stride: width,
            c: out[feature..].as_mut_ptr(),
            c_stride: width,
            onto: if matches!(onto, Onto::Replace) { tile::Onto::Replace } else { tile::Onto::Resume },
        };
        // SAFETY: the sizes were just checked; `width` is a whole number of vectors.
        unsafe {
            match (onto, columns == L::WIDTH) {
                (Onto::Triangle(triangle), true) => tile::multiply_triangle::<L, 1>(rows, triangle, operands),
                (Onto::Triangle(triangle), false) => tile::multiply_triangle::<L, 2>(rows, triangle, operands),
                (Onto::Replace | Onto::Resume, _) => tile::multiply::<L>(rows, columns, operands, None),
            }
        }
    }
}

/// Memory of a task that is handed out piece by piece.
struct Room<'a>(&'a mut [f32]);

impl<'a> Room<'a> {
    /// The next `len` values, of any content.
    fn part(&mut self, len: usize) -> &'a mut [f32] {
        let (part, rest) = std::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        part
    }
}

/// Two vectors of a row of lanes.
#[inline(always)]
fn pair<L: Lanes>(row: &[f32]) -> [L; 2] {
    [load(&row[..L::WIDTH]), load(&row[L::WIDTH..])]
}

#[inline(always)]
fn store_pair<L: Lanes>([low, high]: [L; 2], row: &mut [f32]) {
    let (a, b) = row.split_at_mut(L::WIDTH);
    store(low, a);
    store(high, b);
}

/// The queries of a span in blocks: offsets within the span.
fn blocks(span: &Span, lanes: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let queries = span.queries.len();
    (0..queries).step_by(lanes).map(move |start| start..(start + lanes).min(queries))
}

/// Every (span, key-value head) pair.
///
/// # Panics
/// If spans share queries or keys, which several tasks would write then, or heads do not share key-value heads evenly, and
/// some would belong to no task.
fn tasks(spans: &[Span], heads: Heads) -> Vec<(&Span, usize)> {
    assert!(heads.kv_heads > 0 && heads.heads.is_multiple_of(heads.kv_heads), "each head belongs to a task");
    let apart = |pair: &[Span]| pair[0].queries.end <= pair[1].queries.start && pair[0].keys.end <= pair[1].keys.start;
    assert!(spans.windows(2).all(apart), "spans follow one another");
    spans.iter().flat_map(|span| (0..heads.kv_heads).map(move |kv_head| (span, kv_head))).collect()
}

/// See [`crate::reference::attention`].
#[must_use]
pub fn attention(level: Level, q: &[f32], k: &[f32], v: &[f32], spans: &[Span], heads: Heads) -> (Vec<f32>, Vec<f32>) {
    let operands = Operands { q, k, v, heads };
    let tokens = q.len() / (heads.heads * heads.head_dim);
    let mut statistics = vec![0.0; tokens * heads.heads * 2];
    let stats = Shared::new(&mut statistics);
    let write = |output: &mut [MaybeUninit<f32>]| {
        clear_gaps(output, spans.iter().map(|span| &span.queries), heads.heads * heads.head_dim);
        let out = Shared::unwritten(output);
        tasks(spans, heads).into_par_iter().for_each(|(span, kv_head)| {
            dispatch!(level, L => forward_task::<L>(operands, span, kv_head, out, stats));
        });
    };
    // SAFETY: a token lies in a span, whose tasks write it, or in a gap.
    let output = unsafe { written(q.len(), write) };
    (output, statistics)
}

/// Writes zeros for the tokens that lie in none of the ranges, which follow one another.
fn clear_gaps<'a>(values: &mut [MaybeUninit<f32>], ranges: impl Iterator<Item = &'a Range<usize>>, features: usize) {
    let mut next = 0;
    for range in ranges {
        values[next * features..range.start * features].fill(MaybeUninit::new(0.0));
        next = range.end;
    }
    values[next * features..].fill(MaybeUninit::new(0.0));
}

#[inline(always)]
fn forward_task<L: Lanes>(operands: Operands<'_>, span: &Span, kv_head: usize, out: Shared, stats: Shared) {
    let Heads { heads, kv_heads, head_dim } = operands.heads;
    let (lanes, keys) = (2 * L::WIDTH, span.keys.len());
    let width = head_dim.next_multiple_of(L::WIDTH);
    let mut room = Scratch::take(2 * keys * width + head_dim * lanes + keys * lanes + lanes * width);
    let mut room = Room(room.values());
    let of_span = |x| head_rows(x, kv_heads, head_dim, span.keys.start, kv_head);
    let packed_keys = Packed::new::<L>(of_span(operands.k), head_dim, width, room.part(keys * width));
    let values = Packed::new::<L>(of_span(operands.v), head_dim, width, room.part(keys * width));
    let columns = room.part(head_dim * lanes);
    let weights = room.part(keys * lanes);
    let sums = room.part(lanes * width);
    for head in kv_head * operands.heads.group()..(kv_head + 1) * operands.heads.group() {
        for block in blocks(span, lanes) {
            let (count, first) = (block.len(), span.queries.start + block.start);
            let (shared, visible) = (span.visible(block.start), span.visible(block.end - 1));
            let queries = head_rows(operands.q, heads, head_dim, first, head);
            columns_of::<L>(queries, count, head_dim, Some(operands.heads.scale()), columns);
            ask_for_next(&[operands.q], operands.heads, span, (head, &block), lanes);
            packed_keys.by_columns::<L>(visible, shared, columns, weights);
            let (max, sum) = softmax::<L>(&mut weights[..visible * lanes], shared);
            values.weighted::<L>(weights, count, shared, sums);
            for (lane, sums) in sums.chunks_exact(width).take(count).enumerate() {
                let row = (first + lane) * heads + head;
                // SAFETY: spans do not share query tokens and a head belongs to one task, so each place is written once.
                unsafe {
                    *stats.get().add(row * 2) = max[lane];
                    *stats.get().add(row * 2 + 1) = sum[lane];
                    for (d, value) in sums[..head_dim].iter().enumerate() {
                        *out.get().add(row * head_dim + d) = value / sum[lane];
                    }
                }
            }
        }
    }
}

/// Replaces scores by `exp(score - maximum)` and gives each lane's maximum and sum. `shared` keys are visible to lane 0,
/// one more to each next lane; what is not visible becomes 0, and adding that changes no sum.
#[inline(always)]
fn softmax<L: Lanes>(scores: &mut [f32], shared: usize) -> ([f32; 32], [f32; 32]) {
    let lanes = 2 * L::WIDTH;
    // Key `shared + r` is hidden from lanes 0 to r.
    let hidden = |key: usize| if key < shared { 0 } else { (key - shared + 1).min(lanes) };
    let mut max = [L::splat(f32::NEG_INFINITY); 2];
    for (key, row) in scores.chunks_exact_mut(lanes).enumerate() {
        row[..hidden(key)].fill(f32::NEG_INFINITY);
        let score = pair::<L>(row);
        max = [score[0].max(max[0]), score[1].max(max[1])];
    }
    let mut out = ([0.0; 32], [0.0; 32]);
    store_pair(max, &mut out.0[..lanes]);
    let mut sum = [L::splat(0.0); 2];
    for (key, row) in scores.chunks_exact_mut(lanes).enumerate() {
        // Exponentials of what is hidden would be denormal numbers, which processors take a hundred times longer for.
        row[..hidden(key)].copy_from_slice(&out.0[..hidden(key)]);
        let score = pair::<L>(row);
        store_pair([exp(score[0].sub(max[0])), exp(score[1].sub(max[1]))], row);
        row[..hidden(key)].fill(0.0);
        let weight = pair::<L>(row);
        sum = [sum[0].add(weight[0]), sum[1].add(weight[1])];
    }
    store_pair(sum, &mut out.1[..lanes]);
    out
}

/// See [`crate::reference::attention_backward`].
#[must_use]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub fn attention_backward(
    level: Level,
    d_output: &[f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    output: &[f32],
    statistics: &[f32],
    spans: &[Span],
    heads: Heads,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let operands = Operands { q, k, v, heads };
    let saved = Saved { d_output, output, statistics };
    let write = |[dq, dk, dv]: [&mut [MaybeUninit<f32>]; 3]| {
        clear_gaps(dq, spans.iter().map(|span| &span.queries), heads.heads * heads.head_dim);
        for of_keys in [&mut *dk, &mut *dv] {
            clear_gaps(of_keys, spans.iter().map(|span| &span.keys), heads.kv_heads * heads.head_dim);
        }
        let shared = [dq, dk, dv].map(Shared::unwritten);
        tasks(spans, heads).into_par_iter().for_each(|(span, kv_head)| {
            dispatch!(level, L => backward_task::<L>(operands, saved, span, kv_head, shared));
        });
    };
    let (mut dk, mut dv) = (Vec::new(), Vec::new());
    // SAFETY: a token lies in a span, whose tasks write it, or in a gap.
    let dq = unsafe {
        written(q.len(), |dq| {
            dk = written(k.len(), |dk| dv = written(v.len(), |dv| write([dq, dk, dv])));
        })
    };
    (dq, dk, dv)
}

/// What the backward pass gets beside q, k and v.
#[derive(Clone, Copy)]
struct Saved<'a> {
    d_output: &'a [f32],
    output: &'a [f32],
    statistics: &'a [f32],
}

#[inline(always)]
fn backward_task<L: Lanes>(
    operands: Operands<'_>,
    saved: Saved<'_>,
    span: &Span,
    kv_head: usize,
    [dq, dk, dv]: [Shared; 3],
) {
    let Heads { heads, kv_heads, head_dim } = operands.heads;
    let (lanes, keys, scale) = (2 * L::WIDTH, span.keys.len(), operands.heads.scale());
    let width = head_dim.next_multiple_of(L::WIDTH);
    let mut room = Scratch::take(4 * keys * width + 3 * head_dim * lanes + 3 * lanes * width + 2 * keys * lanes);
    let mut room = Room(room.values());
    let of_span = |x| head_rows(x, kv_heads, head_dim, span.keys.start, kv_head);
    let packed_keys = Packed::new::<L>(of_span(operands.k), head_dim, width, room.part(keys * width));
    let values = Packed::new::<L>(of_span(operands.v), head_dim, width, room.part(keys * width));
    let [d_keys, d_values] = [(); 2].map(|()| room.part(keys * width));
    d_keys.fill(0.0);
    d_values.fill(0.0);
    let [query_columns, d_out_columns, out_columns] = [(); 3].map(|()| room.part(head_dim * lanes));
    let [query_rows, d_out_rows, d_query] = [(); 3].map(|()| room.part(lanes * width));
    let [p, ds] = [(); 2].map(|()| room.part(keys * lanes));
    for head in kv_head * operands.heads.group()..(kv_head + 1) * operands.heads.group() {
        for block in blocks(span, lanes) {
            let (count, first) = (block.len(), span.queries.start + block.start);
            let (shared, visible) = (span.visible(block.start), span.visible(block.end - 1));
            let of_block = |x| head_rows(x, heads, head_dim, first, head);
            columns_of::<L>(of_block(operands.q), count, head_dim, Some(scale), query_columns);
            columns_of::<L>(of_block(saved.d_output), count, head_dim, None, d_out_columns);
            columns_of::<L>(of_block(saved.output), count, head_dim, None, out_columns);
            pack::panel::<L>(of_block(operands.q), 0..head_dim, 0..count, width, query_rows);
            query_rows[..count * width].iter_mut().for_each(|value| *value *= scale);
            pack::panel::<L>(of_block(saved.d_output), 0..head_dim, 0..count, width, d_out_rows);
            let of_queries = [operands.q, saved.d_output, saved.output];
            ask_for_next(&of_queries, operands.heads, span, (head, &block), lanes);
            packed_keys.by_columns::<L>(visible, shared, query_columns, p);
            values.by_columns::<L>(visible, shared, d_out_columns, ds);
            let (mut max, mut sum) = ([0.0; 32], [1.0; 32]);
            for lane in 0..count {
                let row = (first + lane) * heads + head;
                (max[lane], sum[lane]) = (saved.statistics[row * 2], saved.statistics[row * 2 + 1]);
            }
            let dot = dots::<L>(d_out_columns, out_columns);
            score_gradients::<L>(&mut p[..visible * lanes], &mut ds[..visible * lanes], &max, &sum, dot);
            packed_keys.weighted::<L>(ds, count, shared, d_query);
            for (lane, d_query) in d_query.chunks_exact(width).take(count).enumerate() {
                let place = ((first + lane) * heads + head) * head_dim;
                for (d, value) in d_query[..head_dim].iter().enumerate() {
                    // SAFETY: spans do not share query tokens and a head belongs to one task.
                    unsafe { *dq.get().add(place + d) = value * scale };
                }
            }
            add_queries::<L>(ds, query_rows, count, shared, d_keys);
            add_queries::<L>(p, d_out_rows, count, shared, d_values);
        }
    }
    for (j, token) in span.keys.clone().enumerate() {
        let place = (token * kv_heads + kv_head) * head_dim;
        for d in 0..head_dim {
            // SAFETY: spans do not share key tokens and a key-value head belongs to one task.
            unsafe {
                *dk.get().add(place + d) = d_keys[j * width + d];
                *dv.get().add(place + d) = d_values[j * width + d];
            }
        }
    }
}

/// Each lane's chain over features of `a · b`.
#[inline(always)]
fn dots<L: Lanes>(a: &[f32], b: &[f32]) -> [L; 2] {
    let lanes = 2 * L::WIDTH;
    let mut acc = [L::splat(0.0); 2];
    for (a, b) in a.chunks_exact(lanes).zip(b.chunks_exact(lanes)) {
        let (a, b) = (pair::<L>(a), pair::<L>(b));
        acc = [a[0].fma(b[0], acc[0]), a[1].fma(b[1], acc[1])];
    }
    acc
}

/// Scores in `p` become weights `exp(score - max) / sum`; what `ds` holds, the weights' gradients, becomes that of the scores:
/// `weight · (gradient - dot)`.
#[inline(always)]
fn score_gradients<L: Lanes>(p: &mut [f32], ds: &mut [f32], max: &[f32], sum: &[f32], dot: [L; 2]) {
    let lanes = 2 * L::WIDTH;
    let (max, sum) = (pair::<L>(&max[..lanes]), pair::<L>(&sum[..lanes]));
    for (p, ds) in p.chunks_exact_mut(lanes).zip(ds.chunks_exact_mut(lanes)) {
        let (score, gradient) = (pair::<L>(p), pair::<L>(ds));
        let weight = [exp(score[0].sub(max[0])).div(sum[0]), exp(score[1].sub(max[1])).div(sum[1])];
        store_pair([weight[0].mul(gradient[0].sub(dot[0])), weight[1].mul(gradient[1].sub(dot[1]))], ds);
        store_pair(weight, p);
    }
}

/// `acc[key] = chain over the queries that see it of weights[key][query] · rows[query]`, going on from `acc`.
#[inline(always)]
fn add_queries<L: Lanes>(weights: &[f32], rows: &[f32], queries: usize, shared: usize, acc: &mut [f32]) {
    let (lanes, width) = (2 * L::WIDTH, rows.len() / (2 * L::WIDTH));
    for first in (0..shared).step_by(L::TILE_ROWS) {
        let keys = first..(first + L::TILE_ROWS).min(shared);
        let acc = &mut acc[keys.start * width..keys.end * width];
        multiply_rows::<L>(queries, (&weights[keys.start * lanes..], [lanes, 1]), (rows, width), acc, Onto::Resume);
    }
    // Key `shared + r` is seen from query `r + 1` on: the first queries by some keys of a tile, the others by all of them.
    for first in (0..queries - 1).step_by(L::TILE_ROWS) {
        let end = (first + L::TILE_ROWS).min(queries - 1);
        let acc = &mut acc[(shared + first) * width..(shared + end) * width];
        let weights = &weights[(shared + first) * lanes..];
        let from = |query: usize| ((&weights[query..], [lanes, 1]), (&rows[query * width..], width));
        let (some, all) = (from(first + 1), from(end + 1));
        multiply_rows::<L>(end - first, some.0, some.1, acc, Onto::Triangle(Triangle::UpTo));
        multiply_rows::<L>(queries - end - 1, all.0, all.1, acc, Onto::Resume);
    }
}
