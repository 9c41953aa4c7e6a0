//! The schedule: which thread has the GIL, recorded from what CPython calls to hand it over, and what of its locks the
//! GIL does not order. The hooks are the interpreter's own imports (`crate::imports`); replay puts `crate::user_threads`
//! behind the same ones.
//!
//! An *actor* is a thread of the operating system, named by a serial number: in the order of `pthread_create` calls for
//! those that Python makes, in the order of their first taking the GIL for others. A `switch` event is appended by the
//! thread that has just taken the GIL and says where the one before it gave it up.

use crate::hot::{self, hot};
use crate::imports::{self, Binding};
use crate::library_threads::LastValue;
use crate::session::{self, Mode};
use crate::turns::{self, Hold, Sleeper};
use crate::write_order::{self, Writer};
use crate::{
    address, gil_waits, learning, library_locks, lock_calls, queue_waits, record, subinterpreters, thread,
    thread_count, user_threads,
};
use pyo3_ffi::*;
use retrace_abi::{ThreadState, gil};
use retrace_replay::event::{Call as NativeCall, Event, Fingerprint, Position, WaitEnd};
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// One thread of the operating system. Its beginning is `struct retrace_actor` of cshim/gil.h. What each hand-over of the GIL
/// reads and writes lies in the first two cache lines.
#[repr(C, align(128))]
pub struct Actor {
    holds_gil: bool,
    wait_end: u8,
    /// It dropped the GIL at a check of the eval breaker.
    at_check: bool,
    /// Python did not make it: what it runs of Python are callbacks.
    pub is_foreign: bool,
    /// A function that is declared external started it: it is no thread of the program's.
    is_outside: bool,
    /// It has the GIL, or had it last, and the log does not know: see [`speak`].
    is_quiet: bool,
    /// Frames that it entered when it gave the GIL up were seen as callbacks. Not the same as `external`: while a value is
    /// encoded the thread is external, and what that runs is part of the call.
    armed: bool,
    /// What `external` pointed at when it gave the GIL up: its C code may go on when its thread state is gone.
    was_external: bool,
    /// The lock that it tried last, in vain; else null.
    found_busy: *const libc::sem_t,
    /// The lock whose wait a signal interrupted, until a lock is tried again; else null.
    waited_for: *const libc::sem_t,
    external: *const bool,
    tries: u64,
    /// Whether it has the turn (`crate::turns`).
    pub turn: Hold,
    pub serial: u64,
    /// It has done without the GIL what may have to be logged.
    has_left: bool,
    /// The log named it last: it is [`HOLDER`].
    is_holder: bool,
    /// It gives the GIL up in a library's code, and keeps the turn.
    pub keeps_turn: bool,
    /// Whether an external object lets go of others, for the collector.
    pub clears: bool,
    /// How many callbacks it is in, if it is foreign.
    callbacks: u32,
    /// [`steps`] when it gave the GIL up.
    gave_up_at: u64,
    /// What its position is while it frees an external object (`crate::deaths`).
    pub frees: Option<fn(u64) -> Position>,
    /// What it gave the GIL up with, if it did that plainly.
    gave_up: *mut ThreadState,
    /// What it called of the C library since it gave the GIL up. Only the thread itself touches it.
    native_calls: Vec<NativeCall>,
    writer: Writer,
    /// How many external objects it freed since it got the GIL from another thread.
    pub freed: u64,
    /// How often it gave the GIL, or the turn, up itself since it got it from another thread.
    pub releases: u64,
    /// Where it last gave the GIL, or the turn, up.
    pub last: Position,
    /// The try of a lock whose wait a signal interrupted; no other has been made since if `tries` is still that.
    interrupted: Option<u64>,
    /// The place of its frames then: nothing else says that the wait has ended if it is the first (`crate::lock_calls`).
    interrupted_at: u64,
    /// How often its C code tried a mutex since one of these tries was logged.
    library_locks: u64,
    /// How many calls of its C code were logged.
    native_calls_made: u64,
    /// See `crate::library_threads`.
    pub calls_back: u64,
    /// What it waits for the turn with; made when it first does.
    sleeper: Option<&'static Sleeper>,
    /// The system's number of the thread; 0 until it is asked for.
    tid: c_int,
}

/// Where the part ends that C knows: `struct retrace_actor` says the same.
const _: () = assert!(std::mem::offset_of!(Actor, gave_up) == 88);

static NOT_EXTERNAL: bool = false;

impl Actor {
    fn new(serial: u64, is_foreign: bool) -> *mut Actor {
        Box::into_raw(Box::new(Actor::begun(serial, is_foreign)))
    }

    fn begun(serial: u64, is_foreign: bool) -> Actor {
        Actor {
            holds_gil: false,
            wait_end: 0,
            at_check: false,
            is_foreign,
            is_outside: false,
            is_quiet: false,
            armed: is_foreign,
            was_external: false,
            found_busy: ptr::null(),
            waited_for: ptr::null(),
            external: &raw const NOT_EXTERNAL,
            tries: 0,
            turn: Hold::default(),
            serial,
            has_left: false,
            is_holder: false,
            keeps_turn: false,
            clears: false,
            callbacks: 0,
            gave_up_at: 0,
            frees: None,
            gave_up: ptr::null_mut(),
            native_calls: Vec::new(),
            writer: Writer::new(serial),
            freed: 0,
            releases: 0,
            last: Position::Released(0),
            interrupted: None,
            interrupted_at: 0,
            library_locks: 0,
            native_calls_made: 0,
            calls_back: 0,
            sleeper: None,
            tid: 0,
        }
    }

