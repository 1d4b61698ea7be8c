//! Files and folders on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::SourceError;
use crate::resolve::SourceKind;

/// Files of a model folder that decide what a model is; everything else in it is ignored.
const MODEL_FILES: [&str; 7] = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The files of a local source by their path within it.
pub(crate) fn files(name: &str, path: &Path, kind: SourceKind) -> Result<BTreeMap<String, PathBuf>, SourceError> {
    if !tune_fs::exists(path) {
        return Err(SourceError::Missing { name: name.to_owned(), path: path.to_owned() });
    }
    // A pipe or device has no end to hash up to.
    if !tune_fs::is_dir(path) && !tune_fs::is_file(path) {
        return Err(SourceError::NotAFile { name: name.to_owned(), path: path.to_owned() });
    }
    if tune_fs::is_file(path) {
        let file_name = path.file_name().map_or_else(|| name.to_owned(), |name| name.to_string_lossy().into_owned());
        return Ok(BTreeMap::from([(file_name, path.to_owned())]));
    }
    if kind == SourceKind::Dataset {
        return Err(SourceError::NotAFile { name: name.to_owned(), path: path.to_owned() });
    }
    let wanted = |file: &str| MODEL_FILES.contains(&file) || file.ends_with(".safetensors");
    let found = tune_fs::list_folder(path)?.into_iter().filter(|file| wanted(file));
    let files: BTreeMap<String, PathBuf> = found.map(|file| (file.clone(), path.join(file))).collect();
    if let Some(path) = files.values().find(|path| !tune_fs::is_file(path)) {
        return Err(SourceError::NotAFile { name: name.to_owned(), path: path.clone() });
    }
    for file in ["config.json", "tokenizer.json"] {
        if !files.contains_key(file) {
            return Err(SourceError::NotAModel { name: name.to_owned(), path: path.to_owned(), file });
        }
    }
    Ok(files)
}
