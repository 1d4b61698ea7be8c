//! An interrupted run goes on, whatever happened to its folder in the meantime, and ends as it would have.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{World, claim_id};

/// A run as an interruption before its end leaves it.
fn interrupted() -> (World, String) {
    let world = World::new();
    world.train("run", &[]);
    let claim = claim_id(&world.path("run"));
    for name in ["manifest.json", "environment.json", "evaluation-after.json"] {
        fs::remove_file(world.path("run").join(name)).expect("a finished run");
    }
    fs::remove_dir_all(world.path("run/adapter")).expect("a finished run");
    (world, claim)
}

/// Goes on, and asserts that the claim is the one of a run that nobody touched.
fn assert_same_end(change: impl FnOnce(&Path)) {
    let (world, claim) = interrupted();
    change(&world.path("run"));
    world.train("run", &[]);
    assert_eq!(claim_id(&world.path("run")), claim);
    world.tune(&["verify", "run", "--level", "files"]).assert_code(0);
}

#[test]
fn a_damaged_checkpoint_is_computed_again() {
    assert_same_end(|run| fs::write(run.join("checkpoints/step-000002/optimizer.safetensors"), "x").expect("a file"));
    assert_same_end(|run| fs::write(run.join("checkpoints/step-000004/adapter_config.json"), "{}").expect("a file"));
    assert_same_end(|run| fs::remove_dir_all(run.join("checkpoints/step-000000")).expect("a folder"));
}

#[test]
fn scores_are_computed_again() {
    assert_same_end(|run| {
        let path = run.join("evaluation-before.json");
        let text = fs::read_to_string(&path).expect("scores");
        let forged = text.replacen("\"loss\":\"", "\"loss\":\"1", 1);
        assert_ne!(forged, text);
        fs::write(&path, forged).expect("scores");
    });
}

#[test]
fn checkpoints_that_the_chain_does_not_know_are_removed() {
    assert_same_end(|run| {
        fs::create_dir(run.join("checkpoints/step-000099")).expect("a folder");
        fs::write(run.join("checkpoints/step-000099/x"), "x").expect("a file");
    });
}

#[test]
fn remains_of_an_interruption_are_removed_and_other_files_are_not() {
    let (world, _) = interrupted();
    fs::create_dir(world.path("other")).expect("a folder");
    world.write("other/.tune-film.incomplete", "x");
    world.write("run/.tune-abc.incomplete", "x");
    world.write("run/notes.incomplete", "x");
    world.train("run", &[]);
    assert!(!world.path("run/.tune-abc.incomplete").exists());
    assert!(world.path("run/notes.incomplete").exists());
    assert!(world.path("other/.tune-film.incomplete").exists());
}

#[test]
fn a_finished_run_that_was_changed_is_not_shown_as_finished() {
    let world = World::new();
    world.train("run", &[]);
    let path = world.path("run/adapter/adapter_model.safetensors");
    let mut bytes = fs::read(&path).expect("the adapter");
    bytes.push(0);
    fs::write(&path, bytes).expect("the adapter");
    let outcome = world.tune(&["run", "recipe.yaml", "output_dir=run"]);
    outcome.assert_code(1).assert_stderr(&["adapter_model.safetensors", "hint: "]);
}

/// Two processes on one folder: the second is refused, and the first is not harmed.
#[test]
fn a_second_process_is_refused() {
    let world = World::new();
    let arguments = ["run", "recipe.yaml", "output_dir=run", "max_steps=40", "save_steps=40"];
    let mut first = world.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let started = Instant::now();
    while !world.path("run/chain.jsonl").exists() && started.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = world.tune(&arguments);
    let first = first.wait().expect("a child");
    assert!(first.success());
    // Where the first was faster than the second's start, the second finds it finished.
    if second.code != Some(0) {
        second.assert_code(2).assert_stderr(&["another process is working in `run`"]);
    }
    world.tune(&["verify", "run", "--level", "files"]).assert_code(0);
}
