//! How the process treats memory that was freed.

/// Tells the C library to keep freed memory for the next tensor instead of giving it back to the system, which would
/// hand it out again cleared: every step allocates tensors of the same sizes, and clearing took a tenth of its time. Asks the
/// system for large pages as well: a step walks through more memory than the processor has translations of small pages
/// for. Does nothing where the C library is not glibc. To be called once, before threads start.
#[expect(unsafe_code, reason = "the C library's own settings")]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes any two numbers and refuses those it does not know.
        unsafe {
            // One arena, which grows at its end and so can hold tensors of any size.
            libc::mallopt(libc::M_ARENA_MAX, 1);
            // No tensor with a mapping of its own, which is undone when it is freed.
            libc::mallopt(libc::M_MMAP_MAX, 0);
            // Never.
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
            libc::mallopt(libc::M_TOP_PAD, 1 << 26);
        }
        ask_for_large_pages();
    }
}

/// Lets the arena grow, once, to as much as the machine has, and tells the system that large pages are welcome there. Only
/// addresses are taken: memory is, as ever, what is written to. The C library can do the same as it grows, but only
/// where a variable of the environment (`glibc.malloc.hugetlb`) told it so before the process began.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the arena's addresses are known to the C library alone")]
fn ask_for_large_pages() {
    // Less than this is not worth the asking.
    const LEAST: usize = 1 << 28;
    // SAFETY: asks for two numbers.
    let [pages, page] = unsafe { [libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)] };
    let [Ok(pages), Ok(page)] = [pages, page].map(usize::try_from) else { return };
    let mut size = pages.saturating_mul(page);
    while size >= LEAST {
        // SAFETY: the memory is given back at once. The advice is about whole pages within it, changes no content, and
        // stays with the addresses, which the arena keeps.
        unsafe {
            let start = libc::malloc(size);
            if !start.is_null() {
                let first = start.map_addr(|address| address.next_multiple_of(page));
                let len = (size - (first.addr() - start.addr())) / page * page;
                libc::madvise(first, len, libc::MADV_HUGEPAGE);
                libc::free(start);
                return;
            }
        }
        // Limits, or a system that promises no more than it has.
        size /= 2;
    }
}
