//! Replaying: nothing is called; the log says what came of every call, and the hook returns that.

use crate::call::Call;
use crate::decode::{Context, Decoder, Failure};
use crate::divergence;
use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::python::Owned;
use crate::thread::{self, Thread};
use crate::{address, buffers, callback, console, external_function, seed, signals, special, user_threads};
use pyo3_ffi::*;
use retrace_replay::byte_source::ByteSource;
use retrace_replay::event::{
    ARGUMENTS_BIT, COLLECT_AT_CHECK, Event, Fingerprint, HookKind, ModuleTreatment, Position, WaitEnd, code, flag, form,
};
use retrace_replay::event_stream::EventStream;
use retrace_replay::value::{Strings, Value};
use std::collections::HashMap;
use std::ptr;

static SOURCE: GilCell<Option<EventStream>> = GilCell::new(None);
/// The recording's hook index to ours.
static OURS: GilCell<Vec<Option<u16>>> = GilCell::new(Vec::new());
/// The recording's names, for reports.
static RECORDED_NAMES: GilCell<Vec<String>> = GilCell::new(Vec::new());
static mut STRICT: bool = false;

/// The log.
///
/// # Safety
/// Replaying; the GIL is held; the reference is not kept across Python code.
pub unsafe fn source() -> &'static mut EventStream {
    // SAFETY: the mode is Replaying only while there is a source.
    unsafe { SOURCE.get().as_mut().unwrap_unchecked() }
}

/// `descent`: the forks that lead from this process to the one that is replayed, as (fork of its parent's, process).
///
/// # Safety
/// The GIL is held.
pub unsafe fn begin(events: EventStream, strict: bool, descent: Vec<(u64, u32)>) {
    // SAFETY: by contract.
    unsafe {
        *SOURCE.get() = Some(events);
        STRICT = strict;
        MUTED = !descent.is_empty();
        DESCENT.get().extend(descent.into_iter().rev());
    }
}

/// The forks still to come on the way to the replayed process, the next one last.
static DESCENT: GilCell<Vec<(u64, u32)>> = GilCell::new(Vec::new());
static mut MUTED: bool = false;

/// Whether what the program writes is an ancestor's output.
///
/// # Safety
/// The GIL is held.
pub unsafe fn is_muted() -> bool {
    // SAFETY: by contract.
    unsafe { MUTED }
}

/// If the process's fork number `serial` made the process that is replayed, or an ancestor of it: goes on with that one's
/// events.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn becomes_child(serial: u64) -> bool {
    // SAFETY: by contract.
    unsafe {
        let Some(&(fork, process)) = DESCENT.get().last() else { return false };
        if fork != serial {
            return false;
        }
        DESCENT.get().pop();
        MUTED = !DESCENT.get().is_empty();
        console::become_child();
        crate::library_locks::forget_all();
        let events = crate::start::go_on_as(process);
        *SOURCE.get() = Some(events);
        // The child's stream begins with its start, and names all hooks again.
        let Ok(Some((_, Event::Start(start)))) = source().next_event() else {
            divergence::recording_cut("a forked process's start");
        };
        user_threads::set_pid(start.get("pid").and_then(Value::as_int).unwrap_or(0));
        OURS.get().clear();
        RECORDED_NAMES.get().clear();
        settle();
        if DESCENT.get().is_empty() {
            crate::timeline::became_child();
        }
        true
    }
}

/// The recording's name of hook `index`.
///
/// # Safety
/// The GIL is held.
pub unsafe fn recorded_name(index: u16) -> String {
    // SAFETY: by contract.
    unsafe {
        let names = &*RECORDED_NAMES.get();
        names.get(usize::from(index)).cloned().unwrap_or_else(|| format!("hook {index}"))
    }
}

