//! Generates the quickstart's data, the same bytes on every machine.
//!
//! - [`corpus`]: short stories in which facts are told, told again, asked and answered. The base model learns English of
//!   this small world from them; they hold no JSON.
//! - [`records`]: sentences with the record they stand for. Fine-tuning on them teaches the model to answer in JSON.
//! - [`train_tokenizer`]: the byte-level BPE tokenizer of both.

pub mod words;

use serde_json::json;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, TokenizerImpl};
use tune_schema::philox::philox4x32_10;
use tune_schema::seed::Seed;
use words::{COLOURS, DAYS, NAMES, PLACES, THINGS, VERBS};

/// The token that ends a text.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Entries of the tokenizer.
pub const VOCABULARY: usize = 1024;
/// Stories of the corpus.
pub const STORIES: u32 = 16_000;
/// Rows of the records.
pub const RECORDS: u32 = 2_400;

/// Random choices for one item: a function of a stream's name and the item's number.
struct Choices {
    key: [u32; 2],
    item: u32,
    draw: u32,
}

impl Choices {
    fn new(stream: &str, item: u32) -> Self {
        Self { key: Seed(1).stream(&format!("quickstart-{stream}")), item, draw: 0 }
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.draw += 1;
        let word = philox4x32_10([self.item, self.draw, 0, 0], self.key)[0];
        // n is far below 2^32, so the bias of this reduction is far below anything a model could see.
        usize::try_from((u64::from(word) * n as u64) >> 32).expect("a number below n fits")
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fact {
    who: &'static str,
    verb: &'static str,
    count: usize,
    colour: &'static str,
    what: &'static str,
    place: &'static str,
    day: &'static str,
}

impl Fact {
    fn draw(choices: &mut Choices) -> Self {
        Self {
            who: choices.of(&NAMES),
            verb: choices.of(&VERBS),
            count: 2 + choices.below(19),
            colour: choices.of(&COLOURS),
            what: choices.of(&THINGS),
            place: choices.of(&PLACES),
            day: choices.of(&DAYS),
        }
    }

    /// The fact as a sentence, in one of twelve word orders.
    fn sentence(&self, choices: &mut Choices) -> String {
        let Self { who, verb, count, colour, what, place, day } = self;
        match choices.below(12) {
            0 => format!("{who} {verb} {count} {colour} {what} in {place} on {day}."),
            1 => format!("On {day}, {who} {verb} {count} {colour} {what} in {place}."),
            2 => format!("In {place}, {who} {verb} {count} {colour} {what} on {day}."),
            3 => format!("On {day} in {place}, {who} {verb} {count} {colour} {what}."),
            4 => format!("{who} was in {place} on {day} and {verb} {count} {colour} {what}."),
            5 => format!("It was {day} when {who} {verb} {count} {colour} {what} in {place}."),
            6 => format!("{who} went to {place} on {day} and {verb} {count} {what}, all {colour}."),
            7 => format!("There were {count} {colour} {what} in {place}, and {who} {verb} them on {day}."),
            8 => format!("{count} {colour} {what}: that is what {who} {verb} in {place} on {day}."),
            9 => format!("While in {place}, {who} {verb} {count} {what} on {day}. They were {colour}."),
            10 => format!("{who} {verb} {count} {what} on {day}. They were {colour}, and it was in {place}."),
            _ => format!("On {day}, {count} {colour} {what} were {verb} by {who} in {place}."),
        }
    }

    /// The fact told again, or asked about and answered.
    fn follow_up(&self, choices: &mut Choices) -> String {
        let Self { who, verb, count, colour, what, place, day } = self;
        match choices.below(8) {
            0 => format!("Who {verb} the {what}? {who}. Where? {place}. When? {day}."),
            1 => format!("What did {who} get? {what}. How many? {count}. Which colour? {colour}."),
            2 => format!("{who}, {what}, {count}, {colour}, {place}, {day}."),
            3 => format!("Who: {who}. What: {what}. How many: {count}. Colour: {colour}. Where: {place}. When: {day}."),
            4 => format!("Name {who}, thing {what}, number {count}, colour {colour}, place {place}, day {day}."),
            5 => format!("{place}, {day}: {count} {colour} {what} for {who}."),
            6 => {
                format!("So {who} {verb} {count} {what}. The {what} were {colour}, and {who} was in {place} on {day}.")
            }
            _ => {
                format!("Which day? {day}. Which place? {place}. Which things? {count} {colour} {what}. Whose? {who}.")
            }
        }
    }
}

/// The stories, one JSON object a line with the column `text`.
#[must_use]
pub fn corpus(stories: u32) -> String {
    let mut lines = String::new();
    for story in 0..stories {
        let choices = &mut Choices::new("corpus", story);
        let facts: Vec<Fact> = (0..1 + choices.below(4) / 3).map(|_| Fact::draw(choices)).collect();
        let mut sentences: Vec<String> = facts.iter().map(|fact| fact.sentence(choices)).collect();
        for _ in 0..3 + choices.below(3) {
            let fact = &facts[choices.below(facts.len())];
            sentences.push(fact.follow_up(choices));
        }
        lines.push_str(&json!({ "text": sentences.join(" ") }).to_string());
        lines.push('\n');
    }
    lines
}

/// The records, one JSON object a line with the columns `prompt` and `completion`.
#[must_use]
pub fn records(rows: u32) -> String {
    let mut lines = String::new();
    for row in 0..rows {
        let choices = &mut Choices::new("records", row);
        let fact = Fact::draw(choices);
        let Fact { who, count, what, day, .. } = fact;
        // Written by hand, because a JSON library may order the members anew.
        let completion = format!("{{\"who\":\"{who}\",\"count\":{count},\"what\":\"{what}\",\"when\":\"{day}\"}}");
        lines.push_str(
            &json!({ "prompt": format!("{}\n", fact.sentence(choices)), "completion": completion }).to_string(),
        );
        lines.push('\n');
    }
    lines
}

/// Trains the tokenizer on stories and records; gives the text of `tokenizer.json`.
///
/// # Errors
/// A defect of the trainer.
pub fn train_tokenizer() -> anyhow::Result<String> {
    let failed = |error: tokenizers::Error| anyhow::anyhow!("the tokenizer cannot be trained: {error}");
    // Every word, number, space and punctuation mark is a piece of its own, so that a word has one token wherever it stands.
    let pattern = SplitPattern::Regex(r"\w+|\s|[^\w\s]".to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
    let split = Sequence::new(vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)),
    ]);
    let mut tokenizer: TokenizerImpl<
        BPE,
        tokenizers::normalizers::unicode::NFC,
        Sequence,
        ByteLevel,
        ByteLevelDecoder,
    > = TokenizerImpl::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(split)).with_decoder(Some(ByteLevelDecoder::default()));
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(VOCABULARY)
        .show_progress(false)
        .initial_alphabet(alphabet.into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build();
    let column = |text: &str, name: &str| -> Vec<String> {
        let value =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?.get(name)?.as_str().map(str::to_owned);
        text.lines().filter_map(value).collect()
    };
    let (stories, rows) = (corpus(STORIES / 4), records(RECORDS));
    let texts = [column(&stories, "text"), column(&rows, "prompt"), column(&rows, "completion")].concat();
    tokenizer.train(&mut trainer, texts.into_iter()).map_err(failed)?;
    Ok(tokenizer.to_string(true).map_err(failed)? + "\n")
}

#[cfg(test)]
mod tests {
    use tune_schema::Digest;

    use super::*;

    #[test]
    fn the_bytes_are_fixed() {
        assert_eq!(
            Digest::of(corpus(STORIES).as_bytes()).to_string(),
            "sha256:e9bfa04b8f9e5c26e8c1832bc416c1d5a8fca396e28eff2e37a553af32740cfa"
        );
        assert_eq!(
            Digest::of(records(RECORDS).as_bytes()).to_string(),
            "sha256:ca8d4821acd3cbbdc902184596ff1b64d226c9a835094d9e4bb2a8f851497ca3"
        );
    }

    /// The tokenizer in the repository is the one that this crate trains.
    #[test]
    fn the_tokenizer_is_the_repositorys() {
        let kept = include_str!("../../../recipes/quickstart/architecture/tokenizer.json");
        assert!(train_tokenizer().unwrap() == kept);
    }

    #[test]
    fn stories_hold_no_json() {
        assert!(!corpus(200).lines().any(|line| line.matches('{').count() > 1));
    }
}
