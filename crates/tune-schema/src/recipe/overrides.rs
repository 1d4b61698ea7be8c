//! What overrides changed of a recipe: the difference between the claimed recipe with and without them.
//!
//! Stated in the recipe's own terms and in canonical form, so that `4e-3` and `0.004` are one override, and one that
//! changes nothing is none.

use std::collections::BTreeMap;

use serde_json::Value;

use super::yaml::join;
use crate::{CanonicalError, to_canonical_json};

/// The values in which `resolved` differs from `written`, both as [`super::Recipe::claimed`] gives them: canonical JSON
/// by dotted path. A value that `resolved` lacks is `null`.
///
/// # Errors
/// A value without canonical form.
pub fn overrides(written: &Value, resolved: &Value) -> Result<BTreeMap<String, String>, CanonicalError> {
    let mut found = BTreeMap::new();
    compare("", written, resolved, &mut found)?;
    Ok(found)
}

fn compare(
    path: &str,
    written: &Value,
    resolved: &Value,
    found: &mut BTreeMap<String, String>,
) -> Result<(), CanonicalError> {
    match (written, resolved) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let value = |members: &serde_json::Map<String, Value>| members.get(key).cloned().unwrap_or_default();
                compare(&join(path, key), &value(a), &value(b), found)?;
            }
        }
        // A list of settings, such as the data sets, entry by entry; a list of values is one value.
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() && b.iter().all(Value::is_object) => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&join(path, &i.to_string()), a, b, found)?;
            }
        }
        (a, b) if a == b => {}
        (_, value) => {
            let text = String::from_utf8_lossy(&to_canonical_json(value)?).into_owned();
            found.insert(path.to_owned(), text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::load;

    const RECIPE: &str = "base_model: base\ndatasets:\n  - {path: a.jsonl, type: completion}\nlearning_rate: 4e-3\n";

    fn overrides(given: &[&str]) -> Vec<(String, String)> {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        load("x.yaml", RECIPE, &given).unwrap().overrides.into_iter().collect()
    }

    #[test]
    fn only_what_changes_the_claim_is_recorded_and_in_one_form() {
        assert_eq!(overrides(&["learning_rate=0.004", "output_dir=x", "datasets.0.path=/b.jsonl", "seed=42"]), []);
        assert_eq!(overrides(&["learning_rate=1e-2"]), overrides(&["learning_rate=0.010"]));
        let expected = [("datasets.0.weight", "2"), ("lora_r", "8"), ("rows_per_step", "3"), ("seed", "\"7\"")];
        let found = overrides(&["lora_r=8", "datasets.0.weight=2.0", "seed=7", "micro_batch_size=3"]);
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(overrides(&["lora_target_modules=[v_proj, q_proj]"])[0].1, "[\"q_proj\",\"v_proj\"]");
    }
}
