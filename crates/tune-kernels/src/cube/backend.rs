//! The operations on burn's `CubeCL` backend: tensors are unpacked to buffers for the kernels beside this file.

use std::marker::PhantomData;
use std::ops::Range;

use burn_backend::{DType, TensorMetadata};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_tensor::{Tensor, TensorPrimitive};
use cubecl::client::ComputeClient;
use cubecl::server::Handle;
use tune_schema::recipe::Numerics;

use super::arithmetic::{Arithmetic, Exact, Operand, Pinned, Profile};
use super::product::{Epilogue, Shape};
use super::{CubeStored, attention, head, linear, pointwise, read_all, rows};
use crate::backend::{
    CrossEntropy, Gradients, InputGradient, KernelBackend, Layer, LayerOutput, LoraGradient, SwigluGradients, Target,
    Weight,
};
use crate::checks;
use crate::layout::{Repeat, Rows, Span};
use crate::shapes::{AdamW, Heads};
use crate::stored::StoredMatrix;

/// burn's backend on a `CubeCL` runtime, computing under a profile.
pub type Cube<R, P = Exact> = CubeBackend<R, f32, i32, P>;

/// Training on an NVIDIA GPU.
pub type Cuda = Cube<cubecl::cuda::CudaRuntime>;

/// Training on a device that wgpu drives.
pub type Wgpu = Cube<cubecl::wgpu::WgpuRuntime>;

/// Training on an NVIDIA GPU under `pinned-bf16/1`.
pub type PinnedCuda = Cube<cubecl::cuda::CudaRuntime, Pinned>;

/// The data flow of `pinned-bf16/1` on a device that wgpu drives, for tests and measurements: the same rounded operands,
/// multiplied with `fma`. No recipe may ask for it.
pub type PinnedWgpu = Cube<cubecl::wgpu::WgpuRuntime, Pinned>;

/// A matrix on a device.
type Matrix<R, P> = Tensor<Cube<R, P>, 2>;

/// A device with its client, from a tensor that lies there.
struct Place<R: CubeRuntime, P> {
    client: ComputeClient<R>,
    device: R::Device,
    profile: PhantomData<P>,
}

impl<R: CubeRuntime, P: Profile> Place<R, P> {
    fn new(client: ComputeClient<R>, device: R::Device) -> Self {
        Self { client, device, profile: PhantomData }
    }

    fn of<const D: usize>(tensor: &Tensor<Cube<R, P>, D>) -> Self {
        let primitive = tensor.clone().into_primitive().tensor();
        Self::new(primitive.client, primitive.device)
    }

    fn arithmetic(&self) -> Arithmetic<'_, R> {
        Arithmetic { client: &self.client, numerics: P::NUMERICS }
    }

    /// A matrix as an operand.
    fn operand(&self, matrix: &Tensor<Cube<R, P>, 2>) -> Operand {
        self.arithmetic().operand(&buffer(matrix), matrix.dims())
    }

    /// A buffer as a tensor of `shape`.
    fn tensor<const D: usize>(&self, buffer: Handle, shape: [usize; D]) -> Tensor<Cube<R, P>, D> {
        let (client, device) = (self.client.clone(), self.device.clone());
        let primitive = CubeTensor::new_contiguous(client, device, shape.into(), buffer, DType::F32);
        Tensor::from_primitive(TensorPrimitive::Float(primitive))
    }

    /// The input's gradient of a layer with a branch, and `u = dy · B`.
    fn lora_input_gradient(
        &self,
        dy: &Operand,
        layer: &linear::Layer,
        (tokens, rows): (usize, &Rows),
        input: &InputGradient<'_, Cube<R, P>>,
    ) -> (Option<Matrix<R, P>>, Matrix<R, P>) {
        let branch = layer.branch.as_ref().expect("the gradient of a layer with a branch");
        let plus = match input {
            InputGradient::None => None,
            InputGradient::Alone => Some(None),
            InputGradient::Plus(tensor) => Some(Some(buffer(tensor))),
        };
        let plus = plus.as_ref().map(Option::as_ref);
        let (dx, u) = linear::lora_input_gradient(&self.arithmetic(), dy, layer, branch, (tokens, rows), plus);
        (dx.map(|dx| self.tensor(dx, [tokens, layer.inputs])), self.tensor(u, [tokens, branch.rank]))
    }

    /// Gradients of a branch, one a row.
    fn lora_gradients(
        &self,
        dy: &Operand,
        [x, h, u]: [&Matrix<R, P>; 3],
        layer: &linear::Layer,
        rows: &Rows,
    ) -> Vec<LoraGradient<Cube<R, P>>> {
        let branch = layer.branch.as_ref().expect("gradients of a layer with a branch");
        let x = linear::Input { values: buffer(x), operand: self.operand(x) };
        let [h, u] = [h, u].map(|tensor| self.operand(tensor));
        let gradients = linear::lora_gradients(&self.arithmetic(), dy, &x, [&h, &u], layer, branch, rows);
        let gradients = gradients.into_iter().map(|[a, b]| LoraGradient {
            a: self.tensor(a, [branch.rank, layer.inputs]),
            b: self.tensor(b, [layer.outputs, branch.rank]),
        });
        gradients.collect()
    }

    /// A weight as an operand.
    fn weight(&self, weight: &Weight<Cube<R, P>>) -> Operand {
        match weight {
            Weight::Values(values) => self.operand(values),
            Weight::Stored(stored) => stored.operand(),
        }
    }

    /// The buffers of a layer.
    fn layer(&self, layer: &Layer<'_, Cube<R, P>>) -> linear::Layer {
        let [outputs, inputs] = layer.weight.dims();
        let branch = layer.branch.as_ref().map(|branch| {
            let rank = branch.a.dims()[0];
            let (a, b) = (self.operand(&branch.a), self.operand(&branch.b));
            linear::Branch { a, b, rank, scale: branch.scale, dropout: branch.dropout }
        });
        linear::Layer { weight: self.weight(layer.weight), inputs, outputs, bias: layer.bias.map(buffer), branch }
    }
}

