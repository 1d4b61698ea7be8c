//! GGUF files, versions 2 and 3, little-endian: metadata, tensor infos and where each tensor lies.
//!
//! A file is a stranger's: every count, length, dimension and offset is checked against the file's length before it
//! is used, so that a lying header gives an error and never a panic or a large allocation. The layout:
//!
//! 1. `GGUF`, version (u32), number of tensors (u64), number of metadata entries (u64)
//! 2. for each entry a key (length as u64, UTF-8), a type (u32), a value
//! 3. for each tensor its name, the number of its dimensions (u32), its dimensions innermost first (u64 each), its
//!    type (u32) and its offset (u64) inside the data
//! 4. padding to `general.alignment` (32 if unset), then the data.

mod cursor;
mod names;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

pub(crate) use names::{Interleaved, gguf_name};
pub use value::{GgufArray, GgufMetadata, GgufValue};

use self::cursor::Cursor;
use self::names::hugging_face_name;
use super::config::ModelConfig;
use super::error::{BaseError, GgufProblem};
use super::file::ModelFile;
use super::store::{StoredTensor, TensorStore, usable_name};
use tune_kernels::encoding::Encoding;

/// The largest alignment accepted; files use 32.
const ALIGNMENT_LIMIT: u64 = 1 << 20;

/// A tensor info as stored, with its absolute place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Info {
    name: String,
    encoding: Encoding,
    /// Outermost dimension first.
    shape: Vec<u64>,
    offset: u64,
    bytes: u64,
}

/// A header as the rest of the crate wants it: metadata, configuration, tensors under Hugging Face names.
pub(super) type Parsed = (GgufMetadata, ModelConfig, Vec<(String, StoredTensor)>);

/// Opens a GGUF file: its metadata, configuration and tensors under Hugging Face names.
pub(crate) fn open(name: &str, path: &Path) -> Result<(GgufMetadata, ModelConfig, TensorStore), BaseError> {
    let file = ModelFile::open(name, path)?;
    let length = file.length();
    let (metadata, config, tensors) = file.with_reader(|reader| parse(name, reader, length))?;
    let mut store = TensorStore { files: vec![file], tensors: BTreeMap::new() };
    for (name, tensor) in tensors {
        store.insert(name, tensor)?;
    }
    Ok((metadata, config, store))
}

/// Reads and checks the header of a file of `length` bytes.
pub(super) fn parse(name: &str, reader: &mut dyn Read, length: u64) -> Result<Parsed, BaseError> {
    let (metadata, infos) = read_header(Cursor::new(name, reader, length))?;
    if metadata.unsigned("split.count")?.unwrap_or(1) > 1 {
        return Err(BaseError::UnsupportedSetting {
            file: name.to_owned(),
            key: "split.count".to_owned(),
            found: "a part of several".to_owned(),
            supported: "a model in one GGUF file",
        });
    }
    let has = |name: &str| infos.iter().any(|info| info.name == name);
    let presence = TensorPresence {
        output: has("output.weight"),
        attention_bias: has("blk.0.attn_q.bias"),
        mlp_bias: has("blk.0.ffn_gate.bias"),
    };
    let config = ModelConfig::from_gguf(&metadata, &presence)?;
    let tensors: Result<Vec<_>, BaseError> = infos.into_iter().map(|info| stored(name, info, &config)).collect();
    Ok((metadata, config, tensors?))
}

/// What a GGUF file says about the model by the tensors it has, not by its metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TensorPresence {
    /// Whether there is an output head; without one the embedding is used.
    pub output: bool,
    /// Whether attention projections have biases.
    pub attention_bias: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
}

