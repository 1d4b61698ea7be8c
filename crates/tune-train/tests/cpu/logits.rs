//! The logits of a trained model are those that transformers and PEFT give from the run's own files.

use std::path::Path;
use std::process::Command;

use burn_flex::{Flex, FlexDevice};
use serde_json::json;
use tune_schema::recipe::Adapter;
use tune_train::checkpoint::read_tensors;
use tune_train::layout::weights_file;
use tune_train::trainer::initial_model;
use tune_train::{RunFolder, Silent};

use crate::support::job;

/// `TUNE_TEST_PEFT` names a Python with torch, transformers and peft. A shifted logit must be seen.
#[test]
#[ignore = "needs a Python with torch, transformers and peft"]
fn peft_gives_the_same_logits() {
    let python = std::env::var_os("TUNE_TEST_PEFT").expect("TUNE_TEST_PEFT names a Python");
    let job = job(&["max_steps=40", "eval_exact_match=0"]);
    let place = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::new(place.path().join("run"));
    tune_train::run::<Flex>(&job, &folder, &[FlexDevice], &mut Silent).expect("a run");
    let adapter = folder.result(Adapter::Lora);
    let mut model = initial_model::<Flex>(&job.recipe, &job.base, &FlexDevice).expect("the model");
    let tensors = read_tensors(&adapter.join(weights_file(&job.recipe))).expect("the result");
    model.set_trainable(&tensors).expect("the result");
    let mut prompts: Vec<_> = job.prepared.eval_examples.iter().map(|example| example.prompt_ids.clone()).collect();
    prompts.truncate(10);
    let logits: Vec<_> = prompts.iter().map(|ids| model.logits(ids)).collect();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let accepted = |shift: f32| {
        let mut logits = logits.clone();
        logits[0][0][0] += shift;
        let cases = prompts.iter().zip(&logits).map(|(ids, logits)| json!({ "ids": ids, "logits": logits }));
        let cases: Vec<_> = cases.collect();
        let file = place.path().join("logits.json");
        tune_fs::write_atomic(&file, &serde_json::to_vec(&cases).expect("JSON")).expect("a file");
        let mut script = Command::new(&python);
        script.arg(repository.join("tests/published/peft_logits.py")).args([&adapter, &file]);
        script.arg("--base").arg(repository.join("models/quickstart-base"));
        script.status().expect("Python starts").success()
    };
    assert!(accepted(0.0), "PEFT gives other logits");
    assert!(!accepted(1e-3), "a shifted logit is not seen");
}
