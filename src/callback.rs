//! Callbacks: Python code that external code calls. While a thread is inside an external call, and only then, the
//! interpreter's frame evaluator is ours; a frame entered there is logged, and runs as internal code with the default
//! evaluator. On replay the event makes us call the same callable with the same arguments.

use crate::call::Call;
use crate::capi::{
    PyCode_GetVarnames, PyThreadState_EnterTracing, PyThreadState_LeaveTracing, is_method, method_function,
};
use crate::decode::{self, Decoder, Failure};
use crate::encode::{self, Encoder, put_str};
use crate::globals;
use crate::python::{Owned, SavedError};
use crate::record::Outside;
use crate::session::{self, Mode};
use crate::{binding, deaths, external_function, schedule, thread, user_threads};
use pyo3_ffi::*;
use retrace_abi::{Frame, FrameCallable, ThreadState};
use retrace_replay::event::{Event, code};
use retrace_replay::value::{Value, put_varint, tag};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

static mut SERIAL: u64 = 0;

/// The serial of the callback that returned or raised this very object, during the current external call.
///
/// # Safety
/// The GIL is held.
pub unsafe fn result_serial(object: *mut PyObject) -> Option<u64> {
    // SAFETY: by contract.
    unsafe { thread::current().results.get() }.serial_of(object)
}

/// Of the newest results of callbacks, the number of one in which something is, and where.
///
/// # Safety
/// The GIL is held.
pub unsafe fn place_in_result(find: impl Fn(*mut PyObject) -> Option<usize>) -> Option<(u64, usize)> {
    // SAFETY: by contract.
    let results = unsafe { thread::current().results.get() };
    results.newest().find_map(|(serial, result)| Some((serial, find(result)?)))
}

/// The newest result of a callback that is as wanted, borrowed, if it is among the last few.
///
/// # Safety
/// The GIL is held.
pub unsafe fn newest_result(is_wanted: impl Fn(*mut PyObject) -> bool) -> Option<*mut PyObject> {
    // SAFETY: by contract.
    let results = unsafe { thread::current().results.get() };
    results.newest().map(|(_, result)| result).find(|result| is_wanted(*result))
}

/// The serial of the callback that raised, during the current external call, the exception whose traceback this is.
///
/// # Safety
/// The GIL is held; the thread is marked external.
pub unsafe fn serial_of_traceback(traceback: *mut PyObject) -> Option<u64> {
    // SAFETY: by contract; the results are live.
    unsafe {
        let results = thread::current().results.get();
        let raised =
            |result| PyExceptionInstance_Check(result) != 0 && Owned(PyException_GetTraceback(result)).0 == traceback;
        results.find(raised)
    }
}

/// What a callback of the current external call returned or raised, borrowed, or null.
///
/// # Safety
/// The GIL is held.
pub unsafe fn result_of(serial: u64) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe { thread::current().results.get() }.result_of(serial)
}

/// What the last callback of the current external call returned, borrowed, or null. `before`: how many results there were
/// before the call.
///
/// # Safety
/// The GIL is held.
pub unsafe fn last_result(before: usize) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe { thread::current().results.get() }.last_since(before)
}

/// The number of the next callback, or signal handler: the same in both directions.
///
/// # Safety
/// The GIL is held.
pub unsafe fn next_serial() -> u64 {
    // SAFETY: by contract.
    unsafe {
        let serial = SERIAL;
        SERIAL += 1;
        serial
    }
}

/// Keeps what a callback returned, or the exception that is set (which stays set).
///
/// # Safety
/// The GIL is held; `result` is null or live.
pub unsafe fn keep_result(serial: u64, result: *mut PyObject) {
    // SAFETY: the GIL is held.
    unsafe {
        let object = if result.is_null() {
            let mut saved = SavedError::take();
            saved.normalize();
            Owned::borrowed(saved.value)
        } else {
            Owned::borrowed(result)
        };
        if !object.is_null() {
            thread::current().results.get().keep(serial, object.0);
        }
    }
}

