//! Every written format against files kept from each released version: a change of a single byte is a decision, not an
//! accident. The claim in `manifest.json` holds the digests of the binary files, so these are covered too.
//!
//! After a change that is wanted: `TUNE_UPDATE_GOLDEN=1 cargo test --workspace --release golden`.

use std::fs;
use std::path::PathBuf;

use crate::support::{World, files, repository};

/// The version whose formats are written today.
const VERSION: &str = "0.1";

/// Files that are text and the same on every machine.
const TEXTS: [&str; 9] = [
    "inputs.json",
    "resolved.yaml",
    "recipe.yaml",
    "datasets.lock",
    "chain.jsonl",
    "evaluation-before.json",
    "evaluation-after.json",
    "adapter/adapter_config.json",
    "checkpoints/step-000004/state.json",
];

fn golden() -> PathBuf {
    repository().join("tests/golden").join(VERSION)
}

/// Compares with the kept file, or keeps it where that is asked for.
#[track_caller]
fn check(name: &str, bytes: &[u8]) {
    let path = golden().join(name);
    if std::env::var_os("TUNE_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a golden file");
    }
    let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if kept != bytes {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        panic!("{name} is not what version {VERSION} writes:\n{}\nkept:\n{}", text(bytes), text(&kept));
    }
}

#[test]
fn a_run_writes_the_bytes_it_always_wrote() {
    let world = World::new();
    world.train("run", &["eval_steps=2", "eval_exact_match=2", "eval_max_new_tokens=8"]);
    let run = files(&world.path("run"));
    for name in TEXTS {
        check(name, &run[name]);
    }
    let manifest: serde_json::Value = serde_json::from_slice(&run["manifest.json"]).expect("JSON");
    let claim = serde_json::to_string_pretty(&manifest["claim"]).expect("JSON");
    check("claim.json", (claim + "\n").as_bytes());
}

#[test]
fn the_stream_and_the_schema_are_written_as_always() {
    let world = World::new();
    world.tune(&["data", "export", "recipe.yaml", "--out", "stream.jsonl", "max_steps=1"]).assert_code(0);
    check("stream.jsonl", world.read("stream.jsonl").as_bytes());
    let schema = world.tune(&["schema"]);
    schema.assert_code(0);
    check("recipe.schema.json", schema.stdout.as_bytes());
}
