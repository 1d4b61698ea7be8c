//! Tiny models with random weights, rows for them, and what one pass gives.

use std::collections::BTreeMap;
use std::io::Write as _;

use burn_flex::{Flex, FlexDevice};
use burn_tensor::Tensor;
use tempfile::NamedTempFile;
use tune_kernels::philox::{StreamKey, philox4x32_10};
use tune_model::base::{BaseModel, Keep, ModelConfig, RopeScaling, write_safetensors};
use tune_model::{Batch, HostTensors, LoraSpec, Mode, Model, RowView};
use tune_schema::recipe::{AllLinear, TargetModules};
use tune_schema::seed::Seed;

/// The longest sequence of these tests.
pub(crate) const POSITIONS: usize = 96;

/// The seed of every adapter, where a test does not compare two.
pub(crate) const SEED: Seed = Seed(7);

/// Small enough to differentiate by each weight. No two sizes are equal, so that no transposition goes unnoticed, and
/// every kind of Llama 3 scaling is met: of the three wavelengths (6, 63 and 628) one is kept, one interpolated, one
/// divided.
pub(crate) fn small(tied: bool, biases: bool) -> ModelConfig {
    ModelConfig {
        hidden_size: 14,
        intermediate_size: 10,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 6,
        vocab_size: 23,
        rms_norm_eps: 1e-5,
        rope_theta: 1000.0,
        rope_scaling: Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 128,
        }),
        tie_word_embeddings: tied,
        attention_bias: biases,
        mlp_bias: biases,
        max_position_embeddings: POSITIONS,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        initializer_range: 0.02,
    }
}

/// Wide enough that vectors, their remainders and more than one lane of a reduction are used.
pub(crate) fn wide(tied: bool) -> ModelConfig {
    ModelConfig {
        hidden_size: 40,
        intermediate_size: 53,
        num_heads: 6,
        head_dim: 8,
        vocab_size: 101,
        rope_scaling: None,
        ..small(tied, !tied)
    }
}

/// Standard normal numbers from the contract's own generator.
pub(crate) fn normals(key: [u32; 2], count: usize) -> impl Iterator<Item = f32> {
    (0..count as u64).map(move |i| StreamKey(key).normal(i))
}

/// Names and shapes of a model's weights.
fn shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let [query, key] = [config.num_heads, config.num_kv_heads].map(|heads| heads * config.head_dim);
    let linears = [
        ("self_attn.q_proj", query, hidden, config.attention_bias),
        ("self_attn.k_proj", key, hidden, config.attention_bias),
        ("self_attn.v_proj", key, hidden, config.attention_bias),
        ("self_attn.o_proj", hidden, query, config.attention_bias),
        ("mlp.gate_proj", mlp, hidden, config.mlp_bias),
        ("mlp.up_proj", mlp, hidden, config.mlp_bias),
        ("mlp.down_proj", hidden, mlp, config.mlp_bias),
    ];
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    if !config.tie_word_embeddings {
        shapes.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden]));
    }
    for block in (0..config.num_layers).map(|n| format!("model.layers.{n}")) {
        shapes.push((format!("{block}.input_layernorm.weight"), vec![hidden]));
        shapes.push((format!("{block}.post_attention_layernorm.weight"), vec![hidden]));
        for (linear, outputs, inputs, bias) in linears {
            shapes.push((format!("{block}.{linear}.weight"), vec![outputs, inputs]));
            if bias {
                shapes.push((format!("{block}.{linear}.bias"), vec![outputs]));
            }
        }
    }
    shapes
}

/// Random weights of a size that neither saturates the softmax nor makes it flat; normalisations around 1.
pub(crate) fn weights(config: &ModelConfig, key: u32) -> HostTensors {
    let one = |(number, (name, shape)): (usize, (String, Vec<usize>))| {
        let (offset, size) = match shape.as_slice() {
            [_] if name.ends_with("norm.weight") => (1.0, 0.3),
            [_] => (0.0, 0.3),
            [_, inputs] => (0.0, 1.0 / (*inputs as f32).sqrt()),
            _ => unreachable!("vectors and matrices"),
        };
        let values = normals([key, number as u32], shape.iter().product()).map(|value| offset + size * value);
        (name, (shape, values.collect()))
    };
    shapes(config).into_iter().enumerate().map(one).collect()
}

