//! One function for each kind of file that `tune` reads of strangers: it calls what the tool itself calls and asserts what
//! holds whatever the bytes are.
//!
//! The targets in `fuzz_targets/` call them with what libFuzzer makes up, `tests/fuzz_corpus.rs` with the inputs that lie
//! in `corpus/`. Beside what an input is as it stands, a function checks it with its digests put right: those a fuzzer cannot
//! guess, and a forger computes them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use tempfile::NamedTempFile;
use tune_data::Tokenizer;
use tune_data::example::ExampleBuilder;
use tune_data::length::{Fate, limit_length};
use tune_data::rows::Lines;
use tune_model::base::{BaseModel, Keep, SafetensorsFile, write_safetensors};
use tune_schema::chain::ChainRecord;
use tune_schema::commitment::{Commitment, row_leaf};
use tune_schema::lock::{Lock, LockedSource};
use tune_schema::manifest::Manifest;
use tune_schema::merkle::Tree;
use tune_schema::recipe::{self, ExcessLengthStrategy, Recipe, yaml};
use tune_schema::reveal::Reveal;
use tune_schema::text::is_obeyed;
use tune_schema::{Digest, to_canonical_json};
use tune_source::secrets::SecretsFile;
use tune_train::chain_file::parse_chain;
use tune_train::{RunFolder, checkpoint};
use tune_verify::files;
use tune_verify::verdict::Outcome;

/// A recipe, and the same text as `resolved.yaml`, the recipe of a claim.
///
/// # Panics
/// If what parses is written otherwise than it was read, or a setting is one that no recipe may have.
pub fn recipe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(loaded) = told(recipe::load("recipe.yaml", text, &[])) {
        let written = loaded.recipe.claimed_yaml();
        let read = recipe::parse_claimed("resolved.yaml", &written).expect("what is written can be read");
        assert_eq!(read, loaded.recipe.claimed(), "what is written is what is claimed");
        let again = recipe::from_claimed_in_place(&read).expect("a loaded recipe is one that a claim can have");
        check_settings(&loaded.recipe);
        assert_eq!(again.claimed_yaml(), written);
    }
    let Some(value) = told(recipe::parse_claimed("resolved.yaml", text)) else { return };
    let canonical = to_canonical_json(&value).expect("YAML has no number that JSON lacks");
    let written = recipe::parse_claimed("resolved.yaml", &yaml::emit(&value)).expect("what is written can be read");
    assert_eq!(to_canonical_json(&written).expect("as above"), canonical);
    if let Some(recipe) = told(recipe::from_claimed_in_place(&value)) {
        check_settings(&recipe);
        assert_eq!(recipe.claimed(), value);
    }
}

/// What was read; an error must have words.
fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().is_empty(), "an error has words")).ok()
}

/// What sizes and divisions are made of.
fn check_settings(recipe: &Recipe) {
    assert!((1..=4096).contains(&recipe.lora_r) && recipe.effective_scale() >= 0.0, "{recipe:?}");
    assert!((1..=1 << 20).contains(&recipe.rows_per_step()) && recipe.sequence_len >= 2, "{recipe:?}");
    assert!(recipe.save_steps >= 1 && recipe.eval_steps != Some(0), "{recipe:?}");
    assert!(!recipe.datasets.is_empty() && recipe.datasets.iter().all(|dataset| dataset.weight > 0.0), "{recipe:?}");
}

/// A lock.
///
/// # Panics
/// If a lock that was read and written again is another one.
pub fn lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(mut lock) = told(Lock::parse("datasets.lock", text)) else { return };
    let written = lock.to_yaml();
    let read = Lock::parse("datasets.lock", &written).expect("what is written can be read");
    assert_eq!(read.to_yaml(), written);
    lock.sources.sort_by(|a, b| a.name.cmp(&b.name));
    lock.sources.iter_mut().for_each(|source| source.files.sort());
    assert_eq!(read, lock, "a lock is sorted, and else what it was");
}

/// That a message is safe to show.
fn check_shown(message: &str) {
    assert!(!message.chars().any(is_obeyed), "a terminal would obey {message:?}");
}

