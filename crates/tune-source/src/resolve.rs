//! One source: found, fetched where needed, every byte compared with the lock.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use tune_fs::ContentStore;
use tune_schema::Digest;
use tune_schema::lock::{LockedFile, LockedSource};
use tune_schema::recipe::DataClass;

use crate::uri::SourceUri;
use crate::{LockFile, SourceError, fetch, local, pip};

/// How the lock is treated, with the meanings of cargo's flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LockMode {
    /// New sources are added; a locked one whose bytes differ is an error.
    #[default]
    Normal,
    /// Every source must be in the lock already.
    Locked,
    /// As `Locked`, and the network is not used.
    Frozen,
}

/// How sources are found.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the lock is treated.
    pub mode: LockMode,
    /// The network may not be used.
    pub offline: bool,
    /// Changed bytes replace what is locked: `tune lock`.
    pub update: bool,
    /// Where fetched files are kept.
    pub store: ContentStore,
    /// Largest file that is fetched.
    pub size_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: LockMode::Normal,
            offline: false,
            update: false,
            store: ContentStore::new(tune_fs::cache_dir()),
            size_limit: 64 << 30,
        }
    }
}

/// What a source is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A data set: one file.
    Dataset,
    /// A base model: a folder or a GGUF file.
    Model,
}

/// A source as a recipe asks for it.
#[derive(Debug, Clone)]
pub struct SourceRequest {
    /// The name that keys the lock.
    pub name: String,
    /// Where the recipe says it is.
    pub location: String,
    /// The folder a relative path starts from.
    pub base_dir: PathBuf,
    /// The digest the recipe pins, for a source of one file.
    pub sha256: Option<Digest>,
    /// Licence on record.
    pub licence: Option<String>,
    /// Class on record.
    pub class: Option<DataClass>,
    /// What it is for.
    pub kind: SourceKind,
}

/// A source on this machine, its bytes checked.
#[derive(Debug, Clone)]
pub struct ResolvedSource {
    /// The name.
    pub name: String,
    /// Its lock entry.
    pub locked: LockedSource,
    /// Its files by their path within it.
    pub files: BTreeMap<String, PathBuf>,
    /// The file or folder that was found.
    pub root: PathBuf,
}

/// What is going on, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A source is fetched.
    Fetching(String),
    /// A source is read and compared with the lock.
    Checking(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetching(name) => write!(f, "fetching {name}"),
            Self::Checking(name) => write!(f, "checking {name}"),
        }
    }
}

/// Finds a source, reads all its bytes and holds them to the lock.
///
/// # Errors
/// A source that cannot be had, or is not what is locked or pinned.
pub fn resolve(request: &SourceRequest, lock: &mut LockFile, options: &Options, observer: &mut dyn FnMut(Event)) -> Result<ResolvedSource, SourceError> {
    let locked = lock.get(&request.name).cloned();
    if locked.is_none() && options.mode != LockMode::Normal {
        return Err(SourceError::NotLocked { name: request.name.clone(), lock: lock.path() });
    }
    let (found, files, root) = match SourceUri::parse(&request.location)? {
        SourceUri::Local(path) => {
            let path = request.base_dir.join(path);
            let known = locked.as_ref().filter(|_| !options.update);
            from_local(request, &path, known, lock.folder(), observer)?
        }
        remote => from_remote(request, &remote, locked.as_ref(), options, observer)?,
    };
    if let (Some(pinned), [file]) = (request.sha256, found.files.as_slice()) {
        if file.sha256 != pinned {
            return Err(SourceError::Pinned { name: request.name.clone(), pinned, found: file.sha256 });
        }
    }
    let locked = match locked {
        Some(locked) if !options.update => {
            compare(&locked, &found)?;
            // What a recipe says of licence and class may be added later; bytes may not change.
            if options.mode == LockMode::Normal { LockedSource { licence: found.licence, class: found.class, ..locked } } else { locked }
        }
        _ => found,
    };
    if options.mode == LockMode::Normal {
        lock.set(locked.clone());
    }
    Ok(ResolvedSource { name: request.name.clone(), locked, files, root })
}

type Found = (LockedSource, BTreeMap<String, PathBuf>, PathBuf);

