//! macOS.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU8;

/// The calling thread's errno.
pub(super) fn errno() -> *mut libc::c_int {
    // SAFETY: always succeeds.
    unsafe { libc::__error() }
}

/// Reserves disk space for `[offset, offset + length)` and grows the file to cover it.
///
/// `F_PREALLOCATE` reserves space beyond the end of the file only and does not grow it; `ftruncate` could shrink what
/// another process has just grown. Zeros do both, and other processes only ever write other extents.
pub(crate) fn allocate(fd: RawFd, offset: u64, length: u64) -> io::Result<()> {
    let mut store = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: length as libc::off_t,
        fst_bytesalloc: 0,
    };
    // SAFETY: `store` is valid for the call. A failure is no matter: the zeros then find out.
    unsafe { libc::fcntl(fd, libc::F_PREALLOCATE, &mut store) };
    super::write_zeros(fd, offset, length)
}

/// Gives back the disk space of `[offset, offset + length)` without changing the file's length. Best effort.
pub(crate) fn punch_hole(fd: RawFd, offset: u64, length: u64) {
    let mut hole = libc::fpunchhole_t {
        fp_flags: 0,
        reserved: 0,
        fp_offset: offset as libc::off_t,
        fp_length: length as libc::off_t,
    };
    // SAFETY: `hole` is valid for the call.
    unsafe { libc::fcntl(fd, libc::F_PUNCHHOLE, &mut hole) };
}

/// Faults in pages for writing.
///
/// # Safety
/// `[start, start + length)` is mapped writable, and page-aligned.
pub(crate) unsafe fn populate(start: *mut u8, length: usize) {
    // SAFETY: the caller's contract.
    unsafe { super::touch(start, length) };
}

/// macOS threads cannot have descriptors of their own.
pub(crate) fn own_descriptors(_keep: RawFd) -> bool {
    false
}

/// The calling thread; not needed here.
pub(crate) fn thread_id() -> i32 {
    0
}

/// The C library has no such flag.
pub(crate) fn single_threaded() -> Option<&'static AtomicU8> {
    None
}

/// Only asked where there is a flag.
pub(crate) fn count_threads() -> Option<u64> {
    None
}

/// `pthread_join` suffices: nothing on macOS counts threads by `/proc`.
pub(crate) fn wait_for_thread_exit(_thread: i32) {}
