//! A verdict as a signed statement: who computed which claim again, to which level, on what.
//!
//! A statement is an in-toto verification summary (SLSA `verification_summary/v1`) in a DSSE envelope, one a line of
//! [`FILE_NAME`] in the folder that was verified. The envelope does not say whose key it is; the statement holds the public key,
//! so that anyone can see that it was signed by this key, and compare the key's hint with those of people they know.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use tune_publish::PublishError;
use tune_publish::documents::PROJECT;
use tune_publish::envelope::{Envelope, statement};
use tune_publish::identifier::date_time;
use tune_publish::key::{PrivateKey, PublicKey};
use tune_schema::manifest::Manifest;
use tune_schema::recipe::Numerics;
use tune_schema::text::printable;
use tune_schema::{Digest, canonical_digest, to_canonical_json};
use tune_train::RunFolder;
use tune_train::environment::{DeviceFacts, machine, unix_seconds};

use crate::data::AT_HAND;
use crate::verdict::{Check, Conclusion, Level, Outcome, Verdict};
use crate::{VerifyError, export, folder_of};

/// The file of statements, in a run folder or at the top of a published one.
pub const FILE_NAME: &str = tune_publish::signature::ATTESTATIONS;

const PREDICATE_TYPE: &str = "https://slsa.dev/verification_summary/v1";

/// Largest file of statements that is read.
const LIMIT: u64 = 16 << 20;

/// A statement about a claim, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attestation {
    /// [`PublicKey::hint`] of the key that signed it.
    pub key: String,
    /// What was found: `PASSED` or `FAILED`.
    pub result: String,
    /// The level reached.
    pub level: String,
    /// What was not there to be compared, by the names of the checks.
    pub withheld: Vec<String>,
    /// When, as the verifier's clock said.
    pub time: String,
    /// What computed: device, backend, platform, version of the tool.
    pub machine: String,
    /// Why the statement does not count; it does where this is none.
    pub problem: Option<String>,
}

/// The statement about a verdict.
fn summary(
    manifest: &Manifest,
    verdict: &Verdict,
    device: &DeviceFacts,
    key: &PrivateKey,
) -> Result<Value, PublishError> {
    let facts = machine(device);
    let claim = manifest.claim_id.to_string();
    let passed = verdict.conclusion == Conclusion::Verified;
    let levels: Vec<String> = Level::ALL
        .into_iter()
        .filter(|level| Some(*level) <= verdict.reached)
        .map(|level| format!("TUNE_{}", level.name().to_uppercase()))
        .collect();
    let subject = json!([{"name": "claim", "digest": {"sha256": manifest.claim_id.hex()}}]);
    let manifest_digest = Digest::of(&to_canonical_json(manifest)?).hex();
    let predicate = json!({
        "verifier": {"id": format!("{PROJECT}/blob/main/docs/formats/attestations.md#verifier-v1"), "version": {"tune": facts.tune_version}},
        "timeVerified": date_time(unix_seconds()),
        "resourceUri": format!("urn:tune:{claim}"),
        "policy": {"uri": format!("{PROJECT}/blob/main/docs/concepts/verification.md")},
        "inputAttestations": [{"name": "manifest.json", "digest": {"sha256": manifest_digest}}],
        "verificationResult": if passed { "PASSED" } else { "FAILED" },
        "verifiedLevels": levels,
        "tune_level": verdict.reached.map(Level::name),
        "tune_confidence": verdict.confidence,
        "tune_withheld": verdict.withheld(),
        "tune_device": facts.device,
        "tune_backend": facts.backend,
        "tune_platform": facts.platform,
        "tune_binary": facts.binary.map(|digest| digest.to_string()),
        "tune_publicKey": key.public().to_pem(),
    });
    Ok(statement(subject, PREDICATE_TYPE, predicate))
}

