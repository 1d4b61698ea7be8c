//! Examples in tokens, kept compactly: four bytes and a bit a token.

/// Token ids and masks of examples, one after another. Readers see examples only by number, so that the store can move
/// to disk.
#[derive(Debug, Clone, Default)]
pub struct TokenStore {
    ids: Vec<u32>,
    /// One bit a token, lowest first.
    supervised: Vec<u64>,
    /// Where each example ends.
    ends: Vec<usize>,
}

impl TokenStore {
    /// Adds an example.
    ///
    /// # Panics
    /// If there is not one mask entry for each id.
    pub fn push(&mut self, ids: &[u32], supervised: &[bool]) {
        assert_eq!(ids.len(), supervised.len(), "one mask entry for each id");
        for (i, supervised) in (self.ids.len()..).zip(supervised) {
            if i / 64 == self.supervised.len() {
                self.supervised.push(0);
            }
            self.supervised[i / 64] |= u64::from(*supervised) << (i % 64);
        }
        self.ids.extend(ids);
        self.ends.push(self.ids.len());
    }

    /// Number of tokens of example `i`.
    #[must_use]
    pub fn length(&self, i: usize) -> usize {
        self.ends[i] - self.start(i)
    }

    /// Ids of example `i`.
    #[must_use]
    pub fn ids(&self, i: usize) -> &[u32] {
        &self.ids[self.start(i)..self.ends[i]]
    }

    /// Mask of example `i`, one entry for each id.
    pub fn supervised(&self, i: usize) -> impl Iterator<Item = bool> + '_ {
        (self.start(i)..self.ends[i]).map(|token| self.supervised[token / 64] >> (token % 64) & 1 == 1)
    }

    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(examples in prop::collection::vec(prop::collection::vec(any::<(u32, bool)>(), 0..100), 0..20)) {
            let mut store = TokenStore::default();
            let split = |example: &[(u32, bool)]| example.iter().copied().unzip::<u32, bool, Vec<_>, Vec<_>>();
            for example in &examples {
                let (ids, supervised) = split(example);
                store.push(&ids, &supervised);
            }
            prop_assert_eq!(store.len(), examples.len());
            for (i, example) in examples.iter().enumerate() {
                let (ids, supervised) = split(example);
                prop_assert_eq!(store.length(i), ids.len());
                prop_assert_eq!(store.ids(i), &ids);
                prop_assert_eq!(store.supervised(i).collect::<Vec<_>>(), supervised);
            }
        }
    }
}
