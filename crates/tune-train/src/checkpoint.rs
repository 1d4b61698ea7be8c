//! Checkpoints: the trained tensors, the optimizer's moments and where the run stands.
//!
//! A checkpoint is written beside its place and renamed into it, so that a folder under its final name is whole.

use std::collections::BTreeMap;
use std::path::Path;

use burn_tensor::Tensor;
use serde::{Deserialize, Serialize};
use tune_kernels::KernelBackend;
use tune_model::HostTensors;
use tune_model::base::{SafetensorsFile, TensorEntry, root_of_entries, tensor_root, write_safetensors};
use tune_schema::Digest;
use tune_schema::text::printable;

use crate::TrainError;
use crate::optimizer::Moments;

/// `state.json` of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// Optimizer steps done.
    pub step: u64,
    /// Rows of the stream consumed.
    pub rows: u64,
    /// Head of the stream's hash chain after those rows.
    pub stream: Digest,
    /// Root over trained tensors and moments.
    pub state_root: Digest,
    /// Head of `chain.jsonl` before this step's record.
    pub previous: Digest,
}

/// The trained tensors of a state, by the name they have in files.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Adapter (or all) weights.
    pub parameters: HostTensors,
    /// The optimizer's first moments, by parameter.
    pub first_moments: HostTensors,
    /// The optimizer's second moments, by parameter.
    pub second_moments: HostTensors,
}

impl State {
    /// Copies the state from the device.
    ///
    /// Shapes in files come from `shapes`: on the device every parameter is a matrix.
    #[must_use]
    pub fn from_device<B: KernelBackend>(
        parameters: &BTreeMap<String, Tensor<B, 2>>,
        moments: &Moments<B>,
        shapes: &BTreeMap<String, Vec<usize>>,
    ) -> Self {
        let host = |tensors: &BTreeMap<String, Tensor<B, 2>>| {
            let one = |(name, tensor): (&String, &Tensor<B, 2>)| {
                let values = tensor.to_data().into_vec().expect("tensors of the contract are f32");
                (name.clone(), (shapes.get(name).cloned().unwrap_or_else(|| tensor.dims().to_vec()), values))
            };
            tensors.iter().map(one).collect()
        };
        Self {
            parameters: host(parameters),
            first_moments: host(&moments.first),
            second_moments: host(&moments.second),
        }
    }

    /// Whether every value is a finite number.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let all = [&self.parameters, &self.first_moments, &self.second_moments];
        all.iter().all(|tensors| tensors.values().all(|(_, values)| values.iter().all(|value| value.is_finite())))
    }

    /// Root over all tensors: parameters under `parameter.`, moments under `first_moment.` and `second_moment.`.
    #[must_use]
    pub fn root(&self) -> Digest {
        let parts = [
            ("parameter", &self.parameters),
            ("first_moment", &self.first_moments),
            ("second_moment", &self.second_moments),
        ];
        let named = parts.into_iter().flat_map(|(prefix, tensors)| {
            tensors.iter().map(move |(name, (shape, values))| (format!("{prefix}.{name}"), (shape, values)))
        });
        let sorted: BTreeMap<String, _> = named.collect();
        root_of(sorted.iter().map(|(name, (shape, values))| (name.as_str(), shape.as_slice(), values.as_slice())))
    }

    /// Root over the trained tensors alone, as their file holds them.
    #[must_use]
    pub fn parameter_root(&self) -> Digest {
        parameter_root(&self.parameters)
    }

    /// The moments as the tensors of `optimizer.safetensors`.
    fn optimizer_tensors(&self) -> HostTensors {
        let named = |prefix: &'static str, tensors: &HostTensors| {
            tensors.iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor.clone())).collect::<Vec<_>>()
        };
        let mut all: HostTensors = named("first_moment", &self.first_moments).into_iter().collect();
        all.extend(named("second_moment", &self.second_moments));
        all
    }
}

