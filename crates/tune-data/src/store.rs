//! Examples in tokens, kept compactly.

use crate::example::Example;

/// Token ids and masks of examples, one after another.
#[derive(Debug, Clone, Default)]
pub struct TokenStore {
    ids: Vec<u32>,
    supervised: Vec<bool>,
    /// Where each example ends.
    ends: Vec<usize>,
}

impl TokenStore {
    /// Adds an example.
    pub fn push(&mut self, example: &Example) {
        self.ids.extend(&example.ids);
        self.supervised.extend(&example.supervised);
        self.ends.push(self.ids.len());
    }

    /// Ids and mask of example `i`.
    #[must_use]
    pub fn get(&self, i: usize) -> (&[u32], &[bool]) {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        (&self.ids[start..self.ends[i]], &self.supervised[start..self.ends[i]])
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}
