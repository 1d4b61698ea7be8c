//! A repository's files into a folder: every file whole and as announced, or no folder.

use std::path::Path;

use tune_fs::AtomicFile;

use super::client::Trouble;
use super::request::Request;
use super::{Event, Hub, HubError, Listing, Observer, RemoteFile, paths};
use crate::fetch;

impl Hub {
    /// Fetches all files of a listing into the folder `into`, which must not be there. They are fetched beside it, and
    /// the folder gets its name when all are whole.
    ///
    /// # Errors
    /// A place that is taken, a transfer that breaks every time, bytes that are not those of the list, or a disk that
    /// does not take them. Nothing is left behind.
    pub fn download(&self, listing: &Listing, into: &Path, observer: &mut dyn FnMut(Event)) -> Result<(), HubError> {
        if tune_fs::exists(into) {
            return Err(HubError::Exists(into.to_owned()));
        }
        tune_fs::create_dir_whole(into, |staging| self.fill(listing, staging, observer))
    }

    fn fill(&self, listing: &Listing, staging: &Path, observer: &mut Observer<'_>) -> Result<(), HubError> {
        tune_fs::create_dir_all(staging)?;
        for (path, file) in &listing.files {
            observer(Event::Fetching { path: path.clone(), size: file.size });
            let address = self.file_address(&listing.id, &listing.commit, path);
            self.fetch_file(&address, file, &staging.join(path), observer)?;
        }
        Ok(())
    }

    /// Where a file of a commit is.
    pub(super) fn file_address(&self, id: &str, commit: &str, path: &str) -> String {
        self.endpoint.address(&format!("/{id}/resolve/{commit}/{}", paths::quoted(path)))
    }

    /// Fetches one file, whole and of the size and digest that are expected, to `place`; makes the folders it lies in.
    pub(crate) fn fetch_file(
        &self,
        address: &str,
        expected: &RemoteFile,
        place: &Path,
        observer: &mut Observer<'_>,
    ) -> Result<(), HubError> {
        if let Some(parent) = place.parent() {
            tune_fs::create_dir_all(parent)?;
        }
        self.patiently(address, observer, &mut || {
            let mut response = self.once(&Request { limit: expected.size, ..Request::get(address) })?;
            // Only 200 brings the whole file.
            if response.status().as_u16() != 200 {
                return Err(Trouble::Passing(format!("the server answered {}", response.status())));
            }
            let failed = |failure| self.failed(address, failure);
            let mut body = fetch::body(&mut response, expected.size).map_err(failed)?;
            let mut file = AtomicFile::create(place).map_err(|error| Trouble::Lasting(error.into()))?;
            file.fill(&mut body, expected.size).map_err(|error| failed(fetch::not_stored(error, expected.size)))?;
            // Damage on the way passes; damage in the storage does not, and is told after the last attempt.
            if file.size() != expected.size {
                let problem = format!("{} bytes came in, {} were announced", file.size(), expected.size);
                return Err(Trouble::Passing(problem));
            }
            if let Some(sha256) = expected.sha256.filter(|sha256| *sha256 != file.digest()) {
                let problem = format!("{} came in, the hub's list has {sha256}", file.digest());
                return Err(Trouble::Passing(problem));
            }
            file.commit().map(|_| ()).map_err(|error| Trouble::Lasting(error.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tune_schema::Digest;

    use super::*;
    use crate::testing::{Server, answer};

    fn downloaded(answers: Vec<Vec<u8>>, sha256: Option<Digest>) -> (Result<(), HubError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(answers);
        let hub = Hub::new(&server.address(""), None).unwrap();
        let files = BTreeMap::from([("d/x".to_owned(), RemoteFile { size: 3, sha256 })]);
        let listing = Listing { id: "a/b".to_owned(), commit: "0".repeat(40), files };
        let result = hub.download(&listing, &folder.path().join("out"), &mut |_| {});
        (result, tune_fs::list_files_recursive(folder.path()).unwrap())
    }

    #[test]
    fn files_are_held_to_the_list() {
        let (result, files) = downloaded(vec![answer("200 OK", b"abc")], Some(Digest::of(b"abc")));
        result.unwrap();
        assert_eq!(files, ["out/d/x"]);
        let short = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nab".to_vec();
        let damaged = answer("200 OK", b"abd");
        let (result, files) =
            downloaded(vec![short, damaged.clone(), answer("200 OK", b"abc")], Some(Digest::of(b"abc")));
        result.unwrap();
        assert_eq!(files, ["out/d/x"]);
        for wrong in [damaged, answer("200 OK", b"ab"), answer("206 Partial", b"abc"), answer("200 OK", b"abcd")] {
            let (result, files) = downloaded(vec![wrong; 3], Some(Digest::of(b"abc")));
            assert!(matches!(result, Err(HubError::Transfer { .. })), "{result:?}");
            assert!(files.is_empty(), "{files:?}");
        }
    }

    #[test]
    fn a_place_that_is_taken_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::new("http://127.0.0.1:1", None).unwrap();
        let listing = Listing { id: "a/b".to_owned(), commit: "0".repeat(40), files: BTreeMap::new() };
        let result = hub.download(&listing, folder.path(), &mut |_| {});
        assert!(matches!(result, Err(HubError::Exists(_))));
    }
}