    /// Made by the thread itself.
    pub fn sleeper(&mut self) -> &'static Sleeper {
        self.sleeper.get_or_insert_with(Sleeper::new)
    }

    /// Notes which thread it is, on that thread.
    pub fn learn_tid(&mut self) {
        if self.tid == 0 {
            self.tid = crate::platform::thread_id();
        }
    }

    pub fn tid(&self) -> c_int {
        self.tid
    }

    pub fn holds_gil(&self) -> bool {
        self.holds_gil
    }

    /// Its position, where what it does is a part of an external call or of the end of an external object.
    ///
    /// # Safety
    /// On its own thread.
    pub unsafe fn position_in_call(&self) -> Option<Position> {
        match self.frees {
            Some(position) => Some(position(self.freed)),
            // SAFETY: by contract.
            None => unsafe { self.is_external() }.then_some(Position::InCall),
        }
    }

    /// Whether what it does is a part of an external call.
    ///
    /// # Safety
    /// On its own thread.
    pub unsafe fn is_external(&self) -> bool {
        // SAFETY: what `external` points at lives while the thread has the GIL.
        unsafe { if self.holds_gil { *self.external } else { self.was_external } }
    }
}

// All read and written with the GIL held (or, in `retrace_gil_dropped`, its mutex).
static mut HOLDER: *mut Actor = ptr::null_mut();
static mut NEXT_SERIAL: u64 = 1;

/// Whether a signal has just interrupted the calling thread's wait for a lock: the number of its try then. Said once; a
/// handler that returned says with [`wait_goes_on`] that another one may follow.
///
/// # Safety
/// Recording; the GIL is held by the calling thread.
pub unsafe fn interrupted_wait() -> Option<u64> {
    // SAFETY: by contract.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        if actor.is_null() {
            return None;
        }
        let tries = (*actor).interrupted.take().filter(|&tries| tries == (*actor).tries)?;
        (gil::retrace_fingerprint_place(*gil::retrace_gil.last_holder) == (*actor).interrupted_at).then_some(tries)
    }
}

/// A handler that ran in a wait for a lock has returned: the lock is tried again, once all handlers have run.
///
/// # Safety
/// As [`interrupted_wait`].
pub unsafe fn wait_goes_on() {
    // SAFETY: by contract.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        if !actor.is_null() {
            (*actor).interrupted = Some((*actor).tries);
        }
    }
}

/// The calling thread is in no wait for a lock: a call for one begins or ends, or a handler has raised an exception. Where
/// a signal had interrupted one, the lock is not tried again for it.
///
/// # Safety
/// The GIL is held by the calling thread.
pub unsafe fn wait_is_over() {
    // SAFETY: by contract; an actor is its thread's own, or null.
    unsafe {
        if hot::replays() {
            return user_threads::wait_is_over();
        }
        let actor = gil::retrace_actor().cast::<Actor>();
        if !actor.is_null() {
            (*actor).waited_for = ptr::null();
            (*actor).interrupted = None;
        }
    }
}

/// Whether the calling thread, whose actor this is, runs the body of a function that is declared external.
unsafe fn is_in_body(actor: *mut Actor) -> bool {
    // SAFETY: an actor is its thread's own, or null; with the GIL the thread's entry is its own too.
    unsafe { !actor.is_null() && (*actor).holds_gil && session::is_recording() && thread::current().body.get() }
}

/// In the place of a thread's serial number, for those that are no threads of the program's.
const OUTSIDE: u64 = u64::MAX;

/// Kinds of a `thread` event.
pub const MADE: u8 = 0;
pub const FOREIGN: u8 = 1;
/// A library made it, and it takes turns.
pub const LIBRARY: u8 = 2;

static mut NEXT_CREATE: *mut c_void = ptr::null_mut();
static mut NEXT_FORK: *mut c_void = ptr::null_mut();
static mut NEXT_FORKPTY: *mut c_void = ptr::null_mut();
/// This process's forks so far.
static mut FORKS: u64 = 0;

pub type Start = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type Create =
    unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, *mut c_void, *mut c_void) -> c_int;

/// `struct retrace_beginning` of cshim/gil.c.
#[repr(C)]
pub struct Beginning {
    pub actor: *mut Actor,
    pub start: *mut c_void,
    pub argument: *mut c_void,
}

/// Whether Python did not make the calling thread.
///
/// # Safety
/// The GIL is held by the calling thread.
pub unsafe fn is_foreign() -> bool {
    // SAFETY: as above.
    unsafe {
        if hot::replays() {
            return false;
        }
        let actor = gil::retrace_actor().cast::<Actor>();
        !actor.is_null() && (*actor).is_foreign
    }
}

/// Whether a function that is declared external started the calling thread.
///
/// # Safety
/// The GIL is held by the calling thread.
pub unsafe fn is_outside() -> bool {
    // SAFETY: an actor of a recording is its thread's own, or null.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        !hot::replays() && !actor.is_null() && (*actor).is_outside
    }
}

