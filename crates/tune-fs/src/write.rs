//! Writing so that an interruption leaves either the old or the new, never half.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tune_schema::{Digest, Hasher};

use crate::error::Context;
use crate::{FsError, sync_dir};

/// A file that appears under its name only when it is whole.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    file: NamedTempFile,
    hasher: Hasher,
    size: u64,
}

/// The folder a file lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl AtomicFile {
    /// Starts a file that will be `path`; it is written beside it until [`Self::commit`], and vanishes when dropped.
    ///
    /// # Errors
    /// A folder that cannot be written, or something at `path` that a file cannot take the place of, as a device.
    pub fn create(path: &Path) -> Result<Self, FsError> {
        Self::with_mode(path, 0o666)
    }

    /// A file with these permissions, less what the user's umask takes away.
    fn with_mode(path: &Path, mode: u32) -> Result<Self, FsError> {
        if crate::exists(path) && !crate::is_file(path) {
            return Err(FsError::Unexpected { path: path.to_owned(), what: "not a file, and is left as it is" });
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(crate::incomplete::PREFIX).suffix(crate::incomplete::SUFFIX);
        // Without this, a temporary file is readable by its owner only.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        #[cfg(not(unix))]
        let _ = mode;
        let file = builder.tempfile_in(parent(path));
        let file = file.context("create a file beside", path)?;
        Ok(Self { path: path.to_owned(), file, hasher: Hasher::new(), size: 0 })
    }

    /// Writes at the end.
    ///
    /// # Errors
    /// A full disk, for one.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).context("write", &self.path)
    }

    /// Writes what `reader` gives, up to `limit` bytes in all.
    ///
    /// # Errors
    /// A reader that fails or gives more, or a full disk.
    pub fn fill(&mut self, reader: &mut dyn Read, limit: u64) -> Result<(), FsError> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = match reader.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(|source| FsError::Incoming { source })?,
            };
            if n == 0 {
                return Ok(());
            }
            if self.size + n as u64 > limit {
                return Err(FsError::IncomingTooLarge { limit });
            }
            self.write(&buffer[..n])?;
        }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Digest of what was written so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Changes the name that the file will get; it must be on the same disk.
    pub fn rename_to(&mut self, path: &Path) {
        path.clone_into(&mut self.path);
    }

    /// Makes the file durable and gives it its name. Gives digest and size.
    ///
    /// # Errors
    /// A file that cannot be synced or renamed.
    pub fn commit(self) -> Result<(Digest, u64), FsError> {
        self.file.as_file().sync_all().context("sync", &self.path)?;
        self.file.persist(&self.path).map_err(|error| error.error).context("write", &self.path)?;
        sync_dir(parent(&self.path))?;
        Ok((self.hasher.finish(), self.size))
    }
}

/// For code that writes to anything: an error keeps its message.
impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Self::write(self, bytes).map(|()| bytes.len()).map_err(std::io::Error::other)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a whole file: an interruption leaves the old one or the new one.
///
/// # Errors
/// A file that cannot be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    let mut file = AtomicFile::create(path)?;
    file.write(bytes)?;
    file.commit().map(|_| ())
}

/// Writes a whole file as [`write_atomic`] does, and where the system has such a thing only its owner may read it.
///
/// # Errors
/// A file that cannot be written.
pub fn write_atomic_secret(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    let mut file = AtomicFile::with_mode(path, 0o600)?;
    file.write(bytes)?;
    file.commit().map(|_| ())
}

/// Copies a file, as [`write_atomic`] writes one.
///
/// # Errors
/// A file that cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<(), FsError> {
    let mut source = crate::open(from)?;
    let mut file = AtomicFile::create(to)?;
    file.fill(&mut source, u64::MAX).map_err(|error| match error {
        FsError::Incoming { source } => FsError::Io { operation: "read", path: from.to_owned(), source },
        other => other,
    })?;
    file.commit().map(|_| ())
}

/// Makes a folder whole: `fill` makes it beside its place, under a name that says so, and it is renamed into it. Nothing is
/// left of one that could not be filled.
///
/// # Errors
/// Those of `fill`, or a folder that cannot be renamed.
pub fn create_dir_whole<T, E: From<FsError>>(to: &Path, fill: impl FnOnce(&Path) -> Result<T, E>) -> Result<T, E> {
    // Making the folders above would make `a` of `a/../b` too.
    if to.components().any(|part| part == std::path::Component::ParentDir) && !crate::is_dir(parent(to)) {
        return Err(FsError::Unexpected { path: parent(to).to_owned(), what: "no folder that is there" }.into());
    }
    let staging = crate::incomplete_name(to);
    crate::remove_dir_all(&staging)?;
    let done = fill(&staging).and_then(|value| {
        rename_dir_durable(&staging, to)?;
        Ok(value)
    });
    if done.is_err() {
        // It would hold on to space that may be lacking. What stopped it is the better message.
        let _ = crate::remove_dir_all(&staging);
    }
    done
}

