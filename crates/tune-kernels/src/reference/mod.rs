//! Plain scalar loops: the operations of `docs/numerics.md` in the form a reader can check.
//!
//! Everything is generic over [`Fma`], so that a device without a fused `fma` can be compared bit for bit as well.
//! Nothing here is fast, threaded or clever, and nothing else in the workspace computes with it; tests compare every
//! other implementation against it.

mod attention;
mod head;
mod linear;
mod pointwise;

pub use attention::{attention, attention_backward};
pub use head::{cross_entropy, embedding_gradient};
pub use linear::{dropout, linear, linear_input_gradient, linear_lora, linear_lora_backward, linear_weight_gradient};
pub use pointwise::{
    adamw, lane_sum, rms_norm, rms_norm_input_gradient, rms_norm_weight_gradient, rope, row_sums_of_squares, swiglu,
    swiglu_backward,
};

pub use crate::lanes::{Fma, Fused, Unfused};