/// A file that lives as long as the result.
fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("space for a small file");
    file
}

/// The model with these weights, read as a user's is.
pub(crate) fn load(config: &ModelConfig, weights: &HostTensors) -> Model<Flex> {
    let safetensors = write_safetensors(weights, &BTreeMap::new()).expect("shapes fit values");
    let files = [
        ("config.json", file(&config.to_config_json())),
        ("tokenizer.json", file(b"{}")),
        ("model.safetensors", file(&safetensors)),
    ];
    let paths = files.iter().map(|(name, file)| ((*name).to_owned(), file.path().to_owned())).collect();
    let base = BaseModel::open(&paths).expect("the files are a model");
    Model::load(&base, POSITIONS, Keep::Values, &FlexDevice).expect("the weights have the shapes of the configuration")
}

/// [`load`] of [`weights`].
pub(crate) fn model(config: &ModelConfig) -> Model<Flex> {
    load(config, &weights(config, 1))
}

pub(crate) fn all_linear() -> TargetModules {
    TargetModules::Named(AllLinear::AllLinear)
}

pub(crate) fn lora(targets: TargetModules, dropout: f64) -> LoraSpec {
    LoraSpec { rank: 3, scale: 1.5, dropout, targets }
}

/// Sets every trained matrix to random values: an adapter as it is after some steps.
pub(crate) fn randomize(model: &mut Model<Flex>, key: u32) {
    let one = |(number, (name, shape)): (usize, (String, Vec<usize>))| {
        let values = normals([key, number as u32], shape.iter().product()).map(|value| 0.2 * value).collect();
        (name, (shape, values))
    };
    let tensors = model.trainable_shapes().into_iter().enumerate().map(one).collect();
    model.set_trainable(&tensors).expect("names and shapes are the model's own");
}

/// The model with an adapter on every linear layer that has an effect.
pub(crate) fn adapted(config: &ModelConfig, dropout: f64, seed: Seed) -> Model<Flex> {
    let mut model = model(config);
    model.add_lora(&lora(all_linear(), dropout), seed).expect("the targets exist");
    randomize(&mut model, 2);
    model
}

/// Full training and adapters, with tied embeddings and without.
pub(crate) fn models() -> Vec<Model<Flex>> {
    let of = |tied| {
        let mut full = model(&wide(tied));
        full.train_all();
        [full, adapted(&wide(tied), 0.0, SEED)]
    };
    [true, false].into_iter().flat_map(of).collect()
}

/// Random tokens.
pub(crate) fn tokens(config: &ModelConfig, key: u32, count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| philox4x32_10([i, 0, 0, 0], [key, 3])[0] % config.vocab_size as u32).collect()
}

/// An example: a prompt and a supervised rest.
#[derive(Clone)]
pub(crate) struct Example {
    pub(crate) ids: Vec<u32>,
    /// Place of the first supervised token, from 1; the number of tokens where none is.
    pub(crate) answer: usize,
}

impl Example {
    pub(crate) fn new(config: &ModelConfig, key: u32, prompt: usize, rest: usize) -> Self {
        Self { ids: tokens(config, key, prompt + rest), answer: prompt }
    }

    /// The same with no supervised token.
    pub(crate) fn unsupervised(&self) -> Self {
        Self { ids: self.ids.clone(), answer: self.ids.len() }
    }

    /// The token at `place` where it is supervised, below 0 where not.
    pub(crate) fn label(&self, place: usize) -> i32 {
        if place < self.answer { -1 } else { self.ids[place] as i32 }
    }
}

/// A row as the data stream gives it.
#[derive(Clone, Default)]
pub(crate) struct Row {
    pub(crate) ids: Vec<u32>,
    pub(crate) labels: Vec<i32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) segments: Vec<u32>,
}

impl Row {
    /// The examples behind one another, each with its own segment and positions from 0.
    pub(crate) fn pack(examples: &[Example]) -> Self {
        let mut row = Self::default();
        for (example, segment) in examples.iter().zip(1..) {
            row.ids.extend(&example.ids);
            row.labels.extend((0..example.ids.len()).map(|place| example.label(place)));
            row.positions.extend(0..example.ids.len() as u32);
            row.segments.extend(example.ids.iter().map(|_| segment));
        }
        row
    }

