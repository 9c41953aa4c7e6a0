//! The turn: where a library makes threads of its own that do I/O, these and Python's threads run one at a time, and the
//! turn goes from one to another only where a thread calls something of the C library that may wait. So what they do to
//! the memory that they share is done in one order, atomics included, and a switch of the turn is an event like a switch
//! of the GIL. Replay has the library's threads as coroutines, and gives them the turn as recorded.
//!
//! Who has the GIL has the turn. A thread of the library's keeps it between its calls of the C library, and so does one of
//! Python's that gave the GIL up in the library's code (`PyEval_SaveThread` there, or `PyThreadState_Swap`). All others give
//! it up with the GIL. The log is written by who has the turn.
//!
//! Python's threads race in the same way where several are in the code of a library that does I/O, though it makes no thread:
//! there are turns for them as well, from when the first one gives the GIL up in such code after the program has made a
//! thread.
//!
//! A thread without the GIL that has the turn and only computes has it taken away: as far as the log knows it gave the turn up
//! behind the last call that we saw of it, and it waits for its turn where it makes the next one. One that neither computes nor
//! lets the turn go (it waits for something that we do not know) ends the recording, and everybody goes on without turns.

use crate::hot::hot;
use crate::schedule::{self, Actor};
use crate::session::{self, Mode};
use crate::{native_handlers, platform, time_stamps, user_threads};
use retrace_abi::gil;
use retrace_replay::event::{Event, Position};
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A thread that waits: for the turn, or for another thread to do something. Never freed.
#[derive(Default)]
pub struct Sleeper {
    /// 1 when it has got the turn.
    granted: AtomicU32,
    /// 1 when another thread has done what it waits for.
    woken: AtomicU32,
}

impl Sleeper {
    pub fn new() -> &'static Sleeper {
        Box::leak(Box::default())
    }
}

/// What a thread and those that want its turn know of it. A word's lowest bits say whether the thread has it, the others how
/// deep it is in functions of ours, where nobody may take it away.
#[derive(Default)]
#[repr(C)]
pub struct Hold {
    word: AtomicU32,
    /// How many functions of ours it has left without the GIL since it got the turn from another thread.
    passed: AtomicU64,
}

impl Hold {
    const HERE: u32 = 1;
    /// It was taken away, and the thread does not know yet.
    const AWAY: u32 = 2;
    const INSIDE: u32 = 4;

    /// Whether the thread has the turn.
    pub fn is_here(&self) -> bool {
        self.word.load(Ordering::Relaxed) & Hold::HERE != 0
    }

    /// Whether the thread neither has the turn nor had it taken away, and is in no function of ours.
    pub fn is_unused(&self) -> bool {
        self.word.load(Ordering::Relaxed) == 0
    }

    /// It got the turn from another thread.
    pub fn begins(&self) {
        self.passed.store(0, Ordering::Relaxed);
    }

    /// The thread, which is in a function of ours, gets the turn or gives it up.
    fn set(&self, is_here: bool) {
        // Relaxed: what the turn orders is ordered by the mutex that it changes hands under.
        self.word.fetch_and(!(Hold::HERE | Hold::AWAY), Ordering::Relaxed);
        if is_here {
            self.word.fetch_or(Hold::HERE, Ordering::Relaxed);
        }
    }

    /// The thread enters a function of ours. Returns whether the turn was taken away.
    fn enter(&self) -> bool {
        // Acquire pairs with the release of who took it.
        self.word.fetch_add(Hold::INSIDE, Ordering::Acquire) & Hold::AWAY != 0
    }

    /// The thread leaves a function of ours.
    fn leave(&self) {
        // Release: who takes the turn away next sees what was done in there.
        self.word.fetch_sub(Hold::INSIDE, Ordering::Release);
    }

