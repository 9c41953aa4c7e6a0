//! The order of writes to stdout and stderr. A write gives the GIL up, so its event stands where its thread took the GIL
//! again, which says nothing about when the kernel wrote. Where threads write to one file at once, we let them do it one
//! after the other, as the kernel does; and a write whose event comes before that of an earlier one says so in the log.
//! Replay shows it after that.
//!
//! What is written elsewhere is not shown on replay, and its order does not matter. Whether a descriptor is stdout or stderr
//! is told by its file: a program has duplicates of them, and both may be one terminal.
//!
//! A writer waits here only while the kernel would have it wait: for another one's write, which is short or blocks both.
//! Signals end the wait as they end a write. What a program with one thread pays is a test.

use crate::imports::{self, Binding};
use crate::{platform, schedule};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// How many files are watched. Tests have each their own.
const FILES: usize = if cfg!(test) { 8 } else { 2 };
/// How many threads may be between a write and its event at once; the writes of more are logged as they come.
const WRITERS: usize = 64;
/// How long to wait before asking whether the kernel would let this writer write.
const PATIENCE_US: i64 = 50_000;

// ---- one writer at a time ----

const FREE: u32 = 0;
/// Set in a lock where somebody waits for it.
const AWAITED: u32 = 1 << 31;

/// A file's lock: free, or the token of the thread that writes.
struct Lock(AtomicU32);

static LOCKS: [Lock; FILES] = [const { Lock(AtomicU32::new(FREE)) }; FILES];

impl Lock {
    /// False where a signal's handler has run meanwhile: no write has begun. Acquire pairs with the release in
    /// [`Lock::release`]: who wrote before is seen in [`PENDING`].
    fn take(&self, fd: c_int, token: u32) -> bool {
        loop {
            let held = match self.0.compare_exchange(FREE, token, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(held) => held,
            };
            let awaited = held | AWAITED;
            if held != awaited && self.0.compare_exchange(held, awaited, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                continue;
            }
            match platform::wait_for_change(&self.0, awaited, PATIENCE_US) {
                platform::Waited::Interrupted => return false,
                platform::Waited::Changed => {}
                // The holder may have opened the file anew, and waits where this one would not; or it is a thread of the
                // process that this one was forked from.
                platform::Waited::TimedOut if takes_more(fd) => {
                    self.0.store(token | AWAITED, Ordering::Relaxed);
                    return true;
                }
                platform::Waited::TimedOut => {}
            }
        }
    }

    /// Gives the lock up, unless somebody has taken it over.
    fn release(&self, token: u32) {
        if self.0.compare_exchange(token, FREE, Ordering::Release, Ordering::Relaxed).is_ok() {
            return;
        }
        if self.0.compare_exchange(token | AWAITED, FREE, Ordering::Release, Ordering::Relaxed).is_ok() {
            platform::wake_all(&self.0);
        }
    }
}

/// Whether a write would not block.
fn takes_more(fd: c_int) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one structure; flags of a number that may be none.
    unsafe {
        let never_blocks = libc::fcntl(fd, libc::F_GETFL) & libc::O_NONBLOCK != 0;
        never_blocks || libc::poll(&mut asked, 1, 0) != 0
    }
}

// ---- which files ----

/// A file of the system's: its device and its number there. Nothing has both 0.
struct File {
    device: AtomicU64,
    inode: AtomicU64,
}

/// Stdout and stderr when the session began.
static SHOWN: [File; 2] = [const { File { device: AtomicU64::new(0), inode: AtomicU64::new(0) } }; 2];

/// Notes what stdout and stderr are.
pub fn begin() {
    for (fd, file) in (1..).zip(&SHOWN) {
        let (device, inode) = device_and_inode(fd).unwrap_or((0, 0));
        file.device.store(device, Ordering::Relaxed);
        file.inode.store(inode, Ordering::Relaxed);
    }
}

#[allow(clippy::unnecessary_cast, reason = "not the same types on every platform")]
fn device_and_inode(fd: c_int) -> Option<(u64, u64)> {
    // SAFETY: plain data for which zeros are valid; the kernel writes it.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &mut found) == 0).then_some((found.st_dev as u64, found.st_ino as u64))
    }
}

