//! The forward pass in f64, in plain loops that know nothing of the kernels: what finite differences are taken of.
//!
//! Written from the definition of the architecture. Each example is computed by itself; rows matter to dropout only.

use std::collections::BTreeMap;

use burn_flex::Flex;
use tune_kernels::layout::Rows;
use tune_kernels::philox::StreamKey;
use tune_kernels::reference::dropout;
use tune_kernels::shapes::Dropout;
use tune_model::base::{ModelConfig, RopeScaling};
use tune_model::{HostTensors, LoraSpec, Model};

use super::support::{Example, SEED, host};

/// Names of linear layers within a block.
const ATTENTION: [&str; 4] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
const FEED_FORWARD: [&str; 3] = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

/// What the forward pass takes.
pub(crate) struct Reference {
    config: ModelConfig,
    /// Base weights, and the adapter's, by the names they have in files.
    pub(crate) weights: BTreeMap<String, Vec<f64>>,
    scale: f64,
    /// What dropout multiplies the input of a layer by, over the tokens of a row; all ones where it is missing.
    masks: BTreeMap<(String, usize), Vec<f64>>,
}

/// Where an example lies.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    /// Its first token within the row.
    start: usize,
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// `y[t, n] = Σ_k x[t, k] · w[n, k]`
fn product(x: &[f64], w: &[f64], inputs: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
    x.chunks_exact(inputs).flat_map(|x| w.chunks_exact(inputs).map(|w| dot(x, w)).collect::<Vec<_>>()).collect()
}

fn sum(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + libm::exp(-x))
}

/// Minus the logarithm of the softmax at `label`.
fn cross_entropy(logits: &[f64], label: usize) -> f64 {
    libm::log(logits.iter().map(|logit| libm::exp(logit - logits[label])).sum())
}

impl Reference {
    /// A model of `config` and `base`, with the values of what `model` trains.
    pub(crate) fn new(config: &ModelConfig, base: &HostTensors, model: &Model<Flex>) -> Self {
        let mut weights: BTreeMap<_, _> = base.iter().map(|(name, (_, values))| (name.clone(), wide(values))).collect();
        weights.extend(model.trainable().iter().map(|(name, tensor)| (name.clone(), wide(&host(tensor)))));
        Self { config: config.clone(), weights, scale: 0.0, masks: BTreeMap::new() }
    }

    /// With the settings of an adapter, and its dropout at a step over rows of these lengths.
    pub(crate) fn with_lora(mut self, spec: &LoraSpec, step: u32, lengths: &[usize]) -> Self {
        self.scale = f64::from(spec.scale);
        if spec.dropout == 0.0 {
            return self;
        }
        for path in (0..self.config.num_layers).flat_map(|n| {
            ATTENTION.into_iter().chain(FEED_FORWARD).map(move |linear| format!("model.layers.{n}.{linear}"))
        }) {
            let Some(a) = self.weights.get(&format!("base_model.model.{path}.lora_A.weight")) else { continue };
            let inputs = a.len() / spec.rank;
            let key = StreamKey(SEED.stream(&format!("dropout/{path}")));
            for (row, length) in lengths.iter().enumerate() {
                let rows = Rows::whole(std::iter::once(0..*length).collect(), row as u32);
                let dropped = Dropout::new(key, step, spec.dropout);
                let mask = dropout(&vec![1.0; length * inputs], inputs, Some(dropped), &rows);
                self.masks.insert((path.clone(), row), wide(&mask));
            }
        }
        self
    }

    /// `y = x · Wᵀ + b + scale · dropout(x) · Aᵀ · Bᵀ`
    fn linear(&self, path: &str, x: &[f64], inputs: usize, place: Place) -> Vec<f64> {
        let mut y = product(x, &self.weights[&format!("{path}.weight")], inputs);
        if let Some(bias) = self.weights.get(&format!("{path}.bias")) {
            y.chunks_exact_mut(bias.len()).flat_map(|y| y.iter_mut().zip(bias)).for_each(|(y, bias)| *y += bias);
        }
        let Some(a) = self.weights.get(&format!("base_model.model.{path}.lora_A.weight")) else { return y };
        let b = &self.weights[&format!("base_model.model.{path}.lora_B.weight")];
        let rank = a.len() / inputs;
        let dropped = match self.masks.get(&(path.to_owned(), place.row)) {
            Some(mask) => x.iter().zip(&mask[place.start * inputs..]).map(|(x, mask)| x * mask).collect(),
            None => x.to_vec(),
        };
        let branch = product(&product(&dropped, a, inputs), b, rank);
        y.iter().zip(branch).map(|(y, branch)| y + self.scale * branch).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let w = &self.weights[&format!("{name}.weight")];
        let one = |x: &[f64]| {
            let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            let root = (mean + self.config.rms_norm_eps).sqrt();
            x.iter().zip(w).map(|(x, w)| x / root * w).collect::<Vec<_>>()
        };
        x.chunks_exact(w.len()).flat_map(one).collect()
    }