/// Keeps an object until the external call has ended.
///
/// # Safety
/// The GIL is held; `object` is live.
pub unsafe fn hold(object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe { thread::current().results.get().hold(object) };
}

/// Gives back what callbacks of the external call that has ended returned. May run finalizers, as internal code.
///
/// # Safety
/// In a session; the GIL is held; the thread is not marked external, and its call is not inside another.
#[inline(always)]
pub unsafe fn release_results(thread: &thread::Thread, kept: usize) {
    // SAFETY: by contract.
    if unsafe { thread.results.get() }.len() > kept {
        // SAFETY: by contract.
        unsafe { release(thread, kept) };
    }
}

#[cold]
unsafe fn release(thread: &thread::Thread, kept: usize) {
    // SAFETY: by contract.
    unsafe { let_go(thread.results.get().take_after(kept)) };
}

/// May run finalizers, as internal code. An exception stays set.
unsafe fn let_go(references: impl IntoIterator<Item = *mut PyObject>) {
    // SAFETY: the GIL is held; the references are ours.
    unsafe {
        let saved = SavedError::take();
        for object in references {
            Py_DECREF(object);
        }
        drop(saved);
    }
}

/// Before a callback, or a call's own event, or when an external object was freed: tells the replay which of the objects that
/// external code has made it has let go of. A result that nobody else refers to dies a little later, by internal code.
/// `is_callback`: a callback comes next. Of one by what is freed that is said in any case.
///
/// # Safety
/// Recording; the GIL is held.
#[inline(always)]
pub unsafe fn log_dropped(thread: &thread::Thread, is_callback: bool) {
    // SAFETY: by contract.
    unsafe {
        let results = thread.results.get();
        let calls = if binding::has_made() {
            binding::take_dropped(|object| Py_REFCNT(object) == 1 && results.serial_of(object).is_some())
        } else {
            Vec::new()
        };
        if is_callback || !calls.is_empty() {
            let freeing = deaths::freed_now().map(|number| (number, is_callback));
            if freeing.is_some() || !calls.is_empty() {
                session::append_event(&Event::Dropped { freeing, calls });
            }
        }
    }
}

/// The same on replay, where the next event says what it was. What runs for that are the next callbacks:
/// whether there were any.
///
/// # Safety
/// Replaying; the GIL is held; the thread is not marked external.
pub unsafe fn replay_dropped() -> bool {
    // SAFETY: by contract.
    unsafe {
        let Ok(Some((_, Event::Dropped { calls, .. }))) = crate::replay::source().next_event() else { return false };
        crate::replay::settle();
        replay_letting_go(|| binding::drop_made(&calls))
    }
}

/// Before a callback: what earlier ones of the call returned, and nobody but us refers to any more.
unsafe fn forget_results(thread: &thread::Thread) {
    // SAFETY: by the contract of `record`.
    unsafe {
        let forgotten = thread.results.get().take_forgotten();
        if forgotten.is_empty() {
            return;
        }
        let (serials, objects): (Vec<u64>, Vec<_>) = forgotten.into_iter().unzip();
        session::append_event(&Event::Forgotten { serials });
        let outside = Outside::interrupt(thread);
        let_go(objects);
        outside.resume();
    }
}

/// The same on replay, where the next event says what it was.
///
/// # Safety
/// Replaying; the GIL is held; the thread is not marked external.
pub unsafe fn replay_forgotten() {
    // SAFETY: by contract.
    unsafe {
        if let Ok(Some((_, Event::Forgotten { serials }))) = crate::replay::source().next_event() {
            crate::replay::settle();
            let_go(thread::current().results.get().take(&serials));
        }
    }
}

