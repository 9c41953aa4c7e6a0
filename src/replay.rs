//! Replaying: nothing is called; the log says what came of every call, and the hook returns that.

mod expected;
mod front;
mod live;
mod native_calls;

use crate::call::Call;
use crate::decode::{Context, Decoder, Failure};
use crate::divergence;
use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::python::Owned;
use crate::session::{COLLECTED, COLLECTED_EXTERNAL};
use crate::thread::{self, Thread};
use crate::{
    address, buffers, callback, console, external_function, pending_calls, seed, signals, special, user_threads,
};
use pyo3_ffi::*;
use retrace_replay::byte_source::ByteSource;
use retrace_replay::event::{
    ARGUMENTS_BIT, COLLECT_AT_CHECK, Event, Fingerprint, HookKind, Position, code, decode_arguments, flag, form,
};
use retrace_replay::event_stream::EventStream;
use retrace_replay::value::Value;
use std::collections::HashMap;
use std::ptr;

pub use expected::{expect_callback_end, extension_missing, extension_module, finalizer_was_open, foreign_callback};
pub use front::{
    Front, arm, calls_at_end, consume_front, ends_before, front, go_on_at_check, is_searched, read_pending_hooks,
    recorded_end, settle, trip_again,
};
pub use native_calls::{
    annotation, front_call, is_call_of, native_call, native_calls_at_front, native_calls_of, pass_native_call,
};

static SOURCE: GilCell<Option<EventStream>> = GilCell::new(None);
/// The recording's hooks, by their indices.
static HOOKS: GilCell<Vec<RecordedHook>> = GilCell::new(Vec::new());
/// How many hooks of ours there were when those that the recording's stand for were looked for.
static mut LOOKED_AT: usize = 0;
static mut STRICT: bool = false;

/// A hook of the recording's.
struct RecordedHook {
    name: String,
    kind: HookKind,
    ours: Option<u16>,
}

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
        HOOKS.get().clear();
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
    unsafe { HOOKS.get().get(usize::from(index)).map_or_else(|| format!("hook {index}"), |hook| hook.name.clone()) }
}

/// Reads the hooks events at the cursor: which of our hooks the recording's indices stand for.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn read_hooks() -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        take_hooks()?;
        settle();
        Ok(())
    }
}

/// The same where what comes behind them is known already.
unsafe fn take_hooks() -> Result<(), Failure> {
    // SAFETY: as in `read_hooks`.
    unsafe {
        let source = source();
        source.read_u16()?;
        let first = source.read_varint()? as usize;
        let hooks = HOOKS.get();
        if first != hooks.len() {
            return Err(Failure::Missing(format!("hooks from {first} follow {} hooks", hooks.len())));
        }
        for _ in 0..source.read_varint()? {
            let Value::Str(name) = source.read_value()? else {
                return Err(Failure::Missing("a hook has no name".into()));
            };
            let kind = HookKind::try_from(source.read_u8()?)?;
            hooks.push(RecordedHook { name: name.to_string_lossy(), kind, ours: None });
        }
        let count = hooks.len();
        look_for_hooks();
        native_calls::came_to_hooks(count);
        source.finish_event();
        Ok(())
    }
}

/// Which of our hooks the recording's stand for, of those where that is not known yet.
unsafe fn look_for_hooks() {
    // SAFETY: as in `settle`.
    unsafe {
        let names: HashMap<(&str, HookKind), u16> =
            hook::all().iter().map(|hook| ((hook.name.as_str(), hook.kind), hook.index)).collect();
        LOOKED_AT = hook::all().len();
        for hook in HOOKS.get().iter_mut().filter(|hook| hook.ours.is_none()) {
            hook.ours = names.get(&(hook.name.as_str(), hook.kind)).copied();
        }
    }
}

/// Our hook that an index of the recording's stands for. The names of a module's hooks may have been read while the module
/// still made itself, before it was hooked here.
unsafe fn our_hook(recorded: u16) -> Option<u16> {
    // SAFETY: as in `settle`.
    unsafe {
        let hook = HOOKS.get().get(usize::from(recorded))?;
        if hook.ours.is_none() && hook::all().len() != LOOKED_AT {
            look_for_hooks();
        }
        HOOKS.get()[usize::from(recorded)].ours
    }
}

/// Events that stand before a callback.
///
/// # Safety
/// Replaying; the GIL is held; the thread is not marked external.
pub unsafe fn before_callback() -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        before_call()?;
        if next_has(code::FORGOTTEN) {
            callback::replay_forgotten();
            before_call()?;
        }
        Ok(())
    }
}

/// Whether the next event has this code.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn next_has(code: u16) -> bool {
    // SAFETY: by contract.
    unsafe { !source().at_end() && source().peek_code().is_ok_and(|next| next == code) }
}