/// Reads the hooks events at the cursor: which of our hooks the recording's indices stand for.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn read_hooks() -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        let names: HashMap<(&str, HookKind), u16> =
            hook::all().iter().map(|hook| ((hook.name.as_str(), hook.kind), hook.index)).collect();
        let source = source();
        source.read_u16()?;
        let first = source.read_varint()? as usize;
        let ours = OURS.get();
        let recorded = RECORDED_NAMES.get();
        if first != ours.len() {
            return Err(Failure::Missing(format!("hooks from {first} follow {} hooks", ours.len())));
        }
        for _ in 0..source.read_varint()? {
            let Value::Str(name) = source.read_value()? else {
                return Err(Failure::Missing("a hook has no name".into()));
            };
            let name = name.to_string_lossy();
            let kind = HookKind::try_from(source.read_u8()?)?;
            ours.push(names.get(&(name.as_str(), kind)).copied());
            recorded.push(name);
        }
        source.finish_event();
        settle();
        Ok(())
    }
}

/// What comes next in the log, as far as it is about the schedule. Known between events only: [`settle`] says when.
#[derive(Clone, Copy, Debug)]
pub enum Front {
    /// A call, or anything else that the running thread comes to by itself.
    Other,
    Switch {
        next: u64,
        from: Position,
    },
    Thread {
        serial: u64,
        ident: u64,
        kind: u8,
        error: i32,
    },
    Busy(u64),
    Retry(u64),
    Wait(WaitEnd),
    /// A collection at a check of the eval breaker.
    Collect(Fingerprint),
    Signal {
        number: u64,
        at: Position,
    },
    Fork {
        pid: i64,
    },
}

impl Front {
    /// Whether the event is at a check of the eval breaker, which has to be found.
    pub fn is_at_check(self) -> bool {
        matches!(
            self,
            Front::Switch { from: Position::Check(_), .. }
                | Front::Signal { at: Position::Check(_), .. }
                | Front::Collect(_)
        )
    }
}

static FRONT: GilCell<Front> = GilCell::new(Front::Other);

/// What comes next.
///
/// # Safety
/// Replaying, on the only thread.
#[inline(always)]
pub unsafe fn front() -> Front {
    // SAFETY: by contract.
    unsafe { *FRONT.get() }
}

/// An event has been read whole: looks at what comes next, so that the hooks of the schedule know without reading.
///
/// # Safety
/// Replaying; the cursor is between events.
#[inline(always)]
pub unsafe fn settle() {
    // SAFETY: by contract.
    unsafe {
        let source = source();
        if !source.at_end()
            && let Ok(head) = source.peek_u16()
            && head > code::START
        {
            look_ahead();
        } else {
            *FRONT.get() = Front::Other;
        }
    }
}

#[cold]
unsafe fn look_ahead() {
    // SAFETY: as in `settle`.
    unsafe {
        *FRONT.get() = loop {
            match schedule_event() {
                // It has just come to Python: who has the GIL makes it known, and switches to it next.
                Front::Thread { serial, ident, kind: crate::schedule::FOREIGN, .. }
                    if source().peek_u16() == Ok(code::THREAD) =>
                {
                    if !matches!(source().next_event(), Ok(Some(_))) {
                        break Front::Other;
                    }
                    user_threads::add_foreign(serial, ident);
                }
                front => break front,
            }
        };
        arm();
    }
}

/// Runs the callback that the next event is, on a thread that Python did not make. False where it is another event.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn foreign_callback() -> Result<bool, Failure> {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        if source().at_end() || source().peek_u16()? != code::CALLBACK {
            return Ok(false);
        }
        source().read_u16()?;
        source().finish_event();
        callback::replay(None)?;
        Ok(true)
    }
}

/// The log from the next event on that is not of hooks: those are read by whoever consumes what follows.
unsafe fn behind_hooks() -> EventStream {
    // SAFETY: as in `settle`.
    let mut ahead = unsafe { source() }.clone();
    while ahead.peek_u16() == Ok(code::HOOKS) && matches!(ahead.next_event(), Ok(Some(_))) {}
    ahead
}

