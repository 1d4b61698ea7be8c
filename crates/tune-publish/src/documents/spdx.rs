//! An SPDX 3.0.1 document with the AI, dataset and build profiles.
//!
//! The published SHACL shapes do not ask for everything that the profiles require, so that this writer does.

use serde_json::{Value, json};
use tune_schema::recipe::DataClass;

use super::{PROJECT, committed, or_unknown, provenance};
use crate::facts::{Facts, Source};
use crate::identifier::date_time;
use crate::licence::Licence;

/// The document's file.
pub const FILE_NAME: &str = "model.spdx3.json";

const CREATION: &str = "_:ci";

/// Elements under way.
struct Graph<'a> {
    facts: &'a Facts,
    elements: Vec<Value>,
}

impl Graph<'_> {
    fn id(&self, name: &str) -> String {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect();
        format!("urn:uuid:{}#{name}", self.facts.uuid("spdx"))
    }

    /// Adds an element of `kind` with these members, and gives its id.
    fn add(&mut self, kind: &str, name: &str, members: Value) -> String {
        let id = self.id(name);
        let mut element = json!({"type": kind, "spdxId": id, "creationInfo": CREATION});
        if let (Value::Object(element), Value::Object(members)) = (&mut element, members) {
            element.extend(members);
        }
        self.elements.push(element);
        id
    }

    fn relate(&mut self, from: &str, kind: &str, to: &[&str], name: &str) {
        self.add("Relationship", name, json!({"from": from, "relationshipType": kind, "to": to}));
    }

    /// What the terms of a package are: declared and, for nothing else is known, concluded.
    fn license(&mut self, package: &str, name: &str, licence: Option<&Licence>) {
        let text = licence.filter(|licence| licence.is_expression()).map_or("NOASSERTION", Licence::text);
        let expression = json!({"simplelicensing_licenseExpression": text});
        let id = self.add("simplelicensing_LicenseExpression", &format!("licence-{name}"), expression);
        self.relate(package, "hasDeclaredLicense", &[&id], &format!("declared-{name}"));
        self.relate(package, "hasConcludedLicense", &[&id], &format!("concluded-{name}"));
    }
}

fn hash(hex: &str) -> Value {
    json!([{"type": "Hash", "algorithm": "sha256", "hashValue": hex}])
}

fn entries(pairs: impl IntoIterator<Item = (String, String)>) -> Value {
    pairs.into_iter().map(|(key, value)| json!({"type": "DictionaryEntry", "key": key, "value": value})).collect()
}

/// The document.
#[must_use]
pub fn document(facts: &Facts) -> Value {
    let mut graph = Graph { facts, elements: Vec::new() };
    let maintainers = facts.recipe.governance.maintainers.join(", ");
    let supplier = if maintainers.is_empty() { or_unknown(None) } else { &maintainers };
    let supplier = graph.add("Agent", "supplier", json!({"name": supplier}));
    let tool = json!({"name": format!("tune {}", facts.environment.tune_version)});
    let tool = graph.add("Tool", "tune", tool);
    let model = model(&mut graph, &supplier);
    let base = base(&mut graph);
    let data: Vec<String> = facts.data.iter().map(|source| dataset(&mut graph, source)).collect();
    let data: Vec<&str> = data.iter().map(String::as_str).collect();
    graph.relate(&model, "descendantOf", &[&base], "descendant");
    graph.relate(&model, "trainedOn", &data, "trained");
    if facts.claim().stream.eval_examples > 0 {
        graph.relate(&model, "testedOn", &data, "tested");
    }
    let build = build(&mut graph);
    let inputs: Vec<&str> = [base.as_str()].into_iter().chain(data.iter().copied()).collect();
    graph.relate(&build, "hasInput", &inputs, "inputs");
    graph.relate(&build, "hasOutput", &[&model], "outputs");
    graph.relate(&build, "usesTool", &[&tool], "tools");
    let profiles = json!(["core", "software", "ai", "dataset", "build", "simpleLicensing"]);
    graph.add("SpdxDocument", "document", json!({"rootElement": [model], "profileConformance": profiles}));
    let creation = json!({
        "type": "CreationInfo",
        "@id": CREATION,
        "specVersion": "3.0.1",
        "created": facts.finished(),
        "createdBy": [supplier],
        "createdUsing": [tool],
    });
    let mut elements = vec![creation];
    elements.append(&mut graph.elements);
    json!({"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": elements})
}

