//! Memory that a thread keeps from one product to the next: getting it anew costs more than many a product.

use std::cell::Cell;

thread_local! {
    static KEPT: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
}

/// Values of any content, given back to the thread at the end.
pub(super) struct Scratch {
    memory: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// Room for `len` values. A task that is interrupted by another one on the same thread leaves it memory of its own.
    pub(super) fn take(len: usize) -> Self {
        let mut kept = KEPT.take();
        let mut memory = kept.pop().unwrap_or_default();
        KEPT.set(kept);
        if memory.len() < len {
            memory.resize(len, 0.0);
        }
        Self { memory, len }
    }

    pub(super) fn values(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut kept = KEPT.take();
        kept.push(std::mem::take(&mut self.memory));
        KEPT.set(kept);
    }
}
