//! Sources with an address: fetched once, held to the lock, found again by `verify`.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::support::{Outcome, World};

/// A package with the world's rows in it, in a folder that stands in for pip's registry.
fn package(world: &World) {
    fs::create_dir(world.path("registry")).expect("a folder");
    let file = fs::File::create(world.path("registry/tune_test_rows-1.0-py3-none-any.whl")).expect("a file");
    let mut wheel = zip::ZipWriter::new(file);
    let members = [
        ("rows/rows.jsonl", world.read("rows.jsonl")),
        (
            "tune_test_rows-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tune-test-rows\nVersion: 1.0\n".to_owned(),
        ),
        (
            "tune_test_rows-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
        ),
        ("tune_test_rows-1.0.dist-info/RECORD", String::new()),
    ];
    for (name, text) in members {
        wheel.start_file(name, zip::write::SimpleFileOptions::default()).expect("a member");
        wheel.write_all(text.as_bytes()).expect("a member");
    }
    wheel.finish().expect("a wheel");
    fs::remove_file(world.path("rows.jsonl")).expect("the rows");
}

/// `tune` with a pip that knows only the folder.
fn tune(world: &World, arguments: &[&str]) -> Outcome {
    let mut command: Command = world.command(arguments);
    command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", world.path("registry")).env("PIP_CONFIG_FILE", "/dev/null");
    Outcome::of(command.output().expect("the binary starts"))
}

#[test]
fn a_package_is_fetched_once_and_found_again_by_the_verifier() {
    let world = World::new();
    package(&world);
    let recipe =
        world.read("recipe.yaml").replace("path: rows.jsonl", "path: \"pip:tune-test-rows==1.0#rows/rows.jsonl\"");
    world.write("recipe.yaml", &recipe);
    let offline = tune(&world, &["run", "recipe.yaml", "output_dir=run", "--offline"]);
    offline.assert_code(2).assert_stderr(&["tune-test-rows", "the network may not be used"]);
    assert!(!world.path("run").exists());
    tune(&world, &["run", "recipe.yaml", "output_dir=run"]).assert_code(0);
    assert!(world.read("datasets.lock").contains("pip:tune-test-rows==1.0#rows/rows.jsonl"));
    // Now the content store has it, and neither network nor pip is needed.
    fs::rename(world.path("registry"), world.path("gone")).expect("the registry moves");
    tune(&world, &["verify", "run", "--level", "data", "--offline"]).assert_code(0);
    fs::remove_dir_all(world.path("cache")).expect("the content store");
    tune(&world, &["verify", "run", "--level", "data", "--offline"]).assert_code(2);
    tune(&world, &["verify", "run", "--level", "data", "--yes"]).assert_code(2);
    fs::rename(world.path("gone"), world.path("registry")).expect("the registry moves");
    // Whoever made the run chose the package: pip is not asked for it unseen.
    let unasked = tune(&world, &["verify", "run", "--level", "data"]);
    unasked.assert_code(2).assert_stderr(&["`rows` from pip:tune-test-rows==1.0#rows/rows.jsonl", "--yes"]);
    tune(&world, &["verify", "run", "--level", "data", "--yes"]).assert_code(0);
}
