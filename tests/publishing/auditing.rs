//! `tune audit`: what it says of a complete record and of an empty one, of licences, and of personal data in the rows.

use serde_json::Value;

use super::{RECORD, finished};
use crate::support::World;

#[test]
fn an_audit_of_a_complete_record_has_nothing_to_say_and_of_an_empty_one_much() {
    let world = finished();
    let outcome = world.tune(&["audit", "run", "--strict", "--json"]);
    outcome.assert_code(0);
    let audit: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert!(audit["osaid"].as_array().expect("a list").iter().all(|one| one["met"] == true), "{audit}");
    assert_eq!(audit["mof_class"], "I (Open Science)");
    assert_eq!(audit["personal_data"][0]["rows"], 64);

    let bare = World::new();
    bare.train("run", &[]);
    let outcome = bare.tune(&["audit", "run", "--strict"]);
    outcome.assert_code(1);
    for text in [
        "NOT MET",
        "no class is on record",
        "no licence is on record",
        "not on record: maintainers",
        "class none",
        "class III of the Model Openness Framework lacks: an open licence of Model parameters (Final)",
    ] {
        assert!(outcome.stdout.contains(text), "{text} is not in:\n{}", outcome.stdout);
    }
    bare.tune(&["audit", "run"]).assert_code(0);
}

/// The values that were found are in no output.
#[test]
fn personal_data_is_counted_by_row_and_never_shown() {
    let world = World::new();
    let mut rows: Vec<String> = world.read("rows.jsonl").lines().map(str::to_owned).collect();
    rows[2] =
        r#"{"prompt":"Write to zoe.brown@letters.cc or call +44 20 7946 0958","completion":"4111 1111 1111 1111"}"#
            .to_owned();
    world.write("rows.jsonl", &(rows.join("\n") + "\n"));
    world.train("run", &[]);
    for extra in [&[][..], &["--json"][..]] {
        let outcome = world.tune(&[&["audit", "run"], extra].concat());
        outcome.assert_code(0);
        for kind in ["e-mail address", "phone number", "card number"] {
            assert!(outcome.stdout.contains(kind), "{kind} is not in:\n{}", outcome.stdout);
        }
        for value in ["zoe", "7946", "4111"] {
            assert!(!outcome.stdout.contains(value) && !outcome.stderr.contains(value), "{value} is shown");
        }
    }
    let unseen = world.tune(&["audit", "run", "--no-rows"]);
    assert!(!unseen.stdout.contains("e-mail"), "{}", unseen.stdout);
}

#[test]
fn licences_that_do_not_go_together_are_found() {
    let world = World::new();
    let record = RECORD.replace("CC-BY-4.0", "CC-BY-SA-4.0").replace("Apache-2.0", "GPL-2.0-only");
    world.write("recipe.yaml", &(world.read("recipe.yaml") + &record));
    world.train("run", &[]);
    let outcome = world.tune(&["audit", "run", "--strict", "--no-rows"]);
    outcome.assert_code(1);
    assert!(outcome.stdout.contains("no terms keep both"), "{}", outcome.stdout);
}

/// The class that licences allow, and what the next one lacks: of a run with this record.
fn openness(record: &str) -> (Value, String) {
    let world = World::new();
    world.write("recipe.yaml", &(world.read("recipe.yaml") + record));
    world.train("run", &[]);
    let outcome = world.tune(&["audit", "run", "--no-rows", "--json"]);
    let audit: Value = serde_json::from_str(&outcome.assert_code(0).stdout).expect("JSON");
    (audit["mof_class"].clone(), audit["mof_missing"].to_string())
}

/// A component counts where its terms are open. What is trained on data that is not for every purpose is not open either.
#[test]
fn a_class_of_openness_needs_open_licences() {
    let share_alike = RECORD.replace("CC-BY-4.0", "CC-BY-SA-4.0");
    assert_eq!(openness(&share_alike), (Value::from("I (Open Science)"), "[]".to_owned()));
    let unshared = RECORD.replace("class: open\n    licence: CC-BY-4.0", "class: public\n    licence: CC-BY-4.0");
    assert_eq!(openness(&unshared), (Value::from("III (Open Model)"), "[\"Evaluation data\"]".to_owned()));
    for restricted in [RECORD.replace("Apache-2.0", "GPL-3.0-only").replace("CC-BY-4.0", "CC-BY-NC-4.0"), String::new()]
    {
        let (class, missing) = openness(&restricted);
        assert_eq!(class, Value::Null, "{restricted}");
        for component in ["Model parameters (Final)", "Evaluation results", "Model card"] {
            assert!(missing.contains(&format!("\"an open licence of {component}\"")), "{component}: {missing}");
        }
    }
}

/// What was found stays to be read, and does not fail a run whose recipe speaks of it.
#[test]
fn personal_data_that_the_recipe_speaks_of_is_a_note() {
    let audited = |record: &str| {
        let world = World::new();
        world.write("recipe.yaml", &(world.read("recipe.yaml") + record));
        let row = r#"{"prompt":"Write to zoe.brown@letters.cc","completion":"done"}"#;
        world.write("rows.jsonl", &format!("{row}\n{}", world.read("rows.jsonl")));
        world.train("run", &["eval_exact_match=4", "eval_max_new_tokens=8"]);
        world.tune(&["audit", "run", "--strict"])
    };
    let stated = audited(&RECORD.replace("personal_data: none", "personal_data: made-up addresses"));
    stated.assert_code(0);
    for text in ["note     personal data: `rows`: what looks like e-mail address", "says it: made-up addresses"] {
        assert!(stated.stdout.contains(text), "{text} is not in:\n{}", stated.stdout);
    }
    let unstated = audited(&RECORD.replace("  personal_data: none\n", ""));
    unstated.assert_code(1);
    let warning = "warning  personal data: `rows`: what looks like e-mail address";
    assert!(unstated.stdout.contains(warning), "{}", unstated.stdout);
}
