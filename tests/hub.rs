//! `tune publish --to hf://…` and `tune verify hf://…` against a hub on this machine: what is sent and fetched, what goes
//! wrong on the way, and where the token does not go.

use std::fs;

use serde_json::Value;

use crate::support::hub::{Faults, Hub, TOKEN};
use crate::support::{Outcome, World, claim_id, files};

const MODEL: &str = "hf://someone/model";

/// A finished run in `run`, a key, a hub, and an empty folder for temporary files.
fn prepared() -> (World, Hub) {
    let world = World::new();
    fs::create_dir(world.path("temporary")).expect("a folder");
    world.train("run", &[]);
    world.tune(&["key", "new", "key.pem"]).assert_code(0);
    (world, Hub::start())
}

/// `tune` with the hub and a token. Whatever comes of it, nothing temporary is left, and the token is told to nobody.
#[track_caller]
fn tune_with(world: &World, hub: &Hub, token: Option<&str>, arguments: &[&str]) -> Outcome {
    let mut command = world.command(arguments);
    command.env("HF_ENDPOINT", hub.endpoint()).env("TMPDIR", world.path("temporary"));
    command.envs(token.map(|token| ("HF_TOKEN", token)));
    let outcome = Outcome::of(command.output().expect("the binary starts"));
    let left = files(&world.path("temporary"));
    assert!(left.is_empty(), "{:?}", left.keys());
    let folders = fs::read_dir(world.path("temporary")).expect("a folder").count();
    assert_eq!(folders, 0, "an empty folder is left");
    if let Some(token) = token {
        assert!(!outcome.stdout.contains(token) && !outcome.stderr.contains(token), "{outcome:?}");
        for (name, bytes) in files(&world.path("")) {
            assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()), "{name} holds the token");
        }
    }
    hub.assert_no_misdeeds();
    outcome
}

#[track_caller]
fn tune(world: &World, hub: &Hub, arguments: &[&str]) -> Outcome {
    tune_with(world, hub, Some(TOKEN), arguments)
}

const PUBLISH: [&str; 6] = ["publish", "run", "--to", MODEL, "--key", "key.pem"];

#[test]
fn what_is_published_on_the_hub_verifies_from_there() {
    let (world, hub) = prepared();
    let published = tune(&world, &hub, &PUBLISH);
    published.assert_code(0).assert_stderr(&["publishing as someone"]);
    let commit = hub.head("someone/model");
    for text in
        [&commit, &format!("{}/someone/model/commit/{commit}", hub.endpoint()), "tune verify hf://someone/model"]
    {
        assert!(published.stdout.contains(text), "{text} is not in:\n{}", published.stdout);
    }
    // The very files of a published folder.
    world.tune(&["publish", "run", "--to", "model", "--key", "key.pem"]).assert_code(0);
    assert!(hub.files("someone/model") == files(&world.path("model")));

    fs::rename(world.path("run"), world.path("elsewhere")).expect("the run moves");
    fs::remove_dir_all(world.path("model")).expect("the folder");
    let _ = fs::remove_dir_all(world.path("cache"));
    let sources = ["--source", "rows=rows.jsonl", "--source", "base=base"];
    let verify =
        [&["verify", MODEL, "--yes", "--level", "sample", "--signed-by", "key.pem.pub"][..], &sources].concat();
    // A repository that everyone can read needs no token.
    for token in [Some(TOKEN), None] {
        let verified = tune_with(&world, &hub, token, &verify);
        verified.assert_code(0);
        assert!(verified.stdout.starts_with(&format!("fetched: {MODEL} at commit {commit}\n")), "{}", verified.stdout);
        assert!(verified.stdout.contains("verified at level `sample`"), "{}", verified.stdout);
    }
    let json = tune(&world, &hub, &["verify", MODEL, "-y", "--level", "files", "--json"]);
    json.assert_code(0);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(
        (&json["fetched"]["commit"], &json["fetched"]["repository"]),
        (&Value::from(commit), &Value::from("someone/model"))
    );
    assert_eq!(json["conclusion"], "verified");
}

