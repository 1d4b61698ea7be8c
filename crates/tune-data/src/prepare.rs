//! All of it in order: sources to a stream, held-out examples, and an audit that fails closed.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tune_schema::commitment::StreamKey;
use tune_schema::manifest::StreamFacts;
use tune_schema::recipe::{Dataset, DatasetType, Recipe};

use crate::audit::{Audit, AuditReport, Warning};
use crate::error::{DataError, Place};
use crate::example::{EvalExample, ExampleBuilder};
use crate::held_out::{HeldOut, Overlap};
use crate::length::{Fate, limit_length};
use crate::origins::{File, Origins};
use crate::pack::StreamHead;
use crate::rows::{Line, Lines};
use crate::store::TokenStore;
use crate::stream::{Share, Stream};
use crate::tokenizer::Tokenizer;

/// Prepared data.
#[derive(Debug)]
pub struct Prepared {
    /// The training rows.
    pub train: Stream,
    /// The held-out examples.
    pub eval_rows: HeldOut,
    /// The first held-out examples that have a prompt: as many as the recipe asks, and a sample in any case.
    pub eval_examples: Vec<EvalExample>,
    /// What the audit counted.
    pub report: AuditReport,
    /// Digests and counts for the claim.
    pub facts: StreamFacts,
    /// The stream's head before its first row.
    pub head: StreamHead,
}

/// Held-out examples kept as text, even if the recipe asks for fewer answers: for whoever looks at the data.
const SAMPLE: usize = 256;

/// The sources of a recipe with their files.
struct Sources<'a> {
    list: &'a [(Dataset, Vec<PathBuf>)],
    recipe: &'a Recipe,
    tokenizer: &'a Tokenizer,
}

/// Prepares the data of a recipe: `sources` are its data sets with the files of each; with a `key` the stream's digests are
/// salted. More than `most_rows` rows to train on are an error.
///
/// Memory holds a bit for each line and some bytes for each example, and of texts and tokens a bounded part.
///
/// # Errors
/// Anything that the audit refuses: see [`DataError`].
pub fn prepare(
    recipe: &Recipe,
    sources: Vec<(Dataset, Vec<PathBuf>)>,
    tokenizer: &Tokenizer,
    vocabulary: usize,
    key: Option<StreamKey>,
    most_rows: Option<u64>,
) -> Result<Prepared, DataError> {
    let sources = Sources { list: &sources, recipe, tokenizer };
    let mut audit = Audit::new(tokenizer, vocabulary);
    let (store, origins) = sources.tokenise(&mut audit)?;
    let mut report = audit.finish();
    let store = Arc::new(store);
    let eval_rows = HeldOut::draw(recipe, Arc::clone(&store));
    if eval_rows.len() == store.len() {
        return Err(DataError::NothingLeft { held_out: eval_rows.len() as u64, dropped: report.dropped });
    }
    let held_out = eval_rows.ascending();
    if let Some(Overlap { count, held_out, trained }) = eval_rows.overlap(&held_out)? {
        let (held_out, trained) = (sources.place(&origins, held_out), sources.place(&origins, trained));
        report.warnings.push(Warning::Overlap { count, held_out, trained });
    }
    let eval_examples = sources.questions(&origins, &held_out)?;
    let share = |(source, (dataset, _)): (usize, &(Dataset, Vec<PathBuf>))| {
        Share::new(origins.examples(source), held_out.iter().map(|(example, _)| *example), dataset.weight)
    };
    let shares = sources.list.iter().enumerate().map(share).collect();
    drop((origins, held_out));
    let train_examples = (store.len() - eval_rows.len()) as u64;
    let train = Stream::new(recipe, store, shares, most_rows)?;
    let head = StreamHead::new(key);
    let facts = facts(&head, &train, &eval_rows, train_examples, &report)?;
    Ok(Prepared { train, eval_rows, eval_examples, report, facts, head })
}

