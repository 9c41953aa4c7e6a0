//! Replay's threads: every Python thread is a coroutine of one operating-system thread, and the recorded schedule says
//! which of them goes on. CPython's own GIL and lock code runs unchanged on top of the functions here, which take the
//! place of what it imports from the C library.
//!
//! The thread that started the process is the *root*: it is no coroutine, and where it waits it resumes the one whose
//! turn it is. A coroutine that waits goes back to the root. Nothing runs in parallel, so nothing races, and a fork of
//! the process copies every thread.
//!
//! Without the GIL a thread runs on until it wants the GIL again, or a lock: what it does there touches no Python state.

use crate::divergence;
use crate::hook::Hook;
use crate::imports::{Binding, replaced};
use crate::library_locks::{self, Due};
use crate::replay::{self, Front};
use crate::schedule;
use crate::session;
use crate::thread;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use retrace_abi::gil;
use retrace_replay::event::{Call, Fingerprint, Position, WaitEnd};
use std::ffi::{c_int, c_void};
use std::ptr;

/// What pthread_create gives a thread where nobody asks for another size and there is no limit.
const STACK: usize = 8 << 20;

enum State {
    /// Made, and not yet run.
    New {
        start: schedule::Start,
        argument: usize,
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
    /// As in `schedule::Actor`.
    releases: u64,
    tries: u64,
    /// As in `schedule::Actor`.
    found_busy: *const libc::sem_t,
    /// It dropped the GIL at a check of the eval breaker.
    at_check: bool,
    /// It takes the GIL inside a call; at the interpreter's end it is given back, and the thread ends there.
    returns_to_call: bool,
    lock_wait: LockWait,
    /// What its C code calls without the GIL until it takes it again, as far as that was looked for.
    stretch: Option<Stretch>,
    /// As in `schedule::Actor`.
    library_locks: u64,
    native_calls_made: u64,
    /// See [`last_cpu_us`].
    cpu_us: u64,
    /// As in `schedule::Actor`.
    gave_up_at: u64,
    was_external: bool,
    /// The lock of a library's, or of CPython's without the GIL, that it waits for.
    waits_for: Option<Due>,
}

/// Calls of C code without the GIL.
struct Stretch {
    /// What is left of them, the next one last.
    left: Vec<Call>,
    /// Whether one has been made: before, they may be those of a later stretch.
    begun: bool,
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
    UserThread {
        ident,
        state,
        coroutine: None,
        yielder: ptr::null(),
        specific: Vec::new(),
        releases: 0,
        tries: 0,
        found_busy: ptr::null(),
        at_check: false,
        returns_to_call: false,
        lock_wait: LockWait::NONE,
        stretch: None,
        library_locks: 0,
        native_calls_made: 0,
        cpu_us: 0,
        gave_up_at: 0,
        was_external: false,
        waits_for: None,
    }
}

/// Makes the calling thread the root, with the recorded ident.
///
/// # Safety
/// The GIL is held; called once, before the functions of [`bindings`] are reachable.
pub unsafe fn begin(ident: u64) {
    // SAFETY: by contract.
    unsafe {
        threads().push(new_thread(ident, State::Running));
        gil::retrace_set_main_thread_ident(ident as std::ffi::c_ulong);
    }
}

static mut NEXT: [*mut c_void; 24] = [ptr::null_mut(); 24];

/// The functions that take the place of the interpreter's imports.
///
/// # Safety
/// [`begin`] was called.
pub unsafe fn bindings() -> Vec<Binding> {
    let functions: [(&'static std::ffi::CStr, *mut c_void, bool); 22] = [
        (c"pthread_create", create as *mut c_void, true),
        (c"pthread_self", own_ident as *mut c_void, true),
        (c"pthread_exit", exit as *mut c_void, false),
        (c"pthread_detach", detach as *mut c_void, false),
        (c"pthread_mutex_lock", mutex_lock as *mut c_void, true),
        (c"pthread_mutex_unlock", mutex_unlock as *mut c_void, true),
        (c"pthread_cond_wait", cond_wait as *mut c_void, true),
        (c"pthread_cond_timedwait", cond_timedwait as *mut c_void, true),
        (c"pthread_getspecific", getspecific as *mut c_void, true),
        (c"pthread_setspecific", setspecific as *mut c_void, true),
        (c"sem_trywait", sem_trywait as *mut c_void, cfg!(target_os = "linux")),
        (c"sem_wait", sem_wait as *mut c_void, cfg!(target_os = "linux")),
        (c"sem_clockwait", sem_clockwait as *mut c_void, false),
        (c"sem_timedwait", sem_timedwait as *mut c_void, false),
        (c"sem_post", sem_post as *mut c_void, cfg!(target_os = "linux")),
        (c"pthread_kill", refuse_kill as *mut c_void, false),
        (c"pthread_getcpuclockid", refuse_clock as *mut c_void, false),
        (c"fork", fork as *mut c_void, true),
        (c"fopen", open_stream as *mut c_void, false),
        (c"fopen64", open_stream as *mut c_void, false),
        (c"getpid", own_pid as *mut c_void, false),
        (c"clock_gettime", clock_gettime as *mut c_void, false),
    ];
    let place = |i: usize| {
        // SAFETY: within the array.
        unsafe { (&raw mut NEXT).cast::<*mut c_void>().add(i) }
    };
    functions
        .into_iter()
        .enumerate()
        .map(|(i, (name, with, needed))| Binding { name, with, next: place(i), needed })
        .collect()
}

// Where each function of `bindings` is kept.
const LOCK: usize = 4;
const UNLOCK: usize = 5;
const COND_WAIT: usize = 6;
const COND_TIMEDWAIT: usize = 7;
const GETSPECIFIC: usize = 8;
const SETSPECIFIC: usize = 9;
const TRYWAIT: usize = 10;
const POST: usize = 14;
const FOPEN: usize = 18;
const CLOCK: usize = 21;

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

/// On the root: runs a thread that gets the mutex now that it waits for, or the one whose turn it is.
unsafe fn resume_next() {
    // SAFETY: as above.
    unsafe {
        let gets_it = |thread: &UserThread| thread.waits_for.is_some_and(Due::is_now);
        let ready = threads().iter().skip(1).position(gets_it).map(|k| k + 1);
        if ready.is_none() && threads().get(ALLOWED).is_some_and(|thread| thread.waits_for.is_some()) {
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
            State::New { start, argument, stack } => {
                let Ok(stack) = DefaultStack::new(stack) else {
                    lost(format!("there is no memory for the stack of thread {k}"));
                };
                thread.coroutine = Some(Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
                    threads()[k].yielder = yielder;
                    // CPython's own function for a thread's beginning.
                    start(argument as *mut c_void);
                }));
            }
            State::Running => {}
            State::Ended => lost(format!("the recording switches to thread {k}, which has ended here")),
        }
        let Some(mut coroutine) = threads()[k].coroutine.take() else {
            lost(format!("the recording switches to thread {k}, which waits for no turn"));
        };
        RUNNING = k;
        let result = coroutine.resume(());
        match result {
            CoroutineResult::Yield(()) if !matches!(threads()[k].state, State::Ended) => {
                threads()[k].coroutine = Some(coroutine);
            }
            // It left by pthread_exit(): what is on its stack is never unwound.
            CoroutineResult::Yield(()) => std::mem::forget(coroutine),
            CoroutineResult::Return(()) => threads()[k].state = State::Ended,
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
            thread.tries = 0;
        }
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

// ---- the GIL ----

/// CPython drops the GIL.
///
/// # Safety
/// Called by `schedule::retrace_gil_dropped`.
pub unsafe fn dropped(at_check: bool) {
    // SAFETY: by contract.
    unsafe {
        me().was_external = thread::last().external.get();
        if IN_CALL || !session::is_replaying() || me().was_external {
            return;
        }
        me().gave_up_at = schedule::steps();
        me().at_check = at_check;
        if me().returns_to_call {
            if let Front::Switch { next, from: Position::InCall } = replay::front() {
                replay::consume_front();
                give_turn_to(next);
            }
            return;
        }
        if at_check {
            crate::patience::at_check();
            crate::timeline::begin_check(*gil::retrace_gil.last_holder);
        }
        if !at_check {
            if schedule::has_begun() {
                me().releases += 1;
                schedule::step();
                me().gave_up_at = schedule::steps();
            }
            if let Front::Switch { next, from: Position::Released(count) } = replay::front()
                && count == me().releases
            {
                replay::consume_front();
                give_turn_to(next);
            }
            return;
        }
        match replay::front() {
            Front::Switch { next, from: Position::Check(wanted) } if is_at(&wanted) => {
                replay::consume_front();
                give_turn_to(next);
            }
            _ => {}
        }
    }
}

/// At the end of take_gil(): what the recording did at this very check besides letting another thread run. CPython's
/// order at a check is collections before the GIL, and no instruction runs in between. Returns whether it was a check.
unsafe fn at_end_of_take() -> bool {
    // SAFETY: the GIL is held, as the caller saw; the thread state is not set yet.
    unsafe {
        if IN_CALL || !session::is_replaying() || !me().at_check {
            return false;
        }
        let mut collected = false;
        loop {
            match replay::front() {
                Front::Collect(wanted) if is_at(&wanted) => {
                    with_thread_state(|| {
                        replay::read_pending_hooks();
                        if let Err(failure) = replay::collect() {
                            divergence::stop(None, &failure);
                        }
                    });
                    collected = true;
                }
                Front::Switch { next, from: Position::Check(wanted) } if collected && is_at(&wanted) => {
                    replay::consume_front();
                    give_turn_to(next);
                    let tstate = *gil::retrace_gil.last_holder;
                    *gil::retrace_gil.locked = 0;
                    wait_for_turn();
                    *gil::retrace_gil.locked = 1;
                    *gil::retrace_gil.last_holder = tstate;
                    taken();
                }
                _ => break,
            }
        }
        crate::timeline::at_check();
        me().at_check = false;
        true
    }
}

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

/// Runs Python where take_gil() has taken the GIL and its caller has not yet set the thread state.
///
/// # Safety
/// At a check of the eval breaker, replaying.
pub unsafe fn with_thread_state(run: impl FnOnce()) {
    // SAFETY: the GIL is held by this thread, and nobody else runs: it is given back and taken as CPython does it.
    unsafe {
        let tstate = *gil::retrace_gil.last_holder;
        *gil::retrace_gil.locked = 0;
        IN_CALL = true;
        pyo3_ffi::PyEval_AcquireThread(tstate.cast());
        IN_CALL = false;
        run();
        IN_CALL = true;
        pyo3_ffi::PyEval_ReleaseThread(tstate.cast());
        IN_CALL = false;
        *gil::retrace_gil.locked = 1;
        *gil::retrace_gil.last_holder = tstate;
    }
}

/// Whether the running thread is at a recorded check.
///
/// # Safety
/// The GIL or its mutex is held; the thread runs no frame now.
pub unsafe fn is_at(wanted: &Fingerprint) -> bool {
    // SAFETY: the GIL's mutex is held, as in `dropped`.
    unsafe {
        if crate::timeline::is_same_check() {
            return false;
        }
        SCANS += 1;
        if SCANS & 0xffff == 0 {
            crate::patience::look();
        }
        let tstate = *gil::retrace_gil.last_holder;
        if gil::retrace_fingerprint_place(tstate) != wanted.place {
            return false;
        }
        AT_PLACE += 1;
        if gil::retrace_fingerprint_shallow(tstate) != wanted.shallow {
            return false;
        }
        SAME_SHALLOW += 1;
        let found = gil::retrace_fingerprint_deep(tstate) == wanted.deep && crate::attempt::takes_match();
        if found {
            me().cpu_us = wanted.cpu_us;
        }
        found
    }
}

/// The CPU time that the recording had taken on the running thread when that was last at a position that was found.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn last_cpu_us() -> u64 {
    // SAFETY: by contract.
    unsafe { me().cpu_us }
}

/// What was seen while a check was looked for.
///
/// # Safety
/// Replaying.
pub unsafe fn candidates() -> String {
    // SAFETY: one thread.
    let (running, scans, at_place, same) = unsafe { (RUNNING, SCANS, AT_PLACE, SAME_SHALLOW) };
    format!(
        "thread {running} passed {scans} checks, {at_place} of them at the recorded place, {same} with the recorded \
         variables, none with all that the recording says"
    )
}

/// CPython has taken the GIL.
///
/// # Safety
/// Called by `schedule::retrace_gil_taken`.
pub unsafe fn taken() {
    // SAFETY: by contract.
    unsafe {
        thread::of(*gil::retrace_gil.last_holder);
        crate::timeline::taken(*gil::retrace_gil.last_holder);
        if !session::is_replaying() {
            return;
        }
        OWNER = RUNNING;
        if TURN_BEGINS {
            TURN_BEGINS = false;
            // Not before: a lock that it waited for became its own first, and others get that one after this step.
            schedule::step();
        }
        let Some(stretch) = me().stretch.take() else { return };
        if !stretch.begun {
            return;
        }
        let running = RUNNING;
        if let Some(call) = stretch.left.last() {
            let next = replay::recorded_name(call.hook);
            lost(format!("thread {running} takes the GIL here, and its C code has not called {next} before"));
        }
        if !replay::native_calls_at_front() {
            lost(format!("thread {running} takes the GIL here, after calls by its C code"));
        }
        replay::consume_front();
    }
}

// ---- C code of extension modules ----

/// The running thread.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn running() -> usize {
    // SAFETY: by contract.
    unsafe { RUNNING }
}

