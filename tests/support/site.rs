//! A web server on this machine that gives the files of a folder, and does harm where it is ordered.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use super::files;
use crate::support::http::{Answer, Request, serve, unquoted};

/// What is wrong with one file.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Such a status instead of the file, so many times.
    Status(u16, usize),
    /// The transfer breaks off half-way, so many times.
    Truncated(usize),
    /// The server says that it has so many bytes.
    Announced(u64),
    /// The file never ends, which the server does not say beforehand.
    Endless,
    /// The server does not say how large it is.
    Unannounced,
    /// A page in place of every file that is not there.
    Page,
    /// The file is somewhere else.
    Moved(String),
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: BTreeMap<String, Fault>,
    /// `GET /a/b`, and `token:` where the client sent a token.
    requests: Vec<String>,
}

/// The server. Its threads end with the test.
pub(crate) struct Site {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Site {
    /// Gives the files of `folder` below `/path/`.
    pub(crate) fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State::default()));
        serve(listener, Arc::clone(&state), State::answer);
        let site = Self { port, state };
        site.put(folder);
        site
    }

    /// Gives the files of another folder.
    pub(crate) fn put(&self, folder: &Path) {
        self.state().files = files(folder).into_iter().map(|(name, bytes)| (format!("/path/{name}"), bytes)).collect();
    }

    /// The address of a file or folder below `/path/`.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/path/{path}", self.port)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the server failed")
    }

    /// Orders what goes wrong with a file, in place of what did before.
    pub(crate) fn order(&self, path: &str, fault: Fault) {
        self.state().faults = BTreeMap::from([(format!("/path/{path}"), fault)]);
    }

    /// Requests since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        let token = if request.headers.contains_key("authorization") { "token: " } else { "" };
        self.requests.push(format!("{token}{} {}", request.method, request.path));
        let path = unquoted(&request.path);
        let page = self.faults.values().any(|fault| matches!(fault, Fault::Page));
        let Some(bytes) = self.files.get(&path) else {
            return if page {
                Answer::bytes(b"<html>not here</html>".to_vec())
            } else {
                Answer::error(404, "not here")
            };
        };
        let whole = Answer::bytes(bytes.clone());
        match self.faults.get_mut(&path) {
            None => whole,
            Some(Fault::Status(status, times)) if *times > 0 => {
                *times -= 1;
                Answer::error(*status, "no").with("Retry-After", "0")
            }
            Some(Fault::Truncated(times)) if *times > 0 && request.method == "GET" => {
                *times -= 1;
                Answer { half: true, ..whole }
            }
            Some(Fault::Status(..) | Fault::Truncated(_) | Fault::Page) => whole,
            Some(Fault::Announced(size)) => whole.with("Content-Length", size.to_string()),
            Some(Fault::Endless) => Answer { endless: request.method == "GET", ..whole },
            Some(Fault::Unannounced) => Answer { endless: true, ..whole },
            Some(Fault::Moved(location)) => Answer::moved(302, location.clone()),
        }
    }
}
