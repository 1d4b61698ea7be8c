//! The groups of operations, each on one random shape.

use burn_backend::TensorData;
use burn_tensor::Tensor;

use super::{ADAMW, Check, Random, sum};
use crate::KernelBackend;
use crate::backend::{BranchPass, Gradients, InputGradient, Layer, LoraBranch, Normed, Weight};
use crate::encoding::Encoding;
use crate::layout::{Repeat, Rows};
use crate::philox::StreamKey;
use crate::reference::{self, Fma};
use crate::shapes::{Dropout, Heads};

fn tensor<B: KernelBackend, const D: usize>(values: &[f32], shape: [usize; D], device: &B::Device) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn host<B: KernelBackend, const D: usize>(tensor: &Tensor<B, D>) -> Vec<f32> {
    tensor.to_data().to_vec().expect("tensors of the contract are f32")
}

pub(super) fn products<B: KernelBackend, F: Fma>(device: &B::Device, case: u32, check: &mut Check) {
    let mut random = Random::new(100 + case);
    let (mut tokens, mut inputs, mut outputs) = (random.size(), random.size(), random.size());
    // Now and then enough outputs for larger squares of them.
    match case % 8 {
        1 => inputs *= 13,
        3 => (tokens, outputs) = (tokens + 400, outputs + 500),
        5 => (tokens, outputs, inputs) = (tokens + 830, outputs + 900, 1 + inputs % 20),
        _ => {}
    }
    let what = format!("{tokens}×{inputs}×{outputs}");
    let (x, w) = (random.values(tokens * inputs), random.values(outputs * inputs));
    let (dy, bias) = (random.values(tokens * outputs), random.values(outputs));
    let (onto_y, onto_dx) = (random.values(tokens * outputs), random.values(tokens * inputs));
    let rows =
        if case.is_multiple_of(2) { random.rows(tokens) } else { Rows::whole(std::iter::once(0..tokens).collect(), 0) };
    let [tx, tdx] = [&x, &onto_dx].map(|values| tensor(values, [tokens, inputs], device));
    let [tdy, ty] = [&dy, &onto_y].map(|values| tensor(values, [tokens, outputs], device));
    let weight = Weight::Values(tensor(&w, [outputs, inputs], device));
    let tbias = tensor(&bias, [outputs], device);
    let layer = |bias| Layer { weight: &weight, bias, branch: None };
    let y = reference::linear::<F>(&x, &w, Some(&bias), inputs, outputs);
    let got = B::linears(&tx, &[layer(Some(&tbias)), layer(None)], Some(&ty), &rows, &[]);
    check.same(&format!("linear onto {what}"), &host(&got[0].y), &sum(&onto_y, &y));
    let y = reference::linear::<F>(&x, &w, None, inputs, outputs);
    check.same(&format!("linear {what}"), &host(&got[1].y), &y);
    let dx = reference::linear_input_gradient::<F>(&dy, &w, inputs, outputs);
    let got = B::linear_input_gradient(&tdy, &weight, None);
    check.same(&format!("input gradient {what}"), &host(&got), &dx);
    let got = B::linear_input_gradient(&tdy, &weight, Some(&tdx));
    check.same(&format!("input gradient onto {what}"), &host(&got), &sum(&onto_dx, &dx));
    let of_weight = B::linear_weight_gradient(&tdy, &tx, &rows);
    let of_bias = B::bias_gradient(&tdy, &rows);
    for ((row, dw), db) in rows.ranges.iter().zip(of_weight).zip(of_bias) {
        let want = reference::linear_weight_gradient::<F>(&dy, &x, inputs, outputs, row);
        check.same(&format!("weight gradient {what}"), &host(&dw), &want);
        let mut want = vec![0.0; outputs];
        row.clone().for_each(|t| want = sum(&want, &dy[t * outputs..][..outputs]));
        check.same(&format!("bias gradient {what}"), &host(&db), &want);
    }
}

