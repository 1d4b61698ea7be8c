//! The first step with another loss, norm, learning rate or state.

use std::fmt;

use serde::Serialize;
use tune_schema::chain::{ChainRecord, F32Bits};

use super::report::{Bearing, Difference, Part, Values, What};

/// A step of which the chains have other records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepDifference {
    /// The step; 0 is the state before the first.
    pub step: u64,
    /// What differs: bits, and the number they stand for.
    pub values: Vec<Values>,
}

impl StepDifference {
    /// The first value that differs, by name.
    pub(super) fn first(&self) -> &str {
        self.values.first().map_or("record", |values| values.name.as_str())
    }
}

impl fmt::Display for StepDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} is the first that differs", self.step)?;
        self.values.iter().try_for_each(|values| write!(f, "\n{values}"))
    }
}

/// The first step that differs in something that both chains have, and otherwise the first at which only one of them
/// has something; then how many steps there are.
pub(super) fn compare([a, b]: [&[ChainRecord]; 2]) -> Vec<Difference> {
    let step = |bearing: Bearing, values_of: &dyn Fn(&ChainRecord, &ChainRecord) -> Vec<Values>| {
        let steps = a.iter().zip(b).map(|(a, b)| StepDifference { step: a.step, values: values_of(a, b) });
        let what = steps.into_iter().find(|found| !found.values.is_empty())?;
        Some(Difference { part: Part::Steps, bearing, what: What::Step(what) })
    };
    let of_both =
        |a: &ChainRecord, b: &ChainRecord| -> Vec<Values> { values(a, b).into_iter().filter(computed).collect() };
    let computed_step = step(Bearing::Trained, &of_both);
    let first = computed_step.or_else(|| step(Bearing::Recorded, &values));
    let count = |chain: &[ChainRecord]| Some(chain.len().saturating_sub(1));
    let count = Values::differing("the number of steps", count(a), count(b));
    first.into_iter().chain(count.map(|values| Difference::of_values(Part::Steps, Bearing::Trained, values))).collect()
}

/// Whether a difference comes of the computation: a held-out loss or state root that only one run has was merely not
/// asked for in the other.
fn computed(values: &Values) -> bool {
    values.a.is_some() && values.b.is_some() || !["held-out loss", "state root"].contains(&values.name.as_str())
}

/// What differs in two records; the rows they were computed from are compared as a stream.
fn values(a: &ChainRecord, b: &ChainRecord) -> Vec<Values> {
    let bits = |name: &str, value: fn(&ChainRecord) -> Option<F32Bits>| {
        let words = |record: &ChainRecord| value(record).map(|bits| format!("{bits:?}"));
        Values::differing(name, words(a), words(b))
    };
    let found = [
        bits("loss", |record| record.loss),
        bits("gradient norm", |record| record.grad_norm),
        bits("learning rate", |record| record.learning_rate),
        bits("held-out loss", |record| record.eval_loss),
        Values::differing("number of rows", Some(a.rows), Some(b.rows)),
        Values::differing("number of tokens", Some(a.tokens), Some(b.tokens)),
        Values::differing("number of supervised tokens", Some(a.supervised_tokens), Some(b.supervised_tokens)),
        Values::differing("state root", a.state_root, b.state_root),
        Values::differing("number", Some(a.step), Some(b.step)),
    ];
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use tune_schema::Digest;

    use super::*;

    fn record(step: u64) -> ChainRecord {
        let value = |value: f32| (step > 0).then(|| F32Bits::new(value));
        ChainRecord {
            step,
            loss: value(1.5),
            grad_norm: value(1.0),
            learning_rate: value(0.1),
            tokens: 10,
            supervised_tokens: 5,
            rows: 2 * step,
            stream: Digest::of(b"stream"),
            eval_loss: None,
            state_root: None,
            previous: Digest::of(b"previous"),
        }
    }

    fn found(a: &[ChainRecord], b: &[ChainRecord]) -> Vec<(Bearing, String)> {
        compare([a, b]).into_iter().map(|found| (found.bearing, found.to_string())).collect()
    }

    #[test]
    fn the_first_step_is_named_with_bits_and_values() {
        let honest: Vec<ChainRecord> = (0..4).map(record).collect();
        assert_eq!(found(&honest, &honest), []);
        let mut other = honest.clone();
        other[2].loss = Some(F32Bits(0x3fc0_0001));
        other[3].loss = Some(F32Bits::new(9.0));
        let text = "step 2 is the first that differs\nloss is 3fc00000 (1.5) in A, 3fc00001 (1.5000001) in B";
        assert_eq!(found(&honest, &other), [(Bearing::Trained, text.to_owned())]);
    }

    #[test]
    fn what_was_not_asked_for_is_not_computed_otherwise() {
        let honest: Vec<ChainRecord> = (0..4).map(record).collect();
        let mut other = honest.clone();
        other[1].eval_loss = Some(F32Bits::new(2.0));
        let bearings = |other: &[ChainRecord]| found(&honest, other).into_iter().map(|f| f.0).collect::<Vec<_>>();
        assert_eq!(bearings(&other), [Bearing::Recorded]);
        other[3].grad_norm = None;
        assert_eq!(bearings(&other), [Bearing::Trained]);
        assert_eq!(bearings(&honest[..3]), [Bearing::Trained]);
    }
}
