//! Normalisation, rotation, activation.

use burn_autodiff::Autodiff;
use burn_flex::Flex;
use burn_tensor::{Tensor, activation};
use tune_kernels::KernelBackend;

use super::{Differentiable, Matrix, Operation, Random, rows};

fn plain_rms_norm(x: &[f64], w: &[f64], epsilon: f32) -> Vec<f64> {
    let one = |x: &[f64]| {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / w.len() as f64;
        let root = (mean + f64::from(epsilon)).sqrt();
        x.iter().zip(w).map(|(x, w)| x / root * w).collect::<Vec<_>>()
    };
    x.chunks_exact(w.len()).flat_map(one).collect()
}

#[test]
fn rms_norm_gradients() {
    // The epsilons are large, so that a gradient that forgets them shows.
    for (case, (lengths, features, epsilon)) in
        [(&[1][..], 1, 0.5), (&[4, 1, 6], 37, 0.1), (&[2, 7], 81, 1e-2)].into_iter().enumerate()
    {
        let mut random = Random::new(300 + case as u32);
        let (rows, tokens) = (rows(lengths), lengths.iter().sum());
        let (mut x, w) = (random.matrix(tokens, features), random.matrix(1, features));
        // At this token epsilon is most of the root.
        x.values[..features].iter_mut().for_each(|x| *x *= 0.1);
        let dy = random.matrix(tokens, features);
        let operation = Operation {
            name: "rms_norm",
            inputs: vec![&x, &w],
            plain: &|i| plain_rms_norm(&i[0], &i[1], epsilon),
            composed: &|i| {
                let mean = i[0].clone().powi_scalar(2).mean_dim(1);
                i[0].clone() / (mean + epsilon).sqrt() * i[1].clone()
            },
        };
        let (tx, tw, tdy) = (x.tensor(), w.vector(), dy.tensor());
        let (y, roots) = <Flex as KernelBackend>::rms_norm(&tx, &tw, epsilon);
        operation.check_output(&y);
        operation.check(0, &dy, &<Flex as KernelBackend>::rms_norm_input_gradient(&tdy, &tx, &tw, &roots, None));
        let dw = <Flex as KernelBackend>::rms_norm_weight_gradient(&tdy, &tx, &roots, &rows);
        operation.check_rows(1, &dy, &rows, &dw);

        let (_, no_epsilon) = <Flex as KernelBackend>::rms_norm(&tx, &tw, 0.0);
        let wrong = <Flex as KernelBackend>::rms_norm_input_gradient(&tdy, &tx, &tw, &no_epsilon, None);
        operation.check_rejects(0, &dy, &wrong);
    }
}

/// Cosines and sines of the angles of Su et al. for these positions, `[positions, half]`.
fn tables(positions: usize, half: usize) -> [Matrix; 2] {
    let angle = |i: usize| (i / half) as f64 * libm::pow(10_000.0, -((i % half) as f64) / half as f64);
    [libm::cos as fn(f64) -> f64, libm::sin].map(|function| {
        let values = (0..positions * half).map(|i| function(angle(i)) as f32).collect();
        Matrix { values, shape: [positions, half] }
    })
}

/// The table's rows at the positions of the tokens.
fn gathered(table: &Matrix, positions: &[u32]) -> Matrix {
    let half = table.shape[1];
    let values = positions.iter().flat_map(|p| &table.values[*p as usize * half..][..half]).copied().collect();
    Matrix { values, shape: [positions.len(), half] }
}

/// `(x1 · cos - x2 · sin, x2 · cos + x1 · sin)` for the halves of each head.
fn plain_rope(x: &[f64], heads: usize, [cos, sin]: &[Matrix; 2]) -> Vec<f64> {
    let half = cos.shape[1];
    let mut y = vec![0.0; x.len()];
    for (head, (y, x)) in y.chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half)).enumerate() {
        for i in 0..half {
            let [cos, sin] = [cos, sin].map(|table| f64::from(table.values[head / heads * half + i]));
            y[i] = x[i] * cos - x[i + half] * sin;
            y[i + half] = x[i + half] * cos + x[i] * sin;
        }
    }
    y
}

fn composed_rope(x: &Differentiable, heads: usize, tables: &[Matrix; 2]) -> Differentiable {
    let [tokens, half] = tables[0].shape;
    let [cos, sin] = tables.each_ref().map(Matrix::tensor::<Autodiff<Flex>>);
    let half_head = |i: usize| x.clone().slice([0..tokens, i * half..(i + 1) * half]);
    let rotated = |head: usize| {
        let (x1, x2) = (half_head(2 * head), half_head(2 * head + 1));
        [x1.clone() * cos.clone() - x2.clone() * sin.clone(), x2 * cos.clone() + x1 * sin.clone()]
    };
    Tensor::cat((0..heads).flat_map(rotated).collect(), 1)
}

#[test]
fn rope_gradients() {
    // Packed segments: positions start again, and need not start at 0.
    let positions = [0, 1, 2, 3, 0, 0, 1, 17, 18, 19, 20];
    for (case, (heads, half)) in [(1, 1), (3, 7), (2, 17)].into_iter().enumerate() {
        let mut random = Random::new(310 + case as u32);
        let features = heads * 2 * half;
        let (x, dy) = (random.matrix(positions.len(), features), random.matrix(positions.len(), features));
        let [cos, sin] = tables(21, half);
        let of_tokens = [gathered(&cos, &positions), gathered(&sin, &positions)];
        let operation = Operation {
            name: "rope",
            inputs: vec![&x],
            plain: &|i| plain_rope(&i[0], heads, &of_tokens),
            composed: &|i| composed_rope(&i[0], heads, &of_tokens),
        };
        let rope = |x: &Matrix, inverse| {
            <Flex as KernelBackend>::rope(x.tensor(), &positions, &cos.tensor(), &sin.tensor(), inverse)
        };
        operation.check_output(&rope(&x, false));
        operation.check(0, &dy, &rope(&dy, true));
        operation.check_rejects(0, &dy, &rope(&dy, false));
    }
}

#[test]
fn swiglu_gradients() {
    for (case, (tokens, features)) in [(1, 1), (7, 53)].into_iter().enumerate() {
        let mut random = Random::new(320 + case as u32);
        // Gates of up to about ±12: also where the sigmoid is nearly 0 or 1.
        let gate = random.matrix(tokens, features).scaled(4.0);
        let (up, dy) = (random.matrix(tokens, features), random.matrix(tokens, features));
        let silu = |gate: &f64| gate / (1.0 + libm::exp(-gate));
        let operation = Operation {
            name: "swiglu",
            inputs: vec![&gate, &up],
            plain: &|i| i[0].iter().zip(&i[1]).map(|(gate, up)| silu(gate) * up).collect(),
            composed: &|i| i[0].clone() * activation::sigmoid(i[0].clone()) * i[1].clone(),
        };
        let (tgate, tup) = (gate.tensor(), up.tensor());
        operation.check_output(&<Flex as KernelBackend>::swiglu(&tgate, &tup));
        let got = <Flex as KernelBackend>::swiglu_backward(dy.tensor(), tgate, tup);
        operation.check_output(&got.activation);
        operation.check(0, &dy, &got.gate);
        operation.check(1, &dy, &got.up);
        operation.check_rejects(0, &dy, &got.up);
    }
}
