//! `tune verify https://…` against a web server on this machine: what is fetched, what goes wrong on the way, and that hostile
//! files do no harm.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tune_schema::manifest::Manifest;
use tune_schema::{Digest, to_canonical_json};

use crate::support::site::{Fault, Site};
use crate::support::{Outcome, World, files};

/// A finished run in `run`, published with a signature in `published`, and an empty folder for temporary files.
fn prepared() -> World {
    let world = World::new();
    fs::create_dir(world.path("temporary")).expect("a folder");
    world.train("run", &[]);
    world.tune(&["key", "new", "key.pem"]).assert_code(0);
    world.tune(&["publish", "run", "--to", "published", "--gguf", "--key", "key.pem"]).assert_code(0);
    world
}

/// `tune verify` of an address, with a token in the environment that no such server should get. Nothing temporary is left, and
/// nothing with `escaped` in its name is asked for.
#[track_caller]
fn verify(world: &World, site: &Site, address: &str, arguments: &[&str]) -> Outcome {
    let sources = ["--source", "rows=rows.jsonl", "--source", "base=base"];
    let mut command = world.command(&[&["verify", address], arguments, &sources].concat());
    command.env("TMPDIR", world.path("temporary")).env("HF_TOKEN", "hf_Secret");
    let outcome = Outcome::of(command.output().expect("the binary starts"));
    let left = fs::read_dir(world.path("temporary")).expect("a folder").count();
    assert_eq!(left, 0, "something is left: {outcome:?}");
    let requests = site.requests();
    let is_wrong = |request: &String| request.starts_with("token") || request.contains("escaped");
    assert!(!requests.iter().any(is_wrong), "{requests:#?}");
    outcome
}

#[test]
fn a_run_and_a_published_folder_verify_from_where_they_lie() {
    let world = prepared();
    let site = Site::start(&world.path("run"));
    for target in ["manifest.json", ""] {
        let outcome = verify(&world, &site, &site.address(target), &["--yes", "--level", "sample"]);
        outcome.assert_code(0);
        assert!(outcome.stdout.starts_with(&format!("fetched: {}\n", site.address(""))), "{}", outcome.stdout);
    }
    site.put(&world.path("published"));
    for target in ["run/manifest.json", "run/", ""] {
        let arguments = ["--yes", "--level", "sample", "--signed-by", "key.pem.pub"];
        let outcome = verify(&world, &site, &site.address(target), &arguments);
        outcome.assert_code(0);
        assert!(outcome.stdout.contains("signature"), "{}", outcome.stdout);
    }
    // A server that has a page for every name does not hide where the result is, and a scheme may be written large.
    site.order("none", Fault::Page);
    let address = site.address("run/manifest.json").replacen("http", "HTTP", 1);
    verify(&world, &site, &address, &["--yes", "--level", "files"]).assert_code(0);
    site.order("none", Fault::Status(404, 0));
    let json = verify(&world, &site, &site.address(""), &["-y", "--level", "files", "--json"]);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["fetched"]["address"], site.address("").as_str());
    assert_eq!(json["conclusion"], "verified");
    // A run folder that is called as a published folder calls its run.
    fs::create_dir(world.path("outer")).expect("a folder");
    fs::rename(world.path("run"), world.path("outer/run")).expect("the run moves");
    site.put(&world.path("outer"));
    verify(&world, &site, &site.address("run/"), &["-y", "--level", "files"]).assert_code(0);
}

#[test]
fn exactly_the_files_of_the_manifest_and_the_signature_are_fetched() {
    let world = prepared();
    world.write("published/notes.md", "somebody else's");
    let site = Site::start(&world.path("published"));
    let mut command = world.command(&["verify", &site.address(""), "--yes", "--level", "files"]);
    let verdict = Outcome::of(command.output().expect("the binary starts"));
    verdict.assert_code(0);
    let unseen = "a web server gives no list: files that the manifest does not name could not be looked for";
    assert!(verdict.stdout.contains(unseen), "{}", verdict.stdout);
    let local = world.tune(&["verify", "run", "--level", "files"]);
    assert!(!local.stdout.contains(unseen), "{}", local.stdout);
    let mut fetched: Vec<String> =
        site.requests().iter().filter_map(|request| Some(request.strip_prefix("GET /path/")?.to_owned())).collect();
    fetched.retain(|path| path != "manifest.json");
    fetched.sort();
    let expected: Vec<String> = files(&world.path("published")).into_keys().filter(|path| path != "notes.md").collect();
    assert_eq!(fetched, expected);
}

#[test]
fn what_is_not_there_could_not_be_checked() {
    let world = prepared();
    let site = Site::start(&world.path("run"));
    site.order("chain.jsonl", Fault::Status(404, 9));
    let outcome = verify(&world, &site, &site.address(""), &["--yes", "--level", "files"]);
    outcome.assert_code(2).assert_stderr(&["1 more that the manifest lists are not there"]);
    assert!(outcome.stdout.contains("chain.jsonl") && outcome.stdout.contains("not checked"), "{}", outcome.stdout);
    // Withheld checkpoints are withheld there too.
    world.tune(&["publish", "run", "--to", "less", "--without-checkpoints"]).assert_code(0);
    site.put(&world.path("less"));
    let outcome = verify(&world, &site, &site.address(""), &["--yes", "--level", "files"]);
    outcome.assert_code(0);
    assert!(outcome.stdout.contains("withheld"), "{}", outcome.stdout);
}

