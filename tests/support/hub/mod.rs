//! A hub on this machine: repositories in memory, the requests that a client makes, faults to order. Large files lie on
//! another port, as the public hub has them on another host.

mod sending;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::support::http::{Answer, Request, serve, unquoted};

/// The token that the hub accepts.
pub(crate) const TOKEN: &str = "hf_TheRightTokenOfTheTests";

/// Entries on a page of a list.
const PAGE: usize = 3;

/// What goes wrong.
#[derive(Debug, Default, Clone)]
pub(crate) struct Faults {
    /// Writing is forbidden.
    pub(crate) read_only: bool,
    /// So many requests are answered with 429.
    pub(crate) busy: usize,
    /// The next large file breaks off half-way.
    pub(crate) truncated_once: bool,
    /// Large files arrive with a flipped bit.
    pub(crate) wrong_bytes: bool,
    /// Commits fail.
    pub(crate) no_commit: bool,
    /// Large files are to be sent in parts of so many bytes.
    pub(crate) part_size: Option<usize>,
    /// The list names this path too.
    pub(crate) extra_path: Option<String>,
}

#[derive(Debug, Clone)]
enum Content {
    Regular(Vec<u8>),
    Large { oid: String, size: u64 },
}

#[derive(Debug, Clone)]
struct Commit {
    oid: String,
    files: BTreeMap<String, Content>,
}

#[derive(Debug, Default)]
struct Repository {
    private: bool,
    commits: Vec<Commit>,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    repositories: BTreeMap<String, Repository>,
    /// Large files by the digits of their SHA-256.
    storage: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<(String, usize), Vec<u8>>,
    requests: Vec<String>,
    /// What a client did that it may not do.
    misdeeds: Vec<String>,
}

/// The hub. Its threads end with the test.
pub(crate) struct Hub {
    place: Place,
    state: Arc<Mutex<State>>,
}

/// The ports.
#[derive(Clone, Copy)]
struct Place {
    hub: u16,
    storage: u16,
}

impl Hub {
    pub(crate) fn start() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let (hub, storage) = (listen(), listen());
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let place = Place { hub: port(&hub), storage: port(&storage) };
        let state = Arc::new(Mutex::new(State::default()));
        serve(hub, Arc::clone(&state), move |state, request| state.hub(place, request));
        serve(storage, Arc::clone(&state), |state, request| state.storage(request));
        Self { place, state }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.place.hub)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the server failed")
    }

    /// Orders faults in place of those before.
    pub(crate) fn order(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Requests since the last call, as `POST /api/repos/create`; those of the storage have `storage:` before the path.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// The last commit of a repository.
    pub(crate) fn head(&self, id: &str) -> String {
        self.state().repositories[id].last().oid.clone()
    }

    /// How many commits a repository has; none where it is not there.
    pub(crate) fn commits(&self, id: &str) -> usize {
        self.state().repositories.get(id).map_or(0, |repository| repository.commits.len())
    }

    /// The files of a repository, but for the hub's own.
    pub(crate) fn files(&self, id: &str) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let files = state.repositories[id].last().files.iter().filter(|(path, _)| *path != ".gitattributes");
        files.map(|(path, content)| (path.clone(), state.bytes(content))).collect()
    }

    /// Somebody else's commit.
    pub(crate) fn add(&self, id: &str, path: &str, bytes: &[u8]) {
        let mut state = self.state();
        let repository = state.repositories.get_mut(id).expect("the repository is there");
        let mut files = repository.last().files.clone();
        files.insert(path.to_owned(), Content::Regular(bytes.to_vec()));
        repository.push(files);
    }

    /// Asserts that no client did what it may not do: the token went to the hub only, requests had their form.
    #[track_caller]
    pub(crate) fn assert_no_misdeeds(&self) {
        let state = self.state();
        assert!(state.misdeeds.is_empty(), "{:#?}", state.misdeeds);
    }
}

impl Repository {
    fn last(&self) -> &Commit {
        self.commits.last().expect("a repository begins with a commit")
    }