/// The running thread's recorded ident.
///
/// # Safety
/// As [`running`].
pub unsafe fn ident() -> u64 {
    // SAFETY: by contract.
    unsafe { me().ident }
}

/// What the running thread's C code calls next without the GIL. The calls of such a stretch stand where the thread took
/// the GIL again; they are looked for there, so that nobody has to wait.
unsafe fn stretch() -> &'static mut Stretch {
    // SAFETY: one thread; nothing borrowed is kept across a switch.
    unsafe {
        if me().stretch.is_none() {
            let another = (ALLOWED != RUNNING).then_some(RUNNING as u64);
            let mut left = replay::native_calls_of(another).unwrap_or_default();
            left.reverse();
            me().stretch = Some(Stretch { left, begun: false });
        }
        me().stretch.get_or_insert_with(|| Stretch { left: Vec::new(), begun: false })
    }
}

/// The call of the C library that the running thread makes without the GIL: it has to be one of `hook`.
///
/// # Safety
/// As [`running`].
pub unsafe fn released_call(hook: &Hook) -> Call {
    // SAFETY: by contract.
    unsafe {
        me().native_calls_made += 1;
        let stretch = stretch();
        stretch.begun = true;
        match stretch.left.pop() {
            Some(call) if replay::is_call_of(&call, hook.index) => call,
            Some(call) => {
                let recorded = replay::recorded_name(call.hook);
                lost_without_gil(format!("{} by C code without the GIL, where the recording has {recorded}", hook.name))
            }
            None => {
                // In the recording its thread may never have come back.
                if ALLOWED != RUNNING {
                    wait_for_turn();
                }
                if replay::source().at_end() {
                    divergence::recording_cut(&format!("{} by C code without the GIL", hook.name));
                }
                lost_without_gil(format!("{} by C code without the GIL", hook.name))
            }
        }
    }
}