/// A file of revealed rows, alone and against claims.
///
/// # Panics
/// If bytes that are not canonical are taken, rows that were committed to do not check, or an error repeats what a terminal
/// obeys.
pub fn reveal(data: &[u8]) {
    let mut reveal = match Reveal::parse(data) {
        Ok(reveal) => reveal,
        Err(problem) => return check_shown(&problem.to_string()),
    };
    assert_eq!(reveal.to_bytes().expect("it has a canonical form"), data);
    let claims = |reveal: &Reveal, rows: u64| {
        let commitment = Some(Commitment { scheme: reveal.scheme, rows, root: reveal.root });
        [LockedSource { commitment, ..LockedSource::new(&reveal.source, "file:rows") }]
    };
    for rows in [0, reveal.rows.len() as u64, reveal.rows.last().map_or(1, |row| row.row), u64::MAX] {
        if let Err(problem) = reveal.check(&reveal.claim_id, &claims(&reveal, rows)) {
            check_shown(&problem.to_string());
        }
    }
    // The same rows under a root that commits to them, and to nothing else.
    let count = reveal.rows.len() as u64;
    let mut tree = Tree::with_paths(count, 0..count);
    reveal.rows.iter().for_each(|row| tree.push(row_leaf(&row.salt, row.text.as_bytes())));
    let (root, paths) = tree.finish();
    reveal.root = root;
    for (i, row) in (0..).zip(&mut reveal.rows) {
        (row.row, row.path) = (i + 1, paths.of(i).expect("its path was asked for"));
    }
    if count > 0 {
        assert_eq!(reveal.check(&reveal.claim_id, &claims(&reveal, count)), Ok(()));
        let bytes = reveal.to_bytes().expect("it has a canonical form");
        assert_eq!(Reveal::parse(&bytes), Ok(reveal));
    }
}

/// A file of secrets.
///
/// # Panics
/// If secrets that were read and written again are others, or an error repeats a secret.
pub fn secrets(data: &[u8]) {
    let file = in_memory(data);
    let mut secrets = match SecretsFile::read(file.path()) {
        Ok(secrets) => secrets,
        Err(error) => {
            let message = format!("{error}{error:?}");
            let digits = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
            let repeated = data
                .windows(32)
                .filter(|part| digits(part))
                .find(|part| message.as_bytes().windows(part.len()).any(|shown| shown == *part));
            assert_eq!(repeated, None, "the error repeats what may be a secret: {message}");
            return;
        }
    };
    let folder = tempfile::tempdir_in(memory()).expect("a folder");
    let (path, again) = (folder.path().join("a"), folder.path().join("b"));
    if secrets.save(&path).expect("secrets can be written") {
        let mut read = SecretsFile::read(&path).expect("what is written can be read");
        read.save(&again).expect("secrets can be written");
        let text = |path: &Path| tune_fs::read_to_string(path).expect("it was written");
        assert_eq!(text(&path), text(&again));
    }
}

/// A memory file system where there is one: a fuzzer writes many files.
fn memory() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    if tune_fs::is_dir(memory) { memory.to_owned() } else { std::env::temp_dir() }
}

/// A file with these bytes, removed when dropped.
fn in_memory(data: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new_in(memory()).expect("a file");
    file.write_all(data).expect("bytes are written");
    file
}

/// One source of each type.
const DATASETS: &str = "base_model: base\nchat_template: chatml\ndatasets:\n  - {path: a, type: alpaca}\n  \
    - {path: b, type: chat_template}\n  - {path: c, type: prompt_completion}\n  - {path: d, type: completion}\n  \
    - {path: e, type: chat_template, field_prompt: prompt, field_completion: completion, train_on_eos: all}\n";

