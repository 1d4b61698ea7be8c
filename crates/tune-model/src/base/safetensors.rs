//! Hugging Face weights: one `model.safetensors`, or shards listed by `model.safetensors.index.json`.
//!
//! Only the header is read here. The `safetensors` crate's own entry points want the whole file in memory or mapped;
//! its types for the header's entries are used, so that the format stays theirs. Checked, as the format demands: the
//! header fits the file, no name twice, shape and type give exactly the announced bytes, and the tensors cover the
//! data without overlap, gap or remainder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use tune_schema::Digest;

use super::error::BaseError;
use super::file::ModelFile;
use super::root::TensorEntry;
use super::store::{StoredTensor, TensorStore, usable_name};
use tune_kernels::encoding::Encoding;

/// The whole model in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The list of shards.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The longest header accepted, the `safetensors` crate's own limit. A header has some hundred bytes a tensor.
const HEADER_LIMIT: u64 = 100_000_000;
/// The longest index accepted.
const INDEX_LIMIT: u64 = 100_000_000;

/// Opens the safetensors files among `files`; a store without files if there are none. A single file wins over an
/// index, as in transformers.
pub(crate) fn open(files: &BTreeMap<String, PathBuf>) -> Result<TensorStore, BaseError> {
    let mut store = TensorStore::default();
    if let Some(path) = files.get(SINGLE) {
        add_file(&mut store, ModelFile::open(SINGLE, path)?)?;
    } else if let Some(path) = files.get(INDEX) {
        let index = Index::parse(&ModelFile::read_whole(INDEX, path, INDEX_LIMIT)?)?;
        for shard in index.shards() {
            let path = files.get(shard).ok_or_else(|| BaseError::MissingFile { file: shard.to_owned() })?;
            add_file(&mut store, ModelFile::open(shard, path)?)?;
        }
        index.check(&store)?;
    }
    Ok(store)
}

/// One safetensors file by itself, under whatever names its tensors have: an adapter, a checkpoint.
#[derive(Debug)]
pub struct SafetensorsFile {
    store: TensorStore,
}

impl SafetensorsFile {
    /// Opens `path` and checks its header; messages call it `name`.
    ///
    /// # Errors
    /// If it cannot be read or breaks the format.
    pub fn open(name: &str, path: &Path) -> Result<Self, BaseError> {
        let mut store = TensorStore::default();
        add_file(&mut store, ModelFile::open(name, path)?)?;
        Ok(Self { store })
    }

    /// The tensors' names, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.store.tensors.keys().map(String::as_str)
    }

    /// The shape of tensor `name`, outermost dimension first, if it is stored.
    #[must_use]
    pub fn tensor_shape(&self, name: &str) -> Option<&[usize]> {
        self.store.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// Reads tensor `name` as f32, row-major.
    ///
    /// # Errors
    /// If it is not stored, has another shape than `expected`, a type other than F32, BF16 and F16 or a value that is
    /// not finite, or cannot be read.
    pub fn load_tensor(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, BaseError> {
        self.store.load(name, expected)
    }

    /// The tensor root of the file, as [`super::root`] defines it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tensor_root(&self) -> Result<Digest, BaseError> {
        self.store.root()
    }

    /// What that root takes from each tensor, by name. Reads the file once, in chunks, whatever its size.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tensor_entries(&self) -> Result<Vec<TensorEntry>, BaseError> {
        self.store.entries()
    }
}

/// The shards' part of `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: Entries<String>,
}

impl Index {
    fn parse(bytes: &[u8]) -> Result<Self, BaseError> {
        serde_json::from_slice(bytes).map_err(|source| BaseError::Json { file: INDEX.to_owned(), source })
    }

    /// The distinct file names, sorted.
    fn shards(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> = self.weight_map.0.values().map(String::as_str).collect();
        names.into_iter()
    }

    /// Index and shards must name the same tensors in the same files: otherwise which weights are the model's would
    /// depend on the reader.
    fn check(&self, store: &TensorStore) -> Result<(), BaseError> {
        let mismatch = |tensor: &str, file: &str| BaseError::IndexMismatch {
            index: INDEX.to_owned(),
            file: file.to_owned(),
            tensor: tensor.to_owned(),
        };
        for (name, shard) in &self.weight_map.0 {
            if store.tensors.get(name).is_none_or(|tensor| store.files[tensor.file].name() != shard) {
                return Err(mismatch(name, shard));
            }
        }
        match store.tensors.iter().find(|(name, _)| !self.weight_map.0.contains_key(*name)) {
            Some((name, tensor)) => Err(mismatch(name, store.files[tensor.file].name())),
            None => Ok(()),
        }
    }
}