    fn push(&mut self, files: BTreeMap<String, Content>) -> String {
        let parent = self.commits.last().map_or("", |commit| &commit.oid);
        let oid = digits(format!("{parent} {files:?}").as_bytes())[..40].to_owned();
        self.commits.push(Commit { oid: oid.clone(), files });
        oid
    }

    fn at(&self, revision: &str) -> Option<&Commit> {
        if revision == "main" { self.commits.last() } else { self.commits.iter().find(|one| one.oid == revision) }
    }
}

/// The digits of a SHA-256.
fn digits(bytes: &[u8]) -> String {
    tune_schema::Digest::of(bytes).hex()
}

impl State {
    fn bytes(&self, content: &Content) -> Vec<u8> {
        match content {
            Content::Regular(bytes) => bytes.clone(),
            Content::Large { oid, .. } => self.storage[oid].clone(),
        }
    }

    fn hub(&mut self, place: Place, request: &Request) -> Answer {
        self.requests.push(format!("{} {}", request.method, request.path));
        if self.faults.busy > 0 {
            self.faults.busy -= 1;
            return Answer::error(429, "slow down").with("Retry-After", "0");
        }
        let authorization = request.headers.get("authorization").map(String::as_str);
        let known = authorization == Some(&format!("Bearer {TOKEN}"));
        if let Some(text) = authorization.filter(|_| !known) {
            // As a hub should not: it says what it was given.
            return Answer::error(401, &format!("Invalid credentials: {text}"));
        }
        if request.method == "POST" && !known {
            return Answer::error(401, "Please log in");
        }
        if request.method == "POST" && self.faults.read_only {
            return Answer::error(403, "this token only reads");
        }
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["api", "whoami-v2"]) if known => Answer::json(&json!({"name": "someone", "type": "user"})),
            ("GET", ["api", "whoami-v2"]) => Answer::error(401, "Please log in"),
            ("POST", ["api", "repos", "create"]) => self.create(request),
            ("POST", ["api", "complete", oid]) => self.complete(oid, request),
            ("GET", ["api", "models", owner, name, rest @ ..]) => {
                self.read(&format!("{owner}/{name}"), rest, known, place, &request.query)
            }
            ("POST", ["api", "models", owner, name, "preupload", "main"]) => {
                self.preupload(&format!("{owner}/{name}"), request)
            }
            ("POST", ["api", "models", owner, name, "commit", "main"]) => {
                self.commit(&format!("{owner}/{name}"), request)
            }
            ("POST", [_, name, "info", "lfs", "objects", "batch"]) if name.ends_with(".git") => {
                self.batch(place, request)
            }
            ("POST", [_, name, "info", "lfs", "objects", "verify"]) if name.ends_with(".git") => self.verify(request),
            ("GET", ["api", "resolve-cache", owner, name, commit, path @ ..])
            | ("GET", [owner, name, "resolve", commit, path @ ..]) => {
                let moved = parts[0] != "api";
                self.resolve(place, &format!("{owner}/{name}"), commit, &path.join("/"), known, moved)
            }
            _ => Answer::error(404, "no such address"),
        }
    }

    /// A repository that the client may see.
    fn visible(&self, id: &str, known: bool) -> Result<&Repository, Answer> {
        match self.repositories.get(id) {
            Some(repository) if known || !repository.private => Ok(repository),
            _ if known => Err(Answer::error(404, "Repository not found")),
            _ => Err(Answer::error(401, "Repository not found, or it is private")),
        }
    }

    fn read(&self, id: &str, rest: &[&str], known: bool, place: Place, query: &str) -> Answer {
        let repository = match self.visible(id, known) {
            Ok(repository) => repository,
            Err(answer) => return answer,
        };
        let revision = rest.get(1).map(|text| text.replace("%2F", "/")).unwrap_or_default();
        let Some(commit) = repository.at(&revision) else { return Answer::error(404, "Invalid rev id") };
        match rest {
            ["revision", _] => {
                Answer::json(&json!({"id": id, "sha": commit.oid, "private": repository.private, "siblings": []}))
            }
            ["tree", _] => self.tree(id, commit, place, query),
            _ => Answer::error(404, "no such address"),
        }
    }

    fn tree(&self, id: &str, commit: &Commit, place: Place, query: &str) -> Answer {
        let mut entries: BTreeMap<String, Value> = BTreeMap::new();
        for (path, content) in &commit.files {
            for (end, _) in path.match_indices('/') {
                let folder = &path[..end];
                entries.insert(folder.to_owned(), json!({"type": "directory", "path": folder, "size": 0, "oid": ""}));
            }
            let entry = match content {
                Content::Regular(bytes) => {
                    json!({"type": "file", "path": path, "size": bytes.len(), "oid": &digits(bytes)[..40]})
                }
                Content::Large { oid, size } => json!({
                    "type": "file", "path": path, "size": size, "oid": &oid[..40],
                    "lfs": {"oid": oid, "size": size, "pointerSize": 130},
                }),
            };
            entries.insert(path.clone(), entry);
        }
        if let Some(path) = &self.faults.extra_path {
            entries.insert(path.clone(), json!({"type": "file", "path": path, "size": 1, "oid": ""}));
        }
        let start = query
            .split('&')
            .find_map(|part| part.strip_prefix("cursor="))
            .map_or(0, |text| text.parse::<usize>().expect("a cursor is what the page before gave"));
        let page: Vec<&Value> = entries.values().skip(start).take(PAGE).collect();
        let answer = Answer::json(&json!(page));
        if start + PAGE >= entries.len() {
            return answer;
        }
        let next = format!("/api/models/{id}/tree/{}?recursive=true&cursor={}", commit.oid, start + PAGE);
        answer.with("Link", format!("<http://127.0.0.1:{}{next}>; rel=\"next\"", place.hub))
    }

    /// Large files are moved to the storage, small ones to another address of the hub.
    fn resolve(&self, place: Place, id: &str, commit: &str, path: &str, known: bool, moved: bool) -> Answer {
        let repository = match self.visible(id, known) {
            Ok(repository) => repository,
            Err(answer) => return answer,
        };
        let plain = unquoted(path);
        match repository.at(commit).and_then(|commit| commit.files.get(&plain)) {
            None => Answer::error(404, "Entry not found"),
            Some(Content::Large { oid, .. }) => {
                Answer::moved(302, format!("http://127.0.0.1:{}/object/{oid}?signature=secret", place.storage))
            }
            Some(Content::Regular(_)) if moved => {
                Answer::moved(307, format!("/api/resolve-cache/{id}/{commit}/{path}"))
            }
            Some(Content::Regular(bytes)) => Answer::bytes(bytes.clone()).with("X-Repo-Commit", commit),
        }
    }

    fn storage(&mut self, request: &Request) -> Answer {
        self.requests.push(format!("{} storage:{}", request.method, request.path));
        if request.headers.contains_key("authorization") {
            self.misdeeds.push(format!("a token for {}", request.path));
        }
        if request.method == "PUT" && !request.headers.contains_key("content-length") {
            self.misdeeds.push("bytes without their number".to_owned());
        }
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["object", oid]) => {
                let Some(mut bytes) = self.storage.get(*oid).cloned() else { return Answer::error(404, "NoSuchKey") };
                if self.faults.wrong_bytes {
                    bytes[0] ^= 1;
                }
                Answer { half: std::mem::take(&mut self.faults.truncated_once), ..Answer::bytes(bytes) }
            }
            ("PUT", ["object", oid]) => {
                if request.headers.get("x-amz-tag").map(String::as_str) != Some("a") {
                    self.misdeeds.push("a header of the upload is missing".to_owned());
                }
                self.store(oid, request.body.clone())
            }
            ("PUT", ["part", oid, number]) => {
                let number = number.parse().expect("a number");
                let tag = format!("\"{}\"", digits(&request.body));
                self.parts.insert(((*oid).to_owned(), number), request.body.clone());
                Answer::bytes(Vec::new()).with("ETag", tag)
            }
            _ => Answer::error(404, "no such address"),
        }
    }
}
