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
        // The smallest that is large enough, or else the largest: so one large use makes one memory large, not each in turn.
        let needed = len + LINE;
        let best = (0..kept.len()).min_by_key(|n| match kept[*n].len() {
            size if size >= needed => (false, size),
            size => (true, usize::MAX - size),
        });
        let mut memory = best.map(|n| kept.swap_remove(n)).unwrap_or_default();
        KEPT.set(kept);
        if memory.len() < needed {
            memory.resize(needed, 0.0);
        }
        let first = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { memory, values: first..first + len }
    }

    pub(in crate::cpu) fn values(&mut self) -> &mut [f32] {
        &mut self.memory[self.values.clone()]
    }

    /// The same, for results that are written before they are read.
    pub(in crate::cpu) fn unwritten(&mut self) -> &mut [MaybeUninit<f32>] {
        let values = self.values();
        // SAFETY: the two types have the same layout, and results are written with values, never with memory without one.
        unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>]) }
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
