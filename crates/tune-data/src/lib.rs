//! Training data: rows to examples to tokens to packed rows, and the digest of that stream.
//!
//! Everything is a pure function of bytes, seed and index, in integers, so it is equal on every machine; and this crate
//! does not depend on the model, so a verifier can check data without one.
//!
//! - [`rows`]: JSON Lines, one row at a time
//! - [`example`]: rows as token ids with a mask of what is supervised; [`template`] renders conversations
//! - [`tokenizer`]: tokenizer, special tokens, chat template
//! - [`permute`]: order without state; [`pack`]: rows and their hash chain; [`stream`]: any row by its number
//! - [`prepare()`]: all of it, with an audit that fails closed

mod error;
pub mod example;
pub mod pack;
pub mod permute;
mod prepare;
pub mod rows;
mod store;
mod stream;
pub mod template;
pub mod tokenizer;

pub use error::DataError;
pub use pack::{Row, RowToken, StreamHead};
pub use prepare::{AuditReport, EvalExample, Prepared, prepare};
pub use store::TokenStore;
pub use stream::{Share, Stream};
pub use tokenizer::Tokenizer;
