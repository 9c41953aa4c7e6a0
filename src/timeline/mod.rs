//! The timeline of a replay that is debugged. The replay itself runs to its end as ever, and leaves *checkpoints*: forked
//! copies that wait. A position is a checkpoint and the number of *ticks* since it; a tick is a line event, and line
//! events are on only in copies of a checkpoint, which run to a goal and wait there (`run`). All of the replay is one
//! operating-system thread, so that a fork copies everything.
//!
//! The debugger is another process (`adapter/src/debug`). Each process here has a socket to it and ends with that: see
//! `retrace_replay::debug_protocol`.

mod clock;
mod crash;
mod depths;
mod exceptions;
mod expressions;
mod generators;
mod inspect;
mod instructions;
mod process;
mod run;
mod ticks;
mod watches;

use crate::gil::GilCell;
use crate::{divergence, replay, schedule, user_threads};
pub use clock::{forget_mark, mark as mark_clock, put_back as put_clock_back};
use process::Channel;
use pyo3_ffi::*;
use retrace_abi::gil;
use retrace_abi::line_events::{retrace_frame_begins, retrace_ident_of, retrace_mark_activations};
use retrace_replay::debug_protocol::{Crash, Ended, Hello, Place, Report, Role, SOCKET_VARIABLE, Stack};
pub use run::Check;
use run::Runner;
use std::env;
use std::ffi::c_int;
use std::path::PathBuf;

/// The shortest time between checkpoints.
const INTERVAL_US: u64 = 8_000;
/// Checkpoints kept of the replay; then every second one goes and they are made half as often. The debugger counts too.
const CHECKPOINTS: u32 = 16;

/// So many of a thread's frames are marked, which is more than a program that does not recurse has.
const MARKED_FRAMES: usize = 200;

/// What this process is.
enum Part {
    /// The replay, which runs to its end.
    Main { left: u32, interval_us: u64 },
    /// Runs with line events on.
    Runner(Box<Runner>),
}

struct Timeline {
    socket: PathBuf,
    channel: Channel,
    part: Part,
    crash: Option<Crash>,
    /// Checkpoints that this process has made.
    made: u32,
}

static TIMELINE: GilCell<Option<Timeline>> = GilCell::new(None);

/// Where the debugger's socket is, taken out of the environment.
static SOCKET: GilCell<Option<PathBuf>> = GilCell::new(None);

pub const VARIABLE: &str = SOCKET_VARIABLE;

/// # Safety
/// Before the interpreter is initialised: this thread is the only one.
pub unsafe fn from_environment() {
    // SAFETY: by contract.
    unsafe { *SOCKET.get() = env::var_os(VARIABLE).map(PathBuf::from) };
}

/// Whether a debugger has this replay.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn is_on() -> bool {
    // SAFETY: by contract.
    unsafe { TIMELINE.get().is_some() }
}

unsafe fn timeline() -> &'static mut Timeline {
    // SAFETY: the callers have seen that there is one.
    unsafe { TIMELINE.get().as_mut().unwrap_unchecked() }
}

unsafe fn runner() -> Option<&'static mut Runner> {
    // SAFETY: the GIL is held.
    match unsafe { TIMELINE.get() } {
        Some(Timeline { part: Part::Runner(runner), .. }) => Some(runner),
        _ => None,
    }
}

/// The program is about to start: the first checkpoint stands here.
///
/// # Safety
/// Replaying; the GIL is held, the thread state set; called once.
pub unsafe fn begin() {
    // SAFETY: by contract.
    unsafe {
        let Some(socket) = SOCKET.get().take() else { return };
        process::block_child_signals();
        process::learn_leftovers(&socket);
        let channel = Channel::open(&socket, Role::Main);
        let part = Part::Main { left: 0, interval_us: INTERVAL_US };
        *TIMELINE.get() = Some(Timeline { socket, channel, part, crash: None, made: 0 });
        ticks::learn_library();
        inspect::prepare();
        clock::install();
        crash::notice();
        leave_checkpoint(false);
        if is_main() {
            process::start_timer(INTERVAL_US);
        }
    }
}

unsafe fn is_main() -> bool {
    // SAFETY: the GIL is held.
    matches!(unsafe { TIMELINE.get() }, Some(Timeline { part: Part::Main { .. }, .. }))
}

unsafe fn here(fingerprint: bool) -> Place {
    // SAFETY: replaying; with a fingerprint, at a check of the eval breaker.
    unsafe {
        let source = replay::source();
        let (near, hashes) = if fingerprint {
            let at = schedule::fingerprint(*gil::retrace_gil.last_holder);
            (at.near, [at.place, at.shallow, at.deep])
        } else {
            (0, [0; 3])
        };
        Place { process: source.process(), event: source.index().0, clock: clock::now(), near, hashes }
    }
}

/// Marks what the threads are in, so that the next checkpoint can tell what has not been left since. The marks are made in
/// the replay itself, before it forks: all copies have them, and what they are made of does not count.
unsafe fn mark_stacks(at_check: bool) -> Vec<Stack> {
    let mut stacks = Vec::new();
    if !at_check {
        return stacks;
    }
    // SAFETY: at a check, replaying.
    unsafe {
        let mark = || {
            each_thread(|number, state| {
                let mut marks = vec![0; MARKED_FRAMES];
                let count = retrace_mark_activations(state, marks.as_mut_ptr(), MARKED_FRAMES as c_int);
                marks.truncate(count as usize);
                stacks.push(Stack { thread: number, marks });
            });
        };
        user_threads::with_thread_state(|| clock::uncounted(mark));
    }
    stacks
}