/// Which of the watched files a descriptor is of.
fn file_of(fd: c_int) -> Option<usize> {
    let errno = platform::errno();
    let found = device_and_inode(fd);
    platform::set_errno(errno);
    let found = found?;
    SHOWN.iter().position(|file| found == (file.device.load(Ordering::Relaxed), file.inode.load(Ordering::Relaxed)))
}

// ---- writes that have no event yet ----

/// A write that began, by a thread that has not had the GIL since.
struct Pending {
    /// The thread's serial number and 1; 0 where the place is free.
    owner: AtomicU64,
    file: AtomicUsize,
    /// The write's number, in the order of writes. Written after `file`.
    number: AtomicU64,
}

static PENDING: [Pending; WRITERS] =
    [const { Pending { owner: AtomicU64::new(0), file: AtomicUsize::new(0), number: AtomicU64::new(0) } }; WRITERS];
/// Places that are taken.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

const NONE: usize = usize::MAX;

/// What a thread knows of its own writes. Atomics, because a signal's C handler may write in the middle of anything. The
/// place first, next to what each take of the GIL looks at as well.
#[repr(C)]
pub struct Writer {
    place: AtomicUsize,
    is_inside: AtomicBool,
    serial: u64,
}

impl Writer {
    pub fn new(serial: u64) -> Writer {
        Writer { place: AtomicUsize::new(NONE), is_inside: AtomicBool::new(false), serial }
    }

    fn write(&self, file: usize, fd: c_int, call: impl FnOnce() -> isize) -> isize {
        let lock = &LOCKS[file];
        if self.is_inside.load(Ordering::Relaxed) {
            // A signal's handler, in the middle of a write.
            return call();
        }
        self.is_inside.store(true, Ordering::Relaxed);
        let token = (self.serial as u32).wrapping_add(1) & !AWAITED;
        let taken = lock.take(fd, token);
        let result = if taken {
            self.note(file);
            call()
        } else {
            -1
        };
        let errno = if taken { platform::errno() } else { libc::EINTR };
        if taken {
            lock.release(token);
        }
        self.is_inside.store(false, Ordering::Relaxed);
        platform::set_errno(errno);
        result
    }

