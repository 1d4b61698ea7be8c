//! The device that a recipe or an argument names. What computes on a GPU is compared in the crates' own tests.

use serde_json::Value;
use tune_schema::recipe::Numerics;

use crate::support::World;
use crate::tamper_table::forge::{change_inputs, change_setting};

/// What `tune doctor` says of the devices whose names begin so.
fn devices(world: &World, kind: &str) -> Vec<Value> {
    let outcome = world.tune(&["doctor", "--json"]);
    let all: Vec<Value> = serde_json::from_str(&outcome.assert_code(0).stdout).expect("a list of devices");
    all.into_iter().filter(|device| device["device"].as_str().is_some_and(|name| name.starts_with(kind))).collect()
}

#[test]
fn the_device_does_not_show_in_the_claim() {
    let world = World::new();
    world.train("auto", &[]);
    world.train("cpu", &["device=cpu"]);
    let claim = |run: &str| {
        let manifest: Value = serde_json::from_str(&world.read(&format!("{run}/manifest.json"))).expect("JSON");
        manifest["claim_id"].clone()
    };
    assert_eq!(claim("auto"), claim("cpu"));
    let environment: Value = serde_json::from_str(&world.read("cpu/environment.json")).expect("JSON");
    assert_eq!(environment["backend"], "cpu");
    world.tune(&["verify", "auto", "--device", "cpu", "--segments", "2"]).assert_code(0);
}

#[test]
fn a_device_that_is_not_there_is_an_error_before_anything_is_made() {
    let world = World::new();
    for (kind, number) in [("cuda", 97), ("wgpu", 98)] {
        let name = format!("{kind}:{number}");
        let outcome = world.tune(&["run", "recipe.yaml", "output_dir=run", &format!("device={name}")]);
        outcome.assert_code(2).assert_stderr(&[&format!("error: there is no `{name}`"), "hint: `device=cpu`"]);
        assert!(!world.path("run").exists());
        let verify = world.tune(&["verify", "base", "--device", &name]);
        verify.assert_code(2).assert_stderr(&["there is no"]);
    }
    let outcome = world.tune(&["run", "recipe.yaml", "device=gpu"]);
    outcome.assert_code(1).assert_stderr(&["`gpu` names no device, expected `auto`, `cpu`, `cuda`"]);
}

/// A device whose probe says that it computes otherwise is refused with what the probe found.
#[test]
fn a_device_that_fails_the_probe_is_refused() {
    let world = World::new();
    let found = devices(&world, "wgpu");
    for device in found.iter().filter(|device| device["profiles"].as_array().is_some_and(Vec::is_empty)) {
        let name = device["device"].as_str().expect("a name");
        let outcome = world.tune(&["run", "recipe.yaml", "output_dir=run", &format!("device={name}")]);
        let reason = device["reasons"][0].as_str().expect("a reason");
        outcome.assert_code(2).assert_stderr(&["may not compute exact-f32/1", reason, "hint: `device=cpu`"]);
        assert!(!world.path("run").exists());
    }
    assert!(
        std::env::var_os("TUNE_TEST_GPU").is_none() || !found.is_empty(),
        "TUNE_TEST_GPU asks for a Vulkan adapter; there is none"
    );
}

/// What may not compute the profile says so before anything is made.
#[test]
fn a_profile_that_needs_a_gpu_is_refused_without_one() {
    let world = World::new();
    let run = |device: &str| {
        let device = format!("device={device}");
        world.tune(&["run", "recipe.yaml", "output_dir=run", "numerics=pinned-bf16/1", &device])
    };
    let hint = "hint: `numerics=exact-f32/1`";
    run("cpu").assert_code(2).assert_stderr(&["error: pinned-bf16/1 needs an NVIDIA GPU", hint]);
    if devices(&world, "cuda").is_empty() {
        run("auto").assert_code(2).assert_stderr(&["error: pinned-bf16/1 needs an NVIDIA GPU", hint]);
    }
    for device in devices(&world, "wgpu") {
        let name = device["device"].as_str().expect("a name");
        let reason = device["pinned_reasons"][0].as_str().expect("a reason");
        run(name).assert_code(2).assert_stderr(&["may not compute pinned-bf16/1", reason, hint]);
    }
    assert!(!world.path("run").exists());
}

/// A run under a profile that promises its bits on one model of device: what needs no device is verified, the rest is said
/// to be unchecked, never to differ. The run is an exact one whose files say otherwise, which these levels cannot know.
#[test]
fn a_run_bound_to_its_device_is_unchecked_elsewhere() {
    let world = World::new();
    world.train("run", &["numerics=exact-f32/1", "max_steps=1", "save_steps=1"]);
    change_setting(&world.path("run"), ("exact-f32/1", "pinned-bf16/1"), None);
    change_inputs(&world.path("run"), |inputs| {
        inputs.numerics = Numerics::PinnedBf16V1;
        inputs.overrides.insert("numerics".to_owned(), "\"pinned-bf16/1\"".to_owned());
    });
    for level in ["files", "data"] {
        world.tune(&["verify", "run", "--level", level, "--device", "cpu"]).assert_code(0);
    }
    for level in ["sample", "full"] {
        let outcome = world.tune(&["verify", "run", "--level", level, "--device", "cpu"]);
        outcome.assert_code(2);
        for words in ["does not compute pinned-bf16/1", "verified up to `data`"] {
            assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
        }
    }
}

/// The command for a machine with a GPU, on software: nothing but the binary, and every operation compared.
#[test]
fn a_device_is_measured_with_nothing_but_the_binary() {
    let world = World::new();
    if devices(&world, "wgpu").is_empty() {
        return;
    }
    let arguments = ["bench", "--gpu", "--device", "wgpu:0", "--model", "tiny", "--comparisons", "2", "--steps", "1"];
    let outcome = world.tune(&[&arguments[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&outcome.assert_code(0).stdout).expect("JSON");
    let comparisons = report["comparisons"].as_array().expect("comparisons");
    assert_eq!(comparisons.len(), 7);
    for comparison in comparisons {
        assert!(comparison["difference"].is_null() && comparison["values"].as_u64() > Some(100), "{comparison}");
    }
    assert_eq!(report["quickstart"].is_null(), !report["reasons"].as_array().expect("reasons").is_empty());
    let products = report["products"].as_array().expect("products");
    let of = |numerics: &str| products.iter().filter(|product| product["numerics"] == numerics).count();
    assert_eq!((of("exact-f32/1"), of("pinned-bf16/1"), products.len()), (6, 6, 12));
    for training in report["training"].as_array().expect("training") {
        assert!(training["tokens_per_second"].as_f64() > Some(0.0), "{training}");
    }
    let unknown = world.tune(&["bench", "--gpu", "--model", "GPT-5"]);
    unknown.assert_code(1).assert_stderr(&["`--model GPT-5` names no shape, expected one of: tiny, SmolLM2-135M"]);
    world.tune(&["bench", "--gpu", "recipe.yaml"]).assert_code(2);
    world.tune(&["bench"]).assert_code(2);
}
