//! Recording: the original is called, and what came of it is appended to the log.

use crate::call::Call;
use crate::encode::{Context, Encoder, bytes_of};
use crate::external::{ExternalType, Snapshot};
use crate::hook::{Hook, Way};
use crate::hot::hot;
use crate::python::{Owned, SavedError};
use crate::session;
use crate::thread::{self, Thread};
use crate::{
    buffers, callback, children, external, external_function, hook, memory_map, notes, quick, schedule, seed,
    shared_memory, special,
};
use pyo3_ffi::*;
use retrace_abi::boundary::Environment;
use retrace_abi::{Frame, FrameHook, ThreadState, gil};
use retrace_replay::event::{ARGUMENTS_BIT, Fingerprint, ModuleTreatment, Position, code, flag, form};
use retrace_replay::notes::NOTED;
use retrace_replay::value::{put_prefixed, put_varint, tag, without_zeros};
use std::ffi::c_int;
use std::ptr;

/// Payloads from this size on go to the log without passing through the event's buffer.
const LARGE: usize = 512;

/// The caller's position in its innermost Python frame.
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn caller_offset() -> u16 {
    // SAFETY: by contract.
    unsafe { offset_in(retrace_abi::thread_state()) }
}

/// The same, in the thread whose state is at hand.
///
/// # Safety
/// The GIL is held by that thread.
#[inline(always)]
pub unsafe fn offset_in(tstate: *mut retrace_abi::ThreadState) -> u16 {
    // SAFETY: the GIL is held by the thread whose state this is.
    unsafe {
        let frame = retrace_abi::innermost_frame(tstate);
        if frame.is_null() { retrace_replay::event::NO_FRAME } else { retrace_abi::instruction_offset(frame) }
    }
}

/// Finds the interpreter's frame evaluator.
///
/// # Safety
/// The GIL is held; the shim is initialised.
pub unsafe fn learn_evaluator() {
    // SAFETY: by contract.
    unsafe { (*hot()).evaluator = retrace_abi::retrace_evaluator() };
}

/// Frames that are entered from now on go through [`callback::entered`].
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn arm() {
    // SAFETY: by contract.
    unsafe {
        let place = (*hot()).evaluator;
        if !is_ours(*place) {
            (*hot()).programs = *place;
        }
        *place = Some(callback::entered);
    }
}

/// # Safety
/// The GIL is held; frames went through [`callback::entered`].
#[inline(always)]
pub unsafe fn disarm() {
    // SAFETY: by contract.
    unsafe { *(*hot()).evaluator = (*hot()).programs };
}

#[inline(always)]
fn is_ours(evaluator: Option<FrameHook>) -> bool {
    evaluator.is_some_and(|it| std::ptr::fn_addr_eq(it, callback::entered as FrameHook))
}

/// Runs a frame as it would run without us.
///
/// # Safety
/// As a frame evaluator.
pub unsafe fn evaluate(tstate: *mut ThreadState, frame: *mut Frame, throwing: c_int) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        match (*hot()).programs {
            Some(evaluator) => evaluator(tstate, frame, throwing),
            None => retrace_abi::retrace_eval_default(tstate, frame, throwing),
        }
    }
}

/// Whether frames that are entered now go through [`callback::entered`].
///
/// # Safety
/// The GIL is held.
pub unsafe fn is_armed() -> bool {
    // SAFETY: by contract.
    unsafe { is_ours(*(*hot()).evaluator) }
}

/// Marks the thread external and lets frames that are entered from now on be seen as callbacks.
///
/// # Safety
/// The GIL is held; `thread` is the current one.
#[inline(always)]
pub unsafe fn enter_external(thread: &Thread) {
    thread.external.set(true);
    // SAFETY: by contract.
    unsafe { arm() };
}

/// # Safety
/// As [`enter_external`].
#[inline(always)]
pub unsafe fn leave_external(thread: &Thread) {
    thread.external.set(false);
    // SAFETY: by contract.
    unsafe { disarm() };
}

/// The same where frames may not have been seen: in a body, or while a value is encoded.
unsafe fn leave(thread: &Thread) {
    thread.external.set(false);
    // SAFETY: by the contract of `leave_external`.
    unsafe {
        if is_armed() {
            disarm();
        }
    }
}

