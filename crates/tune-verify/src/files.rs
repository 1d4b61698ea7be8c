//! Level `files`: every hash in the folder, and that what they cover fits together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tune_fs::FsError;
use tune_model::base::{TensorEntry, root_of_entries};
use tune_schema::chain::ChainRecord;
use tune_schema::commitment::Commitment;
use tune_schema::lock::{Lock, LockedSource};
use tune_schema::manifest::{MANIFEST_SCHEMA, Manifest, PUBLISHED_RUN};
use tune_schema::recipe::{self, Adapter, DataClass, Recipe};
use tune_schema::text::printable;
use tune_schema::{Digest, canonical_digest, to_canonical_json};
use tune_source::uri::SourceUri;
use tune_train::checkpoint::{self, CheckpointState};
use tune_train::evaluate::{Answer, read_scores};
use tune_train::layout::RunFolder;
use tune_train::run::{Metric, checkpoint_due};
use tune_train::{chain_file, layout, run};

use crate::data::check_name;
use crate::verdict::{Level, Outcome, Verdict};
use crate::{VerifyError, attest, export};

/// What a folder whose files are in order gives the further levels.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The manifest.
    pub manifest: Manifest,
    /// The claimed recipe; places are not claimed and hold the sources' names.
    pub recipe: Recipe,
    /// The recipe as the user wrote it.
    pub recipe_text: Vec<u8>,
    /// The sources.
    pub lock: Lock,
    /// The chain, from step 0.
    pub chain: Vec<ChainRecord>,
    /// Steps whose checkpoints are not in the published folder.
    pub withheld: BTreeSet<u64>,
    /// Names and shapes of the trained tensors, in the result and in every checkpoint that is here.
    pub shapes: BTreeMap<String, Vec<usize>>,
}

/// Largest manifest, recipe or lock that is read: they are small texts, and a verifier reads strangers' files.
pub(crate) const TEXT_LIMIT: u64 = 64 << 20;

/// Checks a folder. Evidence is missing where the files do not allow to go on.
///
/// # Errors
/// No manifest.
pub fn check(folder: &RunFolder) -> Result<(Verdict, Option<Evidence>), VerifyError> {
    // First of all that there is nothing but files and folders: opening a pipe, or what a link leads to, may never end.
    let found = match list(folder) {
        Ok(found) => found,
        Err(error) => {
            let mut verdict = Verdict::new(None);
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            verdict.record(Level::Files, "folder", Outcome::NotChecked(format!("{error}{hint}")));
            return Ok((verdict, None));
        }
    };
    if !found.iter().any(|path| path == "manifest.json") {
        return Err(VerifyError::NoManifest(folder.path().to_owned()));
    }
    let bytes = tune_fs::read_limited(&folder.manifest(), TEXT_LIMIT)?;
    let manifest: Manifest = match serde_json::from_slice(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            let mut verdict = Verdict::new(None);
            verdict.record(Level::Files, "manifest.json", Outcome::Differs(format!("it is not a manifest: {error}")));
            return Ok((verdict, None));
        }
    };
    let mut verdict = Verdict::new(Some(manifest.claim_id));
    check_manifest(&manifest, &bytes, &mut verdict);
    if verdict.differs() {
        return Ok((verdict, None));
    }
    let Listed { complete, withheld } = check_listed(folder, &manifest, &found, &mut verdict);
    export::check_files(folder, manifest.claim_id, &mut verdict);
    let evidence =
        (complete && !verdict.differs()).then(|| check_contents(folder, manifest, withheld, &mut verdict)).flatten();
    Ok((verdict, evidence))
}

