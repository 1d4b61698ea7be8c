//! What a stranger's run says of places on this machine: no file is opened for it that could not be the source.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tune_schema::Digest;
use tune_train::RunFolder;

use crate::support::forgery::reseal_folder;
use crate::support::site::Site;
use crate::support::{Outcome, World, copy_folder};
use crate::tamper_table::forge::change_setting;

/// What a command said, which must end by itself.
#[track_caller]
fn ended(mut command: Command) -> Outcome {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().expect("a child");
            panic!("it waits for what never comes: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Outcome::of(child.wait_with_output().expect("a child"))
}

/// Changes what `environment.json` says and seals the folder again.
fn change_environment(folder: &RunFolder, change: impl Fn(&mut Value)) {
    let path = folder.environment();
    let mut environment: Value = serde_json::from_slice(&fs::read(&path).expect("the file")).expect("JSON");
    change(&mut environment);
    fs::write(&path, environment.to_string()).expect("the run can be written");
    reseal_folder(folder, |_| {});
}

/// Says that a source lay elsewhere.
fn place(folder: &RunFolder, source: &str, place: &str) {
    change_environment(folder, |environment| environment["locations"][source] = place.into());
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo starts").success());
}

/// The owner of a run gives its folder alone, and nothing else.
#[test]
fn a_run_is_verified_in_place_by_its_own_word() {
    let world = World::new();
    world.train("run", &[]);
    world.tune(&["verify", "run", "--level", "data"]).assert_code(0);
    // A published folder on the same machine may be.
    world.tune(&["publish", "run", "--to", "published"]).assert_code(0);
    let folder = RunFolder::of_published(&world.path("published"));
    for name in ["rows.jsonl", "base"] {
        let path = world.path(name);
        place(&folder, name.trim_end_matches(".jsonl"), path.to_str().expect("UTF-8"));
    }
    world.tune(&["verify", "published", "--level", "data"]).assert_code(0);
}

/// A stranger's recipe asks for epochs that nobody trained: planning stops at the rows that the claim has.
#[test]
fn no_more_rows_are_planned_than_the_claim_has() {
    let world = World::new();
    world.train("run", &[]);
    let run = world.path("run");
    change_setting(&run, ("max_steps: 4", "max_steps: 4000000"), Some(("max_steps: 4", "max_steps: 4000000")));
    let outcome = world.tune(&["verify", "run", "--level", "data"]);
    assert!(outcome.stdout.contains("more than the 32 training rows that the claim has"), "{}", outcome.stdout);
    outcome.assert_code(1);
}

/// A copy of an honest run that says that its rows lie where others do: nothing against the run.
#[test]
fn other_bytes_where_only_the_folder_says_are_no_difference() {
    let world = World::new();
    world.train("run", &[]);
    let rows = world.read("rows.jsonl");
    world.write("other.jsonl", &rows.replacen(|c: char| c.is_ascii_digit(), "x", 1));
    place(&RunFolder::new(world.path("run")), "rows", "../other.jsonl");
    let outcome = world.tune(&["verify", "run", "--level", "data"]);
    assert!(outcome.stdout.contains("`--source rows=PATH` names what the run had"), "{}", outcome.stdout);
    outcome.assert_code(2);
    world.tune(&["verify", "run", "--level", "data", "--source", "rows=other.jsonl"]).assert_code(1);
    world.tune(&["verify", "run", "--level", "data", "--source", "rows=rows.jsonl"]).assert_code(0);
}

#[test]
fn places_where_no_such_source_can_be_are_left_alone() {
    let world = World::new();
    world.train("run", &[]);
    copy_folder(&world.path("base"), &world.path("hostile"));
    pipe(&world.path("hostile/more.safetensors"));
    pipe(&world.path("pipe"));
    std::os::unix::fs::symlink("/proc/version", world.path("link")).expect("a link");
    world.write("longer.jsonl", &(world.read("rows.jsonl") + "\n"));
    let read =
        [Digest::of(&fs::read("/proc/version").expect("Linux")), Digest::of(world.read("longer.jsonl").as_bytes())];
    for (source, at) in [
        ("base", "../hostile"),
        ("base", "/dev"),
        ("rows", "../pipe"),
        ("rows", "/dev/zero"),
        ("rows", "/proc/version"),
        ("rows", "../link"),
        ("rows", "../longer.jsonl"),
    ] {
        copy_folder(&world.path("run"), &world.path("forged"));
        place(&RunFolder::new(world.path("forged")), source, at);
        let said = |outcome: Outcome| {
            let text = outcome.stdout.clone() + &outcome.stderr;
            assert!(text.contains(&format!("--source {source}=PATH")), "{at}:\n{text}");
            assert!(!read.iter().any(|digest| text.contains(&digest.to_string())), "{at} was read:\n{text}");
            outcome.code
        };
        assert_eq!(said(ended(world.command(&["verify", "forged", "--level", "data"]))), Some(2), "{at}");
        let export = world.command(&["export", "forged", "--to", "exported", "--gguf"]);
        assert_eq!(said(ended(export)), Some(1), "{at}");
        if source == "rows" {
            let audit = ended(world.command(&["audit", "forged"]));
            assert!(audit.stdout.contains("where it lies is not known"), "{at}:\n{}", audit.stdout);
        }
        // Told where they are, it verifies.
        let told = ["verify", "forged", "--level", "data", "--source", "rows=rows.jsonl", "--source", "base=base"];
        ended(world.command(&told)).assert_code(0);
        fs::remove_dir_all(world.path("forged")).expect("the copy");
    }
}

/// The secrets too: what never ends is not read for them.
#[test]
fn a_recorded_file_of_secrets_is_a_plain_file() {
    let world = World::new();
    world.write("recipe.yaml", &(world.read("recipe.yaml") + "provenance:\n  rows:\n    class: unshareable\n"));
    world.train("run", &[]);
    world.tune(&["verify", "run", "--level", "data"]).assert_code(0);
    for at in ["/proc/version", "/dev/zero"] {
        change_environment(&RunFolder::new(world.path("run")), |environment| environment["secrets"] = at.into());
        let outcome = ended(world.command(&["verify", "run", "--level", "data"]));
        outcome.assert_code(2);
        assert!(outcome.stdout.contains("`--secrets FILE` names it"), "{}", outcome.stdout);
    }
}

/// Whoever puts a run on a server does not say where files of this machine are.
#[test]
fn places_in_what_was_fetched_are_nothing() {
    let world = World::new();
    world.train("run", &[]);
    let folder = RunFolder::new(world.path("run"));
    for name in ["rows.jsonl", "base"] {
        place(&folder, name.trim_end_matches(".jsonl"), world.path(name).to_str().expect("UTF-8"));
    }
    world.tune(&["verify", "run", "--level", "data"]).assert_code(0);
    let site = Site::start(&world.path("run"));
    let verify = ["verify", &site.address(""), "--yes", "--level", "data"];
    let outcome = world.tune(&verify);
    outcome.assert_code(2);
    assert!(outcome.stdout.contains("--source base=PATH"), "{}", outcome.stdout);
    let told = [&verify[..], &["--source", "rows=rows.jsonl", "--source", "base=base"]].concat();
    world.tune(&told).assert_code(0);
}

/// The addresses in a lock were chosen by whoever made the run: nothing is asked of them before the verifier saw them.
#[test]
fn no_address_of_a_lock_is_gone_to_unasked() {
    let world = World::new();
    fs::create_dir(world.path("served")).expect("a folder");
    fs::rename(world.path("rows.jsonl"), world.path("served/rows.jsonl")).expect("the rows");
    let site = Site::start(&world.path("served"));
    let address = site.address("rows.jsonl");
    world.write("recipe.yaml", &world.read("recipe.yaml").replace("path: rows.jsonl", &format!("path: {address}")));
    world.train("run", &[]);
    world.tune(&["publish", "run", "--to", "published"]).assert_code(0);
    copy_folder(&world.path("run"), &world.path("second"));
    let commands: [&[&str]; 5] = [
        &["verify", "run", "--level", "data"],
        &["verify", "published", "--level", "data", "--source", "base=base"],
        &["audit", "run"],
        &["diff", "run", "second"],
        &["export", "run", "--gguf", "--to", "exported"],
    ];
    site.requests();
    for command in commands {
        // What is in the cache is not asked for, nor is anybody.
        let _ = fs::remove_dir_all(world.path("exported"));
        world.tune(command).assert_code(0);
        assert_eq!(site.requests(), [""; 0], "{command:?}");
        fs::rename(world.path("cache"), world.path("kept")).expect("the cache");
        let _ = fs::remove_dir_all(world.path("exported"));
        let unasked = world.tune(command);
        assert_ne!(unasked.code, Some(0), "{command:?}: {unasked:?}");
        let bytes = fs::metadata(world.path("served/rows.jsonl")).expect("the rows").len();
        let told = format!("`rows` from {address} ({bytes} bytes) would be fetched");
        unasked.assert_stderr(&[&told, "`--yes` fetches it without asking"]);
        assert_eq!(site.requests(), [""; 0], "{command:?}");
        world.tune(&[command, &["--offline"]].concat());
        assert_eq!(site.requests(), [""; 0], "{command:?}");
        world.tune(&[command, &["--yes"]].concat()).assert_code(0).assert_stderr(&[&format!("`rows` from {address}")]);
        let _ = fs::remove_dir_all(world.path("cache"));
        fs::rename(world.path("kept"), world.path("cache")).expect("the cache");
        site.requests();
    }
    // Damaged content is none, and is not fetched in silence.
    let kept = crate::support::files(&world.path("cache")).into_keys().next().expect("the rows are kept");
    fs::write(world.path("cache").join(kept), "damaged").expect("the cache");
    world.tune(commands[0]).assert_code(2).assert_stderr(&["would be fetched"]);
    world.tune(&["verify", "run", "--level", "files"]).assert_code(0);
    assert_eq!(site.requests(), [""; 0]);
}