/// Root over trained tensors as their file holds them.
#[must_use]
pub fn parameter_root(tensors: &HostTensors) -> Digest {
    root_of(tensors.iter().map(|(name, (shape, values))| (name.as_str(), shape.as_slice(), values.as_slice())))
}

fn root_of<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])>) -> Digest {
    let bytes: Vec<_> = tensors.map(|(name, shape, values)| (name, shape, le_bytes(values))).collect();
    tensor_root(bytes.iter().map(|(name, shape, bytes)| (*name, "F32", *shape, bytes.as_slice())))
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Files that make a folder of weights readable by other tools: name and bytes, beside the tensors.
pub type SideFiles = BTreeMap<String, Vec<u8>>;

/// Writes tensors as `weights_file` with `side` files into `folder`, which must exist.
///
/// # Errors
/// Files that cannot be written.
pub fn write_weights(
    folder: &Path,
    weights_file: &str,
    tensors: &HostTensors,
    side: &SideFiles,
) -> Result<(), TrainError> {
    // `format: pt` is what PEFT and transformers write and look for.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    tune_fs::write_atomic(&folder.join(weights_file), &write_safetensors(tensors, &metadata)?)?;
    for (name, bytes) in side {
        tune_fs::write_atomic(&folder.join(name), bytes)?;
    }
    Ok(())
}

/// Writes a whole checkpoint to `folder`, replacing one that is there.
///
/// # Errors
/// Files that cannot be written.
pub fn write_checkpoint(
    folder: &Path,
    weights_file: &str,
    state: &State,
    facts: &CheckpointState,
    side: &SideFiles,
) -> Result<(), TrainError> {
    tune_fs::create_dir_whole(folder, |staging| {
        write_checkpoint_files(staging, weights_file, state, facts, side)?;
        Ok(tune_fs::remove_dir_all(folder)?)
    })
}

fn write_checkpoint_files(
    folder: &Path,
    weights_file: &str,
    state: &State,
    facts: &CheckpointState,
    side: &SideFiles,
) -> Result<(), TrainError> {
    tune_fs::create_dir_all(folder)?;
    write_weights(folder, weights_file, &state.parameters, side)?;
    let moments = write_safetensors(&state.optimizer_tensors(), &BTreeMap::new())?;
    tune_fs::write_atomic(&folder.join(OPTIMIZER), &moments)?;
    tune_fs::write_atomic(&folder.join("state.json"), &tune_schema::to_canonical_json(facts)?)?;
    Ok(())
}

/// All tensors of a safetensors file.
///
/// # Errors
/// A file that is missing, cut off or not in the format.
pub fn read_tensors(path: &Path) -> Result<HostTensors, TrainError> {
    let file = open_tensors(path)?;
    let mut tensors = HostTensors::new();
    for name in file.tensor_names() {
        let shape = file.tensor_shape(name).unwrap_or_default().to_vec();
        let values = file.load_tensor(name, &shape)?;
        tensors.insert(name.to_owned(), (shape, values));
    }
    Ok(tensors)
}

/// What is said of each tensor of a safetensors file that a run wrote: name, type, shape and digest. Reads it in chunks,
/// whatever its size.
///
/// # Errors
/// A file that is missing, cut off or not in the format, or a tensor of another type than F32.
pub fn tensor_entries(path: &Path) -> Result<Vec<TensorEntry>, TrainError> {
    let entries = open_tensors(path)?.tensor_entries()?;
    match entries.iter().find(|entry| entry.dtype != "F32") {
        None => Ok(entries),
        Some(entry) => Err(TrainError::UnexpectedTensor { folder: path.to_owned(), name: printable(&entry.name) }),
    }
}

/// Names and shapes.
#[must_use]
pub fn shapes_of(entries: &[TensorEntry]) -> BTreeMap<String, Vec<usize>> {
    entries.iter().map(|entry| (entry.name.clone(), entry.shape.clone())).collect()
}

fn open_tensors(path: &Path) -> Result<SafetensorsFile, TrainError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(SafetensorsFile::open(&name, path)?)
}

