//! Training that leaves the numbers, and run folders.

use super::{assert_refusal, paths, refused, run_refused, world};
use crate::support::files;

/// Every overflow ends as NaN one step later.
#[test]
fn a_loss_that_is_no_number() {
    let world = world();
    let arguments = ["run", "recipe.yaml", "output_dir=out", "learning_rate=1e30", "save_steps=1"];
    let texts = ["step 2: the loss is NaN", "learning rate 8.5", "hint: lower `learning_rate`"];
    assert_refusal(&world.tune(&arguments), 1, &texts);
    let left = files(&world.path("out"));
    for step in 0..2 {
        let names = ["adapter_model.safetensors", "optimizer.safetensors", "state.json"];
        for name in names.map(|name| format!("checkpoints/step-{step:06}/{name}")) {
            assert!(left.contains_key(&name), "{name} is not in {:?}", left.keys());
        }
    }
    assert!(!left.contains_key("manifest.json"));
    assert!(!paths(&world.path("out")).iter().any(|path| path.contains("incomplete") || path.contains("step-000002")));
    assert_eq!(world.read("out/chain.jsonl").lines().count(), 2);
    // It goes on from the checkpoint that it left, and ends the same.
    assert_refusal(&world.tune(&arguments), 1, &texts);
    assert!(files(&world.path("out")) == left, "the second attempt changed the folder");
}

/// No further step would find it, so the last one must.
#[test]
fn weights_that_are_no_numbers_after_the_last_step() {
    let world = world();
    let outcome = world.tune(&["run", "recipe.yaml", "output_dir=out", "learning_rate=1e39", "max_steps=1"]);
    assert!(!world.path("out/manifest.json").exists(), "a run of NaN was sealed");
    assert_refusal(&outcome, 1, &["step 1", "hint: lower `learning_rate`"]);
}

#[test]
fn a_held_out_loss_that_is_no_number() {
    let world = world();
    let outcome = world.tune(&["run", "recipe.yaml", "output_dir=out", "learning_rate=1e30", "max_steps=1"]);
    assert!(!world.path("out/manifest.json").exists(), "a run with a held-out loss of NaN was sealed");
    assert_refusal(&outcome, 1, &["held-out", "NaN", "hint: lower `learning_rate`"]);
}

#[test]
fn a_run_of_another_claim() {
    let world = world();
    world.train("out", &[]);
    let before = files(&world.path("out"));
    let texts = ["`out` holds a run of another claim", "hint: choose another folder"];
    for change in ["seed=8", "lora_r=8", "max_steps=5", "learning_rate=2e-3"] {
        run_refused(&world, &[change], 1, &texts);
        assert!(files(&world.path("out")) == before, "{change} changed the folder");
    }
    world.train("out", &[]);
    assert!(files(&world.path("out")) == before, "the same claim changed the folder");
}

/// The same where the run was interrupted, and there is no manifest yet.
#[test]
fn an_interrupted_run_of_another_claim() {
    let world = world();
    world.train("out", &[]);
    std::fs::remove_file(world.path("out/manifest.json")).expect("a finished run");
    let before = files(&world.path("out"));
    run_refused(&world, &["seed=8"], 1, &["`out` holds a run of another claim", "hint: choose another folder"]);
    assert!(files(&world.path("out")) == before);
}

#[test]
fn verifying_what_is_no_run() {
    let texts = ["`base` has no `manifest.json`", "no claim to verify", "hint: "];
    refused(&world(), &["verify", "base"], 2, &texts);
}

#[test]
fn verifying_what_is_not_there() {
    refused(&world(), &["verify", "nowhere"], 2, &["`nowhere` does not exist", "hint: give a run folder"]);
}

#[test]
fn a_source_without_a_name() {
    let world = world();
    world.train("out", &[]);
    refused(&world, &["verify", "out", "--source", "rows.jsonl"], 2, &["`--source rows.jsonl`", "NAME=PATH"]);
}
