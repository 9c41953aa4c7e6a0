//! Threads that a library makes for itself and that do I/O: they take turns with Python's (`crate::turns`), in both
//! directions. Recording notes that one was made, and replay has a coroutine for it, which runs the library's code.

use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::imports::{self, Binding, replaced};
use crate::schedule::{self, Actor, Start};
use crate::session::{self, Mode};
use crate::turns::{self, locked};
use crate::{c11_threads, library_waits, native_handlers, platform, user_threads};
use pyo3_ffi::{PyGILState_Ensure, PyGILState_Release, PyGILState_STATE, PyThreadState};
use retrace_abi::gil;
use retrace_replay::event::{Call, General, NO_FRAME, Outcome};
use retrace_replay::value::Value;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::{LazyLock, Mutex, OnceLock};

type Destructor = unsafe extern "C" fn(*mut c_void);
type Ident = libc::pthread_t;

const FUNCTIONS: usize = 21;
static mut NEXT: [*mut c_void; FUNCTIONS] = [ptr::null_mut(); FUNCTIONS];

const CREATE: usize = 0;
const SAVE: usize = 1;
const RESTORE: usize = 2;
const ENSURE: usize = 3;
const RELEASE: usize = 4;
const JOIN: usize = 5;
const DETACH: usize = 6;
const EXIT: usize = 7;
const AT_THREAD_EXIT: usize = 10;
const FORK: usize = 11;
const CREATE_IF_ASKED: usize = 12;
const START: usize = 13;
const ENSURE_FOR_OTHERS: usize = 14;
const RELEASE_FOR_OTHERS: usize = 15;
const RESTORE_FOR_OTHERS: usize = 16;
const ACQUIRE: usize = 17;
const RELEASE_THREAD: usize = 18;
const DELETE_CURRENT: usize = 19;
const SWAP: usize = 20;

