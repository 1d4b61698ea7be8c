//! The files that `tune` reads and writes, as types: recipe, lock, manifest, chain.
//!
//! This crate performs no I/O and depends on nothing that computes, so that other tools can parse our files with it.
//!
//! - [`mod@recipe`]: what a user writes and its complete, validated form
//! - [`lock`]: the digests of all sources, `datasets.lock`
//! - [`commitment`]: what stands for the rows of a source that may not be shared; [`merkle`]: the tree under it
//! - [`reveal`]: chosen rows of such a source, with their proofs
//! - [`manifest`]: `manifest.json`, the claim and its environment
//! - [`mod@environment`]: `environment.json`, machine and timings
//! - [`export`]: `export.json`, what an export holds
//! - [`chain`]: `chain.jsonl`, one record a step
//! - [`text`], [`path`]: what strangers wrote, in lines for people and as places below a folder
//! - [`adapter_config`]: `adapter_config.json` as PEFT has it
//! - [`canonical`]: RFC 8785 bytes, over which digests are taken
//! - [`device`]: the names of devices
//! - [`digest`]: SHA-256 digests that carry their algorithm's name
//! - [`seed`] and [`philox`]: the one seed of a run, the streams it names and the generator behind them

pub mod adapter_config;
pub mod canonical;
pub mod chain;
pub mod commitment;
pub mod device;
pub mod digest;
pub mod environment;
pub mod export;
mod hex;
pub mod lock;
pub mod manifest;
pub mod merkle;
pub mod path;
pub mod philox;
pub mod recipe;
pub mod reveal;
pub mod seed;
pub mod text;

pub use canonical::{CanonicalError, canonical_digest, to_canonical_json};
pub use device::{DeviceChoice, DeviceError, Devices};
pub use digest::{Digest, DigestParseError, Hasher};
