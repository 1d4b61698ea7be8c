//! What can go wrong with a model.

use crate::base::BaseError;

/// What is wrong. [`ModelError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The base model's files.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A target that is no layer of the model.
    #[error("no layer of the model is named `{name}`")]
    NoSuchTarget {
        /// The name.
        name: String,
        /// Names that exist.
        known: Vec<String>,
    },
    /// A label at the first token of a segment: nothing in its segment comes before it.
    #[error("row {row}: the first token of a segment is supervised, at place {place}")]
    LabelAtStart {
        /// The row, within its micro-batch.
        row: usize,
        /// The token, within its row.
        place: usize,
    },
    /// A tensor that is not a trained one, or has another shape.
    #[error("the tensor `{name}` does not fit: {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Why.
        problem: String,
    },
}

impl ModelError {
    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Base(error) => error.hint(),
            Self::NoSuchTarget { known, .. } => Some(format!("known are `all-linear`, or any of {}", known.join(", "))),
            Self::LabelAtStart { .. } => None,
            Self::Tensor { .. } => Some("the file belongs to another model or recipe".to_owned()),
        }
    }
}