/// Bindings of functions whose places in `NEXT` begin at `first`.
fn bound<const N: usize>(functions: [(&'static CStr, *mut c_void); N], first: usize) -> Vec<Binding> {
    assert!(first + N <= FUNCTIONS);
    // SAFETY: within the array.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast::<*mut c_void>().add(first)) }
}

/// What is put into the import table of an image whose threads take turns.
pub fn making() -> Vec<Binding> {
    let mut bindings = bound([(c"pthread_create", create as *mut c_void)], CREATE);
    bindings.extend(bound([(STD_THREAD, start_std_thread as *mut c_void)], START));
    bindings.push(c11_threads::making());
    bindings
}

/// What is put into the import table of another image: C++'s library makes threads for others.
pub fn making_for_others() -> Vec<Binding> {
    bound([(c"pthread_create", create_if_asked as *mut c_void)], CREATE_IF_ASKED)
}

/// `std::thread::_M_start_thread`, by which libstdc++ makes the threads of C++ code.
pub const STD_THREAD_NAME: &str = match STD_THREAD.to_str() {
    Ok(name) => name,
    Err(_) => panic!(),
};
const STD_THREAD: &CStr = c"_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE";

/// What is put into the import tables of a module that has such an image.
pub fn with_turns() -> Vec<Binding> {
    let functions: [(&CStr, *mut c_void); 4] = [
        (c"PyEval_SaveThread", save_thread as *mut c_void),
        (c"PyEval_RestoreThread", restore_thread as *mut c_void),
        (c"PyGILState_Ensure", ensure as *mut c_void),
        (c"PyGILState_Release", release as *mut c_void),
    ];
    let mut bindings = bound(functions, SAVE);
    // pybind11's, on a thread that Python did not make.
    let functions: [(&CStr, *mut c_void); 3] = [
        (c"PyEval_AcquireThread", acquire_thread as *mut c_void),
        (c"PyEval_ReleaseThread", release_thread as *mut c_void),
        (c"PyThreadState_DeleteCurrent", delete_current as *mut c_void),
    ];
    bindings.extend(bound(functions, ACQUIRE));
    bindings.extend(bound([(c"PyThreadState_Swap", swap as *mut c_void)], SWAP));
    bindings
}

/// What is put into the import table of a module that has not such an image, but calls one: ctypes.
pub fn going_into() -> Vec<Binding> {
    bound([(c"PyEval_SaveThread", save_thread as *mut c_void)], SAVE)
}

/// What is put into the import tables of all other extension modules, by which a library's threads may call back: cffi's.
pub fn calling_back() -> Vec<Binding> {
    let functions: [(&CStr, *mut c_void); 3] = [
        (c"PyGILState_Ensure", ensure_for_others as *mut c_void),
        (c"PyGILState_Release", release_for_others as *mut c_void),
        (c"PyEval_RestoreThread", restore_for_others as *mut c_void),
    ];
    bound(functions, ENSURE_FOR_OTHERS)
}

/// What is put into every extension module's import table.
pub fn bindings() -> Vec<Binding> {
    let functions: [(&CStr, *mut c_void); 7] = [
        (c"pthread_join", join as *mut c_void),
        (c"pthread_detach", detach as *mut c_void),
        (c"pthread_exit", exit as *mut c_void),
        (c"pthread_key_create", key_create as *mut c_void),
        (c"__pthread_key_create", key_create as *mut c_void),
        (c"__cxa_thread_atexit_impl", at_thread_exit as *mut c_void),
        (c"fork", fork as *mut c_void),
    ];
    // SAFETY: in a session, the GIL held.
    unsafe {
        let name = "libc.fork";
        HOOK.get().get_or_insert_with(|| hook::of_library(name));
    }
    bound(functions, JOIN)
}

/// Threads that were made and not yet joined: whether each has ended, and, replaying, with what.
static ENDS: LazyLock<Mutex<HashMap<usize, Option<usize>>>> = LazyLock::new(Mutex::default);
/// What becomes of thread-specific values when a thread ends.
static DESTRUCTORS: LazyLock<Mutex<HashMap<libc::pthread_key_t, Destructor>>> = LazyLock::new(Mutex::default);
/// Replaying: what becomes of the variables of each thread.
static AT_EXIT: LazyLock<Mutex<HashMap<usize, Vec<AtExit>>>> = LazyLock::new(Mutex::default);

/// A destructor and what it is given.
type AtExit = (usize, usize);

// ---- the GIL, in a library's code ----

/// The calling thread, which has the turn, keeps it when it gives the GIL up; or not.
unsafe fn keep_turn(keeps: bool) {
    // SAFETY: the calling thread's own.
    unsafe {
        match native_handlers::mode() {
            Mode::Recording => {
                let actor = gil::retrace_actor().cast::<Actor>();
                if !actor.is_null() {
                    (*actor).keeps_turn = keeps;
                }
            }
            Mode::Replaying if schedule::is_ours() => user_threads::keep_turn(keeps),
            _ => {}
        }
    }
}

/// Gives the GIL up by `work`, and keeps the turn, which the calling thread has.
unsafe fn keeping_turn<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the calling thread's own.
    unsafe {
        keep_turn(true);
        let result = work();
        keep_turn(false);
        result
    }
}

/// Gives the GIL up by `work`, and keeps the turn if the calling thread has it.
unsafe fn giving_up_gil<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the calling thread's own.
    unsafe { if library_waits::in_turn() { keeping_turn(work) } else { work() } }
}

/// The calling thread is about to want the GIL. Returns whether it had the turn, and has given that up.
unsafe fn before_gil() -> bool {
    // SAFETY: called by an extension module's code.
    unsafe {
        let leaves = library_waits::in_turn() && !schedule::holds_gil();
        if leaves {
            turns::leave();
        }
        leaves
    }
}

