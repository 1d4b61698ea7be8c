//! Devices share the rows of a step, and the result is that of one device. Two and three times the CPU stand for several
//! GPUs: each has its own copy of the model and computes on a thread of its own.

use burn_flex::{Flex, FlexDevice};

use crate::support::{claim, job};

#[test]
fn the_number_of_devices_does_not_matter() {
    let settings = ["max_steps=3", "save_steps=1", "lora_dropout=0.1", "val_set_size=4", "eval_exact_match=2"];
    for (micro, accumulation) in [("micro_batch_size=8", 1), ("micro_batch_size=2", 4)] {
        let accumulation = format!("gradient_accumulation_steps={accumulation}");
        let job = job(&[&settings[..], &[micro, &accumulation]].concat());
        let one = claim::<Flex>(&job, &[FlexDevice]);
        assert_eq!(one.checkpoints.len(), 4);
        for devices in [2, 3] {
            assert_eq!(claim::<Flex>(&job, &vec![FlexDevice; devices]), one, "{devices} devices, {micro}");
        }
    }
}

#[test]
fn all_weights_on_several_devices() {
    let settings = ["adapter=none", "max_steps=2", "save_steps=1", "val_set_size=2", "eval_exact_match=0"];
    let job = job(&settings);
    assert_eq!(claim::<Flex>(&job, &[FlexDevice]), claim::<Flex>(&job, &[FlexDevice, FlexDevice]));
}