/// Finds the GIL, learns what a check of the eval breaker looks like from below, and redirects the imports.
///
/// # Safety
/// The GIL is held; no other thread runs Python; no session is active yet.
pub unsafe fn install(replaying: bool) -> Result<(), String> {
    // SAFETY: by contract.
    unsafe {
        gil::retrace_gil_find();
        let actor = Actor::new(0, false);
        (*actor).holds_gil = true;
        (*actor).external = thread::current().external.as_ptr();
        (*actor).is_holder = true;
        HOLDER = actor;
        gil::retrace_set_actor(actor.cast());
        (*hot()).replays = replaying;
        let image = PyEval_SaveThread as *const c_void;
        let mut bindings = vec![Binding {
            name: c"pthread_cond_signal",
            with: gil::retrace_hook_cond_signal as *mut c_void,
            next: &raw mut gil::retrace_gil.next_cond_signal,
            needed: true,
        }];
        if replaying {
            bindings.extend(user_threads::bindings());
            bindings.push(library_locks::forgetting());
        } else {
            bindings.extend(recording_bindings());
        }
        bindings.extend(address::bindings());
        lock_calls::find();
        imports::rebind(image, &bindings).map_err(|error| error.to_string())?;
        if !replaying {
            gil_waits::begin();
            queue_waits::watch_loaded();
        }
        learning::learn_checks(replaying)?;
        learning::learn_locks()?;
        // Both directions count from here on.
        (*actor).tries = 0;
        gil::steps().store(0, Ordering::Relaxed);
        Ok(())
    }
}

fn recording_bindings() -> Vec<Binding> {
    let hook = |name, with: *mut c_void, next: *mut *mut c_void, needed| Binding { name, with, next, needed };
    {
        let mut bindings = vec![hook(c"pthread_create", create as *mut c_void, &raw mut NEXT_CREATE, true)];
        bindings.push(hook(c"fork", fork as *mut c_void, &raw mut NEXT_FORK, true));
        bindings.push(hook(c"forkpty", forkpty as *mut c_void, &raw mut NEXT_FORKPTY, false));
        let leave = gil::retrace_hook_pthread_exit as *mut c_void;
        bindings.push(hook(c"pthread_exit", leave, &raw mut gil::retrace_next_pthread_exit, false));
        if gil::COLLECTS_AFTER_TAKE || gil_waits::ARE_OURS {
            let with = gil::retrace_hook_mutex_unlock as *mut c_void;
            // SAFETY: only the place of a pointer.
            let next = unsafe { &raw mut gil::retrace_gil.next_mutex_unlock };
            bindings.push(hook(c"pthread_mutex_unlock", with, next, true));
        }
        // macOS has no semaphores for CPython's locks.
        let needed = cfg!(target_os = "linux");
        for (name, with, next, needed) in [
            (
                c"sem_trywait",
                gil::retrace_hook_sem_trywait as *mut c_void,
                &raw mut gil::retrace_next_sem_trywait,
                needed,
            ),
            (c"sem_wait", gil::retrace_hook_sem_wait as *mut c_void, &raw mut gil::retrace_next_sem_wait, needed),
            (c"sem_post", gil::retrace_hook_sem_post as *mut c_void, &raw mut gil::retrace_next_sem_post, needed),
            (
                c"sem_clockwait",
                gil::retrace_hook_sem_clockwait as *mut c_void,
                &raw mut gil::retrace_next_sem_clockwait,
                false,
            ),
            (
                c"sem_timedwait",
                gil::retrace_hook_sem_timedwait as *mut c_void,
                &raw mut gil::retrace_next_sem_timedwait,
                false,
            ),
        ] {
            bindings.push(hook(name, with, next, needed));
        }
        bindings.extend(gil_waits::bindings());
        bindings.extend(write_order::bindings());
        bindings.extend(thread_count::bindings());
        bindings.push(subinterpreters::binding());
        bindings.push(library_locks::forgetting());
        bindings
    }
}

/// The position of a thread at a check of the eval breaker.
///
/// # Safety
/// The GIL or its mutex is held; `tstate` runs no frame now.
pub unsafe fn fingerprint(tstate: *mut ThreadState) -> Fingerprint {
    // SAFETY: by contract.
    unsafe {
        Fingerprint {
            place: gil::retrace_fingerprint_place(tstate),
            shallow: gil::retrace_fingerprint_shallow(tstate),
            deep: gil::retrace_fingerprint_deep(tstate),
            near: gil::retrace_fingerprint_near(tstate),
            cpu_us: cpu_us(),
        }
    }
}

/// The calling thread's CPU time in microseconds.
pub fn cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Whether Python code has run since the start: before that CPython opens the script, which replay has in memory.
///
/// # Safety
/// The GIL's mutex is held.
pub unsafe fn has_begun() -> bool {
    static mut BEGUN: bool = false;
    // SAFETY: by contract; the state that gave the GIL up last is not freed before its thread has dropped the mutex.
    unsafe {
        if !BEGUN {
            let tstate = *gil::retrace_gil.last_holder;
            BEGUN = !retrace_abi::innermost_frame(tstate).is_null();
        }
        BEGUN
    }
}

/// Whether the thread that takes the GIL, or has just dropped it, does that only to end, because the interpreter is being
/// finalized. It runs nothing of the program's, so its turn is none: the one that finalizes may long have given the GIL
/// up for good, and ends the log without having it.
#[inline(always)]
unsafe fn only_leaves(actor: *mut Actor, for_leaving: c_int) -> bool {
    // SAFETY: the calling thread's own actor, or null; the GIL or its mutex is held.
    unsafe { for_leaving != 0 && (actor.is_null() || !(*actor).turn.is_here()) }
}

