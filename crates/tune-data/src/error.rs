//! What can be wrong with training data.

use std::fmt;

/// Where in the data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The source's name; with the file's name where a source has several files.
    pub source: String,
    /// From 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source `{}`, line {}", self.source, self.line)
    }
}

/// What, where. [`DataError::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file.
    #[error(transparent)]
    Fs(#[from] tune_fs::FsError),
    /// A source that cannot be read to its end.
    #[error("{place}: cannot read")]
    Read {
        /// Where.
        place: Place,
        /// Why.
        source: std::io::Error,
    },
    /// A line that is no row.
    #[error("{place}: {problem}")]
    Row {
        /// Where.
        place: Place,
        /// What is wrong.
        problem: RowProblem,
    },
    /// A row without a column that its type needs.
    #[error("{place}: the row has no {expected} column `{column}`; it has {found}")]
    Column {
        /// Where.
        place: Place,
        /// What was looked for.
        column: String,
        /// What the column should hold.
        expected: &'static str,
        /// What there is.
        found: String,
    },
    /// A source without rows.
    #[error("source `{source_name}` holds no rows")]
    Empty {
        /// The source.
        source_name: String,
    },
    /// A conversation that cannot be rendered, or for which no mask would be right.
    #[error("{place}: {problem}")]
    Template {
        /// The first conversation with which it shows.
        place: Place,
        /// What is wrong.
        problem: TemplateProblem,
    },
    /// A tokenizer that cannot be used.
    #[error("the tokenizer cannot be used: {problem}")]
    Tokenizer {
        /// What is wrong.
        problem: TokenizerProblem,
    },
    /// Ids that the model has no embedding for.
    #[error(
        "{place}: the tokenizer does not fit the model: `{token}` has the id {id}, the model knows {vocabulary} tokens"
    )]
    Vocabulary {
        /// Where.
        place: Place,
        /// The id.
        id: u32,
        /// Its text.
        token: String,
        /// Entries of the model's embedding.
        vocabulary: usize,
    },
    /// An example that is too long.
    #[error("{place}: the example has {length} tokens, `sequence_len` is {limit}")]
    TooLong {
        /// Where.
        place: Place,
        /// Its tokens.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// An example that teaches nothing.
    #[error("{place}: no token of the example is supervised{}", cut(.truncated))]
    NothingSupervised {
        /// Where.
        place: Place,
        /// Whether it was cut off before.
        truncated: bool,
    },
    /// Two beginnings.
    #[error("{place}: the example begins with `{bos}` twice")]
    DoubleBos {
        /// Where.
        place: Place,
        /// The token.
        bos: String,
    },
    /// A model that would never stop.
    #[error(
        "source `{source_name}`: no end-of-turn token is supervised in any of its examples: the model would not learn to stop"
    )]
    NeverStops {
        /// The source.
        source_name: String,
    },
    /// Nothing left to train on.
    #[error("no examples are left to train on: {held_out} are held out, {dropped} were dropped")]
    NothingLeft {
        /// Held out.
        held_out: u64,
        /// Dropped.
        dropped: u64,
    },
    /// So many steps over so little data that nobody means it.
    #[error("`max_steps` comes to more than {0} epochs of this data")]
    TooManyEpochs(usize),
    /// More rows than there may be.
    #[error("the data give more than the {0} training rows that the claim has")]
    TooManyRows(u64),
    /// More examples than numbers of 32 bits can name.
    #[error("{0} examples are taken in an epoch: at most 2^32 - 1 can be")]
    TooManyExamples(u64),
    /// Examples of which none is taken.
    #[error("an epoch takes no example: every `weight` is too small for the number of examples")]
    NothingTaken,
}

fn cut(truncated: &bool) -> &'static str {
    if *truncated { " after it was cut at `sequence_len`" } else { "" }
}

fn names(unknown: &[String]) -> String {
    if unknown.is_empty() { String::new() } else { format!(": nothing is given for `{}`", unknown.join("`, `")) }
}

/// Why a line is no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// Longer than is read.
    #[error("the line is longer than {limit} bytes")]
    LineTooLong {
        /// The limit.
        limit: u64,
    },
    /// An editor's mark before the text.
    #[error("the file begins with a byte order mark")]
    ByteOrderMark,
    /// Another encoding.
    #[error("byte {byte} of the line is not UTF-8")]
    NotUtf8 {
        /// From 1.
        byte: usize,
    },
    /// Broken JSON.
    #[error("column {column}: {reason}")]
    Json {
        /// From 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// Something else than a row.
    #[error("the line is JSON, but {found}, not an object")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A message without a part.
    #[error("message {message} has no text `{field}`")]
    Message {
        /// From 1.
        message: usize,
        /// The part.
        field: String,
    },
    /// A message that says more than its text.
    #[error("message {message} has `{field}`, which is not supported")]
    MessagePart {
        /// From 1.
        message: usize,
        /// The part.
        field: &'static str,
    },
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// None to use.
    #[error("the tokenizer has no chat template")]
    Missing,
    /// Not Jinja.
    #[error("the chat template is not usable: {reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// The template raised an error.
    #[error("the chat template refuses the conversation: {reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// A name that nothing is given for, or a member that a message does not have.
    #[error("line {line} of the chat template uses what does not exist{}", names(.unknown))]
    Undefined {
        /// From 1.
        line: usize,
        /// Names in the template that nothing is given for.
        unknown: Vec<String>,
    },
    /// The result would depend on the hour.
    #[error("the chat template asks for the time, which would enter the result")]
    Clock,
    /// What follows changes what was.
    #[error("the chat template renders message {message} differently when more messages follow")]
    InContext {
        /// From 1.
        message: usize,
    },
    /// What training sees is not what generation gives.
    #[error("the chat template renders what stands before message {message} differently in training and in use")]
    InUse {
        /// From 1.
        message: usize,
    },
    /// No header to be found.
    #[error("the chat template does not render message {message} as a header followed by its content")]
    NoHeader {
        /// From 1.
        message: usize,
    },
}

