//! A byte-level tokenizer small enough to know by heart, and recipes over files written for the occasion.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tune_data::{DataError, Prepared, Tokenizer, prepare};
use tune_schema::recipe::Recipe;

/// Every turn between `<|im_start|>` and `<|im_end|>`.
pub(crate) const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Two spaces, the first id after the 256 bytes.
pub(crate) const SPACES: u32 = 256;
/// A space and `h`.
pub(crate) const SPACE_H: u32 = 257;
/// `<s>`
pub(crate) const BOS: u32 = 258;
/// `</s>`
pub(crate) const EOS: u32 = 259;
/// `<|im_end|>`, after `<|im_start|>`.
pub(crate) const IM_END: u32 = 261;
/// Entries of the vocabulary.
pub(crate) const VOCABULARY: usize = 262;

/// The character that stands for a byte in byte-level vocabularies.
fn stand_in(byte: u8) -> char {
    let plain = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if plain(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !plain(*b)).count();
    char::from_u32(256 + u32::try_from(before).expect("below 256")).expect("no surrogate")
}

/// `tokenizer.json`: bytes are tokens, two spaces merge, and so does a space with `h`.
pub(crate) fn definition(adds_bos: bool) -> Value {
    let mut vocabulary: serde_json::Map<String, Value> =
        (0..=255_u8).map(|byte| (stand_in(byte).to_string(), json!(byte))).collect();
    vocabulary.insert("ĠĠ".to_owned(), json!(SPACES));
    vocabulary.insert("Ġh".to_owned(), json!(SPACE_H));
    let special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];
    let added = special.iter().zip(BOS..).map(|(content, id)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    });
    let byte_level =
        |trim: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim, "use_regex": true});
    let template = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}}
    });
    json!({
        "version": "1.0",
        // Both must have no say: see `Tokenizer::new`.
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"},
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": byte_level(true),
        "post_processor": if adds_bos { template } else { byte_level(true) },
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [["Ġ", "Ġ"], ["Ġ", "h"]]
        }
    })
}

/// The tokenizer with the ChatML template; texts outside chat begin with `<s>` where `adds_bos`.
pub(crate) fn tokenizer(adds_bos: bool) -> Tokenizer {
    let bytes = serde_json::to_vec(&definition(adds_bos)).expect("JSON");
    Tokenizer::new(&bytes, None, Some("<s>"), Some("</s>"), None, Some(CHATML)).expect("a tokenizer")
}

/// Sources of a test on disk.
pub(crate) struct Data {
    folder: TempDir,
    recipe: String,
    files: Vec<Vec<PathBuf>>,
}

impl Data {
    /// Sources with their settings (`type: …`, further keys of the data set) and lines.
    pub(crate) fn new(sources: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut recipe, mut files) = ("base_model: base\ndatasets:\n".to_owned(), Vec::new());
        for (i, (settings, text)) in sources.iter().enumerate() {
            let file = folder.path().join(format!("{i}.jsonl"));
            tune_fs::write_atomic(&file, text.as_bytes()).expect("a file");
            recipe.push_str(&format!("  - {{path: {i}.jsonl, name: s{i}, {settings}}}\n"));
            files.push(vec![file]);
        }
        Self { folder, recipe, files }
    }

    /// Adds a file to the last source.
    pub(crate) fn file(mut self, text: &str) -> Self {
        let file = self.folder.path().join("more.jsonl");
        tune_fs::write_atomic(&file, text.as_bytes()).expect("a file");
        self.files.last_mut().expect("a source").push(file);
        self
    }

    pub(crate) fn recipe(&self, overrides: &[&str]) -> Recipe {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        tune_schema::recipe::load("recipe.yaml", &self.recipe, &overrides).expect("a recipe").recipe
    }

    pub(crate) fn prepare_with(&self, tokenizer: &Tokenizer, overrides: &[&str]) -> Result<Prepared, DataError> {
        let recipe = self.recipe(overrides);
        let sources = recipe.datasets.iter().cloned().zip(self.files.iter().cloned()).collect();
        prepare(&recipe, sources, tokenizer, VOCABULARY, None, None)
    }

    pub(crate) fn prepare(&self, overrides: &[&str]) -> Prepared {
        self.prepare_with(&tokenizer(false), overrides).expect("data that passes the audit")
    }

    /// What is wrong, and what to do.
    pub(crate) fn refused(&self, overrides: &[&str]) -> (String, String) {
        let error = self.prepare_with(&tokenizer(false), overrides).expect_err("data that is refused");
        (error.to_string(), error.hint().unwrap_or_default())
    }
}

/// `{"prompt": …, "completion": …}` for each pair.
pub(crate) fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    rows.into_iter()
        .map(|(prompt, completion)| format!("{}\n", json!({"prompt": prompt, "completion": completion})))
        .collect()
}

/// `n` different rows of different lengths.
pub(crate) fn many(n: usize) -> String {
    let texts: Vec<(String, String)> = (0..n).map(|i| (format!("{i}?"), "y".repeat(1 + i * 7 % 23))).collect();
    pairs(texts.iter().map(|(a, b)| (a.as_str(), b.as_str())))
}

/// A conversation of alternating user and assistant.
pub(crate) fn conversation(contents: &[&str]) -> String {
    let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
    let messages: Vec<Value> =
        contents.iter().enumerate().map(|(i, content)| json!({"role": role(i), "content": content})).collect();
    format!("{}\n", json!({"messages": messages}))
}
