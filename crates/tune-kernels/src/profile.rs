//! Where the time of a step goes, by operation: what `tune bench` prints.
//!
//! Off unless [`start`] was called; then each operation adds the wall-clock time it took on the thread that called it.
//! Operations are called one after another and use threads inside, so the times of a step add up to the step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static TIMES: Mutex<BTreeMap<Operation, Duration>> = Mutex::new(BTreeMap::new());

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Products with the weights of linear layers, forward: `x · Wᵀ`.
    LinearForward,
    /// Products with the weights of linear layers, backward: `dy · W`.
    LinearBackward,
    /// Gradients of trained weights: `dyᵀ · x` for each row.
    WeightGradient,
    /// The thin products of LoRA branches forward, with dropout and the addition to the output.
    LoraForward,
    /// The same backward, with the gradients of `A` and `B`.
    LoraBackward,
    /// Attention, forward.
    AttentionForward,
    /// Attention, backward.
    AttentionBackward,
    /// The head's products and the cross-entropy between them.
    Head,
    /// RMSNorm, forward and backward.
    Norm,
    /// Rotary embedding, forward and backward.
    Rope,
    /// SwiGLU, forward and backward.
    SwiGlu,
    /// Rows of the embedding, and their gradient.
    Embedding,
    /// Gradient norm and AdamW.
    Optimizer,
}

impl Operation {
    /// The name that people read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LinearForward => "linear x·Wᵀ",
            Self::LinearBackward => "linear dy·W",
            Self::WeightGradient => "weight gradients dyᵀ·x",
            Self::LoraForward => "LoRA forward",
            Self::LoraBackward => "LoRA backward",
            Self::AttentionForward => "attention forward",
            Self::AttentionBackward => "attention backward",
            Self::Head => "head and loss",
            Self::Norm => "RMSNorm",
            Self::Rope => "RoPE",
            Self::SwiGlu => "SwiGLU",
            Self::Embedding => "embedding",
            Self::Optimizer => "norm and AdamW",
        }
    }
}

/// Starts to measure, from zero.
pub fn start() {
    times().clear();
    ON.store(true, Ordering::Relaxed);
}

/// Stops, and gives the time of each operation that ran since [`start`].
#[must_use]
pub fn stop() -> BTreeMap<Operation, Duration> {
    ON.store(false, Ordering::Relaxed);
    std::mem::take(&mut times())
}

fn times() -> std::sync::MutexGuard<'static, BTreeMap<Operation, Duration>> {
    // Durations are whole at any moment, whatever a thread that panicked was doing.
    TIMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` as part of `operation`. Not to be nested: the time would count twice.
#[inline]
#[expect(clippy::disallowed_methods, reason = "the clock of the profile, which decides no bit")]
pub(crate) fn timed<R>(operation: Operation, f: impl FnOnce() -> R) -> R {
    if !ON.load(Ordering::Relaxed) {
        return f();
    }
    let start = Instant::now();
    let result = f();
    *times().entry(operation).or_default() += start.elapsed();
    result
}
