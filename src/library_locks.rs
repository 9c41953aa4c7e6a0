//! The mutexes of extension modules and their libraries. Which thread gets one next is up to the system where they are
//! taken without the GIL; so recording logs each time that a mutex goes from one thread to another, and how often it had
//! been taken before. On replay, which has one operating-system thread, who comes too early lets the others go on.

use crate::gil::GilCell;
use crate::hook::{self, Hook, Original};
use crate::imports::{Binding, replaced};
use crate::session::{self, Mode};
use crate::{schedule, user_threads};
use retrace_abi::boundary::{Entry, Treatment};
use retrace_replay::event::{Call, HookKind, NO_FRAME, Outcome};
use retrace_replay::value::Value;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

type NativeMutex = *mut libc::pthread_mutex_t;

static mut NEXT: [*mut c_void; 9] = [ptr::null_mut(); 9];

const LOCK: usize = 0;
const TRYLOCK: usize = 1;
const UNLOCK: usize = 2;
const INIT: usize = 3;
const DESTROY: usize = 4;
const GETSPECIFIC: usize = 5;
const SETSPECIFIC: usize = 6;
const SELF: usize = 7;
const ATTRIBUTES: usize = 8;

/// What is known of a mutex since it was made.
#[derive(Default)]
struct Known {
    /// How often it was taken.
    taken: u64,
    /// By which thread last.
    last: u64,
    /// How often its holder has taken it and not let it go. Replay only: its threads are one to the system, which would
    /// let two of them into a mutex that may be taken twice.
    held: u32,
}

static MUTEXES: LazyLock<Mutex<HashMap<usize, Known>>> = LazyLock::new(Mutex::default);

fn mutexes() -> MutexGuard<'static, HashMap<usize, Known>> {
    MUTEXES.lock().unwrap_or_else(PoisonError::into_inner)
}

static HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);
static ENTRY: Entry = Entry::new("", Treatment::Libc);

/// The number of the event's hook.
fn index() -> u16 {
    // SAFETY: written once, with the GIL, before a function below can be reached.
    unsafe { HOOK.get().map_or(0, |hook| hook.index) }
}

/// What is put into an extension module's import table.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn bindings() -> Vec<Binding> {
    let functions: [(&std::ffi::CStr, *mut c_void); 9] = [
        (c"pthread_mutex_lock", lock as *mut c_void),
        (c"pthread_mutex_trylock", trylock as *mut c_void),
        (c"pthread_mutex_unlock", unlock as *mut c_void),
        (c"pthread_mutex_init", init as *mut c_void),
        (c"pthread_mutex_destroy", destroy as *mut c_void),
        (c"pthread_getspecific", getspecific as *mut c_void),
        (c"pthread_setspecific", setspecific as *mut c_void),
        (c"pthread_self", own_ident as *mut c_void),
        (c"pthread_getattr_np", attributes as *mut c_void),
    ];
    // SAFETY: by contract.
    unsafe {
        HOOK.get().get_or_insert_with(|| {
            hook::make("libc.pthread_mutex_lock".into(), HookKind::Library, Original::Library, &ENTRY, None)
        });
    }
    let bindings = functions.into_iter().enumerate().map(|(place, (name, with))| {
        // SAFETY: within the array.
        let next = unsafe { (&raw mut NEXT).cast::<*mut c_void>().add(place) };
        Binding { name, with, next, needed: false }
    });
    bindings.collect()
}

/// In the arguments of the event, where the number of times that the mutex was taken before would be: it was not free.
const BUSY: i64 = -1;

fn event(tries: u64, taken: i64) -> Call {
    let arguments = Some(vec![Value::Int(tries as i64), Value::Int(taken)]);
    Call { hook: index(), at: NO_FRAME, arguments, outcome: Outcome::None }
}

/// The calling thread has just got a mutex, and nobody else can.
unsafe fn record_taken(mutex: NativeMutex) {
    let mut mutexes = mutexes();
    let known = mutexes.entry(mutex as usize).or_default();
    let taken = known.taken;
    known.taken += 1;
    // SAFETY: recording, on a thread of the program's.
    unsafe {
        let (thread, tries) = schedule::count_library_lock();
        let changes_hands = taken > 0 && known.last != thread;
        known.last = thread;
        drop(mutexes);
        if changes_hands {
            schedule::append_native_call(event(tries, taken as i64));
            schedule::library_lock_logged();
        }
    }
}

/// What the log says of the running thread's try: how often the mutex was taken before it got it. `None`: nothing.
unsafe fn replayed_try() -> Option<i64> {
    // SAFETY: replaying, on its one thread.
    unsafe {
        let tries = user_threads::count_library_lock();
        let call = user_threads::next_native_call(index())?;
        let [Value::Int(wanted), Value::Int(taken)] = call.arguments.as_deref()? else { return None };
        if *wanted != tries as i64 {
            return None;
        }
        user_threads::pass_native_call();
        user_threads::library_lock_logged();
        Some(*taken)
    }
}

/// Whether a mutex is free on replay, and has been taken that often.
pub fn is_due(mutex: usize, taken: u64) -> bool {
    mutexes().get(&mutex).is_some_and(|known| known.taken == taken && known.held == 0)
}

