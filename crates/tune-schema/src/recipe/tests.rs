use super::*;

const MINIMAL: &str = "base_model: models/base\ndatasets:\n  - path: data/train.jsonl\n    type: completion\n";

fn error(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    load("recipes/x.yaml", text, &overrides).unwrap_err().to_string()
}

fn recipe(text: &str, overrides: &[&str]) -> Recipe {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    load("recipes/x.yaml", text, &overrides).unwrap().recipe
}

#[test]
fn defaults_are_explicit() {
    let recipe = recipe(MINIMAL, &[]);
    assert_eq!((recipe.base_model_name.as_str(), recipe.datasets[0].name.as_str()), ("base", "train.jsonl"));
    assert_eq!((recipe.lora_r, recipe.seed, recipe.output_dir.as_str()), (16, 42, "runs/x"));
    assert_eq!(recipe.effective_scale().to_bits(), 2.0_f32.to_bits());
}

#[test]
fn a_misspelt_key_is_shown_with_its_place_and_the_nearest() {
    let text = format!("{MINIMAL}learning_rte: 1e-4\n");
    assert_eq!(
        error(&text, &[]),
        "recipes/x.yaml:5:1: unknown key `learning_rte`\n  5 | learning_rte: 1e-4\n    | ^^^^^^^^^^^^\nhint: did you mean `learning_rate`?"
    );
    let nested = MINIMAL.replace("type:", "typ:");
    assert!(error(&nested, &[]).contains("recipes/x.yaml:4:5: unknown key `typ`"), "{}", error(&nested, &[]));
    assert!(error(&nested, &[]).ends_with("hint: did you mean `type`?"));
    assert!(
        error(MINIMAL, &["lora_rr=3"])
            .contains("override `lora_rr=3`: unknown key `lora_rr`\nhint: did you mean `lora_r`?")
    );
    assert!(error(MINIMAL, &["datasets.0.pth=3"]).contains("did you mean `path`?"));
    assert!(error(MINIMAL, &["datasets.7.path=3"]).contains("the list has 1 entries"));
}

#[test]
fn a_duplicate_key_names_both_lines() {
    let text = format!("{MINIMAL}seed: 1\nseed: 2\n");
    assert_eq!(
        error(&text, &[]),
        "recipes/x.yaml:6:1: the key `seed` was given already, in line 5\n  6 | seed: 2\n    | ^^^^\nhint: keep one of the two"
    );
    let text = format!("{MINIMAL}num_train_epochs: 1\nnum_epochs: 2\n");
    assert!(error(&text, &[]).contains("`num_train_epochs` and `num_epochs` are the same setting"));
}

#[test]
fn a_wrong_type_says_what_was_found_and_what_is_expected() {
    let text = format!("{MINIMAL}lora_r: many\n");
    assert_eq!(
        error(&text, &[]),
        "recipes/x.yaml:5:9: `lora_r`: invalid type: string \"many\", expected a whole number from 0 to 2^32 - 1\n  5 | lora_r: many\n    |         ^^^^"
    );
    assert!(error(MINIMAL, &["lora_r=abc"]).starts_with("override `lora_r=abc`: `lora_r`: invalid type"));
    for (given, expected) in [
        ("learning_rate=fast", "string \"fast\", expected a number"),
        ("use_rslora=maybe", "string \"maybe\", expected `true` or `false`"),
        ("datasets=rows.jsonl", "string \"rows.jsonl\", expected a list"),
        ("datasets=[rows.jsonl]", "string \"rows.jsonl\", expected `key: value` lines"),
        ("base_model=[a]", "a list, expected a string"),
    ] {
        assert!(error(MINIMAL, &[given]).ends_with(expected), "{}", error(MINIMAL, &[given]));
    }
    let text = format!("{MINIMAL}lr_scheduler: cosin\n");
    assert!(
        error(&text, &[]).contains("unknown variant `cosin`, expected one of `constant`, `linear`, `cosine`"),
        "{}",
        error(&text, &[])
    );
    assert!(
        error(&format!("{MINIMAL}lora_target_modules: 3\n"), &[]).contains("expected `all-linear` or a list"),
        "{}",
        error(&format!("{MINIMAL}lora_target_modules: 3\n"), &[])
    );
    assert!(error(&format!("{MINIMAL}val_set_size: 1.0\n"), &[]).contains("write a whole number"));
    assert!(error(&format!("{MINIMAL}lora_dropout: 1.5\n"), &[]).contains("hint: it is at least 0 and below 1"));
}

