//! What Retrace knows of CPython's insides: layouts by version, the objects that the public headers do not describe to
//! Rust, the C shim's functions, and the boundary's tables. A CPython version is known here and in `cshim` only.

pub mod boundary;
pub mod special;

#[cfg_attr(py3_11, path = "layout_3_11.rs")]
#[cfg_attr(py3_12, path = "layout_3_12.rs")]
mod layout;

pub use layout::{
    ARGUMENT_SHIFTS, FRAME_OWNER, MINOR, confirmed_thread_state, innermost_frame, instruction_offset, learn, small_int,
    swap_thread_state, thread_state,
};

use pyo3_ffi::{Py_hash_t, Py_ssize_t, PyGetSetDef, PyMemberDef, PyMethodDef, PyObject, PyTypeObject, vectorcallfunc};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// `PyThreadState`, opaque: read through the functions of this crate.
#[repr(C)]
pub struct ThreadState {
    _opaque: [u8; 0],
}

/// `_PyInterpreterFrame`, opaque.
#[repr(C)]
pub struct Frame {
    _opaque: [u8; 0],
}

/// The serial number of a thread state, unique in the process.
///
/// # Safety
/// `tstate` is a live thread state.
#[inline(always)]
pub unsafe fn thread_state_id(tstate: *mut ThreadState) -> u64 {
    // SAFETY: offset asserted by cshim/layout.c.
    unsafe { *tstate.cast::<u8>().add(layout::TSTATE_ID).cast() }
}

/// `PyDescrObject` (Include/cpython/descrobject.h).
#[repr(C)]
pub struct DescrCommon {
    pub ob_base: PyObject,
    pub d_type: *mut PyTypeObject,
    pub d_name: *mut PyObject,
    pub d_qualname: *mut PyObject,
}

/// `PyMethodDescrObject`: a method or class method of a C type.
#[repr(C)]
pub struct MethodDescr {
    pub common: DescrCommon,
    pub d_method: *mut PyMethodDef,
    pub vectorcall: Option<vectorcallfunc>,
}

/// `PyGetSetDescrObject`.
#[repr(C)]
pub struct GetSetDescr {
    pub common: DescrCommon,
    pub d_getset: *mut PyGetSetDef,
}

/// `PyMemberDescrObject`.
#[repr(C)]
pub struct MemberDescr {
    pub common: DescrCommon,
    pub d_member: *mut PyMemberDef,
}

/// `PyWrapperDescrObject`: `Type.__init__` and its like; `d_wrapped` is the slot's function.
#[repr(C)]
pub struct WrapperDescr {
    pub common: DescrCommon,
    pub d_base: *mut c_void,
    pub d_wrapped: *mut c_void,
}

/// `PyCFunctionObject`.
#[repr(C)]
pub struct CFunction {
    pub ob_base: PyObject,
    pub m_ml: *mut PyMethodDef,
    pub m_self: *mut PyObject,
    pub m_module: *mut PyObject,
    pub m_weakreflist: *mut PyObject,
    pub vectorcall: Option<vectorcallfunc>,
}

/// The attributes of a code object that make it what it is, in the order of its type's arguments.
pub const CODE_FIELDS: [&CStr; 18] = [
    c"co_argcount",
    c"co_posonlyargcount",
    c"co_kwonlyargcount",
    c"co_nlocals",
    c"co_stacksize",
    c"co_flags",
    c"co_code",
    c"co_consts",
    c"co_names",
    c"co_varnames",
    c"co_filename",
    c"co_name",
    c"co_qualname",
    c"co_firstlineno",
    c"co_linetable",
    c"co_exceptiontable",
    c"co_freevars",
    c"co_cellvars",
];

/// Called for each Python frame that is entered while external code runs (`retrace_arm`). Returns what the frame
/// returned: a new reference, or null with an exception set (or without one, where a generator ended).
pub type FrameHook =
    unsafe extern "C" fn(tstate: *mut ThreadState, frame: *mut Frame, throwing: c_int) -> *mut PyObject;

