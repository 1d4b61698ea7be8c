//! `manifest.json`: the claim (what was computed, equal for everyone who reproduces it) and the environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{CanonicalError, canonical_digest};
use crate::chain::F32Bits;
use crate::lock::LockedSource;
use crate::{Digest, recipe::Numerics};

/// Version of the manifest's format.
pub const MANIFEST_SCHEMA: &str = "tune-manifest/1";

/// Where a published folder has the files of the run, but those of the result, which lie at its top.
pub const PUBLISHED_RUN: &str = "run";

/// The file. Its bytes are its canonical JSON; `seal` covers everything else in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// Digest of the canonical claim.
    pub claim_id: Digest,
    /// What was computed.
    pub claim: Claim,
    /// Digest of every other file of the run folder that is not under the claim, by path: measured times and the like.
    pub environment: BTreeMap<String, Digest>,
    /// Digest of the canonical manifest without this member.
    pub seal: Digest,
}

/// What was computed. No path of a machine, no name of a user or host, no time of day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// What identified the computation before it began.
    pub inputs: ClaimInputs,
    /// Training settings under the names PEFT users know, for readers that want them without the recipe.
    pub training: TrainingFacts,
    /// Digest of the stream over all rows of the run, and its counts.
    pub stream: StreamFacts,
    /// Digest of the last chain record.
    pub chain_head: Digest,
    /// State root of every checkpoint the run made, by step.
    pub checkpoints: BTreeMap<String, Digest>,
    /// Tensor root of the adapter (or weights) at step 0 and at the end.
    pub initial_root: Digest,
    /// See `initial_root`.
    pub final_root: Digest,
    /// Scores before and after training.
    pub evaluation: Evaluation,
    /// Digest of every file of the run folder that everyone who reproduces the claim gets byte for byte, by path.
    pub files: BTreeMap<String, Digest>,
}

/// Everything that goes in. Its canonical digest is the `previous` of the chain's record 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimInputs {
    /// Digest of the claimed recipe, which is `resolved.yaml` as canonical JSON.
    pub recipe: Digest,
    /// What overrides changed of the recipe as written: canonical JSON by dotted path of `resolved.yaml`.
    pub overrides: BTreeMap<String, String>,
    /// The base model.
    pub base_model: BaseModelFacts,
    /// Digest of the tokenizer's definition, and of the chat template's text.
    pub tokenizer: Digest,
    /// See `tokenizer`; absent where no example is rendered with a template.
    pub chat_template: Option<Digest>,
    /// The data sources with digests, licences and classes, sorted by name, as [`LockedSource::claimed`].
    pub sources: Vec<LockedSource>,
    /// The arithmetic.
    pub numerics: Numerics,
    /// The seed of every named random stream, as decimal text (RFC 8785 has only doubles).
    pub seeds: BTreeMap<String, String>,
    /// Adapted modules after expansion, sorted; empty for `adapter: none`.
    pub adapted_modules: Vec<String>,
}

/// The base model's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseModelFacts {
    /// The name that the recipe uses.
    pub name: String,
    /// Files with digests, sorted by path.
    pub files: Vec<crate::lock::LockedFile>,
    /// Root over (name, dtype, shape, bytes) of its tensors; absent with `reinit_weights`.
    pub tensor_root: Option<Digest>,
}

/// Training settings, and what they came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the recipe's own names; see `RecipeFile`")]
pub struct TrainingFacts {
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub adam_epsilon: f64,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
    /// Optimizer steps done.
    pub steps: u64,
    /// Rows of a step.
    pub rows_per_step: u64,
    /// Factor on the LoRA branch; absent for `adapter: none`.
    pub effective_scale: Option<F32Bits>,
    /// How the loss is averaged: `supervised-tokens-of-step`.
    pub loss_normalisation: String,
}

/// The stream's digest and counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamFacts {
    /// Head of the hash chain over all training rows of the run, in order.
    pub digest: Digest,
    /// Head of the hash chain over the held-out rows.
    pub eval_digest: Digest,
    /// Rows trained on.
    pub rows: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Supervised tokens trained on.
    pub supervised_tokens: u64,
    /// Examples of the training split.
    pub train_examples: u64,
    /// Examples held out.
    pub eval_examples: u64,
    /// Examples left out for their length.
    pub dropped_examples: u64,
    /// Examples cut at `sequence_len`.
    pub truncated_examples: u64,
}

/// Scores before and after training, on the held-out examples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// Mean loss over held-out supervised tokens before training.
    pub loss_before: Option<F32Bits>,
    /// The same after training.
    pub loss_after: Option<F32Bits>,
    /// Held-out examples answered greedily for the exact-match score.
    pub exact_match_examples: u64,
    /// How many answers equalled the reference before training.
    pub exact_match_before: u64,
    /// The same after training.
    pub exact_match_after: u64,
    /// Digest over all generated answers, before then after, so that each is checked, not only the count.
    pub answers: Option<Digest>,
}

impl Manifest {
    /// A sealed manifest for `claim`.
    ///
    /// # Errors
    /// A value without canonical form.
    pub fn new(claim: Claim, environment: BTreeMap<String, Digest>) -> Result<Self, CanonicalError> {
        let claim_id = canonical_digest(&claim)?;
        let mut manifest =
            Self { schema: MANIFEST_SCHEMA.to_owned(), claim_id, claim, environment, seal: Digest::of(b"") };
        manifest.seal = manifest.expected_seal()?;
        Ok(manifest)
    }

    /// The digest that `seal` should hold.
    ///
    /// # Errors
    /// A value without canonical form.
    pub fn expected_seal(&self) -> Result<Digest, CanonicalError> {
        let mut value = serde_json::to_value(self)?;
        if let Value::Object(members) = &mut value {
            members.remove("seal");
        }
        canonical_digest(&value)
    }
}
