//! Gradients of the whole model against finite differences of the f64 forward pass, for every element of every trained
//! tensor and each row by itself.

use burn_flex::Flex;
use tune_model::base::ModelConfig;
use tune_model::{LoraSpec, Mode, Model};
use tune_schema::recipe::TargetModules;

use super::reference::Reference;
use super::support::*;

/// How far an element may be from the difference quotient, in units of the root mean square of its tensor's gradient.
///
/// Rounding makes 1e-7 of the losses into about 1e-6 of most gradients, through two blocks of four products each; more
/// where a row's gradient is a difference of larger parts, as that of a query matrix with two supervised tokens. Seen on
/// these inputs: at most 7.2e-6 (and, by the contract, the same on every machine). A wrong index, sign, factor or place
/// is off by about 1.
const TOLERANCE: f64 = 1e-5;

/// Step of the central differences. Being a power of two it adds to an f32 without rounding. The error of the quotient
/// is about `STEP² / 6 ≈ 1e-11` of the third derivative, and `2⁻⁵³ · loss / STEP ≈ 1e-10` for rounding: far below
/// [`TOLERANCE`].
const STEP: f64 = 1.0 / 131_072.0;

/// Row 0 is packed, row 1 has a segment without supervised tokens and one of a single token, row 2 a prompt.
fn rows(config: &ModelConfig) -> Vec<Vec<Example>> {
    let example = |key, prompt, rest| Example::new(config, key, prompt, rest);
    vec![
        vec![example(1, 2, 4), example(2, 1, 3)],
        vec![example(3, 3, 0), example(4, 1, 0), example(5, 1, 2)],
        vec![example(6, 4, 3)],
    ]
}

/// Central differences of the summed losses of each row by the elements of one tensor.
fn finite_differences(reference: &mut Reference, name: &str, rows: &[Vec<Example>]) -> Vec<Vec<f64>> {
    let mut slopes = vec![Vec::new(); rows.len()];
    for i in 0..reference.weights[name].len() {
        let at = reference.weights[name][i];
        let mut losses = |value: f64| {
            reference.weights.get_mut(name).expect("a weight")[i] = value;
            reference.losses(rows)
        };
        let (above, below) = (losses(at + STEP), losses(at - STEP));
        losses(at);
        for ((slopes, above), below) in slopes.iter_mut().zip(above).zip(below) {
            slopes.push(above.iter().zip(below).map(|(above, below)| above - below).sum::<f64>() / (2.0 * STEP));
        }
    }
    slopes
}

/// Panics where a gradient of the model is wrong.
fn check(model: &Model<Flex>, mut reference: Reference, rows: &[Vec<Example>], mode: Mode) {
    let packed: Vec<Row> = rows.iter().map(|examples| Row::pack(examples)).collect();
    let step = Step::of(model, &batch(&packed, 0), mode);
    // Gradients of another function would prove nothing.
    let off = distance(&step.losses, &reference.losses(rows).concat());
    assert!(off <= TOLERANCE, "the losses are off by {off:e}");
    for (name, got) in &step.gradients {
        let want = finite_differences(&mut reference, name, rows);
        for (r, (got, want)) in got.iter().zip(&want).enumerate() {
            let off = distance(got, want);
            assert!(off <= TOLERANCE, "{name}, row {r}: the gradient is off by {off:e}");
        }
        // The same comparison rejects the gradient of another row and one of the other sign.
        assert!(distance(&got[0], &want[2]) > 0.01, "{name}: rows 0 and 2 have the same gradient");
        let turned: Vec<f32> = got[0].iter().map(|gradient| -gradient).collect();
        assert!(distance(&turned, &want[0]) > 1.0, "{name}: the gradient is zero");
    }
}

fn check_full(tied: bool, biases: bool) {
    let config = small(tied, biases);
    let mut model = model(&config);
    model.train_all();
    let reference = Reference::new(&config, &weights(&config, 1), &model);
    let names: Vec<String> = weights(&config, 1).into_keys().collect();
    assert!(model.trainable().keys().eq(&names), "every weight is trained");
    check(&model, reference, &rows(&config), Mode::Train { step: 0 });
}

