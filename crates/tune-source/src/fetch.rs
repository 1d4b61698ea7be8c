//! `https:` sources: into the content store, hashed on the way.

use std::io::Read;
use std::time::Duration;

use tune_fs::ContentStore;
use tune_schema::Digest;

use crate::SourceError;

/// How often a transfer that broke is begun again.
const ATTEMPTS: u32 = 3;

/// Fetches `uri` into `store`. Gives digest and size.
///
/// A transfer that breaks off, is shorter than announced or ends in a server's error is begun again, twice.
///
/// # Errors
/// An address that answers with an error, or a transfer that breaks every time.
pub fn fetch(name: &str, uri: &str, store: &ContentStore, limit: u64) -> Result<(Digest, u64), SourceError> {
    let failed = |problem: String| SourceError::Fetch { name: name.to_owned(), uri: uri.to_owned(), problem };
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .max_redirects(5)
        .user_agent(concat!("tune/", env!("CARGO_PKG_VERSION")));
    let agent: ureq::Agent = config.build().into();
    let mut problem = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(200 << attempt));
        }
        let mut response = match agent.get(uri).call() {
            Ok(response) => response,
            Err(error) => {
                problem = error.to_string();
                continue;
            }
        };
        let status = response.status();
        if status.is_server_error() {
            problem = format!("the server answered {status}");
            continue;
        }
        if !status.is_success() {
            return Err(failed(format!("the server answered {status}")));
        }
        let announced = response.headers().get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        let mut counted = Counted { inner: response.body_mut().with_config().limit(u64::MAX).reader(), count: 0 };
        let stored = store.insert(&mut ExactLength { inner: &mut counted, announced }, limit);
        match stored {
            Ok(stored) => return Ok(stored),
            Err(error @ tune_fs::FsError::TooLarge { .. }) => return Err(error.into()),
            Err(error) => problem = with_causes(&error),
        }
    }
    Err(failed(problem))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count += n as u64;
        Ok(n)
    }
}

/// Fails at the end where it comes before the announced length.
struct ExactLength<'a, R> {
    inner: &'a mut Counted<R>,
    announced: Option<u64>,
}

impl<R: Read> Read for ExactLength<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.announced {
            Some(length) if n == 0 && !buffer.is_empty() && self.inner.count < length => Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                format!("the transfer ended after {} of {length} bytes", self.inner.count),
            )),
            _ => Ok(n),
        }
    }
}
