//! `tune publish`, `tune audit`, `tune key`, `tune attest`: what is published of a run, that it verifies where it lies, and that
//! what is changed in it is found.

mod auditing;
mod choices;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tune_schema::manifest::Manifest;

use crate::support::forgery::reseal;
use crate::support::{Outcome, World, claim_id, files, repository};
use crate::tamper_table::forge::change_checkpoint;
use crate::tamper_table::published::change_record;

/// A finished run in `run`, of which the recipe says everything an audit asks for.
fn finished() -> World {
    let world = World::new();
    world.write("recipe.yaml", &(world.read("recipe.yaml") + RECORD));
    world.train("run", &["eval_exact_match=4", "eval_max_new_tokens=8"]);
    world
}

const RECORD: &str = "
provenance:
  base:
    class: open
    licence: Apache-2.0
    origin: https://huggingface.co/example/base
    obtained: downloaded
    selected: all of it
    filtered: nothing
  rows:
    class: open
    licence: CC-BY-4.0
    origin: https://huggingface.co/datasets/example/rows, | with <markup>
    obtained: downloaded
    selected: the first 64 rows
    filtered: nothing
governance:
  maintainers: [Example]
  contact: https://example.org
  contributing: by letter
  versioning: by claim
considerations:
  intended_use: tests
  limits: many
  known_biases: none known
  personal_data: none
";

/// A finished run and what is published of it, signed, in `published`.
fn published() -> World {
    let world = finished();
    world.tune(&["key", "new", "key.pem"]).assert_code(0);
    world.tune(&["publish", "run", "--to", "published", "--key", "key.pem"]).assert_code(0);
    world
}

/// `tune verify` with these arguments, told where the sources are: a published folder has no addresses of local files.
fn verify(world: &World, arguments: &[&str]) -> Outcome {
    let sources = ["--source", "rows=rows.jsonl", "--source", "base=base"];
    world.tune(&[&["verify"], arguments, &sources].concat())
}