/// A callable entered by a frame, as the shim reads it from the frame. All references are borrowed from the frame.
#[repr(C)]
pub struct FrameCallable {
    /// The function object, or the generator or coroutine that is resumed.
    pub callable: *mut PyObject,
    pub code: *mut PyObject,
    pub locals: *mut *mut PyObject,
    pub positional: c_int,
    pub keyword_only: c_int,
    /// Index into `locals` of `*args`, or -1.
    pub varargs: c_int,
    /// Index into `locals` of `**kwargs`, or -1.
    pub varkeywords: c_int,
    pub is_generator: c_int,
    /// The value sent into a generator, or null. Borrowed.
    pub sent: *mut PyObject,
}

unsafe extern "C" {
    /// Looks up what the shim needs in the running interpreter. 0, or -1 with `retrace_shim_error()` saying why this
    /// interpreter is not supported.
    pub fn retrace_shim_init() -> c_int;
    pub fn retrace_shim_error() -> *const c_char;
    /// Where the interpreter keeps its frame evaluator; null there means the default one.
    pub fn retrace_evaluator() -> *mut Option<FrameHook>;
    /// Lets go of what the variables of a frame have that has just run (3.11), as its caller is about to.
    pub fn retrace_clear_variables(frame: *mut Frame);
    pub fn retrace_eval_default(tstate: *mut ThreadState, frame: *mut Frame, throwing: c_int) -> *mut PyObject;
    pub fn retrace_frame_callable(frame: *mut Frame, into: *mut FrameCallable);
    /// A type's own dictionary, borrowed; static types of 3.12 keep it per interpreter.
    #[link_name = "retrace_dict_of_type"]
    pub fn retrace_type_dict(t: *mut PyTypeObject) -> *mut PyObject;
    /// `ma_version_tag`: changes whenever the dictionary does.
    pub fn retrace_dict_version(dict: *mut PyObject) -> u64;
    /// The address and size of `_Py_HashSecret`.
    pub fn retrace_hash_secret(size: *mut usize) -> *mut u8;
    /// Takes our entry out of the runtime's list of audit hooks.
    pub fn retrace_remove_audit_hook(hook: *mut c_void);
    /// The instance dictionary's slot of an object with `tp_dictoffset`, managed dictionaries included; null without one.
    pub fn retrace_dict_slot(object: *mut PyObject) -> *mut *mut PyObject;
    /// `struct sequence` types hide fields: the number of all of them, or -1 for another type.
    pub fn retrace_structseq_fields(t: *mut PyTypeObject) -> Py_ssize_t;
    /// The raw bytes of a string: kind 0 for ASCII, else 1, 2 or 4 bytes a character; length in characters.
    pub fn retrace_str_data(s: *mut PyObject, length: *mut Py_ssize_t, kind: *mut c_int) -> *const u8;
    pub fn retrace_str_new(kind: c_int, data: *const u8, length: Py_ssize_t) -> *mut PyObject;
    /// An int as `size` bytes of little-endian two's complement; 0, or -1 with an exception where it does not fit.
    pub fn retrace_long_to_bytes(l: *mut PyObject, bytes: *mut u8, size: usize) -> c_int;
    /// The int of little-endian two's complement: a new reference, or null with an exception.
    pub fn retrace_long_from_bytes(bytes: *const u8, size: usize) -> *mut PyObject;
    /// An `int` as a C integer without a call for the common sizes: 1 and the value, or 0 where it does not fit.
    pub fn retrace_long_as_i64(l: *mut PyObject, value: *mut i64) -> c_int;
    /// Makes frames of this code invisible to tracebacks, `sys._getframe` and tracing.
    pub fn retrace_hide_frames(code: *mut PyObject);
    /// A code object of its `CODE_FIELDS`: a new reference, or null with an exception.
    pub fn retrace_code_new(fields: *mut PyObject) -> *mut PyObject;
    /// A code object's file, name and qualified name: borrowed strings.
    pub fn retrace_code_names(code: *mut PyObject, names: *mut [*mut PyObject; 3]);
}

