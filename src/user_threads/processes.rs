//! Processes on replay: a fork answers as it did, or is where the replay becomes the child.

use super::bindings::{FOPEN, NEXT};
use super::{RUNNING, State, fail, threads};
use crate::imports::{Binding, replaced};
use crate::replay::{self, Front};
use crate::{divergence, session, thread, thread_count, turns};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

static mut FORKS: u64 = 0;

pub(super) unsafe extern "C" fn fork() -> libc::pid_t {
    // SAFETY: called by CPython.
    unsafe { forks() }
}

/// What descriptor the terminal has is for the event of the call to say, which follows.
pub(super) unsafe extern "C" fn forkpty(
    terminal: *mut c_int,
    _name: *mut c_char,
    _settings: *mut c_void,
    _size: *mut c_void,
) -> libc::pid_t {
    // SAFETY: called by CPython with forkpty's arguments.
    unsafe {
        let pid = forks();
        if pid > 0 {
            *terminal = -1;
        }
        pid
    }
}

/// A fork: answers as recorded; where the process that is replayed is a child of this very fork, becomes that child.
unsafe fn forks() -> libc::pid_t {
    // SAFETY: called in place of what CPython calls.
    unsafe {
        if session::mode() == session::Mode::Diverted {
            crate::libc_calls::remember_refused(c"fork");
            return fail(libc::EPERM);
        }
        if !session::is_replaying() || thread::current().external.get() {
            return fail(libc::EAGAIN);
        }
        let serial = FORKS;
        FORKS += 1;
        if replay::becomes_child(serial) {
            FORKS = 0;
            // Only the thread that forked goes on.
            for (k, thread) in threads().iter_mut().enumerate() {
                if k != RUNNING {
                    thread.state = State::Ended;
                    std::mem::forget(thread.coroutine.take());
                }
            }
            turns::forked();
            return 0;
        }
        let Front::Fork { pid } = replay::front() else {
            divergence::stop_at("the process forks here");
        };
        replay::consume_front();
        if pid < 0 { fail(-pid as c_int) } else { pid as libc::pid_t }
    }
}

static mut PID: libc::pid_t = 0;

/// The recorded process's number, for what CPython says of itself in C.
///
/// # Safety
/// Replaying.
pub unsafe fn set_pid(pid: i64) {
    // SAFETY: one thread.
    unsafe { PID = pid as libc::pid_t };
}

/// `getpid`, which also extension modules call that have nothing else recorded: `_asyncio` of 3.11 compares it with what
/// it was when a loop began.
pub fn pid_binding() -> Binding {
    static mut NEXT: *mut c_void = ptr::null_mut();
    Binding { name: c"getpid", with: own_pid as *mut c_void, next: &raw mut NEXT, needed: false }
}

pub(super) unsafe extern "C" fn own_pid() -> libc::pid_t {
    // SAFETY: one thread.
    unsafe { PID }
}

/// `fopen`: CPython 3.12 counts the process's threads after a fork by a file.
pub(super) unsafe extern "C" fn open_stream(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: called by CPython with C strings.
    unsafe {
        if let Some(stream) = thread_count::replayed(path) {
            return stream;
        }
        // One of the two is imported, which are the same where files are large.
        let place = if NEXT[FOPEN].is_null() { FOPEN + 1 } else { FOPEN };
        replaced!(NEXT[place], *const c_char, *const c_char => *mut libc::FILE)(path, mode)
    }
}
