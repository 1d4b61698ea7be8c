//! Training data: rows to examples to tokens to packed rows, and the digest of that stream.
//!
//! Everything is a pure function of bytes, seed and index, in integers, so it is equal on every machine; and this crate
//! does not depend on the model, so a verifier can check data without one.
//!
//! - [`rows`]: JSON Lines, one row at a time
//! - [`example`]: rows as token ids with a mask of what is supervised; [`template`] renders conversations
//! - [`tokenizer`]: tokenizer, special tokens, chat template
//! - [`length`]: what happens to an example that is too long; [`audit`]: what must not be trained on
//! - [`store`]: examples in tokens, on disk where they are many; [`held_out`]: those that are not trained on
//! - [`permute`]: order without state; [`pack`]: rows and their hash chain; [`stream`]: any row by its number
//! - [`prepare()`]: all of it

pub mod audit;
mod error;
pub mod example;
mod fraction;
pub mod held_out;
pub mod length;
mod origins;
pub mod pack;
pub mod permute;
mod prepare;
pub mod rows;
pub mod store;
pub mod stream;
pub mod template;
pub mod tokenizer;

pub use audit::{AuditReport, Warning};
pub use error::{DataError, Place, RowProblem, TemplateProblem, TokenizerProblem};
pub use example::EvalExample;
pub use held_out::HeldOut;
pub use pack::{Row, RowToken, StreamHead};
pub use prepare::{Prepared, prepare};
pub use store::TokenStore;
pub use stream::{Share, Stream};
pub use tokenizer::Tokenizer;
