//! What is trained, in the files of other tools: an adapter or a merged model as GGUF for llama.cpp, and a Modelfile for
//! Ollama.
//!
//! - [`gguf`]: a GGUF writer
//! - [`adapter`]: a LoRA adapter in PEFT's layout as a GGUF adapter
//! - [`merge`]: the base's weights with the adapter's added, exactly
//! - [`model`]: those weights as one GGUF model
//! - [`mod@modelfile`]: the Modelfile
//!
//! Equal inputs give equal bytes. Only what [`crate::base`] reads can be exported: decoders that llama.cpp calls `llama`,
//! whose query and key projections it stores with the rows of each head interleaved.

pub mod adapter;
mod error;
pub mod gguf;
pub mod merge;
pub mod model;
pub mod modelfile;
mod rows;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use adapter::{AdapterFacts, adapter_gguf};
pub use error::ExportError;
pub use gguf::{GgufWriter, Value};
pub use merge::Merged;
pub use model::write_merged_gguf;
pub use modelfile::{Modelfile, PromptForm, modelfile};
