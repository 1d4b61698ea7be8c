//! Level `sample`: the initial state, and some segments between checkpoints, computed again.
//!
//! A segment starts from the checkpoint's state, so each costs only its own steps, and any of them can be chosen after the
//! run was published.

use tune_kernels::KernelBackend;
use tune_kernels::philox::StreamKey;
use tune_schema::chain::ChainRecord;
use tune_schema::seed::Seed;
use tune_train::checkpoint::read_checkpoint;
use tune_train::layout::weights_file;
use tune_train::run::record_of;
use tune_train::{Job, Observer, RunFolder, Trainer};

use crate::VerifyOptions;
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
    let found = trainer.state().root();
    let outcome = if stated == Some(found) {
        Outcome::Verified(format!("{found} from the seed"))
    } else {
        Outcome::Differs(format!("step 0: the seed gives {found}, the chain has another root"))
    };
    verdict.record(Level::Sample, "initial state", outcome);
    let segments = segments(chain);
    let chosen = choose(segments.len(), options.segments, options.seed.unwrap_or_else(random_seed));
    for index in &chosen {
        let (from, to) = segments[*index];
        observer.phase(&format!("computing steps {} to {to} again", from + 1));
        let name = format!("steps {}–{to}", from + 1);
        match replay(folder, chain, job, &mut trainer, from, to) {
            Ok(None) => {
                verdict.record(Level::Sample, name, Outcome::Verified("every loss, norm and the state root".to_owned()))
            }
            Ok(Some(difference)) => verdict.record(Level::Sample, name, Outcome::Differs(difference)),
            Err(error) => verdict.record(Level::Sample, name, Outcome::NotChecked(error.to_string())),
        }
    }
    if chosen.is_empty() {
        verdict.record(Level::Sample, "segments", Outcome::NotChecked("no step was computed again".to_owned()));
    }
    verdict.confidence = Some(confidence(chosen.len(), segments.len()));
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
    from: u64,
    to: u64,
) -> Result<Option<String>, tune_train::TrainError> {
    let at = |step: u64| &chain[usize::try_from(step).unwrap_or(usize::MAX)];
    let (state, _) = read_checkpoint(&folder.checkpoint(from), weights_file(&job.recipe))?;
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

/// What `chosen` of `n` segments show.
#[expect(clippy::cast_precision_loss, reason = "a probability for people")]
fn confidence(chosen: usize, n: usize) -> String {
    let caught = |forged: usize| {
        let missed = (0..forged).map(|i| (n - chosen).saturating_sub(i) as f64 / (n - i) as f64).product::<f64>();
        100.0 * (1.0 - missed)
    };
    let one =
        format!("{chosen} of {n} segments computed again: a single forged one is found with {:.0} %", caught(1.min(n)));
    match n.div_ceil(10) {
        0 | 1 => one,
        tenth => format!("{one}, {tenth} of them with {:.0} %", caught(tenth)),
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
        assert!(confidence(2, 10).contains("with 20 %"), "{}", confidence(2, 10));
        assert!(confidence(10, 10).contains("with 100 %"));
    }
}
