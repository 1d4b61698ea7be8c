//! Linear layers with LoRA branches, forward and backward.

use std::ops::Range;

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::pointwise::dropout;
use super::product::{Epilogue, Shape, product};
use crate::layout::Rows;
use crate::shapes::Dropout;

/// The tensors of a layer on the device.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// `[outputs, inputs]`
    pub(super) weight: Handle,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// `[outputs]`
    pub(super) bias: Option<Handle>,
    pub(super) branch: Option<Branch>,
}

/// A LoRA branch.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    /// `[rank, inputs]`
    pub(super) a: Handle,
    /// `[outputs, rank]`
    pub(super) b: Handle,
    pub(super) rank: usize,
    pub(super) scale: f32,
    pub(super) dropout: Option<Dropout>,
}

impl Branch {
    /// The branch's input.
    fn dropped<R: Runtime>(&self, client: &ComputeClient<R>, x: &Handle, inputs: usize, rows: &Rows) -> Handle {
        self.dropout.map_or_else(|| x.clone(), |drop| dropout(client, x, inputs, drop, rows))
    }
}

/// `y`, and with a branch `dropout(x) · Aᵀ`. See [`crate::reference::linear_lora`].
pub(super) fn linear<R: Runtime>(
    client: &ComputeClient<R>,
    x: &Handle,
    layer: &Layer,
    plus: Option<&Handle>,
    tokens: usize,
    rows: &Rows,
) -> (Handle, Option<Handle>) {
    let Layer { weight, inputs, outputs, bias, branch } = layer;
    let branch = branch.as_ref().map(|branch| {
        let dropped = branch.dropped(client, x, *inputs, rows);
        let shape = Shape::linear(tokens, *inputs, branch.rank);
        let h = product(client, &dropped, &branch.a, shape, Epilogue::default());
        let y = product(client, &h, &branch.b, Shape::linear(tokens, branch.rank, *outputs), Epilogue::default());
        (h, y, branch.scale)
    });
    let previous = branch.as_ref().map(|(_, y, scale)| (y, *scale));
    let epilogue = Epilogue { bias: bias.as_ref(), previous, plus, times: None };
    let y = product(client, x, weight, Shape::linear(tokens, *inputs, *outputs), epilogue);
    (y, branch.map(|(h, _, _)| h))
}

/// The input's gradient, and those of `A` and `B` for each row. See [`crate::reference::linear_lora_backward`]. The input's
/// gradient is left out where `plus` is none, and is `plus + dx` where it holds a buffer.
pub(super) fn linear_lora_backward<R: Runtime>(
    client: &ComputeClient<R>,
    [dy, x, h]: [&Handle; 3],
    layer: &Layer,
    branch: &Branch,
    rows: &Rows,
    plus: Option<Option<&Handle>>,
) -> (Option<Handle>, Vec<[Handle; 2]>) {
    let (Layer { weight, inputs, outputs, .. }, Branch { a, b, rank, .. }) = (layer, branch);
    let tokens = rows.ranges.iter().map(Range::len).sum();
    let u = product(client, dy, b, Shape::input_gradient(tokens, *rank, *outputs), Epilogue::default());
    let dx = plus.map(|plus| {
        let shape = Shape::input_gradient(tokens, *inputs, *rank);
        let through = branch.dropped(client, &product(client, &u, a, shape, Epilogue::default()), *inputs, rows);
        let epilogue = Epilogue { previous: Some((&through, branch.scale)), plus, ..Epilogue::default() };
        product(client, dy, weight, Shape::input_gradient(tokens, *inputs, *outputs), epilogue)
    });
    let dropped = branch.dropped(client, x, *inputs, rows);
    let gradients = rows.ranges.iter().map(|row| {
        let scaled = Epilogue { times: Some(branch.scale), ..Epilogue::default() };
        let da = product(client, &u, &dropped, Shape::weight_gradient(row, *inputs, *rank), scaled);
        [da, product(client, dy, h, Shape::weight_gradient(row, *rank, *outputs), scaled)]
    });
    (dx, gradients.collect())
}
