//! What can be wrong with training data.

/// What, where. [`DataError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file.
    #[error(transparent)]
    Fs(#[from] tune_fs::FsError),
    /// A source that cannot be read to its end.
    #[error("source `{source_name}`, line {line}: cannot read")]
    Read {
        /// The source.
        source_name: String,
        /// From 1.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is no row.
    #[error("source `{source_name}`, line {line}: {problem}")]
    Row {
        /// The source.
        source_name: String,
        /// From 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A row without a column that its type needs.
    #[error("source `{source_name}`, line {line}: the row has no text column `{column}`; it has {found}")]
    Column {
        /// The source.
        source_name: String,
        /// From 1.
        line: u64,
        /// What was looked for.
        column: String,
        /// What there is.
        found: String,
    },
    /// A source without rows.
    #[error("source `{source_name}` holds no rows")]
    Empty {
        /// The source.
        source_name: String,
    },
    /// A template that cannot be used.
    #[error("source `{source_name}`, line {line}: {problem}")]
    Template {
        /// The source.
        source_name: String,
        /// From 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A tokenizer that cannot be used.
    #[error("the tokenizer cannot be used: {problem}")]
    Tokenizer {
        /// What is wrong.
        problem: String,
    },
    /// Ids that the model has no embedding for.
    #[error("the tokenizer does not fit the model: it gives the id {id}, the model knows {vocabulary} tokens")]
    Vocabulary {
        /// The id.
        id: u32,
        /// Entries of the model's embedding.
        vocabulary: usize,
    },
    /// An example that is too long.
    #[error("source `{source_name}`, line {line}: the example has {length} tokens, `sequence_len` is {limit}")]
    TooLong {
        /// The source.
        source_name: String,
        /// From 1.
        line: u64,
        /// Its tokens.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// An example that teaches nothing.
    #[error("source `{source_name}`, line {line}: no token of the example is supervised")]
    NothingSupervised {
        /// The source.
        source_name: String,
        /// From 1.
        line: u64,
    },
    /// Two beginnings.
    #[error("source `{source_name}`, line {line}: the example begins with `{bos}` twice")]
    DoubleBos {
        /// The source.
        source_name: String,
        /// From 1.
        line: u64,
        /// The token.
        bos: String,
    },
    /// A model that would never stop.
    #[error("no end-of-turn token is supervised anywhere in the data: the model would not learn to stop")]
    NeverStops,
    /// Nothing left to train on.
    #[error("no examples are left to train on: {held_out} are held out, {dropped} were dropped")]
    NothingLeft {
        /// Held out.
        held_out: u64,
        /// Dropped.
        dropped: u64,
    },
}

impl DataError {
    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Fs(error) => return error.hint(),
            Self::Read { .. } => return None,
            Self::Row { .. } => "a data set is JSON Lines: one object a line, UTF-8",
            Self::Column { .. } => "name the column with `field_…` in the recipe, or choose another `type`",
            Self::Empty { .. } => "the file should hold one JSON object a line",
            Self::Template { .. } => "choose another `chat_template`, or write one with `chat_template_jinja`",
            Self::Tokenizer { .. } => "use the `tokenizer.json` that belongs to the model",
            Self::Vocabulary { .. } => "use the `tokenizer.json` that belongs to the model",
            Self::TooLong { .. } => "raise `sequence_len`, or set `excess_length_strategy` to `drop` or `truncate`",
            Self::NothingSupervised { .. } => "check the example's answer, `roles_to_train`, and `sequence_len` if examples are truncated",
            Self::DoubleBos { .. } => "the template adds it and the text holds it: remove one of the two",
            Self::NeverStops => "set `train_on_eos: turn`, or use a template that ends turns with a special token",
            Self::NothingLeft { .. } => "lower `val_set_size` or raise `sequence_len`",
        };
        Some(text.to_owned())
    }
}