/// The frame evaluator while armed.
///
/// # Safety
/// Called by CPython.
pub unsafe extern "C" fn entered(tstate: *mut ThreadState, frame: *mut Frame, throwing: c_int) -> *mut PyObject {
    // SAFETY: by contract; `thread` is fetched again after Python ran.
    unsafe {
        let thread = thread::current();
        user_threads::wants_python();
        if LETS_GO && session::is_replaying() && !thread.external.get() {
            return replay_where_it_runs(tstate, frame, throwing);
        }
        if !thread.external.get() || session::mode() != Mode::Recording || is_of_a_body(thread, frame) {
            return crate::record::evaluate(tstate, frame, throwing);
        }
        record(thread, |serial, call| log_entry(serial, frame, call), || evaluate(tstate, frame, throwing))
    }
}

/// Runs a callback's frame. What its variables have dies within the callback: 3.11 lets go of it after the frame evaluator,
/// where external code goes on already.
unsafe fn evaluate(tstate: *mut ThreadState, frame: *mut Frame, throwing: c_int) -> *mut PyObject {
    // SAFETY: by the contract of `entered`.
    unsafe {
        let result = crate::record::evaluate(tstate, frame, throwing);
        retrace_abi::retrace_clear_variables(frame);
        result
    }
}

/// Whether the frame is one of the Python code that a declared function consists of.
unsafe fn is_of_a_body(thread: &thread::Thread, frame: *mut Frame) -> bool {
    // SAFETY: by the contract of `entered`.
    unsafe { thread.body.get() && !external_function::is_given(&callable_of(frame), thread.call.get().as_ref()) }
}

/// What enters a frame.
unsafe fn callable_of(frame: *mut Frame) -> FrameCallable {
    let mut callable = MaybeUninit::<FrameCallable>::zeroed();
    // SAFETY: the frame is about to run, so its locals hold the arguments, raw.
    unsafe {
        retrace_abi::retrace_frame_callable(frame, callable.as_mut_ptr());
        callable.assume_init()
    }
}

/// Runs and records a callback: `log` writes how it begins, `run` is internal code.
///
/// # Safety
/// Recording; the GIL is held; `thread` is the current one, inside an external call.
pub unsafe fn record(
    thread: &thread::Thread,
    log: impl FnOnce(u64, Option<&Call>),
    run: impl FnOnce() -> *mut PyObject,
) -> *mut PyObject {
    // SAFETY: by contract; `thread` is fetched again after Python ran.
    unsafe {
        crate::record::disarm();
        schedule::speak();
        log_dropped(thread, true);
        forget_results(thread);
        let thread = thread::current();
        let serial = next_serial();
        log(serial, thread.call.get().as_ref());
        crate::record::arm();
        let outside = Outside::interrupt(thread::current());
        let result = run();
        schedule::has_spoken();
        if session::mode() != Mode::Recording {
            return result;
        }
        outside.leave_callback();
        keep_result(serial, result);
        let mut event = code::CALLBACK_END.to_le_bytes().to_vec();
        put_varint(&mut event, serial);
        event.push(u8::from(result.is_null()));
        session::append(&[&event]);
        outside.resume();
        result
    }
}

/// What a callback's callable and arguments may be the same object as: what the call has.
pub fn context<'a>(call: Option<&'a Call<'a>>) -> encode::Context<'a> {
    match call {
        Some(call) => encode::Context {
            module: ptr::null_mut(),
            receiver: call.receiver,
            external: call.mirrored(),
            args: call.args,
            class: ptr::null_mut(),
        },
        None => encode::Context::NONE,
    }
}

