//! Requests to the hub: the token, redirects, what is tried again, what the hub's answers mean.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use ureq::http::{HeaderValue, Response, StatusCode, header};
use ureq::{Body, SendBody};

use super::endpoint::{self, Endpoint, Token};
use super::request::{self, Answer, Content, Request, transfer, wait_of};
use super::{Event, HubError, Observer};
use crate::fetch::{self, Failure};

/// Where the hub is, where nothing else is said.
const PUBLIC_HUB: &str = "https://huggingface.co";

/// How long the hub may stay silent: it takes a while over a commit of many files.
const SILENCE: Duration = Duration::from_secs(180);

/// How long an answer may take in all: so long, and as long as its bytes take on a slow line. A server that gives a byte a
/// minute is never silent.
const PATIENCE: Duration = Duration::from_secs(300);
const SLOW_LINE: u64 = 32 << 10;

/// Redirects of one request.
const REDIRECTS: u32 = 5;

/// How often one request waits because the hub asks for it, how long where it does not say, and at most.
const WAITS: u32 = 4;
const USUAL_WAIT: u64 = 10;
const LONGEST_WAIT: u64 = 300;

/// How much of what the hub says of an error is read, and shown.
const SAID_LIMIT: u64 = 1 << 16;
const SAID_SHOWN: usize = 300;

/// The client of a hub.
#[derive(Clone)]
pub struct Hub {
    pub(super) endpoint: Endpoint,
    token: Option<Token>,
    agent: ureq::Agent,
    patience: Duration,
}

/// Without the token.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("endpoint", &self.endpoint).field("has_token", &self.has_token()).finish()
    }
}

/// Why one attempt failed.
pub(super) enum Trouble {
    /// May work the next time.
    Passing(String),
    /// The hub asks to wait so many seconds.
    Wait(u64),
    /// Will not work.
    Lasting(HubError),
}

impl Hub {
    /// The hub at `endpoint`, without a token or with one.
    ///
    /// # Errors
    /// An endpoint that is no host, or one without encryption that is not this machine; a token that cannot be one.
    pub fn new(endpoint: &str, token: Option<&str>) -> Result<Self, HubError> {
        Self::with(endpoint, token.map(Token::new).transpose()?)
    }

