//! `tune verify`: what it confirms, and that it finds what was changed.

use std::fs;

use serde_json::Value;
use tune_schema::chain::F32Bits;
use tune_schema::manifest::Manifest;
use tune_schema::{Digest, canonical_digest, to_canonical_json};

use crate::support::forgery::{reseal, rewrite_chain};
use crate::support::{World, files};

/// A finished run in the folder `run`.
fn finished() -> World {
    let world = World::new();
    world.train("run", &[]);
    world
}

#[test]
fn every_level_confirms_an_honest_run() {
    let world = finished();
    for level in ["files", "data", "sample", "full"] {
        let outcome = world.tune(&["verify", "run", "--level", level, "--segments", "2"]);
        outcome.assert_code(0);
        assert!(outcome.stdout.contains("verified"), "{}", outcome.stdout);
    }
    let json = world.tune(&["verify", "run/manifest.json", "--level", "sample", "--seed", "3", "--json"]);
    json.assert_code(0);
    let verdict: Value = serde_json::from_str(&json.stdout).expect("the verdict is JSON");
    assert_eq!(verdict["conclusion"], "verified");
    assert_eq!(verdict["reached"], "sample");
}

/// What a sample costs is a twentieth of the run, or one segment; the verdict says how much it was and what that shows.
#[test]
fn the_default_sample_is_small_and_says_what_it_costs() {
    let world = World::new();
    for (overrides, said) in [
        (
            &["max_steps=20", "save_steps=1"][..],
            "1 of 20 segments computed again, 1 of 20 steps (5.0 %): a single forged one is found with 5 %, 2 of them with 10 %\n",
        ),
        (
            &["max_steps=4", "save_steps=1"],
            "1 of 4 segments computed again, 1 of 4 steps (25.0 %): a single forged one is found with 25 %; this sample costs more than 5 %: so does one of every run of so few steps\n",
        ),
    ] {
        let run = overrides[0];
        world.train(run, overrides);
        let outcome = world.tune(&["verify", run]);
        outcome.assert_code(0);
        assert!(outcome.stdout.contains(said), "{}", outcome.stdout);
        assert_eq!(outcome.stdout.matches("every loss, norm and the state root").count(), 1, "{}", outcome.stdout);
    }
    // Asked for by number, the share is said, and nobody is told off for it.
    let both = world.tune(&["verify", "max_steps=4", "--segments", "2"]);
    assert!(both.stdout.contains("2 of 4 steps (50.0 %): a single forged one is found with 50 %\n"), "{}", both.stdout);
}

/// Verifying leaves the folder as it was.
#[test]
fn verifying_writes_nothing() {
    let world = finished();
    let before = files(&world.path("run"));
    world.tune(&["verify", "run", "--level", "full"]).assert_code(0);
    assert!(before == files(&world.path("run")));
}

/// One bit in the first byte, one in the middle and one in the last, of every file.
#[test]
fn a_flipped_bit_in_any_file_is_found() {
    let world = finished();
    let run = world.path("run");
    for (name, bytes) in files(&run) {
        assert!(!bytes.is_empty(), "{name} is empty");
        for (at, bit) in [(0, 0), (bytes.len() / 2, 3), (bytes.len() - 1, 1)] {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            fs::write(run.join(&name), changed).expect("the run can be written");
            let outcome = world.tune(&["verify", "run", "--level", "files"]);
            assert_eq!(outcome.code, Some(1), "bit {bit} of byte {at} of {name}:\n{}", outcome.stdout);
            assert!(outcome.stdout.contains(&name), "{name} is not named:\n{}", outcome.stdout);
        }
        fs::write(run.join(&name), bytes).expect("the run can be written");
    }
    world.tune(&["verify", "run", "--level", "files"]).assert_code(0);
}

