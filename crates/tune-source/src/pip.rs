//! `pip:` sources: a package, downloaded with the machine's own pip and its configuration, one member taken out.

use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::Path;
use std::process::Command;

use tune_fs::{ContentStore, FsError};
use tune_schema::Digest;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::SourceError;
use crate::uri::PipMember;

/// Downloads a package and stores the wanted member. Gives its digest and size. Nothing of the package is run.
///
/// # Errors
/// No Python with pip, no such package or version, or no such member.
pub fn fetch(name: &str, wanted: &PipMember, store: &ContentStore, limit: u64) -> Result<(Digest, u64), SourceError> {
    let requirement = wanted.requirement();
    let failed =
        |problem: String| SourceError::Pip { name: name.to_owned(), requirement: requirement.clone(), problem };
    let no_pip = || SourceError::NoPip { name: name.to_owned(), requirement: requirement.clone() };
    let folder = tempfile::tempdir().map_err(|error| failed(format!("no temporary folder: {error}")))?;
    let wheels = folder.path().join("wheels");
    tune_fs::create_dir_all(&wheels)?;
    let output = download(&requirement, folder.path(), &wheels).output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => no_pip(),
        _ => failed(format!("cannot run `python3`: {error}")),
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("No module named pip") {
            return Err(no_pip());
        }
        let line = text.lines().rev().find(|line| line.contains("ERROR")).or(text.lines().last());
        return Err(failed(format!("pip said: {}", line.unwrap_or("nothing").trim())));
    }
    let files = tune_fs::list_files_recursive(&wheels)?;
    let wheel =
        files.iter().find(|file| file.ends_with(".whl")).ok_or_else(|| failed("pip brought no wheel".into()))?;
    extract(name, wanted, &wheels.join(wheel), store, limit)
}

/// The command that brings a wheel into `wheels`, run in `empty`.
fn download(requirement: &str, empty: &Path, wheels: &Path) -> Command {
    let mut command = Command::new("python3");
    command
        // `-m` looks for modules in the current folder first. That may be a stranger's, with a `pip.py` in it.
        .current_dir(empty)
        // Only wheels: building a source distribution would run the package's code.
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-binary=:none:", "-q", "-d"])
        .arg(wheels)
        .args(["--", requirement]);
    command
}

/// Stores one member of a wheel. Gives its digest and size.
///
/// The member's name is only compared with those in the wheel; it never becomes a path.
///
/// # Errors
/// A file that is no wheel, has no such member, or a larger one.
pub fn extract(
    name: &str,
    wanted: &PipMember,
    wheel: &Path,
    store: &ContentStore,
    limit: u64,
) -> Result<(Digest, u64), SourceError> {
    let requirement = wanted.requirement();
    let broken =
        |problem: String| SourceError::Pip { name: name.to_owned(), requirement: requirement.clone(), problem };
    let unreadable = |error: ZipError| broken(format!("the wheel cannot be read: {error}"));
    let mut archive = ZipArchive::new(BufReader::new(tune_fs::open(wheel)?)).map_err(unreadable)?;
    let near = nearest(&archive, &wanted.member);
    let mut entry = match archive.by_name(&wanted.member) {
        Ok(entry) => entry,
        Err(ZipError::FileNotFound) => {
            let (name, member) = (name.to_owned(), wanted.member.clone());
            return Err(SourceError::Member { name, package: requirement, member, near });
        }
        Err(error) => return Err(unreadable(error)),
    };
    // The store counts what really comes out, whatever size the archive states.
    store.insert(&mut entry as &mut dyn Read, limit).map_err(|error| match error {
        FsError::Incoming { source } => broken(format!("the wheel cannot be read: {source}")),
        FsError::IncomingTooLarge { limit } => broken(format!("`{}` is larger, the limit is {limit}", wanted.member)),
        disk => disk.into(),
    })
}

/// The members most like the wanted one, the most like first.
fn nearest<R: Read + Seek>(archive: &ZipArchive<R>, member: &str) -> Vec<String> {
    let files = archive.file_names().filter(|name| !name.ends_with('/'));
    let mut names: Vec<(f64, &str)> = files.map(|name| (strsim::jaro_winkler(member, name), name)).collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    names.into_iter().take(5).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    fn wheel(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn extracted(wheel: &[u8], member: &str, limit: u64) -> (Result<(Digest, u64), SourceError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-1-py3-none-any.whl");
        tune_fs::write_atomic(&path, wheel).unwrap();
        let wanted = PipMember { package: "a".into(), version: "1".into(), member: member.into() };
        let store = folder.path().join("store");
        let result = extract("base", &wanted, &path, &ContentStore::new(&store), limit);
        (result, tune_fs::list_files_recursive(folder.path()).unwrap())
    }

    #[test]
    fn one_member_is_taken_and_nothing_else() {
        let bytes = wheel(&[("a/model.gguf", b"weights"), ("a/__init__.py", b"raise SystemExit")]);
        let (result, files) = extracted(&bytes, "a/model.gguf", 100);
        assert_eq!(result.unwrap(), (Digest::of(b"weights"), 7));
        assert_eq!(files.len(), 2, "{files:?}");
    }

    #[test]
    fn pip_runs_outside_the_recipes_folder_and_takes_only_wheels() {
        let command = download("a==1", Path::new("/empty"), Path::new("/empty/wheels"));
        assert_eq!(command.get_current_dir(), Some(Path::new("/empty")));
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().unwrap()).collect();
        assert!(arguments.contains(&"--only-binary=:all:") && arguments.contains(&"--no-deps"));
        assert_eq!(arguments[arguments.len() - 2..], ["--", "a==1"]);
    }

    #[test]
    fn a_missing_member_names_the_nearest() {
        let bytes = wheel(&[("a/model.Q8.gguf", b""), ("z/readme.txt", b""), ("a/model.Q4.gguf", b"")]);
        let error = extracted(&bytes, "a/model.Q5.gguf", 100).0.unwrap_err();
        assert!(error.to_string().contains("a==1") && error.to_string().contains("base"), "{error}");
        assert_eq!(error.hint().unwrap(), "the nearest it holds: `a/model.Q4.gguf`, `a/model.Q8.gguf`, `z/readme.txt`");
        let empty = extracted(&wheel(&[]), "m", 100).0.unwrap_err();
        assert!(matches!(empty, SourceError::Member { .. }) && empty.hint().is_none());
    }

    #[test]
    fn a_member_that_leaves_the_wheel_is_only_a_name() {
        let bytes = wheel(&[("../../escaped", b"x")]);
        let (result, files) = extracted(&bytes, "../../escaped", 100);
        assert_eq!(result.unwrap().0, Digest::of(b"x"));
        assert!(files.iter().all(|file| !file.contains("escaped")), "{files:?}");
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_leaves_nothing() {
        let bytes = wheel(&[("bomb", &vec![0; 1 << 20])]);
        assert!(bytes.len() < 1 << 14);
        let (result, files) = extracted(&bytes, "bomb", 1 << 16);
        assert!(result.unwrap_err().to_string().contains("the limit is 65536"));
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn a_damaged_wheel_is_told_from_a_disk() {
        assert!(matches!(extracted(b"no zip", "m", 100).0, Err(SourceError::Pip { .. })));
        let mut bytes = wheel(&[("m", b"a text long enough to be stored somewhere")]);
        bytes[32] ^= 0xff;
        assert!(matches!(extracted(&bytes, "m", 100).0, Err(SourceError::Pip { .. })));
    }
}
