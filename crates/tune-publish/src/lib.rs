//! What is published of a finished run, and what is missing before it can be.
//!
//! - [`facts`]: everything that the documents need, read once from a run folder
//! - [`licence`]: SPDX expressions: what they allow, and whether they go together
//! - [`mod@audit`]: the checklist before publication: OSAID, MOF, licences, personal data, missing fields
//! - [`documents`]: model card, provenance, bills of materials, one file of code each
//! - [`key`], [`envelope`] and [`signature`]: a P-256 key, signed statements, and the OpenSSF model signature
//! - [`publication`]: the published folder
//! - [`fn@local_paths`]: what a published folder tells of the machine's folders
//!
//! No document takes anything from elsewhere than [`facts::Facts`] and which parts are published, so the same run folder and
//! the same choice give the same bytes. What a run does not know is said to be unknown. This crate knows nothing of the
//! computation and does not depend on burn.

pub mod audit;
pub mod documents;
pub mod envelope;
mod error;
pub mod facts;
pub mod identifier;
pub mod interval;
pub mod key;
pub mod licence;
mod local_paths;
pub mod publication;
pub mod signature;

pub use error::PublishError;
pub use facts::Facts;
pub use local_paths::local_paths;
