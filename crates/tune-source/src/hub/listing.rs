//! What a repository holds at one commit.

use std::collections::BTreeMap;

use serde::Deserialize;
use tune_schema::Digest;
use ureq::http::HeaderMap;

use super::request::{Request, transfer};
use super::{Hub, HubError, HubTarget, Observer, paths};

/// How much is fetched at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 20_000, bytes: 256 << 30 }
    }
}

/// A file in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its bytes.
    pub size: u64,
    /// Its digest, where the hub's list has one: of large files.
    pub sha256: Option<Digest>,
}

/// The files of a repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// `user/repo`
    pub id: String,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Its files by path; every path lies below the repository, and all can lie beside each other.
    pub files: BTreeMap<String, RemoteFile>,
}

impl Listing {
    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }
}

#[derive(Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Hub {
    /// What a repository holds at the revision asked for, or at `main`. The revision becomes one commit, so that what is
    /// fetched afterwards belongs together.
    ///
    /// # Errors
    /// A repository that is not there or may not be read, one beyond the limits, or one with paths that no folder of
    /// this machine should get.
    pub fn look(
        &self,
        target: &HubTarget,
        limits: Limits,
        observer: &mut dyn FnMut(super::Event),
    ) -> Result<Listing, HubError> {
        let not_found = || HubError::NotFound { address: target.to_string(), said: String::new() };
        let info = self.info(target, observer)?.ok_or_else(not_found)?;
        self.list(&target.id(), &info.sha, limits, observer)
    }

    /// The files of a commit.
    pub(super) fn list(
        &self,
        id: &str,
        commit: &str,
        limits: Limits,
        observer: &mut Observer<'_>,
    ) -> Result<Listing, HubError> {
        let refused = |problem: String| HubError::Refused { id: id.to_owned(), problem };
        let mut files = BTreeMap::new();
        let (mut bytes, mut entries) = (0_u64, 0);
        let mut next = Some(self.endpoint.address(&format!("/api/models/{id}/tree/{commit}?recursive=true")));
        while let Some(address) = next {
            let answer = self.ask(&Request::get(&address), observer)?;
            let page: Vec<Entry> = answer.json(&address)?;
            next = match next_link(&answer.headers) {
                Some(link) => {
                    let own = self.endpoint.next_page(link);
                    Some(own.ok_or_else(|| transfer(&address, "the next page of the list has no address"))?)
                }
                None => None,
            };
            // Folders are entries too; a list without end or with empty pages ends here.
            entries += page.len().max(1);
            if entries > limits.files.saturating_mul(2).saturating_add(2) {
                return Err(refused(format!("it holds more than {} files", limits.files)));
            }
            for entry in page.into_iter().filter(|entry| entry.r#type != "directory") {
                let (path, file) = checked(entry).map_err(refused)?;
                bytes = bytes.saturating_add(file.size);
                if files.insert(path.clone(), file).is_some() {
                    return Err(refused(format!("its list names `{path}` twice")));
                }
            }
            if files.len() > limits.files {
                return Err(refused(format!("it holds more than {} files", limits.files)));
            }
            if bytes > limits.bytes {
                return Err(refused(format!("it holds more than {} bytes", limits.bytes)));
            }
        }
        if let Some(path) = paths::clash(&files) {
            return Err(refused(format!("`{path}` and another file cannot lie in one folder on every system")));
        }
        Ok(Listing { id: id.to_owned(), commit: commit.to_owned(), files })
    }
}

/// A file of a list, or what is wrong with it.
fn checked(entry: Entry) -> Result<(String, RemoteFile), String> {
    let path = entry.path;
    // `Debug` writes control characters as such.
    tune_schema::path::check(&path).map_err(|problem| format!("the path {path:?} is not taken: {problem}"))?;
    if entry.r#type != "file" {
        return Err(format!("`{path}` is neither a file nor a folder"));
    }
    let (size, sha256) = match entry.lfs {
        Some(lfs) => {
            let bare = lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid);
            let digest = format!("sha256:{bare}").parse();
            (lfs.size, Some(digest.map_err(|_| format!("`{path}` has no SHA-256 in the list"))?))
        }
        None => (entry.size, None),
    };
    Ok((path, RemoteFile { size, sha256 }))
}