/// A tensor under its Hugging Face name.
fn stored(file: &str, info: Info, config: &ModelConfig) -> Result<(String, StoredTensor), BaseError> {
    let Some((name, interleaved)) = hugging_face_name(&info.name) else {
        return Err(BaseError::UnknownTensor { file: file.to_owned(), tensor: info.name });
    };
    let shape: Option<Vec<usize>> = info.shape.iter().map(|&size| usize::try_from(size).ok()).collect();
    let heads = match interleaved {
        Interleaved::No => None,
        Interleaved::Query => Some(config.num_heads),
        Interleaved::Key => Some(config.num_kv_heads),
    };
    // Rows must be whole pairs of every head, or putting them back would be undefined.
    let divisible = |rows: usize| heads.is_none_or(|heads| rows.is_multiple_of(2 * heads));
    let Some(shape) = shape.filter(|shape| shape.first().is_some_and(|&rows| divisible(rows))) else {
        return Err(BaseError::TensorSize {
            file: file.to_owned(),
            tensor: info.name,
            dtype: info.encoding.name().to_owned(),
            shape: info.shape,
            offset: info.offset,
            found: info.bytes,
        });
    };
    let tensor = StoredTensor {
        file: 0,
        dtype: info.encoding.name().to_owned(),
        encoding: Some(info.encoding),
        shape,
        offset: info.offset,
        bytes: info.bytes,
        interleaved_heads: heads,
    };
    Ok((name, tensor))
}

/// Reads everything before the data.
fn read_header(mut cursor: Cursor<'_>) -> Result<(GgufMetadata, Vec<Info>), BaseError> {
    if cursor.length() < 4 || &cursor.bytes()? != b"GGUF" {
        return Err(BaseError::NotGguf { file: cursor.file().to_owned() });
    }
    let version = cursor.u32()?;
    if !matches!(version, 2 | 3) {
        // A big-endian file's small version number has its bits at the top.
        let big_endian = version.trailing_zeros() >= 16 && version != 0;
        let version = if big_endian { version.swap_bytes() } else { version };
        return Err(BaseError::GgufVersion { file: cursor.file().to_owned(), version, big_endian });
    }
    // Name length, dimension count, one dimension, type, offset; key length, type, one byte.
    let tensor_count = cursor.count(8 + 4 + 8 + 4 + 8)?;
    let entry_count = cursor.count(8 + 4 + 1)?;

    let mut values = BTreeMap::new();
    for _ in 0..entry_count {
        let offset = cursor.position();
        let key = cursor.string()?;
        let value = cursor.value()?;
        if values.contains_key(&key) {
            return Err(cursor.problem(offset, GgufProblem::DuplicateKey(key)));
        }
        values.insert(key, value);
    }
    let metadata = GgufMetadata::new(cursor.file(), values);
    let alignment = alignment(&metadata)?;

    let mut raw = Vec::with_capacity(tensor_count);
    for _ in 0..tensor_count {
        raw.push(read_info(&mut cursor)?);
    }
    let data = cursor.position().next_multiple_of(alignment);
    let infos = place(&cursor, raw, data, alignment)?;
    Ok((metadata, infos))
}

fn alignment(metadata: &GgufMetadata) -> Result<u64, BaseError> {
    let key = "general.alignment";
    let alignment = metadata.unsigned(key)?.unwrap_or(32);
    if alignment.is_power_of_two() && alignment <= ALIGNMENT_LIMIT {
        Ok(alignment)
    } else {
        Err(metadata.invalid(key, alignment, "a power of two, at most 1048576"))
    }
}

