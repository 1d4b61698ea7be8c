//! A folder on a web server, of which single files are asked for: `https://host/path/`, or `http://` on this machine itself.
//!
//! There is no list: whoever asks knows the names from a manifest. The sizes are asked first, so that somebody can agree
//! to them, and a file may not become larger than that afterwards. No token or password is sent to such a server.

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tune_schema::path;
use ureq::http::header;

pub use error::SiteError;

use crate::hub::request::{Answer, Request};
use crate::hub::{Event, Hub, Limits, Observer, RemoteFile, endpoint, paths};
use crate::uri::with_lower_scheme;

/// The file that a target names where it does not name a folder.
const MANIFEST: &str = "manifest.json";

/// Statuses that are no failure of the transfer.
const ANSWERS: &[u16] = &[401, 403, 404, 410];

/// A folder on a web server.
#[derive(Debug, Clone)]
pub struct Site {
    /// The client of the hub, which knows about redirects, pauses and what is worth a second attempt; without a token.
    client: Hub,
    /// The address of the folder, ending in `/`.
    folder: String,
}

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The folder itself.
    Folder,
    /// The `manifest.json` in it.
    Manifest,
}

impl Site {
    /// Whether a text means an address, well or badly written.
    #[must_use]
    pub fn is_meant_by(text: &str) -> bool {
        let text = with_lower_scheme(text);
        ["https://", "http://"].iter().any(|scheme| text.starts_with(scheme))
    }

    /// Takes `https://host/path/manifest.json` or `https://host/path/` apart.
    ///
    /// # Errors
    /// Another form, an address without encryption that is not on this machine, or one with a password in it.
    pub fn parse(text: &str) -> Result<(Self, Named), SiteError> {
        let text = &with_lower_scheme(text);
        let invalid = |problem: String| SiteError::Target { text: endpoint::shown(text), problem };
        endpoint::allowed(text).map_err(invalid)?;
        if text.contains(['?', '#', '\\']) {
            return Err(invalid("an address of a file or folder has no `?`, `#` or backslash".to_owned()));
        }
        let (folder, named) = match text.strip_suffix(MANIFEST).filter(|rest| rest.ends_with('/')) {
            Some(folder) => (folder, Named::Manifest),
            None => (text.as_str(), Named::Folder),
        };
        let (scheme, rest) = folder.split_once("://").unwrap_or_default();
        let Some((host, inner)) =
            rest.split_once('/').filter(|(host, inner)| !host.is_empty() && (inner.is_empty() || inner.ends_with('/')))
        else {
            return Err(invalid(format!("it names neither a `{MANIFEST}` nor a folder, which ends in `/`")));
        };
        if let Some(Err(problem)) = inner.strip_suffix('/').map(path::check) {
            return Err(invalid(format!("this is not the path of a folder: {problem}")));
        }
        let client = Hub::new(&format!("{scheme}://{host}"), None).map_err(|error| invalid(error.to_string()))?;
        Ok((Self { client, folder: folder.to_owned() }, named))
    }

