//! `tune diff`: each planted difference is named as the cause, and damage is an answer, not a panic.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tune_model::base::write_safetensors;
use tune_schema::chain::F32Bits;
use tune_train::checkpoint::read_tensors;

use crate::support::forgery::{reseal, rewrite_chain};
use crate::support::{ROWS, World, copy_folder, files};

/// A finished run in the folder `a`.
fn first() -> World {
    let world = World::new();
    world.train("a", &[]);
    world
}

/// Trains a second run with other sources, which the first one's lock would refuse.
fn train_unlocked(world: &World, overrides: &[&str]) {
    fs::remove_file(world.path("datasets.lock")).expect("the first run wrote a lock");
    world.train("b", overrides);
}

/// Compares `a` with `b`, which differ, and asserts that the line with the cause holds these texts. Gives the screen.
#[track_caller]
fn assert_cause(world: &World, texts: &[&str]) -> String {
    let outcome = world.tune(&["diff", "a", "b"]);
    outcome.assert_code(1);
    let last = outcome.stdout.lines().last().expect("a last line");
    assert!(last.starts_with("cause: "), "{}", outcome.stdout);
    for text in texts {
        assert!(last.contains(text), "{text:?} is not in the cause:\n{}", outcome.stdout);
    }
    outcome.stdout
}

/// The rows of the data set, changed.
fn changed_rows(world: &World, change: impl FnOnce(&mut Vec<String>)) -> String {
    let mut rows: Vec<String> = world.read("rows.jsonl").lines().map(str::to_owned).collect();
    assert_eq!(rows.len(), ROWS);
    change(&mut rows);
    rows.join("\n") + "\n"
}

#[test]
fn the_same_run_twice() {
    let world = first();
    world.train("b", &[]);
    for (a, b) in [("a", "b"), ("a", "a"), ("a/manifest.json", "b")] {
        let outcome = world.tune(&["diff", a, b]);
        outcome.assert_code(0);
        assert_eq!(outcome.stdout.lines().last(), Some("the two runs are the same claim"), "{}", outcome.stdout);
    }
}

/// Comparing leaves the folders as they were.
#[test]
fn comparing_writes_nothing() {
    let world = first();
    world.train("b", &["seed=8"]);
    let before = files(&world.path(""));
    world.tune(&["diff", "a", "b"]).assert_code(1);
    let after = files(&world.path(""));
    assert!(before.keys().eq(after.keys()) && before == after);
}

#[test]
fn what_is_no_run() {
    let world = first();
    world.tune(&["diff", "a", "base"]).assert_code(2).assert_stderr(&["`base` has no `manifest.json`", "hint: "]);
    world.tune(&["diff", "nowhere", "a"]).assert_code(2).assert_stderr(&["`nowhere` does not exist"]);
    world.tune(&["diff", "a", "a", "--source", "rows.jsonl"]).assert_code(2).assert_stderr(&["NAME=PATH"]);
    world
        .tune(&["diff", "a", "a", "--source", "nosuch=rows.jsonl"])
        .assert_code(2)
        .assert_stderr(&["`nosuch`", "rows"]);
    fs::remove_file(world.path("a/manifest.json")).expect("the run can be changed");
    world.tune(&["diff", "a", "a"]).assert_code(2);
}

#[test]
fn keys_of_the_recipe() {
    let world = first();
    for (number, (change, cause)) in [
        ("learning_rate=2e-3", "cause: learning_rate is 0.001 in A, 0.002 in B"),
        ("seed=8", "cause: seed is 7 in A, 8 in B"),
        ("lora_r=8", "cause: lora_r is 4 in A, 8 in B"),
        ("lora_dropout=0", "cause: lora_dropout is 0.1 in A, 0 in B"),
        ("train_on_inputs=true", "cause: train_on_inputs is false in A, true in B"),
        ("sequence_len=96", "cause: sequence_len is 128 in A, 96 in B"),
        ("save_steps=1", "cause: save_steps is 2 in A, 1 in B"),
    ]
    .into_iter()
    .enumerate()
    {
        let run = format!("b{number}");
        world.train(&run, &[change]);
        let outcome = world.tune(&["diff", "a", &run]);
        outcome.assert_code(1);
        assert_eq!(outcome.stdout.lines().last(), Some(cause), "{}", outcome.stdout);
    }
    // The first token that differs is shown where the rows of both can be had.
    let masked = world.tune(&["diff", "a", "b4"]).stdout;
    assert!(masked.contains("row 0 of the stream, token 1") && masked.contains("not supervised"), "{masked}");
}