/// Signs a verdict and adds the statement to [`FILE_NAME`]. A verdict that could not be reached gives none, and `false`; nor
/// does one about a folder that is not whole: a broken copy says nothing of the claim, nor does a missing signature. The same
/// goes for differences in what the claim does not hold: sources of other bytes than the locked ones, a secret that does not
/// open a commitment, files that were exported from the result, bits that only one device promises.
///
/// # Errors
/// A target that is no run or has another manifest by now, or a file that cannot be written.
pub fn attest(target: &Path, verdict: &Verdict, device: &DeviceFacts, key: &PrivateKey) -> Result<bool, VerifyError> {
    let folder = folder_of(target)?;
    let manifest = read_manifest(&folder)?;
    // Which device computed a run is not claimed, and other bits count against it on that device alone.
    let of_a_device = manifest.claim.inputs.numerics != Numerics::ExactF32V1;
    let unclaimed = |check: &Check| {
        [AT_HAND, export::CHECK].contains(&check.name.as_str()) || of_a_device && check.level >= Level::Sample
    };
    let mut differing = verdict.checks.iter().filter(|check| matches!(check.outcome, Outcome::Differs(_)));
    let says_nothing = verdict.differs() && differing.all(unclaimed);
    if verdict.conclusion == Conclusion::CouldNotBeChecked || verdict.reached.is_none() || says_nothing {
        return Ok(false);
    }
    if verdict.claim_id != Some(claim_of(&manifest)?) || verdict.claim_id != Some(manifest.claim_id) {
        return Err(VerifyError::ChangedMeanwhile(folder.path().to_owned()));
    }
    let payload = to_canonical_json(&summary(&manifest, verdict, device, key)?).map_err(PublishError::from)?;
    let envelope = Envelope::sign(&payload, key, key.public().hint());
    let path = place(&folder);
    let mut lines = read_lines(&path)?;
    lines.extend(to_canonical_json(&envelope).map_err(PublishError::from)?);
    lines.push(b'\n');
    tune_fs::write_atomic(&path, &lines)?;
    Ok(true)
}

/// Every statement in the folder, in order, each once.
///
/// # Errors
/// A target that is no run or states the id of another claim than it holds, or a file that cannot be read.
pub fn list(target: &Path) -> Result<Vec<Attestation>, VerifyError> {
    let folder = folder_of(target)?;
    let manifest = read_manifest(&folder)?;
    if manifest.claim_id != claim_of(&manifest)? {
        let problem = "the claim id it states is not that of the claim it holds".to_owned();
        return Err(VerifyError::Manifest { path: folder.manifest(), problem });
    }
    let bytes = read_lines(&place(&folder))?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut seen = BTreeSet::new();
    let read = lines.filter_map(|line| {
        let envelope = serde_json::from_slice::<Envelope>(line);
        let payload = envelope.as_ref().ok().map(|envelope| envelope.payload.clone());
        let one = read(envelope, &manifest);
        // A statement that counts can be written in many ways, and its signature in two.
        let content = payload.filter(|_| one.problem.is_none());
        seen.insert(content.map_or_else(|| line.to_vec(), String::into_bytes)).then_some(one)
    });
    Ok(read.collect())
}

/// The id of the claim that a manifest holds.
fn claim_of(manifest: &Manifest) -> Result<Digest, VerifyError> {
    Ok(canonical_digest(&manifest.claim).map_err(PublishError::from)?)
}

fn place(folder: &RunFolder) -> std::path::PathBuf {
    folder.top().join(FILE_NAME)
}

/// The file of statements, where it is there. A pipe would never end.
fn read_lines(path: &Path) -> Result<Vec<u8>, VerifyError> {
    if !tune_fs::exists(path) {
        return Ok(Vec::new());
    }
    if !tune_fs::is_file(path) {
        return Err(VerifyError::NotAFile(path.to_owned()));
    }
    Ok(tune_fs::read_limited(path, LIMIT)?)
}

