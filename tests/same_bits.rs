//! The promise: the same recipe gives the same bits, however it is executed; and another recipe gives another claim.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Outcome, World, claim_id, files, gguf};

/// What a run folder holds of the claim: every file but the two that say how the run was executed, and of these what
/// does not depend on the machine.
fn claimed_files(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = files(run);
    found.remove("environment.json").expect("a finished run has an environment");
    let manifest: serde_json::Value = serde_json::from_slice(&found["manifest.json"]).expect("JSON");
    found.insert("manifest.json".to_owned(), manifest["claim"].to_string().into_bytes());
    let metrics = String::from_utf8(found["metrics.jsonl"].clone()).expect("UTF-8");
    let metrics: Vec<String> = metrics
        .lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let line = line.as_object_mut().expect("an object");
            line.remove("tokens_per_second");
            line.remove("seconds");
            serde_json::to_string(line).expect("JSON")
        })
        .collect();
    found.insert("metrics.jsonl".to_owned(), metrics.join("\n").into_bytes());
    found
}

/// Asserts that two runs are equal in everything that is claimed, and says which file is not.
#[track_caller]
fn assert_same(world: &World, reference: &str, other: &str) {
    let (a, b) = (claimed_files(&world.path(reference)), claimed_files(&world.path(other)));
    assert_eq!(
        a.keys().collect::<Vec<_>>(),
        b.keys().collect::<Vec<_>>(),
        "{reference} and {other} hold different files"
    );
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{name} differs between {reference} and {other}");
    }
    assert_eq!(claim_id(&world.path(reference)), claim_id(&world.path(other)));
}

/// Trains with an environment variable set.
fn train_with(world: &World, run: &str, variable: &str, value: &str) {
    let output = format!("output_dir={run}");
    let mut command = world.command(&["run", "recipe.yaml", &output]);
    Outcome::of(command.env(variable, value).output().expect("the binary starts")).assert_code(0);
}

#[test]
fn threads_do_not_matter() {
    let world = World::new();
    train_with(&world, "one", "RAYON_NUM_THREADS", "1");
    for threads in ["2", "5"] {
        let run = format!("threads-{threads}");
        train_with(&world, &run, "RAYON_NUM_THREADS", threads);
        assert_same(&world, "one", &run);
    }
}

#[test]
fn the_width_of_vectors_does_not_matter() {
    let world = World::new();
    train_with(&world, "scalar", "TUNE_CPU", "scalar");
    for level in tune_kernels::cpu::Level::ALL.into_iter().filter(|level| level.available()) {
        train_with(&world, level.name(), "TUNE_CPU", level.name());
        assert_same(&world, "scalar", level.name());
    }
}

#[test]
fn the_split_into_micro_batches_does_not_matter() {
    let world = World::new();
    world.train("8x1", &[]);
    for (size, accumulation) in [(4, 2), (2, 4), (1, 8)] {
        let run = format!("{size}x{accumulation}");
        let overrides = [format!("micro_batch_size={size}"), format!("gradient_accumulation_steps={accumulation}")];
        world.train(&run, &[&overrides[0], &overrides[1]]);
        assert_same(&world, "8x1", &run);
    }
    // The rows of a step are part of the claim: fewer of them are another computation.
    world.train("4x1", &["micro_batch_size=4"]);
    assert_ne!(claim_id(&world.path("8x1")), claim_id(&world.path("4x1")));
}

/// What is computed again for the backward pass is what was there before, dropout included.
#[test]
fn gradient_checkpointing_does_not_matter() {
    let world = World::new();
    world.train("kept", &[]);
    world.train("recomputed", &["gradient_checkpointing=true"]);
    assert_same(&world, "kept", "recomputed");
}

/// The base model with every value cut to 16 bits, written as bfloat16 and as the same numbers in f32.
fn write_sixteen_bit_bases(world: &World) {
    let file = fs::read(world.path("base/model.safetensors")).expect("the base model");
    let (length, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize);
    let header: serde_json::Value = serde_json::from_slice(header).expect("JSON");
    let mut narrow = header.clone();
    for (name, tensor) in narrow.as_object_mut().expect("an object") {
        if name != "__metadata__" {
            assert_eq!(tensor["dtype"], "F32", "{name}");
            tensor["dtype"] = "BF16".into();
            for end in [0, 1] {
                let offset = tensor["data_offsets"][end].as_u64().expect("an offset");
                tensor["data_offsets"][end] = (offset / 2).into();
            }
        }
    }
    let upper = data.chunks_exact(4).flat_map(|value| [value[2], value[3]]).collect::<Vec<u8>>();
    let cut = data.chunks_exact(4).flat_map(|value| [0, 0, value[2], value[3]]).collect::<Vec<u8>>();
    for (folder, header, data) in [("base16", narrow, upper), ("base32", header, cut)] {
        fs::create_dir(world.path(folder)).expect("a folder");
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(world.path("base").join(name), world.path(folder).join(name)).expect("a file of the base model");
        }
        let header = header.to_string().into_bytes();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        fs::write(world.path(folder).join("model.safetensors"), bytes).expect("a file");
    }
}