    /// The hub that `HF_ENDPOINT` names, or the public one, with the token in `HF_TOKEN` or `HUGGING_FACE_HUB_TOKEN`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_environment() -> Result<Self, HubError> {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
        Self::with(endpoint.as_deref().unwrap_or(PUBLIC_HUB), Token::from_environment()?)
    }

    fn with(endpoint: &str, token: Option<Token>) -> Result<Self, HubError> {
        let endpoint = Endpoint::parse(endpoint)?;
        // Redirects are followed here, where it is known who may have the token.
        let agent = fetch::agent(endpoint.is_encrypted(), SILENCE, 0);
        Ok(Self { endpoint, token, agent, patience: PATIENCE })
    }

    /// Whether there is a token.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Sends a request until it is answered, and reads the answer.
    pub(crate) fn ask(&self, request: &Request<'_>, observer: &mut Observer<'_>) -> Result<Answer, HubError> {
        self.patiently(request.address, observer, &mut || {
            let mut response = self.once(request)?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let failed = |failure| self.failed(request.address, failure);
            let mut bytes = Vec::new();
            // Its length is that of a body which does not follow.
            if request.method == request::HEAD {
                return Ok(Answer { status, headers, bytes });
            }
            let body = fetch::body(&mut response, request.limit).map_err(failed)?;
            body.take(request.limit + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| Trouble::Passing(error.to_string()))?;
            if bytes.len() as u64 > request.limit {
                return Err(Trouble::Lasting(transfer(request.address, "the answer is too long")));
            }
            Ok(Answer { status, headers, bytes })
        })
    }

    /// Tries again what may work the next time, and waits where the hub asks for it.
    pub(super) fn patiently<T>(
        &self,
        address: &str,
        observer: &mut Observer<'_>,
        attempt: &mut dyn FnMut() -> Result<T, Trouble>,
    ) -> Result<T, HubError> {
        let (mut failures, mut waits) = (0, 0);
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Wait(seconds)) => {
                    waits += 1;
                    if waits > WAITS || seconds > LONGEST_WAIT {
                        return Err(HubError::Busy { address: endpoint::shown(address) });
                    }
                    observer(Event::Waiting { seconds });
                    std::thread::sleep(Duration::from_secs(seconds));
                }
                Err(Trouble::Passing(problem)) => {
                    failures += 1;
                    if failures == fetch::ATTEMPTS {
                        let problem = self.without_token(&problem);
                        return Err(transfer(address, format!("{problem} ({failures} attempts)")));
                    }
                    fetch::pause(failures);
                }
            }
        }
    }

    /// What a failure of a transfer comes to.
    pub(super) fn failed(&self, address: &str, failure: Failure) -> Trouble {
        match failure {
            Failure::Passing(problem) => Trouble::Passing(problem),
            Failure::Lasting(problem) => Trouble::Lasting(transfer(address, self.without_token(&problem))),
            Failure::Disk(error) => Trouble::Lasting(error.into()),
        }
    }

    /// Sends a request once, and once more for each redirect. Gives an answer that is no error.
    pub(super) fn once(&self, request: &Request<'_>) -> Result<Response<Body>, Trouble> {
        let mut address = request.address.to_owned();
        for _ in 0..=REDIRECTS {
            let response = self.send(request, &address)?;
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let Some(location) = location.filter(|_| request.follows(response.status())) else {
                return self.meant(request, &address, response);
            };
            address = endpoint::redirected(&address, location)
                .map_err(|problem| Trouble::Lasting(transfer(&address, format!("a redirect is refused: {problem}"))))?;
        }
        Err(Trouble::Lasting(transfer(request.address, "too many redirects")))
    }

    fn send(&self, request: &Request<'_>, address: &str) -> Result<Response<Body>, Trouble> {
        let built = |error: ureq::http::Error| Trouble::Lasting(transfer(address, error.to_string()));
        let mut builder = ureq::http::Request::builder().method(request.method).uri(address);
        let own = self.endpoint.is_own(address);
        for (name, value) in &request.headers {
            builder = builder.header(*name, *value);
        }
        if let Some(token) = self.token.as_ref().filter(|_| own) {
            builder = builder.header(header::AUTHORIZATION, token.header());
        }
        let result = match &request.content {
            Content::Nothing => {
                let longest = self.patience + Duration::from_secs(request.limit / SLOW_LINE);
                let request = self.agent.configure_request(builder.body(()).map_err(built)?);
                self.agent.run(request.timeout_recv_body(Some(longest)).build())
            }
            Content::Bytes(bytes) => self.agent.run(builder.body(*bytes).map_err(built)?),
            Content::Part { file, start, size } => {
                let disk = |source| tune_fs::FsError::Io { operation: "read", path: (*file).to_owned(), source };
                let mut reader = tune_fs::open(file).map_err(|error| Trouble::Lasting(error.into()))?;
                reader.seek(SeekFrom::Start(*start)).map_err(|error| Trouble::Lasting(disk(error).into()))?;
                let body = SendBody::from_owned_reader(reader.take(*size));
                // Storage takes no bytes without their number.
                let builder = builder.header(header::CONTENT_LENGTH, HeaderValue::from(*size));
                self.agent.run(builder.body(body).map_err(built)?)
            }
        };
        result.map_err(|error| self.failed(address, fetch::unanswered(&error)))
    }

    /// What an answer means.
    fn meant(
        &self,
        request: &Request<'_>,
        address: &str,
        mut response: Response<Body>,
    ) -> Result<Response<Body>, Trouble> {
        let status = response.status();
        if status.is_success() || request.also.contains(&status.as_u16()) {
            return Ok(response);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Trouble::Wait(wait_of(response.headers()).unwrap_or(USUAL_WAIT)));
        }
        let said = self.said(&mut response);
        if status.is_server_error() {
            return Err(Trouble::Passing(format!("the server answered {status}{said}")));
        }
        let own = self.endpoint.is_own(address);
        let (shown, with_token) = (endpoint::shown(address), self.has_token());
        Err(Trouble::Lasting(match status {
            StatusCode::UNAUTHORIZED if own => HubError::Unauthorized { address: shown, with_token, said },
            StatusCode::FORBIDDEN if own => HubError::Forbidden { address: shown, said },
            StatusCode::NOT_FOUND if own => HubError::NotFound { address: shown, said },
            _ => transfer(address, format!("the server answered {status}{said}")),
        }))
    }

    /// What the hub says of an error, as `: …`, fit for a terminal.
    fn said(&self, response: &mut Response<Body>) -> String {
        #[derive(serde::Deserialize)]
        struct Said {
            error: String,
        }
        let header = response.headers().get("x-error-message").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = header.or_else(|| {
            let mut bytes = Vec::new();
            let body = response.body_mut().with_config().limit(SAID_LIMIT).reader();
            body.take(SAID_LIMIT).read_to_end(&mut bytes).ok()?;
            serde_json::from_slice::<Said>(&bytes).ok().map(|said| said.error)
        });
        let text = text.map(|text| self.without_token(&text)).unwrap_or_default();
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_SHOWN).collect();
        if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
    }

    fn without_token(&self, text: &str) -> String {
        self.token.as_ref().map_or_else(|| text.to_owned(), |token| token.removed_from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{STALL, Server, answer};

    fn asked(answers: Vec<Vec<u8>>) -> (Result<Answer, HubError>, usize, Vec<Event>) {
        let server = Server::start(answers);
        let hub = Hub::new(server.address("").trim_end_matches('/'), Some("hf_secret")).unwrap();
        let mut events = Vec::new();
        let address = hub.endpoint.address("/api/x?signature=y");
        let result = hub.ask(&Request::get(&address), &mut |event| events.push(event));
        (result, server.requests(), events)
    }

    #[test]
    fn errors_are_told_apart_and_hold_no_token() {
        let body = br#"{"error":"the token hf_secret\u001b[31m is no good"}"#;
        for (status, text) in [("401 No", "(401)"), ("403 No", "(403)"), ("404 No", "(404)"), ("400 No", "400")] {
            let (result, requests, _) = asked(vec![answer(status, body)]);
            let error = result.err().unwrap();
            let shown = format!("{error} {error:?} {:?}", error.hint());
            assert!(shown.contains(text) && shown.contains("is no good") && error.hint().is_some(), "{shown}");
            assert!(!shown.contains("hf_secret") && !error.to_string().contains('\u{1b}'), "{shown}");
            assert!(!shown.contains("signature"), "{shown}");
            assert_eq!(requests, 1);
        }
    }

    #[test]
    fn a_server_that_fails_or_breaks_off_is_asked_again() {
        let short = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nabc".to_vec();
        let (result, requests, _) = asked(vec![answer("502 Oh", b""), short, answer("200 OK", b"abc")]);
        assert_eq!((result.ok().unwrap().bytes, requests), (b"abc".to_vec(), 3));
        let (result, requests, _) = asked(vec![answer("500 Oh", b""); 3]);
        assert!(result.err().unwrap().to_string().contains("3 attempts"));
        assert_eq!(requests, 3);
    }

    #[test]
    fn an_answer_that_takes_too_long_is_given_up() {
        let slow = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nabc", STALL].concat();
        let server = Server::start(vec![slow; 3]);
        let mut hub = Hub::new(server.address("").trim_end_matches('/'), None).unwrap();
        hub.patience = Duration::from_millis(200);
        let address = hub.endpoint.address("/x");
        let result = hub.ask(&Request { limit: 10, ..Request::get(&address) }, &mut |_| {});
        assert!(result.err().unwrap().to_string().contains("3 attempts"));
        assert_eq!(server.requests(), 3);
    }

    #[test]
    fn a_pause_is_kept_and_not_for_ever() {
        let wait = b"HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
        let (result, _, events) = asked(vec![wait.clone(), answer("200 OK", b"abc")]);
        assert!(result.is_ok() && events == [Event::Waiting { seconds: 0 }]);
        let (result, requests, _) = asked(vec![wait; 5]);
        assert!(matches!(result, Err(HubError::Busy { .. })));
        assert_eq!(requests, 5);
        let long = b"HTTP/1.1 429 Slow\r\nRetry-After: 9999\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
        assert!(matches!(asked(vec![long]).0, Err(HubError::Busy { .. })));
    }

    #[test]
    fn the_client_shows_no_token() {
        let hub = Hub::new("https://huggingface.co", Some("hf_secret")).unwrap();
        assert!(format!("{hub:?}").contains("has_token: true") && !format!("{hub:?}").contains("secret"));
    }
}
