//! Causal attention within spans. Scores are computed anew wherever they are needed; nothing of their size is stored.
//!
//! A cube of 16 × 16 units looks at 32 queries and 32 keys at a time, each unit at 2 × 2 of their scores; 32 features of
//! both lie in shared memory. Chains over keys and queries run over all blocks in order.

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::elementary::{ZERO, exp};
use super::{UNITS, argument, cubes, index, room, upload, words};
use crate::layout::Span;
use crate::shapes::Heads;

/// Queries and keys of a block, and features in shared memory.
const BLOCK: usize = 32;
/// Values between rows in shared memory: one more, so that reading a column meets every bank.
const STRIDE: usize = BLOCK + 1;
/// Values of a matrix in shared memory.
const MATRIX: usize = BLOCK * STRIDE;
/// Words that describe a block.
const WORDS: usize = 6;

/// Features of a head that a unit has in registers, sixteen units to a row.
fn features_of_unit(head_dim: usize) -> usize {
    head_dim.div_ceil(16)
}

/// Dot products over a head of 32 rows of `a` (each value times `scale`) and 32 rows of `b`: `sums[2 i + j]` is that of row
/// `2 (unit / 16) + i` of `a` and row `unit % 16 + 16 j` of `b`. Rows beyond the counts give anything. To be met by all
/// units of a cube; the first two matrices of `tile` are overwritten.
#[cube]
#[expect(clippy::too_many_arguments, reason = "two operands")]
fn scores(
    a: &Array<f32>,
    a_first: usize,
    a_count: usize,
    a_stride: usize,
    scale: f32,
    b: &Array<f32>,
    b_first: usize,
    b_count: usize,
    b_stride: usize,
    tile: &mut SharedMemory<f32>,
    sums: &mut Array<f32>,
    #[comptime] head_dim: usize,
) {
    let unit = UNIT_POS as usize;
    let row = unit / 16 * 2;
    let column = unit % 16;
    #[unroll]
    for i in 0..4usize {
        sums[i] = 0.0;
    }
    let mut start = 0usize;
    while start < head_dim {
        #[unroll]
        for n in 0..4usize {
            let at = unit + n * 256;
            let (line, feature) = (at / BLOCK, at % BLOCK);
            if start + feature < head_dim {
                if line < a_count {
                    tile[line * STRIDE + feature] = a[a_first + line * a_stride + start + feature] * scale;
                }
                if line < b_count {
                    tile[MATRIX + line * STRIDE + feature] = b[b_first + line * b_stride + start + feature];
                }
            }
        }
        sync_cube();
        let mut count = head_dim - start;
        if count > BLOCK {
            count = BLOCK.runtime();
        }
        for feature in 0..count {
            #[unroll]
            for i in 0..2usize {
                let value = tile[(row + i) * STRIDE + feature];
                #[unroll]
                for j in 0..2usize {
                    let other = tile[MATRIX + (column + 16 * j) * STRIDE + feature];
                    sums[2 * i + j] = fma(value, other, sums[2 * i + j]);
                }
            }
        }
        sync_cube();
        start += BLOCK;
    }
}

/// The smaller of two.
#[cube]
fn least(a: usize, b: usize) -> usize {
    select(a < b, a, b)
}

