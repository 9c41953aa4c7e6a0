//! Signal handlers. CPython calls a signal's Python handler at a check of the eval breaker, or where a call looks for
//! signals: the log says where. So that this can be seen, the interpreter is given a function of ours in place of each
//! handler, and `signal.signal` and `signal.getsignal` go on naming the program's own.
//!
//! On replay no signal comes. Where the next event is a handler's, the signal is *tripped*, as its arrival would have,
//! before each check; CPython then calls our function, which sees whether this is the recorded place. So an exception of
//! the handler leaves it the way it did.

use crate::call::Call;
use crate::callback;
use crate::divergence;
use crate::gil::GilCell;
use crate::python::{Definition, Owned, SavedError};
use crate::record::Outside;
use crate::replay::{self, Front};
use crate::session::{self, Mode};
use crate::{schedule, thread, timeline, user_threads};
use pyo3_ffi::*;
use retrace_abi::{collector, gil};
use retrace_replay::event::{Event, Position, code};
use std::ffi::CStr;
use std::ptr;

/// Signals are numbered from 1 to 64.
const SIGNALS: usize = 65;

struct Handlers {
    /// The program's, by signal: owned, or null where the interpreter has none of ours.
    program: [*mut PyObject; SIGNALS],
    /// Ours. The interpreter owns them, and lets go of them at its end before the program's modules are cleared: each
    /// takes the program's handler, and what that reaches, with it then.
    ours: [*mut PyObject; SIGNALS],
}

static HANDLERS: GilCell<Handlers> =
    GilCell::new(Handlers { program: [ptr::null_mut(); SIGNALS], ours: [ptr::null_mut(); SIGNALS] });

static OURS: Definition = Definition::new(c"handler", handle, METH_VARARGS);

/// Our function for a signal, or null with an exception.
unsafe fn ours(number: usize) -> Owned {
    // SAFETY: the GIL is held.
    unsafe {
        let made = HANDLERS.get().ours[number];
        if !made.is_null() {
            return Owned::borrowed(made);
        }
        let own = Owned(PyCapsule_New(ptr::without_provenance_mut(number), NAME.as_ptr(), Some(let_go)));
        if own.is_null() {
            return own;
        }
        let function = PyCFunction_NewEx(OURS.get(), own.0, ptr::null_mut());
        if !function.is_null() {
            // Not for gc.get_objects() to find, nor for gc.get_count().
            PyObject_GC_UnTrack(function.cast());
            collector::retrace_count_object(-1);
        }
        HANDLERS.get().ours[number] = function;
        Owned(function)
    }
}

const NAME: &CStr = c"retrace.signal";

/// The signal of what our function is bound to.
unsafe fn bound_to(own: *mut PyObject) -> usize {
    // SAFETY: a capsule of ours; the GIL is held.
    unsafe { PyCapsule_GetPointer(own, NAME.as_ptr()).addr().min(SIGNALS - 1) }
}

/// Our function for a signal is deallocated.
unsafe extern "C" fn let_go(own: *mut PyObject) {
    // SAFETY: called by CPython with the GIL held. What it was made for is not known any more when that goes.
    unsafe {
        let number = bound_to(own);
        let handlers = HANDLERS.get();
        handlers.ours[number] = ptr::null_mut();
        let program = std::mem::replace(&mut handlers.program[number], ptr::null_mut());
        collector::retrace_count_object(1);
        Py_XDECREF(program);
    }
}

/// What the program knows as the handler where CPython answers with ours. Takes the reference and gives one back.
unsafe fn as_program_sees(number: usize, handler: *mut PyObject) -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe {
        let handlers = HANDLERS.get();
        if handler.is_null() || handler != handlers.ours[number] || handlers.program[number].is_null() {
            return handler;
        }
        let program = handlers.program[number];
        Py_INCREF(program);
        Py_DECREF(handler);
        program
    }
}

unsafe fn number_of(argument: Option<&*mut PyObject>) -> Option<usize> {
    // SAFETY: the GIL is held.
    unsafe {
        let &number = argument?;
        if PyLong_Check(number) == 0 {
            return None;
        }
        let mut overflow = 0;
        let number = PyLong_AsLongAndOverflow(number, &mut overflow);
        usize::try_from(number).ok().filter(|number| (1..SIGNALS).contains(number))
    }
}

