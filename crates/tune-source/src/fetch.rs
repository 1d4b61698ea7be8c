//! `https:` sources: into the content store, hashed on the way.

use std::io::{Error, ErrorKind, Read};
use std::time::Duration;

use tune_fs::{ContentStore, FsError};
use tune_schema::Digest;
use ureq::http::Response;
use ureq::{Body, BodyReader};

use crate::SourceError;

/// How often a transfer is tried in all.
pub(crate) const ATTEMPTS: u32 = 3;

/// How long a server may stay silent. A whole transfer has no limit: a model takes as long as the line needs.
const SILENCE: Duration = Duration::from_secs(60);

/// Fetches `uri` into `store`. Gives digest and size.
///
/// A transfer that breaks off, stalls, is shorter than announced or ends in a server's error is begun again, twice.
///
/// # Errors
/// An address that answers with an error, a transfer that breaks every time, or a disk that does not take it.
pub fn fetch(name: &str, uri: &str, store: &ContentStore, limit: u64) -> Result<(Digest, u64), SourceError> {
    fetch_patiently(name, uri, store, limit, SILENCE)
}

fn fetch_patiently(
    name: &str,
    uri: &str,
    store: &ContentStore,
    limit: u64,
    silence: Duration,
) -> Result<(Digest, u64), SourceError> {
    let failed = |problem: String| SourceError::Fetch { name: name.to_owned(), uri: uri.to_owned(), problem };
    let encrypted = uri.starts_with("https://");
    // Plain http is for this machine itself, and is not sent elsewhere by a redirect.
    let agent = agent(encrypted, silence, if encrypted { 5 } else { 0 });
    let mut problem = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            pause(attempt);
        }
        match attempt_once(&agent, uri, store, limit) {
            Ok(stored) => return Ok(stored),
            Err(Failure::Passing(text)) => problem = text,
            Err(Failure::Lasting(text)) => return Err(failed(text)),
            Err(Failure::Disk(error)) => return Err(error.into()),
        }
    }
    Err(failed(format!("{problem} ({ATTEMPTS} attempts)")))
}

/// Waits before the attempt with this number.
pub(crate) fn pause(attempt: u32) {
    std::thread::sleep(Duration::from_millis(200 << attempt));
}

pub(crate) fn agent(encrypted: bool, silence: Duration, redirects: u32) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(silence))
        .timeout_connect(Some(silence))
        .timeout_recv_response(Some(silence))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        // The bytes as published, not as packed for the way.
        .accept_encoding("identity")
        .user_agent(concat!("tune/", env!("CARGO_PKG_VERSION")))
        .max_redirects(redirects)
        .https_only(encrypted);
    // Plain http is for this machine itself: it does not go through a proxy.
    let config = if encrypted { config } else { config.proxy(None) };
    config.build().into()
}

/// Why one attempt failed.
pub(crate) enum Failure {
    /// May work the next time.
    Passing(String),
    /// Will not.
    Lasting(String),
    /// Nothing to do with the transfer.
    Disk(FsError),
}

/// What a request without an answer comes to.
pub(crate) fn unanswered(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::Protocol(_) | ureq::Error::ConnectionFailed => {
            Failure::Passing(error.to_string())
        }
        other => Failure::Lasting(other.to_string()),
    }
}

/// The body of an answer, which fails where it is shorter than announced.
pub(crate) fn body(response: &mut Response<Body>, limit: u64) -> Result<ExactLength<BodyReader<'_>>, Failure> {
    let header = response.headers().get("content-length").and_then(|value| value.to_str().ok());
    let announced = header.and_then(|value| value.parse::<u64>().ok());
    if let Some(size) = announced.filter(|size| *size > limit) {
        return Err(too_large(&format!("{size} bytes"), limit));
    }
    let inner = response.body_mut().with_config().limit(u64::MAX).reader();
    Ok(ExactLength { inner, announced, count: 0 })
}

/// What it comes to that a body could not be stored.
pub(crate) fn not_stored(error: FsError, limit: u64) -> Failure {
    match error {
        FsError::Incoming { source } => Failure::Passing(source.to_string()),
        FsError::IncomingTooLarge { .. } => too_large("larger", limit),
        disk => Failure::Disk(disk),
    }
}

fn too_large(size: &str, limit: u64) -> Failure {
    Failure::Lasting(format!("it is {size}, the limit is {limit}"))
}

