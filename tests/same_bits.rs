//! The promise: the same recipe gives the same bits, however it is executed; and another recipe gives another claim.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Outcome, World, claim_id, files};

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

/// Interrupted at ten moments spread over the run, by the signal that nobody can catch.
#[test]
fn killed_and_resumed_ends_the_same() {
    let world = World::new();
    let started = std::time::Instant::now();
    world.train("whole", &["save_steps=1", "max_steps=12"]);
    let whole = started.elapsed();
    let mut killed = 0;
    for attempt in 0..10_u32 {
        // Philox is not needed here: the moments are spread evenly, and the machine's noise moves them.
        let mut command = world.command(&["run", "recipe.yaml", "output_dir=killed", "save_steps=1", "max_steps=12"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
        std::thread::sleep(whole.mul_f64(0.15) + Duration::from_millis(u64::from(attempt) * 23 % 97));
        if child.try_wait().expect("a child").is_none() {
            child.kill().expect("a child can be killed");
            killed += 1;
        }
        child.wait().expect("a child");
    }
    assert!(killed >= 5, "only {killed} of 10 runs were still going when they were to be killed");
    world.train("killed", &["save_steps=1", "max_steps=12"]);
    assert_same(&world, "whole", "killed");
    world.tune(&["verify", "killed", "--level", "files"]).assert_code(0);
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
