//! Replay's threads: every Python thread is a coroutine of one operating-system thread, and the recorded schedule says
//! which of them goes on. CPython's own GIL and lock code runs unchanged on top of the functions here, which take the
//! place of what it imports from the C library.
//!
//! The thread that started the process is the *root*: it is no coroutine, and where it waits it resumes the one whose
//! turn it is. A coroutine that waits goes back to the root. Nothing runs in parallel, so nothing races, and a fork of
//! the process copies every thread.
//!
//! Without the GIL a thread runs on until it wants the GIL again, or a lock: what it does there touches no Python state.

mod bindings;
mod library_threads;
mod locks;
mod native_code;
mod outsiders;
mod processes;
mod pthreads;
mod turns;

use crate::library_locks::Due;
use crate::timeline::Check;
use crate::turns::Sleeper;
use crate::{divergence, replay, schedule, thread_storage};
use corosensei::stack::{DefaultStack, Stack};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use native_code::Stretch;
use retrace_abi::gil;
use std::ffi::{c_int, c_void};
use std::ptr;

pub use bindings::bindings;
pub use library_threads::{
    calls_back, end_library_thread, end_where_stopped, has_specific, has_turn, is_in_call, keep_turn, leave_turn,
    library_thread_begins, make_library_thread, passed, pause, sleeper, take_last_turn, take_specific,
};
pub use locks::{is_interrupted_at, let_go, swap_lock_wait, wait_is_over};
pub use native_code::{
    count_library_lock, gave_up_at, library_lock_logged, lost_without_gil, mask_signals, native_calls_made,
    next_native_call, pass_native_call, released_call, stay_if_left,
};
pub use outsiders::{enter_from_outside, wants_python};
pub use processes::{pid_binding, set_pid};
pub use pthreads::{add_foreign, set_specific, specific};
pub use turns::{candidates, checks, diversion_ended, dropped, is_at, last_cpu_us, taken, with_thread_state};

/// What pthread_create gives a thread where nobody asks for another size and there is no limit.
const STACK: usize = 8 << 20;

enum State {
    /// Made, and not yet run.
    New {
        start: schedule::Start,
        argument: usize,
        /// The size that was asked for; 0 for none.
        stack: usize,
    },
    Running,
    /// Its function returned, or it left by pthread_exit().
    Ended,
}

/// What CPython's clock must tell a thread that waits for a lock.
#[derive(Clone, Copy)]
pub struct LockWait {
    /// The clock that a time-out was last reckoned from.
    began: libc::timespec,
    /// A signal interrupted the wait, and no lock has been tried since.
    interrupted: bool,
}

impl LockWait {
    pub const NONE: LockWait = LockWait { began: libc::timespec { tv_sec: 0, tv_nsec: 0 }, interrupted: false };
}

struct UserThread {
    ident: u64,
    state: State,
    coroutine: Option<Coroutine<(), (), ()>>,
    yielder: *const Yielder<(), ()>,
    specific: Vec<(libc::pthread_key_t, usize)>,
    /// Its stack, as large as it was asked for: the lowest address, and the size.
    stack: (usize, usize),
    /// As in `schedule::Actor`.
    releases: u64,
    /// As in `turns::Hold`.
    passed: u64,
    /// As in `schedule::Actor`.
    freed: u64,
    tries: u64,
    /// As in `schedule::Actor`.
    found_busy: *const libc::sem_t,
    /// It dropped the GIL at a check of the eval breaker.
    at_check: bool,
    /// The one it was at last, where a debugger's line events may lead to it again.
    check: Check,
    /// It takes the GIL inside a call; at the interpreter's end it is given back, and the thread ends there.
    returns_to_call: bool,
    lock_wait: LockWait,
    /// It has given the GIL up for good.
    ends: bool,
    /// The recording was over before its end was.
    is_left: bool,
    /// What its C code calls without the GIL until it takes it again, as far as that was looked for.
    stretch: Option<Stretch>,
    /// As in `schedule::Actor`.
    library_locks: u64,
    native_calls_made: u64,
    /// See [`last_cpu_us`].
    cpu_us: u64,
    begun_us: u64,
    /// As in `schedule::Actor`.
    gave_up_at: u64,
    was_external: bool,
    /// The lock of a library's, or of CPython's without the GIL, that it waits for.
    waits_for: Option<Due>,
    /// As in `schedule::Actor`.
    keeps_turn: bool,
    calls_back: u64,
    /// It runs a library's code without the GIL, and has the turn where it is the one that goes on.
    in_library: bool,
    sleeper: &'static Sleeper,
    /// The signals that its C code blocks, as far as that code is told: see [`mask_signals`].
    blocked: libc::sigset_t,
}

