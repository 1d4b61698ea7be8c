//! Held-out scores before and after training: loss, and greedy answers compared with their references.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tune_kernels::KernelBackend;
use tune_schema::chain::F32Bits;

use crate::TrainError;
use crate::job::Job;
use crate::trainer::Trainer;

/// One held-out example and the model's greedy answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What the model was given.
    pub prompt: String,
    /// What it should answer.
    pub reference: String,
    /// What it answered.
    pub answer: String,
    /// Whether both are equal once white space at the ends is cut off.
    pub correct: bool,
}

impl Answer {
    /// What [`Self::correct`] should be.
    #[must_use]
    pub fn is_correct(&self) -> bool {
        self.answer.trim() == self.reference.trim()
    }
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
        self.answers.iter().filter(|answer| answer.correct).count() as u64
    }
}

/// Prompts answered at a time. Any number gives the same answers.
const BATCH: usize = 32;

/// Scores the model as it is.
///
/// # Errors
/// Rows that cannot be read or make no batch.
pub fn evaluate<B: KernelBackend>(job: &Job, trainer: &Trainer<B>) -> Result<Scores, TrainError> {
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
            let mut answer = Answer { prompt, reference, answer, correct: false };
            answer.correct = answer.is_correct();
            answers.push(answer);
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

/// Reads scores.
///
/// # Errors
/// A missing or damaged file.
pub fn read_scores(path: &Path) -> Result<Scores, TrainError> {
    serde_json::from_slice(&tune_fs::read(path)?).map_err(|source| TrainError::Json { path: path.to_owned(), source })
}
