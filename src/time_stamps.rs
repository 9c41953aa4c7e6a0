//! The processor's time stamp counter, which C code may read without asking anybody. It is not recorded. On replay, code
//! that may compare it with the clocks (how fast does it count?) reads a counter that goes with the recorded clocks: a tick
//! a nanosecond.

use crate::platform;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static ARE_ANSWERED: AtomicBool = AtomicBool::new(false);
/// What is read next: what the clock that was asked last said.
static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
/// What is added to a clock's nanoseconds; 0 until it was asked. The clocks differ in where they began.
static OFFSETS: [AtomicU64; CLOCKS] = [const { AtomicU64::new(0) }; CLOCKS];
/// More than the numbers of the clocks that never go back.
const CLOCKS: usize = 8;

/// Has the counter answered by us from now on.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn answer() {
    if !ARE_ANSWERED.swap(true, Ordering::Relaxed) {
        // SAFETY: by contract.
        unsafe { platform::answer_time_stamps(read) };
    }
}

/// C code has been told the time by a clock.
pub fn clock_read(clock: c_int, time: &libc::timespec) {
    if !ARE_ANSWERED.load(Ordering::Relaxed) {
        return;
    }
    let Some(offset) = usize::try_from(clock).ok().and_then(|clock| OFFSETS.get(clock)) else { return };
    let now = (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64);
    if offset.load(Ordering::Relaxed) == 0 {
        offset.store(NEXT.load(Ordering::Relaxed).wrapping_sub(now), Ordering::Relaxed);
    }
    // Whoever compares the two asks the same clock again: not even to keep the counter from going back a little, where
    // different clocks were asked, may it differ from what that clock says.
    NEXT.store(now.wrapping_add(offset.load(Ordering::Relaxed)), Ordering::Relaxed);
}

extern "C" fn read() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}
