//! What a signal's handler in C hands to the rest of its module through a pipe may hold addresses (libuv: that of whoever
//! wants the signal), which are others on replay. So the log says, before the next call by C code, which handlers ran and
//! what they wrote. Replay runs them there, keeps what they write, and where the module reads what was recorded of it, it
//! reads that instead.
//!
//! A handler may interrupt the recorder, so it only leaves a note in a ring.

use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::libc_memory as memory;
use crate::libc_table::Function;
use crate::{native_handlers, schedule, user_threads};
use retrace_replay::event::{Call, NO_FRAME, Outcome};
use retrace_replay::value::Value;
use std::cell::UnsafeCell;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const MOST_BYTES: usize = 64;
const NOTES: usize = 64;

/// A handler began, or wrote.
#[derive(Clone, Copy)]
enum Note {
    Began(c_int),
    Wrote { fd: c_int, size: usize, bytes: [u8; MOST_BYTES] },
}

struct Place {
    ready: AtomicBool,
    note: UnsafeCell<Note>,
}

// SAFETY: who has taken a place's number writes it, and it is read once it is ready.
unsafe impl Sync for Place {}

static RING: [Place; NOTES] =
    [const { Place { ready: AtomicBool::new(false), note: UnsafeCell::new(Note::Began(0)) } }; NOTES];
static LEFT: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// Somebody takes them. No mutex: a forked child has to be able to let it go.
static TAKING: AtomicBool = AtomicBool::new(false);
/// A handler was left by a jump: it can't be run again elsewhere.
static JUMPED: AtomicBool = AtomicBool::new(false);

static HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);

/// # Safety
/// In a session; the GIL is held.
pub unsafe fn make_hook() {
    // SAFETY: by contract.
    unsafe {
        HOOK.get().get_or_insert_with(|| hook::of_library("libc.signal"));
    }
}

// ---- recording, in a handler ----

fn leave(note: Note) {
    let taken = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        (left - TAKEN.load(Ordering::Acquire) < NOTES).then_some(left + 1)
    });
    // Where nobody takes them, the newest are lost, and so is no more than what replay has without them.
    let Ok(number) = taken else { return };
    let place = &RING[number % NOTES];
    // SAFETY: the number is ours alone, and the place is free.
    unsafe { *place.note.get() = note };
    place.ready.store(true, Ordering::Release);
}

/// What an instruction brings about comes on replay by itself.
const BY_INSTRUCTIONS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGSYS];

/// A handler of a module's begins.
pub fn begins(number: c_int) {
    if !BY_INSTRUCTIONS.contains(&number) && !JUMPED.load(Ordering::Relaxed) {
        leave(Note::Began(number));
    }
}

/// A handler is about to write.
///
/// # Safety
/// As many bytes as said.
pub unsafe fn writes(fd: c_int, from: *const u8, size: usize) {
    if size <= MOST_BYTES && !from.is_null() && !JUMPED.load(Ordering::Relaxed) {
        let mut bytes = [0; MOST_BYTES];
        // SAFETY: by contract.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), size) };
        leave(Note::Wrote { fd, size, bytes });
    }
}

/// A handler is left by a jump.
pub fn jumps() {
    JUMPED.store(true, Ordering::Relaxed);
}

// ---- recording, outside ----

/// Logs what handlers did, before the call that the calling thread is about to log.
///
/// # Safety
/// Recording, in a call by C code that is logged.
#[inline]
pub unsafe fn log() {
    if LEFT.load(Ordering::Relaxed) != TAKEN.load(Ordering::Relaxed) {
        // SAFETY: by contract.
        unsafe { log_notes() };
    }
}

#[cold]
unsafe fn log_notes() {
    while TAKING.swap(true, Ordering::Acquire) {
        // Who took them may have been left by the jump.
        if JUMPED.load(Ordering::Relaxed) {
            return;
        }
        std::thread::yield_now();
    }
    loop {
        let number = TAKEN.load(Ordering::Relaxed);
        let place = &RING[number % NOTES];
        if !place.ready.load(Ordering::Acquire) {
            break;
        }
        // SAFETY: ready, and taken by one thread at a time.
        let note = unsafe { *place.note.get() };
        place.ready.store(false, Ordering::Relaxed);
        TAKEN.store(number + 1, Ordering::Release);
        let arguments = match note {
            _ if JUMPED.load(Ordering::Relaxed) => continue,
            Note::Began(number) => vec![Value::Int(number.into())],
            Note::Wrote { fd, size, bytes } => vec![Value::Int(fd.into()), Value::Bytes(bytes[..size].to_vec())],
        };
        // SAFETY: by contract.
        unsafe {
            let hook = HOOK.get().map_or(0, |hook| hook.index);
            let arguments = Some(arguments);
            schedule::append_native_call(Call { hook, at: NO_FRAME, arguments, outcome: Outcome::None });
        }
    }
    TAKING.store(false, Ordering::Release);
}

