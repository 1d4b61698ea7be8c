//! All of it in order: sources to a stream, held-out examples, and an audit that fails closed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::PathBuf;

use tune_schema::Digest;
use tune_schema::manifest::StreamFacts;
use tune_schema::recipe::{Dataset, DatasetType, ExcessLengthStrategy, Recipe, ValSetSize};
use tune_schema::seed::{Seed, streams};

use crate::example::{Example, ExampleBuilder};
use crate::pack::{Row, StreamHead};
use crate::permute::Permutation;
use crate::rows::for_each_row;
use crate::store::TokenStore;
use crate::stream::{Share, Stream};
use crate::{DataError, Tokenizer};

/// A held-out example to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalExample {
    /// What the model is given.
    pub prompt_ids: Vec<u32>,
    /// The same as text.
    pub prompt_text: String,
    /// What it should answer.
    pub reference_text: String,
}

/// Prepared data.
#[derive(Debug)]
pub struct Prepared {
    /// The training rows.
    pub train: Stream,
    /// One row for each held-out example, in order.
    pub eval_rows: Vec<Row>,
    /// The held-out examples that have a prompt, in order.
    pub eval_examples: Vec<EvalExample>,
    /// What the audit counted.
    pub report: AuditReport,
    /// Digests and counts for the claim.
    pub facts: StreamFacts,
}

/// What the audit counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Examples of each source, by name.
    pub examples: BTreeMap<String, u64>,
    /// Tokens of all examples, and supervised ones.
    pub tokens: u64,
    /// See `tokens`.
    pub supervised: u64,
    /// Examples left out for their length.
    pub dropped: u64,
    /// Examples cut off.
    pub truncated: u64,
    /// How often each special token is supervised.
    pub special: BTreeMap<String, u64>,
    /// Held-out examples whose tokens are also trained on.
    pub overlap: u64,
}

impl AuditReport {
    /// The report for people.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.examples.iter().map(|(name, count)| format!("source {name}: {count} examples")).collect();
        let share = 100.0 * self.supervised as f64 / self.tokens.max(1) as f64;
        lines.push(format!("tokens: {}, supervised: {} ({share:.1} %)", self.tokens, self.supervised));
        lines.push(format!("too long: {} dropped, {} truncated", self.dropped, self.truncated));
        lines.extend(self.special.iter().map(|(token, count)| format!("special token {token}: supervised {count} times")));
        lines.push(match self.overlap {
            0 => "held-out examples that are also trained on: none".to_owned(),
            n => format!("warning: {n} held-out examples are also trained on"),
        });
        lines
    }
}

/// All examples of all sources before they are split.
#[derive(Default)]
struct Collected {
    examples: Vec<Example>,
    /// Source of each example.
    sources: Vec<usize>,
    report: AuditReport,
    turn_ends: (bool, bool),
}

