//! Where the hub is, and the token that it alone gets.

use std::fmt;

use ureq::http::{HeaderValue, Uri};

use super::HubError;
use crate::uri::SourceUri;

/// The address of the hub, `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint(String);

impl Endpoint {
    /// `https`, or `http` where it is this machine itself; a host and nothing after it.
    pub(super) fn parse(text: &str) -> Result<Self, HubError> {
        let bare = text.trim_end_matches('/');
        let invalid = |problem: String| HubError::Endpoint { text: text.to_owned(), problem };
        allowed(bare).map_err(invalid)?;
        let path = bare.split_once("://").map_or(bare, |(_, rest)| rest);
        if path.contains(['/', '?', '#']) || origin(bare).is_none() {
            return Err(invalid("it is a scheme and a host, as `https://huggingface.co`".to_owned()));
        }
        Ok(Self(bare.to_owned()))
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// The address of a path on the hub; the path begins with `/`.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether an address is on the hub's own host: the same scheme, host and port.
    pub(super) fn is_own(&self, address: &str) -> bool {
        origin(address).is_some_and(|theirs| origin(&self.0) == Some(theirs))
    }

    /// The address of the next page, taken to the hub's own host whatever host it names: a mirror hands on what another
    /// host wrote.
    pub(super) fn next_page(&self, address: &str) -> Option<String> {
        let uri: Uri = address.parse().ok()?;
        let path = uri.path_and_query()?.as_str();
        path.starts_with("/api/").then(|| self.address(path))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Scheme, host and port.
fn origin(address: &str) -> Option<(String, String, u16)> {
    let uri: Uri = address.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    Some((scheme, uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(usual)))
}

/// That an address may be gone to at all: with encryption or on this machine, and without a password in it.
pub(crate) fn allowed(address: &str) -> Result<(), String> {
    match SourceUri::parse(address) {
        Ok(SourceUri::Http(_)) => Ok(()),
        Ok(_) => Err("this is not an address".to_owned()),
        Err(crate::SourceError::Uri { problem, .. }) => Err(problem),
        Err(error) => Err(error.to_string()),
    }
}

/// Where a redirect from `address` leads.
pub(super) fn redirected(address: &str, location: &str) -> Result<String, String> {
    let target = if location.starts_with('/') && !location.starts_with("//") {
        let (scheme, rest) = address.split_once("://").ok_or("this is not an address")?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        format!("{scheme}://{host}{location}")
    } else {
        location.to_owned()
    };
    allowed(&target)?;
    if address.starts_with("https://") && !target.starts_with("https://") {
        return Err("it leads to a place without encryption".to_owned());
    }
    Ok(target)
}

/// An address as it may be shown: without what follows `?`, which can hold signatures, and without a name and password.
pub(crate) fn shown(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or_default())
}

/// A token. It is neither shown nor written.
#[derive(Clone)]
pub(super) struct Token {
    text: String,
    header: HeaderValue,
}

impl Token {
    /// A token by its text.
    pub(super) fn new(text: &str) -> Result<Self, HubError> {
        let is_token = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        let header = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| is_token);
        let mut header = header.ok_or(HubError::Token)?;
        // Libraries that log headers leave such a one out.
        header.set_sensitive(true);
        Ok(Self { text: text.to_owned(), header })
    }

    /// The first of `HF_TOKEN` and `HUGGING_FACE_HUB_TOKEN` that is set and not empty.
    pub(super) fn from_environment() -> Result<Option<Self>, HubError> {
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(value) = std::env::var_os(name) {
                let text = value.to_str().ok_or(HubError::Token)?.trim();
                if !text.is_empty() {
                    return Self::new(text).map(Some);
                }
            }
        }
        Ok(None)
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// A text with the token taken out, should it hold it.
    pub(super) fn removed_from(&self, text: &str) -> String {
        text.replace(&self.text, "[token]")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_is_a_host_with_encryption_or_this_machine() {
        for (text, shown) in [
            ("https://huggingface.co", "https://huggingface.co"),
            ("https://huggingface.co/", "https://huggingface.co"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:1/", "http://localhost:1"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "huggingface.co",
            "http://huggingface.co",
            "https://user:secret@huggingface.co",
            "https://huggingface.co/path",
            "https://huggingface.co?x",
            "hf://a/b",
            "https://",
            "https://a b",
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(matches!(error, HubError::Endpoint { .. }), "{text}");
        }
    }

    #[test]
    fn own_is_the_same_scheme_host_and_port() {
        let hub = Endpoint::parse("https://huggingface.co").unwrap();
        for own in ["https://huggingface.co/a", "https://HuggingFace.co:443/b?c"] {
            assert!(hub.is_own(own), "{own}");
        }
        for other in [
            "http://huggingface.co/a",
            "https://huggingface.co:444/a",
            "https://cdn.huggingface.co/a",
            "https://huggingface.co.example.org/a",
            "https://huggingface.co@example.org/a",
            "/a",
            "",
        ] {
            assert!(!hub.is_own(other), "{other}");
        }
        let here = Endpoint::parse("http://127.0.0.1:80").unwrap();
        assert!(here.is_own("http://127.0.0.1/a") && !here.is_own("http://127.0.0.1:81/a"));
    }

    #[test]
    fn pages_stay_on_the_hub() {
        let hub = Endpoint::parse("https://mirror.example").unwrap();
        let next = hub.next_page("https://huggingface.co/api/models/a/b/tree/main?cursor=x");
        assert_eq!(next.as_deref(), Some("https://mirror.example/api/models/a/b/tree/main?cursor=x"));
        assert_eq!(hub.next_page("https://huggingface.co/other"), None);
        assert_eq!(hub.next_page("not an address"), None);
    }

    #[test]
    fn redirects_keep_their_encryption() {
        let from = "https://huggingface.co/a?b";
        assert_eq!(redirected(from, "/c?d").unwrap(), "https://huggingface.co/c?d");
        assert_eq!(redirected(from, "https://cdn.example/c").unwrap(), "https://cdn.example/c");
        for location in ["http://127.0.0.1/c", "http://example.org", "//example.org/c", "c", "file:///etc/passwd", ""] {
            assert!(redirected(from, location).is_err(), "{location}");
        }
        assert_eq!(redirected("http://127.0.0.1:1/a", "http://127.0.0.1:2/b").unwrap(), "http://127.0.0.1:2/b");
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (address, expected) in [
            ("https://host/a@b/c?sig=1#x", "https://host/a@b/c"),
            ("https://user:word@host:8/a", "https://host:8/a"),
            ("https://a@b@host", "https://host"),
            ("host/path", "host/path"),
        ] {
            assert_eq!(shown(address), expected, "{address}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::new("hf_secret").unwrap();
        assert_eq!(format!("{token:?} {:?}", token.header()), "Token Sensitive");
        assert_eq!(token.removed_from("no hf_secret here"), "no [token] here");
        for text in ["", "a b", "a\nb", "ä", "a\r\nHost: b"] {
            let error = Token::new(text).unwrap_err();
            assert!(text.is_empty() || !format!("{error} {error:?}").contains(text));
        }
    }
}