// The two functions below run at nearly every call of the boundary that lets others run, right after a system call, with
// cold caches: what is rare is elsewhere, so that little code is run through.

/// The GIL was dropped by the thread whose actor this is; it has none if it is new. `for_leaving`: the thread took it only to
/// end, because another one finalizes the interpreter. Returns 0 if it must not wait for another one to take it: one that
/// keeps the turn would wait for who waits for the turn.
///
/// # Safety
/// Called by cshim/gil.c: the GIL's mutex is held and nobody has taken the GIL yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_gil_dropped(actor: *mut Actor, at_check: c_int, for_leaving: c_int) -> c_int {
    // SAFETY: by contract.
    unsafe {
        if hot::replays() {
            return dropped_replaying(at_check);
        }
        if actor.is_null() || session::mode() == Mode::Off || only_leaves(actor, for_leaving) {
            return 1;
        }
        if turns::are_on() || !(*actor).turn.is_unused() {
            return dropped_with_turns(actor, at_check);
        }
        note_drop(actor, at_check != 0);
        if (*actor).is_quiet {
            note_armed(actor);
            return 1;
        }
        note_place(actor);
        1
    }
}

#[cold]
unsafe fn dropped_replaying(at_check: c_int) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe { user_threads::dropped(at_check != 0) };
    1
}

#[inline(never)]
unsafe fn dropped_with_turns(actor: *mut Actor, at_check: c_int) -> c_int {
    // SAFETY: by the caller's contract.
    unsafe {
        let _kept = turns::are_on().then(|| (*actor).turn.keep());
        let keeps_turn = note_drop(actor, at_check != 0);
        if keeps_turn && (*actor).turn.is_here() && at_check == 0 && !(*actor).was_external {
            (*actor).gave_up_at = steps();
            return 0;
        }
        note_place(actor);
        if (*actor).turn.is_here() {
            turns::hand_over(actor);
        }
        1
    }
}

/// What is to be noted of a thread that gave the GIL up plainly (cshim/gil.c), because it goes on otherwise.
///
/// # Safety
/// The GIL has been taken by the calling thread; recording, or the recording has ended since.
#[inline(always)]
unsafe fn note_plain_drop() {
    // SAFETY: by contract; an actor is never freed.
    unsafe {
        let actor = (&raw mut gil::retrace_gil.gave_up).replace(ptr::null_mut()).cast::<Actor>();
        if !actor.is_null() {
            (*actor).keeps_turn = false;
            note_armed(actor);
            (*actor).last = Position::InCall;
        }
    }
}

/// Notes whether frames were seen, and has them seen no more: others run at full speed meanwhile.
#[inline(always)]
unsafe fn note_armed(actor: *mut Actor) {
    // SAFETY: by the caller's contract.
    unsafe {
        (*actor).armed = record::is_armed();
        if (*actor).armed {
            record::disarm();
        }
    }
}

/// From now on, or no more, a thread in an external call gives the GIL up plainly: cshim/gil.c.
///
/// # Safety
/// The GIL or the turn is held, or the process ends.
pub unsafe fn hand_over_plainly(plainly: bool) {
    // SAFETY: by contract.
    unsafe { gil::retrace_gil.is_plain = plainly };
}

/// Notes that the thread has no GIL. Returns whether it was to keep the turn.
#[inline(always)]
unsafe fn note_drop(actor: *mut Actor, at_check: bool) -> bool {
    // SAFETY: by the caller's contract.
    unsafe {
        (*actor).holds_gil = false;
        (*actor).was_external = *(*actor).external;
        (*actor).at_check = at_check;
        std::mem::take(&mut (*actor).keeps_turn)
    }
}

/// Notes where the thread is that has just given the GIL up.
#[inline(always)]
unsafe fn note_place(actor: *mut Actor) {
    // SAFETY: by the caller's contract.
    unsafe {
        note_armed(actor);
        if (*actor).was_external && (*actor).frees.is_none() {
            (*actor).last = Position::InCall;
        } else {
            note_other_place(actor);
        }
        (*actor).gave_up_at = steps();
    }
}

/// The place of a thread that is in no call of the boundary, or frees an external object.
#[inline(never)]
unsafe fn note_other_place(actor: *mut Actor) {
    // SAFETY: by the caller's contract.
    unsafe {
        (*actor).last = if let Some(position) = (*actor).position_in_call() {
            position
        } else if (*actor).at_check {
            Position::Check(fingerprint(*gil::retrace_gil.last_holder))
        } else if (*actor).clears {
            Position::Freed((*actor).freed)
        } else {
            if has_begun() {
                (*actor).releases += 1;
                step();
            }
            Position::Released((*actor).releases)
        };
    }
}

