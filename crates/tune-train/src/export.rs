//! A run's result in the files of other tools, with what the change of form did to its logits.
//!
//! Everything is made beside its place and renamed into it. Each form is read back from its files, and its logits on the run's
//! prompts are compared with those of the run's own model: how far they are apart stands in `export.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tune_kernels::KernelBackend;
use tune_model::base::{BaseModel, Keep, write_safetensors};
use tune_model::export::{AdapterFacts, Merged, Modelfile, PromptForm, adapter_gguf, modelfile, write_merged_gguf};
use tune_model::{HostTensors, Model};
use tune_schema::Digest;
use tune_schema::recipe::{Adapter, DatasetType};
use tune_schema::seed::Seed;

use crate::TrainError;
use crate::checkpoint::read_tensors;
use crate::job::Job;
use crate::layout::{RunFolder, weights_file};
use crate::observer::Observer;
use crate::run::model_files;
use crate::trainer::lora_spec;

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportOptions {
    /// `adapter.gguf` and `base.gguf` with a Modelfile.
    pub gguf: bool,
    /// `merged/`, a model in Hugging Face layout, and with `gguf` also `merged.gguf`.
    pub merged: bool,
}

/// `export.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportRecord {
    /// The claim whose result it is.
    pub claim_id: Digest,
    /// Digest of every file, by path.
    pub files: BTreeMap<String, Digest>,
    /// How far each form's logits are from the run's, by form.
    pub fidelity: BTreeMap<String, Fidelity>,
}

/// The logits of a form beside those of the run's own model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Fidelity {
    /// Prompts looked at.
    pub prompts: usize,
    /// Tokens of these prompts.
    pub tokens: usize,
    /// Largest absolute difference of two logits.
    pub largest_difference: f32,
    /// Tokens after which both find the same next token most likely.
    pub same_next_token: usize,
}

/// Prompts that are looked at, and the longest part of one in tokens.
const PROMPTS: usize = 10;
const PROMPT_TOKENS: usize = 256;

/// Writes the result of a finished run to `to`, which must not be there.
///
/// # Errors
/// A run without adapter, a result that has no such form, or files that cannot be read or written. Nothing is left behind.
pub fn export<B: KernelBackend>(
    job: &Job,
    folder: &RunFolder,
    claim_id: Digest,
    to: &Path,
    options: ExportOptions,
    device: &B::Device,
    observer: &mut dyn Observer,
) -> Result<ExportRecord, TrainError> {
    if job.recipe.adapter != Adapter::Lora {
        return Err(TrainError::NothingToExport);
    }
    if tune_fs::exists(to) {
        return Err(TrainError::Taken { path: to.to_owned() });
    }
    tune_fs::create_dir_whole(to, |staging| fill::<B>(job, folder, claim_id, staging, options, device, observer))
}

fn fill<B: KernelBackend>(
    job: &Job,
    folder: &RunFolder,
    claim_id: Digest,
    place: &Path,
    options: ExportOptions,
    device: &B::Device,
    observer: &mut dyn Observer,
) -> Result<ExportRecord, TrainError> {
    let recipe = &job.recipe;
    let facts = AdapterFacts { rank: recipe.lora_r as usize, alpha: recipe.lora_alpha, rslora: recipe.use_rslora };
    let tensors = read_tensors(&folder.result(recipe.adapter).join(weights_file(recipe)))?;
    let name = format!("{}-lora", recipe.base_model_name);
    tune_fs::create_dir_all(place)?;
    let mut forms: BTreeMap<String, Form> = BTreeMap::new();
    if options.gguf {
        observer.phase("writing the adapter and its base as GGUF");
        let adapter = adapter_gguf(&facts, &tensors, &job.base.config, Some(&name))?;
        tune_fs::write_atomic(&place.join("adapter.gguf"), &adapter)?;
        write_gguf(&Merged::without_adapter(&job.base), &place.join("base.gguf"), &recipe.base_model_name)?;
        let text = modelfile(&Modelfile {
            from: "./base.gguf",
            adapter: Some("./adapter.gguf"),
            prompt: prompt_form(job),
            stop: &[],
            licence: None,
        })?;
        tune_fs::write_atomic(&place.join("Modelfile"), text.as_bytes())?;
        forms.insert("base.gguf with adapter".to_owned(), Form { path: place.join("base.gguf"), adapted: true });
    }
    if options.merged {
        observer.phase("merging");
        let merged = Merged::new(&job.base, &facts, &tensors)?;
        let model = place.join("merged");
        tune_fs::create_dir_all(&model)?;
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        tune_fs::write_atomic(&model.join("model.safetensors"), &write_safetensors(&merged.to_host()?, &metadata)?)?;
        for (file, bytes) in model_files(&job.base) {
            tune_fs::write_atomic(&model.join(file), &bytes)?;
        }
        forms.insert("merged".to_owned(), Form { path: model, adapted: false });
        if options.gguf {
            write_gguf(&merged, &place.join("merged.gguf"), &name)?;
            forms.insert("merged.gguf".to_owned(), Form { path: place.join("merged.gguf"), adapted: false });
        }
    }
    observer.phase("comparing logits");
    let prompts = prompts(job)?;
    let own = logits::<B>(&job.base, Some((job, &tensors)), &prompts, device)?;
    let mut fidelity = BTreeMap::new();
    for (name, form) in forms {
        let base = BaseModel::open(&form.files()?)?;
        let other = logits::<B>(&base, form.adapted.then_some((job, &tensors)), &prompts, device)?;
        fidelity.insert(name, compare(&own, &other, prompts.len()));
    }
    let mut files = BTreeMap::new();
    for path in tune_fs::list_files_recursive(place)? {
        let (digest, _) = tune_fs::digest_file(&place.join(&path))?;
        files.insert(path, digest);
    }
    let record = ExportRecord { claim_id, files, fidelity };
    tune_fs::write_atomic(&place.join("export.json"), &tune_schema::to_canonical_json(&record)?)?;
    Ok(record)
}

