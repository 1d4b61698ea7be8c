//! One decoder block: attention and feed-forward, each behind a normalisation and beside the residual stream.

use burn_tensor::Tensor;
use tune_kernels::KernelBackend;
use tune_kernels::backend::{BranchPass, InputGradient, LayerOutput, Normed, SwigluGradients};
use tune_kernels::layout::Span;
use tune_kernels::shapes::Heads;

use crate::base::ModelConfig;
use crate::linear::{GradientSink, Linear, Pass, as_matrices};
use crate::tail::Tail;

/// A block's weights.
#[derive(Debug, Clone)]
pub struct Block<B: KernelBackend> {
    /// Path of the block, `model.layers.N`.
    pub name: String,
    /// Weight of the normalisation before attention, `[hidden]`.
    pub input_norm: Tensor<B, 1>,
    /// Weight of the normalisation before the feed-forward part, `[hidden]`.
    pub post_norm: Tensor<B, 1>,
    /// q, k, v, o, gate, up, down: see [`LINEARS`].
    pub linears: [Linear<B>; 7],
}

/// Names of a block's linear layers within it, in the order of [`Block::linears`].
pub const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Outputs and inputs of a block's linear layers, in the order of [`LINEARS`].
pub(crate) fn linear_shapes(config: &ModelConfig) -> [(usize, usize); 7] {
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let (query, key_value) = (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
    [
        (query, hidden),
        (key_value, hidden),
        (key_value, hidden),
        (hidden, query),
        (mlp, hidden),
        (mlp, hidden),
        (hidden, mlp),
    ]
}

pub(crate) const Q: usize = 0;
pub(crate) const K: usize = 1;
pub(crate) const V: usize = 2;
pub(crate) const O: usize = 3;
pub(crate) const GATE: usize = 4;
pub(crate) const UP: usize = 5;
pub(crate) const DOWN: usize = 6;

/// What all blocks share.
#[derive(Debug, Clone)]
pub(crate) struct Shared<B: KernelBackend> {
    pub(crate) heads: Heads,
    pub(crate) epsilon: f32,
    /// `[positions, head_dim / 2]`
    pub(crate) cos: Tensor<B, 2>,
    /// `[positions, head_dim / 2]`
    pub(crate) sin: Tensor<B, 2>,
}

/// How tokens pass through a block.
#[derive(Clone, Copy)]
pub(crate) struct BlockPass<'a> {
    /// All tokens: each has a key and a value.
    pub(crate) keys: Pass<'a>,
    /// Those that have a query and go on to the output: all, or the tail.
    pub(crate) queries: Pass<'a>,
    pub(crate) spans: &'a [Span],
    /// What sets both apart.
    pub(crate) tail: Option<&'a Tail>,
}

impl BlockPass<'_> {
    /// Rows of the tokens that go on.
    fn going_on<B: KernelBackend>(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        self.tail.map_or_else(|| x.clone(), |tail| tail.of(x))
    }

    /// Rows of all tokens, zeros for those that do not go on.
    fn all<B: KernelBackend>(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.tail {
            Some(tail) => tail.among_all(&x),
            None => x,
        }
    }
}

/// What the backward pass of a block needs. Normalised inputs and the activation are computed again instead: they cost
/// little and are as large as everything else together.
#[derive(Debug)]
pub(crate) struct Saved<B: KernelBackend> {
    x: Tensor<B, 2>,
    input_roots: Tensor<B, 1>,
    q: Tensor<B, 2>,
    k: Tensor<B, 2>,
    v: Tensor<B, 2>,
    attended: Tensor<B, 2>,
    statistics: Tensor<B, 2>,
    middle: Tensor<B, 2>,
    post_roots: Tensor<B, 1>,
    gate: Tensor<B, 2>,
    up: Tensor<B, 2>,
    /// `dropout(x) · Aᵀ` of each linear layer with an adapter.
    h: [Option<Tensor<B, 2>>; 7],
}

/// What is kept of a block between its forward and its backward pass.
#[derive(Debug)]
pub(crate) enum Kept<B: KernelBackend> {
    /// All that the backward pass needs.
    Saved(Box<Saved<B>>),
    /// The input, from which [`Block::restore`] computes the rest again, and the last layer's `dropout(x) · Aᵀ`: it is
    /// small, and without it the last product would have to be repeated.
    Input { x: Tensor<B, 2>, down: Option<Tensor<B, 2>> },
}

/// What the gradients of a layer's own tensors wait for, beside its input.
struct Pending<'a, B: KernelBackend> {
    index: usize,
    /// Gradient of the output.
    dy: &'a Tensor<B, 2>,
    /// With an adapter, what [`Linear::input_gradient`] gave beside the input's.
    u: Option<Tensor<B, 2>>,
}

