//! Linear layers with LoRA branches, forward and backward.

use std::ops::Range;

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::arithmetic::{Arithmetic, Operand};
use super::pointwise::dropout;
use super::product::{Epilogue, Shape};
use crate::layout::Rows;
use crate::shapes::Dropout;

/// The tensors of a layer on the device.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// `[outputs, inputs]`
    pub(super) weight: Operand,
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
    pub(super) a: Operand,
    /// `[outputs, rank]`
    pub(super) b: Operand,
    pub(super) rank: usize,
    pub(super) scale: f32,
    pub(super) dropout: Option<Dropout>,
}

impl Branch {
    /// A value at the branch's input, or its gradient.
    fn dropped<R: Runtime>(&self, client: &ComputeClient<R>, x: &Handle, inputs: usize, rows: &Rows) -> Handle {
        self.dropout.map_or_else(|| x.clone(), |drop| dropout(client, x, inputs, drop, rows))
    }

    /// The branch's input.
    fn input<R: Runtime>(&self, arithmetic: &Arithmetic<'_, R>, x: &Input, inputs: usize, rows: &Rows) -> Operand {
        let dropped = |drop| dropout(arithmetic.client, &x.values, inputs, drop, rows);
        let tokens = rows.ranges.iter().map(Range::len).sum();
        self.dropout.map_or_else(|| x.operand.clone(), |drop| arithmetic.operand(&dropped(drop), [tokens, inputs]))
    }
}

/// The input of layers, `[tokens, inputs]`.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) values: Handle,
    pub(super) operand: Operand,
}

/// `y`, and with a branch `dropout(x) · Aᵀ`. See [`crate::reference::linear_lora`].
pub(super) fn linear<R: Runtime>(
    arithmetic: &Arithmetic<'_, R>,
    x: &Input,
    layer: &Layer,
    plus: Option<&Handle>,
    tokens: usize,
    rows: &Rows,
) -> (Handle, Option<Handle>) {
    let Layer { weight, inputs, outputs, bias, branch } = layer;
    let branch = branch.as_ref().map(|branch| {
        let dropped = branch.input(arithmetic, x, *inputs, rows);
        let shape = Shape::linear(tokens, *inputs, branch.rank);
        let h = arithmetic.product(&dropped, &branch.a, shape, Epilogue::default());
        let operand = arithmetic.operand(&h, [tokens, branch.rank]);
        let shape = Shape::linear(tokens, branch.rank, *outputs);
        (h, arithmetic.product(&operand, &branch.b, shape, Epilogue::default()), branch.scale)
    });
    let previous = branch.as_ref().map(|(_, y, scale)| (y, *scale));
    let epilogue = Epilogue { bias: bias.as_ref(), previous, plus, times: None };
    let y = arithmetic.product(&x.operand, weight, Shape::linear(tokens, *inputs, *outputs), epilogue);
    (y, branch.map(|(h, _, _)| h))
}

/// The input's gradient and `u = dy · B`. See [`crate::reference::linear_lora_backward`]. The input's gradient is left out
/// where `plus` is none, and is `plus + dx` where it holds a buffer.
pub(super) fn lora_input_gradient<R: Runtime>(
    arithmetic: &Arithmetic<'_, R>,
    dy: &Operand,
    layer: &Layer,
    branch: &Branch,
    (tokens, rows): (usize, &Rows),
    plus: Option<Option<&Handle>>,
) -> (Option<Handle>, Handle) {
    let (Layer { weight, inputs, outputs, .. }, Branch { a, b, rank, .. }) = (layer, branch);
    let u = arithmetic.product(dy, b, Shape::input_gradient(tokens, *rank, *outputs), Epilogue::default());
    let dx = plus.map(|plus| {
        let u = arithmetic.operand(&u, [tokens, *rank]);
        let through = arithmetic.product(&u, a, Shape::input_gradient(tokens, *inputs, *rank), Epilogue::default());
        let through = branch.dropped(arithmetic.client, &through, *inputs, rows);
        let epilogue = Epilogue { previous: Some((&through, branch.scale)), plus, ..Epilogue::default() };
        arithmetic.product(dy, weight, Shape::input_gradient(tokens, *inputs, *outputs), epilogue)
    });
    (dx, u)
}

/// The gradients of `A` and `B` for each row. See [`crate::reference::linear_lora_backward`].
pub(super) fn lora_gradients<R: Runtime>(
    arithmetic: &Arithmetic<'_, R>,
    dy: &Operand,
    x: &Input,
    [h, u]: [&Operand; 2],
    layer: &Layer,
    branch: &Branch,
    rows: &Rows,
) -> Vec<[Handle; 2]> {
    let (Layer { inputs, outputs, .. }, rank) = (layer, branch.rank);
    let dropped = branch.input(arithmetic, x, *inputs, rows);
    let gradients = rows.ranges.iter().map(|row| {
        let scaled = Epilogue { times: Some(branch.scale), ..Epilogue::default() };
        let da = arithmetic.product(u, &dropped, Shape::weight_gradient(row, *inputs, rank), scaled);
        [da, arithmetic.product(dy, h, Shape::weight_gradient(row, rank, *outputs), scaled)]
    });
    gradients.collect()
}