/// Every bit of the manifest, read by the same function that the command calls: a process each would take hours.
#[test]
fn every_bit_of_the_manifest_counts() {
    let world = finished();
    let folder = tune_train::RunFolder::new(world.path("run"));
    let bytes = fs::read(folder.manifest()).expect("the manifest");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(folder.manifest(), &changed).expect("the run can be written");
        let options = tune_verify::VerifyOptions {
            level: tune_verify::Level::Files,
            sample: tune_verify::SampleSize::Segments(1),
            seed: Some(1),
            publisher: None,
            origin: tune_verify::Origin::Here,
            revealed: Vec::new(),
            job: tune_train::JobOptions::default(),
        };
        let verdict = tune_verify::verify::<burn_flex::Flex>(
            folder.path(),
            &options,
            &[burn_flex::FlexDevice],
            &mut tune_train::observer::Silent,
        );
        assert!(verdict.expect("a verdict").differs(), "byte {at} of manifest.json");
    }
}

#[test]
fn missing_and_added_files_are_found() {
    let world = finished();
    let run = world.path("run");
    for (name, bytes) in files(&run) {
        fs::remove_file(run.join(&name)).expect("the run can be changed");
        let outcome = world.tune(&["verify", "run", "--level", "files"]);
        assert!(matches!(outcome.code, Some(1 | 2)), "{name} is missing:\n{}", outcome.stdout);
        assert!((outcome.stdout.clone() + &outcome.stderr).contains(&name), "{name} is not named:\n{}", outcome.stdout);
        fs::write(run.join(&name), bytes).expect("the run can be changed");
    }
    world.write("run/extra.txt", "more");
    let outcome = world.tune(&["verify", "run", "--level", "files"]);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("extra.txt"));
}

/// A line of the run's `metrics.jsonl`, from 0.
fn read_line(world: &World, line: usize) -> Value {
    let text = world.read("run/metrics.jsonl");
    serde_json::from_str(text.lines().nth(line).expect("a line")).expect("JSON")
}

/// A forger who computes every hash anew passes level `files` and is found by computing again.
#[test]
fn an_edited_loss_with_new_hashes_is_found_by_computing_again() {
    let world = finished();
    let run = world.path("run");
    let mut forged = 0.0;
    let head = rewrite_chain(&run, |records| {
        forged = records[2].loss.expect("a loss").value() * 0.5;
        records[2].loss = Some(F32Bits::new(forged));
    });
    reseal(&run, |manifest| manifest.claim.chain_head = head);
    // The metrics show the change until they are forged as well.
    let outcome = world.tune(&["verify", "run", "--level", "files"]);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("metrics.jsonl"), "{}", outcome.stdout);
    let mut metrics: Vec<Value> = (0..4).map(|line| read_line(&world, line)).collect();
    metrics[1]["loss"] = Value::from(forged);
    let text: String = metrics.iter().map(|metric| format!("{metric}\n")).collect();
    world.write("run/metrics.jsonl", &text);
    reseal(&run, |_| {});
    world.tune(&["verify", "run", "--level", "data"]).assert_code(0);
    for level in ["sample", "full"] {
        let outcome = world.tune(&["verify", "run", "--level", level, "--segments", "2"]);
        outcome.assert_code(1);
        assert!(outcome.stdout.contains("step 2"), "the step is not named:\n{}", outcome.stdout);
    }
}

/// A row counted twice, with new hashes, does not fit the rebuilt stream.
#[test]
fn an_edited_stream_with_new_hashes_is_found_by_rebuilding_the_data() {
    let world = finished();
    let run = world.path("run");
    reseal(&run, |manifest| manifest.claim.stream.digest = Digest::of(b"another stream"));
    let outcome = world.tune(&["verify", "run", "--level", "data"]);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("stream"), "{}", outcome.stdout);
}

/// Another adapter than the one that was trained, with new hashes in the manifest.
#[test]
fn a_foreign_adapter_with_new_hashes_is_found() {
    let world = finished();
    world.train("other", &["seed=8"]);
    let adapter = fs::read(world.path("other/adapter/adapter_model.safetensors")).expect("an adapter");
    fs::write(world.path("run/adapter/adapter_model.safetensors"), adapter).expect("the run can be written");
    reseal(&world.path("run"), |_| {});
    let outcome = world.tune(&["verify", "run", "--level", "files"]);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("adapter"), "{}", outcome.stdout);
}

