//! A `tokenizer.json` from GGUF metadata, for byte-level BPE (`tokenizer.ggml.model` = `gpt2`).
//!
//! GGUF names a pre-tokenizer where `tokenizer.json` spells it out; the table [`Pre`] has the spelling of the models
//! that the names were made for. It matters: with another split the same vocabulary gives other ids. (transformers'
//! own GGUF conversion ignores the name and always splits like GPT-2.)
//!
//! Everything is written from structs and lists, never from a JSON map, so the bytes do not depend on the features
//! that `serde_json` happens to be built with.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

use super::super::error::BaseError;
use super::super::gguf::GgufMetadata;
use super::TokenizerParts;

/// `tokenizer.ggml.token_type` of a control token.
const CONTROL: i32 = 3;
/// `tokenizer.ggml.token_type` of a user-defined token.
const USER_DEFINED: i32 = 4;

/// Builds the tokenizer.
pub(super) fn build(metadata: &GgufMetadata) -> Result<TokenizerParts, BaseError> {
    let model = "tokenizer.ggml.model";
    match metadata.required(model, metadata.text(model)?)? {
        "gpt2" => {}
        other => {
            return Err(BaseError::UnsupportedTokenizer { file: metadata.file().to_owned(), model: other.to_owned() });
        }
    }
    let pre = Pre::from_metadata(metadata)?;
    let tokens = tokens(metadata)?;
    let added = added_tokens(metadata, tokens)?;
    let merges = merges(metadata)?;
    let special = |key: &str| special_token(metadata, key, tokens);
    let bos = special("tokenizer.ggml.bos_token_id")?;
    let eos = special("tokenizer.ggml.eos_token_id")?;
    let stated_bos = metadata.boolean("tokenizer.ggml.add_bos_token")?;
    // llama.cpp's `llm_load_vocab`: a `llama-bpe` vocabulary adds it unless told otherwise, other BPE ones do not.
    let add_bos = stated_bos.or((pre == Pre::LlamaBpe).then_some(true));
    let add_eos = metadata.boolean("tokenizer.ggml.add_eos_token")?;
    let first = bos.filter(|_| add_bos == Some(true));
    let last = eos.filter(|_| add_eos == Some(true));

    let file = TokenizerFile {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens: added,
        normalizer: (pre == Pre::Qwen2).then_some(Normalizer { kind: "NFC" }),
        pre_tokenizer: pre.pre_tokenizer(),
        post_processor: post_processor(first, last),
        decoder: Step::ByteLevel { add_prefix_space: true, trim_offsets: true, use_regex: true },
        model: Bpe {
            kind: "BPE",
            dropout: None,
            // A byte without a token is dropped, as by llama.cpp and by the tokenizers that these files come from.
            unk_token: None,
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: pre == Pre::LlamaBpe,
            vocab: Vocabulary(tokens),
            merges,
        },
    };
    let tokenizer_json = serde_json::to_vec(&file).expect("texts, numbers and lists are always JSON");
    Ok(TokenizerParts {
        tokenizer_json,
        tokenizer_config: None,
        bos: bos.map(|(_, text)| text.to_owned()),
        eos: eos.map(|(_, text)| text.to_owned()),
        add_bos,
        chat_template: metadata.text("tokenizer.chat_template")?.map(str::to_owned),
    })
}

/// The vocabulary by id, each text once: a map cannot hold a text twice, and which id wins would be a guess.
fn tokens(metadata: &GgufMetadata) -> Result<&[String], BaseError> {
    let key = "tokenizer.ggml.tokens";
    let tokens = metadata.required(key, metadata.texts(key)?)?;
    let mut seen = BTreeSet::new();
    for token in tokens {
        if !seen.insert(token.as_str()) {
            return Err(metadata.invalid(key, format_args!("{token:?} twice"), "different texts"));
        }
    }
    Ok(tokens)
}

