//! Rows of an unshareable source that somebody shows, each with the proof that the claim committed to it.

use serde::{Deserialize, Serialize};

use crate::commitment::{Commitment, Salt, Scheme, row_leaf};
use crate::lock::LockedSource;
use crate::merkle::root_of_path;
use crate::text::printable;
use crate::{CanonicalError, Digest, to_canonical_json};

/// Version of the format.
pub const REVEAL_SCHEMA: &str = "tune-reveal/1";

/// Largest file of revealed rows that is read, in bytes.
pub const REVEAL_LIMIT: u64 = 64 << 20;

/// The file. Its bytes are its canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// [`REVEAL_SCHEMA`].
    pub schema: String,
    /// The claim that the rows belong to.
    pub claim_id: Digest,
    /// The source's name.
    pub source: String,
    /// How the claim committed to it.
    pub scheme: Scheme,
    /// The root that the claim has.
    pub root: Digest,
    /// The rows, in ascending order.
    pub rows: Vec<RevealedRow>,
}

/// A row with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevealedRow {
    /// Its number, from 1.
    pub row: u64,
    /// Its text, without the line's end.
    pub text: String,
    /// Its salt.
    pub salt: Salt,
    /// Hashes of the subtrees beside the way to the root, the lowest first.
    pub path: Vec<Digest>,
}

/// Why revealed rows show nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevealProblem {
    /// Not the format.
    #[error("it is no file of revealed rows: {0}")]
    NotOne(String),
    /// Another version of the format.
    #[error("its schema is `{0}`, and this `tune` reads `{REVEAL_SCHEMA}`")]
    Schema(String),
    /// The format, written otherwise.
    #[error("it is not in canonical form")]
    NotCanonical,
    /// Rows of another run.
    #[error("its rows are of the claim {stated}, not of {claim}")]
    OtherClaim {
        /// What the file says.
        stated: Digest,
        /// What is verified.
        claim: Digest,
    },
    /// A name that the claim does not have.
    #[error("the claim has no source `{0}`")]
    NoSuchSource(String),
    /// A source of which the claim has digests of files.
    #[error("the claim has no commitment to the rows of `{0}`")]
    NotCommitted(String),
    /// Another commitment.
    #[error("it is about the root {stated}, and the claim has {root}")]
    OtherRoot {
        /// What the file says.
        stated: Digest,
        /// What the claim says.
        root: Digest,
    },
    /// No rows.
    #[error("it has no rows")]
    Empty,
    /// A row twice, or before one of a lower number.
    #[error("row {0} stands behind one that does not come before it")]
    Order(u64),
    /// A row beyond the last.
    #[error("there is no row {row}: `{name}` has the rows 1 to {rows}")]
    NoSuchRow {
        /// The number.
        row: u64,
        /// The source.
        name: String,
        /// Rows that it has.
        rows: u64,
    },
    /// A row that does not lead to the root.
    #[error("row {0} is not what the claim committed to: its text, number, salt or path is another one")]
    Row(u64),
}