/// Weights of 16 bits stay so in memory, and give what the same numbers in f32 give. The base models' files differ, so the
/// claims do; the steps, the held-out losses and the adapter must not.
#[test]
fn weights_of_sixteen_bits_do_not_matter() {
    let world = World::new();
    write_sixteen_bit_bases(&world);
    let results = ["base16", "base32", "base"].map(|base| {
        let run = format!("from-{base}");
        // The lock would hold the first base model's digest against the others, which go by the same name.
        let _ = fs::remove_file(world.path("datasets.lock"));
        world.train(&run, &[&format!("base_model={base}"), "base_model_name=base"]);
        let chain: Vec<serde_json::Value> = world
            .read(&format!("{run}/chain.jsonl"))
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .map(|step: serde_json::Value| [step["loss"].clone(), step["grad_norm"].clone()].into_iter().collect())
            .collect();
        assert!(chain[1..].iter().all(|step| step[0].is_string()) && chain.len() > 2, "{chain:?}");
        let adapter = fs::read(world.path(&run).join("adapter/adapter_model.safetensors")).expect("an adapter");
        let results: serde_json::Value =
            serde_json::from_str(&world.read(&format!("{run}/manifest.json"))).expect("JSON");
        (chain, adapter, results["claim"]["evaluation"].clone())
    });
    assert!(results[0] == results[1], "bfloat16 and f32 differ");
    assert!(results[0] != results[2], "the comparison sees weights that were not cut");
}

/// Matrices that stay quantised in memory give what their values give.
#[test]
fn keeping_weights_quantised_does_not_matter() {
    let world = World::new();
    fs::write(world.path("model.gguf"), gguf::quantised_model()).expect("a file");
    let overrides = ["base_model=model.gguf", "sequence_len=512", "val_set_size=0"];
    world.train("values", &overrides);
    world.train("kept", &[&overrides[..], &["keep_quantized=true"]].concat());
    assert_same(&world, "values", "kept");
}

/// The profile changes how the compiler optimises, and must not change what is computed.
#[test]
fn debug_and_release_builds_agree() {
    let world = World::new();
    world.train("this", &[]);
    let (profile, folder) = if cfg!(debug_assertions) { ("release", "release") } else { ("dev", "debug") };
    let status = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "tune", "--profile", profile])
        .current_dir(crate::support::repository())
        .status();
    assert!(status.expect("cargo starts").success(), "the {profile} build fails");
    let this = Path::new(env!("CARGO_BIN_EXE_tune"));
    let other =
        this.parent().and_then(Path::parent).expect("the binary lies in target/PROFILE").join(folder).join("tune");
    let mut command = std::process::Command::new(other);
    command.current_dir(world.path("")).env("TUNE_CACHE", world.path("cache"));
    command.args(["run", "recipe.yaml", "output_dir=other"]);
    Outcome::of(command.output().expect("the binary starts")).assert_code(0);
    assert_same(&world, "this", "other");
}

