//! GGUF metadata: typed values under keys, and access that says which key is missing or of the wrong type.

use std::collections::BTreeMap;

use super::super::error::BaseError;

/// One metadata value. Integers and floats of all widths are kept in the widest, which loses nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// `UINT8` to `UINT64`.
    Unsigned(u64),
    /// `INT8` to `INT64`.
    Signed(i64),
    /// `FLOAT32` and `FLOAT64`.
    Float(f64),
    /// `BOOL`.
    Bool(bool),
    /// `STRING`.
    String(String),
    /// `ARRAY`.
    Array(GgufArray),
}

/// An array in the width it is stored in: a file must not take more memory than it has bytes.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the Rust type of GGUF's item type")]
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<GgufArray>),
}

/// The metadata of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufMetadata {
    /// The file's name in the model, for messages.
    file: String,
    values: BTreeMap<String, GgufValue>,
}

impl GgufMetadata {
    /// Metadata read from `file`.
    #[must_use]
    pub fn new(file: &str, values: BTreeMap<String, GgufValue>) -> Self {
        Self { file: file.to_owned(), values }
    }

    /// The file's name in the model.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &GgufValue)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.values.get(key)
    }

    /// The text under `key`, if the key is there.
    ///
    /// # Errors
    /// If it is not a string.
    pub fn text(&self, key: &str) -> Result<Option<&str>, BaseError> {
        self.typed(key, "a string", |value| match value {
            GgufValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The non-negative integer under `key`, of whatever width.
    ///
    /// # Errors
    /// If it is something else.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, BaseError> {
        self.typed(key, "a non-negative integer", |value| match *value {
            GgufValue::Unsigned(number) => Some(number),
            GgufValue::Signed(number) => u64::try_from(number).ok(),
            _ => None,
        })
    }

    /// The float under `key`, of either width.
    ///
    /// # Errors
    /// If it is something else.
    pub fn float(&self, key: &str) -> Result<Option<f64>, BaseError> {
        self.typed(key, "a float", |value| match *value {
            GgufValue::Float(number) => Some(number),
            _ => None,
        })
    }

    /// The boolean under `key`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, BaseError> {
        self.typed(key, "a boolean", |value| match *value {
            GgufValue::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// The strings under `key`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, BaseError> {
        self.typed(key, "an array of strings", |value| match value {
            GgufValue::Array(GgufArray::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// The 32-bit signed integers under `key`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn integers(&self, key: &str) -> Result<Option<&[i32]>, BaseError> {
        self.typed(key, "an array of 32-bit integers", |value| match value {
            GgufValue::Array(GgufArray::I32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// `found`, or the error that `key` is missing.
    pub(crate) fn required<T>(&self, key: &str, found: Option<T>) -> Result<T, BaseError> {
        found.ok_or_else(|| BaseError::MissingKey { file: self.file.clone(), key: key.to_owned() })
    }

    /// The error that `key` has a value that makes no sense.
    pub(crate) fn invalid(&self, key: &str, found: impl ToString, expected: &str) -> BaseError {
        BaseError::InvalidValue {
            file: self.file.clone(),
            key: key.to_owned(),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>, BaseError> {
        match self.values.get(key) {
            None => Ok(None),
            Some(value) => convert(value).map(Some).ok_or_else(|| self.invalid(key, value.kind(), expected)),
        }
    }
}

impl GgufValue {
    /// Whether this is the number zero or `false`.
    pub(crate) fn is_zero(&self) -> bool {
        match *self {
            Self::Unsigned(number) => number == 0,
            Self::Signed(number) => number == 0,
            Self::Float(number) => number == 0.0,
            Self::Bool(flag) => !flag,
            Self::String(_) | Self::Array(_) => false,
        }
    }

    /// What kind of value this is, for messages; a value itself may be a whole vocabulary.
    fn kind(&self) -> String {
        match self {
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(flag) => flag.to_string(),
            Self::String(_) => "a string".to_owned(),
            Self::Array(_) => "an array of another kind".to_owned(),
        }
    }
}