/// Calls what asks for the frame evaluator or sets it, with the program's own in its place.
///
/// # Safety
/// As [`Call::invoke`]; frames go through [`callback::entered`].
#[cold]
unsafe fn invoke_disarmed(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        disarm();
        let result = call.invoke();
        arm();
        result
    }
}

/// External code of a thread that internal code has interrupted.
pub struct Outside {
    call: *const Call<'static>,
    body: bool,
    armed: bool,
    results: (usize, usize),
    frees: Option<fn(u64) -> Position>,
}

impl Outside {
    /// # Safety
    /// The GIL is held; `thread` is the current one, inside an external call.
    pub unsafe fn interrupt(thread: &Thread) -> Outside {
        // SAFETY: by contract.
        unsafe {
            let armed = is_armed();
            leave(thread);
            let results = thread.results.get().enter();
            let frees = gil::retrace_actor().cast::<schedule::Actor>().as_mut().and_then(|actor| actor.frees.take());
            Outside { call: thread.call.get(), body: thread.body.replace(false), armed, results, frees }
        }
    }

    /// The callback that has interrupted it is over: what that returned is the external code's.
    ///
    /// # Safety
    /// As [`Outside::resume`].
    pub unsafe fn leave_callback(&self) {
        // SAFETY: by contract.
        unsafe { thread::current().results.get().leave(self.results) };
    }

    /// The external code goes on.
    ///
    /// # Safety
    /// The GIL is held by the thread that was interrupted.
    pub unsafe fn resume(self) {
        // SAFETY: by contract.
        unsafe {
            let thread = thread::current();
            thread.call.set(self.call);
            thread.body.set(self.body);
            thread.results.get().leave(self.results);
            if let Some(actor) = gil::retrace_actor().cast::<schedule::Actor>().as_mut() {
                actor.frees = self.frees;
            }
            thread.external.set(true);
            if self.armed {
                arm();
            }
        }
    }
}

/// What comes before any call: a collection that is due.
///
/// # Safety
/// Recording; the GIL is held; the current thread is not external.
#[inline(always)]
pub unsafe fn before_call() {
    // SAFETY: the GIL is held; the thread is not external.
    unsafe {
        if session::collection_may_be_due() {
            collect_if_due();
        }
    }
}

#[cold]
unsafe fn collect_if_due() {
    // SAFETY: as above.
    unsafe {
        let generation = retrace_abi::collector::retrace_collector_due_now();
        if generation < 0 {
            return;
        }
        collect(generation, None);
    }
}

/// CPython would have collected by itself: nothing crossed the boundary for long. It shall at the next check of the eval
/// breaker, which replay can find.
///
/// # Safety
/// Called by the collector with the GIL held.
pub unsafe extern "C" fn collection_put_off() {
    // SAFETY: by contract.
    unsafe {
        if session::is_recording() {
            retrace_abi::gil::retrace_ask_collection();
        }
    }
}

/// The collection that was put off, at a check of the eval breaker.
///
/// # Safety
/// Called by cshim with the GIL held and the current thread state set, between two instructions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_collection_due() {
    // SAFETY: by contract. What a collection's finalizers do is internal code, also where it happens inside an
    // external call: there the call's own event says where.
    unsafe {
        let generation = retrace_abi::collector::retrace_collector_due_now();
        if !session::is_recording() || generation < 0 {
            return;
        }
        let thread = thread::current();
        let outside = thread.external.get().then(|| Outside::interrupt(thread));
        let at = if outside.is_some() { None } else { Some(schedule::fingerprint(thread.tstate)) };
        collect(generation, at);
        if let Some(outside) = outside {
            outside.resume();
        }
    }
}

unsafe fn collect(generation: i32, at: Option<Fingerprint>) {
    // SAFETY: recording, the GIL held.
    unsafe {
        // Logged before it runs: what its finalizers do comes after it in the log.
        session::append_collect(generation as u8, at);
        let freed = external::freed();
        let found = retrace_abi::collector::retrace_collect(generation);
        session::append_collected(generation as u8, found.max(0) as u64, external::freed() != freed);
    }
}

