//! The first step with other rows, and in them the first token that differs.

use std::fmt;

use serde::Serialize;
use tune_data::{Row, Tokenizer};
use tune_schema::Digest;
use tune_schema::chain::ChainRecord;
use tune_train::{Job, Observer};

use super::DiffOptions;
use super::report::{Bearing, Difference, Part, Run, What};
use super::side::Side;
use super::text::quoted;
use tune_schema::text::printable;

/// Where the streams of two runs part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamDifference {
    /// The first step after which they have other digests.
    pub step: u64,
    /// The stream's digest in A after it.
    pub a: Digest,
    /// That in B.
    pub b: Digest,
    /// The first token that differs, where the rows of both could be rebuilt from their sources.
    pub token: Option<TokenDifference>,
    /// Why there is none.
    pub no_token: Option<String>,
    /// Whether the rows are the same, and only salted with other secrets.
    pub same_rows: bool,
}

impl fmt::Display for StreamDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.same_rows {
            return write!(
                f,
                "the rows are the same; from step {} on their digests are salted with other secrets",
                self.step
            );
        }
        write!(f, "step {} is the first with other rows", self.step)?;
        if let Some(token) = &self.token {
            write!(f, "\n{token}")?;
        }
        match &self.no_token {
            Some(reason) => write!(f, "\n{}", printable(reason)),
            None => Ok(()),
        }
    }
}

/// The first token in which two streams differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenDifference {
    /// Its row, from 0 as in `tune data show`.
    pub row: u64,
    /// Its place in the row, from 0.
    pub token: usize,
    /// What A has there; nothing where its row ends before.
    pub a: Option<TokenFacts>,
    /// What B has there.
    pub b: Option<TokenFacts>,
    /// The text before it in A, and from it on.
    pub context_a: [String; 2],
    /// The same in B.
    pub context_b: [String; 2],
}

/// A token of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenFacts {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Whether it is supervised.
    pub supervised: bool,
    /// Its segment, from 1.
    pub segment: u32,
}

impl fmt::Display for TokenDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} of the stream, token {}: ", self.row, self.token)?;
        let same_id = matches!((&self.a, &self.b), (Some(a), Some(b)) if a.id == b.id);
        let words = |token: &Option<TokenFacts>| match token {
            None => "the row's end".to_owned(),
            Some(token) if same_id => {
                let supervised = if token.supervised { "supervised" } else { "not supervised" };
                format!("{} {supervised}, in segment {},", quoted(&token.text), token.segment)
            }
            Some(token) => format!("{} (id {})", quoted(&token.text), token.id),
        };
        write!(f, "{} in A, {} in B", words(&self.a), words(&self.b))?;
        for (run, [before, after]) in [(Run::A, &self.context_a), (Run::B, &self.context_b)] {
            write!(f, "\n  {run}: {}|{}", printable(before), printable(after))?;
        }
        Ok(())
    }
}

/// Where the streams part; nothing where they have the same digests in all steps that both have.
pub(super) fn compare(
    sides: [&Side; 2],
    chains: [&[ChainRecord]; 2],
    options: &DiffOptions,
    observer: &mut dyn Observer,
) -> Vec<Difference> {
    let mut pairs = chains[0].iter().zip(chains[1]);
    let Some(index) = pairs.position(|(a, b)| a.stream != b.stream) else { return Vec::new() };
    let [a, b] = chains.map(|chain| &chain[index]);
    let found = first_token(sides, chains.map(|chain| &chain[..=index]), options, observer);
    let mut what =
        StreamDifference { step: a.step, a: a.stream, b: b.stream, token: None, no_token: None, same_rows: false };
    match found {
        Ok(First::Token(token)) => what.token = Some(*token),
        Ok(First::OtherSalts) => what.same_rows = true,
        Err(reason) => what.no_token = Some(reason),
    }
    // Salts say nothing of rows.
    let bearing = if what.same_rows { Bearing::Label } else { Bearing::Trained };
    vec![Difference { part: Part::Stream, bearing, what: What::Stream(what) }]
}

