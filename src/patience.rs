//! How long a replay goes on without coming to what the recording says next. A thread that waits for a variable that no
//! other thread is going to set, because the switch to that one is damaged, would run for ever: it makes no calls. A timer
//! has the running thread stop at a check of the eval breaker now and then, and there the replay's time since the last
//! event is compared with the recording's.

use crate::replay::{self, Front};
use crate::{divergence, platform, schedule, session, user_threads};
use retrace_abi::gil;
use retrace_replay::event::{Fingerprint, Position};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// In microseconds.
const INTERVAL: u64 = 500_000;
/// What a replay may take in any case, in seconds.
const SECONDS: u64 = 10;
/// How much slower a search for a position may be than the recording was: each check costs a fingerprint, a deep one at worst.
const SEARCH: u64 = 200;
/// More checks than this in a microsecond of the recording's CPU time no thread passes: one in 4 ns.
const CHECKS_PER_US: u64 = 250;
/// How much slower than the whole recording a replay may be between two events, where it searches for nothing.
const RUN: u64 = 5;
/// How many intervals a report from the timer's handler may take.
const REPORT: u32 = 10;
/// A replay that takes less of an interval than this, in microseconds, does nothing.
const IDLE: u64 = 1000;

/// The command line's: other seconds than ten.
pub const VARIABLE: &str = "RETRACE_PATIENCE";

static ASKED: AtomicBool = AtomicBool::new(false);
/// How long the recording took, in microseconds: from its start until its file was changed last.
static mut RECORDED: u64 = 0;
static mut AT_LEAST: u64 = SECONDS * 1_000_000;

/// What the command line says, taken out of the environment.
///
/// # Safety
/// Before the interpreter is initialised: this thread is the only one.
pub unsafe fn from_environment() {
    if let Some(seconds) = std::env::var(VARIABLE).ok().and_then(|text| text.parse::<u64>().ok()) {
        // SAFETY: by contract.
        unsafe { AT_LEAST = seconds.saturating_mul(1_000_000) };
    }
}

/// The replay begins. A debugger's user sees for himself that it does not come on.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn begin(started_ns: u64, trace: &std::path::Path) {
    let changed = std::fs::metadata(trace).and_then(|file| file.modified()).ok();
    let changed = changed.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    // SAFETY: by contract; the handler only sets flags.
    unsafe {
        RECORDED = changed.map_or(0, |time| (time.as_nanos() as u64).saturating_sub(started_ns) / 1000);
        if !crate::timeline::is_on() {
            platform::start_timer(INTERVAL, ask);
            platform::end_with_parent();
        }
    }
}

extern "C" fn ask(_: i32) {
    let has_answered = !ASKED.swap(true, Ordering::Relaxed);
    // SAFETY: two plain stores; on the replay's one thread.
    unsafe {
        gil::retrace_request_check();
        notice_idleness();
        notice_endless_code(has_answered);
    }
}

/// Counts the CPU time since a check of the eval breaker or an event.
unsafe fn notice_endless_code(has_answered: bool) {
    /// Event and CPU time.
    static mut BEGAN: (u64, u64) = (u64::MAX, 0);
    static GIVEN_UP: AtomicU32 = AtomicU32::new(0);
    // SAFETY: one thread.
    unsafe {
        let (event, now) = (replay::source().index().0, process_cpu_us());
        if GIVEN_UP.load(Ordering::Relaxed) > 0 {
            // The report does not get on: the code that was interrupted has a lock that it needs (the allocator's).
            if GIVEN_UP.fetch_add(1, Ordering::Relaxed) > REPORT {
                divergence::report_in_handler(event);
            }
            return;
        }
        if has_answered || BEGAN.0 != event || now < BEGAN.1 {
            BEGAN = (event, now);
        }
        let taken = now - BEGAN.1;
        if session::is_replaying() && taken > AT_LEAST && taken - AT_LEAST > RECORDED.saturating_mul(RUN) {
            GIVEN_UP.store(1, Ordering::Relaxed);
            platform::let_timer_interrupt();
            divergence::out_of_patience(format!(
                "nothing of it in {} s of CPU time, in which C code ran on",
                taken / 1_000_000
            ));
        }
    }
}

/// Counts the intervals in a row in which the process did nothing and came to no event; a stopped one is asked only once
/// it goes on. Writing the program's output may wait for whoever reads it.
unsafe fn notice_idleness() {
    static mut LAST: (u64, u64, u64) = (0, 0, 0);
    // SAFETY: one thread; a process that does nothing is not in the middle of anything.
    unsafe {
        let (event, time) = (replay::source().index().0, process_cpu_us());
        let idle = event == LAST.0 && time - LAST.1 < IDLE && !crate::console::is_writing();
        LAST = (event, time, if idle { LAST.2 + 1 } else { 0 });
        if session::is_replaying() && LAST.2 * INTERVAL > 2 * AT_LEAST {
            divergence::out_of_patience(format!("nothing at all for {} s", LAST.2 * INTERVAL / 1_000_000));
        }
    }
}

fn process_cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// The running thread is at a check of the eval breaker.
///
/// # Safety
/// Replaying; the GIL's mutex is held.
pub unsafe fn at_check() {
    if ASKED.swap(false, Ordering::Relaxed) {
        // SAFETY: by contract.
        unsafe { look() };
    }
}

/// Stops a replay that has gone on for very much longer than the recording did.
///
/// # Safety
/// As [`at_check`].
pub unsafe fn look() {
    /// Event, CPU time and checks.
    static mut BEGAN: (u64, u64, u64) = (u64::MAX, 0, 0);
    // SAFETY: by contract.
    unsafe {
        let (event, now, checks) = (replay::source().index().0, schedule::cpu_us(), user_threads::checks());
        // A copy that the debugger has made begins with no time of its own.
        if BEGAN.0 != event || checks < BEGAN.2 || now < BEGAN.1 {
            BEGAN = (event, now, checks);
        }
        let taken = now - BEGAN.1;
        let is_enough = taken > AT_LEAST
            && match wanted() {
                Some(wanted) => {
                    let recorded = wanted.cpu_us.saturating_sub(user_threads::last_cpu_us().0);
                    taken - AT_LEAST > recorded.saturating_mul(SEARCH)
                        || checks - BEGAN.2 > recorded.saturating_mul(CHECKS_PER_US)
                }
                None => taken - AT_LEAST > RECORDED.saturating_mul(RUN),
            };
        if is_enough {
            divergence::out_of_patience(format!(
                "nothing of it in {} s of CPU time, very much longer than the recording ran there",
                taken / 1_000_000
            ));
        }
    }
}

/// The position that is looked for.
unsafe fn wanted() -> Option<Fingerprint> {
    // SAFETY: by the contract of `look`.
    match unsafe { replay::front() } {
        Front::Switch { from: Position::Check(wanted), .. }
        | Front::Signal { at: Position::Check(wanted), .. }
        | Front::Pending { at: Position::Check(wanted), .. }
        | Front::Collect(wanted) => Some(wanted),
        _ => None,
    }
}
