//! What can go wrong in training.

use std::path::PathBuf;

use tune_schema::Digest;
use tune_schema::recipe::Numerics;

use crate::chain_file::ChainError;

/// What went wrong, where. [`TrainError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file or folder.
    #[error(transparent)]
    Fs(#[from] tune_fs::FsError),
    /// A source.
    #[error(transparent)]
    Source(#[from] tune_source::SourceError),
    /// The training data.
    #[error(transparent)]
    Data(#[from] tune_data::DataError),
    /// The base model's files.
    #[error(transparent)]
    Base(#[from] tune_model::base::BaseError),
    /// The model.
    #[error(transparent)]
    Model(#[from] tune_model::ModelError),
    /// A form of the result that cannot be written.
    #[error(transparent)]
    Export(#[from] tune_model::export::ExportError),
    /// A run without an adapter.
    #[error("this run trained all weights: its `model/` is a whole model in Hugging Face layout already")]
    NothingToExport,
    /// A place that is taken.
    #[error("`{path}` is there already")]
    Taken {
        /// The place.
        path: PathBuf,
    },
    /// A place in the run that is exported.
    #[error("`{path}` lies in the run")]
    Inside {
        /// The place.
        path: PathBuf,
    },
    /// The chain of a run folder.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A value without canonical JSON.
    #[error(transparent)]
    Canonical(#[from] tune_schema::CanonicalError),
    /// A JSON file of a run folder.
    #[error("`{path}` is not what it should be")]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The loss or the gradient left the numbers.
    #[error("step {step}: the loss is {loss} and the gradient's norm {grad_norm}, at learning rate {learning_rate:e}")]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// Its loss.
        loss: f32,
        /// Its gradient's norm.
        grad_norm: f32,
        /// Its learning rate.
        learning_rate: f64,
    },
    /// The update led out of the numbers.
    #[error("step {step}: the update at learning rate {learning_rate:e} made weights that are no finite numbers")]
    WeightsNotFinite {
        /// The step, from 1.
        step: u64,
        /// Its learning rate.
        learning_rate: f64,
    },
    /// The held-out loss left the numbers.
    #[error("after step {step} the held-out loss is {loss}")]
    EvaluationNotFinite {
        /// Steps done.
        step: u64,
        /// The loss.
        loss: f32,
    },
    /// More steps than a counter of Philox holds.
    #[error("a run has at most 2^32 steps")]
    TooManySteps,
    /// The folder belongs to another computation.
    #[error("`{folder}` holds a run of another claim: {difference}")]
    OtherClaim {
        /// The run folder.
        folder: PathBuf,
        /// The first input that differs.
        difference: String,
    },
    /// The folder holds something that is not a run.
    #[error("`{folder}` is not empty and is not a run folder")]
    NotARun {
        /// The folder.
        folder: PathBuf,
    },
    /// A finished run whose files were changed.
    #[error("the run is finished, and `{path}` is not what it was")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint has a tensor that is not trained, or lacks one.
    #[error("the checkpoint of step {step} does not hold exactly the trained tensors: `{name}` differs")]
    TrainableSet {
        /// The checkpoint's step.
        step: u64,
        /// The tensor.
        name: String,
    },
    /// A tensor that no checkpoint holds.
    #[error("`{folder}`: a run has no tensor `{name}` there, or has it in another shape or type, or it is missing")]
    UnexpectedTensor {
        /// The checkpoint.
        folder: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A text that says the same in another form.
    #[error("`{path}` is not in the form that a run writes it in")]
    NotCanonical {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint was changed.
    #[error("`{folder}`: the tensors have root {found}, `state.json` says {stated}")]
    StateRoot {
        /// The checkpoint.
        folder: PathBuf,
        /// Root in `state.json`.
        stated: Digest,
        /// Root of the tensors.
        found: Digest,
    },
    /// The device is too small.
    #[error(
        "micro-batches of {micro} rows need about {:.1} GB, and `{device}` has {:.1} GB",
        gigabytes(needed),
        gigabytes(available)
    )]
    DoesNotFit {
        /// The device.
        device: String,
        /// Bytes that the job needs, an estimate.
        needed: u64,
        /// Bytes that the device has.
        available: u64,
        /// Rows of a micro-batch.
        micro: u32,
        /// The most rows that fit and split a step evenly, where there are any.
        fits: Option<u32>,
        /// Whether gradient checkpointing is on already.
        checkpointing: bool,
    },
    /// The device computes under another profile.
    #[error("`{device}` does not compute {}, which needs an NVIDIA GPU with matrix instructions for bf16", wanted.name())]
    Numerics {
        /// The recipe's profile.
        wanted: Numerics,
        /// The device.
        device: String,
    },
    /// The recipe of a measurement.
    #[error("the recipe of the measurement: {0}: this is a defect of tune, please report it")]
    Quickstart(String),
    /// The stream and the steps disagree at the end.
    #[error("the run consumed {consumed} rows of {expected}: this is a defect of tune, please report it")]
    RowCount {
        /// Rows consumed.
        consumed: u64,
        /// Rows of the stream.
        expected: u64,
    },
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn gigabytes(bytes: &u64) -> f64 {
    *bytes as f64 / 1e9
}

impl TrainError {
    /// Whether this says that something is not what it is claimed to be, and not merely that it cannot be had.
    #[must_use]
    pub fn is_difference(&self) -> bool {
        match self {
            Self::Source(error) => error.is_difference(),
            Self::StateRoot { .. }
            | Self::NotCanonical { .. }
            | Self::TrainableSet { .. }
            | Self::UnexpectedTensor { .. }
            | Self::Chain(_) => true,
            _ => false,
        }
    }

    /// Whether something outside the input is at fault: the disk, the network, another process.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Fs(error) => error.is_outside(),
            Self::Source(error) => error.is_outside(),
            Self::Data(error) => error.is_outside(),
            _ => false,
        }
    }

    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fs(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Base(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::NotFinite { .. } | Self::WeightsNotFinite { .. } | Self::EvaluationNotFinite { .. } => {
                Some("lower `learning_rate`, or raise `warmup_steps`; the last checkpoint is as it was".to_owned())
            }
            Self::DoesNotFit { fits: Some(fits), .. } => Some(format!(
                "with `micro_batch_size={fits}` and as many more `gradient_accumulation_steps` it fits, with the same \
                 result; `micro_batch_size: auto` finds the size by itself"
            )),
            Self::DoesNotFit { checkpointing: false, .. } => {
                Some("`gradient_checkpointing=true` needs much less; then `sequence_len` or another device".to_owned())
            }
            Self::DoesNotFit { .. } => Some("lower `sequence_len`, or take another device".to_owned()),
            Self::OtherClaim { .. } | Self::NotARun { .. } => {
                Some("choose another folder with `output_dir=…`, or remove this one".to_owned())
            }
            Self::Damaged { .. }
            | Self::TrainableSet { .. }
            | Self::UnexpectedTensor { .. }
            | Self::StateRoot { .. }
            | Self::NotCanonical { .. }
            | Self::Chain(_)
            | Self::Json { .. } => {
                Some("the run folder was changed after it was written: remove it and run again".to_owned())
            }
            Self::Numerics { .. } => {
                Some("the same bits come from a device of the model that `environment.json` names".to_owned())
            }
            Self::Taken { .. } => Some("choose another place, or remove what is there".to_owned()),
            Self::Inside { .. } => {
                Some("choose a place outside: a run holds nothing that its manifest does not list".to_owned())
            }
            Self::Export(_) | Self::NothingToExport => None,
            Self::Canonical(_) | Self::TooManySteps | Self::Quickstart(_) | Self::RowCount { .. } => None,
        }
    }
}