#[test]
fn a_published_folder_verifies_at_every_level_without_the_run_it_came_from() {
    let world = published();
    fs::rename(world.path("run"), world.path("elsewhere")).expect("the run moves");
    for level in ["files", "data", "sample", "full"] {
        let outcome = verify(&world, &["published", "--level", level, "--signed-by", "key.pem.pub"]);
        outcome.assert_code(0);
        assert!(outcome.stdout.contains(&format!("verified at level `{level}`")), "{}", outcome.stdout);
        assert!(outcome.stdout.contains("signature"), "{}", outcome.stdout);
    }
    let untold = world.tune(&["verify", "published"]);
    untold.assert_code(2);
    assert!(untold.stdout.contains("--source base=PATH"), "{}", untold.stdout);
    for target in ["published/run/manifest.json", "published/run"] {
        world.tune(&["verify", target, "--level", "files"]).assert_code(0);
    }
    let before = files(&world.path("published"));
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    for name in [
        "README.md",
        "REPORT.md",
        "MOF.yml",
        "adapter_config.json",
        "adapter_model.safetensors",
        "bom.cdx.json",
        "croissant/rows.json",
        "model.sig",
        "model.spdx3.json",
        "provenance.intoto.jsonl",
        "provenance.json",
        "run/chain.jsonl",
        "run/checkpoints/step-000002/state.json",
        "run/manifest.json",
        "training-content.md",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(!names.iter().any(|name| name.starts_with("run/adapter/")), "the result is there once");
    let card = &before["README.md"];
    let card = std::str::from_utf8(card).expect("text");
    assert!(card.contains(&claim_id(&world.path("published/run"))));
    assert!(card.contains("\\| with &lt;markup>"), "{card}");
}

/// The adapter as GGUF is signed with the rest, is no foreign file, is in the model card, and is made again by a verifier.
#[test]
fn an_adapter_as_gguf_is_published_and_verified() {
    let world = published();
    let publish = ["publish", "run", "--to", "with", "--gguf", "--key", "key.pem"];
    world.tune(&publish).assert_code(0);
    let (with, without) = (files(&world.path("with")), files(&world.path("published")));
    let more: Vec<&String> = with.keys().filter(|name| !without.contains_key(*name)).collect();
    assert_eq!(more, ["gguf/Modelfile", "gguf/adapter.gguf", "gguf/export.json"]);
    let planned =
        world.tune(&[&["publish", "run", "--to", "x", "--gguf", "--key", "key.pem"][..], &["--dry-run"]].concat());
    let mut planned: Vec<&str> = planned.stdout.lines().collect();
    planned.sort_unstable();
    assert_eq!(planned, with.keys().map(String::as_str).collect::<Vec<_>>());
    world.tune(&["export", "run", "--to", "exported", "--gguf"]).assert_code(0);
    let exported = files(&world.path("exported"));
    for name in ["Modelfile", "adapter.gguf", "export.json"] {
        assert!(with[&format!("gguf/{name}")] == exported[name], "{name}");
    }
    let card = |folder: &str| world.read(&format!("{folder}/README.md"));
    let record: Value = serde_json::from_slice(&exported["export.json"]).expect("JSON");
    let tokens = record["fidelity"]["base.gguf with adapter"]["tokens"].as_u64().expect("a number");
    for text in ["## Ollama", "gguf/adapter.gguf", &format!("Measured over {tokens} tokens")] {
        assert!(card("with").contains(text) && !card("published").contains(text), "{text}:\n{}", card("with"));
    }
    let full = verify(&world, &["with", "--level", "full", "--signed-by", "key.pem.pub"]);
    full.assert_code(0);
    for text in ["files   gguf", "data    gguf", "full    gguf"] {
        assert!(full.stdout.contains(text), "{text} is not in:\n{}", full.stdout);
    }
    // As the card says, the base is made from the published folder, and is the one of the record.
    let sources = ["--source", "rows=rows.jsonl", "--source", "base=base"];
    world.tune(&[&["export", "with", "--to", "again", "--gguf"][..], &sources].concat()).assert_code(0);
    assert!(files(&world.path("again")) == exported);
    // A run without an adapter has none.
    let recipe = world.read("recipe.yaml").replace("adapter: lora", "adapter: none");
    let lines: Vec<&str> = recipe.lines().filter(|line| !line.starts_with("lora_")).collect();
    world.write("recipe.yaml", &(lines.join("\n") + "\n"));
    world.train("whole", &["max_steps=1"]);
    world.tune(&["publish", "whole", "--to", "y", "--gguf"]).assert_code(1).assert_stderr(&["trained all weights"]);
    assert!(!world.path("y").exists());
    // Nor does a place lie behind a folder that is not there.
    world.tune(&["publish", "run", "--to", "missing/../z"]).assert_code(1).assert_stderr(&["missing"]);
    assert!(!world.path("missing").exists() && !world.path("z").exists());
}

/// The id of the base on the hub is the publisher's word where its bytes came from a folder, and the card says so.
#[test]
fn a_stated_base_model_is_said_to_be_stated() {
    let world = published();
    let card = world.read("published/README.md");
    assert!(card.contains("base_model: \"example/base\""), "{card}");
    assert!(card.contains("That the base model is `example/base` is the publisher's word."), "{card}");
}

#[test]
fn the_same_run_gives_the_same_bytes_whatever_the_folder_is_called() {
    let world = published();
    world.tune(&["publish", "run", "--to", "second/published", "--key", "key.pem"]).assert_code(0);
    assert!(files(&world.path("published")) == files(&world.path("second/published")));
    let planned = world.tune(&["publish", "run", "--to", "third", "--key", "key.pem", "--dry-run"]);
    planned.assert_code(0);
    let mut planned: Vec<&str> = planned.stdout.lines().collect();
    planned.sort_unstable();
    assert_eq!(planned, files(&world.path("published")).keys().map(String::as_str).collect::<Vec<_>>());
    assert!(!world.path("third").exists());
}

/// What the hub's client leaves in the folder that it downloads to.
fn note_of_the_hub(world: &World) {
    let folder = world.path("published/.cache/huggingface/download");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("README.md.metadata"), "a commit").expect("the folder can be written");
}