/// `_signal.signal`: as internal code, in both directions.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn set(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let (Some(number), Some(&handler)) = (number_of(call.args.first()), call.args.get(1)) else {
            return call.invoke();
        };
        // SIG_DFL and SIG_IGN are numbers; what can't be called is CPython's to refuse.
        let is_function = PyLong_Check(handler) == 0 && PyCallable_Check(handler) != 0;
        let is_call = is_function && call.args.len() == 2 && call.keyword_names.is_null();
        let made = if is_call { ours(number) } else { Owned::borrowed(handler) };
        if made.is_null() {
            return ptr::null_mut();
        }
        let args = [call.args[0], made.0];
        let before = call.with_arguments(&args[..call.args.len().min(2)]).invoke();
        if before.is_null() {
            return before;
        }
        let before = as_program_sees(number, before);
        let kept = if is_function { handler } else { ptr::null_mut() };
        Py_XINCREF(kept);
        let old = std::mem::replace(&mut HANDLERS.get().program[number], kept);
        Py_XDECREF(old);
        before
    }
}

/// `_signal.getsignal`.
///
/// # Safety
/// As [`set`].
pub unsafe fn get(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let handler = call.invoke();
        match number_of(call.args.first()) {
            Some(number) => as_program_sees(number, handler),
            None => handler,
        }
    }
}

/// Takes over the handlers that are set already: SIGINT's, as a rule.
///
/// # Safety
/// The GIL is held, on the main thread; no session is active yet.
pub unsafe fn take_over() {
    // SAFETY: by contract; both functions are CPython's own.
    unsafe {
        let module = crate::python::loaded_module("_signal");
        if module.is_null() {
            return;
        }
        let (signal, getsignal) =
            (crate::python::attribute(module, c"signal"), crate::python::attribute(module, c"getsignal"));
        if signal.is_null() || getsignal.is_null() {
            return;
        }
        for number in 1..SIGNALS {
            let argument = Owned(PyLong_FromSize_t(number));
            let handler = Owned(PyObject_CallOneArg(getsignal.0, argument.0));
            if handler.is_null() || PyLong_Check(handler.0) != 0 || PyCallable_Check(handler.0) == 0 {
                PyErr_Clear();
                continue;
            }
            let none = ptr::null_mut::<PyObject>();
            let before = Owned(PyObject_CallFunctionObjArgs(signal.0, argument.0, ours(number).0, none));
            if before.is_null() {
                PyErr_Clear();
                continue;
            }
            HANDLERS.get().program[number] = handler.into_raw();
        }
    }
}

/// Called by CPython in place of a handler, with the signal's number and the interrupted frame.
unsafe extern "C" fn handle(own: *mut PyObject, args: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held, on the main thread.
    unsafe {
        let number = bound_to(own);
        // The handler may put another one in its place.
        let _ours = Owned::borrowed(HANDLERS.get().ours[number]);
        match session::mode() {
            Mode::Off => call_program(number, args),
            Mode::Diverted => wait_for_replay(number, args),
            Mode::Recording => record_call(number, args),
            Mode::Replaying => replay_call(number, args),
        }
    }
}

/// What is tripped in a diversion is the recording's next signal, which comes where that says. Where the replay goes on
/// behind the diversion, it is tripped again.
unsafe fn wait_for_replay(number: usize, args: *mut PyObject) -> *mut PyObject {
    // SAFETY: as in `handle`.
    unsafe {
        if matches!(replay::front(), Front::Signal { number: recorded, .. } if recorded == number as u64) {
            PyErr_SetInterruptEx(number as i32);
        }
        put_off(args)
    }
}

/// A search trips the signal, to see whether its handler ran here.
///
/// # Safety
/// Called by cshim/search.c, replaying, right before CPython calls [`handle`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_trips() {
    // SAFETY: the GIL is held.
    unsafe { timeline::mark_clock() };
}

/// The handler is not called now.
unsafe fn put_off(args: *mut PyObject) -> *mut PyObject {
    // SAFETY: as in `handle`.
    unsafe {
        timeline::put_clock_back();
        gil::retrace_forget_frame_object(PyTuple_GET_ITEM(args, 1));
        let none = Py_None();
        Py_INCREF(none);
        none
    }
}

