//! Paths and names of strangers: what a list may make this machine read or write.

use crate::text::is_obeyed;

/// Longest path; file systems refuse longer ones at various lengths.
const LONGEST: usize = 1024;

/// That a path names a file below a folder, on whatever system, and is shown as it is.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > LONGEST {
        return Err("it is empty or longer than 1024 bytes");
    }
    if path.chars().any(is_obeyed) {
        return Err("it holds a control character, or one that turns or ends a line");
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

/// That a name is one part of a path, which names a file in a folder, on whatever system.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    check(name)?;
    if name.contains('/') { Err("it holds a `/`") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_part() {
        for name in ["rows", "SmolLM2-135M", "my rows (2)", "ü.jsonl", "..x"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a/b", "/a", "a\\b", "C:", "a\nb", "a\u{202e}b", "a\u{1b}[2J"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

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
            "a\u{202e}b",
            &long,
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
    }
}