/// The recipe of [`DATASETS`], and the quickstart's tokenizer with its template.
static PREPARATION: LazyLock<(Recipe, Tokenizer)> = LazyLock::new(|| {
    let recipe = recipe::load("recipe.yaml", DATASETS, &[]).expect("a recipe").recipe;
    let definition = include_bytes!("../../recipes/quickstart/architecture/tokenizer.json");
    let end = Some("<|endoftext|>");
    let template = recipe.chat_template.as_deref();
    let tokenizer = Tokenizer::new(definition, None, end, end, Some(true), template).expect("a tokenizer");
    (recipe, tokenizer)
});

/// What makes examples of the sources of [`DATASETS`]; of each second one prompts are supervised too.
static BUILDERS: LazyLock<Vec<ExampleBuilder<'static>>> = LazyLock::new(|| {
    let (recipe, tokenizer) = &*PREPARATION;
    let builder = |(i, dataset)| ExampleBuilder::new(dataset, tokenizer, i % 2 == 1);
    recipe.datasets.iter().enumerate().map(builder).collect()
});

/// Training data in JSON Lines, as examples of every type.
///
/// # Panics
/// If a line or a token is lost, or an example is longer than allowed.
pub fn rows(data: &[u8]) {
    const LIMIT: usize = 64;
    let vocabulary = PREPARATION.1.vocab_size();
    let (mut number, mut rest) = (0, data);
    for line in Lines::new("rows", data) {
        let line = line.expect("lines of a few kilobytes can be read");
        number += 1;
        assert_eq!(line.place.line, number);
        assert!(rest.starts_with(&line.bytes), "line {number} is what stands there");
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        rest = &rest[end..];
        let text = line.text().is_ok_and(|text| text.is_some());
        let Some(Some(row)) = told(line.row()) else { continue };
        assert!(text, "a row is a line of text");
        for builder in &*BUILDERS {
            let Some(mut example) = told(builder.build(&row)) else { continue };
            builder.question(&row).expect("what can be learned can be asked");
            assert!(example.ids.iter().all(|id| (*id as usize) < vocabulary));
            let length = example.ids.len();
            let fate = limit_length(ExcessLengthStrategy::Truncate, LIMIT, &mut example, &row.place);
            assert_eq!(fate.ok(), Some(if length > LIMIT { Fate::Truncated } else { Fate::Kept }));
            assert_eq!((example.ids.len(), example.supervised.len()), (length.min(LIMIT), length.min(LIMIT)));
            assert!(example.ends.iter().all(|end| example.supervised[*end]), "ends are supervised");
        }
    }
    assert!(rest.is_empty(), "every line is read");
}

/// A manifest in a folder of its own: as it stands, and with its digests put right.
///
/// # Panics
/// If a manifest that is not canonical passes, or one whose digests are right does not.
pub fn manifest(data: &[u8]) {
    let form = |bytes: &[u8]| {
        let folder = tempfile::tempdir_in(memory()).expect("a folder");
        let run = RunFolder::new(folder.path());
        tune_fs::write_atomic(&run.manifest(), bytes).expect("bytes are written");
        let (verdict, evidence) = files::check(&run).expect("there is a manifest");
        assert!(evidence.is_none(), "there are no other files");
        verdict
            .checks
            .iter()
            .filter(|check| check.name.starts_with("manifest.json"))
            .all(|check| matches!(check.outcome, Outcome::Verified(_)))
    };
    let parsed = serde_json::from_slice::<Manifest>(data).ok();
    let canonical = parsed.as_ref().and_then(|manifest| to_canonical_json(manifest).ok());
    assert!(!form(data) || canonical.as_deref() == Some(data), "only canonical manifests pass");
    if let Some(Manifest { claim, environment, .. }) = parsed {
        let forged = Manifest::new(claim, environment).and_then(|manifest| to_canonical_json(&manifest));
        let forged = forged.expect("what was parsed has a canonical form");
        // Beyond 2^53 a number is another one in canonical JSON, and the digests are of that one.
        let exact = serde_json::from_slice::<Manifest>(&forged).is_ok_and(|read| {
            Manifest::new(read.claim.clone(), read.environment.clone()).is_ok_and(|again| again == read)
        });
        assert_eq!(form(&forged), exact, "right digests pass");
    }
}