/// A form that was written: a file or a folder, which holds the base alone or everything.
struct Form {
    path: PathBuf,
    adapted: bool,
}

impl Form {
    /// Its files as a base model's.
    fn files(&self) -> Result<BTreeMap<String, PathBuf>, TrainError> {
        if tune_fs::is_dir(&self.path) {
            let names = tune_fs::list_files_recursive(&self.path)?;
            return Ok(names.into_iter().map(|name| (name.clone(), self.path.join(name))).collect());
        }
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(BTreeMap::from([(name, self.path.clone())]))
    }
}

fn write_gguf(merged: &Merged<'_>, path: &Path, name: &str) -> Result<(), TrainError> {
    let mut file = tune_fs::AtomicFile::create(path)?;
    write_merged_gguf(merged, Some(name), &mut file)?;
    file.commit()?;
    Ok(())
}

/// How the recipe's prompts were formed, where all its sources agree.
fn prompt_form(job: &Job) -> PromptForm {
    let form = |kind: DatasetType| match kind {
        DatasetType::PromptCompletion | DatasetType::Completion => PromptForm::Plain,
        DatasetType::ChatTemplate => job.tokenizer.chat_template().map_or(PromptForm::Other, PromptForm::of_template),
        DatasetType::Alpaca => PromptForm::Other,
    };
    let mut forms = job.recipe.datasets.iter().map(|dataset| form(dataset.kind));
    let first = forms.next().unwrap_or(PromptForm::Other);
    if forms.all(|other| other == first) { first } else { PromptForm::Other }
}

/// Beginnings of held-out examples; where none are held out, of training rows.
fn prompts(job: &Job) -> Result<Vec<Vec<u32>>, TrainError> {
    let held_out = job.prepared.eval_examples.iter().take(PROMPTS).map(|example| example.prompt_ids.clone());
    let mut prompts: Vec<Vec<u32>> = held_out.filter(|ids| !ids.is_empty()).collect();
    if prompts.is_empty() {
        for index in 0..job.prepared.train.len().min(PROMPTS as u64) {
            prompts.push(job.prepared.train.row(index)?.input_ids);
        }
    }
    prompts.iter_mut().for_each(|ids| ids.truncate(PROMPT_TOKENS));
    Ok(prompts)
}

/// The logits after every token of every prompt.
fn logits<B: KernelBackend>(
    base: &BaseModel,
    adapter: Option<(&Job, &HostTensors)>,
    prompts: &[Vec<u32>],
    device: &B::Device,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let mut model = Model::<B>::load(base, PROMPT_TOKENS, Keep::Values, device)?;
    if let Some((job, tensors)) = adapter
        && let Some(spec) = lora_spec(&job.recipe)
    {
        model.add_lora(&spec, Seed(job.recipe.seed))?;
        model.set_trainable(tensors)?;
    }
    Ok(prompts.iter().flat_map(|ids| model.logits(ids)).collect())
}

fn compare(own: &[Vec<f32>], other: &[Vec<f32>], prompts: usize) -> Fidelity {
    let mut fidelity = Fidelity { prompts, tokens: own.len(), ..Fidelity::default() };
    let next = |logits: &[f32]| (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    for (own, other) in own.iter().zip(other) {
        let differences = own.iter().zip(other).map(|(own, other)| (own - other).abs());
        fidelity.largest_difference = differences.fold(fidelity.largest_difference, f32::max);
        fidelity.same_next_token += usize::from(next(own) == next(other));
    }
    fidelity
}
