//! What the integration tests share: a small world of model and data in a temporary folder, and the binary.

pub(crate) mod forgery;
pub(crate) mod gguf;
mod http;
pub(crate) mod hub;
pub(crate) mod site;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository is there")
}

/// Copies what a user's commands need, recipes, models and lock, into a folder.
pub(crate) fn copy_repository(folder: &Path) {
    for part in ["recipes", "models"] {
        copy_folder(&repository().join(part), &folder.join(part));
    }
    fs::copy(repository().join("datasets.lock"), folder.join("datasets.lock")).expect("the lock");
}

/// A temporary folder with the quickstart's base model, a short data set and a recipe that trains in a second.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

/// Rows of [`World`]'s data set.
pub(crate) const ROWS: usize = 64;

impl World {
    /// The base model, `rows.jsonl` and `recipe.yaml`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let world = Self { folder };
        let base = repository().join("models/quickstart-base");
        fs::create_dir(world.path("base")).expect("a folder");
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(base.join(name), world.path("base").join(name)).expect("the base model is in the repository");
        }
        let rows = fs::read_to_string(repository().join("recipes/quickstart/records.jsonl")).expect("the records");
        let rows: Vec<&str> = rows.lines().take(ROWS).collect();
        world.write("rows.jsonl", &(rows.join("\n") + "\n"));
        world.write("recipe.yaml", RECIPE);
        world
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the temporary folder is writable");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// `tune` with these arguments, run in the folder, with a content store of its own and nothing from the outside.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tune"));
        command.current_dir(self.folder.path()).args(arguments);
        command.env("TUNE_CACHE", self.path("cache")).env_remove("TUNE_CPU").env_remove("RAYON_NUM_THREADS");
        command.env_remove("HF_ENDPOINT").env_remove("HF_TOKEN").env_remove("HUGGING_FACE_HUB_TOKEN");
        command
    }

    /// Runs `tune` and gives what came of it.
    pub(crate) fn tune(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments).output().expect("the binary starts"))
    }

    /// Trains `recipe.yaml` into the folder `run`.
    pub(crate) fn train(&self, run: &str, overrides: &[&str]) -> Outcome {
        let output = format!("output_dir={run}");
        let outcome = self.tune(&[&["run", "recipe.yaml", &output], overrides].concat());
        outcome.assert_code(0);
        outcome
    }
}

/// Four steps of eight rows, each row packed to 128 tokens.
const RECIPE: &str = "\
base_model: base
adapter: lora
lora_r: 4
lora_alpha: 8
lora_dropout: 0.1
lora_target_modules: all-linear
datasets:
  - name: rows
    path: rows.jsonl
    type: prompt_completion
val_set_size: 4
sequence_len: 128
micro_batch_size: 8
max_steps: 4
learning_rate: 1e-3
save_steps: 2
seed: 7
";

/// What a process said and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("tune prints UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error holds every one of these texts.
    #[track_caller]
    pub(crate) fn assert_stderr(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not in:\n{}", self.stderr);
        }
        self
    }
}

/// Every file under a folder with its bytes, by path within it.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.expect("a folder's entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it lies under the folder").to_string_lossy().into_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// Copies a folder with all its files.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

/// The claim id in a run folder's manifest.
pub(crate) fn claim_id(run: &Path) -> String {
    let manifest =
        fs::read_to_string(run.join("manifest.json")).unwrap_or_else(|error| panic!("{}: {error}", run.display()));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("the manifest is JSON");
    manifest["claim_id"].as_str().expect("the manifest has a claim id").to_owned()
}
