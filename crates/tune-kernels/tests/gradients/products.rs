//! Linear layers, with and without a LoRA branch.

use burn_autodiff::Autodiff;
use burn_flex::Flex;
use tune_kernels::KernelBackend;
use tune_kernels::backend::{InputGradient, Layer, LoraBranch, LoraGradient, Weight};
use tune_kernels::layout::Rows;
use tune_kernels::philox::{StreamKey, philox4x32_10};
use tune_kernels::shapes::Dropout;

use super::{Differentiable, Matrix, Operation, Random, linear, rows};

/// Adds a bias to each token.
fn add_bias(y: &[f64], bias: &[f64]) -> Vec<f64> {
    y.iter().zip(bias.iter().cycle()).map(|(y, bias)| y + bias).collect()
}

#[test]
fn linear_gradients() {
    for (case, (lengths, inputs, outputs)) in
        [(&[1][..], 1, 1), (&[4, 1, 6], 37, 23), (&[2, 17], 5, 49)].into_iter().enumerate()
    {
        let mut random = Random::new(100 + case as u32);
        let rows = rows(lengths);
        let tokens = lengths.iter().sum();
        let (x, w, bias) = (random.matrix(tokens, inputs), random.matrix(outputs, inputs), random.matrix(1, outputs));
        let dy = random.matrix(tokens, outputs);
        let operation = Operation {
            name: "linear",
            inputs: vec![&x, &w, &bias],
            plain: &|i| add_bias(&linear(&i[0], &i[1], inputs), &i[2]),
            composed: &|i| i[0].clone().matmul(i[1].clone().transpose()) + i[2].clone(),
        };
        let (tx, tw, tdy) = (x.tensor(), w.tensor(), dy.tensor());
        let (weight, bias) = (Weight::from(tw), bias.vector());
        let layer = Layer { weight: &weight, bias: Some(&bias), branch: None };
        operation.check_output(&<Flex as KernelBackend>::linears(&tx, &[layer], None, &rows, &[])[0].y);
        let dx = <Flex as KernelBackend>::linear_input_gradient(&tdy, &weight, None);
        operation.check(0, &dy, &dx);
        operation.check_rejects(0, &dy, &dx.neg());
        let dw = <Flex as KernelBackend>::linear_weight_gradient(&tdy, &tx, &rows);
        operation.check_rows(1, &dy, &rows, &dw);
        operation.check_rows(2, &dy, &rows, &<Flex as KernelBackend>::bias_gradient(&tdy, &rows));
    }
}

/// What dropout multiplies each feature of each token by, from the definition in `docs/numerics.md`.
fn dropout_factors(dropout: Option<Dropout>, rows: &Rows, inputs: usize) -> Matrix {
    let mut factors = Vec::new();
    for (row, range) in rows.ranges.iter().enumerate() {
        for token in 0..range.len() {
            factors.extend((0..inputs).map(|feature| match dropout {
                None => 1.0,
                Some(Dropout { key, step, threshold, scale }) => {
                    let counter = [feature as u32 / 4, token as u32, rows.first + row as u32, step];
                    if philox4x32_10(counter, key.0)[feature % 4] >= threshold { scale } else { 0.0 }
                }
            }));
        }
    }
    Matrix { shape: [factors.len() / inputs, inputs], values: factors }
}

fn plain_lora(i: &[Vec<f64>], factors: &Matrix, scale: f32, rank: usize) -> Vec<f64> {
    let [x, w, bias, a, b] = [0, 1, 2, 3, 4].map(|input| &i[input]);
    let dropped: Vec<f64> = x.iter().zip(&factors.values).map(|(x, f)| x * f64::from(*f)).collect();
    let inputs = factors.shape[1];
    let branch = linear(&linear(&dropped, a, inputs), b, rank);
    let y = add_bias(&linear(x, w, inputs), bias);
    y.iter().zip(branch).map(|(y, branch)| y + f64::from(scale) * branch).collect()
}

