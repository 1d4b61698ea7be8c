//! The table of forgeries: each with the level at which it is seen, and that it is not seen before. `docs/concepts/verification.md`
//! says the same in words. Every hash is made anew, as a forger would; the rows of the first half are single bytes.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tune_schema::chain::{ChainRecord, F32Bits};
use tune_schema::manifest::Manifest;
use tune_schema::{Digest, canonical_digest, to_canonical_json};
use tune_train::checkpoint::{SideFiles, State, read_checkpoint, write_checkpoint, write_weights};

use crate::support::forgery::{reseal, rewrite_chain};
use crate::support::{World, copy_folder, files};

const WEIGHTS: &str = "adapter_model.safetensors";

/// Where a forgery is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    At(&'static str),
    /// At no level, for nobody can compute it again.
    Never,
}

/// The claim's inputs changed, and what hangs on them.
fn change_inputs(run: &Path, change: impl FnOnce(&mut tune_schema::manifest::ClaimInputs)) {
    let manifest: Manifest =
        serde_json::from_slice(&fs::read(run.join("manifest.json")).expect("the manifest")).expect("the manifest");
    let mut inputs = manifest.claim.inputs;
    change(&mut inputs);
    fs::write(run.join("inputs.json"), to_canonical_json(&inputs).expect("JSON")).expect("the run");
    let origin = canonical_digest(&inputs).expect("a digest");
    let head = rewrite_chain(run, |records| records[0].previous = origin);
    reseal(run, |manifest| {
        manifest.claim.inputs = inputs;
        manifest.claim.chain_head = head;
    });
}

/// The record of step 3 changed, with its line of the metrics.
fn change_step(run: &Path, key: &str, value: f32, change: impl FnOnce(&mut ChainRecord)) {
    let head = rewrite_chain(run, |records| change(&mut records[3]));
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let lines = metrics.lines().enumerate().map(|(i, line)| {
        let mut line: Value = serde_json::from_str(line).expect("a line");
        if i == 2 {
            line[key] = Value::from(value);
        }
        format!("{line}\n")
    });
    fs::write(run.join("metrics.jsonl"), lines.collect::<String>()).expect("the run");
    reseal(run, |manifest| manifest.claim.chain_head = head);
}

/// A checkpoint with another state and its root everywhere; the last one's weights become the result.
pub(crate) fn change_checkpoint(run: &Path, step: u64, change: impl FnOnce(&mut State)) {
    let folder = run.join(format!("checkpoints/step-{step:06}"));
    let config = fs::read(folder.join("adapter_config.json")).expect("a file");
    let side = SideFiles::from([("adapter_config.json".to_owned(), config)]);
    let (mut state, mut facts) = read_checkpoint(&folder, WEIGHTS).expect("a checkpoint");
    change(&mut state);
    facts.state_root = state.root();
    write_checkpoint(&folder, WEIGHTS, &state, &facts, &side).expect("the run");
    if step == 4 {
        write_weights(&run.join("adapter"), WEIGHTS, &state.parameters, &side).expect("the run");
    }
    let index = usize::try_from(step).expect("a step");
    let head = rewrite_chain(run, |records| records[index].state_root = Some(facts.state_root));
    reseal(run, |manifest| {
        let claim = &mut manifest.claim;
        claim.chain_head = head;
        claim.checkpoints.insert(step.to_string(), facts.state_root);
        match step {
            0 => claim.initial_root = state.parameter_root(),
            4 => claim.final_root = state.parameter_root(),
            _ => {}
        }
    });
}

/// The first value of the first tensor becomes another number.
pub(crate) fn nudge(tensors: &mut tune_model::HostTensors) {
    let (_, values) = tensors.values_mut().next().expect("a tensor");
    values[0] += 0.25;
}

/// Steps 3 and 4 left out, as if two had been all.
fn drop_steps(run: &Path) {
    let head = rewrite_chain(run, |records| records.truncate(3));
    fs::remove_dir_all(run.join("checkpoints/step-000004")).expect("the run");
    let weights = fs::read(run.join("checkpoints/step-000002").join(WEIGHTS)).expect("a checkpoint");
    fs::write(run.join("adapter").join(WEIGHTS), weights).expect("the run");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let kept: String = metrics.lines().take(2).map(|line| format!("{line}\n")).collect();
    fs::write(run.join("metrics.jsonl"), kept).expect("the run");
    let text = fs::read_to_string(run.join("chain.jsonl")).expect("the chain");
    let records: Vec<ChainRecord> = text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let (state, _) = read_checkpoint(&run.join("checkpoints/step-000002"), WEIGHTS).expect("a checkpoint");
    reseal(run, |manifest| {
        let claim = &mut manifest.claim;
        claim.chain_head = head;
        claim.checkpoints.remove("4");
        claim.files.retain(|name, _| !name.contains("step-000004"));
        claim.training.steps = 2;
        claim.final_root = state.parameter_root();
        claim.stream.digest = records[2].stream;
        claim.stream.rows = records[2].rows;
        claim.stream.tokens = records.iter().map(|record| record.tokens).sum();
        claim.stream.supervised_tokens = records.iter().map(|record| record.supervised_tokens).sum();
    });
}

