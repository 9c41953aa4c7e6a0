//! C11's threads, mutexes and condition variables (`thrd_create`, `mtx_lock`, …), which libraries may use that are built
//! for glibc 2.28 or newer. There they are POSIX's by another name, of the same types, so each call is made as the one of
//! those that we have replaced.

use crate::imports::{Binding, replaced};
use crate::{libraries, library_threads};
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::LazyLock;

/// By which a library makes threads.
pub const MAKES_THREADS: &str = "thrd_create";

const SUCCESS: c_int = 0;
const BUSY: c_int = 1;
const ERROR: c_int = 2;
const NO_MEMORY: c_int = 3;
const TIMED_OUT: c_int = 4;

/// A kind of mutex: one that its holder may take again.
const RECURSIVE: c_int = 1;

/// What a function says, by what POSIX's returned.
fn result(error: c_int) -> c_int {
    match error {
        0 => SUCCESS,
        libc::EBUSY => BUSY,
        libc::ENOMEM => NO_MEMORY,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

type Address = *mut c_void;

/// What takes the place of the function of that name.
fn replacement(name: &CStr) -> Address {
    // SAFETY: in a session, an image was redirected: this one. The place is the binding's, and a function's own.
    unsafe {
        let own = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        let Some(binding) = libraries::binding(name) else { return own };
        if (*binding.next).is_null() {
            *binding.next = own;
        }
        binding.with
    }
}

/// What takes the place of a function of POSIX's, looked for once.
macro_rules! posix {
    ($name:literal, $($kind:ty),* => $result:ty) => {{
        static FOUND: LazyLock<usize> = LazyLock::new(|| replacement($name) as usize);
        replaced!(*FOUND as Address, $($kind),* => $result)
    }};
}

/// Functions whose arguments and results are POSIX's, but for the errors.
macro_rules! as_posix {
    ($($name:ident($($argument:ident: $kind:ty),*) = $posix:literal;)*) => { $(
        unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
            // SAFETY: called by a library with this function's arguments.
            unsafe { result(posix!($posix, $($kind),* => c_int)($($argument),*)) }
        }
    )* };
}

as_posix! {
    mutex_lock(mutex: Address) = c"pthread_mutex_lock";
    mutex_trylock(mutex: Address) = c"pthread_mutex_trylock";
    mutex_unlock(mutex: Address) = c"pthread_mutex_unlock";
    mutex_timedlock(mutex: Address, until: Address) = c"pthread_mutex_timedlock";
    cond_wait(cond: Address, mutex: Address) = c"pthread_cond_wait";
    cond_timedwait(cond: Address, mutex: Address, until: Address) = c"pthread_cond_timedwait";
    cond_signal(cond: Address) = c"pthread_cond_signal";
    cond_broadcast(cond: Address) = c"pthread_cond_broadcast";
    detach(thread: libc::pthread_t) = c"pthread_detach";
    key_create(key: Address, destructor: Address) = c"pthread_key_create";
    setspecific(key: libc::pthread_key_t, value: Address) = c"pthread_setspecific";
}

unsafe extern "C" fn mutex_init(mutex: Address, kind: c_int) -> c_int {
    // SAFETY: called by a library with mtx_init's arguments.
    unsafe {
        let mut attributes = std::mem::zeroed::<libc::pthread_mutexattr_t>();
        libc::pthread_mutexattr_init(&mut attributes);
        if kind & RECURSIVE != 0 {
            libc::pthread_mutexattr_settype(&mut attributes, libc::PTHREAD_MUTEX_RECURSIVE);
        }
        let init = posix!(c"pthread_mutex_init", Address, *const libc::pthread_mutexattr_t => c_int);
        let error = init(mutex, &attributes);
        libc::pthread_mutexattr_destroy(&mut attributes);
        result(error)
    }
}

unsafe extern "C" fn mutex_destroy(mutex: Address) {
    // SAFETY: called by a library with mtx_destroy's argument.
    unsafe { posix!(c"pthread_mutex_destroy", Address => c_int)(mutex) };
}

unsafe extern "C" fn cond_init(cond: Address) -> c_int {
    // SAFETY: called by a library with cnd_init's argument.
    unsafe { result(posix!(c"pthread_cond_init", Address, Address => c_int)(cond, ptr::null_mut())) }
}

unsafe extern "C" fn cond_destroy(cond: Address) {
    // SAFETY: called by a library with cnd_destroy's argument.
    unsafe { posix!(c"pthread_cond_destroy", Address => c_int)(cond) };
}

unsafe extern "C" fn create(thread: *mut libc::pthread_t, start: Address, argument: Address) -> c_int {
    // SAFETY: called by a library with thrd_create's arguments. What the function returns is looked at as a number only.
    unsafe { result(library_threads::create_here(thread, start, argument)) }
}

unsafe extern "C" fn join(thread: libc::pthread_t, into: *mut c_int) -> c_int {
    let mut value: Address = ptr::null_mut();
    // SAFETY: called by a library with thrd_join's arguments.
    unsafe {
        let error = posix!(c"pthread_join", libc::pthread_t, *mut Address => c_int)(thread, &mut value);
        if error == 0 && !into.is_null() {
            *into = value as usize as c_int;
        }
        result(error)
    }
}

unsafe extern "C" fn exit(value: c_int) -> Address {
    // SAFETY: called by a library with thrd_exit's argument; does not return.
    unsafe { posix!(c"pthread_exit", Address => Address)(value as usize as Address) }
}

/// What is put into every extension module's import table.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn bindings() -> Vec<Binding> {
    let functions: [(&CStr, Address); 21] = [
        (c"mtx_init", mutex_init as Address),
        (c"mtx_lock", mutex_lock as Address),
        (c"mtx_trylock", mutex_trylock as Address),
        (c"mtx_timedlock", mutex_timedlock as Address),
        (c"mtx_unlock", mutex_unlock as Address),
        (c"mtx_destroy", mutex_destroy as Address),
        (c"cnd_init", cond_init as Address),
        (c"cnd_wait", cond_wait as Address),
        (c"cnd_timedwait", cond_timedwait as Address),
        (c"cnd_signal", cond_signal as Address),
        (c"cnd_broadcast", cond_broadcast as Address),
        (c"cnd_destroy", cond_destroy as Address),
        (c"thrd_join", join as Address),
        (c"thrd_detach", detach as Address),
        (c"thrd_exit", exit as Address),
        (c"tss_create", key_create as Address),
        (c"tss_set", setspecific as Address),
        (c"tss_get", replacement(c"pthread_getspecific")),
        (c"thrd_current", replacement(c"pthread_self")),
        (c"call_once", replacement(c"pthread_once")),
        (c"thrd_yield", replacement(c"sched_yield")),
    ];
    static mut NEXT: Address = ptr::null_mut();
    // Nobody calls what they were.
    functions.into_iter().map(|(name, with)| Binding { name, with, next: &raw mut NEXT, needed: false }).collect()
}

/// What is put into the import table of an image whose threads take turns.
pub fn making() -> Binding {
    static mut NEXT: Address = ptr::null_mut();
    Binding { name: c"thrd_create", with: create as Address, next: &raw mut NEXT, needed: false }
}
