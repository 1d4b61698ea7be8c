//! Losses and gradient norms beside those of transformers and PEFT on the same rows, from `tests/peft/losses.json`, which
//! `tests/peft/reference.py` wrote. So a wrong formula is noticed that is wrong in the reference kernels too.

use std::fs;

use serde_json::Value;
use tune_schema::Digest;

use crate::support::{World, repository};

/// Largest relative difference of a step's loss.
const LOSS_BOUND: f64 = 1e-5;
/// Largest relative difference of a step's gradient norm.
const NORM_BOUND: f64 = 1e-4;

fn world() -> World {
    let world = World::new();
    for name in ["recipe.yaml", "instructions.jsonl", "conversations.jsonl"] {
        let text = fs::read_to_string(repository().join("tests/peft").join(name)).expect("a file of the repository");
        world.write(name, &text);
    }
    world
}

fn reference() -> Value {
    let text = fs::read_to_string(repository().join("tests/peft/losses.json")).expect("the fixture");
    serde_json::from_str(&text).expect("JSON")
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

/// `key` of every step of a run's metrics.
fn metric(world: &World, run: &str, key: &str) -> Vec<f64> {
    let text = world.read(&format!("{run}/metrics.jsonl"));
    let line = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")[key].as_f64().expect("a number");
    text.lines().map(line).collect()
}

fn largest_difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!((found.len(), expected.len()), (20, 20), "steps");
    found.iter().zip(expected).map(|(found, expected)| ((found - expected) / expected).abs()).fold(0.0, f64::max)
}

#[test]
fn losses_are_those_of_peft() {
    let (world, reference) = (world(), reference());
    world.tune(&["data", "export", "recipe.yaml", "--out", "rows.jsonl"]).assert_code(0);
    let rows = Digest::of(world.read("rows.jsonl").as_bytes()).to_string();
    assert_eq!(
        reference["rows"],
        Value::from(rows),
        "the rows are not those that the reference was trained on: run tests/peft/reference.py again"
    );
    world.tune(&["run", "recipe.yaml", "output_dir=run"]).assert_code(0);
    let (losses, norms) = (numbers(&reference["losses"]), numbers(&reference["grad_norms"]));
    let loss = largest_difference(&metric(&world, "run", "loss"), &losses);
    let norm = largest_difference(&metric(&world, "run", "grad_norm"), &norms);
    println!("largest relative difference: loss {loss:.1e}, gradient norm {norm:.1e}");
    assert!(loss <= LOSS_BOUND, "loss differs by {loss:.1e}");
    assert!(norm <= NORM_BOUND, "gradient norm differs by {norm:.1e}");

    // Small faults would show: a learning rate two percent off, no weight decay, another scale of the adapter.
    for (name, fault) in [("rate", "learning_rate=0.00204"), ("decay", "weight_decay=0"), ("scale", "lora_alpha=16.2")]
    {
        world.tune(&["run", "recipe.yaml", &format!("output_dir={name}"), fault]).assert_code(0);
        let loss = largest_difference(&metric(&world, name, "loss"), &losses);
        println!("{fault}: {loss:.1e}");
        assert!(loss > LOSS_BOUND, "{fault} went unnoticed");
    }
}
