//! Linux.

#[path = "confine_linux.rs"]
mod confine;

use super::{Cookie, ReadStream, Waited, WriteStream, cookie_close};
pub use confine::{confine, refused_call};
use std::ffi::{CStr, c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// A descriptor of a new file without a name, or -1 with `errno`.
///
/// # Safety
/// None: a system call.
pub unsafe fn anonymous_file() -> i32 {
    // SAFETY: a C string and flags.
    unsafe { libc::memfd_create(c"retrace".as_ptr(), libc::MFD_CLOEXEC) }
}

/// What is put into an import table for a function of the table of C calls, where a platform has something of its own.
pub fn in_place_of(function: &CStr) -> Option<*mut c_void> {
    crate::allocators::in_place_of(function)
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

/// Whether what a `pthread_once_t` stands for has been done. The bit that says so is the same in glibc (`nptl/pthreadP.h`) and
/// musl (`src/thread/pthread_once.c`).
///
/// # Safety
/// `control` is a `pthread_once_t`.
pub unsafe fn is_once_done(control: *const c_int) -> bool {
    const DONE: c_int = 2;
    // SAFETY: by contract. Acquire pairs with the release of who did it.
    unsafe { AtomicI32::from_ptr(control.cast_mut()).load(Ordering::Acquire) & DONE != 0 }
}

/// What the C library calls with a thread's value of that key when the thread ends: glibc's table (`nptl/pthreadP.h`), which
/// it shows debuggers. Other libraries' nobody can see.
pub fn key_destructor(key: libc::pthread_key_t) -> Option<unsafe extern "C" fn(*mut c_void)> {
    #[repr(C)]
    struct Key {
        _sequence: usize,
        destructor: Option<unsafe extern "C" fn(*mut c_void)>,
    }
    const KEYS: usize = 1024;
    // SAFETY: the table has an entry for each key, of the size that the other symbol says.
    unsafe {
        let symbol = |name: &std::ffi::CStr| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let keys = symbol(c"__pthread_keys").cast::<Key>();
        let size = symbol(c"_thread_db_sizeof_pthread_key_struct").cast::<u32>();
        let is_known = !keys.is_null() && !size.is_null() && *size as usize == size_of::<Key>();
        (is_known && (key as usize) < KEYS).then(|| (*keys.add(key as usize)).destructor).flatten()
    }
}

/// Says where a thread's stack is, in what `pthread_getattr_np` has filled.
///
/// # Safety
/// `into` are a thread's attributes.
pub unsafe fn set_stack(into: *mut libc::pthread_attr_t, lowest: usize, size: usize) {
    // SAFETY: by contract.
    unsafe { libc::pthread_attr_setstack(into, lowest as *mut c_void, size) };
}

/// `cookie_io_functions_t`.
#[repr(C)]
struct CookieFunctions {
    read: unsafe extern "C" fn(*mut c_void, *mut libc::c_char, usize) -> isize,
    write: unsafe extern "C" fn(*mut c_void, *const libc::c_char, usize) -> isize,
    seek: Option<unsafe extern "C" fn(*mut c_void, *mut i64, c_int) -> c_int>,
    close: unsafe extern "C" fn(*mut c_void) -> c_int,
}

unsafe extern "C" fn cookie_read(cookie: *mut c_void, into: *mut libc::c_char, size: usize) -> isize {
    let cookie = cookie.cast::<Cookie>();
    // SAFETY: called by the C library with what `stream_over` gave it; so below.
    unsafe { ((*cookie).read)((*cookie).fd, into, size) }
}

unsafe extern "C" fn cookie_write(cookie: *mut c_void, from: *const libc::c_char, size: usize) -> isize {
    let cookie = cookie.cast::<Cookie>();
    // SAFETY: as above. It wants 0 for an error.
    unsafe { ((*cookie).write)((*cookie).fd, from, size) }.max(0)
}

/// A stream that reads or writes a descriptor by these, and does not close it; null where there is no memory.
pub fn stream_over(fd: c_int, reads: bool, read: ReadStream, write: WriteStream) -> *mut libc::FILE {
    unsafe extern "C" {
        fn fopencookie(cookie: *mut c_void, mode: *const libc::c_char, functions: CookieFunctions) -> *mut libc::FILE;
    }
    let mode = if reads { c"r" } else { c"w" };
    let functions = CookieFunctions { read: cookie_read, write: cookie_write, seek: None, close: cookie_close };
    // SAFETY: the cookie is the stream's until it is closed.
    unsafe { fopencookie(Box::into_raw(Box::new(Cookie { fd, read, write })).cast(), mode.as_ptr(), functions) }
}

/// How many bytes an interface's address has.
///
/// # Safety
/// `address` is null, or one that `getifaddrs` gave.
pub unsafe fn address_size(address: *const libc::sockaddr) -> usize {
    // SAFETY: by contract.
    match unsafe { address.as_ref() }.map(|address| c_int::from(address.sa_family)) {
        Some(libc::AF_INET) => size_of::<libc::sockaddr_in>(),
        Some(libc::AF_INET6) => size_of::<libc::sockaddr_in6>(),
        Some(libc::AF_PACKET) => size_of::<libc::sockaddr_ll>(),
        Some(_) => size_of::<libc::sockaddr>(),
        None => 0,
    }
}

/// How many bytes an interface's data has: `struct rtnl_link_stats` (linux/if_link.h), without what later kernels added.
///
/// # Safety
/// `getifaddrs` made the entry.
pub unsafe fn data_size(interface: &libc::ifaddrs) -> usize {
    // SAFETY: by contract.
    let family = unsafe { interface.ifa_addr.as_ref() }.map(|address| c_int::from(address.sa_family));
    if interface.ifa_data.is_null() || family != Some(libc::AF_PACKET) { 0 } else { 23 * size_of::<u32>() }
}

/// The address for all, or of who is at the other end.
pub fn other_address(interface: &libc::ifaddrs) -> *mut libc::sockaddr {
    interface.ifa_ifu
}

/// See [`other_address`].
pub fn set_other_address(interface: &mut libc::ifaddrs, address: *mut libc::sockaddr) {
    interface.ifa_ifu = address;
}

/// Where an `ioctl` writes: addresses and numbers of bytes. Newer requests say how much in their number
/// (`asm-generic/ioctl.h`); those of terminals and sockets don't.
///
/// # Safety
/// `argument` is what the request wants: an address where it writes.
pub unsafe fn written_by_ioctl(request: libc::c_ulong, argument: usize) -> Vec<(usize, usize)> {
    /// `ETHTOOL_GSET` of linux/ethtool.h, and its `struct ethtool_cmd`.
    const GET_SETTINGS: (u32, usize) = (1, 44);
    const READS: libc::c_ulong = 2;
    // SAFETY: by contract, of the struct that the request is for.
    unsafe {
        match request {
            libc::FIONREAD | libc::TIOCOUTQ | libc::TIOCGPGRP | libc::TIOCGSID => vec![(argument, size_of::<c_int>())],
            libc::TIOCGWINSZ => vec![(argument, size_of::<libc::winsize>())],
            // What the kernel calls termios has fewer characters than the C library's.
            libc::TCGETS => vec![(argument, 4 * 4 + 1 + 19)],
            libc::SIOCGIFCONF => {
                let list = &*(argument as *const libc::ifconf);
                vec![(argument, size_of::<c_int>()), (list.ifc_ifcu.ifcu_buf as usize, list.ifc_len as usize)]
            }
            libc::SIOCETHTOOL => {
                let asked = (*(argument as *const libc::ifreq)).ifr_ifru.ifru_data as usize;
                let is_known = asked != 0 && *(asked as *const u32) == GET_SETTINGS.0;
                if is_known { vec![(asked, GET_SETTINGS.1)] } else { Vec::new() }
            }
            // The owner, and whether there is urgent data.
            0x8903..=0x8905 => vec![(argument, size_of::<c_int>())],
            // What there is to know of an interface, without what is behind an address of the caller's.
            0x8910..=0x8945 | 0x8947..=0x8949 | 0x8970 => vec![(argument, size_of::<libc::ifreq>())],
            _ if request >> 30 & READS != 0 => vec![(argument, (request >> 16 & 0x3fff) as usize)],
            _ => Vec::new(),
        }
    }
}

/// Copies from an address of this process that may not be readable. Returns how many bytes were, from its beginning.
pub fn read_memory(from: *const u8, into: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: from.cast_mut().cast(), iov_len: into.len() };
    // SAFETY: the kernel checks the remote range, which is never touched by us.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}

/// Where a file has no holes, in `size` bytes from `from` on: offsets from there and sizes. None where that can't be told.
///
/// Asked of the file system by the descriptor itself (ioctl_fiemap of the kernel's documentation). SEEK_DATA would move the
/// file's position, and opening the file anew to move another's would end the process's locks of it (fcntl(2)): closing any
/// descriptor of a file does.
pub fn data_ranges(descriptor: c_int, from: i64, size: usize) -> Option<Vec<(usize, usize)>> {
    const ASK: libc::c_ulong = 0xc020_660b;
    const LAST: u32 = 1;
    #[repr(C)]
    struct Extent {
        at: u64,
        on_disk: u64,
        size: u64,
        reserved: [u64; 2],
        flags: u32,
        more_reserved: [u32; 3],
    }
    #[repr(C)]
    struct Question {
        from: u64,
        size: u64,
        flags: u32,
        answered: u32,
        room: u32,
        reserved: u32,
        extents: [Extent; 64],
    }
    if is_empty_memory(descriptor) {
        return Some(Vec::new());
    }
    let start = u64::try_from(from).ok()?;
    let end = start.checked_add(size as u64)?;
    let mut ranges = Vec::new();
    let mut at = start;
    while at < end {
        // SAFETY: numbers only, for which zero is a value.
        let mut asked: Question = unsafe { std::mem::zeroed() };
        (asked.from, asked.size, asked.room) = (at, end - at, asked.extents.len() as u32);
        // SAFETY: the kernel writes into what it is told to have room for.
        if unsafe { libc::ioctl(descriptor, ASK, &raw mut asked) } < 0 {
            return None;
        }
        let extents = asked.extents.get(..asked.answered as usize)?;
        for extent in extents {
            let (first, behind) = (extent.at.max(start), extent.at.saturating_add(extent.size).min(end));
            if first < behind {
                ranges.push(((first - start) as usize, (behind - first) as usize));
            }
        }
        let Some(last) = extents.last().filter(|last| last.flags & LAST == 0) else { break };
        at = last.at.checked_add(last.size).filter(|&behind| behind > at)?;
    }
    Some(ranges)
}

/// Whether a descriptor leads to a file in memory of which no page is there. Other file systems' counts of blocks may say
/// less than there is.
fn is_empty_memory(descriptor: c_int) -> bool {
    let mut system = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `system` is writable, and filled where the call succeeds.
    let in_memory = unsafe {
        libc::fstatfs(descriptor, system.as_mut_ptr()) == 0 && system.assume_init().f_type == libc::TMPFS_MAGIC
    };
    in_memory && super::regular_file(descriptor).is_some_and(|status| status.st_blocks == 0)
}

/// Waits until somebody calls [`wake_all`] for `word`, which is `value`. A handler that was installed without SA_RESTART
/// ends the wait, as it ends a write.
pub fn wait_for_change(word: &AtomicU32, value: u32, microseconds: i64) -> Waited {
    let time = libc::timespec { tv_sec: microseconds / 1_000_000, tv_nsec: microseconds % 1_000_000 * 1000 };
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
    wake(word, i32::MAX);
}

/// Wakes up to so many of those who wait for a change of `word`, who has waited longest first.
pub fn wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word is live.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, count) };
}

