//! The table of forgeries: each with where it is seen, and that it is not seen before. `docs/concepts/forgeries.md` has the same
//! table, which is compared.

pub(crate) mod forge;
pub(crate) mod published;
mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::support::{Outcome, World, copy_folder, files, repository};

/// Where a forgery is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// At this level, and not at the one before.
    At(&'static str),
    /// At level `files`, as something that could not be checked.
    Unchecked,
    /// At level `files`, as something that was left out, which keeps no level from being reached.
    Named,
    /// By the publisher's signature alone.
    BySignature,
    /// In the list of statements alone.
    InList,
    /// Nowhere, for nobody can compute it again.
    Never,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(level) => write!(f, "`{level}`"),
            Self::Unchecked => f.write_str("`files`: could not be checked"),
            Self::Named => f.write_str("`files`: named as withheld"),
            Self::BySignature => f.write_str("the publisher's signature"),
            Self::InList => f.write_str("`tune attest list`"),
            Self::Never => f.write_str("nothing"),
        }
    }
}

/// What is forged, where it is seen, and how it is done in a folder.
type Row = (&'static str, Seen, fn(&World, &Path));

const LEVELS: [&str; 4] = ["files", "data", "sample", "full"];

/// `tune verify` of a folder, told where the sources are and with all segments, so that it is not a matter of luck.
fn verify(world: &World, folder: &str, arguments: &[&str]) -> Outcome {
    let told = ["verify", folder, "--segments", "9", "--source", "rows=rows.jsonl", "--source", "base=base"];
    world.tune(&[&told, arguments].concat())
}

/// Asserts that something is seen where it should be, and not before.
fn assert_seen(world: &World, folder: &str, what: &str, seen: Seen) {
    let expect = |code: i32, arguments: &[&str]| {
        let outcome = verify(world, folder, arguments);
        assert_eq!(outcome.code, Some(code), "{what}, {arguments:?}:\n{}{}", outcome.stdout, outcome.stderr);
        outcome
    };
    match seen {
        Seen::At(level) => {
            let place = LEVELS.iter().position(|known| *known == level).expect("a level");
            if let Some(before) = place.checked_sub(1) {
                expect(0, &["--level", LEVELS[before]]);
            }
            expect(1, &["--level", level]);
        }
        Seen::Unchecked => drop(expect(2, &["--level", "files"])),
        Seen::Named => assert!(expect(0, &["--level", "files"]).stdout.contains("withheld"), "{what}"),
        Seen::BySignature => {
            expect(0, &["--level", "sample"]);
            expect(1, &["--level", "files", "--signed-by", "key.pem.pub"]);
        }
        Seen::InList => {
            expect(0, &["--level", "files"]);
            let listed = world.tune(&["attest", "list", folder]);
            assert!(listed.stdout.contains("does not count"), "{what}: {}", listed.stdout);
        }
        Seen::Never => drop(expect(0, &["--level", "full"])),
    }
}

/// Each forgery in a copy of the folder `original`.
fn assert_rows(world: &World, original: &str, rows: &[Row]) {
    for (number, (what, seen, forge)) in rows.iter().enumerate() {
        let name = format!("forged-{number}");
        copy_folder(&world.path(original), &world.path(&name));
        forge(world, &world.path(&name));
        assert_seen(world, &name, what, *seen);
        fs::remove_dir_all(world.path(&name)).expect("the copy");
    }
}

/// With these settings, so that there are answers to forge.
const ANSWERS: [&str; 2] = ["eval_exact_match=2", "eval_max_new_tokens=4"];

/// A finished run in `run`, and another one in `other`.
fn world() -> World {
    let world = World::new();
    world.train("run", &ANSWERS);
    world.train("other", &[&ANSWERS[..], &["seed=8"]].concat());
    world
}

/// Both published with GGUF and signature, in `published` and `other-published`; another key in `forger.pem`.
fn published_world() -> World {
    let world = world();
    for key in ["key.pem", "forger.pem"] {
        world.tune(&["key", "new", key]).assert_code(0);
    }
    for (run, to) in [("run", "published"), ("other", "other-published")] {
        world.tune(&["publish", run, "--to", to, "--gguf", "--key", "key.pem"]).assert_code(0);
    }
    world
}

#[test]
fn forged_files_of_a_run() {
    assert_rows(&world(), "run", run::FILES);
}

#[test]
fn forged_inputs_of_a_run() {
    assert_rows(&world(), "run", run::INPUTS);
}

#[test]
fn forged_steps_of_a_run() {
    assert_rows(&world(), "run", run::STEPS);
}

#[test]
fn forged_results_of_a_run() {
    assert_rows(&world(), "run", run::RESULT);
}

#[test]
fn forged_published_folders() {
    let world = published_world();
    verify(&world, "published", &["--level", "full", "--signed-by", "key.pem.pub"]).assert_code(0);
    assert_rows(&world, "published", published::ROWS);
}

#[test]
fn forged_statements() {
    let world = world();
    for key in ["verifier.pem", "forger.pem"] {
        world.tune(&["key", "new", key]).assert_code(0);
    }
    for run in ["run", "other"] {
        verify(&world, run, &["--level", "data", "--attest", "verifier.pem"]).assert_code(0);
        let listed = world.tune(&["attest", "list", run]);
        assert!(listed.stdout.starts_with("PASSED at level `data`"), "{}", listed.stdout);
    }
    assert_rows(&world, "run", published::STATEMENTS);
}

/// What a file is called in the table: of all checkpoints alike.
fn row_of_byte(name: &str) -> String {
    let plain: Vec<&str> =
        name.split('/').map(|part| if part.starts_with("step-") { "step-NNNNNN" } else { part }).collect();
    format!("a byte of `{}`", plain.join("/"))
}

/// Where a changed byte of a file is seen. The record of an export is no such row: a byte of its fidelity is a row of its own.
fn seen_byte(name: &str, published: bool) -> Option<Seen> {
    match name {
        "gguf/export.json" => None,
        "adapter_config.json" | "adapter_model.safetensors" if published => None,
        name if published && name.starts_with("run/") => None,
        name if published && !name.starts_with("gguf/") => Some(Seen::BySignature),
        _ => Some(Seen::At("files")),
    }
}

/// Flips a bit of every file in a folder that is a row of the table.
fn assert_bytes(world: &World, folder: &str, published: bool) {
    for (name, bytes) in files(&world.path(folder)) {
        let Some(seen) = seen_byte(&name, published) else { continue };
        let mut changed = bytes.clone();
        let at = changed.len() / 3;
        changed[at] ^= 4;
        fs::write(world.path(folder).join(&name), changed).expect("the folder can be written");
        assert_seen(world, folder, &row_of_byte(&name), seen);
        fs::write(world.path(folder).join(&name), bytes).expect("the folder can be written");
    }
}

#[test]
fn a_byte_of_any_file() {
    let world = published_world();
    assert_bytes(&world, "run", false);
    assert_bytes(&world, "published", true);
}

/// The rows of the tables in the document.
fn documented() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join("docs/concepts/forgeries.md")).expect("the document");
    let cells = |line: &str| {
        let inner = line.strip_prefix("| ")?.strip_suffix(" |")?.to_owned();
        inner.split_once(" | ").map(|(what, seen)| (what.to_owned(), seen.to_owned()))
    };
    text.lines().filter_map(cells).filter(|(what, _)| what != "forged" && !what.starts_with("--")).collect()
}

#[test]
fn the_document_has_the_same_table() {
    let tables = [run::FILES, run::INPUTS, run::STEPS, run::RESULT, published::ROWS, published::STATEMENTS];
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for (what, seen, _) in tables.into_iter().flatten() {
        assert_eq!(expected.insert((*what).to_owned(), seen.to_string()), None, "{what} is there twice");
    }
    assert!(expected.len() >= 40);
    let world = published_world();
    for (folder, published) in [("run", false), ("published", true)] {
        for name in files(&world.path(folder)).keys() {
            if let Some(seen) = seen_byte(name, published) {
                expected.insert(row_of_byte(name), seen.to_string());
            }
        }
    }
    let found = documented();
    let table: BTreeMap<String, String> = found.iter().cloned().collect();
    assert_eq!(table.len(), found.len(), "a row is there twice");
    for (what, seen) in &expected {
        assert_eq!(table.get(what), Some(seen), "docs/concepts/forgeries.md: {what}");
    }
    assert_eq!(table.len(), expected.len(), "the document has rows that nothing tests");
}
