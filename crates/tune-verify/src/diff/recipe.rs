//! The keys of `resolved.yaml` that differ.

use std::collections::BTreeMap;

use serde_json::Value;
use tune_schema::recipe::{overrides, parse_claimed};

use super::report::{Bearing, Difference, Part, Values};
use super::side::Side;

/// Every key with another value.
///
/// # Errors
/// A recipe that cannot be read.
pub(super) fn compare([a, b]: [&Side; 2]) -> Result<Vec<Difference>, String> {
    let (claimed_a, claimed_b) = (claimed(a)?, claimed(b)?);
    // Each way round, for the values of both.
    let values = |from: &Value, to: &Value| overrides(from, to).map_err(|error| error.to_string());
    let (in_a, in_b) = (values(&claimed_b, &claimed_a)?, values(&claimed_a, &claimed_b)?);
    let keys: BTreeMap<&String, ()> = in_a.keys().chain(in_b.keys()).map(|key| (key, ())).collect();
    let difference = |key: &String| {
        let [a, b] = [&in_a, &in_b].map(|values| values.get(key).map(|json| plain(json)));
        Difference::of_values(Part::Recipe, bearing(key), Values { name: key.clone(), a, b })
    };
    Ok(keys.into_keys().map(difference).collect())
}

fn claimed(side: &Side) -> Result<Value, String> {
    let bytes = side.read("resolved.yaml")?;
    let text = std::str::from_utf8(&bytes).map_err(|error| side.unreadable("resolved.yaml", &error))?;
    let claimed = parse_claimed("resolved.yaml", text).map_err(|error| side.unreadable("resolved.yaml", &error))?;
    if claimed.is_object() { Ok(claimed) } else { Err(side.unreadable("resolved.yaml", &"it has no settings")) }
}

/// What a key decides.
fn bearing(key: &str) -> Bearing {
    let parts: Vec<&str> = key.split('.').collect();
    match parts.as_slice() {
        ["base_model_name"] | ["datasets", _, "name" | "sha256"] => Bearing::Label,
        ["considerations" | "governance" | "provenance", ..] => Bearing::Label,
        ["eval_exact_match" | "eval_max_new_tokens" | "eval_steps" | "save_steps"] => Bearing::Records,
        _ => Bearing::Training,
    }
}

/// A JSON value as a person would write it: words without quotation marks.
fn plain(json: &str) -> String {
    let word = serde_json::from_str::<String>(json).ok();
    let is_word =
        |text: &String| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    word.filter(is_word).unwrap_or_else(|| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keys_decide() {
        for (key, expected) in [
            ("learning_rate", Bearing::Training),
            ("datasets", Bearing::Training),
            ("datasets.0.train_on_eos", Bearing::Training),
            ("datasets.1.name", Bearing::Label),
            ("provenance.rows.jsonl.licence", Bearing::Label),
            ("governance", Bearing::Label),
            ("save_steps", Bearing::Records),
        ] {
            assert_eq!(bearing(key), expected, "{key}");
        }
    }

    #[test]
    fn values_are_plain() {
        assert_eq!(
            ["\"7\"", "\"a b\"", "0.001", "null", "[\"x\"]"].map(plain),
            ["7", "\"a b\"", "0.001", "null", "[\"x\"]"]
        );
    }
}