/// Logs that a callback begins. The thread is still marked external: what encoding runs is not recorded.
unsafe fn log_entry(serial: u64, frame: *mut Frame, call: Option<&Call>) {
    // SAFETY: the GIL is held; the frame is about to run, so its locals hold the arguments, raw.
    unsafe {
        let saved = SavedError::take();
        let callable = callable_of(frame);
        let mut event = code::CALLBACK.to_le_bytes().to_vec();
        put_varint(&mut event, serial);
        let context = context(call);
        let mut opaque = put_callable(&mut event, &callable, context);
        let mut encoder = Encoder::for_program(&mut event, context);
        let locals = |i: c_int| *callable.locals.add(i as usize);
        if callable.is_generator != 0 {
            encoder.out.push(tag::TUPLE);
            put_varint(encoder.out, 1);
            encoder.value(callable.sent);
            encoder.out.push(tag::NULL);
        } else {
            let extra = if callable.varargs >= 0 { locals(callable.varargs) } else { ptr::null_mut() };
            let n_extra = if extra.is_null() { 0 } else { PyTuple_GET_SIZE(extra) };
            encoder.out.push(tag::TUPLE);
            put_varint(encoder.out, callable.positional as u64 + n_extra as u64);
            for i in 0..callable.positional {
                encode_local(&mut encoder, locals(i));
            }
            for i in 0..n_extra {
                encode_local(&mut encoder, PyTuple_GET_ITEM(extra, i));
            }
            put_keywords(&mut encoder, &callable);
        }
        opaque += encoder.opaque;
        if opaque > 0 {
            session::count_opaque(opaque);
        }
        session::append(&[&event]);
        drop(saved);
    }
}

unsafe fn encode_local(encoder: &mut Encoder, object: *mut PyObject) {
    // SAFETY: as in `log_entry`.
    unsafe {
        if !object.is_null() && PyFrame_Check(object) != 0 {
            encoder.out.push(tag::FRAME);
        } else {
            encoder.value(object);
        }
    }
}

unsafe fn put_keywords(encoder: &mut Encoder, callable: &FrameCallable) {
    // SAFETY: as in `log_entry`; the names are those of the code object's variables.
    unsafe {
        let names = Owned(PyCode_GetVarnames(callable.code.cast()));
        let extra = if callable.varkeywords >= 0 {
            *callable.locals.add(callable.varkeywords as usize)
        } else {
            ptr::null_mut()
        };
        let n_extra = if extra.is_null() { 0 } else { PyDict_Size(extra) };
        if (callable.keyword_only == 0 && n_extra == 0) || names.is_null() {
            PyErr_Clear();
            encoder.out.push(tag::NULL);
            return;
        }
        encoder.out.push(tag::DICT);
        put_varint(encoder.out, callable.keyword_only as u64 + n_extra as u64);
        for i in callable.positional..callable.positional + callable.keyword_only {
            encoder.value(PyTuple_GetItem(names.0, i as Py_ssize_t));
            encode_local(encoder, *callable.locals.add(i as usize));
        }
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while !extra.is_null() && PyDict_Next(extra, &mut position, &mut key, &mut value) != 0 {
            encoder.value(key);
            encode_local(encoder, value);
        }
    }
}

/// Whether a function is its first argument's by that name: of the class, or a class method of what is one. Asks the types
/// only: attributes may be the program's to compute.
unsafe fn is_of_class(receiver: *mut PyObject, name: *mut PyObject, function: *mut PyObject) -> bool {
    // SAFETY: as in `log_entry`.
    unsafe {
        if PyUnicode_CheckExact(name) == 0 {
            return false;
        }
        if crate::capi::_PyType_Lookup(Py_TYPE(receiver), name) == function {
            return true;
        }
        if PyType_Check(receiver) == 0 {
            return false;
        }
        let found = crate::capi::_PyType_Lookup(receiver.cast(), name);
        !found.is_null()
            && Py_TYPE(found) == &raw mut PyClassMethod_Type
            && crate::python::attribute(found, c"__func__").0 == function
    }
}