impl<B: KernelBackend> Saved<B> {
    /// Lets go of what can be computed again.
    pub(crate) fn shrink(mut self) -> Kept<B> {
        Kept::Input { x: self.x, down: self.h[DOWN].take() }
    }
}

impl<B: KernelBackend> Block<B> {
    /// `x: [tokens, hidden]` to the same of the tokens that go on.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 2>,
        shared: &Shared<B>,
        pass: &BlockPass<'_>,
    ) -> (Tensor<B, 2>, Saved<B>) {
        let mut saved = self.interior(x, shared, pass);
        let activation = B::swiglu(&saved.gate, &saved.up);
        let (y, branch) = self.linears[DOWN].forward(&activation, Some(&saved.middle), &pass.queries);
        saved.h[DOWN] = branch;
        (y, saved)
    }

    /// What the backward pass needs, from what was kept: the same bits, for the same operations made them.
    pub(crate) fn restore(&self, kept: Kept<B>, shared: &Shared<B>, pass: &BlockPass<'_>) -> Saved<B> {
        match kept {
            Kept::Saved(saved) => *saved,
            Kept::Input { x, down } => {
                let mut saved = self.interior(x, shared, pass);
                saved.h[DOWN] = down;
                saved
            }
        }
    }

    /// Everything up to the activation of the feed-forward part.
    fn interior(&self, x: Tensor<B, 2>, shared: &Shared<B>, pass: &BlockPass<'_>) -> Saved<B> {
        let BlockPass { keys, queries, spans, .. } = pass;
        let mut h: [Option<Tensor<B, 2>>; 7] = [const { None }; 7];
        let (normed, input_roots) = B::rms_norm(&x, &self.input_norm, shared.epsilon);
        let [q, k, v] = if pass.tail.is_some() {
            let [q] = self.of_one_input([Q], &pass.going_on(&normed), queries, &mut h);
            let [k, v] = self.of_one_input([K, V], &normed, keys, &mut h);
            [q, k, v]
        } else {
            self.of_one_input([Q, K, V], &normed, keys, &mut h)
        };
        let q = B::rope(q, queries.positions, &shared.cos, &shared.sin, false);
        let k = B::rope(k, keys.positions, &shared.cos, &shared.sin, false);
        let (attended, statistics) = <B as KernelBackend>::attention(&q, &k, &v, spans, shared.heads);
        let (middle, branch) = self.linears[O].forward(&attended, Some(&pass.going_on(&x)), queries);
        h[O] = branch;
        let (normed, post_roots) = B::rms_norm(&middle, &self.post_norm, shared.epsilon);
        let [gate, up] = self.of_one_input([GATE, UP], &normed, queries, &mut h);
        Saved { x, input_roots, q, k, v, attended, statistics, middle, post_roots, gate, up, h }
    }

    /// Outputs of layers with the same input; what their backward passes need goes to `h`.
    fn of_one_input<const N: usize>(
        &self,
        indices: [usize; N],
        x: &Tensor<B, 2>,
        pass: &Pass<'_>,
        h: &mut [Option<Tensor<B, 2>>; 7],
    ) -> [Tensor<B, 2>; N] {
        let outputs =
            B::linears(x, &indices.map(|index| self.linears[index].layer(pass.mode)), None, pass.rows, pass.repeats);
        let outputs = outputs.into_iter().zip(indices).map(|(LayerOutput { y, h: branch }, index)| {
            h[index] = branch;
            y
        });
        outputs.collect::<Vec<_>>().try_into().expect("one output for each layer")
    }

    /// Gradient of the block's input where `input` is set; those of what is trained go to `sink`. `dy` is of the tokens that
    /// go on.
    pub(crate) fn backward(
        &self,
        dy: Tensor<B, 2>,
        saved: Saved<B>,
        shared: &Shared<B>,
        pass: &BlockPass<'_>,
        input: bool,
        sink: &mut GradientSink<'_, B>,
    ) -> Option<Tensor<B, 2>> {
        let BlockPass { keys, queries, spans, .. } = pass;
        let h = |index: usize| saved.h[index].as_ref();
        let always = "the input gradient was asked for";
        let down = &self.linears[DOWN];
        let (d_activation, u) = down.input_gradient(&dy, queries, InputGradient::Alone);
        let SwigluGradients { activation, gate: d_gate, up: d_up } =
            B::swiglu_backward(d_activation.expect(always), saved.gate, saved.up);
        down.gradients(&dy, &activation, [h(DOWN), u.as_ref()], queries, sink);
        drop(activation);
        let (from_gate, of_gate) = self.linears[GATE].input_gradient(&d_gate, queries, InputGradient::Alone);
        let plus = from_gate.as_ref().map_or(InputGradient::None, InputGradient::Plus);
        let (d_normed, of_up) = self.linears[UP].input_gradient(&d_up, queries, plus);
        let d_normed = d_normed.expect(always);
        let (w, epsilon) = (&self.post_norm, shared.epsilon);
        let normed = Normed { x: &saved.middle, w, epsilon, reciprocal_roots: &saved.post_roots };
        let layers = [Pending { index: GATE, dy: &d_gate, u: of_gate }, Pending { index: UP, dy: &d_up, u: of_up }];
        self.gradients_of_normed(normed, &layers, &saved.h, queries, sink);
        self.norm_gradient("post_attention_layernorm", &d_normed, &saved.middle, &saved.post_roots, queries, sink);
        let d_middle =
            B::rms_norm_input_gradient(&d_normed, &saved.middle, &self.post_norm, &saved.post_roots, Some(&dy));

        let d_attended = self.linears[O]
            .backward(&d_middle, &saved.attended, h(O), queries, InputGradient::Alone, sink)
            .expect(always);
        let (dq, dk, dv) = B::attention_backward(
            &d_attended,
            &saved.q,
            &saved.k,
            &saved.v,
            &saved.attended,
            &saved.statistics,
            spans,
            shared.heads,
        );
        let dq = B::rope(dq, queries.positions, &shared.cos, &shared.sin, true);
        let dk = B::rope(dk, keys.positions, &shared.cos, &shared.sin, true);
        let alone = if input { InputGradient::Alone } else { InputGradient::None };
        let (sum, of_q) = self.linears[Q].input_gradient(&dq, queries, alone);
        let sum = sum.map(|sum| pass.all(sum));
        let plus = sum.as_ref().map_or(InputGradient::None, InputGradient::Plus);
        let (sum, of_k) = self.linears[K].input_gradient(&dk, keys, plus);
        let plus = sum.as_ref().map_or(InputGradient::None, InputGradient::Plus);
        let (sum, of_v) = self.linears[V].input_gradient(&dv, keys, plus);
        let (w, epsilon) = (&self.input_norm, shared.epsilon);
        let normed = Normed { x: &saved.x, w, epsilon, reciprocal_roots: &saved.input_roots };
        let mut layers = vec![Pending { index: K, dy: &dk, u: of_k }, Pending { index: V, dy: &dv, u: of_v }];
        if let Some(tail) = pass.tail {
            let (normed, _) = B::rms_norm(&tail.of(&saved.x), w, epsilon);
            self.linears[Q].gradients(&dq, &normed, [h(Q), of_q.as_ref()], queries, sink);
        } else {
            layers.push(Pending { index: Q, dy: &dq, u: of_q });
        }
        self.gradients_of_normed(normed, &layers, &saved.h, keys, sink);
        let d_normed = sum?;
        self.norm_gradient("input_layernorm", &d_normed, &saved.x, &saved.input_roots, keys, sink);
        let (x, roots) = (&saved.x, &saved.input_roots);
        Some(B::rms_norm_input_gradient(&d_normed, x, &self.input_norm, roots, Some(&pass.all(d_middle))))
    }

    /// Gradients of what is trained in layers of one normalised input.
    fn gradients_of_normed(
        &self,
        input: Normed<'_, B>,
        layers: &[Pending<'_, B>],
        h: &[Option<Tensor<B, 2>>; 7],
        pass: &Pass<'_>,
        sink: &mut GradientSink<'_, B>,
    ) {
        if pass.train_weights {
            let (x, _) = B::rms_norm(input.x, input.w, input.epsilon);
            for Pending { index, dy, u } in layers {
                self.linears[*index].gradients(dy, &x, [h[*index].as_ref(), u.as_ref()], pass, sink);
            }
            return;
        }
        let adapted: Vec<_> = layers
            .iter()
            .filter_map(|Pending { index, dy, u }| {
                let linear = &self.linears[*index];
                Some((linear, linear.layer(pass.mode), *dy, h[*index].as_ref()?, u.as_ref()?))
            })
            .collect();
        if adapted.is_empty() {
            return;
        }
        let passes: Vec<_> = adapted.iter().map(|(_, layer, dy, h, u)| BranchPass { dy, h, u, layer }).collect();
        let gradients = B::lora_gradients_of_normed(input, &passes, pass.rows);
        adapted.iter().zip(gradients).for_each(|((linear, ..), gradients)| linear.give(gradients, sink));
    }

    fn norm_gradient(
        &self,
        norm: &str,
        dy: &Tensor<B, 2>,
        x: &Tensor<B, 2>,
        roots: &Tensor<B, 1>,
        pass: &Pass<'_>,
        sink: &mut GradientSink<'_, B>,
    ) {
        if pass.train_weights {
            sink(
                &format!("{}.{norm}.weight", self.name),
                as_matrices(B::rms_norm_weight_gradient(dy, x, roots, pass.rows)),
            );
        }
    }
}