    /// The address of the folder, ending in `/`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.folder
    }

    /// The folder's own name; none at the top of a host.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.split().map(|(_, name)| name)
    }

    /// The folder that this one lies in; none at the top of a host.
    #[must_use]
    pub fn above(&self) -> Option<Self> {
        let folder = self.split()?.0.to_owned() + "/";
        Some(Self { folder, ..self.clone() })
    }

    fn split(&self) -> Option<(&str, &str)> {
        let (above, name) = self.folder.strip_suffix('/')?.rsplit_once('/')?;
        // Before the host there are two of them.
        (!above.ends_with('/')).then_some((above, name))
    }

    fn address_of(&self, path: &str) -> String {
        format!("{}{}", self.folder, paths::quoted(path))
    }

    /// The bytes of a file of at most `limit` bytes; none where the server has no such file.
    ///
    /// # Errors
    /// A file that may not be read or is larger, or a transfer that breaks every time.
    pub fn read(&self, path: &str, limit: u64, observer: &mut dyn FnMut(Event)) -> Result<Option<Vec<u8>>, SiteError> {
        let address = self.address_of(path);
        let answer = self.ask(&Request { also: ANSWERS, limit, ..Request::get(&address) }, observer)?;
        Ok(answer.map(|answer| answer.bytes))
    }

    /// How large the server says a file is; none where it has no such file.
    ///
    /// # Errors
    /// A file that may not be read, or a server that does not say its size.
    pub fn size(&self, path: &str, observer: &mut dyn FnMut(Event)) -> Result<Option<u64>, SiteError> {
        let address = self.address_of(path);
        let request = Request { also: ANSWERS, ..Request::head(&address) };
        let Some(answer) = self.ask(&request, observer)? else { return Ok(None) };
        let said = answer.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        match said {
            Some(size) => Ok(Some(size)),
            None => Err(SiteError::Transfer { address, problem: "the server does not say how large it is".to_owned() }),
        }
    }

    /// An answer that brings the file; none where the server has no such file.
    fn ask(&self, request: &Request<'_>, observer: &mut Observer<'_>) -> Result<Option<Answer>, SiteError> {
        let answer = self.client.ask(request, observer)?;
        let address = || request.address.to_owned();
        match answer.status {
            // Only this brings the whole file.
            200 => Ok(Some(answer)),
            404 | 410 => Ok(None),
            status @ (401 | 403) => Err(SiteError::Closed { address: address(), status }),
            status => Err(SiteError::Transfer { address: address(), problem: format!("the server answered {status}") }),
        }
    }

    /// The sizes of files as the server says them, without those that it does not have.
    ///
    /// # Errors
    /// Names that cannot lie in one folder, or more than the limits allow; as [`Self::size`].
    pub fn sizes(
        &self,
        names: &BTreeSet<String>,
        limits: Limits,
        observer: &mut dyn FnMut(Event),
    ) -> Result<BTreeMap<String, u64>, SiteError> {
        let refused = |problem: String| SiteError::Refused { address: self.folder.clone(), problem };
        if names.len() > limits.files {
            return Err(refused(format!("it holds more than {} files", limits.files)));
        }
        let (mut files, mut bytes) = (BTreeMap::new(), 0_u64);
        for name in names {
            path::check(name).map_err(|problem| refused(format!("the path {name:?} is not taken: {problem}")))?;
            if let Some(size) = self.size(name, observer)? {
                bytes = bytes.saturating_add(size);
                files.insert(name.clone(), size);
            }
            if bytes > limits.bytes {
                return Err(refused(format!("it holds more than {} bytes", limits.bytes)));
            }
        }
        if let Some(path) = paths::clash(&files) {
            return Err(refused(format!("`{path}` and another file cannot lie in one folder on every system")));
        }
        Ok(files)
    }

    /// Fetches files of these sizes into the folder `into`, which must be there and may hold other files.
    ///
    /// # Errors
    /// A transfer that breaks every time, a file that is larger or smaller, or a disk that does not take it.
    pub fn download(
        &self,
        files: &BTreeMap<String, u64>,
        into: &Path,
        observer: &mut dyn FnMut(Event),
    ) -> Result<(), SiteError> {
        for (name, size) in files {
            observer(Event::Fetching { path: name.clone(), size: *size });
            let file = RemoteFile { size: *size, sha256: None };
            self.client.fetch_file(&self.address_of(name), &file, &into.join(name), observer)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Server, answer};

    fn site(server: &Server) -> Site {
        Site::parse(&server.address("a/")).unwrap().0
    }

    #[test]
    fn forms() {
        for (text, folder, named, name) in [
            ("https://example.org/a/b/manifest.json", "https://example.org/a/b/", Named::Manifest, Some("b")),
            ("https://example.org/a%20b/", "https://example.org/a%20b/", Named::Folder, Some("a%20b")),
            ("https://example.org/", "https://example.org/", Named::Folder, None),
            ("HTTPS://example.org/a/", "https://example.org/a/", Named::Folder, Some("a")),
            ("http://127.0.0.1:80/manifest.json", "http://127.0.0.1:80/", Named::Manifest, None),
        ] {
            let (site, found) = Site::parse(text).unwrap();
            assert_eq!((site.address(), found, site.name()), (folder, named, name), "{text}");
        }
        let above = Site::parse("https://example.org/a/run/").unwrap().0.above().unwrap();
        assert_eq!(above.address(), "https://example.org/a/");
        assert!(above.above().unwrap().above().is_none());
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        for text in [
            "https://",
            "https:///a/",
            "https://example.org",
            "https://example.org/a",
            "https://example.org/a/other.json",
            "https://example.org/amanifest.json",
            "https://example.org/a/?x",
            "https://example.org/a/manifest.json?token=x",
            "https://example.org/a/#x",
            "https://example.org/../a/",
            "https://example.org//a/",
            "https://user:secret@example.org/a/",
            "http://example.org/a/",
            "https://example.org/a b/",
            "https://example.org/a\\b/",
        ] {
            let error = Site::parse(text).unwrap_err();
            assert!(matches!(error, SiteError::Target { .. }) && error.hint().is_some(), "{text}");
            assert!(!error.to_string().contains("token"), "{error}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        for (status, found) in [("404 No", None), ("410 Gone", None), ("200 OK", Some(b"abc".to_vec()))] {
            let server = Server::start(vec![answer(status, b"abc")]);
            assert_eq!(site(&server).read("x", 3, &mut |_| {}).unwrap(), found);
        }
        for status in ["401 No", "403 No"] {
            let server = Server::start(vec![answer(status, b"")]);
            assert!(matches!(site(&server).read("x", 3, &mut |_| {}), Err(SiteError::Closed { .. })), "{status}");
        }
        for status in ["206 Partial", "400 Bad"] {
            let server = Server::start(vec![answer(status, b"abc")]);
            assert!(matches!(site(&server).read("x", 3, &mut |_| {}), Err(SiteError::Transfer { .. })), "{status}");
        }
        let server = Server::start(vec![answer("200 OK", b"abcd")]);
        assert!(site(&server).read("x", 3, &mut |_| {}).unwrap_err().to_string().contains("the limit is 3"));
    }

    /// An answer to a question for the size.
    fn sized(size: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n").into_bytes()
    }

    #[test]
    fn sizes_are_held_to_the_limits() {
        let sizes = |answers: Vec<Vec<u8>>, names: &[&str], limits: Limits| {
            let server = Server::start(answers);
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            site(&server).sizes(&names, limits, &mut |_| {})
        };
        let limits = Limits { files: 2, bytes: 10 };
        let found = sizes(vec![sized("4"), answer("404 No", b"")], &["a", "b"], limits).unwrap();
        assert_eq!(found, BTreeMap::from([("a".to_owned(), 4)]));
        for (answers, names) in [
            (vec![sized("4"), sized("7")], &["a", "b"][..]),
            (vec![sized("18446744073709551615")], &["a"]),
            (vec![], &["a", "b", "c"]),
            (vec![], &["../a"]),
            (vec![sized("1"), sized("1")], &["A", "a"]),
        ] {
            let error = sizes(answers, names, limits).unwrap_err();
            assert!(matches!(error, SiteError::Refused { .. }), "{names:?}: {error}");
        }
        let silent = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
        let error = sizes(vec![silent], &["a"], limits).unwrap_err();
        assert!(error.to_string().contains("does not say how large"), "{error}");
    }
}
