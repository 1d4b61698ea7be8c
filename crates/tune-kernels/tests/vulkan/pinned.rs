//! The data flow of `pinned-bf16/1` on a Vulkan adapter, software before hardware, which has no matrix instructions:
//! rounding, tiles, edges and epilogues, each bit compared with the scalar reference over rounded operands.

use burn_tensor::{Tensor, TensorData};
use half::bf16;
use tune_kernels::KernelBackend;
use tune_kernels::backend::{Gradients, InputGradient, Layer, LoraBranch, Weight};
use tune_kernels::compare::{Random, difference, sum};
use tune_kernels::cube::device::wgpu_adapters;
use tune_kernels::cube::{PinnedWgpu as B, WgpuRuntime};
use tune_kernels::philox::StreamKey;
use tune_kernels::reference::{self, Fma, Fused, Unfused};
use tune_kernels::shapes::Dropout;
use tune_kernels::stored::StoredMatrix;

use crate::adapter;

type Device = burn_tensor::Device<B>;

/// The adapter, and whether its `fma` is fused.
fn device() -> Option<(Device, bool)> {
    let adapter = adapter::under_test(wgpu_adapters(), |adapter| adapter.software)?;
    let fused = adapter.probe::<WgpuRuntime>().expect("a report").fma_not_fused == 0;
    Some((adapter.device, fused))
}

/// The nearest bf16 of each value.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect()
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn host<const D: usize>(tensor: &Tensor<B, D>) -> Vec<f32> {
    tensor.to_data().to_vec().expect("f32")
}

fn same(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(difference(got, want), None, "{what}");
}

/// A linear layer in every direction.
fn products<F: Fma>(device: &Device, case: u32) {
    let mut random = Random::new(500 + case);
    let (mut tokens, mut inputs, mut outputs) = (random.size(), random.size(), random.size());
    match case % 5 {
        1 => inputs *= 5,
        2 => (tokens, outputs) = (tokens + 130, outputs + 130),
        3 => (inputs, outputs) = (inputs + 70, outputs + 64),
        _ => {}
    }
    let what = format!("{tokens} × {inputs} × {outputs}");
    let (x, w) = (random.values(tokens * inputs), random.values(outputs * inputs));
    let (dy, bias) = (random.values(tokens * outputs), random.values(outputs));
    let (onto_y, onto_dx) = (random.values(tokens * outputs), random.values(tokens * inputs));
    let rows = random.rows(tokens);
    let [rx, rw, rdy] = [&x, &w, &dy].map(|values| rounded(values));
    let [tx, tdx] = [&x, &onto_dx].map(|values| tensor(values, [tokens, inputs], device));
    let [tdy, ty] = [&dy, &onto_y].map(|values| tensor(values, [tokens, outputs], device));
    let weights = [
        Weight::Values(tensor(&w, [outputs, inputs], device)),
        Weight::Stored(B::stored(StoredMatrix::of_values([outputs, inputs], &w), device)),
    ];
    let tbias = tensor(&bias, [outputs], device);
    for weight in &weights {
        let layer = |bias| Layer { weight, bias, branch: None };
        let got = B::linears(&tx, &[layer(Some(&tbias)), layer(None)], Some(&ty), &rows, &[]);
        let want = reference::linear::<F>(&rx, &rw, Some(&bias), inputs, outputs);
        same(&format!("linear onto, {what}"), &host(&got[0].y), &sum(&onto_y, &want));
        same(&what, &host(&got[1].y), &reference::linear::<F>(&rx, &rw, None, inputs, outputs));
        let want = reference::linear_input_gradient::<F>(&rdy, &rw, inputs, outputs);
        let got = host(&B::linear_input_gradient(&tdy, weight, Some(&tdx)));
        same(&format!("input gradient, {what}"), &got, &sum(&onto_dx, &want));
    }
    for (row, got) in rows.ranges.iter().zip(B::linear_weight_gradient(&tdy, &tx, &rows)) {
        let want = reference::linear_weight_gradient::<F>(&rdy, &rx, inputs, outputs, row);
        same(&format!("weight gradient, {what}, {row:?}"), &host(&got), &want);
    }
}