/// One bit of every file. What the manifest covers is found at level `files`; the documents, which it does not cover, by the
/// publisher's signature.
#[test]
fn a_flipped_bit_in_any_published_file_is_found() {
    let world = published();
    let folder = world.path("published");
    for (name, bytes) in files(&folder) {
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(folder.join(&name), changed).expect("the folder can be written");
        let signed = world.tune(&["verify", "published", "--level", "files", "--signed-by", "key.pem.pub"]);
        assert_eq!(signed.code, Some(1), "{name}:\n{}", signed.stdout);
        let unsigned = world.tune(&["verify", "published", "--level", "files"]);
        let of_run = name.starts_with("run/") || name.starts_with("adapter_");
        assert_eq!(unsigned.code, Some(i32::from(of_run)), "{name}:\n{}", unsigned.stdout);
        fs::write(folder.join(&name), bytes).expect("the folder can be written");
    }
    note_of_the_hub(&world);
    let downloaded = world.tune(&["verify", "published", "--level", "files", "--signed-by", "key.pem.pub"]);
    assert_eq!(downloaded.code, Some(0), "{}", downloaded.stdout);
    world.write("published/more.txt", "more");
    world.tune(&["verify", "published", "--level", "files", "--signed-by", "key.pem.pub"]).assert_code(1);
}

#[test]
fn another_key_or_no_signature_does_not_pass() {
    let world = published();
    world.tune(&["key", "new", "other.pem"]).assert_code(0);
    let other = world.tune(&["verify", "published", "--level", "files", "--signed-by", "other.pem.pub"]);
    other.assert_code(1);
    assert!(other.stdout.contains("it was made with the key"), "{}", other.stdout);
    world.tune(&["publish", "run", "--to", "unsigned"]).assert_code(0);
    let unsigned = world.tune(&["verify", "unsigned", "--level", "files", "--signed-by", "key.pem.pub"]);
    unsigned.assert_code(1);
    assert!(unsigned.stdout.contains("the folder is not signed"), "{}", unsigned.stdout);
    world.tune(&["verify", "unsigned", "--level", "files"]).assert_code(0);
    // A key of the other kind is a clear error.
    world
        .tune(&["publish", "run", "--to", "x", "--key", "key.pem.pub"])
        .assert_code(1)
        .assert_stderr(&["P-256", "hint"]);
    world.tune(&["key", "new", "key.pem"]).assert_code(1).assert_stderr(&["is there already"]);
    assert!(!world.path("x").exists());
}

/// Without checkpoints only the first steps can be computed again by themselves, and the verdict says what is not there.
#[test]
fn withheld_checkpoints_are_named_and_the_levels_that_remain_work() {
    let world = finished();
    world.tune(&["publish", "run", "--to", "published", "--without-checkpoints"]).assert_code(0);
    assert!(!world.path("published/run/checkpoints").exists());
    let files = world.tune(&["verify", "published", "--level", "files"]);
    files.assert_code(0);
    assert!(files.stdout.contains("withheld") && files.stdout.contains("3 checkpoints"), "{}", files.stdout);
    verify(&world, &["published", "--level", "data"]).assert_code(0);
    let both = verify(&world, &["published", "--segments", "2"]);
    both.assert_code(2);
    assert!(both.stdout.contains("only 1 begin at a checkpoint that is here"), "{}", both.stdout);
    let one = verify(&world, &["published", "--segments", "1"]);
    one.assert_code(2);
    assert!(one.stdout.contains("would not be seen at this level"), "{}", one.stdout);
    assert!(one.stdout.contains("nothing short of `full` ties the result to the chain"), "{}", one.stdout);
    verify(&world, &["published", "--level", "full"]).assert_code(0);
    // In a run folder nothing may be missing.
    fs::remove_dir_all(world.path("run/checkpoints/step-000002")).expect("the run can be changed");
    world.tune(&["verify", "run", "--level", "files"]).assert_code(2);
}

