//! A `tokenizer.json` as `tokenizer.ggml.*` metadata, for byte-level BPE: the reverse of [`crate::base::tokenizer`].
//!
//! llama.cpp knows pre-tokenizers by name, not by description. Its converter recognises one by the tokens of a test
//! text; here the description is compared with that of each name, so that a tokenizer nobody thought of is an error and
//! not a guess. One further splitting is accepted, for which llama.cpp has no name: see [`WORDS`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value as Json;

use super::{ExportError, Value};
use crate::base::gguf::GgufArray;
use crate::base::tokenizer::Pre;
use crate::base::{ModelConfig, TokenizerParts};

/// The split of tune's own small tokenizers: each word, each space and each mark by itself.
///
/// Where no merge makes anything but letters, digits and underscores of ASCII, a merge never reaches beyond a run of
/// those, and any splitting that cuts no such run gives the same tokens. [`Pre::Poro`] cuts none: the class between its
/// brackets excludes none of those characters. (GPT-2's would: it cuts between letters and digits, and `'restaurant'`
/// behind the `'re`.)
const WORDS: &str = r"\w+|\s|[^\w\s]";

/// ggml's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// What decides whether the rest can be read.
#[derive(Deserialize)]
struct Kind {
    model: ModelKind,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Json>,
    pre_tokenizer: Option<Json>,
    model: Bpe,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Bpe {
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// The two parts of a merge; one text with a space between in files of before 2024.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl Merge {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(left, right) => Some((left.as_str(), right.as_str())),
            Self::Text(text) => text.split_once(' '),
        }
        // The space is the separator in GGUF; byte-level tokens have none, theirs is `Ġ`.
        .filter(|(left, right)| ![left, right].iter().any(|part| part.is_empty() || part.contains(' ')))
    }
}

fn problem(problem: impl Into<String>) -> ExportError {
    ExportError::Tokenizer { problem: problem.into() }
}

/// The metadata, in the order in which llama.cpp's converter writes them.
///
/// # Errors
/// A tokenizer that is not byte-level BPE, splits in a way that llama.cpp has no name for, or contradicts itself.
pub(super) fn metadata(
    parts: &TokenizerParts,
    config: &ModelConfig,
) -> Result<Vec<(&'static str, Value)>, ExportError> {
    let json = |error: serde_json::Error| problem(format!("tokenizer.json: {error}"));
    let kind: Kind = serde_json::from_slice(&parts.tokenizer_json).map_err(json)?;
    if let Some(kind) = kind.model.kind.filter(|kind| kind != "BPE") {
        return Err(problem(format!("its model is {kind}, not byte-level BPE")));
    }
    let file: File = serde_json::from_slice(&parts.tokenizer_json).map_err(json)?;
    let affix = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if file.model.byte_fallback || affix(&file.model.continuing_subword_prefix) || affix(&file.model.end_of_word_suffix)
    {
        return Err(problem("its model is BPE over characters, not over bytes"));
    }
    let pre = pre_tokenizer(&file)?;
    let (tokens, types) = tokens(&file, config.vocab_size)?;
    let merges: Option<Vec<String>> =
        file.model.merges.iter().map(|merge| merge.parts().map(|(left, right)| format!("{left} {right}"))).collect();
    let merges = merges.ok_or_else(|| problem("a merge is not two texts without spaces"))?;

    let id = |text: Option<&str>, otherwise: Option<u32>| match text {
        Some(text) => {
            let place = tokens.iter().position(|token| token == text).and_then(|place| u32::try_from(place).ok());
            place.map(Some).ok_or_else(|| problem(format!("its special token `{text}` is not in the vocabulary")))
        }
        None => Ok(otherwise),
    };
    let bos = id(parts.bos.as_deref(), config.bos_token_id)?;
    let eos = id(parts.eos.as_deref(), config.eos_token_ids.first().copied())?;
    let (add_bos, add_eos) = added_around(parts, bos, eos)?;

    let mut result = vec![
        ("tokenizer.ggml.model", Value::from("gpt2")),
        ("tokenizer.ggml.pre", Value::from(pre)),
        ("tokenizer.ggml.tokens", Value::texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(GgufArray::I32(types))),
        ("tokenizer.ggml.merges", Value::texts(merges)),
    ];
    result.extend(bos.map(|id| ("tokenizer.ggml.bos_token_id", Value::U32(id))));
    result.extend(eos.map(|id| ("tokenizer.ggml.eos_token_id", Value::U32(id))));
    // Always said: what llama.cpp does without it depends on the pre-tokenizer.
    result.push(("tokenizer.ggml.add_bos_token", Value::Bool(add_bos)));
    if add_eos {
        result.push(("tokenizer.ggml.add_eos_token", Value::Bool(true)));
    }
    result.extend(parts.chat_template.as_deref().map(|text| ("tokenizer.chat_template", Value::from(text))));
    Ok(result)
}