unsafe fn call_program(number: usize, args: *mut PyObject) -> *mut PyObject {
    // SAFETY: as in `handle`; the handler may replace itself.
    unsafe {
        let handler = HANDLERS.get().program[number];
        if handler.is_null() {
            let none = Py_None();
            Py_INCREF(none);
            return none;
        }
        let handler = Owned::borrowed(handler);
        PyObject_CallObject(handler.0, args)
    }
}

unsafe fn record_call(number: usize, args: *mut PyObject) -> *mut PyObject {
    // SAFETY: as in `handle`.
    unsafe {
        let thread = thread::current();
        let outside = thread.external.get().then(|| Outside::interrupt(thread));
        let at = if outside.is_some() {
            Position::InCall
        } else if let Some(tries) = schedule::interrupted_wait() {
            Position::Released(tries)
        } else {
            Position::Check(schedule::fingerprint(thread.tstate))
        };
        let serial = callback::next_serial();
        session::append_event(&Event::Signal { number: number as u64, at });
        let waited_for = schedule::swap_waited_for(ptr::null());
        let result = call_program(number, args);
        if !result.is_null() {
            schedule::swap_waited_for(waited_for);
        }
        if session::is_recording() {
            if outside.is_some() {
                callback::keep_result(serial, result);
            }
            session::append_event(&Event::SignalEnd { raised: result.is_null() });
            if matches!(at, Position::Released(_)) && !result.is_null() {
                schedule::wait_goes_on();
            }
            if let Some(outside) = outside {
                outside.resume();
            }
        }
        result
    }
}

unsafe fn replay_call(number: usize, args: *mut PyObject) -> *mut PyObject {
    // SAFETY: as in `handle`.
    unsafe {
        let mut is_at_check = false;
        let here = match replay::front() {
            Front::Signal { number: recorded, at } if recorded == number as u64 => match at {
                Position::Check(wanted) => {
                    let found = user_threads::is_at(&wanted);
                    is_at_check = found;
                    let tstate = *gil::retrace_gil.last_holder;
                    if !found && gil::retrace_check_repeats(tstate) == 0 {
                        replay::trip_again(recorded, at);
                    }
                    found
                }
                Position::Released(_) => true,
                Position::InCall | Position::Between(_) | Position::Freeing(_) | Position::Freed(_) => false,
            },
            Front::Signal { .. } => false,
            _ if number == libc::SIGINT as usize => {
                // Not the recording's: whoever watches the replay has had enough.
                libc::_exit(128 + libc::SIGINT);
            }
            _ => false,
        };
        if !here {
            return put_off(args);
        }
        timeline::forget_mark();
        replay::consume_front();
        callback::next_serial();
        let waited = user_threads::swap_lock_wait(user_threads::LockWait::NONE);
        let result = call_program(number, args);
        if !result.is_null() {
            user_threads::swap_lock_wait(waited);
        }
        expect_end(result.is_null());
        if is_at_check && !result.is_null() {
            replay::go_on_at_check(number as u64);
        }
        result
    }
}

/// Runs the handler that ran inside the external call that is being replayed. What it raises goes where the call's own
/// event says.
///
/// # Safety
/// Replaying; the GIL is held; the next event is this signal's.
pub unsafe fn replay_in_call(number: u64) {
    // SAFETY: by contract.
    unsafe {
        replay::consume_front();
        let serial = callback::next_serial();
        let frame = PyEval_GetFrame().cast::<PyObject>();
        let frame = if frame.is_null() { Py_None() } else { frame };
        let args = Owned(Py_BuildValue(c"(kO)".as_ptr(), number as std::ffi::c_ulong, frame));
        let saved = SavedError::take();
        let result = call_program((number as usize).min(SIGNALS - 1), args.0);
        callback::keep_result(serial, result);
        if result.is_null() {
            PyErr_Clear();
        }
        let raised = result.is_null();
        drop(Owned(result));
        drop(saved);
        expect_end(raised);
    }
}

unsafe fn expect_end(raised: bool) {
    // SAFETY: replaying, the GIL held.
    unsafe {
        let source = replay::source();
        if source.at_end() || source.peek_code() != Ok(code::SIGNAL_END) {
            // The error indicator may be set; the report only looks.
            divergence::stop_at("a signal's handler ends here");
        }
        match source.next_event() {
            Ok(Some((_, Event::SignalEnd { raised: recorded }))) if recorded == raised => replay::settle(),
            _ => divergence::stop_at("a signal's handler ended otherwise than in the recording"),
        }
    }
}