/// The files of the folder under the names that a manifest gives them. Of a published folder's top these are what other tools
/// would load as a result; a signature covers the others. What a manifest has no name for begins with `./` there, so that it
/// is not taken for a file of the run that happens to be called the same.
pub(crate) fn list(folder: &RunFolder) -> Result<Vec<String>, FsError> {
    let Some(published) = folder.published() else {
        let mut found = tune_fs::list_files_recursive(folder.path())?;
        // Statements of verifiers come after the run, and are signed each by itself.
        found.retain(|path| path != attest::FILE_NAME);
        return Ok(found);
    };
    let beside = |path: &str| format!("./{path}");
    let name = |path: String| {
        if let Some(inner) = path.strip_prefix(PUBLISHED_RUN).and_then(|rest| rest.strip_prefix('/')) {
            // The result is at the top, once: a second one would be somebody else's.
            let second = layout::RESULT_FILES.iter().any(|(folder, _)| inner.starts_with(&format!("{folder}/")));
            return Some(if second { beside(&path) } else { inner.to_owned() });
        }
        match layout::RESULT_FILES.iter().find(|(_, names)| names.contains(&path.as_str())) {
            Some((folder, _)) => Some(format!("{folder}/{path}")),
            None => is_loadable(&path).then(|| beside(&path)),
        }
    };
    Ok(tune_fs::list_files_recursive(published)?.into_iter().filter_map(name).collect())
}

/// What begins the paths of a clone's own files.
const GIT: &str = "./.git/";

/// Whether a file beside the result could be loaded or run by another tool: whatever is not a document of `tune publish`, a
/// file of its export, a note of the hub and its client, terms, or of a kind that is only looked at.
fn is_loadable(path: &str) -> bool {
    const LOOKED_AT: [&str; 10] = ["bmp", "csv", "gif", "jpeg", "jpg", "md", "pdf", "png", "svg", "webp"];
    const NOTES: [&str; 3] = [".gitattributes", ".gitignore", "CITATION.cff"];
    const TERMS: [&str; 6] = ["authors", "copying", "licence", "license", "notice", "unlicense"];
    const CLIENT: [&str; 4] = [".metadata", ".lock", "/CACHEDIR.TAG", "/.gitignore"];
    let (stem, kind) = path.rsplit_once('.').unwrap_or((path, ""));
    let kind = kind.to_ascii_lowercase();
    // `LICENSE`, `LICENSE-MIT`, `Licence.txt`, `LICENSES/MIT.txt`.
    let terms = TERMS.iter().any(|name| path.to_ascii_lowercase().starts_with(name))
        && (!path.contains('.') || kind == "txt")
        && stem.split('/').count() <= 2;
    let of_client = path.starts_with(".cache/huggingface/") && CLIENT.iter().any(|end| path.ends_with(end));
    let by_tools = [attest::FILE_NAME, tune_publish::signature::FILE_NAME].contains(&path)
        || tune_publish::documents::is_document(path)
        || export::is_export(path);
    !by_tools && !of_client && !terms && !NOTES.contains(&path) && !LOOKED_AT.contains(&kind.as_str())
}

/// The manifest in itself.
fn check_manifest(manifest: &Manifest, bytes: &[u8], verdict: &mut Verdict) {
    verdict.compare(Level::Files, "manifest.json schema", &manifest.schema, &MANIFEST_SCHEMA.to_owned());
    let canonical = to_canonical_json(manifest).is_ok_and(|canonical| canonical == bytes);
    let outcome = if canonical {
        Outcome::Verified("canonical JSON".to_owned())
    } else {
        Outcome::Differs("not in canonical form".to_owned())
    };
    verdict.record(Level::Files, "manifest.json form", outcome);
    if let (Ok(claim_id), Ok(seal)) = (canonical_digest(&manifest.claim), manifest.expected_seal()) {
        verdict.compare(Level::Files, "manifest.json claim id", &manifest.claim_id, &claim_id);
        verdict.compare(Level::Files, "manifest.json seal", &manifest.seal, &seal);
    }
}

/// What [`check_listed`] found.
struct Listed {
    /// Whether all files are here, but those of withheld checkpoints.
    complete: bool,
    /// Steps whose checkpoints are not here at all.
    withheld: BTreeSet<u64>,
}

/// The step of the checkpoint that a file belongs to.
fn checkpoint_of(path: &str) -> Option<u64> {
    layout::checkpoint_step(path.strip_prefix("checkpoints/")?.split('/').next()?)
}