    /// Nobody takes the turn away from the thread until what is returned is dropped.
    pub fn keep(&self) -> Kept<'_> {
        self.enter();
        Kept(self)
    }

    fn pass(&self) {
        self.passed.store(self.passed.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Takes the turn away from another thread, unless that is in a function of ours. Returns where it is then.
    fn take_away(&self) -> Option<Position> {
        self.word.compare_exchange(Hold::HERE, Hold::AWAY, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(Position::Between(self.passed.load(Ordering::Relaxed)))
    }
}

/// See [`Hold::keep`].
pub struct Kept<'a>(&'a Hold);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The calling thread is in a function of ours until this is dropped.
pub struct Inside {
    /// Null where there are no turns, or none for the thread.
    actor: *mut Actor,
}

/// The calling thread comes to a function of ours from code of a library's. It has to call this before it asks whether it has
/// the turn: that may have been taken away meanwhile, and then it waits for it here.
#[inline(always)]
pub fn enter() -> Inside {
    if are_on() { enter_with_turns() } else { Inside { actor: ptr::null_mut() } }
}

#[inline(never)]
fn enter_with_turns() -> Inside {
    // SAFETY: an actor is its thread's own, or null. A signal's handler is not where the thread is.
    unsafe {
        let actor = own_actor();
        let counts = !actor.is_null() && matches!(native_handlers::mode(), Mode::Recording | Mode::Replaying);
        if !counts {
            return Inside { actor: ptr::null_mut() };
        }
        if session::mode() == Mode::Recording && (*actor).turn.enter() {
            let errno = platform::errno();
            take(actor);
            platform::set_errno(errno);
        }
        Inside { actor }
    }
}

impl Drop for Inside {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.actor.is_null() {
            // SAFETY: made above, on this thread.
            unsafe { leave_inside(self.actor) };
        }
    }
}

#[inline(never)]
unsafe fn leave_inside(actor: *mut Actor) {
    // SAFETY: by the caller; the thread's own actor.
    unsafe {
        if user_threads::are_used() {
            if session::mode() == Mode::Replaying && are_on() {
                user_threads::passed();
            }
            return;
        }
        let hold = &(*actor).turn;
        if hold.is_here() && !(*actor).holds_gil() && !(*actor).is_external() {
            hold.pass();
        }
        hold.leave();
    }
}

/// A time that a wait is over.
#[derive(Clone, Copy)]
pub struct Deadline {
    pub clock: libc::clockid_t,
    pub at: libc::timespec,
}

impl Deadline {
    /// In so much time from now.
    pub fn after(time: libc::timespec) -> Deadline {
        let clock = libc::CLOCK_MONOTONIC;
        let now = now(clock);
        let (mut tv_sec, mut tv_nsec) = (now.tv_sec.saturating_add(time.tv_sec), now.tv_nsec + time.tv_nsec);
        if tv_nsec >= 1_000_000_000 {
            (tv_sec, tv_nsec) = (tv_sec.saturating_add(1), tv_nsec - 1_000_000_000);
        }
        Deadline { clock, at: libc::timespec { tv_sec, tv_nsec } }
    }

    /// How many microseconds are left.
    fn left(self) -> i64 {
        let now = now(self.clock);
        let seconds = self.at.tv_sec.saturating_sub(now.tv_sec).clamp(-1, 3600);
        seconds * 1_000_000 + (self.at.tv_nsec - now.tv_nsec + 999) / 1000
    }
}

fn now(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}

/// Whether there are turns, in this session.
#[inline(always)]
fn active() -> &'static AtomicBool {
    // SAFETY: an atomic, in a static.
    unsafe { &(*hot()).has_turns }
}

/// Whether the recording is to end: somebody kept the turn.
#[inline(always)]
fn kept() -> &'static AtomicBool {
    // SAFETY: as above.
    unsafe { &(*hot()).turn_was_kept }
}