/// Scores that were never measured.
fn change_scores(run: &Path, when: &str) {
    let path = run.join(format!("evaluation-{when}.json"));
    let mut scores: Value = serde_json::from_slice(&fs::read(&path).expect("scores")).expect("JSON");
    let loss = F32Bits::new(0.5);
    scores["loss"] = serde_json::to_value(loss).expect("JSON");
    fs::write(&path, to_canonical_json(&scores).expect("JSON")).expect("the run");
    reseal(run, |manifest| {
        let evaluation = &mut manifest.claim.evaluation;
        *(if when == "before" { &mut evaluation.loss_before } else { &mut evaluation.loss_after }) = Some(loss);
    });
}

/// Another text in a file, everything sealed again.
fn replace(run: &Path, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(run.join(name)).expect("text");
    assert!(text.contains(from), "{name} has no {from}");
    fs::write(run.join(name), text.replacen(from, to, 1)).expect("the run");
    reseal(run, |_| {});
}

type Forgery = (&'static str, Seen, fn(&World, &Path));

/// What a forger can do who makes every hash anew.
const FORGERIES: &[Forgery] = &[
    ("another run's adapter", Seen::At("files"), |world, run| {
        fs::copy(world.path("other/adapter").join(WEIGHTS), run.join("adapter").join(WEIGHTS)).expect("the run");
        reseal(run, |_| {});
    }),
    ("swapped checkpoints", Seen::At("files"), |_, run| {
        let (a, b, kept) =
            (run.join("checkpoints/step-000002"), run.join("checkpoints/step-000004"), run.join("checkpoints/kept"));
        fs::rename(&a, &kept).and_then(|()| fs::rename(&b, &a)).and_then(|()| fs::rename(&kept, &b)).expect("moves");
        reseal(run, |_| {});
    }),
    ("a passenger among the claimed files", Seen::At("files"), |_, run| {
        fs::write(run.join("adapter/model.bin"), "x").expect("the run");
        reseal(run, |manifest| {
            manifest.claim.files.insert("adapter/model.bin".to_owned(), Digest::of(b""));
        });
    }),
    ("the result named by a path outside of the folder", Seen::At("files"), |_, run| {
        reseal(run, |_| {});
        let text = fs::read_to_string(run.join("manifest.json")).expect("the manifest");
        let mut manifest: Manifest = serde_json::from_str(&text).expect("the manifest");
        let digest = manifest.claim.files.remove("chain.jsonl").expect("it is listed");
        manifest.claim.files.insert("../other/chain.jsonl".to_owned(), digest);
        let sealed = Manifest::new(manifest.claim, manifest.environment).expect("a manifest");
        fs::write(run.join("manifest.json"), to_canonical_json(&sealed).expect("JSON")).expect("the run");
    }),
    ("another recipe as it was written", Seen::At("files"), |_, run| {
        replace(run, "recipe.yaml", "learning_rate: 1e-3", "learning_rate: 1e-4");
    }),
    ("metrics that say something else", Seen::At("files"), |_, run| {
        replace(run, "metrics.jsonl", "\"tokens\":", "\"tokens\":1");
    }),
    ("the stream's digest in the claim alone", Seen::At("files"), |_, run| {
        reseal(run, |manifest| manifest.claim.stream.digest = Digest::of(b"other"));
    }),
    ("fewer checkpoints in the claim", Seen::At("files"), |_, run| {
        reseal(run, |manifest| {
            manifest.claim.checkpoints.remove("2");
        });
    }),
    ("another scale in the adapter's configuration", Seen::At("data"), |_, run| {
        replace(run, "adapter/adapter_config.json", "\"lora_alpha\": 8", "\"lora_alpha\": 16");
    }),
    ("rows that other steps had", Seen::At("data"), |_, run| {
        let other = Digest::of(b"other rows");
        let path = run.join("checkpoints/step-000002/state.json");
        let mut state: Value = serde_json::from_slice(&fs::read(&path).expect("a state")).expect("JSON");
        state["stream"] = Value::from(other.to_string());
        fs::write(&path, to_canonical_json(&state).expect("JSON")).expect("the run");
        let head = rewrite_chain(run, |records| records[2].stream = other);
        reseal(run, |manifest| manifest.claim.chain_head = head);
    }),
    ("steps left out at the end", Seen::At("data"), |_, run| drop_steps(run)),
    ("a seed that was not used", Seen::At("data"), |_, run| {
        change_inputs(run, |inputs| {
            inputs.seeds.insert("adapter-init".to_owned(), "8".to_owned());
        });
    }),
    ("a base model of other weights", Seen::At("data"), |_, run| {
        change_inputs(run, |inputs| inputs.base_model.tensor_root = Some(Digest::of(b"other")));
    }),
    ("another tokenizer", Seen::At("data"), |_, run| {
        change_inputs(run, |inputs| inputs.tokenizer = Digest::of(b"other"));
    }),
    ("modules that were not adapted", Seen::At("data"), |_, run| {
        change_inputs(run, |inputs| inputs.adapted_modules.truncate(3));
    }),
    ("the loss of a step", Seen::At("sample"), |_, run| {
        change_step(run, "loss", 0.5, |record| record.loss = Some(F32Bits::new(0.5)));
    }),
    ("the gradient norm of a step", Seen::At("sample"), |_, run| {
        change_step(run, "grad_norm", 0.5, |record| record.grad_norm = Some(F32Bits::new(0.5)));
    }),
    ("the learning rate of a step", Seen::At("sample"), |_, run| {
        change_step(run, "learning_rate", 0.5, |record| record.learning_rate = Some(F32Bits::new(0.5)));
    }),
    ("an initial state of one's own", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 0, |state| nudge(&mut state.parameters));
    }),
    ("a checkpoint in the middle", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 2, |state| nudge(&mut state.parameters));
    }),
    ("the optimizer's state in the middle", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 2, |state| nudge(&mut state.second_moments));
    }),
    ("final weights after honest checkpoints", Seen::At("sample"), |_, run| {
        change_checkpoint(run, 4, |state| nudge(&mut state.parameters));
    }),
    ("scores before training", Seen::At("full"), |_, run| change_scores(run, "before")),
    ("scores after training", Seen::At("full"), |_, run| change_scores(run, "after")),
    ("what the machine is said to have been", Seen::Never, |_, run| {
        replace(run, "environment.json", "\"backend\": \"cpu\"", "\"backend\": \"abacus\"");
    }),
    ("hours that it is said to have taken", Seen::Never, |_, run| {
        replace(run, "metrics.jsonl", "\"seconds\":", "\"seconds\":9");
    }),
    ("a remark in the recipe as it was written", Seen::Never, |_, run| {
        replace(run, "recipe.yaml", "adapter: lora", "# no remark\nadapter: lora");
    }),
];

