//! Which files are large, and the commit: one JSON object a line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::repository::{is_commit, to_json};
use super::request::{Request, transfer};
use super::upload::LocalFile;
use super::{Hub, HubError, Observer};

/// Files that one request asks about, and how many of their first bytes it shows.
const BATCH: usize = 256;
const SAMPLE: u64 = 512;

#[derive(Serialize)]
struct Asked<'a> {
    path: &'a str,
    sample: String,
    size: u64,
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mode {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Committed {
    commit_oid: String,
}

impl Hub {
    /// The files that the hub wants as large ones (Git LFS). Empty ones never are.
    pub(super) fn large_files(
        &self,
        id: &str,
        files: &BTreeMap<String, LocalFile>,
        observer: &mut Observer<'_>,
    ) -> Result<BTreeSet<String>, HubError> {
        let address = self.endpoint.address(&format!("/api/models/{id}/preupload/main"));
        let all: Vec<(&String, &LocalFile)> = files.iter().collect();
        let mut large = BTreeSet::new();
        for batch in all.chunks(BATCH) {
            let mut asked = Vec::new();
            for (path, file) in batch {
                asked.push(Asked { path, sample: STANDARD.encode(first_bytes(file)?), size: file.size });
            }
            let body = to_json(&json!({"files": asked}));
            let modes: Modes = self.ask(&Request::json(&address, &body), observer)?.json(&address)?;
            let answered: BTreeMap<&str, &Mode> = modes.files.iter().map(|mode| (mode.path.as_str(), mode)).collect();
            for (path, file) in batch {
                let mode = answered
                    .get(path.as_str())
                    .ok_or_else(|| transfer(&address, format!("the answer leaves out `{path}`")))?;
                if mode.should_ignore {
                    return Err(HubError::Ignored { id: id.to_owned(), path: (*path).clone() });
                }
                if mode.upload_mode == "lfs" && file.size > 0 {
                    large.insert((*path).clone());
                }
            }
        }
        Ok(large)
    }

    /// One commit that brings all files and removes others; gives its 40 digits.
    #[expect(clippy::too_many_arguments, reason = "a commit has these parts")]
    pub(super) fn commit(
        &self,
        id: &str,
        parent: &str,
        message: &str,
        files: &BTreeMap<String, LocalFile>,
        large: &BTreeSet<String>,
        removed: &[String],
        observer: &mut Observer<'_>,
    ) -> Result<String, HubError> {
        let header = json!({"summary": message, "description": "", "parentCommit": parent});
        let mut lines = line("header", &header);
        for (path, file) in files {
            lines.extend(if large.contains(path) {
                let value = json!({"path": path, "algo": "sha256", "oid": file.sha256.hex(), "size": file.size});
                line("lfsFile", &value)
            } else {
                let content = STANDARD.encode(tune_fs::read(&file.place)?);
                line("file", &json!({"content": content, "path": path, "encoding": "base64"}))
            });
        }
        for path in removed {
            lines.extend(line("deletedFile", &json!({"path": path})));
        }
        let address = self.endpoint.address(&format!("/api/models/{id}/commit/main"));
        // 409 and 412: the parent is no longer the last commit. Nobody else's work is overwritten.
        let request = Request { also: &[409, 412], ..Request::post(&address, "application/x-ndjson", &lines) };
        let answer = self.ask(&request, observer)?;
        if matches!(answer.status, 409 | 412) {
            return Err(HubError::Changed(id.to_owned()));
        }
        let committed: Committed = answer.json(&address)?;
        if !is_commit(&committed.commit_oid) {
            return Err(transfer(&address, "the answer names no commit"));
        }
        Ok(committed.commit_oid)
    }
}

fn line(key: &str, value: &serde_json::Value) -> Vec<u8> {
    let mut line = to_json(&json!({"key": key, "value": value}));
    line.push(b'\n');
    line
}

fn first_bytes(file: &LocalFile) -> Result<Vec<u8>, HubError> {
    let mut bytes = Vec::new();
    let read = tune_fs::open(&file.place)?.take(SAMPLE).read_to_end(&mut bytes);
    read.map_err(|source| tune_fs::FsError::Io { operation: "read", path: file.place.clone(), source })?;
    Ok(bytes)
}
