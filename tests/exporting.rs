//! `tune export`: the result in the files of other tools.

use std::fs;

use serde_json::Value;

use crate::support::{World, files};

#[test]
fn every_form_is_written_and_its_distance_measured() {
    let world = World::new();
    world.train("run", &[]);
    let outcome = world.tune(&["export", "run", "--to", "out", "--gguf", "--merged"]);
    outcome.assert_code(0);
    let written = files(&world.path("out"));
    let names: Vec<&str> = written.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "Modelfile",
            "adapter.gguf",
            "base.gguf",
            "export.json",
            "merged.gguf",
            "merged/config.json",
            "merged/model.safetensors",
            "merged/tokenizer.json",
            "merged/tokenizer_config.json"
        ]
    );
    let record: Value = serde_json::from_slice(&written["export.json"]).expect("JSON");
    for (name, bytes) in written.iter().filter(|(name, _)| *name != "export.json") {
        assert_eq!(record["files"][name], tune_schema::Digest::of(bytes).to_string().as_str(), "{name}");
    }
    // The base in another container with the same adapter computes the same; merging rounds each weight once.
    let distance = |form: &str| record["fidelity"][form]["largest_difference"].as_f64().expect("a number");
    assert_eq!(distance("base.gguf with adapter").to_bits(), 0.0_f64.to_bits());
    assert!(distance("merged") > 0.0 && distance("merged") < 1e-3, "{}", distance("merged"));
    assert_eq!(distance("merged").to_bits(), distance("merged.gguf").to_bits());
    // The same run gives the same bytes.
    world.tune(&["export", "run", "--to", "again", "--gguf", "--merged"]).assert_code(0);
    assert!(written == files(&world.path("again")));
}

#[test]
fn what_cannot_be_exported_is_refused_and_leaves_nothing() {
    let world = World::new();
    world.train("run", &[]);
    fs::create_dir(world.path("taken")).expect("a folder");
    world
        .tune(&["export", "run", "--to", "taken", "--gguf"])
        .assert_code(1)
        .assert_stderr(&["is there already", "hint"]);
    world.tune(&["export", "run", "--to", "run/out", "--gguf"]).assert_code(1).assert_stderr(&["lies in the run"]);
    world.tune(&["export", "run", "--to", "out"]).assert_code(2).assert_stderr(&["--gguf", "--merged"]);
    let recipe = world.read("recipe.yaml").replace("adapter: lora", "adapter: none");
    let lines: Vec<&str> = recipe.lines().filter(|line| !line.starts_with("lora_")).collect();
    world.write("recipe.yaml", &(lines.join("\n") + "\n"));
    world.train("whole", &["max_steps=1"]);
    world.tune(&["export", "whole", "--to", "out", "--gguf"]).assert_code(1).assert_stderr(&["trained all weights"]);
    let chain = world.path("run/chain.jsonl");
    fs::write(&chain, "{}").expect("the run can be changed");
    world.tune(&["export", "run", "--to", "out", "--gguf"]).assert_code(1).assert_stderr(&["does not verify"]);
    assert!(!world.path("out").exists());
}
