//! Everything that documents say, read once from a run folder.
//!
//! The folder must have been verified at level `files` before: that the manifest is sealed, that every file has its
//! digest and that they fit together is not looked at again here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tune_schema::commitment::Commitment;
use tune_schema::environment::Environment;
use tune_schema::lock::{Lock, LockedFile, LockedSource};
use tune_schema::manifest::{Claim, Manifest, PUBLISHED_RUN};
use tune_schema::recipe::{self, Adapter, DataClass, Dataset, DatasetType, Recipe, SourceProvenance};
use tune_schema::{Digest, to_canonical_json};

use crate::PublishError;
use crate::identifier::{self, HubKind};
use crate::licence::{Licence, terms_of_all, terms_of_result};

/// Largest text of a run folder that is read whole.
const TEXT_LIMIT: u64 = 64 << 20;

/// What is known about a run.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The run folder.
    pub folder: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
    /// Digest of the manifest's bytes.
    pub manifest_digest: Digest,
    /// The claimed recipe; places are not claimed and hold the sources' names.
    pub recipe: Recipe,
    /// Machine and timings.
    pub environment: Environment,
    /// The base model.
    pub base: Source,
    /// The data sources, by name.
    pub data: Vec<Source>,
    /// The files of the result, by name, as they are published.
    pub result: Vec<LockedFile>,
}

/// What is known about the base model or a data source.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name in recipe and lock.
    pub name: String,
    /// Its entry of the lock.
    pub locked: LockedSource,
    /// What the recipe says about it.
    pub provenance: SourceProvenance,
    /// Its licence.
    pub licence: Option<Licence>,
    /// How its rows become examples: of data sources, as often as the recipe names them.
    pub datasets: Vec<Dataset>,
}

impl Source {
    fn new(name: &str, lock: &Lock, recipe: &Recipe) -> Option<Self> {
        let locked = lock.sources.iter().find(|source| source.name == name)?.clone();
        let provenance = recipe.provenance.get(name).cloned().unwrap_or_default();
        let licence = locked.licence.as_deref().map(Licence::new);
        let datasets = recipe.datasets.iter().filter(|dataset| dataset.name == name).cloned().collect();
        Some(Self { name: name.to_owned(), locked, provenance, licence, datasets })
    }

    /// OSAID class on record.
    #[must_use]
    pub fn class(&self) -> Option<DataClass> {
        self.locked.class
    }

    /// An address from which anyone gets it: that of the lock, or one that the recipe names as its origin.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        let locked = Some(self.locked.uri.as_str()).filter(|uri| uri.starts_with("https://"));
        locked.or_else(|| self.provenance.origin.as_deref().and_then(identifier::first_url))
    }

    /// Its id on the Hugging Face hub, where its address or origin is there.
    #[must_use]
    pub fn hub_id(&self, kind: HubKind) -> Option<String> {
        let texts = [Some(self.locked.uri.as_str()), self.provenance.origin.as_deref()];
        texts.into_iter().flatten().find_map(|text| identifier::hub_id(text, kind))
    }

    /// Whether only the recipe's author says that it is on the hub: its bytes were not taken from there by their address.
    #[must_use]
    pub fn is_hub_id_stated(&self, kind: HubKind) -> bool {
        identifier::hub_id(&self.locked.uri, kind).is_none()
    }

    /// A digest over its files: that of the one file, or over the list of them; of a commitment, its root.
    #[must_use]
    pub fn digest(&self) -> Digest {
        if let Some(commitment) = self.commitment() {
            return commitment.root;
        }
        match self.locked.files.as_slice() {
            [file] => file.sha256,
            files => {
                let list: String = files.iter().map(|file| format!("{}  {}\n", file.sha256.hex(), file.path)).collect();
                Digest::of(list.as_bytes())
            }
        }
    }

    /// What stands for its rows, where it may not be shared.
    #[must_use]
    pub fn commitment(&self) -> Option<&Commitment> {
        self.locked.commitment.as_ref()
    }

    /// Its size in bytes, where the claim has it.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.commitment().is_none().then(|| self.locked.files.iter().map(|file| file.size).sum())
    }
}

impl Facts {
    /// Reads a run folder.
    ///
    /// # Errors
    /// No finished run, or files that cannot be read.
    pub fn read(folder: &Path) -> Result<Self, PublishError> {
        if !tune_fs::is_file(&folder.join("manifest.json")) {
            if tune_fs::is_file(&folder.join(PUBLISHED_RUN).join("manifest.json")) {
                return Err(PublishError::Published(folder.to_owned()));
            }
            return Err(PublishError::NotARun(folder.to_owned()));
        }
        let manifest: Manifest = json(&folder.join("manifest.json"))?;
        let environment: Environment = json(&folder.join("environment.json"))?;
        let resolved = text(&folder.join("resolved.yaml"))?;
        let unreadable = |name: &str, problem: String| PublishError::Unreadable { path: folder.join(name), problem };
        let claimed = recipe::parse_claimed("resolved.yaml", &resolved)
            .map_err(|error| unreadable("resolved.yaml", error.to_string()))?;
        let recipe =
            recipe::from_claimed_in_place(&claimed).map_err(|error| unreadable("resolved.yaml", error.to_string()))?;
        let lock = Lock::parse("datasets.lock", &text(&folder.join("datasets.lock"))?)
            .map_err(|error| unreadable("datasets.lock", error.to_string()))?;
        let source = |name: &str| {
            Source::new(name, &lock, &recipe)
                .ok_or_else(|| unreadable("datasets.lock", format!("the source `{name}` is missing")))
        };
        let base = source(&recipe.base_model_name)?;
        let data = manifest.claim.inputs.sources.iter().map(|locked| source(&locked.name));
        let data = data.collect::<Result<Vec<_>, _>>()?;
        let mut result = Vec::new();
        let prefix = format!("{}/", recipe.adapter.result_folder());
        for (path, sha256) in &manifest.claim.files {
            if let Some(name) = path.strip_prefix(&prefix) {
                let (found, size) = tune_fs::digest_file(&folder.join(path))?;
                if found != *sha256 {
                    return Err(PublishError::Changed { path: folder.join(path) });
                }
                result.push(LockedFile { path: name.to_owned(), sha256: *sha256, size });
            }
        }
        let manifest_digest = Digest::of(&to_canonical_json(&manifest)?);
        let folder = folder.to_owned();
        Ok(Self { folder, manifest, manifest_digest, recipe, environment, base, data, result })
    }

