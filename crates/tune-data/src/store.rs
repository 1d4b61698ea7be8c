//! Examples in tokens. Memory holds their lengths; the tokens themselves are on disk beyond a few megabytes.

use std::path::Path;

use tune_fs::ScratchFile;
use tune_schema::Digest;

use crate::DataError;

/// Bytes of tokens that are held in memory: a small data set is never written to disk.
const MEMORY: usize = 8 << 20;
/// Every how many examples the place of one is kept; of those between it is counted from there.
const ANCHOR: usize = 64;

/// Token ids and masks of examples, one after another. Of each there is its length in memory, and on disk four bytes and
/// a bit for each token.
#[derive(Debug)]
pub struct TokenStore {
    bytes: ScratchFile,
    lengths: Vec<u32>,
    /// Where every 64th example begins.
    anchors: Vec<u64>,
}

/// An example as it is in the store: its ids in little-endian bytes, then a bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    bytes: Vec<u8>,
    length: usize,
}

impl Tokens {
    /// Token ids.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        let ids = self.bytes[..4 * self.length].chunks_exact(4);
        ids.map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]]))
    }

    /// Whether each token is supervised.
    pub fn supervised(&self) -> impl Iterator<Item = bool> + '_ {
        let mask = &self.bytes[4 * self.length..];
        (0..self.length).map(|token| mask[token / 8] >> (token % 8) & 1 == 1)
    }
}

impl Default for TokenStore {
    fn default() -> Self {
        Self::new(ScratchFile::new(MEMORY))
    }
}

impl TokenStore {
    fn new(bytes: ScratchFile) -> Self {
        Self { bytes, lengths: Vec::new(), anchors: Vec::new() }
    }

    /// A store that holds at most `memory` bytes of tokens in memory and the others in a temporary file in `folder`.
    #[must_use]
    pub fn in_folder(folder: &Path, memory: usize) -> Self {
        Self::new(ScratchFile::in_folder(folder, memory))
    }

    /// Adds an example.
    ///
    /// # Errors
    /// A temporary file that cannot be written.
    ///
    /// # Panics
    /// If there is not one mask entry for each id.
    pub fn push(&mut self, ids: &[u32], supervised: &[bool]) -> Result<(), DataError> {
        assert_eq!(ids.len(), supervised.len(), "one mask entry for each id");
        let length = u32::try_from(ids.len()).expect("an example has less than 2^32 tokens");
        let mut bytes = le_bytes(ids);
        // One bit a token, lowest first.
        let bits = |eight: &[bool]| eight.iter().rev().fold(0_u8, |byte, bit| byte << 1 | u8::from(*bit));
        bytes.extend(supervised.chunks(8).map(bits));
        let start = self.bytes.len();
        self.bytes.append(&bytes)?;
        if self.lengths.len().is_multiple_of(ANCHOR) {
            self.anchors.push(start);
        }
        self.lengths.push(length);
        Ok(())
    }

    /// Number of tokens of example `i`.
    #[must_use]
    pub fn length(&self, i: usize) -> usize {
        self.lengths[i] as usize
    }

    /// Example `i`.
    ///
    /// # Errors
    /// A temporary file that cannot be read.
    pub fn read(&self, i: usize) -> Result<Tokens, DataError> {
        let length = self.length(i);
        Ok(Tokens { bytes: self.read_bytes(i, size(length))?, length })
    }

    /// Digest of the ids of example `i`: equal tokens have equal ones, whatever is supervised.
    ///
    /// # Errors
    /// A temporary file that cannot be read.
    pub fn digest(&self, i: usize) -> Result<Digest, DataError> {
        Ok(Digest::of(&self.read_bytes(i, 4 * self.length(i))?))
    }

    /// The first `n` bytes of example `i`.
    fn read_bytes(&self, i: usize, n: usize) -> Result<Vec<u8>, DataError> {
        let anchor = i / ANCHOR;
        let between = self.lengths[anchor * ANCHOR..i].iter().map(|length| size(*length as usize) as u64);
        let mut bytes = vec![0; n];
        self.bytes.read(self.anchors[anchor] + between.sum::<u64>(), &mut bytes)?;
        Ok(bytes)
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Bytes that are held in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.held_bytes() + 4 * self.lengths.capacity() + 8 * self.anchors.capacity()
    }
}

/// Bytes of an example of `length` tokens.
fn size(length: usize) -> usize {
    4 * length + length.div_ceil(8)
}

/// Numbers as four little-endian bytes each.
pub(crate) fn le_bytes(numbers: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * numbers.len()];
    for (bytes, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out_of_memory_and_of_disk(examples in prop::collection::vec(prop::collection::vec(any::<(u32, bool)>(), 0..100), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let (mut memory, mut disk) = (TokenStore::default(), TokenStore::in_folder(folder.path(), 500));
            let split = |example: &[(u32, bool)]| example.iter().copied().unzip::<u32, bool, Vec<_>, Vec<_>>();
            for example in &examples {
                let (ids, supervised) = split(example);
                memory.push(&ids, &supervised).unwrap();
                disk.push(&ids, &supervised).unwrap();
            }
            prop_assert!(disk.held_bytes() <= 2 * 500 + 32 * examples.len().max(4), "{} bytes", disk.held_bytes());
            for store in [&memory, &disk] {
                prop_assert_eq!(store.len(), examples.len());
                for (i, example) in examples.iter().enumerate() {
                    let (ids, supervised) = split(example);
                    prop_assert_eq!(store.length(i), ids.len());
                    prop_assert_eq!(store.digest(i).unwrap(), Digest::of(&le_bytes(&ids)));
                    let found = store.read(i).unwrap();
                    prop_assert!(found.ids().eq(ids) && found.supervised().eq(supervised));
                }
            }
        }
    }

    #[test]
    fn a_disk_that_fails_is_an_error() {
        let mut store = TokenStore::in_folder(Path::new("/nowhere/at/all"), 100);
        store.push(&[1; 20], &[true; 20]).unwrap();
        let error = store.push(&[2; 20], &[true; 20]).unwrap_err();
        assert!(error.is_outside() && error.to_string().contains("/nowhere/at/all"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("TMPDIR")));
        assert_eq!((store.len(), store.read(0).unwrap().ids().sum::<u32>()), (1, 20));
    }
}