/// Our hook that an index of the recording's stands for.
unsafe fn our_hook(recorded: u16) -> Option<u16> {
    // SAFETY: as in `settle`.
    unsafe { OURS.get().get(usize::from(recorded)).copied().flatten() }
}

/// The next event, if the schedule's hooks come to it.
unsafe fn schedule_event() -> Front {
    // SAFETY: as in `settle`.
    unsafe {
        use code::{BUSY, COLLECT, FORK, RETRY, SIGNAL, SWITCH, THREAD, WAIT};
        let mut ahead = behind_hooks();
        if !matches!(ahead.peek_u16(), Ok(SWITCH | THREAD | BUSY | RETRY | WAIT | COLLECT | SIGNAL | FORK)) {
            return Front::Other;
        }
        match ahead.next_event() {
            Ok(Some((_, Event::Switch { thread, from }))) => Front::Switch { next: thread, from },
            Ok(Some((_, Event::Thread { serial, ident, kind, error }))) => Front::Thread { serial, ident, kind, error },
            Ok(Some((_, Event::Busy { tries }))) => Front::Busy(tries),
            Ok(Some((_, Event::Retry { tries }))) => Front::Retry(tries),
            Ok(Some((_, Event::Wait(end)))) => Front::Wait(end),
            Ok(Some((_, Event::Collect { at: Some(at), .. }))) => Front::Collect(at),
            Ok(Some((_, Event::Signal { number, at }))) => Front::Signal { number, at },
            Ok(Some((_, Event::Fork { pid, .. }))) => Front::Fork { pid },
            // An event that is cut off is met as such by whoever comes to it.
            _ => Front::Other,
        }
    }
}

/// Reads the hooks that stand before the event that [`front`] shows.
///
/// # Safety
/// As [`settle`].
pub unsafe fn read_pending_hooks() {
    // SAFETY: by contract.
    unsafe {
        while source().peek_u16() == Ok(code::HOOKS) {
            if let Err(failure) = read_hooks() {
                divergence::stop(None, &failure);
            }
        }
    }
}

/// The event that [`front`] shows has happened.
///
/// # Safety
/// As [`settle`].
pub unsafe fn consume_front() {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        if !matches!(source().next_event(), Ok(Some(_))) {
            divergence::recording_cut("a switch of threads");
        }
        settle();
    }
}

/// The process's exit status, if nothing else is left of the recording. Negative where nobody knew it.
///
/// # Safety
/// As [`settle`].
pub unsafe fn recorded_end() -> Option<i32> {
    // SAFETY: by contract.
    let mut ahead = unsafe { source() }.clone();
    match ahead.next_event() {
        Ok(Some((_, Event::End { status }))) if ahead.at_end() => Some(status),
        _ => None,
    }
}

/// Has the running thread stop at each check of the eval breaker where the next event is at one.
///
/// # Safety
/// As [`settle`].
pub unsafe fn arm() {
    // SAFETY: by contract.
    unsafe {
        match front() {
            Front::Switch { from: Position::Check(_), .. } | Front::Collect(_) => {
                retrace_abi::gil::retrace_request_check();
            }
            Front::Signal { number, at: Position::Check(_) | Position::Released(_) } => {
                PyErr_SetInterruptEx(number as i32);
                // And again after the next check, if that is not the one.
                retrace_abi::gil::retrace_request_check();
            }
            _ => {}
        }
    }
}

