//! The recipe: what a user writes ([`RecipeFile`]) and what it means once every default is filled in ([`Recipe`]).
//!
//! A stage of the tool never reads raw YAML: it gets a [`Recipe`], which is complete and validated. What identifies
//! a computation is [`Recipe::claimed`], the part that decides the result; how it is executed (micro-batch, folders,
//! logging) stays outside.

mod claimed;
mod error;
pub mod file;
mod load;
mod overrides;
mod resolve;
#[cfg(test)]
mod tests;
pub mod yaml;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use claimed::{from_claimed_in_place, parse_claimed};
pub use error::RecipeError;
pub use file::{DatasetFile, RecipeFile};
pub use load::{Loaded, load};
pub use overrides::overrides;

/// The JSON Schema of [`RecipeFile`], for editors and other tools.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(RecipeFile).to_value()
}

/// Whether LoRA matrices are trained beside frozen weights, or all weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adapter {
    /// Low-rank adapters (Hu et al. 2021) on the target modules; every base weight is frozen.
    Lora,
    /// No adapter: every weight of the model is trained.
    None,
}

impl Adapter {
    /// The folder of a run's result.
    #[must_use]
    pub fn result_folder(self) -> &'static str {
        match self {
            Self::Lora => "adapter",
            Self::None => "model",
        }
    }
}

/// Which linear layers get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `all-linear` or a list of layer names")]
pub enum TargetModules {
    /// The text `all-linear`: every linear layer of the decoder blocks, not the head (as PEFT does).
    Named(AllLinear),
    /// Suffix names, such as `q_proj`.
    List(Vec<String>),
}

/// The literal `all-linear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllLinear {
    /// `all-linear`
    #[serde(rename = "all-linear")]
    AllLinear,
}

/// How the rows of a data source become examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetType {
    /// `instruction`, `input`, `output` columns, rendered with the Stanford Alpaca prompt; the output is supervised.
    Alpaca,
    /// A list of messages, rendered with the chat template; `roles_to_train` are supervised. A source with
    /// `field_prompt` and `field_completion` set is read as one user and one assistant message.
    ChatTemplate,
    /// Two text columns, concatenated as they are, then end of sequence; the completion is supervised.
    PromptCompletion,
    /// One text column, then end of sequence; all of it is supervised.
    Completion,
}

/// Which end-of-turn tokens are supervised in chat examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainOnEos {
    /// The end-of-turn token of every supervised turn.
    Turn,
    /// Every end-of-turn token.
    All,
    /// Only the end-of-turn token of the last supervised turn.
    Last,
}

/// What happens to an example longer than `sequence_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExcessLengthStrategy {
    /// The run stops with an error that names the row.
    Raise,
    /// The example is left out, and counted.
    Drop,
    /// Tokens beyond `sequence_len` are cut off, and counted.
    Truncate,
}

/// Learning-rate schedule after warm-up, with the formulas of Hugging Face `get_scheduler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduler {
    /// Stays at `learning_rate`.
    Constant,
    /// Falls linearly to 0 at the last step.
    Linear,
    /// Half a cosine to 0 at the last step.
    Cosine,
}

/// The optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// AdamW (Loshchilov and Hutter 2019) as in `torch.optim.AdamW`.
    Adamw,
}

/// The arithmetic contract a run is computed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Numerics {
    /// The same bits on every machine; see `docs/numerics.md`.
    #[serde(rename = "exact-f32/1")]
    ExactF32V1,
    /// Products of operands rounded to bf16 by a GPU's matrix instructions: the same bits on the same model of device with
    /// the same driver and binary; see `docs/numerics.md`.
    #[serde(rename = "pinned-bf16/1")]
    PinnedBf16V1,
}

impl Numerics {
    /// The name in recipes and claims.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ExactF32V1 => "exact-f32/1",
            Self::PinnedBf16V1 => "pinned-bf16/1",
        }
    }
}

/// The OSAID class of a data source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataClass {
    /// Shared under open terms.
    Open,
    /// Publicly available, not necessarily under open terms.
    Public,
    /// Obtainable from a third party, possibly for a fee.
    Obtainable,
    /// May not be shared.
    Unshareable,
}

impl DataClass {
    /// The name in recipes and locks.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Public => "public",
            Self::Obtainable => "obtainable",
            Self::Unshareable => "unshareable",
        }
    }
}

/// What is known about one source: the data information that OSAID asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceProvenance {
    /// OSAID class.
    pub class: Option<DataClass>,
    /// SPDX licence expression.
    pub licence: Option<String>,
    /// Where it comes from: a hub id, a URL, a citation.
    pub origin: Option<String>,
    /// How it was obtained.
    pub obtained: Option<String>,
    /// How rows were selected.
    pub selected: Option<String>,
    /// How it was processed and filtered.
    pub filtered: Option<String>,
}

/// Who answers for the result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Governance {
    /// Names of people or bodies.
    pub maintainers: Vec<String>,
    /// How to reach them.
    pub contact: Option<String>,
    /// How to contribute.
    pub contributing: Option<String>,
    /// How versions are numbered.
    pub versioning: Option<String>,
}

/// What a user of the result should know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Considerations {
    /// What it is meant for.
    pub intended_use: Option<String>,
    /// What it cannot do.
    pub limits: Option<String>,
    /// Known biases.
    pub known_biases: Option<String>,
    /// Personal data in the training set.
    pub personal_data: Option<String>,
}

