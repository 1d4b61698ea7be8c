//! A Llama-architecture decoder: weights, forward and backward pass.

use std::collections::BTreeMap;

use burn_tensor::{Tensor, TensorData};
use tune_kernels::KernelBackend;
use tune_kernels::backend::{CrossEntropy, Gradients, Target, Weight};
use tune_kernels::encoding::Encoding;
use tune_kernels::layout::Rows;
use tune_kernels::philox::StreamKey;
use tune_kernels::shapes::Heads;
use tune_kernels::stored::StoredMatrix;
use tune_schema::seed::{Seed, streams};

use crate::adapter::{LoraSpec, expand_targets, fresh};
use crate::base::{BaseModel, Keep, LoadedMatrix, ModelConfig};
use crate::block::{Block, BlockPass, Kept, LINEARS, Saved, Shared, linear_shapes};
use crate::linear::{GradientSink, Linear, Mode, Pass, as_matrices, lora_a_name, lora_b_name};
use crate::{Batch, ModelError, rope};

/// Tensors with shapes and values on the host, by name.
pub type HostTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The model.
#[derive(Debug, Clone)]
pub struct Model<B: KernelBackend> {
    pub(crate) config: ModelConfig,
    /// `[vocabulary, hidden]`
    pub(crate) embedding: Weight<B>,
    pub(crate) blocks: Vec<Block<B>>,
    /// `[hidden]`
    pub(crate) norm: Tensor<B, 1>,
    /// `[vocabulary, hidden]`; none where the embedding is used.
    pub(crate) head: Option<Weight<B>>,
    pub(crate) shared: Shared<B>,
    train_weights: bool,
    gradient_checkpointing: bool,
    device: B::Device,
}

/// How a micro-batch passes through the model.
struct Passes<'a> {
    /// Through all blocks but the last one.
    inner: BlockPass<'a>,
    last: BlockPass<'a>,
    blocks: usize,
    /// What the tokens behind the last block predict.
    targets: &'a [Target],
}

impl<'a> Passes<'a> {
    /// Through block `n`.
    fn of(&self, n: usize) -> &BlockPass<'a> {
        if n + 1 == self.blocks { &self.last } else { &self.inner }
    }
}

