//! The audit of the examples before the first step. What would train a worse model in silence is an error; what may be
//! meant is counted and shown.

use std::collections::BTreeMap;

use crate::Tokenizer;
use crate::error::{DataError, Place};
use crate::example::Example;
use crate::length::Fate;

/// What the audit counted. Each example counts once, however often the stream takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Examples of each source, by name; without those left out.
    pub examples: BTreeMap<String, u64>,
    /// Tokens of all examples.
    pub tokens: u64,
    /// Supervised tokens of all examples.
    pub supervised: u64,
    /// Examples left out for their length.
    pub dropped: u64,
    /// Examples cut off.
    pub truncated: u64,
    /// How often each special token is supervised.
    pub special: BTreeMap<String, u64>,
    /// What a person should know.
    pub warnings: Vec<Warning>,
}

/// Something that may be meant, or not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Held-out examples whose very tokens are also trained on: their score says little.
    #[error("{count} held-out examples are also trained on, the first: {held_out}, the same as {trained}")]
    Overlap {
        /// How many.
        count: u64,
        /// The first of them.
        held_out: Place,
        /// What is equal to it.
        trained: Place,
    },
    /// The tokenizer joins the end of the prompt with the beginning of the answer.
    #[error(
        "in {count} examples a token reaches from the prompt into the answer: it is not supervised, and generation begins from other tokens; the first: {first}"
    )]
    Straddles {
        /// How many.
        count: u64,
        /// The first of them.
        first: Place,
    },
}

impl AuditReport {
    /// The report for people.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    pub fn lines(&self) -> Vec<String> {
        let sources = self.examples.iter().map(|(name, count)| format!("source {name}: {count} examples"));
        let share = 100.0 * self.supervised as f64 / self.tokens.max(1) as f64;
        let mut lines: Vec<String> = sources.collect();
        lines.push(format!("tokens: {}, supervised: {} ({share:.1} %)", self.tokens, self.supervised));
        lines.push(format!("too long: {} dropped, {} truncated", self.dropped, self.truncated));
        lines.extend(self.special.iter().map(|(token, n)| format!("special token {token}: supervised {n} times")));
        lines.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        lines
    }
}

/// An audit under way.
#[derive(Debug)]
pub struct Audit<'a> {
    tokenizer: &'a Tokenizer,
    vocabulary: usize,
    report: AuditReport,
    /// How often each special token is supervised, by its id: its text is found once, not for every example.
    special: BTreeMap<u32, u64>,
    /// Of each source: whether the end of a turn is supervised in any of its examples.
    ends: BTreeMap<String, bool>,
    straddles: Option<(u64, Place)>,
}

impl<'a> Audit<'a> {
    /// An audit for a model that knows `vocabulary` tokens.
    #[must_use]
    pub fn new(tokenizer: &'a Tokenizer, vocabulary: usize) -> Self {
        let (report, special, ends) = Default::default();
        Self { tokenizer, vocabulary, report, special, ends, straddles: None }
    }

    /// Checks and counts an example of `source`, after the rule on length.
    ///
    /// # Errors
    /// An example that must not be trained on: see [`DataError`].
    pub fn example(&mut self, source: &str, place: &Place, example: &Example, fate: Fate) -> Result<(), DataError> {
        if fate == Fate::Dropped {
            self.report.dropped += 1;
            return Ok(());
        }
        check_vocabulary(&example.ids, self.vocabulary, self.tokenizer, place)?;
        if let (Some((bos, id)), [first, second, ..]) = (self.tokenizer.bos(), example.ids.as_slice())
            && *first == id
            && *second == id
        {
            return Err(DataError::DoubleBos { place: place.clone(), bos: bos.to_owned() });
        }
        // The first token has nothing before it, so it is never predicted.
        let supervised = || example.ids.iter().zip(&example.supervised).skip(1).filter(|(_, s)| **s).map(|(id, _)| *id);
        let count = supervised().count() as u64;
        let truncated = fate == Fate::Truncated;
        if count == 0 {
            return Err(DataError::NothingSupervised { place: place.clone(), truncated });
        }
        for id in supervised().filter(|id| self.tokenizer.is_special(*id)) {
            *self.special.entry(id).or_default() += 1;
        }
        self.report.tokens += example.ids.len() as u64;
        self.report.supervised += count;
        self.report.truncated += u64::from(truncated);
        *self.report.examples.entry(source.to_owned()).or_default() += 1;
        *self.ends.entry(source.to_owned()).or_default() |= !example.ends.is_empty();
        if example.straddles {
            self.straddles.get_or_insert((0, place.clone())).0 += 1;
        }
        Ok(())
    }

    /// The end of a chat source: its turns must end somewhere. (A text that is cut off may well be meant.)
    ///
    /// # Errors
    /// A source with examples, none of which teaches the model to stop.
    pub fn chat_source(&self, source: &str) -> Result<(), DataError> {
        match self.ends.get(source) {
            Some(false) => Err(DataError::NeverStops { source_name: source.to_owned() }),
            _ => Ok(()),
        }
    }

    /// The report.
    #[must_use]
    pub fn finish(self) -> AuditReport {
        let mut report = self.report;
        for (id, count) in self.special {
            *report.special.entry(self.tokenizer.token_text(id)).or_default() += count;
        }
        report.warnings.extend(self.straddles.map(|(count, first)| Warning::Straddles { count, first }));
        report
    }
}

/// Checks that a model with `vocabulary` tokens knows all `ids`.
///
/// # Errors
/// The largest id, where it is beyond.
pub fn check_vocabulary(ids: &[u32], vocabulary: usize, tokenizer: &Tokenizer, place: &Place) -> Result<(), DataError> {
    match ids.iter().copied().max() {
        // Labels are signed, so a vocabulary beyond 2^31 is out of reach too.
        Some(id) if id as usize >= vocabulary || i32::try_from(id).is_err() => {
            Err(DataError::Vocabulary { place: place.clone(), id, token: tokenizer.token_text(id), vocabulary })
        }
        _ => Ok(()),
    }
}