/// The address of the next page: `Link: <address>; rel="next"`.
fn next_link(headers: &HeaderMap) -> Option<&str> {
    let links = headers.get("link")?.to_str().ok()?;
    links.split(',').find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.split(';').any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next")).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// What comes of a list in these pages, each of which but the last names a next one.
    fn listed(pages: &[&str], limits: Limits) -> Result<Listing, HubError> {
        let paged = |(i, page): (usize, &&str)| {
            let link = if i + 1 < pages.len() {
                "Link: <https://elsewhere.example/api/next?cursor=x>; rel=\"next\"\r\n"
            } else {
                ""
            };
            let head = format!("HTTP/1.1 200 OK\r\n{link}Content-Length: {}\r\nConnection: close\r\n\r\n", page.len());
            (head + page).into_bytes()
        };
        let server = Server::start(pages.iter().enumerate().map(paged).collect());
        let hub = Hub::new(&server.address(""), None).unwrap();
        hub.list("a/b", COMMIT, limits, &mut |_| {})
    }

    fn limits(files: usize, bytes: u64) -> Limits {
        Limits { files, bytes }
    }

    #[test]
    fn pages_are_put_together() {
        let oid = "ab".repeat(32);
        let large = format!(
            r#"[{{"type":"file","path":"d/x","size":9,"oid":"y","lfs":{{"oid":"{oid}","size":9,"pointerSize":130}}}}]"#
        );
        let small = r#"[{"type":"directory","path":"d","size":0},{"type":"file","path":"a","size":3,"oid":"z"}]"#;
        let listing = listed(&[small, &large], limits(2, 12)).unwrap();
        assert_eq!((listing.commit.as_str(), listing.bytes(), listing.files.len()), (COMMIT, 12, 2));
        assert_eq!(listing.files["a"], RemoteFile { size: 3, sha256: None });
        assert_eq!(listing.files["d/x"].sha256, format!("sha256:{oid}").parse().ok());
        for (files, bytes) in [(1, 12), (2, 11)] {
            let error = listed(&[small, &large], limits(files, bytes)).unwrap_err();
            assert!(matches!(error, HubError::Refused { .. }), "{error}");
        }
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        let file = |path: &str| format!(r#"{{"type":"file","path":"{path}","size":1}}"#);
        for entries in [
            file("../x"),
            file("/x"),
            file("a\\\\b"),
            file("C:/x"),
            file("a\\nb"),
            file("A") + "," + &file("a"),
            file("a") + "," + &file("a"),
            file("a") + "," + &file("a/b"),
            r#"{"type":"submodule","path":"a","size":1}"#.to_owned(),
            r#"{"type":"file","path":"a","size":1,"lfs":{"oid":"12","size":1}}"#.to_owned(),
        ] {
            let error = listed(&[&format!("[{entries}]")], Limits::default()).unwrap_err();
            assert!(
                matches!(error, HubError::Refused { .. }) && !error.to_string().contains('\n'),
                "{entries}: {error}"
            );
        }
        let sizes =
            format!(r#"[{{"type":"file","path":"a","size":{0}}},{{"type":"file","path":"b","size":{0}}}]"#, u64::MAX);
        assert!(matches!(listed(&[&sizes], Limits::default()), Err(HubError::Refused { .. })));
    }

    #[test]
    fn a_list_without_end_ends() {
        let error = listed(&["[]"; 20], limits(3, 3)).unwrap_err();
        assert!(matches!(error, HubError::Refused { .. }), "{error}");
    }
}
