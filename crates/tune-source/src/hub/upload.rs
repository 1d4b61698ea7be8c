//! A folder as one commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tune_schema::Digest;

use super::request::{Request, transfer};
use super::{Event, Hub, HubError, HubTarget, Limits, Listing, Observer, paths};

/// What the hub itself puts into a repository.
const OF_THE_HUB: &str = ".gitattributes";

/// How a folder is sent.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// What the commit is called.
    pub message: &'a str,
    /// Only its owner may read the repository, should it be a new one; one that everyone can read is refused.
    pub private: bool,
    /// Files and folders of the repository that are there only by such uploads: what is there of them and not sent is
    /// removed by the commit, and remains in the repository's history.
    pub owned: &'a [&'a str],
    /// The file that shows that the repository holds such an upload; without it nothing is removed.
    pub mark: &'a str,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The commit that holds the folder.
    pub commit: String,
    /// Its page.
    pub url: String,
    /// The repository held the folder already, and nothing was sent.
    pub unchanged: bool,
    /// Files of the repository that are neither sent nor removed: somebody else's.
    pub others: Vec<String>,
}

/// A file to send.
pub(super) struct LocalFile {
    pub(super) place: PathBuf,
    pub(super) size: u64,
    pub(super) sha256: Digest,
}

impl Hub {
    /// Sends a folder to the branch `main` of a repository, which is made where it is not there. Large files go first,
    /// each unless the hub has it, so that an upload that broke off goes on where it was; then one commit brings all.
    /// Where the repository holds the folder already, nothing is sent.
    ///
    /// # Errors
    /// No token, or one that may not do this; a repository that changed meanwhile; a transfer that breaks every time.
    /// Before the commit nothing of it can be seen in the repository.
    pub fn upload(
        &self,
        folder: &Path,
        target: &HubTarget,
        options: &Upload<'_>,
        observer: &mut dyn FnMut(Event),
    ) -> Result<Uploaded, HubError> {
        if !self.has_token() {
            return Err(HubError::NoToken);
        }
        let files = local_files(folder)?;
        let id = target.id();
        let head = self.ready(target, options.private, observer)?;
        let there = self.list(&id, &head, Limits::default(), observer)?;
        let is_ours = there.files.contains_key(options.mark);
        let is_owned =
            |path: &str| is_ours && options.owned.iter().any(|owned| path == *owned || paths::is_below(path, owned));
        let is_other = |path: &&String| !files.contains_key(*path) && *path != OF_THE_HUB;
        let (removed, others): (Vec<String>, Vec<String>) =
            there.files.keys().filter(is_other).cloned().partition(|path| is_owned(path));
        let unchanged = removed.is_empty() && self.holds(&there, &files, observer)?;
        let commit = if unchanged {
            head
        } else {
            let large = self.large_files(&id, &files, observer)?;
            self.send_large(&id, &files, &large, observer)?;
            self.commit(&id, &head, options.message, &files, &large, &removed, observer)?
        };
        let url = self.endpoint.address(&format!("/{id}/commit/{commit}"));
        Ok(Uploaded { commit, url, unchanged, others })
    }

    /// Whether a commit holds all files as they are here. Large ones by the list; small ones, of which the list has only
    /// git's SHA-1, are fetched and compared, until the first that differs.
    fn holds(
        &self,
        there: &Listing,
        files: &BTreeMap<String, LocalFile>,
        observer: &mut Observer<'_>,
    ) -> Result<bool, HubError> {
        let mut small = Vec::new();
        for (path, file) in files {
            match there.files.get(path) {
                Some(remote) if remote.size == file.size => match remote.sha256 {
                    Some(sha256) if sha256 == file.sha256 => {}
                    Some(_) => return Ok(false),
                    None => small.push((path, file)),
                },
                _ => return Ok(false),
            }
        }
        for (path, file) in small {
            let address = self.file_address(&there.id, &there.commit, path);
            let answer = self.ask(&Request { limit: file.size, ..Request::get(&address) }, observer)?;
            if Digest::of(&answer.bytes) != file.sha256 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn local_files(folder: &Path) -> Result<BTreeMap<String, LocalFile>, HubError> {
    let mut files = BTreeMap::new();
    for path in tune_fs::list_files_recursive(folder)? {
        let place = folder.join(&path);
        tune_schema::path::check(&path)
            .map_err(|problem| transfer(&path, format!("this path is not sent: {problem}")))?;
        let (sha256, size) = tune_fs::digest_file(&place)?;
        files.insert(path, LocalFile { place, size, sha256 });
    }
    Ok(files)
}