/// The GIL was taken by the thread whose actor this is, if it has one yet. `for_leaving`: only to end.
///
/// # Safety
/// Called by cshim/gil.c: the GIL is held, the current thread state is not set yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_gil_taken(actor: *mut Actor, for_leaving: c_int) {
    // SAFETY: by contract.
    unsafe {
        if hot::replays() {
            return user_threads::taken();
        }
        note_plain_drop();
        if session::mode() == Mode::Off || only_leaves(actor, for_leaving) {
            return;
        }
        let actor = if actor.is_null() { foreign_actor() } else { actor };
        (*actor).holds_gil = true;
        (*actor).is_quiet =
            (*actor).is_foreign && (*actor).callbacks == 0 && !turns::are_on() && (*actor).turn.is_unused();
        let thread = thread::of(*gil::retrace_gil.last_holder);
        (*actor).external = thread.external.as_ptr();
        if (*actor).is_outside {
            // Its turns are part of the call that started it, and of whatever comes after.
            return;
        }
        if (*actor).is_quiet {
            taken_quietly(actor);
            return;
        }
        if turns::are_on() {
            takes_turn(actor);
        }
        if turns::was_kept() {
            // Nobody knows any more who went on when: this switch is not the recording's.
            return session::stop("a thread of a library's went on without letting others go on");
        }
        went_on(actor);
        if !(*actor).native_calls.is_empty()
            || gil::have_ended().load(Ordering::Relaxed)
            || (*actor).writer.is_pending()
            || (*actor).wait_end != 0
        {
            append_left(actor, thread.external.get());
        }
        (*actor).wait_end = 0;
        (*actor).has_left = false;
        // A forked child takes the GIL without having given it up: what held at an earlier time must not be found then.
        if std::mem::take(&mut (*actor).armed) {
            record::arm();
        }
    }
}

#[inline(never)]
unsafe fn takes_turn(actor: *mut Actor) {
    // SAFETY: by the caller's contract.
    unsafe {
        if (*actor).serial == UNKNOWN {
            introduce(actor);
        }
        turns::take_unless_here(actor);
    }
}

/// The number of a foreign thread that the log does not know yet.
const UNKNOWN: u64 = u64::MAX - 1;

#[cold]
unsafe fn foreign_actor() -> *mut Actor {
    // SAFETY: recording; the calling thread has the GIL, and no actor yet.
    unsafe {
        let actor = Actor::new(UNKNOWN, true);
        gil::retrace_set_actor(actor.cast());
        actor
    }
}

/// Logs that there is such a thread.
unsafe fn introduce(actor: *mut Actor) {
    // SAFETY: recording; the calling thread, whose actor it is, has the GIL.
    unsafe {
        (*actor).serial = next_serial();
        let ident = ident_number(libc::pthread_self());
        session::append_event(&Event::Thread { serial: (*actor).serial, ident, kind: FOREIGN, error: 0 });
    }
}

/// A foreign thread has taken the GIL. All that it does with that is C code of its library's, as far as the log knows, until
/// it calls Python: who had the GIL before stays the last one who had it.
#[cold]
unsafe fn taken_quietly(actor: *mut Actor) {
    // SAFETY: by the caller's contract.
    unsafe {
        if std::mem::take(&mut (*actor).armed) {
            record::arm();
        }
    }
}

/// The calling thread is about to log a callback. A foreign one that took the GIL says so now: one that only takes it and gives
/// it back (as OpenMP's do in Cython's parallel sections) is none of the log's threads, and goes its own way on replay.
///
/// # Safety
/// Recording; the calling thread has the GIL.
pub unsafe fn speak() {
    // SAFETY: by contract; an actor is its thread's own, or null.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        if actor.is_null() || !(*actor).is_foreign {
            return;
        }
        (*actor).callbacks += 1;
        if (*actor).is_quiet {
            (*actor).is_quiet = false;
            if (*actor).serial == UNKNOWN {
                introduce(actor);
            }
            went_on(actor);
        }
    }
}

/// The callback has ended.
///
/// # Safety
/// As [`speak`], whose thread this is.
pub unsafe fn has_spoken() {
    // SAFETY: as above.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        if !actor.is_null() && (*actor).is_foreign {
            (*actor).callbacks -= 1;
        }
    }
}

/// Logs what happened while the thread, which is in an external call or not, had no GIL.
#[inline(never)]
unsafe fn append_left(actor: *mut Actor, is_external: bool) {
    // SAFETY: recording, the GIL held by the thread whose actor it is.
    unsafe {
        if !(*actor).native_calls.is_empty() {
            session::append_event(&Event::Released(std::mem::take(&mut (*actor).native_calls)));
        }
        append_ended();
        if (*actor).writer.is_pending() {
            append_overtaken(&(*actor).writer);
        }
        if !is_external && let Ok(end) = WaitEnd::try_from((*actor).wait_end) {
            session::append_event(&Event::Wait { end, releases: (*actor).releases });
            (*actor).interrupted = (end == WaitEnd::Interrupted).then_some((*actor).tries);
            if end == WaitEnd::Interrupted {
                (*actor).interrupted_at = gil::retrace_fingerprint_place(*gil::retrace_gil.last_holder);
                lock_calls::watch();
            }
        }
    }
}

/// Entries of threads that have ended, for others: a server may make a thread for each request. The lock is only tried: a
/// forked child may have it from a thread that it has not.
static SPARE: Mutex<Spare> = Mutex::new(Spare(Vec::new()));

struct Spare(Vec<*mut Actor>);

// SAFETY: whose entries they were has ended.
unsafe impl Send for Spare {}

