//! The quickstart: what its base model claims to be, and what fine-tuning makes of it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tune_schema::Digest;

use crate::support::{Outcome, copy_repository, repository};

/// The base's manifest.
fn base_claim() -> Value {
    let text =
        fs::read_to_string(repository().join("models/quickstart-base/manifest.json")).expect("the base's manifest");
    let manifest: Value = serde_json::from_str(&text).expect("JSON");
    manifest["claim"].clone()
}

/// A copy of the repository's recipes and models, with the corpus generated.
fn copy(folder: &Path) {
    copy_repository(folder);
    fs::create_dir(folder.join("data")).expect("a folder");
    let corpus = tune_quickstart::corpus(tune_quickstart::STORIES);
    fs::write(folder.join("data/quickstart-corpus.jsonl"), corpus).expect("the corpus");
}

fn tune(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tune"));
    command.current_dir(folder).args(arguments);
    command
}

/// Fine-tuning raises the score from nearly nothing to nearly everything, and the whole of it verifies.
#[test]
fn it_learns_and_verifies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(folder.path());
    let run = tune(folder.path(), &["run", "recipes/quickstart.yaml", "--frozen"]);
    Outcome::of({ run }.output().expect("the binary starts")).assert_code(0);
    let manifest = fs::read(folder.path().join("runs/quickstart/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let score = |when: &str| manifest["claim"]["evaluation"][format!("exact_match_{when}")].as_u64().expect("a score");
    assert!(score("before") <= 5, "{} of 100 before", score("before"));
    assert!(score("after") > 90, "{} of 100 after", score("after"));
    let verify = tune(folder.path(), &["verify", "runs/quickstart", "--level", "full"]);
    let verdict = Outcome::of({ verify }.output().expect("the binary starts"));
    verdict.assert_code(0);
    assert!(verdict.stdout.contains("verified"), "{}", verdict.stdout);
    if let Some(python) = std::env::var_os("TUNE_TEST_PYTHON") {
        llama_cpp_gives_the_same_answers(folder.path(), &python);
    } else {
        eprintln!("llama.cpp not asked: set TUNE_TEST_PYTHON to a Python with tests/published/requirements.txt");
    }
}

/// What is exported as GGUF, run by llama.cpp.
fn llama_cpp_gives_the_same_answers(folder: &Path, python: &OsStr) {
    let export = tune(folder, &["export", "runs/quickstart", "--to", "exported", "--gguf", "--merged"]);
    Outcome::of({ export }.output().expect("the binary starts")).assert_code(0);
    let asked = |model: &[&str]| {
        let mut script = Command::new(python);
        script.current_dir(folder).arg(repository().join("tests/published/llama_answers.py")).args(model);
        let output = script.args(["--answers", "runs/quickstart/evaluation-after.json", "--limit", "20"]).output();
        Outcome::of(output.expect("Python starts"))
    };
    for model in [
        &["--model", "exported/base.gguf", "--adapter", "exported/adapter.gguf"][..],
        &["--model", "exported/merged.gguf"],
    ] {
        let outcome = asked(model);
        assert_eq!(outcome.code, Some(0), "{model:?}: {}{}", outcome.stdout, outcome.stderr);
    }
    // The base alone gives other answers, and the script sees it.
    assert_eq!(asked(&["--model", "exported/base.gguf"]).code, Some(1));
}

/// The base's files are those of its claim.
#[test]
fn the_base_is_what_its_manifest_says() {
    let claim = base_claim();
    let base = repository().join("models/quickstart-base");
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let found = Digest::of(&fs::read(base.join(name)).expect("the base")).to_string();
        assert_eq!(claim["files"][format!("model/{name}")], Value::from(found), "{name}");
    }
    let found = Digest::of(&fs::read(base.join("chain.jsonl")).expect("the chain")).to_string();
    assert_eq!(claim["files"]["chain.jsonl"], Value::from(found));
    let corpus = Digest::of(tune_quickstart::corpus(tune_quickstart::STORIES).as_bytes()).to_string();
    let sources = claim["inputs"]["sources"].as_array().expect("sources");
    assert!(sources.iter().any(|source| source["files"][0]["sha256"] == corpus.as_str()), "the corpus is another");
}

/// All of the base's training takes minutes; its first steps are computed anew here, and are those of its chain.
#[test]
fn the_bases_first_steps_are_those_of_its_chain() {
    const STEPS: usize = 5;
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(folder.path());
    let run = ["run", "recipes/quickstart-base.yaml", "--frozen", "output_dir=run"];
    let mut child =
        tune(folder.path(), &run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let started = Instant::now();
    let lines = loop {
        let text = fs::read_to_string(folder.path().join("run/chain.jsonl")).unwrap_or_default();
        let lines: Vec<String> =
            text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect();
        if lines.len() > STEPS
            || started.elapsed() > Duration::from_mins(5)
            || child.try_wait().expect("a child").is_some()
        {
            break lines;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    child.kill().expect("a child can be killed");
    child.wait().expect("a child");
    assert!(lines.len() > STEPS, "only {} steps were done", lines.len());
    let kept = fs::read_to_string(repository().join("models/quickstart-base/chain.jsonl")).expect("the chain");
    for (step, (found, kept)) in lines.iter().zip(kept.split_inclusive('\n')).enumerate() {
        assert_eq!(found, kept, "step {step}");
    }
}