/// One data source of a resolved recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Stable name: as written, or the file name of the path as written in the recipe. Keys lock and provenance.
    pub name: String,
    /// Where the bytes are: a local path, `file:…`, `https://…`, or `pip:NAME==VERSION#MEMBER`. Not claimed.
    pub path: String,
    /// How rows become examples.
    #[serde(rename = "type")]
    pub kind: DatasetType,
    /// Column of the instruction (alpaca).
    pub field_instruction: String,
    /// Column of the optional input (alpaca).
    pub field_input: String,
    /// Column of the output (alpaca).
    pub field_output: String,
    /// Column of the message list (chat_template).
    pub field_messages: String,
    /// Member of a message that holds its role (chat_template).
    pub field_role: String,
    /// Member of a message that holds its content (chat_template).
    pub field_content: String,
    /// Column of the prompt (prompt_completion; chat_template when set).
    pub field_prompt: Option<String>,
    /// Column of the completion (prompt_completion; chat_template when set).
    pub field_completion: Option<String>,
    /// Column of the text (completion).
    pub field_text: String,
    /// Roles whose turns are supervised (chat_template).
    pub roles_to_train: Vec<String>,
    /// Which end-of-turn tokens are supervised (chat_template).
    pub train_on_eos: TrainOnEos,
    /// Share of this source in the mixture, relative to its row count: 1 takes every example once an epoch,
    /// 0.5 half of them, 2 each twice.
    pub weight: f64,
    /// The digest the source must have, when the recipe pins it.
    pub sha256: Option<crate::Digest>,
}

/// How much is held out for evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number of examples or a share between 0 and 1")]
pub enum ValSetSize {
    /// A number of examples; 0 holds out none.
    Rows(u64),
    /// A share of the examples, above 0 and below 1.
    Share(f64),
}

/// A complete recipe: every default explicit, every value validated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented on `RecipeFile`, from which the reference is generated")]
pub struct Recipe {
    pub base_model: String,
    pub base_model_name: String,
    pub reinit_weights: bool,
    pub adapter: Adapter,
    pub lora_r: u32,
    pub lora_alpha: f64,
    pub lora_dropout: f64,
    pub lora_target_modules: TargetModules,
    pub use_rslora: bool,
    pub datasets: Vec<Dataset>,
    pub val_set_size: ValSetSize,
    pub sequence_len: u32,
    pub excess_length_strategy: ExcessLengthStrategy,
    pub sample_packing: bool,
    pub train_on_inputs: bool,
    pub chat_template: Option<String>,
    pub micro_batch_size: u32,
    /// Whether `micro_batch_size` is to be chosen by the memory of the device; it is 1 until then.
    pub micro_batch_size_auto: bool,
    pub gradient_accumulation_steps: u32,
    pub gradient_checkpointing: bool,
    pub keep_quantized: bool,
    pub num_epochs: f64,
    pub max_steps: Option<u64>,
    pub learning_rate: f64,
    pub lr_scheduler: LrScheduler,
    pub warmup_steps: Option<u64>,
    pub warmup_ratio: f64,
    pub optimizer: Optimizer,
    pub weight_decay: f64,
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub adam_epsilon: f64,
    pub max_grad_norm: f64,
    pub seed: u64,
    pub logging_steps: u64,
    pub eval_steps: Option<u64>,
    pub eval_exact_match: u32,
    pub eval_max_new_tokens: u32,
    pub eval_samples_shown: u32,
    pub save_steps: u64,
    pub device: crate::Devices,
    pub output_dir: String,
    pub numerics: Numerics,
    pub provenance: BTreeMap<String, SourceProvenance>,
    pub governance: Governance,
    pub considerations: Considerations,
}

impl Recipe {
    /// Rows of one optimizer step: `micro_batch_size × gradient_accumulation_steps`.
    #[must_use]
    pub fn rows_per_step(&self) -> u64 {
        u64::from(self.micro_batch_size) * u64::from(self.gradient_accumulation_steps)
    }

    /// Splits the rows of a step into micro-batches of `rows`, which must divide them. Which rows a step has stays as it is.
    ///
    /// # Panics
    /// If `rows` does not divide the rows of a step.
    pub fn split_into(&mut self, rows: u32) {
        let all = self.rows_per_step();
        assert!(rows > 0 && all.is_multiple_of(u64::from(rows)), "micro-batches of equal size");
        let batches = u32::try_from(all / u64::from(rows)).expect("rows of a step are at most 2^32 micro-batches");
        (self.micro_batch_size, self.gradient_accumulation_steps) = (rows, batches);
    }

    /// The factor on the LoRA branch.
    #[must_use]
    pub fn effective_scale(&self) -> f32 {
        effective_scale(f64::from(self.lora_r), self.lora_alpha, self.use_rslora)
    }
}

/// The factor on a LoRA branch: `alpha / r`, or `alpha / sqrt(r)` with rsLoRA, rounded once to f32.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "rounded once to f32, as the contract says")]
pub fn effective_scale(rank: f64, alpha: f64, rslora: bool) -> f32 {
    (if rslora { alpha / rank.sqrt() } else { alpha / rank }) as f32
}
