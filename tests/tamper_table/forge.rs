//! How the rows of the table are forged: a part changed, and everything that hangs on it made anew.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tune_schema::chain::{ChainRecord, F32Bits};
use tune_schema::lock::{Lock, LockedSource};
use tune_schema::manifest::ClaimInputs;
use tune_schema::recipe::parse_claimed;
use tune_schema::{canonical_digest, to_canonical_json};
use tune_train::RunFolder;
use tune_train::checkpoint::{SideFiles, State, read_checkpoint, write_checkpoint, write_weights};
use tune_train::evaluate::{Answer, OpenAnswer, Scores, read_scores, write_scores};

use super::ANSWERS;
use crate::support::forgery::{manifest, reseal, rewrite_chain};

pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

/// The claim's inputs changed, and what hangs on them.
pub(crate) fn change_inputs(run: &Path, change: impl FnOnce(&mut ClaimInputs)) {
    let mut inputs = manifest(&RunFolder::new(run)).claim.inputs;
    change(&mut inputs);
    fs::write(run.join("inputs.json"), to_canonical_json(&inputs).expect("JSON")).expect("the run");
    let origin = canonical_digest(&inputs).expect("a digest");
    let head = rewrite_chain(run, |records| records[0].previous = origin);
    reseal(run, |manifest| {
        manifest.claim.inputs = inputs;
        manifest.claim.chain_head = head;
    });
}

/// The lock changed, and nothing else.
pub(super) fn change_lock<T>(run: &Path, change: impl FnOnce(&mut Lock) -> T) -> T {
    let path = run.join("datasets.lock");
    let mut lock = Lock::parse("datasets.lock", &fs::read_to_string(&path).expect("the lock")).expect("the lock");
    let given = change(&mut lock);
    fs::write(&path, lock.to_yaml()).expect("the run");
    given
}

/// A source changed in the lock, and wherever the claim names it.
pub(crate) fn change_source(run: &Path, name: &str, change: impl Fn(&mut LockedSource)) {
    let files = change_lock(run, |lock| {
        let source = lock.sources.iter_mut().find(|source| source.name == name).expect("the source");
        change(source);
        source.files.clone()
    });
    change_inputs(run, |inputs| {
        inputs.sources.iter_mut().filter(|source| source.name == name).for_each(&change);
        if inputs.base_model.name == name {
            inputs.base_model.files = files;
        }
    });
}

/// A setting changed in the recipe as it was resolved and, where it is given as written too, there.
pub(crate) fn change_setting(run: &Path, resolved: (&str, &str), written: Option<(&str, &str)>) {
    let edit = |name: &str, (from, to): (&str, &str)| {
        let text = fs::read_to_string(run.join(name)).expect("text");
        assert!(text.contains(from), "{name} has no {from}");
        fs::write(run.join(name), text.replacen(from, to, 1)).expect("the run");
        text.replacen(from, to, 1)
    };
    let text = edit("resolved.yaml", resolved);
    written.map(|written| edit("recipe.yaml", written));
    let claimed = parse_claimed("resolved.yaml", &text).expect("YAML");
    change_inputs(run, |inputs| inputs.recipe = canonical_digest(&claimed).expect("a digest"));
}

/// A line about the source `rows` in the recipe as written, with which the recipe is resolved anew.
pub(super) fn state_provenance(run: &Path, line: &str) {
    let path = run.join("recipe.yaml");
    let text = fs::read_to_string(&path).expect("the recipe") + &format!("provenance:\n  rows:\n    {line}\n");
    let recipe = tune_schema::recipe::load("recipe.yaml", &text, &ANSWERS.map(str::to_owned)).expect("a recipe").recipe;
    fs::write(&path, text).expect("the run");
    fs::write(run.join("resolved.yaml"), recipe.claimed_yaml()).expect("the run");
    change_inputs(run, |inputs| inputs.recipe = canonical_digest(&recipe.claimed()).expect("a digest"));
}

/// Lines of the metrics changed, as a person could.
pub(super) fn change_metrics(run: &Path, change: impl FnOnce(&mut Vec<Value>)) {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let mut lines = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    change(&mut lines);
    fs::write(run.join("metrics.jsonl"), lines.iter().map(|line| format!("{line}\n")).collect::<String>())
        .expect("the run");
}

/// The record of step 3 changed, with its line of the metrics.
pub(super) fn change_step(run: &Path, key: &str, value: impl Into<Value>, change: impl FnOnce(&mut ChainRecord)) {
    let head = rewrite_chain(run, |records| change(&mut records[3]));
    change_metrics(run, |lines| lines[2][key] = value.into());
    reseal(run, |manifest| manifest.claim.chain_head = head);
}

