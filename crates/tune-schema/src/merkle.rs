//! Merkle trees over SHA-256 with the structure of RFC 6962, section 2.1: a leaf is hashed behind a byte 0, a node behind a
//! byte 1, and of `n` leaves the left subtree has the largest power of two below `n`.
//!
//! A tree is built leaf by leaf. Memory holds one hash for each level, and those of the audit paths that are wanted.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{Digest, Hasher};

/// The hash of a leaf, whose content comes in parts.
#[must_use]
pub fn leaf_hash(parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finish()
}

/// The hash of a node over its two subtrees.
fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&[1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    hasher.finish()
}

/// The subtrees beside the way from the root to leaf `index` of `leaves`, by the leaves they cover, the lowest first.
fn siblings(index: u64, leaves: u64) -> Vec<Range<u64>> {
    let (mut here, mut beside) = (0..leaves, Vec::new());
    while here.end - here.start > 1 {
        // The largest power of two below the number of leaves.
        let half = 1 << (u64::BITS - 1 - (here.end - here.start - 1).leading_zeros());
        let middle = here.start + half;
        if index < middle {
            beside.push(middle..here.end);
            here.end = middle;
        } else {
            beside.push(here.start..middle);
            here.start = middle;
        }
    }
    beside.reverse();
    beside
}

/// A tree under construction.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Complete subtrees from left to right, each smaller than the one before it.
    subtrees: Vec<(Range<u64>, Digest)>,
    leaves: u64,
    /// Subtrees that audit paths consist of, by their first leaf and the end.
    wanted: BTreeMap<(u64, u64), Option<Digest>>,
}

impl Tree {
    /// A tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree that will have so many `leaves` and gives the audit paths of those at `indices`.
    #[must_use]
    pub fn with_paths(leaves: u64, indices: impl IntoIterator<Item = u64>) -> Self {
        let ranges = indices.into_iter().flat_map(|index| siblings(index, leaves));
        Self { wanted: ranges.map(|range| ((range.start, range.end), None)).collect(), ..Self::default() }
    }

    /// Adds a leaf by its [`leaf_hash`].
    pub fn push(&mut self, leaf: Digest) {
        let mut right = (self.leaves..self.leaves + 1, leaf);
        self.leaves += 1;
        self.keep(&right);
        while let Some((range, _)) = self.subtrees.last()
            && range.end - range.start == right.0.end - right.0.start
            && let Some(left) = self.subtrees.pop()
        {
            right = self.join(&left, &right);
        }
        self.subtrees.push(right);
    }

    /// Leaves so far.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Ends the tree: its root, which without leaves is the digest of nothing, and its audit paths.
    #[must_use]
    pub fn finish(mut self) -> (Digest, Paths) {
        let mut root = self.subtrees.pop();
        while let (Some(right), Some(left)) = (&root, self.subtrees.pop()) {
            root = Some(self.join(&left, right));
        }
        let digest = root.map_or_else(|| Digest::of(b""), |(_, digest)| digest);
        (digest, Paths { leaves: self.leaves, found: self.wanted })
    }

    fn join(&mut self, left: &(Range<u64>, Digest), right: &(Range<u64>, Digest)) -> (Range<u64>, Digest) {
        let node = (left.0.start..right.0.end, node_hash(&left.1, &right.1));
        self.keep(&node);
        node
    }

    fn keep(&mut self, (range, digest): &(Range<u64>, Digest)) {
        if let Some(wanted) = self.wanted.get_mut(&(range.start, range.end)) {
            *wanted = Some(*digest);
        }
    }
}

/// The audit paths of a finished tree.
#[derive(Debug, Clone)]
pub struct Paths {
    leaves: u64,
    found: BTreeMap<(u64, u64), Option<Digest>>,
}

impl Paths {
    /// The audit path of a leaf, the lowest hash first; nothing where it was not asked for, or the tree has no such leaf.
    #[must_use]
    pub fn of(&self, index: u64) -> Option<Vec<Digest>> {
        let found = |range: Range<u64>| self.found.get(&(range.start, range.end)).copied().flatten();
        (index < self.leaves).then(|| siblings(index, self.leaves).into_iter().map(found).collect()).flatten()
    }
}