/// Steps of the manifest's checkpoints of which a published folder has no file.
fn withheld_steps(folder: &RunFolder, listed: &BTreeMap<&String, &Digest>, found: &[String]) -> BTreeSet<u64> {
    if folder.published().is_none() {
        return BTreeSet::new();
    }
    let present: BTreeSet<u64> = found.iter().filter_map(|path| checkpoint_of(path)).collect();
    listed.keys().filter_map(|path| checkpoint_of(path)).filter(|step| !present.contains(step)).collect()
}

/// Every file that the manifest lists, and that there are no others.
fn check_listed(folder: &RunFolder, manifest: &Manifest, found: &[String], verdict: &mut Verdict) -> Listed {
    let listed: BTreeMap<&String, &Digest> = manifest.claim.files.iter().chain(&manifest.environment).collect();
    let here: BTreeSet<&String> = found.iter().collect();
    let withheld = withheld_steps(folder, &listed, found);
    let (mut verified, mut missing) = (0, 0);
    for (path, stated) in &listed {
        // What is not in the folder's list is not opened, whatever its path says.
        let outcome = if let Err(problem) = tune_schema::path::check(path) {
            Outcome::Differs(format!("the manifest lists this path, which no run has: {problem}"))
        } else if checkpoint_of(path).is_some_and(|step| withheld.contains(&step)) {
            continue;
        } else if !here.contains(path) {
            missing += 1;
            Outcome::NotChecked("the manifest lists this file, and it is not here".to_owned())
        } else {
            match tune_fs::digest_file(&folder.place(path)) {
                Ok((found, _)) if found == **stated => {
                    verified += 1;
                    continue;
                }
                Ok((found, _)) => Outcome::Differs(format!("the manifest says {stated}, the file has {found}")),
                Err(error) => Outcome::NotChecked(error.to_string()),
            }
        };
        verdict.record(Level::Files, (*path).clone(), outcome);
    }
    let outcome = format!("{verified} of {} files have their digest", listed.len());
    verdict.record(Level::Files, "listed files", Outcome::Verified(outcome));
    if !withheld.is_empty() {
        let detail =
            format!("{} checkpoints are not in this folder: steps between them cannot be sampled", withheld.len());
        verdict.record(Level::Files, "checkpoints", Outcome::Withheld(detail));
    }
    if found.iter().any(|path| path.starts_with(GIT)) {
        let detail = "what a clone keeps there was not looked at, and tools of git may run it".to_owned();
        verdict.record(Level::Files, ".git", Outcome::Withheld(detail));
    }
    let beside = |path: &&String| *path != "manifest.json" && !listed.contains_key(path) && !path.starts_with(GIT);
    for path in found.iter().filter(beside) {
        verdict.record(Level::Files, path.clone(), Outcome::Differs("the manifest does not list this file".to_owned()));
    }
    Listed { complete: missing == 0, withheld }
}

/// That the manifest lists the files a run of this recipe has, and no others: under one claim id nothing can be added.
fn check_names(manifest: &Manifest, recipe: &Recipe, steps: u64) -> Result<(), String> {
    let saved = (0..=steps).filter(|step| *step == 0 || checkpoint_due(recipe, *step, steps));
    let side: &[&str] = match recipe.adapter {
        Adapter::Lora => &["adapter_config.json"],
        Adapter::None if manifest.claim.files.contains_key("model/tokenizer_config.json") => {
            &["config.json", "tokenizer.json", "tokenizer_config.json"]
        }
        Adapter::None => &["config.json", "tokenizer.json"],
    };
    let claimed = layout::claimed_paths(recipe, saved, side.iter().copied());
    let environment = layout::ENVIRONMENT.map(str::to_owned).into_iter().collect();
    for (stated, expected) in [(&manifest.claim.files, claimed), (&manifest.environment, environment)] {
        let stated: BTreeSet<String> = stated.keys().cloned().collect();
        if let Some(path) = stated.symmetric_difference(&expected).next() {
            let listed = if stated.contains(path) { "lists" } else { "does not list" };
            return Err(format!("{path}: the manifest {listed} it, which is not so in a run of this recipe"));
        }
    }
    Ok(())
}

