//! What `tune` says where something is wrong: the exit code, the place, what to do about it, and that nothing is left
//! lying about.

mod data;
mod models;
mod places;
mod recipes;
mod runs;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Outcome, World};

/// The longest that a person reads before the line that says what to do.
const LONGEST: usize = 24;

/// A [`World`] with a lock of its own: one in a folder above would be taken otherwise, and changed.
fn world() -> World {
    let world = World::new();
    forget_sources(&world);
    world
}

/// Empties the lock.
fn forget_sources(world: &World) {
    world.write("datasets.lock", "version: 1\nsources: []\n");
}

/// Asserts exit code, place and advice (`texts`), and that it is short and no panic.
#[track_caller]
fn assert_refusal(outcome: &Outcome, code: i32, texts: &[&str]) {
    outcome.assert_code(code).assert_stderr(&["error: "]).assert_stderr(texts);
    let stderr = &outcome.stderr;
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(stderr.lines().count() <= LONGEST, "{} lines:\n{stderr}", stderr.lines().count());
}

/// Runs `tune`, which must refuse, and asserts that it leaves nothing behind but the lock of what it found.
#[track_caller]
fn refused(world: &World, arguments: &[&str], code: i32, texts: &[&str]) {
    let before = paths(&world.path(""));
    let outcome = world.tune(arguments);
    assert_refusal(&outcome, code, texts);
    assert_eq!(paths(&world.path("")), before, "files before and after");
}

/// [`refused`] of `tune run recipe.yaml` into the folder `out`.
#[track_caller]
fn run_refused(world: &World, overrides: &[&str], code: i32, texts: &[&str]) {
    refused(world, &[&["run", "recipe.yaml", "output_dir=out"], overrides].concat(), code, texts);
}

/// Files and folders under a folder, without the lock.
fn paths(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.expect("a folder's entry").path();
            found.insert(path.strip_prefix(folder).expect("it lies under the folder").to_string_lossy().into_owned());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found.remove("datasets.lock");
    found
}

/// Replaces a part of a text file; it must be there.
fn edit(world: &World, name: &str, old: &str, new: &str) {
    let text = world.read(name);
    assert!(text.contains(old), "{name} does not hold {old:?}");
    world.write(name, &text.replacen(old, new, 1));
}

/// `FILE:LINE:COLUMN` of the first place of a text in a file.
fn place(world: &World, name: &str, text: &str) -> String {
    let whole = world.read(name);
    let before = &whole[..whole.find(text).expect("the text is in the file")];
    let line = before.matches('\n').count() + 1;
    format!("{name}:{line}:{}", before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1)
}

/// A shell script that has `tune` with these arguments as `"$@"`.
fn script(world: &World, shell: &[&str], script: &str, arguments: &[&str]) -> Command {
    let tune = world.command(arguments);
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", script, "sh"]).arg(tune.get_program()).args(tune.get_args());
    command.current_dir(world.path(""));
    for (name, value) in tune.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}