/// One tensor info with its offset inside the data and the position where it stood.
fn read_info(cursor: &mut Cursor<'_>) -> Result<(Info, u64), BaseError> {
    let at = cursor.position();
    let name = cursor.string()?;
    if !usable_name(&name) {
        return Err(BaseError::TensorName { file: cursor.file().to_owned(), tensor: name });
    }
    let dimensions = cursor.u32()?;
    if !(1..=4).contains(&dimensions) {
        return Err(cursor.problem(at, GgufProblem::Dimensions { tensor: name, dimensions }));
    }
    let mut shape = Vec::with_capacity(4);
    for _ in 0..dimensions {
        shape.push(cursor.u64()?);
    }
    let row = shape[0];
    shape.reverse();
    let id = cursor.u32()?;
    let offset = cursor.u64()?;
    let encoding = tensor_type(id)
        .map_err(|known| cursor.problem(at, GgufProblem::TensorType { tensor: name.clone(), id, name: known }))?;
    let values = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size)).filter(|&v| v > 0);
    let bytes = values.filter(|_| row.is_multiple_of(encoding.block_values() as u64));
    let Some(bytes) = bytes.and_then(|values| encoding.stored_bytes(values)) else {
        return Err(cursor.problem(at, GgufProblem::Shape { tensor: name, dtype: encoding.name(), shape }));
    };
    Ok((Info { name, encoding, shape, offset, bytes }, at))
}

/// Makes offsets absolute and checks alignment, bounds, overlaps and names.
fn place(cursor: &Cursor<'_>, raw: Vec<(Info, u64)>, data: u64, alignment: u64) -> Result<Vec<Info>, BaseError> {
    let file = cursor.file();
    let mut infos = Vec::with_capacity(raw.len());
    for (mut info, at) in raw {
        if !info.offset.is_multiple_of(alignment) {
            let problem = GgufProblem::Misaligned { tensor: info.name, offset: info.offset, alignment };
            return Err(cursor.problem(at, problem));
        }
        let end = data.checked_add(info.offset).and_then(|begin| begin.checked_add(info.bytes));
        match end {
            Some(end) if end <= cursor.length() => info.offset += data,
            _ => {
                return Err(BaseError::TensorBeyondFile {
                    file: file.to_owned(),
                    tensor: info.name,
                    end: end.unwrap_or(u64::MAX),
                    length: cursor.length(),
                });
            }
        }
        infos.push(info);
    }
    infos.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    for pair in infos.windows(2) {
        let [first, second] = pair else { continue };
        if first.offset + first.bytes > second.offset {
            return Err(BaseError::Overlap {
                file: file.to_owned(),
                first: first.name.clone(),
                second: second.name.clone(),
                offset: second.offset,
            });
        }
    }
    // Two names for one Hugging Face name cannot be, but one name twice can.
    let mut names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(BaseError::DuplicateTensor { file: file.to_owned(), tensor: pair[0].to_owned() }),
        None => Ok(infos),
    }
}

/// ggml's tensor types by number; for one that is not read, its name.
fn tensor_type(id: u32) -> Result<Encoding, &'static str> {
    Ok(match id {
        0 => Encoding::F32,
        1 => Encoding::F16,
        2 => Encoding::Q4_0,
        3 => Encoding::Q4_1,
        6 => Encoding::Q5_0,
        7 => Encoding::Q5_1,
        8 => Encoding::Q8_0,
        12 => Encoding::Q4K,
        13 => Encoding::Q5K,
        14 => Encoding::Q6K,
        30 => Encoding::Bf16,
        9 => return Err("Q8_1"),
        10 => return Err("Q2_K"),
        11 => return Err("Q3_K"),
        15 => return Err("Q8_K"),
        16 => return Err("IQ2_XXS"),
        17 => return Err("IQ2_XS"),
        18 => return Err("IQ3_XXS"),
        19 => return Err("IQ1_S"),
        20 => return Err("IQ4_NL"),
        21 => return Err("IQ3_S"),
        22 => return Err("IQ2_S"),
        23 => return Err("IQ4_XS"),
        24 => return Err("I8"),
        25 => return Err("I16"),
        26 => return Err("I32"),
        27 => return Err("I64"),
        28 => return Err("F64"),
        29 => return Err("IQ1_M"),
        34 => return Err("TQ1_0"),
        35 => return Err("TQ2_0"),
        39 => return Err("MXFP4"),
        _ => return Err("unknown"),
    })
}