/// The threads there are: the number and state of each.
unsafe fn each_thread(mut visit: impl FnMut(u32, *mut retrace_abi::ThreadState)) {
    // SAFETY: replaying; the thread states are those of the interpreter's list.
    unsafe {
        let numbers = user_threads::idents();
        let mut tstate = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
        while !tstate.is_null() {
            let state = tstate.cast::<retrace_abi::ThreadState>();
            let ident = retrace_ident_of(state);
            if let Some((number, _)) = numbers.iter().find(|(_, other)| *other == ident) {
                visit(*number as u32, state);
            }
            tstate = PyThreadState_Next(tstate);
        }
    }
}

/// Forks a checkpoint. Returns in the replay, and in each copy of the checkpoint that runs on.
unsafe fn leave_checkpoint(at_check: bool) {
    // SAFETY: by the callers' contract.
    unsafe {
        let place = here(at_check);
        let stacks = mark_stacks(at_check);
        let before = clock::cpu_us();
        let pid = process::fork();
        if pid != 0 {
            timeline().made += u32::from(pid > 0);
            let took = clock::cpu_us() - before;
            if let Part::Main { left, interval_us } = &mut timeline().part {
                *left += 1;
                let mut wanted = (*interval_us).max(took * 16);
                if *left > CHECKPOINTS {
                    *left /= 2;
                    wanted = wanted.max(*interval_us * 2);
                }
                if wanted != *interval_us && *interval_us != 0 {
                    *interval_us = wanted;
                    process::start_timer(wanted);
                }
            }
            return;
        }
        process::end_with_parent_channel();
        crate::attempt::skips_no_more();
        crate::skip::forget();
        timeline().channel =
            Channel::open(&timeline().socket, Role::Checkpoint { number: timeline().made, place, stacks });
        let run = run::wait(0, None);
        // A copy that runs on.
        timeline().part = Part::Runner(Runner::new(run));
        let turn_on = || {
            // What that makes is not the program's.
            if clock::uncounted(|| retrace_abi::line_events::retrace_line_events_on()) < 0 {
                PyErr_Print();
                libc::_exit(1);
            }
        };
        let turn_on = || {
            turn_on();
            if let Some(runner) = runner() {
                // A checkpoint may stand where a function begins: that has been no event then.
                each_thread(|number, state| {
                    if at_check && retrace_frame_begins(state) != 0 {
                        runner.has_begun(number, state);
                    }
                });
                runner.begin();
                if at_check {
                    runner.begin_watches();
                }
            }
        };
        if at_check { user_threads::with_thread_state(turn_on) } else { turn_on() }
    }
}

/// At a check of the eval breaker, when all that the recording did there has been done.
///
/// # Safety
/// Replaying; the GIL is held, the thread state not set; no external code runs.
pub unsafe fn at_check() {
    // SAFETY: by contract.
    unsafe {
        if !is_on() {
            return;
        }
        if is_main() {
            if process::take_request() {
                leave_checkpoint(true);
            }
        } else if let Some(runner) = runner() {
            runner.at_check();
        }
    }
}

/// Has the running thread stop at its next check, if that may be where the next checkpoint stands.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn ask_for_check() {
    // SAFETY: by contract.
    unsafe {
        if let Some(runner) = runner() {
            runner.ask_for_check();
        }
    }
}

/// A thread has got the GIL.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn taken(tstate: *mut retrace_abi::ThreadState) {
    // SAFETY: by contract.
    unsafe {
        if runner().is_some() {
            retrace_abi::line_events::retrace_line_events_follow(tstate);
        }
    }
}

/// What the recorded program wrote to its stdout or stderr. True where it has been dealt with.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn takes_output(stream: i32, bytes: &[u8]) -> bool {
    // SAFETY: by contract.
    unsafe {
        if !is_on() {
            return false;
        }
        if is_main() {
            let event = replay::source().index().0;
            timeline().channel.send(&Report::Output { event, stream: stream as u8, bytes: bytes.to_vec() });
        }
        true
    }
}

/// The replay goes on as a child of its process: whoever debugs that wants a checkpoint at its beginning.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn became_child() {
    // SAFETY: by contract.
    unsafe {
        if is_main() {
            process::request();
        }
    }
}

/// The replay ends here, as the recording does. Does not return in a process of a timeline.
///
/// # Safety
/// Replaying; nothing of the program runs after.
pub unsafe fn ended(status: i32) {
    // SAFETY: by contract.
    unsafe { end(status, false) }
}

/// What is to be said of a divergence. A run that evaluates may write nothing, so that it is told to the debugger.
///
/// # Safety
/// Replaying.
pub unsafe fn report_divergence(text: &str) {
    // SAFETY: by contract.
    if let Some(runner) = unsafe { runner() } {
        runner.divergence = Some(text.to_owned());
    }
}

/// The replay has left the recording, and ends here.
///
/// # Safety
/// As [`ended`].
pub unsafe fn diverged() {
    // SAFETY: by contract.
    unsafe { end(divergence::EXIT_STATUS, true) }
}

unsafe fn end(status: i32, diverged: bool) {
    // SAFETY: by contract.
    unsafe {
        if !is_on() {
            return;
        }
        if let Some(runner) = runner() {
            runner.end(diverged);
        }
        if is_main() {
            let source = replay::source();
            let (process, event) = (source.process(), source.index().0);
            let ended = Ended {
                status,
                diverged,
                process,
                event,
                clock: clock::now(),
                checkpoints: timeline().made,
                crash: timeline().crash,
            };
            timeline().channel.send(&Report::Ended(ended));
        }
        libc::_exit(status);
    }
}

fn hello(role: Role) -> Hello {
    // SAFETY: a system call.
    Hello { pid: unsafe { libc::getpid() }, role }
}
