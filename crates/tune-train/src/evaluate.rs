//! Held-out scores before and after training: loss, and greedy answers compared with their references.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tune_data::EvalExample;
use tune_kernels::KernelBackend;
use tune_schema::Digest;
use tune_schema::chain::F32Bits;
use tune_schema::commitment::Secret;

use crate::TrainError;
use crate::job::Job;
use crate::trainer::Trainer;

/// One held-out example and the model's greedy answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// With its texts.
    Open(OpenAnswer),
    /// To an example of an unshareable source: with commitments to its texts.
    Withheld(WithheldAnswer),
}

/// An answer with its texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAnswer {
    /// What the model was given.
    pub prompt: String,
    /// What it should answer.
    pub reference: String,
    /// What it answered.
    pub answer: String,
    /// Whether both are equal once white space at the ends is cut off.
    pub correct: bool,
}

/// An answer of which only whoever has the data and its secret can tell what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WithheldAnswer {
    /// The source.
    pub source: String,
    /// [`Secret::question`] over the canonical JSON of `[prompt, reference]`.
    pub question: Digest,
    /// [`Secret::answer`] over the answer.
    pub answer: Digest,
    /// Whether it equals the reference once white space at the ends is cut off.
    pub correct: bool,
}

impl Answer {
    /// Whether it is scored as correct.
    #[must_use]
    pub fn is_correct(&self) -> bool {
        match self {
            Self::Open(OpenAnswer { correct, .. }) | Self::Withheld(WithheldAnswer { correct, .. }) => *correct,
        }
    }

    /// Its texts, where it has them.
    #[must_use]
    pub fn texts(&self) -> Option<&OpenAnswer> {
        match self {
            Self::Open(answer) => Some(answer),
            Self::Withheld(_) => None,
        }
    }
}

impl OpenAnswer {
    /// What [`Self::correct`] should be.
    #[must_use]
    pub fn should_be_correct(&self) -> bool {
        self.answer.trim() == self.reference.trim()
    }

    /// The form without texts, of the held-out example at `index`, `before` or `after` training.
    fn withheld(&self, source: &str, secret: &Secret, when: &str, index: u64) -> Result<WithheldAnswer, TrainError> {
        Ok(WithheldAnswer {
            source: source.to_owned(),
            question: question(secret, index, &self.prompt, &self.reference)?,
            answer: secret.answer(when, index, self.answer.as_bytes()),
            correct: self.correct,
        })
    }
}

fn question(secret: &Secret, index: u64, prompt: &str, reference: &str) -> Result<Digest, TrainError> {
    Ok(secret.question(index, &tune_schema::to_canonical_json(&[prompt, reference])?))
}

/// Whether an answer in a folder is to the held-out example at `index`.
///
/// # Errors
/// None in practice.
pub fn is_asked(job: &Job, index: u64, example: &EvalExample, answer: &Answer) -> Result<bool, TrainError> {
    Ok(match (answer, job.secrets.get(&example.source)) {
        (Answer::Open(answer), None) => {
            example.prompt_text == answer.prompt && example.reference_text == answer.reference
        }
        (Answer::Withheld(answer), Some(secret)) => {
            let asked = question(secret, index, &example.prompt_text, &example.reference_text)?;
            answer.source == example.source && answer.question == asked
        }
        _ => false,
    })
}

/// `evaluation-before.json` and `evaluation-after.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// Mean loss over held-out supervised tokens, where anything is held out.
    pub loss: Option<F32Bits>,
    /// Greedy answers, in the order of the held-out examples.
    pub answers: Vec<Answer>,
}

impl Scores {
    /// How many answers are correct.
    #[must_use]
    pub fn correct(&self) -> u64 {
        self.answers.iter().filter(|answer| answer.is_correct()).count() as u64
    }
}

/// Prompts answered at a time. Any number gives the same answers.
const BATCH: usize = 32;

/// Scores the model as it is, `before` or `after` training. Of examples that may not be shared, commitments stand in place of
/// texts.
///
/// # Errors
/// Rows that cannot be read or make no batch.
pub fn evaluate<B: KernelBackend>(job: &Job, trainer: &Trainer<B>, when: &str) -> Result<Scores, TrainError> {
    let loss = trainer.evaluation_loss(&job.prepared.eval_rows)?.map(F32Bits::new);
    let count = job.prepared.eval_examples.len().min(job.recipe.eval_exact_match as usize);
    let stop = job.tokenizer.stop_ids();
    let mut answers = Vec::with_capacity(count);
    for examples in job.prepared.eval_examples[..count].chunks(BATCH) {
        let prompts: Vec<&[u32]> = examples.iter().map(|example| example.prompt_ids.as_slice()).collect();
        let generated = trainer.model().generate_greedy_batch(&prompts, job.recipe.eval_max_new_tokens as usize, &stop);
        for (example, ids) in examples.iter().zip(generated) {
            let answer = job.tokenizer.decode(&ids)?;
            let (prompt, reference) = (example.prompt_text.clone(), example.reference_text.clone());
            let mut answer = OpenAnswer { prompt, reference, answer, correct: false };
            answer.correct = answer.should_be_correct();
            answers.push(match job.secrets.get(&example.source) {
                Some(secret) => {
                    Answer::Withheld(answer.withheld(&example.source, secret, when, answers.len() as u64)?)
                }
                None => Answer::Open(answer),
            });
        }
    }
    Ok(Scores { loss, answers })
}

/// Writes scores in canonical form.
///
/// # Errors
/// A file that cannot be written.
pub fn write_scores(path: &Path, scores: &Scores) -> Result<(), TrainError> {
    tune_fs::write_atomic(path, &tune_schema::to_canonical_json(scores)?)?;
    Ok(())
}

/// Largest file of scores that is read: prompts and answers of every held-out example.
const SCORES_LIMIT: u64 = 1 << 30;

/// Reads scores.
///
/// # Errors
/// A missing or damaged file.
pub fn read_scores(path: &Path) -> Result<Scores, TrainError> {
    serde_json::from_slice(&tune_fs::read_limited(path, SCORES_LIMIT)?)
        .map_err(|source| TrainError::Json { path: path.to_owned(), source })
}
