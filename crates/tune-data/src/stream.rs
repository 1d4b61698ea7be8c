//! The stream of training rows: any row by its number, as a pure function of examples, seed and settings.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use tune_schema::recipe::Recipe;
use tune_schema::seed::{Seed, streams};

use crate::DataError;
use crate::fraction::{ONE, millionths, nearest, rounded_up};
use crate::pack::{Row, pack};
use crate::permute::Permutation;
use crate::store::TokenStore;

/// How often the examples of one source are taken in an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Its examples in the store.
    pub examples: Vec<u32>,
    /// Whole repeats, and the part of another; above 0.
    pub weight: f64,
}

/// A stranger's recipe must not keep a verifier busy for ever.
const EPOCH_LIMIT: usize = 100_000;

/// The rows of an epoch, as example numbers.
type Epoch = Arc<Vec<Vec<u32>>>;

/// The stream.
#[derive(Debug)]
pub struct Stream {
    examples: TokenStore,
    shares: Vec<Share>,
    seed: Seed,
    limit: usize,
    packing: bool,
    rows_per_step: u64,
    /// First row of each epoch, then the end.
    starts: Vec<u64>,
    len: u64,
    recent: Mutex<Option<(usize, Epoch)>>,
}

impl Stream {
    /// The stream of a recipe over `examples`.
    ///
    /// With `max_steps` there are that many whole steps, over as many epochs as it takes; otherwise `num_epochs` epochs,
    /// of the last one the fraction, rounded up to a row.
    ///
    /// # Errors
    /// Shares of which none comes to an example.
    pub fn new(recipe: &Recipe, examples: TokenStore, shares: Vec<Share>) -> Result<Self, DataError> {
        let mut stream = Self {
            examples,
            shares,
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
    /// # Panics
    /// If `index` is not below [`Self::len`].
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "rows of an epoch fit memory")]
    pub fn row(&self, index: u64) -> Row {
        assert!(index < self.len, "row {index} is below {}", self.len);
        let epoch = self.starts.partition_point(|start| *start <= index) - 1;
        let plan = self.epoch(epoch);
        let mut row = Row::default();
        for example in &plan[(index - self.starts[epoch]) as usize] {
            let example = *example as usize;
            row.push(self.examples.ids(example), self.examples.supervised(example));
        }
        row
    }

    /// The rows of an epoch; the most recent one is kept.
    fn epoch(&self, epoch: usize) -> Epoch {
        let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, plan)) = recent.as_ref().filter(|(number, _)| *number == epoch) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(self.plan(epoch));
        *recent = Some((epoch, Arc::clone(&plan)));
        plan
    }

    /// Takes the examples of each source as often as its weight says, shuffles them, and packs them.
    #[expect(clippy::cast_possible_truncation, reason = "numbers of examples, which fit memory")]
    fn plan(&self, epoch: usize) -> Vec<Vec<u32>> {
        let tweak = u32::try_from(epoch).expect("there are less than 2^32 epochs");
        let mut taken: Vec<u32> = Vec::new();
        for (number, Share { examples, weight }) in self.shares.iter().enumerate() {
            let weight = millionths(*weight);
            for _ in 0..weight / ONE {
                taken.extend(examples);
            }
            // A stream of its own for each source, so that sources do not choose alike.
            let key = self.seed.stream(&format!("{}/{number}", streams::MIX));
            let order = Permutation::new(examples.len() as u64, key, tweak);
            let part = nearest(weight % ONE, examples.len() as u64);
            taken.extend((0..part).map(|i| examples[order.get(i) as usize]));
        }
        let order = Permutation::new(taken.len() as u64, self.seed.stream(streams::SHUFFLE), tweak);
        let shuffled = (0..taken.len() as u64).map(|i| taken[order.get(i) as usize]);
        pack(shuffled.map(|example| (example, self.examples.length(example as usize))), self.limit, self.packing)
    }
}
