//! Runs under a profile that promises bits on one model of device only. Equal bits verify such a run wherever they are
//! computed; other bits say something against it only where device, driver and binary are the same.

use std::collections::BTreeSet;

use tune_schema::recipe::Numerics;
use tune_schema::text::printable;
use tune_train::environment::{Environment, machine};
use tune_train::{Job, RunFolder};

use crate::verdict::Outcome;

/// Why the bits of `job`'s device need not be those of the run in `folder`; none where they must be.
pub(crate) fn elsewhere(folder: &RunFolder, job: &Job) -> Option<String> {
    match job.recipe.numerics {
        Numerics::ExactF32V1 => return None,
        Numerics::PinnedBf16V1 => {}
    }
    let bytes = tune_fs::read_limited(&folder.environment(), crate::files::TEXT_LIMIT).ok();
    let stated = bytes.and_then(|bytes| serde_json::from_slice::<Environment>(&bytes).ok());
    let Some(stated) = stated else { return Some("nothing says which device computed the run".to_owned()) };
    let here = machine(&job.device);
    // Several devices of a model compute what one does.
    let models = |names: &str| names.split(',').map(str::to_owned).collect::<BTreeSet<String>>();
    let (made_on, this) = if models(&stated.device) != models(&here.device) {
        (stated.device, here.device)
    } else if stated.driver != here.driver {
        (stated.driver, here.driver)
    } else if stated.binary != here.binary {
        return Some("another binary computed the run".to_owned());
    } else {
        return None;
    };
    Some(format!("the run was computed on {}, this is {}", printable(&made_on), printable(&this)))
}

/// A difference is none where other bits may be right.
pub(crate) fn judged(outcome: Outcome, elsewhere: Option<&str>) -> Outcome {
    match (outcome, elsewhere) {
        (Outcome::Differs(difference), Some(reason)) => {
            Outcome::NotChecked(format!("{difference}; that proves nothing here: {reason}"))
        }
        (outcome, _) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bits_prove_nothing_on_another_device() {
        let differs = || Outcome::Differs("step 1: the loss".to_owned());
        assert_eq!(judged(differs(), None), differs());
        let Outcome::NotChecked(reason) = judged(differs(), Some("this is another device")) else {
            panic!("a difference elsewhere is no verdict");
        };
        assert!(reason.contains("step 1: the loss") && reason.contains("this is another device"), "{reason}");
        let verified = || Outcome::Verified("equal".to_owned());
        assert_eq!(judged(verified(), Some("this is another device")), verified());
    }
}
