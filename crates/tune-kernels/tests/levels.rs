//! Every CPU kernel, at every level this processor has, equals the scalar reference bit for bit: on random shapes, with
//! 1, primes and sizes around the tiles among them.

use tune_kernels::backend::Gradients;
use tune_kernels::compare::{ADAMW, Random, difference, sum};
use tune_kernels::cpu::linear::{Branch, BranchPass, InputGradient, Layer, Weight};
use tune_kernels::cpu::{Level, attention, head, linear, pointwise};
use tune_kernels::encoding::Encoding;
use tune_kernels::lanes::Fused;
use tune_kernels::layout::Repeat;
use tune_kernels::philox::StreamKey;
use tune_kernels::reference;
use tune_kernels::shapes::{Dropout, Heads};

/// Panics at the first place whose bits differ.
fn same(what: &str, level: Level, got: &[f32], want: &[f32]) {
    if let Some(difference) = difference(got, want) {
        panic!("{what} at {level:?}: {difference}");
    }
}

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.available())
}

/// How many random shapes a test draws; `TUNE_SHAPES` raises it (the figure in docs/benchmarks.md is for 10,000).
fn shapes() -> u32 {
    std::env::var("TUNE_SHAPES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

#[test]
#[should_panic(expected = "element 3 is")]
fn the_comparison_sees_one_flipped_bit() {
    let want = Random::new(0).values(8);
    let mut got = want.clone();
    got[3] = f32::from_bits(got[3].to_bits() ^ 1);
    same("flipped", Level::Scalar, &got, &want);
}

/// The reference itself must depend on the order of the chain, or the comparison would show nothing about order.
#[test]
fn the_order_of_a_chain_shows_in_its_bits() {
    let mut random = Random::new(1);
    let (x, w) = (random.values(300 * 20), random.values(300));
    let reversed = |values: &[f32]| values.chunks(300).flat_map(|row| row.iter().rev().copied()).collect::<Vec<_>>();
    let forward = reference::linear::<Fused>(&x, &w, None, 300, 1);
    let backward = reference::linear::<Fused>(&reversed(&x), &reversed(&w), None, 300, 1);
    assert!(forward.iter().zip(&backward).filter(|(a, b)| a.to_bits() != b.to_bits()).count() > 5);
}

#[test]
fn products() {
    for case in 0..shapes() {
        let mut random = Random::new(100 + case);
        let (mut tokens, mut inputs, mut outputs) = (random.size(), random.size(), random.size());
        // Now and then a side that spans several blocks, groups or tasks.
        match case % 16 {
            3 => tokens *= 9,
            7 => inputs *= 21,
            11 => outputs *= 17,
            15 => (tokens, inputs, outputs) = (tokens * 3, inputs * 13, outputs * 3),
            _ => {}
        }
        let (x, w, dy) =
            (random.values(tokens * inputs), random.values(outputs * inputs), random.values(tokens * outputs));
        let bias = random.values(outputs);
        let rows = random.rows(tokens);
        let y = reference::linear::<Fused>(&x, &w, Some(&bias), inputs, outputs);
        let dx = reference::linear_input_gradient::<Fused>(&dy, &w, inputs, outputs);
        for level in levels() {
            let what = format!("{tokens}×{inputs}×{outputs}");
            same(
                &format!("linear {what}"),
                level,
                &linear::linear(level, &x, (&w).into(), Some(&bias), inputs, outputs),
                &y,
            );
            same(
                &format!("input gradient {what}"),
                level,
                &linear::linear_input_gradient(level, &dy, (&w).into(), None, inputs, outputs),
                &dx,
            );
            for row in &rows.ranges {
                let want = reference::linear_weight_gradient::<Fused>(&dy, &x, inputs, outputs, row);
                same(
                    &format!("weight gradient {what}"),
                    level,
                    &linear::linear_weight_gradient(level, &dy, &x, inputs, outputs, row),
                    &want,
                );
            }
        }
    }
}

/// Tokens that repeat others get what those got, whatever their own input holds; with the same input that changes no bit.
#[test]
fn repeats() {
    for case in 0..shapes() / 4 {
        let mut random = Random::new(17_000 + case);
        let (inputs, outputs, rank) = (random.size(), random.size(), 1 + random.word() as usize % 17);
        // Segments that begin with a part of the first one.
        let lengths: Vec<usize> = (0..2 + random.word() % 6).map(|_| random.size()).collect();
        let mut repeats = Vec::<Repeat>::new();
        let mut tokens = lengths[0];
        for length in &lengths[1..] {
            let common = random.word() as usize % (1 + length.min(&lengths[0]));
            if common > 0 {
                repeats.push(Repeat { of: 0, at: tokens..tokens + common });
            }
            tokens += length;
        }
        let (w, a, b) = (random.values(outputs * inputs), random.values(rank * inputs), random.values(outputs * rank));
        let own = [random.values(tokens * inputs), random.values(tokens * outputs)];
        let [x, plus] = [(0, inputs), (1, outputs)].map(|(n, features): (usize, usize)| {
            let mut values = own[n].clone();
            for Repeat { of, at } in &repeats {
                values.copy_within(of * features..(of + at.len()) * features, at.start * features);
            }
            values
        });
        let branch = Some(Branch { a: &a, b: &b, scale: 1.7, dropout: None, rank });
        let layer = Layer { weight: (&w).into(), shape: [inputs, outputs], bias: None, branch };
        let plain = Layer { branch: None, ..layer };
        for level in levels() {
            let rows = random.rows(tokens);
            let all = |x: &[f32], plus: &[f32], repeats: &[Repeat]| {
                linear::linears(level, x, &[layer, plain], Some(plus), &rows, repeats)
            };
            let want = all(&x, &plus, &[]);
            for got in [all(&x, &plus, &repeats), all(&own[0], &own[1], &repeats)] {
                for ((got_y, got_h), (y, h)) in got.iter().zip(&want) {
                    same("y of tokens that repeat others", level, got_y, y);
                    assert_eq!(got_h.is_some(), h.is_some());
                    if let Some((got, want)) = got_h.as_ref().zip(h.as_ref()) {
                        same("h of tokens that repeat others", level, got, want);
                    }
                }
            }
            if !repeats.is_empty() {
                let different = all(&own[0], &own[1], &[]);
                assert!(difference(&different[0].0, &want[0].0).is_some(), "the inputs differ where tokens repeat");
            }
        }
    }
}

#[test]
fn lora() {
    for case in 0..shapes() / 2 {
        let mut random = Random::new(10_000 + case);
        let (mut tokens, mut inputs, mut outputs) = (random.size(), random.size(), random.size());
        match case % 16 {
            2 => inputs *= 21,
            5 => tokens *= 9,
            9 => outputs *= 17,
            _ => {}
        }
        let rank = 1 + random.word() as usize % if case % 5 == 0 { 70 } else { 17 };
        let (x, w, dy) =
            (random.values(tokens * inputs), random.values(outputs * inputs), random.values(tokens * outputs));
        let (a, b) = (random.values(rank * inputs), random.values(outputs * rank));
        let bias = (case % 3 == 0).then(|| random.values(outputs));
        let bias = bias.as_deref();
        let (onto_y, onto_dx) = (random.values(tokens * outputs), random.values(tokens * inputs));
        let rows = random.rows(tokens);
        let dropout = (case % 2 == 0).then(|| Dropout::new(StreamKey([5, 6]), case, 0.3));
        let branch = Some(Branch { a: &a, b: &b, scale: 1.7, dropout, rank });
        let layer = Layer { weight: (&w).into(), shape: [inputs, outputs], bias, branch };
        // A second layer of the same input, without a branch, and a third one with the same branch.
        let more = random.size();
        let w2 = random.values(more * inputs);
        let second = Layer { weight: (&w2).into(), shape: [inputs, more], bias: None, branch: None };
        let sizes = [inputs, outputs, rank];
        let (y, h) = reference::linear_lora::<Fused>(&x, &w, bias, &a, &b, 1.7, dropout, sizes, &rows);
        let y2 = reference::linear::<Fused>(&x, &w2, None, inputs, more);
        let (dx, gradients) =
            reference::linear_lora_backward::<Fused>(&dy, &x, &h, &w, &a, &b, 1.7, dropout, sizes, &rows);
        for level in levels() {
            let alone = linear::linears(level, &x, &[layer], None, &rows, &[]);
            same("lora y", level, &alone[0].0, &y);
            same("lora h", level, alone[0].1.as_ref().unwrap(), &h);
            let together = linear::linears(level, &x, &[layer, second, layer], Some(&onto_y), &rows, &[]);
            same("the first of three, with a residual", level, &together[0].0, &sum(&onto_y, &y));
            same("the second of three", level, &together[1].0, &y2);
            assert!(together[1].1.is_none());
            same("the third of three", level, &together[2].0, &y);
            for n in [0, 2] {
                same("h of three", level, together[n].1.as_ref().unwrap(), &h);
            }
            let plus = sum(&onto_dx, &dx);
            for (input, want) in [
                (InputGradient::Alone, Some(&dx)),
                (InputGradient::Plus(&onto_dx), Some(&plus)),
                (InputGradient::None, None),
            ] {
                let (got_dx, got) = linear::linear_lora_backward(level, &dy, &x, &h, &layer, &rows, input);
                assert_eq!(got_dx.is_some(), want.is_some());
                if let (Some(got), Some(want)) = (got_dx, want) {
                    same("lora dx", level, &got, want);
                }
                for ((got_a, got_b), (a, b)) in got.iter().zip(&gradients) {
                    same("lora dA", level, got_a, a);
                    same("lora dB", level, got_b, b);
                }
            }
        }
    }
}

/// The gradients of branches whose input is normalised again, row by row.
#[test]
fn lora_of_a_normalised_input() {
    for case in 0..shapes() / 2 {
        let mut random = Random::new(20_000 + case);
        let (mut tokens, mut inputs, outputs) = (random.size(), random.size(), random.size());
        match case % 8 {
            2 => inputs *= 21,
            5 => tokens *= 9,
            _ => {}
        }
        let (x, norm) = (random.values(tokens * inputs), random.values(inputs));
        let (normed, roots) = reference::rms_norm::<Fused>(&x, &norm, 1e-5);
        let rows = random.rows(tokens);
        let (rank, dropout) = (1 + random.word() as usize % 17, Some(Dropout::new(StreamKey([7, 8]), case, 0.3)));
        let (w, dy) = (random.values(outputs * inputs), random.values(tokens * outputs));
        let (a, b) = (random.values(rank * inputs), random.values(outputs * rank));
        let sizes = [inputs, outputs, rank];
        let of = |dropout| {
            let (_, h) = reference::linear_lora::<Fused>(&normed, &w, None, &a, &b, 1.7, dropout, sizes, &rows);
            let (_, want) =
                reference::linear_lora_backward::<Fused>(&dy, &normed, &h, &w, &a, &b, 1.7, dropout, sizes, &rows);
            let branch = Some(Branch { a: &a, b: &b, scale: 1.7, dropout, rank });
            (h, want, Layer { weight: (&w).into(), shape: [inputs, outputs], bias: None, branch })
        };
        let of_layers = [of(dropout), of(None)];
        for level in levels() {
            same("normed again", level, &pointwise::rms_norm_again(level, &x, &norm, &roots), &normed);
            let u = linear::lora_input_gradient(level, &dy, &of_layers[0].2, &rows, InputGradient::None).1;
            let passes =
                of_layers.each_ref().map(|(h, _, layer)| BranchPass { dy: &dy, h_and_u: [h, &u], layer: *layer });
            let got = linear::lora_gradients_of_normed(level, [&x, &norm, &roots], &passes, &rows);
            for (got, (_, want, _)) in got.iter().zip(&of_layers) {
                assert_eq!(got.len(), want.len(), "one gradient a row");
                for ((got_a, got_b), (a, b)) in got.iter().zip(want) {
                    same("dA of a normalised input", level, got_a, a);
                    same("dB of a normalised input", level, got_b, b);
                }
            }
        }
    }
}

/// Weights that stay as they are stored give the bits of their values, whatever part of a block a panel covers.
#[test]
fn stored_weights() {
    for case in 0..shapes() / 2 {
        let mut random = Random::new(60_000 + case);
        let encoding = Encoding::ALL[case as usize % Encoding::ALL.len()];
        let block = encoding.block_values();
        let (tokens, mut outputs) = (random.size(), random.size());
        let inputs = if block == 1 { random.size() } else { block * (1 + random.word() as usize % 5) };
        if case % 7 == 0 {
            outputs *= 19;
        }
        let (stored, w) = random.stored(encoding, [outputs, inputs]);
        let (x, dy) = (random.values(tokens * inputs), random.values(tokens * outputs));
        let y = reference::linear::<Fused>(&x, &w, None, inputs, outputs);
        let dx = reference::linear_input_gradient::<Fused>(&dy, &w, inputs, outputs);
        let ids: Vec<u32> = (0..5).map(|_| random.word() % outputs as u32).collect();
        let rows = head::embedding(Weight::Values(&w), &ids, inputs);
        same("embedding", Level::Scalar, &head::embedding(Weight::Stored(&stored), &ids, inputs), &rows);
        for level in levels() {
            let what = format!("{encoding:?} {tokens}×{inputs}×{outputs}");
            let weight = Weight::Stored(&stored);
            same(&what, level, &linear::linear(level, &x, weight, None, inputs, outputs), &y);
            same(&what, level, &linear::linear_input_gradient(level, &dy, weight, None, inputs, outputs), &dx);
        }
    }
}

#[test]
fn normalisation_rotation_activation_optimizer() {
    for case in 0..shapes() {
        let mut random = Random::new(20_000 + case);
        let (tokens, features) = (random.size(), random.size());
        let n = tokens * features;
        let (x, dy, w) = (random.values(n), random.values(n), random.values(features));
        let rows = random.rows(tokens);
        let (y, roots) = reference::rms_norm::<Fused>(&x, &w, 1e-5);
        let dx = reference::rms_norm_input_gradient::<Fused>(&dy, &x, &w, &roots);
        let half = 1 + features / 3;
        let (head_dim, heads) = (2 * half, 1 + case as usize % 3);
        let rotated = random.values(tokens * heads * head_dim);
        let (cos, sin) = (random.values(50 * half), random.values(50 * half));
        let positions: Vec<u32> = (0..tokens).map(|_| random.word() % 50).collect();
        let scalars = ADAMW;
        let moments: Vec<f32> = random.values(n).iter().map(|v| v * v).collect();
        let mut want = [x.clone(), dy.clone(), moments.clone()];
        let [p, m, v] = &mut want;
        reference::adamw::<Fused>(p, m, v, &y, scalars);
        for level in levels() {
            let (got_y, got_roots) = pointwise::rms_norm(level, &x, &w, 1e-5);
            same("rms_norm", level, &got_y, &y);
            same("rms_norm roots", level, &got_roots, &roots);
            same("rms_norm dx", level, &pointwise::rms_norm_input_gradient(level, &dy, &x, &w, &roots, None), &dx);
            let onto = pointwise::rms_norm_input_gradient(level, &dy, &x, &w, &roots, Some(&moments));
            same("rms_norm dx with a residual", level, &onto, &sum(&moments, &dx));
            for row in &rows.ranges {
                let want = reference::rms_norm_weight_gradient::<Fused>(&dy, &x, &roots, features, row);
                same(
                    "rms_norm dw",
                    level,
                    &pointwise::rms_norm_weight_gradient(level, &dy, &x, &roots, features, row),
                    &want,
                );
            }
            for inverse in [false, true] {
                let want = reference::rope::<Fused>(&rotated, &positions, &cos, &sin, head_dim, inverse);
                let mut got = rotated.clone();
                pointwise::rope(level, &mut got, &positions, [&cos, &sin], head_dim, inverse);
                same("rope", level, &got, &want);
            }
            same("swiglu", level, &pointwise::swiglu(level, &x, &dy), &reference::swiglu::<Fused>(&x, &dy));
            let (want_gate, want_up) = reference::swiglu_backward::<Fused>(&y, &x, &dy);
            let [mut again, mut gate, mut up] = [y.clone(), x.clone(), dy.clone()];
            pointwise::swiglu_backward(level, &mut again, &mut gate, &mut up);
            same("swiglu dgate", level, &gate, &want_gate);
            same("swiglu dup", level, &up, &want_up);
            same("swiglu again", level, &again, &reference::swiglu::<Fused>(&x, &dy));
            let mut got = [x.clone(), dy.clone(), moments.clone()];
            let [p, m, v] = &mut got;
            pointwise::adamw(level, p, m, v, &y, scalars);
            for (got, want) in got.iter().zip(&want) {
                same("adamw", level, got, want);
            }
            same(
                "sums of squares",
                level,
                &pointwise::row_sums_of_squares(level, &x, features),
                &reference::row_sums_of_squares::<Fused>(&x, features),
            );
        }
    }
}

#[test]
fn attention_forward_and_backward() {
    for case in 0..shapes() / 2 {
        let mut random = Random::new(30_000 + case);
        let kv_heads = 1 + case as usize % 3;
        let heads = Heads {
            heads: kv_heads * (1 + case as usize % 4),
            kv_heads,
            head_dim: 2 * (1 + random.word() as usize % 40),
        };
        let tokens = random.size();
        let (queries, spans) = random.spans(case, tokens);
        let (q, k) =
            (random.values(queries * heads.heads * heads.head_dim), random.values(tokens * kv_heads * heads.head_dim));
        let (v, dy) = (random.values(k.len()), random.values(q.len()));
        let (o, statistics) = reference::attention::<Fused>(&q, &k, &v, &spans, heads);
        let (dq, dk, dv) = reference::attention_backward::<Fused>(&dy, &q, &k, &v, &o, &statistics, &spans, heads);
        for level in levels() {
            let (got_o, got_statistics) = attention::attention(level, &q, &k, &v, &spans, heads);
            same("attention", level, &got_o, &o);
            same("attention statistics", level, &got_statistics, &statistics);
            let (got_q, got_k, got_v) =
                attention::attention_backward(level, &dy, &q, &k, &v, &o, &statistics, &spans, heads);
            same("attention dq", level, &got_q, &dq);
            same("attention dk", level, &got_k, &dk);
            same("attention dv", level, &got_v, &dv);
        }
    }
}

#[test]
fn cross_entropy() {
    for case in 0..shapes() / 2 {
        let mut random = Random::new(40_000 + case);
        let (tokens, features, vocabulary) = (random.size(), random.size(), random.size() + 1);
        let (x, w) = (random.values(tokens * features), random.values(vocabulary * features));
        let rows = random.rows(tokens);
        let targets = random.targets(tokens, vocabulary);
        let (losses, d_logits, dx) = reference::cross_entropy::<Fused>(&x, &w, features, &targets);
        let gathered: Vec<f32> = targets.iter().flat_map(|t| x[t.position * features..][..features].to_vec()).collect();
        for level in levels() {
            let (got, none, _) =
                head::cross_entropy(level, &x, (&w).into(), features, &targets, &rows, Gradients::None);
            same("losses", level, &got, &losses);
            assert!(none.is_none());
            for gradients in [Gradients::Input, Gradients::InputAndWeight] {
                let (got, got_dx, dw) =
                    head::cross_entropy(level, &x, (&w).into(), features, &targets, &rows, gradients);
                same("losses", level, &got, &losses);
                same("cross_entropy dx", level, &got_dx.unwrap(), &dx);
                if gradients == Gradients::InputAndWeight {
                    for (row, dw) in rows.ranges.iter().zip(dw) {
                        let at = |p: usize| targets.partition_point(|t| t.position < p);
                        let range = at(row.start)..at(row.end);
                        let want = reference::linear_weight_gradient::<Fused>(
                            &d_logits, &gathered, features, vocabulary, &range,
                        );
                        same("cross_entropy dw", level, &dw, &want);
                    }
                }
            }
        }
    }
}
