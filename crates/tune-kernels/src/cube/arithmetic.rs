//! Products under one of the profiles of numerics: the rest of a layer's operations is the same in all of them.

use burn_cubecl::element::BoolElement;
use cubecl::prelude::*;
use cubecl::server::Handle;
use tune_schema::recipe::Numerics;

use super::pinned::Rounded;
use super::product::{Epilogue, Shape};
use super::{pinned, product};

/// A profile as a type, so that a backend has one: burn's backend has element types for parameters and no other, and none
/// of the operations here has truth values.
pub trait Profile: BoolElement {
    /// The profile.
    const NUMERICS: Numerics;
}

/// `exact-f32/1`.
pub type Exact = u32;

/// `pinned-bf16/1`.
pub type Pinned = u8;

impl Profile for Exact {
    const NUMERICS: Numerics = Numerics::ExactF32V1;
}

impl Profile for Pinned {
    const NUMERICS: Numerics = Numerics::PinnedBf16V1;
}

/// A matrix as products take it.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    /// Its values.
    Exact(Handle),
    /// Rounded to bf16.
    Pinned(Rounded),
}

/// Products on a device.
pub(super) struct Arithmetic<'a, R: Runtime> {
    pub(super) client: &'a ComputeClient<R>,
    pub(super) numerics: Numerics,
}

impl<R: Runtime> Arithmetic<'_, R> {
    /// A matrix `[rows, columns]` of f32 as an operand.
    pub(super) fn operand(&self, values: &Handle, shape: [usize; 2]) -> Operand {
        match self.numerics {
            Numerics::ExactF32V1 => Operand::Exact(values.clone()),
            Numerics::PinnedBf16V1 => Operand::Pinned(Rounded::of(self.client, values, shape)),
        }
    }

    /// A product and its epilogue.
    ///
    /// # Panics
    /// If an operand is smaller than the shape says, or was made for another profile.
    pub(super) fn product(&self, a: &Operand, b: &Operand, shape: Shape, epilogue: Epilogue<'_>) -> Handle {
        match (a, b) {
            (Operand::Exact(a), Operand::Exact(b)) => product::product(self.client, a, b, shape, epilogue),
            (Operand::Pinned(a), Operand::Pinned(b)) => pinned::product::product(self.client, a, b, shape, epilogue),
            _ => panic!("operands of one profile"),
        }
    }

    /// Adds another product to the one that `c` holds: its chains go on, or in `pinned-bf16/1` its sums are added.
    ///
    /// # Panics
    /// As [`Self::product`].
    pub(super) fn continue_product(&self, a: &Operand, b: &Operand, shape: Shape, c: &Handle) {
        match (a, b) {
            (Operand::Exact(a), Operand::Exact(b)) => product::continue_product(self.client, a, b, shape, c),
            _ => drop(self.product(a, b, shape, Epilogue { previous: Some((c, 1.0)), ..Epilogue::default() })),
        }
    }
}
