//! `pip:` sources: a named package, downloaded with the machine's own pip and its configuration, one member taken out.

use std::io::{Read, Seek};
use std::path::Path;
use std::process::Command;

use tune_fs::ContentStore;
use tune_schema::Digest;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::SourceError;

/// Downloads `package==version` and stores `member`. Gives its digest and size. Nothing of the package is run.
///
/// # Errors
/// No Python with pip, no such package or version, or no such member.
pub fn fetch(name: &str, package: &str, version: &str, member: &str, store: &ContentStore, limit: u64) -> Result<(Digest, u64), SourceError> {
    let requirement = format!("{package}=={version}");
    let failed = |problem: String| SourceError::Fetch { name: name.to_owned(), uri: format!("pip:{requirement}#{member}"), problem };
    let folder = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
    // Only wheels: building a source distribution would run the package's code.
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest"])
        .arg(folder.path())
        .arg("--")
        .arg(&requirement)
        .output()
        .map_err(|error| failed(format!("cannot run `python3 -m pip`: {error}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().rev().find(|line| line.contains("ERROR")).or(text.lines().last()).unwrap_or("no message");
        return Err(failed(format!("pip said: {}", line.trim())));
    }
    let files = tune_fs::list_files_recursive(folder.path())?;
    let wheel = files.iter().find(|file| file.ends_with(".whl")).ok_or_else(|| failed("pip brought no wheel".to_owned()))?;
    extract(&requirement, &folder.path().join(wheel), member, store, limit)
}

/// Stores one member of a wheel.
///
/// # Errors
/// A file that is no wheel, or has no such member.
pub fn extract(package: &str, wheel: &Path, member: &str, store: &ContentStore, limit: u64) -> Result<(Digest, u64), SourceError> {
    let broken = |error: ZipError| SourceError::Fetch {
        name: package.to_owned(),
        uri: format!("pip:{package}#{member}"),
        problem: format!("the wheel cannot be read: {error}"),
    };
    let mut archive = ZipArchive::new(tune_fs::open(wheel)?).map_err(broken)?;
    let near = nearest(&archive, member);
    let mut entry = match archive.by_name(member) {
        Ok(entry) => entry,
        Err(ZipError::FileNotFound) => {
            return Err(SourceError::Member { package: package.to_owned(), member: member.to_owned(), near });
        }
        Err(error) => return Err(broken(error)),
    };
    // The store counts what really comes out, whatever size the archive states.
    Ok(store.insert(&mut entry as &mut dyn Read, limit)?)
}

/// Members that share the wanted file's folder or ending.
fn nearest<R: Read + Seek>(archive: &ZipArchive<R>, member: &str) -> Vec<String> {
    let ending = member.rsplit('.').next().unwrap_or_default();
    let mut names: Vec<String> = archive.file_names().filter(|name| name.ends_with(ending)).map(str::to_owned).collect();
    if names.is_empty() {
        names = archive.file_names().map(str::to_owned).collect();
    }
    names.sort();
    names.truncate(5);
    names
}