/// Any call: a new reference, or null as the original left it.
///
/// # Safety
/// Recording; the GIL is held; the thread is not external.
pub unsafe fn call(call: &Call, thread: &Thread) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        if call.hook.way.get() == Way::Quick
            && let Some(result) = quick::record::<true>(call, thread, || call.invoke())
        {
            return result;
        }
        special::before(call);
        let converted = match call.convert() {
            Ok(converted) => converted,
            Err(()) => return ptr::null_mut(),
        };
        let call = &match &converted {
            Some(converted) => converted.apply(call),
            None => *call,
        };
        if call.hook.entry.seed && !seed::draws_entropy(call) {
            return call.invoke();
        }
        if call.hook.entry.terminal && !special::reads_terminal() {
            return call.invoke();
        }
        if call.hook.entry.zone && !special::asks_zone(call) {
            return call.invoke();
        }
        // After the conversions: what they run may cross the boundary and collect by itself.
        before_call();
        if call.hook.entry.fork {
            return forks(call);
        }
        let mirrored = call.mirrored();
        let before = mirrored.map(|external| external.snapshot(call.receiver));
        let held = mirrored.zip(before.as_ref()).map(|(external, before)| external.hold(call.receiver, before));
        let mut event = Event::begin(call, thread);
        event.namespaces = special::namespaces(call);
        event.arguments(call);
        if call.hook.entry.last {
            event.announce();
            if call.hook.name == "posix._exit" && special::exits(call) {
                session::end_recording(PyLong_AsLong(call.args[0]) as i32);
                return call.invoke();
            }
        }
        if call.hook.entry.keeps {
            crate::binding::bind_arguments(call);
        }
        crate::crossing::watch_arguments(call);
        if call.hook.entry.departs {
            session::writer().keep_open();
        }
        let kept = thread.results.get().len();
        let outer = thread.call.replace(std::ptr::from_ref(call).cast());
        if external_function::is_body(call) {
            external_function::enter(call, thread);
        } else {
            enter_external(thread);
        }
        let result = match call.hook.entry.environment {
            Environment::None if call.hook.entry.evaluator => invoke_disarmed(call),
            Environment::None => call.invoke(),
            environment => children::start(call, environment),
        };
        // What dies of it dies in the call, as it would have.
        drop(held);
        let thread = crate::thread::current();
        thread.call.set(outer);
        thread.body.set(false);
        leave(thread);
        if !session::is_recording() {
            return result;
        }
        shared_memory::after_call();
        event.outcome(call, result, mirrored.zip(before.as_ref()));
        event.append(thread, result);
        callback::release_results(crate::thread::current(), kept);
        result
    }
}

/// A call that forks by a function of the C library's that is recorded in its place (`crate::schedule`): what CPython
/// does around that is internal code. What the call returns is an event in both processes, after the fork's.
#[cold]
unsafe fn forks(call: &Call) -> *mut PyObject {
    // SAFETY: as in `call`.
    unsafe {
        let result = call.invoke();
        session::after_fork_parent();
        if !session::is_recording() {
            return result;
        }
        let thread = crate::thread::current();
        let mut event = Event::begin(call, thread);
        event.arguments(call);
        event.outcome(call, result, None);
        event.append(thread, result);
        result
    }
}

/// Where an event's arguments begin: behind its head and the caller's position.
const ARGUMENTS_AT: usize = 4;

/// An event under assembly.
pub struct Event {
    buffer: Vec<u8>,
    /// A large payload that is appended behind the buffer without being copied into it.
    payload: *mut PyObject,
    opaque: u32,
    /// The modules whose names the call may rebind, as they were: see [`special::namespaces`].
    namespaces: Owned,
}

impl Event {
    /// # Safety
    /// Recording; the GIL is held by `thread`, which has made `call`.
    unsafe fn begin(call: &Call, thread: &Thread) -> Event {
        let mut buffer = thread.take_buffer();
        buffer.extend_from_slice(&call.hook.index.to_le_bytes());
        // SAFETY: the GIL is held.
        buffer.extend_from_slice(&unsafe { caller_offset() }.to_le_bytes());
        Event { buffer, payload: ptr::null_mut(), opaque: 0, namespaces: Owned(ptr::null_mut()) }
    }

