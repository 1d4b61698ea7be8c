//! The part of a recipe that decides the result, and a recipe made from it again.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::RecipeError;
use super::file::RecipeFile;
use super::resolve::resolve;
use super::{Recipe, yaml};

/// Keys of [`Recipe`] that say how a computation is executed, not what it is.
const EXECUTION: [&str; 10] = [
    "base_model",
    "device",
    "eval_samples_shown",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "keep_quantized",
    "logging_steps",
    "micro_batch_size",
    "micro_batch_size_auto",
    "output_dir",
];

impl Recipe {
    /// What identifies the computation: the resolved recipe without places, batch split, folders and logging, with the
    /// rows of a step in their stead. Optional values are explicit; the seed is decimal text.
    ///
    /// # Panics
    /// Never: a recipe has a JSON form.
    #[must_use]
    pub fn claimed(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a recipe has a JSON form");
        if let Some(members) = value.as_object_mut() {
            members.retain(|key, _| !EXECUTION.contains(&key.as_str()));
            members.insert("rows_per_step".to_owned(), json!(self.rows_per_step()));
            members.insert("seed".to_owned(), json!(self.seed.to_string()));
            let datasets = members.get_mut("datasets").and_then(Value::as_array_mut).into_iter().flatten();
            datasets.filter_map(Value::as_object_mut).for_each(|dataset| drop(dataset.remove("path")));
        }
        value
    }

    /// [`Self::claimed`] as the text of `resolved.yaml`.
    #[must_use]
    pub fn claimed_yaml(&self) -> String {
        format!(
            "# The recipe with every default explicit. Its canonical JSON is what the claim names.\n{}",
            yaml::emit(&self.claimed())
        )
    }
}

/// Reads `resolved.yaml` back as the claimed value.
///
/// # Errors
/// A text that is no YAML.
pub fn parse_claimed(file: &str, text: &str) -> Result<Value, RecipeError> {
    yaml::parse(text).map(|document| document.value).map_err(|error| RecipeError::from_yaml(file, text, error))
}

/// A recipe from its claimed part, held to what any recipe is held to. Places are the sources' names, until the caller says
/// where they are; a step is computed one row at a time.
///
/// # Errors
/// A value that is not what [`Recipe::claimed`] gives, or a setting that no recipe may have.
pub fn from_claimed_in_place(claimed: &Value) -> Result<Recipe, RecipeError> {
    let failed = |problem: String| RecipeError::without_place("resolved.yaml", problem);
    let mut members: Map<String, Value> =
        claimed.as_object().cloned().ok_or_else(|| failed("it is not a recipe".to_owned()))?;
    // Back to the keys of a recipe as it is written, so that there is one reader of both.
    let rows = members.remove("rows_per_step").ok_or_else(|| failed("`rows_per_step` is missing".to_owned()))?;
    let template = members.remove("chat_template").unwrap_or(Value::Null);
    if members.get("warmup_steps").is_some_and(|steps| !steps.is_null()) {
        members.remove("warmup_ratio");
    }
    let name = members.get("base_model_name").cloned().unwrap_or(Value::Null);
    let written = BTreeMap::from([
        ("base_model", name),
        ("chat_template_jinja", template),
        ("eval_samples_shown", json!(0)),
        ("gradient_accumulation_steps", rows),
        ("output_dir", json!("")),
    ]);
    members.extend(written.into_iter().map(|(key, value)| (key.to_owned(), value)));
    for dataset in members.get_mut("datasets").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(dataset) = dataset.as_object_mut() {
            let name = dataset.get("name").cloned().unwrap_or(Value::Null);
            dataset.insert("path".to_owned(), name);
        }
    }
    let written: RecipeFile =
        serde_json::from_value(Value::Object(members)).map_err(|error| failed(error.to_string()))?;
    let recipe = resolve(written, &BTreeMap::new(), "").map_err(|invalid| failed(invalid.problem))?;
    if recipe.claimed() == *claimed {
        Ok(recipe)
    } else {
        Err(failed("it is not in the form that `tune` writes".to_owned()))
    }
}