/// Tokens that are matched in the text before anything else.
fn added_tokens<'a>(metadata: &GgufMetadata, tokens: &'a [String]) -> Result<Vec<AddedToken<'a>>, BaseError> {
    let key = "tokenizer.ggml.token_type";
    let types = metadata.required(key, metadata.integers(key)?)?;
    if types.len() != tokens.len() {
        return Err(metadata.invalid(key, types.len(), &format!("{} types, one for each token", tokens.len())));
    }
    let added = tokens.iter().zip(types).enumerate().filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED));
    Ok(added
        .map(|(id, (content, kind))| AddedToken {
            id,
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: *kind == CONTROL,
        })
        .collect())
}

/// The merges in order, each as its two parts. The separator is the first space that is not the first character.
fn merges(metadata: &GgufMetadata) -> Result<Vec<(&str, &str)>, BaseError> {
    let key = "tokenizer.ggml.merges";
    let merges = metadata.required(key, metadata.texts(key)?)?;
    merges
        .iter()
        .map(|merge| match merge.char_indices().skip(1).find(|&(_, c)| c == ' ') {
            Some((at, _)) if at + 1 < merge.len() => Ok((&merge[..at], &merge[at + 1..])),
            _ => Err(metadata.invalid(key, format_args!("{merge:?}"), "two texts with a space between")),
        })
        .collect()
}

/// The id and text of the token under `key`.
fn special_token<'a>(
    metadata: &GgufMetadata,
    key: &str,
    tokens: &'a [String],
) -> Result<Option<(usize, &'a str)>, BaseError> {
    let Some(id) = metadata.unsigned(key)? else { return Ok(None) };
    let token = usize::try_from(id).ok().and_then(|id| Some((id, tokens.get(id)?.as_str())));
    token.map(Some).ok_or_else(|| metadata.invalid(key, id, &format!("below the number of tokens {}", tokens.len())))
}

/// The known values of `tokenizer.ggml.pre`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pre {
    /// Split like GPT-2.
    Gpt2,
    /// Digits alone, then like GPT-2.
    SmolLm,
    /// Llama 3.
    LlamaBpe,
    /// Qwen 2: as Llama 3 with digits alone, after NFC.
    Qwen2,
    /// Poro and Bloom: words with the space and the marks at them, up to a mark that ends a sentence.
    Poro,
    /// llama.cpp's fallback: punctuation, then like GPT-2, then digits in threes.
    Default,
}

/// The splits in the `tokenizer.json` of Llama 3 and of Qwen 2: they differ in the digits.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// `LLAMA_VOCAB_PRE_TYPE_PORO` in llama.cpp's `llama-vocab.cpp`.
const PORO: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
/// `LLAMA_VOCAB_PRE_TYPE_DEFAULT` in llama.cpp's `llama-vocab.cpp`, applied one after the other.
const LLAMA_CPP_DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

impl Pre {
    fn from_metadata(metadata: &GgufMetadata) -> Result<Self, BaseError> {
        let key = "tokenizer.ggml.pre";
        // llama.cpp takes `default` for an absent key and warns of degraded quality; we do not guess.
        Ok(match metadata.required(key, metadata.text(key)?)? {
            "gpt-2" => Self::Gpt2,
            "smollm" => Self::SmolLm,
            "llama-bpe" | "llama3" | "llama-v3" => Self::LlamaBpe,
            "qwen2" => Self::Qwen2,
            "poro-chat" | "bloom" => Self::Poro,
            "default" => Self::Default,
            other => {
                return Err(BaseError::UnsupportedSetting {
                    file: metadata.file().to_owned(),
                    key: key.to_owned(),
                    found: format!("`{other}`"),
                    supported: "`smollm`, `gpt-2`, `llama-bpe`, `qwen2`, `poro-chat`, `default`",
                });
            }
        })
    }

    fn pre_tokenizer(self) -> Step {
        let bytes = |use_regex| Step::ByteLevel { add_prefix_space: false, trim_offsets: true, use_regex };
        let splits = |patterns: &[&'static str]| {
            let split =
                |&pattern| Step::Split { pattern: Pattern { regex: pattern }, behavior: "Isolated", invert: false };
            Step::Sequence { pretokenizers: patterns.iter().map(split).chain([bytes(false)]).collect() }
        };
        match self {
            Self::Gpt2 => bytes(true),
            Self::SmolLm => {
                Step::Sequence { pretokenizers: vec![Step::Digits { individual_digits: true }, bytes(true)] }
            }
            Self::LlamaBpe => splits(&[LLAMA_3]),
            Self::Qwen2 => splits(&[QWEN_2]),
            Self::Poro => splits(&[PORO]),
            Self::Default => splits(&LLAMA_CPP_DEFAULT),
        }
    }

