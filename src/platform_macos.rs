//! macOS. Compiled in CI's cross check only: nobody ran it.

/// A descriptor of a new file without a name, or -1 with `errno`.
///
/// # Safety
/// None: system calls.
pub unsafe fn anonymous_file() -> i32 {
    let mut path = *b"/tmp/retrace.XXXXXX\0";
    // SAFETY: a writable, zero-terminated template.
    unsafe {
        let fd = libc::mkstemp(path.as_mut_ptr().cast());
        if fd >= 0 {
            libc::unlink(path.as_ptr().cast());
        }
        fd
    }
}

/// This thread's `errno`.
pub fn errno() -> i32 {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__error() }
}