    fn view(&self) -> RowView<'_> {
        let Self { ids, labels, positions, segments } = self;
        RowView { ids, labels, positions, segments }
    }
}

/// A micro-batch whose first row has number `first` in its step.
pub(crate) fn batch(rows: &[Row], first: u32) -> Batch {
    Batch::from_rows(&rows.iter().map(Row::view).collect::<Vec<_>>(), first).expect("no label begins a segment")
}

/// Rows of a step: one of each kind that packing makes, of different lengths.
pub(crate) fn step_of_eight(config: &ModelConfig) -> Vec<Vec<Example>> {
    let lengths: [&[(usize, usize)]; 8] = [
        &[(3, 4)],
        &[(1, 6), (5, 1), (2, 9)],
        &[(1, 1)],
        &[(4, 0), (1, 3)],
        &[(11, 8)],
        &[(2, 2), (1, 30)],
        &[(1, 0)],
        &[(6, 5), (6, 5)],
    ];
    let example = |(key, (prompt, rest)): (u32, (usize, usize))| Example::new(config, key, prompt, rest);
    let row = |(number, lengths): (u32, &[(usize, usize)])| {
        (10 * number..).zip(lengths.iter().copied()).map(example).collect()
    };
    (1..).zip(lengths).map(row).collect()
}

pub(crate) fn host(tensor: &Tensor<Flex, 2>) -> Vec<f32> {
    tensor.to_data().to_vec().expect("tensors of the contract are f32")
}

/// Losses of the targets, and of each trained tensor the gradient of each row.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) losses: Vec<f32>,
    pub(crate) gradients: BTreeMap<String, Vec<Vec<f32>>>,
}

impl Step {
    /// Adds the results of a micro-batch.
    pub(crate) fn add(&mut self, model: &Model<Flex>, batch: &Batch, mode: Mode) {
        let mut names = Vec::new();
        let mut sink = |name: &str, rows: Vec<Tensor<Flex, 2>>| {
            assert_eq!(rows.len(), batch.rows.ranges.len(), "{name}: one gradient a row");
            names.push(name.to_owned());
            self.gradients.entry(name.to_owned()).or_default().extend(rows.iter().map(host));
        };
        self.losses.extend(model.forward_backward(batch, mode, &mut sink));
        names.sort();
        assert!(model.trainable().keys().eq(&names), "one set of gradients for each trained tensor");
    }

    pub(crate) fn of(model: &Model<Flex>, batch: &Batch, mode: Mode) -> Self {
        let mut step = Self::default();
        step.add(model, batch, mode);
        step
    }
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Panics where two lists differ in a bit.
#[track_caller]
pub(crate) fn assert_same_bits(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(got.to_bits() == want.to_bits(), "{what}: element {i} is {got:e}, expected {want:e}");
    }
}

/// Panics where two steps differ in a bit.
#[track_caller]
pub(crate) fn assert_same_step(what: &str, got: &Step, want: &Step) {
    assert_same_bits(&format!("{what}: losses"), &got.losses, &want.losses);
    assert!(got.gradients.keys().eq(want.gradients.keys()), "{what}: the same tensors");
    for (name, rows) in &got.gradients {
        let want = &want.gradients[name];
        assert_eq!(rows.len(), want.len(), "{what}: rows of {name}");
        for (r, (got, want)) in rows.iter().zip(want).enumerate() {
            assert_same_bits(&format!("{what}: {name}, row {r}"), got, want);
        }
    }
}

/// The largest difference of an element, in units of the root mean square of `want`. Where `want` is all zeros,
/// anything else is infinitely far; so is a NaN.
pub(crate) fn distance(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths");
    let unit = (want.iter().map(|want| want * want).sum::<f64>() / want.len() as f64).sqrt();
    let one = |(got, want): (&f32, &f64)| {
        let difference = (f64::from(*got) - want).abs();
        match difference {
            0.0 => 0.0,
            _ if difference.is_nan() => f64::INFINITY,
            _ => difference / unit,
        }
    };
    got.iter().zip(want).map(one).fold(0.0, f64::max)
}
