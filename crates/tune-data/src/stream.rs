//! The stream of training rows: any row by its number, as a pure function of examples, seed and settings.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use tune_schema::recipe::Recipe;
use tune_schema::seed::{Seed, streams};

use crate::DataError;
use crate::fraction::{ONE, millionths, nearest, rounded_up};
use crate::pack::{Packed, Row, pack};
use crate::permute::Permutation;
use crate::store::TokenStore;

/// The examples of one source that are trained on, and how often they are taken in an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Its first example in the store; the others follow.
    first: u32,
    /// How many are trained on.
    len: u32,
    /// For each held-out example of the source, how many before it are trained on.
    gaps: Vec<u32>,
    /// Examples taken in an epoch by repeating all of them.
    whole: u64,
    /// Examples taken by choosing among them.
    part: u64,
}

impl Share {
    /// The examples of the store in a range, without those that are held out, which come in ascending order. `weight`
    /// says how often they are taken in an epoch: whole repeats, and the part of another.
    #[must_use]
    pub fn new(examples: Range<u32>, held_out: impl IntoIterator<Item = u32>, weight: f64) -> Self {
        let within = held_out.into_iter().filter(|example| examples.contains(example));
        let gaps: Vec<u32> = (0..).zip(within).map(|(before, example)| example - examples.start - before).collect();
        let held_out = u32::try_from(gaps.len()).expect("no more than there are examples");
        let len = examples.end - examples.start - held_out;
        let (repeats, rest) = (millionths(weight) / ONE, millionths(weight) % ONE);
        let (whole, part) = (repeats.saturating_mul(len.into()), nearest(rest, len.into()));
        Self { first: examples.start, len, gaps, whole, part }
    }

    /// The `i`th of its examples.
    #[expect(clippy::cast_possible_truncation, reason = "no more than there are examples")]
    fn get(&self, i: u32) -> u32 {
        self.first + i + self.gaps.partition_point(|before| *before <= i) as u32
    }
}

/// A stranger's recipe must not keep a verifier busy for ever.
const EPOCH_LIMIT: usize = 100_000;

/// The stream. It holds in memory a few bytes an example: their lengths and the rows of one epoch.
#[derive(Debug)]
pub struct Stream {
    examples: Arc<TokenStore>,
    shares: Vec<Share>,
    /// Examples that an epoch takes of the shares up to and with each.
    taken: Vec<u64>,
    seed: Seed,
    limit: usize,
    packing: bool,
    rows_per_step: u64,
    /// First row of each epoch, then the end.
    starts: Vec<u64>,
    len: u64,
    recent: Mutex<Option<(usize, Arc<Packed>)>>,
}

impl Stream {
    /// The stream of a recipe over `examples`.
    ///
    /// With `max_steps` there are that many whole steps, over as many epochs as it takes; otherwise `num_epochs` epochs,
    /// of the last one the fraction, rounded up to a row.
    ///
    /// # Errors
    /// Shares of which none comes to an example, or all to more than 2^32; more rows than `most`.
    pub fn new(
        recipe: &Recipe,
        examples: Arc<TokenStore>,
        shares: Vec<Share>,
        most: Option<u64>,
    ) -> Result<Self, DataError> {
        let mut all = 0_u64;
        let mut taken = Vec::new();
        for share in &shares {
            all = all.saturating_add(share.whole).saturating_add(share.part);
            taken.push(all);
        }
        if u32::try_from(all).is_err() {
            return Err(DataError::TooManyExamples(all));
        }
        let mut stream = Self {
            examples,
            shares,
            taken,
            seed: Seed(recipe.seed),
            limit: recipe.sequence_len as usize,
            packing: recipe.sample_packing,
            rows_per_step: recipe.rows_per_step(),
            starts: vec![0],
            len: 0,
            recent: Mutex::new(None),
        };
        let epochs = millionths(recipe.num_epochs);
        let steps = recipe.max_steps.map(|steps| steps.saturating_mul(stream.rows_per_step));
        for epoch in 0.. {
            if epoch == EPOCH_LIMIT {
                return Err(DataError::TooManyEpochs(EPOCH_LIMIT));
            }
            let rows = stream.epoch(epoch).len() as u64;
            if rows == 0 {
                return Err(DataError::NothingTaken);
            }
            let before = epoch as u64 * ONE;
            let (taken, done) = match steps {
                Some(total) => (rows.min(total - stream.len), total - stream.len <= rows),
                None => (rounded_up((epochs - before).min(ONE), rows), epochs - before <= ONE),
            };
            stream.len += taken;
            stream.starts.push(stream.len);
            if let Some(most) = most.filter(|most| stream.len > *most) {
                return Err(DataError::TooManyRows(most));
            }
            if done {
                break;
            }
        }
        Ok(stream)
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of optimizer steps; the last may have fewer rows.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.len.div_ceil(self.rows_per_step)
    }

    /// Rows of a step, from 0.
    #[must_use]
    pub fn step_rows(&self, step: u64) -> Range<u64> {
        (step * self.rows_per_step).min(self.len)..((step + 1) * self.rows_per_step).min(self.len)
    }

