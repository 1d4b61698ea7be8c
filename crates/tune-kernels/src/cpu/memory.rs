//! How the process treats memory that was freed.

/// Tells the C library to keep freed memory for the next tensor instead of giving it back to the system, which would
/// hand it out again cleared: every step allocates tensors of the same sizes, and clearing took a tenth of its time. Does
/// nothing where the C library is not glibc. To be called once, before threads start.
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
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, 1 << 26);
        }
    }
}
