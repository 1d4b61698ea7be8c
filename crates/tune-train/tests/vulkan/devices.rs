//! Whole runs on a Vulkan adapter, software before hardware, give the claim that the CPU gives: steps, checkpoints,
//! held-out losses and generated answers, bit for bit. Where the adapter's `fma` is not fused, the CPU computes with an
//! unfused one as well.

use burn_flex::{Flex, FlexDevice};
use tune_kernels::cube::Wgpu;

use crate::support::{Adapter, claim, job};

fn compare(overrides: &[&str], devices: usize) {
    let Some(adapter) = Adapter::find() else { return };
    adapter.match_the_cpu();
    let job = job(overrides);
    let (here, there) =
        (claim::<Flex>(&job, &[FlexDevice]), claim::<Wgpu>(&job, &vec![adapter.device.clone(); devices]));
    assert_eq!(here.checkpoints.len(), 3, "a checkpoint a step, and the first");
    assert_eq!(here.checkpoints, there.checkpoints);
    assert_eq!(here, there);
}

#[test]
fn lora_on_the_quickstart() {
    compare(
        &[
            "max_steps=2",
            "save_steps=1",
            "eval_steps=1",
            "lora_dropout=0.1",
            "micro_batch_size=2",
            "val_set_size=3",
            "eval_exact_match=2",
            "eval_max_new_tokens=4",
        ],
        1,
    );
}

/// On two handles of the device, which share the rows of a step.
#[test]
fn all_weights_of_the_quickstart() {
    compare(
        &[
            "adapter=none",
            "max_steps=2",
            "save_steps=1",
            "gradient_checkpointing=true",
            "micro_batch_size=1",
            "gradient_accumulation_steps=2",
            "val_set_size=2",
            "eval_exact_match=0",
            "weight_decay=0.1",
        ],
        2,
    );
}