    /// The claim.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        &self.manifest.claim
    }

    /// The claim's id.
    #[must_use]
    pub fn claim_id(&self) -> &Digest {
        &self.manifest.claim_id
    }

    /// The first twelve digits of the claim's id: the version of the result.
    #[must_use]
    pub fn version(&self) -> String {
        self.claim_id().hex()[..12].to_owned()
    }

    /// Steps of the run's checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> BTreeSet<u64> {
        self.claim().checkpoints.keys().filter_map(|step| step.parse().ok()).collect()
    }

    /// A name for the result: a run has none of its own, so it is the base model's with the kind of training.
    #[must_use]
    pub fn name(&self) -> String {
        let kind = if self.is_adapter() { "lora" } else { "finetuned" };
        format!("{}-{kind}", self.base.name)
    }

    /// Whether the result is a LoRA adapter, not a whole model.
    #[must_use]
    pub fn is_adapter(&self) -> bool {
        self.recipe.adapter == Adapter::Lora
    }

    /// The file with the trained weights.
    #[must_use]
    pub fn weights(&self) -> Option<&LockedFile> {
        self.result.iter().find(|file| file.path.ends_with(".safetensors"))
    }

    /// The terms of the result, as far as they follow from its sources. A recipe states no licence of the result itself.
    #[must_use]
    pub fn terms(&self) -> Option<Licence> {
        terms_of_result(self.base.licence.as_ref(), &self.data_licences()).map(|text| Licence::new(&text))
    }

    /// The terms of the data itself.
    #[must_use]
    pub fn terms_of_data(&self) -> Option<Licence> {
        terms_of_all(&self.data_licences()).map(|text| Licence::new(&text))
    }

    fn data_licences(&self) -> Vec<Option<&Licence>> {
        self.data.iter().map(|source| source.licence.as_ref()).collect()
    }

    /// When the run was finished, as the machine's clock said.
    #[must_use]
    pub fn finished(&self) -> String {
        identifier::date_time(self.environment.finished_unix_seconds)
    }

    /// When it began, as far as the machine's clock says: an interrupted run counts from its last start.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a clock, shown to people")]
    pub fn started_unix_seconds(&self) -> u64 {
        self.environment.finished_unix_seconds.saturating_sub(self.environment.total_seconds.max(0.0) as u64)
    }

    /// Whether some source is rendered with a chat template.
    #[must_use]
    pub fn is_chat(&self) -> bool {
        self.recipe.datasets.iter().any(|dataset| dataset.kind == DatasetType::ChatTemplate)
    }

    /// Whether some source stands in the claim by a commitment to its rows.
    #[must_use]
    pub fn withholds_rows(&self) -> bool {
        self.data.iter().any(|source| source.commitment().is_some())
    }

    /// The arithmetic's name.
    #[must_use]
    pub fn numerics(&self) -> &'static str {
        self.claim().inputs.numerics.name()
    }

    /// Every setting of the claimed recipe that is a simple value, by its dotted path. What is said about the sources is
    /// no setting, and digests are dependencies.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        flatten("", &self.recipe.claimed(), &mut settings);
        settings.retain(|(key, _)| {
            let top = key.split('.').next().unwrap_or_default();
            !["provenance", "governance", "considerations"].contains(&top) && !key.ends_with(".sha256")
        });
        settings
    }

    /// A UUID for `purpose`.
    #[must_use]
    pub fn uuid(&self, purpose: &str) -> String {
        identifier::uuid(self.claim_id(), purpose)
    }
}

/// Every simple value under `path`, by its dotted path.
pub(crate) fn flatten(path: &str, value: &serde_json::Value, settings: &mut Vec<(String, String)>) {
    let join = |part: &str| recipe::yaml::join(path, part);
    match value {
        serde_json::Value::Object(members) => {
            members.iter().for_each(|(key, value)| flatten(&join(key), value, settings))
        }
        serde_json::Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| flatten(&join(&i.to_string()), value, settings));
        }
        serde_json::Value::Null => {}
        serde_json::Value::String(text) => settings.push((path.to_owned(), text.clone())),
        other => settings.push((path.to_owned(), other.to_string())),
    }
}

pub(crate) fn text(path: &Path) -> Result<String, PublishError> {
    String::from_utf8(tune_fs::read_limited(path, TEXT_LIMIT)?)
        .map_err(|error| PublishError::Unreadable { path: path.to_owned(), problem: error.to_string() })
}

pub(crate) fn json<T: DeserializeOwned>(path: &Path) -> Result<T, PublishError> {
    serde_json::from_slice(&tune_fs::read_limited(path, TEXT_LIMIT)?)
        .map_err(|error| PublishError::Unreadable { path: path.to_owned(), problem: error.to_string() })
}