/// A statement is read by people who did not see the verdict.
#[test]
fn a_statement_says_what_was_withheld() {
    let world = World::new();
    world.train("run", &["save_steps=1"]);
    world.tune(&["publish", "run", "--to", "published"]).assert_code(0);
    world.tune(&["key", "new", "key.pem"]).assert_code(0);
    let sample = ["published", "--segments", "1", "--attest", "key.pem"];
    let whole = verify(&world, &sample);
    assert!(whole.assert_code(0).stdout.ends_with("verified at level `sample`\n"), "{}", whole.stdout);
    fs::remove_dir_all(world.path("published/run/checkpoints/step-000001")).expect("the folder can be changed");
    let outcome = verify(&world, &sample);
    for words in ["steps 2–2 begin at checkpoints that are not here", "`sample`; withheld: checkpoints, segments\n"] {
        assert!(outcome.assert_code(0).stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    let listed = world.tune(&["attest", "list", "published"]).stdout;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("PASSED at level `sample`, "), "{listed}");
    assert!(lines[1].starts_with("PASSED at level `sample` (withheld: checkpoints, segments), "), "{listed}");
}

#[test]
fn what_cannot_be_published_is_refused_and_leaves_nothing() {
    let world = finished();
    fs::create_dir(world.path("taken")).expect("a folder");
    world.tune(&["publish", "run", "--to", "taken"]).assert_code(1).assert_stderr(&["is there already"]);
    world.tune(&["publish", "run", "--to", "run/published"]).assert_code(1).assert_stderr(&["lies in the run folder"]);
    world.tune(&["publish", "base", "--to", "published"]).assert_code(1).assert_stderr(&["manifest.json"]);
    let weights = world.path("run/adapter/adapter_model.safetensors");
    let mut bytes = fs::read(&weights).expect("weights");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("the run can be changed");
    for command in [&["publish", "run", "--to", "published"][..], &["audit", "run"][..]] {
        world
            .tune(command)
            .assert_code(1)
            .assert_stderr(&["adapter_model.safetensors", "tune verify run --level files"]);
    }
    assert!(!world.path("published").exists());
}

#[test]
fn attestations_are_listed_and_those_of_other_claims_do_not_count() {
    let world = published();
    assert!(world.tune(&["attest", "list", "published"]).stdout.contains("no statements"));
    world.tune(&["key", "new", "verifier.pem"]).assert_code(0);
    verify(&world, &["published", "--level", "sample", "--attest", "verifier.pem"]).assert_code(0);
    verify(&world, &["published", "--level", "full", "--attest", "verifier.pem"]).assert_code(0);
    let listed = world.tune(&["attest", "list", "published"]);
    listed.assert_code(0);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert!(
        lines[0].starts_with("PASSED at level `sample`") && lines[1].starts_with("PASSED at level `full`"),
        "{lines:?}"
    );
    // The publisher's signature still holds, for statements come later.
    world.tune(&["verify", "published", "--level", "files", "--signed-by", "key.pem.pub"]).assert_code(0);

    // A statement about one run says nothing of another.
    let statements = world.read("published/attestations.intoto.jsonl");
    world.train("other", &["seed=8"]);
    world.write("other/attestations.intoto.jsonl", &statements);
    world.tune(&["verify", "other", "--level", "files"]).assert_code(0);
    let replayed = world.tune(&["attest", "list", "other"]);
    assert_eq!(replayed.stdout.matches("does not count: it is about another claim").count(), 2, "{}", replayed.stdout);

    // Nor where a manifest takes the other's name, and a line that is repeated is one statement.
    let own = world.read("published/run/manifest.json");
    let mut renamed: Value = serde_json::from_str(&own).expect("JSON");
    renamed["claim"]["training"]["steps"] = Value::from(5);
    fs::create_dir(world.path("renamed")).expect("a folder");
    world.write("renamed/manifest.json", &renamed.to_string());
    world.write("renamed/attestations.intoto.jsonl", &statements);
    let refused = world.tune(&["attest", "list", "renamed"]);
    refused.assert_code(1).assert_stderr(&["the claim id it states is not that of the claim it holds"]);
    world.write("published/attestations.intoto.jsonl", &statements.repeat(3));
    assert_eq!(world.tune(&["attest", "list", "published"]).stdout.matches("PASSED").count(), 2);

    // A changed statement has another signature.
    let mut envelope: Value = serde_json::from_str(statements.lines().next().expect("a line")).expect("JSON");
    envelope["signatures"][0]["sig"] = Value::from("MEUCIQ==");
    world.write("published/attestations.intoto.jsonl", &format!("{envelope}\nnot JSON\n"));
    let broken = world.tune(&["attest", "list", "published"]);
    assert!(broken.stdout.contains("does not count: the signature is not one of the key"), "{}", broken.stdout);
    assert!(broken.stdout.contains("does not count: it is no envelope"), "{}", broken.stdout);

    // A claim that does not hold is attested as failed. A folder that is not whole says nothing of its claim.
    fs::remove_file(world.path("other/attestations.intoto.jsonl")).expect("it is there");
    let config = world.read("other/adapter/adapter_config.json");
    world.write("other/adapter/adapter_config.json", &(config.clone() + " "));
    let broken = world.tune(&["verify", "other", "--level", "data", "--attest", "verifier.pem"]);
    broken.assert_code(1).assert_stderr(&["nothing was signed"]);
    world.write("other/adapter/adapter_config.json", &config.replace("\"lora_alpha\": 8", "\"lora_alpha\": 9"));
    reseal(&world.path("other"), |_| {});
    world.tune(&["verify", "other", "--level", "data", "--attest", "verifier.pem"]).assert_code(1);
    assert!(world.tune(&["attest", "list", "other"]).stdout.starts_with("FAILED"), "a difference is attested");
    // A pipe would never end.
    fs::remove_file(world.path("other/attestations.intoto.jsonl")).expect("it is there");
    let made = Command::new("mkfifo").arg(world.path("other/attestations.intoto.jsonl")).status().expect("mkfifo");
    assert!(made.success());
    world.tune(&["attest", "list", "other"]).assert_code(1).assert_stderr(&["is not a file"]);
}

/// What a stranger's statement says is one line, and a line that says nothing known does not count.
#[test]
fn a_statement_cannot_forge_another() {
    let world = finished();
    world.tune(&["key", "new", "verifier.pem"]).assert_code(0);
    world.tune(&["verify", "run", "--level", "files", "--attest", "verifier.pem"]).assert_code(0);
    let key = tune_publish::key::PrivateKey::read(&world.path("verifier.pem")).expect("a key");
    let line = world.read("run/attestations.intoto.jsonl");
    let envelope: tune_publish::envelope::Envelope = serde_json::from_str(&line).expect("an envelope");
    let honest = envelope.statement().expect("a statement");
    let signed = |change: &dyn Fn(&mut Value)| {
        let mut statement = honest.clone();
        change(&mut statement["predicate"]);
        let bytes = serde_json::to_vec(&statement).expect("JSON");
        let envelope = tune_publish::envelope::Envelope::sign(&bytes, &key, String::new());
        world.write("run/attestations.intoto.jsonl", &(serde_json::to_string(&envelope).expect("JSON") + "\n"));
        world.tune(&["attest", "list", "run"]).assert_code(0).stdout.clone()
    };
    let forged =
        signed(&|predicate| predicate["tune_device"] = Value::from("x\u{1b}[2K\rPASSED\nPASSED at level `full`"));
    assert_eq!(forged.lines().count(), 1, "{forged}");
    assert!(!forged.contains('\u{1b}') && !forged.contains('\r'), "{forged}");
    for (name, value) in [("tune_level", "all"), ("verificationResult", "YES"), ("timeVerified", "yesterday")] {
        let listed = signed(&|predicate| predicate[name] = Value::from(value));
        assert!(listed.starts_with("does not count"), "{listed}");
    }
}

/// Weights of one's own under an honest chain, with the last checkpoint withheld: the last steps are then always computed again.
#[test]
fn forged_weights_behind_a_withheld_checkpoint_are_seen_at_sample() {
    let world = published();
    fs::remove_dir_all(world.path("published/run/checkpoints/step-000004")).expect("the folder can be changed");
    for seed in ["1", "2", "3"] {
        verify(&world, &["published", "--segments", "1", "--seed", seed]).assert_code(0);
    }
    let weights = world.path("published/adapter_model.safetensors");
    let mut tensors = tune_train::checkpoint::read_tensors(&weights).expect("weights");
    tensors.values_mut().next().expect("a tensor").1[0] += 0.5;
    let side = tune_train::checkpoint::SideFiles::new();
    let name = "adapter_model.safetensors";
    tune_train::checkpoint::write_weights(&world.path("published"), name, &tensors, &side).expect("the folder");
    let path = world.path("published/run/manifest.json");
    let mut manifest: Manifest = serde_json::from_slice(&fs::read(&path).expect("the manifest")).expect("JSON");
    manifest.claim.final_root = tune_train::checkpoint::parameter_root(&tensors);
    let digest = tune_schema::Digest::of(&fs::read(&weights).expect("weights"));
    manifest.claim.files.insert(format!("adapter/{name}"), digest);
    let sealed = Manifest::new(manifest.claim, manifest.environment).expect("a manifest");
    fs::write(&path, tune_schema::to_canonical_json(&sealed).expect("JSON")).expect("the folder can be changed");
    verify(&world, &["published", "--level", "data"]).assert_code(0);
    for seed in ["1", "2", "3"] {
        let outcome = verify(&world, &["published", "--segments", "1", "--seed", seed]);
        outcome.assert_code(1);
        assert!(outcome.stdout.contains("the last step gives weights with the root"), "{}", outcome.stdout);
    }
}

/// Whoever leaves checkpoints out cannot choose that the last steps are never computed again.
#[test]
fn forged_weights_in_the_last_checkpoint_are_not_verified_without_the_one_before() {
    let world = finished();
    change_checkpoint(&world.path("run"), 4, |state| {
        state.parameters.values_mut().next().expect("a tensor").1[0] += 0.5;
    });
    world.tune(&["publish", "run", "--to", "published"]).assert_code(0);
    let seeds = ["1", "2", "3", "4", "5"];
    // The first checkpoint is left out: the last steps are computed again, whatever is drawn.
    fs::remove_dir_all(world.path("published/run/checkpoints/step-000000")).expect("the folder can be changed");
    for seed in seeds {
        verify(&world, &["published", "--segments", "1", "--seed", seed]).assert_code(1);
    }
    // The one before the last: they cannot be.
    fs::remove_dir_all(world.path("published/run/checkpoints/step-000002")).expect("the folder can be changed");
    for seed in seeds {
        let outcome = verify(&world, &["published", "--segments", "1", "--seed", seed]);
        outcome.assert_code(2);
        assert!(outcome.stdout.contains("nothing short of `full` ties the result to the chain"), "{}", outcome.stdout);
    }
    verify(&world, &["published", "--level", "full"]).assert_code(1);
}

/// What is no part of the claim says nothing of it: a copy with another GGUF file is no reason to sign that a claim failed.
#[test]
fn a_changed_export_is_a_difference_and_is_not_attested() {
    let world = finished();
    world.tune(&["publish", "run", "--to", "published", "--gguf"]).assert_code(0);
    world.tune(&["key", "new", "verifier.pem"]).assert_code(0);
    let gguf = world.path("published/gguf/adapter.gguf");
    let mut bytes = fs::read(&gguf).expect("a file");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&gguf, &bytes).expect("the folder can be changed");
    change_record(&world.path("published"), |_| {});
    let outcome = verify(&world, &["published", "--level", "data", "--attest", "verifier.pem"]);
    outcome.assert_code(1).assert_stderr(&["nothing was signed"]);
    assert!(world.tune(&["attest", "list", "published"]).stdout.contains("no statements"));
}