/// The root that a tree of so many `leaves` has, if `leaf` is the hash of its leaf at `index` and `path` the audit path;
/// nothing where there is no such leaf, or the path has another length.
#[must_use]
pub fn root_of_path(leaf: Digest, index: u64, leaves: u64, path: &[Digest]) -> Option<Digest> {
    let beside = if index < leaves { siblings(index, leaves) } else { return None };
    (beside.len() == path.len()).then(|| {
        beside.iter().zip(path).fold(leaf, |here, (range, hash)| {
            if range.start > index { node_hash(&here, hash) } else { node_hash(hash, &here) }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `MTH` of RFC 6962, as it is written there.
    fn definition(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(b""),
            [leaf] => *leaf,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&definition(&leaves[..k]), &definition(&leaves[k..]))
            }
        }
    }

    /// `PATH` of RFC 6962, as it is written there.
    fn path(m: usize, leaves: &[Digest]) -> Vec<Digest> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = leaves.len().next_power_of_two() / 2;
        if m < k {
            [path(m, &leaves[..k]), vec![definition(&leaves[k..])]].concat()
        } else {
            [path(m - k, &leaves[k..]), vec![definition(&leaves[..k])]].concat()
        }
    }

    fn leaves(n: u64) -> Vec<Digest> {
        (0..n).map(|i| leaf_hash(&[b"leaf ", &i.to_be_bytes()])).collect()
    }

    fn built(leaves: &[Digest]) -> (Digest, Paths) {
        let mut tree = Tree::with_paths(leaves.len() as u64, 0..leaves.len() as u64);
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree.finish()
    }

    /// The leaves and roots with which implementations of Certificate Transparency are tested.
    #[test]
    fn roots_of_certificate_transparency() {
        let contents: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let root = |n: usize| {
            let mut tree = Tree::new();
            contents[..n].iter().for_each(|content| tree.push(leaf_hash(&[content])));
            tree.finish().0.hex()
        };
        assert_eq!(root(0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(root(1), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(root(8), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn trees_and_paths_are_those_of_the_rfc() {
        for n in 1..=20 {
            let leaves = leaves(n);
            let (root, paths) = built(&leaves);
            assert_eq!(root, definition(&leaves), "{n} leaves");
            for (m, leaf) in leaves.iter().enumerate() {
                let found = paths.of(m as u64).unwrap();
                assert_eq!(found, path(m, &leaves), "leaf {m} of {n}");
                assert_eq!(root_of_path(*leaf, m as u64, n, &found), Some(root), "leaf {m} of {n}");
            }
            assert_eq!(paths.of(n), None);
        }
    }

    #[test]
    fn only_the_wanted_paths_are_kept_and_the_stack_stays_small() {
        let mut tree = Tree::with_paths(100_000, [77_777]);
        let kept = tree.wanted.len();
        for leaf in leaves(100_000) {
            tree.push(leaf);
            assert!(tree.subtrees.len() <= 17 && tree.wanted.len() == kept);
        }
        let (root, paths) = tree.finish();
        let leaf = leaf_hash(&[b"leaf ", &77_777_u64.to_be_bytes()]);
        assert_eq!(root_of_path(leaf, 77_777, 100_000, &paths.of(77_777).unwrap()), Some(root));
        assert_eq!(paths.of(5), None);
    }

    #[test]
    fn a_stranger_s_numbers_are_no_trouble() {
        let leaf = leaf_hash(&[b"x"]);
        for (index, leaves) in [(0, 0), (5, 5), (u64::MAX, u64::MAX), (u64::MAX - 1, u64::MAX), (0, u64::MAX)] {
            assert_eq!(root_of_path(leaf, index, leaves, &[leaf; 3]), None);
        }
    }

    proptest! {
        #[test]
        fn a_proof_with_any_flipped_bit_fails(n in 1_u64..40, m in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let leaves = leaves(n);
            let m = m.index(leaves.len());
            let (root, paths) = built(&leaves);
            let path = paths.of(m as u64).unwrap();
            let checks = |leaf: Digest, index: u64, path: &[Digest]| root_of_path(leaf, index, n, path) == Some(root);
            prop_assert!(checks(leaves[m], m as u64, &path));
            // The leaf's hash and those of the path as one string of bytes, one of whose bits is another one.
            let mut bytes: Vec<u8> = [leaves[m]].iter().chain(&path).flat_map(|hash| *hash.as_bytes()).collect();
            let at = byte.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let hashes: Vec<Digest> = bytes.chunks_exact(32).map(|hash| Digest::from_bytes(hash.try_into().unwrap())).collect();
            prop_assert!(!checks(hashes[0], m as u64, &hashes[1..]));
            for other in (0..n).filter(|other| *other != m as u64) {
                prop_assert!(!checks(leaves[m], other, &path), "leaf {} as {}", m, other);
            }
            let longer = [path.clone(), vec![root]].concat();
            prop_assert!(!checks(leaves[m], m as u64, &longer));
            prop_assert!(path.is_empty() || !checks(leaves[m], m as u64, &path[1..]));
        }
    }
}