/// Blocks of queries: for each its first query, its queries, the first key, the keys that its first query sees.
#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub(super) fn forward_kernel(
    q: &Array<f32>,
    k: &Array<f32>,
    v: &Array<f32>,
    output: &mut Array<f32>,
    statistics: &mut Array<f32>,
    blocks: &Array<u32>,
    heads: usize,
    kv_heads: usize,
    scale: f32,
    lowest: f32,
    zero: u32,
    #[comptime] head_dim: usize,
) {
    let features = comptime!(features_of_unit(head_dim));
    let mut tile = SharedMemory::<f32>::new(comptime!(3 * MATRIX));
    let mut sums = Array::<f32>::new(4usize);
    let mut max = Array::<f32>::new(2usize);
    let mut total = Array::<f32>::new(2usize);
    let mut values = Array::<f32>::new(comptime!(2 * features_of_unit(head_dim)));
    let unit = UNIT_POS as usize;
    let row = unit / 16 * 2;
    let column = unit % 16;
    let block = CUBE_POS_X as usize * WORDS;
    let head = CUBE_POS_Y as usize;
    let kv_head = head / (heads / kv_heads);
    let (q_stride, k_stride) = (heads * head_dim, kv_heads * head_dim);
    let q_count = blocks[block + 1] as usize;
    let visible = blocks[block + 3] as usize;
    let q_first = blocks[block] as usize * q_stride + head * head_dim;
    let k_first = blocks[block + 2] as usize * k_stride + kv_head * head_dim;
    let end = visible + q_count - 1;
    #[unroll]
    for i in 0..2usize {
        max[i] = lowest;
        total[i] = 0.0;
    }
    #[unroll]
    for i in 0..2 * features {
        values[i] = 0.0;
    }

    let mut key = 0usize;
    while key < end {
        let first = k_first + key * k_stride;
        let count = least(end - key, BLOCK);
        scores(q, q_first, q_count, q_stride, scale, k, first, count, k_stride, &mut tile, &mut sums, head_dim);
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                if key + column + 16 * j < visible + row + i && sums[2 * i + j] > max[i] {
                    max[i] = sums[2 * i + j];
                }
            }
        }
        key += BLOCK;
    }
    #[unroll]
    for i in 0..2usize {
        tile[2 * MATRIX + (row + i) * STRIDE + column] = max[i];
    }
    sync_cube();
    #[unroll]
    for i in 0..2usize {
        for other in 0..16usize {
            let value = tile[2 * MATRIX + (row + i) * STRIDE + other];
            if value > max[i] {
                max[i] = value;
            }
        }
    }
    sync_cube();

    let mut key = 0usize;
    while key < end {
        let first = k_first + key * k_stride;
        let count = least(end - key, BLOCK);
        scores(q, q_first, q_count, q_stride, scale, k, first, count, k_stride, &mut tile, &mut sums, head_dim);
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                tile[2 * MATRIX + (row + i) * STRIDE + column + 16 * j] = exp(sums[2 * i + j] - max[i], zero);
            }
        }
        sync_cube();
        for other in 0..count {
            #[unroll]
            for i in 0..2usize {
                if key + other < visible + row + i {
                    let p = tile[2 * MATRIX + (row + i) * STRIDE + other];
                    total[i] = total[i] + p;
                    #[unroll]
                    for n in 0..features {
                        let feature = column + 16 * n;
                        if feature < head_dim {
                            values[i * features + n] =
                                fma(p, v[first + other * k_stride + feature], values[i * features + n]);
                        }
                    }
                }
            }
        }
        key += BLOCK;
    }
    #[unroll]
    for i in 0..2usize {
        if row + i < q_count {
            let at = q_first + (row + i) * q_stride;
            #[unroll]
            for n in 0..features {
                let feature = column + 16 * n;
                if feature < head_dim {
                    output[at + feature] = values[i * features + n] / total[i];
                }
            }
            if column == 0 {
                let at = at / head_dim * 2;
                statistics[at] = max[i];
                statistics[at + 1] = total[i];
            }
        }
    }
}

/// `D`: for each token and head the chain over its features of `dO · O`.
#[cube(launch_unchecked)]
pub(super) fn dots_kernel(
    d_output: &Array<f32>,
    output: &Array<f32>,
    dots: &mut Array<f32>,
    n: usize,
    head_dim: usize,
) {
    if ABSOLUTE_POS < n {
        let first = ABSOLUTE_POS * head_dim;
        let mut acc = 0.0f32.runtime();
        for i in first..first + head_dim {
            acc = fma(d_output[i], output[i], acc);
        }
        dots[ABSOLUTE_POS] = acc;
    }
}

