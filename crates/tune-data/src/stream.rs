//! The stream of training rows: any row by its number, as a pure function of examples, seed and settings.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use tune_schema::recipe::Recipe;
use tune_schema::seed::{Seed, streams};

use crate::pack::{Row, pack};
use crate::permute::Permutation;
use crate::store::TokenStore;

/// How often the examples of one source are taken in an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Its examples in the store.
    pub first: u32,
    /// See `first`.
    pub count: u32,
    /// Whole repeats, and the part of another.
    pub weight: f64,
}

/// The rows of an epoch, as example numbers.
type Epoch = Arc<Vec<Vec<u32>>>;

/// The stream.
#[derive(Debug)]
pub struct Stream {
    examples: TokenStore,
    shares: Vec<Share>,
    shuffle: [u32; 2],
    mix: [u32; 2],
    limit: usize,
    packing: bool,
    rows_per_step: u64,
    /// First row of each epoch, then the end.
    starts: Vec<u64>,
    len: u64,
    recent: Mutex<Option<(usize, Epoch)>>,
}

impl Stream {
    /// The stream of a recipe over `examples`, which must not be empty.
    ///
    /// With `max_steps` there are that many whole steps, over as many epochs as it takes; otherwise `num_epochs` epochs,
    /// of the last one the fraction, rounded up to a row.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "row counts")]
    pub fn new(recipe: &Recipe, examples: TokenStore, shares: Vec<Share>) -> Self {
        let seed = Seed(recipe.seed);
        let mut stream = Self {
            examples,
            shares,
            shuffle: seed.stream(streams::SHUFFLE),
            mix: seed.stream(streams::MIX),
            limit: recipe.sequence_len as usize,
            packing: recipe.sample_packing,
            rows_per_step: recipe.rows_per_step(),
            starts: vec![0],
            len: 0,
            recent: Mutex::new(None),
        };
        let mut total = 0;
        for epoch in 0.. {
            let rows = stream.epoch(epoch).len() as u64;
            let wanted = match recipe.max_steps {
                Some(steps) => steps * stream.rows_per_step - total,
                None => {
                    let part = (recipe.num_epochs - epoch as f64).clamp(0.0, 1.0);
                    (rows as f64 * part).ceil() as u64
                }
            };
            total += rows.min(wanted);
            stream.starts.push(total);
            let done = match recipe.max_steps {
                Some(_) => wanted <= rows,
                None => recipe.num_epochs <= (epoch + 1) as f64,
            };
            if done {
                break;
            }
        }
        stream.len = total;
        stream
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
            let (ids, supervised) = self.examples.get(*example as usize);
            row.push(ids, supervised);
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

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of examples; epochs are few")]
    fn plan(&self, epoch: usize) -> Vec<Vec<u32>> {
        let mut taken: Vec<u32> = Vec::new();
        for (number, share) in self.shares.iter().enumerate() {
            let all = share.first..share.first + share.count;
            for _ in 0..share.weight.floor() as u64 {
                taken.extend(all.clone());
            }
            let part = (share.weight.fract() * f64::from(share.count)).round() as u64;
            if part > 0 {
                // A stream of its own for each source, so that sources do not choose alike.
                let key = [self.mix[0] ^ number as u32, self.mix[1]];
                let order = Permutation::new(u64::from(share.count), key, epoch as u32);
                taken.extend((0..part).map(|i| share.first + order.get(i) as u32));
            }
        }
        let order = Permutation::new(taken.len() as u64, self.shuffle, epoch as u32);
        let shuffled = (0..taken.len() as u64).map(|i| taken[order.get(i) as usize]);
        pack(shuffled.map(|example| (example, self.examples.get(example as usize).0.len())), self.limit, self.packing)
    }
}