impl Sources<'_> {
    /// The lines of a file.
    fn lines(&self, source: usize, file: usize) -> Result<impl Iterator<Item = Result<Line, DataError>>, DataError> {
        let reader = BufReader::with_capacity(1 << 16, tune_fs::open(&self.list[source].1[file])?);
        Ok(Lines::new(&self.name(source, file), reader))
    }

    /// What a file is called: as its source, unless that has several.
    fn name(&self, source: usize, file: usize) -> String {
        let (dataset, files) = &self.list[source];
        if files.len() == 1 { dataset.name.clone() } else { format!("{}/{}", dataset.name, label(&files[file])) }
    }

    /// Where an example comes from.
    fn place(&self, origins: &Origins, example: u32) -> Place {
        let (File { source, file, .. }, line) = origins.find(example).expect("every example has an origin");
        Place { source: self.name(source, file), line }
    }

    /// All examples in tokens, checked and counted.
    fn tokenise(&self, audit: &mut Audit<'_>) -> Result<(TokenStore, Origins), DataError> {
        let (mut store, mut origins) = (TokenStore::default(), Origins::default());
        let (rule, limit) = (self.recipe.excess_length_strategy, self.recipe.sequence_len as usize);
        for (source, (dataset, files)) in self.list.iter().enumerate() {
            let builder = ExampleBuilder::new(dataset, self.tokenizer, self.recipe.train_on_inputs);
            let mut rows = 0_u64;
            for file in 0..files.len() {
                origins.begin(source, file);
                for line in self.lines(source, file)? {
                    let line = line?;
                    let mut kept = false;
                    if let Some(row) = line.row()? {
                        rows += 1;
                        let mut example = builder.build(&row)?;
                        let fate = limit_length(rule, limit, &mut example, &row.place)?;
                        audit.example(&dataset.name, &row.place, &example, fate)?;
                        kept = fate != Fate::Dropped;
                        if kept {
                            store.push(&example.ids, &example.supervised)?;
                        }
                    }
                    if !origins.push(kept) {
                        return Err(DataError::TooManyExamples(1 << 32));
                    }
                }
            }
            if rows == 0 {
                return Err(DataError::Empty { source_name: dataset.name.clone() });
            }
            if dataset.kind == DatasetType::ChatTemplate {
                audit.chat_source(&dataset.name)?;
            }
        }
        Ok((store, origins))
    }

    /// The held-out rows as questions, in the order in which they were drawn. Reads the sources once more, so that the
    /// text of the examples need not be kept.
    fn questions(&self, origins: &Origins, held_out: &[(u32, u32)]) -> Result<Vec<EvalExample>, DataError> {
        let most = (self.recipe.eval_exact_match as usize).max(SAMPLE);
        // Where examples are cut off, so would the prompt be: it is then no question.
        let fits = 1..=self.recipe.sequence_len as usize;
        let mut questions: BTreeMap<u32, EvalExample> = BTreeMap::new();
        let mut held_out = held_out.iter().copied().peekable();
        for (file, examples) in origins.files() {
            if held_out.peek().is_none_or(|(example, _)| !examples.contains(example)) {
                continue;
            }
            let (dataset, _) = &self.list[file.source];
            let builder = ExampleBuilder::new(dataset, self.tokenizer, self.recipe.train_on_inputs);
            let wanted = origins.lines((file, examples)).filter_map(|(example, line)| {
                held_out.next_if(|(held_out, _)| *held_out == example).map(|(_, place)| (line, place))
            });
            let mut wanted = wanted.peekable();
            for line in self.lines(file.source, file.file)? {
                let line = line?;
                let Some((_, place)) = wanted.next_if(|(number, _)| *number == line.place.line) else { continue };
                let drawn_earlier = questions.last_key_value().is_none_or(|(last, _)| place < *last);
                if let Some(row) = line.row()?.filter(|_| questions.len() < most || drawn_earlier)
                    && let Some(question) =
                        builder.question(&row)?.filter(|found| fits.contains(&found.prompt_ids.len()))
                {
                    questions.insert(place, question);
                }
                if questions.len() > most {
                    questions.pop_last();
                }
                if wanted.peek().is_none() {
                    break;
                }
            }
        }
        Ok(questions.into_values().collect())
    }
}

/// A file's name without its folder, which is a matter of the machine.
fn label(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Walks the whole stream once.
fn facts(
    start: &StreamHead,
    train: &Stream,
    eval_rows: &HeldOut,
    train_examples: u64,
    report: &AuditReport,
) -> Result<StreamFacts, DataError> {
    let mut head = start.clone();
    let (mut tokens, mut supervised_tokens) = (0, 0);
    for index in 0..train.len() {
        let row = train.row(index)?;
        tokens += row.input_ids.len() as u64;
        supervised_tokens += row.supervised();
        head.push(&row);
    }
    let mut eval_head = start.clone();
    for row in eval_rows.rows() {
        eval_head.push(&row?);
    }
    Ok(StreamFacts {
        digest: head.digest(),
        eval_digest: eval_head.digest(),
        rows: train.len(),
        tokens,
        supervised_tokens,
        train_examples,
        eval_examples: eval_rows.len() as u64,
        dropped_examples: report.dropped,
        truncated_examples: report.truncated,
    })
}
