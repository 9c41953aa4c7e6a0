//! Running a child in our place: signals go to it, its end becomes ours.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Exited(u8),
    /// Killed by a signal.
    Signalled(i32),
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Ending {
        match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exited(code as u8),
            (None, signal) => Ending::Signalled(signal.unwrap_or(0)),
        }
    }
}

/// Runs `command` to its end. What would end us ends it, whatever it has set for that signal: a replay that runs the
/// program's own handlers would not end by it. Says whether that happened, and the ending is by that signal then.
///
/// The child gets a process group of its own: what the terminal sends then comes to us alone, and the child gets it
/// once.
pub fn run(command: &mut Command) -> io::Result<(Ending, bool)> {
    // Before the child starts, so that a signal that comes at once is not our end.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let mut child = command.process_group(0).spawn()?;
    let handle = signals.handle();
    let pid = Pid::from_child(&child);
    let came = Arc::new(AtomicI32::new(0));
    let seen = Arc::clone(&came);
    let forwarder = std::thread::spawn(move || {
        for signal in signals.forever() {
            // Relaxed: read after this thread was joined.
            seen.store(signal, Ordering::Relaxed);
            // It may have ended already.
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let status = child.wait();
    // From here on the pid may be another's.
    handle.close();
    let _ = forwarder.join();
    let status = status?;
    match came.load(Ordering::Relaxed) {
        0 => Ok((status.into(), false)),
        signal => Ok((Ending::Signalled(signal), true)),
    }
}

/// Has the system give what is started from now on the same addresses each time, where it can and may.
#[cfg(target_os = "linux")]
pub fn keep_addresses() {
    use nix::sys::personality::{self, Persona};
    if let Ok(now) = personality::get() {
        // Where it may not, a replay is right as well; only which attempt is the right one differs.
        let _ = personality::set(now | Persona::ADDR_NO_RANDOMIZE);
    }
}

#[cfg(not(target_os = "linux"))]
pub fn keep_addresses() {}

/// Dies by `signal` as the child did, so that a shell sees what it would have seen; else the shell's code for that.
pub fn die_by(signal: i32) -> u8 {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    128u8.wrapping_add(signal as u8)
}