    /// An event but for its outcome.
    ///
    /// # Safety
    /// Recording; the GIL is held by `thread`, which has made `call`; what its arguments say has not changed since.
    pub unsafe fn with_arguments(call: &Call, thread: &Thread) -> Event {
        // SAFETY: by contract.
        unsafe {
            let mut event = Event::begin(call, thread);
            event.arguments(call);
            event
        }
    }

    fn set_head(&mut self, bits: u16) {
        let head = u16::from_le_bytes([self.buffer[0], self.buffer[1]]) | bits;
        self.buffer[..2].copy_from_slice(&head.to_le_bytes());
    }

    unsafe fn arguments(&mut self, call: &Call) {
        if call.args.is_empty() || call.hook.blind {
            return;
        }
        self.set_head(ARGUMENTS_BIT);
        // SAFETY: the call's references are live.
        unsafe {
            put_arguments(&mut self.buffer, call);
            notes::shorten_arguments(&mut self.buffer, ARGUMENTS_AT);
        }
    }

    /// Commits a copy of the event before a call that may not return: form `end`, so that replay knows.
    unsafe fn announce(&mut self) {
        let mut copy = self.buffer.clone();
        let head = u16::from_le_bytes([copy[0], copy[1]]) | form::END << form::SHIFT;
        copy[..2].copy_from_slice(&head.to_le_bytes());
        // SAFETY: the GIL is held.
        unsafe { session::append(&[&copy]) };
    }