/// Reads the header of `file` and adds its tensors.
fn add_file(store: &mut TensorStore, file: ModelFile) -> Result<(), BaseError> {
    let length_bytes = file.read(0, 8)?;
    let header_length = length_bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    if header_length > HEADER_LIMIT {
        return Err(BaseError::TooLarge {
            file: file.name().to_owned(),
            what: "the header's length",
            found: header_length,
            limit: HEADER_LIMIT,
        });
    }
    let header = file.read(8, header_length)?;
    let Entries(entries) =
        serde_json::from_slice(&header).map_err(|source| BaseError::Json { file: file.name().to_owned(), source })?;
    let tensors = check_entries(file.name(), entries, 8 + header_length, file.length())?;
    let number = store.files.len();
    store.files.push(file);
    for (name, tensor) in tensors {
        store.insert(name, StoredTensor { file: number, ..tensor })?;
    }
    Ok(())
}

/// Turns header entries into tensors with absolute offsets, in file order.
fn check_entries(
    file: &str,
    entries: BTreeMap<String, TensorInfo>,
    data: u64,
    length: u64,
) -> Result<Vec<(String, StoredTensor)>, BaseError> {
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, info) in entries {
        if !usable_name(&name) {
            return Err(BaseError::TensorName { file: file.to_owned(), tensor: name });
        }
        tensors.push(check_entry(file, name, &info, data, length)?);
    }
    tensors.sort_by(|(a, left), (b, right)| {
        (left.offset, left.offset + left.bytes, a).cmp(&(right.offset, right.offset + right.bytes, b))
    });
    let mut covered = data;
    let mut previous = "";
    for (name, tensor) in &tensors {
        if tensor.offset < covered {
            return Err(BaseError::Overlap {
                file: file.to_owned(),
                first: previous.to_owned(),
                second: name.clone(),
                offset: tensor.offset,
            });
        }
        if tensor.offset > covered {
            return Err(BaseError::Gap { file: file.to_owned(), offset: covered, end: tensor.offset });
        }
        covered = tensor.offset + tensor.bytes;
        previous = name;
    }
    if covered < length {
        return Err(BaseError::Gap { file: file.to_owned(), offset: covered, end: length });
    }
    Ok(tensors)
}

fn check_entry(
    file: &str,
    name: String,
    info: &TensorInfo,
    data: u64,
    length: u64,
) -> Result<(String, StoredTensor), BaseError> {
    let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
    let shape: Vec<u64> = info.shape.iter().map(|&size| size as u64).collect();
    let needed = shape
        .iter()
        .try_fold(1_u64, |product, &size| product.checked_mul(size))
        .and_then(|values| values.checked_mul(info.dtype.bitsize() as u64))
        .filter(|bits| bits.is_multiple_of(8))
        .map(|bits| bits / 8);
    let bytes = end.checked_sub(begin);
    let (Some(bytes), true) = (bytes, bytes == needed) else {
        return Err(BaseError::TensorSize {
            file: file.to_owned(),
            tensor: name,
            dtype: info.dtype.to_string(),
            shape,
            offset: data.saturating_add(begin),
            found: bytes.unwrap_or(0),
        });
    };
    if data.checked_add(end).is_none_or(|end| end > length) {
        return Err(BaseError::TensorBeyondFile {
            file: file.to_owned(),
            tensor: name,
            end: data.saturating_add(end),
            length,
        });
    }
    let encoding = match info.dtype {
        Dtype::F32 => Some(Encoding::F32),
        Dtype::F16 => Some(Encoding::F16),
        Dtype::BF16 => Some(Encoding::Bf16),
        // Refused when loaded, not here: a file may hold a buffer of integers that no decoder asks for.
        _ => None,
    };
    let tensor = StoredTensor {
        file: 0,
        dtype: info.dtype.to_string(),
        encoding,
        shape: info.shape.clone(),
        offset: data + begin,
        bytes,
        interleaved_heads: None,
    };
    Ok((name, tensor))
}

/// A map from tensor names, as a header and an index have it. A name that appears twice is an error, not the last
/// one's victory as with a plain map; `__metadata__`, which is no tensor, is checked and left out.
struct Entries<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
    type Value = Entries<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
        let mut entries = BTreeMap::new();
        let mut metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == "__metadata__" { metadata } else { entries.contains_key(&name) };
            if twice {
                return Err(serde::de::Error::custom(format_args!("`{name}` appears twice")));
            }
            if name == "__metadata__" {
                metadata = true;
                map.next_value::<Option<BTreeMap<String, String>>>()?;
            } else {
                let value = map.next_value()?;
                entries.insert(name, value);
            }
        }
        Ok(Entries(entries))
    }
}
