//! Argument structs shared by the reference, the CPU kernels and the backend trait.

use crate::philox::StreamKey;

/// Head counts of grouped-query attention. Queries are `[tokens, heads × head_dim]`, keys and values
/// `[tokens, kv_heads × head_dim]`; head `h` uses key-value head `h / (heads / kv_heads)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; divides `heads`.
    pub kv_heads: usize,
    /// Features of a head; even.
    pub head_dim: usize,
}

impl Heads {
    /// Query heads that share a key-value head.
    #[must_use]
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The factor on the scores: `1 / sqrt(head_dim)`, in f64, rounded once.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "rounded once, as the contract says"
    )]
    pub fn scale(&self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }
}

/// Dropout on the input of a LoRA branch.
///
/// Feature `f` of token `t` of row `r` at step `s` is kept where word `f % 4` of Philox with counter
/// `[f / 4, t, r, s]` is at least `threshold`; kept values are multiplied by `scale`, the others become 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Key of the module's dropout stream.
    pub key: StreamKey,
    /// Optimizer step, from 0.
    pub step: u32,
    /// `round(p · 2³²)`.
    pub threshold: u32,
    /// `1 / (1 - p)`, rounded once.
    pub scale: f32,
}

impl Dropout {
    /// Dropout with probability `p`, above 0 and below 1.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "p is in (0, 1); and the one rounding")]
    pub fn new(key: StreamKey, step: u32, p: f64) -> Self {
        Self {
            key,
            step,
            threshold: libm::round(p * 4_294_967_296.0).min(4_294_967_295.0) as u32,
            scale: (1.0 / (1.0 - p)) as f32,
        }
    }
}

/// Scalars of one AdamW step, computed on the host in f64 and rounded once each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Factor that turns the summed gradient into the clipped mean: `clip / supervised tokens`.
    pub gradient_factor: f32,
    /// `1 - lr · weight_decay`.
    pub decay: f32,
    /// `1 - beta1`.
    pub one_minus_beta1: f32,
    /// `beta2`.
    pub beta2: f32,
    /// `1 - beta2`.
    pub one_minus_beta2: f32,
    /// `sqrt(1 - beta2^t)`.
    pub root_bias_correction2: f32,
    /// `epsilon`.
    pub epsilon: f32,
    /// `lr / (1 - beta1^t)`.
    pub step_size: f32,
}