/// A chain, and the same records linked to each other.
///
/// # Panics
/// If what is read is not what stands there.
pub fn chain(data: &[u8]) {
    let written = |records: &[ChainRecord]| {
        let line = |record: &ChainRecord| [record.to_line().expect("it has a canonical form"), b"\n".to_vec()].concat();
        records.iter().flat_map(line).collect::<Vec<u8>>()
    };
    let records = data.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut records: Vec<ChainRecord> = records.collect();
    let origin = records.first().map_or(Digest::of(b""), |record| record.previous);
    if let Some(parsed) = told(parse_chain("chain.jsonl", data, origin)) {
        assert_eq!(written(&parsed), data);
    }
    // Beyond 2^53 a number is another one in canonical JSON.
    records.retain(|record| {
        record.to_line().is_ok_and(|line| serde_json::from_slice(&line).is_ok_and(|read: ChainRecord| read == *record))
    });
    let mut previous = origin;
    for (step, record) in (0..).zip(&mut records) {
        (record.step, record.previous) = (step, previous);
        previous = record.digest().expect("it has a canonical form");
    }
    assert_eq!(parse_chain("chain.jsonl", &written(&records), origin), Ok(records));
}

/// A safetensors file, each of its tensors, and the same tensors written again.
///
/// # Panics
/// If a tensor that the header names is not in the file, or the values are others after they were written.
pub fn safetensors(data: &[u8]) {
    let stored = in_memory(data);
    let Some(file) = told(SafetensorsFile::open("model.safetensors", stored.path())) else { return };
    file.tensor_root().expect("every tensor lies in the file");
    let mut tensors = BTreeMap::new();
    for name in file.tensor_names() {
        let shape = file.tensor_shape(name).expect("it is named").to_vec();
        let Some(values) = told(file.load_tensor(name, &shape)) else { continue };
        assert_eq!(values.len(), shape.iter().product::<usize>());
        assert!(2 * values.len() <= data.len(), "values come out of bytes");
        tensors.insert(name.to_owned(), (shape, values));
    }
    let all = file.tensor_names().count() == tensors.len();
    assert_eq!(checkpoint::read_tensors(stored.path()).ok(), all.then(|| tensors.clone()));
    let again = in_memory(&write_safetensors(&tensors, &BTreeMap::new()).expect("what was read can be written"));
    assert_eq!(checkpoint::read_tensors(again.path()).expect("what is written can be read"), tensors);
}

/// A model in GGUF: configuration, tokenizer, each of its tensors.
///
/// # Panics
/// If a tensor that the header names is not in the file, or differs by how it is kept in memory.
pub fn gguf(data: &[u8]) {
    let stored = in_memory(data);
    let files = BTreeMap::from([("model.gguf".to_owned(), stored.path().to_owned())]);
    let Some(model) = told(BaseModel::open(&files)) else { return };
    if let Some(tokenizer) = told(tune_train::job::tokenizer(&model)) {
        let _ = tokenizer.template();
        let ids = tokenizer.ids("It's 12 o'clock.\n").unwrap_or_default();
        assert!(ids.iter().all(|id| (*id as usize) < model.config.vocab_size));
    }
    assert_eq!(model.tensor_root().is_ok(), model.has_weights);
    for keep in [Keep::Values, Keep::SixteenBit, Keep::Stored, Keep::Rounded] {
        let bytes = model.bytes_in_memory(keep);
        assert!(!model.has_weights || bytes <= 8 * data.len() as u64, "{bytes} bytes out of {}", data.len());
    }
    for name in model.tensor_names() {
        let shape = model.tensor_shape(name).expect("it is named");
        let Some(values) = told(model.load_tensor(name, shape)) else { continue };
        assert_eq!(values.len(), shape.iter().product::<usize>());
        for keep in [Keep::SixteenBit, Keep::Stored] {
            let kept = model.load_matrix(name, shape, keep).expect("what can be loaded can be kept").into_values();
            assert!(kept.iter().map(|value| value.to_bits()).eq(values.iter().map(|value| value.to_bits())));
        }
    }
}