/// What the running thread's C code calls next, if that is a call of `hook`.
///
/// # Safety
/// As [`running`].
pub unsafe fn next_native_call(hook: u16) -> Option<Call> {
    // SAFETY: by contract.
    unsafe {
        if has_gil() {
            return replay::front_call(hook);
        }
        stretch().left.last().filter(|call| replay::is_call_of(call, hook)).cloned()
    }
}

/// The call that [`next_native_call`] showed has been made.
///
/// # Safety
/// As [`running`].
pub unsafe fn pass_native_call() {
    // SAFETY: by contract.
    unsafe {
        me().native_calls_made += 1;
        if has_gil() {
            return replay::pass_native_call();
        }
        let stretch = stretch();
        stretch.begun = true;
        stretch.left.pop();
    }
}

/// As in `schedule`.
///
/// # Safety
/// As [`running`].
pub unsafe fn native_calls_made() -> u64 {
    // SAFETY: by contract.
    unsafe { me().native_calls_made }
}

/// As in `schedule`.
///
/// # Safety
/// As [`running`].
pub unsafe fn count_library_lock() -> u64 {
    // SAFETY: by contract.
    unsafe {
        me().library_locks += 1;
        me().library_locks
    }
}

/// As in `schedule`.
///
/// # Safety
/// As [`running`].
pub unsafe fn library_lock_logged() {
    // SAFETY: by contract.
    unsafe { me().library_locks = 0 };
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
        } else {
            (*threads()[running].yielder).suspend(());
        }
        RUNNING = running;
        crate::platform::set_errno(errno);
    }
}