/// What the files say, against each other and against the claim.
fn check_contents(
    folder: &RunFolder,
    manifest: Manifest,
    withheld: BTreeSet<u64>,
    verdict: &mut Verdict,
) -> Option<Evidence> {
    let claim = &manifest.claim;
    let mut need = |name: &str, result: Result<(), String>| {
        let outcome = match result {
            Ok(()) => return true,
            Err(problem) => Outcome::Differs(problem),
        };
        verdict.record(Level::Files, name, outcome);
        false
    };
    let text = |path: &Path| tune_fs::read_limited(path, TEXT_LIMIT).map_err(|error| error.to_string());
    let origin = canonical_digest(&claim.inputs).ok()?;
    let inputs = text(&folder.inputs()).and_then(|bytes| equal("the claim's inputs", Digest::of(&bytes), origin));
    if !need("inputs.json", inputs) {
        return None;
    }
    let recipe = text(&folder.resolved()).and_then(|bytes| read_recipe(&bytes, claim.inputs.recipe));
    let lock = text(&folder.lock()).and_then(|bytes| read_lock(&bytes, claim));
    let chain = text(&folder.chain())
        .and_then(|bytes| chain_file::parse_chain("chain.jsonl", &bytes, origin).map_err(|e| e.to_string()));
    let problem = |result: Option<&String>| result.map_or(Ok(()), |problem| Err(problem.clone()));
    let sound = [
        need("resolved.yaml", problem(recipe.as_ref().err())),
        need("datasets.lock", problem(lock.as_ref().err())),
        need("chain.jsonl", problem(chain.as_ref().err())),
    ];
    if sound.contains(&false) {
        return None;
    }
    let (recipe, lock, chain) = (recipe.ok()?, lock.ok()?, chain.ok()?);
    if !need("datasets.lock", check_terms(&lock, &recipe)) {
        return None;
    }
    let steps = chain.len().saturating_sub(1) as u64;
    let recipe_text = text(&folder.recipe()).ok()?;
    let evaluation = check_evaluation(folder, &manifest);
    let shapes = check_checkpoints(folder, &manifest, &chain, &recipe, &withheld);
    let sound = [
        need("recipe.yaml", check_recipe(&recipe_text, &recipe, &manifest)),
        need("names of files", check_names(&manifest, &recipe, steps)),
        need("chain", check_chain(&manifest, &chain, &recipe)),
        need("checkpoints", problem(shapes.as_ref().err())),
        need("evaluation", problem(evaluation.as_ref().err())),
        need("metrics.jsonl", check_metrics(folder, &chain)),
    ];
    if sound.contains(&false) {
        return None;
    }
    verdict.record(Level::Files, "chain", Outcome::Verified(format!("{steps} steps, each linked to the one before")));
    verdict.record(
        Level::Files,
        "checkpoints",
        Outcome::Verified(format!("{} state roots", manifest.claim.checkpoints.len() - withheld.len())),
    );
    check_commitments(&manifest, evaluation.ok()?, verdict);
    Some(Evidence { recipe, recipe_text, lock, chain, withheld, shapes: shapes.ok()?, manifest })
}

fn equal<T: PartialEq + std::fmt::Display>(what: &str, found: T, stated: T) -> Result<(), String> {
    if found == stated { Ok(()) } else { Err(format!("{what}: the claim says {stated}, found {found}")) }
}

/// What a text is that says the same in another form: a remark could say anything.
const AS_WRITTEN: &str = "it is not in the form that a run writes it in";

fn read_recipe(bytes: &[u8], stated: Digest) -> Result<Recipe, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let claimed = recipe::parse_claimed("resolved.yaml", text).map_err(|error| error.to_string())?;
    equal("the resolved recipe", canonical_digest(&claimed).map_err(|error| error.to_string())?, stated)?;
    let recipe = recipe::from_claimed_in_place(&claimed).map_err(|error| error.to_string())?;
    if recipe.claimed_yaml() == text { Ok(recipe) } else { Err(AS_WRITTEN.to_owned()) }
}