#[test]
fn secrets_and_unknown_sources_are_refused() {
    let text = format!("{MINIMAL}hf_token: x\n");
    assert!(error(&text, &[]).contains("tokens come from the environment only"));
    let text = format!("{MINIMAL}provenance:\n  trian.jsonl:\n    class: open\n");
    assert!(error(&text, &[]).contains("no source has the name `trian.jsonl`\n"), "{}", error(&text, &[]));
    assert!(error(&text, &[]).ends_with("did you mean `train.jsonl`?"));
}

#[test]
fn synonyms_are_read_with_a_notice() {
    let text = MINIMAL.replace("base_model:", "model_name_or_path:") + "num_train_epochs: 2\n";
    let loaded = load("x.yaml", &text, &[]).unwrap();
    assert_eq!(loaded.recipe.num_epochs, 2.0);
    assert_eq!(
        loaded.notices,
        ["x.yaml: `model_name_or_path` is read as `base_model`", "x.yaml: `num_train_epochs` is read as `num_epochs`"]
    );
}

#[test]
fn execution_is_not_claimed_and_everything_else_is() {
    let base = recipe(MINIMAL, &["micro_batch_size=8"]);
    let same = recipe(
        MINIMAL,
        &[
            "micro_batch_size=2",
            "gradient_accumulation_steps=4",
            "gradient_checkpointing=true",
            "keep_quantized=true",
            "output_dir=elsewhere",
            "datasets.0.path=b.jsonl",
            "logging_steps=7",
        ],
    );
    assert_eq!(base.claimed(), same.claimed());
    for change in [
        "micro_batch_size=4",
        "seed=43",
        "learning_rate=1e-4",
        "lora_r=8",
        "datasets.0.name=other",
        "datasets.0.weight=2",
        "eval_steps=5",
    ] {
        assert_ne!(base.claimed(), recipe(MINIMAL, &["micro_batch_size=8", change]).claimed(), "{change}");
    }
}

#[test]
fn a_claimed_recipe_reads_back() {
    let text = format!(
        "{MINIMAL}seed: 18446744073709551615\nlearning_rate: 1e-5\ngovernance: {{maintainers: [A, \"b: c\"]}}\n"
    );
    let recipe = recipe(&text, &["chat_template=chatml", "val_set_size=0.25"]);
    let value = parse_claimed("resolved.yaml", &recipe.claimed_yaml()).unwrap();
    assert_eq!(value, recipe.claimed());
    let again = from_claimed_in_place(&value).unwrap();
    assert_eq!((again.seed, again.claimed()), (u64::MAX, recipe.claimed()));
    let mut foreign = value;
    foreign["new"] = serde_json::json!(1);
    assert!(from_claimed_in_place(&foreign).is_err());
}

/// A stranger may claim an override that no recipe could have.
#[test]
fn a_claimed_recipe_is_held_to_what_any_recipe_is() {
    let value = recipe(MINIMAL, &["warmup_steps=3"]).claimed();
    assert!(from_claimed_in_place(&value).is_ok());
    for (place, wrong) in [
        ("/lora_r", "0"),
        ("/lora_r", "4294967295"),
        ("/rows_per_step", "0"),
        ("/rows_per_step", "2097152"),
        ("/save_steps", "0"),
        ("/sequence_len", "0"),
        ("/warmup_ratio", "0.5"),
        ("/val_set_size", "2.5"),
        ("/datasets", "[]"),
        ("/datasets/0/weight", "-1.0"),
        ("/datasets/0/name", "\"../x\""),
        ("/base_model_name", "\"\""),
    ] {
        let mut changed = value.clone();
        *changed.pointer_mut(place).unwrap() = serde_json::from_str(wrong).unwrap();
        assert!(from_claimed_in_place(&changed).is_err(), "{place}: {wrong}");
    }
}

#[test]
fn the_schema_lists_every_key_with_its_text() {
    let schema = json_schema();
    let keys = schema["properties"].as_object().unwrap();
    let silent: Vec<_> =
        keys.iter().filter(|(_, key)| key.get("description").is_none()).map(|(name, _)| name).collect();
    assert!(keys.len() > 40 && silent.is_empty(), "{} keys, without a text: {silent:?}", keys.len());
}