/// The gradient of q, in blocks of queries as [`forward_kernel`] has them.
#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub(super) fn query_gradient_kernel(
    d_output: &Array<f32>,
    q: &Array<f32>,
    k: &Array<f32>,
    v: &Array<f32>,
    dots: &Array<f32>,
    statistics: &Array<f32>,
    dq: &mut Array<f32>,
    blocks: &Array<u32>,
    heads: usize,
    kv_heads: usize,
    scale: f32,
    zero: u32,
    #[comptime] head_dim: usize,
) {
    let features = comptime!(features_of_unit(head_dim));
    let mut tile = SharedMemory::<f32>::new(comptime!(3 * MATRIX));
    let mut sums = Array::<f32>::new(4usize);
    let mut through = Array::<f32>::new(4usize);
    let mut facts = Array::<f32>::new(6usize);
    let mut values = Array::<f32>::new(comptime!(2 * features_of_unit(head_dim)));
    let unit = UNIT_POS as usize;
    let row = unit / 16 * 2;
    let column = unit % 16;
    let block = CUBE_POS_X as usize * WORDS;
    let head = CUBE_POS_Y as usize;
    let kv_head = head / (heads / kv_heads);
    let (q_stride, k_stride) = (heads * head_dim, kv_heads * head_dim);
    let q_count = blocks[block + 1] as usize;
    let visible = blocks[block + 3] as usize;
    let q_first = blocks[block] as usize * q_stride + head * head_dim;
    let k_first = blocks[block + 2] as usize * k_stride + kv_head * head_dim;
    let end = visible + q_count - 1;
    #[unroll]
    for i in 0..2usize {
        facts[3 * i] = 0.0;
        facts[3 * i + 1] = 1.0;
        facts[3 * i + 2] = 0.0;
        if row + i < q_count {
            let at = (blocks[block] as usize + row + i) * heads + head;
            facts[3 * i] = statistics[2 * at];
            facts[3 * i + 1] = statistics[2 * at + 1];
            facts[3 * i + 2] = dots[at];
        }
    }
    #[unroll]
    for i in 0..2 * features {
        values[i] = 0.0;
    }
    let mut key = 0usize;
    while key < end {
        let first = k_first + key * k_stride;
        let count = least(end - key, BLOCK);
        scores(q, q_first, q_count, q_stride, scale, k, first, count, k_stride, &mut tile, &mut sums, head_dim);
        scores(d_output, q_first, q_count, q_stride, 1.0, v, first, count, k_stride, &mut tile, &mut through, head_dim);
        #[unroll]
        for i in 0..2usize {
            #[unroll]
            for j in 0..2usize {
                let p = exp(sums[2 * i + j] - facts[3 * i], zero) / facts[3 * i + 1];
                tile[2 * MATRIX + (row + i) * STRIDE + column + 16 * j] = p * (through[2 * i + j] - facts[3 * i + 2]);
            }
        }
        sync_cube();
        for other in 0..count {
            #[unroll]
            for i in 0..2usize {
                if key + other < visible + row + i {
                    let ds = tile[2 * MATRIX + (row + i) * STRIDE + other];
                    #[unroll]
                    for n in 0..features {
                        let feature = column + 16 * n;
                        if feature < head_dim {
                            values[i * features + n] =
                                fma(ds, k[first + other * k_stride + feature], values[i * features + n]);
                        }
                    }
                }
            }
        }
        key += BLOCK;
    }
    #[unroll]
    for i in 0..2usize {
        if row + i < q_count {
            #[unroll]
            for n in 0..features {
                let feature = column + 16 * n;
                if feature < head_dim {
                    dq[q_first + (row + i) * q_stride + feature] = values[i * features + n] * scale;
                }
            }
        }
    }
}