pub(super) fn lora<B: KernelBackend, F: Fma>(device: &B::Device, case: u32, check: &mut Check) {
    let mut random = Random::new(10_000 + case);
    let (tokens, inputs, outputs) = (random.size(), random.size(), random.size());
    let rank = 1 + random.word() as usize % if case.is_multiple_of(5) { 70 } else { 17 };
    let (x, w, dy) = (random.values(tokens * inputs), random.values(outputs * inputs), random.values(tokens * outputs));
    let (a, b) = (random.values(rank * inputs), random.values(outputs * rank));
    let bias = case.is_multiple_of(3).then(|| random.values(outputs));
    let (onto_y, onto_dx) = (random.values(tokens * outputs), random.values(tokens * inputs));
    let rows = random.rows(tokens);
    let dropout = case.is_multiple_of(2).then(|| Dropout::new(StreamKey([5, 6]), case, 0.3));
    let sizes = [inputs, outputs, rank];
    let (y, h) = reference::linear_lora::<F>(&x, &w, bias.as_deref(), &a, &b, 1.7, dropout, sizes, &rows);
    let (dx, gradients) = reference::linear_lora_backward::<F>(&dy, &x, &h, &w, &a, &b, 1.7, dropout, sizes, &rows);
    let weight = Weight::Values(tensor(&w, [outputs, inputs], device));
    let bias = bias.map(|bias| tensor(&bias, [outputs], device));
    let (a, b) = (tensor(&a, [rank, inputs], device), tensor(&b, [outputs, rank], device));
    let branch = Some(LoraBranch { a, b, scale: 1.7, dropout });
    let layer = Layer { weight: &weight, bias: bias.as_ref(), branch };
    let [tx, tdx] = [&x, &onto_dx].map(|values| tensor(values, [tokens, inputs], device));
    let [tdy, ty] = [&dy, &onto_y].map(|values| tensor(values, [tokens, outputs], device));
    let th = tensor(&h, [tokens, rank], device);
    let got = B::linears(&tx, &[layer.clone(), layer.clone()], Some(&ty), &rows, &[]);
    check.same("lora y onto", &host(&got[0].y), &sum(&onto_y, &y));
    check.same("lora y", &host(&got[1].y), &y);
    check.same("lora h", &host(got[1].h.as_ref().expect("a branch")), &h);
    if dropout.is_none() && tokens > 1 {
        repeats::<B>(&layer, [&x, &onto_y], &rows, device, check);
    }
    let plus = sum(&onto_dx, &dx);
    for (input, want) in
        [(InputGradient::Alone, Some(&dx)), (InputGradient::Plus(&tdx), Some(&plus)), (InputGradient::None, None)]
    {
        let (got_dx, got) = B::linear_lora_backward(&tdy, &tx, &th, &layer, &rows, input);
        check.there("lora dx", got_dx.is_some(), want.is_some());
        if let (Some(got), Some(want)) = (got_dx, want) {
            check.same("lora dx", &host(&got), want);
        }
        for (got, (a, b)) in got.iter().zip(&gradients) {
            check.same("lora dA", &host(&got.a), a);
            check.same("lora dB", &host(&got.b), b);
        }
    }
    lora_of_normed::<B, F>(device, case, check);
}

/// Gradients of the branches of two layers that share a normalised input.
fn lora_of_normed<B: KernelBackend, F: Fma>(device: &B::Device, case: u32, check: &mut Check) {
    let mut random = Random::new(15_000 + case);
    let (tokens, inputs) = (random.size(), random.size());
    let (x, w) = (random.values(tokens * inputs), random.values(inputs));
    let (normed, roots) = reference::rms_norm::<F>(&x, &w, 1e-5);
    let rows = random.rows(tokens);
    let dropout = case.is_multiple_of(2).then(|| Dropout::new(StreamKey([7, 8]), case, 0.3));
    let shapes = [0, 1].map(|_| (random.size(), 1 + random.word() as usize % 17));
    let of_layers = shapes.map(|(outputs, rank)| {
        let values = [inputs * outputs, rank * inputs, outputs * rank, tokens * outputs].map(|n| random.values(n));
        let [weight, a, b, dy] = &values;
        let sizes = [inputs, outputs, rank];
        let (_, h) = reference::linear_lora::<F>(&normed, weight, None, a, b, 1.7, dropout, sizes, &rows);
        let (_, want) = reference::linear_lora_backward::<F>(dy, &normed, &h, weight, a, b, 1.7, dropout, sizes, &rows);
        let branch = LoraBranch {
            a: tensor::<B, 2>(a, [rank, inputs], device),
            b: tensor(b, [outputs, rank], device),
            scale: 1.7,
            dropout,
        };
        let weight = Weight::Values(tensor(weight, [outputs, inputs], device));
        (
            weight,
            branch,
            tensor::<B, 2>(dy, [tokens, outputs], device),
            tensor::<B, 2>(&h, [tokens, rank], device),
            want,
        )
    });
    let passes = of_layers.each_ref().map(|(weight, branch, dy, h, _)| {
        let layer = Layer { weight, bias: None, branch: Some(branch.clone()) };
        let (_, u) = B::lora_input_gradient(dy, &layer, &rows, InputGradient::None);
        (layer, dy, h, u)
    });
    let passes = passes.each_ref().map(|(layer, dy, h, u)| BranchPass { dy, h, u, layer });
    let (x, w) =
        (tensor::<B, 2>(&x, [tokens, inputs], device), Tensor::from_data(TensorData::new(w, [inputs]), device));
    let roots = Tensor::from_data(TensorData::new(roots, [tokens]), device);
    let input = Normed { x: &x, w: &w, epsilon: 1e-5, reciprocal_roots: &roots };
    let got = B::lora_gradients_of_normed(input, &passes, &rows);
    for (got, (.., want)) in got.iter().zip(&of_layers) {
        check.there("gradients of rows", got.len() == rows.ranges.len(), true);
        for (got, (a, b)) in got.iter().zip(want) {
            check.same("lora dA of a normalised input", &host(&got.a), a);
            check.same("lora dB of a normalised input", &host(&got.b), b);
        }
    }
}

