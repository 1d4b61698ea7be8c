//! Names of the files in a run folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tune_schema::recipe::{Adapter, Recipe};

/// A run folder.
#[derive(Debug, Clone)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// The run folder at `path`; nothing is created.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `manifest.json`: written last; a folder with one is a finished run.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    /// `inputs.json`: the claim's inputs, written first; says which computation the folder belongs to.
    #[must_use]
    pub fn inputs(&self) -> PathBuf {
        self.0.join("inputs.json")
    }

    /// `recipe.yaml`: the recipe as the user wrote it.
    #[must_use]
    pub fn recipe(&self) -> PathBuf {
        self.0.join("recipe.yaml")
    }

    /// `resolved.yaml`: the claimed recipe, every default explicit.
    #[must_use]
    pub fn resolved(&self) -> PathBuf {
        self.0.join("resolved.yaml")
    }

    /// `datasets.lock`: the sources of this run.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.join("datasets.lock")
    }

    /// `chain.jsonl`.
    #[must_use]
    pub fn chain(&self) -> PathBuf {
        self.0.join("chain.jsonl")
    }

    /// `metrics.jsonl`.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// `environment.json`.
    #[must_use]
    pub fn environment(&self) -> PathBuf {
        self.0.join("environment.json")
    }

    /// `evaluation-before.json` or `evaluation-after.json`.
    #[must_use]
    pub fn evaluation(&self, when: &str) -> PathBuf {
        self.0.join(format!("evaluation-{when}.json"))
    }

    /// `adapter/` (or `model/` where all weights are trained): what the run made, in Hugging Face layout.
    #[must_use]
    pub fn result(&self, adapter: bool) -> PathBuf {
        self.0.join(if adapter { "adapter" } else { "model" })
    }

    /// `checkpoints/`.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// `checkpoints/step-NNNNNN/`.
    #[must_use]
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.checkpoints().join(format!("step-{step:06}"))
    }
}

/// The step of a checkpoint folder's name.
#[must_use]
pub fn checkpoint_step(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    (digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Name of the file with the trained weights.
#[must_use]
pub fn weights_file(recipe: &Recipe) -> &'static str {
    match recipe.adapter {
        Adapter::Lora => "adapter_model.safetensors",
        Adapter::None => "model.safetensors",
    }
}

/// Paths of a run folder whose bytes depend on the machine and the hour.
pub const ENVIRONMENT: [&str; 3] = ["environment.json", "metrics.jsonl", "recipe.yaml"];

/// Paths of every file under the claim of a run with checkpoints at these steps; `side` names the files beside weights.
#[must_use]
pub fn claimed_paths<'a>(
    recipe: &Recipe,
    checkpoints: impl IntoIterator<Item = u64>,
    side: impl IntoIterator<Item = &'a str> + Clone,
) -> BTreeSet<String> {
    let whole = [
        "inputs.json",
        "resolved.yaml",
        "datasets.lock",
        "chain.jsonl",
        "evaluation-before.json",
        "evaluation-after.json",
    ];
    let mut paths: BTreeSet<String> = whole.into_iter().map(str::to_owned).collect();
    let root = RunFolder::new("");
    let result = root.result(recipe.adapter == Adapter::Lora);
    let mut add = |folder: &Path, name: &str| paths.insert(folder.join(name).to_string_lossy().into_owned());
    let mut folders = vec![result];
    for step in checkpoints {
        add(&root.checkpoint(step), "optimizer.safetensors");
        add(&root.checkpoint(step), "state.json");
        folders.push(root.checkpoint(step));
    }
    for folder in &folders {
        side.clone().into_iter().chain([weights_file(recipe)]).for_each(|name| {
            add(folder, name);
        });
    }
    paths
}
