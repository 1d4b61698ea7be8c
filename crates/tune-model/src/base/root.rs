//! One digest for a set of tensors, apart from the digest of the files that hold them.
//!
//! A safetensors header may be written in any order and padding, so two files with equal tensors can have different
//! sha256. The **tensor root** depends on names, types, shapes and stored bytes alone. It is the SHA-256 over the
//! concatenation, for each tensor in ascending order of the bytes of its name, of
//!
//! 1. the name in UTF-8, then one byte `0x00`
//! 2. the type's name as stored (`F32`, `BF16`, `Q4_1`, …), then one byte `0x00`
//! 3. the shape, outermost dimension first, in decimal joined by `x` (`576x1536`; nothing for a scalar), then `0x00`
//! 4. the 32 raw bytes of the SHA-256 of the tensor's stored bytes.
//!
//! A name must not contain `0x00`; the readers of this crate refuse such names. Then no two different sets of
//! tensors feed the same bytes. No tensors at all give the SHA-256 of nothing.
//!
//! Names are Hugging Face names. A tensor from a GGUF file is entered under its Hugging Face name with its shape
//! outermost first, but with type and bytes as the GGUF file stores them: quantised, and with the rows of the query
//! and key projections in GGUF's order.

use tune_schema::{Digest, Hasher};

/// What the tensor root takes from one tensor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TensorEntry {
    /// The tensor's name.
    pub name: String,
    /// The stored type's name.
    pub dtype: String,
    /// The shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// The SHA-256 of the stored bytes.
    pub digest: Digest,
}

/// The tensor root of `(name, dtype, shape, stored bytes)`, in any order.
#[must_use]
pub fn tensor_root<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a str, &'a [usize], &'a [u8])>) -> Digest {
    root_of_entries(tensors.into_iter().map(|(name, dtype, shape, bytes)| TensorEntry {
        name: name.to_owned(),
        dtype: dtype.to_owned(),
        shape: shape.to_vec(),
        digest: Digest::of(bytes),
    }))
}

/// The tensor root of tensors whose bytes were hashed before, in any order.
#[must_use]
pub fn root_of_entries(entries: impl IntoIterator<Item = TensorEntry>) -> Digest {
    let mut entries: Vec<TensorEntry> = entries.into_iter().collect();
    entries.sort();
    let mut hasher = Hasher::new();
    for entry in &entries {
        let shape: Vec<String> = entry.shape.iter().map(usize::to_string).collect();
        for text in [entry.name.as_str(), entry.dtype.as_str(), shape.join("x").as_str()] {
            hasher.update(text.as_bytes());
            hasher.update(&[0]);
        }
        hasher.update(entry.digest.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_bytes_are_hashed() {
        let mut stream = b"a\0F32\x002x1\0".to_vec();
        stream.extend(Digest::of(&[1, 2, 3, 4, 5, 6, 7, 8]).as_bytes());
        stream.extend(b"b\0BF16\0\0");
        stream.extend(Digest::of(&[9, 9]).as_bytes());
        let a: (&str, &str, &[usize], &[u8]) = ("a", "F32", &[2, 1], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let b: (&str, &str, &[usize], &[u8]) = ("b", "BF16", &[], &[9, 9]);
        assert_eq!(tensor_root([a, b]), Digest::of(&stream));
        assert_eq!(tensor_root([b, a]), Digest::of(&stream));
        assert_eq!(tensor_root([]), Digest::of(b""));
    }

    #[test]
    fn each_part_changes_the_root() {
        let root = |name, dtype, shape: &[usize], bytes: &[u8]| tensor_root([(name, dtype, shape, bytes)]);
        let base = root("w", "F16", &[1, 2], &[0, 0, 0, 0]);
        assert_ne!(base, root("v", "F16", &[1, 2], &[0, 0, 0, 0]));
        assert_ne!(base, root("w", "BF16", &[1, 2], &[0, 0, 0, 0]));
        assert_ne!(base, root("w", "F16", &[2, 1], &[0, 0, 0, 0]));
        assert_ne!(base, root("w", "F16", &[1, 2], &[0, 0, 0, 1]));
    }
}