/// Events that stand before a call without being part of it.
unsafe fn before_call() -> Result<(), Failure> {
    // SAFETY: replaying, the GIL held, the thread not external.
    unsafe {
        while !source().at_end() {
            match source().peek_u16()? {
                code::HOOKS => read_hooks()?,
                // The end of a collection is for the one that runs it: this call is a finalizer's.
                code::COLLECT if matches!(front(), Front::Collect(_)) || collection_ends()? => break,
                code::COLLECT => collect()?,
                code::SWITCH => {
                    let Front::Switch { next, from: Position::InCall } = front() else { break };
                    consume_front();
                    user_threads::switch_in_call(next);
                }
                code::SIGNAL => {
                    let Front::Signal { number, at: Position::InCall } = front() else { break };
                    signals::replay_in_call(number);
                }
                code::WRITTEN => {
                    if let Ok(Some((_, Event::Written { after }))) = source().next_event() {
                        console::wrote_after(after);
                    }
                    settle();
                }
                code::STOPPED => divergence::recording_stopped(),
                _ => break,
            }
        }
        Ok(())
    }
}

/// Whether the collect event at the cursor is one that ends a collection.
unsafe fn collection_ends() -> Result<bool, Failure> {
    // SAFETY: as in `before_call`.
    let mut ahead = unsafe { source() }.clone();
    ahead.read_u16()?;
    Ok(ahead.read_u8()? & crate::session::COLLECTED != 0)
}

/// Runs the collection whose event is at the cursor.
///
/// # Safety
/// Replaying; the GIL is held and the current thread state set.
pub unsafe fn collect() -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        let (generation, _) = read_collect()?;
        let found = retrace_abi::collector::retrace_collect(i32::from(generation & 3)).max(0) as u64;
        if source().at_end() || source().peek_u16()? != code::COLLECT {
            return Err(Failure::Missing("the finalizers of a collection did not do what they did".into()));
        }
        let (end, recorded) = read_collect()?;
        let expected = generation & 3 | crate::session::COLLECTED;
        let comparable = !external_function::have_run();
        if end != expected || (found != recorded && comparable) {
            return Err(Failure::Missing(format!(
                "a collection of generation {} found {found} unreachable objects, {recorded} in the recording",
                generation & 3
            )));
        }
        Ok(())
    }
}

unsafe fn read_collect() -> Result<(u8, u64), Failure> {
    // SAFETY: as in `before_call`.
    unsafe {
        let source = source();
        source.read_u16()?;
        let generation = source.read_u8()?;
        let found = source.read_varint()?;
        if generation & COLLECT_AT_CHECK != 0 {
            Fingerprint::decode(source)?;
        }
        source.finish_event();
        settle();
        Ok((generation, found))
    }
}

/// Whether the next call in the log, after what may stand before it, is one of `hook`.
unsafe fn next_call_is(hook: &Hook) -> bool {
    // SAFETY: as in `before_call`.
    if let Err(failure) = unsafe { before_call() } {
        // SAFETY: replaying, the GIL held.
        unsafe { divergence::stop(None, &failure) };
    }
    // SAFETY: as above.
    unsafe { next_is(hook) }
}

/// Whether the next event is a call of `hook`.
unsafe fn next_is(hook: &Hook) -> bool {
    // SAFETY: as in `before_call`.
    unsafe {
        let Ok(head) = source().peek_u16() else { return false };
        our_hook(head & code::MASK) == Some(hook.index)
    }
}

// ---- the C library's functions that extension modules call ----

/// Behind the event that [`native_call`] showed.
static BEHIND: GilCell<Option<EventStream>> = GilCell::new(None);

/// Whether a recorded call is one of `hook`.
///
/// # Safety
/// Replaying.
pub unsafe fn is_call_of(call: &retrace_replay::event::Call, hook: u16) -> bool {
    // SAFETY: by contract.
    unsafe { our_hook(call.hook) == Some(hook) }
}

/// The event at the cursor, if it is a call of `hook` by C code. It stays there until [`pass_native_call`].
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn front_call(hook: u16) -> Option<retrace_replay::event::Call> {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        let head = source().peek_u16().ok()?;
        if our_hook(head & code::MASK) != Some(hook) {
            return None;
        }
        let mut ahead = source().clone();
        let Ok(Some((_, Event::Call(call)))) = ahead.next_event() else { return None };
        *BEHIND.get() = Some(ahead);
        Some(call)
    }
}

