//! Training data and chat templates.

use super::{edit, refused, run_refused, world};
use crate::support::{ROWS, World};

/// The records, over and over, up to a number of rows.
fn rows(world: &World, count: usize) -> Vec<String> {
    world.read("rows.jsonl").lines().cycle().take(count).map(str::to_owned).collect()
}

fn write_rows(world: &World, rows: &[String]) {
    world.write("rows.jsonl", &(rows.join("\n") + "\n"));
}

#[test]
fn data_that_is_not_there() {
    let world = world();
    edit(&world, "recipe.yaml", "path: rows.jsonl", "path: elsewhere.jsonl");
    let texts = ["source `rows`", "elsewhere.jsonl` does not exist", "relative to the recipe's folder"];
    run_refused(&world, &[], 1, &texts);
}

#[test]
fn a_folder_in_place_of_data() {
    let world = world();
    edit(&world, "recipe.yaml", "path: rows.jsonl", "path: base");
    run_refused(&world, &[], 1, &["source `rows`", "base` is not a file", "hint: name the file"]);
}

/// A world whose line 3,017 breaks off.
fn broken() -> World {
    let world = world();
    let mut rows = rows(&world, 3_100);
    rows[3_016].truncate(20);
    write_rows(&world, &rows);
    world
}

const BROKEN: [&str; 3] = ["source `rows`, line 3017: column ", "EOF", "hint: a data set is JSON Lines"];

#[test]
fn a_line_that_breaks_off() {
    run_refused(&broken(), &[], 1, &BROKEN);
    refused(&broken(), &["plan", "recipe.yaml"], 1, &BROKEN);
    refused(&broken(), &["data", "export", "recipe.yaml", "--out", "stream.jsonl"], 1, &BROKEN);
}

/// What was refused was used for nothing, so mending it is no change of a locked source.
#[test]
fn data_that_was_mended_is_accepted() {
    let world = broken();
    run_refused(&world, &[], 1, &BROKEN);
    let mended = rows(&super::world(), 3_100);
    write_rows(&world, &mended);
    world.train("out", &["max_steps=1"]);
}

#[test]
fn a_row_without_its_columns() {
    let world = world();
    world.write("rows.jsonl", "{\"question\": \"a\", \"answer\": 1}\n");
    let texts =
        ["source `rows`, line 1", "no text column `prompt`", "`answer` (a number), `question` (text)", "`field_…`"];
    run_refused(&world, &[], 1, &texts);
}

#[test]
fn data_without_rows() {
    let world = world();
    world.write("rows.jsonl", "\n\n");
    run_refused(&world, &[], 1, &["source `rows` holds no rows", "one JSON object a line"]);
}

#[test]
fn an_example_that_is_too_long() {
    let world = world();
    let mut rows = rows(&world, ROWS);
    rows[20] = format!("{{\"prompt\": \"{}\", \"completion\": \"b\"}}", "a 1 ".repeat(500));
    write_rows(&world, &rows);
    let texts = [
        "source `rows`, line 21: the example has ",
        "`sequence_len` is 128",
        "hint: set `sequence_len` to at least ",
        "`excess_length_strategy`",
    ];
    run_refused(&world, &[], 1, &texts);
}

/// Only the first token, which nothing stands before.
#[test]
fn an_example_without_a_supervised_token() {
    let world = world();
    let mut rows = rows(&world, ROWS);
    rows[5] = "{\"prompt\": \"\", \"completion\": \"\"}".to_owned();
    write_rows(&world, &rows);
    run_refused(&world, &[], 1, &["source `rows`, line 6: no token of the example is supervised", "hint: "]);
}

#[test]
fn everything_held_out() {
    let held_out = format!("val_set_size={ROWS}");
    run_refused(&world(), &[&held_out], 1, &["no examples are left", "hint: lower `val_set_size`"]);
}

/// A world of conversations with a template.
fn chat(template: &str, settings: &str) -> World {
    let world = world();
    let row = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    write_rows(&world, &vec![row.to_owned(); ROWS]);
    edit(&world, "recipe.yaml", "type: prompt_completion", &format!("type: chat_template\n{settings}"));
    let indented = template.replace('\n', "\n  ");
    edit(&world, "recipe.yaml", "seed: 7\n", &format!("seed: 7\nchat_template_jinja: |\n  {indented}\n"));
    world
}

const TEMPLATE: &str = "{% for m in messages -%}
{{ m.role }}: {{ m.content }}{{ eos_token }}
{%- endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

#[test]
fn a_template_of_conversations_trains() {
    chat(TEMPLATE, "").train("out", &["max_steps=1"]);
}

#[test]
fn roles_that_nobody_has() {
    let world = chat(TEMPLATE, "    roles_to_train: [teacher]\n");
    let texts = ["source `rows`, line 1: no token of the example is supervised", "hint: ", "`roles_to_train`"];
    run_refused(&world, &[], 1, &texts);
}

#[test]
fn no_roles_at_all() {
    let world = chat(TEMPLATE, "    roles_to_train: []\n");
    let place = super::place(&world, "recipe.yaml", "[]");
    run_refused(&world, &[], 1, &[&place, "`roles_to_train` is empty", "nothing would be supervised"]);
}

#[test]
fn an_unknown_template_variable() {
    let world = chat(&TEMPLATE.replace("{{ m.role }}", "{{ rolle }}"), "");
    let texts = ["source `rows`, line 1: line 2 of the chat template", "`rolle`", "hint: a template gets `messages`"];
    run_refused(&world, &[], 1, &texts);
}

#[test]
fn a_misspelt_member_of_a_message() {
    let world = chat(&TEMPLATE.replace("m.content", "m.contents"), "");
    let texts = ["source `rows`, line 1: line 2 of the chat template", "does not exist", "(of `role` and `content`)"];
    run_refused(&world, &[], 1, &texts);
}

#[test]
fn a_template_that_breaks_off() {
    let world = chat("{% for m in messages %}{{ m.content }}", "");
    run_refused(&world, &[], 1, &["the chat template is not usable", "chat_template:1", "hint: "]);
}