/// The gradients of k and v. Blocks of keys: for each its first key, its keys, the number of its first key within its
/// span, the span's first query, its queries, the keys that the first query sees.
#[cube(launch_unchecked)]
#[expect(clippy::too_many_arguments, reason = "the operands of one operation")]
pub(super) fn key_gradient_kernel(
    d_output: &Array<f32>,
    q: &Array<f32>,
    k: &Array<f32>,
    v: &Array<f32>,
    dots: &Array<f32>,
    statistics: &Array<f32>,
    dk: &mut Array<f32>,
    dv: &mut Array<f32>,
    blocks: &Array<u32>,
    heads: usize,
    kv_heads: usize,
    scale: f32,
    zero: u32,
    #[comptime] head_dim: usize,
) {
    let features = comptime!(features_of_unit(head_dim));
    let mut tile = SharedMemory::<f32>::new(comptime!(4 * MATRIX));
    let mut sums = Array::<f32>::new(4usize);
    let mut through = Array::<f32>::new(4usize);
    let mut of_k = Array::<f32>::new(comptime!(2 * features_of_unit(head_dim)));
    let mut of_v = Array::<f32>::new(comptime!(2 * features_of_unit(head_dim)));
    let unit = UNIT_POS as usize;
    let row = unit / 16 * 2;
    let column = unit % 16;
    let block = CUBE_POS_X as usize * WORDS;
    let kv_head = CUBE_POS_Y as usize;
    let group = heads / kv_heads;
    let (q_stride, k_stride) = (heads * head_dim, kv_heads * head_dim);
    let k_first = blocks[block] as usize * k_stride + kv_head * head_dim;
    let k_count = blocks[block + 1] as usize;
    let key = blocks[block + 2] as usize;
    let first_query = blocks[block + 3] as usize;
    let queries = blocks[block + 4] as usize;
    let visible = blocks[block + 5] as usize;
    // The first query that sees the block's first key.
    let seen = select(key + 1 > visible, key + 1 - visible, 0usize);
    #[unroll]
    for i in 0..2 * features {
        of_k[i] = 0.0;
        of_v[i] = 0.0;
    }
    for member in 0..group {
        let head = kv_head * group + member;
        let mut query = seen;
        while query < queries {
            let count = least(queries - query, BLOCK);
            let first = (first_query + query) * q_stride + head * head_dim;
            scores(q, first, count, q_stride, scale, k, k_first, k_count, k_stride, &mut tile, &mut sums, head_dim);
            scores(
                d_output,
                first,
                count,
                q_stride,
                1.0,
                v,
                k_first,
                k_count,
                k_stride,
                &mut tile,
                &mut through,
                head_dim,
            );
            #[unroll]
            for i in 0..2usize {
                if row + i < count {
                    let at = (first_query + query + row + i) * heads + head;
                    #[unroll]
                    for j in 0..2usize {
                        let p = exp(sums[2 * i + j] - statistics[2 * at], zero) / statistics[2 * at + 1];
                        let place = (row + i) * STRIDE + column + 16 * j;
                        tile[2 * MATRIX + place] = p;
                        tile[3 * MATRIX + place] = p * (through[2 * i + j] - dots[at]);
                    }
                }
            }
            sync_cube();
            for other in 0..count {
                #[unroll]
                for i in 0..2usize {
                    if row + i < k_count && key + row + i < visible + query + other {
                        let p = tile[2 * MATRIX + other * STRIDE + row + i];
                        let ds = tile[3 * MATRIX + other * STRIDE + row + i];
                        #[unroll]
                        for n in 0..features {
                            let feature = column + 16 * n;
                            if feature < head_dim {
                                let at = first + other * q_stride + feature;
                                of_k[i * features + n] = fma(ds, q[at] * scale, of_k[i * features + n]);
                                of_v[i * features + n] = fma(p, d_output[at], of_v[i * features + n]);
                            }
                        }
                    }
                }
            }
            query += BLOCK;
        }
    }
    #[unroll]
    for i in 0..2usize {
        if row + i < k_count {
            #[unroll]
            for n in 0..features {
                let feature = column + 16 * n;
                if feature < head_dim {
                    let at = k_first + (row + i) * k_stride + feature;
                    dk[at] = of_k[i * features + n];
                    dv[at] = of_v[i * features + n];
                }
            }
        }
    }
}

/// Blocks of queries as [`forward_kernel`] wants them.
fn query_blocks(spans: &[Span]) -> Vec<u32> {
    let blocks = spans.iter().flat_map(|span| {
        (0..span.queries.len()).step_by(BLOCK).flat_map(move |first| {
            let count = BLOCK.min(span.queries.len() - first);
            [span.queries.start + first, count, span.keys.start, span.visible(first), 0, 0].map(index)
        })
    });
    blocks.collect()
}

/// Blocks of keys as [`key_gradient_kernel`] wants them.
fn key_blocks(spans: &[Span]) -> Vec<u32> {
    let blocks = spans.iter().filter(|span| !span.queries.is_empty()).flat_map(|span| {
        (0..span.keys.len()).step_by(BLOCK).flat_map(move |first| {
            let count = BLOCK.min(span.keys.len() - first);
            let queries = span.queries.len();
            [span.keys.start + first, count, first, span.queries.start, queries, span.visible(0)].map(index)
        })
    });
    blocks.collect()
}