/// Tokens known to be the same as earlier ones get the same output.
fn repeats<B: KernelBackend>(
    layer: &Layer<'_, B>,
    [x, plus]: [&[f32]; 2],
    rows: &Rows,
    device: &B::Device,
    check: &mut Check,
) {
    let [outputs, inputs] = layer.weight.dims();
    let tokens = x.len() / inputs;
    let repeats = [Repeat { of: 0, at: tokens.div_ceil(2)..tokens }];
    let repeated = |values: &[f32], features: usize| {
        let mut values = values.to_vec();
        let Repeat { of, at } = &repeats[0];
        values.copy_within(of * features..(of + at.len()) * features, at.start * features);
        tensor(&values, [tokens, features], device)
    };
    let (x, plus) = (repeated(x, inputs), repeated(plus, outputs));
    let layers = [layer.clone()];
    let [told, not_told] = [repeats.as_slice(), &[]].map(|repeats| B::linears(&x, &layers, Some(&plus), rows, repeats));
    let [told, not_told] = [&told, &not_told].map(|got| (host(&got[0].y), got[0].h.as_ref().map(host)));
    check.same("y of repeated tokens", &told.0, &not_told.0);
    check.same("h of repeated tokens", &told.1.unwrap_or_default(), &not_told.1.unwrap_or_default());
}

pub(super) fn stored_weights<B: KernelBackend, F: Fma>(device: &B::Device, case: u32, check: &mut Check) {
    let mut random = Random::new(60_000 + case);
    let encoding = Encoding::ALL[case as usize % Encoding::ALL.len()];
    let block = encoding.block_values();
    let (tokens, outputs) = (random.size(), random.size());
    let inputs = if block == 1 { random.size() } else { block * (1 + random.word() as usize % 3) };
    let (stored, w) = random.stored(encoding, [outputs, inputs]);
    let weight = Weight::Stored(B::stored(stored, device));
    let what = format!("{encoding:?} {tokens}×{inputs}×{outputs}");
    let x = random.values(tokens * inputs);
    let ids: Vec<u32> = (0..5).map(|_| random.word() % outputs as u32).collect();
    let rows: Vec<f32> = ids.iter().flat_map(|id| w[*id as usize * inputs..][..inputs].to_vec()).collect();
    check.same(&format!("embedding {what}"), &host(&<B as KernelBackend>::embedding(&weight, &ids)), &rows);
    let places: Vec<u32> = (0_u32..).filter(|_| !random.word().is_multiple_of(3)).take(tokens).collect();
    let count = places.last().map_or(0, |last| *last as usize) + 1 + random.word() as usize % 3;
    let mut among = vec![0.0; count * inputs];
    for (place, row) in places.iter().zip(x.chunks_exact(inputs)) {
        among[*place as usize * inputs..][..inputs].copy_from_slice(row);
    }
    let got = <B as KernelBackend>::scatter(&tensor(&x, [tokens, inputs], device), &places, count);
    check.same(&format!("scatter {tokens}×{inputs} among {count}"), &host(&got), &among);
    let layer = Layer { weight: &weight, bias: None, branch: None };
    let y = B::linears(&tensor(&x, [tokens, inputs], device), &[layer], None, &Rows::default(), &[]);
    check.same(&what, &host(&y[0].y), &reference::linear::<F>(&x, &w, None, inputs, outputs));
}