/// The same weights under another scale are another model.
#[test]
fn an_edited_adapter_configuration_with_new_hashes_is_found() {
    let world = finished();
    let config = world.read("run/adapter/adapter_config.json");
    let edited = config.replace("\"lora_alpha\": 8", "\"lora_alpha\": 16");
    assert_ne!(config, edited);
    world.write("run/adapter/adapter_config.json", &edited);
    reseal(&world.path("run"), |_| {});
    let outcome = world.tune(&["verify", "run", "--level", "data"]);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("adapter_config.json"), "{}", outcome.stdout);
}

/// Checkpoints in each other's place.
#[test]
fn swapped_checkpoints_with_new_hashes_are_found() {
    let world = finished();
    let (a, b) = (world.path("run/checkpoints/step-000002"), world.path("run/checkpoints/step-000004"));
    let kept = world.path("kept");
    fs::rename(&a, &kept).and_then(|()| fs::rename(&b, &a)).and_then(|()| fs::rename(&kept, &b)).expect("folders move");
    reseal(&world.path("run"), |_| {});
    world.tune(&["verify", "run", "--level", "files"]).assert_code(1);
}

#[test]
fn data_that_is_gone_cannot_be_checked_and_changed_data_differs() {
    let world = finished();
    let rows = world.read("rows.jsonl");
    // The content store has the bytes still; without it they are nowhere.
    if world.path("cache").exists() {
        fs::remove_dir_all(world.path("cache")).expect("the content store can be removed");
    }
    fs::remove_file(world.path("rows.jsonl")).expect("the data");
    let outcome = world.tune(&["verify", "run", "--level", "data"]);
    outcome.assert_code(2);
    world.tune(&["verify", "run", "--level", "files"]).assert_code(0);
    world.write("elsewhere.jsonl", &rows);
    world.tune(&["verify", "run", "--level", "data", "--source", "rows=elsewhere.jsonl"]).assert_code(0);
    world.write("elsewhere.jsonl", &rows.replacen(" on ", " at ", 1));
    let outcome = world.tune(&["verify", "run", "--level", "data", "--source", "rows=elsewhere.jsonl"]);
    assert_ne!(outcome.code, Some(0), "{}", outcome.stdout);
}

/// A chain without roots leaves nothing to compute again: it must not verify for that.
#[test]
fn checkpoints_that_are_missing_by_design_are_found() {
    for (gone, kept) in [(vec![2_u64, 4], vec![0_u64]), (vec![4], vec![0, 2])] {
        let world = finished();
        let run = world.path("run");
        let head = rewrite_chain(&run, |records| {
            for record in records.iter_mut().filter(|record| gone.contains(&record.step)) {
                record.state_root = None;
            }
        });
        for step in &gone {
            fs::remove_dir_all(run.join(format!("checkpoints/step-{step:06}"))).expect("the run can be changed");
        }
        reseal(&run, |manifest| {
            manifest.claim.chain_head = head;
            manifest.claim.checkpoints.retain(|step, _| kept.iter().any(|kept| kept.to_string() == *step));
            manifest.claim.files.retain(|name, _| gone.iter().all(|step| !name.contains(&format!("step-{step:06}"))));
        });
        let outcome = world.tune(&["verify", "run", "--level", "files"]);
        outcome.assert_code(1);
        assert!(outcome.stdout.contains("step"), "{}", outcome.stdout);
    }
}

/// Nothing can ride along under a claim id: neither beside the claim's files nor in what describes the machine.
#[test]
fn files_that_no_run_has_are_found_although_listed() {
    for (name, claimed) in [("adapter/pytorch_model.bin", false), ("tool.py", false), ("adapter/README.md", true)] {
        let world = finished();
        world.write(&format!("run/{name}"), "a passenger");
        reseal(&world.path("run"), |manifest| {
            let list = if claimed { &mut manifest.claim.files } else { &mut manifest.environment };
            list.insert(name.to_owned(), Digest::of(b""));
        });
        let outcome = world.tune(&["verify", "run", "--level", "files"]);
        outcome.assert_code(1);
        assert!(outcome.stdout.contains(name), "{}", outcome.stdout);
    }
}

