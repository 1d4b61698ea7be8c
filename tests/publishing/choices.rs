//! What a publisher chooses, which checkpoints and from where, and that the documents and the messages say what came of it.

use std::fs;

use serde_json::Value;

use super::{finished, verify};
use crate::support::forgery::reseal;
use crate::support::hub::{Hub, TOKEN};
use crate::support::{Outcome, World, files};

/// Steps of the checkpoints in a published folder.
fn checkpoints(world: &World, folder: &str) -> Vec<String> {
    let steps = fs::read_dir(world.path(folder).join("run/checkpoints")).into_iter().flatten();
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string().expect("UTF-8");
    let mut steps: Vec<String> = steps.map(name).collect();
    steps.sort();
    steps
}

/// Runs every command of `tune` in the fences of the card of a published folder, with what their reader knows put in, and
/// gives what follows the folder in those that verify.
fn run_the_cards_commands(world: &World, folder: &str) -> Vec<String> {
    let card = world.read(&format!("{folder}/README.md"));
    let commands = card.split("```").skip(1).step_by(2).flat_map(str::lines).filter(|line| line.starts_with("tune "));
    let mut options = Vec::new();
    for line in commands {
        let known = line
            .replace("PATH/TO/THIS/FOLDER", folder)
            .replace("PATH/TO/rows", "rows.jsonl")
            .replace("PATH/TO/base", "base");
        let arguments: Vec<&str> = known.split_whitespace().skip(1).collect();
        let outcome = world.tune(&arguments);
        assert_eq!(outcome.code, Some(0), "{line}\n{}\n{}", outcome.stdout, outcome.stderr);
        let rest = line.strip_prefix("tune verify PATH/TO/THIS/FOLDER ").unwrap_or_default();
        options.extend(rest.strip_prefix("--source base=PATH/TO/base --source rows=PATH/TO/rows").map(str::to_owned));
    }
    options
}

#[test]
fn chosen_checkpoints_alone_are_published_and_verify() {
    let world = finished();
    world.tune(&["publish", "run", "--to", "all"]).assert_code(0);
    world.tune(&["publish", "run", "--to", "named", "--checkpoints", "4,0,2,2"]).assert_code(0);
    assert!(files(&world.path("all")) == files(&world.path("named")), "all of them by name are all of them");
    for (chosen, steps) in [("2", &["step-000002"][..]), ("0,4", &["step-000000", "step-000004"][..])] {
        let publish = ["publish", "run", "--to", chosen, "--checkpoints", chosen];
        let planned = world.tune(&[&publish[..], &["--dry-run"]].concat());
        assert!(!world.path(chosen).exists());
        world.tune(&publish).assert_code(0);
        assert_eq!(checkpoints(&world, chosen), steps);
        let mut planned: Vec<&str> = planned.assert_code(0).stdout.lines().collect();
        planned.sort_unstable();
        assert_eq!(planned, files(&world.path(chosen)).keys().map(String::as_str).collect::<Vec<_>>());
        verify(&world, &[chosen, "--level", "full"]).assert_code(0);
    }
}

#[test]
fn a_checkpoint_that_the_run_does_not_have_is_an_error_that_names_those_it_has() {
    let world = finished();
    for more in [&[][..], &["--dry-run"], &["--gguf"]] {
        let outcome = world.tune(&[&["publish", "run", "--to", "published", "--checkpoints", "2,3,5"], more].concat());
        outcome.assert_code(1).assert_stderr(&["no checkpoint of step 3, 5", "of steps 0, 2, 4", "hint"]);
        assert_eq!(outcome.stdout, "");
    }
    let both = ["publish", "run", "--to", "published", "--checkpoints", "2", "--without-checkpoints"];
    world.tune(&both).assert_code(2).assert_stderr(&["cannot be used with"]);
    assert!(!world.path("published").exists());
}

#[test]
fn chosen_checkpoints_alone_are_sent_to_the_hub() {
    let (world, hub) = (finished(), Hub::start());
    let publish = |step: &str| {
        let mut command = world.command(&["publish", "run", "--to", "hf://someone/model", "--checkpoints", step]);
        command.env("HF_ENDPOINT", hub.endpoint()).env("HF_TOKEN", TOKEN);
        Outcome::of(command.output().expect("the binary starts"))
    };
    publish("3").assert_code(1).assert_stderr(&["no checkpoint of step 3"]);
    let requests = hub.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:#?}");
    publish("2").assert_code(0);
    world.tune(&["publish", "run", "--to", "model", "--checkpoints", "2"]).assert_code(0);
    assert!(hub.files("someone/model") == files(&world.path("model")));
}

