//! Finds the sources of a recipe and holds them to their lock.
//!
//! - [`uri`]: the forms in which a recipe names a source
//! - [`lock_file`]: `datasets.lock`: where it lies, when it may change
//! - [`recorded`]: where a run says that its sources lay, as far as that can be believed
//! - [`resolve`]: one source: found, fetched where needed, every byte compared with the lock
//! - [`commit`]: what stands for the rows of an unshareable source; [`secrets`]: what that is made with
//! - [`fetch`]: `https:`; [`pip`]: `pip:`
//! - [`hub`]: the Hugging Face hub: repositories fetched whole, published folders sent
//! - [`site`]: a folder on a web server, of which single files are fetched
//!
//! This is the only crate that uses the network: for a source that the cache does not hold, and for the hub or a
//! web server where a command names it.

pub mod commit;
mod error;
pub mod fetch;
pub mod hub;
mod local;
pub mod lock_file;
pub mod pip;
pub mod recorded;
mod resolve;
pub mod secrets;
pub mod site;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod uri;

pub use error::SourceError;
pub use lock_file::LockFile;
pub use resolve::{Event, LockMode, Options, ResolvedSource, SourceKind, SourceRequest, resolve, resolve_locked};
