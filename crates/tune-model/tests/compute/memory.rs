//! The estimate of memory against arithmetic by hand.

use tune_model::base::ModelConfig;
use tune_model::work::parameters;
use tune_model::{LoraSpec, MemoryEstimate, Workload};

use super::support::{all_linear, lora, small};

/// `HuggingFaceTB/SmolLM2-135M`, whose parameters are counted on its page.
fn smollm2() -> ModelConfig {
    ModelConfig {
        hidden_size: 576,
        intermediate_size: 1536,
        num_layers: 30,
        num_heads: 9,
        num_kv_heads: 3,
        head_dim: 64,
        vocab_size: 49_152,
        rope_scaling: None,
        ..small(true, false)
    }
}

fn rank_8() -> LoraSpec {
    LoraSpec { rank: 8, ..lora(all_linear(), 0.0) }
}

/// One micro-batch a step, every token supervised, weights in f32.
fn workload(config: &ModelConfig, tokens: u64, rows: u64) -> Workload {
    let weights = 4 * parameters(config);
    Workload { weights, tokens, targets: tokens, micro_rows: 1, rows, checkpointing: false, on_gpu: false }
}

fn estimate(config: &ModelConfig, spec: Option<&LoraSpec>, tokens: u64, rows: u64) -> MemoryEstimate {
    tune_model::estimate(config, spec, workload(config, tokens, rows))
}

#[test]
fn the_parts_add_up() {
    let MemoryEstimate { weights, training, activations, temporary, program, total } =
        estimate(&smollm2(), Some(&rank_8()), 2048, 8);
    assert_eq!(total, weights + training + activations + temporary + program);
}

#[test]
fn parameters_by_hand() {
    // 134,515,008 parameters, of which the 61 vectors of the normalisations (35,136) are in no matrix.
    assert_eq!(parameters(&smollm2()), 134_515_008 - 35_136);
    let untied = ModelConfig { tie_word_embeddings: false, ..smollm2() };
    assert_eq!(parameters(&untied), 134_515_008 - 35_136 + 49_152 * 576);
}

#[test]
fn training_state_by_hand() {
    // PEFT counts 2,442,240 trainable parameters for rank 8 on all linear layers: 30 · 8 · (1152 + 768 + 768 + 1152 +
    // 3 · 2112). Beside them two moments and, while the eighth row is computed, sums of four, two and one.
    let lora = estimate(&smollm2(), Some(&rank_8()), 2048, 8);
    assert_eq!(lora.training, 4 * 2_442_240 * (3 + 3));
    // All weights: they are in the base, so two moments; and for one row no sum.
    let full = estimate(&smollm2(), None, 2048, 1);
    assert_eq!(full.training, full.weights * 2);
}

#[test]
fn activations_by_hand() {
    // For each token and block: two hidden states, queries and attended values (576 each), keys and values (192 each),
    // gate and up (1536 each), statistics of 9 heads, two roots, and seven branches of rank 8.
    let block = 2 * 576 + 2 * 576 + 2 * 192 + 2 * 1536 + 2 * 9 + 2 + 7 * 8;
    let found = estimate(&smollm2(), Some(&rank_8()), 2048, 8).activations;
    assert_eq!(found, 4 * 30 * 2048 * block);
    // With checkpointing, the input of each block and all of one.
    let checkpointing = Workload { checkpointing: true, ..workload(&smollm2(), 2048, 8) };
    let found = tune_model::estimate(&smollm2(), Some(&rank_8()), checkpointing).activations;
    assert_eq!(found, 4 * 2048 * (30 * 576 + block));
}

#[test]
fn temporaries_by_hand() {
    // The logits of a chunk, which stay with their thread, and a block's gradients.
    let block = 2048 * (1536 + 4 * 576);
    let found = estimate(&smollm2(), Some(&rank_8()), 2048, 8).temporary;
    assert_eq!(found, 4 * (768 * 49_152 + block));
    // Without a supervised token in sight, the packed operand of a product instead of the logits.
    let none = Workload { targets: 0, ..workload(&smollm2(), 2048, 8) };
    let found = tune_model::estimate(&smollm2(), Some(&rank_8()), none).temporary;
    assert_eq!(found, 4 * (2048 * 1536 + block));
}

#[test]
fn more_of_anything_takes_more() {
    let of =
        |config: &ModelConfig, rank, tokens, rows| estimate(config, Some(&LoraSpec { rank, ..rank_8() }), tokens, rows);
    let config = smollm2();
    let lengths: Vec<u64> = (0..16).map(|power| of(&config, 8, 1 << power, 8).total).collect();
    assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
    let rows: Vec<u64> = (0..10).map(|power| of(&config, 8, 2048, 1 << power).total).collect();
    assert!(rows.is_sorted_by(|a, b| a < b), "{rows:?}");
    let ranks: Vec<u64> = (0..8).map(|power| of(&config, 1 << power, 2048, 8).total).collect();
    assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
    let deeper = ModelConfig { num_layers: 31, ..smollm2() };
    assert!(of(&deeper, 8, 2048, 8).total > of(&config, 8, 2048, 8).total);
    // Activations are a multiple of the tokens; weights and training state know nothing of them.
    let [short, long] = [512, 1024].map(|tokens| of(&config, 8, tokens, 8));
    assert_eq!(long.activations, 2 * short.activations);
    assert_eq!((long.weights, long.training), (short.weights, short.training));
    assert!(estimate(&config, None, 2048, 8).total > of(&config, 8, 2048, 8).total);
}
