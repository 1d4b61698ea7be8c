//! What the public interface cannot reach: caches of other sizes, and results with gaps between their rows.

use std::mem::MaybeUninit;

use super::*;
use crate::compare::Random;
use crate::lanes::LINE;

/// The contract's chain, for every element of `[i, j]`.
fn chains([i, j, depth]: [usize; 3], a: &[f32], b: &[f32]) -> Vec<f32> {
    let element = |n: usize| (0..depth).fold(0.0_f32, |acc, p| a[n / j * depth + p].mul_add(b[p * j + n % j], acc));
    (0..i * j).map(element).collect()
}

const SCALE: f32 = 2.0;
const RANK: usize = 5;
/// What lies between rows.
const GAP: f32 = 7.0;

/// `a · b + SCALE · (a · down) · up` in rows `stride` apart, on a processor with these caches.
fn with(caches: Caches, level: Level, [i, j, depth]: [usize; 3], stride: usize, operands: [&[f32]; 4]) -> Vec<f32> {
    let [a, b, down, up] = operands;
    let mut middle = vec![0.0; i * RANK];
    let mut c = vec![MaybeUninit::new(GAP); i * stride];
    let branch = LowRank {
        scale: SCALE,
        rank: RANK,
        down: Some(View::rows(down, RANK)),
        middle: &mut middle,
        up: View::rows(up, j),
    };
    let output = Output { c_stride: stride, branch: Some(branch), ..Output::new(j, View::rows(b, j), &mut c) };
    products_within(caches, std::slice::from_ref(&(0..i)), level, [i, depth], View::rows(a, depth), vec![output]);
    // SAFETY: every value was written at the start.
    c.into_iter().map(|value| unsafe { value.assume_init() }).collect()
}

/// Neither the sizes of caches nor gaps between rows change a bit, at any level; what lies in a gap stays.
#[test]
fn sizes_of_caches_and_gaps_do_not_matter() {
    let tiny = Caches { first: 1 << 10, second: 1 << 12 };
    let huge = Caches { first: 1 << 20, second: 1 << 26 };
    let mut random = Random::new(30);
    for (i, j, depth) in [(1, 1, 1), (13, 33, 40), (25, 96, 100), (7, 31, 700), (40, 65, 1024), (64, 17, 257)] {
        let operands = [i * depth, depth * j, depth * RANK, RANK * j].map(|count| random.values(count));
        let [a, b, down, up] = [0, 1, 2, 3].map(|n| operands[n].as_slice());
        let middle = chains([i, RANK, depth], a, down);
        let branch = chains([i, j, RANK], &middle, up);
        let sum: Vec<f32> =
            chains([i, j, depth], a, b).iter().zip(&branch).map(|(c, x)| SCALE.mul_add(*x, *c)).collect();
        for level in Level::ALL.into_iter().filter(|level| level.available()) {
            for (caches, stride) in [(tiny, j), (Caches::SMALL, j + 3), (huge, j), (Caches::here(), row_stride(j))] {
                let c = with(caches, level, [i, j, depth], stride, [a, b, down, up]);
                for (row, expected) in c.chunks_exact(stride).zip(sum.chunks_exact(j)) {
                    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&row[..j]), bits(expected), "{level:?}, {caches:?}, {i} x {j} x {depth}");
                    assert!(row[j..].iter().all(|value| *value == GAP), "the gap is not written");
                }
            }
        }
    }
}

/// Rows begin cache lines and do not displace one another, whatever they hold.
#[test]
fn rows_do_not_displace_one_another() {
    for columns in [1, 16, 17, 1000, 1024, 4096, 49_152] {
        let stride = row_stride(columns);
        assert!(stride >= columns && stride.is_multiple_of(LINE) && stride < columns + 2 * LINE, "{columns}: {stride}");
        assert!(!View::strided(&[], stride).collides(), "{columns}: {stride}");
    }
    assert!(View::strided(&[], 1024).collides(), "what is to be avoided");
}