pub(super) fn normalisation<B: KernelBackend, F: Fma>(device: &B::Device, case: u32, check: &mut Check) {
    let mut random = Random::new(20_000 + case);
    let (tokens, features) = (random.size(), random.size());
    let n = tokens * features;
    let (x, dy, w) = (random.values(n), random.values(n), random.values(features));
    let rows = random.rows(tokens);
    let (y, roots) = reference::rms_norm::<F>(&x, &w, 1e-5);
    let dx = reference::rms_norm_input_gradient::<F>(&dy, &x, &w, &roots);
    let [tx, tdy] = [&x, &dy].map(|values| tensor(values, [tokens, features], device));
    let (tw, troots) = (tensor(&w, [features], device), tensor(&roots, [tokens], device));
    let (got, got_roots) = B::rms_norm(&tx, &tw, 1e-5);
    check.same("rms_norm", &host(&got), &y);
    check.same("rms_norm roots", &host(&got_roots), &roots);
    check.same("rms_norm dx", &host(&B::rms_norm_input_gradient(&tdy, &tx, &tw, &troots, None)), &dx);
    let onto = B::rms_norm_input_gradient(&tdy, &tx, &tw, &troots, Some(&tdy));
    check.same("rms_norm dx with a residual", &host(&onto), &sum(&dy, &dx));
    let dw = B::rms_norm_weight_gradient(&tdy, &tx, &troots, &rows);
    for (row, dw) in rows.ranges.iter().zip(dw) {
        check.same(
            "rms_norm dw",
            &host(&dw),
            &reference::rms_norm_weight_gradient::<F>(&dy, &x, &roots, features, row),
        );
    }
    let sums = B::row_sums_of_squares(&[&tx, &tdy]);
    let both = [&x, &dy].map(|x| reference::row_sums_of_squares::<F>(x, features)).concat();
    check.same("sums of squares", &sums, &both);
}

pub(super) fn elementwise<B: KernelBackend, F: Fma>(device: &B::Device, case: u32, check: &mut Check) {
    let mut random = Random::new(25_000 + case);
    let (tokens, half, heads) = (random.size(), 1 + random.size() / 3, 1 + case as usize % 3);
    let features = heads * 2 * half;
    let n = tokens * features;
    // Gates of every size, so that the exponential meets both of its ends.
    let gate: Vec<f32> = random.values(n).iter().map(|v| v * [1.0, 30.0, 100.0][case as usize % 3]).collect();
    let (up, dy) = (random.values(n), random.values(n));
    let (cos, sin) = (random.values(50 * half), random.values(50 * half));
    let positions: Vec<u32> = (0..tokens).map(|_| random.word() % 50).collect();
    let [tgate, tup, tdy] = [&gate, &up, &dy].map(|values| tensor(values, [tokens, features], device));
    let [tcos, tsin] = [&cos, &sin].map(|values| tensor(values, [50, half], device));
    for inverse in [false, true] {
        let want = reference::rope::<F>(&up, &positions, &cos, &sin, 2 * half, inverse);
        check.same("rope", &host(&B::rope(tup.clone(), &positions, &tcos, &tsin, inverse)), &want);
    }
    check.same("swiglu", &host(&B::swiglu(&tgate, &tup)), &reference::swiglu::<F>(&gate, &up));
    let (want_gate, want_up) = reference::swiglu_backward::<F>(&dy, &gate, &up);
    let got = B::swiglu_backward(tdy.clone(), tgate.clone(), tup.clone());
    check.same("swiglu dgate", &host(&got.gate), &want_gate);
    check.same("swiglu dup", &host(&got.up), &want_up);
    check.same("swiglu again", &host(&got.activation), &reference::swiglu::<F>(&gate, &up));
    let scalars = ADAMW;
    let squares: Vec<f32> = up.iter().map(|v| v * v).collect();
    let mut want = [gate.clone(), dy.clone(), squares.clone()];
    let [p, m, v] = &mut want;
    reference::adamw::<F>(p, m, v, &up, scalars);
    let tsquares = tensor(&squares, [tokens, features], device);
    let got = B::adamw(tgate, tdy, tsquares, &tup, scalars);
    for (got, want) in got.iter().zip(&want) {
        check.same("adamw", &host(got), want);
    }
}

