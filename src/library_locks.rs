//! The mutexes of extension modules and their libraries, and what these do once. Which thread gets one next is up to the
//! system where they are taken without the GIL; so recording logs each time that a mutex goes from one thread to another,
//! and how often it had been taken before. On replay, which has one operating-system thread, who comes too early lets the
//! others go on.

use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::imports::{self, Binding, replaced};
use crate::session::{self, Mode};
use crate::turns::{self, Deadline, Inside};
use crate::{library_waits, native_handlers, pending_calls, platform, schedule, user_threads};
use retrace_abi::gil;
use retrace_replay::event::{Call, NO_FRAME, Outcome};
use retrace_replay::value::Value;
use rustc_hash::FxHashMap;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

type NativeMutex = *mut libc::pthread_mutex_t;
type Routine = unsafe extern "C" fn();

static mut NEXT: [*mut c_void; 10] = [ptr::null_mut(); 10];

const LOCK: usize = 0;
const TRYLOCK: usize = 1;
const UNLOCK: usize = 2;
const INIT: usize = 3;
const DESTROY: usize = 4;
const GETSPECIFIC: usize = 5;
const SETSPECIFIC: usize = 6;
const SELF: usize = 7;
const ATTRIBUTES: usize = 8;
const ONCE: usize = 9;

/// What is known of a mutex since it was made.
#[derive(Default)]
struct Known {
    /// How often it was taken.
    taken: u64,
    /// By which thread last.
    last: u64,
    /// How often its holder has taken it and not let it go. Replay only: its threads are one to the system, which would
    /// let two of them into a mutex that may be taken twice.
    held: u32,
    /// A thread of the library's own took it first. How often the program's threads take it is then up to what that one
    /// has come to, which is not recorded, and nor is their order.
    is_foreign: bool,
}

type Mutexes = Mutex<FxHashMap<usize, Known>>;

/// Never freed. Null where nothing is known.
static MUTEXES: AtomicPtr<Mutexes> = AtomicPtr::new(ptr::null_mut());

fn mutexes() -> MutexGuard<'static, FxHashMap<usize, Known>> {
    let mut mutexes = MUTEXES.load(Ordering::Acquire);
    if mutexes.is_null() {
        let made = Box::into_raw(Box::default());
        // Release pairs with the acquire above: who finds them finds them made.
        mutexes = match MUTEXES.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(others) => {
                // SAFETY: made above, and nobody has seen it.
                drop(unsafe { Box::from_raw(made) });
                others
            }
        };
    }
    // SAFETY: never freed.
    unsafe { (*mutexes).lock().unwrap_or_else(PoisonError::into_inner) }
}

/// A child of a fork begins without: another thread may have been at them when the process forked. Its replay does the
/// same.
pub extern "C" fn forget_all() {
    MUTEXES.store(ptr::null_mut(), Ordering::Release);
    KNOWN_DONE.iter().for_each(|place| place.store(0, Ordering::Relaxed));
}

/// Another mutex may be where this one was.
fn forget(lock: usize) {
    mutexes().remove(&lock);
    let place = known_done(lock);
    if place.load(Ordering::Relaxed) == lock {
        place.store(0, Ordering::Relaxed);
    }
}

/// Whether the order in which the calling thread gets this mutex counts. In a session only.
fn is_ordered(mutex: NativeMutex) -> bool {
    if schedule::is_ours() {
        return !mutexes().get(&(mutex as usize)).is_some_and(|known| known.is_foreign);
    }
    mutexes().entry(mutex as usize).or_insert(Known { is_foreign: true, ..Known::default() });
    false
}

static HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);
static ONCE_HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);

/// The number of an event's hook.
fn index(hook: &GilCell<Option<&'static Hook>>) -> u16 {
    // SAFETY: written once, with the GIL, before a function below can be reached.
    unsafe { hook.get().map_or(0, |hook| hook.index) }
}