/// What other tools would load from a published folder, and the claim does not have.
#[test]
fn a_second_result_or_a_loadable_file_is_seen() {
    let world = published();
    for name in [
        "run/adapter/adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
        "x/modeling.py",
        "w.pickle",
        "x/settings.yaml",
        "Modelfile",
        "model.tflite",
        ".cache/huggingface/hook.py",
        ".github/workflows/build.yml",
    ] {
        let path = world.path("published").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, "x").expect("the folder can be changed");
        let outcome = world.tune(&["verify", "published", "--level", "files"]);
        outcome.assert_code(1);
        assert!(outcome.stdout.contains(name), "{}", outcome.stdout);
        fs::remove_file(&path).expect("it is there");
    }
    for name in ["LICENSE", "LICENSE-MIT", "license.txt", "COPYING", "LICENSES/MIT.txt", "picture.png", ".git/config"] {
        let path = world.path("published").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, "x").expect("the folder can be changed");
    }
    let clone = world.tune(&["verify", "published", "--level", "files"]);
    assert!(clone.assert_code(0).stdout.contains("withheld: .git"), "{}", clone.stdout);
}

#[test]
fn a_link_into_the_run_is_no_way_around() {
    let world = finished();
    std::os::unix::fs::symlink(world.path("run"), world.path("link")).expect("a link");
    world.tune(&["publish", "run", "--to", "link/out"]).assert_code(1).assert_stderr(&["lies in the run folder"]);
    world.tune(&["verify", "run", "--level", "files"]).assert_code(0);
}

