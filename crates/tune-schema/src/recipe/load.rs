//! From a recipe's text and overrides to a [`Recipe`]: read strictly, keys checked, types checked, defaults filled in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::error::RecipeError;
use super::file::{DatasetFile, RecipeFile, SYNONYMS};
use super::overrides::overrides;
use super::resolve::{Invalid, resolve};
use super::yaml::{self, Document, Place, join};
use super::{Considerations, Governance, Recipe, SourceProvenance};

/// A recipe as loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it means.
    pub recipe: Recipe,
    /// What a person should know about how it was read.
    pub notices: Vec<String>,
    /// What the overrides changed of the claimed recipe; see [`super::overrides()`].
    pub overrides: BTreeMap<String, String>,
    /// Keys that were given as overrides: their paths are relative to the current folder.
    pub override_keys: BTreeSet<String>,
}

/// Reads a recipe. `file` is its path as shown in errors; the default name of the run folder is its stem. The recipe must
/// be whole without its overrides: they change it, and what they changed is stated against it.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn load(file: &str, text: &str, given: &[String]) -> Result<Loaded, RecipeError> {
    let written = read(file, text, &[])?;
    if given.is_empty() {
        return Ok(written);
    }
    let mut loaded = read(file, text, given)?;
    loaded.overrides = overrides(&written.recipe.claimed(), &loaded.recipe.claimed())
        .map_err(|error| RecipeError::without_place(file, error.to_string()))?;
    Ok(loaded)
}

/// [`load`], without what the overrides changed.
fn read(file: &str, text: &str, given: &[String]) -> Result<Loaded, RecipeError> {
    let mut document = yaml::parse(text).map_err(|error| RecipeError::from_yaml(file, text, error))?;
    if document.value.is_null() {
        return Err(
            RecipeError::without_place(file, "the recipe is empty").hint("start from `recipes/quickstart.yaml`")
        );
    }
    if !document.value.is_object() {
        return Err(RecipeError::at(
            file,
            text,
            Place { line: 1, column: 1, width: 1 },
            "a recipe is a list of `key: value` lines",
        ));
    }
    let mut context = Context { file, text, origins: BTreeMap::new(), notices: Vec::new() };
    context.rename_synonyms(&mut document)?;
    let names = written_names(&document.value);
    for given in given {
        context.apply(&mut document, given)?;
    }
    context.check_keys(&document)?;
    let written: RecipeFile =
        serde_path_to_error::deserialize(&document.value).map_err(|error| context.wrong_type(&document, &error))?;
    let stem = file.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or("run");
    let recipe = resolve(written, &names, stem).map_err(|invalid| context.invalid(&document, &invalid))?;
    let override_keys = context.origins.into_keys().collect();
    Ok(Loaded { recipe, notices: context.notices, overrides: BTreeMap::new(), override_keys })
}

/// Default names of the sources, from the recipe as written: an override of a place must not rename a source.
fn written_names(value: &Value) -> BTreeMap<String, String> {
    let last = |place: &str| place.rsplit(['/', '#']).find(|part| !part.is_empty()).unwrap_or(place).to_owned();
    let mut names = BTreeMap::new();
    if let Some(place) = value.get("base_model").and_then(Value::as_str) {
        names.insert("base_model".to_owned(), last(place));
    }
    let datasets = value.get("datasets").and_then(Value::as_array).into_iter().flatten();
    for (i, dataset) in datasets.enumerate() {
        if let Some(place) = dataset.get("path").and_then(Value::as_str) {
            names.insert(format!("datasets.{i}"), last(place));
        }
    }
    names
}

/// The names of a type's keys, from its JSON Schema.
fn keys_of<T: schemars::JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T).to_value();
    schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|members| members.keys().cloned().collect())
        .unwrap_or_default()
}

/// The keys that may stand at a path, where any are known.
fn known_keys(path: &str) -> Option<Vec<String>> {
    let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Some(keys_of::<RecipeFile>()),
        ["datasets", _] => Some(keys_of::<DatasetFile>()),
        ["provenance", _] => Some(keys_of::<SourceProvenance>()),
        ["governance"] => Some(keys_of::<Governance>()),
        ["considerations"] => Some(keys_of::<Considerations>()),
        _ => None,
    }
}

/// The known name nearest to `word`, where one is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a String>) -> Option<&'a String> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(word, name), name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// Whether a key asks for something that must not be in a file that is hashed and published.
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["hf_token", "api_key", "apikey", "password", "secret", "wandb_token", "hub_token", "access_token", "auth_token"]
        .iter()
        .any(|word| key.contains(word))
}

struct Context<'a> {
    file: &'a str,
    text: &'a str,
    /// The override that set a path.
    origins: BTreeMap<String, String>,
    notices: Vec<String>,
}