/// What is put into an extension module's import table.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn bindings() -> Vec<Binding> {
    let functions: [(&std::ffi::CStr, *mut c_void); 10] = [
        (c"pthread_mutex_lock", lock as *mut c_void),
        (c"pthread_mutex_trylock", trylock as *mut c_void),
        (c"pthread_mutex_unlock", unlock as *mut c_void),
        (c"pthread_mutex_init", init as *mut c_void),
        (c"pthread_mutex_destroy", destroy as *mut c_void),
        (c"pthread_getspecific", getspecific as *mut c_void),
        (c"pthread_setspecific", setspecific as *mut c_void),
        (c"pthread_self", own_ident as *mut c_void),
        (c"pthread_getattr_np", attributes as *mut c_void),
        (c"pthread_once", once as *mut c_void),
    ];
    // SAFETY: by contract.
    unsafe {
        for (hook, name) in [(HOOK.get(), "libc.pthread_mutex_lock"), (ONCE_HOOK.get(), "libc.pthread_once")] {
            hook.get_or_insert_with(|| hook::of_library(name));
        }
    }
    // SAFETY: `NEXT` and `NEXT_FLAG` have a place for each.
    unsafe {
        let mut bindings = imports::optional(functions, (&raw mut NEXT).cast());
        bindings.extend(imports::optional(
            [(SINGLE_THREADED, (&raw const SEVERAL_THREADS).cast_mut().cast())],
            &raw mut NEXT_FLAG,
        ));
        bindings
    }
}

/// The C library's byte that says whether there is only one thread. libstdc++ calls `pthread_once` only where it does not say
/// so. Recording has a thread that replay has not, so C code reads a byte of ours, which is the same in both directions.
const SINGLE_THREADED: &std::ffi::CStr = c"__libc_single_threaded";
static SEVERAL_THREADS: u8 = 0;
static mut NEXT_FLAG: *mut c_void = ptr::null_mut();

/// In the arguments of the event, where the number of times that the mutex was taken before would be: it was not free.
const BUSY: i64 = -1;

fn event(tries: u64, taken: i64) -> Call {
    let arguments = Some(vec![Value::Int(tries as i64), Value::Int(taken)]);
    Call { hook: index(&HOOK), at: NO_FRAME, arguments, outcome: Outcome::None }
}

// ---- CPython's own locks, where they are taken without the GIL ----

static ALONE: GilCell<Option<&'static Hook>> = GilCell::new(None);
static mut NEXT_SEM_DESTROY: *mut c_void = ptr::null_mut();
/// How many of them are known.
static LOCKS_KNOWN: AtomicUsize = AtomicUsize::new(0);

/// Makes the hook of their events.
///
/// # Safety
/// The GIL is held; called once, before a session begins.
pub unsafe fn prepare(recording: bool) {
    // SAFETY: by contract.
    unsafe {
        *ALONE.get() = Some(hook::of_library("libc.sem_wait"));
        // A debugger's replays fork, and go on.
        if recording {
            libc::pthread_atfork(None, None, Some(forget_all));
        }
    }
}

fn alone() -> u16 {
    // SAFETY: written once, before a session begins.
    unsafe { ALONE.get().map_or(0, |hook| hook.index) }
}

/// Counts that the thread took the lock: how often it had been taken before, and whether another thread did so last.
fn count_taken(lock: usize, thread: u64) -> (u64, bool) {
    let mut locks = mutexes();
    let known = locks.entry(lock).or_insert_with(|| {
        LOCKS_KNOWN.fetch_add(1, Ordering::Relaxed);
        Known::default()
    });
    let taken = known.taken;
    known.taken += 1;
    (taken, std::mem::replace(&mut known.last, thread) != thread && taken > 0)
}

/// The calling thread, without the GIL, has got a lock that it did not try with it (`hashlib` and `zlib` wait like that):
/// nothing in the log says when. Logged where it matters: another thread had the lock last, or the GIL has moved on since.
///
/// # Safety
/// Called by cshim/gil.c.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_lock_taken_alone(lock: *const libc::sem_t) {
    // SAFETY: the calling thread's own.
    unsafe {
        if session::mode() != Mode::Recording || !schedule::logs_native_calls() || pending_calls::is_asking() {
            return;
        }
        let (thread, tries) = schedule::count_library_lock();
        // Read while the lock is held: who tries it after this counts that later.
        let passed = schedule::steps_passed();
        let (taken, changes_hands) = count_taken(lock as usize, thread);
        if changes_hands || passed > 0 {
            let arguments = [tries, taken, passed].map(|number| Value::Int(number as i64)).to_vec();
            let outcome = Outcome::None;
            schedule::append_lock_event(Call { hook: alone(), at: NO_FRAME, arguments: Some(arguments), outcome });
        }
    }
}

