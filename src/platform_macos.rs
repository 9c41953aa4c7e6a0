//! macOS. Compiled in CI's cross check only: nobody ran it.

use super::{Cookie, ReadStream, Waited, WriteStream, cookie_close};
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

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

/// What is put into an import table for a function of the table of C calls, where a platform has something of its own. jemalloc
/// asks `mach_absolute_time` here, which is none of those.
pub fn in_place_of(_function: &CStr) -> Option<*mut c_void> {
    None
}

/// This thread's `errno`.
pub fn errno() -> i32 {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__error() }
}

/// Sets this thread's `errno`.
pub fn set_errno(errno: i32) {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__error() = errno };
}

/// Has `function` called when the process ends by C's `exit()`, with a status that nobody knows.
pub fn at_exit(function: extern "C" fn(i32)) {
    static FUNCTION: std::sync::OnceLock<extern "C" fn(i32)> = std::sync::OnceLock::new();
    extern "C" fn call() {
        if let Some(function) = FUNCTION.get() {
            function(-1);
        }
    }
    if FUNCTION.set(function).is_ok() {
        // SAFETY: a function of this library's, which is never unloaded.
        unsafe { libc::atexit(call) };
    }
}

/// Whether one of CPython's locks can be taken. macOS has no unnamed semaphores, so that a lock is CPython's struct of a
/// byte that says it is held, a condition and a mutex (`Python/thread_pthread.h`).
///
/// # Safety
/// `lock` is one that `PyThread_allocate_lock` made.
pub unsafe fn is_free(lock: *mut c_void) -> bool {
    // SAFETY: by contract.
    unsafe { lock.cast::<u8>().read_volatile() == 0 }
}

/// Whether what a `pthread_once_t` stands for is known to have been done: its inside is not ours to know.
///
/// # Safety
/// As on Linux.
pub unsafe fn is_once_done(_: *const c_int) -> bool {
    false
}

/// What the C library calls with a thread's value of that key when the thread ends, which it shows nobody.
pub fn key_destructor(_: libc::pthread_key_t) -> Option<unsafe extern "C" fn(*mut c_void)> {
    None
}

/// There is no `pthread_getattr_np` here.
///
/// # Safety
/// None.
pub unsafe fn set_stack(_: *mut libc::pthread_attr_t, _: usize, _: usize) {}

unsafe extern "C" fn cookie_read(cookie: *mut c_void, into: *mut libc::c_char, size: c_int) -> c_int {
    let cookie = cookie.cast::<Cookie>();
    // SAFETY: called by the C library with what `stream_over` gave it; so below.
    unsafe { ((*cookie).read)((*cookie).fd, into, size as usize) as c_int }
}

unsafe extern "C" fn cookie_write(cookie: *mut c_void, from: *const libc::c_char, size: c_int) -> c_int {
    let cookie = cookie.cast::<Cookie>();
    // SAFETY: as above.
    unsafe { ((*cookie).write)((*cookie).fd, from, size as usize) as c_int }
}

/// A stream that reads or writes a descriptor by these, and does not close it; null where there is no memory.
pub fn stream_over(fd: c_int, reads: bool, read: ReadStream, write: WriteStream) -> *mut libc::FILE {
    type Read = unsafe extern "C" fn(*mut c_void, *mut libc::c_char, c_int) -> c_int;
    type Write = unsafe extern "C" fn(*mut c_void, *const libc::c_char, c_int) -> c_int;
    type Seek = unsafe extern "C" fn(*mut c_void, i64, c_int) -> i64;
    type Close = unsafe extern "C" fn(*mut c_void) -> c_int;
    unsafe extern "C" {
        fn funopen(
            cookie: *mut c_void,
            read: Option<Read>,
            write: Option<Write>,
            seek: Option<Seek>,
            close: Option<Close>,
        ) -> *mut libc::FILE;
    }
    let cookie = Box::into_raw(Box::new(Cookie { fd, read, write })).cast();
    // SAFETY: the cookie is the stream's until it is closed.
    unsafe { funopen(cookie, reads.then_some(cookie_read), (!reads).then_some(cookie_write), None, Some(cookie_close)) }
}

unsafe extern "C" {
    static mach_task_self_: u32;
    fn mach_vm_read_overwrite(task: u32, address: u64, size: u64, data: u64, out_size: *mut u64) -> i32;
}

/// How many bytes an interface's address has.
///
/// # Safety
/// As on Linux.
pub unsafe fn address_size(address: *const libc::sockaddr) -> usize {
    // SAFETY: by contract.
    unsafe { address.as_ref() }.map_or(0, |address| address.sa_len.into())
}

/// How many bytes an interface's data has.
///
/// # Safety
/// As on Linux.
pub unsafe fn data_size(interface: &libc::ifaddrs) -> usize {
    // SAFETY: by contract.
    let family = unsafe { interface.ifa_addr.as_ref() }.map(|address| c_int::from(address.sa_family));
    if interface.ifa_data.is_null() || family != Some(libc::AF_LINK) { 0 } else { size_of::<libc::if_data>() }
}