/// Identity hashes: see `cshim/identity_hash.c`.
pub mod identity {
    use super::*;
    unsafe extern "C" {
        pub fn retrace_identity_install() -> c_int;
        pub fn retrace_identity_error() -> *const c_char;
        /// Asked at each first hash: whether external code runs on this thread, so that the object takes its number
        /// from a counter of its own.
        pub fn retrace_identity_ask_external(ask: unsafe extern "C" fn() -> c_int);
        /// After an extension module was created or executed.
        pub fn retrace_identity_extension_loaded(module: *mut PyObject);
        pub fn retrace_identity_alias(hooked: *mut PyMethodDef, original: *mut PyMethodDef);
        pub fn retrace_identity_of(object: *mut PyObject) -> Py_hash_t;
    }
}

/// The garbage collector's schedule: see `cshim/collector.c`.
pub mod collector {
    use super::*;

    /// CPython would have collected by itself.
    pub type Observer = unsafe extern "C" fn();

    unsafe extern "C" {
        /// Called when a collection has ended that somebody asked for.
        pub static mut retrace_collected: Option<Observer>;
        /// With an observer, that is told when CPython would collect by itself; see cshim/collector.h.
        pub fn retrace_collector_install(observer: Option<Observer>) -> c_int;
        /// Learns what a collection at a check of the eval breaker looks like, by running code that passes checks; -1
        /// with an exception set.
        pub fn retrace_collector_learn_checks(code: *mut PyObject, globals: *mut PyObject) -> c_int;
        /// After the module `gc` was created.
        pub fn retrace_collector_gc_module(module: *mut PyObject);
        pub fn retrace_collector_uninstall();
        /// Runs code whose objects the program does not find, for good; see cshim/collector.h.
        pub fn retrace_run_unseen(source: *const c_char, file: *const c_char, globals: *mut PyObject) -> c_int;
        /// Where generation 0's count is, and the limit above which a collection may be due.
        pub fn retrace_collector_count() -> *const c_int;
        pub fn retrace_collector_limit() -> *const c_int;
        /// An object that the program does not know of was made, or will be freed: generation 0 is to count so many more.
        pub fn retrace_count_object(more: c_int);
        /// The generation that CPython would collect now, or -1.
        pub fn retrace_collector_due_now() -> c_int;
        /// Collects a generation as an automatic collection would; the number of unreachable objects found.
        pub fn retrace_collect(generation: c_int) -> Py_ssize_t;
    }
}

/// The GIL and how it is handed over: see `cshim/gil.c`.
pub mod gil {
    use super::*;
    use std::ffi::c_ulong;

    pub use super::layout::COLLECTS_AFTER_TAKE;

    /// `struct retrace_gil_view` of cshim/gil.h.
    #[repr(C, align(64))]
    pub struct GilView {
        pub cond: *mut libc::pthread_cond_t,
        pub drop_request: *mut c_int,
        pub last_holder: *mut *mut ThreadState,
        /// What the hooks replaced: written before they are reachable.
        pub next_cond_signal: *mut c_void,
        pub next_mutex_unlock: *mut c_void,
        pub steps: AtomicU64,
        pub gave_up: *mut c_void,
        pub collection_asked: c_int,
        pub is_plain: bool,
        pub has_ended: AtomicBool,
        pub waits_itself: bool,
        pub turn_asked: c_int,
        pub switch_cond: *mut libc::pthread_cond_t,
        pub mutex: *mut libc::pthread_mutex_t,
        pub switch_mutex: *mut libc::pthread_mutex_t,
        pub locked: *mut c_int,
        pub eval_breaker: *mut c_int,
        pub signals_pending: *mut c_int,
        pub interval: *const c_ulong,
    }

    /// `struct retrace_gil_waits` of cshim/gil.h. Written with the GIL's mutex only.
    #[repr(C, align(64))]
    pub struct GilWaits {
        pub signals: AtomicU32,
        pub waiters: AtomicU32,
        pub due: AtomicU32,
        pub coming: AtomicU32,
    }

