//! What a comparison of two runs found.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use tune_schema::Digest;
use tune_schema::text::printable;

pub use super::inputs::SourceDifference;
pub use super::rows::{Change, RowDifference};
pub use super::steps::StepDifference;
pub use super::stream::{StreamDifference, TokenDifference, TokenFacts};
pub use super::weights::{Distance, Unlike, WeightsDifference};
use super::{cause, text};

/// One of the two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Run {
    /// The first.
    A,
    /// The second.
    B,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// What is compared, in the order of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The keys of `resolved.yaml`.
    Recipe,
    /// The base model, its tokenizer and template.
    BaseModel,
    /// The data sources.
    Sources,
    /// Seeds, and what else the claim's inputs name.
    Seeds,
    /// The stream of rows.
    Stream,
    /// The weights before the first step.
    InitialState,
    /// The chain's records.
    Steps,
    /// The weights after the last step.
    Weights,
    /// The scores and answers.
    Evaluation,
    /// All files under the claim, by their bytes.
    Files,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Self; 10] = [
        Self::Recipe,
        Self::BaseModel,
        Self::Sources,
        Self::Seeds,
        Self::Stream,
        Self::InitialState,
        Self::Steps,
        Self::Weights,
        Self::Evaluation,
        Self::Files,
    ];

    /// A name for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Recipe => "recipe",
            Self::BaseModel => "base model",
            Self::Sources => "sources",
            Self::Seeds => "seeds",
            Self::Stream => "stream",
            Self::InitialState => "initial state",
            Self::Steps => "steps",
            Self::Weights => "weights",
            Self::Evaluation => "evaluation",
            Self::Files => "files",
        }
    }

    /// Whether this goes in, and does not come out.
    pub(super) fn goes_in(self) -> bool {
        self <= Self::Seeds
    }
}

/// What a difference can explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bearing {
    /// It goes in, and decides what is trained.
    Training,
    /// It goes in, and decides what is measured and kept, not what is trained.
    Records,
    /// It goes in, and decides nothing that is computed: a name, a licence, a note.
    Label,
    /// It comes out of training.
    Trained,
    /// It comes out of what is measured and kept.
    Recorded,
}

/// A value that is another one in each run; absent where a run has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Values {
    /// What it is.
    pub name: String,
    /// In A.
    pub a: Option<String>,
    /// In B.
    pub b: Option<String>,
}

impl Values {
    /// The values, where they differ.
    pub(super) fn differing<T: PartialEq + ToString>(name: &str, a: Option<T>, b: Option<T>) -> Option<Self> {
        let text = |value: Option<T>| value.map(|value| value.to_string());
        (a != b).then(|| Self { name: name.to_owned(), a: text(a), b: text(b) })
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = text::side_by_side(self.a.as_deref(), self.b.as_deref());
        write!(f, "{} is {a} in A, {b} in B", printable(&self.name))
    }
}

/// Files by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FilesDifference {
    /// With other bytes in each run.
    pub other_bytes: Vec<String>,
    /// Only in A.
    pub only_in_a: Vec<String>,
    /// Only in B.
    pub only_in_b: Vec<String>,
}

impl fmt::Display for FilesDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds =
            [("other bytes", &self.other_bytes), ("only in A", &self.only_in_a), ("only in B", &self.only_in_b)];
        let one = |(words, paths): (&str, &Vec<String>)| format!("{words}: {}", text::list(paths, 6));
        let words: Vec<String> = kinds.into_iter().filter(|(_, paths)| !paths.is_empty()).map(one).collect();
        f.write_str(&words.join("; "))
    }
}

/// What exactly differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum What {
    /// A value.
    Values(Values),
    /// A source.
    Source(SourceDifference),
    /// The stream.
    Stream(StreamDifference),
    /// A step.
    Step(StepDifference),
    /// The final weights.
    Weights(WeightsDifference),
    /// Files.
    Files(FilesDifference),
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What it is a part of.
    pub part: Part,
    /// What it can explain.
    pub bearing: Bearing,
    /// What differs.
    #[serde(flatten)]
    pub what: What,
}

impl Difference {
    /// A value that differs.
    pub(super) fn of_values(part: Part, bearing: Bearing, values: Values) -> Self {
        Self { part, bearing, what: What::Values(values) }
    }
}

impl fmt::Display for Difference {
    /// In words; a first line, and more where there are details.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Values(values) => values.fmt(f),
            What::Source(source) => source.fmt(f),
            What::Stream(stream) => stream.fmt(f),
            What::Step(step) => step.fmt(f),
            What::Weights(weights) => weights.fmt(f),
            What::Files(files) => files.fmt(f),
        }
    }
}

/// A part that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCompared {
    /// The part.
    pub part: Part,
    /// Why.
    pub reason: String,
}

/// How the comparison ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// The same claim and the same files under it.
    Same,
    /// Something differs.
    Differs,
    /// Nothing differs, but something could not be compared.
    CouldNotBeCompared,
}

/// A run that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunFacts {
    /// Its folder.
    pub folder: PathBuf,
    /// Its claim, as the manifest states it.
    pub claim_id: Option<Digest>,
    /// The first thing in which the folder does not verify at level `files`.
    pub problem: Option<String>,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How it ended.
    pub conclusion: Conclusion,
    /// What explains it, in one line.
    pub cause: String,
    /// The first run.
    pub a: RunFacts,
    /// The second run.
    pub b: RunFacts,
    /// What is worth knowing, and no difference in what is claimed.
    pub remarks: Vec<String>,
    /// Every difference, in the order of causes.
    pub differences: Vec<Difference>,
    /// What could not be compared.
    pub not_compared: Vec<NotCompared>,
}

impl Report {
    /// Draws the conclusion and names the cause.
    pub(super) fn new([a, b]: [RunFacts; 2], remarks: Vec<String>, findings: Findings) -> Self {
        let Findings { differences, not_compared } = findings;
        let conclusion = if !differences.is_empty() || a.problem.is_some() != b.problem.is_some() {
            Conclusion::Differs
        } else if not_compared.is_empty() {
            Conclusion::Same
        } else {
            Conclusion::CouldNotBeCompared
        };
        let problem = [(Run::A, &a), (Run::B, &b)]
            .into_iter()
            .find_map(|(run, facts)| facts.problem.as_ref().map(|problem| (run, problem.as_str())))
            .filter(|_| conclusion == Conclusion::Differs);
        let cause = cause::of(&differences, &not_compared, problem);
        Self { conclusion, cause, a, b, remarks, differences, not_compared }
    }

    /// 0 the same claim, 1 they differ, 2 could not be compared.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.conclusion {
            Conclusion::Same => 0,
            Conclusion::Differs => 1,
            Conclusion::CouldNotBeCompared => 2,
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) differences: Vec<Difference>,
    pub(super) not_compared: Vec<NotCompared>,
}

impl Findings {
    /// Adds what comparing some parts gave, or the reason why they could not be.
    pub(super) fn add(&mut self, parts: &[Part], found: Result<Vec<Difference>, String>) {
        match found {
            Ok(differences) => self.differences.extend(differences),
            Err(reason) => {
                let gap = |part: &Part| NotCompared { part: *part, reason: printable(&reason) };
                self.not_compared.extend(parts.iter().map(gap));
            }
        }
    }
}
