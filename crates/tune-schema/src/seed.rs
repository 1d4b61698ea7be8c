//! The seed of a run and the named random streams derived from it.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The one seed of a run. Consumers never use it directly: each has its own stream, so that adding one shifts no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed(pub u64);

/// Names of the streams. Streams of a module append `/` and the module's name.
pub mod streams {
    /// Initial adapter matrices, one stream a module.
    pub const ADAPTER_INIT: &str = "adapter-init";
    /// Initial weights with `reinit_weights`, one stream a tensor.
    pub const WEIGHT_INIT: &str = "weight-init";
    /// Order of the examples.
    pub const SHUFFLE: &str = "shuffle";
    /// Which examples are held out.
    pub const SPLIT: &str = "split";
    /// Which examples a fractional weight or epoch takes.
    pub const MIX: &str = "mix";
    /// Dropout on the LoRA branch, one stream a module.
    pub const DROPOUT: &str = "dropout";
    /// Sampled generation.
    pub const SAMPLING: &str = "sampling";
}

impl Seed {
    /// The Philox key of the stream `name`: the first eight bytes, as two little-endian words, of
    /// SHA-256 over `tune/1/<name>/<seed in decimal>`.
    #[must_use]
    pub fn stream(self, name: &str) -> [u32; 2] {
        let digest = Digest::of(format!("tune/1/{name}/{}", self.0).as_bytes());
        let b = digest.as_bytes();
        [u32::from_le_bytes([b[0], b[1], b[2], b[3]]), u32::from_le_bytes([b[4], b[5], b[6], b[7]])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_name_and_seed() {
        let key = Seed(42).stream(streams::SHUFFLE);
        assert_eq!(key, Seed(42).stream("shuffle"));
        assert_ne!(key, Seed(43).stream("shuffle"));
        assert_ne!(key, Seed(42).stream("split"));
    }
}
