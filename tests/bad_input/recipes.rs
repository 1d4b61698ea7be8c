//! Recipes, overrides and the environment.

use super::{assert_refusal, edit, place, refused, run_refused, world};
use crate::support::claim_id;

#[test]
fn a_misspelt_key() {
    let world = world();
    edit(&world, "recipe.yaml", "learning_rate:", "learning_rte:");
    let place = place(&world, "recipe.yaml", "learning_rte");
    run_refused(&world, &[], 1, &[&place, "unknown key `learning_rte`", "did you mean `learning_rate`?"]);
}

#[test]
fn a_misspelt_key_of_a_data_set() {
    let world = world();
    edit(&world, "recipe.yaml", "path:", "pth:");
    let place = place(&world, "recipe.yaml", "pth:");
    run_refused(&world, &[], 1, &[&place, "unknown key `pth`", "did you mean `path`?"]);
}

/// A source's name is that of a file in a published folder, and is shown to people.
#[test]
fn names_of_sources_that_lead_elsewhere() {
    for name in ["../../../evil", "../adapter_config", "/tmp/x", "a/b", "..", "a\\\\b", "a\\u001b[2J", "a\\u202eb"] {
        let world = world();
        edit(&world, "recipe.yaml", "name: rows", &format!("name: \"{name}\""));
        run_refused(&world, &[], 1, &["recipe.yaml:8:", "is no name for a source", "hint: a name like a file's"]);
    }
    for name in ["../x", "a=b", "-v"] {
        run_refused(&world(), &[&format!("base_model_name={name}")], 1, &["is no name for a source"]);
    }
}

/// An error repeats what a stranger wrote; a terminal must show it, not obey it.
#[test]
fn a_key_that_a_terminal_would_obey() {
    let world = world();
    edit(&world, "recipe.yaml", "learning_rate:", "\"a\\e[2J\u{202e}b\":");
    let outcome = world.tune(&["plan", "recipe.yaml"]);
    assert_refusal(&outcome, 1, &["unknown key `a\\u{1b}[2J\\u{202e}b`"]);
    assert!(!outcome.stderr.contains(['\u{1b}', '\u{202e}']), "{:?}", outcome.stderr);
}

#[test]
fn a_duplicate_key() {
    let world = world();
    edit(&world, "recipe.yaml", "seed: 7\n", "seed: 7\nlora_r: 8\n");
    let first = place(&world, "recipe.yaml", "lora_r: 4");
    let line = first.split(':').nth(1).expect("a line");
    let (second, both) = (place(&world, "recipe.yaml", "lora_r: 8"), format!("already, in line {line}"));
    run_refused(&world, &[], 1, &[&second, "`lora_r`", &both, "keep one of the two"]);
}

#[test]
fn a_wrong_type() {
    let world = world();
    edit(&world, "recipe.yaml", "lora_r: 4", "lora_r: many");
    let place = place(&world, "recipe.yaml", "many");
    run_refused(&world, &[], 1, &[&place, "`lora_r`", "\"many\"", "expected a whole number"]);
}

#[test]
fn a_list_where_a_text_belongs() {
    let world = world();
    edit(&world, "recipe.yaml", "path: rows.jsonl", "path: [rows.jsonl]");
    let place = place(&world, "recipe.yaml", "[rows.jsonl]");
    run_refused(&world, &[], 1, &[&place, "`datasets.0.path`", "expected a string"]);
}

#[test]
fn a_rank_of_zero() {
    let world = world();
    edit(&world, "recipe.yaml", "lora_r: 4", "lora_r: 0");
    let place = place(&world, "recipe.yaml", "0\nlora_alpha");
    run_refused(&world, &[], 1, &[&place, "`lora_r` is out of range", "from 1 to 4096"]);
}

#[test]
fn a_negative_learning_rate() {
    let world = world();
    edit(&world, "recipe.yaml", "learning_rate: 1e-3", "learning_rate: -1e-3");
    let place = place(&world, "recipe.yaml", "-1e-3");
    run_refused(&world, &[], 1, &[&place, "`learning_rate` is out of range", "at least 0"]);
}

#[test]
fn no_steps() {
    let texts = ["override `max_steps=0`", "`max_steps` is out of range", "from 1 to"];
    run_refused(&world(), &["max_steps=0"], 1, &texts);
}

#[test]
fn a_recipe_that_is_not_there() {
    let world = world();
    let texts = ["`nowhere/recipe.yaml`", "No such file", "hint: "];
    refused(&world, &["run", "nowhere/recipe.yaml"], 1, &texts);
    let outcome = world.tune(&["run", "nowhere/recipe.yaml"]);
    // What the recipe says is not at fault.
    assert!(!outcome.stderr.contains("paths in a recipe"), "{}", outcome.stderr);
}

#[test]
fn a_folder_in_place_of_a_recipe() {
    refused(&world(), &["run", "base"], 1, &["`base`", "hint: "]);
}

#[test]
fn a_recipe_that_is_not_yaml() {
    let world = world();
    edit(&world, "recipe.yaml", "  - name: rows", "\t- name: rows");
    run_refused(&world, &[], 1, &["recipe.yaml:", "this is not YAML", "tab"]);
}

#[test]
fn an_override_without_a_value() {
    run_refused(&world(), &["foo"], 1, &["override `foo`", "has no `=`", "write `key=value`"]);
}

#[test]
fn an_override_of_an_unknown_key() {
    run_refused(&world(), &["nope=1"], 1, &["override `nope=1`", "unknown key `nope`", "`tune schema`"]);
}

#[test]
fn an_override_beyond_a_list() {
    let texts = ["override `datasets.9.path=x`", "`datasets.9` does not exist", "1 entries, numbered from 0"];
    run_refused(&world(), &["datasets.9.path=x"], 1, &texts);
}

#[test]
fn an_unknown_target_module() {
    let texts = ["`query`", "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj", "`all-linear`"];
    run_refused(&world(), &["lora_target_modules=[q_proj, query]"], 1, &texts);
}

#[test]
fn an_address_that_was_never_fetched_without_the_network() {
    let world = world();
    let address = "https://example.org/rows.jsonl";
    edit(&world, "recipe.yaml", "path: rows.jsonl", &format!("path: {address}"));
    run_refused(&world, &["--offline"], 2, &["source `rows`", address, "`tune lock RECIPE`"]);
}

#[test]
fn an_unknown_level_of_the_processor() {
    let world = world();
    let mut command = world.command(&["run", "recipe.yaml", "output_dir=out"]);
    let outcome = crate::support::Outcome::of(command.env("TUNE_CPU", "nonsense").output().expect("the binary starts"));
    super::assert_refusal(&outcome, 1, &["`TUNE_CPU=nonsense`", "known are `scalar`"]);
    assert!(!world.path("out").exists());
}

/// The number of threads changes no bit, so what it cannot be is no reason to stop.
#[test]
fn an_impossible_number_of_threads() {
    let world = world();
    world.train("run", &[]);
    for (i, threads) in ["0", "garbage", "-1", ""].into_iter().enumerate() {
        let output = format!("output_dir=run{i}");
        let mut command = world.command(&["run", "recipe.yaml", &output]);
        command.env("RAYON_NUM_THREADS", threads);
        crate::support::Outcome::of(command.output().expect("the binary starts")).assert_code(0);
        assert_eq!(claim_id(&world.path(&format!("run{i}"))), claim_id(&world.path("run")), "{threads:?}");
    }
}
