//! A job and the memory of its device: what does not fit is refused with what to lower, and `auto` finds what fits.

use tune_train::memory::estimate;
use tune_train::{DeviceFacts, TrainError};

use crate::support::job_on;

fn gpu(memory: u64) -> DeviceFacts {
    DeviceFacts { backend: "cuda:0".to_owned(), name: "a GPU".to_owned(), driver: String::new(), memory: Some(memory) }
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_lower() {
    let job = job_on(&[], gpu(u64::MAX)).expect("it fits");
    let [whole, half, single] = [8, 4, 1].map(|micro| estimate(&job, micro).expect("an estimate").total);
    assert!(single < half && half < whole, "{single} {half} {whole}");
    assert!(job_on(&[], gpu(whole)).is_ok(), "exactly enough is enough");
    let error = job_on(&[], gpu(whole - 1)).expect_err("one byte less is too little");
    assert!(matches!(error, TrainError::DoesNotFit { fits: Some(4), micro: 8, .. }), "{error:?}");
    assert!(error.to_string().starts_with("micro-batches of 8 rows need about "), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("`micro_batch_size=4`")), "{:?}", error.hint());
    let error = job_on(&[], gpu(single - 1)).expect_err("not even a row");
    assert!(error.hint().is_some_and(|hint| hint.contains("gradient_checkpointing=true")), "{:?}", error.hint());
    let checkpointed = job_on(&["gradient_checkpointing=true"], gpu(u64::MAX)).expect("it fits");
    assert!(estimate(&checkpointed, 8).expect("an estimate").total < whole);
}

#[test]
fn auto_takes_the_largest_even_split_that_fits() {
    let auto = ["micro_batch_size=auto", "gradient_accumulation_steps=6"];
    let whole = job_on(&auto, gpu(u64::MAX)).expect("it fits");
    assert_eq!((whole.recipe.micro_batch_size, whole.recipe.gradient_accumulation_steps), (6, 1));
    let three = estimate(&whole, 3).expect("an estimate").total;
    let split = job_on(&auto, gpu(three)).expect("it fits");
    assert_eq!((split.recipe.micro_batch_size, split.recipe.gradient_accumulation_steps), (3, 2));
    // However it is split, it is the same computation.
    let written = job_on(&["micro_batch_size=2", "gradient_accumulation_steps=3"], gpu(u64::MAX)).expect("it fits");
    assert_eq!(split.inputs_digest().expect("a digest"), whole.inputs_digest().expect("a digest"));
    assert_eq!(split.recipe.claimed(), written.recipe.claimed());
    let error = job_on(&auto, gpu(1)).expect_err("nothing fits");
    assert!(matches!(error, TrainError::DoesNotFit { fits: None, micro: 1, .. }), "{error:?}");
}
