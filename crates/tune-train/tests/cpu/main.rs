//! Training on the CPU: what it computes, how devices share it, and what it needs of memory.

mod logits;
mod memory;
mod several_devices;
#[path = "../support/mod.rs"]
mod support;
mod vectors;