/// The running thread is about to take a lock like that.
///
/// # Safety
/// Replaying, on its one thread, which has no GIL.
pub unsafe fn replay_alone(lock: *const libc::sem_t) {
    // SAFETY: by contract; nothing borrowed is kept across a switch.
    unsafe {
        if let Some([taken, passed]) = replayed(alone()) {
            let from = Some(user_threads::gave_up_at() + passed as u64);
            user_threads::wait_for_lock(Due { lock: lock as usize, taken: taken as u64, from });
        }
        count_taken(lock as usize, user_threads::running() as u64);
    }
}

/// A lock that is not there any more is forgotten: another one may come to be where it was.
pub fn forgetting() -> Binding {
    let next = &raw mut NEXT_SEM_DESTROY;
    Binding { name: c"sem_destroy", with: sem_destroy as *mut c_void, next, needed: false }
}

unsafe extern "C" fn sem_destroy(lock: *mut libc::sem_t) -> c_int {
    if LOCKS_KNOWN.load(Ordering::Relaxed) > 0 && mutexes().remove(&(lock as usize)).is_some() {
        LOCKS_KNOWN.fetch_sub(1, Ordering::Relaxed);
    }
    // SAFETY: called by CPython with a semaphore; on replay there is one thread.
    unsafe {
        match session::mode() {
            Mode::Recording => gil::retrace_lock_let_go(lock.cast()),
            Mode::Replaying if schedule::is_ours() => user_threads::let_go(lock),
            _ => {}
        }
        replaced!(NEXT_SEM_DESTROY, *mut libc::sem_t => c_int)(lock)
    }
}

// ---- mutexes ----

/// The calling thread has just got a mutex, and nobody else can.
unsafe fn record_taken(mutex: NativeMutex) {
    let mut mutexes = mutexes();
    let known = mutexes.entry(mutex as usize).or_default();
    let taken = known.taken;
    known.taken += 1;
    // SAFETY: recording, on a thread of the program's.
    unsafe {
        let (thread, tries) = schedule::count_library_lock();
        let changes_hands = taken > 0 && known.last != thread;
        known.last = thread;
        drop(mutexes);
        if changes_hands {
            schedule::append_lock_event(event(tries, taken as i64));
        }
    }
}

/// What the log says of the running thread's try: how often the mutex was taken before it got it. `None`: nothing.
unsafe fn replayed_try() -> Option<i64> {
    // SAFETY: replaying, on its one thread.
    unsafe { replayed(index(&HOOK)) }.map(|[taken]| taken)
}

/// The running thread tries a lock: what its event says besides the try's number, if the log has one of this very try.
unsafe fn replayed<const N: usize>(hook: u16) -> Option<[i64; N]> {
    // SAFETY: replaying, on its one thread.
    unsafe {
        let tries = user_threads::count_library_lock();
        user_threads::stay_if_left();
        let call = user_threads::next_native_call(hook)?;
        let number = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
        let numbers = call.arguments?.iter().map(number).collect::<Option<Vec<i64>>>()?;
        let (wanted, rest) = numbers.split_first()?;
        let rest = rest.try_into().ok().filter(|_| *wanted == tries as i64)?;
        user_threads::pass_native_call();
        user_threads::library_lock_logged();
        Some(rest)
    }
}

/// When a thread of the replay gets a lock.
#[derive(Clone, Copy)]
pub struct Due {
    lock: usize,
    /// Once it has been taken that often.
    taken: u64,
    /// Of one of CPython's locks: not before that many steps (`schedule::steps`).
    from: Option<u64>,
}

impl Due {
    /// Whether that is now, and the lock is free.
    pub fn is_now(self) -> bool {
        let is_its_turn = match mutexes().get(&self.lock) {
            Some(known) => known.taken == self.taken && known.held == 0,
            None => self.taken == 0,
        };
        is_its_turn && self.from.is_none_or(|from| from <= schedule::steps() && self.is_free())
    }

    fn is_free(self) -> bool {
        // SAFETY: a thread waits for this lock of CPython's, which it keeps.
        unsafe { platform::is_free(self.lock as *mut c_void) }
    }
}