    /// It got a lock by a wait, and has tried one in vain since.
    pub const TRIED_BEHIND_WAIT: c_int = 2;

    /// What happens without the GIL is placed between these.
    #[inline(always)]
    pub fn steps() -> &'static AtomicU64 {
        let view = &raw const retrace_gil;
        // SAFETY: an atomic, in a static.
        unsafe { &(*view).steps }
    }

    /// Whether threads that have ended have left something to log.
    #[inline(always)]
    pub fn have_ended() -> &'static AtomicBool {
        let view = &raw const retrace_gil;
        // SAFETY: as above.
        unsafe { &(*view).has_ended }
    }

    unsafe extern "C" {
        pub static mut retrace_gil: GilView;
        pub static retrace_gil_waits: GilWaits;
        /// What the hooks replaced: written before they are reachable.
        pub static mut retrace_next_sem_trywait: *mut c_void;
        pub static mut retrace_next_sem_wait: *mut c_void;
        pub static mut retrace_next_sem_post: *mut c_void;
        pub static mut retrace_next_pthread_exit: *mut c_void;
        pub static mut retrace_next_sem_clockwait: *mut c_void;
        pub static mut retrace_next_sem_timedwait: *mut c_void;

        pub fn retrace_gil_find();
        /// The state of the thread that has the GIL. Null where none has it: that of who had it last may be freed then.
        pub fn retrace_gil_holder() -> *mut ThreadState;
        /// Has whoever has the GIL give it up at its next check, for a thread that waits for the turn.
        pub fn retrace_ask_for_turn();
        /// Has `retrace_collection_due` called at the next check of the eval breaker, whichever thread comes to one.
        pub fn retrace_ask_collection();
        pub fn retrace_hook_mutex_unlock(mutex: *mut libc::pthread_mutex_t) -> c_int;
        /// How many of extension modules' signal handlers the calling thread is in.
        pub fn retrace_handlers() -> c_int;
        pub fn retrace_set_handlers(count: c_int);
        pub fn retrace_actor() -> *mut c_void;
        pub fn retrace_set_actor(actor: *mut c_void);
        pub fn retrace_hook_cond_signal(cond: *mut libc::pthread_cond_t) -> c_int;
        pub fn retrace_hook_sem_trywait(lock: *mut c_void) -> c_int;
        pub fn retrace_hook_sem_trywait_replayed(lock: *mut c_void) -> c_int;
        pub fn retrace_hook_sem_post(lock: *mut c_void) -> c_int;
        /// What the calling thread did last with locks: 0, or [`TRIED_BEHIND_WAIT`], or that it got one. Sets it.
        pub fn retrace_swap_lock_wait(to: c_int) -> c_int;
        /// Nobody has the lock any more.
        pub fn retrace_lock_let_go(lock: *const c_void);
        pub fn retrace_hook_sem_wait(lock: *mut c_void) -> c_int;
        pub fn retrace_hook_sem_clockwait(lock: *mut c_void, clock: c_int, until: *const libc::timespec) -> c_int;
        pub fn retrace_hook_sem_timedwait(lock: *mut c_void, until: *const libc::timespec) -> c_int;
        pub fn retrace_thread_begins(luggage: *mut c_void) -> *mut c_void;
        pub fn retrace_hook_pthread_exit(value: *mut c_void);
        /// Learns what a check of the eval breaker looks like from below: how many places, or -1 with an exception.
        pub fn retrace_learn_checks(code: *mut PyObject, globals: *mut PyObject) -> c_int;
        /// Likewise where a lock object tries its lock.
        pub fn retrace_learn_lock_tries(code: *mut PyObject, globals: *mut PyObject) -> c_int;
        /// Has the running thread drop the GIL at its next check.
        pub fn retrace_request_check();
        /// Whether the check that a thread has just passed is the one it comes to next, if another is asked for; then
        /// `retrace_begun_after_check` is called when it has got beyond it.
        pub fn retrace_check_repeats(tstate: *mut ThreadState) -> c_int;
        /// A check is over.
        pub fn retrace_check_passed();
        pub fn retrace_set_main_thread_ident(ident: c_ulong);
        pub fn retrace_main_thread_ident() -> c_ulong;
        /// Hashes of a thread's position: see `cshim/fingerprint.h`.
        pub fn retrace_fingerprint_place(tstate: *mut ThreadState) -> u64;
        pub fn retrace_fingerprint_shallow(tstate: *mut ThreadState) -> u64;
        pub fn retrace_fingerprint_deep(tstate: *mut ThreadState) -> u64;
        pub fn retrace_fingerprint_near(tstate: *mut ThreadState) -> u64;
        pub fn retrace_fingerprint_known_frames(frames: *const *mut Frame, count: c_int);
        pub fn retrace_fingerprint_is_near(tstate: *mut ThreadState, near: u64) -> c_int;
        /// A search for a position: see `cshim/search.h`.
        pub fn retrace_learn_search(code: *mut PyObject, globals: *mut PyObject) -> c_int;
        pub fn retrace_search(near: u64, signal: c_int) -> c_int;
        pub fn retrace_search_end();
        pub fn retrace_search_passed() -> u64;
        pub fn retrace_hook_pthread_self() -> libc::pthread_t;
        /// Frame objects that a search makes: see there.
        pub fn retrace_keep_frame_objects(tstate: *mut ThreadState);
        pub fn retrace_forget_frame_object(object: *mut PyObject);
        pub fn retrace_fingerprint_ask_external(ask: unsafe extern "C" fn(*mut PyTypeObject) -> c_int);
    }
}

