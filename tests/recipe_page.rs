//! `docs/formats/recipe.md` lists every key with the words of the JSON Schema, so that the two cannot part.

use std::fs;

use serde_json::Value;

use crate::support::{World, repository};

const BEGIN: &str = "<!-- keys: from `tune schema` -->\n";

/// A table of an object's keys, and then one of each object it leads to.
fn table(schema: &Value, title: &str, object: &Value) -> String {
    let mut text = format!("\n### {title}\n\n| key | meaning |\n|---|---|\n");
    for (key, property) in object["properties"].as_object().expect("an object's properties") {
        let meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        assert!(!meaning.is_empty(), "`{key}` has no description");
        text += &format!("| `{key}` | {meaning} |\n");
    }
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        if title == "Recipe" && definition["properties"].is_object() {
            text += &table(schema, name, definition);
        }
    }
    text
}

#[test]
fn the_recipe_page_lists_every_key() {
    let outcome = World::new().tune(&["schema"]);
    let schema: Value = serde_json::from_str(&outcome.stdout).expect("the schema is JSON");
    let expected = table(&schema, "Recipe", &schema);
    let path = repository().join("docs/formats/recipe.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (prose, keys) = page.split_once(BEGIN).expect("the page holds the marker of its keys");
    if std::env::var_os("TUNE_UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{prose}{BEGIN}{expected}")).expect("the page");
    } else {
        assert_eq!(keys, expected, "docs/formats/recipe.md is out of date: TUNE_UPDATE_GOLDEN=1 writes it anew");
    }
}