/// One that nothing points to any more.
unsafe fn take_spare() -> Option<*mut Actor> {
    // SAFETY: by the contract of `new_actor`; entries are never freed.
    unsafe {
        let mut spare = SPARE.try_lock().ok()?;
        let is_free = |actor: &*mut Actor| !(**actor).is_holder && gil::retrace_gil.gave_up != actor.cast();
        let place = spare.0.iter().position(is_free)?;
        Some(spare.0.swap_remove(place))
    }
}

/// What threads called of the C library after they had given the GIL up for the last time.
static ENDED: Mutex<Vec<(u64, Vec<NativeCall>)>> = Mutex::new(Vec::new());

/// Logs it.
unsafe fn append_ended() {
    if gil::have_ended().load(Ordering::Relaxed) && gil::have_ended().swap(false, Ordering::Acquire) {
        for (thread, calls) in turns::locked(&ENDED).drain(..) {
            // SAFETY: recording, the GIL held.
            unsafe { session::append_event(&Event::Ended { thread, calls }) };
        }
    }
}

/// A thread of the program's ends, and all that becomes of its own values has happened. If that took a mutex, or called
/// anything that is recorded, replay has to know.
unsafe extern "C" fn thread_ends(round: *mut c_void) {
    // SAFETY: called by the system on a thread that ends, which owns its actor.
    unsafe {
        if END.comes_again(round) {
            return;
        }
        let actor = gil::retrace_actor().cast::<Actor>();
        if actor.is_null() || session::mode() != Mode::Recording {
            return;
        }
        if turns::are_on() {
            // C code that it ran last has given the GIL back, and kept the turn.
            let _inside = turns::enter();
            if turns::has() {
                turns::leave();
            }
        }
        let calls = std::mem::take(&mut (*actor).native_calls);
        if (*actor).library_locks > 0 || !calls.is_empty() {
            turns::locked(&ENDED).push(((*actor).serial, calls));
            // Release pairs with the swap in `append_ended`.
            gil::have_ended().store(true, Ordering::Release);
        }
        gil::retrace_set_actor(ptr::null_mut());
        if let Ok(mut spare) = SPARE.try_lock() {
            spare.0.push(actor);
        }
    }
}

static END: LastValue = LastValue::new(thread_ends);

/// The thread goes on with the GIL, or the turn: logs it if it was another one that had it last.
///
/// # Safety
/// Recording; the calling thread, whose actor it is, has the GIL or the turn.
#[inline(always)]
pub unsafe fn went_on(actor: *mut Actor) {
    // SAFETY: by contract.
    unsafe {
        if !(*actor).is_holder {
            switched(actor);
        }
    }
}

#[inline(never)]
unsafe fn switched(actor: *mut Actor) {
    // SAFETY: by the contract of `went_on`.
    unsafe {
        if !HOLDER.is_null() {
            session::append_event(&Event::Switch { thread: (*actor).serial, from: (*HOLDER).last });
            (*HOLDER).is_holder = false;
        }
        (*actor).is_holder = true;
        HOLDER = actor;
        step();
        (*actor).tries = 0;
        (*actor).releases = 0;
        (*actor).freed = 0;
        (*actor).turn.begins();
        // Its tries count anew: those of an earlier wait would be taken for this turn's.
        (*actor).interrupted = None;
    }
}

/// Says of the call that comes next which writes it came after whose events come later.
#[cold]
unsafe fn append_overtaken(writer: &Writer) {
    let after = writer.leave();
    if !after.is_empty() {
        // SAFETY: recording, the GIL held.
        unsafe { session::append_event(&Event::Written { after }) };
    }
}

/// Whether the calling thread is one that the session knows: one of Python's, or one that has been in Python.
pub fn is_ours() -> bool {
    // SAFETY: the thread's own value.
    unsafe { !gil::retrace_actor().is_null() }
}

/// Whether the calling thread has the GIL, as far as is recorded.
pub fn holds_gil() -> bool {
    // SAFETY: an actor is its thread's own, or null; replay's threads are asked themselves.
    unsafe {
        if hot::replays() {
            return user_threads::has_gil();
        }
        let actor = gil::retrace_actor().cast::<Actor>();
        !actor.is_null() && (*actor).holds_gil
    }
}

/// Whether what the calling thread calls of the C library is to be logged: it is a thread of the program's, and not
/// inside an external call.
pub fn logs_native_calls() -> bool {
    // SAFETY: an actor is its thread's own; what `external` points at lives while the thread has the GIL.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        !actor.is_null() && !(*actor).is_external()
    }
}

/// Whether there has been another thread than the main one.
#[inline(always)]
pub fn has_threads() -> bool {
    // SAFETY: the number only grows: a test without the GIL is late at worst, and who could write at the same time was made
    // before.
    unsafe { NEXT_SERIAL != 1 }
}

static MADE_THREADS: AtomicBool = AtomicBool::new(false);

/// Whether the program has made a thread, or tried to: the same in both directions, where the GIL is held.
pub fn has_made_threads() -> bool {
    MADE_THREADS.load(Ordering::Relaxed)
}

/// It does so now.
pub fn makes_thread() {
    MADE_THREADS.store(true, Ordering::Relaxed);
}

/// The calling thread, as one that writes inside an external call and without the GIL.
///
/// # Safety
/// The reference is not kept for longer than the thread lives.
pub unsafe fn writer() -> Option<&'static Writer> {
    // SAFETY: an actor is its thread's own, or null.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        let logs = !actor.is_null() && !(*actor).holds_gil && (*actor).was_external;
        if !logs || session::mode() != Mode::Recording {
            return None;
        }
        (*actor).has_left = true;
        Some(&(*actor).writer)
    }
}

