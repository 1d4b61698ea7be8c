//! Canonical JSON (RFC 8785): the one byte form of a value, over which every digest of JSON is taken.

use serde::Serialize;

use crate::Digest;

/// A value that RFC 8785 cannot express.
#[derive(Debug, thiserror::Error)]
#[error("the value has no canonical JSON form")]
pub struct CanonicalError(#[from] serde_json::Error);

/// The canonical bytes of `value`: members sorted by UTF-16 code units, no white space, no final newline.
///
/// # Errors
/// A float that is NaN or infinite, or a map whose keys are not strings.
pub fn to_canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value)?;
    Ok(serde_json_canonicalizer::to_vec(&value)?)
}

/// SHA-256 over [`to_canonical_json`].
///
/// # Errors
/// As [`to_canonical_json`].
pub fn canonical_digest<T: Serialize>(value: &T) -> Result<Digest, CanonicalError> {
    Ok(Digest::of(&to_canonical_json(value)?))
}
