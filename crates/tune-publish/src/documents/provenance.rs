//! SLSA provenance, version 1, in an in-toto statement. What its parameters mean: `docs/formats/provenance.md`.

use serde_json::{Map, Value, json};
use tune_schema::commitment::Commitment;
use tune_schema::lock::LockedFile;

use super::PROJECT;
use crate::envelope;
use crate::facts::{Facts, Source};
use crate::identifier::date_time;

/// The statement's file.
pub const FILE_NAME: &str = "provenance.json";

/// The statement in a signed envelope, where the publisher has a key.
pub const SIGNED_FILE_NAME: &str = "provenance.intoto.jsonl";

const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// The kind of build that a run of this tool is.
#[must_use]
pub fn build_type() -> String {
    format!("{PROJECT}/blob/main/docs/formats/provenance.md#finetune-v1")
}

/// The statement over the result's files.
#[must_use]
pub fn statement(facts: &Facts) -> Value {
    let subject = facts.result.iter().map(|file| json!({"name": file.path, "digest": {"sha256": file.sha256.hex()}}));
    envelope::statement(subject.collect(), PREDICATE_TYPE, predicate(facts))
}

fn predicate(facts: &Facts) -> Value {
    let environment = &facts.environment;
    let sources = [&facts.base].into_iter().chain(&facts.data);
    let dependencies = sources.flat_map(|source| match source.commitment() {
        Some(commitment) => vec![withheld(source, commitment)],
        None => source.locked.files.iter().map(|file| dependency(source, file)).collect(),
    });
    let byproduct = |(path, digest): (&String, &tune_schema::Digest)| {
        let shown = ["chain.jsonl", "evaluation-before.json", "evaluation-after.json", "resolved.yaml"];
        shown
            .contains(&path.as_str())
            .then(|| json!({"name": format!("run/{path}"), "digest": {"sha256": digest.hex()}}))
    };
    let mut byproducts: Vec<Value> = facts.claim().files.iter().filter_map(byproduct).collect();
    byproducts.push(json!({"name": "run/manifest.json", "digest": {"sha256": facts.manifest_digest.hex()}}));
    json!({
        "buildDefinition": {
            "buildType": build_type(),
            "externalParameters": {
                "recipe": "run/recipe.yaml",
                "settings": facts.settings().into_iter().map(|(key, text)| (key, Value::from(text))).collect::<Map<_, _>>(),
                "overrides": facts.claim().inputs.overrides,
            },
            "internalParameters": {
                "numerics": facts.claim().inputs.numerics,
                "backend": environment.backend,
                "device": environment.device,
                "platform": environment.platform,
                "threads": environment.threads.to_string(),
            },
            "resolvedDependencies": dependencies.collect::<Vec<_>>(),
        },
        "runDetails": {
            "builder": {
                "id": format!("{PROJECT}/blob/main/docs/formats/provenance.md#local-builder-v1"),
                "version": {"tune": environment.tune_version},
                "builderDependencies": binary(facts),
            },
            "metadata": {
                "invocationId": format!("urn:uuid:{}", facts.uuid("invocation")),
                "startedOn": date_time(facts.started_unix_seconds()),
                "finishedOn": date_time(environment.finished_unix_seconds),
            },
            "byproducts": byproducts,
        },
    })
}

fn binary(facts: &Facts) -> Value {
    facts.environment.binary.iter().map(|digest| json!({"name": "tune", "digest": {"sha256": digest.hex()}})).collect()
}

fn annotations(source: &Source) -> Map<String, Value> {
    let mut annotations = Map::new();
    if let Some(licence) = &source.licence {
        annotations.insert("license".to_owned(), licence.text().into());
    }
    if let Some(class) = source.class() {
        annotations.insert("class".to_owned(), class.name().into());
    }
    annotations
}

fn dependency(source: &Source, file: &LockedFile) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", source.name, file.path),
        "digest": {"sha256": file.sha256.hex()},
        "annotations": annotations(source),
    });
    if let Some(address) = source.address() {
        value["uri"] = address.into();
    }
    value
}

/// A source that is not shared. The root of its rows is no digest of bytes that anyone could hash, so it names the source.
fn withheld(source: &Source, commitment: &Commitment) -> Value {
    let mut annotations = annotations(source);
    annotations.insert("commitment".to_owned(), json!(commitment.scheme));
    annotations.insert("rows".to_owned(), commitment.rows.to_string().into());
    json!({"name": source.name, "uri": format!("urn:tune:rows:{}", commitment.root), "annotations": annotations})
}