impl Reveal {
    /// Reads a file of a stranger, of at most [`REVEAL_LIMIT`] bytes.
    ///
    /// # Errors
    /// Bytes that are not the canonical JSON of a [`Reveal`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RevealProblem> {
        // A message of the parser may hold the stranger's words.
        let not_one = |error: serde_json::Error| RevealProblem::NotOne(printable(&error.to_string()));
        let reveal: Self = serde_json::from_slice(bytes).map_err(not_one)?;
        if reveal.schema != REVEAL_SCHEMA {
            return Err(RevealProblem::Schema(printable(&reveal.schema)));
        }
        match to_canonical_json(&reveal) {
            Ok(canonical) if canonical == bytes => Ok(reveal),
            _ => Err(RevealProblem::NotCanonical),
        }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        to_canonical_json(self)
    }

    /// Checks every row against a claim with these sources.
    ///
    /// # Errors
    /// The first thing that is not what the claim committed to.
    pub fn check(&self, claim: &Digest, sources: &[LockedSource]) -> Result<(), RevealProblem> {
        if self.claim_id != *claim {
            return Err(RevealProblem::OtherClaim { stated: self.claim_id, claim: *claim });
        }
        let name = || printable(&self.source);
        let Some(source) = sources.iter().find(|source| source.name == self.source) else {
            return Err(RevealProblem::NoSuchSource(name()));
        };
        let Some(Commitment { scheme: Scheme::RowsV1, rows, root }) = source.commitment else {
            return Err(RevealProblem::NotCommitted(name()));
        };
        if self.root != root {
            return Err(RevealProblem::OtherRoot { stated: self.root, root });
        }
        if self.rows.is_empty() {
            return Err(RevealProblem::Empty);
        }
        let mut last = 0;
        for RevealedRow { row, text, salt, path } in &self.rows {
            let row = *row;
            if row > rows || row == 0 {
                return Err(RevealProblem::NoSuchRow { row, name: name(), rows });
            }
            if row <= last {
                return Err(RevealProblem::Order(row));
            }
            last = row;
            if root_of_path(row_leaf(salt, text.as_bytes()), row - 1, rows, path) != Some(root) {
                return Err(RevealProblem::Row(row));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commitment::Secret;
    use crate::merkle::Tree;

    const ROWS: [&str; 5] = ["{\"a\":1}", "{\"a\":2}", "{\"a\":\"ü\"}", "{}", "{\"a\":5}"];

    fn claim() -> Digest {
        Digest::of(b"claim")
    }

    /// Rows 2 and 5 of five, and the source as the claim has it.
    fn revealed() -> (Reveal, LockedSource) {
        let secret = Secret::from_bytes([7; 32]);
        let mut tree = Tree::with_paths(5, [1, 4]);
        for (i, row) in (0..).zip(ROWS) {
            tree.push(row_leaf(&secret.row_salt(i), row.as_bytes()));
        }
        let (root, paths) = tree.finish();
        let row = |number: u64| RevealedRow {
            row: number,
            text: ROWS[number as usize - 1].to_owned(),
            salt: secret.row_salt(number - 1),
            path: paths.of(number - 1).unwrap(),
        };
        let reveal = Reveal {
            schema: REVEAL_SCHEMA.to_owned(),
            claim_id: claim(),
            source: "rows".to_owned(),
            scheme: Scheme::RowsV1,
            root,
            rows: vec![row(2), row(5)],
        };
        let commitment = Some(Commitment { scheme: Scheme::RowsV1, rows: 5, root });
        let source = LockedSource { commitment, ..LockedSource::new("rows", "file:rows") };
        (reveal, source)
    }

    #[test]
    fn honest_rows_check_and_survive_their_file() {
        let (reveal, source) = revealed();
        assert_eq!(reveal.check(&claim(), &[source]), Ok(()));
        let bytes = reveal.to_bytes().unwrap();
        assert_eq!(Reveal::parse(&bytes).unwrap(), reveal);
        assert_eq!(Reveal::parse(&[&bytes[..], b"\n"].concat()), Err(RevealProblem::NotCanonical));
    }

    #[test]
    fn whatever_is_not_what_was_committed_is_named() {
        type Change = fn(&mut Reveal, &mut LockedSource);
        let other = Digest::of(b"other");
        let cases: [(Change, RevealProblem); 11] = [
            (|reveal, _| reveal.rows[1].text.push(' '), RevealProblem::Row(5)),
            (|reveal, _| reveal.rows[0].row = 1, RevealProblem::Row(1)),
            (|reveal, _| reveal.rows[0].salt = Secret::from_bytes([8; 32]).row_salt(1), RevealProblem::Row(2)),
            (|reveal, _| reveal.rows[0].path.swap(0, 1), RevealProblem::Row(2)),
            (|reveal, _| reveal.rows[0].path.truncate(2), RevealProblem::Row(2)),
            (|reveal, _| reveal.rows.swap(0, 1), RevealProblem::Order(2)),
            (|reveal, _| reveal.rows[1].row = 6, RevealProblem::NoSuchRow { row: 6, name: "rows".to_owned(), rows: 5 }),
            (|reveal, _| reveal.rows.clear(), RevealProblem::Empty),
            (
                |reveal, _| reveal.claim_id = Digest::of(b"other"),
                RevealProblem::OtherClaim { stated: other, claim: claim() },
            ),
            (|reveal, _| reveal.source = "row".to_owned(), RevealProblem::NoSuchSource("row".to_owned())),
            (|_, source| source.commitment = None, RevealProblem::NotCommitted("rows".to_owned())),
        ];
        for (change, problem) in cases {
            let (mut reveal, mut source) = revealed();
            change(&mut reveal, &mut source);
            assert_eq!(reveal.check(&claim(), &[source]), Err(problem));
        }
        let (mut reveal, source) = revealed();
        reveal.root = other;
        assert!(matches!(reveal.check(&claim(), &[source]), Err(RevealProblem::OtherRoot { .. })));
        reveal.schema = "tune-reveal/2".to_owned();
        assert!(matches!(Reveal::parse(&reveal.to_bytes().unwrap()), Err(RevealProblem::Schema(_))));
        assert!(matches!(Reveal::parse(b"[1]"), Err(RevealProblem::NotOne(_))));
    }
}
