//! Memory that need not be cleared: a thread's own, kept from one product to the next, and results that are written
//! whole. Getting memory anew, or clearing it, costs more than many a product.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::lanes::LINE;

thread_local! {
    static KEPT: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
}

/// Values of any content, given back to the thread at the end. They begin a cache line: a vector that lies across two lines
/// is read as two.
pub(in crate::cpu) struct Scratch {
    memory: Vec<f32>,
    values: Range<usize>,
}

impl Scratch {
    /// Room for `len` values. A task that is interrupted by another one on the same thread leaves it memory of its own.
    pub(in crate::cpu) fn take(len: usize) -> Self {
        let mut kept = KEPT.take();
        let mut memory = kept.pop().unwrap_or_default();
        KEPT.set(kept);
        if memory.len() < len + LINE {
            memory.resize(len + LINE, 0.0);
        }
        let first = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { memory, values: first..first + len }
    }

    pub(in crate::cpu) fn values(&mut self) -> &mut [f32] {
        &mut self.memory[self.values.clone()]
    }

    /// The whole memory as a vector, whose length may be changed.
    pub(in crate::cpu) fn vector(&mut self) -> &mut Vec<f32> {
        self.values = 0..0;
        &mut self.memory
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut kept = KEPT.take();
        kept.push(std::mem::take(&mut self.memory));
        KEPT.set(kept);
    }
}

/// A vector of `len` values, all of which `write` writes.
///
/// # Safety
/// `write` must write every element.
pub(in crate::cpu) unsafe fn written(len: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    write(&mut values.spare_capacity_mut()[..len]);
    // SAFETY: there is room for `len` values, and the caller promises that all were written.
    unsafe { values.set_len(len) };
    values
}
