//! How large this processor's caches are. Sizes decide how work is cut into blocks, never a bit.

use std::sync::OnceLock;

/// Bytes of the data caches of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caches {
    /// The first and fastest one.
    pub(super) first: usize,
    /// The second one.
    pub(super) second: usize,
}

impl Caches {
    /// What small processors have, and what is taken where nothing better is known.
    pub(super) const SMALL: Self = Self { first: 32 << 10, second: 512 << 10 };

    /// Those of this processor, at least [`Self::SMALL`].
    pub(super) fn here() -> Self {
        static HERE: OnceLock<Caches> = OnceLock::new();
        *HERE.get_or_init(|| {
            let told = told();
            let or_small =
                |level: usize, small: usize| told.get(level).copied().flatten().map_or(small, |size| size.max(small));
            Self { first: or_small(0, Self::SMALL.first), second: or_small(1, Self::SMALL.second) }
        })
    }
}

/// What the processor tells of its data caches of the first and the second level.
///
/// Intel, *Software Developer's Manual*, volume 2A, `CPUID` leaf 4; AMD, *Architecture Programmer's Manual*, volume 3, function
/// `8000_001D`, which has the same form.
#[cfg(target_arch = "x86_64")]
fn told() -> [Option<usize>; 2] {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    const INTEL: u32 = 4;
    const AMD: u32 = 0x8000_001D;
    /// More caches than any processor lists.
    const MOST: u32 = 16;
    /// The answer for "no more caches", in the lowest five bits.
    const NONE: u32 = 0;
    const INSTRUCTIONS: u32 = 2;

    let mut sizes = [None; 2];
    for (leaf, first) in [(INTEL, 0), (AMD, 0x8000_0000)] {
        if __cpuid(first).eax < leaf {
            continue;
        }
        for index in 0..MOST {
            let told = __cpuid_count(leaf, index);
            let (kind, level) = (told.eax & 31, told.eax >> 5 & 7);
            if kind == NONE {
                break;
            }
            let part = |shift: u32, bits: u32| (told.ebx >> shift & ((1 << bits) - 1)) as usize + 1;
            let (ways, partitions, line, sets) = (part(22, 10), part(12, 10), part(0, 12), told.ecx as usize + 1);
            if kind != INSTRUCTIONS
                && let Some(size) = sizes.get_mut((level as usize).wrapping_sub(1))
            {
                *size = Some(ways * partitions * line * sets);
            }
        }
    }
    sizes
}

/// Nothing is asked on other architectures.
#[cfg(not(target_arch = "x86_64"))]
fn told() -> [Option<usize>; 2] {
    [None; 2]
}
