//! A run's result in the files of other tools, with what the change of form did to its logits.
//!
//! Everything is made beside its place and renamed into it. Each form is read back from its files, and its logits on the run's
//! prompts are compared with those of the run's own model: how far they are apart stands in `export.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tune_data::Tokenizer;
use tune_kernels::KernelBackend;
use tune_model::base::{BaseModel, Keep, write_safetensors};
use tune_model::export::{AdapterFacts, Merged, Modelfile, PromptForm, adapter_gguf, modelfile, write_merged_gguf};
use tune_model::{HostTensors, Model};
use tune_schema::Digest;
use tune_schema::export::{ADAPTED_BASE, ADAPTER_FILE, BASE_FILE, ExportRecord, Fidelity, MODELFILE, RECORD_FILE};
use tune_schema::recipe::{Adapter, DatasetType, Recipe};
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

/// Prompts that are looked at, and the longest part of one in tokens.
const PROMPTS: usize = 10;
const PROMPT_TOKENS: usize = 256;

/// Writes the result of a finished run to `to`, which must not be there.
///
/// # Errors
/// A run without adapter, a result that has no such form, a place in the run, or files that cannot be read or written.
/// Nothing is left behind.
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
    if tune_fs::is_inside(to, folder.top()) {
        return Err(TrainError::Inside { path: to.to_owned() });
    }
    tune_fs::create_dir_whole(to, |staging| fill::<B>(job, folder, claim_id, staging, options, device, observer))
}

/// The adapter as GGUF and its Modelfile, by name: what [`export()`] writes of a run with `gguf`, but for the base and the
/// record. Needs the base's configuration only, not its weights, and no rows.
///
/// # Errors
/// A run without adapter, a result that has no such form, or files that cannot be read.
pub fn adapter_files(
    recipe: &Recipe,
    base: &BaseModel,
    tokenizer: &Tokenizer,
    folder: &RunFolder,
) -> Result<BTreeMap<&'static str, Vec<u8>>, TrainError> {
    if recipe.adapter != Adapter::Lora {
        return Err(TrainError::NothingToExport);
    }
    adapter_files_of(recipe, base, tokenizer, &result(recipe, folder)?)
}

fn adapter_files_of(
    recipe: &Recipe,
    base: &BaseModel,
    tokenizer: &Tokenizer,
    tensors: &HostTensors,
) -> Result<BTreeMap<&'static str, Vec<u8>>, TrainError> {
    let adapter = adapter_gguf(&adapter_facts(recipe), tensors, &base.config, Some(&result_name(recipe)))?;
    let text = modelfile(&Modelfile {
        from: &format!("./{BASE_FILE}"),
        adapter: Some(&format!("./{ADAPTER_FILE}")),
        prompt: prompt_form(recipe, tokenizer),
        stop: &[],
        licence: None,
    })?;
    Ok(BTreeMap::from([(ADAPTER_FILE, adapter), (MODELFILE, text.into_bytes())]))
}

/// The trained tensors.
fn result(recipe: &Recipe, folder: &RunFolder) -> Result<HostTensors, TrainError> {
    read_tensors(&folder.result(recipe.adapter).join(weights_file(recipe)))
}

fn adapter_facts(recipe: &Recipe) -> AdapterFacts {
    AdapterFacts { rank: recipe.lora_r as usize, alpha: recipe.lora_alpha, rslora: recipe.use_rslora }
}

/// What the result is called within the files.
fn result_name(recipe: &Recipe) -> String {
    format!("{}-lora", recipe.base_model_name)
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
    let tensors = result(recipe, folder)?;
    let facts = adapter_facts(recipe);
    tune_fs::create_dir_all(place)?;
    let mut forms: BTreeMap<String, Form> = BTreeMap::new();
    if options.gguf {
        observer.phase("writing the adapter and its base as GGUF");
        for (name, bytes) in adapter_files_of(recipe, &job.base, &job.tokenizer, &tensors)? {
            tune_fs::write_atomic(&place.join(name), &bytes)?;
        }
        write_gguf(&Merged::without_adapter(&job.base), &place.join(BASE_FILE), &recipe.base_model_name)?;
        forms.insert(ADAPTED_BASE.to_owned(), Form { path: place.join(BASE_FILE), adapted: true });
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
            write_gguf(&merged, &place.join("merged.gguf"), &result_name(recipe))?;
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
    tune_fs::write_atomic(&place.join(RECORD_FILE), &tune_schema::to_canonical_json(&record)?)?;
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
fn prompt_form(recipe: &Recipe, tokenizer: &Tokenizer) -> PromptForm {
    let form = |kind: DatasetType| match kind {
        DatasetType::PromptCompletion | DatasetType::Completion => PromptForm::Plain,
        DatasetType::ChatTemplate => tokenizer.chat_template().map_or(PromptForm::Other, PromptForm::of_template),
        DatasetType::Alpaca => PromptForm::Other,
    };
    let mut forms = recipe.datasets.iter().map(|dataset| form(dataset.kind));
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
