//! What becomes of a device that fails: it is lost, its memory is full, its driver gives up.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex, PoisonError};

/// A device failed while it computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device failed: {0}")]
pub struct DeviceFailure(String);

impl DeviceFailure {
    pub(super) fn new(reason: String) -> Self {
        Self(reason)
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        let memory = self.0.to_lowercase();
        let lower = if memory.contains("memory") { "with a lower `micro_batch_size`, or " } else { "" };
        format!(
            "the last checkpoint is as it was: the same command goes on from it, {lower}with `device=cpu` on the CPU; \
             `tune doctor` lists the devices that work"
        )
    }
}

/// What a panic says, and where it happened.
fn told(info: &PanicHookInfo<'_>) -> String {
    let text = info.payload_as_str().unwrap_or("no reason given");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    info.location().map_or_else(|| text.clone(), |place| format!("{text} ({}:{})", place.file(), place.line()))
}

/// Runs work on a device. `CubeCL` and burn panic where a driver fails, on this thread or one of their own; the first such
/// panic becomes the error, and nothing is printed.
///
/// What was being computed is lost; what lies on the disk is as it would be after the process was killed.
///
/// # Errors
/// A panic within `f`.
pub fn guarded<T>(f: impl FnOnce() -> T) -> Result<T, DeviceFailure> {
    let first = Arc::new(Mutex::new(None::<String>));
    let heard = Arc::clone(&first);
    let usual = take_hook();
    set_hook(Box::new(move |info| {
        heard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| told(info));
    }));
    let result = catch_unwind(AssertUnwindSafe(f));
    set_hook(usual);
    result.map_err(|_| {
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        DeviceFailure(first.unwrap_or_else(|| "no reason given".to_owned()))
    })
}
