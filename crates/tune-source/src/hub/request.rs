//! What is asked, and what an answer holds.

use std::path::Path;

use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, StatusCode};

use super::{HubError, endpoint};

/// Longest answer but for a file.
const ANSWER_LIMIT: u64 = 64 << 20;

/// The method that asks what [`Request::get`] would bring, without bringing it.
pub(crate) const HEAD: &str = "HEAD";

/// What is sent.
pub(crate) enum Content<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// Bytes of a file.
    Part {
        file: &'a Path,
        start: u64,
        size: u64,
    },
}

/// A request. One without content follows redirects.
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) address: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) content: Content<'a>,
    /// Statuses beside 2xx that are an answer and no error.
    pub(crate) also: &'static [u16],
    /// Longest answer.
    pub(crate) limit: u64,
}

impl<'a> Request<'a> {
    pub(crate) fn get(address: &'a str) -> Self {
        let (content, limit) = (Content::Nothing, ANSWER_LIMIT);
        Self { method: "GET", address, headers: Vec::new(), content, also: &[], limit }
    }

    pub(crate) fn head(address: &'a str) -> Self {
        Self { method: HEAD, ..Self::get(address) }
    }

    pub(crate) fn post(address: &'a str, content_type: &'a str, body: &'a [u8]) -> Self {
        let headers = vec![("content-type", content_type)];
        Self { method: "POST", headers, content: Content::Bytes(body), ..Self::get(address) }
    }

    pub(crate) fn put(address: &'a str, content: Content<'a>) -> Self {
        Self { method: "PUT", content, ..Self::get(address) }
    }

    pub(crate) fn json(address: &'a str, body: &'a [u8]) -> Self {
        Self::post(address, "application/json", body)
    }

    /// Whether the request goes on where such an answer points. What holds content was meant for one place.
    pub(crate) fn follows(&self, status: StatusCode) -> bool {
        matches!(self.content, Content::Nothing) && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
    }
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    /// What the answer holds as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, address: &str) -> Result<T, HubError> {
        serde_json::from_slice(&self.bytes)
            .map_err(|error| transfer(address, format!("the answer is not as the hub's should be: {error}")))
    }
}

/// An error that is neither about the token nor about the names.
pub(crate) fn transfer(address: &str, problem: impl Into<String>) -> HubError {
    HubError::Transfer { address: endpoint::shown(address), problem: problem.into() }
}

/// Seconds to wait: `Retry-After`, or else the time left in the hub's own `RateLimit` header (`"api";r=0;t=55`).
pub(crate) fn wait_of(headers: &HeaderMap) -> Option<u64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = || text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok());
    text("retry-after").and_then(|text| text.trim().parse().ok()).or_else(own)
}

#[cfg(test)]
mod tests {
    use ureq::http::HeaderValue;

    use super::*;

    #[test]
    fn a_pause_is_read_from_either_header() {
        let wait = |name, value| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            wait_of(&headers)
        };
        assert_eq!(wait("retry-after", "7"), Some(7));
        assert_eq!(wait("ratelimit", "\"api\";r=0;t=55"), Some(55));
        assert_eq!(wait("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(wait_of(&HeaderMap::new()), None);
    }
}