    fn note(&self, file: usize) {
        let known = self.place.load(Ordering::Relaxed);
        let is_mine = |pending: &Pending| {
            pending.owner.compare_exchange(0, self.serial + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let place = if known == NONE { PENDING.iter().position(is_mine) } else { Some(known) };
        let Some(place) = place else { return };
        if known == NONE {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
        self.place.store(place, Ordering::Relaxed);
        PENDING[place].file.store(file, Ordering::Relaxed);
        // Seen by whoever takes the lock after this thread: only they have greater numbers that matter.
        PENDING[place].number.store(NEXT_NUMBER.fetch_add(1, Ordering::Relaxed), Ordering::Release);
    }

    /// Whether the thread has written since it gave the GIL up.
    #[inline(always)]
    pub fn is_pending(&self) -> bool {
        self.place.load(Ordering::Relaxed) != NONE
    }

    /// The thread has the GIL again, and logs the call next in which it wrote: the threads that wrote to the same
    /// file before and have yet to log it. The GIL is held: no other thread leaves its place meanwhile.
    pub fn leave(&self) -> Vec<u64> {
        let mine = &PENDING[self.place.load(Ordering::Relaxed)];
        self.place.store(NONE, Ordering::Relaxed);
        let number = mine.number.load(Ordering::Relaxed);
        mine.number.store(0, Ordering::Relaxed);
        let file = mine.file.load(Ordering::Relaxed);
        mine.owner.store(0, Ordering::Release);
        if COUNT.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Whoever wrote before has counted itself before that.
            return Vec::new();
        }
        let is_earlier = |other: &&Pending| {
            (1..number).contains(&other.number.load(Ordering::Acquire)) && other.file.load(Ordering::Relaxed) == file
        };
        PENDING.iter().filter(is_earlier).map(|other| other.owner.load(Ordering::Relaxed) - 1).collect()
    }
}

/// In the child of a fork: its other threads are gone, and what they were writing is not its own.
pub fn forget_others() {
    for lock in &LOCKS {
        lock.0.store(FREE, Ordering::Relaxed);
    }
    for pending in &PENDING {
        pending.number.store(0, Ordering::Relaxed);
        pending.owner.store(0, Ordering::Relaxed);
    }
    COUNT.store(0, Ordering::Relaxed);
}

// ---- the C library's functions ----

static mut NEXT: [*mut c_void; 2] = [ptr::null_mut(); 2];

/// The functions that come before the interpreter's imports.
pub fn bindings() -> Vec<Binding> {
    let functions = [(c"write", write as *mut c_void), (c"writev", writev as *mut c_void)];
    // SAFETY: `NEXT` has a place for each.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast()) }
}

type Write = unsafe extern "C" fn(c_int, *const c_void, usize) -> isize;
type WriteParts = unsafe extern "C" fn(c_int, *const libc::iovec, c_int) -> isize;

unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, size: usize) -> isize {
    // SAFETY: called by CPython with write's arguments.
    unsafe {
        let next = std::mem::transmute::<*mut c_void, Write>(NEXT[0]);
        if schedule::has_threads() { in_order(fd, || next(fd, bytes, size)) } else { next(fd, bytes, size) }
    }
}

unsafe extern "C" fn writev(fd: c_int, parts: *const libc::iovec, count: c_int) -> isize {
    // SAFETY: as above.
    unsafe {
        let next = std::mem::transmute::<*mut c_void, WriteParts>(NEXT[1]);
        if schedule::has_threads() { in_order(fd, || next(fd, parts, count)) } else { next(fd, parts, count) }
    }
}

/// Out of line: what comes before its frame is all that a program with one thread pays.
#[inline(never)]
unsafe fn in_order(fd: c_int, call: impl FnOnce() -> isize) -> isize {
    // SAFETY: recorded threads live as long as they write.
    match unsafe { schedule::writer() }.zip(file_of(fd)) {
        Some((writer, file)) => writer.write(file, fd, call),
        None => call(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn a_write_is_after_the_earlier_ones_to_its_file_that_have_no_event() {
        let [a, b, c, elsewhere] = [1, 2, 3, 4].map(Writer::new);
        assert_eq!(a.write(0, 100, || 7), 7);
        b.write(0, 100, || 0);
        elsewhere.write(1, 101, || 0);
        c.write(0, 100, || 0);
        assert!(c.is_pending());
        assert_eq!(c.leave(), [1, 2]);
        assert!(!c.is_pending());
        assert!(a.leave().is_empty());
        c.write(0, 100, || 0);
        assert!(b.leave().is_empty());
        assert!(c.leave().is_empty() && elsewhere.leave().is_empty());
    }

    #[test]
    fn a_duplicate_is_of_the_same_file() {
        begin();
        let again = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
        let (_reader, pipe) = std::io::pipe().unwrap();
        let found = [1, again.as_raw_fd(), pipe.as_raw_fd(), -1].map(file_of);
        assert_eq!(found, [Some(0), Some(0), None, None]);
    }

    #[test]
    fn one_writes_at_a_time() {
        let inside = AtomicU32::new(0);
        let gil = std::sync::Mutex::new(());
        std::thread::scope(|scope| {
            for serial in 10..14 {
                let (inside, gil) = (&inside, &gil);
                scope.spawn(move || {
                    let writer = Writer::new(serial);
                    for _ in 0..2000 {
                        let alone = writer.write(2, 102, || {
                            let alone = inside.fetch_add(1, Ordering::Relaxed) == 0;
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::Relaxed);
                            isize::from(alone)
                        });
                        assert_eq!(alone, 1);
                        let _held = gil.lock().unwrap();
                        writer.leave();
                    }
                });
            }
        });
    }

    #[test]
    fn a_handler_in_the_middle_of_a_write_is_let_through() {
        let writer = Writer::new(20);
        assert_eq!(writer.write(3, 103, || writer.write(3, 103, || 5)), 5);
        writer.leave();
    }

    #[test]
    fn a_holder_that_the_kernel_would_not_wait_for_is_overtaken() {
        let (_reader, pipe) = std::io::pipe().unwrap();
        let fd = pipe.as_raw_fd();
        let [blocked, other] = [30, 31].map(Writer::new);
        // The one that holds the lock never comes back; the pipe has room.
        let result = blocked.write(4, fd, || {
            assert_eq!(std::thread::scope(|scope| scope.spawn(|| other.write(4, fd, || 3)).join().unwrap()), 3);
            4
        });
        assert_eq!(result, 4);
        assert_eq!((LOCKS[4].0.load(Ordering::Relaxed), other.leave(), blocked.leave()), (FREE, vec![30], Vec::new()));
    }
}