    /// The result, or the exception that is set, and the receiver's mirrored state where it changed.
    ///
    /// # Safety
    /// Recording; the GIL is held; the thread is not external; `result` is what `call` returned.
    pub unsafe fn outcome(
        &mut self,
        call: &Call,
        result: *mut PyObject,
        mirrored: Option<(&'static ExternalType, &Snapshot)>,
    ) {
        // SAFETY: the GIL is held; the result is live or null; encoding may run Python code, which is part of the
        // outer call: the thread is marked external, without the evaluator.
        unsafe {
            let thread = crate::thread::current();
            thread.external.set(true);
            let mut error = SavedError::take();
            error.normalize();
            let fails_in_body = result.is_null() && external_function::is_body(call);
            let mirrored = mirrored.filter(|(external, before)| external.changed(call.receiver, before));
            let simple = mirrored.is_none()
                && !memory_map::makes_map(call)
                && !call.hook.entry.seed
                && !call.hook.entry.namespace
                && !fails_in_body;
            if simple && self.simple_outcome(call, result, &error) {
                drop(error);
                crate::thread::current().external.set(false);
                return;
            }
            self.general_outcome(call, result, &error, mirrored);
            drop(error);
            crate::thread::current().external.set(false);
        }
    }

    unsafe fn context<'a>(call: &'a Call<'a>) -> Context<'a> {
        let is_function = call.hook.kind == retrace_replay::event::HookKind::Function && !call.receiver.is_null();
        // SAFETY: the call's references are live.
        let of_module = is_function && unsafe { PyModule_Check(call.receiver) != 0 };
        Context {
            module: if of_module { call.receiver } else { ptr::null_mut() },
            receiver: if call.hook.external.is_some() { call.receiver } else { ptr::null_mut() },
            external: call.mirrored(),
            args: call.args,
            // SAFETY: as above.
            class: unsafe { call.class_of_receiver() },
        }
    }

    /// False where it takes the general form.
    unsafe fn simple_outcome(&mut self, call: &Call, result: *mut PyObject, error: &SavedError) -> bool {
        // SAFETY: as in `outcome`.
        unsafe {
            if call.hook.entry.out && !result.is_null() {
                let filled = buffers::record_filled(&mut self.buffer, call, result);
                if filled {
                    self.set_head(form::FILLED << form::SHIFT);
                }
                return filled;
            }
            if result.is_null() {
                if error.value.is_null() {
                    self.set_head(form::END << form::SHIFT);
                    return true;
                }
                self.set_head(form::RAISED << form::SHIFT);
                self.encode(Self::context(call), error.value);
            } else if result == Py_None() {
                self.set_head(form::NONE << form::SHIFT);
            } else if PyFloat_CheckExact(result) != 0 {
                self.set_head(form::FLOAT << form::SHIFT);
                self.buffer.extend_from_slice(&PyFloat_AS_DOUBLE(result).to_le_bytes());
            } else {
                self.set_head(form::VALUE << form::SHIFT);
                if PyBytes_CheckExact(result) != 0 && bytes_of(result).len() >= LARGE {
                    self.buffer.push(tag::BYTES);
                    put_varint(&mut self.buffer, bytes_of(result).len() as u64);
                    self.payload = result;
                } else {
                    self.encode_result(Self::context(call), result);
                }
            }
            true
        }
    }

    /// A result that C keeps a reference to is the same object when it is returned again.
    unsafe fn encode_result(&mut self, context: Context, object: *mut PyObject) {
        // SAFETY: as in `outcome`.
        unsafe {
            if context.external.is_some() && external::may_be_kept(object) {
                match external::kept_index(context.receiver, object) {
                    Some(i) => {
                        self.buffer.push(tag::KEPT);
                        put_varint(&mut self.buffer, i as u64);
                        return;
                    }
                    None => {
                        external::keep(context.receiver, object);
                        self.buffer.push(tag::KEEP);
                    }
                }
            }
            self.encode(context, object);
        }
    }

    unsafe fn encode(&mut self, context: Context, object: *mut PyObject) {
        let mut encoder = Encoder::new(&mut self.buffer, context);
        // SAFETY: as in `outcome`.
        unsafe { encoder.value(object) };
        self.opaque += encoder.opaque;
    }

    unsafe fn general_outcome(
        &mut self,
        call: &Call,
        result: *mut PyObject,
        error: &SavedError,
        mirrored: Option<(&'static ExternalType, &Snapshot)>,
    ) {
        // SAFETY: as in `outcome`.
        unsafe {
            self.set_head(form::GENERAL << form::SHIFT);
            let flags_at = self.buffer.len();
            self.buffer.push(0);
            let mut flags = 0;
            let context = Self::context(call);
            if !result.is_null() && memory_map::makes_map(call) {
                flags |= flag::EXTRA;
                let described = memory_map::describe(call, result);
                self.encode(Context::NONE, described.0);
            } else if !result.is_null() {
                flags |= flag::RESULT;
                self.encode_result(context, result);
            } else if !error.value.is_null() {
                flags |= flag::RAISED;
                self.encode(context, error.value);
            }
            if let Some((external, before)) = mirrored {
                if external.members_changed(call.receiver, before) {
                    flags |= flag::SCALARS;
                    let mut scalars = Vec::new();
                    external.read_scalars(call.receiver, &mut scalars);
                    put_prefixed(&mut self.buffer, without_zeros(&scalars));
                    if external.member_count() > 0 {
                        flags |= flag::MEMBERS;
                        put_varint(&mut self.buffer, external.member_count() as u64);
                    }
                    for i in 0..external.member_count() {
                        let context = Context { external: None, ..context };
                        let (start, opaque) = (self.buffer.len(), self.opaque);
                        self.encode(context, external.member_value(call.receiver, i).0);
                        if self.opaque > opaque && external.is_unchanged(call.receiver, i, before) {
                            // It is there already: a function's own class, as a row factory.
                            self.opaque = opaque;
                            self.buffer.truncate(start);
                            self.buffer.push(tag::MEMBER);
                            put_varint(&mut self.buffer, i as u64);
                        }
                    }
                }
                let changes = external.dict_changes(call.receiver, before);
                if !changes.is_empty() {
                    flags |= flag::DICT;
                    self.buffer.push(tag::DICT);
                    put_varint(&mut self.buffer, changes.len() as u64);
                    for (key, value) in changes {
                        self.encode(Context::NONE, key);
                        self.encode(context, value);
                    }
                }
            }
            if call.hook.entry.out && !result.is_null() {
                flags |= flag::BUFFERS;
                buffers::record(&mut self.buffer, call, result);
            }
            if call.hook.entry.seed && !result.is_null() {
                let state = seed::state_of(call.receiver);
                if !state.is_null() {
                    flags |= flag::EXTRA;
                    self.encode(Context::NONE, state.0);
                }
            } else if !self.namespaces.is_null() {
                let names = special::rebound(&self.namespaces);
                if !names.is_null() {
                    flags |= flag::EXTRA;
                    self.encode(Context::NONE, names.0);
                }
            }
            if external_function::is_body(call) {
                flags |= flag::EXTRA;
                self.encode(context, external_function::describe_error(error.value).0);
            }
            self.buffer[flags_at] = flags;
        }
    }

    /// Appends the event to the log.
    ///
    /// # Safety
    /// As [`Event::outcome`].
    pub unsafe fn append(mut self, thread: &Thread, result: *mut PyObject) {
        // SAFETY: the GIL is held; `payload`, where set, is `result`, which our caller owns.
        unsafe {
            callback::log_dropped(thread, false);
            if self.payload.is_null() {
                session::append(&[&self.buffer]);
            } else {
                session::append(&[&self.buffer, bytes_of(result)]);
            }
        }
        if self.opaque > 0 {
            // SAFETY: the GIL is held.
            unsafe { session::count_opaque(self.opaque) };
        }
        thread.give_buffer(std::mem::take(&mut self.buffer));
    }
}

/// The arguments section: a count and the values.
///
/// # Safety
/// The GIL is held; the call's references are live.
pub unsafe fn put_arguments(out: &mut Vec<u8>, call: &Call) {
    // SAFETY: by contract; summaries of objects run no Python code but buffer exports.
    unsafe {
        let thread = crate::thread::current();
        let before = thread.external.replace(true);
        let n = call.args.len().min(usize::from(NOTED) - 1);
        out.push(n as u8);
        let positional = call.positional();
        let full = session::full_arguments();
        for (i, &arg) in call.args[..n].iter().enumerate() {
            if i >= positional {
                out.push(tag::KEYWORD);
                let name = PyTuple_GET_ITEM(call.keyword_names, (i - positional) as Py_ssize_t);
                notes::put_name(out, &crate::python::text(name));
            }
            if call.hook.entry.out && PyObject_CheckBuffer(arg) != 0 && PyBytes_Check(arg) == 0 {
                // What is in it before the call does not matter to the call.
                Encoder::new(out, Context::NONE).output_buffer(arg);
            } else {
                Encoder::new(out, Context::NONE).argument(arg, full);
            }
        }
        crate::thread::current().external.set(before);
    }
}

/// An unclosed external object is being finalized: the warning comes next, as internal code.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn finalizer_open(object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let mut event = Vec::with_capacity(12);
        event.extend_from_slice(&code::WARNING.to_le_bytes());
        put_varint(&mut event, external::handle_of(object).unwrap_or(0).into());
        session::append(&[&event]);
    }
}