fn model(graph: &mut Graph<'_>, supplier: &str) -> String {
    let facts = graph.facts;
    let evaluation = &facts.claim().evaluation;
    let mut metrics = Vec::new();
    for (name, loss) in
        [("held-out loss before", evaluation.loss_before), ("held-out loss after", evaluation.loss_after)]
    {
        metrics.extend(loss.map(|loss| (name.to_owned(), loss.value().to_string())));
    }
    if evaluation.exact_match_examples > 0 {
        let share = |matches: u64| format!("{matches} of {}", evaluation.exact_match_examples);
        metrics.push(("held-out exact match before".to_owned(), share(evaluation.exact_match_before)));
        metrics.push(("held-out exact match after".to_owned(), share(evaluation.exact_match_after)));
    }
    let considerations = &facts.recipe.considerations;
    let mut members = json!({
        "name": facts.name(),
        "releaseTime": facts.finished(),
        "suppliedBy": supplier,
        "software_downloadLocation": PROJECT,
        "comment": format!("The claim is {}. The place of download names the tool; the folder that holds this document holds the model.", facts.claim_id()),
        "software_packageVersion": facts.version(),
        "software_primaryPurpose": "model",
        "ai_typeOfModel": ["transformer decoder"],
        "ai_hyperparameter": entries(facts.settings()),
        "ai_metric": entries(metrics),
        "ai_informationAboutTraining": format!(
            "{} steps over {} tokens, {} of them supervised; numerics {}",
            facts.claim().training.steps, facts.claim().stream.tokens, facts.claim().stream.supervised_tokens, facts.numerics()
        ),
        "ai_useSensitivePersonalInformation": "noAssertion",
    });
    for (key, text) in
        [("ai_informationAboutApplication", &considerations.intended_use), ("ai_limitation", &considerations.limits)]
    {
        if let Some(text) = text {
            members[key] = text.as_str().into();
        }
    }
    if let Some(file) = facts.weights() {
        members["verifiedUsing"] = hash(&file.sha256.hex());
    }
    let id = graph.add("ai_AIPackage", "model", members);
    graph.license(&id, "model", facts.terms().as_ref());
    id
}

fn base(graph: &mut Graph<'_>) -> String {
    let (facts, source) = (graph.facts, &graph.facts.base);
    let origin = or_unknown(source.provenance.origin.as_deref());
    let agent = graph.add("Agent", "origin-base", json!({"name": origin}));
    let members = json!({
        "name": source.name,
        "releaseTime": facts.finished(),
        "comment": "The time of release is an upper bound: that of the run which used it.",
        "suppliedBy": agent,
        "software_downloadLocation": source.address().unwrap_or("urn:spdx:no-address"),
        "software_packageVersion": source.locked.revision.clone().unwrap_or_else(|| source.digest().hex()[..12].to_owned()),
        "software_primaryPurpose": "model",
        "ai_typeOfModel": ["transformer decoder"],
    });
    let id = graph.add("ai_AIPackage", &format!("base-{}", source.name), members);
    graph.license(&id, &format!("base-{}", source.name), source.licence.as_ref());
    id
}

/// What dates of data are.
const TIMES: &str = "Times are upper bounds: that of the run which used it.";

fn dataset(graph: &mut Graph<'_>, source: &Source) -> String {
    let facts = graph.facts;
    let origin = or_unknown(source.provenance.origin.as_deref());
    let agent = graph.add("Agent", &format!("origin-{}", source.name), json!({"name": origin}));
    let mut members = json!({
        "name": source.name,
        "builtTime": facts.finished(),
        "releaseTime": facts.finished(),
        "comment": TIMES,
        "originatedBy": [agent],
        "software_downloadLocation": source.address().unwrap_or("urn:spdx:no-address"),
        "software_primaryPurpose": "data",
        "dataset_datasetType": ["text"],
        "dataset_hasSensitivePersonalInformation": "noAssertion",
    });
    if source.address().is_some() {
        members["dataset_datasetAvailability"] = "directDownload".into();
    }
    if let Some(size) = source.size() {
        members["dataset_datasetSize"] = size.into();
    }
    if let Some(commitment) = source.commitment() {
        members["comment"] = format!("{TIMES} {}", committed(commitment)).into();
    }
    if source.class() == Some(DataClass::Unshareable) {
        members["dataset_confidentialityLevel"] = "red".into();
    }
    if let Some(text) = &source.provenance.obtained {
        members["dataset_dataCollectionProcess"] = text.as_str().into();
    }
    let processing: Vec<&String> =
        [&source.provenance.selected, &source.provenance.filtered].into_iter().flatten().collect();
    if !processing.is_empty() {
        members["dataset_dataPreprocessing"] = json!(processing);
    }
    if let Some(text) = &facts.recipe.considerations.known_biases {
        members["dataset_knownBias"] = json!([text]);
    }
    if let [file] = source.locked.files.as_slice() {
        members["verifiedUsing"] = hash(&file.sha256.hex());
    }
    let id = graph.add("dataset_DatasetPackage", &format!("data-{}", source.name), members);
    graph.license(&id, &format!("data-{}", source.name), source.licence.as_ref());
    id
}

fn build(graph: &mut Graph<'_>) -> String {
    let (facts, environment) = (graph.facts, &graph.facts.environment);
    let machine =
        [("backend", &environment.backend), ("device", &environment.device), ("platform", &environment.platform)];
    let members = json!({
        "build_buildType": provenance::build_type(),
        "build_buildId": facts.claim_id().to_string(),
        "build_buildStartTime": date_time(facts.started_unix_seconds()),
        "build_buildEndTime": facts.finished(),
        "build_parameter": entries(facts.settings()),
        "build_environment": entries(machine.into_iter().map(|(key, value)| (key.to_owned(), value.clone()))),
        "build_configSourceEntrypoint": ["run/recipe.yaml"],
    });
    graph.add("build_Build", "run", members)
}
