//! As much of HTTP as servers of the tests need: one request a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Announces the whole body and sends half of it.
    pub(crate) half: bool,
    /// Announces nothing, and sends the body again and again.
    pub(crate) endless: bool,
}

impl Answer {
    pub(crate) fn bytes(body: Vec<u8>) -> Self {
        Self { status: 200, headers: Vec::new(), body, half: false, endless: false }
    }

    pub(crate) fn json(value: &Value) -> Self {
        Self::bytes(value.to_string().into_bytes())
    }

    pub(crate) fn error(status: u16, text: &str) -> Self {
        Self { status, ..Self::json(&json!({"error": text})) }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn moved(status: u16, location: String) -> Self {
        Self { status, ..Self::bytes(Vec::new()) }.with("Location", location)
    }
}

impl Answer {
    fn send(&self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.endless && !self.headers.iter().any(|(name, _)| *name == "Content-Length") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        stream.write_all((head + "\r\n").as_bytes())?;
        if head_only {
            return Ok(());
        }
        stream.write_all(if self.half { &self.body[..self.body.len() / 2] } else { &self.body })?;
        if self.endless {
            // Until the other side hangs up.
            loop {
                stream.write_all(&self.body)?;
            }
        }
        Ok(())
    }
}

impl Request {
    /// Reads one; none where the client hung up.
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Some(Self { method, path: path.to_owned(), query: query.to_owned(), headers, body })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the client sends JSON")
    }
}

/// Answers one request a connection, each in a thread of its own.
pub(crate) fn serve<S: Send + 'static>(
    listener: TcpListener,
    state: Arc<Mutex<S>>,
    answer: impl Fn(&mut S, &Request) -> Answer + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (state, answer) = (Arc::clone(&state), Arc::clone(&answer));
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit of time");
                let Some(request) = Request::read(&stream) else { return };
                let answer = answer(&mut state.lock().expect("no thread of the server failed"), &request);
                // The other side may hang up early.
                let _ = answer.send(&mut stream, request.method == "HEAD");
            });
        }
    });
}

/// A path without the `%` of addresses.
pub(crate) fn unquoted(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits follow"));
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("paths are UTF-8")
}

pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = ALPHABET.iter().position(|one| *one == letter).expect("a letter of base64");
        held = held << 6 | u32::try_from(value).expect("six bits");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).expect("eight bits"));
        }
    }
    bytes
}