// One operating-system thread runs all of this.
static mut THREADS: Vec<UserThread> = Vec::new();
static mut RUNNING: usize = 0;
/// Whose turn it is.
static mut ALLOWED: usize = 0;
/// Who took the GIL last.
static mut OWNER: usize = 0;
/// The running thread drops the GIL in place of a call that did.
static mut IN_CALL: bool = false;
/// Checks at which a fingerprint was looked for, and how many of them were at its place.
static mut SCANS: u64 = 0;
static mut AT_PLACE: u64 = 0;
static mut SAME_SHALLOW: u64 = 0;

#[expect(static_mut_refs, reason = "one thread; no reference is kept across a switch")]
unsafe fn threads() -> &'static mut Vec<UserThread> {
    // SAFETY: by the module's contract.
    unsafe { &mut THREADS }
}

unsafe fn me() -> &'static mut UserThread {
    // SAFETY: RUNNING is always an index.
    unsafe { &mut threads()[RUNNING] }
}

fn new_thread(ident: u64, state: State) -> UserThread {
    let begun_us = if matches!(state, State::New { .. }) { crate::schedule::cpu_us() } else { 0 };
    UserThread {
        ident,
        state,
        coroutine: None,
        yielder: ptr::null(),
        specific: Vec::new(),
        stack: (0, 0),
        releases: 0,
        passed: 0,
        freed: 0,
        tries: 0,
        found_busy: ptr::null(),
        at_check: false,
        check: Check::NONE,
        returns_to_call: false,
        lock_wait: LockWait::NONE,
        ends: false,
        is_left: false,
        stretch: None,
        library_locks: 0,
        native_calls_made: 0,
        cpu_us: 0,
        begun_us,
        gave_up_at: 0,
        was_external: false,
        waits_for: None,
        keeps_turn: false,
        calls_back: 0,
        in_library: false,
        sleeper: Sleeper::new(),
        blocked: native_code::inherited_mask(),
    }
}

/// Adds a thread under its number. To be done before its event is consumed: what comes next may be a thread that Python did
/// not make, which has the next number.
unsafe fn add(serial: u64, thread: UserThread) {
    // SAFETY: by the module's contract.
    unsafe {
        // Numbers of threads that could not be made stay empty.
        while (threads().len() as u64) < serial {
            threads().push(new_thread(0, State::Ended));
        }
        threads().push(thread);
    }
}

/// Makes the calling thread the root, with the recorded ident.
///
/// # Safety
/// The GIL is held; called once, before the functions of [`bindings`] are reachable.
pub unsafe fn begin(ident: u64) {
    // SAFETY: by contract.
    unsafe {
        IS_REPLAY = true;
        threads().push(new_thread(ident, State::Running));
        gil::retrace_set_main_thread_ident(ident as std::ffi::c_ulong);
    }
}

/// Fails as the C library does.
fn fail(errno: c_int) -> c_int {
    crate::platform::set_errno(errno);
    -1
}

// ---- switching ----

/// Waits until it is the running thread's turn.
unsafe fn wait_for_turn() {
    // SAFETY: by the module's contract; nothing borrowed is kept across a switch.
    unsafe {
        let running = RUNNING;
        if ALLOWED == running {
            return;
        }
        while ALLOWED != running {
            let_others_run();
        }
    }
}

/// A thread that is to run before the one whose turn it is, up to where it wants the GIL; 0, the root, where there is none.
static mut FIRST: usize = 0;

/// A thread that was made and has not run yet.
unsafe fn a_new_one() -> Option<usize> {
    let is_new = |thread: &UserThread| matches!(thread.state, State::New { .. }) && !thread.in_library;
    // SAFETY: as above.
    unsafe { threads().iter().position(is_new) }
}

