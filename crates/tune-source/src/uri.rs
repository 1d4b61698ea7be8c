//! The forms in which a recipe names a source.

use std::fmt;
use std::path::PathBuf;

use crate::SourceError;

/// A source's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceUri {
    /// A file or folder on this machine: `PATH` or `file:PATH`.
    Local(PathBuf),
    /// `https://…`; `http://…` only on this machine itself.
    Http(String),
    /// `pip:NAME==VERSION#MEMBER`.
    Pip(PipMember),
}

/// A file in a Python package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipMember {
    /// The package.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// Path within the wheel.
    pub member: String,
}

impl PipMember {
    /// `NAME==VERSION`, as pip takes it.
    #[must_use]
    pub fn requirement(&self) -> String {
        format!("{}=={}", self.package, self.version)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (requirement, member) =
            text.split_once('#').ok_or("a `pip:` source is written `pip:NAME==VERSION#MEMBER`")?;
        let (package, version) =
            requirement.split_once("==").ok_or("a `pip:` source needs an exact version: `NAME==VERSION`")?;
        // Nothing that pip could read as an option, a path or an address, and no pattern of versions.
        let plain = |part: &str, more: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if !plain(package, "-_.") || !plain(version, "-_.+!") {
            return Err("name and version hold letters, digits, `-`, `_` and `.`, and begin with a letter or digit");
        }
        if member.contains('\\') || member.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("the member is a path inside the package");
        }
        Ok(Self { package: package.to_owned(), version: version.to_owned(), member: member.to_owned() })
    }
}

impl fmt::Display for PipMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pip:{}=={}#{}", self.package, self.version, self.member)
    }
}

impl SourceUri {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// A form that is none of the three, or one that could do harm: names that pip could mistake for options, an
    /// address without encryption or with a password in it.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let invalid = |problem: &str| SourceError::Uri { uri: text.to_owned(), problem: problem.to_owned() };
        if let Some(rest) = text.strip_prefix("pip:") {
            return PipMember::parse(rest).map(Self::Pip).map_err(invalid);
        }
        let plain_http = text.starts_with("http://");
        if let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
            let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
            if authority.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(invalid("this is not an address"));
            }
            if authority.contains('@') {
                return Err(invalid("an address may not hold a user or password: recipes and locks are published"));
            }
            if plain_http && !is_loopback(authority) {
                return Err(invalid("`http://` is refused, because anyone on the way could change it: use `https://`"));
            }
            return Ok(Self::Http(text.to_owned()));
        }
        if text.starts_with("hf://") {
            return Err(invalid("`hf://` is not supported yet: download the files and give their path"));
        }
        if text.contains("://") {
            return Err(invalid("known are a path, `file:PATH`, `https://…` and `pip:NAME==VERSION#MEMBER`"));
        }
        let path = text.strip_prefix("file:").unwrap_or(text);
        if path.is_empty() {
            return Err(invalid("a path is missing"));
        }
        Ok(Self::Local(PathBuf::from(path)))
    }
}

/// An address with its scheme in lower case, in which it means the same (RFC 3986, section 3.1).
pub(crate) fn with_lower_scheme(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None => text.to_owned(),
    }
}

/// Whether `HOST` or `HOST:PORT` is this machine.
fn is_loopback(authority: &str) -> bool {
    let port = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let host = authority.rsplit_once(':').filter(|(_, rest)| port(rest)).map_or(authority, |(host, _)| host);
    ["127.0.0.1", "localhost", "[::1]"].contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(SourceUri::parse("a/b.jsonl").unwrap(), SourceUri::Local("a/b.jsonl".into()));
        assert_eq!(SourceUri::parse("file:a").unwrap(), SourceUri::Local("a".into()));
        for address in ["https://example.org/x", "http://127.0.0.1:99/x", "http://localhost/x", "http://[::1]:9/x"] {
            assert_eq!(SourceUri::parse(address).unwrap(), SourceUri::Http(address.into()));
        }
        let pip = PipMember { package: "a-b".into(), version: "1.2".into(), member: "a/m.gguf".into() };
        assert_eq!(pip.to_string(), "pip:a-b==1.2#a/m.gguf");
        assert_eq!(SourceUri::parse("pip:a-b==1.2#a/m.gguf").unwrap(), SourceUri::Pip(pip));
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        for text in [
            "",
            "file:",
            "http://example.org/x",
            "http://127.0.0.1:80@example.org/x",
            "http://127.0.0.1.example.org/x",
            "http://localhost@example.org/x",
            "https://user:secret@example.org/x",
            "https:///x",
            "https://example.org/x\r\nHost: other",
            "ftp://example.org/x",
            "file:///etc/passwd",
            "pip:a#m",
            "pip:a==1",
            "pip:a==1#",
            "pip:==1#m",
            "pip:a==#m",
            "pip:a==*#m",
            "pip:a===1#m",
            "pip:a==1,>0#m",
            "pip:--index-url==1#m",
            "pip:-r==1#m",
            "pip:a==--pre#m",
            "pip:a==1 --index-url x#m",
            "pip:a[extra]==1#m",
            "pip:a @ https://x==1#m",
            "pip:../x==1#m",
            "pip:a==1#../m",
            "pip:a==1#b/../../m",
            "pip:a==1#b\\m",
            "pip:a==1#/m",
        ] {
            assert!(SourceUri::parse(text).is_err(), "{text}");
        }
    }
}
