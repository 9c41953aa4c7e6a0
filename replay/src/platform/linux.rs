//! Linux.

use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU8;
use std::time::{Duration, Instant};

/// The calling thread's errno.
pub(super) fn errno() -> *mut libc::c_int {
    // SAFETY: always succeeds.
    unsafe { libc::__errno_location() }
}

/// Reserves disk space for `[offset, offset + length)` and grows the file to cover it, so that writing through a
/// mapping cannot run into a full disk (that would be SIGBUS).
pub(crate) fn allocate(fd: RawFd, offset: u64, length: u64) -> io::Result<()> {
    // The system call and not posix_fallocate: glibc's fallback reads and writes a byte per block, which is slower
    // than our zeros, and musl has no fallback.
    loop {
        // SAFETY: a system call on a descriptor.
        if unsafe { libc::fallocate(fd, 0, offset as libc::off_t, length as libc::off_t) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => return super::write_zeros(fd, offset, length),
            _ => return Err(error),
        }
    }
}

/// Gives back the disk space of `[offset, offset + length)` without changing the file's length. Best effort.
pub(crate) fn punch_hole(fd: RawFd, offset: u64, length: u64) {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: a system call on a descriptor.
    unsafe { libc::fallocate(fd, mode, offset as libc::off_t, length as libc::off_t) };
}

/// Faults in pages for writing. Best effort: a page that is not populated costs its first writer a fault.
///
/// # Safety
/// `[start, start + length)` is mapped writable, and page-aligned.
pub(crate) unsafe fn populate(start: *mut u8, length: usize) {
    // SAFETY: the range is mapped, by the contract; populating does not change its contents.
    let result = unsafe { libc::madvise(start.cast(), length, libc::MADV_POPULATE_WRITE) };
    // Before 5.14 the kernel does not know the advice.
    if result != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // SAFETY: as above.
        unsafe { super::touch(start, length) };
    }
}

/// Gives the calling thread a table of descriptors of its own, with nothing but `keep` in it. Returns whether that
/// worked. Files the thread opens then take no number that the program could have got, and what the program closes
/// is closed.
pub(crate) fn own_descriptors(keep: RawFd) -> bool {
    const CLOSE_RANGE_UNSHARE: libc::c_uint = 2;
    let Ok(keep) = libc::c_uint::try_from(keep) else {
        return false;
    };
    if keep == 0 {
        return false;
    }
    // SAFETY: system calls on this thread's descriptors. The first call unshares before it closes, or fails having
    // done neither; from then on the table is private.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, keep - 1, CLOSE_RANGE_UNSHARE) == 0
            && libc::syscall(libc::SYS_close_range, keep + 1, libc::c_uint::MAX, 0) == 0
    }
}

/// The kernel's number of the calling thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: always succeeds.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// The C library's flag for a process with one thread, by which it and others leave out atomic operations: 1 where that
/// is so. `pthread_create` puts it down. `None` where the C library has none.
pub(crate) fn single_threaded() -> Option<&'static AtomicU8> {
    static FLAG: OnceLock<Option<&'static AtomicU8>> = OnceLock::new();
    *FLAG.get_or_init(|| {
        // SAFETY: looks a name up; the variable is a `char` of the C library's, which is never unloaded.
        unsafe {
            let flag = libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()).cast::<u8>();
            (!flag.is_null()).then(|| AtomicU8::from_ptr(flag))
        }
    })
}

/// A number that is greater by one for each thread the process has, those included that the C library does not know of.
pub(crate) fn count_threads() -> Option<u64> {
    std::fs::metadata("/proc/self/task").ok().map(|folder| std::os::unix::fs::MetadataExt::nlink(&folder))
}

/// Waits until the kernel has forgotten a thread that was joined. A thread counts in `/proc/self/stat` for a moment
/// after `pthread_join` returned, and CPython 3.12's `os.fork` warns by that count (`warn_about_fork_with_threads`
/// in `Modules/posixmodule.c`). Bounded: a warning is better than a hang.
pub(crate) fn wait_for_thread_exit(thread: i32) {
    let deadline = Instant::now() + Duration::from_millis(20);
    // SAFETY: signal 0 only asks whether the thread exists.
    while unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) } == 0 {
        if Instant::now() > deadline {
            return;
        }
        std::thread::yield_now();
    }
}
