//! A tokenizer with its special tokens and chat template.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde_json::Value;
use tokenizers::{ModelWrapper, PostProcessorWrapper};
use tune_schema::{Digest, canonical_digest};

use crate::DataError;
use crate::error::{TemplateProblem, TokenizerProblem};
use crate::template::{ASSISTANT, ChatTemplate, Message};

/// A tokenizer.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<(String, u32)>,
    eos: (String, u32),
    add_bos: bool,
    special: BTreeSet<u32>,
    chat_template: Option<String>,
    digest: Digest,
}

impl fmt::Debug for Tokenizer {
    /// Without the vocabulary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bos, eos, add_bos, digest, .. } = self;
        f.debug_struct("Tokenizer")
            .field("digest", digest)
            .field("bos", bos)
            .field("eos", eos)
            .field("add_bos", add_bos)
            .finish_non_exhaustive()
    }
}

/// Token ids with the bytes each came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Ids.
    pub ids: Vec<u32>,
    /// Start of each token in the text, in bytes; ascending.
    pub starts: Vec<usize>,
    /// End of each token in the text, in bytes.
    pub ends: Vec<usize>,
}

impl Encoded {
    /// The tokens that start within `bytes`.
    #[must_use]
    pub fn within(&self, bytes: &Range<usize>) -> Range<usize> {
        let before = |limit: usize| self.starts.partition_point(|start| *start < limit);
        before(bytes.start)..before(bytes.end)
    }

    /// Whether a token starts before the byte `boundary` and ends after it.
    #[must_use]
    pub fn straddles(&self, boundary: usize) -> bool {
        let next = self.starts.partition_point(|start| *start < boundary);
        next > 0 && self.ends[next - 1] > boundary
    }
}