/// With TUNE_TEST_PYTHON naming a Python that has tests/published/requirements.txt.
#[test]
fn the_tools_of_each_format_accept_the_published_folder() {
    let Some(python) = std::env::var_os("TUNE_TEST_PYTHON") else {
        eprintln!("not run: set TUNE_TEST_PYTHON to a Python with tests/published/requirements.txt");
        return;
    };
    let validate = |world: &World| {
        let mut command = Command::new(&python);
        command.arg(repository().join("tests/published/validate.py")).arg(world.path("published"));
        let output = command.arg("--public-key").arg(world.path("key.pem.pub")).output().expect("Python starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    // Of a run on rows that may not be shared the documents are as valid: a commitment stands where a digest would.
    let withheld = crate::unshareable::finished();
    withheld.tune(&["key", "new", "key.pem"]).assert_code(0);
    withheld.tune(&["publish", "run", "--to", "published", "--gguf", "--key", "key.pem"]).assert_code(0);
    let description = withheld.read("published/croissant/private.json");
    let description: Value = serde_json::from_str(&description).expect("JSON");
    assert!(description.get("distribution").is_none_or(|files| files == &Value::Array(Vec::new())), "{description}");
    let (code, said) = validate(&withheld);
    assert_eq!(code, Some(0), "{said}");
    let path = withheld.path("published/croissant/private.json");
    let text = fs::read_to_string(&path).expect("text");
    fs::write(&path, text.replacen("\"sc:Dataset\"", "\"sc:Datasett\"", 1)).expect("the folder can be written");
    let (code, said) = validate(&withheld);
    assert!(code == Some(1) && said.contains("FAILED  croissant"), "{said}");

    let world = published();
    let (code, said) = validate(&world);
    assert_eq!(code, Some(0), "{said}");
    // Each of them finds what is not so.
    for (file, from, to, check) in [
        ("bom.cdx.json", "\"CycloneDX\"", "\"Other\"", "cyclonedx"),
        ("provenance.json", "\"predicateType\"", "\"predicatetype\"", "in_toto"),
        ("model.spdx3.json", "\"ai_AIPackage\"", "\"ai_Package\"", "spdx"),
        ("croissant/rows.json", "\"sc:Text\"", "\"sc:Textt\"", "croissant"),
        ("MOF.yml", "language", "languages", "mof"),
        ("README.md", "model-index:", "model-index: 3 #", "model_card"),
        ("run/manifest.json", "{\"claim\"", "{ \"claim\"", "canonical"),
    ] {
        let path = world.path("published").join(file);
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(&path, text.replacen(from, to, 1)).expect("the folder can be written");
        let (code, said) = validate(&world);
        assert_eq!(code, Some(1), "{file}: {said}");
        assert!(said.contains(&format!("FAILED  {check}")) && said.contains("FAILED  signature"), "{file}: {said}");
        fs::write(&path, text).expect("the folder can be written");
    }
    note_of_the_hub(&world);
    let (code, said) = validate(&world);
    assert_eq!(code, Some(0), "{said}");
}

/// Statements of the published folder name files that are there, by their digests.
#[test]
fn digests_in_the_documents_are_those_of_the_files() {
    let world = published();
    let folder = world.path("published");
    let json = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(folder.join(name)).expect(name)).expect(name)
    };
    let digest = |path: &Path| tune_schema::Digest::of(&fs::read(path).expect("a file")).hex();
    let provenance = json("provenance.json");
    let subjects = provenance["subject"].as_array().expect("subjects");
    assert_eq!(subjects.len(), 2);
    let byproducts = provenance["predicate"]["runDetails"]["byproducts"].as_array().expect("byproducts");
    assert_eq!(byproducts.len(), 5);
    for one in subjects.iter().chain(byproducts) {
        let name = one["name"].as_str().expect("a name");
        assert_eq!(one["digest"]["sha256"], digest(&folder.join(name)).as_str(), "{name}");
    }
    let dependencies = provenance["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
    let names: Vec<&str> = dependencies.iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains(&"base/model.safetensors") && names.contains(&"rows/rows"), "{names:?}");
    let rows = digest(&world.path("rows.jsonl"));
    assert_eq!(json("croissant/rows.json")["distribution"][0]["sha256"], rows.as_str());
    let bom = json("bom.cdx.json");
    assert_eq!(
        bom["metadata"]["component"]["hashes"][0]["content"],
        digest(&folder.join("adapter_model.safetensors")).as_str()
    );
    assert_eq!(bom["metadata"]["component"]["licenses"][0]["license"]["id"], "Apache-2.0");
}
