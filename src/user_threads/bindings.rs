//! Which functions of the C library are answered here on replay, and what they were before.

use super::locks::{clock_gettime, sem_clockwait, sem_post, sem_timedwait, sem_wait};
use super::processes::{fork, forkpty, open_stream, own_pid};
use super::pthreads::{create, detach, exit, getspecific, refuse_clock, refuse_kill, setspecific};
use super::turns::{cond_timedwait, cond_wait, mutex_lock, mutex_unlock};
use crate::imports::Binding;
use retrace_abi::gil::{retrace_hook_pthread_self, retrace_hook_sem_trywait_replayed};
use std::ffi::c_void;
use std::ptr;

pub(super) static mut NEXT: [*mut c_void; 23] = [ptr::null_mut(); 23];

/// The functions that take the place of the interpreter's imports.
///
/// # Safety
/// [`begin`] was called.
pub unsafe fn bindings() -> Vec<Binding> {
    let functions: [(&'static std::ffi::CStr, *mut c_void, bool); 23] = [
        (c"pthread_create", create as *mut c_void, true),
        (c"pthread_self", retrace_hook_pthread_self as *mut c_void, true),
        (c"pthread_exit", exit as *mut c_void, false),
        (c"pthread_detach", detach as *mut c_void, false),
        (c"pthread_mutex_lock", mutex_lock as *mut c_void, true),
        (c"pthread_mutex_unlock", mutex_unlock as *mut c_void, true),
        (c"pthread_cond_wait", cond_wait as *mut c_void, true),
        (c"pthread_cond_timedwait", cond_timedwait as *mut c_void, true),
        (c"pthread_getspecific", getspecific as *mut c_void, true),
        (c"pthread_setspecific", setspecific as *mut c_void, true),
        (c"sem_trywait", retrace_hook_sem_trywait_replayed as *mut c_void, cfg!(target_os = "linux")),
        (c"sem_wait", sem_wait as *mut c_void, cfg!(target_os = "linux")),
        (c"sem_clockwait", sem_clockwait as *mut c_void, false),
        (c"sem_timedwait", sem_timedwait as *mut c_void, false),
        (c"sem_post", sem_post as *mut c_void, cfg!(target_os = "linux")),
        (c"pthread_kill", refuse_kill as *mut c_void, false),
        (c"pthread_getcpuclockid", refuse_clock as *mut c_void, false),
        (c"fork", fork as *mut c_void, true),
        (c"fopen", open_stream as *mut c_void, false),
        (c"fopen64", open_stream as *mut c_void, false),
        (c"getpid", own_pid as *mut c_void, false),
        (c"clock_gettime", clock_gettime as *mut c_void, false),
        (c"forkpty", forkpty as *mut c_void, false),
    ];
    let place = |i: usize| {
        // SAFETY: within the array.
        unsafe { (&raw mut NEXT).cast::<*mut c_void>().add(i) }
    };
    functions
        .into_iter()
        .enumerate()
        .map(|(i, (name, with, needed))| Binding { name, with, next: place(i), needed })
        .collect()
}

// Where each function of `bindings` is kept.
pub(super) const LOCK: usize = 4;
pub(super) const UNLOCK: usize = 5;
pub(super) const COND_WAIT: usize = 6;
pub(super) const COND_TIMEDWAIT: usize = 7;
pub(super) const GETSPECIFIC: usize = 8;
pub(super) const SETSPECIFIC: usize = 9;
pub(super) const TRYWAIT: usize = 10;
pub(super) const POST: usize = 14;
pub(super) const FOPEN: usize = 18;
pub(super) const CLOCK: usize = 21;