/// The event at the cursor, which has to be a call of `hook` by C code. It stays there until [`pass_native_call`].
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn native_call(hook: &Hook) -> retrace_replay::event::Call {
    // SAFETY: by contract.
    unsafe {
        if let Some(call) = front_call(hook.index) {
            return call;
        }
        match source().clone().next_event() {
            Ok(Some((_, Event::Stopped(_)))) => divergence::recording_stopped(),
            Ok(None) => divergence::recording_cut(&format!("{} by C code", hook.name)),
            _ => divergence::stop_at(&format!("{} by C code", hook.name)),
        }
    }
}

/// The call that [`native_call`] showed has been made.
///
/// # Safety
/// As [`native_call`].
pub unsafe fn pass_native_call() {
    // SAFETY: by contract.
    unsafe {
        if let Some(behind) = BEHIND.get().take() {
            *source() = behind;
        }
        settle();
    }
}

/// The event at the cursor, which has to be the annotation of this call.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn annotation(call: &Call) -> retrace_replay::event::Call {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        let mut ahead = source().clone();
        match ahead.next_event() {
            Ok(Some((_, Event::Annotation(recorded)))) if is_call_of(&recorded, call.hook.index) => {
                *source() = ahead;
                settle();
                recorded
            }
            Ok(Some((_, Event::Stopped(_)))) => divergence::recording_stopped(),
            Ok(None) => divergence::log_ended(call),
            _ => divergence::other_call(call),
        }
    }
}

/// Whether an argument that differs stops the replay.
///
/// # Safety
/// The GIL is held.
pub unsafe fn is_strict() -> bool {
    // SAFETY: by contract.
    unsafe { STRICT }
}

/// Whether the next event has calls of C code that had no GIL.
///
/// # Safety
/// Replaying.
pub unsafe fn native_calls_at_front() -> bool {
    // SAFETY: by contract.
    unsafe { behind_hooks().peek_u16() == Ok(code::RELEASED) }
}

/// What C code calls before its thread takes the GIL: the event at the cursor, or, for another thread than the one whose
/// turn it is, the one behind the switch to it. `None` where the recording has none.
///
/// # Safety
/// Replaying.
pub unsafe fn native_calls_of(thread: Option<u64>) -> Option<Vec<retrace_replay::event::Call>> {
    // SAFETY: by contract.
    unsafe {
        let mut ahead = source().clone();
        if let Some(wanted) = thread {
            loop {
                match ahead.next_event() {
                    Ok(Some((_, Event::Switch { thread, .. }))) if thread == wanted => break,
                    Ok(Some(_)) => {}
                    _ => return None,
                }
            }
        }
        loop {
            match ahead.next_event() {
                Ok(Some((_, Event::Hooks { .. }))) => {}
                Ok(Some((_, Event::Released(calls)))) => return Some(calls),
                _ => return None,
            }
        }
    }
}

/// A call by code that the program never ran: there is nothing recorded for it, and the world is not asked.
///
/// # Safety
/// The GIL is held.
#[cold]
pub unsafe fn refuse(call: &Call) -> *mut PyObject {
    let what = format!("{} would leave the replay, and nothing is recorded for it here", call.hook.name);
    // SAFETY: by contract.
    unsafe {
        let message = crate::python::string(&what);
        PyErr_SetObject(PyExc_RuntimeError, message.0);
    }
    ptr::null_mut()
}

