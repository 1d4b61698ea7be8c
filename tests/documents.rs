//! Every command in the documents is run, in their order, as a reader would: in a copy of the repository's recipes and
//! models. A fence marked `sh network` fetches something and is run where `TUNE_TEST_NETWORK` is set. One marked `sh gpu`
//! needs a GPU; `devices.rs` runs its command on a device in software. One marked `sh differs` finds a difference: exit code 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Outcome, copy_repository, files, repository};

/// Commands that start no `tune`, each with where it is run instead.
const ELSEWHERE: [(&str, &str); 5] = [
    ("cargo test --workspace --release", "this very run"),
    (".ci/run", "what runs the tests"),
    ("cargo run --release -p tune-quickstart -- ", "the tests of tune-quickstart"),
    ("cargo run --release -p tune-kernels --example elementary_error", "the tests of tune-kernels, with a stride"),
    ("cargo bench ", "a measurement, run by hand"),
];

/// A command in a document.
struct Documented {
    place: String,
    line: String,
    network: bool,
    /// The exit code.
    code: i32,
}

/// The commands of all documents: README first, since others build on what it made.
fn commands() -> Vec<Documented> {
    let root = repository();
    let mut paths = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let documents = files(&root.join("docs"));
    paths.extend(documents.keys().filter(|name| name.ends_with(".md")).map(|name| root.join("docs").join(name)));
    paths.iter().flat_map(|path| commands_of(path)).collect()
}

fn commands_of(path: &Path) -> Vec<Documented> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.file_name().expect("a file").to_string_lossy();
    let mut fence: Option<String> = None;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(info.trim().to_owned()) };
        } else if let Some(info) = fence.as_deref().filter(|info| info.split(' ').next() == Some("sh")) {
            let line = line.split(" # ").next().unwrap_or_default().trim();
            if !line.is_empty() && !line.starts_with('#') && info != "sh gpu" {
                let place = format!("{name}:{}", number + 1);
                found.push(Documented {
                    place,
                    line: line.to_owned(),
                    network: info == "sh network",
                    code: i32::from(info == "sh differs"),
                });
            }
        }
    }
    found
}

/// The arguments of `tune` in a documented command.
fn arguments(line: &str) -> Option<Vec<&str>> {
    let rest = line.strip_prefix("cargo run --release -- ").or_else(|| line.strip_prefix("tune "))?;
    // What a shell would do with the output is not what is shown.
    let rest = rest.split(" > ").next().unwrap_or(rest);
    Some(rest.split_whitespace().collect())
}

fn run(folder: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tune"));
    Outcome::of(command.current_dir(folder).args(arguments).output().expect("the binary starts"))
}

#[test]
fn every_offline_command_works() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy_repository(folder.path());
    let mut count = 0;
    for Documented { place, line, code, .. } in commands().into_iter().filter(|command| !command.network) {
        let Some(arguments) = arguments(&line) else {
            let known = ELSEWHERE.iter().any(|(start, _)| line.starts_with(start));
            assert!(known || line.starts_with("cargo install "), "{place}: nothing runs `{line}`");
            continue;
        };
        let outcome = run(folder.path(), &arguments);
        assert_eq!(outcome.code, Some(code), "{place}: {line}\n{}\n{}", outcome.stdout, outcome.stderr);
        count += 1;
    }
    assert!(count >= 5, "only {count} commands were found in the documents");
}

/// With two steps instead of as many as the document says, and rows of the same form in place of the real data.
#[test]
fn every_command_that_fetches_works() {
    let commands: Vec<Documented> = commands().into_iter().filter(|command| command.network).collect();
    assert!(!commands.is_empty(), "the documents show no real run");
    for Documented { place, line, .. } in &commands {
        assert!(arguments(line).is_some(), "{place}: nothing runs `{line}`");
    }
    if std::env::var_os("TUNE_TEST_NETWORK").is_none() {
        eprintln!("not run: {} commands that fetch; set TUNE_TEST_NETWORK to run them", commands.len());
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy_repository(folder.path());
    stand_in(folder.path());
    for Documented { place, line, .. } in commands {
        let mut arguments = arguments(&line).expect("checked above");
        if let Some(steps) = arguments.iter_mut().find(|argument| argument.starts_with("max_steps=")) {
            *steps = "max_steps=2";
        }
        let outcome = run(folder.path(), &arguments);
        assert_eq!(outcome.code, Some(0), "{place}: {line}\n{}\n{}", outcome.stdout, outcome.stderr);
    }
}

/// Questions and answers in the place of GSM8K, which the repository does not hold, and a lock without its digest.
fn stand_in(folder: &Path) {
    let row = |i: u32| {
        format!(
            "{{\"question\":\"Ann has {i} apples and buys 3. How many has she?\",\"answer\":\"She has {i} + 3 = {}.\\n#### {}\"}}\n",
            i + 3,
            i + 3
        )
    };
    fs::create_dir(folder.join("gsm8k")).expect("a folder");
    fs::write(folder.join("gsm8k/train.jsonl"), (0..1500).map(row).collect::<String>()).expect("a file");
    let lock = fs::read_to_string(folder.join("datasets.lock")).expect("the lock");
    let mut lock = tune_schema::lock::Lock::parse("datasets.lock", &lock).expect("the lock is sound");
    lock.sources.retain(|source| source.name != "gsm8k-train");
    fs::write(folder.join("datasets.lock"), lock.to_yaml()).expect("the lock");
}

/// The reader of commands finds what is there and refuses what nobody runs.
#[test]
fn commands_are_found_in_fences() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path: PathBuf = folder.path().join("a.md");
    fs::write(&path, "```sh\ntune schema # prints\n```\n```text\ntune no\n```\n```sh network\ntune lock x\n```\n")
        .expect("a file");
    let found = commands_of(&path);
    assert_eq!(
        found.iter().map(|c| (c.line.as_str(), c.network)).collect::<Vec<_>>(),
        [("tune schema", false), ("tune lock x", true)]
    );
    assert_eq!(arguments("rm -r x"), None);
}
