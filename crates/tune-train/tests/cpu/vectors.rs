//! The host's side of the numerics contract reproduces `docs/numerics-vectors.json` bit for bit: learning rates, the
//! scalars of AdamW, the gradient's norm, the LoRA scale, rotary tables. The kernels' side is in tune-kernels.

#[path = "../../../tune-kernels/tests/support/vectors.rs"]
mod file;

use std::collections::BTreeMap;

use burn_flex::{Flex, FlexDevice};
use burn_tensor::{Tensor, TensorData};
use file::{Case, Results, cases, f32s, hex, hex64};
use tune_kernels::shapes::AdamW;
use tune_model::base::{ModelConfig, RopeScaling};
use tune_schema::recipe::{LrScheduler, Recipe, load};
use tune_train::optimizer::{global_norm, scalars};
use tune_train::schedule::Schedule;

/// Operations that this test checks.
const OPERATIONS: [&str; 5] = ["adamw_scalars", "global_norm", "lora_scale", "rope_tables", "schedule"];

fn own_cases() -> Vec<Case> {
    let own: Vec<Case> = cases().into_iter().filter(|case| OPERATIONS.contains(&case.operation.as_str())).collect();
    for operation in OPERATIONS {
        assert!(own.iter().any(|case| case.operation == operation), "no vector for {operation}");
    }
    own
}

#[test]
fn the_host_reproduces_every_vector() {
    for case in own_cases() {
        case.compare_all(&compute(&case)).unwrap();
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    for mut case in own_cases() {
        let results = compute(&case);
        case.every_flipped_bit_is_seen(&results);
    }
}

fn compute(case: &Case) -> Results {
    match case.operation.as_str() {
        "adamw_scalars" => adamw_scalars(case),
        "global_norm" => vec![("norm", hex64(&[global_norm(&tensors(case))]))],
        "lora_scale" => lora_scale(case),
        "rope_tables" => rope_tables(case),
        _ => schedule(case),
    }
}

/// A recipe of defaults, for its numbers to be set.
fn recipe() -> Recipe {
    let text = "base_model: models/base\ndatasets:\n  - path: data/train.jsonl\n    type: completion\n";
    load("vectors.yaml", text, &[]).expect("a minimal recipe").recipe
}

fn adamw_scalars(case: &Case) -> Results {
    let recipe = Recipe {
        weight_decay: case.f64("weight_decay"),
        adam_beta1: case.f64("adam_beta1"),
        adam_beta2: case.f64("adam_beta2"),
        adam_epsilon: case.f64("adam_epsilon"),
        max_grad_norm: case.f64("max_grad_norm"),
        ..recipe()
    };
    let (step, supervised) = (case.integer("step"), case.integer("supervised"));
    // All fields by name: a new one must get a vector.
    let AdamW {
        gradient_factor,
        decay,
        one_minus_beta1,
        beta2,
        one_minus_beta2,
        root_bias_correction2,
        epsilon,
        step_size,
    } = scalars(&recipe, case.f64("rate"), step, supervised, case.f64("norm"));
    vec![
        ("gradient_factor", hex(&[gradient_factor])),
        ("decay", hex(&[decay])),
        ("one_minus_beta1", hex(&[one_minus_beta1])),
        ("beta2", hex(&[beta2])),
        ("one_minus_beta2", hex(&[one_minus_beta2])),
        ("root_bias_correction2", hex(&[root_bias_correction2])),
        ("epsilon", hex(&[epsilon])),
        ("step_size", hex(&[step_size])),
    ]
}

fn tensors(case: &Case) -> BTreeMap<String, Tensor<Flex, 2>> {
    let written = case.value("tensors").as_object().expect("tensors by name").iter();
    let tensor = written.map(|(name, tensor)| {
        let values = f32s(&tensor["values"]);
        let columns = tensor["columns"].as_u64().expect("a count") as usize;
        let shape = [values.len() / columns, columns];
        (name.clone(), Tensor::from_data(TensorData::new(values, shape), &FlexDevice))
    });
    tensor.collect()
}

fn lora_scale(case: &Case) -> Results {
    let inputs = case.f64s("alpha").into_iter().zip(case.integers("rank")).zip(case.list("rslora"));
    let scale = inputs.map(|((lora_alpha, lora_r), rslora)| {
        let use_rslora = rslora.as_bool().expect("a flag");
        Recipe { lora_alpha, lora_r, use_rslora, ..recipe() }.effective_scale()
    });
    vec![("scale", hex(&scale.collect::<Vec<_>>()))]
}

/// The rows of the tables that the vector lists.
fn rope_tables(case: &Case) -> Results {
    let positions = case.integers("positions");
    let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
    let config = rope_config(case);
    let (cos, sin) = tune_model::rope::tables(&config, longest);
    let half = config.head_dim / 2;
    let listed = |table: &[f32]| {
        let rows = positions.iter().flat_map(|position| &table[*position as usize * half..][..half]);
        hex(&rows.copied().collect::<Vec<_>>())
    };
    vec![("cos", listed(&cos)), ("sin", listed(&sin))]
}

/// A model of which only the rotation matters.
fn rope_config(case: &Case) -> ModelConfig {
    let head_dim = case.size("head_dim");
    let scaling = case.value("scaling");
    let number = |name: &str| scaling[name].as_f64();
    let rope_scaling = number("factor").map(|factor| match number("low_freq_factor") {
        None => RopeScaling::Linear { factor },
        Some(low_freq_factor) => RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor: number("high_freq_factor").expect("with the low one"),
            original_max_position_embeddings: number("original_max_position_embeddings").expect("with it") as usize,
        },
    });
    ModelConfig {
        hidden_size: head_dim,
        intermediate_size: 1,
        num_layers: 1,
        num_heads: 1,
        num_kv_heads: 1,
        head_dim,
        vocab_size: 1,
        rms_norm_eps: 1e-5,
        rope_theta: case.value("theta").as_f64().expect("a number"),
        rope_scaling,
        tie_word_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        max_position_embeddings: 8192,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        initializer_range: 0.02,
    }
}

fn schedule(case: &Case) -> Results {
    let recipe = Recipe {
        learning_rate: case.f64("learning_rate"),
        lr_scheduler: match case.text("kind") {
            "constant" => LrScheduler::Constant,
            "linear" => LrScheduler::Linear,
            "cosine" => LrScheduler::Cosine,
            unknown => panic!("no schedule is called `{unknown}`"),
        },
        warmup_steps: case.has("warmup_steps").then(|| case.integer("warmup_steps")),
        warmup_ratio: if case.has("warmup_ratio") { case.f64("warmup_ratio") } else { 0.0 },
        ..recipe()
    };
    let total = case.integer("total");
    let schedule = Schedule::new(&recipe, total);
    vec![("rates", hex64(&(0..total).map(|done| schedule.rate(done)).collect::<Vec<_>>()))]
}