struct Turn {
    holder: *mut Actor,
    waiting: VecDeque<(&'static Sleeper, *mut Actor)>,
    /// Counts the times that it was given.
    given: u64,
}

// SAFETY: actors are never freed while they have the turn or wait for it.
unsafe impl Send for Turn {}

/// What is shared while there are turns. A child of a fork begins with another one: a thread that is not in it may have
/// been at this one.
struct Shared {
    turn: Mutex<Turn>,
    /// Who waits at which address.
    waits: Mutex<HashMap<usize, VecDeque<&'static Sleeper>>>,
}

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(ptr::null_mut());
/// How many there are in `Shared::waits`. Changed under its lock.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A mutex of ours, also where a thread has panicked with it.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shared() -> Option<&'static Shared> {
    // SAFETY: never freed. Acquire pairs with the release in `begin`.
    unsafe { SHARED.load(Ordering::Acquire).as_ref() }
}

/// Whether there are turns.
#[inline(always)]
pub fn are_on() -> bool {
    active().load(Ordering::Relaxed)
}

unsafe fn own_actor() -> *mut Actor {
    // SAFETY: the thread's own value.
    unsafe { gil::retrace_actor().cast() }
}

/// Whether the calling thread has the turn.
pub fn has() -> bool {
    // SAFETY: an actor is its thread's own, or null; replay's threads are asked on its one thread only.
    unsafe {
        let actor = own_actor();
        if !are_on() || actor.is_null() {
            return false;
        }
        if session::mode() == Mode::Replaying { user_threads::has_turn() } else { (*actor).turn.is_here() }
    }
}

/// Whether something that others change in their turns is so, and is so at this place on replay, too: the turn, without which
/// the calling thread may have got here, was still its own after it looked.
pub fn saw(is_so: impl FnOnce() -> bool) -> bool {
    are_on() && is_so() && has()
}

/// From now on there are turns, and the calling thread has it.
///
/// # Safety
/// In a session; the GIL is held by the calling thread, which is one of the program's.
pub unsafe fn begin() {
    if are_on() || kept().load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: by contract.
    unsafe {
        start_with(own_actor());
        if session::mode() == Mode::Replaying {
            time_stamps::answer();
        }
        schedule::hand_over_plainly(false);
        active().store(true, Ordering::Release);
    }
}

unsafe fn start_with(holder: *mut Actor) {
    WAITING.store(0, Ordering::Relaxed);
    let turn = Mutex::new(Turn { holder, waiting: VecDeque::new(), given: 0 });
    SHARED.store(Box::into_raw(Box::new(Shared { turn, waits: Mutex::default() })), Ordering::Release);
    // SAFETY: the caller's own actor.
    unsafe { (*holder).turn.set(true) };
}

/// In the child of a fork: nobody else is there.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn forked() {
    if are_on() {
        // SAFETY: by contract.
        unsafe { start_with(own_actor()) };
    }
}

/// In the child of a fork of which nothing is recorded.
pub fn forget() {
    active().store(false, Ordering::Release);
    SHARED.store(ptr::null_mut(), Ordering::Release);
}

/// The process ends, and the calling thread has no GIL any more: it waits for its turn once more, so that nobody else is
/// writing to the log.
///
/// # Safety
/// In a session.
pub unsafe fn take_last() {
    // SAFETY: by contract; the thread's own actor.
    unsafe {
        if !are_on() {
            return;
        }
        let actor = own_actor();
        if session::mode() == Mode::Replaying {
            user_threads::take_last_turn();
        } else if !actor.is_null() {
            take_unless_here(actor);
        }
    }
}

/// The session ends: everybody goes on as they like.
pub fn end() {
    active().store(false, Ordering::Release);
    let Some(shared) = shared() else { return };
    for (sleeper, _) in locked(&shared.turn).waiting.drain(..) {
        sleeper.granted.store(1, Ordering::Release);
        platform::wake_all(&sleeper.granted);
    }
}

/// Whether the recording is to end for a thread that kept the turn; said once.
pub fn was_kept() -> bool {
    kept().load(Ordering::Relaxed) && kept().swap(false, Ordering::Relaxed)
}

// ---- recording ----

/// The calling thread gives the turn to the next one. `actor.last` says where it is.
///
/// # Safety
/// Recording; the calling thread, whose actor it is, has the turn.
pub unsafe fn hand_over(actor: *mut Actor) {
    let Some(shared) = shared() else { return };
    let turn = locked(&shared.turn);
    // SAFETY: by contract.
    unsafe { (*actor).turn.set(false) };
    give_to_next(turn);
}