#[test]
fn what_keeps_from_fetching_is_said_and_nothing_is_left() {
    let world = prepared();
    let site = Site::start(&world.path("run"));
    let go = |target: &str| verify(&world, &site, &site.address(target), &["--yes", "--level", "files"]);
    go("elsewhere/").assert_code(2).assert_stderr(&["(404)", "elsewhere/manifest.json", "hint"]);
    for path in ["manifest.json", "chain.jsonl"] {
        for (status, text) in [(401, "(401)"), (403, "(403)"), (429, "(429)"), (500, "500")] {
            site.order(path, Fault::Status(status, 99));
            go("").assert_code(2).assert_stderr(&[text, path, "hint"]);
        }
        site.order(path, Fault::Truncated(9));
        go("").assert_code(2).assert_stderr(&["3 attempts"]);
        // These pass.
        site.order(path, Fault::Truncated(1));
        go("").assert_code(0);
        site.order(path, Fault::Status(429, 2));
        go("").assert_code(0).assert_stderr(&["the server asks to wait"]);
    }
    // Each redirect leads to the next.
    site.order("chain.jsonl", Fault::Moved("/path/chain.jsonl".to_owned()));
    go("").assert_code(2).assert_stderr(&["too many redirects"]);
    site.order("chain.jsonl", Fault::Moved("http://example.org/chain.jsonl".to_owned()));
    go("").assert_code(2).assert_stderr(&["a redirect is refused"]);
    for target in ["http://example.org/run/", "https://user:secret@example.org/run/", "https://example.org/run"] {
        verify(&world, &site, target, &["--yes"]).assert_code(2).assert_stderr(&["hint"]);
    }
}

#[test]
fn a_server_cannot_fill_the_disk() {
    let world = prepared();
    let site = Site::start(&world.path("run"));
    let go = || verify(&world, &site, &site.address(""), &["--yes", "--level", "files"]);
    site.order("manifest.json", Fault::Announced(1 << 40));
    go().assert_code(2).assert_stderr(&["manifest.json", "the limit is"]);
    site.order("chain.jsonl", Fault::Announced(1 << 40));
    go().assert_code(2).assert_stderr(&["is not fetched: it holds more than", "hint"]);
    site.order("chain.jsonl", Fault::Endless);
    go().assert_code(2).assert_stderr(&["chain.jsonl", "it is larger, the limit is"]);
    site.order("manifest.json", Fault::Endless);
    go().assert_code(2).assert_stderr(&["the answer is too long"]);
    site.order("chain.jsonl", Fault::Unannounced);
    go().assert_code(2).assert_stderr(&["does not say how large it is"]);
}

/// The manifest with another name in it, sealed anew.
fn list_another(run: &Path, name: &str) {
    let text = fs::read_to_string(run.join("manifest.json")).expect("the manifest");
    let mut manifest: Manifest = serde_json::from_str(&text).expect("the manifest");
    manifest.claim.files.insert(name.to_owned(), Digest::of(b"x"));
    let sealed = Manifest::new(manifest.claim, manifest.environment).expect("a manifest");
    fs::write(run.join("manifest.json"), to_canonical_json(&sealed).expect("JSON")).expect("the run");
}

#[test]
fn no_path_leaves_the_work_folder() {
    let world = prepared();
    let original = fs::read(world.path("run/manifest.json")).expect("the manifest");
    let site = Site::start(&world.path("run"));
    for name in ["../escaped", "/tmp/escaped", "adapter/../../escaped", "a\\escaped", "C:/escaped", "adapter//escaped"]
    {
        list_another(&world.path("run"), name);
        site.put(&world.path("run"));
        let outcome = verify(&world, &site, &site.address(""), &["--yes", "--level", "files"]);
        outcome.assert_code(1);
        assert!(outcome.stdout.contains(name), "{name} is not named:\n{}", outcome.stdout);
        fs::write(world.path("run/manifest.json"), &original).expect("the manifest");
    }
    // Files that cannot lie in one folder everywhere.
    list_another(&world.path("run"), "Chain.jsonl");
    world.write("run/Chain.jsonl", "x");
    site.put(&world.path("run"));
    let outcome = verify(&world, &site, &site.address(""), &["--yes", "--level", "files"]);
    outcome.assert_code(2).assert_stderr(&["cannot lie in one folder"]);
}

#[test]
fn nothing_is_fetched_unasked() {
    let world = prepared();
    let site = Site::start(&world.path("run"));
    let address = site.address("");
    let unasked = Outcome::of(world.command(&["verify", &address]).output().expect("the binary starts"));
    let there = files(&world.path("run"));
    let bytes: usize = there.values().map(Vec::len).sum();
    unasked
        .assert_code(2)
        .assert_stderr(&[&format!("{address}: {} files, {bytes} bytes would be fetched", there.len()), "--yes"]);
    let requests = site.requests();
    let fetched: Vec<&String> = requests.iter().filter(|request| request.starts_with("GET")).collect();
    assert_eq!(fetched, ["GET /path/manifest.json"]);
    verify(&world, &site, &address, &["--yes", "--offline"]).assert_code(2).assert_stderr(&["may not be used"]);
    verify(&world, &site, &address, &["--yes", "--attest", "key.pem"]).assert_code(2).assert_stderr(&["is not kept"]);
}