/// Names the callable; 1 where that failed.
unsafe fn put_callable(out: &mut Vec<u8>, callable: &FrameCallable, context: encode::Context) -> u32 {
    // SAFETY: as in `log_entry`.
    unsafe {
        let function = callable.callable;
        if function.is_null() {
            out.push(tag::OPAQUE);
            put_str(out, "module body");
            return 1;
        }
        // An argument of the call, or the function of a bound method that is one.
        for (i, &arg) in context.args.iter().enumerate() {
            if arg == function {
                out.push(tag::ARGUMENT);
                put_varint(out, i as u64);
                return 0;
            }
            if is_method(arg) && method_function(arg) == function {
                out.push(tag::ATTRIBUTE);
                out.push(tag::ARGUMENT);
                put_varint(out, i as u64);
                put_str(out, "__func__");
                return 0;
            }
        }
        if globals::is_global(function) || binding::name_of(function).is_some() {
            let mut encoder = Encoder::for_program(out, context);
            encoder.value(function);
            return encoder.opaque;
        }
        // A method of its first argument's class.
        if callable.is_generator == 0 && callable.positional > 0 {
            let receiver = *callable.locals;
            let name = crate::python::attribute(function, c"__name__");
            if !receiver.is_null() && !name.is_null() && is_of_class(receiver, name.0, function) {
                out.extend_from_slice(&[tag::ATTRIBUTE, tag::ATTRIBUTE]);
                let mut encoder = Encoder::for_program(out, context);
                encoder.value(receiver);
                let opaque = encoder.opaque;
                put_str(out, &crate::python::text(name.0));
                put_str(out, "__func__");
                return opaque;
            }
        }
        let mut encoder = Encoder::for_program(out, context);
        encoder.value(function);
        encoder.opaque
    }
}

/// Runs the callback whose event's head has just been read, up to its end event.
///
/// # Safety
/// Replaying; the GIL is held; the thread is not marked external.
pub unsafe fn replay(call: Option<&Call>) -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        let thread = thread::current();
        thread.external.set(true);
        let read = read_callback(call);
        thread::current().external.set(false);
        let (serial, callable, args, keywords) = read?;
        let result = replay_run(serial, || {
            let untraced = crate::special::is_untraced(callable.0);
            if untraced {
                PyThreadState_EnterTracing(PyThreadState_Get());
            }
            let result = if args.is_null() {
                next_of(callable.0)
            } else if PyGen_Check(callable.0) != 0 || PyCoro_CheckExact(callable.0) != 0 {
                let mut sent = ptr::null_mut();
                PyIter_Send(callable.0, PyTuple_GetItem(args.0, 0), &mut sent);
                sent
            } else if let Some(object) = finalized_by(callable.0, args.0) {
                PyObject_CallFinalizer(object);
                Owned::borrowed(Py_None()).into_raw()
            } else {
                PyObject_Call(callable.0, args.0, keywords.0)
            };
            if untraced {
                PyThreadState_LeaveTracing(PyThreadState_Get());
            }
            result
        })?;
        if result.is_null() {
            PyErr_Clear();
        }
        drop(Owned(result));
        Ok(())
    }
}

/// Whether the next callback is one by what external code was given and has still: not by something that it lets go of.
///
/// # Safety
/// Replaying; the GIL is held; the next event is a callback.
pub unsafe fn is_of_kept() -> bool {
    // SAFETY: by contract.
    let next = unsafe { crate::replay::source() }.clone().next_event();
    let Ok(Some((_, Event::Callback { callable, .. }))) = next else { return false };
    match callable {
        Value::Bound { .. } => true,
        // The function of a method, but for a finalizer's.
        Value::Attribute { of, .. } => {
            !matches!(*of, Value::Attribute { name, .. } if name.to_string_lossy() == "__del__")
        }
        _ => false,
    }
}

/// Runs a callback whose event has been read, and reads its end. Returns what it returned, or null with an exception set.
unsafe fn replay_run(serial: u64, run: impl FnOnce() -> *mut PyObject) -> Result<*mut PyObject, Failure> {
    // SAFETY: by the contract of `replay`.
    unsafe {
        next_serial();
        let outer = thread::current().results.get().enter();
        let result = run();
        thread::current().results.get().leave(outer);
        keep_result(serial, result);
        crate::replay::expect_callback_end(serial, result.is_null())?;
        Ok(result)
    }
}

/// The object of which a callback is the finalizer. To be called as that: a copy that is made for it has none of its own then.
unsafe fn finalized_by(callable: *mut PyObject, args: *mut PyObject) -> Option<*mut PyObject> {
    // SAFETY: as in `replay`; the arguments are a tuple.
    unsafe {
        if PyFunction_Check(callable) == 0 || PyTuple_GET_SIZE(args) != 1 {
            return None;
        }
        let object = PyTuple_GET_ITEM(args, 0);
        let finalizer = crate::capi::_PyType_Lookup(Py_TYPE(object), crate::python::string("__del__").0);
        (finalizer == callable && (*Py_TYPE(object)).tp_finalize.is_some()).then_some(object)
    }
}