fn check_lora(config: &ModelConfig, spec: &LoraSpec, mode: Mode) {
    let mut model = model(config);
    model.add_lora(spec, SEED).expect("the targets exist");
    randomize(&mut model, 2);
    let (rows, base) = (rows(config), weights(config, 1));
    let lengths: Vec<usize> = rows.iter().map(|row| row.iter().map(|example| example.ids.len()).sum()).collect();
    let mut reference = Reference::new(config, &base, &model);
    reference = match mode {
        Mode::Train { step } => reference.with_lora(spec, step, &lengths),
        Mode::Evaluate => reference.with_lora(&LoraSpec { dropout: 0.0, ..spec.clone() }, 0, &lengths),
    };
    check(&model, reference, &rows, mode);
}

#[test]
fn full_training_with_tied_embeddings() {
    check_full(true, false);
}

#[test]
fn full_training_with_a_head_and_biases() {
    check_full(false, true);
}

#[test]
fn lora_on_all_linear_layers() {
    check_lora(&small(true, false), &lora(all_linear(), 0.0), Mode::Train { step: 0 });
}

/// Dropout beside biases; its mask belongs to the step, the row and the layer.
#[test]
fn lora_with_dropout() {
    check_lora(&small(false, true), &lora(all_linear(), 0.3), Mode::Train { step: 5 });
}

/// Dropout acts in training only.
#[test]
fn lora_in_evaluation() {
    let layers = TargetModules::List(vec!["v_proj".to_owned(), "down_proj".to_owned()]);
    check_lora(&small(true, true), &lora(layers, 0.3), Mode::Evaluate);
}

/// The backward pass ends at the lowest adapted layer: nothing above it may be missing.
#[test]
fn lora_on_a_few_layers() {
    for layers in [&["model.layers.1.self_attn.q_proj"][..], &["model.layers.1.mlp.up_proj", "o_proj"], &["k_proj"]] {
        let layers = TargetModules::List(layers.iter().map(|layer| (*layer).to_owned()).collect());
        check_lora(&small(true, false), &lora(layers, 0.0), Mode::Train { step: 0 });
    }
}

/// The reference is no friend of the model: with another setting its losses are others.
#[test]
fn the_reference_sees_every_setting() {
    let config = small(true, false);
    let spec = lora(all_linear(), 0.3);
    let model = adapted(&config, spec.dropout, SEED);
    let examples = vec![Example::new(&config, 1, 2, 6)];
    let step = Step::of(&model, &batch(&[Row::pack(&examples)], 0), Mode::Train { step: 5 });
    let off = |config: &ModelConfig, spec: &LoraSpec, step_of_mask| {
        let reference = Reference::new(config, &weights(config, 1), &model).with_lora(spec, step_of_mask, &[8]);
        distance(&step.losses, &reference.losses(std::slice::from_ref(&examples)).concat())
    };
    assert!(off(&config, &spec, 5) <= TOLERANCE);
    let others = [
        ("step", off(&config, &spec, 6)),
        ("scale", off(&config, &LoraSpec { scale: 1.501, ..spec.clone() }, 5)),
        ("dropout", off(&config, &LoraSpec { dropout: 0.0, ..spec.clone() }, 5)),
        ("frequencies", off(&ModelConfig { rope_scaling: None, ..config.clone() }, &spec, 5)),
        ("base of frequencies", off(&ModelConfig { rope_theta: 1010.0, ..config.clone() }, &spec, 5)),
        ("epsilon", off(&ModelConfig { rms_norm_eps: 2e-5, ..config.clone() }, &spec, 5)),
    ];
    for (setting, off) in others {
        assert!(off > 2.0 * TOLERANCE, "{setting}: the losses are off by {off:e} only");
    }
}
