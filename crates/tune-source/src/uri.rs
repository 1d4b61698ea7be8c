//! The forms in which a recipe names a source.

use std::path::PathBuf;

use crate::SourceError;

/// A source's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceUri {
    /// A file or folder on this machine: `PATH` or `file:PATH`.
    Local(PathBuf),
    /// `https://…`; `http://…` only on this machine itself.
    Http(String),
    /// A file in a Python package: `pip:NAME==VERSION#MEMBER`.
    Pip {
        /// The package.
        name: String,
        /// Its exact version.
        version: String,
        /// Path within the wheel.
        member: String,
    },
}

impl SourceUri {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// A form that is none of the three, or names that could be mistaken for options.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let invalid = |problem: &str| SourceError::Uri { uri: text.to_owned(), problem: problem.to_owned() };
        if let Some(rest) = text.strip_prefix("pip:") {
            let (package, member) = rest.split_once('#').ok_or_else(|| invalid("a `pip:` source is written `pip:NAME==VERSION#MEMBER`"))?;
            let (name, version) = package.split_once("==").ok_or_else(|| invalid("a `pip:` source needs an exact version: `NAME==VERSION`"))?;
            // Nothing that pip could read as an option, a path or an address.
            let plain = |part: &str, more: &str| {
                part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            };
            if !plain(name, "-_.") || !plain(version, "-_.+!") {
                return Err(invalid("name and version may hold letters, digits, `-`, `_` and `.`"));
            }
            let leaves = member.starts_with('/') || member.contains('\\') || member.split('/').any(|part| part.is_empty() || part == "..");
            if leaves {
                return Err(invalid("the member is a path inside the package"));
            }
            return Ok(Self::Pip { name: name.to_owned(), version: version.to_owned(), member: member.to_owned() });
        }
        if text.starts_with("https://") {
            return Ok(Self::Http(text.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let host = rest.split(['/', ':']).next().unwrap_or_default();
            if ["127.0.0.1", "localhost"].contains(&host) {
                return Ok(Self::Http(text.to_owned()));
            }
            return Err(invalid("`http://` is refused, because anyone on the way could change it: use `https://`"));
        }
        if text.starts_with("hf://") {
            return Err(invalid("`hf://` is not supported yet: download the files and give their path"));
        }
        if text.contains("://") {
            return Err(invalid("known are a path, `file:PATH`, `https://…` and `pip:NAME==VERSION#MEMBER`"));
        }
        Ok(Self::Local(PathBuf::from(text.strip_prefix("file:").unwrap_or(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(SourceUri::parse("a/b.jsonl").unwrap(), SourceUri::Local("a/b.jsonl".into()));
        assert_eq!(SourceUri::parse("file:a").unwrap(), SourceUri::Local("a".into()));
        assert!(matches!(SourceUri::parse("https://example.org/x").unwrap(), SourceUri::Http(_)));
        assert!(matches!(SourceUri::parse("http://127.0.0.1:99/x").unwrap(), SourceUri::Http(_)));
        let pip = SourceUri::Pip { name: "a-b".into(), version: "1.2".into(), member: "a/m.gguf".into() };
        assert_eq!(SourceUri::parse("pip:a-b==1.2#a/m.gguf").unwrap(), pip);
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        for text in [
            "http://example.org/x",
            "ftp://example.org/x",
            "pip:a#m",
            "pip:a==1",
            "pip:--index-url==1#m",
            "pip:a==1 --index-url x#m",
            "pip:../x==1#m",
            "pip:a==1#../m",
            "pip:a==1#/m",
        ] {
            assert!(SourceUri::parse(text).is_err(), "{text}");
        }
    }
}
