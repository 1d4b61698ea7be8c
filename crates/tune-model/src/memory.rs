//! How much memory a run will take, for `tune plan`.

use tune_kernels::cpu::head::chunk_tokens;

use crate::adapter::{LoraSpec, expand_targets};
use crate::base::ModelConfig;
use crate::block::{LINEARS, linear_shapes};
use crate::work::parameters;

/// What a run asks of memory beside its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Bytes of the base weights as they are kept: [`crate::base::BaseModel::bytes_in_memory`].
    pub weights: u64,
    /// Tokens of the longest micro-batch.
    pub tokens: u64,
    /// The most supervised tokens of a micro-batch.
    pub targets: u64,
    /// Rows of a micro-batch.
    pub micro_rows: u64,
    /// Rows of a step.
    pub rows: u64,
    /// Whether only the inputs of blocks are kept for the backward pass.
    pub checkpointing: bool,
    /// Whether a GPU computes, which turns stored weights into f32 a layer at a time.
    pub on_gpu: bool,
}

/// Bytes by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Base weights, as they are kept.
    pub weights: u64,
    /// Trained tensors outside the base, their moments, and the running sums of gradients.
    pub training: u64,
    /// What the backward pass keeps of a micro-batch.
    pub activations: u64,
    /// A chunk of logits, and the largest of the other temporaries: the head's, a block's gradients, or the newest gradients
    /// of what is trained.
    pub temporary: u64,
    /// The program itself, its tokenizer and the buffers of its threads; on a GPU what its driver takes.
    pub program: u64,
    /// The sum.
    pub total: u64,
}

/// Measured with the quickstart's model, whose own share is small.
const PROGRAM: u64 = 30_000_000;

/// What driver, compiled kernels and the pools of the allocator take of a GPU's memory. A guess: no GPU was at hand.
const DRIVER: u64 = 800_000_000;

/// Estimate for a run; `spec` is none where all weights are trained.
#[must_use]
pub fn estimate(config: &ModelConfig, spec: Option<&LoraSpec>, workload: Workload) -> MemoryEstimate {
    let Workload { weights, tokens, targets, micro_rows, rows, checkpointing, on_gpu } = workload;
    let bytes = |values: u64| 4 * values;
    let (hidden, mlp, layers) = (config.hidden_size as u64, config.intermediate_size as u64, config.num_layers as u64);
    let (query, key_value) =
        ((config.num_heads * config.head_dim) as u64, (config.num_kv_heads * config.head_dim) as u64);
    let vocabulary = config.vocab_size as u64;
    let shapes = linear_shapes(config).map(|(outputs, inputs)| (outputs as u64, inputs as u64));
    // While the last row of a step is computed, the running sums hold up to log2(rows) partial gradients.
    let sums = u64::from(rows.max(1).ilog2());
    let (trained, state, branch, newest) = match spec {
        // The head's gradients of all rows of a micro-batch wait for those of the embedding.
        None => {
            let all = parameters(config);
            (all, all * (2 + sums), 0, all + 2 * micro_rows * vocabulary * hidden)
        }
        Some(spec) => {
            let targets = expand_targets(config, &spec.targets).unwrap_or_default();
            let adapted = |path: &str| {
                LINEARS.iter().position(|name| path.ends_with(name)).map_or(0, |i| shapes[i].0 + shapes[i].1)
            };
            let rank = spec.rank as u64;
            let trained: u64 = targets.iter().map(|path| adapted(path) * rank).sum();
            (trained, trained * (3 + sums), targets.len() as u64 * rank / layers.max(1), 0)
        }
    };
    let training = bytes(state);
    let saved = 2 * hidden + 2 * query + 2 * key_value + 2 * mlp + 2 * config.num_heads as u64 + 2 + branch;
    let kept = if checkpointing { layers * hidden + saved } else { layers * saved };
    let activations = bytes(tokens * kept);
    let chunk = if spec.is_some() { targets.min(chunk_tokens(config.vocab_size) as u64) } else { targets };
    // The thread that computes the head keeps the memory of its logits, and packs operands of later products in it.
    let kept_by_thread = (chunk * vocabulary).max(tokens * mlp);
    let of_head = 2 * chunk * hidden + 3 * tokens * hidden;
    // The gradients of gate and up take their places where the device works in place.
    let of_block = tokens * (if on_gpu { 3 * mlp } else { mlp } + 4 * hidden);
    // The newest gradients grow while what was kept shrinks: with LoRA they are smaller; with all weights they may not be.
    let while_sinking = bytes(newest.max(trained) + tokens * saved);
    let temporary =
        (bytes(of_head.max(of_block)) + activations).max(while_sinking) - activations + bytes(kept_by_thread);
    let (decoded, program) = if on_gpu {
        // The largest matrix in f32: the head's beside its logits, or a layer's.
        let layer = shapes.iter().map(|(outputs, inputs)| outputs * inputs).max().unwrap_or(0);
        (bytes(layer.max(vocabulary * hidden)), DRIVER)
    } else {
        (0, PROGRAM)
    };
    let temporary = temporary + decoded;
    let total = weights + training + activations + temporary + program;
    MemoryEstimate { weights, training, activations, temporary, program, total }
}