#[cfg(target_arch = "x86_64")]
mod time_stamps {
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::{AtomicUsize, Ordering};

    static READ: AtomicUsize = AtomicUsize::new(0);
    /// The kernel's own code in this process, which reads the clock for it.
    static KERNELS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    /// No more than it has.
    const KERNELS_SIZE: usize = 2 << 12;

    const PR_SET_TSC: c_int = 26;
    const ENABLE: c_int = 1;
    const SIGSEGV: c_int = 2;
    /// `si_code` of a signal that an instruction which is not permitted raises.
    const SI_KERNEL: c_int = 0x80;

    /// # Safety
    /// As `answer_time_stamps`.
    pub unsafe fn answer(read: extern "C" fn() -> u64) {
        READ.store(read as usize, Ordering::Relaxed);
        // SAFETY: plain data for which zeros are valid; the handler passes on what is not for it.
        unsafe {
            let start = libc::getauxval(libc::AT_SYSINFO_EHDR) as usize;
            KERNELS[0].store(start, Ordering::Relaxed);
            KERNELS[1].store(start + KERNELS_SIZE, Ordering::Relaxed);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = trapped as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
            libc::prctl(PR_SET_TSC, SIGSEGV);
        }
    }

    /// Whether this is the thread that replays, and not one that a library made for itself.
    fn is_ours() -> bool {
        // SAFETY: two system calls.
        unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) }
    }

    /// As `without_time_stamps`.
    pub fn without<T>(run: impl FnOnce() -> T) -> T {
        if READ.load(Ordering::Relaxed) == 0 || !is_ours() {
            return run();
        }
        // SAFETY: what a thread may do with the counter.
        unsafe {
            libc::prctl(PR_SET_TSC, ENABLE);
            let result = run();
            libc::prctl(PR_SET_TSC, SIGSEGV);
            result
        }
    }

    unsafe extern "C" fn trapped(number: c_int, about: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: called by the kernel for an instruction of the calling thread's.
        unsafe {
            let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            let at = registers[libc::REG_RIP as usize] as usize;
            let is_kind = (*about).si_code == SI_KERNEL && at != 0;
            let size = match is_kind.then(|| (at as *const [u8; 3]).read_unaligned()) {
                Some([0x0f, 0x31, _]) => 2,
                Some([0x0f, 0x01, 0xf9]) => 3,
                _ => {
                    // It comes again, to whom it is for.
                    libc::signal(number, libc::SIG_DFL);
                    return;
                }
            };
            if !is_ours() {
                // Whoever made it was not asked. It reads the counter itself.
                libc::prctl(PR_SET_TSC, ENABLE);
                return;
            }
            let kernels = KERNELS[0].load(Ordering::Relaxed)..KERNELS[1].load(Ordering::Relaxed);
            let value = if kernels.contains(&at) {
                without(|| std::arch::x86_64::_rdtsc())
            } else {
                std::mem::transmute::<usize, extern "C" fn() -> u64>(READ.load(Ordering::Relaxed))()
            };
            registers[libc::REG_RAX as usize] = (value & 0xffff_ffff) as i64;
            registers[libc::REG_RDX as usize] = (value >> 32) as i64;
            if size == 3 {
                registers[libc::REG_RCX as usize] = 0;
            }
            registers[libc::REG_RIP as usize] = (at + size) as i64;
        }
    }
}