fn from_local(
    request: &SourceRequest,
    path: &Path,
    locked: Option<&LockedSource>,
    lock_folder: Option<&Path>,
    observer: &mut dyn FnMut(Event),
) -> Result<Found, SourceError> {
    observer(Event::Checking(request.name.clone()));
    let mut files = local::files(&request.name, path, request.kind)?;
    // A single file may have another name than where it was locked.
    if let (Some(LockedSource { files: known, .. }), 1) = (locked, files.len()) {
        if let ([known], Some((_, place))) = (known.as_slice(), files.pop_first()) {
            files.insert(known.path.clone(), place);
        } else {
            files = local::files(&request.name, path, request.kind)?;
        }
    }
    let mut entries = Vec::new();
    for (name, place) in &files {
        let (sha256, size) = tune_fs::digest_file(place)?;
        entries.push(LockedFile { path: name.clone(), sha256, size });
    }
    Ok((entry(request, local_uri(path, lock_folder), entries), files, path.to_owned()))
}

/// `file:` and the path within the lock's folder, or only the name where it lies elsewhere.
fn local_uri(path: &Path, lock_folder: Option<&Path>) -> String {
    let name = || path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let canonical = |path: &Path| std::path::absolute(path).ok().map(|path| tune_fs::normalised(&path));
    let within = lock_folder.and_then(|folder| {
        let (folder, path) = (canonical(folder)?, canonical(path)?);
        let relative = path.strip_prefix(&folder).ok()?;
        Some(relative.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"))
    });
    format!("file:{}", within.unwrap_or_else(name))
}

fn from_remote(
    request: &SourceRequest,
    uri: &SourceUri,
    locked: Option<&LockedSource>,
    options: &Options,
    observer: &mut dyn FnMut(Event),
) -> Result<Found, SourceError> {
    let name = &request.name;
    let file_name = match uri {
        SourceUri::Pip { member, .. } => member.rsplit('/').next().unwrap_or(member).to_owned(),
        _ => request.location.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or(name).to_owned(),
    };
    let known = locked.filter(|_| !options.update).and_then(|locked| match locked.files.as_slice() {
        [file] => options.store.path(&file.sha256).map(|path| (file.clone(), path)),
        _ => None,
    });
    let place = match known {
        Some((_, path)) => path,
        None if options.offline || options.mode == LockMode::Frozen => {
            return Err(SourceError::Offline { name: name.clone(), uri: request.location.clone() });
        }
        None => {
            observer(Event::Fetching(name.clone()));
            let (digest, _) = match uri {
                SourceUri::Pip { name: package, version, member } => {
                    pip::fetch(name, package, version, member, &options.store, options.size_limit)?
                }
                _ => fetch::fetch(name, &request.location, &options.store, options.size_limit)?,
            };
            options.store.place(&digest)
        }
    };
    // The store's bytes are read again: a cache is not to be trusted either.
    observer(Event::Checking(name.clone()));
    let (sha256, size) = tune_fs::digest_file(&place)?;
    let mut found = entry(request, request.location.clone(), vec![LockedFile { path: file_name.clone(), sha256, size }]);
    if let SourceUri::Pip { version, .. } = uri {
        found.revision = Some(version.clone());
    }
    Ok((found, BTreeMap::from([(file_name, place.clone())]), place))
}

fn entry(request: &SourceRequest, uri: String, files: Vec<LockedFile>) -> LockedSource {
    LockedSource { name: request.name.clone(), uri, revision: None, licence: request.licence.clone(), class: request.class, files }
}

/// Bytes against the lock; the first file that differs.
fn compare(locked: &LockedSource, found: &LockedSource) -> Result<(), SourceError> {
    let by_path = |source: &LockedSource| source.files.iter().map(|file| (file.path.clone(), file.clone())).collect::<BTreeMap<_, _>>();
    let (known, now) = (by_path(locked), by_path(found));
    let text = |file: Option<&LockedFile>| file.map_or_else(|| "no such file".to_owned(), |file| format!("{} ({} bytes)", file.sha256, file.size));
    for path in known.keys().chain(now.keys()) {
        let (locked_file, found_file) = (known.get(path), now.get(path));
        if locked_file != found_file {
            return Err(SourceError::Differs {
                name: locked.name.clone(),
                file: path.clone(),
                locked: text(locked_file),
                found: text(found_file),
            });
        }
    }
    Ok(())
}
