//! Signal handlers of extension modules' own, in C. On replay no signal comes, and what they call of the C library is not
//! recorded: a handler may interrupt the thread in the middle of an event. So a handler is entered through ours, which
//! marks the thread as being in one. `src/handler_writes.rs` has what replay knows of them.

use crate::handler_writes;
use crate::imports::{self, Binding, replaced};
use crate::platform;
use crate::session::{self, Mode};
use crate::{schedule, user_threads};
use retrace_abi::gil;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// More than there are signals on any platform.
const SIGNALS: usize = 128;
/// The modules' handlers, by signal; 0 where there was none.
static HANDLERS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];

static mut NEXT: [*mut c_void; 8] = [ptr::null_mut(); 8];

/// What is put into an extension module's import table.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn bindings() -> Vec<Binding> {
    let functions: [(&CStr, *mut c_void); 8] = [
        (c"sigaction", sigaction as *mut c_void),
        (c"signal", signal as *mut c_void),
        (c"siglongjmp", jump::<2> as *mut c_void),
        (c"longjmp", jump::<3> as *mut c_void),
        (c"_longjmp", jump::<4> as *mut c_void),
        (c"__longjmp_chk", jump::<5> as *mut c_void),
        (c"pthread_sigmask", mask::<6> as *mut c_void),
        (c"sigprocmask", mask::<7> as *mut c_void),
    ];
    // SAFETY: by contract; `NEXT` has a place for each.
    unsafe { handler_writes::make_hook() };
    // SAFETY: as above.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast()) }
}

/// The session's mode for what C code calls: none inside such a handler.
///
/// # Safety
/// Called from a function that stands in a module's import table.
pub unsafe fn mode() -> Mode {
    // SAFETY: the thread's own count; without the GIL the mode may be late, as anywhere in C code.
    unsafe { if gil::retrace_handlers() == 0 { session::mode() } else { Mode::Off } }
}

/// What CPython's and other code's handlers are called like, with or without SA_SIGINFO: who takes one argument does not
/// see the others.
type Handler = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void);

unsafe extern "C" fn handle(number: c_int, about: *mut c_void, context: *mut c_void) {
    // SAFETY: the kernel calls this for a signal that a module has a handler for.
    unsafe {
        let handler = remembered(number);
        if handler != 0 {
            let outer = gil::retrace_handlers();
            gil::retrace_set_handlers(outer + 1);
            if session::mode() == Mode::Recording {
                handler_writes::begins(number);
            }
            std::mem::transmute::<usize, Handler>(handler)(number, about, context);
            gil::retrace_set_handlers(outer);
        }
    }
}

/// Runs a module's handler as if the signal had come.
///
/// # Safety
/// Replaying, in a call by C code.
pub unsafe fn run_again(number: c_int) {
    // SAFETY: by contract; what it may look at says no more than which signal it is.
    unsafe {
        let mut about: libc::siginfo_t = std::mem::zeroed();
        let mut context: libc::ucontext_t = std::mem::zeroed();
        about.si_signo = number;
        let errno = platform::errno();
        handle(number, (&raw mut about).cast(), (&raw mut context).cast());
        platform::set_errno(errno);
    }
}

/// Whether a module ever had a handler.
pub fn are_any() -> bool {
    ANY.load(Ordering::Relaxed)
}

static ANY: AtomicBool = AtomicBool::new(false);

/// `pthread_sigmask` and `sigprocmask`. On replay the threads of the program are one of the system's, which has to be open
/// to the signals that replay itself uses, and no other signal means anything to it.
unsafe extern "C" fn mask<const PLACE: usize>(
    how: c_int,
    new: *const libc::sigset_t,
    old: *mut libc::sigset_t,
) -> c_int {
    // SAFETY: called by an extension module with the function's arguments.
    unsafe {
        if session::mode() == Mode::Replaying && schedule::is_ours() {
            return user_threads::mask_signals(how, new, old);
        }
        replaced!(NEXT[PLACE], c_int, *const libc::sigset_t, *mut libc::sigset_t => c_int)(how, new, old)
    }
}

/// `longjmp` and its like: a handler may be left by them.
unsafe extern "C" fn jump<const PLACE: usize>(to: *mut c_void, value: c_int) {
    // SAFETY: called by an extension module; this frame has nothing to be undone.
    unsafe {
        if gil::retrace_handlers() != 0 {
            handler_writes::jumps();
        }
        gil::retrace_set_handlers(0);
        replaced!(NEXT[PLACE], *mut c_void, c_int => ())(to, value);
    }
}

/// Remembers a module's handler: what is given to the system in its place.
fn stand_in(number: c_int, handler: usize) -> usize {
    match usize::try_from(number).ok().and_then(|number| HANDLERS.get(number)) {
        Some(place) if handler != libc::SIG_DFL && handler != libc::SIG_IGN && handler != libc::SIG_ERR => {
            place.store(handler, Ordering::Release);
            ANY.store(true, Ordering::Relaxed);
            handle as *const () as usize
        }
        _ => handler,
    }
}

/// The module's handler where the system has ours.
fn behind(handler: usize, remembered: usize) -> usize {
    if handler == handle as *const () as usize { remembered } else { handler }
}

/// The handler that is remembered for a signal.
fn remembered(number: c_int) -> usize {
    let place = usize::try_from(number).ok().and_then(|number| HANDLERS.get(number));
    place.map_or(0, |place| place.load(Ordering::Acquire))
}

unsafe extern "C" fn sigaction(number: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    // SAFETY: called by an extension module with sigaction's arguments; `new` may be `old`.
    unsafe {
        let next = replaced!(NEXT[0], c_int, *const libc::sigaction, *mut libc::sigaction => c_int);
        let before = remembered(number);
        let ours = new.as_ref().map(|new| {
            let mut ours = *new;
            ours.sa_sigaction = stand_in(number, ours.sa_sigaction);
            ours
        });
        let result = next(number, ours.as_ref().map_or(ptr::null(), ptr::from_ref), old);
        if result == 0 && !old.is_null() {
            (*old).sa_sigaction = behind((*old).sa_sigaction, before);
        }
        result
    }
}

unsafe extern "C" fn signal(number: c_int, handler: usize) -> usize {
    // SAFETY: as above.
    unsafe {
        let before = remembered(number);
        let handler = stand_in(number, handler);
        behind(replaced!(NEXT[1], c_int, usize => usize)(number, handler), before)
    }
}
