//! `tune bench`: figures that fit together, and nothing left behind.

use crate::support::World;

#[test]
fn the_parts_of_a_step_add_up() {
    let world = World::new();
    let outcome = world.tune(&["bench", "recipe.yaml", "--steps", "2", "--json"]);
    outcome.assert_code(0);
    let figures: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON on standard output");
    let number = |pointer: &str| figures.pointer(pointer).and_then(serde_json::Value::as_f64).expect(pointer);
    let steps = figures["steps"].as_array().expect("a list of steps");
    assert_eq!(steps.len(), 2);
    let seconds: f64 = steps.iter().map(|step| step["seconds"].as_f64().expect("seconds")).sum();
    let operations = figures["seconds_by_operation"].as_object().expect("operations");
    let parts: f64 = operations.values().map(|time| time.as_f64().expect("seconds")).sum();
    assert!((parts * 2.0 - seconds).abs() < 1e-6 * seconds, "{parts} a step, {seconds} in all");
    // Every operation of a LoRA step has its line, and each took time.
    for operation in ["linear x·Wᵀ", "linear dy·W", "LoRA backward", "attention backward", "head and loss", "rest"]
    {
        assert!(
            operations.get(operation).and_then(serde_json::Value::as_f64).is_some_and(|time| time > 0.0),
            "{operation}"
        );
    }
    assert!(number("/tokens_per_second") >= number("/supervised_tokens_per_second"));
    assert!(number("/weight_product_flops") > 0.0 && number("/weight_product_flops") < number("/peak_flops"));
    assert!(!world.path("runs").exists(), "a measurement makes no run folder");
    let table = world.tune(&["bench", "recipe.yaml", "--steps", "1"]);
    table.assert_code(0);
    assert!(table.stdout.contains("tokens/s") && table.stdout.contains("of the peak"), "{}", table.stdout);
    world.tune(&["bench", "recipe.yaml", "--steps", "0"]).assert_code(2);
}
