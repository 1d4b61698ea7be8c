//! Level `sample`: the initial state, and some segments between checkpoints, computed again.
//!
//! A segment starts from the checkpoint's state, so each costs only its own steps, and any of them can be chosen after the
//! run was published.

use tune_kernels::KernelBackend;
use tune_kernels::philox::StreamKey;
use tune_schema::chain::ChainRecord;
use tune_schema::seed::Seed;
use tune_train::checkpoint::{State, read_checkpoint};
use tune_train::job::WithoutRows;
use tune_train::layout::weights_file;
use tune_train::run::record_of;
use tune_train::trainer::initial_model;
use tune_train::{Job, Observer, RunFolder, Trainer};

use crate::VerifyOptions;
use crate::data::list_of;
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
    let initial = trainer.state();
    compare_initial(evidence, &initial, verdict);
    let segments = segments(chain);
    // The state at step 0 follows from the seed, and needs no checkpoint.
    let possible: Vec<(u64, u64)> =
        segments.iter().copied().filter(|(from, _)| *from == 0 || !evidence.withheld.contains(from)).collect();
    let wanted = options.sample.segments(&segments.iter().map(steps_of).collect::<Vec<_>>());
    let mut chosen = choose(possible.len(), wanted, options.seed.unwrap_or_else(random_seed));
    // Level `full` computes all of them again.
    let gap = |reason: String| match options.level {
        Level::Full => Outcome::Withheld(reason),
        _ => Outcome::NotChecked(reason),
    };
    // The result is that of the last checkpoint, which only the steps before it tie to the chain. Whoever chooses which
    // checkpoints are here could choose that these steps are never drawn, so then they always are.
    let last = segments.last().copied().filter(|_| !evidence.withheld.is_empty());
    if let Some(last) = last {
        match possible.iter().position(|segment| *segment == last) {
            Some(index) if chosen.contains(&index) => {}
            Some(index) => chosen.push(index),
            // Level `full` ties it by itself.
            None if options.level == Level::Full => {}
            None => verdict.record(
                Level::Sample,
                "result",
                Outcome::NotChecked(
                    "the last checkpoint but one is not here: nothing short of `full` ties the result to the chain"
                        .to_owned(),
                ),
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
        let beyond: Vec<String> = segments
            .iter()
            .filter(|one| !possible.contains(one))
            .map(|(from, to)| format!("{}–{to}", from + 1))
            .collect();
        if !beyond.is_empty() {
            let steps = beyond.join(", ");
            let reason = format!("steps {steps} begin at checkpoints that are not here: only `full` computes them");
            verdict.record(Level::Sample, "segments", Outcome::Withheld(reason));
        }
        let (count, possible_count) = (segments.len(), possible.len());
        let sampled: u64 = chosen.iter().map(|index| steps_of(&possible[*index])).sum();
        let cost = Cost { sampled, total: segments.iter().map(steps_of).sum() };
        let above = options.sample == SampleSize::Twentieth && cost.is_above();
        let hint = if above { cost.hint() } else { String::new() };
        verdict.confidence = Some(confidence(chosen.len(), count, possible_count, cost) + &hint);
    }
}

/// The state from the seed against the chain's first root.
fn compare_initial(evidence: &Evidence, initial: &State, verdict: &mut Verdict) {
    let found = initial.root();
    let (parameters, stated) = (initial.parameter_root(), evidence.manifest.claim.initial_root);
    let outcome = if evidence.chain.first().and_then(|record| record.state_root) != Some(found) {
        Outcome::Differs(format!("step 0: the seed gives {found}, the chain has another root"))
    } else if parameters != stated {
        // Without the first checkpoint nothing else holds the one root to the other.
        Outcome::Differs(format!(
            "step 0: the seed gives weights with the root {parameters}, the claim's have {stated}"
        ))
    } else {
        Outcome::Verified(format!("{found} from the seed"))
    };
    verdict.record(Level::Sample, "initial state", outcome);
}

/// Computes the initial state again, which needs no rows, and says that no step could be.
pub fn check_initial<B: KernelBackend>(
    evidence: &Evidence,
    parts: &WithoutRows,
    devices: &[B::Device],
    verdict: &mut Verdict,
    observer: &mut dyn Observer,
) {
    observer.phase("loading the model");
    let device = devices.first().expect("a device");
    match initial_model::<B>(&parts.recipe, &parts.base, device) {
        Ok(model) => {
            let steps = evidence.chain.len().saturating_sub(1) as u64;
            let initial = Trainer::with_model(model, parts.recipe.clone(), steps).state();
            compare_initial(evidence, &initial, verdict);
        }
        Err(error) => verdict.record(Level::Sample, "model", Outcome::NotChecked(error.to_string())),
    }
    let reason = format!("no step can be computed again without the rows of {}", list_of(&parts.withheld));
    verdict.record(Level::Sample, "segments", Outcome::NotChecked(reason));
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

/// Steps of a segment.
fn steps_of((from, to): &(u64, u64)) -> u64 {
    to - from
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

/// A sample costs one in so many steps of the run, where nothing else is asked for.
const ONE_STEP_IN: u64 = 20;

/// How many segments a sample has.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum SampleSize {
    /// As many as are at most 5 % of the run's steps, whichever are drawn; one where that is more already.
    #[default]
    Twentieth,
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
    /// How many segments to compute again, where these are the steps of each.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a number of segments"
    )]
    pub fn segments(self, steps: &[u64]) -> usize {
        let n = steps.len();
        match self {
            Self::Twentieth => {
                let longest = steps.iter().max().map_or(1, |longest| longest.saturating_mul(ONE_STEP_IN).max(1));
                ((steps.iter().sum::<u64>() / longest) as usize).clamp(1, n.max(1))
            }
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

/// What a sample costs: its steps, of all steps of the run.
#[derive(Debug, Clone, Copy)]
struct Cost {
    sampled: u64,
    total: u64,
}

impl Cost {
    /// Whether it is more than a sample should be.
    fn is_above(self) -> bool {
        self.sampled.saturating_mul(ONE_STEP_IN) > self.total
    }

    /// What would make it less.
    fn hint(self) -> String {
        let less = match self.total / ONE_STEP_IN {
            0 => "so does one of every run of so few steps".to_owned(),
            1 => "a checkpoint after every step would make it less".to_owned(),
            steps => format!("checkpoints at most {steps} steps apart would make it less"),
        };
        format!("; this sample costs more than {} %: {less}", 100 / ONE_STEP_IN)
    }
}

/// `2 of 40 steps (5.0 %)`
impl std::fmt::Display for Cost {
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = 100.0 * self.sampled as f64 / self.total.max(1) as f64;
        write!(f, "{} of {} steps ({share:.1} %)", self.sampled, self.total)
    }
}

/// What `chosen` of `n` segments show, if `possible` could have been chosen.
fn confidence(chosen: usize, n: usize, possible: usize, cost: Cost) -> String {
    if possible < n {
        return format!(
            "{chosen} of {n} segments computed again, {cost}, chosen among the {possible} whose checkpoints are here: a forgery in one of the \
             others would not be seen at this level"
        );
    }
    let percent = |forged: usize| 100.0 * caught(chosen, n, forged);
    let one = format!(
        "{chosen} of {n} segments computed again, {cost}: a single forged one is found with {:.0} %",
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
    fn a_sample_costs_a_twentieth_or_one_segment() {
        let size = |steps: &[u64]| SampleSize::default().segments(steps);
        for (segments, length, chosen, share) in [
            (4, 50, 1, "25.0 %"),
            (19, 50, 1, "5.3 %"),
            (20, 50, 1, "5.0 %"),
            (39, 1, 1, "2.6 %"),
            (200, 50, 10, "5.0 %"),
        ] {
            let steps = vec![length; segments];
            assert_eq!(size(&steps), chosen, "{segments} segments");
            let cost = Cost { sampled: chosen as u64 * length, total: segments as u64 * length };
            assert!(cost.to_string().ends_with(&format!("({share})")), "{segments} segments: {cost}");
            assert_eq!(cost.is_above(), segments < 20, "{segments} segments");
        }
        // The last segment is often shorter, and a long one among short ones counts: whichever are drawn.
        assert_eq!(size(&[[50; 40].as_slice(), &[1]].concat()), 2);
        assert_eq!(size(&[[1; 100].as_slice(), &[100]].concat()), 1);
        assert_eq!((size(&[]), size(&[7])), (1, 1));
        let hint = |total| Cost { sampled: total, total }.hint();
        assert!(hint(200).contains("at most 10 steps apart") && hint(39).contains("after every step"));
        assert!(hint(19).contains("so few steps"));
    }

    #[test]
    fn confidence_counts() {
        let confidence = |chosen: usize, n: usize, possible| {
            super::confidence(chosen, n, possible, Cost { sampled: 5 * chosen as u64, total: 5 * n as u64 })
        };
        let two = confidence(2, 10, 10);
        assert!(two.contains("with 20 %") && two.contains("10 of 50 steps (20.0 %)"), "{two}");
        assert!(confidence(10, 10, 10).contains("with 100 %"));
        assert!(confidence(1, 10, 1).contains("would not be seen"));
        let size = |probability, forged, n| SampleSize::Confidence { probability, forged }.segments(&vec![5; n]);
        // Of 20 segments one is forged: 19 of them find it with 95 %, only all of them with 99 %.
        assert_eq!((size(0.95, 0.05, 20), size(0.99, 0.05, 20)), (19, 20));
        // Five of 100: 1 - (41·40·39·38·37)/(100·99·98·97·96) is the first above 99 %.
        assert_eq!(size(0.99, 0.05, 100), 59);
        assert_eq!((size(0.99, 0.05, 1), size(0.99, 1.0, 7)), (1, 1));
    }
}