#[test]
fn metrics_that_say_something_else_are_found() {
    let world = finished();
    let metrics = world.read("run/metrics.jsonl");
    world.write("run/metrics.jsonl", &metrics.replacen("\"loss\":1", "\"loss\":0.1", 1));
    assert_ne!(metrics, world.read("run/metrics.jsonl"));
    reseal(&world.path("run"), |_| {});
    let outcome = world.tune(&["verify", "run", "--level", "files"]);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("metrics.jsonl"), "{}", outcome.stdout);
}

#[test]
fn answers_scored_better_than_they_are_are_found() {
    let world = World::new();
    world.train("run", &["eval_exact_match=3", "eval_max_new_tokens=4"]);
    let answers = world.read("run/evaluation-after.json").replace("\"correct\":false", "\"correct\":true");
    world.write("run/evaluation-after.json", &answers);
    reseal(&world.path("run"), |manifest| manifest.claim.evaluation.exact_match_after = 3);
    world.tune(&["verify", "run", "--level", "files"]).assert_code(1);
}

/// Asking for nothing is not an answer, and what stops a verification is not a difference.
#[test]
fn what_was_not_checked_is_not_verified() {
    let world = finished();
    world.tune(&["verify", "run", "--segments", "0"]).assert_code(2);
    world.tune(&["verify", "run", "--source", "rows"]).assert_code(2);
    world.tune(&["verify", "run", "--source", "nosuch=rows.jsonl"]).assert_code(2);
    world.tune(&["verify", "run/metrics.jsonl"]).assert_code(2);
    let mut command = world.command(&["verify", "run"]);
    assert_eq!(command.env("TUNE_CPU", "bogus").output().expect("the binary starts").status.code(), Some(2));
    let manifest = fs::read(world.path("run/manifest.json")).expect("the manifest");
    fs::create_dir(world.path("alone")).expect("a folder");
    fs::write(world.path("alone/manifest.json"), manifest).expect("a manifest");
    world.tune(&["verify", "alone"]).assert_code(2);
}

/// A folder with a pipe in it would make a reader wait for ever.
#[test]
fn pipes_and_links_are_not_opened() {
    for name in ["chain.jsonl", "manifest.json"] {
        let world = finished();
        let path = world.path("run").join(name);
        fs::remove_file(&path).expect("the run can be changed");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo starts");
        assert!(made.success());
        assert_eq!(world.tune(&["verify", "run"]).code, Some(2), "a pipe as {name}");
        fs::remove_file(&path).expect("the run can be changed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        let linked = world.tune(&["verify", "run"]);
        assert_eq!(linked.code, Some(2), "a link as {name}");
        assert!(linked.stdout.contains("is a symbolic link") && linked.stdout.contains("cp -rL"), "{}", linked.stdout);
    }
}

/// Overrides that nobody gave, and a recipe that is not the one that was run.
#[test]
fn forged_overrides_and_recipes_with_new_hashes_are_found() {
    for forge in [true, false] {
        let world = finished();
        let run = world.path("run");
        if forge {
            let manifest: Manifest = serde_json::from_str(&world.read("run/manifest.json")).expect("the manifest");
            let mut inputs = manifest.claim.inputs;
            inputs.overrides.insert("learning_rate".into(), "1".into());
            fs::write(run.join("inputs.json"), to_canonical_json(&inputs).expect("JSON")).expect("the run");
            let origin = canonical_digest(&inputs).expect("a digest");
            let head = rewrite_chain(&run, |records| records[0].previous = origin);
            reseal(&run, |manifest| {
                manifest.claim.inputs = inputs;
                manifest.claim.chain_head = head;
            });
        } else {
            let recipe = world.read("run/recipe.yaml");
            world.write("run/recipe.yaml", &recipe.replace("learning_rate: 1e-3", "learning_rate: 1e-4"));
            reseal(&run, |_| {});
        }
        let outcome = world.tune(&["verify", "run", "--level", "files"]);
        outcome.assert_code(1);
        assert!(outcome.stdout.contains("`learning_rate`"), "{}", outcome.stdout);
    }
}