    /// The angle by which pair `i` of a head turns from one position to the next.
    fn frequency(&self, i: usize) -> f64 {
        let frequency = libm::pow(self.config.rope_theta, -(2.0 * i as f64) / self.config.head_dim as f64);
        match self.config.rope_scaling {
            None => frequency,
            Some(RopeScaling::Linear { factor }) => frequency / factor,
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }) => {
                // How often the pair turns within the original context decides between all, some and none of it.
                let turns = original_max_position_embeddings as f64 * frequency / std::f64::consts::TAU;
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            }
        }
    }

    /// Turns the pairs `(i, i + head_dim / 2)` of every head of `x: [tokens, heads × head_dim]`.
    fn rope(&self, mut x: Vec<f64>, tokens: usize) -> Vec<f64> {
        let (half, features) = (self.config.head_dim / 2, x.len() / tokens);
        for (position, x) in x.chunks_exact_mut(features).enumerate() {
            for head in x.chunks_exact_mut(2 * half) {
                for i in 0..half {
                    let angle = position as f64 * self.frequency(i);
                    let (cos, sin, a, b) = (libm::cos(angle), libm::sin(angle), head[i], head[i + half]);
                    (head[i], head[i + half]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
        x
    }

    /// Causal attention of one example.
    fn attention(&self, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        let ModelConfig { num_heads: heads, num_kv_heads: kv_heads, head_dim, .. } = self.config;
        let of_key = |x: &[f64], token: usize, kv_head: usize, d: usize| x[(token * kv_heads + kv_head) * head_dim + d];
        let mut output = Vec::with_capacity(q.len());
        for (place, q) in q.chunks_exact(head_dim).enumerate() {
            let (token, kv_head) = (place / heads, place % heads * kv_heads / heads);
            let score = |key: usize| (0..head_dim).map(|d| q[d] * of_key(k, key, kv_head, d)).sum::<f64>();
            let weights: Vec<f64> = (0..=token).map(|key| libm::exp(score(key) / (head_dim as f64).sqrt())).collect();
            let total: f64 = weights.iter().sum();
            let value =
                |d: usize| weights.iter().enumerate().map(|(key, p)| p * of_key(v, key, kv_head, d)).sum::<f64>();
            output.extend((0..head_dim).map(|d| value(d) / total));
        }
        output
    }

    /// One block, `x: [tokens, hidden]` to the same shape.
    fn block(&self, name: &str, x: &[f64], place: Place) -> Vec<f64> {
        let ModelConfig { hidden_size: hidden, intermediate_size: mlp, num_heads, head_dim, .. } = self.config;
        let tokens = x.len() / hidden;
        let linear = |layer: &str, x: &[f64], inputs| self.linear(&format!("{name}.{layer}"), x, inputs, place);
        let normed = self.norm(&format!("{name}.input_layernorm"), x);
        let [q, k, v] = [0, 1, 2].map(|i| linear(ATTENTION[i], &normed, hidden));
        let attended = self.attention(&self.rope(q, tokens), &self.rope(k, tokens), &v);
        let middle = sum(x, &linear(ATTENTION[3], &attended, num_heads * head_dim));
        let normed = self.norm(&format!("{name}.post_attention_layernorm"), &middle);
        let [gate, up] = [0, 1].map(|i| linear(FEED_FORWARD[i], &normed, hidden));
        let activation: Vec<f64> = gate.iter().zip(&up).map(|(gate, up)| silu(*gate) * up).collect();
        sum(&middle, &linear(FEED_FORWARD[2], &activation, mlp))
    }

    /// Losses of an example's supervised tokens.
    fn example(&self, example: &Example, place: Place) -> Vec<f64> {
        let hidden = self.config.hidden_size;
        let embedding = &self.weights["model.embed_tokens.weight"];
        let head = self.weights.get("lm_head.weight").unwrap_or(embedding);
        let row = |id: &u32| &embedding[*id as usize * hidden..][..hidden];
        let mut x: Vec<f64> = example.ids.iter().flat_map(row).copied().collect();
        for n in 0..self.config.num_layers {
            x = self.block(&format!("model.layers.{n}"), &x, place);
        }
        let logits = product(&self.norm("model.norm", &x), head, hidden);
        let logits = |token: usize| &logits[token * self.config.vocab_size..][..self.config.vocab_size];
        let supervised = example.answer..example.ids.len();
        supervised.map(|place| cross_entropy(logits(place - 1), example.ids[place] as usize)).collect()
    }

    /// Losses of the supervised tokens of each row.
    pub(crate) fn losses(&self, rows: &[Vec<Example>]) -> Vec<Vec<f64>> {
        let row = |(row, examples): (usize, &Vec<Example>)| {
            let mut start = 0;
            let one = |example: &Example| {
                let losses = self.example(example, Place { row, start });
                start += example.ids.len();
                losses
            };
            examples.iter().flat_map(one).collect()
        };
        rows.iter().enumerate().map(row).collect()
    }
}