fn attempt_once(agent: &ureq::Agent, uri: &str, store: &ContentStore, limit: u64) -> Result<(Digest, u64), Failure> {
    let mut response = agent.get(uri).call().map_err(|error| unanswered(&error))?;
    let status = response.status();
    if status.is_server_error() {
        return Err(Failure::Passing(format!("the server answered {status}")));
    }
    // Only 200 brings the whole file.
    if status.as_u16() != 200 {
        return Err(Failure::Lasting(format!("the server answered {status}")));
    }
    store.insert(&mut body(&mut response, limit)?, limit).map_err(|error| not_stored(error, limit))
}

/// Fails at the end where it comes before the announced length.
pub(crate) struct ExactLength<R> {
    inner: R,
    announced: Option<u64>,
    count: u64,
}

impl<R: Read> Read for ExactLength<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count += n as u64;
        match self.announced {
            Some(length) if n == 0 && !buffer.is_empty() && self.count < length => {
                let problem = format!("the transfer ended after {} of {length} bytes", self.count);
                Err(Error::new(ErrorKind::UnexpectedEof, problem))
            }
            _ => Ok(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Server, answer};

    const LIMIT: u64 = 1 << 20;

    fn fetched(answers: Vec<Vec<u8>>, limit: u64) -> (Result<(Digest, u64), SourceError>, usize, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(answers);
        let store = ContentStore::new(folder.path());
        let result = fetch_patiently("s", &server.address("x"), &store, limit, Duration::from_millis(300));
        (result, server.requests(), tune_fs::list_files_recursive(folder.path()).unwrap())
    }

    #[test]
    fn what_is_served_is_stored_by_its_digest() {
        let (result, requests, files) = fetched(vec![answer("200 OK", b"abc")], LIMIT);
        assert_eq!(result.unwrap(), (Digest::of(b"abc"), 3));
        assert_eq!((requests, files.len()), (1, 1));
    }

    #[test]
    fn a_server_that_fails_once_is_asked_again() {
        let (result, requests, _) = fetched(vec![answer("500 Oh", b""), answer("200 OK", b"abc")], LIMIT);
        assert_eq!((result.unwrap().1, requests), (3, 2));
    }

    #[test]
    fn what_is_not_there_is_asked_for_once() {
        for status in ["404 Not Found", "206 Partial Content", "204 No Content"] {
            let (result, requests, files) = fetched(vec![answer(status, b"")], LIMIT);
            let error = result.unwrap_err();
            assert!(error.to_string().contains(&status[..3]) && error.hint().is_some(), "{error}");
            assert_eq!((requests, files.len()), (1, 0));
        }
    }

    #[test]
    fn plain_http_follows_no_redirect() {
        let moved = b"HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\nContent-Length: 0\r\n\r\n".to_vec();
        let (result, requests, _) = fetched(vec![moved], LIMIT);
        assert!(result.unwrap_err().to_string().contains("302"));
        assert_eq!(requests, 1);
    }

    #[test]
    fn a_truncated_or_stalled_transfer_is_begun_again_and_leaves_nothing() {
        let short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nabc".to_vec();
        let (result, requests, files) = fetched(vec![short.clone(); 3], LIMIT);
        assert!(matches!(result, Err(SourceError::Fetch { .. })), "{result:?}");
        assert_eq!((requests, files.len()), (3, 0));
        let (result, requests, _) = fetched(vec![short, answer("200 OK", b"abc")], LIMIT);
        assert_eq!((result.unwrap().1, requests), (3, 2));
        let stalled = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".as_slice(), crate::testing::STALL].concat();
        let (result, requests, _) = fetched(vec![stalled, answer("200 OK", b"abc")], LIMIT);
        assert_eq!((result.unwrap().1, requests), (3, 2));
    }

    #[test]
    fn what_is_too_large_is_refused_announced_or_not() {
        let (result, requests, _) = fetched(vec![answer("200 OK", b"abcd")], 3);
        assert!(result.unwrap_err().to_string().contains("the limit is 3"));
        assert_eq!(requests, 1);
        let endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcd".to_vec();
        let (result, requests, files) = fetched(vec![endless], 3);
        assert!(result.unwrap_err().to_string().contains("the limit is 3"));
        assert_eq!((requests, files.len()), (1, 0));
    }

    #[test]
    fn a_disk_that_does_not_take_it_is_not_the_networks_fault() {
        let folder = tempfile::tempdir().unwrap();
        tune_fs::write_atomic(&folder.path().join("file"), b"").unwrap();
        let server = Server::start(vec![answer("200 OK", b"abc")]);
        let store = ContentStore::new(folder.path().join("file"));
        let error = fetch("s", &server.address("x"), &store, LIMIT).unwrap_err();
        assert!(matches!(error, SourceError::Fs(_)), "{error}");
        assert_eq!(server.requests(), 1);
    }
}