    /// A row.
    ///
    /// # Errors
    /// A temporary file that cannot be read.
    ///
    /// # Panics
    /// If `index` is not below [`Self::len`].
    #[expect(clippy::cast_possible_truncation, reason = "rows of an epoch fit memory")]
    pub fn row(&self, index: u64) -> Result<Row, DataError> {
        assert!(index < self.len, "row {index} is below {}", self.len);
        let epoch = self.starts.partition_point(|start| *start <= index) - 1;
        let plan = self.epoch(epoch);
        Row::of(&self.examples, plan.row((index - self.starts[epoch]) as usize))
    }

    /// Bytes that are held in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let plan = recent.as_ref().map_or(0, |(_, plan)| plan.held_bytes());
        let gaps: usize = self.shares.iter().map(|share| 4 * share.gaps.capacity()).sum();
        self.examples.held_bytes() + plan + gaps + 8 * self.starts.capacity()
    }

    /// The rows of an epoch; the most recent one is kept.
    fn epoch(&self, epoch: usize) -> Arc<Packed> {
        let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, plan)) = recent.as_ref().filter(|(number, _)| *number == epoch) {
            return Arc::clone(plan);
        }
        // Let go of before the next is made: two would take twice the memory.
        *recent = None;
        let plan = Arc::new(self.plan(epoch));
        *recent = Some((epoch, Arc::clone(&plan)));
        plan
    }

    /// Takes the examples of each source as often as its weight says, shuffles them, and packs them.
    #[expect(clippy::cast_possible_truncation, reason = "numbers of examples, of which there are less than 2^32")]
    fn plan(&self, epoch: usize) -> Packed {
        let tweak = u32::try_from(epoch).expect("there are less than 2^32 epochs");
        // A stream of its own for each source, so that sources do not choose alike.
        let key = |number: usize| self.seed.stream(&format!("{}/{number}", streams::MIX));
        let permutation = |(number, share): (usize, &Share)| Permutation::new(share.len.into(), key(number), tweak);
        let parts: Vec<Permutation> = self.shares.iter().enumerate().map(permutation).collect();
        // The examples before they are shuffled: those of one source after those of another, whole repeats first.
        let unshuffled = |place: u64| {
            let number = self.taken.partition_point(|end| *end <= place);
            let place = if number == 0 { place } else { place - self.taken[number - 1] };
            let share = &self.shares[number];
            let again = place < share.whole;
            let i = if again { place % u64::from(share.len) } else { parts[number].get(place - share.whole) };
            share.get(i as u32)
        };
        let all = self.taken.last().copied().unwrap_or(0);
        let order = Permutation::new(all, self.seed.stream(streams::SHUFFLE), tweak);
        let shuffled = (0..all as u32).map(|i| unshuffled(order.get(i.into())));
        pack(shuffled.map(|example| (example, self.examples.length(example as usize))), self.limit, self.packing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recipe(settings: &[&str]) -> Recipe {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let text = "base_model: base\ndatasets:\n  - {path: a.jsonl, type: completion}\n";
        tune_schema::recipe::load("recipe.yaml", text, &settings).unwrap().recipe
    }

    /// Examples of 40 to 80 tokens, all but a few of them on disk.
    fn stream(examples: u32, settings: &[&str]) -> Stream {
        let folder = tempfile::tempdir().unwrap();
        let mut store = TokenStore::in_folder(folder.path(), 1 << 14);
        for i in 0..examples {
            let length = 40 + i as usize * 7 % 41;
            store.push(&vec![i; length], &vec![true; length]).unwrap();
        }
        let share = Share::new(0..examples, (0..examples).filter(|i| i % 10 == 3), 1.0);
        Stream::new(&recipe(settings), Arc::new(store), vec![share], None).unwrap()
    }

    #[test]
    fn memory_is_a_few_bytes_an_example() {
        for packing in ["sample_packing=true", "sample_packing=false"] {
            let (few, many) = (stream(1000, &[packing, "num_epochs=2"]), stream(20_000, &[packing, "num_epochs=2"]));
            many.row(many.len() - 1).unwrap();
            let each = (many.held_bytes() - few.held_bytes()) as f64 / 19_000.0;
            assert!(each < 20.0, "{each} bytes an example");
        }
    }

    proptest! {
        #[test]
        fn a_share_names_what_is_not_held_out(start in 0_u32..50, held_out in prop::collection::vec(any::<bool>(), 1..100)) {
            let end = start + held_out.len() as u32;
            let is_held_out = |i: u32| i < start || i >= end || held_out[(i - start) as usize];
            // Those of other sources are passed over.
            let share = Share::new(start..end, (0..200).filter(|i| is_held_out(*i)), 1.0);
            let found: Vec<u32> = (0..share.len).map(|i| share.get(i)).collect();
            prop_assert_eq!(found, (start..end).filter(|i| !is_held_out(*i)).collect::<Vec<_>>());
        }
    }
}
