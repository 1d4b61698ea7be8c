//! `hf://user/repo[@revision]`

use std::fmt;

use super::HubError;
use crate::uri::with_lower_scheme;

/// What every target begins with.
const SCHEME: &str = "hf://";

/// Longest name of a user or repository, as the hub has it.
const LONGEST_NAME: usize = 96;

/// Longest name of a revision.
const LONGEST_REVISION: usize = 255;

/// A model repository on the hub, and which revision of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubTarget {
    owner: String,
    name: String,
    revision: Option<String>,
}

impl HubTarget {
    /// Whether a text means a repository on the hub, well or badly written.
    #[must_use]
    pub fn is_meant_by(text: &str) -> bool {
        with_lower_scheme(text).starts_with(SCHEME)
    }

    /// Takes `hf://user/repo[@revision]` apart. A revision is a branch, a tag or a commit.
    ///
    /// # Errors
    /// Another form, or characters that the hub's names do not have.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let invalid = |problem: &str| HubError::Target { text: text.to_owned(), problem: problem.to_owned() };
        let lower = with_lower_scheme(text);
        let rest = lower.strip_prefix(SCHEME).ok_or_else(|| invalid("it does not begin with `hf://`"))?;
        let (id, revision) = match rest.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (rest, None),
        };
        let Some((owner, name)) = id.split_once('/').filter(|(_, name)| !name.contains('/')) else {
            return Err(invalid("a repository is written `hf://user/repo` or `hf://user/repo@revision`"));
        };
        if ["datasets", "spaces", "models"].contains(&owner) {
            return Err(invalid("only model repositories are known, written `hf://user/repo`"));
        }
        if !is_name(owner) || !is_name(name) {
            return Err(invalid(
                "user and repository hold letters, digits, `-`, `_` and `.`; they neither begin nor end with `-` or `.` and have no `--` or `..`",
            ));
        }
        if revision.is_some_and(|revision| !is_revision(revision)) {
            return Err(invalid("a revision is the name of a branch or tag, or a commit"));
        }
        Ok(Self { owner: owner.to_owned(), name: name.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// Takes `hf://user/repo` apart, where something is to be published.
    ///
    /// # Errors
    /// As [`Self::parse`], and a revision: what is published goes to the branch `main`.
    pub fn parse_for_publishing(text: &str) -> Result<Self, HubError> {
        let target = Self::parse(text)?;
        if target.revision.is_some() {
            let problem = "what is published goes to the branch `main`: leave the revision out".to_owned();
            return Err(HubError::Target { text: text.to_owned(), problem });
        }
        Ok(target)
    }

    /// `user/repo`
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The user or organisation.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The revision, as asked for.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }
}

impl fmt::Display for HubTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.owner, self.name)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    text.len() <= LONGEST_NAME
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !text.contains("..")
        && !text.contains("--")
}

fn is_revision(text: &str) -> bool {
    text.len() <= LONGEST_REVISION
        && text.split('/').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
                && !part.contains("..")
                && !part.ends_with('.')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let target = HubTarget::parse("hf://some-one/Model_1.5").unwrap();
        assert_eq!((target.owner(), target.name(), target.revision()), ("some-one", "Model_1.5", None));
        assert_eq!(
            (target.id().as_str(), target.to_string().as_str()),
            ("some-one/Model_1.5", "hf://some-one/Model_1.5")
        );
        for revision in ["main", "v1.0", "refs/pr/3", "0123456789abcdef0123456789abcdef01234567"] {
            let text = format!("hf://a/b@{revision}");
            let target = HubTarget::parse(&text).unwrap();
            assert_eq!((target.revision(), target.to_string()), (Some(revision), text));
        }
        assert_eq!(HubTarget::parse("HF://a/b").unwrap(), HubTarget::parse("hf://a/b").unwrap());
        assert!(HubTarget::is_meant_by("hf://") && !HubTarget::is_meant_by("hf:/a/b") && !HubTarget::is_meant_by("a"));
    }

    #[test]
    fn what_the_hub_does_not_know_is_refused() {
        let long = format!("hf://a/{}", "b".repeat(97));
        for text in [
            "a/b",
            "https://huggingface.co/a/b",
            "hf://",
            "hf://a",
            "hf://a/",
            "hf:///b",
            "hf://a/b/",
            "hf://a/b/c",
            "hf://datasets/a",
            "hf://spaces/a",
            "hf://datasets/a/b",
            "hf://../b",
            "hf://a/..",
            "hf://a/b..c",
            "hf://a/b--c",
            "hf://a/-b",
            "hf://a/b.",
            "hf://a/b c",
            "hf://a/b?x",
            "hf://a/b#x",
            "hf://a/b%2e",
            "hf://a/b\\c",
            "hf://a/b\r\n",
            "hf://a/ü",
            "hf://a/b@",
            "hf://a/b@..",
            "hf://a/b@x..y",
            "hf://a/b@/x",
            "hf://a/b@x/",
            "hf://a/b@x//y",
            "hf://a/b@x/../y",
            "hf://a/b@-x",
            "hf://a/b@x y",
            "hf://a/b@x@y",
            "hf://a/b@x?y",
            "hf://user:secret@a/b",
            &long,
        ] {
            let error = HubTarget::parse(text).unwrap_err();
            assert!(matches!(error, HubError::Target { .. }) && error.hint().is_some(), "{text}");
        }
    }

    #[test]
    fn publishing_takes_no_revision() {
        assert_eq!(HubTarget::parse_for_publishing("hf://a/b").unwrap(), HubTarget::parse("hf://a/b").unwrap());
        assert!(HubTarget::parse_for_publishing("hf://a/b@main").unwrap_err().to_string().contains("`main`"));
    }
}
