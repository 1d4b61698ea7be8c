//! Paths within a repository, beside [`tune_schema::path`]: which can lie in one folder, and how they stand in an address.

use std::collections::{BTreeMap, BTreeSet};

/// That files can lie beside each other: no two of one name where case does not count, and none where another has a
/// folder. Gives a path that cannot be.
pub(crate) fn clash<T>(files: &BTreeMap<String, T>) -> Option<&str> {
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
pub(crate) fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// A path as part of an address.
pub(crate) fn quoted(path: &str) -> String {
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