/// The calling thread is about to be in a library's code without the GIL: if the program has made threads, they take turns
/// from now on.
unsafe fn share() {
    // SAFETY: called by an extension module with the GIL.
    unsafe {
        if !turns::are_on()
            && schedule::is_ours()
            && schedule::has_made_threads()
            && matches!(native_handlers::mode(), Mode::Recording | Mode::Replaying)
            && !turns::is_in_call()
        {
            turns::begin();
        }
    }
}

unsafe extern "C" fn save_thread() -> *mut PyThreadState {
    // SAFETY: called by an extension module with the GIL.
    unsafe {
        let next = replaced!(NEXT[SAVE], => *mut PyThreadState);
        share();
        let _inside = turns::enter();
        giving_up_gil(|| next())
    }
}

unsafe extern "C" fn restore_thread(state: *mut PyThreadState) {
    let _inside = turns::enter();
    // SAFETY: called by an extension module.
    unsafe {
        before_gil();
        replaced!(NEXT[RESTORE], *mut PyThreadState => ())(state);
    }
}

unsafe extern "C" fn ensure() -> PyGILState_STATE {
    let _inside = turns::enter();
    // SAFETY: called by an extension module.
    unsafe {
        before_gil();
        replaced!(NEXT[ENSURE], => PyGILState_STATE)()
    }
}

unsafe extern "C" fn acquire_thread(state: *mut PyThreadState) {
    let _inside = turns::enter();
    // SAFETY: called by an extension module.
    unsafe {
        before_gil();
        replaced!(NEXT[ACQUIRE], *mut PyThreadState => ())(state);
    }
}

unsafe extern "C" fn release_thread(state: *mut PyThreadState) {
    let _inside = turns::enter();
    // SAFETY: called by an extension module with the GIL.
    unsafe {
        let next = replaced!(NEXT[RELEASE_THREAD], *mut PyThreadState => ());
        giving_up_gil(|| next(state))
    }
}

unsafe extern "C" fn delete_current() {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        let next = replaced!(NEXT[DELETE_CURRENT], => ());
        giving_up_gil(|| next())
    }
}

/// From 3.12 on it gives the GIL up where there is no other state, and takes it where there was none (duckdb).
unsafe extern "C" fn swap(state: *mut PyThreadState) -> *mut PyThreadState {
    // SAFETY: called by an extension module.
    unsafe {
        let next = replaced!(NEXT[SWAP], *mut PyThreadState => *mut PyThreadState);
        if state.is_null() {
            share();
        }
        let _inside = turns::enter();
        if state.is_null() {
            return giving_up_gil(|| next(state));
        }
        before_gil();
        next(state)
    }
}

unsafe extern "C" fn release(state: PyGILState_STATE) {
    // SAFETY: called by an extension module with the GIL.
    unsafe {
        let next = replaced!(NEXT[RELEASE], PyGILState_STATE => ());
        // What it is called from may have given the GIL up before there were threads.
        share();
        let _inside = turns::enter();
        giving_up_gil(|| next(state))
    }
}

/// How many times the calling thread gave the turn up to call back, and has not gone back since.
unsafe fn calls_back() -> Option<&'static mut u64> {
    // SAFETY: the calling thread's own, which is not kept.
    unsafe {
        match native_handlers::mode() {
            Mode::Recording => gil::retrace_actor().cast::<Actor>().as_mut().map(|actor| &mut actor.calls_back),
            Mode::Replaying if schedule::is_ours() => Some(user_threads::calls_back()),
            _ => None,
        }
    }
}

/// The calling thread is about to want the GIL, in a module in which threads don't take turns: it calls back out of a library
/// in which they do, if it has the turn.
unsafe fn before_call_back() {
    // SAFETY: called by an extension module.
    unsafe {
        if before_gil()
            && let Some(count) = calls_back()
        {
            *count += 1;
        }
    }
}