/// A LoRA layer in both directions.
fn lora<F: Fma>(device: &Device, case: u32) {
    let mut random = Random::new(600 + case);
    let (tokens, inputs, outputs) = (random.size(), random.size() + 70, random.size() + 70);
    let rank = 1 + random.word() as usize % 17;
    let (x, w, dy) = (random.values(tokens * inputs), random.values(outputs * inputs), random.values(tokens * outputs));
    let (a, b) = (random.values(rank * inputs), random.values(outputs * rank));
    let rows = random.rows(tokens);
    let dropout = case.is_multiple_of(2).then(|| Dropout::new(StreamKey([5, 6]), case, 0.3));
    let scale = 1.7;
    let [rx, rw, rdy, ra, rb] = [&x, &w, &dy, &a, &b].map(|values| rounded(values));
    let dropped = if dropout.is_some() { rounded(&reference::dropout(&x, inputs, dropout, &rows)) } else { rx.clone() };
    let h = reference::linear::<F>(&dropped, &ra, None, inputs, rank);
    let branch = reference::linear::<F>(&rounded(&h), &rb, None, rank, outputs);
    let y = reference::linear::<F>(&rx, &rw, None, inputs, outputs);
    let y: Vec<f32> = branch.iter().zip(&y).map(|(branch, y)| F::fma(scale, *branch, *y)).collect();
    let u = rounded(&reference::linear_input_gradient::<F>(&rdy, &rb, rank, outputs));
    let through = reference::linear_input_gradient::<F>(&u, &ra, inputs, rank);
    let through = reference::dropout(&through, inputs, dropout, &rows);
    let dx = reference::linear_input_gradient::<F>(&rdy, &rw, inputs, outputs);
    let dx: Vec<f32> = through.iter().zip(&dx).map(|(through, dx)| F::fma(scale, *through, *dx)).collect();

    let weight = Weight::Stored(B::stored(StoredMatrix::of_values([outputs, inputs], &w), device));
    let (ta, tb) = (tensor(&a, [rank, inputs], device), tensor(&b, [outputs, rank], device));
    let branch = Some(LoraBranch { a: ta, b: tb, scale, dropout });
    let layer = Layer { weight: &weight, bias: None, branch };
    let (tx, tdy) = (tensor(&x, [tokens, inputs], device), tensor(&dy, [tokens, outputs], device));
    let got = B::linears(&tx, std::slice::from_ref(&layer), None, &rows, &[]);
    let th = got[0].h.clone().expect("a branch");
    same("h", &host(&th), &h);
    same("y", &host(&got[0].y), &y);
    let (got_dx, got) = B::linear_lora_backward(&tdy, &tx, &th, &layer, &rows, InputGradient::Alone);
    same("dx", &host(&got_dx.expect("asked for")), &dx);
    let scaled = |values: Vec<f32>| values.iter().map(|value| value * scale).collect::<Vec<f32>>();
    for (row, got) in rows.ranges.iter().zip(got) {
        let da = reference::linear_weight_gradient::<F>(&u, &dropped, inputs, rank, row);
        let db = reference::linear_weight_gradient::<F>(&rdy, &rounded(&h), rank, outputs, row);
        same("dA", &host(&got.a), &scaled(da));
        same("dB", &host(&got.b), &scaled(db));
    }
}

/// The head: losses, and gradients by way of those of the logits.
fn cross_entropy<F: Fma>(device: &Device, case: u32) {
    let mut random = Random::new(700 + case);
    let (tokens, features, vocabulary) = (random.size() + 2, random.size(), random.size() + 64);
    let (x, w) = (random.values(tokens * features), random.values(vocabulary * features));
    let targets = random.targets(tokens, vocabulary);
    let rows = random.rows(tokens);
    let (rx, rw) = (rounded(&x), rounded(&w));
    let (losses, d_logits, _) = reference::cross_entropy::<F>(&rx, &rw, features, &targets);
    let d_logits = rounded(&d_logits);
    let gathered: Vec<f32> =
        targets.iter().flat_map(|target| rx[target.position * features..][..features].to_vec()).collect();
    let mut dx = vec![0.0; x.len()];
    let of_targets = reference::linear_input_gradient::<F>(&d_logits, &rw, features, vocabulary);
    for (i, target) in targets.iter().enumerate() {
        dx[target.position * features..][..features].copy_from_slice(&of_targets[i * features..][..features]);
    }
    let weight = Weight::Values(tensor(&w, [vocabulary, features], device));
    let tx = tensor(&x, [tokens, features], device);
    let got = B::cross_entropy(&tx, &weight, &targets, &rows, Gradients::InputAndWeight);
    same("losses", &got.losses, &losses);
    same("dx", &host(&got.input_gradient.expect("asked for")), &dx);
    let at = |position: usize| targets.partition_point(|target| target.position < position);
    for (row, got) in rows.ranges.iter().zip(&got.weight_gradients) {
        let of_row = at(row.start)..at(row.end);
        let want = reference::linear_weight_gradient::<F>(&d_logits, &gathered, features, vocabulary, &of_row);
        same("dw", &host(got), &want);
    }
}

#[test]
fn every_product_equals_the_reference_over_rounded_operands() {
    let Some((device, fused)) = device() else { return };
    for case in 0..20 {
        if fused {
            products::<Fused>(&device, case);
            lora::<Fused>(&device, case);
            cross_entropy::<Fused>(&device, case);
        } else {
            products::<Unfused>(&device, case);
            lora::<Unfused>(&device, case);
            cross_entropy::<Unfused>(&device, case);
        }
    }
}

/// Ties, denormals, the largest numbers, infinities and a NaN.
#[test]
fn weights_are_rounded_to_the_nearest_even() {
    let Some((device, _)) = device() else { return };
    let special = [
        0x0000_0000_u32,
        0x8000_0000,
        0x3f80_8000,
        0x3f81_8000,
        0x3f80_7fff,
        0x3f80_8001,
        0xbf80_8000,
        0x0000_0001,
        0x0000_8000,
        0x0000_8001,
        0x0001_8000,
        0x807f_ffff,
        0x7f7f_ffff,
        0x7f7f_7fff,
        0xff7f_8000,
        0x7f80_0000,
        0xff80_0000,
    ];
    let mut random = Random::new(1);
    let values: Vec<f32> =
        special.into_iter().chain((0..500).map(|_| random.word() & 0xff7f_ffff)).map(f32::from_bits).collect();
    let stored = B::stored(StoredMatrix::of_values([values.len(), 1], &values), &device);
    let ids: Vec<u32> = (0..).take(values.len()).collect();
    same("rounded", &host(&B::embedding(&Weight::Stored(stored), &ids)), &rounded(&values));
    let nan = B::stored(StoredMatrix::of_values([1, 1], &[f32::from_bits(0x7f80_0001)]), &device);
    assert!(host(&B::embedding(&Weight::Stored(nan), &[0]))[0].is_nan());
}