fn give_to_next(mut turn: MutexGuard<'_, Turn>) {
    turn.given += 1;
    turn.holder = ptr::null_mut();
    if let Some((sleeper, next)) = turn.waiting.pop_front() {
        turn.holder = next;
        drop(turn);
        sleeper.granted.store(1, Ordering::Release);
        platform::wake_all(&sleeper.granted);
    }
}

/// The calling thread waits for the turn if it has not got it.
///
/// # Safety
/// Recording; `actor` is the calling thread's.
pub unsafe fn take_unless_here(actor: *mut Actor) {
    // SAFETY: by contract. Nobody may take the turn away between the two.
    unsafe {
        let taken_away = (*actor).turn.enter();
        if taken_away || !(*actor).turn.is_here() {
            take(actor);
        }
        (*actor).turn.leave();
    }
}

/// The calling thread waits for the turn, and logs that it has got it.
///
/// # Safety
/// Recording; `actor` is the calling thread's, which has not the turn and is in a function of ours.
pub unsafe fn take(actor: *mut Actor) {
    let Some(shared) = shared() else { return };
    // SAFETY: by contract.
    unsafe {
        let sleeper = (*actor).sleeper();
        (*actor).learn_tid();
        let mut turn = locked(&shared.turn);
        if turn.holder.is_null() {
            turn.holder = actor;
        } else {
            sleeper.granted.store(0, Ordering::Relaxed);
            turn.waiting.push_back((sleeper, actor));
            drop(turn);
            wait_for_grant(shared, sleeper);
        }
        if are_on() && session::mode() == Mode::Recording {
            (*actor).turn.set(true);
            schedule::went_on(actor);
        } else {
            (*actor).turn.set(false);
        }
    }
}

/// How long to wait before looking what the holder does, in microseconds.
const LOOK_US: i64 = 5_000;
/// How long a holder may wait for something unknown, in looks at which nothing else in the process goes on either …
const LOOKS_ASLEEP: u32 = 40;
/// … and at all.
const MOST_LOOKS_ASLEEP: u32 = 400;
/// How long a thread without the GIL may compute before the turn is taken away, in microseconds of its own time, where it makes
/// no call that we see: long for lists and flags that a library guards without a lock, short for who waits for an answer …
const COMPUTES_US: u64 = 20_000;
/// … and where it does …
const WORKS_US: u64 = 500_000;
/// … and how long any thread may where the turn can't be taken away. One that has the GIL makes others wait unrecorded, too, but
/// for those that need none.
const MOST_US: u64 = 60_000_000;

/// Waits for the turn. Whoever keeps it with the GIL is asked to give that up; whoever computes has it taken away; whoever keeps
/// it for nothing that is known ends the recording.
unsafe fn wait_for_grant(shared: &Shared, sleeper: &Sleeper) {
    let mut seen = Seen::default();
    while sleeper.granted.load(Ordering::Acquire) == 0 {
        platform::wait_for_change(&sleeper.granted, 0, LOOK_US);
        if sleeper.granted.load(Ordering::Acquire) != 0 {
            return;
        }
        let turn = locked(&shared.turn);
        if turn.holder.is_null() {
            continue;
        }
        // SAFETY: an actor that has the turn is not freed before it has given it up, which takes the lock that is held.
        let holder = unsafe { &*turn.holder };
        let (tid, with_gil, passed) = (holder.tid(), holder.holds_gil(), holder.turn.passed.load(Ordering::Relaxed));
        let given = turn.given;
        drop(turn);
        if with_gil {
            // SAFETY: flags of CPython's, which any thread may set.
            unsafe { gil::retrace_ask_for_turn() };
        }
        let cpu = platform::thread_cpu_us(tid);
        if seen.given != Some(given) || seen.with_gil != with_gil {
            seen =
                Seen { given: Some(given), with_gil, passed, since_given: cpu, since_passed: cpu, ..Seen::default() };
            continue;
        }
        if seen.passed != passed {
            (seen.passed, seen.since_passed) = (passed, cpu);
        }
        let computed = cpu.saturating_sub(seen.since_given);
        if computed == 0 && platform::is_thread_asleep(tid) {
            seen.asleep += 1;
            // Another thread may have what the holder waits for (the allocator's lock), and no processor to go on with.
            seen.idle += u32::from(!platform::other_threads_run(&waiting_tids(shared)));
        } else {
            (seen.asleep, seen.idle) = (0, 0);
        }
        let only_computes = cpu.saturating_sub(seen.since_passed) > COMPUTES_US || computed > WORKS_US;
        if only_computes && !with_gil && take_away(shared, given) {
            continue;
        }
        if seen.idle > LOOKS_ASLEEP || seen.asleep > MOST_LOOKS_ASLEEP || computed > MOST_US {
            kept().store(true, Ordering::Relaxed);
            end();
        }
    }
}