impl Tokenizer {
    /// A tokenizer from its definition (`tokenizer.json`) and the settings beside it. Explicit values go before those of
    /// `tokenizer_config.json`.
    ///
    /// Where neither says whether a text begins with `bos`, it does if the definition's post-processor puts it there.
    ///
    /// # Errors
    /// A definition that cannot be read or is random, or no token that ends a text.
    pub fn new(
        definition: &[u8],
        config: Option<&[u8]>,
        bos: Option<&str>,
        eos: Option<&str>,
        add_bos: Option<bool>,
        chat_template: Option<&str>,
    ) -> Result<Self, DataError> {
        let file = |file, reason: String| TokenizerProblem::File { file, reason };
        let in_definition = |reason: String| file("tokenizer.json", reason);
        let mut inner =
            tokenizers::Tokenizer::from_bytes(definition).map_err(|error| in_definition(error.to_string()))?;
        if let ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some_and(|share| share > 0.0)
        {
            return Err(TokenizerProblem::Dropout.into());
        }
        // Neither belongs to the text: rows are packed, and length has its own rule.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| in_definition(error.to_string()))?;
        let config: Value = match config {
            Some(bytes) => {
                serde_json::from_slice(bytes).map_err(|error| file("tokenizer_config.json", error.to_string()))?
            }
            None => Value::Null,
        };
        let named = |key: &str| {
            let value = config.get(key)?;
            value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
        };
        let with_id = |token: String| match inner.token_to_id(&token) {
            Some(id) => Ok((token, id)),
            None => Err(TokenizerProblem::NoToken { token }),
        };
        let bos = bos.map(str::to_owned).or_else(|| named("bos_token")).map(with_id).transpose()?;
        let eos = eos.map(str::to_owned).or_else(|| named("eos_token")).ok_or(TokenizerProblem::NoEos)?;
        let eos = with_id(eos)?;
        let stated = add_bos.or_else(|| config.get("add_bos_token").and_then(Value::as_bool));
        let add_bos = match &bos {
            None => false,
            Some((_, id)) => match stated {
                Some(stated) => stated,
                None => {
                    let probe = inner.encode("a", true).map_err(|error| in_definition(error.to_string()))?;
                    probe.get_ids().first() == Some(id)
                }
            },
        };
        // From here on a text's tokens are its own. A byte-level post-processor would moreover trim spaces off the
        // offsets, and so hide tokens that are only spaces from the masks.
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let added = inner.get_added_tokens_decoder();
        let mut special: BTreeSet<u32> = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        special.extend(bos.iter().chain([&eos]).map(|(_, id)| *id));
        let chat_template = chat_template.map(str::to_owned).or_else(|| template_of(&config));
        let definition: Value = serde_json::from_slice(definition).map_err(|error| in_definition(error.to_string()))?;
        // The tokenizers crate gives an added token the next free id, whatever its entry says.
        for entry in definition.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(id), Some(text)) =
                (entry.get("id").and_then(Value::as_u64), entry.get("content").and_then(Value::as_str))
                && let Some(found) = inner.token_to_id(text).filter(|found| u64::from(*found) != id)
            {
                return Err(in_definition(format!("`{text}` would get the id {found}, its entry says {id}")).into());
            }
        }
        let identity = serde_json::json!({"tokenizer": definition, "bos": bos, "eos": eos, "add_bos": add_bos});
        let digest = canonical_digest(&identity).map_err(|error| in_definition(error.to_string()))?;
        Ok(Self { inner, bos, eos, add_bos, special, chat_template, digest })
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

    /// The chat template, ready to render.
    ///
    /// # Errors
    /// No template, or one that is not Jinja.
    pub fn template(&self) -> Result<ChatTemplate, TemplateProblem> {
        let text = self.chat_template().ok_or(TemplateProblem::Missing)?;
        ChatTemplate::new(text, self.bos().map(|(text, _)| text), &self.eos.0)
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

    /// Ids that end an answer, ascending: end of sequence, and the token with which the chat template ends an answer.
    #[must_use]
    pub fn stop_ids(&self) -> Vec<u32> {
        let mut ids = BTreeSet::from([self.eos.1]);
        ids.extend(self.answer_end());
        ids.into_iter().collect()
    }

    /// The token with which the chat template ends an answer, found by rendering one.
    fn answer_end(&self) -> Option<u32> {
        let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        let text = self.template().ok()?.render(&[message("user", "A"), message(ASSISTANT, "B")], false).ok()?;
        let encoded = self.encode(&text).ok()?;
        let end = self.turn_end(&text, &encoded, 0..encoded.ids.len())?;
        Some(encoded.ids[end])
    }

    /// The token that ends a turn: among `tokens`, the last special one, with nothing but white space after it.
    #[must_use]
    pub fn turn_end(&self, text: &str, encoded: &Encoded, tokens: Range<usize>) -> Option<usize> {
        for token in tokens.rev() {
            if self.is_special(encoded.ids[token]) {
                return Some(token);
            }
            let blank = text.get(encoded.starts[token]..encoded.ends[token]).is_some_and(|text| text.trim().is_empty());
            if !blank {
                return None;
            }
        }
        None
    }

    /// Whether an id is a special token.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Number of tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The ids of a text; nothing is added at its ends.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Encoded, DataError> {
        let refused = |error: tokenizers::Error| TokenizerProblem::Text { reason: error.to_string() };
        let encoding = self.inner.encode(text, false).map_err(refused)?;
        let (starts, ends) = encoding.get_offsets().iter().copied().unzip();
        Ok(Encoded { ids: encoding.get_ids().to_vec(), starts, ends })
    }

    /// The same ids alone, which costs less where nobody asks what bytes they came from.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let refused = |error: tokenizers::Error| TokenizerProblem::Text { reason: error.to_string() };
        Ok(self.inner.encode_fast(text, false).map_err(refused)?.get_ids().to_vec())
    }

    /// The text of ids, without special tokens.
    ///
    /// # Errors
    /// Ids that the tokenizer does not know.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let refused = |error: tokenizers::Error| TokenizerProblem::Text { reason: error.to_string() };
        Ok(self.inner.decode(ids, true).map_err(refused)?)
    }

    /// The text of one token, special or not; bytes that are no text of their own show as the replacement character.
    #[must_use]
    pub fn token_text(&self, id: u32) -> String {
        // SentencePiece decoders cut the space off the first token, and here each is the first.
        match self.inner.id_to_token(id) {
            Some(piece) if piece.starts_with('\u{2581}') => piece.replace('\u{2581}', " "),
            _ => self.inner.decode(&[id], false).unwrap_or_default(),
        }
    }

    /// Identity of the tokenizer: its definition in canonical JSON with the tokens at the ends.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Identity of the chat template: its text.
    #[must_use]
    pub fn template_digest(&self) -> Option<Digest> {
        self.chat_template().map(|text| Digest::of(text.as_bytes()))
    }
}

/// `chat_template` of a `tokenizer_config.json`: a text, or a list of named ones of which `default` is meant.
fn template_of(config: &Value) -> Option<String> {
    let value = config.get("chat_template")?;
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let default =
        value.as_array()?.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))?;
    default.get("template")?.as_str().map(str::to_owned)
}
