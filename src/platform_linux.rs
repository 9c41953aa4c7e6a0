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

/// Sets this thread's `errno`.
pub fn set_errno(errno: i32) {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() = errno };
}

/// Copies from an address of this process that may not be readable. Returns how many bytes were, from its beginning.
pub fn read_memory(from: *const u8, into: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: from.cast_mut().cast(), iov_len: into.len() };
    // SAFETY: the kernel checks the remote range, which is never touched by us.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}