/// Largest `state.json` that is read: it holds a few numbers, and a verifier reads strangers' files.
const STATE_LIMIT: u64 = 1 << 20;

/// The optimizer's file in a checkpoint, and what the names of its tensors begin with.
const OPTIMIZER: &str = "optimizer.safetensors";
const MOMENTS: [&str; 2] = ["first_moment.", "second_moment."];

fn read_facts(folder: &Path) -> Result<CheckpointState, TrainError> {
    let path = folder.join("state.json");
    let bytes = tune_fs::read_limited(&path, STATE_LIMIT)?;
    match serde_json::from_slice(&bytes) {
        Err(source) => Err(TrainError::Json { path, source }),
        Ok(facts) if tune_schema::to_canonical_json(&facts)? != bytes => Err(TrainError::NotCanonical { path }),
        Ok(facts) => Ok(facts),
    }
}

fn check_root(folder: &Path, facts: &CheckpointState, found: Digest) -> Result<(), TrainError> {
    if found == facts.state_root {
        return Ok(());
    }
    Err(TrainError::StateRoot { folder: folder.to_owned(), stated: facts.state_root, found })
}

/// Checks a checkpoint's tensors against the root it states, without holding them: a stranger's header announces what it
/// likes. Gives what is said of the parameters.
///
/// # Errors
/// Missing or damaged files, moments that are not those of the parameters, or tensors that do not have the stated root.
pub fn check_checkpoint(folder: &Path, weights_file: &str) -> Result<(Vec<TensorEntry>, CheckpointState), TrainError> {
    let facts = read_facts(folder)?;
    let parameters = tensor_entries(&folder.join(weights_file))?;
    let moments = tensor_entries(&folder.join(OPTIMIZER))?;
    let named =
        |prefix: &'static str| parameters.iter().map(move |entry| (format!("{prefix}{}", entry.name), &entry.shape));
    let expected: BTreeMap<String, &Vec<usize>> = MOMENTS.into_iter().flat_map(named).collect();
    let found: BTreeMap<String, &Vec<usize>> = moments.iter().map(|entry| (entry.name.clone(), &entry.shape)).collect();
    let mut names = found.keys().chain(expected.keys());
    if let Some(name) = names.find(|name| found.get(*name) != expected.get(*name)) {
        return Err(TrainError::UnexpectedTensor { folder: folder.to_owned(), name: printable(name) });
    }
    let named =
        parameters.iter().map(|entry| TensorEntry { name: format!("parameter.{}", entry.name), ..entry.clone() });
    let root = root_of_entries(named.chain(moments));
    check_root(folder, &facts, root)?;
    Ok((parameters, facts))
}

/// Reads a checkpoint and checks its tensors against the root it states.
///
/// # Errors
/// Missing or damaged files, or tensors that do not have the stated root.
pub fn read_checkpoint(folder: &Path, weights_file: &str) -> Result<(State, CheckpointState), TrainError> {
    let facts = read_facts(folder)?;
    let parameters = read_tensors(&folder.join(weights_file))?;
    let (mut first_moments, mut second_moments) = (HostTensors::new(), HostTensors::new());
    for (name, tensor) in read_tensors(&folder.join(OPTIMIZER))? {
        if let Some(name) = name.strip_prefix(MOMENTS[0]) {
            first_moments.insert(name.to_owned(), tensor);
        } else if let Some(name) = name.strip_prefix(MOMENTS[1]) {
            second_moments.insert(name.to_owned(), tensor);
        } else {
            return Err(TrainError::UnexpectedTensor { folder: folder.to_owned(), name: printable(&name) });
        }
    }
    let state = State { parameters, first_moments, second_moments };
    check_root(folder, &facts, state.root())?;
    Ok((state, facts))
}
