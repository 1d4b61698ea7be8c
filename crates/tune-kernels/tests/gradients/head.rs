//! Embedding, and the linear head with cross-entropy.

use burn_autodiff::Autodiff;
use burn_backend::TensorData;
use burn_flex::Flex;
use burn_tensor::{Int, Tensor, activation};
use tune_kernels::KernelBackend;
use tune_kernels::backend::{Gradients, Target};

use super::{Differentiable, Matrix, Operation, Random, linear, rows};

#[test]
fn embedding_gradients() {
    // Ids that occur in several rows, twice in one row, and not at all.
    let ids = [4_u32, 0, 4, 4, 6, 1, 0, 1];
    for (case, (lengths, features)) in [(&[8][..], 1), (&[4, 1, 3], 19)].into_iter().enumerate() {
        let mut random = Random::new(500 + case as u32);
        let rows = rows(lengths);
        let (table, dy) = (random.matrix(7, features), random.matrix(ids.len(), features));
        let indices: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        let operation = Operation {
            name: "embedding",
            inputs: vec![&table],
            plain: &|i| ids.iter().flat_map(|id| &i[0][*id as usize * features..][..features]).copied().collect(),
            composed: &|i| {
                let data = TensorData::new(indices.clone(), [indices.len()]);
                let indices = Tensor::<Autodiff<Flex>, 1, Int>::from_data(data, &burn_flex::FlexDevice);
                i[0].clone().select(0, indices)
            },
        };
        operation.check_output(&<Flex as KernelBackend>::embedding(&table.tensor().into(), &ids));
        let gradients = <Flex as KernelBackend>::embedding_gradient(&dy.tensor(), &ids, 7, &rows);
        operation.check_rows(0, &dy, &rows, &gradients);
        operation.check_rejects(0, &dy, &gradients[0].clone().neg());
    }
}

/// The loss of each token, 0 where it is no target: `[tokens, 1]`.
fn plain_losses(x: &[f64], w: &[f64], features: usize, targets: &[Target]) -> Vec<f64> {
    let mut losses = vec![0.0; x.len() / features];
    for target in targets {
        let logits = linear(&x[target.position * features..][..features], w, features);
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| libm::exp(logit - max)).sum();
        losses[target.position] = libm::log(sum) + max - logits[target.label as usize];
    }
    losses
}

fn composed_losses(x: &Differentiable, w: &Differentiable, targets: &[Target]) -> Differentiable {
    let ([tokens, _], [vocabulary, _]) = (x.dims(), w.dims());
    let mut chosen = Matrix { values: vec![0.0; tokens * vocabulary], shape: [tokens, vocabulary] };
    for target in targets {
        chosen.values[target.position * vocabulary + target.label as usize] = -1.0;
    }
    let logits = x.clone().matmul(w.clone().transpose());
    (activation::log_softmax(logits, 1) * chosen.tensor()).sum_dim(1)
}

/// The fused losses, spread over the tokens.
fn spread(losses: &[f32], tokens: usize, targets: &[Target]) -> Tensor<Flex, 2> {
    let mut spread = Matrix { values: vec![0.0; tokens], shape: [tokens, 1] };
    targets.iter().zip(losses).for_each(|(target, loss)| spread.values[target.position] = *loss);
    spread.tensor()
}

fn check_cross_entropy(test: u32, lengths: &[usize], [features, vocabulary]: [usize; 2], supervised: &[usize]) {
    let mut random = Random::new(test);
    let (rows, tokens) = (rows(lengths), lengths.iter().sum());
    let (x, w) = (random.matrix(tokens, features), random.matrix(vocabulary, features));
    let label = |position: usize| (position * 31 + 1) as u32 % vocabulary as u32;
    let targets: Vec<Target> =
        supervised.iter().map(|position| Target { position: *position, label: label(*position) }).collect();
    let operation = Operation {
        name: "cross_entropy",
        inputs: vec![&x, &w],
        plain: &|i| plain_losses(&i[0], &i[1], features, &targets),
        composed: &|i| composed_losses(&i[0], &i[1], &targets),
    };
    // The fused gradient is that of the sum of the losses.
    let ones = Matrix { values: vec![1.0; tokens], shape: [tokens, 1] };
    let fused =
        |gradients| <Flex as KernelBackend>::cross_entropy(&x.tensor(), &w.tensor().into(), &targets, &rows, gradients);
    for gradients in [Gradients::None, Gradients::Input, Gradients::InputAndWeight] {
        let result = fused(gradients);
        operation.check_output(&spread(&result.losses, tokens, &targets));
        assert_eq!(result.input_gradient.is_some(), gradients != Gradients::None);
        if let Some(dx) = result.input_gradient {
            operation.check(0, &ones, &dx);
            operation.check_rejects(0, &ones, &dx.neg());
        }
        if gradients == Gradients::InputAndWeight {
            operation.check_rows(1, &ones, &rows, &result.weight_gradients);
            // What a head that ignores rows would give for its first row.
            let whole = result.weight_gradients.into_iter().reduce(|sum, row| sum + row).expect("a row");
            operation.check(1, &ones, &whole);
            if rows.ranges.len() > 1 {
                operation.check_rejects(1, &ones.only(&rows.ranges[0]), &whole);
            }
        }
    }
}

#[test]
fn cross_entropy_gradients() {
    check_cross_entropy(510, &[1], [3, 2], &[0]);
    // Some tokens of a row are targets; none of the second row is, so that its gradient is 0.
    check_cross_entropy(511, &[4, 2, 6, 1], [19, 50], &[1, 2, 7, 8, 9, 11, 12]);
    check_cross_entropy(512, &[2, 7], [37, 11], &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
}