/// Takes the mutex when the log says.
unsafe fn replay_taken(mutex: NativeMutex, taken: Option<u64>) {
    // SAFETY: replaying, on its one thread; the guard is not kept across a switch.
    unsafe {
        if let Some(taken) = taken {
            user_threads::wait_for_mutex(mutex as usize, taken);
        }
        let running = user_threads::running() as u64;
        let mut mutexes = mutexes();
        let known = mutexes.entry(mutex as usize).or_default();
        if known.held > 0 && known.last != running {
            drop(mutexes);
            user_threads::lost_without_gil("a library's mutex is taken here that was free in the recording".into());
        }
        known.taken += 1;
        known.last = running;
        known.held += 1;
    }
}

unsafe extern "C" fn lock(mutex: NativeMutex) -> c_int {
    // SAFETY: called by an extension module with a mutex of its own.
    unsafe {
        let next = replaced!(NEXT[LOCK], NativeMutex => c_int);
        match session::mode() {
            Mode::Recording if schedule::logs_native_calls() => {
                let error = next(mutex);
                if error == 0 {
                    record_taken(mutex);
                }
                error
            }
            Mode::Replaying if schedule::is_ours() => {
                let taken = replayed_try().and_then(|taken| u64::try_from(taken).ok());
                replay_taken(mutex, taken);
                next(mutex)
            }
            _ => next(mutex),
        }
    }
}

unsafe extern "C" fn trylock(mutex: NativeMutex) -> c_int {
    // SAFETY: as above.
    unsafe {
        let next = replaced!(NEXT[TRYLOCK], NativeMutex => c_int);
        match session::mode() {
            Mode::Recording if schedule::logs_native_calls() => {
                let error = next(mutex);
                if error == 0 {
                    record_taken(mutex);
                } else {
                    let (_, tries) = schedule::count_library_lock();
                    schedule::append_native_call(event(tries, BUSY));
                    schedule::library_lock_logged();
                }
                error
            }
            Mode::Replaying if schedule::is_ours() => {
                let taken = replayed_try();
                if taken == Some(BUSY) {
                    return libc::EBUSY;
                }
                replay_taken(mutex, taken.and_then(|taken| u64::try_from(taken).ok()));
                next(mutex)
            }
            _ => next(mutex),
        }
    }
}

unsafe extern "C" fn unlock(mutex: NativeMutex) -> c_int {
    // SAFETY: as above.
    unsafe {
        if session::mode() == Mode::Replaying
            && schedule::is_ours()
            && let Some(known) = mutexes().get_mut(&(mutex as usize))
        {
            known.held = known.held.saturating_sub(1);
        }
        replaced!(NEXT[UNLOCK], NativeMutex => c_int)(mutex)
    }
}

// Another mutex may be where one was, and not in the same place in both directions.

unsafe extern "C" fn init(mutex: NativeMutex, attributes: *const libc::pthread_mutexattr_t) -> c_int {
    mutexes().remove(&(mutex as usize));
    // SAFETY: as above.
    unsafe { replaced!(NEXT[INIT], NativeMutex, *const libc::pthread_mutexattr_t => c_int)(mutex, attributes) }
}

unsafe extern "C" fn destroy(mutex: NativeMutex) -> c_int {
    mutexes().remove(&(mutex as usize));
    // SAFETY: as above.
    unsafe { replaced!(NEXT[DESTROY], NativeMutex => c_int)(mutex) }
}

/// The ident that Python knows the thread by. Of the replay's threads C code could not tell one from another otherwise.
unsafe extern "C" fn own_ident() -> libc::pthread_t {
    // SAFETY: replay's threads are asked only on its one thread.
    unsafe {
        if session::mode() == Mode::Replaying && schedule::is_ours() {
            return user_threads::ident() as libc::pthread_t;
        }
        replaced!(NEXT[SELF], => libc::pthread_t)()
    }
}

/// Where a thread's stack is: a recorded ident means nothing to the system.
unsafe extern "C" fn attributes(ident: libc::pthread_t, into: *mut libc::pthread_attr_t) -> c_int {
    // SAFETY: called with pthread_getattr_np's arguments.
    unsafe {
        let next = replaced!(NEXT[ATTRIBUTES], libc::pthread_t, *mut libc::pthread_attr_t => c_int);
        let is_replayed = session::mode() == Mode::Replaying && schedule::is_ours();
        next(if is_replayed { libc::pthread_self() } else { ident }, into)
    }
}

/// Whether the calling thread is a coroutine, which has thread-specific values of its own.
unsafe fn is_coroutine() -> bool {
    // SAFETY: replay's threads are asked only on its one thread.
    unsafe { session::mode() == Mode::Replaying && schedule::is_ours() && user_threads::running() != 0 }
}

unsafe extern "C" fn getspecific(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: as above.
    unsafe {
        if is_coroutine() {
            return user_threads::specific(key);
        }
        replaced!(NEXT[GETSPECIFIC], libc::pthread_key_t => *mut c_void)(key)
    }
}

unsafe extern "C" fn setspecific(key: libc::pthread_key_t, value: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe {
        if is_coroutine() {
            user_threads::set_specific(key, value);
            return 0;
        }
        replaced!(NEXT[SETSPECIFIC], libc::pthread_key_t, *mut c_void => c_int)(key, value)
    }
}
