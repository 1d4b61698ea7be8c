//! A fresh adapter has no effect, and only the right matrices start at zero.

use burn_flex::Flex;
use tune_model::{Mode, Model};
use tune_schema::seed::Seed;

use super::support::*;

fn rows() -> Vec<Row> {
    step_of_eight(&wide(true)).iter().map(|examples| Row::pack(examples)).collect()
}

fn fresh(tied: bool, dropout: f64, seed: Seed) -> Model<Flex> {
    let mut model = model(&wide(tied));
    model.add_lora(&lora(all_linear(), dropout), seed).expect("the targets exist");
    model
}

/// Losses in training with dropout and in evaluation, and logits.
fn outputs(model: &Model<Flex>) -> Vec<f32> {
    let batch = batch(&rows(), 0);
    let training = model.forward_backward(&batch, Mode::Train { step: 2 }, &mut |_, _| {});
    let logits = model.logits(&tokens(&wide(true), 60, 40)).concat();
    [training, model.losses(&batch), logits].concat()
}

#[test]
fn a_fresh_adapter_changes_no_bit() {
    for tied in [true, false] {
        let base = outputs(&model(&wide(tied)));
        assert_same_bits("without dropout", &outputs(&fresh(tied, 0.0, SEED)), &base);
        assert_same_bits("with dropout", &outputs(&fresh(tied, 0.5, SEED)), &base);
        assert_ne!(bits(&outputs(&adapted(&wide(tied), 0.0, SEED))), bits(&base), "an adapter's effect shows");
    }
}

/// The smallest effect shows: one element of one B.
#[test]
fn one_element_of_b_shows() {
    let mut model = fresh(true, 0.0, SEED);
    let base = outputs(&model);
    let name = "base_model.model.model.layers.1.mlp.gate_proj.lora_B.weight";
    model.update(|found, tensor| {
        if found != name {
            return tensor;
        }
        let shape = tensor.dims();
        let mut values = host(&tensor);
        values[4] = 1e-3;
        burn_tensor::Tensor::from_data(burn_tensor::TensorData::new(values, shape), &burn_flex::FlexDevice)
    });
    assert_ne!(bits(&outputs(&model)), bits(&base));
}

/// A is drawn within ±1/√inputs from the seed, B is zero: then B learns at once and A does not.
#[test]
fn a_is_drawn_and_b_is_zero() {
    let (model, other) = (fresh(true, 0.0, SEED), fresh(true, 0.0, Seed(8)));
    let step = Step::of(&model, &batch(&rows(), 0), Mode::Train { step: 0 });
    let other = other.trainable();
    assert_eq!(step.gradients.len(), 2 * 2 * 7);
    for (name, tensor) in model.trainable() {
        let (values, gradient) = (host(&tensor), &step.gradients[&name][0]);
        let zero = |values: &[f32]| values.iter().all(|value| *value == 0.0);
        if name.contains(".lora_B.") {
            assert!(zero(&values) && !zero(gradient), "{name}");
            continue;
        }
        let bound = 1.0 / (tensor.dims()[1] as f32).sqrt();
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{name}: {largest} of {bound}");
        assert!(zero(gradient), "{name}");
        assert_ne!(values, host(&other[&name]), "{name}: the seed does not show");
    }
}