/// The contiguous storage of a tensor.
fn buffer<R: CubeRuntime, P: Profile, const D: usize>(tensor: &Tensor<Cube<R, P>, D>) -> Handle {
    let primitive = tensor.clone().into_primitive().tensor();
    assert_eq!(primitive.dtype(), DType::F32, "tensors of the contract are f32");
    into_contiguous(primitive).handle
}

impl<R: CubeRuntime, P: Profile> KernelBackend for Cube<R, P> {
    const NUMERICS: Numerics = P::NUMERICS;

    type Stored = CubeStored<R>;

    fn stored(matrix: StoredMatrix, device: &Self::Device) -> Self::Stored {
        CubeStored::new(&matrix, device, P::NUMERICS)
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
        let (place, plus) = (Place::of(x), plus.map(buffer));
        let x = linear::Input { values: buffer(x), operand: place.operand(x) };
        let outputs = layers.iter().enumerate().map(|(number, layer)| {
            let layer = place.layer(layer);
            let plus = plus.as_ref().filter(|_| number == 0);
            let (y, h) = linear::linear(&place.arithmetic(), &x, &layer, plus, tokens, rows);
            LayerOutput {
                y: place.tensor(y, [tokens, layer.outputs]),
                h: h.zip(layer.branch).map(|(h, branch)| place.tensor(h, [tokens, branch.rank])),
            }
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
        let (place, plus) = (Place::of(dy), plus.map(buffer));
        let epilogue = Epilogue { plus: plus.as_ref(), ..Epilogue::default() };
        let shape = Shape::input_gradient(tokens, inputs, outputs);
        let dx = place.arithmetic().product(&place.operand(dy), &place.weight(w), shape, epilogue);
        place.tensor(dx, [tokens, inputs])
    }

    fn linear_weight_gradient(dy: &Tensor<Self, 2>, x: &Tensor<Self, 2>, rows: &Rows) -> Vec<Tensor<Self, 2>> {
        checks::linear_weight_gradient(dy, x);
        let ([_, outputs], [_, inputs]) = (dy.dims(), x.dims());
        let place = Place::of(dy);
        let (dy, x) = (place.operand(dy), place.operand(x));
        let one = |row: &Range<usize>| {
            let shape = Shape::weight_gradient(row, inputs, outputs);
            place.tensor(place.arithmetic().product(&dy, &x, shape, Epilogue::default()), [outputs, inputs])
        };
        rows.ranges.iter().map(one).collect()
    }

    fn bias_gradient(dy: &Tensor<Self, 2>, rows: &Rows) -> Vec<Tensor<Self, 1>> {
        let [_, outputs] = dy.dims();
        let (place, dy) = (Place::of(dy), buffer(dy));
        let one = |row| place.tensor(pointwise::bias_gradient(&place.client, &dy, outputs, row), [outputs]);
        rows.ranges.iter().map(one).collect()
    }

    fn lora_input_gradient(
        dy: &Tensor<Self, 2>,
        layer: &Layer<'_, Self>,
        rows: &Rows,
        input: InputGradient<'_, Self>,
    ) -> (Option<Tensor<Self, 2>>, Tensor<Self, 2>) {
        checks::lora_input_gradient(dy, layer);
        let place = Place::of(dy);
        place.lora_input_gradient(&place.operand(dy), &place.layer(layer), (dy.dims()[0], rows), &input)
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
        let place = Place::of(dy);
        place.lora_gradients(&place.operand(dy), [x, h, u], &place.layer(layer), rows)
    }

    // Both parts of one operand: `pinned-bf16/1` rounds it once.
    fn linear_lora_backward(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        h: &Tensor<Self, 2>,
        layer: &Layer<'_, Self>,
        rows: &Rows,
        input: InputGradient<'_, Self>,
    ) -> (Option<Tensor<Self, 2>>, Vec<LoraGradient<Self>>) {
        checks::lora_input_gradient(dy, layer);
        let place = Place::of(dy);
        let (layer, operand) = (place.layer(layer), place.operand(dy));
        let (dx, u) = place.lora_input_gradient(&operand, &layer, (dy.dims()[0], rows), &input);
        (dx, place.lora_gradients(&operand, [x, h, &u], &layer, rows))
    }

    fn rms_norm(x: &Tensor<Self, 2>, w: &Tensor<Self, 1>, epsilon: f32) -> (Tensor<Self, 2>, Tensor<Self, 1>) {
        let [tokens, _] = x.dims();
        checks::rms_norm(x, w);
        let place = Place::of(x);
        let [y, roots] = rows::rms_norm(&place.client, &buffer(x), &buffer(w), x.dims(), epsilon);
        (place.tensor(y, x.dims()), place.tensor(roots, [tokens]))
    }

    fn rms_norm_input_gradient(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        w: &Tensor<Self, 1>,
        reciprocal_roots: &Tensor<Self, 1>,
        plus: Option<&Tensor<Self, 2>>,
    ) -> Tensor<Self, 2> {
        checks::rms_norm_input_gradient(dy, x);
        let (place, plus) = (Place::of(x), plus.map(buffer));
        let operands = [buffer(dy), buffer(x), buffer(w), buffer(reciprocal_roots)];
        let dx = rows::rms_norm_input_gradient(&place.client, operands.each_ref(), plus.as_ref(), x.dims());
        place.tensor(dx, x.dims())
    }

    fn rms_norm_weight_gradient(
        dy: &Tensor<Self, 2>,
        x: &Tensor<Self, 2>,
        reciprocal_roots: &Tensor<Self, 1>,
        rows: &Rows,
    ) -> Vec<Tensor<Self, 1>> {
        let [_, features] = x.dims();
        let (place, operands) = (Place::of(x), [buffer(dy), buffer(x), buffer(reciprocal_roots)]);
        let one = |row| {
            let dw = pointwise::rms_norm_weight_gradient(&place.client, operands.each_ref(), features, row);
            place.tensor(dw, [features])
        };
        rows.ranges.iter().map(one).collect()
    }

    fn rope(
        x: Tensor<Self, 2>,
        positions: &[u32],
        cos: &Tensor<Self, 2>,
        sin: &Tensor<Self, 2>,
        inverse: bool,
    ) -> Tensor<Self, 2> {
        let ([_, features], [_, half]) = (x.dims(), cos.dims());
        checks::rope(&x, positions, cos);
        let (place, tables) = (Place::of(&x), [buffer(cos), buffer(sin)]);
        let y = pointwise::rope(&place.client, &buffer(&x), positions, tables.each_ref(), features, half, inverse);
        place.tensor(y, x.dims())
    }

    fn attention(
        q: &Tensor<Self, 2>,
        k: &Tensor<Self, 2>,
        v: &Tensor<Self, 2>,
        spans: &[Span],
        heads: Heads,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        let [tokens, _] = q.dims();
        checks::attention(q, k, v, spans, heads);
        let (place, operands) = (Place::of(q), [q, k, v].map(buffer));
        let [output, statistics] = attention::attention(&place.client, operands.each_ref(), tokens, spans, heads);
        (place.tensor(output, q.dims()), place.tensor(statistics, [tokens, heads.heads * 2]))
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
        let (place, tokens) = (Place::of(q), [q.dims()[0], k.dims()[0]]);
        let operands = [d_output, q, k, v, output, statistics].map(buffer);
        let [dq, dk, dv] = attention::attention_backward(&place.client, operands.each_ref(), tokens, spans, heads);
        (place.tensor(dq, q.dims()), place.tensor(dk, k.dims()), place.tensor(dv, k.dims()))
    }

    fn swiglu(gate: &Tensor<Self, 2>, up: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        checks::swiglu(gate, up);
        let (place, [tokens, features]) = (Place::of(gate), gate.dims());
        let y = pointwise::swiglu(&place.client, &buffer(gate), &buffer(up), tokens * features);
        place.tensor(y, gate.dims())
    }

    fn swiglu_backward(dy: Tensor<Self, 2>, gate: Tensor<Self, 2>, up: Tensor<Self, 2>) -> SwigluGradients<Self> {
        checks::swiglu_backward(&dy, &gate, &up);
        let (place, [tokens, features]) = (Place::of(&gate), gate.dims());
        let operands = [&dy, &gate, &up].map(buffer);
        let gradients = pointwise::swiglu_backward(&place.client, operands.each_ref(), tokens * features);
        drop((dy, operands));
        let activation = <Self as KernelBackend>::swiglu(&gate, &up);
        let [gate, up] = gradients.map(|gradient| place.tensor(gradient, [tokens, features]));
        SwigluGradients { activation, gate, up }
    }

    fn embedding(table: &Weight<Self>, ids: &[u32]) -> Tensor<Self, 2> {
        checks::embedding(table, ids);
        let [_, features] = table.dims();
        let (place, rows) = match table {
            Weight::Values(values) => {
                let place = Place::of(values);
                let rows = head::gather(&place.client, &buffer(values), ids, features);
                (place, rows)
            }
            Weight::Stored(stored) => {
                let place = Place::new(stored.client.clone(), stored.device.clone());
                (place, stored.gather(ids))
            }
        };
        place.tensor(rows, [ids.len(), features])
    }

    fn embedding_gradient(dy: &Tensor<Self, 2>, ids: &[u32], vocabulary: usize, rows: &Rows) -> Vec<Tensor<Self, 2>> {
        let [_, features] = dy.dims();
        let (place, dy) = (Place::of(dy), buffer(dy));
        let one = |row| {
            let table = head::embedding_gradient(&place.client, &dy, ids, features, vocabulary, row);
            place.tensor(table, [vocabulary, features])
        };
        rows.ranges.iter().map(one).collect()
    }

    fn scatter(x: &Tensor<Self, 2>, ids: &[u32], count: usize) -> Tensor<Self, 2> {
        checks::scatter(x, ids, count);
        let [_, features] = x.dims();
        let place = Place::of(x);
        let rows = head::zeros(&place.client, count * features);
        head::scatter(&place.client, &buffer(x), ids, &rows, features);
        place.tensor(rows, [count, features])
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
        let place = Place::of(x);
        let (x, w) = (buffer(x), place.weight(w));
        let sizes = [tokens, features, vocabulary];
        let (losses, dx, dw) = head::cross_entropy(&place.arithmetic(), &x, &w, sizes, targets, rows, gradients)
            .expect("a device that works gives its results");
        CrossEntropy {
            losses,
            input_gradient: dx.map(|dx| place.tensor(dx, [tokens, features])),
            weight_gradients: dw.into_iter().map(|dw| place.tensor(dw, [vocabulary, features])).collect(),
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
        let place = Place::of(&parameter);
        let operands = [&parameter, &first_moment, &second_moment, gradient].map(buffer);
        pointwise::adamw(&place.client, operands.each_ref(), dims.iter().product(), scalars)
            .map(|new| place.tensor(new, dims))
    }

    fn row_sums_of_squares<const D: usize>(matrices: &[&Tensor<Self, D>]) -> Vec<f32> {
        let Some(first) = matrices.first() else { return Vec::new() };
        let place = Place::of(first);
        let sums = matrices.iter().map(|x| rows::sums(&place.client, &buffer(x), checks::matrix(&x.dims()), true));
        read_all(&place.client, sums.collect()).expect("a device that works gives its results")
    }

    fn multiply_adds(device: &Self::Device, rounds: u64) -> f64 {
        super::peak::multiply_adds(&super::client::<R>(device), rounds).expect("a device that works gives its results")
    }
}
