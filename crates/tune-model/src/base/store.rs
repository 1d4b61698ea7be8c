//! The tensors of a base model, whatever the format of its files: where each lies and how it becomes f32.

use std::collections::BTreeMap;

use tune_schema::{Digest, Hasher};

use super::error::BaseError;
use super::file::ModelFile;
use super::root::{TensorEntry, root_of_entries};
use tune_kernels::encoding::Encoding;
use tune_kernels::stored::StoredMatrix;

/// Which weights stay in memory as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None: all become f32. Needed where weights are trained.
    Values,
    /// Matrices of 16-bit numbers: half the memory, at little cost.
    SixteenBit,
    /// Matrices of every type, quantised ones too: least memory, at some cost in every product.
    Stored,
    /// None as they are stored: all matrices are rounded to bf16 on the device, as `pinned-bf16/1` asks.
    Rounded,
}

impl Keep {
    /// Whether a matrix of this type stays as it is stored.
    fn keeps(self, encoding: Encoding) -> bool {
        match self {
            Self::Values => false,
            Self::SixteenBit => matches!(encoding, Encoding::F16 | Encoding::Bf16),
            Self::Stored => encoding != Encoding::F32,
            Self::Rounded => true,
        }
    }
}

/// A tensor that was read.
#[derive(Debug, Clone)]
pub enum LoadedMatrix {
    /// Its values.
    Values(Vec<f32>),
    /// A matrix as it is stored.
    Stored(StoredMatrix),
}

impl LoadedMatrix {
    /// The values, row-major.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        match self {
            Self::Values(values) => values,
            Self::Stored(matrix) => {
                let ([rows, columns], mut values) = (matrix.shape(), Vec::new());
                (0..rows).for_each(|row| matrix.decode(row, &(0..columns), &mut values));
                values
            }
        }
    }
}

/// One tensor in one of a store's files. The reader that made it has checked that its bytes lie inside the file and
/// that their number is what type and shape need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredTensor {
    /// Index into the store's files.
    pub(crate) file: usize,
    /// The type's name as stored.
    pub(crate) dtype: String,
    /// How the bytes become f32, if we know.
    pub(crate) encoding: Option<Encoding>,
    /// Outermost dimension first.
    pub(crate) shape: Vec<usize>,
    /// Where the bytes begin in the file.
    pub(crate) offset: u64,
    /// How many bytes they are.
    pub(crate) bytes: u64,
    /// For the query and key projections of a GGUF file: the number of heads over which rows are interleaved.
    pub(crate) interleaved_heads: Option<usize>,
}

/// Open files and the tensors in them, by Hugging Face name.
#[derive(Debug, Default)]
pub(crate) struct TensorStore {
    pub(crate) files: Vec<ModelFile>,
    pub(crate) tensors: BTreeMap<String, StoredTensor>,
}

impl TensorStore {
    /// Adds a tensor; a name that is already there is an error.
    pub(crate) fn insert(&mut self, name: String, tensor: StoredTensor) -> Result<(), BaseError> {
        if self.tensors.contains_key(&name) {
            return Err(BaseError::DuplicateTensor { file: self.files[tensor.file].name().to_owned(), tensor: name });
        }
        self.tensors.insert(name, tensor);
        Ok(())
    }