/// What a thread that waits for the turn has seen of the one that has it.
#[derive(Default)]
struct Seen {
    /// `Turn::given` when that one got it.
    given: Option<u64>,
    with_gil: bool,
    /// How many calls it had made at the last look.
    passed: u64,
    /// Its time at the first look, and at the first one after its last call, in microseconds.
    since_given: u64,
    since_passed: u64,
    /// Looks at which it slept, and those at which nothing else went on either.
    asleep: u32,
    idle: u32,
}

/// Takes the turn from the thread that has had it since it was given for the `given`-th time, and gives it to the next one.
/// Returns whether it went.
fn take_away(shared: &Shared, given: u64) -> bool {
    let turn = locked(&shared.turn);
    if turn.given != given || turn.holder.is_null() {
        return true;
    }
    // SAFETY: as in `wait_for_grant`. The thread touches what is read and written here in functions of ours only, and enters
    // none without seeing that the turn is gone.
    unsafe {
        let holder = turn.holder;
        let Some(position) = (*holder).turn.take_away() else { return false };
        (*holder).last = position;
    }
    give_to_next(turn);
    true
}

/// The numbers of those that wait for the turn: the calling thread's is among them, if it has not just got it.
fn waiting_tids(shared: &Shared) -> Vec<i32> {
    let turn = locked(&shared.turn);
    // SAFETY: an actor that waits is not freed before it has had the turn, and given it up, which takes the lock that is held.
    turn.waiting.iter().map(|&(_, actor)| unsafe { (*actor).tid() }).collect()
}

/// The calling thread, which has the turn, comes to a place where it may give that up.
unsafe fn note_place(actor: *mut Actor) {
    // SAFETY: by the callers' contract.
    unsafe {
        if let Some(position) = (*actor).position_in_call() {
            (*actor).last = position;
        } else {
            (*actor).releases += 1;
            schedule::step();
            (*actor).last = Position::Released((*actor).releases);
        }
    }
}

/// The calling thread gives the turn up.
unsafe fn give_up(actor: *mut Actor) {
    // SAFETY: by the callers' contract.
    unsafe {
        note_place(actor);
        hand_over(actor);
    }
}

/// # Safety
/// Called by cshim/gil.c: the calling thread, without the GIL, is about to wait for a lock of CPython's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_turn_given_up(actor: *mut Actor) {
    // SAFETY: by contract.
    unsafe {
        let _inside = enter();
        if session::mode() == Mode::Recording && are_on() && (*actor).turn.is_here() {
            give_up(actor);
        }
    }
}

// ---- in both directions ----

/// Calls what may wait: others may have the turn meanwhile. Replaying, the call is not made, and `work` only says what came
/// of it.
///
/// # Safety
/// In a session; the calling thread has the turn.
pub unsafe fn without<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying {
            user_threads::pause();
            return work();
        }
        let actor = own_actor();
        give_up(actor);
        let result = work();
        let errno = platform::errno();
        if are_on() {
            take(actor);
        }
        platform::set_errno(errno);
        result
    }
}