/// Addresses in text: see `cshim/address_text.h`.
pub mod text {
    use super::*;
    unsafe extern "C" {
        /// What the hooks replaced.
        pub static mut retrace_next_sprintf: *mut c_void;
        pub fn retrace_hook_sprintf(into: *mut c_char, format: *const c_char, ...) -> c_int;
        pub fn retrace_hook_sprintf_chk(
            into: *mut c_char,
            flag: c_int,
            room: usize,
            format: *const c_char,
            ...
        ) -> c_int;
    }
}

/// What reads clocks for others: see `cshim/clock.h`.
pub mod clock {
    use super::*;
    unsafe extern "C" {
        /// `clock_gettime`, for import tables.
        pub fn retrace_hook_clock_gettime(clock: libc::clockid_t, into: *mut libc::timespec) -> c_int;
    }
}

/// What code that takes the thread pointer for a number reads besides: see `cshim/thread_pointer.h`.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod thread_pointer {
    unsafe extern "C" {
        /// The running thread's number is another one by so much.
        pub fn retrace_shift_thread(by: std::ffi::c_ulong);
        /// Where that is kept, from the thread pointer.
        pub fn retrace_thread_shift_place() -> std::ffi::c_long;
    }
}

/// Line events: see `cshim/line_events.h`.
pub mod line_events {
    use super::*;
    unsafe extern "C" {
        /// Turns them on. 0, or -1 with an exception.
        pub fn retrace_line_events_on() -> c_int;
        /// Before the program begins. 0, or -1 with an exception.
        pub fn retrace_line_events_prepare() -> c_int;
        /// Has each instruction be an event, or not any more. 0, or -1 with an exception.
        pub fn retrace_instruction_events(on: c_int) -> c_int;
        /// Has exceptions that are raised again be events, or not any more, where a version needs them.
        pub fn retrace_reraise_events(on: c_int);
        /// Whether C code has called what the frame runs.
        pub fn retrace_is_called_by_c(frame: *mut Frame) -> c_int;
        /// The instruction, in bytes, of the frame that lies so many above the innermost one, or -1.
        pub fn retrace_offset_above(tstate: *mut ThreadState, above: c_int) -> c_int;
        /// Whether a thread's innermost frame has begun, and run nothing yet.
        pub fn retrace_frame_begins(tstate: *mut ThreadState) -> c_int;
        /// A thread has got the GIL, and line events are on.
        pub fn retrace_line_events_follow(tstate: *mut ThreadState);
        /// Whether a thread stands at a check that it comes to more than once because of line events.
        pub fn retrace_line_events_check_again(tstate: *mut ThreadState) -> c_int;
        /// Marks a thread's frames, the outermost first: see cshim/activations.h.
        pub fn retrace_mark_activations(tstate: *mut ThreadState, marks: *mut u64, most: c_int) -> c_int;
        /// The code of the frame that lies so many above the innermost one, and its variables; null where there is none.
        pub fn retrace_frame_above(
            tstate: *mut ThreadState,
            above: c_int,
            variables: *mut *mut *mut PyObject,
        ) -> *mut PyObject;
        /// The place of a function's own variable, or -1.
        pub fn retrace_variable_slot(code: *mut PyObject, name: *const std::ffi::c_char) -> c_int;
        /// The globals of the frame that lies so many above the innermost one; null where there is none.
        pub fn retrace_globals_above(tstate: *mut ThreadState, above: c_int) -> *mut PyObject;
        /// Gives that frame another dictionary for `locals()`: see cshim/activations.h.
        pub fn retrace_swap_locals(tstate: *mut ThreadState, above: c_int, locals: *mut PyObject) -> *mut PyObject;
        /// The names of a code's variables; borrowed.
        pub fn retrace_names_of_variables(code: *mut PyObject) -> *mut PyObject;
        /// Whether all of that frame's names are its globals.
        pub fn retrace_names_are_globals(tstate: *mut ThreadState, above: c_int) -> c_int;
        /// Whether a code is a function's.
        pub fn retrace_has_own_names(code: *mut PyObject) -> c_int;
        /// What a variable of a frame has.
        pub fn retrace_value_in_slot(code: *mut PyObject, variables: *mut *mut PyObject, slot: c_int) -> *mut PyObject;
        /// Whether a frame is a generator's: see cshim/activations.h.
        pub fn retrace_is_generator_frame(frame: *mut Frame) -> c_int;
        /// Of a thread's frames, the outermost first, the address of each that is a generator's.
        pub fn retrace_generator_frames(tstate: *mut ThreadState, frames: *mut u64, depth: c_int);
        /// Of a thread's frames, the outermost first, their codes; borrowed.
        pub fn retrace_frame_codes(tstate: *mut ThreadState, codes: *mut *mut PyObject, depth: c_int);
        /// The frames of all generators.
        pub fn retrace_generators(frames: *mut u64, most: c_int) -> c_int;
        /// Whether a generator's frame is a coroutine's.
        pub fn retrace_is_coroutine_frame(frame: *mut Frame) -> c_int;
        /// Watches the generator or coroutine whose frame this is, the only one then; null for none.
        pub fn retrace_watch_end(frame: *mut Frame);
        /// Whether the watched one has ended, or is gone.
        pub fn retrace_has_ended() -> c_int;
        /// A thread's ident, as the program knows it.
        pub fn retrace_ident_of(tstate: *mut ThreadState) -> std::ffi::c_ulong;
        /// How many frames of Python code a thread has.
        pub fn retrace_depth(tstate: *mut ThreadState) -> c_int;
        /// A thread's innermost frame of Python code, and the next one outside of a frame; null where there is none.
        pub fn retrace_frame_inside(tstate: *mut ThreadState) -> *mut Frame;
        pub fn retrace_frame_outside(frame: *mut Frame) -> *mut Frame;
        /// Objects that the events' own machinery has made.
        pub static mut retrace_line_events_objects: u64;
        /// How far off that may be.
        pub static retrace_line_events_slack: u64;
    }

    /// How many frames of Python code a thread has.
    ///
    /// # Safety
    /// The GIL is held.
    pub unsafe fn depth_of(tstate: *mut ThreadState) -> u32 {
        // SAFETY: by contract.
        unsafe { retrace_depth(tstate) as u32 }
    }
}
