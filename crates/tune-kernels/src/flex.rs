//! The operations on burn's CPU backend, `Flex`: tensors are unpacked to slices for the kernels of [`crate::cpu`].

use std::sync::Arc;

use burn_backend::TensorData;
use burn_flex::{Flex, FlexTensor};
use burn_tensor::Tensor;
use tune_schema::recipe::Numerics;

use crate::backend::{
    BranchPass, CrossEntropy, Gradients, InputGradient, KernelBackend, Layer, LayerOutput, LoraGradient, Normed,
    SwigluGradients, Target, Weight,
};
use crate::checks;
use crate::cpu::linear::Branch;
use crate::cpu::{Level, attention, head, linear, pointwise};
use crate::layout::{Repeat, Rows, Span};
use crate::profile::{Operation, timed};
use crate::shapes::{AdamW, Heads};
use crate::stored::StoredMatrix;

/// The contiguous storage of a tensor.
struct Host(FlexTensor);

impl Host {
    fn new<const D: usize>(tensor: &Tensor<Flex, D>) -> Self {
        let primitive = tensor.clone().into_primitive().tensor();
        Self(if primitive.is_contiguous() { primitive } else { primitive.to_contiguous() })
    }

    fn slice(&self) -> &[f32] {
        self.0.as_slice::<f32>().expect("a contiguous tensor is one slice")
    }
}

/// A tensor of `shape` with these values.
fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<Flex, D> {
    Tensor::from_data(TensorData::new(values, shape), &burn_flex::FlexDevice)
}

/// Gives the values of a tensor away, without a copy where it is the only owner.
fn into_values<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().into_vec().expect("tensors of the contract are f32")
}

/// A weight's values, or the weight as it is stored.
enum HostWeight {
    Values(Host),
    Stored(Arc<StoredMatrix>),
}

impl HostWeight {
    fn new(weight: &Weight<Flex>) -> Self {
        match weight {
            Weight::Values(tensor) => Self::Values(Host::new(tensor)),
            Weight::Stored(matrix) => Self::Stored(Arc::clone(matrix)),
        }
    }

    fn view(&self) -> linear::Weight<'_> {
        match self {
            Self::Values(values) => linear::Weight::Values(values.slice()),
            Self::Stored(matrix) => linear::Weight::Stored(matrix),
        }
    }
}

/// The tensors of a layer.
struct HostLayer<'a> {
    layer: &'a Layer<'a, Flex>,
    weight: HostWeight,
    bias: Option<Host>,
    branch: Option<[Host; 2]>,
}

impl<'a> HostLayer<'a> {
    fn new(layer: &'a Layer<'a, Flex>) -> Self {
        Self {
            layer,
            weight: HostWeight::new(layer.weight),
            bias: layer.bias.map(Host::new),
            branch: layer.branch.as_ref().map(|branch| [Host::new(&branch.a), Host::new(&branch.b)]),
        }
    }

    fn view(&self) -> linear::Layer<'_> {
        let [outputs, inputs] = self.layer.weight.dims();
        let branch = self.layer.branch.as_ref().zip(self.branch.as_ref()).map(|(branch, [a, b])| Branch {
            a: a.slice(),
            b: b.slice(),
            scale: branch.scale,
            dropout: branch.dropout,
            rank: branch.a.dims()[0],
        });
        linear::Layer {
            weight: self.weight.view(),
            shape: [inputs, outputs],
            bias: self.bias.as_ref().map(Host::slice),
            branch,
        }
    }
}

/// Gradients of a branch for each row, as tensors.
fn branch_gradients(rows: Vec<linear::BranchGradient>, [inputs, outputs, rank]: [usize; 3]) -> Vec<LoraGradient<Flex>> {
    let one = |(a, b)| LoraGradient { a: tensor(a, [rank, inputs]), b: tensor(b, [outputs, rank]) };
    rows.into_iter().map(one).collect()
}

impl KernelBackend for Flex {
    const NUMERICS: Numerics = Numerics::ExactF32V1;

    type Stored = Arc<StoredMatrix>;

    fn stored(matrix: StoredMatrix, _device: &Self::Device) -> Self::Stored {
        Arc::new(matrix)
    }

    fn stored_shape(stored: &Self::Stored) -> [usize; 2] {
        stored.shape()
    }

