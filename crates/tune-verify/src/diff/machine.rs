//! Tools and machines: worth knowing where runs differ, and never a difference by themselves.

use tune_train::environment::Environment;

use super::report::Values;
use super::side::Side;
use tune_schema::text::printable;

/// What `environment.json` says otherwise of tool, device and the split of the work.
pub(super) fn remarks([a, b]: [&Side; 2]) -> Vec<String> {
    let environment = |side: &Side| side.json::<Environment>("environment.json");
    let (a, b) = match (environment(a), environment(b)) {
        (Ok(a), Ok(b)) => (a, b),
        (a, b) => return [a.err(), b.err()].into_iter().flatten().map(|problem| printable(&problem)).collect(),
    };
    let values = [
        Values::differing("version of tune", Some(&a.tune_version), Some(&b.tune_version)),
        Values::differing("binary", a.binary, b.binary),
        Values::differing("backend", Some(&a.backend), Some(&b.backend)),
        Values::differing("device", Some(&a.device), Some(&b.device)),
        Values::differing("driver", Some(&a.driver), Some(&b.driver)),
        Values::differing("platform", Some(&a.platform), Some(&b.platform)),
        Values::differing("set of instructions", Some(&a.cpu_level), Some(&b.cpu_level)),
        Values::differing("number of threads", Some(a.threads), Some(b.threads)),
        Values::differing("micro-batch size", Some(a.micro_batch_size), Some(b.micro_batch_size)),
    ];
    values.into_iter().flatten().map(|values| format!("the {values}")).collect()
}
