//! Paths of the machine in the files of a run that are published as they are: the manifest lists these files, so nothing can
//! be left out of them.

use std::path::{Component, Path};

use serde_json::Value;
use tune_schema::manifest::PUBLISHED_RUN;
use tune_schema::recipe::yaml;

use crate::PublishError;
use crate::facts::{Facts, flatten, json, text};

/// Values that hold a path from the root of this machine's file system, each by its published file and its key.
///
/// # Errors
/// A file that cannot be read.
pub fn local_paths(facts: &Facts) -> Result<Vec<String>, PublishError> {
    let recipe = facts.folder.join("recipe.yaml");
    let written = yaml::parse(&text(&recipe)?)
        .map_err(|error| PublishError::Unreadable { path: recipe, problem: error.problem })?
        .value;
    let environment: Value = json(&facts.folder.join("environment.json"))?;
    let depth = depth(&facts.folder);
    let of_recipe = keys(&written, begins_at_a_root);
    // Places there are seen from the run folder.
    let of_environment = keys(&environment, |value| begins_at_a_root(value) || climbs(value, depth));
    let of_recipe = of_recipe.iter().map(|key| format!("{PUBLISHED_RUN}/recipe.yaml: {key}"));
    let of_environment = of_environment.iter().map(|key| format!("{PUBLISHED_RUN}/environment.json: {key}"));
    Ok(of_recipe.chain(of_environment).collect())
}

/// Dotted paths of the values that are `meant`.
fn keys(document: &Value, meant: impl Fn(&str) -> bool) -> Vec<String> {
    let mut values = Vec::new();
    flatten("", document, &mut values);
    values.into_iter().filter(|(_, value)| meant(value)).map(|(key, _)| key).collect()
}

/// Whether a value is an absolute path, as a source's place may be written.
fn begins_at_a_root(value: &str) -> bool {
    let path = value.strip_prefix("file:").unwrap_or(value);
    let has_drive = path.starts_with(|c: char| c.is_ascii_alphabetic()) && matches!(path.get(1..3), Some(":/" | ":\\"));
    path.starts_with('/') || has_drive
}

/// Whether a path goes up so many folders and more: it names every folder from the root on, as an absolute one does.
fn climbs(value: &str, depth: usize) -> bool {
    Path::new(value).components().take_while(|part| *part == Component::ParentDir).count() >= depth
}

/// How many folders up the root is; at least one.
fn depth(folder: &Path) -> usize {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let normalised = tune_fs::normalised(&absolute);
    normalised.components().filter(|part| matches!(part, Component::Normal(_))).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_path_from_the_root() {
        for path in ["/home/a/rows.jsonl", "file:/rows.jsonl", "file:///rows.jsonl", "C:\\rows.jsonl", "d:/rows.jsonl"]
        {
            assert!(begins_at_a_root(path), "{path}");
        }
        for text in ["rows.jsonl", "../rows.jsonl", "https://example.org/rows", "pip:a==1#b", "a: b", "c:", "", "é:/x"]
        {
            assert!(!begins_at_a_root(text), "{text}");
        }
    }

    #[test]
    fn a_place_that_climbs_to_the_root_tells_the_way_from_it() {
        assert!(climbs("../../../home/a", 3) && climbs("../../../../home/a", 3));
        assert!(!climbs("../../a", 3) && !climbs("a/../../../b", 3) && !climbs("", 1));
        assert_eq!((depth(Path::new("/a/b/../c")), depth(Path::new("/"))), (2, 1));
    }
}