/// Why a tokenizer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerProblem {
    /// A file that is not what it should be.
    #[error("`{file}`: {reason}")]
    File {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A random tokenizer.
    #[error("its merges drop out at random, so the same text would give different tokens each time")]
    Dropout,
    /// No end.
    #[error("no end-of-sequence token is named (`eos_token` in `tokenizer_config.json`)")]
    NoEos,
    /// A named token that is not in the vocabulary.
    #[error("it has no token `{token}`")]
    NoToken {
        /// Its text.
        token: String,
    },
    /// A text it refuses.
    #[error("{reason}")]
    Text {
        /// What it says.
        reason: String,
    },
}

impl From<TokenizerProblem> for DataError {
    fn from(problem: TokenizerProblem) -> Self {
        Self::Tokenizer { problem }
    }
}

impl DataError {
    /// Whether the machine is at fault, and not the data.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Fs(error) => error.is_outside(),
            Self::Read { .. } => true,
            _ => false,
        }
    }

    /// What to do next, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Fs(error) => return error.hint(),
            Self::Read { .. } => return None,
            Self::Row { problem, .. } => problem.hint(),
            Self::Column { .. } => "name the column with `field_…` in the recipe, or choose another `type`",
            Self::Empty { .. } => "the file should hold one JSON object a line",
            Self::Template { problem, .. } => problem.hint(),
            Self::Tokenizer { .. } | Self::Vocabulary { .. } => "use the `tokenizer.json` that belongs to the model",
            Self::TooLong { length, .. } => {
                return Some(format!(
                    "set `sequence_len` to at least {length}, or `excess_length_strategy` to `drop` or `truncate`"
                ));
            }
            Self::NothingSupervised { truncated: true, .. } => {
                "raise `sequence_len`, or set `excess_length_strategy` to `drop`"
            }
            Self::NothingSupervised { truncated: false, .. } => {
                "check the row's answer, and `roles_to_train` in the recipe"
            }
            Self::DoubleBos { .. } => "the text holds it, and tokenizer or template add it: remove it from the text",
            Self::NeverStops { .. } => {
                "set `train_on_eos: turn`, or use a `chat_template` that ends turns with a special token"
            }
            Self::NothingLeft { dropped: 0, .. } => "lower `val_set_size`",
            Self::NothingLeft { .. } => "lower `val_set_size` or raise `sequence_len`",
            Self::TooManyEpochs(_) => "lower `max_steps`",
            Self::TooManyRows(_) => return None,
            Self::TooManyExamples(_) => "lower `weight`, or train on a part of the data",
            Self::NothingTaken => "raise `weight`",
        };
        Some(text.to_owned())
    }
}

impl RowProblem {
    fn hint(&self) -> &'static str {
        match self {
            Self::ByteOrderMark => "save the file as UTF-8 without a byte order mark",
            Self::NotUtf8 { .. } => "save the file as UTF-8",
            Self::NotAnObject { .. } | Self::Json { .. } => {
                "a data set is JSON Lines: one object a line (`jq -c '.[]'` turns a list into lines)"
            }
            Self::LineTooLong { .. } => "a data set is JSON Lines: one object a line",
            Self::Message { .. } => "name the members with `field_role` and `field_content`; contents are plain text",
            Self::MessagePart { .. } => "leave conversations with tools out, or write the call into the message's text",
        }
    }
}

impl TemplateProblem {
    fn hint(&self) -> &'static str {
        match self {
            Self::Missing => "set `chat_template: chatml`, or write a template with `chat_template_jinja`",
            Self::InContext { .. } => {
                "a mask over such turns would be wrong: train on conversations with one answer, or choose another `chat_template`"
            }
            Self::Undefined { .. } => {
                "a template gets `messages` (of `role` and `content`), `add_generation_prompt`, `bos_token`, `eos_token`, `tools` and `documents`"
            }
            Self::Syntax { .. } | Self::Refused { .. } | Self::Clock | Self::InUse { .. } | Self::NoHeader { .. } => {
                "choose another `chat_template`, or write one with `chat_template_jinja`"
            }
        }
    }
}
