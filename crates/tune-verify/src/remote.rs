//! A run or published folder on a web server: which files belong to it, and these in a folder of this machine.
//!
//! Such a server gives no list, so the names are those of the manifest and, in a published folder, of its signature and of
//! `gguf/`. Other files that may lie there are not seen. A name that leads elsewhere is not asked for: the verdict about the
//! manifest says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tune_publish::signature;
use tune_schema::manifest::{Manifest, PUBLISHED_RUN};
use tune_schema::path;
use tune_source::hub::{Event, Limits};
use tune_source::site::{Named, Site, SiteError};
use tune_train::{RunFolder, layout};

use crate::files::TEXT_LIMIT;

/// The manifest, below the folder it lies in.
const MANIFEST: &str = "manifest.json";

/// A run or published folder on a web server, as its manifest has it.
#[derive(Debug)]
pub struct Remote {
    site: Site,
    /// Files that were needed to know the others.
    read: BTreeMap<String, Vec<u8>>,
    /// Sizes of the others, as the server says them.
    rest: BTreeMap<String, u64>,
    /// Files that the manifest lists, and the server does not have.
    missing: usize,
}

/// Finds a run or published folder by its address, `https://host/path/manifest.json` or `https://host/path/`, and asks how
/// large its files are. Only the manifest and the signature are fetched.
///
/// # Errors
/// An address that is none, no manifest there, files beyond the limits, or a transfer that breaks every time.
pub fn look(address: &str, limits: Limits, observer: &mut dyn FnMut(Event)) -> Result<Remote, SiteError> {
    let (site, named) = Site::parse(address)?;
    let (site, manifest, published) = find(site, named, observer)?;
    let folder = if published { RunFolder::of_published(Path::new("")) } else { RunFolder::new("") };
    let name = |path: &str| folder.place(path).to_string_lossy().into_owned();
    let needed: BTreeSet<String> = listed(&manifest).iter().map(|path| name(path)).collect();
    let mut names = needed.clone();
    let mut read = BTreeMap::from([(name(MANIFEST), manifest)]);
    if published {
        names.extend(tune_schema::export::published_paths());
        if let Some(bytes) = site.read(signature::FILE_NAME, TEXT_LIMIT, observer)? {
            names.extend(signature::names(&bytes).into_iter().filter(|name| path::check(name).is_ok()));
            read.insert(signature::FILE_NAME.to_owned(), bytes);
        }
    }
    names.retain(|name| !read.contains_key(name));
    let rest = site.sizes(&names, limits, observer)?;
    let missing = needed.iter().filter(|name| !rest.contains_key(*name)).count();
    Ok(Remote { site, read, rest, missing })
}

/// The folder, its manifest, and whether it is a published one.
fn find(site: Site, named: Named, observer: &mut dyn FnMut(Event)) -> Result<(Site, Vec<u8>, bool), SiteError> {
    if let Some(bytes) = site.read(MANIFEST, TEXT_LIMIT, observer)? {
        // The manifest of a published folder lies in its `run/`, which has no result: that is beside it.
        let above = site.above().filter(|_| site.name() == Some(PUBLISHED_RUN));
        return Ok(match above {
            Some(above) if !has_result(&site, &bytes, observer)? => (above, bytes, true),
            _ => (site, bytes, false),
        });
    }
    if named == Named::Folder
        && let Some(bytes) = site.read(&format!("{PUBLISHED_RUN}/{MANIFEST}"), TEXT_LIMIT, observer)?
    {
        return Ok((site, bytes, true));
    }
    Err(SiteError::NotFound { address: format!("{}{MANIFEST}", site.address()) })
}

/// Whether a result lies where a run folder has it: one of its small files, read, for a server may answer a question for any
/// name with a page of its own.
fn has_result(site: &Site, manifest: &[u8], observer: &mut dyn FnMut(Event)) -> Result<bool, SiteError> {
    let is_small = |path: &&String| layout::name_of_result(path).is_some() && path.ends_with(".json");
    for path in listed(manifest).iter().filter(is_small) {
        let bytes = site.read(path, TEXT_LIMIT, observer)?;
        if bytes.is_some_and(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).is_ok()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The files that a manifest lists, without names that lead elsewhere. None where it is no manifest: the verdict says so.
fn listed(manifest: &[u8]) -> BTreeSet<String> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else { return BTreeSet::new() };
    let names = manifest.claim.files.into_keys().chain(manifest.environment.into_keys());
    names.filter(|name| path::check(name).is_ok()).collect()
}

impl Remote {
    /// The address of the folder, ending in `/`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.site.address()
    }

    /// Number of its files.
    #[must_use]
    pub fn files(&self) -> usize {
        self.read.len() + self.rest.len()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.read.values().map(|bytes| bytes.len() as u64).chain(self.rest.values().copied()).sum()
    }

    /// Files that the manifest lists, and the server does not have.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// Fetches the files into the folder `into`, which must not be there.
    ///
    /// # Errors
    /// A transfer that breaks every time, a file of another size than was said, or a disk that does not take it. Nothing is
    /// left behind.
    pub fn download(&self, into: &Path, observer: &mut dyn FnMut(Event)) -> Result<(), SiteError> {
        tune_fs::create_dir_whole(into, |staging| {
            for (name, bytes) in &self.read {
                let place = staging.join(name);
                tune_fs::create_dir_all(place.parent().unwrap_or(staging))?;
                tune_fs::write_atomic(&place, bytes)?;
            }
            self.site.download(&self.rest, staging, observer)
        })
    }
}