#[test]
fn publishing_again_sends_nothing_and_another_run_replaces_the_first() {
    let (world, hub) = prepared();
    tune(&world, &hub, &PUBLISH).assert_code(0);
    let first = hub.head("someone/model");
    hub.requests();
    let again = tune(&world, &hub, &PUBLISH);
    again.assert_code(0);
    assert!(again.stdout.contains("nothing was sent") && again.stdout.contains(&first), "{}", again.stdout);
    let requests = hub.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:#?}");
    assert_eq!(hub.head("someone/model"), first);

    // What somebody else put there stays; what the first run left there and the second has not goes.
    hub.add("someone/model", "notes.md", b"notes");
    world.train("second", &["seed=8", "save_steps=4"]);
    let second = tune(&world, &hub, &["publish", "second", "--to", MODEL]);
    second.assert_code(0).assert_stderr(&["`notes.md`"]);
    let there = hub.files("someone/model");
    assert!(there.contains_key("notes.md") && !there.contains_key("model.sig"), "{:?}", there.keys());
    assert!(!there.keys().any(|path| path.starts_with("run/checkpoints/step-000002")), "{:?}", there.keys());
    for (target, run) in [(MODEL.to_owned(), "second"), (format!("{MODEL}@{first}"), "run")] {
        let verified = tune(&world, &hub, &["verify", &target, "--yes", "--level", "files"]);
        verified.assert_code(0);
        assert!(verified.stdout.contains(&claim_id(&world.path(run))), "{}", verified.stdout);
    }
}

#[test]
fn an_upload_that_broke_off_goes_on_and_may_be_in_parts() {
    let (world, hub) = prepared();
    hub.order(Faults { no_commit: true, part_size: Some(10_000), ..Faults::default() });
    tune(&world, &hub, &PUBLISH).assert_code(2).assert_stderr(&["500", "the disk of the hub is full", "hint"]);
    assert_eq!(hub.commits("someone/model"), 1, "only that of the new repository");
    let sent = hub.requests();
    assert!(sent.iter().any(|request| request.starts_with("PUT storage:/part/")), "{sent:#?}");
    assert!(sent.iter().any(|request| request.starts_with("POST /api/complete/")), "{sent:#?}");
    hub.order(Faults::default());
    tune(&world, &hub, &PUBLISH).assert_code(0);
    let sent = hub.requests();
    assert!(!sent.iter().any(|request| request.starts_with("PUT")), "{sent:#?}");
    tune(&world, &hub, &["verify", MODEL, "--yes", "--level", "files", "--signed-by", "key.pem.pub"]).assert_code(0);
}

