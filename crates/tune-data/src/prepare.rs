//! All of it in order: sources to a stream, held-out examples, and an audit that fails closed.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use tune_schema::Digest;
use tune_schema::manifest::StreamFacts;
use tune_schema::recipe::{Dataset, DatasetType, Recipe, ValSetSize};
use tune_schema::seed::{Seed, streams};

use crate::audit::{Audit, AuditReport, Warning};
use crate::error::{DataError, Place};
use crate::example::{EvalExample, ExampleBuilder};
use crate::fraction::{millionths, nearest};
use crate::length::{Fate, limit_length};
use crate::pack::{Row, StreamHead};
use crate::permute::Permutation;
use crate::rows::{SourceRow, for_each_row};
use crate::store::TokenStore;
use crate::stream::{Share, Stream};
use crate::tokenizer::Tokenizer;

/// Prepared data.
#[derive(Debug)]
pub struct Prepared {
    /// The training rows.
    pub train: Stream,
    /// One row for each held-out example, in the order in which they were drawn: the first few are a sample of all.
    pub eval_rows: Vec<Row>,
    /// The held-out examples that have a prompt, in the same order.
    pub eval_examples: Vec<EvalExample>,
    /// What the audit counted.
    pub report: AuditReport,
    /// Digests and counts for the claim.
    pub facts: StreamFacts,
}

/// Where an example comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    source: usize,
    file: usize,
    line: u64,
}

/// The sources of a recipe with their files.
struct Sources<'a> {
    list: &'a [(Dataset, Vec<PathBuf>)],
    recipe: &'a Recipe,
    tokenizer: &'a Tokenizer,
}

/// Prepares the data of a recipe: `sources` are its data sets with the files of each.
///
/// # Errors
/// Anything that the audit refuses: see [`DataError`].
pub fn prepare(
    recipe: &Recipe,
    sources: Vec<(Dataset, Vec<PathBuf>)>,
    tokenizer: &Tokenizer,
    vocabulary: usize,
) -> Result<Prepared, DataError> {
    let sources = Sources { list: &sources, recipe, tokenizer };
    let mut audit = Audit::new(tokenizer, vocabulary);
    let (store, origins) = sources.tokenise(&mut audit)?;
    let mut report = audit.finish();
    let held_out = held_out(recipe, store.len());
    let mut is_held_out = vec![false; store.len()];
    held_out.iter().for_each(|i| is_held_out[*i] = true);
    if held_out.len() == store.len() {
        return Err(DataError::NothingLeft { held_out: held_out.len() as u64, dropped: report.dropped });
    }
    report.warnings.extend(sources.overlap(&store, &origins, &held_out, &is_held_out));
    let eval_rows: Vec<Row> = held_out.iter().map(|i| row(&store, *i)).collect();
    let eval_examples = sources.questions(&held_out.iter().map(|i| origins[*i]).collect::<Vec<_>>())?;
    let mut shares: Vec<Share> =
        sources.list.iter().map(|(dataset, _)| Share { examples: Vec::new(), weight: dataset.weight }).collect();
    for (i, origin) in origins.iter().enumerate().filter(|(i, _)| !is_held_out[*i]) {
        let number = u32::try_from(i).expect("there are less than 2^32 examples");
        shares[origin.source].examples.push(number);
    }
    let train_examples = (store.len() - held_out.len()) as u64;
    let train = Stream::new(recipe, store, shares)?;
    let facts = facts(&train, &eval_rows, train_examples, &report);
    Ok(Prepared { train, eval_rows, eval_examples, report, facts })
}

