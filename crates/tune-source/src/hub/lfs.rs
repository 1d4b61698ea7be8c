//! Large files: the batch API of Git LFS, with the hub's transfer in parts.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::allowed;
use super::repository::to_json;
use super::request::{Content, Request, transfer};
use super::upload::LocalFile;
use super::{Event, Hub, HubError, Observer};

/// Files that one request asks about.
const BATCH: usize = 256;

/// The media type of the API.
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

#[derive(Deserialize)]
struct Objects {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u32,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize, Default)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

/// A large file by its digest: the same bytes under two names go once.
struct Large<'a> {
    path: &'a str,
    file: &'a LocalFile,
}

/// A transfer in parts of this size, each to its own address.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    size: u64,
    addresses: Vec<&'a str>,
}

impl Action {
    /// The parts, where the server asks for them: `chunk_size`, and numbers with addresses.
    fn parts(&self, size: u64) -> Option<Result<Parts<'_>, String>> {
        let chunk = match self.header.get("chunk_size")? {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        Some(self.numbered(chunk.filter(|chunk| *chunk > 0), size))
    }

    fn numbered(&self, chunk: Option<u64>, size: u64) -> Result<Parts<'_>, String> {
        let chunk = chunk.ok_or("the parts of a transfer have no size")?;
        let mut by_number = BTreeMap::new();
        for (name, value) in &self.header {
            if let (Ok(number), Some(address)) = (name.parse::<u64>(), value.as_str()) {
                by_number.insert(number, address);
            }
        }
        let wanted = size.div_ceil(chunk);
        if !by_number.keys().copied().eq(1..=wanted) {
            return Err(format!("a transfer has {} parts, and {wanted} are needed", by_number.len()));
        }
        Ok(Parts { size: chunk, addresses: by_number.into_values().collect() })
    }

    /// Headers that the server asks for, but for those of the transfer itself and for the token, which is not its to set.
    fn headers(&self) -> Vec<(&str, &str)> {
        let ours = ["authorization", "content-length", "host", "transfer-encoding"];
        self.header
            .iter()
            .filter(|(name, _)| !ours.contains(&name.to_ascii_lowercase().as_str()))
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
            .collect()
    }
}