/// As in `schedule`.
///
/// # Safety
/// As [`running`].
pub unsafe fn gave_up_at() -> u64 {
    // SAFETY: by contract.
    unsafe { me().gave_up_at }
}

/// C code does something that the recording does not have.
///
/// # Safety
/// As [`running`].
pub unsafe fn lost_without_gil(met: String) -> ! {
    // SAFETY: by contract.
    unsafe { lost(met) }
}

/// A thread-specific value of a coroutine.
///
/// # Safety
/// As [`running`]; not on the root.
pub unsafe fn specific(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: by contract.
    unsafe {
        let found = me().specific.iter().find(|(k, _)| *k == key);
        found.map_or(ptr::null_mut(), |(_, value)| *value as *mut c_void)
    }
}

/// Sets one.
///
/// # Safety
/// As [`specific`].
pub unsafe fn set_specific(key: libc::pthread_key_t, value: *mut c_void) {
    // SAFETY: by contract.
    unsafe {
        let specific = &mut me().specific;
        match specific.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value as usize,
            None => specific.push((key, value as usize)),
        }
    }
}

unsafe extern "C" fn mutex_lock(mutex: *mut libc::pthread_mutex_t) -> c_int {
    // SAFETY: called by CPython; the GIL's own mutexes order nothing here.
    unsafe {
        if mutex == gil::retrace_gil.mutex {
            if gil::retrace_actor().is_null() {
                // A real thread, of a library that runs live: Python would not stay on one.
                divergence::schedule_lost("a thread that the replay did not make wants to run Python".into());
            }
            if *gil::retrace_gil.locked == 0 {
                wait_for_turn();
            }
            return 0;
        }
        if mutex == gil::retrace_gil.switch_mutex {
            return 0;
        }
        replaced!(NEXT[LOCK], *mut libc::pthread_mutex_t => c_int)(mutex)
    }
}

