//! What the operating system is asked for, and the memory that it maps: all of the crate's unsafe code. What differs
//! between systems is behind the same function names.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod imp;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod imp;

mod cursor;
mod descriptor;
mod map;

pub use cursor::Cursor;
pub(crate) use descriptor::{close, identity, lock, open, random, read_at, truncate};
pub(crate) use imp::{
    allocate, count_threads, own_descriptors, punch_hole, single_threaded, thread_id, wait_for_thread_exit,
};
pub(crate) use map::{Map, Pages, SharedMap};

use std::io;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks this process is away from the one that first watched. Written only in a forked child, before it has
/// a second thread, so Relaxed will do.
static FORK_GENERATION: AtomicU32 = AtomicU32::new(0);

/// A number that differs between a process and the children it forks, by whatever code, from
/// [`watch_forks`] on.
#[inline(always)]
pub(crate) fn fork_generation() -> u32 {
    FORK_GENERATION.load(Ordering::Relaxed)
}

/// Has forks counted.
pub(crate) fn watch_forks() {
    static REGISTERED: Once = Once::new();
    extern "C" fn in_child() {
        FORK_GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler only does what is safe after a fork, and is never unloaded while the process lives: the
    // library is loaded for good.
    REGISTERED.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(in_child));
    });
}

/// Puts back the calling thread's `errno` when dropped: whoever calls into us from C code must not see ours.
pub(crate) struct PreserveErrno(libc::c_int);

impl PreserveErrno {
    pub(crate) fn new() -> Self {
        // SAFETY: the C library returns a valid pointer to the calling thread's errno.
        PreserveErrno(unsafe { *imp::errno() })
    }
}

impl Drop for PreserveErrno {
    fn drop(&mut self) {
        // SAFETY: as above. The guard lives in one frame, so the thread is the same.
        unsafe { *imp::errno() = self.0 };
    }
}

/// Whether the process's file size limit lets a file reach `size`. Exceeding it raises SIGXFSZ, which kills.
pub(crate) fn file_size_permitted(size: u64) -> bool {
    // SAFETY: rlimit is plain numbers, for which zeros are valid.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` is writable.
    if unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } != 0 {
        return true;
    }
    limit.rlim_cur == libc::RLIM_INFINITY || size <= limit.rlim_cur
}

/// Moves a descriptor out of the way of the program, which may look at, close or reuse the low ones: to 900 or above,
/// or as high as the limit permits. Closes the old one.
pub(crate) fn move_high(fd: RawFd) -> io::Result<RawFd> {
    // SAFETY: rlimit is plain numbers, for which zeros are valid.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: `limit` is writable.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    let top = if known { limit.rlim_cur.min(1 << 20) as RawFd } else { 1024 };
    for lowest in [900, top - 32, top - 1] {
        if lowest <= fd || lowest >= top {
            continue;
        }
        // SAFETY: duplicating and closing a descriptor that is ours.
        let high = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest) };
        if high >= 0 {
            // SAFETY: `fd` is ours and no longer used.
            unsafe { libc::close(fd) };
            return Ok(high);
        }
    }
    Ok(fd)
}

/// Runs `spawn` with all signals blocked, so that the thread it starts never takes one of the program's.
pub(crate) fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
    // SAFETY: sigset_t is plain data; sigfillset initialises `all`, pthread_sigmask `old`.
    let (all, mut old) = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        (all, std::mem::zeroed::<libc::sigset_t>())
    };
    // SAFETY: both sets are valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old) };
    let result = spawn();
    // SAFETY: `old` is the mask just saved.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut()) };
    result
}

/// Writes zeros over `[offset, offset + length)`: how space is reserved where the file system has no call for it.
/// Unlike growing the file with `ftruncate`, it cannot shrink what another process has just grown.
fn write_zeros(fd: RawFd, mut offset: u64, length: u64) -> io::Result<()> {
    let zeros = [0u8; 4096];
    let end = offset + length;
    while offset < end {
        let n = zeros.len().min((end - offset) as usize);
        // SAFETY: `zeros` has `n` readable bytes.
        let written = unsafe { libc::pwrite(fd, zeros.as_ptr().cast(), n, offset as libc::off_t) };
        match written {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            n if n > 0 => offset += n as u64,
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Faults in pages for writing one by one, where the kernel has no call for it.
///
/// # Safety
/// `[start, start + length)` is mapped writable.
unsafe fn touch(start: *mut u8, length: usize) {
    for offset in (0..length).step_by(4096) {
        // SAFETY: within the mapping, by the contract. The owner may be writing the same page with plain stores; an
        // atomic OR of nothing faults the page in for writing without changing what is stored, whoever comes first.
        unsafe { std::sync::atomic::AtomicU8::from_ptr(start.add(offset)) }
            .fetch_or(0, std::sync::atomic::Ordering::Relaxed);
    }
}