/// Every id's text and type. Ids between are filled as the converter fills them: a model may have more rows than tokens.
fn tokens(file: &File, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>), ExportError> {
    let mut by_id: BTreeMap<u32, (&str, i32)> = BTreeMap::new();
    for (text, &id) in &file.model.vocab {
        if let Some((other, _)) = by_id.insert(id, (text, NORMAL)) {
            return Err(problem(format!("`{other}` and `{text}` have the same id {id}")));
        }
    }
    for token in &file.added_tokens {
        let AddedToken { id, content, single_word, lstrip, rstrip, special } = token;
        if *single_word || *lstrip || *rstrip {
            return Err(problem(format!("`{content}` takes the white space beside it, which GGUF cannot say")));
        }
        let kind = if *special { CONTROL } else { USER_DEFINED };
        if let Some((other, _)) = by_id.insert(*id, (content, kind)).filter(|(other, _)| other != content) {
            return Err(problem(format!("`{other}` and `{content}` have the same id {id}")));
        }
    }
    if let Some((id, (text, _))) = by_id.last_key_value().filter(|(id, _)| **id as usize >= vocab_size) {
        return Err(problem(format!("`{text}` has id {id}, the model has {vocab_size} tokens")));
    }
    let mut seen = BTreeSet::new();
    let mut result = (Vec::with_capacity(vocab_size), Vec::with_capacity(vocab_size));
    for id in 0..vocab_size {
        let token = u32::try_from(id).ok().and_then(|id| by_id.get(&id));
        let (text, kind) =
            token.map_or_else(|| (format!("[PAD{id}]"), UNUSED), |(text, kind)| ((*text).to_owned(), *kind));
        if text.is_empty() || !seen.insert(text.clone()) {
            return Err(problem(format!("the text `{text}` is empty or has two ids")));
        }
        result.0.push(text);
        result.1.push(kind);
    }
    Ok(result)
}

/// A step of splitting that llama.cpp's names are made of.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    Split(&'a str),
    Digits,
    /// Bytes to characters, after GPT-2's split where it is true.
    Bytes(bool),
}

/// llama.cpp's name for what splits a text before merging.
fn pre_tokenizer(file: &File) -> Result<&'static str, ExportError> {
    let unknown = || problem("llama.cpp has no name for its pre-tokenizer");
    let description = file.pre_tokenizer.as_ref().ok_or_else(unknown)?;
    let found = steps(description).ok_or_else(unknown)?;
    let words = found == [Step::Split(WORDS), Step::Bytes(false)] && merges_words(&file.model.merges);
    let is_it =
        |pre: Pre| if words { pre == Pre::Poro } else { steps(&pre.pre_tokenizer_json()).as_ref() == Some(&found) };
    let (name, pre) = Pre::NAMES.into_iter().find(|(_, pre)| is_it(*pre)).ok_or_else(unknown)?;
    // llama.cpp composes nothing, Qwen's tokenizer does; texts that are composed already are no matter.
    let composes = file.normalizer.as_ref().map(|normalizer| normalizer.get("type").and_then(Json::as_str));
    if composes.is_some_and(|kind| kind != Some("NFC") || pre != Pre::Qwen2) {
        return Err(problem("it changes the text before splitting it"));
    }
    // Which of llama.cpp's tokenizers take a word that is a token before they merge is decided by the name, too.
    if file.model.ignore_merges != (pre == Pre::LlamaBpe) {
        return Err(problem(format!("`ignore_merges` is not what llama.cpp's `{name}` does")));
    }
    Ok(name)
}

/// Whether every merge makes a run of letters, digits and underscores.
fn merges_words(merges: &[Merge]) -> bool {
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    merges.iter().all(|merge| merge.parts().is_some_and(|(left, right)| word(left) && word(right)))
}

/// The steps of a pre-tokenizer, if they are all known ones.
fn steps(description: &Json) -> Option<Vec<Step<'_>>> {
    let flag = |key: &str, otherwise| description.get(key).map_or(Some(otherwise), Json::as_bool);
    match description.get("type")?.as_str()? {
        "Sequence" => {
            let inner: Option<Vec<Vec<Step<'_>>>> =
                description.get("pretokenizers")?.as_array()?.iter().map(steps).collect();
            Some(inner?.into_iter().flatten().collect())
        }
        "ByteLevel" if !flag("add_prefix_space", true)? => Some(vec![Step::Bytes(flag("use_regex", true)?)]),
        "Digits" if flag("individual_digits", false)? => Some(vec![Step::Digits]),
        "Split" if description.get("behavior")?.as_str()? == "Isolated" && !flag("invert", false)? => {
            Some(vec![Step::Split(description.get("pattern")?.get("Regex")?.as_str()?)])
        }
        _ => None,
    }
}

/// Whether encoding a text puts the one token before and the other behind it.
fn added_around(parts: &TokenizerParts, bos: Option<u32>, eos: Option<u32>) -> Result<(bool, bool), ExportError> {
    let tokenizer =
        tokenizers::Tokenizer::from_bytes(&parts.tokenizer_json).map_err(|error| problem(error.to_string()))?;
    let encode = |special| {
        let encoding = tokenizer.encode("a", special).map_err(|error| problem(error.to_string()))?;
        Ok::<_, ExportError>(encoding.get_ids().to_vec())
    };
    let (plain, around) = (encode(false)?, encode(true)?);
    let before = bos.is_some_and(|bos| around.first() == Some(&bos) && plain.first() != Some(&bos));
    let behind = eos.is_some_and(|eos| around.last() == Some(&eos) && plain.last() != Some(&eos));
    if around.len() != plain.len() + usize::from(before) + usize::from(behind) {
        return Err(problem("it adds other tokens to a text than the one that begins and the one that ends it"));
    }
    Ok((parts.add_bos.unwrap_or(before) && bos.is_some(), behind))
}