/// Has a thread that was made and has not run yet run up to where it wants the GIL. Returns whether there was one.
unsafe fn begin_one() -> bool {
    // SAFETY: as above.
    unsafe {
        let Some(first) = a_new_one() else { return false };
        FIRST = first;
        let_others_run();
        true
    }
}

/// On the root: runs a thread that gets the mutex now that it waits for, or the one whose turn it is.
unsafe fn resume_next() {
    // SAFETY: as above.
    unsafe {
        let first = FIRST;
        if first != 0 {
            FIRST = 0;
            return resume(first);
        }
        let gets_it = |thread: &UserThread| thread.waits_for.is_some_and(Due::is_now);
        let ready = threads().iter().skip(1).position(gets_it).map(|k| k + 1);
        if ready.is_none() && threads().get(ALLOWED).is_some_and(|thread| thread.waits_for.is_some()) {
            // A new one took the lock first, before it wanted the GIL (CPython's, for its list of threads).
            if let Some(new) = a_new_one() {
                return resume(new);
            }
            // One that ended took it first, and the recording was over before that was logged.
            if let Some(left) = threads().iter().position(|thread| thread.is_left) {
                threads()[left].is_left = false;
                return resume(left);
            }
            lost(format!("thread {} waits here for a lock that nobody lets go", { ALLOWED }));
        }
        resume(ready.unwrap_or(ALLOWED));
    }
}

/// On the root: runs thread `k` until it waits or ends.
unsafe fn resume(k: usize) {
    // SAFETY: as above.
    unsafe {
        let Some(thread) = threads().get_mut(k) else {
            lost(format!("the recording switches to thread {k}, which was never made"));
        };
        match std::mem::replace(&mut thread.state, State::Running) {
            State::New { start, argument, stack: asked } => {
                let size = if asked == 0 { STACK } else { asked };
                let Ok(stack) = DefaultStack::new(size.max(STACK)) else {
                    lost(format!("there is no memory for the stack of thread {k}"));
                };
                thread.stack = (stack.base().get() - size, size);
                thread.coroutine = Some(Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
                    threads()[k].yielder = yielder;
                    // CPython's own function for a thread's beginning.
                    start(argument as *mut c_void);
                    native_code::end_thread();
                }));
            }
            State::Running => {}
            State::Ended => lost(format!("the recording switches to thread {k}, which has ended here")),
        }
        let Some(mut coroutine) = threads()[k].coroutine.take() else {
            lost(format!("the recording switches to thread {k}, which waits for no turn"));
        };
        RUNNING = k;
        thread_storage::switch_to(k);
        let result = coroutine.resume(());
        match result {
            CoroutineResult::Yield(()) if !matches!(threads()[k].state, State::Ended) => {
                threads()[k].coroutine = Some(coroutine);
            }
            // It left by pthread_exit(): what is on its stack is never unwound.
            CoroutineResult::Yield(()) => std::mem::forget(coroutine),
            CoroutineResult::Return(()) => threads()[k].state = State::Ended,
        }
        if matches!(threads()[k].state, State::Ended) {
            thread_storage::end();
        }
        if ALLOWED == k && matches!(threads()[k].state, State::Ended) {
            if replay::source().at_end() {
                divergence::recording_cut("the end of a thread");
            }
            if let Some(status) = replay::recorded_end() {
                divergence::end_of_process(status);
            }
            lost(format!("thread {k} has ended here, and the recording does not say who went on"));
        }
    }
}

/// The schedule can't be followed.
unsafe fn lost(met: String) -> ! {
    // SAFETY: replaying.
    unsafe { divergence::schedule_lost(met) }
}

/// The thread whose turn it is has not taken the GIL yet.
static mut TURN_BEGINS: bool = false;

unsafe fn give_turn_to(next: u64) {
    // SAFETY: as above.
    unsafe {
        TURN_BEGINS = true;
        ALLOWED = next as usize;
        SCANS = 0;
        AT_PLACE = 0;
        SAME_SHALLOW = 0;
        if let Some(thread) = threads().get_mut(ALLOWED) {
            thread.releases = 0;
            thread.passed = 0;
            thread.freed = 0;
            thread.tries = 0;
        }
    }
}