unsafe extern "C" fn ensure_for_others() -> PyGILState_STATE {
    let _inside = turns::enter();
    // SAFETY: called by an extension module.
    unsafe {
        before_call_back();
        if native_handlers::mode() == Mode::Replaying && !schedule::is_ours() {
            user_threads::enter_from_outside();
        }
        replaced!(NEXT[ENSURE_FOR_OTHERS], => PyGILState_STATE)()
    }
}

/// cffi takes the GIL by this where the thread has been in Python before.
unsafe extern "C" fn restore_for_others(state: *mut PyThreadState) {
    let _inside = turns::enter();
    // SAFETY: called by an extension module.
    unsafe {
        before_call_back();
        replaced!(NEXT[RESTORE_FOR_OTHERS], *mut PyThreadState => ())(state);
    }
}

unsafe extern "C" fn release_for_others(state: PyGILState_STATE) {
    let _inside = turns::enter();
    // SAFETY: called by an extension module with the GIL.
    unsafe {
        let next = replaced!(NEXT[RELEASE_FOR_OTHERS], PyGILState_STATE => ());
        let goes_back = state == PyGILState_STATE::PyGILState_UNLOCKED
            && library_waits::in_turn()
            && calls_back().is_some_and(|count| std::mem::replace(count, count.saturating_sub(1)) > 0);
        if goes_back { keeping_turn(|| next(state)) } else { next(state) }
    }
}

// ---- making a thread ----

/// There are turns from now on. Returns whether the calling thread has it.
unsafe fn have_turn() -> bool {
    if turns::has() {
        return true;
    }
    // SAFETY: a thread of the program's, outside of external calls. What has no GIL gets the turn with it, and keeps it.
    unsafe {
        if schedule::holds_gil() {
            turns::begin();
        } else {
            let state = PyGILState_Ensure();
            turns::begin();
            keeping_turn(|| PyGILState_Release(state));
        }
    }
    turns::has()
}

/// What a thread is given to begin with.
struct Luggage {
    actor: *mut Actor,
    start: Start,
    argument: *mut c_void,
}

type Create = unsafe extern "C" fn(*mut Ident, *const libc::pthread_attr_t, Start, *mut c_void) -> c_int;

unsafe extern "C" fn create(
    ident: *mut Ident,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: called by a library with pthread_create's arguments.
    unsafe {
        let next = std::mem::transmute::<*mut c_void, Create>(NEXT[CREATE]);
        let _inside = turns::enter();
        match native_handlers::mode() {
            Mode::Recording if schedule::is_ours() && schedule::logs_native_calls() && have_turn() => {
                let _inside_since_turns = turns::enter();
                let actor = schedule::new_actor();
                let luggage = Box::into_raw(Box::new(Luggage { actor, start, argument }));
                let error = next(ident, attributes, begins, luggage.cast());
                if error != 0 {
                    drop(Box::from_raw(luggage));
                } else {
                    locked(&ENDS).insert(*ident as usize, None);
                }
                let made = if error == 0 { schedule::ident_number(*ident) } else { 0 };
                turns::append_thread((*actor).serial, made, error);
                error
            }
            Mode::Replaying if schedule::is_ours() && have_turn() => {
                let _inside_since_turns = turns::enter();
                let mut stack = 0;
                if attributes.is_null() || libc::pthread_attr_getstacksize(attributes, &mut stack) != 0 {
                    stack = 0;
                }
                let luggage = Box::into_raw(Box::new(Luggage { actor: ptr::null_mut(), start, argument }));
                match user_threads::make_library_thread(replay_begins, luggage as usize, stack) {
                    Ok(made) => {
                        *ident = made as Ident;
                        locked(&ENDS).insert(made as usize, None);
                        0
                    }
                    Err(error) => error,
                }
            }
            Mode::Diverted => libc::EAGAIN,
            _ => platform::without_time_stamps(|| next(ident, attributes, start, argument)),
        }
    }
}

