//! The release file of the Model Openness Tool, for the Model Openness Framework 1.0 of the LF AI & Data Foundation.

use serde_json::{Value, json};

use super::{PROJECT, card, or_unknown};
use crate::audit::openness::{Component, present};
use crate::facts::Facts;
use crate::identifier::{HubKind, date};

/// The document's file.
pub const FILE_NAME: &str = "MOF.yml";

/// Terms of the code that trains, evaluates and generates: this tool's.
const CODE_LICENCE: &str = "MIT OR Apache-2.0";

/// Terms of what a run folder holds about itself, where a result has none: its facts.
const UNKNOWN: &str = "unlicensed";

/// The file.
#[must_use]
pub fn document(facts: &Facts) -> String {
    let terms = facts.terms();
    let result = terms.as_ref().map_or(UNKNOWN, |terms| terms.text());
    let maintainers = facts.recipe.governance.maintainers.join(", ");
    let licence = |name: &str| json!({"name": name, "path": card::FILE_NAME});
    let mut release = json!({
        "name": facts.name(),
        "version": facts.version(),
        "license": {
            "distribution": licence(result),
            "code": {"name": CODE_LICENCE, "path": PROJECT},
            "data": licence(result),
            "document": licence(result),
        },
        "date": date(facts.environment.finished_unix_seconds),
        "type": "language",
        "architecture": "transformer decoder",
        "treatment": if facts.is_chat() { "chat fine-tuned" } else { "instruct fine-tuned" },
        "origin": facts.base.hub_id(HubKind::Model).unwrap_or_else(|| facts.base.name.clone()),
        "producer": if maintainers.is_empty() { or_unknown(None) } else { &maintainers },
        "components": present(facts).into_iter().map(|(component, place)| entry(facts, component, &place)).collect::<Vec<_>>(),
    });
    if let Some(contact) = &facts.recipe.governance.contact {
        release["contact"] = contact.as_str().into();
    }
    let framework = json!({"name": "Model Openness Framework", "version": "1.0", "date": "2024-12-15"});
    tune_schema::recipe::yaml::emit(&json!({"framework": framework, "release": release}))
}

fn entry(facts: &Facts, component: Component, place: &str) -> Value {
    let licence = if component.is_code() {
        CODE_LICENCE.to_owned()
    } else if component == Component::Datasets || component == Component::EvaluationData {
        facts
            .data
            .iter()
            .filter_map(|source| source.licence.as_ref())
            .map(|one| one.text().to_owned())
            .collect::<Vec<_>>()
            .join(" AND ")
    } else {
        facts.terms().map_or_else(|| UNKNOWN.to_owned(), |terms| terms.text().to_owned())
    };
    json!({"name": component.name(), "description": component.description(), "license": licence, "component_path": place})
}
