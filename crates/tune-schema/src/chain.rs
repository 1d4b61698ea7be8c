//! `chain.jsonl`: one canonical JSON record a step, each holding the digest of the one before.

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::canonical::{CanonicalError, to_canonical_json};

/// The bits of an f32, written as eight lower-case hexadecimal digits: JSON's numbers are doubles, and a chain
/// compares bits, not decimal renderings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct F32Bits(pub u32);

impl F32Bits {
    /// The bits of `value`.
    #[must_use]
    pub fn new(value: f32) -> Self {
        Self(value.to_bits())
    }

    /// The value with these bits.
    #[must_use]
    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl std::fmt::Debug for F32Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x} ({})", self.0, self.value())
    }
}

impl Serialize for F32Bits {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:08x}", self.0))
    }
}

impl<'de> Deserialize<'de> for F32Bits {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ok = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let bits = ok.then(|| u32::from_str_radix(&text, 16).ok()).flatten();
        bits.map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not eight lower-case hexadecimal digits")))
    }
}

/// One record. Step 0 is the state before training: its `state_root` is the initial state, `previous` the digest of
/// the claim's inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainRecord {
    /// Optimizer steps done when this was written.
    pub step: u64,
    /// Loss of the step: mean over its supervised tokens. Absent at step 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<F32Bits>,
    /// Global gradient norm before clipping. Absent at step 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<F32Bits>,
    /// Learning rate of the step. Absent at step 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<F32Bits>,
    /// Tokens of the step's rows.
    pub tokens: u64,
    /// Supervised tokens of the step's rows.
    pub supervised_tokens: u64,
    /// Rows of the stream consumed up to and including this step.
    pub rows: u64,
    /// Head of the stream's hash chain after those rows.
    pub stream: Digest,
    /// Mean loss over the held-out tokens, where the step was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<F32Bits>,
    /// Root over trained tensors and optimizer state, where a checkpoint was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_root: Option<Digest>,
    /// Digest of the previous record's canonical bytes.
    pub previous: Digest,
}

impl ChainRecord {
    /// The record's line without its newline.
    ///
    /// # Errors
    /// None in practice: every member has a canonical form.
    pub fn to_line(&self) -> Result<Vec<u8>, CanonicalError> {
        to_canonical_json(self)
    }

    /// Digest of [`Self::to_line`]: the next record's `previous`, or the chain's head.
    ///
    /// # Errors
    /// As [`Self::to_line`].
    pub fn digest(&self) -> Result<Digest, CanonicalError> {
        Ok(Digest::of(&self.to_line()?))
    }
}
