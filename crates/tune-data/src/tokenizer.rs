//! A tokenizer with its special tokens and chat template.

use serde_json::Value;
use tune_schema::{Digest, canonical_digest};

use crate::DataError;

/// A tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<(String, u32)>,
    eos: (String, u32),
    add_bos: bool,
    chat_template: Option<String>,
    digest: Digest,
}

/// Token ids with the bytes each came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Ids.
    pub ids: Vec<u32>,
    /// Start of each token in the text, in bytes.
    pub starts: Vec<usize>,
    /// End of each token in the text, in bytes.
    pub ends: Vec<usize>,
}

impl Tokenizer {
    /// A tokenizer from its definition (`tokenizer.json`) and the settings beside it. Explicit values go before those of
    /// `tokenizer_config.json`.
    ///
    /// # Errors
    /// A definition that cannot be read, or no token that ends a text.
    pub fn new(
        definition: &[u8],
        config: Option<&[u8]>,
        bos: Option<&str>,
        eos: Option<&str>,
        add_bos: Option<bool>,
        chat_template: Option<&str>,
    ) -> Result<Self, DataError> {
        let wrong = |problem: String| DataError::Tokenizer { problem };
        let mut inner = tokenizers::Tokenizer::from_bytes(definition).map_err(|error| wrong(format!("`tokenizer.json`: {error}")))?;
        // Neither belongs to the text: rows are packed, and length has its own rule.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| wrong(error.to_string()))?;
        let config: Value = match config {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|error| wrong(format!("`tokenizer_config.json`: {error}")))?,
            None => Value::Null,
        };
        let named = |key: &str| {
            let value = config.get(key)?;
            value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
        };
        let bos = bos.map(str::to_owned).or_else(|| named("bos_token"));
        let eos = eos.map(str::to_owned).or_else(|| named("eos_token"));
        let with_id = |token: String| match inner.token_to_id(&token) {
            Some(id) => Ok((token, id)),
            None => Err(wrong(format!("it has no token `{token}`"))),
        };
        let bos = bos.map(with_id).transpose()?;
        let eos = with_id(eos.ok_or_else(|| wrong("no end-of-sequence token is named (`eos_token` in `tokenizer_config.json`)".to_owned()))?)?;
        let adds_itself = match &bos {
            Some((_, id)) => {
                let encoding = inner.encode("a", true).map_err(|error| wrong(error.to_string()))?;
                encoding.get_ids().first() == Some(id)
            }
            None => false,
        };
        let add_bos = bos.is_some() && add_bos.or_else(|| config.get("add_bos_token").and_then(Value::as_bool)).unwrap_or(adds_itself);
        let chat_template = chat_template.map(str::to_owned).or_else(|| template_of(&config));
        let definition: Value = serde_json::from_slice(definition).map_err(|error| wrong(error.to_string()))?;
        let identity = serde_json::json!({"tokenizer": definition, "bos": bos, "eos": eos, "add_bos": add_bos});
        let digest = canonical_digest(&identity).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { inner, bos, eos, add_bos, chat_template, digest })
    }

    /// Replaces the chat template.
    pub fn set_chat_template(&mut self, template: &str) {
        self.chat_template = Some(template.to_owned());
    }

    /// The chat template's text.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// The token that begins a text, where one does, with its id.
    #[must_use]
    pub fn bos(&self) -> Option<(&str, u32)> {
        self.bos.as_ref().map(|(text, id)| (text.as_str(), *id))
    }

    /// The token that ends a text, with its id.
    #[must_use]
    pub fn eos(&self) -> (&str, u32) {
        (&self.eos.0, self.eos.1)
    }

    /// The id that begins a text outside chat, where one does.
    #[must_use]
    pub fn leading_id(&self) -> Option<u32> {
        self.bos.as_ref().filter(|_| self.add_bos).map(|(_, id)| *id)
    }

    /// Ids that end an answer: end of sequence, and the special tokens that end a turn in common templates.
    #[must_use]
    pub fn stop_ids(&self) -> Vec<u32> {
        let turns = ["<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"];
        let mut ids: Vec<u32> = turns.iter().filter_map(|token| self.inner.token_to_id(token)).filter(|id| self.is_special(*id)).collect();
        ids.push(self.eos.1);
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Whether an id is a special token.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// The ids of a text; nothing is added at its ends.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Encoded, DataError> {
        let encoding = self.inner.encode(text, false).map_err(|error| DataError::Tokenizer { problem: error.to_string() })?;
        let (starts, ends) = encoding.get_offsets().iter().copied().unzip();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), starts, ends })
    }

    /// The text of ids, without special tokens.
    ///
    /// # Errors
    /// Ids that the tokenizer does not know.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        self.inner.decode(ids, true).map_err(|error| DataError::Tokenizer { problem: error.to_string() })
    }

    /// The text of one token, special or not; bytes that are no text of their own show as the replacement character.
    #[must_use]
    pub fn token_text(&self, id: u32) -> String {
        self.inner.decode(&[id], false).unwrap_or_default()
    }

    /// Identity of the tokenizer: its definition in canonical JSON with the tokens at the ends.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// `chat_template` of a `tokenizer_config.json`: a text, or a list of named ones of which `default` is meant.
fn template_of(config: &Value) -> Option<String> {
    let value = config.get("chat_template")?;
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let default = value.as_array()?.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))?;
    default.get("template")?.as_str().map(str::to_owned)
}