const LEVELS: [&str; 4] = ["files", "data", "sample", "full"];

/// Asserts that a run verifies below the level at which something is seen, and differs there.
fn assert_seen(world: &World, run: &str, what: &str, seen: Seen) {
    for level in LEVELS {
        let here = seen == Seen::At(level);
        // All segments, so that it is not a matter of luck.
        let outcome = world.tune(&["verify", run, "--level", level, "--segments", "9"]);
        assert_eq!(outcome.code, Some(i32::from(here)), "{what}, level {level}:\n{}{}", outcome.stdout, outcome.stderr);
        if here {
            return;
        }
    }
}

#[test]
fn each_forgery_is_seen_at_its_level_and_not_before() {
    let world = World::new();
    world.train("run", &[]);
    world.train("other", &["seed=8"]);
    for (number, (what, seen, forge)) in FORGERIES.iter().enumerate() {
        let name = format!("forged-{number}");
        copy_folder(&world.path("run"), &world.path(&name));
        forge(&world, &world.path(&name));
        assert_seen(&world, &name, what, *seen);
    }
    // With a byte of each file of the run these are the rows of the table.
    assert!(FORGERIES.len() + files(&world.path("run")).len() >= 40);
}

#[test]
fn a_byte_of_any_file_is_seen_at_files() {
    let world = World::new();
    world.train("run", &[]);
    for (name, bytes) in files(&world.path("run")) {
        let mut changed = bytes.clone();
        let at = changed.len() / 3;
        changed[at] ^= 4;
        fs::write(world.path("run").join(&name), changed).expect("the run can be written");
        assert_seen(&world, "run", &name, Seen::At("files"));
        fs::write(world.path("run").join(&name), bytes).expect("the run can be written");
    }
}
