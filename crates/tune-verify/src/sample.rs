//! Level `sample`: the initial state, and some segments between checkpoints, computed again.
//!
//! A segment starts from the checkpoint's state, so each costs only its own steps, and any of them can be chosen after the
//! run was published.

use tune_kernels::KernelBackend;
use tune_kernels::philox::StreamKey;
use tune_schema::chain::ChainRecord;
use tune_schema::seed::Seed;
use tune_train::checkpoint::{State, read_checkpoint};
use tune_train::layout::weights_file;
use tune_train::run::record_of;
use tune_train::{Job, Observer, RunFolder, Trainer};

use crate::VerifyOptions;
use crate::device_bound::{elsewhere, judged};
use crate::files::Evidence;
use crate::verdict::{Level, Outcome, Verdict};

/// Computes the chosen segments again.
pub fn check<B: KernelBackend>(
    folder: &RunFolder,
    evidence: &Evidence,
    job: &Job,
    options: &VerifyOptions,
    devices: &[B::Device],
    verdict: &mut Verdict,
    observer: &mut dyn Observer,
) {
    observer.phase("loading the model");
    let mut trainer = match Trainer::<B>::new(job, devices) {
        Ok(trainer) => trainer,
        Err(error) => return verdict.record(Level::Sample, "model", Outcome::NotChecked(error.to_string())),
    };
    let chain = &evidence.chain;
    let stated = chain.first().and_then(|record| record.state_root);
    let initial = trainer.state();
    let found = initial.root();
    let outcome = if stated == Some(found) {
        Outcome::Verified(format!("{found} from the seed"))
    } else {
        Outcome::Differs(format!("step 0: the seed gives {found}, the chain has another root"))
    };
    verdict.record(Level::Sample, "initial state", outcome);
    let segments = segments(chain);
    // The state at step 0 follows from the seed, and needs no checkpoint.
    let possible: Vec<(u64, u64)> =
        segments.iter().copied().filter(|(from, _)| *from == 0 || !evidence.withheld.contains(from)).collect();
    let wanted = options.sample.segments(segments.len());
    let mut chosen = choose(possible.len(), wanted, options.seed.unwrap_or_else(random_seed));
    // Level `full` computes all of them again.
    let gap = |reason: String| match options.level {
        Level::Full => Outcome::Withheld(reason),
        _ => Outcome::NotChecked(reason),
    };
    // The result is that of the last checkpoint; where that is withheld, only the steps before it say so.
    let last = segments.last().copied().filter(|(_, to)| evidence.withheld.contains(to));
    if let Some(last) = last {
        match possible.iter().position(|segment| *segment == last) {
            Some(index) if chosen.contains(&index) => {}
            Some(index) => chosen.push(index),
            None => verdict.record(
                Level::Sample,
                "result",
                gap("neither the last checkpoint nor the one before it is here: nothing short of `full` ties the result to the chain"
                    .to_owned()),
            ),
        }
    }
    let elsewhere = elsewhere(folder, job);
    for index in &chosen {
        let (from, to) = possible[*index];
        observer.phase(&format!("computing steps {} to {to} again", from + 1));
        let name = format!("steps {}–{to}", from + 1);
        let result = replay(folder, chain, job, &mut trainer, &initial, (from, to)).map(|difference| {
            let is_last = segments.last() == Some(&(from, to));
            difference.or_else(|| is_last.then(|| other_result(evidence, &trainer)).flatten())
        });
        match result {
            Ok(None) => {
                verdict.record(Level::Sample, name, Outcome::Verified("every loss, norm and the state root".to_owned()))
            }
            Ok(Some(difference)) => {
                let outcome = judged(Outcome::Differs(difference), elsewhere.as_deref());
                verdict.record(Level::Sample, name, outcome);
            }
            Err(error) => verdict.record(Level::Sample, name, Outcome::NotChecked(error.to_string())),
        }
    }
    if chosen.is_empty() {
        verdict.record(Level::Sample, "segments", Outcome::NotChecked("no step was computed again".to_owned()));
    }
    let sized_by_chance = matches!(options.sample, SampleSize::Confidence { .. });
    if chosen.len() < wanted.min(segments.len()) || sized_by_chance && possible.len() < segments.len() {
        let reason = format!(
            "{wanted} segments were asked for, and of {} only {} begin at a checkpoint that is here",
            segments.len(),
            possible.len()
        );
        verdict.record(Level::Sample, "segments", gap(reason));
    }
    if options.level == Level::Sample {
        verdict.confidence = Some(confidence(chosen.len(), segments.len(), possible.len()));
    }
}

/// Whether the weights after the last step are another result than the claim's.
fn other_result<B: KernelBackend>(evidence: &Evidence, trainer: &Trainer<B>) -> Option<String> {
    let (found, stated) = (trainer.state().parameter_root(), evidence.manifest.claim.final_root);
    (found != stated).then(|| format!("the last step gives weights with the root {found}, the claim's have {stated}"))
}