/// A trained tensor in its place.
enum Slot<'a, B: KernelBackend> {
    Matrix(&'a mut Tensor<B, 2>),
    Vector(&'a mut Tensor<B, 1>),
}

/// Gives the tensor with this name and shape.
type ReadTensor<'a> = dyn FnMut(&str, &[usize]) -> Result<LoadedMatrix, ModelError> + 'a;

/// The values of a weight that is trained.
fn trained<B: KernelBackend>(weight: &mut Weight<B>) -> &mut Tensor<B, 2> {
    match weight {
        Weight::Values(values) => values,
        Weight::Stored(_) => unreachable!("weights that are trained were loaded as values"),
    }
}

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const NORM: &str = "model.norm.weight";
pub(crate) const HEAD: &str = "lm_head.weight";

impl<B: KernelBackend> Model<B> {
    /// Reads the weights of a base model. `positions` is the longest sequence that will be seen; `keep` says which
    /// matrices stay in memory as they are stored, or rounded. Weights that are to be trained need [`Keep::Values`].
    ///
    /// # Errors
    /// Missing weights, or weights of other shapes than the configuration says.
    pub fn load(base: &BaseModel, positions: usize, keep: Keep, device: &B::Device) -> Result<Self, ModelError> {
        Self::build(&base.config, positions, keep, device, &mut |name, shape| Ok(base.load_matrix(name, shape, keep)?))
    }

    /// Draws all weights: normal with the configuration's `initializer_range` as standard deviation, from the stream
    /// `weight-init/<tensor>`, element by element in row-major order; normalisations 1, biases 0.
    ///
    /// # Errors
    /// None in practice.
    pub fn init(
        base: &BaseModel,
        seed: Seed,
        positions: usize,
        keep: Keep,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        let deviation = base.config.initializer_range as f32;
        Self::build(&base.config, positions, keep, device, &mut |name, shape| {
            let count = shape.iter().product::<usize>() as u64;
            let key = StreamKey(seed.stream(&format!("{}/{name}", streams::WEIGHT_INIT)));
            Ok(LoadedMatrix::Values(match (name.ends_with(".bias"), shape.len()) {
                (true, _) => (0..count).map(|_| 0.0).collect(),
                (false, 1) => (0..count).map(|_| 1.0).collect(),
                _ => (0..count).map(|i| key.normal(i) * deviation).collect(),
            }))
        })
    }

    /// Weights of 16 bits without meaning, for measuring speed and memory of models that are not at hand.
    ///
    /// # Errors
    /// None in practice.
    pub fn synthetic(config: &ModelConfig, positions: usize, device: &B::Device) -> Result<Self, ModelError> {
        Self::build(config, positions, Keep::SixteenBit, device, &mut |_, shape| {
            let &[rows, columns] = shape else { return Ok(LoadedMatrix::Values(vec![1.0; shape.iter().product()])) };
            // Signs and mantissas from a multiplicative hash, all magnitudes from 2^-7 to 2^-6.
            let hash = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) & 0x807f | 0x3c00;
            let bytes = (0..(rows * columns) as u64).flat_map(|i| [(hash(i) & 0xff) as u8, (hash(i) >> 8) as u8]);
            let matrix = StoredMatrix::new(Encoding::Bf16, [rows, columns], bytes.collect());
            Ok(LoadedMatrix::Stored(matrix.expect("two bytes a value")))
        })
    }

    fn build(
        config: &ModelConfig,
        positions: usize,
        keep: Keep,
        device: &B::Device,
        read: &mut ReadTensor<'_>,
    ) -> Result<Self, ModelError> {
        let matrix = |read: &mut ReadTensor<'_>, name: &str, shape: [usize; 2]| -> Result<Weight<B>, ModelError> {
            Ok(match read(name, &shape)? {
                LoadedMatrix::Values(values) if keep == Keep::Rounded => {
                    Weight::Stored(B::stored(StoredMatrix::of_values(shape, &values), device))
                }
                LoadedMatrix::Values(values) => Tensor::from_data(TensorData::new(values, shape), device).into(),
                LoadedMatrix::Stored(matrix) => Weight::Stored(B::stored(matrix, device)),
            })
        };
        let (hidden, vocabulary) = (config.hidden_size, config.vocab_size);
        let embedding = matrix(read, EMBEDDING, [vocabulary, hidden])?;
        let head = if config.tie_word_embeddings { None } else { Some(matrix(read, HEAD, [vocabulary, hidden])?) };
        let vector = |read: &mut ReadTensor<'_>, name: &str, n: usize| -> Result<Tensor<B, 1>, ModelError> {
            Ok(Tensor::from_data(TensorData::new(read(name, &[n])?.into_values(), [n]), device))
        };
        let norm = vector(read, NORM, hidden)?;
        let mut blocks = Vec::with_capacity(config.num_layers);
        for n in 0..config.num_layers {
            let name = format!("model.layers.{n}");
            let mut linears = Vec::with_capacity(LINEARS.len());
            for (i, (outputs, inputs)) in linear_shapes(config).into_iter().enumerate() {
                let path = format!("{name}.{}", LINEARS[i]);
                let weight = matrix(read, &format!("{path}.weight"), [outputs, inputs])?;
                let has_bias = if i < 4 { config.attention_bias } else { config.mlp_bias };
                let bias = if has_bias { Some(vector(read, &format!("{path}.bias"), outputs)?) } else { None };
                linears.push(Linear { name: path, weight, bias, lora: None });
            }
            let input_norm = vector(read, &format!("{name}.input_layernorm.weight"), hidden)?;
            let post_norm = vector(read, &format!("{name}.post_attention_layernorm.weight"), hidden)?;
            let linears = linears.try_into().expect("one layer for each name of LINEARS");
            blocks.push(Block { name, input_norm, post_norm, linears });
        }
        let (cos, sin) = rope::tables(config, positions);
        let table =
            |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [positions, config.head_dim / 2]), device);
        #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
        let shared = Shared {
            heads: Heads { heads: config.num_heads, kv_heads: config.num_kv_heads, head_dim: config.head_dim },
            epsilon: config.rms_norm_eps as f32,
            cos: table(cos),
            sin: table(sin),
        };
        Ok(Self {
            config: config.clone(),
            embedding,
            blocks,
            norm,
            head,
            shared,
            train_weights: false,
            gradient_checkpointing: false,
            device: device.clone(),
        })
    }

    /// Freezes the weights and adds a fresh adapter.
    ///
    /// # Errors
    /// A target that is no layer.
    pub fn add_lora(&mut self, spec: &LoraSpec, seed: Seed) -> Result<(), ModelError> {
        let targets = expand_targets(&self.config, &spec.targets)?;
        self.train_weights = false;
        for linear in self.blocks.iter_mut().flat_map(|block| &mut block.linears) {
            linear.lora = targets.binary_search(&linear.name).is_ok().then(|| fresh(linear, spec, seed, &self.device));
        }
        Ok(())
    }

    /// Trains every weight.
    pub fn train_all(&mut self) {
        self.train_weights = true;
    }

    /// Whether a training pass keeps only the input of each block and computes the rest again when the backward pass
    /// needs it (Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*): less memory, the same bits.
    pub fn set_gradient_checkpointing(&mut self, on: bool) {
        self.gradient_checkpointing = on;
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Every trained tensor in its place.
    fn slots(&mut self) -> BTreeMap<String, Slot<'_, B>> {
        let mut slots = BTreeMap::new();
        let all = self.train_weights;
        if all {
            slots.insert(EMBEDDING.to_owned(), Slot::Matrix(trained(&mut self.embedding)));
            slots.insert(NORM.to_owned(), Slot::Vector(&mut self.norm));
            slots.extend(self.head.as_mut().map(|head| (HEAD.to_owned(), Slot::Matrix(trained(head)))));
        }
        for block in &mut self.blocks {
            if all {
                slots.insert(format!("{}.input_layernorm.weight", block.name), Slot::Vector(&mut block.input_norm));
                slots.insert(
                    format!("{}.post_attention_layernorm.weight", block.name),
                    Slot::Vector(&mut block.post_norm),
                );
            }
            for linear in &mut block.linears {
                if let Some(lora) = &mut linear.lora {
                    slots.insert(lora_a_name(&linear.name), Slot::Matrix(&mut lora.a));
                    slots.insert(lora_b_name(&linear.name), Slot::Matrix(&mut lora.b));
                }
                if all {
                    slots.insert(format!("{}.weight", linear.name), Slot::Matrix(trained(&mut linear.weight)));
                    slots
                        .extend(linear.bias.as_mut().map(|bias| (format!("{}.bias", linear.name), Slot::Vector(bias))));
                }
            }
        }
        slots
    }

    /// The trained tensors by the name they have in files; vectors as matrices of one row.
    #[must_use]
    pub fn trainable(&self) -> BTreeMap<String, Tensor<B, 2>> {
        // Tensors are shared handles: the copy of the model costs no weights.
        let mut copy = self.clone();
        let value = |slot: Slot<'_, B>| match slot {
            Slot::Matrix(tensor) => tensor.clone(),
            Slot::Vector(tensor) => tensor.clone().unsqueeze::<2>(),
        };
        copy.slots().into_iter().map(|(name, slot)| (name, value(slot))).collect()
    }

    /// The shapes that trained tensors have in files.
    #[must_use]
    pub fn trainable_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut copy = self.clone();
        let shape = |slot: Slot<'_, B>| match slot {
            Slot::Matrix(tensor) => tensor.dims().to_vec(),
            Slot::Vector(tensor) => tensor.dims().to_vec(),
        };
        copy.slots().into_iter().map(|(name, slot)| (name, shape(slot))).collect()
    }

    /// Replaces each trained tensor by what `f` makes of it.
    pub fn update(&mut self, mut f: impl FnMut(&str, Tensor<B, 2>) -> Tensor<B, 2>) {
        for (name, slot) in self.slots() {
            match slot {
                Slot::Matrix(tensor) => *tensor = f(&name, tensor.clone()),
                Slot::Vector(tensor) => *tensor = f(&name, tensor.clone().unsqueeze::<2>()).squeeze_dim::<1>(0),
            }
        }
    }

    /// Sets the trained tensors from the host.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn set_trainable(&mut self, tensors: &HostTensors) -> Result<(), ModelError> {
        for (name, shape) in self.trainable_shapes() {
            let problem = match tensors.get(&name) {
                None => "it is missing".to_owned(),
                Some((found, _)) if *found != shape => format!("its shape is {found:?}, expected {shape:?}"),
                Some(_) => continue,
            };
            return Err(ModelError::Tensor { name, problem });
        }
        let mut matrices = self.to_device(tensors);
        self.update(|name, tensor| matrices.remove(name).unwrap_or(tensor));
        Ok(())
    }

    /// Takes the values of what is trained from the same model on another device.
    pub fn copy_trained(&mut self, other: &Self) {
        let (mut values, device) = (other.trainable(), self.device.clone());
        self.update(|name, tensor| values.remove(name).map_or(tensor, |value| value.to_device(&device)));
    }

    /// Where the model lies.
    #[must_use]
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// Host tensors as matrices on the model's device.
    #[must_use]
    pub fn to_device(&self, tensors: &HostTensors) -> BTreeMap<String, Tensor<B, 2>> {
        let matrix = |(shape, values): &(Vec<usize>, Vec<f32>)| {
            let columns = shape.last().copied().unwrap_or(1);
            let rows = shape.iter().rev().skip(1).product();
            Tensor::from_data(TensorData::new(values.clone(), [rows, columns]), &self.device)
        };
        tensors.iter().map(|(name, tensor)| (name.clone(), matrix(tensor))).collect()
    }

    /// Weight of the head, `[vocabulary, hidden]`.
    pub(crate) fn head_weight(&self) -> &Weight<B> {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    fn passes<'a>(&self, batch: &'a Batch, mode: Mode, train_weights: bool) -> Passes<'a> {
        // Dropout draws for each token anew.
        let drops_out = self.blocks.iter().flat_map(|block| &block.linears).any(|linear| linear.drops_out(mode));
        let repeats = if drops_out { &[] } else { batch.repeats.as_slice() };
        let keys = Pass { positions: &batch.positions, rows: &batch.rows, repeats, mode, train_weights };
        let inner = BlockPass { keys, queries: keys, spans: &batch.spans, tail: None };
        let last = match &batch.tail {
            Some(tail) => BlockPass {
                queries: Pass { positions: &tail.positions, rows: &tail.rows, repeats: &[], ..keys },
                spans: &tail.spans,
                tail: Some(tail),
                ..inner
            },
            None => inner,
        };
        Passes {
            inner,
            last,
            blocks: self.blocks.len(),
            targets: last.tail.map_or(&batch.targets, |tail| &tail.targets),
        }
    }

    /// Through all blocks: hidden states before the last normalisation, of the tokens that the last block goes on with. What
    /// each block saved goes to `keep`.
    fn blocks_forward(&self, ids: &[u32], passes: &Passes<'_>, mut keep: impl FnMut(Saved<B>)) -> Tensor<B, 2> {
        let mut x = <B as KernelBackend>::embedding(&self.embedding, ids);
        for (n, block) in self.blocks.iter().enumerate() {
            let (y, saved) = block.forward(x, &self.shared, passes.of(n));
            x = y;
            keep(saved);
        }
        x
    }

    /// Losses of the targets, without gradients and without dropout.
    #[must_use]
    pub fn losses(&self, batch: &Batch) -> Vec<f32> {
        let passes = self.passes(batch, Mode::Evaluate, false);
        let x = self.blocks_forward(&batch.ids, &passes, drop);
        let (normed, _) = B::rms_norm(&x, &self.norm, self.shared.epsilon);
        let rows = passes.last.queries.rows;
        B::cross_entropy(&normed, self.head_weight(), passes.targets, rows, Gradients::None).losses
    }

    /// Losses of the targets; the gradients of their *sum* go to `sink`, one a row, for each trained tensor.
    ///
    /// Frozen weights get no gradient, and nothing is computed below the lowest adapted layer.
    pub fn forward_backward(&self, batch: &Batch, mode: Mode, sink: &mut GradientSink<'_, B>) -> Vec<f32> {
        let all = self.train_weights;
        let passes = self.passes(batch, mode, all);
        let mut kept = Vec::with_capacity(self.blocks.len());
        let x = self.blocks_forward(&batch.ids, &passes, |saved| {
            kept.push(if self.gradient_checkpointing { saved.shrink() } else { Kept::Saved(Box::new(saved)) });
        });
        let rows = passes.last.queries.rows;
        let (normed, roots) = B::rms_norm(&x, &self.norm, self.shared.epsilon);
        let gradients = if all { Gradients::InputAndWeight } else { Gradients::Input };
        let CrossEntropy { losses, input_gradient, weight_gradients } =
            B::cross_entropy(&normed, self.head_weight(), passes.targets, rows, gradients);
        let d_normed = input_gradient.expect("the input gradient was asked for");
        if all {
            sink(NORM, as_matrices(B::rms_norm_weight_gradient(&d_normed, &x, &roots, rows)));
        }
        let mut dx = B::rms_norm_input_gradient(&d_normed, &x, &self.norm, &roots, None);
        for (n, (block, kept)) in self.blocks.iter().zip(kept).enumerate().rev() {
            let pass = passes.of(n);
            let saved = block.restore(kept, &self.shared, pass);
            let below =
                all || self.blocks[..n].iter().any(|block| block.linears.iter().any(|linear| linear.lora.is_some()));
            match block.backward(dx, saved, &self.shared, pass, below, sink) {
                Some(next) => dx = next,
                None => return losses,
            }
        }
        if all {
            self.embedding_gradients(batch, &dx, weight_gradients, &batch.rows, sink);
        }
        losses
    }

    /// Gradients of embedding and head; tied, their sum: head first.
    fn embedding_gradients(
        &self,
        batch: &Batch,
        dx: &Tensor<B, 2>,
        head: Vec<Tensor<B, 2>>,
        rows: &Rows,
        sink: &mut GradientSink<'_, B>,
    ) {
        let embedding = B::embedding_gradient(dx, &batch.ids, self.config.vocab_size, rows);
        if self.head.is_some() {
            sink(EMBEDDING, embedding);
            sink(HEAD, head);
        } else {
            sink(EMBEDDING, head.into_iter().zip(embedding).map(|(head, embedding)| head + embedding).collect());
        }
    }
}
