//! The release file of the Model Openness Tool, for the Model Openness Framework 1.0 of the LF AI & Data Foundation.

use serde_json::{Value, json};

use super::{CODE_LICENCE, PROJECT, Published, card, or_unknown};
use crate::audit::openness::{Component, Present, present};
use crate::facts::Facts;
use crate::identifier::{HubKind, date};
use crate::licence::Licence;

/// The document's file.
pub const FILE_NAME: &str = "MOF.yml";

/// What stands where no terms are on record.
const UNKNOWN: &str = "unlicensed";

/// The file.
#[must_use]
pub fn document(facts: &Facts, published: &Published) -> String {
    let terms = facts.terms();
    let result = name_of(terms.as_ref());
    let components = present(facts, &published.checkpoints);
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
        "components": components.iter().map(|(component, found)| entry(*component, found)).collect::<Vec<_>>(),
    });
    if let Some(contact) = &facts.recipe.governance.contact {
        release["contact"] = contact.as_str().into();
    }
    let framework = json!({"name": "Model Openness Framework", "version": "1.0", "date": "2024-12-15"});
    tune_schema::recipe::yaml::emit(&json!({"framework": framework, "release": release}))
}

fn name_of(licence: Option<&Licence>) -> &str {
    licence.map_or(UNKNOWN, Licence::text)
}

fn entry(component: Component, found: &Present) -> Value {
    json!({
        "name": component.name(),
        "description": component.description(),
        "license": name_of(found.licence.as_ref()),
        "component_path": found.place,
    })
}