/// Pairs of neighbouring checkpoints.
fn segments(chain: &[ChainRecord]) -> Vec<(u64, u64)> {
    let saved: Vec<u64> = chain.iter().filter(|record| record.state_root.is_some()).map(|record| record.step).collect();
    saved.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// `count` of `n` without repetition, in order: the smallest of `n` random numbers keyed by `seed`.
fn choose(n: usize, count: usize, seed: u64) -> Vec<usize> {
    let key = StreamKey(Seed(seed).stream("verify-sample"));
    let mut indices: Vec<usize> = (0..n).collect();
    indices.sort_by(|a, b| key.uniform(*a as u64).total_cmp(&key.uniform(*b as u64)));
    indices.truncate(count);
    indices.sort_unstable();
    indices
}

/// A seed nobody can know beforehand: the randomness with which the standard library keys its hash maps.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Steps `from + 1` to `to` again; the first difference, if there is one.
fn replay<B: KernelBackend>(
    folder: &RunFolder,
    chain: &[ChainRecord],
    job: &Job,
    trainer: &mut Trainer<B>,
    initial: &State,
    (from, to): (u64, u64),
) -> Result<Option<String>, tune_train::TrainError> {
    let at = |step: u64| &chain[usize::try_from(step).unwrap_or(usize::MAX)];
    let state = if from == 0 {
        initial.clone()
    } else {
        read_checkpoint(&folder.checkpoint(from), weights_file(&job.recipe))?.0
    };
    trainer.restore(&state, from, at(from).rows, at(from).stream)?;
    for step in from + 1..=to {
        let stated = at(step);
        let result = trainer.train_step(&job.prepared.train)?;
        let root = (step == to).then(|| trainer.state().root());
        let eval = tune_train::run::evaluation_due(job, trainer)?;
        let found = record_of(step, &result, eval, root, stated.previous);
        if found != *stated {
            return Ok(Some(difference(&found, stated)));
        }
    }
    Ok(None)
}

/// A value of a record, which may lack it.
fn words<T: std::fmt::Debug>(value: Option<T>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| format!("{value:?}"))
}

/// The first member in which two records differ.
pub(crate) fn difference(found: &ChainRecord, stated: &ChainRecord) -> String {
    let step = stated.step;
    if found.stream != stated.stream || found.rows != stated.rows {
        return format!("step {step}: the rows differ");
    }
    let bits = [
        ("loss", found.loss, stated.loss),
        ("gradient norm", found.grad_norm, stated.grad_norm),
        ("learning rate", found.learning_rate, stated.learning_rate),
        ("held-out loss", found.eval_loss, stated.eval_loss),
    ];
    let text = |name: &str, found: String, stated: String| {
        format!("step {step}: the {name} is {found}, the chain says {stated}")
    };
    if let Some((name, found, stated)) = bits.into_iter().find(|(_, found, stated)| found != stated) {
        return text(name, words(found), words(stated));
    }
    if found.state_root != stated.state_root {
        return text("state root", words(found.state_root), words(stated.state_root));
    }
    format!("step {step}: the counts differ")
}

/// How many segments a sample has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SampleSize {
    /// So many.
    Segments(usize),
    /// As many as find a forgery with this probability, if so large a share of the segments is forged.
    Confidence {
        /// Of finding at least one forged segment.
        probability: f64,
        /// Share of the segments.
        forged: f64,
    },
}

impl SampleSize {
    /// Segments of `n` to compute again.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a number of segments"
    )]
    pub fn segments(self, n: usize) -> usize {
        match self {
            Self::Segments(count) => count,
            Self::Confidence { probability, forged } => {
                let forged = ((n as f64 * forged).ceil() as usize).clamp(1, n.max(1));
                (0..=n).find(|chosen| caught(*chosen, n, forged) >= probability).unwrap_or(n)
            }
        }
    }
}

/// Probability that `chosen` of `n` segments, drawn without repetition, have one of `forged` among them.
#[expect(clippy::cast_precision_loss, reason = "a probability for people")]
fn caught(chosen: usize, n: usize, forged: usize) -> f64 {
    1.0 - (0..forged).map(|i| (n - chosen).saturating_sub(i) as f64 / (n - i) as f64).product::<f64>()
}

/// What `chosen` of `n` segments show, if `possible` could have been chosen.
fn confidence(chosen: usize, n: usize, possible: usize) -> String {
    if possible < n {
        return format!(
            "{chosen} of {n} segments computed again, chosen among the {possible} whose checkpoints are here: a forgery in one of the \
             others would not be seen at this level"
        );
    }
    let percent = |forged: usize| 100.0 * caught(chosen, n, forged);
    let one = format!(
        "{chosen} of {n} segments computed again: a single forged one is found with {:.0} %",
        percent(1.min(n))
    );
    match n.div_ceil(10) {
        0 | 1 => one,
        tenth => format!("{one}, {tenth} of them with {:.0} %", percent(tenth)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_repeat_with_the_seed_and_do_not_repeat_themselves() {
        assert_eq!(choose(20, 5, 7), choose(20, 5, 7));
        assert_ne!(choose(20, 5, 7), choose(20, 5, 8));
        let mut all = choose(9, 100, 1);
        all.dedup();
        assert_eq!(all.len(), 9);
    }

    #[test]
    fn confidence_counts() {
        assert!(confidence(2, 10, 10).contains("with 20 %"), "{}", confidence(2, 10, 10));
        assert!(confidence(10, 10, 10).contains("with 100 %"));
        assert!(confidence(1, 10, 1).contains("would not be seen"));
        let size = |probability, forged, n| SampleSize::Confidence { probability, forged }.segments(n);
        // Of 20 segments one is forged: 19 of them find it with 95 %, only all of them with 99 %.
        assert_eq!((size(0.95, 0.05, 20), size(0.99, 0.05, 20)), (19, 20));
        // Five of 100: 1 - (41·40·39·38·37)/(100·99·98·97·96) is the first above 99 %.
        assert_eq!(size(0.99, 0.05, 100), 59);
        assert_eq!((size(0.99, 0.05, 1), size(0.99, 1.0, 7)), (1, 1));
    }
}
