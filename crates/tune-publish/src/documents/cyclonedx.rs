//! A CycloneDX 1.6 bill of materials with a model card (ECMA-424).

use serde_json::{Value, json};

use super::{PROJECT, provenance};
use crate::facts::{Facts, Source};
use crate::identifier::HubKind;
use crate::interval::wilson;
use crate::licence::Licence;

/// The document's file.
pub const FILE_NAME: &str = "bom.cdx.json";

/// The bill of materials.
#[must_use]
pub fn bom(facts: &Facts) -> Value {
    let mut components = vec![base(facts)];
    components.extend(facts.data.iter().map(|source| data(facts, source)));
    let references: Vec<Value> = components.iter().map(|component| component["bom-ref"].clone()).collect();
    let mut dependencies = vec![json!({"ref": "model", "dependsOn": references})];
    dependencies.extend(references.iter().map(|reference| json!({"ref": reference})));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", facts.uuid("cyclonedx")),
        "version": 1,
        "metadata": {
            "timestamp": facts.finished(),
            "tools": {"components": [{"type": "application", "name": "tune", "version": facts.environment.tune_version}]},
            "component": model(facts),
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn model(facts: &Facts) -> Value {
    let mut component = json!({
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": facts.name(),
        "version": facts.version(),
        "pedigree": {"ancestors": [ancestor(facts)]},
        "externalReferences": references(),
        "modelCard": model_card(facts),
        "properties": [{"name": "tune:claim", "value": facts.claim_id().to_string()}],
    });
    if let Some(file) = facts.weights() {
        component["hashes"] = json!([{"alg": "SHA-256", "content": file.sha256.hex()}]);
    }
    if let Some(terms) = facts.terms() {
        component["licenses"] = licences(&terms);
    }
    component
}

/// Files beside this one. An attestation cannot hold this document's digest and be listed in it with its own.
fn references() -> Value {
    json!([
        {"type": "model-card", "url": super::card::FILE_NAME},
        {"type": "attestation", "url": provenance::FILE_NAME},
        {"type": "configuration", "url": "run/recipe.yaml"},
        {"type": "evidence", "url": "run/manifest.json"},
        {"type": "log", "url": "run/chain.jsonl"},
        {"type": "vcs", "url": PROJECT, "comment": "the code that trained it"},
    ])
}

fn licences(licence: &Licence) -> Value {
    match (licence.single_id(), licence.is_expression()) {
        (Some(id), _) => json!([{"license": {"id": id}}]),
        (None, true) => json!([{"expression": licence.text()}]),
        (None, false) => json!([{"license": {"name": licence.text()}}]),
    }
}

fn ancestor(facts: &Facts) -> Value {
    let base = &facts.base;
    let mut value = json!({"type": "machine-learning-model", "name": base.hub_id(HubKind::Model).unwrap_or_else(|| base.name.clone())});
    if let Some(revision) = &base.locked.revision {
        value["version"] = revision.as_str().into();
    }
    if let Some(id) = base.hub_id(HubKind::Model) {
        let at = base.locked.revision.as_ref().map(|revision| format!("@{revision}")).unwrap_or_default();
        value["purl"] = format!("pkg:huggingface/{id}{at}").into();
    }
    value
}

fn base(facts: &Facts) -> Value {
    let base = &facts.base;
    let mut value = ancestor(facts);
    value["bom-ref"] = format!("base-{}", base.name).into();
    if let Some(licence) = &base.licence {
        value["licenses"] = licences(licence);
    }
    value["properties"] = files(base);
    value
}

/// Digests of a source's files, for a component's `hashes` are of one file; or the root of its rows.
fn files(source: &Source) -> Value {
    if let Some(commitment) = source.commitment() {
        return json!([
            {"name": "tune:commitment:root", "value": commitment.root.to_string()},
            {"name": "tune:commitment:rows", "value": commitment.rows.to_string()},
        ]);
    }
    let one = |file: &tune_schema::lock::LockedFile| json!({"name": format!("tune:sha256:{}", file.path), "value": file.sha256.hex()});
    source.locked.files.iter().map(one).collect()
}

fn data(facts: &Facts, source: &Source) -> Value {
    let mut contents = json!({"properties": files(source)});
    if let Some(address) = source.address() {
        contents["url"] = address.into();
    }
    let mut dataset = json!({"type": "dataset", "name": source.name, "contents": contents});
    if let Some(origin) = &source.provenance.origin {
        dataset["description"] = origin.as_str().into();
    }
    let personal = facts.recipe.considerations.personal_data.as_deref();
    dataset["sensitiveData"] = json!([format!("personal data: {}", super::or_unknown(personal))]);
    let mut value =
        json!({"type": "data", "bom-ref": format!("data-{}", source.name), "name": source.name, "data": [dataset]});
    if let [file] = source.locked.files.as_slice() {
        value["hashes"] = json!([{"alg": "SHA-256", "content": file.sha256.hex()}]);
    }
    if let Some(revision) = &source.locked.revision {
        value["version"] = revision.as_str().into();
    }
    if let Some(licence) = &source.licence {
        value["licenses"] = licences(licence);
    }
    value
}

fn model_card(facts: &Facts) -> Value {
    let datasets = facts.data.iter().map(|source| json!({"ref": format!("data-{}", source.name)}));
    let parameters = json!({
        "approach": {"type": "supervised"},
        "task": "text-generation",
        "architectureFamily": "transformer decoder",
        "datasets": datasets.collect::<Vec<_>>(),
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "text"}],
    });
    let considerations = &facts.recipe.considerations;
    let mut stated = json!({});
    for (key, text) in [("useCases", &considerations.intended_use), ("technicalLimitations", &considerations.limits)] {
        if let Some(text) = text {
            stated[key] = json!([text]);
        }
    }
    if let Some(biases) = &considerations.known_biases {
        stated["ethicalConsiderations"] = json!([{"name": biases}]);
    }
    json!({
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": metrics(facts)},
        "considerations": stated,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of examples, far below 2^53")]
fn metrics(facts: &Facts) -> Vec<Value> {
    let evaluation = &facts.claim().evaluation;
    let mut metrics = Vec::new();
    for (when, loss, matches) in [
        ("before training", evaluation.loss_before, evaluation.exact_match_before),
        ("after training", evaluation.loss_after, evaluation.exact_match_after),
    ] {
        let slice = format!("held-out examples, {when}");
        if let Some(loss) = loss {
            metrics.push(json!({"type": "loss", "value": loss.value().to_string(), "slice": slice}));
        }
        let asked = evaluation.exact_match_examples;
        if let Some((low, high)) = wilson(matches, asked) {
            let share = matches as f64 / asked as f64;
            let interval = json!({"lowerBound": format!("{low:.4}"), "upperBound": format!("{high:.4}")});
            let value = format!("{share:.4}");
            metrics
                .push(json!({"type": "exact_match", "value": value, "slice": slice, "confidenceInterval": interval}));
        }
    }
    metrics
}