/// Interrupted at ten moments spread over the run, by the signal that nobody can catch. Where a run comes to its end
/// between two signals, it begins anew.
#[test]
fn killed_and_resumed_ends_the_same() {
    let world = World::new();
    let settings = ["save_steps=1", "max_steps=12"];
    let started = std::time::Instant::now();
    world.train("whole", &settings);
    let whole = started.elapsed();
    let (mut killed, mut resumed) = (0, 0);
    for attempt in 0..60_u32 {
        if killed == 10 {
            break;
        }
        let chain = fs::read_to_string(world.path("killed/chain.jsonl")).unwrap_or_default();
        resumed += usize::from(chain.lines().count() > 1);
        let mut command = world.command(&[&["run", "recipe.yaml", "output_dir=killed"], &settings[..]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
        // Spread evenly; the machine's noise moves the moments.
        std::thread::sleep(whole.mul_f64(f64::from(attempt * 7 % 10 + 1) / 11.0));
        if child.try_wait().expect("a child").is_none() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child");
            killed += 1;
        } else {
            assert_same(&world, "whole", "killed");
            fs::remove_dir_all(world.path("killed")).expect("a folder");
        }
    }
    assert_eq!(killed, 10, "the runs were over too soon");
    assert!(resumed >= 3, "only {resumed} runs went on from a step beyond the first");
    world.train("killed", &settings);
    assert_same(&world, "whole", "killed");
    world.tune(&["verify", "killed", "--level", "files"]).assert_code(0);
}

/// Where base and data lie, and what a file is called there, is no part of the claim; nor is the spelling of a number.
#[test]
fn places_and_spellings_are_not_claimed() {
    let world = World::new();
    world.train("reference", &["learning_rate=2e-3"]);
    fs::remove_file(world.path("datasets.lock")).expect("the lock");
    fs::create_dir_all(world.path("far/away")).expect("a folder");
    fs::rename(world.path("rows.jsonl"), world.path("far/away/data.jsonl")).expect("a file");
    fs::rename(world.path("base"), world.path("far/model")).expect("a folder");
    world.train(
        "moved",
        &["learning_rate=0.0020", "seed=7", "datasets.0.path=far/away/data.jsonl", "base_model=far/model"],
    );
    assert_same(&world, "reference", "moved");
    world.tune(&["verify", "moved", "--level", "data"]).assert_code(0);
}

/// Licence and class in the claim are those of the recipe, whatever an older lock says.
#[test]
fn a_stale_lock_does_not_change_the_claim() {
    let world = World::new();
    world.train("unstated", &[]);
    let recipe = world.read("recipe.yaml") + "provenance:\n  rows:\n    licence: MIT\n    class: open\n";
    world.write("recipe.yaml", &recipe);
    world.tune(&["run", "recipe.yaml", "output_dir=frozen", "--frozen"]).assert_code(0);
    world.train("normal", &[]);
    assert_same(&world, "frozen", "normal");
    assert_ne!(claim_id(&world.path("unstated")), claim_id(&world.path("normal")));
}

#[test]
fn whatever_is_claimed_changes_the_claim() {
    let world = World::new();
    world.train("reference", &[]);
    let reference = claim_id(&world.path("reference"));
    for (run, change) in [("seed", "seed=8"), ("rate", "learning_rate=1.0001e-3"), ("steps", "max_steps=3")] {
        world.train(run, &[change]);
        assert_ne!(reference, claim_id(&world.path(run)), "{change} does not change the claim");
    }
    // What is only execution does not.
    world.train("logging", &["logging_steps=3"]);
    assert_same(&world, "reference", "logging");
}

#[test]
fn a_byte_of_the_data_changes_the_claim() {
    let world = World::new();
    world.train("before", &[]);
    let rows = world.read("rows.jsonl");
    // A blank before the end of a line of JSON changes no example, but the file is another.
    world.write("rows.jsonl", &rows.replacen("}\n", "} \n", 1));
    world
        .tune(&["run", "recipe.yaml", "output_dir=after"])
        .assert_code(1)
        .assert_stderr(&["rows.jsonl", "is not what is locked"]);
    world.tune(&["lock", "recipe.yaml"]).assert_code(0);
    world.train("after", &[]);
    assert_ne!(claim_id(&world.path("before")), claim_id(&world.path("after")));
}

#[test]
fn a_bit_of_the_base_changes_the_claim() {
    let world = World::new();
    world.train("before", &[]);
    let weights = world.path("base").join("model.safetensors");
    let mut bytes = fs::read(&weights).expect("the base");
    *bytes.last_mut().expect("weights") ^= 1;
    fs::write(&weights, bytes).expect("the base can be changed");
    world.tune(&["run", "recipe.yaml", "output_dir=after"]).assert_code(1).assert_stderr(&["model.safetensors"]);
    world.tune(&["lock", "recipe.yaml"]).assert_code(0);
    world.train("after", &[]);
    assert_ne!(claim_id(&world.path("before")), claim_id(&world.path("after")));
}

#[test]
fn a_template_changes_the_claim() {
    let world = World::new();
    world.write("rows.jsonl", &chat_rows());
    let recipe = world.read("recipe.yaml").replace("type: prompt_completion", "type: chat_template");
    let template = "chat_template_jinja: \"{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}A {{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}U {{ m.content }}\\n{% endif %}{% endfor %}\"\n";
    world.write("recipe.yaml", &(recipe.clone() + template));
    world.train("before", &[]);
    world.write("recipe.yaml", &(recipe + &template.replace("U {{", "V {{")));
    world.train("after", &[]);
    assert_ne!(claim_id(&world.path("before")), claim_id(&world.path("after")));
}

/// Conversations of one question and one answer.
fn chat_rows() -> String {
    let row = |i: usize| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"Who sold {i} cups?\"}},{{\"role\":\"assistant\",\"content\":\"Anna sold {i}.\"}}]}}\n"
        )
    };
    (0..crate::support::ROWS).map(row).collect()
}