impl Sources<'_> {
    /// Calls `each` with every row of a source.
    fn rows(
        &self,
        source: usize,
        mut each: impl FnMut(Origin, &SourceRow) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let (dataset, files) = &self.list[source];
        for (file, path) in files.iter().enumerate() {
            let name =
                if files.len() == 1 { dataset.name.clone() } else { format!("{}/{}", dataset.name, label(path)) };
            let reader = BufReader::with_capacity(1 << 16, tune_fs::open(path)?);
            for_each_row(&name, reader, |row| each(Origin { source, file, line: row.place.line }, &row))?;
        }
        Ok(())
    }

    /// All examples in tokens, checked and counted.
    fn tokenise(&self, audit: &mut Audit<'_>) -> Result<(TokenStore, Vec<Origin>), DataError> {
        let (mut store, mut origins) = (TokenStore::default(), Vec::new());
        let (rule, limit) = (self.recipe.excess_length_strategy, self.recipe.sequence_len as usize);
        for (source, (dataset, _)) in self.list.iter().enumerate() {
            let builder = ExampleBuilder::new(dataset, self.tokenizer, self.recipe.train_on_inputs);
            let mut count = 0_u64;
            self.rows(source, |origin, row| {
                count += 1;
                let mut example = builder.build(row)?;
                let fate = limit_length(rule, limit, &mut example, &row.place)?;
                audit.example(&dataset.name, &row.place, &example, fate)?;
                if fate != Fate::Dropped {
                    store.push(&example.ids, &example.supervised);
                    origins.push(origin);
                }
                Ok(())
            })?;
            if count == 0 {
                return Err(DataError::Empty { source_name: dataset.name.clone() });
            }
            if dataset.kind == DatasetType::ChatTemplate {
                audit.chat_source(&dataset.name)?;
            }
        }
        Ok((store, origins))
    }

    /// The held-out rows as questions, in the order of `origins`. Reads the sources once more, so that the text of the
    /// examples need not be kept.
    fn questions(&self, origins: &[Origin]) -> Result<Vec<EvalExample>, DataError> {
        let places: BTreeMap<Origin, usize> = origins.iter().enumerate().map(|(i, origin)| (*origin, i)).collect();
        let mut questions = vec![None; origins.len()];
        for (source, (dataset, _)) in self.list.iter().enumerate() {
            if origins.iter().all(|origin| origin.source != source) {
                continue;
            }
            let builder = ExampleBuilder::new(dataset, self.tokenizer, self.recipe.train_on_inputs);
            self.rows(source, |origin, row| {
                if let Some(place) = places.get(&origin) {
                    questions[*place] = builder.question(row)?;
                }
                Ok(())
            })?;
        }
        // Where examples are cut off, so would the prompt be: it is then no question.
        let limit = self.recipe.sequence_len as usize;
        Ok(questions
            .into_iter()
            .flatten()
            .filter(|question| (1..=limit).contains(&question.prompt_ids.len()))
            .collect())
    }

    /// Held-out examples that are also trained on.
    fn overlap(
        &self,
        store: &TokenStore,
        origins: &[Origin],
        held_out: &[usize],
        is_held_out: &[bool],
    ) -> Option<Warning> {
        if held_out.is_empty() {
            return None;
        }
        let identity = |i: usize| Digest::of(&store.ids(i).iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
        let mut first = BTreeMap::new();
        for i in (0..store.len()).filter(|i| !is_held_out[*i]) {
            first.entry(identity(i)).or_insert(i);
        }
        let mut same = held_out.iter().filter_map(|i| first.get(&identity(*i)).map(|trained| (*i, *trained)));
        let (held_out, trained) = same.next()?;
        let place = |i: usize| {
            let Origin { source, file, line } = origins[i];
            let (dataset, files) = &self.list[source];
            let several = files.len() > 1;
            let source =
                if several { format!("{}/{}", dataset.name, label(&files[file])) } else { dataset.name.clone() };
            Place { source, line }
        };
        Some(Warning::Overlap { count: 1 + same.count() as u64, held_out: place(held_out), trained: place(trained) })
    }
}

/// A file's name without its folder, which is a matter of the machine.
fn label(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// An example as a row of its own.
fn row(store: &TokenStore, i: usize) -> Row {
    let mut row = Row::default();
    row.push(store.ids(i), store.supervised(i));
    row
}

/// Numbers of the held-out examples: the first of a keyed permutation over all of them.
#[expect(clippy::cast_possible_truncation, reason = "numbers of examples, which fit memory")]
fn held_out(recipe: &Recipe, n: usize) -> Vec<usize> {
    let n = n as u64;
    let count = match recipe.val_set_size {
        ValSetSize::Rows(rows) => rows.min(n),
        ValSetSize::Share(share) => nearest(millionths(share), n).max(1).min(n),
    };
    let order = Permutation::new(n, Seed(recipe.seed).stream(streams::SPLIT), 0);
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