impl Hub {
    /// Sends the large files that the hub does not have.
    pub(super) fn send_large(
        &self,
        id: &str,
        files: &BTreeMap<String, LocalFile>,
        large: &BTreeSet<String>,
        observer: &mut Observer<'_>,
    ) -> Result<(), HubError> {
        let address = self.endpoint.address(&format!("/{id}.git/info/lfs/objects/batch"));
        let by_digest: BTreeMap<String, Large<'_>> = files
            .iter()
            .filter(|(path, _)| large.contains(*path))
            .map(|(path, file)| (file.sha256.hex(), Large { path, file }))
            .collect();
        let all: Vec<(&String, &Large<'_>)> = by_digest.iter().collect();
        for batch in all.chunks(BATCH) {
            let objects: Vec<Value> =
                batch.iter().map(|(oid, large)| json!({"oid": oid, "size": large.file.size})).collect();
            let body = to_json(&json!({
                "operation": "upload",
                "transfers": ["basic", "multipart"],
                "objects": objects,
                "hash_algo": "sha256",
                "ref": {"name": "main"},
            }));
            let objects: Objects = self.ask(&lfs_request(&address, &body), observer)?.json(&address)?;
            let answered: BTreeMap<&str, &Object> =
                objects.objects.iter().map(|object| (object.oid.as_str(), object)).collect();
            for (oid, large) in batch {
                let object = answered
                    .get(oid.as_str())
                    .ok_or_else(|| transfer(&address, format!("the answer leaves out `{}`", large.path)))?;
                self.send_object(&address, oid, large, object, observer)?;
            }
        }
        Ok(())
    }

    fn send_object(
        &self,
        batch_address: &str,
        oid: &str,
        large: &Large<'_>,
        object: &Object,
        observer: &mut Observer<'_>,
    ) -> Result<(), HubError> {
        if let Some(error) = &object.error {
            let said: String = error.message.chars().filter(|c| !c.is_control()).take(300).collect();
            return Err(transfer(batch_address, format!("`{}` is not taken ({}): {said}", large.path, error.code)));
        }
        let Some(actions) = &object.actions else { return Ok(()) };
        // Without this action the hub has it already.
        if let Some(upload) = &actions.upload {
            observer(Event::Sending { path: large.path.to_owned(), size: large.file.size });
            match upload.parts(large.file.size) {
                Some(parts) => {
                    let parts = parts.map_err(|problem| transfer(batch_address, problem))?;
                    self.send_parts(oid, large.file, upload, &parts, observer)?;
                }
                None => {
                    let content = Content::Part { file: &large.file.place, start: 0, size: large.file.size };
                    let headers = upload.headers();
                    self.put(&Request { headers, ..Request::put(&upload.href, content) }, observer)?;
                }
            }
        }
        if let Some(verify) = &actions.verify {
            allowed(&verify.href).map_err(|problem| transfer(&verify.href, problem))?;
            let body = to_json(&json!({"oid": oid, "size": large.file.size}));
            let mut request = lfs_request(&verify.href, &body);
            let is_new =
                |(name, _): &(&str, &str)| !["accept", "content-type"].contains(&name.to_ascii_lowercase().as_str());
            request.headers.extend(verify.headers().into_iter().filter(is_new));
            self.ask(&request, observer)?;
        }
        Ok(())
    }

    fn send_parts(
        &self,
        oid: &str,
        file: &LocalFile,
        upload: &Action,
        parts: &Parts<'_>,
        observer: &mut Observer<'_>,
    ) -> Result<(), HubError> {
        let mut done = Vec::new();
        for (index, address) in (0_u64..).zip(&parts.addresses) {
            let (number, start) = (index + 1, index * parts.size);
            let size = parts.size.min(file.size - start);
            let tag = self.put(&Request::put(address, Content::Part { file: &file.place, start, size }), observer)?;
            let tag = tag.ok_or_else(|| transfer(address, format!("part {number} was taken without an `ETag`")))?;
            done.push(json!({"partNumber": number, "etag": tag}));
        }
        allowed(&upload.href).map_err(|problem| transfer(&upload.href, problem))?;
        let body = to_json(&json!({"oid": oid, "parts": done}));
        self.ask(&lfs_request(&upload.href, &body), observer).map(|_| ())
    }

    /// Sends bytes to the storage; gives the `ETag` that it answers with.
    fn put(&self, request: &Request<'_>, observer: &mut Observer<'_>) -> Result<Option<String>, HubError> {
        allowed(request.address).map_err(|problem| transfer(request.address, problem))?;
        let answer = self.ask(request, observer)?;
        Ok(answer.headers.get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned))
    }
}

fn lfs_request<'a>(address: &'a str, body: &'a [u8]) -> Request<'a> {
    let mut request = Request::post(address, MEDIA_TYPE, body);
    request.headers.push(("accept", MEDIA_TYPE));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(header: Value) -> Action {
        serde_json::from_value(json!({"href": "https://example.org", "header": header})).unwrap()
    }

    #[test]
    fn parts_are_in_the_order_of_their_numbers_and_all_there() {
        let whole = action(json!({"chunk_size": "4", "00001": "a", "00002": "b", "00010": "x"}));
        assert!(whole.parts(8).unwrap().is_err());
        let whole = action(json!({"chunk_size": 4, "2": "b", "1": "a", "x-other": "y"}));
        for size in [5, 8] {
            assert_eq!(whole.parts(size).unwrap().unwrap(), Parts { size: 4, addresses: vec!["a", "b"] });
        }
        for (header, size) in [
            (json!({"chunk_size": "4", "1": "a"}), 5),
            (json!({"chunk_size": "4", "1": "a", "2": "b"}), 4),
            (json!({"chunk_size": "0", "1": "a"}), 4),
            (json!({"chunk_size": "x", "1": "a"}), 4),
            (json!({"chunk_size": "4", "0": "a"}), 4),
        ] {
            assert!(action(header.clone()).parts(size).unwrap().is_err(), "{header}");
        }
        assert!(action(json!({})).parts(4).is_none());
    }

    #[test]
    fn headers_of_the_transfer_are_ours() {
        let headers = json!({"Authorization": "x", "HOST": "y", "Content-Length": "1", "x-a": "b", "x-number": 1});
        assert_eq!(action(headers).headers(), [("x-a", "b")]);
    }
}