/// Any call: what the recording says it returned or raised.
///
/// # Safety
/// Replaying; the GIL is held; the thread is not external.
pub unsafe fn call(call: &Call, thread: &Thread) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        special::before(call);
        if call.hook.entry.seed && !seed::draws_entropy(call) {
            return call.invoke();
        }
        let converted = match call.convert() {
            Ok(converted) => converted,
            Err(()) => return ptr::null_mut(),
        };
        let call = &match &converted {
            Some(converted) => converted.apply(call),
            None => *call,
        };
        if call.hook.entry.terminal && !next_call_is(call.hook) {
            return call.invoke();
        }
        if call.hook.entry.keeps {
            crate::binding::bind_arguments(call);
        }
        if external_function::is_body(call) {
            external_function::begins();
        }
        let kept = thread.results.get().len();
        match consume(call) {
            Ok(result) => {
                callback::release_results(thread::current(), kept);
                result
            }
            Err(failure) => divergence::stop(Some(call), &failure),
        }
    }
}

/// Callbacks, then the call's own event.
unsafe fn consume(call: &Call) -> Result<*mut PyObject, Failure> {
    // SAFETY: as in `call`.
    unsafe {
        let mut announced = false;
        loop {
            before_call()?;
            if source().at_end() {
                if announced {
                    divergence::end_of_recording(call);
                }
                divergence::log_ended(call);
            }
            let head = source().peek_u16()?;
            if head == code::CALLBACK {
                source().read_u16()?;
                source().finish_event();
                callback::replay(Some(call))?;
                continue;
            }
            if !next_is(call.hook) {
                divergence::other_call(call);
            }
            source().read_u16()?;
            let at = source().read_u16()?;
            let here = crate::record::caller_offset();
            if at != here {
                divergence::other_caller(call, at, here);
            }
            if head & ARGUMENTS_BIT != 0 || !(call.args.is_empty() || call.hook.blind) {
                compare_arguments(call, head & ARGUMENTS_BIT != 0)?;
            }
            let form = (head & !ARGUMENTS_BIT) >> form::SHIFT;
            if call.hook.entry.last && form == form::END && !announced {
                // The announcement of a call that might not return.
                source().finish_event();
                settle();
                announced = true;
                if call.hook.entry.fork || !source().at_end() && source().peek_u16()? == code::END {
                    divergence::end_of_recording(call);
                }
                continue;
            }
            let before = console::descriptor_before(call);
            let thread = thread::current();
            thread.external.set(true);
            let outcome = outcome(call, form);
            thread::current().external.set(false);
            let outcome = outcome?;
            source().finish_event();
            settle();
            if call.hook.entry.live {
                run_live(call);
            }
            let result = match outcome {
                Outcome::Returned(result) => {
                    if call.hook.entry.address {
                        address::remember(call, result.0);
                    }
                    console::after(call, result.0, before);
                    result.into_raw()
                }
                Outcome::Raised(exception) if external_function::is_body(call) => {
                    external_function::raise(exception);
                    ptr::null_mut()
                }
                Outcome::Raised(exception) => {
                    PyErr_SetObject(Py_TYPE(exception.0).cast(), exception.0);
                    ptr::null_mut()
                }
                Outcome::Ended => ptr::null_mut(),
            };
            console::call_ended();
            return Ok(result);
        }
    }
}

/// Runs the original for its effect on C state that internal code reads; what it returns is the log's to say.
unsafe fn run_live(call: &Call) {
    // SAFETY: as in `call`.
    unsafe {
        let thread = thread::current();
        thread.external.set(true);
        let result = call.invoke();
        if result.is_null() {
            PyErr_Clear();
        }
        drop(Owned(result));
        thread::current().external.set(false);
    }
}