/// Prepares the data of a recipe.
///
/// # Errors
/// Anything that the audit refuses: see [`DataError`].
pub fn prepare(
    recipe: &Recipe,
    sources: Vec<(Dataset, Vec<PathBuf>)>,
    tokenizer: &Tokenizer,
    vocabulary: usize,
) -> Result<Prepared, DataError> {
    let mut all = Collected::default();
    for (number, (dataset, files)) in sources.iter().enumerate() {
        collect(recipe, number, dataset, files, tokenizer, &mut all)?;
        if let Some(id) = all.examples.iter().flat_map(|example| &example.ids).copied().find(|id| *id as usize >= vocabulary) {
            return Err(DataError::Vocabulary { id, vocabulary });
        }
    }
    let chat = sources.iter().any(|(dataset, _)| dataset.kind == DatasetType::ChatTemplate);
    if chat && all.turn_ends == (true, false) {
        return Err(DataError::NeverStops);
    }
    let held_out = held_out(recipe, all.examples.len());
    let Collected { examples, sources: source_of, mut report, .. } = all;
    let (mut store, mut shares) = (TokenStore::default(), Vec::new());
    let (mut eval_rows, mut eval_examples) = (Vec::new(), Vec::new());
    let mut trained: BTreeSet<Digest> = BTreeSet::new();
    let identity = |example: &Example| Digest::of(&example.ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
    for (number, (dataset, _)) in sources.iter().enumerate() {
        let first = index(store.len());
        for (i, example) in examples.iter().enumerate().filter(|(i, _)| source_of[*i] == number && !held_out.contains(i)) {
            let _ = i;
            trained.insert(identity(example));
            store.push(example);
        }
        shares.push(Share { first, count: index(store.len()) - first, weight: dataset.weight });
    }
    for i in &held_out {
        let example = &examples[*i];
        report.overlap += u64::from(trained.contains(&identity(example)));
        let mut row = Row::default();
        row.push(&example.ids, &example.supervised);
        eval_rows.push(row);
        if example.prompt > 0 {
            eval_examples.push(EvalExample {
                prompt_ids: example.ids[..example.prompt].to_vec(),
                prompt_text: example.prompt_text.clone(),
                reference_text: example.reference.clone(),
            });
        }
    }
    if store.is_empty() {
        return Err(DataError::NothingLeft { held_out: held_out.len() as u64, dropped: report.dropped });
    }
    let train_examples = store.len() as u64;
    let train = Stream::new(recipe, store, shares);
    let facts = facts(&train, &eval_rows, train_examples, &report);
    Ok(Prepared { train, eval_rows, eval_examples, report, facts })
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("there are less than 2^32 examples")
}

/// Reads a source, checks and counts its examples.
fn collect(
    recipe: &Recipe,
    number: usize,
    dataset: &Dataset,
    files: &[PathBuf],
    tokenizer: &Tokenizer,
    all: &mut Collected,
) -> Result<(), DataError> {
    let builder = ExampleBuilder::new(dataset, tokenizer, recipe.train_on_inputs)?;
    let limit = recipe.sequence_len as usize;
    let name = &dataset.name;
    let mut rows = 0_u64;
    for file in files {
        for_each_row(name, BufReader::new(tune_fs::open(file)?), |row| {
            rows += 1;
            let mut example = builder.build(&row)?;
            let place = || (name.clone(), row.line);
            if let (Some((bos, id)), [first, second, ..]) = (tokenizer.bos(), example.ids.as_slice()) {
                if *first == id && *second == id {
                    let (source_name, line) = place();
                    return Err(DataError::DoubleBos { source_name, line, bos: bos.to_owned() });
                }
            }
            let length = example.ids.len();
            if length > limit {
                match recipe.excess_length_strategy {
                    ExcessLengthStrategy::Raise => {
                        let (source_name, line) = place();
                        return Err(DataError::TooLong { source_name, line, length, limit });
                    }
                    ExcessLengthStrategy::Drop => {
                        all.report.dropped += 1;
                        return Ok(());
                    }
                    ExcessLengthStrategy::Truncate => {
                        all.report.truncated += 1;
                        example.ids.truncate(limit);
                        example.supervised.truncate(limit);
                        example.prompt = example.prompt.min(limit);
                    }
                }
            }
            // The first token has nothing before it, so it is never predicted.
            let supervised = example.supervised.iter().skip(1).filter(|s| **s).count() as u64;
            if supervised == 0 {
                let (source_name, line) = place();
                return Err(DataError::NothingSupervised { source_name, line });
            }
            all.report.tokens += example.ids.len() as u64;
            all.report.supervised += supervised;
            for (id, _) in example.ids.iter().zip(&example.supervised).skip(1).filter(|(_, s)| **s) {
                if tokenizer.is_special(*id) {
                    *all.report.special.entry(tokenizer.token_text(*id)).or_default() += 1;
                }
            }
            all.turn_ends.0 |= example.end_of_turn.0;
            all.turn_ends.1 |= example.end_of_turn.1;
            *all.report.examples.entry(name.clone()).or_default() += 1;
            all.examples.push(example);
            all.sources.push(number);
            Ok(())
        })?;
    }
    if rows == 0 {
        return Err(DataError::Empty { source_name: name.clone() });
    }
    Ok(())
}

/// Numbers of the held-out examples, in order: the first of a keyed permutation over all of them.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "counts of examples")]
fn held_out(recipe: &Recipe, n: usize) -> BTreeSet<usize> {
    let count = match recipe.val_set_size {
        ValSetSize::Rows(rows) => rows.min(n as u64),
        ValSetSize::Share(share) => (share * n as f64).round() as u64,
    };
    let order = Permutation::new(n as u64, Seed(recipe.seed).stream(streams::SPLIT), 0);
    (0..count).map(|i| order.get(i) as usize).collect()
}

/// Walks the whole stream once.
fn facts(train: &Stream, eval_rows: &[Row], train_examples: u64, report: &AuditReport) -> StreamFacts {
    let mut head = StreamHead::new();
    let (mut tokens, mut supervised_tokens) = (0, 0);
    for index in 0..train.len() {
        let row = train.row(index);
        tokens += row.input_ids.len() as u64;
        supervised_tokens += row.supervised();
        head.push(&row);
    }
    let mut eval_head = StreamHead::new();
    eval_rows.iter().for_each(|row| eval_head.push(row));
    StreamFacts {
        digest: head.digest(),
        eval_digest: eval_head.digest(),
        rows: train.len(),
        tokens,
        supervised_tokens,
        train_examples,
        eval_examples: eval_rows.len() as u64,
        dropped_examples: report.dropped,
        truncated_examples: report.truncated,
    }
}