/// Tells the trace about hooks that were made since the last time.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn announce_hooks() {
    // SAFETY: by contract.
    unsafe {
        let (first, hooks) = hook::take_unannounced();
        if hooks.is_empty() {
            return;
        }
        session::append(&[&hooks_event(first, hooks)]);
    }
}

/// The event that names hooks.
pub fn hooks_event(first: usize, hooks: &[&'static Hook]) -> Vec<u8> {
    let mut event = Vec::with_capacity(hooks.len() * 32);
    event.extend_from_slice(&code::HOOKS.to_le_bytes());
    put_varint(&mut event, first as u64);
    put_varint(&mut event, hooks.len() as u64);
    for hook in hooks {
        crate::encode::put_str(&mut event, &hook.name);
        event.push(hook.kind as u8);
    }
    event
}

/// Names the extension module that is loaded next, so that replay refuses another version of it.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn extension_module(file: &crate::modules::ExtensionFile, treatment: ModuleTreatment, reasons: &str) {
    let event = retrace_replay::Event::Module {
        name: file.name.as_str().into(),
        file: file.file.as_str().into(),
        size: file.size,
        hash: file.hash,
        treatment,
        reasons: reasons.into(),
    };
    // SAFETY: by contract.
    unsafe { session::append_event(&event) };
}
