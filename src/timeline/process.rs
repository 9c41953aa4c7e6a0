//! The processes of a timeline: how they are made, and how they end.
//!
//! Each has a socket to the debugger, and a timer that looks whether the other end is still there: then nothing is left
//! of a session, however it ended. Signals of children that end stay blocked, because the program may have a handler.

use super::hello;
use crate::gil::GilCell;
use retrace_replay::debug_protocol::{self, Command, Report, Role};
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// How often a process that runs looks whether the debugger is still there.
const WATCH_US: u64 = 20_000;

/// How long a question about the state may take; where it only shows values, and can be asked again with each of them
/// apart; and how long one of these. Then the status of a copy in which one took longer.
pub const LIMIT_US: u64 = 10_000_000;
pub const SHOW_US: u64 = 2_000_000;
pub const VALUE_US: u64 = 1_000_000;
pub const OUT_OF_TIME: i32 = 9;

/// The socket's descriptor, for the signal handler.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
static REQUESTED: AtomicBool = AtomicBool::new(false);
static REQUESTS: AtomicBool = AtomicBool::new(false);
/// Ticks of the timer left to this process, where they are limited.
static LEFT: AtomicI32 = AtomicI32::new(-1);

/// The way to the debugger.
pub struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Connects and says what this process is. Without a debugger there is nothing to live for.
    pub fn open(socket: &Path, role: Role) -> Channel {
        let Ok(stream) = UnixStream::connect(socket) else { leave() };
        // Out of the way of the program's own numbers.
        // SAFETY: descriptors of ours.
        unsafe {
            let high = libc::fcntl(stream.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900);
            let stream = match high {
                -1 => stream,
                high => std::os::fd::FromRawFd::from_raw_fd(high),
            };
            // Relaxed: read by a handler on this very thread.
            DESCRIPTOR.store(stream.as_raw_fd(), Ordering::Relaxed);
            let channel = Channel { stream };
            if debug_protocol::send(&channel.stream, &hello(role)).is_err() {
                leave();
            }
            channel
        }
    }

    pub fn send(&self, report: &Report) {
        if debug_protocol::send(&self.stream, report).is_err() {
            leave();
        }
    }

    /// The next command. Does not return when the debugger has gone.
    pub fn receive(&self) -> Command {
        debug_protocol::receive(&self.stream).unwrap_or_else(|_| leave())
    }
}

/// Ends this process.
pub fn leave() -> ! {
    // SAFETY: runs nothing more of the program.
    unsafe {
        remove_leftovers();
        libc::_exit(0)
    }
}

/// What a debugger that was killed leaves on the disk: its socket, what else it has in that folder, and the folder.
struct Leftovers {
    address: libc::sockaddr_un,
    files: [CString; 3],
    folder: CString,
}

static LEFTOVERS: GilCell<Option<Leftovers>> = GilCell::new(None);

/// # Safety
/// Called once, while this thread is the only one.
pub unsafe fn learn_leftovers(socket: &Path) {
    let folder = socket.parent().unwrap_or(socket);
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    // SAFETY: an address is plain memory.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, byte) in address.sun_path.iter_mut().zip(socket.as_os_str().as_bytes()) {
        *to = *byte as libc::c_char;
    }
    let files = ["debugger", "stderr", "attempt"].map(|file| name(&folder.join(file)));
    // SAFETY: by contract.
    unsafe { *LEFTOVERS.get() = Some(Leftovers { address, files, folder: name(folder) }) };
}

/// Removes it if nobody listens at the socket any more. Whichever process comes last has nothing left to do.
///
/// # Safety
/// Calls only what may be called in a signal handler.
unsafe fn remove_leftovers() {
    // SAFETY: written once, before there were copies; paths and an address of ours.
    unsafe {
        let Some(leftovers) = LEFTOVERS.get() else { return };
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        let size = std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
        let answer = libc::connect(socket, (&raw const leftovers.address).cast(), size);
        let is_gone = answer < 0 && crate::platform::errno() == libc::ECONNREFUSED;
        libc::close(socket);
        if is_gone {
            for file in &leftovers.files {
                libc::unlink(file.as_ptr());
            }
            libc::rmdir(leftovers.folder.as_ptr());
        }
    }
}

/// # Safety
/// This thread is the only one.
pub unsafe fn block_child_signals() {
    // SAFETY: a set of our own.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

/// Copies this process. What that allocates is nobody's.
///
/// # Safety
/// This thread is the only one.
pub unsafe fn fork() -> i32 {
    // SAFETY: by contract.
    unsafe {
        while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
        let pid = libc::fork();
        if pid == 0 {
            REQUESTED.store(false, Ordering::Relaxed);
            REQUESTS.store(false, Ordering::Relaxed);
        }
        pid
    }
}

/// In a copy: the parent's socket is the parent's.
pub fn end_with_parent_channel() {
    // Relaxed: as above.
    DESCRIPTOR.store(-1, Ordering::Relaxed);
}

/// Asks for a checkpoint at the next check.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
    // SAFETY: two stores.
    unsafe { retrace_abi::gil::retrace_request_check() };
}

/// Whether one was asked for.
pub fn take_request() -> bool {
    REQUESTED.swap(false, Ordering::Relaxed)
}

extern "C" fn tick(_signal: i32) {
    let descriptor = DESCRIPTOR.load(Ordering::Relaxed);
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: poll and _exit may be called in a handler; one pollfd.
    unsafe {
        let errno = crate::platform::errno();
        if descriptor >= 0 && libc::poll(&mut poll, 1, 0) > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR) != 0 {
            remove_leftovers();
            libc::_exit(0);
        }
        let left = LEFT.load(Ordering::Relaxed);
        if left == 0 {
            libc::_exit(OUT_OF_TIME);
        }
        if left > 0 {
            LEFT.store(left - 1, Ordering::Relaxed);
        }
        crate::platform::set_errno(errno);
    }
    if REQUESTS.load(Ordering::Relaxed) {
        request();
    }
}

/// Has checkpoints asked for every so often.
///
/// # Safety
/// Replaying.
pub unsafe fn start_timer(interval_us: u64) {
    REQUESTS.store(true, Ordering::Relaxed);
    // SAFETY: by contract.
    unsafe { crate::platform::start_timer(interval_us, tick) };
}

/// Looks after the debugger while this process runs.
///
/// # Safety
/// Replaying.
pub unsafe fn watch_debugger() {
    // SAFETY: by contract.
    unsafe { crate::platform::start_timer(WATCH_US, tick) };
}

/// This process may wait for as long as the debugger lives.
///
/// # Safety
/// As [`watch_debugger`].
pub unsafe fn lift_limit() {
    LEFT.store(-1, Ordering::Relaxed);
    // SAFETY: by contract.
    unsafe { crate::platform::start_timer(0, tick) };
}

/// This process has a limited time to live, in microseconds.
///
/// # Safety
/// As [`watch_debugger`].
pub unsafe fn limit_time(limit: u64) {
    LEFT.store((limit / WATCH_US) as i32, Ordering::Relaxed);
    // SAFETY: by contract.
    unsafe { watch_debugger() };
}