    /// All of them with the name under which a tokenizer is written.
    pub(crate) const NAMES: [(&str, Self); 6] = [
        ("gpt-2", Self::Gpt2),
        ("smollm", Self::SmolLm),
        ("llama-bpe", Self::LlamaBpe),
        ("qwen2", Self::Qwen2),
        ("poro-chat", Self::Poro),
        ("default", Self::Default),
    ];

    /// `pre_tokenizer` of a `tokenizer.json` that splits like this.
    pub(crate) fn pre_tokenizer_json(self) -> serde_json::Value {
        serde_json::to_value(self.pre_tokenizer()).expect("texts and lists are always JSON")
    }
}

/// Puts `first` before and `last` after a text that is encoded with special tokens.
fn post_processor(first: Option<(usize, &str)>, last: Option<(usize, &str)>) -> Option<PostProcessor> {
    if first.is_none() && last.is_none() {
        return None;
    }
    let sequence = |id, type_id| TemplatePart::Sequence { id, type_id };
    let special = |token: Option<(usize, &str)>, type_id| {
        token.map(|(_, text)| TemplatePart::SpecialToken { id: text.to_owned(), type_id })
    };
    let around =
        |id, type_id| special(first, type_id).into_iter().chain([sequence(id, type_id)]).chain(special(last, type_id));
    let mut tokens: Vec<(usize, String)> = first.iter().chain(&last).map(|&(id, text)| (id, text.to_owned())).collect();
    tokens.sort();
    tokens.dedup();
    Some(PostProcessor {
        kind: "TemplateProcessing",
        single: around("A", 0).collect(),
        pair: around("A", 0).chain(around("B", 1)).collect(),
        special_tokens: SpecialTokens(tokens),
    })
}

#[derive(Serialize)]
struct TokenizerFile<'a> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<AddedToken<'a>>,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Step,
    post_processor: Option<PostProcessor>,
    decoder: Step,
    model: Bpe<'a>,
}

#[derive(Serialize)]
struct AddedToken<'a> {
    id: usize,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize)]
struct Normalizer {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Step {
    ByteLevel { add_prefix_space: bool, trim_offsets: bool, use_regex: bool },
    Digits { individual_digits: bool },
    Split { pattern: Pattern, behavior: &'static str, invert: bool },
    Sequence { pretokenizers: Vec<Step> },
}

#[derive(Serialize)]
struct Pattern {
    #[serde(rename = "Regex")]
    regex: &'static str,
}

#[derive(Serialize)]
struct PostProcessor {
    #[serde(rename = "type")]
    kind: &'static str,
    single: Vec<TemplatePart>,
    pair: Vec<TemplatePart>,
    special_tokens: SpecialTokens,
}

#[derive(Serialize)]
enum TemplatePart {
    SpecialToken { id: String, type_id: u32 },
    Sequence { id: &'static str, type_id: u32 },
}

/// A map from a token's text to its id, in the order of ids.
struct SpecialTokens(Vec<(usize, String)>);

impl Serialize for SpecialTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Entry<'a> {
            id: &'a str,
            ids: [usize; 1],
            tokens: [&'a str; 1],
        }
        serializer.collect_map(self.0.iter().map(|(id, text)| (text, Entry { id: text, ids: [*id], tokens: [text] })))
    }
}

#[derive(Serialize)]
struct Bpe<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: Option<f32>,
    unk_token: Option<()>,
    continuing_subword_prefix: Option<()>,
    end_of_word_suffix: Option<()>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Vocabulary<'a>,
    merges: Vec<(&'a str, &'a str)>,
}

/// A map from text to id, in the order of ids.
struct Vocabulary<'a>(&'a [String]);

impl Serialize for Vocabulary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().enumerate().map(|(id, text)| (text, id)))
    }
}
