//! The OpenSSF model signature, version 1.0: a Sigstore bundle over a list of all files of a folder with their digests.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tune_schema::Digest;

use crate::PublishError;
use crate::envelope::{self, Envelope};
use crate::key::{PrivateKey, PublicKey};

/// The signature's file, in the folder that it covers.
pub const FILE_NAME: &str = "model.sig";

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";

/// What `model-signing` leaves out at the top of a folder, beside the signature itself; what the hub's client notes in a folder
/// that it downloads to; and the statements of verifiers, which come later and are signed each by itself.
const IGNORED: [&str; 6] = [".cache/huggingface", ".git", ".gitattributes", ".github", ".gitignore", ATTESTATIONS];

/// The file with the statements of verifiers.
pub const ATTESTATIONS: &str = "attestations.intoto.jsonl";

/// Largest signature file that is read.
const LIMIT: u64 = 64 << 20;

/// A Sigstore bundle with a bare key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: Envelope,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VerificationMaterial {
    public_key: KeyHint,
    #[serde(default)]
    tlog_entries: Vec<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyHint {
    hint: String,
}

/// Every file of a folder that a signature covers, by name in the order of code points, with its digest.
fn resources(folder: &Path) -> Result<Vec<(String, Digest)>, PublishError> {
    let mut found = Vec::new();
    for name in tune_fs::list_files_recursive(folder)? {
        let is =
            |ignored: &&str| name.strip_prefix(*ignored).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if name != FILE_NAME && !IGNORED.iter().any(is) {
            let (digest, _) = tune_fs::digest_file(&folder.join(&name))?;
            found.push((name, digest));
        }
    }
    found.sort();
    Ok(found)
}

/// The digest over all digests, in the order of the names.
fn root(resources: &[(String, Digest)]) -> Digest {
    let raw: Vec<u8> = resources.iter().flat_map(|(_, digest)| *digest.as_bytes()).collect();
    Digest::of(&raw)
}

/// The statement over a folder. `name` is what the folder is called; verifiers do not compare it.
fn statement(name: &str, resources: &[(String, Digest)]) -> Value {
    let listed =
        resources.iter().map(|(name, digest)| json!({"name": name, "digest": digest.hex(), "algorithm": "sha256"}));
    let predicate = json!({
        "resources": listed.collect::<Vec<_>>(),
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": ignored()},
    });
    let subject = json!([{"name": name, "digest": {"sha256": root(resources).hex()}}]);
    envelope::statement(subject, PREDICATE_TYPE, predicate)
}

fn ignored() -> Vec<&'static str> {
    let mut all = IGNORED.to_vec();
    all.push(FILE_NAME);
    all
}

/// Signs all files of a folder and writes [`FILE_NAME`] into it: to be done last.
///
/// # Errors
/// Files that cannot be read or written.
pub fn sign_folder(folder: &Path, name: &str, key: &PrivateKey) -> Result<(), PublishError> {
    let payload = tune_schema::to_canonical_json(&statement(name, &resources(folder)?))?;
    let bundle = Bundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: VerificationMaterial {
            public_key: KeyHint { hint: key.public().hint() },
            tlog_entries: Vec::new(),
        },
        dsse_envelope: Envelope::sign(&payload, key, String::new()),
    };
    tune_fs::write_atomic(&folder.join(FILE_NAME), &tune_schema::to_canonical_json(&bundle)?)?;
    Ok(())
}

/// Checks a folder against its signature; gives the number of files, or what is wrong.
///
/// # Errors
/// Files that cannot be read.
pub fn verify_folder(folder: &Path, key: &PublicKey) -> Result<Result<usize, String>, PublishError> {
    // The list first: it refuses pipes and links, which may never end.
    let found = resources(folder)?;
    let bytes = tune_fs::read_limited(&folder.join(FILE_NAME), LIMIT)?;
    Ok(check(&bytes, &found, key))
}