fn read_manifest(folder: &RunFolder) -> Result<Manifest, VerifyError> {
    if !tune_fs::is_file(&folder.manifest()) {
        return Err(VerifyError::NoManifest(folder.path().to_owned()));
    }
    let bytes = tune_fs::read_limited(&folder.manifest(), LIMIT)?;
    let problem =
        |error: serde_json::Error| VerifyError::Manifest { path: folder.manifest(), problem: error.to_string() };
    serde_json::from_slice(&bytes).map_err(problem)
}

/// A line, and whether it counts for this manifest.
fn read(line: Result<Envelope, serde_json::Error>, manifest: &Manifest) -> Attestation {
    let empty = || Attestation {
        key: String::new(),
        result: String::new(),
        level: String::new(),
        withheld: Vec::new(),
        time: String::new(),
        machine: String::new(),
        problem: None,
    };
    let broken = |problem: String| Attestation { problem: Some(problem), ..empty() };
    let envelope = match line {
        Ok(envelope) => envelope,
        Err(error) => return broken(format!("it is no envelope: {error}")),
    };
    let statement = match envelope.statement() {
        Ok(statement) => statement,
        Err(error) => return broken(error.to_string()),
    };
    let predicate = &statement["predicate"];
    // A stranger wrote it: nothing in it is more than one line, nor obeyed by a terminal.
    let text = |name: &str| printable(predicate[name].as_str().unwrap_or_default());
    let withheld = predicate["tune_withheld"].as_array().map(Vec::as_slice).unwrap_or_default();
    let key = PublicKey::from_pem(predicate["tune_publicKey"].as_str().unwrap_or_default());
    let machine: Vec<String> = ["tune_device", "tune_backend", "tune_platform"]
        .into_iter()
        .map(text)
        .filter(|text| !text.is_empty())
        .collect();
    let version = printable(predicate["verifier"]["version"]["tune"].as_str().unwrap_or_default());
    Attestation {
        key: key.as_ref().map(PublicKey::hint).unwrap_or_default(),
        result: text("verificationResult"),
        level: text("tune_level"),
        withheld: withheld.iter().filter_map(Value::as_str).map(printable).collect(),
        time: text("timeVerified"),
        machine: format!("{}, tune {version}", machine.join(", ")),
        problem: problem(&statement, &envelope, key.as_ref(), manifest),
    }
}

/// Why a statement does not count for this manifest.
fn problem(statement: &Value, envelope: &Envelope, key: Option<&PublicKey>, manifest: &Manifest) -> Option<String> {
    let Some(key) = key else { return Some("it names no public key".to_owned()) };
    if let Err(error) = envelope.open(key) {
        return Some(error.to_string());
    }
    if statement["predicateType"] != PREDICATE_TYPE {
        return Some(format!("it is no verification summary but {}", statement["predicateType"]));
    }
    let predicate = &statement["predicate"];
    let is_one_of = |name: &str, known: &[&str]| predicate[name].as_str().is_some_and(|text| known.contains(&text));
    let time = predicate["timeVerified"].as_str().unwrap_or_default();
    if !is_one_of("verificationResult", &["PASSED", "FAILED"])
        || !is_one_of("tune_level", &Level::ALL.map(Level::name))
        || !is_date_time(time)
    {
        return Some("its result, level or time is none".to_owned());
    }
    let claim = manifest.claim_id.hex();
    let about = statement["subject"].as_array().map(Vec::as_slice);
    match about {
        Some([subject]) if subject["digest"]["sha256"] == claim.as_str() => None,
        _ => Some("it is about another claim".to_owned()),
    }
}

/// Whether a text has the form `2026-11-22T00:00:00Z`.
fn is_date_time(text: &str) -> bool {
    const FORM: &str = "0000-00-00T00:00:00Z";
    let fits = |(c, form): (char, char)| if form == '0' { c.is_ascii_digit() } else { c == form };
    text.len() == FORM.len() && text.chars().zip(FORM.chars()).all(fits)
}