/// Takes the mutex when the log says.
unsafe fn replay_taken(mutex: NativeMutex, taken: Option<u64>) {
    // SAFETY: replaying, on its one thread; the guard is not kept across a switch.
    unsafe {
        if let Some(taken) = taken {
            user_threads::wait_for_lock(Due { lock: mutex as usize, taken, from: None });
        }
        let running = user_threads::running() as u64;
        let mut mutexes = mutexes();
        let known = mutexes.entry(mutex as usize).or_default();
        if known.held > 0 && known.last != running {
            drop(mutexes);
            user_threads::lost_without_gil("a library's mutex is taken here that was free in the recording".into());
        }
        known.taken += 1;
        known.last = running;
        known.held += 1;
    }
}

// ---- mutexes, where threads take turns (`crate::turns`): they are taken and let go by who has the turn ----

/// How long to try a mutex that somebody has who takes no turns, as often as that; and how long that is each time.
const TRIES: u32 = 400;
const BETWEEN_TRIES: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 50_000 };

/// Tries to take a mutex. Whoever has it and takes no turns (a thread of an allocator's) has it at other times on replay: that
/// nobody may notice, so it is waited for, with the turn. One that needs the turn to let it go is not waited for long.
unsafe fn try_in_turn(mutex: NativeMutex) -> c_int {
    // SAFETY: by the contract of `lock_in_turn`; the guard is not kept where it is waited.
    unsafe {
        let thread = turns::own_number();
        let mut tries = 0;
        loop {
            {
                let mut mutexes = mutexes();
                let known = mutexes.entry(mutex as usize).or_default();
                if known.held > 0 && known.last != thread {
                    return libc::EBUSY;
                }
                let error = libc::pthread_mutex_trylock(mutex);
                if error == 0 {
                    known.taken += 1;
                    known.last = thread;
                    known.held += 1;
                }
                if error != libc::EBUSY || known.held > 0 || tries == TRIES {
                    return error;
                }
            }
            tries += 1;
            libc::nanosleep(&BETWEEN_TRIES, ptr::null_mut());
        }
    }
}

/// How long to wait for a mutex that somebody has who takes no turns, before it is tried again.
const TRY_AGAIN: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// Takes a mutex, and waits for it.
///
/// # Safety
/// In a session; the calling thread has the turn.
pub unsafe fn lock_in_turn(mutex: NativeMutex, until: Option<Deadline>) -> c_int {
    // SAFETY: by contract.
    unsafe {
        loop {
            let error = try_in_turn(mutex);
            if error != libc::EBUSY {
                return error;
            }
            let in_turn = mutexes().get(&(mutex as usize)).is_some_and(|known| known.held > 0);
            let next_try = until.or((!in_turn).then(|| Deadline::after(TRY_AGAIN)));
            if !turns::wait_at(mutex as usize, next_try, || {}) && until.is_some() {
                return libc::ETIMEDOUT;
            }
            if !turns::has() {
                return libc::pthread_mutex_lock(mutex);
            }
        }
    }
}

/// Lets a mutex go.
///
/// # Safety
/// As [`lock_in_turn`].
pub unsafe fn unlock_in_turn(mutex: NativeMutex) {
    // SAFETY: by contract.
    unsafe {
        let_go(mutex);
        libc::pthread_mutex_unlock(mutex);
        turns::wake(mutex as usize, 1);
    }
}

/// Its holder lets it go.
fn let_go(mutex: NativeMutex) {
    if let Some(known) = mutexes().get_mut(&(mutex as usize)) {
        known.held = known.held.saturating_sub(1);
    }
}

/// `pthread_once`, where threads take turns.
unsafe fn once_in_turn(control: *mut libc::c_int, routine: Routine, inside: Inside) -> c_int {
    // SAFETY: the calling thread has the turn.
    unsafe {
        let next = replaced!(NEXT[ONCE], *mut libc::c_int, Routine => c_int);
        let thread = turns::own_number();
        loop {
            let mut mutexes = mutexes();
            let known = mutexes.entry(control as usize).or_default();
            if known.held > 0 && known.last != thread {
                drop(mutexes);
                turns::wait_at(control as usize, None, || {});
                if turns::has() {
                    continue;
                }
                return next(control, routine);
            }
            let is_done = std::mem::replace(&mut known.taken, 1) > 0;
            if !is_done {
                known.held = 1;
                known.last = thread;
            }
            drop(mutexes);
            // The routine is the library's.
            drop(inside);
            let error = next(control, routine);
            let _inside = turns::enter();
            if !is_done {
                let_go(control.cast());
                turns::wake(control as usize, usize::MAX);
            }
            return error;
        }
    }
}

