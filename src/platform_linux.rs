//! Linux.

use super::Waited;
use std::ffi::c_void;
use std::sync::atomic::AtomicU32;

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

unsafe extern "C" {
    fn on_exit(function: extern "C" fn(i32, *mut libc::c_void), argument: *mut libc::c_void) -> i32;
}

/// Has `function` called when the process ends by C's `exit()`, with its status.
pub fn at_exit(function: extern "C" fn(i32)) {
    extern "C" fn call(status: i32, function: *mut libc::c_void) {
        // SAFETY: what was passed on below.
        unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn(i32)>(function)(status) };
    }
    // SAFETY: a function of this library's, which is never unloaded.
    unsafe { on_exit(call, function as *mut libc::c_void) };
}

/// Whether one of CPython's locks, a semaphore here, can be taken.
///
/// # Safety
/// `lock` is one that `PyThread_allocate_lock` made.
pub unsafe fn is_free(lock: *mut c_void) -> bool {
    let mut value = 0;
    // SAFETY: by contract.
    unsafe { libc::sem_getvalue(lock.cast(), &mut value) };
    value > 0
}

/// Copies from an address of this process that may not be readable. Returns how many bytes were, from its beginning.
pub fn read_memory(from: *const u8, into: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: from.cast_mut().cast(), iov_len: into.len() };
    // SAFETY: the kernel checks the remote range, which is never touched by us.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}

/// Waits until somebody calls [`wake_all`] for `word`, which is `value`. A handler that was installed without SA_RESTART
/// ends the wait, as it ends a write.
pub fn wait_for_change(word: &AtomicU32, value: u32, milliseconds: i64) -> Waited {
    let time = libc::timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
    // SAFETY: the word and the time are live; nobody else is woken.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            value,
            &raw const time,
        )
    };
    match errno() {
        libc::EINTR if result < 0 => Waited::Interrupted,
        libc::ETIMEDOUT if result < 0 => Waited::TimedOut,
        _ => Waited::Changed,
    }
}

/// Wakes who waits for a change of `word`.
pub fn wake_all(word: &AtomicU32) {
    // SAFETY: the word is live.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, i32::MAX) };
}

/// Calls `handler` on this thread every so many microseconds, by a signal that no program has. A forked copy has no timer.
///
/// # Safety
/// `handler` may interrupt anything.
pub unsafe fn start_timer(interval_us: u64, handler: extern "C" fn(i32)) {
    static mut TIMER: Option<(libc::pid_t, libc::timer_t)> = None;
    // SAFETY: plain data for which zeros are valid; one thread.
    unsafe {
        let number = libc::SIGRTMAX() - 2;
        let made = match TIMER {
            Some((process, timer)) if process == libc::getpid() => timer,
            _ => {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(number, &action, std::ptr::null_mut());
                let mut event: libc::sigevent = std::mem::zeroed();
                event.sigev_notify = libc::SIGEV_SIGNAL;
                event.sigev_signo = number;
                let mut timer = std::mem::zeroed();
                if libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) != 0 {
                    return;
                }
                TIMER = Some((libc::getpid(), timer));
                timer
            }
        };
        let interval = libc::timespec {
            tv_sec: (interval_us / 1_000_000) as libc::time_t,
            tv_nsec: (interval_us % 1_000_000 * 1000) as libc::c_long,
        };
        let setting = libc::itimerspec { it_interval: interval, it_value: interval };
        libc::timer_settime(made, 0, &setting, std::ptr::null_mut());
    }
}