impl Context<'_> {
    /// An error about `path`: at its override, or at its place in the file.
    fn error(&self, document: &Document, path: &str, key: bool, problem: String) -> RecipeError {
        let origin = self.origins.iter().rev().find(|(set, _)| path == *set || path.starts_with(&format!("{set}.")));
        if let Some((_, given)) = origin {
            return RecipeError::without_place(format!("override `{given}`"), problem);
        }
        let places = if key { &document.keys } else { &document.values };
        match places.get(path) {
            Some(place) => RecipeError::at(self.file, self.text, *place, problem),
            None => RecipeError::without_place(self.file, problem),
        }
    }

    fn rename_synonyms(&mut self, document: &mut Document) -> Result<(), RecipeError> {
        for (other, ours) in SYNONYMS {
            if document.value.get(other).is_none() {
                continue;
            }
            if document.value.get(ours).is_some() {
                let error = self.error(
                    document,
                    other,
                    true,
                    format!("`{other}` and `{ours}` are the same setting, given twice"),
                );
                return Err(error.hint(format!("keep `{ours}`")));
            }
            self.notices.push(format!("{}: `{other}` is read as `{ours}`", self.file));
            if let Some(members) = document.value.as_object_mut()
                && let Some(value) = members.remove(other)
            {
                members.insert(ours.to_owned(), value);
            }
            for places in [&mut document.keys, &mut document.values] {
                if let Some(place) = places.get(other).copied() {
                    places.insert(ours.to_owned(), place);
                }
            }
        }
        Ok(())
    }

    /// Sets what an override says.
    fn apply(&mut self, document: &mut Document, given: &str) -> Result<(), RecipeError> {
        let failed = |problem: String| RecipeError::without_place(format!("override `{given}`"), problem);
        let (key, value_text) =
            given.split_once('=').ok_or_else(|| failed("it has no `=`".to_owned()).hint("write `key=value`"))?;
        let first = key.split('.').next().unwrap_or(key);
        let key = match SYNONYMS.iter().find(|(other, _)| *other == first) {
            Some((_, ours)) => format!("{ours}{}", &key[first.len()..]),
            None => key.to_owned(),
        };
        if value_text.trim().is_empty() {
            return Err(failed("it has no value".to_owned()).hint("`key=null` means the default"));
        }
        let value = yaml::parse(value_text).map_err(|error| failed(error.problem))?.value;
        let mut target = &mut document.value;
        let mut path = String::new();
        for part in key.split('.') {
            if let Some(known) = known_keys(&path).filter(|known| !known.iter().any(|name| name == part)) {
                let error = failed(format!("unknown key `{}`", join(&path, part)));
                return Err(with_nearest(error, part, &known));
            }
            path = join(&path, part);
            target = match target {
                Value::Object(members) => members.entry(part.to_owned()).or_insert(Value::Null),
                Value::Array(entries) => {
                    let count = entries.len();
                    let entry = part.parse::<usize>().ok().and_then(|index| entries.get_mut(index));
                    entry.ok_or_else(|| {
                        failed(format!("`{path}` does not exist: the list has {count} entries, numbered from 0"))
                    })?
                }
                Value::Null => {
                    *target = Value::Object(serde_json::Map::new());
                    match target {
                        Value::Object(members) => members.entry(part.to_owned()).or_insert(Value::Null),
                        _ => return Err(failed("the path leads nowhere".to_owned())),
                    }
                }
                _ => return Err(failed(format!("`{path}` does not exist: what is above it is a single value"))),
            };
        }
        *target = value;
        self.origins.insert(key, given.to_owned());
        Ok(())
    }

    /// Every key is known, and none is a secret.
    fn check_keys(&self, document: &Document) -> Result<(), RecipeError> {
        let mut pending = vec![(String::new(), &document.value)];
        let mut found: Vec<(String, String)> = Vec::new();
        while let Some((path, value)) = pending.pop() {
            match value {
                Value::Object(members) => {
                    let known = known_keys(&path);
                    for (key, value) in members {
                        let full = join(&path, key);
                        if known.as_ref().is_some_and(|known| !known.contains(key)) {
                            found.push((full.clone(), key.clone()));
                        }
                        pending.push((full, value));
                    }
                }
                Value::Array(entries) => {
                    pending.extend(entries.iter().enumerate().map(|(i, entry)| (join(&path, &i.to_string()), entry)));
                }
                _ => {}
            }
        }
        // The first in the file, so that errors are met from top to bottom.
        found.sort_by_key(|(path, _)| {
            document.keys.get(path).map_or((usize::MAX, 0), |place| (place.line, place.column))
        });
        let Some((path, key)) = found.first() else { return Ok(()) };
        if is_secret(key) {
            let error = self.error(document, path, true, format!("`{key}` looks like a secret"));
            return Err(error.hint("recipes are hashed and published: tokens come from the environment only"));
        }
        let error = self.error(document, path, true, format!("unknown key `{key}`"));
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        Err(with_nearest(error, key, &known_keys(parent).unwrap_or_default()))
    }

    fn wrong_type(&self, document: &Document, error: &serde_path_to_error::Error<serde_json::Error>) -> RecipeError {
        let path = error.path().to_string().replace('[', ".").replace(']', "");
        let path = path.trim_matches('.');
        let path = if document.values.contains_key(path) || self.origins.contains_key(path) {
            path
        } else {
            path.rsplit_once('.').map_or(path, |(p, _)| p)
        };
        let problem = in_plain_words(&error.inner().to_string());
        self.error(document, path, false, format!("`{path}`: {problem}"))
    }

    fn invalid(&self, document: &Document, invalid: &Invalid) -> RecipeError {
        let error = self.error(document, &invalid.path, false, invalid.problem.clone());
        match &invalid.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

/// What a deserializer says, with its name for the expected type as a person would call it.
fn in_plain_words(problem: &str) -> String {
    let Some((found, expected)) = problem.rsplit_once(", expected ") else { return problem.to_owned() };
    let expected = match expected {
        "u32" => "a whole number from 0 to 2^32 - 1",
        "u64" => "a whole number from 0 to 2^64 - 1",
        "f64" => "a number",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "`key: value` lines",
        other if other.starts_with("struct ") => "`key: value` lines",
        other => other,
    };
    let found = found
        .replace("invalid type: sequence", "invalid type: a list")
        .replace("invalid type: map", "invalid type: `key: value` lines");
    format!("{found}, expected {expected}")
}

fn with_nearest(error: RecipeError, key: &str, known: &[String]) -> RecipeError {
    match nearest(key, known) {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error.hint("`tune schema` lists every key"),
    }
}
