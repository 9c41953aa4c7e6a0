//! A program with one thread does not pay for the helper's. With a second thread glibc makes atomic operations of what
//! `malloc`, its locks and its cancellation points do, which adds up to 25 ns to a call that gives the GIL up. But while the
//! helper waits for work, or faults pages in by a system call, it does nothing that another thread could see; so as long as it
//! does, and there is no third thread, the process is told that it has one. Who has other work for the helper takes that back
//! first.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering};

use crate::platform;

/// Of a process that had one thread when the helper was started.
pub(crate) struct Alone {
    flag: &'static AtomicU8,
    /// [`platform::count_threads`] of that one.
    count: u64,
}

impl Alone {
    /// To be called before the helper is started. `None` where the C library does not take this for the only thread.
    pub(crate) fn new() -> Option<Alone> {
        let flag = platform::single_threaded().filter(|flag| flag.load(Ordering::Relaxed) != 0)?;
        Some(Alone { flag, count: platform::count_threads()? })
    }

    /// The helper is about to get work. Relaxed, here and below: only this thread writes the flag while it is up, and what
    /// wakes the helper orders the rest.
    pub(crate) fn end(&self) {
        self.flag.store(0, Ordering::Relaxed);
    }

    /// There is no thread that does anything but the calling one, and `idle` that wait until this one wakes them.
    pub(crate) fn begin(&self, idle: u64) {
        let is_alone = || platform::count_threads() == Some(self.count + idle);
        if is_alone() {
            self.flag.store(1, Ordering::Relaxed);
            // Nobody else was there who could have made a thread meanwhile, but a signal's handler.
            if !is_alone() {
                self.flag.store(0, Ordering::Relaxed);
            }
        }
    }
}