unsafe extern "C" fn lock(mutex: NativeMutex) -> c_int {
    let _inside = turns::enter();
    // SAFETY: called by an extension module with a mutex of its own.
    unsafe {
        if library_waits::in_turn() {
            return lock_in_turn(mutex, None);
        }
        let next = replaced!(NEXT[LOCK], NativeMutex => c_int);
        match native_handlers::mode() {
            Mode::Recording if is_ordered(mutex) && schedule::logs_native_calls() => {
                let error = next(mutex);
                if error == 0 {
                    record_taken(mutex);
                }
                error
            }
            Mode::Replaying if is_ordered(mutex) => {
                let taken = replayed_try().and_then(|taken| u64::try_from(taken).ok());
                replay_taken(mutex, taken);
                next(mutex)
            }
            _ => next(mutex),
        }
    }
}

unsafe extern "C" fn trylock(mutex: NativeMutex) -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if library_waits::in_turn() {
            return try_in_turn(mutex);
        }
        let next = replaced!(NEXT[TRYLOCK], NativeMutex => c_int);
        match native_handlers::mode() {
            Mode::Recording if is_ordered(mutex) && schedule::logs_native_calls() => {
                let error = next(mutex);
                if error == 0 {
                    record_taken(mutex);
                } else {
                    let (_, tries) = schedule::count_library_lock();
                    schedule::append_lock_event(event(tries, BUSY));
                }
                error
            }
            Mode::Replaying if is_ordered(mutex) => {
                let taken = replayed_try();
                if taken == Some(BUSY) {
                    return libc::EBUSY;
                }
                replay_taken(mutex, taken.and_then(|taken| u64::try_from(taken).ok()));
                next(mutex)
            }
            _ => next(mutex),
        }
    }
}

unsafe extern "C" fn unlock(mutex: NativeMutex) -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        let is_counted = match native_handlers::mode() {
            Mode::Replaying => schedule::is_ours(),
            _ => turns::are_on(),
        };
        if is_counted {
            let_go(mutex);
        }
        let error = replaced!(NEXT[UNLOCK], NativeMutex => c_int)(mutex);
        turns::wake(mutex as usize, 1);
        error
    }
}

// What a library does once is done by whichever thread comes to it first, and the others wait for that one. Until it is
// done it counts as a mutex that was never taken, and from then on as one that was taken once.

/// The calling thread runs the routine of a `pthread_once`.
fn once_event(tries: u64) -> Call {
    let arguments = Some(vec![Value::Int(tries as i64)]);
    Call { hook: index(&ONCE_HOOK), at: NO_FRAME, arguments, outcome: Outcome::None }
}

/// Marks it as done, or as being done; `false` where it was.
fn mark_done(control: usize) -> bool {
    let mut mutexes = mutexes();
    let known = mutexes.entry(control).or_default();
    std::mem::replace(&mut known.taken, 1) == 0
}

/// Some of those that are marked as done, each where [`known_done`] says: libcrypto asks for a handful of them thousands
/// of times where a password is checked.
static KNOWN_DONE: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

fn known_done(control: usize) -> &'static AtomicUsize {
    // Controls are four bytes each, and libraries have them side by side.
    &KNOWN_DONE[(control >> 2) % KNOWN_DONE.len()]
}

thread_local! {
    /// The routine that `run_once` runs, and what the control is.
    static ROUTINE: Cell<Option<(usize, Routine)>> = const { Cell::new(None) };
}

/// The system calls it in place of the routine, on the thread that came first.
unsafe extern "C" fn run_once() {
    let Some((control, routine)) = ROUTINE.take() else { return };
    mark_done(control);
    // SAFETY: recording, on a thread of the program's, in its call of `once`, which has counted the try.
    unsafe {
        schedule::append_lock_event(once_event(schedule::library_locks_counted()));
        routine();
    }
}