/// Encodes the arguments as the recorder would and compares the bytes.
unsafe fn compare_arguments(call: &Call, recorded: bool) -> Result<(), Failure> {
    // SAFETY: as in `call`.
    unsafe {
        if !recorded {
            return Err(Failure::Missing("the call had no arguments in the recording".into()));
        }
        let thread = thread::current();
        let mut ours = thread.take_buffer();
        if call.args.is_empty() {
            ours.push(0);
        } else {
            crate::record::put_arguments(&mut ours, call);
        }
        let mut ahead = source().clone();
        let mut theirs = vec![0; ours.len()];
        if ahead.remaining() >= ours.len() as u64 && ahead.read_exact(&mut theirs).is_ok() && theirs == ours {
            *source() = ahead;
            thread::current().give_buffer(ours);
            return Ok(());
        }
        let n = source().read_u8()?;
        let mut values = Vec::new();
        for _ in 0..n {
            values.push(source().read_value()?);
        }
        let mut slice = retrace_replay::byte_source::SliceSource::new(&ours);
        let mut strings = Strings::default();
        let count = slice.read_u8().unwrap_or(0);
        let met: Vec<Value> = (0..count).map_while(|_| Value::decode(&mut slice, &mut strings).ok()).collect();
        divergence::other_arguments(call, &values, &met, STRICT);
        Ok(())
    }
}

enum Outcome {
    Returned(Owned),
    Raised(Owned),
    Ended,
}

unsafe fn outcome(call: &Call, form: u16) -> Result<Outcome, Failure> {
    // SAFETY: as in `call`; the thread is marked external.
    unsafe {
        let mirrored = call.mirrored();
        let context = Context {
            receiver: match call.hook.kind {
                HookKind::New => call.receiver,
                _ if call.hook.external.is_some() => call.receiver,
                _ => ptr::null_mut(),
            },
            external: mirrored,
            args: call.args,
        };
        let mut decoder = Decoder { source: source(), context };
        Ok(match form {
            form::NONE => Outcome::Returned(Owned::borrowed(Py_None())),
            form::FLOAT => Outcome::Returned(Owned(PyFloat_FromDouble(decoder.source.read_f64()?))),
            form::VALUE => Outcome::Returned(decoder.value()?),
            form::RAISED => Outcome::Raised(decoder.value()?),
            form::END => Outcome::Ended,
            _ => return general(call, decoder),
        })
    }
}

unsafe fn general(call: &Call, mut decoder: Decoder) -> Result<Outcome, Failure> {
    // SAFETY: as in `outcome`.
    unsafe {
        let flags = decoder.source.read_u8()?;
        if flags & flag::EXTRA != 0 && crate::memory_map::makes_map(call) {
            let described = decoder.value()?;
            return Ok(Outcome::Returned(crate::memory_map::make(call, described.0)?));
        }
        let outcome = if flags & flag::RESULT != 0 {
            Outcome::Returned(decoder.value()?)
        } else if flags & flag::RAISED != 0 {
            Outcome::Raised(decoder.value()?)
        } else {
            Outcome::Ended
        };
        if let Some(external) = call.mirrored() {
            if flags & flag::SCALARS != 0 {
                let n = decoder.source.read_varint()?;
                let scalars = decoder.source.read_vec(n)?;
                if !external.write_scalars(call.receiver, &scalars) {
                    return Err(Failure::Missing(format!("{} has other members here", external.name)));
                }
            }
            if flags & flag::MEMBERS != 0 {
                decoder.members(external, call.receiver)?;
            }
            if flags & flag::DICT != 0 {
                let changes = decoder.value()?;
                apply_dict(external.dict_slot(call.receiver), changes.0)?;
            }
        }
        if flags & flag::BUFFERS != 0 {
            buffers::replay(decoder.source, call)?;
        }
        if flags & flag::EXTRA != 0 {
            let extra = decoder.value()?;
            if let Outcome::Raised(exception) = &outcome
                && external_function::is_body(call)
                && !external_function::restore_error(exception.0, extra.0)
            {
                return Err(Failure::Raised);
            }
            if call.hook.entry.seed && !seed::restore(call.receiver, extra.0) {
                return Err(Failure::Missing("a generator's recorded state does not fit".into()));
            }
        }
        Ok(outcome)
    }
}