/// Names of the files that a signature lists, whoever made it: what [`verify_folder`] will want to see. None where it is no
/// signature.
#[must_use]
pub fn names(bytes: &[u8]) -> Vec<String> {
    let bundle = serde_json::from_slice::<Bundle>(bytes).ok();
    let stated = bundle.and_then(|bundle| bundle.dsse_envelope.statement().ok()).unwrap_or_default();
    let listed = stated["predicate"]["resources"].as_array().cloned().unwrap_or_default();
    listed.iter().filter_map(|resource| resource["name"].as_str().map(str::to_owned)).collect()
}

fn check(bytes: &[u8], found: &[(String, Digest)], key: &PublicKey) -> Result<usize, String> {
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|error| format!("it is no Sigstore bundle: {error}"))?;
    if bundle.media_type != MEDIA_TYPE {
        return Err(format!("its media type is `{}`, not `{MEDIA_TYPE}`", bundle.media_type));
    }
    let hint = &bundle.verification_material.public_key.hint;
    if *hint != key.hint() {
        return Err(format!("it was made with the key {hint}, not with {}", key.hint()));
    }
    let stated = bundle.dsse_envelope.open(key).map_err(|error| error.to_string())?;
    if stated["predicateType"] != PREDICATE_TYPE {
        return Err(format!("it states {}, not a model signature", stated["predicateType"]));
    }
    let listed = stated["predicate"]["resources"].as_array().ok_or("it lists no files")?;
    let entry = |value: &Value| Some((value["name"].as_str()?.to_owned(), value["digest"].as_str()?.to_owned()));
    let listed: Option<Vec<(String, String)>> = listed.iter().map(entry).collect();
    let listed = listed.ok_or("its list of files has another form")?;
    let root = root(found).hex();
    let found: Vec<(String, String)> = found.iter().map(|(name, digest)| (name.clone(), digest.hex())).collect();
    if let Some((name, _)) = listed.iter().find(|entry| !found.contains(entry)) {
        return Err(format!("`{name}` is missing or is not what was signed"));
    }
    if let Some((name, _)) = found.iter().find(|entry| !listed.contains(entry)) {
        return Err(format!("`{name}` was not signed"));
    }
    // Names and digests agree; this holds the root, which other tools compare, to them.
    match stated["subject"].as_array().map(Vec::as_slice) {
        Some([subject]) if subject["digest"]["sha256"] == root.as_str() => Ok(listed.len()),
        _ => Err("its subject is not the root of the listed files".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_added_or_removed_is_found() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("model");
        let put = |name: &str, text: &str| tune_fs::write_atomic(&folder.join(name), text.as_bytes()).unwrap();
        tune_fs::create_dir_all(&folder.join("run")).unwrap();
        put("README.md", "a");
        put("run/chain.jsonl", "b");
        let key = PrivateKey::generate();
        sign_folder(&folder, "model", &key).unwrap();
        let verdict = || verify_folder(&folder, &key.public()).unwrap();
        assert_eq!(verdict(), Ok(2));
        assert_eq!(names(&tune_fs::read(&folder.join(FILE_NAME)).unwrap()), ["README.md", "run/chain.jsonl"]);
        assert_eq!(names(b"{}"), [""; 0]);
        let other = PrivateKey::generate().public();
        assert!(verify_folder(&folder, &other).unwrap().unwrap_err().contains("made with the key"));
        put("run/chain.jsonl", "c");
        assert!(verdict().unwrap_err().contains("run/chain.jsonl"));
        put("run/chain.jsonl", "b");
        put("more", "d");
        assert!(verdict().unwrap_err().contains("`more` was not signed"));
        std::fs::remove_file(folder.join("more")).unwrap();
        std::fs::remove_file(folder.join("README.md")).unwrap();
        assert!(verdict().unwrap_err().contains("README.md"));
        put("README.md", "a");
        assert_eq!(verdict(), Ok(2));
        let text = tune_fs::read_to_string(&folder.join(FILE_NAME)).unwrap();
        put(FILE_NAME, &text.replace("v0.3", "v0.2"));
        assert!(verdict().unwrap_err().contains("media type"));
    }
}
