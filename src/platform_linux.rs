//! Linux.

/// A descriptor of a new file without a name, or -1 with `errno`.
///
/// # Safety
/// None: a system call.
pub unsafe fn anonymous_file() -> i32 {
    // SAFETY: a C string and flags.
    unsafe { libc::memfd_create(c"retrace".as_ptr(), libc::MFD_CLOEXEC) }
}

/// This thread's `errno`.
pub fn errno() -> i32 {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() }
}
