//! What C code asks the interpreter to call between two instructions (`Py_AddPendingCall`). Such a call has no event near it,
//! so the log says where it was made, as of a signal's handler, and who asked for it: a thread's requests are numbered.
//!
//! On replay the interpreter is told of none. What is asked for is kept here, and called where the log says.

use crate::divergence;
use crate::gil::GilCell;
use crate::imports::{self, Binding, replaced};
use crate::python::SavedError;
use crate::record::Outside;
use crate::replay::{self, Front};
use crate::session::{self, Mode};
use crate::turns::{self, locked};
use crate::{native_handlers, schedule, thread, user_threads};
use pyo3_ffi::{Py_AddPendingCall, PyErr_Clear};
use retrace_replay::event::{Event, Position};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{LazyLock, Mutex};

type Function = unsafe extern "C" fn(*mut c_void) -> c_int;

static mut NEXT: [*mut c_void; 1] = [ptr::null_mut(); 1];

/// How many requests each thread has made.
static COUNTS: LazyLock<Mutex<HashMap<u64, u64>>> = LazyLock::new(Mutex::default);
/// Replay's requests that have not been met, by a thread's number and its request's.
static ASKED: LazyLock<Mutex<HashMap<(u64, u64), Asked>>> = LazyLock::new(Mutex::default);

/// A function and its argument.
type Asked = (Function, usize);

thread_local! {
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread takes the lock of the interpreter's list of such calls, which is none of replay's.
pub fn is_asking() -> bool {
    IS_ASKING.get()
}

/// A request of the recording's.
struct Request {
    thread: u64,
    number: u64,
    function: Function,
    argument: *mut c_void,
}

/// What is put into an extension module's import table.
pub fn bindings() -> Vec<Binding> {
    // SAFETY: `NEXT` has a place for it.
    unsafe { imports::optional([(c"Py_AddPendingCall", add as *mut c_void)], (&raw mut NEXT).cast()) }
}

/// The number of the calling thread's next request.
unsafe fn count(thread: u64) -> u64 {
    let mut counts = locked(&COUNTS);
    let count = counts.entry(thread).or_default();
    *count += 1;
    *count - 1
}

unsafe extern "C" fn add(function: Option<Function>, argument: *mut c_void) -> c_int {
    // SAFETY: called by an extension module with the function's arguments, with or without the GIL.
    unsafe {
        let next = replaced!(NEXT[0], Option<Function>, *mut c_void => c_int);
        let Some(known) = function else { return next(function, argument) };
        match native_handlers::mode() {
            Mode::Recording if schedule::is_ours() => {
                let thread = turns::own_number();
                let number = count(thread);
                let request = Box::into_raw(Box::new(Request { thread, number, function: known, argument }));
                IS_ASKING.set(true);
                let failed = next(Some(record), request.cast());
                IS_ASKING.set(false);
                if failed != 0 {
                    drop(Box::from_raw(request));
                }
                failed
            }
            Mode::Replaying if schedule::is_ours() => {
                let thread = turns::own_number();
                let number = count(thread);
                locked(&ASKED).insert((thread, number), (known, argument as usize));
                0
            }
            _ => next(function, argument),
        }
    }
}

/// The interpreter makes a call that was asked for.
unsafe extern "C" fn record(request: *mut c_void) -> c_int {
    // SAFETY: called by CPython with the GIL held, with what `add` gave it.
    unsafe {
        let Request { thread, number, function, argument } = *Box::from_raw(request.cast::<Request>());
        if !session::is_recording() {
            return function(argument);
        }
        let current = thread::current();
        let outside = current.external.get().then(|| Outside::interrupt(current));
        let at = if outside.is_some() {
            Position::InCall
        } else if retrace_abi::innermost_frame(current.tstate).is_null() {
            Position::Released(0)
        } else if let Some(tries) = schedule::interrupted_wait() {
            schedule::wait_goes_on();
            Position::Released(tries)
        } else {
            Position::Check(schedule::fingerprint(current.tstate))
        };
        session::append_event(&Event::Pending { thread, number, at });
        let waited_for = schedule::swap_waited_for(ptr::null());
        let result = function(argument);
        if result == 0 {
            schedule::swap_waited_for(waited_for);
        } else {
            schedule::wait_is_over();
        }
        if let Some(outside) = outside
            && session::is_recording()
        {
            outside.resume();
        }
        result
    }
}

/// Makes the call whose event is at the cursor. What it raises is raised where the interpreter made it.
unsafe fn replay(thread: u64, number: u64) -> c_int {
    // SAFETY: replaying; the GIL is held and the current thread state set.
    unsafe {
        let Some((function, argument)) = locked(&ASKED).remove(&(thread, number)) else {
            divergence::stop_at("C code has not asked for the call that the recording has here");
        };
        replay::consume_front();
        let waited = user_threads::swap_lock_wait(user_threads::LockWait::NONE);
        let result = function(argument as *mut c_void);
        if result == 0 {
            user_threads::swap_lock_wait(waited);
        }
        result
    }
}

/// Makes the call that was made inside the external call that is being replayed. What it raises goes where that call's own
/// event says.
///
/// # Safety
/// Replaying; the GIL is held and the current thread state set.
pub unsafe fn replay_in_call(thread: u64, number: u64) {
    // SAFETY: by contract.
    unsafe {
        let saved = SavedError::take();
        if replay(thread, number) != 0 {
            PyErr_Clear();
        }
        drop(saved);
    }
}

/// Whether the interpreter has been asked to call [`look`].
static LOOKS: GilCell<bool> = GilCell::new(false);

/// The next event is a call that the interpreter makes where it looks for such calls: at a check, in a wait for a lock that a
/// signal interrupted, or when it ends. What the call raises is raised there.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn await_interpreter() {
    // SAFETY: by contract.
    unsafe {
        if !std::mem::replace(LOOKS.get(), true) {
            // Perhaps without the GIL: what the log says comes next is looked for where a thread gave it up.
            IS_ASKING.set(true);
            Py_AddPendingCall(Some(look), ptr::null_mut());
            IS_ASKING.set(false);
        }
    }
}

extern "C" fn look(_: *mut c_void) -> c_int {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        *LOOKS.get() = false;
        let Front::Pending { thread, number, at } = replay::front() else { return 0 };
        let has_frame = !retrace_abi::innermost_frame(thread::current().tstate).is_null();
        let is_here = match at {
            // Where it is not here, the GIL is dropped at this check, too, and the interpreter asked again after that.
            Position::Check(wanted) if !has_frame || !user_threads::is_at(&wanted) => return 0,
            Position::Check(_) => true,
            Position::Released(0) => !has_frame,
            Position::Released(tries) => user_threads::is_interrupted_at(tries),
            _ => return 0,
        };
        if is_here {
            let result = replay(thread, number);
            if result == 0 && matches!(at, Position::Check(_)) {
                // Signals' handlers came before.
                replay::go_on_at_check(u64::MAX);
            }
            return result;
        }
        await_interpreter();
        0
    }
}
