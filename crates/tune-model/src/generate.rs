//! Greedy generation with a cache of keys and values.
//!
//! The logits are those of the full forward pass, bit for bit, and do not depend on which prompts are answered together.

use burn_tensor::Tensor;
use tune_kernels::KernelBackend;
use tune_kernels::backend::Layer;
use tune_kernels::layout::{Rows, Span};

use crate::block::{DOWN, GATE, K, O, Q, UP, V};
use crate::linear::{Mode, Pass};
use crate::model::Model;

/// Keys and values of one sequence, by block.
#[derive(Debug, Clone)]
struct Sequence<B: KernelBackend> {
    /// Tokens in the cache.
    length: usize,
    /// (keys, values) of each block, `[tokens, kv_heads × head_dim]`.
    cache: Vec<Option<(Tensor<B, 2>, Tensor<B, 2>)>>,
}

impl<B: KernelBackend> Model<B> {
    /// Logits `[tokens, vocabulary]` of one sequence on the host, by the full forward pass.
    #[must_use]
    pub fn logits(&self, ids: &[u32]) -> Vec<Vec<f32>> {
        let mut sequence = self.empty_sequence();
        let x = self.extend(&mut [&mut sequence], &[ids]);
        rows_of(&self.head_logits(&x))
    }

    /// Logits of the last token of each prefix, token by token through the cache: equal to [`Self::logits`].
    #[must_use]
    pub fn logits_by_cache(&self, ids: &[u32]) -> Vec<Vec<f32>> {
        let mut sequence = self.empty_sequence();
        let one = |id: &u32| rows_of(&self.head_logits(&self.extend(&mut [&mut sequence], &[&[*id]])));
        ids.iter().flat_map(one).collect()
    }

    /// Greedy answers to prompts: the most likely token each time, the lowest id among equals, until one of `stop` (not
    /// part of the answer) or `max_new` tokens.
    ///
    /// # Panics
    /// If a prompt is empty.
    #[must_use]
    pub fn generate_greedy_batch(&self, prompts: &[&[u32]], max_new: usize, stop: &[u32]) -> Vec<Vec<u32>> {
        assert!(prompts.iter().all(|prompt| !prompt.is_empty()), "a prompt has at least one token");
        let mut answers = vec![Vec::new(); prompts.len()];
        let mut sequences: Vec<Sequence<B>> = prompts.iter().map(|_| self.empty_sequence()).collect();
        let mut open: Vec<usize> = (0..prompts.len()).collect();
        let mut inputs: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
        for _ in 0..max_new {
            if open.is_empty() {
                break;
            }
            let mut active: Vec<&mut Sequence<B>> = sequences
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| open.binary_search(i).is_ok())
                .map(|(_, s)| s)
                .collect();
            let new: Vec<&[u32]> = open.iter().map(|i| inputs[*i].as_slice()).collect();
            let x = self.extend(&mut active, &new);
            let mut end = 0;
            let last = new.iter().map(|new| {
                end += new.len();
                x.clone().narrow(0, end - 1, 1)
            });
            let logits = rows_of(&self.head_logits(&Tensor::cat(last.collect(), 0)));
            let mut still_open = Vec::new();
            for (i, logits) in open.iter().zip(logits) {
                let token = largest(&logits);
                if !stop.contains(&token) {
                    answers[*i].push(token);
                    inputs[*i] = vec![token];
                    still_open.push(*i);
                }
            }
            open = still_open;
        }
        answers
    }

    fn empty_sequence(&self) -> Sequence<B> {
        Sequence { length: 0, cache: vec![None; self.blocks.len()] }
    }

    /// Runs new tokens of several sequences through all blocks, adding to their caches. Gives hidden states
    /// `[new tokens, hidden]` before the last normalisation.
    fn extend(&self, sequences: &mut [&mut Sequence<B>], new: &[&[u32]]) -> Tensor<B, 2> {
        let ids: Vec<u32> = new.concat();
        let mut positions = Vec::with_capacity(ids.len());
        let (mut spans, mut query, mut key) = (Vec::new(), 0, 0);
        for (sequence, new) in sequences.iter().zip(new) {
            let start = u32::try_from(sequence.length).expect("a sequence is shorter than 2^32 tokens");
            positions.extend((start..).take(new.len()));
            let keys = sequence.length + new.len();
            spans.push(Span { queries: query..query + new.len(), keys: key..key + keys });
            query += new.len();
            key += keys;
        }
        let rows = Rows::default();
        let pass =
            Pass { positions: &positions, rows: &rows, repeats: &[], mode: Mode::Evaluate, train_weights: false };
        let shared = &self.shared;
        let mut x = <B as KernelBackend>::embedding(&self.embedding, &ids);
        for (n, block) in self.blocks.iter().enumerate() {
            let layer = |index: usize, x: &Tensor<B, 2>, plus| block.linears[index].forward(x, plus, &pass).0;
            let linear = |index: usize, x: &Tensor<B, 2>| layer(index, x, None);
            let (normed, _) = B::rms_norm(&x, &block.input_norm, shared.epsilon);
            let q = B::rope(linear(Q, &normed), &positions, &shared.cos, &shared.sin, false);
            let k = B::rope(linear(K, &normed), &positions, &shared.cos, &shared.sin, false);
            let v = linear(V, &normed);
            for (sequence, span) in sequences.iter_mut().zip(&spans) {
                let part = |tensor: &Tensor<B, 2>| tensor.clone().slice([span.queries.clone()]);
                let (k, v) = (part(&k), part(&v));
                sequence.cache[n] = Some(match sequence.cache[n].take() {
                    Some((keys, values)) => (Tensor::cat(vec![keys, k], 0), Tensor::cat(vec![values, v], 0)),
                    None => (k, v),
                });
            }
            let cached = || sequences.iter().filter_map(|sequence| sequence.cache[n].clone());
            let keys = Tensor::cat(cached().map(|(keys, _)| keys).collect(), 0);
            let values = Tensor::cat(cached().map(|(_, values)| values).collect(), 0);
            let (attended, _) = <B as KernelBackend>::attention(&q, &keys, &values, &spans, shared.heads);
            let middle = layer(O, &attended, Some(&x));
            let (normed, _) = B::rms_norm(&middle, &block.post_norm, shared.epsilon);
            let activation = B::swiglu(&linear(GATE, &normed), &linear(UP, &normed));
            x = layer(DOWN, &activation, Some(&middle));
        }
        for (sequence, new) in sequences.iter_mut().zip(new) {
            sequence.length += new.len();
        }
        x
    }

    fn head_logits(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        let (normed, _) = B::rms_norm(x, &self.norm, self.shared.epsilon);
        let head = Layer { weight: self.head_weight(), bias: None, branch: None };
        B::linears(&normed, &[head], None, &Rows::default(), &[]).pop().expect("one output for one layer").y
    }
}

fn rows_of<B: KernelBackend>(matrix: &Tensor<B, 2>) -> Vec<Vec<f32>> {
    let [_, columns] = matrix.dims();
    let values: Vec<f32> = matrix.to_data().into_vec().expect("tensors of the contract are f32");
    values.chunks_exact(columns).map(<[f32]>::to_vec).collect()
}

/// Index of the largest value, the lowest among equals.
#[expect(clippy::cast_possible_truncation, reason = "a vocabulary has less than 2^32 entries")]
fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best as u32
}