/// Makes a thread as [`create`] does, for one whose image need not import `pthread_create`.
///
/// # Safety
/// As `pthread_create`, called by a library whose threads take turns.
pub unsafe fn create_here(ident: *mut Ident, start: *mut c_void, argument: *mut c_void) -> c_int {
    // SAFETY: by contract.
    unsafe {
        if NEXT[CREATE].is_null() {
            NEXT[CREATE] = libc::dlsym(libc::RTLD_DEFAULT, c"pthread_create".as_ptr());
        }
        create(ident, ptr::null(), std::mem::transmute::<*mut c_void, Start>(start), argument)
    }
}

thread_local! {
    /// The calling thread has C++'s library make a thread that takes turns.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };
}

type StartStdThread = unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, *mut c_void);

/// Takes the mark back, also where C++ throws.
struct Asked;

impl Drop for Asked {
    fn drop(&mut self) {
        IS_ASKED.set(false);
    }
}

/// Called by a library whose threads take turns. It may throw.
unsafe extern "C-unwind" fn start_std_thread(thread: *mut c_void, state: *mut c_void, depends: *mut c_void) {
    IS_ASKED.set(true);
    let _asked = Asked;
    // SAFETY: called with the function's arguments; the library's next `pthread_create` on this thread is this one's.
    unsafe { std::mem::transmute::<*mut c_void, StartStdThread>(NEXT[START])(thread, state, depends) };
}

unsafe extern "C" fn create_if_asked(
    ident: *mut Ident,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: called by a library with pthread_create's arguments; both places have that function.
    unsafe {
        let next = NEXT[CREATE_IF_ASKED];
        if IS_ASKED.take() {
            NEXT[CREATE] = next;
            return create(ident, attributes, start, argument);
        }
        let next = std::mem::transmute::<*mut c_void, Create>(next);
        platform::without_time_stamps(|| next(ident, attributes, start, argument))
    }
}

/// How often the system runs the destructors of a thread's values, as long as there are any.
const ROUNDS: usize = 4;

/// A recorded thread's value that is destroyed last of all: it is there again until the last round.
pub struct LastValue {
    key: OnceLock<libc::pthread_key_t>,
    /// Called in each round.
    ends: Destructor,
}

impl LastValue {
    pub const fn new(ends: Destructor) -> LastValue {
        LastValue { key: OnceLock::new(), ends }
    }

    /// Gives the calling thread one.
    pub fn set(&self) {
        self.set_round(1);
    }

    /// Whether the round that the destructor was given is not the last one; it is called again then.
    pub fn comes_again(&self, round: *mut c_void) -> bool {
        let is_early = (round as usize) < ROUNDS;
        if is_early {
            self.set_round(round as usize + 1);
        }
        is_early
    }

    fn set_round(&self, round: usize) {
        let key = *self.key.get_or_init(|| {
            let mut key = 0;
            // SAFETY: `key` is writable.
            unsafe { libc::pthread_key_create(&mut key, Some(self.ends)) };
            key
        });
        // SAFETY: the key was made above; the value is a number.
        unsafe { libc::pthread_setspecific(key, ptr::without_provenance(round)) };
    }
}

static LAST: LastValue = LastValue::new(ends);

unsafe extern "C" fn begins(luggage: *mut c_void) -> *mut c_void {
    // SAFETY: called by the system with what `create` gave it.
    unsafe {
        let Luggage { actor, start, argument } = *Box::from_raw(luggage.cast::<Luggage>());
        gil::retrace_set_actor(actor.cast());
        if turns::are_on() {
            let _inside = turns::enter();
            turns::take(actor);
        }
        LAST.set();
        start(argument)
    }
}