/// That the recipe as written, with the overrides that the claim states, is the resolved recipe.
fn check_recipe(text: &[u8], resolved: &Recipe, manifest: &Manifest) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let written = recipe::load("recipe.yaml", text, &[]).map_err(|error| error.to_string())?;
    let changed = recipe::overrides(&written.recipe.claimed(), &resolved.claimed()).map_err(|e| e.to_string())?;
    let stated = &manifest.claim.inputs.overrides;
    let mut keys = changed.keys().chain(stated.keys());
    match keys.find(|key| changed.get(*key) != stated.get(*key)) {
        None => Ok(()),
        Some(key) => Err(format!("`{key}`: the recipe with the claim's overrides is not the resolved recipe")),
    }
}

fn read_lock(bytes: &[u8], claim: &tune_schema::manifest::Claim) -> Result<Lock, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let lock = Lock::parse("datasets.lock", text).map_err(|error| error.to_string())?;
    if lock.to_yaml() != text {
        return Err(AS_WRITTEN.to_owned());
    }
    for source in &claim.inputs.sources {
        if !lock.sources.contains(source) {
            return Err(format!("the source `{}` is not what the claim says", source.name));
        }
    }
    let base_name = &claim.inputs.base_model.name;
    let used = |name: &String| name == base_name || claim.inputs.sources.iter().any(|source| source.name == *name);
    if let Some(source) = lock.sources.iter().find(|source| !used(&source.name)) {
        return Err(format!("the run has no source `{}`", printable(&source.name)));
    }
    if let Some(source) = lock.sources.iter().find(|source| !is_claimed(source)) {
        let (name, uri) = (printable(&source.name), printable(&source.uri));
        return Err(format!("the address of the source `{name}`, `{uri}`, is none that a run's lock has"));
    }
    let base = lock.sources.iter().find(|source| source.name == *base_name);
    if base.is_none_or(|base| base.files != claim.inputs.base_model.files) {
        return Err("the base model's files are not what the claim says".to_owned());
    }
    Ok(lock)
}

/// That class and licence of each source are what the recipe says.
fn check_terms(lock: &Lock, recipe: &Recipe) -> Result<(), String> {
    let differs = |source: &&LockedSource| {
        let stated = recipe.provenance.get(&source.name).cloned().unwrap_or_default();
        (source.class, &source.licence) != (stated.class, &stated.licence)
    };
    match lock.sources.iter().find(differs) {
        None => Ok(()),
        Some(source) => Err(format!("class or licence of `{}` is not what the recipe says", printable(&source.name))),
    }
}

/// Whether a source stands in a lock as in a claim: with an address that others can go to, or by its name alone.
fn is_claimed(source: &LockedSource) -> bool {
    let uri = SourceUri::parse(&source.uri);
    match uri {
        Ok(SourceUri::Local(_)) => source.uri.starts_with("file:") && source.claimed() == *source,
        // An address has one file.
        Ok(_) => source.files.len() == 1,
        Err(_) => false,
    }
}