/// In a forked child: the thread that took notes, or was about to leave one, may not be here.
pub fn after_fork_child() {
    let left = LEFT.load(Ordering::Relaxed);
    let mut taken = TAKEN.load(Ordering::Relaxed);
    while taken != left && !RING[taken % NOTES].ready.load(Ordering::Acquire) {
        taken += 1;
    }
    TAKEN.store(taken, Ordering::Relaxed);
    TAKING.store(false, Ordering::Relaxed);
}

// ---- replaying ----

#[derive(Default)]
struct Replayed {
    /// A handler runs again.
    runs: bool,
    /// What handlers wrote here, and whereto.
    written: VecDeque<(c_int, Vec<u8>)>,
    /// What was written to a descriptor: in the recording, and here.
    unread: VecDeque<(c_int, Vec<u8>, Vec<u8>)>,
    /// The other ends of pipes.
    ends: HashMap<c_int, c_int>,
}

static REPLAYED: GilCell<Option<Replayed>> = GilCell::new(None);

unsafe fn replayed() -> &'static mut Replayed {
    // SAFETY: replay's one thread; nothing borrowed is kept while a handler runs.
    unsafe { REPLAYED.get().get_or_insert_default() }
}

/// Runs the handlers that ran before the call that the calling thread makes.
///
/// # Safety
/// Replaying, in a call by C code that is answered.
pub unsafe fn replay() {
    // SAFETY: by contract.
    unsafe {
        if !native_handlers::are_any() {
            return;
        }
        let hook = HOOK.get().map_or(0, |hook| hook.index);
        while let Some(call) = user_threads::next_native_call(hook) {
            user_threads::pass_native_call();
            match call.arguments.as_deref() {
                Some([Value::Int(number)]) => {
                    replayed().runs = true;
                    native_handlers::run_again(*number as c_int);
                    replayed().runs = false;
                }
                Some([Value::Int(fd), Value::Bytes(recorded)]) => {
                    let found = replayed().written.pop_front();
                    if let Some((to, bytes)) = found
                        && i64::from(to) == *fd
                        && bytes.len() == recorded.len()
                    {
                        replayed().unread.push_back((to, recorded.clone(), bytes));
                    }
                }
                _ => {}
            }
        }
    }
}

/// What a handler that runs again is told by a function of the C library; `None` where none runs.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn answer(function: &Function, args: &[usize; 7]) -> Option<usize> {
    // SAFETY: by contract; the arguments are those of the function.
    unsafe {
        if !replayed().runs || function.asks {
            return None;
        }
        match function.name.to_bytes() {
            b"write" => {
                let bytes = memory::gathered(function, args);
                replayed().written.push_back((args[0] as c_int, bytes));
                Some(args[2])
            }
            b"read" => {
                std::ptr::write_bytes(args[1] as *mut u8, 0, args[2]);
                Some(args[2])
            }
            _ => Some(0),
        }
    }
}

/// A pipe, or something like it.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn opens(pair: [c_int; 2]) {
    // SAFETY: by contract.
    unsafe { replayed().ends.extend([(pair[0], pair[1]), (pair[1], pair[0])]) };
}

/// The module has read what was recorded from a descriptor: what a handler wrote there becomes what it wrote here.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn reads(fd: c_int, bytes: &mut [u8]) {
    // SAFETY: by contract.
    let Replayed { unread, ends, .. } = unsafe { replayed() };
    let mut at = 0;
    while let Some(next) = unread.iter().position(|(to, ..)| ends.get(to) == Some(&fd)) {
        let (_, recorded, here) = &unread[next];
        if !bytes[at..].starts_with(recorded) {
            return;
        }
        bytes[at..at + here.len()].copy_from_slice(here);
        at += here.len();
        unread.remove(next);
    }
}