/// The thread's own code has run, and in the last round what becomes of its values, too.
unsafe extern "C" fn ends(round: *mut c_void) {
    // SAFETY: called by the system on a thread that ends.
    unsafe {
        if LAST.comes_again(round) {
            return;
        }
        let _inside = turns::enter();
        let ident = libc::pthread_self() as usize;
        if let Some(end) = locked(&ENDS).get_mut(&ident) {
            *end = Some(0);
        }
        turns::wake(ident, usize::MAX);
        if turns::has() && session::mode() == Mode::Recording {
            turns::leave();
        }
    }
}

unsafe extern "C" fn replay_begins(luggage: *mut c_void) -> *mut c_void {
    // SAFETY: called on the thread's coroutine with what `create` gave it.
    unsafe {
        let Luggage { start, argument, .. } = *Box::from_raw(luggage.cast::<Luggage>());
        user_threads::library_thread_begins();
        let value = start(argument);
        end_replayed(value)
    }
}

/// What is put into the import table of an image whose calls of the C library are not redirected.
pub fn at_end_of_thread() -> Vec<Binding> {
    bound([(c"__cxa_thread_atexit_impl", at_thread_exit as *mut c_void)], AT_THREAD_EXIT)
}

/// Whether the running thread has anything of its own that is destroyed when it ends.
///
/// # Safety
/// Replaying, on the thread's coroutine.
pub unsafe fn has_values() -> bool {
    // SAFETY: by contract.
    unsafe {
        let has_destructor = |key| destructor_of(key).is_some();
        locked(&AT_EXIT).contains_key(&user_threads::running()) || user_threads::has_specific(&has_destructor)
    }
}

/// What becomes of a thread's value of that key. Keys that a library makes while it is loaded nobody has seen here.
fn destructor_of(key: libc::pthread_key_t) -> Option<Destructor> {
    locked(&DESTRUCTORS).get(&key).copied().or_else(|| platform::key_destructor(key))
}

/// Destroys what the running thread has of its own, as the system does when a thread ends.
///
/// # Safety
/// Replaying, on the thread's coroutine.
pub unsafe fn destroy_values() {
    // SAFETY: by contract; the functions and values are those that C code gave.
    unsafe {
        let running = user_threads::running();
        loop {
            let last = locked(&AT_EXIT).get_mut(&running).and_then(Vec::pop);
            let Some((destructor, object)) = last else { break };
            std::mem::transmute::<usize, Destructor>(destructor)(object as *mut c_void);
        }
        locked(&AT_EXIT).remove(&running);
        for _ in 0..ROUNDS {
            let mut values = user_threads::take_specific();
            values.sort_unstable();
            for (key, value) in values.into_iter().filter(|(_, value)| *value != 0) {
                if let Some(destructor) = destructor_of(key) {
                    destructor(value as *mut c_void);
                }
            }
        }
    }
}

/// As the system ends a thread.
unsafe fn end_replayed(value: *mut c_void) -> ! {
    // SAFETY: on the coroutine of a library's thread.
    unsafe {
        destroy_values();
        let ident = user_threads::ident() as usize;
        locked(&ENDS).insert(ident, Some(value as usize));
        turns::wake(ident, usize::MAX);
        user_threads::end_library_thread()
    }
}

// ---- the end of a thread ----

/// What the log knows of a thread that was made here: whether it has ended.
fn end_of(ident: Ident) -> Option<Option<usize>> {
    locked(&ENDS).get(&(ident as usize)).copied()
}

unsafe extern "C" fn join(ident: Ident, value: *mut *mut c_void) -> c_int {
    let _inside = turns::enter();
    // SAFETY: called by an extension module with pthread_join's arguments.
    unsafe {
        let next = replaced!(NEXT[JOIN], Ident, *mut *mut c_void => c_int);
        let Some(mut end) = end_of(ident) else {
            return if library_waits::in_turn() && matches!(session::mode(), Mode::Recording | Mode::Replaying) {
                turns::without(|| next(ident, value))
            } else {
                next(ident, value)
            };
        };
        while end.is_none() && library_waits::in_turn() {
            turns::wait_at(ident as usize, None, || {});
            end = end_of(ident).flatten();
        }
        locked(&ENDS).remove(&(ident as usize));
        if !user_threads::are_used() {
            return next(ident, value);
        }
        if !value.is_null() {
            *value = end.unwrap_or(0) as *mut c_void;
        }
        0
    }
}