/// Whoever has the sources can copy the commands of the card, whichever checkpoints are there.
#[test]
fn the_documents_speak_of_what_is_published() {
    let world = finished();
    let all = "Model parameters (Intermediate)";
    for (folder, options, verified, said, not_said) in [
        ("whole", &[][..], ["", " --level full"], "some stretches between checkpoints", "checkpoints of the run"),
        (
            "last",
            &["--checkpoints", "0,2"][..],
            [" --segments 1", " --level full"],
            "Of the 3 checkpoints of the run those of these steps are here: 0, 2.",
            "some stretches",
        ),
        ("first", &["--checkpoints", "0"][..], [" --level data", " --level full"], "are here: 0.", "some stretches"),
        (
            "none",
            &["--without-checkpoints"][..],
            [" --level data", " --level full"],
            "The 3 checkpoints of the run are not here",
            "chain of steps, checkpoints",
        ),
    ] {
        world.tune(&[&["publish", "run", "--to", folder][..], options].concat()).assert_code(0);
        assert_eq!(run_the_cards_commands(&world, folder), verified, "{folder}");
        let card = world.read(&format!("{folder}/README.md"));
        assert!(card.contains(said) && !card.contains(not_said), "{folder}:\n{card}");
        assert_eq!(world.read(&format!("{folder}/MOF.yml")).contains(all), folder != "none", "{folder}");
        let report = world.read(&format!("{folder}/REPORT.md"));
        let again = "`tune verify . --level full --source base=PATH/TO/base --source rows=PATH/TO/rows`";
        assert!(report.contains(again), "{report}");
    }
}

/// The card of a run with GGUF files has a command that makes their base.
#[test]
fn the_cards_export_finds_the_sources_too() {
    let world = finished();
    world.tune(&["publish", "run", "--to", "published", "--gguf"]).assert_code(0);
    assert_eq!(run_the_cards_commands(&world, "published").len(), 2);
    assert!(world.path("gguf/base.gguf").exists());
}

/// Rows that nobody else has are asked for of nobody else.
#[test]
fn the_card_says_what_the_owner_of_withheld_rows_adds() {
    let world = crate::unshareable::finished();
    world.tune(&["publish", "run", "--to", "published"]).assert_code(0);
    let card = world.read("published/README.md");
    let added = "reaches every level (`--source private=PATH/TO/private --secrets PATH/TO/datasets.secrets`)";
    assert!(card.contains(added), "{card}");
    let full = "tune verify PATH/TO/THIS/FOLDER --source base=PATH/TO/base --source rows=PATH/TO/rows --level full\n";
    assert!(card.contains(full), "{card}");
}

/// Where there are no shares there is no word of their intervals.
#[test]
fn intervals_are_said_to_be_those_of_shares() {
    let world = finished();
    world.train("unasked", &[]);
    for run in ["run", "unasked"] {
        world.tune(&["publish", run, "--to", &format!("published/{run}")]).assert_code(0);
    }
    let results = |run: &str| world.read(&format!("published/{run}/README.md"));
    assert!(results("run").contains("Beside shares (exact match): intervals of 95 % (Wilson)."), "{}", results("run"));
    assert!(results("unasked").contains("| loss per token |") && !results("unasked").contains("Wilson"));
}

/// What the files of the run tell of the machine's folders cannot be left out of them, so the publisher is told.
#[test]
fn paths_of_the_machine_are_named_before_they_are_published() {
    const NOTE: &str = "paths of this machine";
    let world = finished();
    let quiet = world.tune(&["publish", "run", "--to", "x", "--dry-run"]);
    assert!(!quiet.assert_code(0).stderr.contains(NOTE), "{}", quiet.stderr);

    let rows = world.path("rows.jsonl").to_string_lossy().into_owned();
    world.write("recipe.yaml", &world.read("recipe.yaml").replace("path: rows.jsonl", &format!("path: {rows}")));
    world.train("absolute", &[]);
    for more in [&["--dry-run"][..], &[]] {
        let outcome = world.tune(&[&["publish", "absolute", "--to", "published"], more].concat());
        outcome.assert_code(0).assert_stderr(&[NOTE, "run/recipe.yaml: datasets.0.path"]);
        assert!(!outcome.stderr.contains(&rows) && !outcome.stderr.contains("environment.json"), "{}", outcome.stderr);
    }

    // As a run writes it whose sources lie far from its folder.
    let mut environment: Value = serde_json::from_str(&world.read("run/environment.json")).expect("JSON");
    environment["locations"]["rows"] = Value::from("../".repeat(40) + "home/somebody/rows.jsonl");
    environment["secrets"] = Value::from("/home/somebody/datasets.secrets");
    world.write("run/environment.json", &environment.to_string());
    reseal(&world.path("run"), |_| {});
    let outcome = world.tune(&["publish", "run", "--to", "x", "--dry-run"]);
    outcome.assert_code(0).assert_stderr(&[
        NOTE,
        "run/environment.json: locations.rows",
        "run/environment.json: secrets",
    ]);
    assert!(
        !outcome.stderr.contains("locations.base") && !outcome.stderr.contains("recipe.yaml"),
        "{}",
        outcome.stderr
    );
}

/// Commands that look at folders say so of what would have to be fetched, and what does look at it.
#[test]
fn what_is_not_on_this_machine_is_said_not_to_be() {
    let world = World::new();
    for (target, how) in [
        ("hf://someone/model", "`hf download someone/model --local-dir FOLDER`"),
        ("hf://someone/model@v1", "`hf download someone/model --revision v1 --local-dir FOLDER`"),
        ("https://example.org/model/", "fetch the folder"),
    ] {
        for command in [
            &["attest", "list", target][..],
            &["audit", target],
            &["diff", target, "run"],
            &["diff", "run", target],
            &["publish", target, "--to", "published"],
        ] {
            let said = format!("`{target}` is not on this machine");
            let hint = format!("`tune verify {target}` reads it from there");
            // As of diff(1), 1 would say that the two differ.
            let code = if command[0] == "diff" { 2 } else { 1 };
            world.tune(command).assert_code(code).assert_stderr(&[&said, how, &hint]);
        }
    }
}
