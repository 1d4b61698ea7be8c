//! A GGUF v3 writer whose bytes depend on what is written and on nothing else.
//!
//! The layout is that of [`crate::base::gguf`], which reads it back: little-endian, data aligned to 32 bytes, dimensions
//! innermost first, no key that is not asked for. Metadata stand in the order in which they were put, tensors and their
//! data in the order of their names' bytes. (llama.cpp's own tools write tensors in the order of the model's layers;
//! readers find them by name.) There is no time, no path and no version of this program in the file.
//!
//! Source: ggml's `docs/gguf.md`, and `gguf.cpp` for the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use tune_kernels::encoding::Encoding;

use super::ExportError;
use crate::base::gguf::{GgufArray, GgufValue};

/// Every tensor's data begin at a multiple of this, which is what readers assume where no key says otherwise.
const ALIGNMENT: usize = 32;
/// ggml keeps names in 64 bytes, the last of which is 0 (`GGML_MAX_NAME`); longer ones are refused when read.
const NAME_LIMIT: usize = 63;

/// A metadata value with the width in which it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `UINT32`
    U32(u32),
    /// `UINT64`
    U64(u64),
    /// `INT32`
    I32(i32),
    /// `INT64`
    I64(i64),
    /// `FLOAT32`
    F32(f32),
    /// `FLOAT64`
    F64(f64),
    /// `BOOL`
    Bool(bool),
    /// `STRING`
    Text(String),
    /// `ARRAY`
    Array(GgufArray),
}

impl Value {
    /// An array of texts.
    #[must_use]
    pub fn texts(texts: Vec<String>) -> Self {
        Self::Array(GgufArray::String(texts))
    }

    /// A value that was read. The reader keeps numbers in the widest type; they are written in the 32-bit type where
    /// that loses nothing, which is the type that llama.cpp expects of every key of a model that is one number.
    #[must_use]
    pub fn from_read(value: &GgufValue) -> Self {
        match value {
            GgufValue::Unsigned(number) => u32::try_from(*number).map_or(Self::U64(*number), Self::U32),
            GgufValue::Signed(number) => i32::try_from(*number).map_or(Self::I64(*number), Self::I32),
            #[expect(clippy::cast_possible_truncation, reason = "taken only where nothing is lost")]
            GgufValue::Float(number) => match *number as f32 {
                narrow if f64::from(narrow).to_bits() == number.to_bits() => Self::F32(narrow),
                _ => Self::F64(*number),
            },
            GgufValue::Bool(flag) => Self::Bool(*flag),
            GgufValue::String(text) => Self::Text(text.clone()),
            GgufValue::Array(array) => Self::Array(array.clone()),
        }
    }

