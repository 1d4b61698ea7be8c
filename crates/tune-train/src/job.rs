//! A recipe with its sources opened and its data prepared: everything a computation is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tune_data::{DataError, Prepared, Tokenizer};
use tune_model::base::BaseModel;
use tune_schema::commitment::{Secrets, StreamKey};
use tune_schema::lock::{Lock, LockedSource};
use tune_schema::manifest::{BaseModelFacts, ClaimInputs};
use tune_schema::recipe::{Adapter, DatasetType, Loaded, Recipe, SourceProvenance};
use tune_schema::seed::streams;
use tune_schema::{Digest, canonical_digest};
use tune_source::secrets::SecretsFile;
use tune_source::{LockFile, ResolvedSource, SourceError, SourceKind, SourceRequest, lock_file};

use crate::observer::Observer;
use crate::{DeviceFacts, TrainError};

/// How sources are found, and where the job is computed.
#[derive(Debug, Clone, Default)]
pub struct JobOptions {
    /// How the lock is treated, and whether the network may be used.
    pub source: tune_source::Options,
    /// Places of sources by name, in front of where the recipe says.
    pub locations: BTreeMap<String, PathBuf>,
    /// How many training rows there are at most: a stranger's claim says how many, and his recipe could ask for years of them.
    pub most_rows: Option<u64>,
    /// The device: what it holds, and what `environment.json` says of it.
    pub device: DeviceFacts,
}

/// A computation ready to start.
#[derive(Debug)]
pub struct Job {
    /// The resolved recipe.
    pub recipe: Recipe,
    /// The recipe as the user wrote it.
    pub recipe_text: Vec<u8>,
    /// The base model's files.
    pub base: BaseModel,
    /// The tokenizer with its chat template.
    pub tokenizer: Tokenizer,
    /// Training rows, held-out examples, audit.
    pub prepared: Prepared,
    /// The sources in their claimed form, sorted by name.
    pub sources: Vec<LockedSource>,
    /// Where each source lies.
    pub locations: BTreeMap<String, PathBuf>,
    /// Secrets of the sources that may not be shared.
    pub secrets: Secrets,
    /// The file that has them.
    pub secrets_file: Option<PathBuf>,
    /// What identifies the computation.
    pub inputs: ClaimInputs,
    /// What computes it.
    pub device: DeviceFacts,
}

/// The sources of a recipe on this machine.
struct Opened {
    base: ResolvedSource,
    datasets: Vec<ResolvedSource>,
    secrets_file: Option<PathBuf>,
}

impl Job {
    /// Opens a recipe at `path`: locks and fetches what is missing, reads and checks all data.
    ///
    /// Paths in the recipe are relative to its folder; paths in overrides to the current folder.
    ///
    /// # Errors
    /// Sources that cannot be had or are not what the lock says; data that fails the audit.
    pub fn open(
        path: &Path,
        text: Vec<u8>,
        loaded: Loaded,
        options: &JobOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut lock = LockFile::find(path)?;
        let overridden = |key: &str| loaded.override_keys.contains(key);
        let base_dir = |key: &str| if overridden(key) { Path::new(".") } else { folder };
        let opened = open_sources(&loaded.recipe, &mut lock, options, &base_dir, observer)?;
        let job = Self::assemble(loaded.recipe, text, loaded.overrides, opened, options, observer)?;
        // Only now: bytes that no run could use are not what later ones are held to.
        save(&mut lock, observer)?;
        Ok(job)
    }

    /// Opens the computation of a run again: its claimed recipe with the sources of its own lock.
    ///
    /// # Errors
    /// As [`Job::open`], or no place for a source without an address.
    pub fn reopen(
        mut recipe: Recipe,
        text: Vec<u8>,
        overrides: BTreeMap<String, String>,
        lock: Lock,
        options: &JobOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        // A claimed recipe holds no places: what has an address is found by the lock's, and what has none must be given one.
        for source in &lock.sources {
            if !source.has_address() {
                if options.locations.contains_key(&source.name) {
                    continue;
                }
                return Err(SourceError::NoPlace { name: source.name.clone() }.into());
            }
            if source.name == recipe.base_model_name {
                recipe.base_model.clone_from(&source.uri);
            }
            for dataset in recipe.datasets.iter_mut().filter(|dataset| dataset.name == source.name) {
                dataset.path.clone_from(&source.uri);
            }
        }
        let mut lock = LockFile::detached(lock, options.source.secrets.as_deref())?;
        let opened = open_sources(&recipe, &mut lock, options, &|_| Path::new("."), observer)?;
        Self::assemble(recipe, text, overrides, opened, options, observer)
    }