/// Lets others go on until it is the running thread that gets a lock.
///
/// # Safety
/// As [`running`].
pub unsafe fn wait_for_lock(due: Due) {
    // SAFETY: by contract; nothing borrowed is kept across a switch.
    unsafe {
        while !due.is_now() {
            me().waits_for = Some(due);
            let_others_run();
        }
        me().waits_for = None;
    }
}

/// Has those go on that get a lock now that they wait for without the GIL: what this thread does next comes after them.
unsafe fn serve_waiting() {
    // SAFETY: as above.
    unsafe {
        while threads().iter().any(|thread| thread.waits_for.is_some_and(Due::is_now)) {
            let_others_run();
        }
    }
}

/// Leaves the running thread until somebody lets it go on.
unsafe fn let_others_run() {
    // SAFETY: as above.
    unsafe {
        let running = RUNNING;
        let errno = crate::platform::errno();
        if running == 0 {
            resume_next();
            thread_storage::switch_to(0);
        } else {
            (*threads()[running].yielder).suspend(());
        }
        RUNNING = running;
        crate::platform::set_errno(errno);
    }
}

/// The recording switched to another thread inside the call that is being replayed: lets that one run until the log
/// says that this one goes on.
///
/// # Safety
/// Replaying; the GIL is held; the switch has been read from the log.
pub unsafe fn switch_in_call(next: u64) {
    // SAFETY: by contract.
    unsafe {
        give_turn_to(next);
        IN_CALL = true;
        let tstate = pyo3_ffi::PyEval_SaveThread();
        IN_CALL = false;
        me().returns_to_call = true;
        pyo3_ffi::PyEval_RestoreThread(tstate);
        me().returns_to_call = false;
    }
}

// ---- asked from outside ----

/// The threads that have not ended: number and ident.
///
/// # Safety
/// Replaying.
pub unsafe fn idents() -> Vec<(usize, u64)> {
    // SAFETY: one thread.
    let threads = unsafe { threads() };
    let lives = |(_, thread): &(usize, &UserThread)| !matches!(thread.state, State::Ended);
    threads.iter().enumerate().filter(lives).map(|(number, thread)| (number, thread.ident)).collect()
}

/// Where the stack of the thread with that ident is, and its size: of one that has a coroutine.
///
/// # Safety
/// As [`running`].
pub unsafe fn stack_of(ident: libc::pthread_t) -> Option<(usize, usize)> {
    // SAFETY: by contract.
    let threads = unsafe { threads() };
    let found = threads
        .iter()
        .find(|thread| thread.ident as libc::pthread_t == ident && !matches!(thread.state, State::Ended))?;
    (found.stack.1 > 0).then_some(found.stack)
}

/// Whether this process is a replay.
pub fn are_used() -> bool {
    // SAFETY: written before anybody could ask on another thread.
    unsafe { IS_REPLAY }
}

static mut IS_REPLAY: bool = false;

/// The running thread.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn running() -> usize {
    // SAFETY: by contract.
    unsafe { RUNNING }
}

/// The check of the eval breaker that the running thread is at, or was last.
///
/// # Safety
/// As [`running`].
pub unsafe fn check() -> &'static mut Check {
    // SAFETY: by contract.
    unsafe { &mut me().check }
}

/// The running thread's recorded ident.
///
/// # Safety
/// As [`running`].
pub unsafe fn ident() -> u64 {
    // SAFETY: by contract.
    unsafe { me().ident }
}

/// The running thread frees an external object.
///
/// # Safety
/// As [`running`].
pub unsafe fn count_freed() {
    // SAFETY: by contract.
    unsafe { me().freed += 1 };
}

/// How many it has freed since it got the GIL from another one.
///
/// # Safety
/// As [`running`].
pub unsafe fn freed() -> u64 {
    // SAFETY: by contract.
    unsafe { me().freed }
}

/// Whether the running thread has the GIL.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn has_gil() -> bool {
    // SAFETY: one thread. Another one may have the GIL while this one runs: it waits for a library's mutex.
    unsafe { *gil::retrace_gil.locked != 0 && OWNER == RUNNING && !outsiders::have_gil() }
}