/// Why two streams have other digests.
enum First {
    /// The first token that differs.
    Token(Box<TokenDifference>),
    /// None does.
    OtherSalts,
}

/// Rebuilds the rows of both runs and finds the first token that differs. The chains end with the step that differs.
fn first_token(
    sides: [&Side; 2],
    chains: [&[ChainRecord]; 2],
    options: &DiffOptions,
    observer: &mut dyn Observer,
) -> Result<First, String> {
    let mut jobs = Vec::with_capacity(2);
    for (side, chain) in sides.into_iter().zip(chains) {
        observer.phase(&format!("rebuilding the data stream of {}", side.run));
        let job = side.job(options, observer)?;
        if !has_rows(&job, chain)? {
            return Err(format!(
                "the sources of {} do not give the rows that its chain names: `tune verify --level data` says more",
                side.run
            ));
        }
        jobs.push(job);
    }
    let [a, b] = [&jobs[0], &jobs[1]];
    let (stream_a, stream_b) = (&a.prepared.train, &b.prepared.train);
    for index in 0..stream_a.len().min(stream_b.len()) {
        let row = |job: &Job| job.prepared.train.row(index).map_err(|error| error.to_string());
        let rows = [row(a)?, row(b)?];
        if rows[0] != rows[1] {
            let token = token(index, [&rows[0], &rows[1]], [&a.tokenizer, &b.tokenizer]);
            return Ok(First::Token(Box::new(token)));
        }
    }
    if a.prepared.head != b.prepared.head && stream_a.len() == stream_b.len() {
        return Ok(First::OtherSalts);
    }
    Err("the rows are the same as far as both go: only how many a step takes, or how many there are, differs"
        .to_owned())
}

/// Whether the rebuilt rows have the digest of the chain's last record.
fn has_rows(job: &Job, chain: &[ChainRecord]) -> Result<bool, String> {
    let Some(last) = chain.last() else { return Ok(false) };
    let stream = &job.prepared.train;
    if last.rows > stream.len() {
        return Ok(false);
    }
    let mut head = job.prepared.head.clone();
    for index in 0..last.rows {
        head.push(&stream.row(index).map_err(|error| error.to_string())?);
    }
    Ok(head.digest() == last.stream)
}

/// Tokens shown before and after the first that differs.
const BEFORE: usize = 12;
const AFTER: usize = 8;

/// The first token in which two different rows differ.
fn token(index: u64, rows: [&Row; 2], tokenizers: [&Tokenizer; 2]) -> TokenDifference {
    let at = |row: &Row, i: usize| {
        let all = (row.input_ids.get(i), row.labels.get(i), row.position_ids.get(i), row.segment_ids.get(i));
        (all.0.copied(), all.1.copied(), all.2.copied(), all.3.copied())
    };
    let longest = rows[0].input_ids.len().max(rows[1].input_ids.len());
    let place = (0..longest).find(|i| at(rows[0], *i) != at(rows[1], *i)).unwrap_or(longest);
    let facts = |row: &Row, tokenizer: &Tokenizer| {
        let (Some(id), Some(label), _, Some(segment)) = at(row, place) else { return None };
        Some(TokenFacts { id, text: tokenizer.token_text(id), supervised: label >= 0, segment })
    };
    let context = |row: &Row, tokenizer: &Tokenizer| {
        let ids = &row.input_ids;
        let middle = place.min(ids.len());
        let texts = |ids: &[u32]| ids.iter().map(|id| tokenizer.token_text(*id)).collect::<String>();
        [texts(&ids[middle.saturating_sub(BEFORE)..middle]), texts(&ids[middle..ids.len().min(middle + AFTER)])]
    };
    TokenDifference {
        row: index,
        token: place,
        a: facts(rows[0], tokenizers[0]),
        b: facts(rows[1], tokenizers[1]),
        context_a: context(rows[0], tokenizers[0]),
        context_b: context(rows[1], tokenizers[1]),
    }
}