    fn assemble(
        recipe: Recipe,
        recipe_text: Vec<u8>,
        overrides: BTreeMap<String, String>,
        opened: Opened,
        options: &JobOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let (base, tokenizer) = open_base(&recipe, &opened.base)?;
        observer.phase("preparing data");
        let secrets: Secrets =
            opened.datasets.iter().filter_map(|source| Some((source.name.clone(), source.secret?))).collect();
        let datasets = recipe
            .datasets
            .iter()
            .zip(&opened.datasets)
            .map(|(dataset, source)| (dataset.clone(), source.files.values().cloned().collect::<Vec<_>>()));
        let key = StreamKey::of(&secrets);
        let datasets = datasets.collect();
        let vocabulary = base.config.vocab_size;
        let prepared = tune_data::prepare(&recipe, datasets, &tokenizer, vocabulary, key, options.most_rows)?;
        let mut sources: Vec<LockedSource> = opened.datasets.iter().map(|source| source.locked.claimed()).collect();
        let inputs = inputs(&recipe, overrides, &base, &tokenizer, &opened.base, &sources, observer)?;
        let mut locations: BTreeMap<String, PathBuf> =
            opened.datasets.iter().map(|source| (source.name.clone(), source.root.clone())).collect();
        locations.insert(recipe.base_model_name.clone(), opened.base.root.clone());
        sources.push(opened.base.locked.claimed());
        let sources = by_name(&sources);
        let device = options.device.clone();
        let secrets_file = opened.secrets_file.filter(|_| !secrets.is_empty());
        let mut job = Self {
            recipe,
            recipe_text,
            base,
            tokenizer,
            prepared,
            sources,
            locations,
            secrets,
            secrets_file,
            inputs,
            device,
        };
        crate::memory::fit(&mut job)?;
        Ok(job)
    }

    /// Digest of the inputs: the origin of the chain, and what tells one run folder from another.
    ///
    /// # Errors
    /// None in practice.
    pub fn inputs_digest(&self) -> Result<Digest, TrainError> {
        Ok(canonical_digest(&self.inputs)?)
    }
}

/// The base model with its tokenizer.
fn open_base(recipe: &Recipe, source: &ResolvedSource) -> Result<(BaseModel, Tokenizer), TrainError> {
    let base = BaseModel::open(&source.files)?;
    let mut tokenizer = tokenizer(&base)?;
    if let Some(template) = &recipe.chat_template {
        tokenizer.set_chat_template(template);
    }
    Ok((base, tokenizer))
}

/// The tokenizer that a base model brings.
///
/// # Errors
/// Files that make none.
pub fn tokenizer(base: &BaseModel) -> Result<Tokenizer, DataError> {
    let parts = &base.tokenizer;
    Tokenizer::new(
        &parts.tokenizer_json,
        parts.tokenizer_config.as_deref(),
        parts.bos.as_deref(),
        parts.eos.as_deref(),
        parts.add_bos,
        parts.chat_template.as_deref(),
    )
}

/// Sources by name, each once.
fn by_name(sources: &[LockedSource]) -> Vec<LockedSource> {
    let mut sources = sources.to_vec();
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources.dedup();
    sources
}

/// What identifies the computation; of the data sources only what the lock says.
fn inputs(
    recipe: &Recipe,
    overrides: BTreeMap<String, String>,
    base: &BaseModel,
    tokenizer: &Tokenizer,
    base_source: &ResolvedSource,
    sources: &[LockedSource],
    observer: &mut dyn Observer,
) -> Result<ClaimInputs, TrainError> {
    observer.phase("hashing the base model");
    let tensor_root = (!recipe.reinit_weights).then(|| base.tensor_root()).transpose()?;
    let files = base_source.locked.claimed().files;
    Ok(ClaimInputs {
        recipe: canonical_digest(&recipe.claimed())?,
        overrides,
        base_model: BaseModelFacts { name: recipe.base_model_name.clone(), files, tensor_root },
        tokenizer: tokenizer.digest(),
        chat_template: chat_template_digest(recipe, tokenizer),
        sources: by_name(sources),
        numerics: recipe.numerics,
        seeds: seeds(recipe),
        adapted_modules: match recipe.adapter {
            Adapter::Lora => tune_model::expand_targets(&base.config, &recipe.lora_target_modules)?,
            Adapter::None => Vec::new(),
        },
    })
}

/// What remains of a run's computation where the rows of some sources are not at hand: everything but the rows.
#[derive(Debug)]
pub struct WithoutRows {
    /// The resolved recipe.
    pub recipe: Recipe,
    /// The base model's files.
    pub base: BaseModel,
    /// The tokenizer with its chat template.
    pub tokenizer: Tokenizer,
    /// What identifies the computation; of sources that are not at hand, as the run's lock has them.
    pub inputs: ClaimInputs,
    /// Data sources that were read and are what is locked.
    pub read: BTreeSet<String>,
    /// Those whose rows are not at hand.
    pub withheld: BTreeSet<String>,
}

