//! What stands for the rows of a source that may not be shared: a root over salted rows, and the secret behind the salts.
//!
//! A digest of a file that few could have written can be guessed, and so can one of a row. Here every row is hashed behind a
//! salt of its own: without the salt nothing can be tried against the root, and with it one row can be shown and no other.
//! `docs/formats/reveal.md` has the exact bytes.

use std::collections::BTreeMap;
use std::fmt;

use hmac::{Hmac, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

use crate::merkle::leaf_hash;
use crate::{Digest, Hasher, hex};

/// A commitment to the rows of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Commitment {
    /// How the root is made.
    pub scheme: Scheme,
    /// Number of rows.
    pub rows: u64,
    /// Root of the tree over them.
    pub root: Digest,
}

/// How a commitment is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Scheme {
    /// The tree of [`crate::merkle`] over [`row_leaf`]s.
    #[serde(rename = "tune-rows/1")]
    RowsV1,
}

/// A salt: 32 bytes, written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(read_digits(deserializer)?))
    }
}

/// The secret of a commitment: 32 random bytes, from which every salt follows. Whoever has it and guesses a row can tell
/// whether the guess is right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// Secrets by the name of their source.
pub type Secrets = BTreeMap<String, Secret>;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(read_digits(deserializer)?))
    }
}

/// 64 hexadecimal digits. What was found instead is not repeated: it may be most of a secret.
fn read_digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    hex::decode(&text).ok_or_else(|| serde::de::Error::custom("expected 64 lower-case hexadecimal digits"))
}

impl Secret {
    /// The secret with these bytes, which should be random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA256 (RFC 2104) under the secret over a label, a byte 0 and the parts.
    fn derive(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(label.as_bytes());
        mac.update(&[0]);
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    /// The salt of a row, by its index from 0.
    #[must_use]
    pub fn row_salt(&self, index: u64) -> Salt {
        Salt(self.derive("tune-row/1", &[&index.to_be_bytes()]))
    }

    /// What is kept beside the secret of the commitment with this root, so that a secret that was changed or belongs to
    /// another commitment is told from rows that were.
    #[must_use]
    pub fn check(&self, root: &Digest) -> Salt {
        Salt(self.derive("tune-secret/1", &[root.as_bytes()]))
    }

    /// The commitment to what is asked in the held-out example at `index`: its prompt and reference.
    #[must_use]
    pub fn question(&self, index: u64, content: &[u8]) -> Digest {
        leaf_hash(&[&self.derive("tune-question/1", &[&index.to_be_bytes()]), content])
    }

    /// The commitment to a model's answer to it, `before` or `after` training. The salts differ, so that nobody sees from
    /// the digests whether training changed the answer. Those of two runs do not: see "What stays visible" in
    /// `docs/formats/reveal.md`.
    #[must_use]
    pub fn answer(&self, when: &str, index: u64, content: &[u8]) -> Digest {
        leaf_hash(&[&self.derive("tune-answer/1", &[&index.to_be_bytes(), when.as_bytes()]), content])
    }
}

/// The leaf of a row: its salt, then its bytes.
#[must_use]
pub fn row_leaf(salt: &Salt, row: &[u8]) -> Digest {
    leaf_hash(&[&salt.0, row])
}

/// What the digests of a stream of rows are salted with, where any of its sources may not be shared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StreamKey(Secret);

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey")
    }
}

impl StreamKey {
    /// The key that follows from all the secrets of a computation; nothing where there is none.
    #[must_use]
    pub fn of(secrets: &Secrets) -> Option<Self> {
        let mut hasher = Hasher::new();
        secrets.values().for_each(|secret| hasher.update(&secret.derive("tune-stream/1", &[])));
        (!secrets.is_empty()).then(|| Self(Secret(*hasher.finish().as_bytes())))
    }

    /// The salt of the row that follows `head`.
    #[must_use]
    pub fn salt(&self, head: &Digest) -> [u8; 32] {
        self.0.derive("tune-stream-row/1", &[head.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixed for ever: a change would part every claim from its data. `python3`'s `hmac` and `hashlib` give the same.
    #[test]
    fn salts_and_leaves_are_fixed() {
        let secret = Secret::from_bytes(std::array::from_fn(|i| i as u8));
        let salt = secret.row_salt(1);
        assert_eq!(
            serde_json::to_value(salt).unwrap(),
            "ed95acee580dca7d197803bc910bf9eae594f9c2846627f9a5eb7497860f6ff7"
        );
        assert_eq!(
            row_leaf(&salt, b"{\"a\":1}").hex(),
            "47038bb3509a6ed8926a5560303863f3da6853ff6a8bc5d70d439a0b6a68ea1e"
        );
        assert_eq!(secret.question(0, b"q").hex(), "22639fd05de323aa8846a7320c9bb691c369423db9ded0ac1960b83de070ee01");
        assert_eq!(
            secret.answer("after", 0, b"a").hex(),
            "189742a2dfd6bafebac72e17c08e69b08b9ff43001a54c39d474cb6783b17e62"
        );
        let key = StreamKey::of(&Secrets::from([("rows".to_owned(), secret)])).unwrap();
        assert_eq!(
            hex::encode(&key.salt(&Digest::of(b""))),
            "b1c0a0d88fb07e27dcc4506707e6396951106c168340fd9a36797fc046e8a3b4"
        );
    }

    #[test]
    fn nothing_repeats_and_nothing_is_told() {
        let (a, b) = (Secret::from_bytes([1; 32]), Secret::from_bytes([2; 32]));
        assert_ne!(a.row_salt(0), a.row_salt(1));
        assert_ne!(a.row_salt(0), b.row_salt(0));
        assert_ne!(a.answer("before", 0, b"x"), a.answer("after", 0, b"x"));
        let named = |name: &str, secret| (name.to_owned(), secret);
        let key = |secrets: &[(String, Secret)]| StreamKey::of(&secrets.iter().cloned().collect());
        assert_eq!(key(&[]), None);
        assert_ne!(key(&[named("a", a)]), key(&[named("a", a), named("b", b)]));
        assert_eq!(format!("{a:?}{:?}", key(&[named("a", a)])), "SecretSome(StreamKey)");
        let broken = format!("\"{}\"", "0".repeat(62) + "zz");
        let error = serde_json::from_str::<Secret>(&broken).unwrap_err().to_string();
        assert!(!error.contains("000"), "{error}");
    }
}