/// The chain against the claim.
fn check_chain(manifest: &Manifest, chain: &[ChainRecord], recipe: &Recipe) -> Result<(), String> {
    let claim = &manifest.claim;
    let last = chain.last().ok_or("the chain is empty")?;
    equal("the chain's head", last.digest().map_err(|error| error.to_string())?, claim.chain_head)?;
    equal("steps", last.step, claim.training.steps)?;
    equal("the stream's digest", last.stream, claim.stream.digest)?;
    equal("rows", last.rows, claim.stream.rows)?;
    // A stranger's counts may be anything.
    let sum = |count: fn(&ChainRecord) -> u64| chain.iter().map(count).fold(0, u64::saturating_add);
    equal("tokens", sum(|record| record.tokens), claim.stream.tokens)?;
    equal("supervised tokens", sum(|record| record.supervised_tokens), claim.stream.supervised_tokens)?;
    let facts = tune_train::run::training_facts_of(recipe, last.step);
    if facts != claim.training {
        return Err("the claim's training settings are not those of the resolved recipe".to_owned());
    }
    let full = |step: u64| step.saturating_mul(recipe.rows_per_step());
    if let Some(record) = chain.iter().find(|record| record.rows != full(record.step).min(last.rows)) {
        return Err(format!("step {}: it has not as many rows as a step of this recipe has", record.step));
    }
    if claim.stream.tokens > last.rows.saturating_mul(recipe.sequence_len.into()) {
        return Err("there are more tokens than the rows have room for".to_owned());
    }
    // Without a root at each of these steps there would be nothing to compute again.
    for record in chain {
        let due = record.step == 0 || checkpoint_due(recipe, record.step, last.step);
        if due != record.state_root.is_some() {
            let found = if due { "no state root, and a checkpoint was due" } else { "a state root, and none was due" };
            return Err(format!("step {}: there is {found}", record.step));
        }
        let due = record.step > 0 && recipe.eval_steps.is_some_and(|every| record.step.is_multiple_of(every));
        if due && claim.stream.eval_examples > 0 && record.eval_loss.is_none() {
            return Err(format!("step {}: there is no held-out loss, and one was due", record.step));
        }
    }
    let roots = chain.iter().filter_map(|record| record.state_root.map(|root| (record.step.to_string(), root)));
    if roots.collect::<BTreeMap<_, _>>() != claim.checkpoints {
        return Err("the claim's checkpoints are not those of the chain".to_owned());
    }
    Ok(())
}

/// Every checkpoint against the chain, the first and last also against the claim's roots. Names and shapes of the trained
/// tensors.
fn check_checkpoints(
    folder: &RunFolder,
    manifest: &Manifest,
    chain: &[ChainRecord],
    recipe: &Recipe,
    withheld: &BTreeSet<u64>,
) -> Result<BTreeMap<String, Vec<usize>>, String> {
    let weights = layout::weights_file(recipe);
    let last = chain.last().map_or(0, |record| record.step);
    let result = folder.result(recipe.adapter).join(weights);
    let tensors = checkpoint::tensor_entries(&result).map_err(|error| error.to_string())?;
    let root = |entries: &[TensorEntry]| root_of_entries(entries.iter().cloned());
    equal(&format!("{}: the root of its tensors", result.display()), root(&tensors), manifest.claim.final_root)?;
    let shapes = checkpoint::shapes_of(&tensors);
    let saved = chain.iter().filter(|record| record.state_root.is_some());
    if saved.clone().next_back().is_none_or(|record| record.step != last) {
        return Err("there is no checkpoint of the last step".to_owned());
    }
    for record in saved.filter(|record| !withheld.contains(&record.step)) {
        let path = folder.checkpoint(record.step);
        let (parameters, facts) = checkpoint::check_checkpoint(&path, weights).map_err(|error| error.to_string())?;
        let expected = CheckpointState {
            step: record.step,
            rows: record.rows,
            stream: record.stream,
            state_root: record.state_root.unwrap_or(facts.state_root),
            previous: record.previous,
        };
        if facts != expected {
            return Err(format!("step {}: the checkpoint is not the one in the chain", record.step));
        }
        if checkpoint::shapes_of(&parameters) != shapes {
            return Err(format!(
                "step {}: the checkpoint's tensors have other names or shapes than the result's",
                record.step
            ));
        }
        if record.step == 0 {
            equal("the initial root", root(&parameters), manifest.claim.initial_root)?;
        }
        if record.step == last {
            equal("the final root", root(&parameters), manifest.claim.final_root)?;
            if tensors != parameters {
                return Err(format!("{}: the weights are not those of the last checkpoint", result.display()));
            }
        }
    }
    Ok(shapes)
}