    fn linears(
        x: &Tensor<Self, 2>,
        layers: &[Layer<'_, Self>],
        plus: Option<&Tensor<Self, 2>>,
        rows: &Rows,
        repeats: &[Repeat],
    ) -> Vec<LayerOutput<Self>> {
        let [tokens, _] = x.dims();
        checks::linears(x, layers, repeats);
        let (x, plus) = (Host::new(x), plus.map(Host::new));
        let hosts: Vec<HostLayer<'_>> = layers.iter().map(HostLayer::new).collect();
        let views: Vec<linear::Layer<'_>> = hosts.iter().map(HostLayer::view).collect();
        let plus = plus.as_ref().map(Host::slice);
        let outputs = linear::linears(Level::current(), x.slice(), &views, plus, rows, repeats);
        let outputs = outputs.into_iter().zip(&views).map(|((y, h), layer)| LayerOutput {
            y: tensor(y, [tokens, layer.shape[1]]),
            h: h.zip(layer.branch).map(|(h, branch)| tensor(h, [tokens, branch.rank])),
        });
        outputs.collect()
    }

    fn linear_input_gradient(
        dy: &Tensor<Self, 2>,
        w: &Weight<Self>,
        plus: Option<&Tensor<Self, 2>>,
    ) -> Tensor<Self, 2> {
        checks::linear_input_gradient(dy, w);
        let ([tokens, outputs], [_, inputs]) = (dy.dims(), w.dims());
        let (dy, w, plus) = (Host::new(dy), HostWeight::new(w), plus.map(Host::new));
        let plus = plus.as_ref().map(Host::slice);
        let dx = timed(Operation::LinearBackward, || {
            linear::linear_input_gradient(Level::current(), dy.slice(), w.view(), plus, inputs, outputs)
        });
        tensor(dx, [tokens, inputs])
    }

    fn linear_weight_gradient(dy: &Tensor<Self, 2>, x: &Tensor<Self, 2>, rows: &Rows) -> Vec<Tensor<Self, 2>> {
        checks::linear_weight_gradient(dy, x);
        let ([_, outputs], [_, inputs]) = (dy.dims(), x.dims());
        let (dy, x) = (Host::new(dy), Host::new(x));
        let one = |row| linear::linear_weight_gradient(Level::current(), dy.slice(), x.slice(), inputs, outputs, row);
        timed(Operation::WeightGradient, || rows.ranges.iter().map(|row| tensor(one(row), [outputs, inputs])).collect())
    }

    fn bias_gradient(dy: &Tensor<Self, 2>, rows: &Rows) -> Vec<Tensor<Self, 1>> {
        let [_, outputs] = dy.dims();
        let dy = Host::new(dy);
        rows.ranges.iter().map(|row| tensor(pointwise::bias_gradient(dy.slice(), outputs, row), [outputs])).collect()
    }

    fn lora_input_gradient(
        dy: &Tensor<Self, 2>,
        layer: &Layer<'_, Self>,
        rows: &Rows,
        input: InputGradient<'_, Self>,
    ) -> (Option<Tensor<Self, 2>>, Tensor<Self, 2>) {
        checks::lora_input_gradient(dy, layer);
        let ([tokens, _], [_, inputs]) = (dy.dims(), layer.weight.dims());
        let (host, dy) = (HostLayer::new(layer), Host::new(dy));
        let plus;
        let input = match input {
            InputGradient::None => linear::InputGradient::None,
            InputGradient::Alone => linear::InputGradient::Alone,
            InputGradient::Plus(tensor) => {
                plus = Host::new(tensor);
                linear::InputGradient::Plus(plus.slice())
            }
        };
        let (dx, u) = linear::lora_input_gradient(Level::current(), dy.slice(), &host.view(), rows, input);
        let rank = layer.branch.as_ref().map_or(0, |branch| branch.a.dims()[0]);
        (dx.map(|dx| tensor(dx, [tokens, inputs])), tensor(u, [tokens, rank]))
    }

    fn lora_gradients(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        h: &Tensor<Self, 2>,
        u: &Tensor<Self, 2>,
        layer: &Layer<'_, Self>,
        rows: &Rows,
    ) -> Vec<LoraGradient<Self>> {
        checks::lora_gradients(dy, x, [h, u], layer);
        let ([_, outputs], [_, inputs], [_, rank]) = (dy.dims(), x.dims(), h.dims());
        let host = HostLayer::new(layer);
        let [dy, x, h, u] = [dy, x, h, u].map(Host::new);
        let middles = [h.slice(), u.slice()];
        let gradients = linear::lora_gradients(Level::current(), dy.slice(), x.slice(), middles, &host.view(), rows);
        branch_gradients(gradients, [inputs, outputs, rank])
    }

    fn lora_gradients_of_normed(
        input: Normed<'_, Self>,
        passes: &[BranchPass<'_, Self>],
        rows: &Rows,
    ) -> Vec<Vec<LoraGradient<Self>>> {
        checks::rms_norm(input.x, input.w);
        passes.iter().for_each(|pass| checks::lora_gradients(pass.dy, input.x, [pass.h, pass.u], pass.layer));
        let (x, w, roots) = (Host::new(input.x), Host::new(input.w), Host::new(input.reciprocal_roots));
        let hosts: Vec<_> =
            passes.iter().map(|pass| (HostLayer::new(pass.layer), [pass.dy, pass.h, pass.u].map(Host::new))).collect();
        let views: Vec<_> = hosts
            .iter()
            .map(|(layer, [dy, h, u])| linear::BranchPass {
                dy: dy.slice(),
                h_and_u: [h.slice(), u.slice()],
                layer: layer.view(),
            })
            .collect();
        let inputs = [x.slice(), w.slice(), roots.slice()];
        let gradients = linear::lora_gradients_of_normed(Level::current(), inputs, &views, rows);
        let sizes = passes.iter().map(|pass| [input.x.dims()[1], pass.dy.dims()[1], pass.h.dims()[1]]);
        gradients.into_iter().zip(sizes).map(|(rows, sizes)| branch_gradients(rows, sizes)).collect()
    }

    fn rms_norm(x: &Tensor<Self, 2>, w: &Tensor<Self, 1>, epsilon: f32) -> (Tensor<Self, 2>, Tensor<Self, 1>) {
        let [tokens, features] = x.dims();
        checks::rms_norm(x, w);
        let (y, roots) = timed(Operation::Norm, || {
            pointwise::rms_norm(Level::current(), Host::new(x).slice(), Host::new(w).slice(), epsilon)
        });
        (tensor(y, [tokens, features]), tensor(roots, [tokens]))
    }

    fn rms_norm_input_gradient(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        w: &Tensor<Self, 1>,
        reciprocal_roots: &Tensor<Self, 1>,
        plus: Option<&Tensor<Self, 2>>,
    ) -> Tensor<Self, 2> {
        checks::rms_norm_input_gradient(dy, x);
        let (dy, host, w, roots) = (Host::new(dy), Host::new(x), Host::new(w), Host::new(reciprocal_roots));
        let plus = plus.map(Host::new);
        let plus = plus.as_ref().map(Host::slice);
        let dx = timed(Operation::Norm, || {
            let (dy, x) = (dy.slice(), host.slice());
            pointwise::rms_norm_input_gradient(Level::current(), dy, x, w.slice(), roots.slice(), plus)
        });
        tensor(dx, x.dims())
    }

    fn rms_norm_weight_gradient(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        reciprocal_roots: &Tensor<Self, 1>,
        rows: &Rows,
    ) -> Vec<Tensor<Self, 1>> {
        let [_, features] = x.dims();
        let (dy, x, roots) = (Host::new(dy), Host::new(x), Host::new(reciprocal_roots));
        let one = |row| {
            pointwise::rms_norm_weight_gradient(Level::current(), dy.slice(), x.slice(), roots.slice(), features, row)
        };
        rows.ranges.iter().map(|row| tensor(one(row), [features])).collect()
    }

    fn rope(
        x: Tensor<Self, 2>,
        positions: &[u32],
        cos: &Tensor<Self, 2>,
        sin: &Tensor<Self, 2>,
        inverse: bool,
    ) -> Tensor<Self, 2> {
        let ([_, half], dims) = (cos.dims(), x.dims());
        checks::rope(&x, positions, cos);
        let (mut values, cos, sin) = (into_values(x), Host::new(cos), Host::new(sin));
        timed(Operation::Rope, || {
            pointwise::rope(Level::current(), &mut values, positions, [cos.slice(), sin.slice()], 2 * half, inverse);
        });
        tensor(values, dims)
    }

    fn attention(
        q: &Tensor<Self, 2>,
        k: &Tensor<Self, 2>,
        v: &Tensor<Self, 2>,
        spans: &[Span],
        heads: Heads,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        let [tokens, features] = q.dims();
        checks::attention(q, k, v, spans, heads);
        let (q, k, v) = (Host::new(q), Host::new(k), Host::new(v));
        let (output, statistics) = timed(Operation::AttentionForward, || {
            attention::attention(Level::current(), q.slice(), k.slice(), v.slice(), spans, heads)
        });
        (tensor(output, [tokens, features]), tensor(statistics, [tokens, heads.heads * 2]))
    }

    fn attention_backward(
        d_output: &Tensor<Self, 2>,
        q: &Tensor<Self, 2>,
        k: &Tensor<Self, 2>,
        v: &Tensor<Self, 2>,
        output: &Tensor<Self, 2>,
        statistics: &Tensor<Self, 2>,
        spans: &[Span],
        heads: Heads,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>, Tensor<Self, 2>) {
        checks::attention_backward(d_output, q, output);
        let (q_dims, k_dims) = (q.dims(), k.dims());
        let (d_output, q, k, v) = (Host::new(d_output), Host::new(q), Host::new(k), Host::new(v));
        let (output, statistics) = (Host::new(output), Host::new(statistics));
        let (dq, dk, dv) = timed(Operation::AttentionBackward, || {
            attention::attention_backward(
                Level::current(),
                d_output.slice(),
                q.slice(),
                k.slice(),
                v.slice(),
                output.slice(),
                statistics.slice(),
                spans,
                heads,
            )
        });
        (tensor(dq, q_dims), tensor(dk, k_dims), tensor(dv, k_dims))
    }

    fn swiglu(gate: &Tensor<Self, 2>, up: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        checks::swiglu(gate, up);
        let (g, u) = (Host::new(gate), Host::new(up));
        let y = timed(Operation::SwiGlu, || pointwise::swiglu(Level::current(), g.slice(), u.slice()));
        tensor(y, gate.dims())
    }

    fn swiglu_backward(dy: Tensor<Self, 2>, gate: Tensor<Self, 2>, up: Tensor<Self, 2>) -> SwigluGradients<Self> {
        checks::swiglu_backward(&dy, &gate, &up);
        let dims = gate.dims();
        let [mut dy, mut gate, mut up] = [dy, gate, up].map(into_values);
        timed(Operation::SwiGlu, || pointwise::swiglu_backward(Level::current(), &mut dy, &mut gate, &mut up));
        let [activation, gate, up] = [dy, gate, up].map(|values| tensor(values, dims));
        SwigluGradients { activation, gate, up }
    }

    fn embedding(table: &Weight<Self>, ids: &[u32]) -> Tensor<Self, 2> {
        checks::embedding(table, ids);
        let [_, features] = table.dims();
        let rows = timed(Operation::Embedding, || head::embedding(HostWeight::new(table).view(), ids, features));
        tensor(rows, [ids.len(), features])
    }

    fn embedding_gradient(dy: &Tensor<Self, 2>, ids: &[u32], vocabulary: usize, rows: &Rows) -> Vec<Tensor<Self, 2>> {
        let [_, features] = dy.dims();
        let dy = Host::new(dy);
        let one = |row| crate::reference::embedding_gradient(dy.slice(), ids, features, vocabulary, row);
        timed(Operation::Embedding, || rows.ranges.iter().map(|row| tensor(one(row), [vocabulary, features])).collect())
    }

    fn scatter(x: &Tensor<Self, 2>, ids: &[u32], count: usize) -> Tensor<Self, 2> {
        checks::scatter(x, ids, count);
        let [_, features] = x.dims();
        let x = Host::new(x);
        let rows = timed(Operation::Embedding, || head::scatter(x.slice(), ids, count, features));
        tensor(rows, [count, features])
    }

    fn cross_entropy(
        x: &Tensor<Self, 2>,
        w: &Weight<Self>,
        targets: &[Target],
        rows: &Rows,
        gradients: Gradients,
    ) -> CrossEntropy<Self> {
        checks::cross_entropy(x, w, targets);
        let ([tokens, features], [vocabulary, _]) = (x.dims(), w.dims());
        let (x, w) = (Host::new(x), HostWeight::new(w));
        let (losses, dx, dw) = timed(Operation::Head, || {
            head::cross_entropy(Level::current(), x.slice(), w.view(), features, targets, rows, gradients)
        });
        CrossEntropy {
            losses,
            input_gradient: dx.map(|dx| tensor(dx, [tokens, features])),
            weight_gradients: dw.into_iter().map(|dw| tensor(dw, [vocabulary, features])).collect(),
        }
    }

    fn adamw<const D: usize>(
        parameter: Tensor<Self, D>,
        first_moment: Tensor<Self, D>,
        second_moment: Tensor<Self, D>,
        gradient: &Tensor<Self, D>,
        scalars: AdamW,
    ) -> [Tensor<Self, D>; 3] {
        let dims = parameter.dims();
        checks::adamw([&parameter, &first_moment, &second_moment, gradient]);
        let (mut p, mut m, mut v) = (into_values(parameter), into_values(first_moment), into_values(second_moment));
        let gradient = Host::new(gradient);
        timed(Operation::Optimizer, || {
            pointwise::adamw(Level::current(), &mut p, &mut m, &mut v, gradient.slice(), scalars);
        });
        [tensor(p, dims), tensor(m, dims), tensor(v, dims)]
    }

    fn row_sums_of_squares<const D: usize>(matrices: &[&Tensor<Self, D>]) -> Vec<f32> {
        let of = |x: &&Tensor<Self, D>| {
            pointwise::row_sums_of_squares(Level::current(), Host::new(x).slice(), checks::matrix(&x.dims())[1])
        };
        timed(Operation::Optimizer, || matrices.iter().flat_map(of).collect())
    }

    fn multiply_adds(_device: &Self::Device, rounds: u64) -> f64 {
        crate::cpu::peak::multiply_adds(Level::current(), rounds)
    }
}