unsafe extern "C" fn detach(ident: Ident) -> c_int {
    if user_threads::are_used() && end_of(ident).is_some() {
        return 0;
    }
    // SAFETY: as above.
    unsafe { replaced!(NEXT[DETACH], Ident => c_int)(ident) }
}

unsafe extern "C" fn exit(value: *mut c_void) -> ! {
    // SAFETY: called by an extension module's code; what is on the coroutine's stack is never unwound.
    unsafe {
        if native_handlers::mode() == Mode::Replaying
            && schedule::is_ours()
            && end_of(user_threads::ident() as Ident).is_some()
        {
            end_replayed(value);
        }
        std::mem::transmute::<*mut c_void, unsafe extern "C-unwind" fn(*mut c_void) -> !>(NEXT[EXIT])(value)
    }
}

// ---- processes ----

static HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);

/// `fork` by C code, to start a program mostly: nothing of the child is recorded, and replay has none.
unsafe extern "C" fn fork() -> libc::pid_t {
    // SAFETY: called by an extension module.
    unsafe {
        let next = replaced!(NEXT[FORK], => libc::pid_t);
        let _inside = turns::enter();
        let index = HOOK.get().map_or(0, |hook| hook.index);
        match native_handlers::mode() {
            Mode::Recording => {
                let pid = next();
                let errno = platform::errno();
                if pid == 0 {
                    session::leave_forked_child();
                } else if schedule::logs_native_calls() {
                    let result = Some(Value::Int(if pid < 0 { -i64::from(errno) } else { pid.into() }));
                    let outcome = Outcome::General(Box::new(General { result, ..General::default() }));
                    schedule::append_native_call(Call {
                        hook: index,
                        at: NO_FRAME,
                        arguments: Some(Vec::new()),
                        outcome,
                    });
                }
                platform::set_errno(errno);
                pid
            }
            Mode::Replaying if schedule::is_ours() => {
                let call = user_threads::next_native_call(index);
                let Some(Call { outcome: Outcome::General(general), .. }) = call else {
                    user_threads::lost_without_gil("C code forks here".into());
                };
                user_threads::pass_native_call();
                let pid = general.result.as_ref().and_then(Value::as_int).unwrap_or(0);
                if pid < 0 {
                    platform::set_errno(-pid as c_int);
                    return -1;
                }
                pid as libc::pid_t
            }
            Mode::Diverted => {
                platform::set_errno(libc::EPERM);
                -1
            }
            Mode::Off => next(),
            Mode::Replaying => -1,
        }
    }
}

// ---- a thread's own values ----

unsafe extern "C" fn key_create(key: *mut libc::pthread_key_t, destructor: Option<Destructor>) -> c_int {
    // SAFETY: called by an extension module with pthread_key_create's arguments.
    unsafe {
        let error = libc::pthread_key_create(key, destructor);
        if error == 0 {
            match destructor {
                Some(destructor) => locked(&DESTRUCTORS).insert(*key, destructor),
                None => locked(&DESTRUCTORS).remove(&*key),
            };
        }
        error
    }
}

/// What becomes of a variable of the calling thread's when that ends.
unsafe extern "C" fn at_thread_exit(destructor: usize, object: usize, image: usize) -> c_int {
    // SAFETY: called with the C library's function's arguments.
    unsafe {
        if user_threads::are_used() && schedule::is_ours() && user_threads::running() != 0 {
            locked(&AT_EXIT).entry(user_threads::running()).or_default().push((destructor, object));
            return 0;
        }
        replaced!(NEXT[AT_THREAD_EXIT], usize, usize, usize => c_int)(destructor, object, image)
    }
}