pub(super) fn attention<B: KernelBackend, F: Fma>(device: &B::Device, case: u32, check: &mut Check) {
    let mut random = Random::new(30_000 + case);
    let kv_heads = 1 + case as usize % 3;
    let heads = Heads {
        heads: kv_heads * (1 + case as usize % 4),
        kv_heads,
        head_dim: [2, 16, 30, 64, 74][random.word() as usize % 5],
    };
    let tokens = random.size() + if case % 6 == 1 { 64 } else { 0 };
    let (queries, spans) = random.spans(case, tokens);
    let [q_size, k_size] = [queries * heads.heads, tokens * kv_heads].map(|n| n * heads.head_dim);
    let (q, dy, k, v) = (random.values(q_size), random.values(q_size), random.values(k_size), random.values(k_size));
    let (o, statistics) = reference::attention::<F>(&q, &k, &v, &spans, heads);
    let (dq, dk, dv) = reference::attention_backward::<F>(&dy, &q, &k, &v, &o, &statistics, &spans, heads);
    let (q_shape, k_shape) = ([queries, heads.heads * heads.head_dim], [tokens, kv_heads * heads.head_dim]);
    let [q, dy, to] = [&q, &dy, &o].map(|values| tensor(values, q_shape, device));
    let [k, v] = [&k, &v].map(|values| tensor(values, k_shape, device));
    let tstatistics = tensor(&statistics, [queries, heads.heads * 2], device);
    let what = format!("{queries} queries, {tokens} keys, {heads:?}");
    let (got, got_statistics) = <B as KernelBackend>::attention(&q, &k, &v, &spans, heads);
    check.same(&format!("attention {what}"), &host(&got), &o);
    check.same(&format!("statistics {what}"), &host(&got_statistics), &statistics);
    let got = B::attention_backward(&dy, &q, &k, &v, &to, &tstatistics, &spans, heads);
    check.same(&format!("dq {what}"), &host(&got.0), &dq);
    check.same(&format!("dk {what}"), &host(&got.1), &dk);
    check.same(&format!("dv {what}"), &host(&got.2), &dv);
}

pub(super) fn cross_entropy<B: KernelBackend, F: Fma>(device: &B::Device, case: u32, check: &mut Check) {
    let mut random = Random::new(40_000 + case);
    let (tokens, features) = (random.size(), random.size());
    let vocabulary = random.size() + if case.is_multiple_of(4) { 700 } else { 1 };
    let (x, w) = (random.values(tokens * features), random.values(vocabulary * features));
    let rows = random.rows(tokens);
    let targets = random.targets(tokens, vocabulary);
    let (losses, d_logits, dx) = reference::cross_entropy::<F>(&x, &w, features, &targets);
    let gathered: Vec<f32> = targets.iter().flat_map(|t| x[t.position * features..][..features].to_vec()).collect();
    let tx = tensor(&x, [tokens, features], device);
    let weight = Weight::Values(tensor(&w, [vocabulary, features], device));
    for gradients in [Gradients::None, Gradients::Input, Gradients::InputAndWeight] {
        let got = B::cross_entropy(&tx, &weight, &targets, &rows, gradients);
        check.same("losses", &got.losses, &losses);
        check.there("cross_entropy dx", got.input_gradient.is_some(), gradients != Gradients::None);
        if let Some(got) = got.input_gradient {
            check.same("cross_entropy dx", &host(&got), &dx);
        }
        let weights = gradients == Gradients::InputAndWeight && !rows.ranges.is_empty();
        check.there("cross_entropy dw", !got.weight_gradients.is_empty(), weights);
        for (row, dw) in rows.ranges.iter().zip(got.weight_gradients) {
            let at = |p: usize| targets.partition_point(|t| t.position < p);
            let range = at(row.start)..at(row.end);
            let want = reference::linear_weight_gradient::<F>(&d_logits, &gathered, features, vocabulary, &range);
            check.same("cross_entropy dw", &host(&dw), &want);
        }
    }
    let ids: Vec<u32> = (0..tokens).map(|_| random.word() % vocabulary as u32).collect();
    let got = B::embedding_gradient(&tx, &ids, vocabulary, &rows);
    for (row, got) in rows.ranges.iter().zip(got) {
        check.same(
            "embedding gradient",
            &host(&got),
            &reference::embedding_gradient(&x, &ids, features, vocabulary, row),
        );
    }
}