/// Events that stand before a call without being part of it.
unsafe fn before_call() -> Result<(), Failure> {
    // SAFETY: replaying, the GIL held, the thread not external.
    unsafe {
        while !source().at_end() {
            match source().peek_code()? {
                code::HOOKS => read_hooks()?,
                // The end of a collection is for the one that runs it: this call is a finalizer's.
                code::COLLECT if matches!(front(), Front::Collect(_)) || collection_ends()? => break,
                code::COLLECT => collect()?,
                code::SWITCH => {
                    let Front::Switch { next, from: Position::InCall | Position::Freed(_) } = front() else { break };
                    consume_front();
                    user_threads::switch_in_call(next);
                }
                code::SIGNAL => {
                    let Front::Signal { number, at: Position::InCall } = front() else { break };
                    signals::replay_in_call(number);
                }
                code::PENDING => {
                    let Front::Pending { thread, number, at: Position::InCall } = front() else { break };
                    pending_calls::replay_in_call(thread, number);
                }
                code::OUTPUT => {
                    if let Ok(Some((_, Event::Output { fd, bytes }))) = source().next_event() {
                        console::show_bytes(fd as i64, &bytes);
                    }
                    settle();
                }
                code::DROPPED => _ = callback::replay_dropped(),
                code::WRITTEN => {
                    if let Ok(Some((_, Event::Written { after }))) = source().next_event() {
                        console::wrote_after(after);
                    }
                    settle();
                }
                code::STOPPED => divergence::recording_stopped(),
                _ if crate::shared_memory::before_replayed_call() => {}
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
    Ok(ahead.read_u8()? & COLLECTED != 0)
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
        if source().at_end() || source().peek_code()? != code::COLLECT {
            return Err(Failure::Missing("the finalizers of a collection did not do what they did".into()));
        }
        let (end, recorded) = read_collect()?;
        let expected = generation & 3 | COLLECTED;
        let comparable = end & COLLECTED_EXTERNAL == 0 && !external_function::have_run();
        if end & !COLLECTED_EXTERNAL != expected || (found != recorded && comparable) {
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
    unsafe { source().peek_code().is_ok_and(|code| our_hook(code) == Some(hook.index)) }
}

/// Whether an argument that differs stops the replay.
///
/// # Safety
/// The GIL is held.
pub unsafe fn is_strict() -> bool {
    // SAFETY: by contract.
    unsafe { STRICT }
}

/// A call by code that the program never ran: there is nothing recorded for it, and the world is not asked.
///
/// # Safety
/// The GIL is held.
#[cold]
pub unsafe fn refuse(call: &Call) -> *mut PyObject {
    let asks = crate::last_said::question(call.hook).is_some();
    let what = if asks {
        format!("{} is not in the recording: the program has not asked for it by now", call.hook.name)
    } else {
        let why = "would leave the replay, which is not possible in a diversion: nothing is recorded for it here";
        format!("{} {why}", call.hook.name)
    };
    // SAFETY: by contract.
    unsafe {
        let class = if asks || call.hook.entry.may_fail {
            let name = if asks { c"retrace.NotRecorded" } else { c"retrace.Refused" };
            let bases = Owned(PyTuple_Pack(2, PyExc_RuntimeError, PyExc_OSError));
            Owned(PyErr_NewException(name.as_ptr(), bases.0, ptr::null_mut()))
        } else {
            Owned::borrowed(PyExc_RuntimeError)
        };
        if !class.is_null() {
            PyErr_SetObject(class.0, crate::python::string(&what).0);
        }
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
        if call.hook.entry.zone && !special::asks_zone(call) {
            return call.invoke();
        }
        if call.hook.entry.keeps {
            crate::binding::bind_arguments(call);
        }
        if external_function::is_body(call) {
            external_function::begins();
        }
        if call.hook.entry.fork
            && let Err(failure) = fork_live(call)
        {
            divergence::stop(Some(call), &failure);
        }
        let kept = thread.results.get().len();
        match consume(call) {
            Ok(result) => {
                if call.hook.entry.keeps_result && !result.is_null() {
                    crate::binding::keep_result(call, result, callback::last_result(kept));
                }
                callback::release_results(thread::current(), kept);
                if !result.is_null() {
                    if call.hook.entry.kept_by_result {
                        crate::binding::keep_receiver(call, result);
                    }
                    crate::binding::replaced(call);
                    special::leave_errno(call, result);
                }
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
        let first = crate::binding::count();
        // As they were before a callback could change them.
        let mut arguments = None;
        loop {
            before_call()?;
            if source().at_end() {
                if announced {
                    divergence::end_of_recording(call);
                }
                divergence::log_ended(call);
            }
            let head = source().peek_u16()?;
            if head == code::FORGOTTEN {
                callback::replay_forgotten();
                continue;
            }
            if head == code::CALLBACK {
                if !call.hook.blind {
                    arguments.get_or_insert_with(|| encoded_arguments(call));
                }
                let lets_go = call.hook.entry.replaces || call.hook.entry.releases;
                if !lets_go || callback::is_of_kept() || !callback::replay_letting_go(|| crate::binding::replaced(call))
                {
                    source().read_u16()?;
                    callback::replay(Some(call))?;
                }
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
                let ours = arguments.take().unwrap_or_else(|| encoded_arguments(call));
                compare_arguments(call, head & ARGUMENTS_BIT != 0, ours)?;
            }
            let form = (head & !ARGUMENTS_BIT) >> form::SHIFT;
            if call.hook.entry.last && form == form::END && !announced {
                // The announcement of a call that might not return.
                source().finish_event();
                settle();
                announced = true;
                if !source().at_end() && source().peek_code()? == code::END {
                    divergence::end_of_recording(call);
                }
                continue;
            }
            let before = console::descriptor_before(call);
            let thread = thread::current();
            thread.external.set(true);
            crate::binding::begin_outcome();
            let outcome = outcome(call, form);
            thread::current().external.set(false);
            let outcome = outcome?;
            crate::binding::end_call(first);
            source().finish_event();
            settle();
            if call.hook.entry.live && !call.hook.entry.namespace {
                let result = run_live(call);
                if let Outcome::Returned(recorded) = &outcome {
                    live::share(recorded.0, result.0);
                }
            }
            if crate::timeline::is_on() {
                let said = match &outcome {
                    Outcome::Returned(result) => result.0,
                    Outcome::Raised(_) | Outcome::Ended => ptr::null_mut(),
                };
                crate::last_said::note(call, said);
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
unsafe fn run_live(call: &Call) -> Owned {
    // SAFETY: as in `call`.
    unsafe {
        let thread = thread::current();
        thread.external.set(true);
        let result = call.invoke();
        if result.is_null() {
            PyErr_Clear();
        }
        thread::current().external.set(false);
        Owned(result)
    }
}

/// A call that forks by a function of the C library's that is answered in its place: live, as internal code. What it
/// returns is the event's to say that comes next, in the child too.
unsafe fn fork_live(call: &Call) -> Result<(), Failure> {
    // SAFETY: as in `call`.
    unsafe {
        before_call()?;
        let result = call.invoke();
        if result.is_null() {
            PyErr_Clear();
        }
        drop(Owned(result));
        Ok(())
    }
}

/// The arguments as the recorder would write them.
unsafe fn encoded_arguments(call: &Call) -> Vec<u8> {
    // SAFETY: as in `call`.
    unsafe {
        let mut ours = thread::current().take_buffer();
        if call.args.is_empty() {
            ours.push(0);
        } else {
            crate::record::put_arguments(&mut ours, call);
        }
        ours
    }
}

/// Compares the arguments' bytes with the recorded ones.
unsafe fn compare_arguments(call: &Call, recorded: bool, ours: Vec<u8>) -> Result<(), Failure> {
    // SAFETY: as in `call`.
    unsafe {
        if !recorded {
            return Err(Failure::Missing("the call had no arguments in the recording".into()));
        }
        if source().passes(&ours) {
            thread::current().give_buffer(ours);
            return Ok(());
        }
        let values = source().with_notes(decode_arguments)?;
        let mut slice = retrace_replay::byte_source::SliceSource::new(&ours);
        let mut notes = source().notes().clone();
        let count = slice.read_u8().unwrap_or(0);
        let met: Vec<Value> = (0..count).map_while(|_| Value::decode(&mut slice, &mut notes).ok()).collect();
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
                // Its module, whose own types are named by it.
                HookKind::Function => call.receiver,
                _ if call.hook.external.is_some() && call.hook.kind != HookKind::New => call.receiver,
                _ => call.class_of_receiver(),
            },
            external: mirrored,
            args: call.args,
        };
        let mut decoder = Decoder::new(source(), context);
        Ok(match form {
            form::NONE => Outcome::Returned(Owned::borrowed(Py_None())),
            form::FLOAT => Outcome::Returned(Owned(PyFloat_FromDouble(decoder.source.read_f64()?))),
            form::VALUE => Outcome::Returned(decoder.value()?),
            form::RAISED => Outcome::Raised(decoder.value()?),
            form::END => Outcome::Ended,
            form::FILLED => {
                let n = buffers::replay_filled(decoder.source, call)?;
                Outcome::Returned(Owned(PyLong_FromSsize_t(n as Py_ssize_t)))
            }
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
            if call.hook.entry.namespace {
                if call.hook.entry.live {
                    run_live(call);
                }
                special::rebind(&extra);
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