/// Applies changed entries to an instance's `__dict__`. A null value would mean a key that went: the decoder can't put
/// it into a dict, so the recorder writes `Null` only for those, and they arrive as missing.
unsafe fn apply_dict(slot: *mut *mut PyObject, changes: *mut PyObject) -> Result<(), Failure> {
    // SAFETY: as in `outcome`.
    unsafe {
        if slot.is_null() || changes.is_null() {
            return Ok(());
        }
        if (*slot).is_null() {
            *slot = PyDict_New();
        }
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while PyDict_Next(changes, &mut position, &mut key, &mut value) != 0 {
            let mut name = key;
            Py_INCREF(name);
            if PyUnicode_CheckExact(name) != 0 {
                PyUnicode_InternInPlace(&mut name);
            }
            let name = Owned(name);
            if PyDict_SetItem(*slot, name.0, value) < 0 {
                return Err(Failure::Raised);
            }
        }
        Ok(())
    }
}

/// After a callback ran: the log must say that it ended, and in the same way.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn expect_callback_end(serial: u64, raised: bool) -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        let source = source();
        if source.at_end() || source.peek_u16()? != code::CALLBACK_END {
            return Err(Failure::Missing(format!("callback {serial} ended earlier than in the recording")));
        }
        source.read_u16()?;
        let recorded = (source.read_varint()?, source.read_u8()? != 0);
        source.finish_event();
        settle();
        if recorded != (serial, raised) {
            let word = |raised| if raised { "raised" } else { "returned" };
            return Err(Failure::Missing(format!(
                "callback {serial} {}, it {} in the recording",
                word(raised),
                word(recorded.1)
            )));
        }
        Ok(())
    }
}

/// Whether the recording says, here, that this finalized object was still open. One that was closed leaves no event, so
/// the next may be another's.
///
/// # Safety
/// Replaying; the GIL is held; `object` is an external object.
pub unsafe fn finalizer_was_open(object: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        if source().at_end() || source().peek_u16().ok() != Some(code::WARNING) {
            return false;
        }
        let number = crate::external::handle_of(object).unwrap_or(0);
        let event = source().clone().next_event();
        if !matches!(event, Ok(Some((_, Event::Warning { handle }))) if handle == u64::from(number)) {
            return false;
        }
        let read = source().next_event().is_ok();
        settle();
        read
    }
}

/// An extension module is about to be loaded: it must be the recorded one. How it was treated, and what it
/// imported.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn extension_module(file: &crate::modules::ExtensionFile) -> (ModuleTreatment, String) {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        if source().at_end() || source().peek_u16().ok() != Some(code::MODULE) {
            let why = format!("the extension module {} is loaded here, which the recording did not do", file.name);
            divergence::stop(None, &Failure::Missing(why));
        }
        let module = source().next_event();
        settle();
        match module {
            Ok(Some((_, Event::Module { name, size, hash, treatment, reasons, .. }))) => {
                if name.to_string_lossy() == file.name && (size, hash) != (file.size, file.hash) {
                    eprintln!(
                        "retrace: the extension module {} ({}) is another version than the recorded one: install the \
                         version that was recorded, or replay with the recorded environment (--python)",
                        file.name, file.file
                    );
                    libc::_exit(2);
                }
                (treatment, reasons.to_string_lossy())
            }
            _ => divergence::stop(None, &Failure::Missing("an extension module's event is damaged".into())),
        }
    }
}

/// An extension module's file can't be read here.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn extension_missing(call: &Call) {
    // SAFETY: by contract.
    unsafe {
        if source().at_end() || source().peek_u16().ok() != Some(code::MODULE) {
            return;
        }
        let Some(&spec) = call.args.first() else { return };
        let name = crate::python::text(crate::python::attribute(spec, c"name").0);
        let file = crate::python::text(crate::python::attribute(spec, c"origin").0);
        eprintln!(
            "retrace: the extension module {name} is not here ({file}): install the version that was recorded, or \
             replay with the recorded environment (--python)"
        );
        libc::_exit(2);
    }
}