/// Whether an event has happened since this was last asked.
unsafe fn has_progressed() -> bool {
    static mut EVENT: u64 = 0;
    // SAFETY: one thread.
    unsafe {
        let event = replay::source().index().0;
        let progressed = EVENT != event;
        EVENT = event;
        progressed
    }
}

/// # Safety
/// Called by the version's file, replaying, where `retrace_check_repeats` said that it would be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_begun_after_check() {
    // SAFETY: the GIL is held; between events.
    unsafe {
        if session::is_replaying() {
            ask_for_check();
        }
    }
}

/// Has the running thread stop at its next check, if anybody looks for one.
unsafe fn ask_for_check() {
    // SAFETY: one thread; between events.
    unsafe {
        replay::arm();
        crate::timeline::ask_for_check();
    }
}

unsafe extern "C" fn mutex_unlock(mutex: *mut libc::pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        if mutex == gil::retrace_gil.mutex {
            if *gil::retrace_gil.locked != 0 {
                // The end of take_gil(), which has just reset the request.
                let repeats = at_end_of_take()
                    && !has_progressed()
                    && gil::retrace_check_repeats(*gil::retrace_gil.last_holder) != 0;
                if !repeats {
                    ask_for_check();
                }
            }
            return 0;
        }
        if mutex == gil::retrace_gil.switch_mutex {
            return 0;
        }
        replaced!(NEXT[UNLOCK], *mut libc::pthread_mutex_t => c_int)(mutex)
    }
}