/// Logs a call of the C library: now, or, without the GIL, when the thread has it again.
///
/// # Safety
/// Recording; [`logs_native_calls`] said so.
pub unsafe fn append_native_call(call: NativeCall) {
    // SAFETY: by contract.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        (*actor).native_calls_made += 1;
        if (*actor).holds_gil || (*actor).turn.is_here() {
            session::append_event(&Event::Call(call));
        } else {
            (*actor).native_calls.push(call);
            (*actor).has_left = true;
        }
    }
}

/// How many calls by the C code of the calling thread are in the log, in both directions.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn native_calls_made() -> u64 {
    // SAFETY: by contract.
    unsafe {
        if hot::replays() {
            return user_threads::native_calls_made();
        }
        let actor = gil::retrace_actor().cast::<Actor>();
        if actor.is_null() { 0 } else { (*actor).native_calls_made }
    }
}

/// Counts a try of a mutex by the calling thread's C code: the thread, and the number of the try.
///
/// # Safety
/// As [`append_native_call`].
pub unsafe fn count_library_lock() -> (u64, u64) {
    // SAFETY: by contract.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        (*actor).library_locks += 1;
        ((*actor).serial, (*actor).library_locks)
    }
}

/// The number of the try that was counted last.
///
/// # Safety
/// As [`append_native_call`].
pub unsafe fn library_locks_counted() -> u64 {
    // SAFETY: by contract.
    unsafe { (*gil::retrace_actor().cast::<Actor>()).library_locks }
}

/// Logs the event of the try that was counted last: tries are counted anew from there.
///
/// # Safety
/// As [`append_native_call`].
pub unsafe fn append_lock_event(event: NativeCall) {
    // SAFETY: by contract.
    unsafe {
        append_native_call(event);
        (*gil::retrace_actor().cast::<Actor>()).library_locks = 0;
    }
}

/// Tries of locks with the GIL, releases of it and switches so far.
pub fn steps() -> u64 {
    gil::steps().load(Ordering::Relaxed)
}

/// Another one.
///
/// # Safety
/// The calling thread has the GIL or its mutex: nobody else counts.
pub unsafe fn step() {
    // SAFETY: by contract. Who counts a try has the lock and gives it up after that, so whoever takes the lock next sees it.
    gil::steps().store(steps() + 1, Ordering::Relaxed);
}

/// How many of them the calling thread has let pass since it gave the GIL up.
///
/// # Safety
/// As [`append_native_call`]; the thread has no GIL.
pub unsafe fn steps_passed() -> u64 {
    // SAFETY: by contract.
    unsafe { steps() - (*gil::retrace_actor().cast::<Actor>()).gave_up_at }
}

/// A new thread's.
///
/// # Safety
/// Recording; the calling thread has the GIL or the turn.
pub unsafe fn new_actor() -> *mut Actor {
    // SAFETY: by contract.
    unsafe {
        let serial = next_serial();
        let Some(actor) = take_spare() else { return Actor::new(serial, false) };
        let sleeper = (*actor).sleeper;
        *actor = Actor { sleeper, ..Actor::begun(serial, false) };
        actor
    }
}

unsafe fn next_serial() -> u64 {
    // SAFETY: by the contract of `new_actor`.
    unsafe {
        let serial = NEXT_SERIAL;
        NEXT_SERIAL += 1;
        serial
    }
}

/// A lock was tried with the GIL, in vain. When it is released is not ordered by the GIL alone:
/// a waiter takes it without.
///
/// # Safety
/// Called by cshim/gil.c with the GIL held.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_lock_busy(actor: *mut Actor) {
    // SAFETY: by contract.
    unsafe {
        if session::is_recording() {
            session::append_event(&Event::Busy { tries: (*actor).tries });
        }
    }
}

/// The running thread would have waited for a lock, but for the time, which was over: as if it had.
///
/// # Safety
/// Recording; the GIL is held by the calling thread.
pub unsafe fn log_wait_of_no_time() {
    // SAFETY: by contract; an actor is its thread's own, or null.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        if actor.is_null() || (*actor).is_outside || (*actor).is_quiet || *(*actor).external || !session::is_recording()
        {
            return;
        }
        (*actor).at_check = false;
        note_other_place(actor);
        session::append_event(&Event::Wait { end: WaitEnd::TimedOut, releases: (*actor).releases });
    }
}

/// A thread's ident as `threading.get_ident()` shows it: a number on Linux, a pointer on macOS.
#[allow(clippy::unnecessary_cast, reason = "not the same type on every platform")]
pub fn ident_number(ident: libc::pthread_t) -> u64 {
    ident as u64
}

/// A lock that was waited for when a signal came is tried again. Logged, because CPython asks the clock whether it
/// shall: replay answers by whether this comes next.
///
/// # Safety
/// Called by cshim/gil.c with the GIL held.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_lock_retried(actor: *mut Actor) {
    // SAFETY: by contract.
    unsafe {
        if session::is_recording() {
            session::append_event(&Event::Retry { tries: (*actor).tries });
        }
    }
}

