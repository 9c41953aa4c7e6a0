//! How many threads the system says that the process has. CPython 3.12 reads that after a fork and warns of others
//! (Modules/posixmodule.c, warn_about_fork_with_threads). A thread that was joined may still be counted, and so is one that
//! `threading` does not know: what is read is an event, and replay has it read that.

use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::imports::{self, Binding, replaced};
use crate::{divergence, platform, record, replay, schedule, session, thread, user_threads};
use retrace_replay::event::{Call, General, Outcome};
use retrace_replay::value::Value;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;

/// What CPython opens.
const STATUS: &CStr = c"/proc/self/stat";

static HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);
static mut NEXT: [*mut c_void; 2] = [ptr::null_mut(); 2];

/// Makes the hook of the event.
///
/// # Safety
/// The GIL is held; called once, before a session begins.
pub unsafe fn prepare() {
    // SAFETY: by contract.
    unsafe { *HOOK.get() = Some(hook::of_library("threads.counted")) };
}

/// What takes the place of the interpreter's imports, recording.
pub fn bindings() -> Vec<Binding> {
    let functions = [(c"fopen", open::<0> as *mut c_void), (c"fopen64", open::<1> as *mut c_void)];
    // SAFETY: `NEXT` has a place for each.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast()) }
}

unsafe extern "C" fn open<const PLACE: usize>(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: called by CPython with C strings.
    unsafe {
        let is_asked = session::is_recording() && CStr::from_ptr(path) == STATUS;
        if is_asked && schedule::holds_gil() && schedule::logs_native_calls() {
            return record();
        }
        replaced!(NEXT[PLACE], *const c_char, *const c_char => *mut libc::FILE)(path, mode)
    }
}

unsafe fn record() -> *mut libc::FILE {
    let status = std::fs::read("/proc/self/stat").unwrap_or_default();
    // SAFETY: recording, with the GIL, in the program's own code.
    unsafe {
        let result = Some(Value::Bytes(status.clone()));
        schedule::append_native_call(Call {
            hook: HOOK.get().map_or(0, |hook| hook.index),
            at: record::caller_offset(),
            arguments: Some(Vec::new()),
            outcome: Outcome::General(Box::new(General { result, ..General::default() })),
        });
        stream(status)
    }
}

/// The stream that `fopen` of this path gives, on replay; `None` for another path.
///
/// # Safety
/// Called in the place of CPython's `fopen`, with a C string.
pub unsafe fn replayed(path: *const c_char) -> Option<*mut libc::FILE> {
    // SAFETY: by contract.
    unsafe {
        if CStr::from_ptr(path) != STATUS || session::mode() == session::Mode::Off {
            return None;
        }
        if !session::is_replaying() || thread::current().external.get() {
            // Nothing was recorded: CPython counts what `threading` knows.
            return Some(stream(Vec::new()));
        }
        let hook = (*HOOK.get())?;
        let call = replay::native_call(hook);
        if call.at != record::caller_offset() {
            divergence::stop_at("the process's threads are counted here");
        }
        user_threads::pass_native_call();
        let Outcome::General(general) = call.outcome else { return Some(stream(Vec::new())) };
        let Some(Value::Bytes(status)) = general.result else { return Some(stream(Vec::new())) };
        Some(stream(status))
    }
}

/// A stream with these bytes; none, as where the file is missing, without any.
unsafe fn stream(bytes: Vec<u8>) -> *mut libc::FILE {
    static BYTES: GilCell<Vec<u8>> = GilCell::new(Vec::new());
    // SAFETY: the GIL is held, and CPython closes the stream before it gives that up.
    unsafe {
        if bytes.is_empty() {
            platform::set_errno(libc::ENOENT);
            return ptr::null_mut();
        }
        *BYTES.get() = bytes;
        libc::fmemopen(BYTES.get().as_mut_ptr().cast(), BYTES.get().len(), c"r".as_ptr())
    }
}
