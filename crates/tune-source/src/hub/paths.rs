//! Paths within a repository: what a stranger's list may make this machine write.

use std::collections::{BTreeMap, BTreeSet};

/// Longest path; file systems refuse longer ones at various lengths.
const LONGEST: usize = 1024;

/// That a path names a file below a folder, on whatever system.
pub(super) fn check(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > LONGEST {
        return Err("it is empty or longer than 1024 bytes");
    }
    if path.chars().any(char::is_control) {
        return Err("it holds a control character");
    }
    if path.contains('\\') {
        return Err("it holds a backslash");
    }
    if path.starts_with('/') {
        return Err("it is absolute");
    }
    if path.as_bytes()[0].is_ascii_alphabetic() && path.as_bytes().get(1) == Some(&b':') {
        return Err("it names a drive");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it has an empty part, `.` or `..`");
    }
    Ok(())
}

/// That files can lie beside each other: no two of one name where case does not count, and none where another has a
/// folder. Gives a path that cannot be.
pub(super) fn clash<T>(files: &BTreeMap<String, T>) -> Option<&str> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = files.keys().find(|path| !seen.insert(path.to_lowercase())) {
        return Some(twice);
    }
    files.keys().map(String::as_str).find(|path| {
        let lower = path.to_lowercase();
        lower.match_indices('/').any(|(end, _)| seen.contains(&lower[..end]))
    })
}

/// Whether a path lies below a folder.
pub(super) fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// A path as part of an address.
pub(super) fn quoted(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_folder() {
        for path in ["a", "a/b.txt", ".gitattributes", "a..b/..c", "run/checkpoints/step-000002/state.json", "ä b:c"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        let long = "a".repeat(1025);
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a//b",
            "a/",
            "a\\b",
            "..\\a",
            "C:",
            "c:/a",
            "a\nb",
            "a\0b",
            "\u{85}",
            &long,
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn files_that_cannot_lie_beside_each_other() {
        let clash_of = |paths: &[&str]| {
            let files: BTreeMap<String, ()> = paths.iter().map(|path| ((*path).to_owned(), ())).collect();
            clash(&files).map(str::to_owned)
        };
        assert_eq!(clash_of(&["a", "b/a", "b/c"]), None);
        assert_eq!(clash_of(&["README.md", "readme.md"]).as_deref(), Some("readme.md"));
        assert_eq!(clash_of(&["a", "a/b"]).as_deref(), Some("a/b"));
        assert_eq!(clash_of(&["A", "a/b/c"]).as_deref(), Some("a/b/c"));
    }

    #[test]
    fn below_is_not_beside() {
        assert!(is_below("run/chain.jsonl", "run") && is_below("run/a/b", "run"));
        assert!(!is_below("runs/a", "run") && !is_below("run", "run") && !is_below("a/run/b", "run"));
    }

    #[test]
    fn an_address_holds_no_special_characters() {
        assert_eq!(quoted("a/b-c_d.e~f"), "a/b-c_d.e~f");
        assert_eq!(quoted("a b?c#d%é"), "a%20b%3Fc%23d%25%C3%A9");
    }
}
