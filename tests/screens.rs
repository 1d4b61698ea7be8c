//! What a person sees: snapshots of whole screens, with what depends on the machine replaced.

use crate::support::{Outcome, World};

/// Both streams and the exit code, without paths, times, speeds and sizes of memory.
fn screen(outcome: &Outcome, world: &World) -> String {
    let text = format!(
        "exit code {}\n--- stdout\n{}--- stderr\n{}",
        outcome.code.expect("it ended"),
        outcome.stdout,
        outcome.stderr
    );
    text.replace(&world.path("").to_string_lossy().into_owned(), "FOLDER/")
}

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.add_filter(r"in \d+\.\d s, \d+ tokens/s on \S+", "in SECONDS s, SPEED tokens/s on DEVICE");
    settings.add_filter(r"\d+ tokens/s  \d+:\d\d left", "SPEED tokens/s  TIME left");
    // The seal covers the timings too.
    settings.add_filter(r"seal( +ok +)sha256:[0-9a-f]{64}", "seal${1}SEAL");
    settings
}

#[test]
fn help() {
    let world = World::new();
    for name in [
        "", "run", "plan", "bench", "lock", "data", "verify", "reveal", "diff", "attest", "audit", "publish", "export",
        "key", "doctor", "schema",
    ] {
        let arguments: Vec<&str> = if name.is_empty() { vec!["--help"] } else { vec![name, "--help"] };
        let outcome = world.tune(&arguments);
        settings().bind(|| insta::assert_snapshot!(format!("help_{name}"), screen(&outcome, &world)));
    }
}

#[test]
fn doctor_answers_on_any_machine() {
    let world = World::new();
    let outcome = world.tune(&["doctor", "--json"]);
    let devices: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(devices[0]["device"], "cpu", "{devices}");
    for device in devices.as_array().expect("a list") {
        // Either a device may run the profile, or it is said why not.
        let (profiles, reasons) = (&device["profiles"], &device["reasons"]);
        assert_eq!(*profiles == serde_json::json!(["exact-f32/1"]), *reasons == serde_json::json!([]), "{device}");
    }
}

#[test]
fn a_run_and_its_verification() {
    let world = World::new();
    let run = world.tune(&[
        "run",
        "recipe.yaml",
        "output_dir=run",
        "eval_exact_match=2",
        "eval_max_new_tokens=6",
        "eval_samples_shown=1",
    ]);
    settings().bind(|| insta::assert_snapshot!("run", screen(&run, &world)));
    let again = world.tune(&[
        "run",
        "recipe.yaml",
        "output_dir=run",
        "eval_exact_match=2",
        "eval_max_new_tokens=6",
        "eval_samples_shown=1",
    ]);
    settings().bind(|| insta::assert_snapshot!("run_again", screen(&again, &world)));
    let verdict = world.tune(&["verify", "run", "--level", "sample", "--seed", "1", "--segments", "1"]);
    settings().bind(|| insta::assert_snapshot!("verify_sample", screen(&verdict, &world)));
    world.write("run/chain.jsonl", "{}\n");
    let verdict = world.tune(&["verify", "run"]);
    settings().bind(|| insta::assert_snapshot!("verify_differs", screen(&verdict, &world)));
}

#[test]
fn plan_and_data() {
    let world = World::new();
    let plan = world.tune(&["plan", "recipe.yaml"]);
    settings().bind(|| insta::assert_snapshot!("plan", screen(&plan, &world)));
    let audit = world.tune(&["data", "audit", "recipe.yaml"]);
    settings().bind(|| insta::assert_snapshot!("data_audit", screen(&audit, &world)));
    let show = world.tune(&["data", "show", "recipe.yaml", "--rows", "1"]);
    settings().bind(|| insta::assert_snapshot!("data_show", screen(&show, &world)));
}
