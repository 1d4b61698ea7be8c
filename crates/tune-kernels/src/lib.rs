//! The numerics contract `exact-f32/1` as code: one definition of every operation that decides a bit.
//!
//! `docs/numerics.md` is normative; this crate implements it three times over, and tests compare the three bit for bit:
//!
//! - [`mod@reference`]: plain scalar loops that a reader can check against the page, generic over the one operation `fma`
//! - [`cpu`]: the same operations in vector registers and threads, at a level chosen at run time ([`cpu::Level`])
//! - [`cube`]: the same operations as kernels for CUDA and wgpu, with the probe that says which devices may run them
//! - [`backend`]: the operations as an extension of burn's `Backend`, which models are written against
//! - [`compare`]: a backend's operations against the reference
//!
//! Beside them: [`elementary`] (exp and log), [`philox`] (random numbers without state), [`layout`] (rows and segments
//! of a micro-batch), [`tree`] (the order in which the gradients of rows are added), [`shapes`] (argument structs),
//! [`profile`] (where the time goes).
//!
//! Nothing here calls a platform's math library, and no order of additions depends on the machine.

pub mod backend;
mod checks;
pub mod compare;
pub mod cpu;
pub mod cube;
pub mod elementary;
pub mod encoding;
mod flex;
#[expect(unsafe_code, reason = "loads, stores and vector instructions")]
pub mod lanes;
pub mod layout;
pub mod philox;
pub mod profile;
pub mod reference;
pub mod shapes;
pub mod stored;
pub mod tree;

pub use backend::KernelBackend;