/// Has `read` called where code of this thread, but the kernel's own, reads the processor's time stamp counter.
///
/// # Safety
/// The process has no other use for SIGSEGV.
pub unsafe fn answer_time_stamps(read: extern "C" fn() -> u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: by contract.
    unsafe {
        time_stamps::answer(read);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = read;
}

/// Runs what may make threads that are none of the replay's: they read the counter itself. Some block all signals, and would end
/// the process by the first look at it.
pub fn without_time_stamps<T>(run: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    return time_stamps::without(run);
    #[cfg(not(target_arch = "x86_64"))]
    run()
}

/// The system's number of the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: a system call.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// The CPU time of a thread of this process, in microseconds.
pub fn thread_cpu_us(tid: i32) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; the clock is that of the thread (CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED in Linux).
    unsafe { libc::clock_gettime((!tid << 3) | 6, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Whether a thread of this process waits for something, or is gone.
pub fn is_thread_asleep(tid: i32) -> bool {
    thread_state(Path::new(&format!("/proc/self/task/{tid}"))).is_none_or(|state| state == b'S')
}

/// Whether a thread of this process other than those runs, is ready to, or waits for a disk.
pub fn other_threads_run(than: &[i32]) -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return false };
    threads.flatten().any(|thread| {
        let tid = thread.file_name().to_str().and_then(|name| name.parse().ok());
        tid.is_some_and(|tid| !than.contains(&tid)) && matches!(thread_state(&thread.path()), Some(b'R' | b'D'))
    })
}

/// The letter by which proc(5) has a thread's state.
fn thread_state(folder: &Path) -> Option<u8> {
    let state = std::fs::read(folder.join("stat")).ok()?;
    // Behind the name, which is in parentheses and may have any character.
    let end = state.iter().rposition(|&byte| byte == b')')?;
    state.get(end + 2).copied()
}

fn timer_signal() -> c_int {
    libc::SIGRTMAX() - 2
}

/// Calls `handler` on this thread every so many microseconds, by a signal that no program has. A forked copy has no timer.
///
/// # Safety
/// `handler` may interrupt anything.
pub unsafe fn start_timer(interval_us: u64, handler: extern "C" fn(i32)) {
    static mut TIMER: Timer = None;
    // SAFETY: by contract; one thread.
    unsafe { set_timer(&raw mut TIMER, timer_signal(), interval_us, interval_us, handler) };
}

/// Calls `handler` on this thread once, after so many microseconds. False where that can't be.
///
/// # Safety
/// As [`start_timer`].
pub unsafe fn wake_after(us: u64, handler: extern "C" fn(i32)) -> bool {
    static mut TIMER: Timer = None;
    // SAFETY: by contract; one thread.
    unsafe { set_timer(&raw mut TIMER, libc::SIGRTMAX() - 3, us.max(1), 0, handler) }
}

/// One that was made, and by which process.
type Timer = Option<(libc::pid_t, libc::timer_t)>;

unsafe fn set_timer(timer: *mut Timer, signal: i32, first: u64, interval: u64, handler: extern "C" fn(i32)) -> bool {
    // SAFETY: plain data for which zeros are valid.
    unsafe {
        let made = match *timer {
            Some((process, timer)) if process == libc::getpid() => timer,
            _ => {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(signal, &action, std::ptr::null_mut());
                let mut event: libc::sigevent = std::mem::zeroed();
                event.sigev_notify = libc::SIGEV_SIGNAL;
                event.sigev_signo = signal;
                let mut made = std::mem::zeroed();
                if libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut made) != 0 {
                    return false;
                }
                *timer = Some((libc::getpid(), made));
                made
            }
        };
        let time = |us: u64| libc::timespec {
            tv_sec: (us / 1_000_000) as libc::time_t,
            tv_nsec: (us % 1_000_000 * 1000) as libc::c_long,
        };
        let setting = libc::itimerspec { it_interval: time(interval), it_value: time(first) };
        libc::timer_settime(made, 0, &setting, std::ptr::null_mut()) == 0
    }
}

/// Called in the timer's handler: from here on the timer interrupts it, too.
pub fn let_timer_interrupt() {
    // SAFETY: plain data for which zeros are valid; this thread's mask.
    unsafe {
        let mut timer: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut timer);
        libc::sigaddset(&mut timer, timer_signal());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &timer, std::ptr::null_mut());
    }
}

/// This process ends with the one that started it, however that ends.
pub fn end_with_parent() {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}