/// As on Linux.
pub fn other_address(interface: &libc::ifaddrs) -> *mut libc::sockaddr {
    interface.ifa_dstaddr
}

/// As on Linux.
pub fn set_other_address(interface: &mut libc::ifaddrs, address: *mut libc::sockaddr) {
    interface.ifa_dstaddr = address;
}

/// Where an `ioctl` writes: every request says how much in its number (`sys/ioccom.h`).
///
/// # Safety
/// As on Linux.
pub unsafe fn written_by_ioctl(request: libc::c_ulong, argument: usize) -> Vec<(usize, usize)> {
    const WRITES: libc::c_ulong = 0x4000_0000;
    if request & WRITES == 0 { Vec::new() } else { vec![(argument, (request >> 16 & 0x1fff) as usize)] }
}

/// Copies from an address of this process that may not be readable. Returns how many bytes were: all or none.
pub fn read_memory(from: *const u8, into: &mut [u8]) -> usize {
    let mut size = 0;
    // SAFETY: the kernel checks the source range; the destination is ours and as long as said.
    let status = unsafe {
        mach_vm_read_overwrite(mach_task_self_, from as u64, into.len() as u64, into.as_mut_ptr() as u64, &mut size)
    };
    if status == 0 { size as usize } else { 0 }
}

/// Where a file has no holes: not asked for here.
pub fn data_ranges(_descriptor: c_int, _from: i64, _size: usize) -> Option<Vec<(usize, usize)>> {
    None
}

/// Waits until `word` is no longer `value`. Looks again and again: what would wake one is documented from macOS 14.4 only.
pub fn wait_for_change(word: &AtomicU32, value: u32, microseconds: i64) -> Waited {
    let until = Instant::now() + Duration::from_micros(microseconds.max(0) as u64);
    while word.load(Ordering::Acquire) == value {
        if Instant::now() >= until {
            return Waited::TimedOut;
        }
        // SAFETY: a system call.
        if unsafe { libc::usleep(200) } != 0 {
            return Waited::Interrupted;
        }
    }
    Waited::Changed
}

/// Nobody waits to be woken.
pub fn wake_all(_word: &AtomicU32) {}

/// Likewise.
pub fn wake(_word: &AtomicU32, _count: i32) {}

/// The counter can't be watched here.
///
/// # Safety
/// None.
pub unsafe fn answer_time_stamps(_read: extern "C" fn() -> u64) {}

/// There is nothing to be without.
pub fn without_time_stamps<T>(run: impl FnOnce() -> T) -> T {
    run()
}

/// The system's number of the calling thread: nobody asks (`crate::libraries::threads_take_turns`).
pub fn thread_id() -> i32 {
    0
}

/// As above.
pub fn thread_cpu_us(_tid: i32) -> u64 {
    0
}

/// As above.
pub fn is_thread_asleep(_tid: i32) -> bool {
    false
}

/// As above.
pub fn other_threads_run(_than: &[i32]) -> bool {
    false
}

/// Calls `handler` on this thread every so many microseconds. A forked copy has no timer.
///
/// # Safety
/// `handler` may interrupt anything.
pub unsafe fn start_timer(interval_us: u64, handler: extern "C" fn(i32)) {
    // SAFETY: plain data for which zeros are valid; one thread.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        let interval = libc::timeval {
            tv_sec: (interval_us / 1_000_000) as libc::time_t,
            tv_usec: (interval_us % 1_000_000) as libc::suseconds_t,
        };
        let setting = libc::itimerval { it_interval: interval, it_value: interval };
        libc::setitimer(libc::ITIMER_REAL, &setting, std::ptr::null_mut());
    }
}

/// Calls `handler` on this thread once, after so many microseconds. False where that can't be: the one timer is taken.
///
/// # Safety
/// As [`start_timer`].
pub unsafe fn wake_after(_us: u64, _handler: extern "C" fn(i32)) -> bool {
    false
}

unsafe extern "C" {
    fn sandbox_init(profile: *const std::ffi::c_char, flags: u64, error: *mut *mut std::ffi::c_char) -> i32;
}

/// From now on this process writes no file: what the system's named profiles can do beside what hooks do.
///
/// # Safety
/// In a copy that is thrown away; this thread is the only one.
pub unsafe fn confine() -> bool {
    const NAMED: u64 = 1;
    let mut error = std::ptr::null_mut();
    // SAFETY: a C string, and room for a message.
    unsafe { sandbox_init(c"no-write".as_ptr(), NAMED, &mut error) == 0 }
}

/// What was refused since this was last asked: the system does not say.
pub fn refused_call() -> Option<String> {
    None
}

/// Called in the timer's handler: from here on the timer interrupts it, too.
pub fn let_timer_interrupt() {
    // SAFETY: plain data for which zeros are valid; this thread's mask.
    unsafe {
        let mut timer: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut timer);
        libc::sigaddset(&mut timer, libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &timer, std::ptr::null_mut());
    }
}

/// This process ends with the one that started it: what a terminal sends reaches both.
pub fn end_with_parent() {}