/// What only describes a run explains none of its numbers.
#[test]
fn notes_are_the_cause_only_where_nothing_else_differs() {
    let world = first();
    let note = "considerations.intended_use=tests";
    world.train("b", &[note]);
    assert_cause(&world, &["what was computed is the same; considerations.intended_use is null in A, tests in B"]);
    fs::remove_dir_all(world.path("b")).expect("the run can be removed");
    world.train("b", &[note, "learning_rate=2e-3"]);
    let screen = assert_cause(&world, &["cause: learning_rate is 0.001 in A, 0.002 in B"]);
    assert!(screen.contains("considerations.intended_use"), "{screen}");
}

#[test]
fn a_changed_byte_of_the_data() {
    let world = first();
    let rows = changed_rows(&world, |rows| rows[11] = rows[11].replacen(".\\n\"}", "!\\n\"}", 1));
    assert_ne!(rows, world.read("rows.jsonl"));
    world.write("other.jsonl", &rows);
    train_unlocked(&world, &["datasets.0.path=other.jsonl"]);
    let cause = ["the source `rows` has other bytes", "first example that differs: row 12, `prompt` is "];
    let screen = assert_cause(&world, &cause);
    assert!(screen.contains("stream, token") || screen.contains("stream         same"), "{screen}");

    // Where one file is gone, the cause is the same, and it is said what is lacking.
    fs::rename(world.path("rows.jsonl"), world.path("moved.jsonl")).expect("the data can be moved");
    assert_cause(&world, &["the source `rows` has other bytes; its rows cannot be compared: those of A cannot be had"]);
    let arguments = ["diff", "a", "b", "--source", "rows=moved.jsonl", "--source", "rows=other.jsonl", "--offline"];
    let outcome = world.tune(&arguments);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("first example that differs: row 12"), "{}", outcome.stdout);
}

#[test]
fn two_swapped_rows_of_the_data() {
    let world = first();
    world.write("other.jsonl", &changed_rows(&world, |rows| rows.swap(9, 20)));
    train_unlocked(&world, &["datasets.0.path=other.jsonl"]);
    assert_cause(&world, &["the source `rows` has other bytes; they are the same rows in another order", "row 10, "]);
}

#[test]
fn a_removed_row_of_the_data() {
    let world = first();
    world.write("other.jsonl", &changed_rows(&world, |rows| drop(rows.remove(11))));
    train_unlocked(&world, &["datasets.0.path=other.jsonl"]);
    assert_cause(&world, &["the source `rows` has other bytes; A has 64 rows, B 63", "row 12 of A"]);
}

#[test]
fn a_changed_bit_of_the_base_model() {
    let world = first();
    copy_folder(&world.path("base"), &world.path("other"));
    let weights = world.path("other/model.safetensors");
    let mut bytes = fs::read(&weights).expect("the weights");
    let at = bytes.len() - 4;
    bytes[at] ^= 1;
    fs::write(&weights, bytes).expect("the weights can be written");
    train_unlocked(&world, &["base_model=other"]);
    assert_cause(&world, &["`model.safetensors` of the base model", "the tensor root of the base model"]);
}

/// A loss with other bits, and every hash of the chain and the manifest made anew.
#[test]
fn a_forged_step() {
    let world = first();
    let run = world.path("b");
    copy_folder(&world.path("a"), &run);
    let head = rewrite_chain(&run, |records| {
        let loss = records[2].loss.expect("a loss");
        records[2].loss = Some(F32Bits(loss.0 ^ 1));
    });
    reseal(&run, |manifest| manifest.claim.chain_head = head);
    let screen = assert_cause(&world, &["nothing that went in differs, and step 2 has another loss"]);
    assert!(screen.contains("B does not verify at `files`: metrics.jsonl"), "{screen}");
}