/// Opens what there is of a run: as [`Job::reopen`], without the sources in `withheld`, of which its lock is believed.
///
/// # Errors
/// Other sources that cannot be had or are not what the lock says.
pub fn reopen_without(
    withheld: BTreeSet<String>,
    recipe: Recipe,
    overrides: BTreeMap<String, String>,
    lock: &Lock,
    options: &JobOptions,
    observer: &mut dyn Observer,
) -> Result<WithoutRows, TrainError> {
    let mut find = |name: &str, kind: SourceKind| {
        let Some(locked) = lock.sources.iter().find(|source| source.name == name) else {
            return Err(SourceError::NotLocked { name: name.to_owned(), lock: lock_file::FILE_NAME.into() });
        };
        if kind == SourceKind::Dataset && withheld.contains(name) {
            return Ok((locked.clone(), None));
        }
        observer.phase(&tune_source::Event::Checking(name.to_owned()).to_string());
        let place = options.locations.get(name).map(PathBuf::as_path);
        let found = tune_source::resolve_locked(locked, kind, place, &options.source)?;
        Ok((found.locked.claimed(), Some(found)))
    };
    let (_, base_source) = find(&recipe.base_model_name, SourceKind::Model)?;
    let base_source = base_source.expect("only data sources are withheld");
    let (mut sources, mut read) = (Vec::new(), BTreeSet::new());
    for dataset in &recipe.datasets {
        let (locked, found) = find(&dataset.name, SourceKind::Dataset)?;
        read.extend(found.map(|found| found.name));
        sources.push(locked);
    }
    let (base, tokenizer) = open_base(&recipe, &base_source)?;
    let inputs = inputs(&recipe, overrides, &base, &tokenizer, &base_source, &sources, observer)?;
    Ok(WithoutRows { recipe, base, tokenizer, inputs, read, withheld })
}

/// What [`lock`] did.
#[derive(Debug)]
pub struct Locked {
    /// The lock's file.
    pub place: PathBuf,
    /// Sources of the recipe.
    pub sources: usize,
}

/// Finds and fetches the sources of a recipe and writes their digests to its lock.
///
/// # Errors
/// Sources that cannot be had.
pub fn lock(
    path: &Path,
    loaded: &Loaded,
    options: &tune_source::Options,
    observer: &mut dyn Observer,
) -> Result<Locked, TrainError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut lock = LockFile::find(path)?;
    let options = JobOptions { source: options.clone(), ..JobOptions::default() };
    let opened = open_sources(&loaded.recipe, &mut lock, &options, &|_| folder, observer)?;
    save(&mut lock, observer)?;
    Ok(Locked { place: lock.path(), sources: opened.datasets.len() + 1 })
}

/// Writes the lock, and says where new secrets are: whoever does not know of that file loses or publishes it.
fn save(lock: &mut LockFile, observer: &mut dyn Observer) -> Result<(), TrainError> {
    if let Some(path) = lock.save()?.secrets {
        observer.phase(&format!(
            "new secrets of unshareable sources in {}: keep that file, never publish it",
            path.display()
        ));
    }
    Ok(())
}

/// Finds every source of a recipe.
fn open_sources<'a>(
    recipe: &Recipe,
    lock: &mut LockFile,
    options: &JobOptions,
    base_dir: &dyn Fn(&str) -> &'a Path,
    observer: &mut dyn Observer,
) -> Result<Opened, TrainError> {
    let mut resolve = |name: &str, location: &str, key: &str, sha256: Option<Digest>, kind: SourceKind| {
        let place = options.locations.get(name).map(|path| path.to_string_lossy().into_owned());
        let about = recipe.provenance.get(name).cloned().unwrap_or_default();
        let SourceProvenance { class, licence, .. } = about;
        let request = SourceRequest {
            name: name.to_owned(),
            base_dir: if place.is_some() { PathBuf::from(".") } else { base_dir(key).to_owned() },
            location: place.unwrap_or_else(|| location.to_owned()),
            sha256,
            licence,
            class,
            kind,
        };
        tune_source::resolve(&request, lock, &options.source, &mut |event| observer.phase(&event.to_string()))
    };
    let base = resolve(&recipe.base_model_name, &recipe.base_model, "base_model", None, SourceKind::Model)?;
    let mut datasets = Vec::new();
    for (i, dataset) in recipe.datasets.iter().enumerate() {
        datasets.push(resolve(
            &dataset.name,
            &dataset.path,
            &format!("datasets.{i}.path"),
            dataset.sha256,
            SourceKind::Dataset,
        )?);
    }
    let secrets_file = match lock.folder() {
        Some(_) => Some(SecretsFile::beside(&lock.path())),
        None => options.source.secrets.clone(),
    };
    Ok(Opened { base, datasets, secrets_file })
}

/// Digest of the template's text, where any example is rendered with it.
fn chat_template_digest(recipe: &Recipe, tokenizer: &Tokenizer) -> Option<Digest> {
    let used = recipe.datasets.iter().any(|dataset| dataset.kind == DatasetType::ChatTemplate);
    used.then(|| tokenizer.chat_template()).flatten().map(|template| Digest::of(template.as_bytes()))
}

/// The named streams of a run: all derive from the one seed.
fn seeds(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut names = vec![streams::SHUFFLE, streams::SPLIT, streams::MIX];
    match recipe.adapter {
        Adapter::Lora => names.push(streams::ADAPTER_INIT),
        Adapter::None => {}
    }
    if recipe.lora_dropout > 0.0 {
        names.push(streams::DROPOUT);
    }
    if recipe.reinit_weights {
        names.push(streams::WEIGHT_INIT);
    }
    names.into_iter().map(|name| (name.to_owned(), recipe.seed.to_string())).collect()
}
