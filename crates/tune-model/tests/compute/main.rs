//! What the model computes: its gradients against finite differences, and the equalities of bits that the contract
//! promises (`docs/numerics.md`), on tiny random models.
//!
//! The processor's level is the one the machine picks: `tune-kernels` shows that all levels have the same bits.

mod adapter;
mod generation;
mod gradients;
mod left_out;
mod memory;
mod packing;
mod reference;
mod splitting;
mod support;
