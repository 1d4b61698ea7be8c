//! What a forger does with a run folder: files changed, and every hash over them made anew.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tune_schema::chain::ChainRecord;
use tune_schema::manifest::Manifest;
use tune_schema::{Digest, to_canonical_json};
use tune_train::RunFolder;

/// Puts a changed manifest in place with every hash of it made anew, as a forger would.
pub(crate) fn reseal(run: &Path, change: impl FnOnce(&mut Manifest)) {
    reseal_folder(&RunFolder::new(run), change);
}

/// The same in a run folder or a published one, of which files may be withheld.
pub(crate) fn reseal_folder(folder: &RunFolder, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = manifest(folder);
    change(&mut manifest);
    for (name, digest) in manifest.claim.files.iter_mut().chain(&mut manifest.environment) {
        let place = folder.place(name);
        assert!(place.exists() || folder.published().is_some(), "{name} is listed and not there");
        if place.exists() {
            *digest = Digest::of(&fs::read(place).expect("a listed file"));
        }
    }
    seal(folder, manifest);
}

/// The manifest as it is.
pub(crate) fn manifest(folder: &RunFolder) -> Manifest {
    serde_json::from_slice(&fs::read(folder.manifest()).expect("the manifest")).expect("the manifest")
}

/// Writes a manifest with its id and seal made anew, and the digests of the files as they stand in it.
pub(crate) fn seal(folder: &RunFolder, manifest: Manifest) {
    let sealed = Manifest::new(manifest.claim, manifest.environment).expect("a manifest");
    fs::write(folder.manifest(), to_canonical_json(&sealed).expect("JSON")).expect("the run can be written");
}

/// Changes records of the chain and links them again.
pub(crate) fn rewrite_chain(run: &Path, change: impl FnOnce(&mut Vec<ChainRecord>)) -> Digest {
    let text = fs::read_to_string(run.join("chain.jsonl")).expect("the chain");
    let mut records: Vec<ChainRecord> =
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    change(&mut records);
    let mut lines = Vec::new();
    let mut head = records[0].previous;
    for record in &mut records {
        record.previous = head;
        let state = run.join(format!("checkpoints/step-{:06}/state.json", record.step));
        if state.exists() {
            let text = fs::read_to_string(&state).expect("a state");
            let mut value: Value = serde_json::from_str(&text).expect("a state");
            value["previous"] = Value::from(head.to_string());
            fs::write(&state, to_canonical_json(&value).expect("JSON")).expect("the run can be written");
        }
        head = record.digest().expect("a digest");
        lines.extend(record.to_line().expect("a line"));
        lines.push(b'\n');
    }
    fs::write(run.join("chain.jsonl"), lines).expect("the run can be written");
    head
}
