//! Names of the files in a run folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tune_schema::manifest::PUBLISHED_RUN;
use tune_schema::recipe::{Adapter, Recipe};

/// A run folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
    /// Where the result lies, where it is not in the run folder.
    published: Option<PathBuf>,
}

impl RunFolder {
    /// The run folder at `path`; nothing is created.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), published: None }
    }

    /// The run within the published folder at `path`.
    #[must_use]
    pub fn of_published(path: &Path) -> Self {
        Self { path: path.join(PUBLISHED_RUN), published: Some(path.to_owned()) }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The published folder that it is part of.
    #[must_use]
    pub fn published(&self) -> Option<&Path> {
        self.published.as_deref()
    }

    /// The published folder where there is one, the folder itself otherwise.
    #[must_use]
    pub fn top(&self) -> &Path {
        self.published().unwrap_or(self.path())
    }

    /// Where the file is that a manifest calls `listed`.
    #[must_use]
    pub fn place(&self, listed: &str) -> PathBuf {
        match (&self.published, name_of_result(listed)) {
            (Some(published), Some(name)) => published.join(name),
            _ => self.path.join(listed),
        }
    }

    /// `manifest.json`: written last; a folder with one is a finished run.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.path.join("manifest.json")
    }

    /// `inputs.json`: the claim's inputs, written first; says which computation the folder belongs to.
    #[must_use]
    pub fn inputs(&self) -> PathBuf {
        self.path.join("inputs.json")
    }

    /// `recipe.yaml`: the recipe as the user wrote it.
    #[must_use]
    pub fn recipe(&self) -> PathBuf {
        self.path.join("recipe.yaml")
    }

    /// `resolved.yaml`: the claimed recipe, every default explicit.
    #[must_use]
    pub fn resolved(&self) -> PathBuf {
        self.path.join("resolved.yaml")
    }

    /// `datasets.lock`: the sources of this run.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.path.join("datasets.lock")
    }

    /// `chain.jsonl`.
    #[must_use]
    pub fn chain(&self) -> PathBuf {
        self.path.join("chain.jsonl")
    }

    /// `metrics.jsonl`.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `environment.json`.
    #[must_use]
    pub fn environment(&self) -> PathBuf {
        self.path.join("environment.json")
    }

    /// `evaluation-before.json` or `evaluation-after.json`.
    #[must_use]
    pub fn evaluation(&self, when: &str) -> PathBuf {
        self.path.join(format!("evaluation-{when}.json"))
    }

    /// `adapter/` (or `model/` where all weights are trained): what the run made, in Hugging Face layout.
    #[must_use]
    pub fn result(&self, adapter: Adapter) -> PathBuf {
        self.published.clone().unwrap_or_else(|| self.path.join(adapter.result_folder()))
    }

    /// `checkpoints/`.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
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

/// Folders of a result, and the files that may lie in them.
pub const RESULT_FILES: [(&str, &[&str]); 2] = [
    ("adapter", &["adapter_config.json", "adapter_model.safetensors"]),
    ("model", &["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]),
];

/// The name in its folder of a file of the result, by its path in a manifest.
#[must_use]
pub fn name_of_result(listed: &str) -> Option<&str> {
    RESULT_FILES.iter().find_map(|(folder, _)| listed.strip_prefix(folder)?.strip_prefix('/'))
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
    let result = root.result(recipe.adapter);
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