unsafe extern "C" fn once(control: *mut libc::c_int, routine: Routine) -> c_int {
    // SAFETY: called with pthread_once's arguments.
    unsafe {
        // libcrypto asks at every turn.
        if turns::saw(|| platform::is_once_done(control)) {
            return 0;
        }
        let inside = turns::enter();
        if library_waits::in_turn() {
            return once_in_turn(control, routine, inside);
        }
        drop(inside);
        let next = replaced!(NEXT[ONCE], *mut libc::c_int, Routine => c_int);
        match native_handlers::mode() {
            Mode::Recording if schedule::logs_native_calls() => {
                let (_, tries) = schedule::count_library_lock();
                let place = known_done(control as usize);
                if place.load(Ordering::Relaxed) == control as usize && platform::is_once_done(control) {
                    return 0;
                }
                let outer = ROUTINE.replace(Some((control as usize, routine)));
                let error = next(control, run_once);
                ROUTINE.set(outer);
                if mark_done(control as usize) {
                    // It was done where nothing is recorded: on replay it is for this thread to do.
                    schedule::append_lock_event(once_event(tries));
                }
                place.store(control as usize, Ordering::Relaxed);
                error
            }
            Mode::Replaying if schedule::is_ours() => {
                if replays_once() {
                    let error = next(control, routine);
                    mark_done(control as usize);
                    return error;
                }
                user_threads::wait_for_lock(Due { lock: control as usize, taken: 1, from: None });
                0
            }
            _ => next(control, routine),
        }
    }
}

/// Whether the log says that the running thread is the one to do it.
unsafe fn replays_once() -> bool {
    // SAFETY: replaying, on its one thread.
    unsafe { replayed::<0>(index(&ONCE_HOOK)) }.is_some()
}

// Another mutex may be where one was, and not in the same place in both directions.

unsafe extern "C" fn init(mutex: NativeMutex, attributes: *const libc::pthread_mutexattr_t) -> c_int {
    forget(mutex as usize);
    // SAFETY: as above.
    unsafe { replaced!(NEXT[INIT], NativeMutex, *const libc::pthread_mutexattr_t => c_int)(mutex, attributes) }
}

unsafe extern "C" fn destroy(mutex: NativeMutex) -> c_int {
    forget(mutex as usize);
    // SAFETY: as above.
    unsafe { replaced!(NEXT[DESTROY], NativeMutex => c_int)(mutex) }
}

/// The ident that Python knows the thread by. Of the replay's threads C code could not tell one from another otherwise.
unsafe extern "C" fn own_ident() -> libc::pthread_t {
    // SAFETY: replay's threads are asked only on its one thread.
    unsafe {
        if session::mode() == Mode::Replaying && schedule::is_ours() {
            return user_threads::ident() as libc::pthread_t;
        }
        replaced!(NEXT[SELF], => libc::pthread_t)()
    }
}

/// Where a thread's stack is, which C code may look at before it recurses: a recorded ident means nothing to the system.
unsafe extern "C" fn attributes(ident: libc::pthread_t, into: *mut libc::pthread_attr_t) -> c_int {
    // SAFETY: called with pthread_getattr_np's arguments.
    unsafe {
        let next = replaced!(NEXT[ATTRIBUTES], libc::pthread_t, *mut libc::pthread_attr_t => c_int);
        if session::mode() != Mode::Replaying || !schedule::is_ours() {
            return next(ident, into);
        }
        let error = next(libc::pthread_self(), into);
        if error == 0
            && let Some((lowest, size)) = user_threads::stack_of(ident)
        {
            platform::set_stack(into, lowest, size);
        }
        error
    }
}

/// Whether the calling thread is a coroutine, which has thread-specific values of its own.
unsafe fn is_coroutine() -> bool {
    // SAFETY: replay's threads are asked only on its one thread.
    unsafe { session::mode() == Mode::Replaying && schedule::is_ours() && user_threads::running() != 0 }
}

unsafe extern "C" fn getspecific(key: libc::pthread_key_t) -> *mut c_void {
    // SAFETY: as above.
    unsafe {
        if is_coroutine() {
            return user_threads::specific(key);
        }
        replaced!(NEXT[GETSPECIFIC], libc::pthread_key_t => *mut c_void)(key)
    }
}

unsafe extern "C" fn setspecific(key: libc::pthread_key_t, value: *mut c_void) -> c_int {
    // SAFETY: as above.
    unsafe {
        if is_coroutine() {
            user_threads::set_specific(key, value);
            return 0;
        }
        replaced!(NEXT[SETSPECIFIC], libc::pthread_key_t, *mut c_void => c_int)(key, value)
    }
}