unsafe extern "C" fn cond_wait(cond: *mut libc::pthread_cond_t, mutex: *mut libc::pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    unsafe {
        if cond == gil::retrace_gil.switch_cond {
            // drop_gil() waits for another thread to take the GIL: take_gil() waits for this one's turn.
            return 0;
        }
        replaced!(NEXT[COND_WAIT], *mut libc::pthread_cond_t, *mut libc::pthread_mutex_t => c_int)(cond, mutex)
    }
}

unsafe extern "C" fn cond_timedwait(
    cond: *mut libc::pthread_cond_t,
    mutex: *mut libc::pthread_mutex_t,
    until: *const libc::timespec,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        if cond == gil::retrace_gil.cond {
            wait_for_turn();
            return 0;
        }
        let next = replaced!(NEXT[COND_TIMEDWAIT], *mut libc::pthread_cond_t, *mut libc::pthread_mutex_t, *const libc::timespec => c_int);
        next(cond, mutex, until)
    }
}

// ---- threads ----

unsafe extern "C" fn create(
    ident: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: schedule::Start,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: called by CPython with pthread_create's arguments.
    unsafe {
        if !session::is_replaying() || thread::current().external.get() {
            return libc::EAGAIN;
        }
        let Front::Thread { serial, ident: recorded, kind: schedule::MADE, error } = replay::front() else {
            divergence::stop_at("a thread is made here");
        };
        replay::consume_front();
        if error != 0 {
            // The number is used up, as it was.
            return error;
        }
        let mut stack = 0;
        if attributes.is_null() || libc::pthread_attr_getstacksize(attributes, &mut stack) != 0 {
            stack = 0;
        }
        let state = State::New { start, argument: argument as usize, stack: stack.max(STACK) };
        let made = new_thread(recorded, state);
        // Numbers of threads that could not be made stay empty.
        while (threads().len() as u64) < serial {
            threads().push(new_thread(0, State::Ended));
        }
        threads().push(made);
        *ident = recorded as libc::pthread_t;
        0
    }
}

/// A thread that Python did not make: what it runs of Python are callbacks, and of itself nothing is here.
///
/// # Safety
/// Replaying.
pub unsafe fn add_foreign(serial: u64, ident: u64) {
    // SAFETY: one thread.
    unsafe {
        while (threads().len() as u64) < serial {
            threads().push(new_thread(0, State::Ended));
        }
        threads().push(new_thread(ident, State::New { start: foreign, argument: 0, stack: STACK }));
    }
}

unsafe extern "C" fn foreign(_: *mut c_void) -> *mut c_void {
    // SAFETY: on its coroutine.
    unsafe {
        loop {
            wait_for_turn();
            let state = pyo3_ffi::PyGILState_Ensure();
            loop {
                match replay::foreign_callback() {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(failure) => divergence::stop(None, &failure),
                }
                let Front::Switch { next, from: Position::InCall } = replay::front() else {
                    if replay::source().at_end() {
                        divergence::recording_cut("what another library's thread does");
                    }
                    divergence::stop_at("a thread that Python did not make comes to nothing of its own here");
                };
                replay::consume_front();
                give_turn_to(next);
                break;
            }
            IN_CALL = true;
            pyo3_ffi::PyGILState_Release(state);
            IN_CALL = false;
        }
    }
}

unsafe extern "C" fn own_ident() -> libc::pthread_t {
    // SAFETY: one thread.
    unsafe { ident() as libc::pthread_t }
}

unsafe extern "C" fn exit(_result: *mut c_void) -> ! {
    // SAFETY: called by CPython's PyThread_exit_thread().
    unsafe {
        me().state = State::Ended;
        if RUNNING == 0 {
            // The main thread leaves by itself in a forked child only; the process goes on without it.
            loop {
                resume_next();
            }
        }
        loop {
            (*me().yielder).suspend(());
        }
    }
}

unsafe extern "C" fn detach(_ident: libc::pthread_t) -> c_int {
    0
}

unsafe extern "C" fn refuse_kill(_ident: libc::pthread_t, _signal: c_int) -> c_int {
    libc::ESRCH
}