/// On replay, something is let go of that the outside had let go of: what runs for that by itself are the recording's next
/// callbacks.
static mut LETS_GO: bool = false;

/// Whether something is let go of so.
///
/// # Safety
/// The GIL is held.
pub unsafe fn lets_go() -> bool {
    // SAFETY: by contract.
    unsafe { LETS_GO }
}

/// Lets go, on replay, of what external code let go of here in the recording. Whether a callback ran for that.
///
/// # Safety
/// Replaying; the GIL is held; the thread is not marked external.
pub unsafe fn replay_letting_go(let_go: impl FnOnce()) -> bool {
    // SAFETY: by contract.
    unsafe {
        if LETS_GO || !session::is_replaying() || thread::current().external.get() {
            let_go();
            return false;
        }
        let before = SERIAL;
        LETS_GO = true;
        crate::record::arm();
        let_go();
        crate::record::disarm();
        LETS_GO = false;
        SERIAL != before
    }
}

/// A frame that something is let go by has begun: the callback that the next event is.
unsafe fn replay_where_it_runs(tstate: *mut ThreadState, frame: *mut Frame, throwing: c_int) -> *mut PyObject {
    // SAFETY: by the contract of `entered`; who ends the replay does not return.
    unsafe {
        crate::record::disarm();
        LETS_GO = false;
        if let Err(failure) = crate::replay::before_callback() {
            crate::divergence::stop(None, &failure);
        }
        let result = if crate::replay::next_has(code::CALLBACK)
            && let Ok(Some((_, Event::Callback { serial, .. }))) = crate::replay::source().next_event()
        {
            crate::replay::settle();
            match replay_run(serial, || evaluate(tstate, frame, throwing)) {
                Ok(result) => result,
                Err(failure) => crate::divergence::stop(None, &failure),
            }
        } else {
            evaluate(tstate, frame, throwing)
        };
        LETS_GO = true;
        crate::record::arm();
        result
    }
}

/// Runs external code that is no call's, and lets go of what it keeps.
///
/// # Safety
/// Recording; the GIL is held; the thread is marked external, and its frames do not go through [`entered`].
pub unsafe fn record_letting_go(run: impl FnOnce()) {
    // SAFETY: by contract; `thread` is fetched again after Python ran.
    unsafe {
        let call = thread::current().call.replace(ptr::null());
        crate::record::arm();
        run();
        crate::record::disarm();
        thread::current().call.set(call);
    }
}

/// An iterator's next item, or null, also without an exception.
unsafe fn next_of(iterator: *mut PyObject) -> *mut PyObject {
    // SAFETY: a live object; the GIL is held.
    unsafe {
        match (*Py_TYPE(iterator)).tp_iternext {
            Some(next) => next(iterator),
            None => ptr::null_mut(),
        }
    }
}

type Read = (u64, Owned, Owned, Owned);

unsafe fn read_callback(call: Option<&Call>) -> Result<Read, Failure> {
    // SAFETY: as in `replay`.
    unsafe {
        let source = crate::replay::source();
        let serial = source.read_varint()?;
        let context = match call {
            Some(call) => decode::Context { receiver: call.receiver, external: call.mirrored(), args: call.args },
            // A thread that Python did not make has called it.
            None => decode::Context::NONE,
        };
        let mut decoder = Decoder::new(source, context);
        let callable = decoder.value()?;
        let args = decoder.value()?;
        let keywords = decoder.value()?;
        crate::replay::source().finish_event();
        crate::replay::settle();
        if callable.is_null() {
            return Err(Failure::Missing("a callback's callable is missing".into()));
        }
        Ok((serial, callable, args, keywords))
    }
}
