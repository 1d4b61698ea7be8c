//! Llama-architecture decoders on exact kernels.
//!
//! - [`base`]: what a base model's files hold: configuration, tokenizer, weights
//! - [`model`]: weights on a device, forward pass and hand-written backward pass; [`block`], [`linear`] are its parts
//! - [`adapter`]: which layers get a LoRA branch, and what it starts as
//! - [`batch`]: rows as a flat list of tokens; [`tail`]: those that the last block goes on with
//! - [`export`]: adapters and merged models for other tools
//! - `generate`: greedy answers with a cache
//! - [`rope`]: position tables; [`memory`]: an estimate for `tune plan`; [`work`]: operations of a step
//! - [`shapes`]: names and shapes of tensors, from the configuration alone
//!
//! Every operation whose value reaches a result is one of `tune_kernels::KernelBackend`, or an elementwise addition.

pub mod adapter;
pub mod base;
pub mod batch;
pub mod block;
mod error;
pub mod export;
mod generate;
pub mod linear;
pub mod memory;
pub mod model;
pub mod rope;
pub mod shapes;
pub mod tail;
pub mod work;

pub use adapter::{LoraSpec, expand_targets};
pub use batch::{Batch, RowView};
pub use error::ModelError;
pub use linear::{GradientSink, Mode};
pub use memory::{MemoryEstimate, Workload, estimate};
pub use model::{HostTensors, Model};
pub use shapes::trained_shapes;
pub use work::{WeightProducts, weight_products};