#[test]
fn nothing_is_sent_by_a_dry_run() {
    let (world, hub) = prepared();
    let planned = tune_with(&world, &hub, None, &[&PUBLISH[..], &["--dry-run"]].concat());
    planned.assert_code(0);
    world.tune(&["publish", "run", "--to", "model", "--key", "key.pem"]).assert_code(0);
    let mut planned: Vec<&str> = planned.stdout.lines().collect();
    planned.sort_unstable();
    assert_eq!(planned, files(&world.path("model")).keys().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(hub.requests(), [""; 0]);
}

#[test]
fn what_keeps_from_publishing_is_said_and_nothing_is_committed() {
    let (world, hub) = prepared();
    let wrong = tune_with(&world, &hub, Some("hf_AnotherToken"), &PUBLISH);
    wrong.assert_code(2).assert_stderr(&["(401)", "does not accept the token", "HF_TOKEN"]);
    let none = tune_with(&world, &hub, None, &PUBLISH);
    none.assert_code(2).assert_stderr(&["needs a token", "HF_TOKEN"]);
    let broken = tune_with(&world, &hub, Some("hf_two words"), &PUBLISH);
    broken.assert_code(1).assert_stderr(&["characters that no token has"]);
    assert_eq!(hub.requests(), ["GET /api/whoami-v2"], "only the wrong token was sent");
    hub.order(Faults { read_only: true, ..Faults::default() });
    tune(&world, &hub, &PUBLISH).assert_code(2).assert_stderr(&["(403)", "this token only reads", "write permission"]);
    hub.order(Faults { busy: 99, ..Faults::default() });
    tune(&world, &hub, &PUBLISH).assert_code(2).assert_stderr(&["(429)", "wait some minutes"]);
    assert_eq!(hub.commits("someone/model"), 0);
    for target in ["hf://model", "hf://someone/model@main", "hf://someone/..", "hf://datasets/someone/model"] {
        let outcome = tune(&world, &hub, &["publish", "run", "--to", target]);
        outcome.assert_code(1).assert_stderr(&[target, "hint"]);
    }
    tune(&world, &hub, &["publish", "run", "--to", "folder", "--private"]).assert_code(1).assert_stderr(&["--private"]);
    assert!(!world.path("folder").exists());
    // A pause that ends is no fault.
    hub.order(Faults { busy: 3, ..Faults::default() });
    tune(&world, &hub, &PUBLISH).assert_code(0).assert_stderr(&["the server asks to wait"]);
    let public = tune(&world, &hub, &[&PUBLISH[..], &["--private"]].concat());
    public.assert_code(1).assert_stderr(&["everyone can read it"]);
}

#[test]
fn what_keeps_from_fetching_is_said_and_nothing_is_left() {
    let (world, hub) = prepared();
    tune(&world, &hub, &[&PUBLISH[..], &["--private"]].concat()).assert_code(0);
    let verify = ["verify", MODEL, "--yes", "--level", "files"];
    tune_with(&world, &hub, None, &verify).assert_code(2).assert_stderr(&["(401)", "wants a token", "HF_TOKEN"]);
    let wrong = tune_with(&world, &hub, Some("hf_AnotherToken"), &verify);
    wrong.assert_code(2).assert_stderr(&["(401)", "does not accept the token", "[token]"]);
    for target in ["hf://someone/nothing", "hf://someone/model@nowhere"] {
        let outcome = tune(&world, &hub, &["verify", target, "--yes"]);
        outcome.assert_code(2).assert_stderr(&["(404)", target, "hint"]);
    }
    hub.order(Faults { busy: 99, ..Faults::default() });
    tune(&world, &hub, &verify).assert_code(2).assert_stderr(&["(429)", "hint"]);
    hub.order(Faults { wrong_bytes: true, ..Faults::default() });
    tune(&world, &hub, &verify).assert_code(2).assert_stderr(&["came in, the hub's list has sha256:", "3 attempts"]);
    for path in ["../escaped", "/tmp/escaped", "a\\b", "C:/x", "readme.MD", "README.md/x"] {
        hub.order(Faults { extra_path: Some(path.to_owned()), ..Faults::default() });
        tune(&world, &hub, &verify).assert_code(2).assert_stderr(&["`someone/model` is not fetched", "hint"]);
    }
    assert!(!world.path("escaped").exists());
    // These pass.
    hub.order(Faults { truncated_once: true, busy: 2, ..Faults::default() });
    tune(&world, &hub, &verify).assert_code(0);
}

#[test]
fn nothing_is_fetched_unasked() {
    let (world, hub) = prepared();
    tune(&world, &hub, &PUBLISH).assert_code(0);
    let count = hub.files("someone/model").len() + 1;
    hub.requests();
    let unasked = tune(&world, &hub, &["verify", MODEL]);
    unasked.assert_code(2).assert_stderr(&[
        &format!("at commit {}", hub.head("someone/model")),
        &format!("{count} files"),
        "would be fetched",
        "--yes",
    ]);
    let requests = hub.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET /api/models/")), "{requests:#?}");
    let offline = tune(&world, &hub, &["verify", MODEL, "--yes", "--offline"]);
    offline.assert_code(2).assert_stderr(&["the network may not be used"]);
    let attested = tune(&world, &hub, &["verify", MODEL, "--yes", "--attest", "key.pem"]);
    attested.assert_code(2).assert_stderr(&["--attest", "is not kept"]);
    for target in ["hf://", "hf://model", "hf://someone/model@", "hf://someone/../model"] {
        tune(&world, &hub, &["verify", target, "--yes"]).assert_code(2).assert_stderr(&[target, "hint"]);
    }
    assert_eq!(hub.requests(), [""; 0]);
    // Plain http is for this machine only: the token would be read on the way.
    let mut command = world.command(&["verify", MODEL, "--yes"]);
    command.env("HF_ENDPOINT", "http://hub.example").env("HF_TOKEN", TOKEN);
    let plain = Outcome::of(command.output().expect("the binary starts"));
    plain.assert_code(2).assert_stderr(&["HF_ENDPOINT", "https"]);
}