unsafe extern "C" fn refuse_clock(_ident: libc::pthread_t, _clock: *mut libc::clockid_t) -> c_int {
    libc::ESRCH
}

unsafe extern "C" fn getspecific(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: as in `create`. The root has what was set before the replay began.
    unsafe {
        if RUNNING == 0 {
            return replaced!(NEXT[GETSPECIFIC], libc::pthread_key_t => *mut c_void)(key);
        }
        specific(key)
    }
}

unsafe extern "C" fn setspecific(key: libc::pthread_key_t, value: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe {
        if RUNNING == 0 {
            return replaced!(NEXT[SETSPECIFIC], libc::pthread_key_t, *mut c_void => c_int)(key, value);
        }
        set_specific(key, value);
        0
    }
}

// ---- locks ----

fn fail(errno: c_int) -> c_int {
    crate::platform::set_errno(errno);
    -1
}

/// Whether the running thread has the GIL.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn has_gil() -> bool {
    // SAFETY: one thread. Another one may have the GIL while this one runs: it waits for a library's mutex.
    unsafe { *gil::retrace_gil.locked != 0 && OWNER == RUNNING }
}

unsafe fn real_trywait(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: a semaphore of CPython's.
    unsafe { replaced!(NEXT[TRYWAIT], *mut libc::sem_t => c_int)(lock) }
}

unsafe extern "C" fn sem_trywait(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: called by CPython with a semaphore.
    unsafe {
        if !session::is_replaying() || !has_gil() || thread::last().external.get() {
            return real_trywait(lock);
        }
        serve_waiting();
        me().tries += 1;
        schedule::step();
        me().lock_wait.interrupted = false;
        if let Front::Retry(tries) = replay::front()
            && tries == me().tries
        {
            replay::consume_front();
        }
        if let Front::Busy(tries) = replay::front()
            && tries == me().tries
        {
            replay::consume_front();
            me().found_busy = lock;
            return fail(libc::EAGAIN);
        }
        me().found_busy = ptr::null();
        let result = real_trywait(lock);
        if result != 0 {
            divergence::stop_at("a lock is taken here that was free in the recording");
        }
        result
    }
}

/// A wait for a lock. Where it was tried with the GIL before, the lock is this thread's when its turn comes; CPython's
/// few waits without a try (hashlib's) take the lock as they come.
unsafe fn wait(lock: *mut libc::sem_t, is_endless: bool) -> c_int {
    // SAFETY: as above.
    unsafe {
        if !session::is_replaying() || has_gil() {
            if real_trywait(lock) == 0 {
                return 0;
            }
            if session::is_replaying() {
                divergence::stop_at("a lock is waited for here with the GIL, and nobody can release it");
            }
            return real_wait(lock);
        }
        let tried = ptr::eq(std::mem::replace(&mut me().found_busy, ptr::null()), lock);
        if !tried && !me().was_external {
            library_locks::replay_alone(lock);
        }
        if !tried && real_trywait(lock) == 0 {
            return 0;
        }
        wait_for_turn();
        if let Front::Wait(end) = replay::front() {
            if end == WaitEnd::TimedOut && is_endless {
                lost("the wait for a lock that began here has no time-out".into());
            }
            replay::consume_front();
            if end == WaitEnd::TimedOut {
                return fail(libc::ETIMEDOUT);
            }
            me().lock_wait.interrupted = true;
            return fail(libc::EINTR);
        }
        if real_trywait(lock) == 0 {
            return 0;
        }
        if replay::source().at_end() {
            divergence::recording_cut("a wait for a lock");
        }
        lost("the lock that this thread got in the recording is taken here".into())
    }
}

unsafe fn real_wait(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: no session any more: nobody else runs, so waiting would be for ever.
    unsafe {
        libc::_exit(if real_trywait(lock) == 0 { 0 } else { divergence::EXIT_STATUS });
    }
}

unsafe extern "C" fn sem_wait(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: as above.
    unsafe { wait(lock, true) }
}

unsafe extern "C" fn sem_clockwait(lock: *mut libc::sem_t, _clock: c_int, _until: *const libc::timespec) -> c_int {
    // SAFETY: as above.
    unsafe { wait(lock, false) }
}

