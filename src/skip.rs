//! The way to a position that is far. Each check that is compared with it costs as much as some lines of Python. But the
//! recording says how much CPU time its thread had taken by then; so most of that is passed without looking, and only the
//! rest is searched. Where the position was passed as well, the attempt ends in doubt, and the next one looks at all checks
//! (`crate::attempt`).

use crate::gil::GilCell;
use crate::replay::Front;
use crate::{attempt, divergence, platform, replay, schedule, user_threads};
use retrace_abi::gil;
use retrace_replay::event::Position;

/// What is not worth it, in microseconds.
const SHORT_US: u64 = 30_000;
/// How much of the way is passed over, in percent: this machine may be faster than the recording's, or less busy.
const PASSED: u64 = 75;
/// The way from the thread's last position to the last event took the recording at most so much of what it took here, in
/// percent.
const BEFORE: u64 = 150;
/// So many times the recorded time after which the position must have been passed, and microseconds beside.
const MOST: u64 = 3;
const MORE_US: u64 = 200_000;
/// One of so many checks at which the clock is looked at: they are few, but it is slow.
const LOOK: u64 = 16;

/// In CPU time of this thread, in microseconds.
#[derive(Clone, Copy)]
struct Way {
    /// The next event's process and index.
    event: (u32, u64),
    /// What is before this is passed over; 0 where nothing is.
    until: u64,
    /// Nothing is to be found behind this.
    end: u64,
}

static WAY: GilCell<Option<Way>> = GilCell::new(None);
/// Nothing is looked for now.
static mut IS_ON: bool = false;

/// Whether the position of the next event is too far to look for it yet.
///
/// # Safety
/// Replaying, between events.
pub unsafe fn is_far() -> bool {
    // SAFETY: one thread.
    unsafe { IS_ON }
}

/// The running thread goes to the next event, which is at a check.
///
/// # Safety
/// Replaying, between events; the GIL is held.
pub unsafe fn begin() {
    // SAFETY: by contract; the handler only sets flags.
    unsafe {
        if !attempt::may_skip() {
            return;
        }
        let event = (replay::source().process(), replay::source().index().0);
        if WAY.get().is_some_and(|way| way.event == event) {
            return;
        }
        let (Front::Switch { from: Position::Check(at), .. }
        | Front::Pending { at: Position::Check(at), .. }
        | Front::Signal { at: Position::Check(at), .. }
        | Front::Collect(at)) = replay::front()
        else {
            return;
        };
        let (recorded, begun) = user_threads::last_cpu_us();
        let recorded = at.cpu_us.saturating_sub(recorded);
        *WAY.get() = Some(Way { event, until: 0, end: u64::MAX });
        if recorded < SHORT_US {
            return;
        }
        let now = schedule::cpu_us();
        let left = recorded.saturating_sub(now.saturating_sub(begun) * BEFORE / 100);
        if left < SHORT_US {
            return;
        }
        let way = Way { event, until: now + left * PASSED / 100, end: now + recorded * MOST + MORE_US };
        if platform::wake_after(way.until - now, wake) {
            *WAY.get() = Some(way);
            IS_ON = true;
            attempt::has_skipped();
        }
    }
}

extern "C" fn wake(_: i32) {
    // SAFETY: two plain stores; on the replay's one thread.
    unsafe { gil::retrace_request_check() };
}

/// Another thread goes on: what was said of the next event was not for that.
///
/// # Safety
/// As [`begin`].
pub unsafe fn forget() {
    // SAFETY: by contract.
    unsafe {
        *WAY.get() = None;
        IS_ON = false;
    }
}

/// The running thread is at a check.
///
/// # Safety
/// Replaying; the GIL's mutex is held.
pub unsafe fn at_check() {
    static mut CHECKS: u64 = 0;
    // SAFETY: by contract; the handler only sets flags.
    unsafe {
        let Some(way) = *WAY.get() else { return };
        if way.until == 0 {
            return;
        }
        CHECKS += 1;
        if !IS_ON && !CHECKS.is_multiple_of(LOOK) {
            return;
        }
        let now = schedule::cpu_us();
        if IS_ON && now < way.until {
            IS_ON = platform::wake_after(way.until - now, wake);
        } else if IS_ON {
            IS_ON = false;
        } else if now > way.end && way.event == (replay::source().process(), replay::source().index().0) {
            divergence::out_of_patience("nothing of it where it must have been passed".into());
        }
    }
}