/// What [`attention`] and [`attention_backward`] check of their operands.
fn check(spans: &[Span], heads: Heads, q: &Handle, k: &Handle, v: &Handle) {
    let Heads { heads: count, kv_heads, head_dim } = heads;
    let queries = spans.iter().map(|span| span.queries.end).max().unwrap_or(0);
    let keys = spans.iter().map(|span| span.keys.end).max().unwrap_or(0);
    assert!(words(q) >= queries * count * head_dim, "attention: queries within the tensor");
    assert!(words(k).min(words(v)) >= keys * kv_heads * head_dim, "attention: keys within the tensors");
    assert!(spans.iter().all(|span| span.queries.len() <= span.keys.len()), "attention: a key for each query");
}

/// See [`crate::reference::attention`]. `tokens` is that of the query tensor; all of them lie in spans.
pub(super) fn attention<R: Runtime>(
    client: &ComputeClient<R>,
    [q, k, v]: [&Handle; 3],
    tokens: usize,
    spans: &[Span],
    heads: Heads,
) -> [Handle; 2] {
    check(spans, heads, q, k, v);
    let Heads { heads: count, kv_heads, head_dim } = heads;
    let (output, statistics) = (room(client, tokens * count * head_dim), room(client, tokens * count * 2));
    let blocks = query_blocks(spans);
    if blocks.is_empty() {
        return [output, statistics];
    }
    // SAFETY: spans lie within the tensors; the outputs have room for each query, which belongs to one block.
    unsafe {
        forward_kernel::launch_unchecked::<R>(
            client,
            CubeCount::Static(index(blocks.len() / WORDS), index(count), 1),
            CubeDim::new_1d(UNITS),
            argument(q),
            argument(k),
            argument(v),
            argument(&output),
            argument(&statistics),
            argument(&upload(client, &blocks)),
            count,
            kv_heads,
            heads.scale(),
            f32::NEG_INFINITY,
            ZERO,
            head_dim,
        );
    }
    [output, statistics]
}

/// See [`crate::reference::attention_backward`]. All queries and keys lie in spans.
pub(super) fn attention_backward<R: Runtime>(
    client: &ComputeClient<R>,
    [d_output, q, k, v, output, statistics]: [&Handle; 6],
    [queries, keys]: [usize; 2],
    spans: &[Span],
    heads: Heads,
) -> [Handle; 3] {
    check(spans, heads, q, k, v);
    let Heads { heads: count, kv_heads, head_dim } = heads;
    let (q_size, k_size) = (queries * count * head_dim, keys * kv_heads * head_dim);
    assert!(words(d_output).min(words(output)) >= q_size, "attention_backward: the output's size");
    assert!(words(statistics) >= queries * count * 2, "attention_backward: the statistics' size");
    let dots = room(client, queries * count);
    let [dq, dk, dv] = [q_size, k_size, k_size].map(|size| room(client, size));
    let (of_queries, of_keys) = (query_blocks(spans), key_blocks(spans));
    if of_queries.is_empty() {
        return [dq, dk, dv];
    }
    // SAFETY: spans lie within the tensors; the gradients have room for each query and key, which belong to one block.
    unsafe {
        dots_kernel::launch_unchecked::<R>(
            client,
            cubes(queries * count, UNITS as usize),
            CubeDim::new_1d(UNITS),
            argument(d_output),
            argument(output),
            argument(&dots),
            queries * count,
            head_dim,
        );
        query_gradient_kernel::launch_unchecked::<R>(
            client,
            CubeCount::Static(index(of_queries.len() / WORDS), index(count), 1),
            CubeDim::new_1d(UNITS),
            argument(d_output),
            argument(q),
            argument(k),
            argument(v),
            argument(&dots),
            argument(statistics),
            argument(&dq),
            argument(&upload(client, &of_queries)),
            count,
            kv_heads,
            heads.scale(),
            ZERO,
            head_dim,
        );
        key_gradient_kernel::launch_unchecked::<R>(
            client,
            CubeCount::Static(index(of_keys.len() / WORDS), index(kv_heads), 1),
            CubeDim::new_1d(UNITS),
            argument(d_output),
            argument(q),
            argument(k),
            argument(v),
            argument(&dots),
            argument(statistics),
            argument(&dk),
            argument(&dv),
            argument(&upload(client, &of_keys)),
            count,
            kv_heads,
            heads.scale(),
            ZERO,
            head_dim,
        );
    }
    [dq, dk, dv]
}
