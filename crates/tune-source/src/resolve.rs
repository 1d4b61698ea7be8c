//! One source: found, fetched where needed, every byte compared with the lock.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use tune_fs::ContentStore;
use tune_schema::Digest;
use tune_schema::commitment::{Commitment, Secret};
use tune_schema::lock::{LOCK_VERSION, Lock, LockedFile, LockedSource};
use tune_schema::recipe::DataClass;

use crate::uri::SourceUri;
use crate::{LockFile, SourceError, commit, fetch, local, pip};

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
    /// The file of secrets for a lock that lies in no file; that of any other lies beside it.
    pub secrets: Option<PathBuf>,
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
            secrets: None,
            size_limit: 64 << 30,
        }
    }
}

impl Options {
    /// Whether neither lock nor network may be touched.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.mode == LockMode::Frozen
    }

    fn is_offline(&self) -> bool {
        self.offline || self.is_frozen()
    }

    /// Whether changed bytes are accepted: never where the lock may not change.
    fn accepts_changes(&self) -> bool {
        self.update && self.mode == LockMode::Normal
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
    /// The secret of its commitment, where it has one.
    pub secret: Option<Secret>,
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

/// Finds a source of somebody's run, at `place` where it is given and else under its own address, and holds its bytes to
/// its entry of the run's lock.
///
/// # Errors
/// As [`resolve`], or no place for a source without an address.
pub fn resolve_locked(
    locked: &LockedSource,
    kind: SourceKind,
    place: Option<&Path>,
    options: &Options,
) -> Result<ResolvedSource, SourceError> {
    // What a stranger's lock has in place of an address leads nowhere on this machine.
    if place.is_none() && !locked.has_address() {
        return Err(SourceError::NoPlace { name: locked.name.clone() });
    }
    let request = SourceRequest {
        name: locked.name.clone(),
        location: place.map_or_else(|| locked.uri.clone(), |path| path.to_string_lossy().into_owned()),
        base_dir: PathBuf::from("."),
        sha256: None,
        licence: locked.licence.clone(),
        class: locked.class,
        kind,
    };
    let lock = Lock { version: LOCK_VERSION, sources: vec![locked.clone()] };
    let mut lock = LockFile::detached(lock, options.secrets.as_deref())?;
    resolve(&request, &mut lock, options, &mut |_| {})
}

/// Finds a source, reads all its bytes and holds them to the lock.
///
/// # Errors
/// A source that cannot be had, or is not what is locked or pinned.
pub fn resolve(
    request: &SourceRequest,
    lock: &mut LockFile,
    options: &Options,
    observer: &mut dyn FnMut(Event),
) -> Result<ResolvedSource, SourceError> {
    let locked = lock.get(&request.name).cloned();
    if locked.is_none() && options.mode != LockMode::Normal {
        return Err(SourceError::NotLocked { name: request.name.clone(), lock: lock.path() });
    }
    let uri = SourceUri::parse(&request.location)?;
    let is_local = matches!(uri, SourceUri::Local(_));
    let committed = is_committed(request, locked.as_ref(), lock, options)?;
    if committed && !is_local {
        return Err(SourceError::NotLocal { name: request.name.clone(), uri: request.location.clone() });
    }
    let found = match uri {
        SourceUri::Local(path) => from_local(request, &request.base_dir.join(path), lock.folder(), observer)?,
        remote => {
            // A lock without a file belongs to a run that is verified: only its bytes count, wherever they come from.
            let same_place = |locked: &LockedSource| lock.folder().is_none() || locked.uri == request.location;
            if let Some(locked) = locked.as_ref().filter(|l| options.mode != LockMode::Normal && !same_place(l)) {
                let (name, locked) = (request.name.clone(), locked.uri.clone());
                return Err(SourceError::Moved { name, locked, asked: request.location.clone() });
            }
            // Bytes kept under another address are not those of this one until they were fetched from it.
            from_remote(request, &remote, locked.as_ref().filter(|locked| same_place(locked)), options, observer)?
        }
    };
    if let (Some(pinned), [file]) = (request.sha256, found.entry.files.as_slice()) {
        if committed {
            return Err(SourceError::PinnedUnshareable { name: request.name.clone() });
        }
        if file.sha256 != pinned {
            return Err(SourceError::Pinned { name: request.name.clone(), pinned, found: file.sha256 });
        }
    }
    let held = locked.as_ref().filter(|_| !options.accepts_changes());
    let proven = held.map(|held| hold(held, &found, lock)).transpose()?.flatten();
    let known = locked.as_ref().and_then(|locked| locked.commitment.as_ref());
    let commitment = match proven {
        _ if !committed => None,
        Some(proven) => Some(proven),
        None => Some(commit_anew(&request.name, &found.files, known, lock)?),
    };
    let mut entry = match held {
        // Bytes may not change; licence and class are what the recipe says, which is what a claim holds.
        Some(held) if is_local || options.mode != LockMode::Normal => {
            let LockedSource { licence, class, files, .. } = found.entry;
            // One that was committed to until now has no files there.
            let files = if held.files.is_empty() { files } else { held.files.clone() };
            LockedSource { licence, class, files, ..held.clone() }
        }
        _ => found.entry,
    };
    let (commitment, secret) = commitment.unzip();
    if commitment.is_some() {
        // Size and digest of a file that could be guessed would be as good as the file.
        entry.files.clear();
    }
    entry.commitment = commitment;
    if options.mode == LockMode::Normal {
        lock.set(entry.clone());
    }
    let mut files = found.files;
    // A single file goes by its name in the lock, whatever it is called here.
    if let [file] = entry.files.as_slice()
        && let Some((_, place)) = files.pop_first()
    {
        files.insert(file.path.clone(), place);
    }
    Ok(ResolvedSource { name: request.name.clone(), locked: entry, files, root: found.root, secret })
}

/// Whether a source stands in the lock by a commitment to its rows: as its class says, or, where nothing may change any
/// more, as it is locked.
fn is_committed(
    request: &SourceRequest,
    locked: Option<&LockedSource>,
    lock: &LockFile,
    options: &Options,
) -> Result<bool, SourceError> {
    if request.kind == SourceKind::Model {
        return Ok(false);
    }
    let wanted = request.class == Some(DataClass::Unshareable);
    match locked.map(|locked| locked.commitment.is_some()) {
        Some(is) if lock.folder().is_none() => Ok(is),
        Some(is) if options.mode != LockMode::Normal && is != wanted => {
            Err(SourceError::OtherForm { name: request.name.clone(), lock: lock.path(), committed: is })
        }
        _ => Ok(wanted),
    }
}

/// Holds what was found to what is locked: digests, or a commitment, which is given back with its secret.
fn hold(held: &LockedSource, found: &Found, lock: &LockFile) -> Result<Option<(Commitment, Secret)>, SourceError> {
    match &held.commitment {
        Some(known) => commit::check(&held.name, &found.files, known, lock).map(|secret| Some((known.clone(), secret))),
        None => compare(held, &found.entry).map(|()| None),
    }
}

/// A commitment under a new secret; the one that is known where it still holds.
fn commit_anew(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    known: Option<&Commitment>,
    lock: &mut LockFile,
) -> Result<(Commitment, Secret), SourceError> {
    if let Some(known) = known {
        match commit::check(name, files, known, lock) {
            Ok(secret) => return Ok((known.clone(), secret)),
            // Salts of rows that were shown once must not be those of other rows.
            Err(SourceError::Differs { .. } | SourceError::NoSecret { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let secret = commit::new_secret()?;
    let commitment = commit::commit(name, files, &secret)?;
    lock.add_secret(name, commitment.root, secret);
    Ok((commitment, secret))
}

/// A source as it was found: its entry for the lock, its files by that entry's paths.
struct Found {
    entry: LockedSource,
    files: BTreeMap<String, PathBuf>,
    root: PathBuf,
}

fn from_local(
    request: &SourceRequest,
    path: &Path,
    lock_folder: Option<&Path>,
    observer: &mut dyn FnMut(Event),
) -> Result<Found, SourceError> {
    observer(Event::Checking(request.name.clone()));
    let files = local::files(&request.name, path, request.kind)?;
    let mut entries = Vec::new();
    for (name, place) in &files {
        let (sha256, size) = tune_fs::digest_file(place)?;
        entries.push(LockedFile { path: name.clone(), sha256, size });
    }
    Ok(Found { entry: entry(request, local_uri(path, lock_folder), entries), files, root: path.to_owned() })
}

/// `file:` and the path within the lock's folder, or only the name where it lies elsewhere.
fn local_uri(path: &Path, lock_folder: Option<&Path>) -> String {
    let whole = |path: &Path| tune_fs::normalised(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let path = whole(path);
    let within = lock_folder.and_then(|folder| path.strip_prefix(whole(folder)).ok());
    let relative = within.or_else(|| path.file_name().map(Path::new)).unwrap_or(Path::new(""));
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    format!("file:{}", if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// `locked` is the lock's entry for this very address.
fn from_remote(
    request: &SourceRequest,
    uri: &SourceUri,
    locked: Option<&LockedSource>,
    options: &Options,
    observer: &mut dyn FnMut(Event),
) -> Result<Found, SourceError> {
    let name = &request.name;
    // An update asks the address again; without the network, what is locked is all there is.
    let usable = locked.filter(|_| !options.accepts_changes() || options.is_offline());
    let mut kept = None;
    if let Some([file]) = usable.map(|locked| locked.files.as_slice()) {
        observer(Event::Checking(name.clone()));
        // Damaged content counts as none, and is fetched again.
        kept = options.store.verify(&file.sha256)?.map(|(_, size)| (file.sha256, size));
    }
    let (sha256, size) = match kept {
        Some(kept) => kept,
        None if options.is_offline() => {
            return Err(SourceError::Offline { name: name.clone(), uri: request.location.clone() });
        }
        None => {
            observer(Event::Fetching(name.clone()));
            match uri {
                SourceUri::Pip(wanted) => pip::fetch(name, wanted, &options.store, options.size_limit)?,
                _ => fetch::fetch(name, &request.location, &options.store, options.size_limit)?,
            }
        }
    };
    let path = match uri {
        SourceUri::Pip(wanted) => wanted.member.as_str(),
        _ => request.location.split(['?', '#']).next().unwrap_or_default(),
    };
    let file_name = path.rsplit('/').next().filter(|last| !matches!(*last, "" | "." | "..")).unwrap_or(name).to_owned();
    let file = LockedFile { path: file_name.clone(), sha256, size };
    let mut entry = entry(request, request.location.clone(), vec![file]);
    if let SourceUri::Pip(wanted) = uri {
        entry.revision = Some(wanted.version.clone());
    }
    let root = options.store.place(&sha256);
    Ok(Found { entry, files: BTreeMap::from([(file_name, root.clone())]), root })
}

fn entry(request: &SourceRequest, uri: String, files: Vec<LockedFile>) -> LockedSource {
    let (licence, class) = (request.licence.clone(), request.class);
    LockedSource { licence, class, files, ..LockedSource::new(&request.name, uri) }
}

/// Bytes against the lock; the first file that differs. The name of a single file does not matter.
fn compare(locked: &LockedSource, found: &LockedSource) -> Result<(), SourceError> {
    let differs = |file: &str, known: Option<&LockedFile>, now: Option<&LockedFile>| {
        let text = |file: Option<&LockedFile>| {
            file.map_or_else(|| "no such file".to_owned(), |file| format!("{} ({} bytes)", file.sha256, file.size))
        };
        if known.map(|file| (file.sha256, file.size)) == now.map(|file| (file.sha256, file.size)) {
            return Ok(());
        }
        let (name, file) = (locked.name.clone(), file.to_owned());
        Err(SourceError::Differs { name, file, locked: text(known), found: text(now) })
    };
    if let ([known], [now]) = (locked.files.as_slice(), found.files.as_slice()) {
        return differs(&known.path, Some(known), Some(now));
    }
    let by_path = |source: &LockedSource| -> BTreeMap<String, LockedFile> {
        source.files.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (known, now) = (by_path(locked), by_path(found));
    known.keys().chain(now.keys()).try_for_each(|path| differs(path, known.get(path), now.get(path)))
}