/// Another value in the final adapter, which the checkpoints do not have.
#[test]
fn a_changed_tensor_of_the_adapter() {
    let world = first();
    copy_folder(&world.path("a"), &world.path("b"));
    let path = world.path("b/adapter/adapter_model.safetensors");
    let mut tensors = read_tensors(&path).expect("an adapter");
    let (name, (_, values)) = tensors.iter_mut().nth(3).expect("an adapter has many tensors");
    values[0] += 0.5;
    let name = name.clone();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    fs::write(&path, write_safetensors(&tensors, &metadata).expect("a file")).expect("the run can be written");
    reseal(&world.path("b"), |_| {});
    let screen = assert_cause(&world, &["every step is the same", &name]);
    assert!(screen.contains("largest difference 5.000e-1"), "{screen}");
    assert!(screen.contains("B does not verify at `files`"), "{screen}");
}

/// The report as JSON says what the screen says.
#[test]
fn the_report_as_json() {
    let world = first();
    world.train("b", &["learning_rate=2e-3"]);
    let outcome = world.tune(&["diff", "a", "b", "--json"]);
    outcome.assert_code(1);
    let report: Value = serde_json::from_str(&outcome.stdout).expect("the report is JSON");
    assert_eq!(report["conclusion"], "differs");
    assert_eq!(report["cause"], "learning_rate is 0.001 in A, 0.002 in B");
    let first = &report["differences"][0];
    assert_eq!((&first["part"], &first["name"]), (&Value::from("recipe"), &Value::from("learning_rate")));
    let weights = report["differences"].as_array().expect("a list").iter().find(|found| found["part"] == "weights");
    assert_eq!(weights.expect("the weights differ")["distances"].as_array().map(Vec::len), Some(10));
}

/// Any file of a run cut short or overwritten: an answer with the file's name, never a panic, never "the same".
#[test]
fn damaged_files() {
    let world = first();
    copy_folder(&world.path("a"), &world.path("b"));
    for (name, bytes) in files(&world.path("b")) {
        let path = world.path("b").join(&name);
        for damaged in [&bytes[..bytes.len() / 2], b"\xff\x00{\n", b""] {
            fs::write(&path, damaged).expect("the run can be written");
            let outcome = world.tune(&["diff", "a", "b"]);
            assert_eq!(outcome.code, Some(1), "{name}:\n{}{}", outcome.stdout, outcome.stderr);
            assert!(outcome.stdout.contains(&name), "{name} is not named:\n{}", outcome.stdout);
        }
        fs::remove_file(&path).expect("the run can be changed");
        let outcome = world.tune(&["diff", "a", "b"]);
        assert!(matches!(outcome.code, Some(1 | 2)), "{name} is missing:\n{}{}", outcome.stdout, outcome.stderr);
        fs::write(&path, bytes).expect("the run can be written");
    }
    world.tune(&["diff", "a", "b"]).assert_code(0);
}

/// What neither run has to compare is not the same, and a manifest that cannot be read is said whatever else differs.
#[test]
fn what_was_not_compared_is_not_the_same() {
    let world = first();
    copy_folder(&world.path("a"), &world.path("b"));
    let write = |run: &str, name: &str, bytes: &[u8]| {
        fs::write(world.path(run).join(name), bytes).expect("the run can be written");
    };
    for run in ["a", "b"] {
        write(run, "manifest.json", b"{}");
    }
    write("b", "evaluation-after.json", b"{\"answers\":[],\"loss\":\"3f000000\"}");
    let outcome = world.tune(&["diff", "a", "b"]);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("not compared: A has no manifest that can be read"), "{}", outcome.stdout);
    for run in ["a", "b"] {
        for name in files(&world.path(run)).keys() {
            write(run, name, b"");
        }
    }
    let outcome = world.tune(&["diff", "a", "b"]);
    outcome.assert_code(2);
    assert_eq!(outcome.stdout.matches("not compared: ").count(), 10, "{}", outcome.stdout);
    assert!(!outcome.stdout.lines().any(|line| line.ends_with(" same")), "{}", outcome.stdout);
}

/// A pipe would make a reader wait for ever.
#[test]
fn pipes_are_not_opened() {
    let world = first();
    copy_folder(&world.path("a"), &world.path("b"));
    fs::remove_file(world.path("b/chain.jsonl")).expect("the run can be changed");
    let made = std::process::Command::new("mkfifo").arg(world.path("b/chain.jsonl")).status().expect("mkfifo starts");
    assert!(made.success());
    world.tune(&["diff", "a", "b"]).assert_code(2).assert_stderr(&["neither a file nor a folder"]);
}