unsafe extern "C" fn sem_timedwait(lock: *mut libc::sem_t, _until: *const libc::timespec) -> c_int {
    // SAFETY: as above.
    unsafe { wait(lock, false) }
}

/// Puts aside the wait that a signal interrupted, or back: a handler may wait for locks of its own. Returns what was.
///
/// # Safety
/// Replaying.
pub unsafe fn swap_lock_wait(other: LockWait) -> LockWait {
    // SAFETY: one thread.
    unsafe { std::mem::replace(&mut me().lock_wait, other) }
}

/// `clock_gettime`, of which CPython's answer to an interrupted wait depends: whether its time is over. It is, unless
/// the log says that the lock was tried again; how long replay took over what the other threads did meanwhile says nothing.
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, into: *mut libc::timespec) -> c_int {
    // SAFETY: called by CPython.
    unsafe {
        let next = replaced!(NEXT[CLOCK], libc::clockid_t, *mut libc::timespec => c_int);
        if !session::is_replaying() || !has_gil() || thread::last().external.get() {
            return next(clock, into);
        }
        if !me().lock_wait.interrupted {
            let result = next(clock, into);
            me().lock_wait.began = *into;
            return result;
        }
        let tried_again = matches!(replay::front(), Front::Retry(tries) if tries == me().tries + 1);
        *into = me().lock_wait.began;
        if !tried_again {
            // A hundred years: no time-out that CPython takes is as long.
            (*into).tv_sec += 100 * 365 * 86400;
        }
        0
    }
}

unsafe extern "C" fn sem_post(lock: *mut libc::sem_t) -> c_int {
    // SAFETY: as above.
    unsafe { replaced!(NEXT[POST], *mut libc::sem_t => c_int)(lock) }
}

// ---- processes ----

static mut FORKS: u64 = 0;

/// `fork`: answers as recorded; where the process that is replayed is a child of this very fork, becomes that child.
unsafe extern "C" fn fork() -> libc::pid_t {
    // SAFETY: called by CPython.
    unsafe {
        if !session::is_replaying() || thread::current().external.get() {
            return fail(libc::EAGAIN);
        }
        let serial = FORKS;
        FORKS += 1;
        if replay::becomes_child(serial) {
            FORKS = 0;
            // Only the thread that forked goes on.
            for (k, thread) in threads().iter_mut().enumerate() {
                if k != RUNNING {
                    thread.state = State::Ended;
                    std::mem::forget(thread.coroutine.take());
                }
            }
            return 0;
        }
        let Front::Fork { pid } = replay::front() else {
            divergence::stop_at("the process forks here");
        };
        replay::consume_front();
        if pid < 0 { fail(-pid as c_int) } else { pid as libc::pid_t }
    }
}

static mut PID: libc::pid_t = 0;

/// The recorded process's number, for what CPython says of itself in C.
///
/// # Safety
/// Replaying.
pub unsafe fn set_pid(pid: i64) {
    // SAFETY: one thread.
    unsafe { PID = pid as libc::pid_t };
}

unsafe extern "C" fn own_pid() -> libc::pid_t {
    // SAFETY: one thread.
    unsafe { PID }
}

/// CPython 3.12 counts the process's threads after a fork by `/proc/self/stat`, and without it by what `threading` knows
/// (Modules/posixmodule.c, warn_about_fork_with_threads): here the latter is right.
unsafe extern "C" fn open_stream(path: *const std::ffi::c_char, mode: *const std::ffi::c_char) -> *mut libc::FILE {
    // SAFETY: called by CPython with C strings.
    unsafe {
        if session::is_replaying() && std::ffi::CStr::from_ptr(path) == c"/proc/self/stat" {
            crate::platform::set_errno(libc::ENOENT);
            return ptr::null_mut();
        }
        // One of the two is imported, which are the same where files are large.
        let place = if NEXT[FOPEN].is_null() { FOPEN + 1 } else { FOPEN };
        let next = replaced!(NEXT[place], *const std::ffi::c_char, *const std::ffi::c_char => *mut libc::FILE);
        next(path, mode)
    }
}
