//! One file a command: arguments to options, one library call, printed result.

pub(crate) mod attest;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod bench_gpu;
pub(crate) mod data;
pub(crate) mod device;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod hub;
pub(crate) mod key;
pub(crate) mod lock;
pub(crate) mod open;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod reveal;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod verify;
