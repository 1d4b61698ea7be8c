//! The examples that are held out: which, and whether they are trained on all the same.

use std::collections::HashMap;
use std::sync::Arc;

use tune_schema::recipe::{Recipe, ValSetSize};
use tune_schema::seed::{Seed, streams};

use crate::DataError;
use crate::fraction::{millionths, nearest};
use crate::pack::Row;
use crate::permute::Permutation;
use crate::store::TokenStore;

/// Held-out examples, each a row of its own, in the order in which they were drawn: the first few are a sample of all.
#[derive(Debug, Clone)]
pub struct HeldOut {
    examples: Arc<TokenStore>,
    drawn: Vec<u32>,
}

impl HeldOut {
    /// Draws from all `examples` as many as the recipe asks for: the first of a keyed permutation over all of them.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "numbers of examples, of which there are less than 2^32")]
    pub fn draw(recipe: &Recipe, examples: Arc<TokenStore>) -> Self {
        let n = examples.len() as u64;
        let count = match recipe.val_set_size {
            ValSetSize::Rows(rows) => rows.min(n),
            ValSetSize::Share(share) => nearest(millionths(share), n).max(1).min(n),
        };
        let order = Permutation::new(n, Seed(recipe.seed).stream(streams::SPLIT), 0);
        let drawn = (0..count).map(|i| order.get(i) as u32).collect();
        Self { examples, drawn }
    }

    /// A row.
    ///
    /// # Errors
    /// A temporary file that cannot be read.
    ///
    /// # Panics
    /// If `i` is not below [`Self::len`].
    pub fn row(&self, i: usize) -> Result<Row, DataError> {
        Row::of(&self.examples, &[self.drawn[i]])
    }

    /// All rows, one at a time.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row, DataError>> + '_ {
        (0..self.len()).map(|i| self.row(i))
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.drawn.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drawn.is_empty()
    }

    /// Numbers of the examples in ascending order, each with its place in the draw.
    #[must_use]
    pub fn ascending(&self) -> Vec<(u32, u32)> {
        let mut ascending: Vec<(u32, u32)> = self.drawn.iter().copied().zip(0..).collect();
        ascending.sort_unstable();
        ascending
    }

    /// Held-out examples whose very tokens are also trained on. Memory holds digests of what is held out, and none of
    /// what is trained on.
    ///
    /// # Errors
    /// A temporary file that cannot be read.
    pub fn overlap(&self, ascending: &[(u32, u32)]) -> Result<Option<Overlap>, DataError> {
        let mut held_out: HashMap<[u8; 16], Same> = HashMap::new();
        for (place, example) in (0..).zip(&self.drawn) {
            let first = Same { count: 0, place, trained: None };
            held_out.entry(self.identity(*example)?).or_insert(first).count += 1;
        }
        if held_out.is_empty() {
            return Ok(None);
        }
        let mut drawn = ascending.iter().map(|(example, _)| *example).peekable();
        for example in (0_u32..).take(self.examples.len()) {
            if drawn.next_if_eq(&example).is_none()
                && let Some(same) = held_out.get_mut(&self.identity(example)?)
            {
                same.trained.get_or_insert(example);
            }
        }
        let trained: Vec<(u32, u32, u64)> = held_out
            .into_values()
            .filter_map(|Same { count, place, trained }| trained.map(|trained| (place, trained, count)))
            .collect();
        let count = trained.iter().map(|(_, _, count)| count).sum();
        let first = trained.iter().min();
        Ok(first.map(|(place, trained, _)| Overlap { count, held_out: self.drawn[*place as usize], trained: *trained }))
    }

    /// Half a digest of an example's tokens: nobody finds two different ones with the same.
    fn identity(&self, example: u32) -> Result<[u8; 16], DataError> {
        let digest = self.examples.digest(example as usize)?;
        Ok(std::array::from_fn(|i| digest.as_bytes()[i]))
    }
}

/// Held-out examples of the same tokens.
struct Same {
    count: u64,
    /// Place of the first in the draw.
    place: u32,
    /// The first that is trained on.
    trained: Option<u32>,
}

/// Held-out examples that are also trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// How many.
    pub count: u64,
    /// The first of them, by its number in the store.
    pub held_out: u32,
    /// The first that is equal to it.
    pub trained: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn overlap_is_what_comparing_all_pairs_finds(texts in prop::collection::vec(0_u32..12, 1..60), drawn in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            let mut store = TokenStore::default();
            for text in &texts {
                store.push(&[7, *text], &[false, true]).unwrap();
            }
            let mut places: Vec<u32> = drawn.iter().map(|i| i.index(texts.len()) as u32).collect();
            let mut seen = std::collections::BTreeSet::new();
            places.retain(|place| seen.insert(*place));
            let held_out = HeldOut { examples: Arc::new(store), drawn: places.clone() };
            let equal = |i: &u32| {
                let trained = (0..texts.len()).filter(|j| !places.contains(&(*j as u32)));
                trained.into_iter().find(|j| texts[*j] == texts[*i as usize]).map(|j| (*i, j as u32))
            };
            let same: Vec<(u32, u32)> = places.iter().filter_map(equal).collect();
            let expected = same.first().map(|(held_out, trained)| Overlap { count: same.len() as u64, held_out: *held_out, trained: *trained });
            prop_assert_eq!(held_out.overlap(&held_out.ascending()).unwrap(), expected);
        }
    }
}