fn composed_lora(i: &[Differentiable], factors: &Matrix, scale: f32) -> Differentiable {
    let [x, w, bias, a, b] = [0, 1, 2, 3, 4].map(|input| i[input].clone());
    let dropped = x.clone() * factors.tensor::<Autodiff<Flex>>();
    x.matmul(w.transpose()) + bias + dropped.matmul(a.transpose()).matmul(b.transpose()) * scale
}

/// Inputs of a case: x, weight, bias, A, B.
fn lora_inputs(random: &mut Random, [tokens, inputs, outputs, rank]: [usize; 4]) -> [Matrix; 5] {
    [(tokens, inputs), (outputs, inputs), (1, outputs), (rank, inputs), (outputs, rank)]
        .map(|(rows, columns)| random.matrix(rows, columns))
}

fn check_lora(test: u32, lengths: &[usize], [inputs, outputs, rank]: [usize; 3], dropout: Option<Dropout>) {
    let mut random = Random::new(test);
    let (rows, tokens) = (rows(lengths), lengths.iter().sum());
    let matrices = lora_inputs(&mut random, [tokens, inputs, outputs, rank]);
    let dy = random.matrix(tokens, outputs);
    let scale = 1.7;
    let factors = dropout_factors(dropout, &rows, inputs);
    let operation = Operation {
        name: "linear_lora",
        inputs: matrices.iter().collect(),
        plain: &|i| plain_lora(i, &factors, scale, rank),
        composed: &|i| composed_lora(i, &factors, scale),
    };
    let [x, w, _, a, b] = matrices.each_ref().map(Matrix::tensor::<Flex>);
    let branch = LoraBranch { a, b, scale, dropout };
    let (weight, bias) = (Weight::from(w), matrices[2].vector());
    let layer = |branch: &LoraBranch<Flex>| Layer { weight: &weight, bias: Some(&bias), branch: Some(branch.clone()) };
    let output = <Flex as KernelBackend>::linears(&x, &[layer(&branch)], None, &rows, &[]).remove(0);
    operation.check_output(&output.y);
    let h = output.h.expect("the layer has a branch");

    let backward = |branch: &LoraBranch<Flex>, input: bool| {
        let input = if input { InputGradient::Alone } else { InputGradient::None };
        <Flex as KernelBackend>::linear_lora_backward(&dy.tensor(), &x, &h, &layer(branch), &rows, input)
    };
    let split = |gradients: Vec<LoraGradient<Flex>>| gradients.into_iter().map(|g| (g.a, g.b)).unzip();
    let (dx, gradients) = backward(&branch, true);
    let (da, db): (Vec<_>, Vec<_>) = split(gradients);
    operation.check(0, &dy, &dx.expect("asked for"));
    operation.check_rows(3, &dy, &rows, &da);
    operation.check_rows(4, &dy, &rows, &db);
    let (none, gradients) = backward(&branch, false);
    let (da, db): (Vec<_>, Vec<_>) = split(gradients);
    assert!(none.is_none());
    operation.check_rows(3, &dy, &rows, &da);
    operation.check_rows(4, &dy, &rows, &db);

    // Mistakes that are easily made: no scale, and dropout of another step.
    let mut wrong = vec![LoraBranch { scale: 1.0, ..branch.clone() }];
    wrong.extend(dropout.map(|d| LoraBranch { dropout: Some(Dropout { step: d.step + 1, ..d }), ..branch.clone() }));
    for wrong in wrong {
        let (dx, gradients) = backward(&wrong, true);
        operation.check_rejects(0, &dy, &dx.expect("asked for"));
        operation.check_rejects(3, &dy.only(&rows.ranges[0]), &gradients[0].a);
    }
}

#[test]
fn lora_gradients() {
    check_lora(200, &[1], [1, 1, 1], None);
    check_lora(201, &[4, 1, 6], [37, 23, 3], None);
    check_lora(202, &[2, 9], [7, 33, 17], None);
}

#[test]
fn lora_gradients_with_dropout() {
    let dropout = |step, p| Some(Dropout::new(StreamKey([5, 6]), step, p));
    check_lora(210, &[4, 1, 6], [37, 23, 3], dropout(0, 0.3));
    check_lora(211, &[2, 9], [7, 33, 17], dropout(41, 0.5));
}