    /// GGUF's number of the value's type, and the value's bytes.
    fn encode(&self, bytes: &mut Vec<u8>) {
        let mut typed = |kind: u32, value: &[u8]| {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        };
        match self {
            Self::U32(number) => typed(4, &number.to_le_bytes()),
            Self::I32(number) => typed(5, &number.to_le_bytes()),
            Self::F32(number) => typed(6, &number.to_le_bytes()),
            Self::Bool(flag) => typed(7, &[u8::from(*flag)]),
            Self::Text(text) => {
                typed(8, &[]);
                put_text(bytes, text);
            }
            Self::Array(array) => {
                typed(9, &[]);
                put_array(bytes, array);
            }
            Self::U64(number) => typed(10, &number.to_le_bytes()),
            Self::I64(number) => typed(11, &number.to_le_bytes()),
            Self::F64(number) => typed(12, &number.to_le_bytes()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// The items' type, their number, the items.
fn put_array(bytes: &mut Vec<u8>, array: &GgufArray) {
    let mut items = |kind: u32, count: usize, items: Vec<u8>| {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((count as u64).to_le_bytes());
        bytes.extend(items);
    };
    match array {
        GgufArray::U8(list) => items(0, list.len(), list.clone()),
        GgufArray::I8(list) => items(1, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::U16(list) => items(2, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::I16(list) => items(3, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::U32(list) => items(4, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::I32(list) => items(5, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::F32(list) => items(6, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::Bool(list) => items(7, list.len(), list.iter().map(|item| u8::from(*item)).collect()),
        GgufArray::U64(list) => items(10, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::I64(list) => items(11, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::F64(list) => items(12, list.len(), list.iter().flat_map(|item| item.to_le_bytes()).collect()),
        GgufArray::String(list) => {
            let mut texts = Vec::new();
            list.iter().for_each(|text| put_text(&mut texts, text));
            items(8, list.len(), texts);
        }
        GgufArray::Array(list) => {
            let mut arrays = Vec::new();
            list.iter().for_each(|array| put_array(&mut arrays, array));
            items(9, list.len(), arrays);
        }
    }
}

/// ggml's number of a tensor type (`enum ggml_type`).
fn type_number(encoding: Encoding) -> u32 {
    match encoding {
        Encoding::F32 => 0,
        Encoding::F16 => 1,
        Encoding::Q4_0 => 2,
        Encoding::Q4_1 => 3,
        Encoding::Q5_0 => 6,
        Encoding::Q5_1 => 7,
        Encoding::Q8_0 => 8,
        Encoding::Q4K => 12,
        Encoding::Q5K => 13,
        Encoding::Q6K => 14,
        Encoding::Bf16 => 30,
    }
}

/// What a file says about a tensor, and how many bytes it has.
#[derive(Debug)]
struct Info {
    /// Outermost first.
    shape: Vec<usize>,
    encoding: Encoding,
    bytes: usize,
}

/// A file to be written: its metadata and the shapes of its tensors. The tensors' data are asked for one at a time, so
/// that a whole model need not be in memory.
#[derive(Debug, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    keys: BTreeSet<String>,
    tensors: BTreeMap<String, Info>,
}

impl GgufWriter {
    /// A file with neither metadata nor tensors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata entry behind those that are there.
    ///
    /// # Errors
    /// If the key is there.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) -> Result<(), ExportError> {
        if !self.keys.insert(key.to_owned()) {
            return Err(ExportError::DuplicateKey { key: key.to_owned() });
        }
        self.metadata.push((key.to_owned(), value.into()));
        Ok(())
    }

    /// Announces a tensor of `shape`, outermost dimension first, whose data will be given as bytes of type `encoding`.
    ///
    /// # Errors
    /// If the name is there, or name or shape cannot be in a GGUF file.
    pub fn tensor(&mut self, name: &str, shape: &[usize], encoding: Encoding) -> Result<(), ExportError> {
        let refuse = |problem| Err(ExportError::Unwritable { tensor: name.to_owned(), problem });
        if name.is_empty() || name.len() > NAME_LIMIT || name.chars().any(char::is_control) {
            return refuse("its name is empty, longer than 63 bytes or has control characters");
        }
        let Some(&row) = shape.last() else { return refuse("it has no dimensions") };
        if shape.len() > 4 {
            return refuse("it has more than four dimensions");
        }
        let values = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size as u64));
        let whole = row.is_multiple_of(encoding.block_values());
        let bytes = values.filter(|&values| values > 0 && whole).and_then(|values| encoding.stored_bytes(values));
        let Some(bytes) = bytes.and_then(|bytes| usize::try_from(bytes).ok()) else {
            return refuse("its shape is empty, too large, or no whole blocks of its type");
        };
        let info = Info { shape: shape.to_vec(), encoding, bytes };
        match self.tensors.insert(name.to_owned(), info) {
            None => Ok(()),
            Some(_) => refuse("it is there twice"),
        }
    }

    /// Everything before the data, padding included.
    fn header(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut bytes, key);
            value.encode(&mut bytes);
        }
        let mut offset = 0_u64;
        for (name, info) in &self.tensors {
            put_text(&mut bytes, name);
            bytes.extend((info.shape.len() as u32).to_le_bytes());
            info.shape.iter().rev().for_each(|&size| bytes.extend((size as u64).to_le_bytes()));
            bytes.extend(type_number(info.encoding).to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += info.bytes.next_multiple_of(ALIGNMENT) as u64;
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        bytes
    }

    /// Writes the file, asking `data` for the bytes of each tensor in the order of their names.
    ///
    /// # Errors
    /// Those of `data`; data that are not as many bytes as the tensor's shape needs; what `out` cannot take.
    pub fn write(
        &self,
        out: &mut dyn Write,
        mut data: impl FnMut(&str) -> Result<Vec<u8>, ExportError>,
    ) -> Result<(), ExportError> {
        out.write_all(&self.header())?;
        for (name, info) in &self.tensors {
            let bytes = data(name)?;
            if bytes.len() != info.bytes {
                return Err(ExportError::Unwritable { tensor: name.clone(), problem: "its data have another length" });
            }
            out.write_all(&bytes)?;
            out.write_all(&[0; ALIGNMENT][..info.bytes.next_multiple_of(ALIGNMENT) - info.bytes])?;
        }
        out.flush()?;
        Ok(())
    }
}

/// Values as the bytes of an `F32` tensor.
#[must_use]
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
