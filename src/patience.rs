//! How long a replay goes on without coming to what the recording says next. A thread that waits for a variable that no
//! other thread is going to set, because the switch to that one is damaged, would run for ever: it makes no calls. A timer
//! has the running thread stop at a check of the eval breaker now and then, and there the replay's time since the last
//! event is compared with the recording's.

use crate::replay::{self, Front};
use crate::{divergence, platform, schedule, user_threads};
use retrace_abi::gil;
use retrace_replay::event::{Fingerprint, Position};
use std::sync::atomic::{AtomicBool, Ordering};

/// In microseconds.
const INTERVAL: u64 = 500_000;
/// What a replay may take in any case, in seconds.
const SECONDS: u64 = 10;
/// How much slower a search for a position may be than the recording was: each check costs a fingerprint, a deep one at worst.
const SEARCH: u64 = 200;
/// And a replay that searches for nothing.
const RUN: u64 = 20;

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
        }
    }
}

extern "C" fn ask(_: i32) {
    ASKED.store(true, Ordering::Relaxed);
    // SAFETY: two plain stores.
    unsafe { gil::retrace_request_check() };
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
    static mut BEGAN: (u64, u64) = (u64::MAX, 0);
    // SAFETY: by contract.
    unsafe {
        let (event, now) = (replay::source().index().0, schedule::cpu_us());
        if BEGAN.0 != event {
            BEGAN = (event, now);
        }
        let recorded = match wanted() {
            Some(wanted) => wanted.cpu_us.saturating_sub(user_threads::last_cpu_us()).saturating_mul(SEARCH),
            None => RECORDED.saturating_mul(RUN),
        };
        let allowed = AT_LEAST.saturating_add(recorded);
        if now - BEGAN.1 > allowed {
            let seconds = (now - BEGAN.1) / 1_000_000;
            divergence::out_of_patience(format!(
                "nothing of it in {seconds} s of CPU time, very much longer than the recording ran there"
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
        | Front::Collect(wanted) => Some(wanted),
        _ => None,
    }
}
