//! Every operation of a backend against the scalar reference, bit for bit: on random shapes, with 1, primes and sizes
//! around the tiles among them. Products of rounded operands, whose order is the hardware's, against sums in f64.
//!
//! In the library and not in its tests, so that one binary on a machine with a GPU can compare as well:
//! `tune bench --gpu`.

mod operations;
mod random;
mod rounded;

use crate::KernelBackend;
use crate::reference::Fma;
use crate::shapes::AdamW;

pub use random::{Random, sum};
pub use rounded::{compare_rounded, within};

/// Scalars of an optimizer step in which each of them shows.
pub const ADAMW: AdamW = AdamW {
    gradient_factor: 0.013,
    decay: 0.999,
    one_minus_beta1: 0.1,
    beta2: 0.999,
    one_minus_beta2: 0.001,
    root_bias_correction2: 0.25,
    epsilon: 1e-8,
    step_size: 3e-3,
};

/// What the comparison of one group of operations came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The operations.
    pub operations: &'static str,
    /// Random shapes tried.
    pub shapes: u32,
    /// Values compared.
    pub values: u64,
    /// The first value that differs.
    pub difference: Option<String>,
}

/// Compares, and keeps the first difference.
#[derive(Debug, Default)]
struct Check {
    values: u64,
    difference: Option<String>,
}

impl Check {
    fn same(&mut self, what: &str, got: &[f32], want: &[f32]) {
        self.values += want.len() as u64;
        let difference = difference(got, want);
        self.difference = self.difference.take().or(difference.map(|difference| format!("{what}: {difference}")));
    }

    /// Something was there, or not, as it should be.
    fn there(&mut self, what: &str, got: bool, want: bool) {
        if got != want {
            self.difference
                .get_or_insert_with(|| format!("{what}: {}", if want { "missing" } else { "not asked for" }));
        }
    }
}

/// The first difference in bits.
#[must_use]
pub fn difference(got: &[f32], want: &[f32]) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("{} values, the reference has {}", got.len(), want.len()));
    }
    let mut pairs = got.iter().zip(want).enumerate();
    let first = pairs.find(|(_, (got, want))| got.to_bits() != want.to_bits());
    first.map(|(i, (got, want))| format!("element {i} is {got:e}, the reference has {want:e}"))
}

/// Compares every operation of `B` on `device` with the reference whose `fma` is `F`, each group on `shapes` random shapes.
pub fn compare<B: KernelBackend, F: Fma>(device: &B::Device, shapes: u32) -> Vec<Comparison> {
    type Group<B> = fn(&<B as burn_backend::BackendTypes>::Device, u32, &mut Check);
    let groups: [(&'static str, Group<B>); 7] = [
        ("matrix products", operations::products::<B, F>),
        ("LoRA layers", operations::lora::<B, F>),
        ("stored weights", operations::stored_weights::<B, F>),
        ("normalisation", operations::normalisation::<B, F>),
        ("rotation, activation, optimizer", operations::elementwise::<B, F>),
        ("attention", operations::attention::<B, F>),
        ("cross-entropy, embedding", operations::cross_entropy::<B, F>),
    ];
    let compare = |(operations, group): (&'static str, Group<B>)| {
        let mut check = Check::default();
        (0..shapes).for_each(|case| group(device, case, &mut check));
        Comparison { operations, shapes, values: check.values, difference: check.difference }
    };
    groups.into_iter().map(compare).collect()
}
