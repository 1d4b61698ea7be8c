//! The base's weights with an adapter's added: a model that needs no adapter.
//!
//! Each element of an adapted weight is `fma(s, c, w)`, where `w` is the base's weight as f32 (what a stored type's
//! formula gives), `s` the adapter's scale ([`AdapterFacts::scale`]) and `c` the chain over the rank
//! `c = +0; for k ascending: c = fma(B[o,k], A[k,i], c)`. So the branch's product has the rounding of every product of
//! `exact-f32/1`, and scale and sum are rounded together, once. Everything else is the base's weight, bit for bit.
//!
//! A merged model computes `x·(W + s·B·A)ᵀ`, the trained one `x·Wᵀ + s·(x·Aᵀ)·Bᵀ`: equal as mathematics, not as bits.
//! What a claim says about the adapter holds for the adapter; the merged weights have their own digest.

use std::collections::BTreeMap;

use tune_kernels::cpu::Level;
use tune_kernels::cpu::linear::{Weight, linear_input_gradient};
use tune_kernels::lanes::{Fma as _, Fused};

use super::ExportError;
use super::adapter::{AdapterFacts, Branch, branches};
use crate::base::BaseModel;
use crate::model::HostTensors;
use crate::shapes::decoder_shapes;

/// A base model and an adapter whose tensors were checked against it. Weights are merged when they are asked for, one
/// tensor at a time.
#[derive(Debug)]
pub struct Merged<'a> {
    base: &'a BaseModel,
    scale: f32,
    branches: BTreeMap<String, Branch<'a>>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl<'a> Merged<'a> {
    /// Checks `tensors`, in PEFT's names and shapes, against `base`.
    ///
    /// # Errors
    /// As [`super::adapter_gguf`], but for the scale, which is free here.
    pub fn new(base: &'a BaseModel, facts: &AdapterFacts, tensors: &'a HostTensors) -> Result<Self, ExportError> {
        let branches = branches(facts, tensors, &base.config)?;
        Ok(Self { base, scale: facts.scale(), branches, shapes: decoder_shapes(&base.config) })
    }

    /// The base by itself: for the GGUF file of a base that an adapter will be put on.
    #[must_use]
    pub fn without_adapter(base: &'a BaseModel) -> Self {
        Self { base, scale: 0.0, branches: BTreeMap::new(), shapes: decoder_shapes(&base.config) }
    }

    /// The base model.
    #[must_use]
    pub fn base(&self) -> &'a BaseModel {
        self.base
    }

    /// Hugging Face names and shapes, outermost dimension first, of all the decoder's weights. What the base's files
    /// hold beyond them is left out.
    #[must_use]
    pub fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    /// The values of the decoder's weight `name`, row-major, rows in Hugging Face's order.
    ///
    /// # Errors
    /// If the base does not have it, or a merged value is not finite.
    pub fn load(&self, name: &str) -> Result<Vec<f32>, ExportError> {
        let shape = self.shapes.get(name).map_or(&[][..], Vec::as_slice);
        let mut weight = self.base.load_tensor(name, shape)?;
        let branch = name.strip_suffix(".weight").and_then(|module| self.branches.get(module));
        let Some(&Branch { a, b, inputs, outputs }) = branch else { return Ok(weight) };
        let rank = b.len() / outputs;
        // `B·A` element by element is the chain over the rank that the gradient of a linear layer's input is, too.
        let product = linear_input_gradient(Level::current(), b, Weight::Values(a), None, inputs, rank);
        for (w, c) in weight.iter_mut().zip(product) {
            *w = Fused::fma(self.scale, c, *w);
        }
        match weight.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(ExportError::NotFinite { tensor: name.to_owned(), index }),
            None => Ok(weight),
        }
    }

    /// All weights, for a safetensors file. Takes four bytes of memory a parameter; [`Self::load`] gives them one by one.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn to_host(&self) -> Result<HostTensors, ExportError> {
        self.shapes.iter().map(|(name, shape)| Ok((name.clone(), (shape.clone(), self.load(name)?)))).collect()
    }
}