/// Puts aside which lock's wait was interrupted, or back: a handler may wait for locks of its own. Returns what was.
///
/// # Safety
/// Recording; the GIL is held by the calling thread.
pub unsafe fn swap_waited_for(lock: *const libc::sem_t) -> *const libc::sem_t {
    // SAFETY: by contract.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        if actor.is_null() { ptr::null() } else { std::mem::replace(&mut (*actor).waited_for, lock) }
    }
}

/// `pthread_create`, while recording.
unsafe extern "C" fn create(
    ident: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: *mut c_void,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: called by CPython with pthread_create's arguments; `NEXT_CREATE` is that function.
    unsafe {
        let next = std::mem::transmute::<*mut c_void, Create>(NEXT_CREATE);
        let maker = gil::retrace_actor().cast::<Actor>();
        let outside = is_in_body(maker);
        if maker.is_null() || !(*maker).holds_gil || (*(*maker).external && !outside) || !session::is_recording() {
            return next(ident, attributes, start, argument);
        }
        if !outside {
            makes_thread();
        }
        let actor = if outside { Actor::new(OUTSIDE, false) } else { new_actor() };
        (*actor).is_outside = outside;
        let serial = (*actor).serial;
        let beginning = Box::into_raw(Box::new(Beginning { actor, start, argument }));
        let error = next(ident, attributes, gil::retrace_thread_begins as *mut c_void, beginning.cast());
        if error != 0 {
            drop(Box::from_raw(beginning));
            drop(Box::from_raw(actor));
        }
        if outside {
            return error;
        }
        let made = if error == 0 { *ident } else { 0 };
        session::append_event(&Event::Thread { serial, ident: ident_number(made), kind: MADE, error });
        error
    }
}

/// # Safety
/// Called by `retrace_thread_begins` with what [`create`] gave it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_take_beginning(from: *mut c_void, into: *mut c_void) {
    // SAFETY: by contract.
    unsafe {
        let beginning = *Box::from_raw(from.cast::<Beginning>());
        if !(*beginning.actor).is_outside {
            END.set();
        }
        into.cast::<Beginning>().write(beginning);
    }
}

/// C's `exit()`: a process that a thread forked comes here when its last thread has ended, and CPython's own end never runs.
extern "C" fn process_exits(status: c_int) {
    // SAFETY: whoever wants the GIL takes its mutex first, so nobody appends while this thread has that; there is one as
    // long as recording goes on. Where somebody has the GIL the process ends in the middle of what that thread does.
    unsafe {
        if !session::is_recording() {
            return;
        }
        libc::pthread_mutex_lock(gil::retrace_gil.mutex);
        if *gil::retrace_gil.locked == 0 {
            session::end_recording(status);
        }
        libc::pthread_mutex_unlock(gil::retrace_gil.mutex);
    }
}

type ForkTerminal = unsafe extern "C" fn(*mut c_int, *mut c_char, *mut c_void, *mut c_void) -> libc::pid_t;

unsafe extern "C" fn fork() -> libc::pid_t {
    // SAFETY: called by CPython; `NEXT_FORK` is fork.
    unsafe {
        let next = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> libc::pid_t>(NEXT_FORK);
        forks(|| next())
    }
}

unsafe extern "C" fn forkpty(
    terminal: *mut c_int,
    name: *mut c_char,
    settings: *mut c_void,
    size: *mut c_void,
) -> libc::pid_t {
    // SAFETY: called by CPython with forkpty's arguments; `NEXT_FORKPTY` is that function.
    unsafe {
        let next = std::mem::transmute::<*mut c_void, ForkTerminal>(NEXT_FORKPTY);
        forks(|| next(terminal, name, settings, size))
    }
}

/// A fork, while recording. What CPython does around it, `os.register_at_fork`'s functions included, is internal code.
unsafe fn forks(next: impl FnOnce() -> libc::pid_t) -> libc::pid_t {
    // SAFETY: called in place of what CPython calls.
    unsafe {
        let actor = gil::retrace_actor().cast::<Actor>();
        // Inside an external call it is that call's (a subprocess with a preexec_fn).
        let outside = is_in_body(actor);
        if actor.is_null() || !(*actor).holds_gil || (*(*actor).external && !outside) || !session::is_recording() {
            return next();
        }
        session::before_fork();
        crate::shared_memory::forked();
        if outside {
            let pid = next();
            let errno = crate::platform::errno();
            if pid == 0 {
                session::leave_forked_child();
            }
            crate::platform::set_errno(errno);
            return pid;
        }
        let serial = FORKS;
        FORKS += 1;
        let pid = next();
        let errno = crate::platform::errno();
        if pid == 0 {
            FORKS = 0;
            turns::forked();
            write_order::forget_others();
            // A process that a thread forked lives until its last thread has ended: no thread of ours may be in it, and
            // nothing of CPython's says when that is.
            let by_main_thread = (*actor).serial == 0;
            session::after_fork_child(serial, by_main_thread);
            static AWAITED: std::sync::Once = std::sync::Once::new();
            if !by_main_thread {
                AWAITED.call_once(|| crate::platform::at_exit(process_exits));
            }
        } else {
            // The recorder's thread comes back when os.fork() returns: CPython 3.12 counts threads first.
            let pid = if pid < 0 { -i64::from(errno) } else { i64::from(pid) };
            session::append_event(&Event::Fork { serial, pid });
        }
        crate::platform::set_errno(errno);
        pid
    }
}