/// The metrics, which people plot, against the chain.
fn check_metrics(folder: &RunFolder, chain: &[ChainRecord]) -> Result<(), String> {
    let bytes = tune_fs::read_limited(&folder.metrics(), TEXT_LIMIT).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    let steps = chain.iter().filter(|record| record.step > 0);
    if text.lines().count() != steps.clone().count() {
        return Err("there is not one line a step".to_owned());
    }
    for (line, record) in text.lines().zip(steps) {
        let metric: Metric = serde_json::from_str(line).map_err(|error| format!("step {}: {error}", record.step))?;
        #[expect(clippy::cast_possible_truncation, reason = "the chain has the rate's bits in f32")]
        let rate = metric.learning_rate as f32;
        let found = [Some(metric.loss), Some(metric.grad_norm), Some(rate), metric.eval_loss];
        let stated = [record.loss, record.grad_norm, record.learning_rate, record.eval_loss];
        let counts = (metric.step, metric.tokens, metric.supervised_tokens);
        let same = found.map(|value| value.map(f32::to_bits)) == stated.map(|bits| bits.map(|bits| bits.0));
        if !same || counts != (record.step, record.tokens, record.supervised_tokens) {
            return Err(format!("step {}: the line is not what the chain says", record.step));
        }
    }
    Ok(())
}

/// What the claim has commitments to in place of digests and texts, which leaves out something at every level.
fn check_commitments(manifest: &Manifest, answers: usize, verdict: &mut Verdict) {
    for source in &manifest.claim.inputs.sources {
        if let Some(Commitment { rows, root, .. }) = &source.commitment {
            let outcome = if source.class == Some(DataClass::Unshareable) {
                Outcome::Withheld(format!(
                    "{}: the claim commits to its {rows} rows by the root {root} and has no digest of its file",
                    DataClass::Unshareable.name()
                ))
            } else {
                Outcome::Differs("the claim withholds its rows and does not call it unshareable".to_owned())
            };
            verdict.record(Level::Files, check_name(&source.name), outcome);
        }
    }
    if answers > 0 {
        let detail = format!("texts of {answers} answers: how they are scored cannot be seen without them");
        verdict.record(Level::Files, "evaluation", Outcome::Withheld(detail));
    }
}

/// Scores in the claim against the answers in the folder; how many answers have no texts there.
fn check_evaluation(folder: &RunFolder, manifest: &Manifest) -> Result<usize, String> {
    let [before, after] =
        ["before", "after"].map(|when| read_scores(&folder.evaluation(when)).map_err(|error| error.to_string()));
    let (before, after) = (before?, after?);
    for (when, scores) in [("before", &before), ("after", &after)] {
        let canonical = to_canonical_json(scores).ok().map(|bytes| Digest::of(&bytes));
        if canonical.as_ref() != manifest.claim.files.get(&format!("evaluation-{when}.json")) {
            return Err(format!("evaluation-{when}.json: {AS_WRITTEN}"));
        }
    }
    let sources = &manifest.claim.inputs.sources;
    let committed = |name: &str| sources.iter().any(|source| source.name == name && source.commitment.is_some());
    let mut withheld = 0;
    for (when, scores) in [("before", &before), ("after", &after)] {
        for (number, answer) in (1..).zip(&scores.answers) {
            match answer {
                Answer::Open(answer) if answer.correct != answer.should_be_correct() => {
                    return Err(format!("evaluation-{when}.json: answer {number} is not scored as it is"));
                }
                Answer::Withheld(answer) if !committed(&answer.source) => {
                    let source = printable(&answer.source);
                    return Err(format!(
                        "evaluation-{when}.json: answer {number} has no texts, and the claim has no commitment to `{source}`"
                    ));
                }
                Answer::Open(_) => {}
                Answer::Withheld(_) => withheld += 1,
            }
        }
    }
    let facts = run::evaluation_facts(&before, &after).map_err(|error| error.to_string())?;
    if facts == manifest.claim.evaluation {
        Ok(withheld)
    } else {
        Err("the claim's scores are not those of the answers".to_owned())
    }
}