/// Writes a new file that, where the system has such a thing, only its owner may read.
///
/// # Errors
/// A file that is there already, or cannot be written.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).context("create", path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).context("write", path)
}

/// Renames a folder and makes that durable.
///
/// # Errors
/// A folder that cannot be renamed.
pub fn rename_dir_durable(from: &Path, to: &Path) -> Result<(), FsError> {
    sync_dir(from)?;
    std::fs::rename(from, to).context("rename a folder to", to)?;
    sync_dir(parent(to))
}

/// A file that grows line by line.
#[derive(Debug)]
pub struct AppendFile {
    path: PathBuf,
    file: File,
}

impl AppendFile {
    /// Opens a file for appending, making it where it is not there.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FsError> {
        let file = OpenOptions::new().append(true).create(true).open(path).context("open", path)?;
        // Without its folder's entry, a new file is lost with the power, however often it was synced.
        sync_dir(parent(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends.
    ///
    /// # Errors
    /// A full disk, for one.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FsError> {
        self.file.write_all(bytes).context("append to", &self.path)
    }

    /// Cuts the file off after `length` bytes.
    ///
    /// # Errors
    /// A file that cannot be changed.
    pub fn truncate_to(&mut self, length: u64) -> Result<(), FsError> {
        self.file.set_len(length).context("cut off", &self.path)
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn sync(&mut self) -> Result<(), FsError> {
        self.file.sync_data().context("sync", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_leaves_nothing_and_a_committed_one_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write(b"abc").unwrap();
        drop(file);
        assert!(crate::list_files_recursive(folder.path()).unwrap().is_empty());
        let mut file = AtomicFile::create(&path).unwrap();
        file.write(b"a").unwrap();
        file.write(b"bc").unwrap();
        assert_eq!(file.commit().unwrap(), (Digest::of(b"abc"), 3));
        assert_eq!(crate::digest_file(&path).unwrap(), (Digest::of(b"abc"), 3));
        assert_eq!(crate::list_files_recursive(folder.path()).unwrap(), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_is_replaced_stays_its_owners() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for bytes in [b"one", b"two"] {
            write_atomic_secret(&path, bytes).unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(crate::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn appending_goes_on_after_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        AppendFile::open(&path).unwrap().append(b"one\ntwo\nthr").unwrap();
        let mut file = AppendFile::open(&path).unwrap();
        file.truncate_to(8).unwrap();
        file.append(b"three\n").unwrap();
        assert_eq!(crate::read(&path).unwrap(), b"one\ntwo\nthree\n");
    }

    #[test]
    fn errors_name_the_place() {
        let error = write_atomic(Path::new("/nowhere/at/all"), b"").unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_written_over_leaves_no_remains() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        crate::create_dir_all(&taken.join("inner")).unwrap();
        assert!(write_atomic(&taken, b"x").is_err());
        assert_eq!(crate::list_folder(folder.path()).unwrap(), ["taken"]);
    }

    #[test]
    fn a_folder_gets_its_final_name_and_lists_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (staging, last) = (folder.path().join("staging"), folder.path().join("final"));
        crate::create_dir_all(&staging.join("b")).unwrap();
        for file in ["b/2", "b.txt", "a"] {
            write_atomic(&staging.join(file), b"").unwrap();
        }
        rename_dir_durable(&staging, &last).unwrap();
        assert!(!crate::exists(&staging));
        assert_eq!(crate::list_files_recursive(&last).unwrap(), ["a", "b.txt", "b/2"]);
        assert!(matches!(crate::read_limited(&write(&last.join("a"), b"abcd"), 3), Err(FsError::TooLarge { .. })));
        assert_eq!(crate::read_limited(&last.join("a"), 4).unwrap(), b"abcd");
        crate::remove_dir_all(&last).unwrap();
        crate::remove_dir_all(&last).unwrap();
    }

    fn write(path: &Path, bytes: &[u8]) -> PathBuf {
        write_atomic(path, bytes).unwrap();
        path.to_owned()
    }

    #[test]
    fn a_way_over_a_folder_that_is_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let made = |to: &str| {
            create_dir_whole(&folder.path().join(to), |staging| {
                crate::create_dir_all(staging)?;
                write_atomic(&staging.join("a"), b"")
            })
        };
        let error = made("missing/../x").unwrap_err();
        assert!(error.to_string().contains("missing") && !error.is_outside(), "{error}");
        assert!(crate::list_folder(folder.path()).unwrap().is_empty());
        made("deep/x").unwrap();
        made("deep/../x").unwrap();
        assert_eq!(crate::list_files_recursive(folder.path()).unwrap(), ["deep/x/a", "x/a"]);
    }

    #[test]
    fn what_is_no_file_is_refused_before_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert!(matches!(crate::list_files_recursive(folder.path()), Err(FsError::Unexpected { .. })));
        assert!(!crate::is_file(&folder.path().join("socket")));
    }

    #[test]
    fn symbolic_links_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert!(matches!(crate::list_files_recursive(folder.path()), Err(FsError::Link { .. })));
    }
}
