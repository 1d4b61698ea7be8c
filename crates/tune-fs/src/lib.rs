//! Files: atomic writes, digests while reading and writing, a content store. The only user of `std::fs` in the workspace.
//!
//! - whole files: [`read`], [`read_limited`], [`write_atomic`], [`write_secret`], [`write_atomic_secret`], [`copy`], [`AtomicFile`]
//! - growing files: [`AppendFile`]
//! - folders: [`create_dir_all`], [`create_dir_whole`], [`rename_dir_durable`], [`list_files_recursive`]
//! - what an interruption leaves: [`incomplete_name`], [`remove_incomplete`]
//! - bytes that only this process needs: [`ScratchFile`]
//! - one process a folder: [`FolderLock`]
//! - content by digest: [`ContentStore`]

#![expect(clippy::disallowed_methods, reason = "this crate is where files are touched")]

mod error;
mod incomplete;
mod lock;
mod scratch;
mod store;
mod write;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tune_schema::{Digest, Hasher};

use error::Context;
pub use error::FsError;
pub use incomplete::{incomplete_name, is_incomplete, remove_incomplete};
pub use lock::{FileLock, FolderLock};
pub use scratch::ScratchFile;
pub use store::{ContentStore, cache_dir};
pub use write::{
    AppendFile, AtomicFile, copy, create_dir_whole, rename_dir_durable, write_atomic, write_atomic_secret, write_secret,
};

/// Opens a file for reading.
///
/// # Errors
/// A file that is not there or cannot be opened.
pub fn open(path: &Path) -> Result<File, FsError> {
    File::open(path).context("open", path)
}

/// The bytes of a file.
///
/// # Errors
/// A file that cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, FsError> {
    std::fs::read(path).context("read", path)
}

/// The bytes of a file of at most `limit` bytes: for files of strangers.
///
/// # Errors
/// A file that cannot be read, or is larger.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, FsError> {
    let mut bytes = Vec::new();
    open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).context("read", path)?;
    if bytes.len() as u64 > limit {
        return Err(FsError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// A file that cannot be read or is not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String, FsError> {
    std::fs::read_to_string(path).context("read", path)
}

/// Whether anything is at `path`.
#[must_use]
pub fn exists(path: &Path) -> bool {
    path.exists()
}

/// Whether `path` is a folder.
#[must_use]
pub fn is_dir(path: &Path) -> bool {
    path.is_dir()
}

/// Whether `path` is a plain file, or a link to one: no folder, pipe or device.
#[must_use]
pub fn is_file(path: &Path) -> bool {
    path.is_file()
}

/// Bytes of the plain file that is stored at `path`, or where a link there leads, without opening it. None where there is
/// nothing or something else, an empty file, or one of those in which Linux shows itself, which may have no end.
#[must_use]
pub fn stored_size(path: &Path) -> Option<u64> {
    let real = path.canonicalize().ok()?;
    if ["/proc", "/sys"].iter().any(|own| real.starts_with(own)) {
        return None;
    }
    let metadata = real.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(metadata.len()).filter(|size| *size > 0)
}

/// Makes a folder and those above it.
///
/// # Errors
/// A folder that cannot be made.
pub fn create_dir_all(path: &Path) -> Result<(), FsError> {
    std::fs::create_dir_all(path).context("create the folder", path)
}

/// Removes a folder with all it holds; nothing there is no error.
///
/// # Errors
/// A folder that cannot be removed.
pub fn remove_dir_all(path: &Path) -> Result<(), FsError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", path),
    }
}

/// Digest and size of a file, read in pieces.
///
/// # Errors
/// A file that cannot be read.
pub fn digest_file(path: &Path) -> Result<(Digest, u64), FsError> {
    let mut file = open(path)?;
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut buffer).context("read", path)?;
        if n == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
}

/// Paths of all files below `folder`, relative, `/` separators, sorted.
///
/// # Errors
/// A folder that cannot be read; a symbolic link, a pipe or device, or a name that is not UTF-8: no run folder
/// holds one.
pub fn list_files_recursive(folder: &Path) -> Result<Vec<String>, FsError> {
    let mut found = Vec::new();
    let mut pending = vec![(folder.to_owned(), String::new())];
    while let Some((place, prefix)) = pending.pop() {
        for entry in std::fs::read_dir(&place).context("read the folder", &place)? {
            let entry = entry.context("read the folder", &place)?;
            let path = entry.path();
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| FsError::Unexpected { path: path.clone(), what: "a name that is not UTF-8" })?;
            let kind = entry.file_type().context("look at", &path)?;
            if kind.is_symlink() {
                return Err(FsError::Link { path });
            }
            let relative = format!("{prefix}{name}");
            if kind.is_dir() {
                pending.push((path, relative + "/"));
            } else if kind.is_file() {
                found.push(relative);
            } else {
                // Reading a pipe of a stranger's folder would wait forever.
                return Err(FsError::Unexpected { path, what: "neither a file nor a folder" });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether everyone on this machine may put files into a folder.
#[must_use]
pub fn is_public(folder: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        false
    }
}

/// Removes everything in a folder, and leaves the folder.
///
/// # Errors
/// Entries that cannot be removed.
pub fn empty_dir(folder: &Path) -> Result<(), FsError> {
    for name in list_folder(folder)? {
        let path = folder.join(name);
        let is_folder = std::fs::symlink_metadata(&path).context("look at", &path)?.is_dir();
        if is_folder { remove_dir_all(&path)? } else { std::fs::remove_file(&path).context("remove", &path)? }
    }
    Ok(())
}

/// Makes the entries of a folder durable.
///
/// # Errors
/// A folder that cannot be opened or synced.
pub fn sync_dir(path: &Path) -> Result<(), FsError> {
    let place = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    File::open(&place).and_then(|folder| folder.sync_all()).context("sync the folder", &place)
}

/// Names of the entries directly in `folder`, sorted; links count as what they point to.
///
/// # Errors
/// A folder that cannot be read.
pub fn list_folder(folder: &Path) -> Result<Vec<String>, FsError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).context("read the folder", folder)? {
        let entry = entry.context("read the folder", folder)?;
        found.extend(entry.file_name().into_string().ok());
    }
    found.sort();
    Ok(found)
}

/// A path without links, as far as it is there.
#[must_use]
pub fn real(path: &Path) -> PathBuf {
    let absolute = normalised(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let there = absolute.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there {
        Some((above, found)) => found.join(absolute.strip_prefix(above).unwrap_or(Path::new(""))),
        None => absolute,
    }
}

/// Whether a path is `folder` or lies in it, whatever links lead there.
#[must_use]
pub fn is_inside(path: &Path, folder: &Path) -> bool {
    real(path).starts_with(real(folder))
}

/// `a/../b` as `b`, without asking the file system.
#[must_use]
pub fn normalised(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}
