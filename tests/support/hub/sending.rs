//! What a client sends: a new repository, large files, commits.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Content, Place, Repository, State, digits};
use crate::support::http::{Answer, Request, from_base64};

impl State {
    pub(super) fn create(&mut self, request: &Request) -> Answer {
        let asked = request.json();
        let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
        let id = format!("{}/{}", text("organization"), text("name"));
        if text("type") != "model" {
            self.misdeeds.push(format!("a repository of the type {:?}", text("type")));
        }
        if self.repositories.contains_key(&id) {
            return Answer::error(409, "You already created this model repo");
        }
        let mut repository = Repository { private: asked["private"] == true, commits: Vec::new() };
        let attributes = Content::Regular(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n".to_vec());
        repository.push(BTreeMap::from([(".gitattributes".to_owned(), attributes)]));
        self.repositories.insert(id.clone(), repository);
        Answer::json(&json!({"url": format!("https://huggingface.co/{id}")}))
    }

    pub(super) fn preupload(&mut self, id: &str, request: &Request) -> Answer {
        let asked = request.json();
        let files = asked["files"].as_array().cloned().unwrap_or_default();
        if files.is_empty() || files.len() > 256 {
            self.misdeeds.push(format!("a question about {} files", files.len()));
        }
        let Some(repository) = self.repositories.get(id) else { return Answer::error(404, "Repository not found") };
        let mut modes = Vec::new();
        for file in &files {
            let path = file["path"].as_str().unwrap_or_default();
            let sample = from_base64(file["sample"].as_str().unwrap_or_default());
            let size = usize::try_from(file["size"].as_u64().unwrap_or_default()).expect("a size");
            if sample.len() != size.min(512) {
                self.misdeeds.push(format!("{path}: a sample of {} bytes", sample.len()));
            }
            // Even of an empty file: a client knows better.
            let mode = if path.ends_with(".safetensors") { "lfs" } else { "regular" };
            let oid = repository.last().files.get(path).map(|content| match content {
                Content::Regular(bytes) => digits(bytes)[..40].to_owned(),
                Content::Large { oid, .. } => oid.clone(),
            });
            modes.push(json!({"path": path, "uploadMode": mode, "shouldIgnore": false, "oid": oid}));
        }
        Answer::json(&json!({"files": modes}))
    }

    pub(super) fn batch(&mut self, place: Place, request: &Request) -> Answer {
        let asked = request.json();
        if asked["operation"] != "upload" || asked["hash_algo"] != "sha256" {
            self.misdeeds.push(format!("a batch {asked}"));
        }
        let id = request.path.trim_start_matches('/').split(".git/").next().unwrap_or_default();
        let mut objects = Vec::new();
        for object in asked["objects"].as_array().cloned().unwrap_or_default() {
            let oid = object["oid"].as_str().unwrap_or_default();
            let size = usize::try_from(object["size"].as_u64().unwrap_or_default()).expect("a size");
            if self.storage.contains_key(oid) {
                objects.push(json!({"oid": oid, "size": size}));
                continue;
            }
            let storage = format!("http://127.0.0.1:{}", place.storage);
            let hub = format!("http://127.0.0.1:{}", place.hub);
            let verify = json!({"href": format!("{hub}/{id}.git/info/lfs/objects/verify"), "header": {}});
            let upload = match self.faults.part_size {
                None => {
                    json!({"href": format!("{storage}/object/{oid}?signature=secret"), "header": {"X-Amz-Tag": "a"}})
                }
                Some(part) => {
                    let mut header = serde_json::Map::new();
                    header.insert("chunk_size".to_owned(), Value::from(part.to_string()));
                    for number in 1..=size.div_ceil(part) {
                        let address = format!("{storage}/part/{oid}/{number}?signature=secret");
                        header.insert(format!("{number:05}"), Value::from(address));
                    }
                    json!({"href": format!("{hub}/api/complete/{oid}"), "header": header})
                }
            };
            objects.push(json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}));
        }
        let transfer = if self.faults.part_size.is_some() { "multipart" } else { "basic" };
        Answer::json(&json!({"transfer": transfer, "objects": objects}))
    }

    pub(super) fn complete(&mut self, oid: &str, request: &Request) -> Answer {
        let asked = request.json();
        let mut whole = Vec::new();
        for (index, part) in asked["parts"].as_array().cloned().unwrap_or_default().iter().enumerate() {
            let number = index + 1;
            let Some(bytes) = self.parts.remove(&(oid.to_owned(), number)) else {
                return Answer::error(400, "a part is missing");
            };
            if part["partNumber"] != number || part["etag"] != format!("\"{}\"", digits(&bytes)) {
                self.misdeeds.push(format!("part {number} is {part}"));
            }
            whole.extend(bytes);
        }
        self.store(oid, whole)
    }

    pub(super) fn store(&mut self, oid: &str, bytes: Vec<u8>) -> Answer {
        if digits(&bytes) != oid {
            self.misdeeds.push(format!("the bytes of {oid} are others"));
            return Answer::error(400, "the bytes are others");
        }
        self.storage.insert(oid.to_owned(), bytes);
        Answer::bytes(Vec::new())
    }

    pub(super) fn verify(&self, request: &Request) -> Answer {
        let asked = request.json();
        let there = self.storage.get(asked["oid"].as_str().unwrap_or_default());
        if there.is_some_and(|bytes| asked["size"] == bytes.len()) {
            return Answer::json(&json!({}));
        }
        Answer::error(404, "no such object")
    }

    pub(super) fn commit(&mut self, id: &str, request: &Request) -> Answer {
        if self.faults.no_commit {
            return Answer::error(500, "the disk of the hub is full");
        }
        if request.headers.get("content-type").map(String::as_str) != Some("application/x-ndjson") {
            self.misdeeds.push("a commit that is no ndjson".to_owned());
        }
        let text = String::from_utf8(request.body.clone()).expect("a commit is text");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let Some(repository) = self.repositories.get_mut(id) else { return Answer::error(404, "Repository not found") };
        if lines[0]["key"] != "header" || lines[0]["value"]["summary"].as_str().is_none_or(str::is_empty) {
            self.misdeeds.push(format!("a commit that begins with {}", lines[0]));
        }
        if lines[0]["value"]["parentCommit"] != repository.last().oid.as_str() {
            return Answer::error(412, "A commit has happened since");
        }
        let mut files = repository.last().files.clone();
        for line in &lines[1..] {
            let value = &line["value"];
            let path = value["path"].as_str().expect("a path").to_owned();
            match line["key"].as_str() {
                Some("file") if value["encoding"] == "base64" => {
                    files.insert(path, Content::Regular(from_base64(value["content"].as_str().expect("content"))));
                }
                Some("lfsFile") => {
                    let oid = value["oid"].as_str().expect("an oid").to_owned();
                    let size = value["size"].as_u64().expect("a size");
                    if size == 0 || self.storage.get(&oid).is_none_or(|bytes| bytes.len() as u64 != size) {
                        self.misdeeds.push(format!("{path} is committed without its bytes"));
                    }
                    files.insert(path, Content::Large { oid, size });
                }
                Some("deletedFile") => {
                    if files.remove(&path).is_none() {
                        self.misdeeds.push(format!("{path} is removed and not there"));
                    }
                }
                _ => self.misdeeds.push(format!("a line {line}")),
            }
        }
        let oid = repository.push(files);
        Answer::json(&json!({"success": true, "commitOid": oid, "commitUrl": format!("https://example.org/{oid}")}))
    }
}