/// The calling thread keeps the turn where it might give it up. On replay this is a place like any other: the log has no
/// switch there.
///
/// # Safety
/// As [`without`], and recording.
pub unsafe fn pass_up() {
    // SAFETY: by contract.
    unsafe { note_place(own_actor()) };
}

/// Gives the turn up for good, until the GIL is taken or the thread ends.
///
/// # Safety
/// As [`without`].
pub unsafe fn leave() {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying {
            user_threads::leave_turn();
        } else {
            give_up(own_actor());
        }
    }
}

unsafe fn own_sleeper() -> &'static Sleeper {
    // SAFETY: by the callers' contract.
    unsafe { if session::mode() == Mode::Replaying { user_threads::sleeper() } else { (*own_actor()).sleeper() } }
}

/// Waits at an address until somebody wakes who waits there, or it is too late. Returns whether it was woken.
/// `once_waiting` is what others may see as soon as it can be woken.
///
/// # Safety
/// As [`without`].
pub unsafe fn wait_at(address: usize, until: Option<Deadline>, once_waiting: impl FnOnce()) -> bool {
    let Some(shared) = shared() else { return true };
    // SAFETY: by contract.
    unsafe {
        let sleeper = own_sleeper();
        sleeper.woken.store(0, Ordering::Relaxed);
        {
            let mut waits = locked(&shared.waits);
            waits.entry(address).or_default().push_back(sleeper);
            // Relaxed: whoever is to see it comes after `once_waiting`, or has the turn after this thread.
            WAITING.fetch_add(1, Ordering::Relaxed);
        }
        once_waiting();
        without(|| {
            if session::mode() == Mode::Recording {
                sleep(sleeper, until);
            }
        });
        if sleeper.woken.load(Ordering::Acquire) != 0 {
            return true;
        }
        if let Some(waiting) = locked(&shared.waits).get_mut(&address) {
            let before = waiting.len();
            waiting.retain(|other| !ptr::eq(*other, sleeper));
            WAITING.fetch_sub(before - waiting.len(), Ordering::Relaxed);
        }
        crate::library_waits::timed_out(until.is_some());
        false
    }
}

fn sleep(sleeper: &Sleeper, until: Option<Deadline>) {
    while sleeper.woken.load(Ordering::Acquire) == 0 {
        let left = until.map_or(1_000_000, Deadline::left);
        if left <= 0 {
            return;
        }
        platform::wait_for_change(&sleeper.woken, 0, left);
    }
}

/// Wakes no more than `most` of those that wait at an address. Returns how many there were.
pub fn wake(address: usize, most: usize) -> usize {
    if WAITING.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    let Some(shared) = shared() else { return 0 };
    let mut waits = locked(&shared.waits);
    let Some(waiting) = waits.get_mut(&address) else { return 0 };
    let mut count = 0;
    while count < most {
        let Some(sleeper) = waiting.pop_front() else { break };
        WAITING.fetch_sub(1, Ordering::Relaxed);
        sleeper.woken.store(1, Ordering::Release);
        platform::wake_all(&sleeper.woken);
        count += 1;
    }
    if waiting.is_empty() {
        waits.remove(&address);
    }
    count
}

/// The calling thread's number.
///
/// # Safety
/// As [`without`].
pub unsafe fn own_number() -> u64 {
    // SAFETY: by contract.
    unsafe { if session::mode() == Mode::Replaying { user_threads::running() as u64 } else { (*own_actor()).serial } }
}

/// Whether what happens on the calling thread is a part of an external call.
///
/// # Safety
/// As [`without`].
pub unsafe fn is_in_call() -> bool {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying { user_threads::is_in_call() } else { (*own_actor()).is_external() }
    }
}

/// The calling thread makes a thread: logged by the recording, met by the replay.
///
/// # Safety
/// Recording; the calling thread has the turn.
pub unsafe fn append_thread(serial: u64, ident: u64, error: c_int) {
    // SAFETY: by contract.
    unsafe { session::append_event(&Event::Thread { serial, ident, kind: schedule::LIBRARY, error }) };
}