    /// The values of tensor `name`, whose shape must be `expected`. Memory: the result and one chunk of the file (for
    /// interleaved rows, the result twice).
    pub(crate) fn load(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, BaseError> {
        let (file, tensor, encoding) = self.find(name, expected)?;
        // The shape was checked against the bytes in the file, so this is what the file justifies.
        let mut values = Vec::with_capacity(tensor.shape.iter().product());
        file.for_chunks(tensor.offset, tensor.bytes, encoding.block_bytes() as u64, |chunk| {
            encoding.decode(chunk, &mut values);
        })?;
        if let Some(heads) = tensor.interleaved_heads {
            values = split_halves(&values, tensor.shape[0], heads);
        }
        check_finite(file, name, &values, 0)?;
        Ok(values)
    }

    /// Tensor `name` as it is stored, where `keep` says so and it is a matrix of whole blocks a row; otherwise its values.
    pub(crate) fn load_matrix(&self, name: &str, expected: &[usize], keep: Keep) -> Result<LoadedMatrix, BaseError> {
        let (file, tensor, encoding) = self.find(name, expected)?;
        if !keep.keeps(encoding) || tensor.shape.len() != 2 {
            return self.load(name, expected).map(LoadedMatrix::Values);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(tensor.bytes).unwrap_or_default());
        let (mut values, mut first, mut problem) = (Vec::new(), 0, Ok(()));
        file.for_chunks(tensor.offset, tensor.bytes, encoding.block_bytes() as u64, |chunk| {
            bytes.extend_from_slice(chunk);
            values.clear();
            encoding.decode(chunk, &mut values);
            if problem.is_ok() {
                problem = check_finite(file, name, &values, first);
            }
            first += values.len();
        })?;
        problem?;
        if let Some(heads) = tensor.interleaved_heads {
            bytes = split_halves(&bytes, tensor.shape[0], heads);
        }
        match StoredMatrix::new(encoding, [tensor.shape[0], tensor.shape[1]], bytes) {
            Some(matrix) => Ok(LoadedMatrix::Stored(matrix)),
            None => self.load(name, expected).map(LoadedMatrix::Values),
        }
    }

    /// Bytes that the tensors with these names take in memory.
    pub(crate) fn bytes_in_memory(&self, keep: Keep, wanted: impl Fn(&str) -> bool) -> u64 {
        let bytes = |tensor: &StoredTensor| {
            let values = 4 * tensor.shape.iter().map(|n| *n as u64).product::<u64>();
            let stored = tensor.shape.len() == 2 && tensor.encoding.is_some_and(|encoding| keep.keeps(encoding));
            match keep {
                Keep::Rounded if tensor.shape.len() == 2 => values / 2,
                _ if stored => tensor.bytes,
                _ => values,
            }
        };
        self.tensors.iter().filter(|(name, _)| wanted(name)).map(|(_, tensor)| bytes(tensor)).sum()
    }

    /// The tensor with its file and encoding.
    fn find(&self, name: &str, expected: &[usize]) -> Result<(&ModelFile, &StoredTensor, Encoding), BaseError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(if self.files.is_empty() {
                BaseError::NoWeights
            } else {
                BaseError::MissingTensor { tensor: name.to_owned() }
            });
        };
        let file = &self.files[tensor.file];
        if tensor.shape != expected {
            return Err(BaseError::WrongShape {
                file: file.name().to_owned(),
                tensor: name.to_owned(),
                expected: expected.to_vec(),
                found: tensor.shape.clone(),
            });
        }
        let Some(encoding) = tensor.encoding else {
            return Err(BaseError::UnsupportedDtype {
                file: file.name().to_owned(),
                tensor: name.to_owned(),
                dtype: tensor.dtype.clone(),
            });
        };
        Ok((file, tensor, encoding))
    }

    /// The tensor root (see [`super::root`]) of everything stored.
    pub(crate) fn root(&self) -> Result<Digest, BaseError> {
        self.entries().map(root_of_entries)
    }

    /// What the tensor root takes from each tensor, by name. Reads all weights once, in chunks.
    pub(crate) fn entries(&self) -> Result<Vec<TensorEntry>, BaseError> {
        self.tensors
            .iter()
            .map(|(name, tensor)| {
                let mut hasher = Hasher::new();
                self.files[tensor.file].for_chunks(tensor.offset, tensor.bytes, 1, |chunk| hasher.update(chunk))?;
                Ok(TensorEntry {
                    name: name.clone(),
                    dtype: tensor.dtype.clone(),
                    shape: tensor.shape.clone(),
                    digest: hasher.finish(),
                })
            })
            .collect()
    }
}

/// Undoes the row permutation of llama.cpp's converter (`LlamaModel.permute` in `convert_hf_to_gguf.py`).
///
/// Hugging Face rotates component `i` of a head with component `i + D/2`, ggml's `llama` with its neighbour; so the
/// converter stores row `h·D + t·D/2 + i` (`t` the half, 0 or 1) at `h·D + 2·i + t`. This puts it back.
fn split_halves<T: Copy>(values: &[T], rows: usize, heads: usize) -> Vec<T> {
    let width = values.len() / rows;
    let head_dim = rows / heads;
    let mut result = Vec::with_capacity(values.len());
    for head in 0..heads {
        for half in 0..2 {
            for i in 0..head_dim / 2 {
                let row = head * head_dim + 2 * i + half;
                result.extend_from_slice(&values[row * width..][..width]);
            }
        }
    }
    result
}

/// That all values of a tensor are finite; `first` is the number of the first one.
fn check_finite(file: &ModelFile, name: &str, values: &[f32], first: usize) -> Result<(), BaseError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            Err(BaseError::NotFinite { file: file.name().to_owned(), tensor: name.to_owned(), index: first + at })
        }
        None => Ok(()),
    }
}

/// Whether `name` can name a tensor: not empty and without control characters, of which NUL would make the tensor
/// root ambiguous and others would garble messages.
pub(crate) fn usable_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_back_to_halves() {
        // Two heads of four rows of width one, in ggml's order: 0 2 1 3 within each head.
        let stored = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(split_halves(&stored, 8, 2), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        // Width two, one head.
        let stored = [0.0, 0.5, 1.0, 1.5];
        assert_eq!(split_halves(&stored, 2, 1), stored);
    }
}