/// A checkpoint's `state.json` changed.
pub(super) fn change_state_file(run: &Path, step: u64, change: impl FnOnce(&mut Value)) {
    let path = run.join(format!("checkpoints/step-{step:06}/state.json"));
    let mut state: Value = serde_json::from_slice(&fs::read(&path).expect("a state")).expect("JSON");
    change(&mut state);
    fs::write(&path, to_canonical_json(&state).expect("JSON")).expect("the run");
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
pub(super) fn drop_steps(run: &Path) {
    let mut records = Vec::new();
    let head = rewrite_chain(run, |all| {
        all.truncate(3);
        records.clone_from(all);
    });
    fs::remove_dir_all(run.join("checkpoints/step-000004")).expect("the run");
    let kept = run.join("checkpoints/step-000002");
    fs::copy(kept.join(WEIGHTS), run.join("adapter").join(WEIGHTS)).expect("the run");
    change_metrics(run, |lines| lines.truncate(2));
    let (state, _) = read_checkpoint(&kept, WEIGHTS).expect("a checkpoint");
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

/// Steps 3 and 4 told as one: fewer than were done, with the tokens of both.
pub(super) fn merge_steps(run: &Path) {
    let (from, to) = (run.join("checkpoints/step-000004"), run.join("checkpoints/step-000003"));
    fs::rename(from, to).expect("the run");
    let head = rewrite_chain(run, |records| {
        let third = records.remove(3);
        records[3].step = 3;
        records[3].tokens += third.tokens;
        records[3].supervised_tokens += third.supervised_tokens;
        records[3].learning_rate = third.learning_rate;
    });
    change_state_file(run, 3, |state| state["step"] = Value::from(3));
    change_metrics(run, |lines| {
        let third = lines.remove(2);
        lines[2]["step"] = Value::from(3);
        lines[2]["learning_rate"] = third["learning_rate"].clone();
        for key in ["tokens", "supervised_tokens"] {
            lines[2][key] =
                Value::from(lines[2][key].as_u64().expect("a count") + third[key].as_u64().expect("a count"));
        }
    });
    reseal(run, |manifest| {
        let claim = &mut manifest.claim;
        claim.chain_head = head;
        claim.training.steps = 3;
        let root = claim.checkpoints.remove("4").expect("the last checkpoint");
        claim.checkpoints.insert("3".to_owned(), root);
        let rename = |name: &String| name.replace("step-000004", "step-000003");
        claim.files = claim.files.iter().map(|(name, digest)| (rename(name), *digest)).collect();
    });
}

/// What steps 1 and 2 say in each other's place, but for what belongs to the place: rows so far and the checkpoint.
pub(super) fn swap_steps(run: &Path) {
    rewrite_chain(run, |records| {
        let (one, two) = (records[1].clone(), records[2].clone());
        records[1] = ChainRecord { step: 1, rows: one.rows, state_root: one.state_root, ..two.clone() };
        records[2] = ChainRecord { step: 2, rows: two.rows, state_root: two.state_root, ..one };
    });
    restate(run);
    change_metrics(run, |lines| {
        lines.swap(0, 1);
        lines[0]["step"] = Value::from(1);
        lines[1]["step"] = Value::from(2);
    });
    let head = rewrite_chain(run, |_| {});
    reseal(run, |manifest| manifest.claim.chain_head = head);
}

/// Every `state.json` gets the stream's digest that the chain has for its step.
pub(super) fn restate(run: &Path) {
    let text = fs::read_to_string(run.join("chain.jsonl")).expect("the chain");
    for line in text.lines() {
        let record: ChainRecord = serde_json::from_str(line).expect("a record");
        if record.state_root.is_some() {
            change_state_file(run, record.step, |state| state["stream"] = Value::from(record.stream.to_string()));
        }
    }
}

/// The stream's digests of the steps moved by one: each has that of the step before.
pub(super) fn shift_stream(run: &Path) {
    let head = rewrite_chain(run, |records| {
        let before: Vec<_> = records.iter().map(|record| record.stream).collect();
        for (record, stream) in records.iter_mut().skip(1).zip(before) {
            record.stream = stream;
        }
    });
    restate(run);
    let text = fs::read_to_string(run.join("chain.jsonl")).expect("the chain");
    let last: ChainRecord = serde_json::from_str(text.lines().last().expect("a line")).expect("a record");
    reseal(run, |manifest| {
        manifest.claim.chain_head = head;
        manifest.claim.stream.digest = last.stream;
    });
}

/// More tokens in a step, and in all counts over it.
pub(super) fn add_tokens(run: &Path, key: &str) {
    let supervised = key == "supervised_tokens";
    let mut count = 0;
    let head = rewrite_chain(run, |records| {
        let record = &mut records[3];
        let place = if supervised { &mut record.supervised_tokens } else { &mut record.tokens };
        *place += 1;
        count = *place;
    });
    change_metrics(run, |lines| lines[2][key] = Value::from(count));
    reseal(run, |manifest| {
        let stream = &mut manifest.claim.stream;
        *(if supervised { &mut stream.supervised_tokens } else { &mut stream.tokens }) += 1;
        manifest.claim.chain_head = head;
    });
}

/// Scores changed, with what the claim says of them.
pub(super) fn change_scores(run: &Path, when: &str, change: impl FnOnce(&mut Scores)) {
    let folder = RunFolder::new(run);
    let path = folder.evaluation(when);
    let mut scores = read_scores(&path).expect("scores");
    change(&mut scores);
    write_scores(&path, &scores).expect("the run");
    let [before, after] = ["before", "after"].map(|when| read_scores(&folder.evaluation(when)).expect("scores"));
    let facts = tune_train::run::evaluation_facts(&before, &after).expect("facts");
    reseal(run, |manifest| manifest.claim.evaluation = facts);
}

/// The answers that stand there with their texts.
pub(super) fn open_answers(scores: &mut Scores) -> impl Iterator<Item = &mut OpenAnswer> {
    scores.answers.iter_mut().filter_map(|answer| match answer {
        Answer::Open(answer) => Some(answer),
        Answer::Withheld(_) => None,
    })
}

/// A loss that was never measured.
pub(super) fn better_loss(scores: &mut Scores) {
    scores.loss = Some(F32Bits::new(0.5));
}

/// Another text in a file, everything sealed again.
pub(super) fn replace(run: &Path, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(run.join(name)).expect("text");
    assert!(text.contains(from), "{name} has no {from}");
    fs::write(run.join(name), text.replacen(from, to, 1)).expect("the run");
    reseal(run, |_| {});
}

/// More text at the end of a file, everything sealed again.
pub(super) fn append(run: &Path, name: &str, more: &str) {
    let text = fs::read_to_string(run.join(name)).expect("text");
    fs::write(run.join(name), text + more).expect("the run");
    reseal(run, |_| {});
}

/// A tensor as a safetensors file has it.
#[derive(Clone)]
pub(super) struct RawTensor {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// The tensors of the result in whatever order, type and shape, everything sealed again.
pub(super) fn rewrite_result(run: &Path, change: impl FnOnce(&mut Vec<RawTensor>)) {
    let path = run.join("adapter").join(WEIGHTS);
    let bytes = fs::read(&path).expect("weights");
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))).expect("a length");
    let (header, data) = bytes[8..].split_at(length);
    let header: Value = serde_json::from_slice(header).expect("a header");
    let members = header.as_object().expect("a header").iter().filter(|(name, _)| *name != "__metadata__");
    let tensor = |(name, entry): (&String, &Value)| {
        let at = |i: usize| usize::try_from(entry["data_offsets"][i].as_u64().expect("a place")).expect("a place");
        RawTensor {
            name: name.clone(),
            dtype: entry["dtype"].as_str().expect("a type").to_owned(),
            shape: serde_json::from_value(entry["shape"].clone()).expect("a shape"),
            bytes: data[at(0)..at(1)].to_vec(),
        }
    };
    let mut tensors: Vec<RawTensor> = members.map(tensor).collect();
    change(&mut tensors);
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for tensor in &tensors {
        let begin = data.len();
        data.extend(&tensor.bytes);
        let entry =
            serde_json::json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()]});
        entries.push(format!("{}:{entry}", Value::from(tensor.name.as_str())));
    }
    let metadata = header["__metadata__"].to_string();
    let mut text = format!("{{\"__metadata__\":{metadata},{}}}", entries.join(","));
    text += &" ".repeat(text.len().next_multiple_of(8) - text.len());
    let head = u64::try_from(text.len()).expect("a length").to_le_bytes();
    fs::write(&path, [&head, text.as_bytes(), &data].concat()).expect("the run");
    reseal(run, |_| {});
}
