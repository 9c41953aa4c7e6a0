//! A divergence: the replayed program is not where the recording was. It is reported once, and the replay stops there
//! with exit status 70 (EX_SOFTWARE of sysexits.h), because nothing after it would mean anything.

use crate::call::Call;
use crate::decode::Failure;
use crate::python::{Owned, text};
use crate::replay::{recorded_name, source};
use crate::session::{self, Mode};
use pyo3_ffi::*;
use retrace_replay::byte_source::DecodeError;
use retrace_replay::event::code;
use retrace_replay::{Event, Trace, Value};
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

pub const EXIT_STATUS: i32 = 70;
/// How many events before the divergence a report shows.
const BEFORE: usize = 8;

/// What a report says.
pub struct Divergence {
    /// The first event that differs, counted from 0 in its process.
    pub event: u64,
    pub expected: String,
    pub met: String,
    /// Innermost last: (file, line, function).
    pub stack: Vec<(String, i32, String)>,
    pub before: Vec<String>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "retrace: the replay left the recording at event {}", self.event)?;
        writeln!(f, "  expected: {}", self.expected)?;
        writeln!(f, "  met:      {}", self.met)?;
        writeln!(f, "  where (most recent call last):")?;
        for (file, line, name) in &self.stack {
            writeln!(f, "    File \"{file}\", line {line}, in {name}")?;
        }
        writeln!(f, "  the events before:")?;
        for event in &self.before {
            writeln!(f, "    {event}")?;
        }
        Ok(())
    }
}

/// The Python stack, innermost last.
unsafe fn stack() -> Vec<(String, i32, String)> {
    let mut frames = Vec::new();
    // SAFETY: the GIL is held; PyEval_GetFrame is borrowed, PyFrame_GetBack and PyFrame_GetCode are new references.
    unsafe {
        let mut frame = Owned::borrowed(PyEval_GetFrame().cast());
        while !frame.is_null() && frames.len() < 64 {
            let code = Owned(PyFrame_GetCode(frame.0.cast()).cast());
            let file = crate::python::attribute(code.0, c"co_filename");
            let name = crate::python::attribute(code.0, c"co_qualname");
            frames.push((text(file.0), PyFrame_GetLineNumber(frame.0.cast()), text(name.0)));
            frame = Owned(PyFrame_GetBack(frame.0.cast()).cast());
        }
    }
    frames.reverse();
    frames
}

/// One line for an event.
unsafe fn describe(event: &Event) -> String {
    match event {
        Event::Call(call) => {
            let args: Vec<String> = call.arguments.iter().flatten().map(|value| shortened(value, 40)).collect();
            // SAFETY: the GIL is held.
            let name = unsafe { recorded_name(call.hook) };
            let outcome = match &call.outcome {
                retrace_replay::event::Outcome::None => "None".to_owned(),
                retrace_replay::event::Outcome::Float(number) => number.to_string(),
                retrace_replay::event::Outcome::Value(value) => shortened(value, 60),
                retrace_replay::event::Outcome::Raised(value) => format!("raised {}", shortened(value, 60)),
                retrace_replay::event::Outcome::Filled(bytes) => bytes.len().to_string(),
                retrace_replay::event::Outcome::End => "no value".to_owned(),
                retrace_replay::event::Outcome::General(general) => match (&general.result, &general.raised) {
                    (Some(value), _) => shortened(value, 60),
                    (_, Some(value)) => format!("raised {}", shortened(value, 60)),
                    _ => "no value".to_owned(),
                },
            };
            format!("{name}({}) at +{} -> {outcome}", args.join(", "), call.at)
        }
        other => {
            let mut text = format!("{other:?}");
            if text.len() > 100 {
                text.truncate(text.floor_char_boundary(100));
                text.push('…');
            }
            text
        }
    }
}

fn shortened(value: &Value, width: usize) -> String {
    let mut text = value.to_string();
    if text.chars().count() > width {
        text = text.chars().take(width).collect();
        text.push('…');
    }
    text
}

/// The events before the current one, and the current one: read again from the start, because nobody keeps them.
unsafe fn events_around() -> (Vec<String>, Option<String>) {
    // SAFETY: replaying, the GIL held.
    unsafe {
        let here = source().index().0;
        let mut before = std::collections::VecDeque::new();
        let Some((trace, process)) = crate::start::replayed_trace() else { return (Vec::new(), None) };
        let Ok(mut events) = Trace::events(trace, process) else { return (Vec::new(), None) };
        while let Ok(Some((index, event))) = events.next_event() {
            if index.0 == here {
                return (before.into(), Some(describe(&event)));
            }
            if before.len() == BEFORE {
                before.pop_front();
            }
            before.push_back(format!("{} {}", index.0, describe(&event)));
        }
        (before.into(), None)
    }
}

/// Where a check was looked for: what was seen.
unsafe fn with_candidates(met: String) -> String {
    // SAFETY: replaying.
    unsafe {
        if crate::replay::front().is_at_check() {
            return format!("{met}; {}", crate::user_threads::candidates());
        }
    }
    met
}

unsafe fn report(expected: Option<String>, met: String) -> Divergence {
    // SAFETY: replaying, the GIL held.
    unsafe {
        session::set_mode(Mode::Off);
        let (before, at) = events_around();
        let expected = expected.or(at).unwrap_or_else(|| "the end of the recording".to_owned());
        let met = with_candidates(met);
        Divergence { event: source().index().0, expected, met, stack: stack(), before }
    }
}

unsafe fn end(divergence: &Divergence) -> ! {
    // SAFETY: replaying.
    unsafe { end_as("diverged", divergence) }
}

/// `kind`: what the command line is told (`adapter/src/attempts.rs`).
unsafe fn end_as(kind: &str, divergence: &Divergence) -> ! {
    thread_local! { static ENDS: Cell<bool> = const { Cell::new(false) } }
    static IS_ENDING: AtomicBool = AtomicBool::new(false);
    // Several real threads may come here at once, and the second would end the process while the first one reports.
    // Relaxed: nothing is read of what the other did.
    if IS_ENDING.swap(true, Ordering::Relaxed) && !ENDS.get() {
        loop {
            // SAFETY: waits.
            unsafe { libc::pause() };
        }
    }
    ENDS.set(true);
    flush_console();
    let report = divergence.to_string();
    // SAFETY: replaying.
    unsafe {
        crate::timeline::report_divergence(&report);
        crate::attempt::end_in_doubt(kind, &report);
    }
    tell(&report);
    // SAFETY: ends the process without running more of the program.
    unsafe {
        crate::timeline::diverged();
        libc::_exit(EXIT_STATUS)
    }
}

/// Says it on stderr, if that may be written to: a run of a debugger's that evaluates may not.
fn tell(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn flush_console() {
    use std::io::Write;
    // SAFETY: replaying, on its one thread.
    unsafe { crate::console::show_held() };
    let _ = std::io::stdout().flush();
}

unsafe fn met(call: &Call) -> String {
    // SAFETY: the call's references are live.
    unsafe {
        let thread = crate::thread::current();
        thread.external.set(true);
        let mut bytes = Vec::new();
        if !call.args.is_empty() {
            crate::record::put_arguments(&mut bytes, call);
        }
        let mut slice = retrace_replay::byte_source::SliceSource::new(bytes.get(1..).unwrap_or_default());
        let mut notes = source().notes().clone();
        let args: Vec<String> = std::iter::from_fn(|| Value::decode(&mut slice, &mut notes).ok())
            .map(|value| shortened(&value, 40))
            .collect();
        format!("{}({}) at +{}", call.hook.name, args.join(", "), crate::record::caller_offset())
    }
}

/// Anything that keeps the replay from going on.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn stop(call: Option<&Call>, failure: &Failure) -> ! {
    // SAFETY: by contract.
    unsafe {
        // A process that was killed left no end, and its last item may not be whole.
        if source().at_end() || matches!(failure, Failure::Trace(DecodeError::UnexpectedEnd)) {
            match (call, failure) {
                (Some(call), _) => log_ended(call),
                (None, Failure::Missing(next)) => recording_cut(next),
                _ => recording_cut("another event"),
            }
        }
        session::set_mode(Mode::Off);
        let mut why = failure.to_string();
        if matches!(failure, Failure::Raised) {
            let saved = crate::python::SavedError::take();
            why = format!("a recorded value could not be made: {}", exception_text(saved.value));
            std::mem::forget(saved);
        }
        let what = match call {
            Some(call) => format!("{}: {why}", met(call)),
            None => why,
        };
        end(&report(None, what))
    }
}

unsafe fn exception_text(exception: *mut PyObject) -> String {
    // SAFETY: live or null.
    unsafe {
        if exception.is_null() {
            return "an unknown exception".into();
        }
        let words = Owned(PyObject_Repr(exception));
        text(words.0)
    }
}

/// Another function was called than in the recording.
///
/// # Safety
/// As [`stop`].
pub unsafe fn other_call(call: &Call) -> ! {
    // SAFETY: by contract.
    unsafe { end(&report(None, met(call))) }
}

/// The same function was called from another place.
///
/// # Safety
/// As [`stop`].
pub unsafe fn other_caller(call: &Call, recorded: u16, here: u16) -> ! {
    // SAFETY: by contract.
    unsafe {
        let expected = format!("{} called at +{recorded}", call.hook.name);
        end(&report(Some(expected), format!("{} called at +{here}", met(call))))
    }
}

/// The arguments differ: said once for each call, and the end under `--strict`. A log line may hold an address.
///
/// # Safety
/// As [`stop`].
pub unsafe fn other_arguments(call: &Call, recorded: &[Value], met_values: &[Value], strict: bool) {
    // SAFETY: by contract.
    unsafe {
        let list = |values: &[Value]| values.iter().map(|value| shortened(value, 60)).collect::<Vec<_>>().join(", ");
        let expected = format!("{}({})", call.hook.name, list(recorded));
        let found = format!("{}({})", call.hook.name, list(met_values));
        if strict {
            end(&report(Some(expected), found));
        }
        if crate::attempt::doubts_arguments() {
            crate::attempt::end_in_doubt("arguments", "");
        }
        if !crate::start::is_quiet() {
            let event = source().index().0;
            tell(&format!("retrace: event {event}: the arguments differ: recorded {expected}, met {found}\n"));
        }
    }
}

/// The log has no more events, but the program goes on.
///
/// # Safety
/// As [`stop`].
pub unsafe fn log_ended(call: &Call) -> ! {
    // SAFETY: by contract.
    unsafe { recording_cut(&met(call)) }
}

/// The recorder said why it stopped before the program did.
///
/// # Safety
/// As [`stop`].
pub unsafe fn recording_stopped() -> ! {
    // SAFETY: by contract.
    unsafe {
        flush_console();
        let index = source().index().0;
        let reason = match source().next_event() {
            Ok(Some((_, Event::Stopped(reason)))) => reason.to_string_lossy(),
            _ => "the reason is not readable".to_owned(),
        };
        tell(&format!("retrace: the recording ends here, at event {index}: {reason}\n"));
        crate::timeline::ended(crate::start::status_at_cut());
        libc::_exit(crate::start::status_at_cut())
    }
}

/// The schedule can't be followed. Without a Python stack: it is found while a thread is between having the GIL and not.
///
/// # Safety
/// Replaying.
pub unsafe fn schedule_lost(met: String) -> ! {
    // SAFETY: by contract.
    unsafe { end(&lost_schedule(met)) }
}

/// The replay does not come to what was recorded next.
///
/// # Safety
/// As [`schedule_lost`].
pub unsafe fn out_of_patience(met: String) -> ! {
    // SAFETY: by contract.
    unsafe { end_as("endless", &lost_schedule(met)) }
}

/// The same from a signal's handler that may only do what a handler may: without what was recorded there.
///
/// # Safety
/// Replaying; ends the process.
pub unsafe fn report_in_handler(event: u64) -> ! {
    struct Line([u8; 200], usize);
    impl fmt::Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let n = text.len().min(self.0.len() - self.1);
            self.0[self.1..self.1 + n].copy_from_slice(&text.as_bytes()[..n]);
            self.1 += n;
            Ok(())
        }
    }
    let mut line = Line([0; 200], 0);
    let _ = fmt::Write::write_fmt(
        &mut line,
        format_args!("retrace: the replay left the recording at event {event}\n  met:      C code that does not end\n"),
    );
    // SAFETY: by contract; a live buffer.
    unsafe {
        libc::write(2, line.0.as_ptr().cast(), line.1);
        libc::_exit(EXIT_STATUS)
    }
}

unsafe fn lost_schedule(met: String) -> Divergence {
    // SAFETY: by the contract of `schedule_lost`.
    unsafe {
        if source().at_end() {
            recording_cut(&met);
        }
        session::set_mode(Mode::Off);
        let (before, at) = events_around();
        let expected = at.unwrap_or_else(|| "the end of the recording".to_owned());
        let met = with_candidates(met);
        Divergence { event: source().index().0, expected, met, stack: Vec::new(), before }
    }
}

/// Something happens here that the recording does not have, outside of any call.
///
/// # Safety
/// As [`stop`].
pub unsafe fn stop_at(what: &str) -> ! {
    // SAFETY: by contract.
    unsafe { stop(None, &Failure::Missing(what.to_owned())) }
}

/// Where the recording was stopped: the replay ends as it did. Anywhere else what is met is a divergence.
///
/// # Safety
/// As [`stop`].
pub unsafe fn stopped_or(met: &str) -> ! {
    // SAFETY: by contract.
    unsafe {
        crate::replay::read_pending_hooks();
        if source().peek_code() == Ok(code::STOPPED) {
            recording_stopped()
        }
        stop_at(met)
    }
}

/// The log ends before something that needs it.
///
/// # Safety
/// Replaying.
pub unsafe fn recording_cut(next: &str) -> ! {
    flush_console();
    // SAFETY: by contract.
    unsafe {
        session::set_mode(Mode::Off);
        tell(&format!(
            "retrace: the recording ends here, at event {}: it was cut, or its process was killed (next would be {next})\n",
            source().index().0
        ));
        crate::timeline::ended(crate::start::status_at_cut());
        libc::_exit(crate::start::status_at_cut())
    }
}

/// The recorded process ended inside this call (`os._exit`, `os.abort`, `os.kill`, `exec`): so does the replay.
///
/// # Safety
/// As [`stop`].
pub unsafe fn end_of_recording(call: &Call) -> ! {
    // SAFETY: by contract; none of these returns.
    unsafe {
        flush_console();
        crate::timeline::ended(0);
        let argument = |i: usize| {
            call.args.get(i).filter(|&&arg| PyLong_Check(arg) != 0).map_or(0, |&arg| PyLong_AsLong(arg) as i32)
        };
        let die = |signal: i32| {
            libc::signal(signal, libc::SIG_DFL);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
            libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
            libc::raise(signal);
            libc::_exit(128 + signal)
        };
        match call.hook.entry.name {
            "_exit" => libc::_exit(argument(0)),
            "abort" | "_sigabrt" => die(libc::SIGABRT),
            "_sigsegv" => die(libc::SIGSEGV),
            "_sigfpe" => die(libc::SIGFPE),
            "kill" | "killpg" | "pthread_kill" | "pidfd_send_signal" => die(argument(1)),
            "raise_signal" => die(argument(0)),
            name => {
                tell(&format!("retrace: the recording ends here: {name} replaced the program\n"));
                libc::_exit(0)
            }
        }
    }
}

/// The recorded process ended with its last thread, without the interpreter's end: so does the replay.
///
/// # Safety
/// Replaying.
pub unsafe fn end_of_process(status: i32) -> ! {
    flush_console();
    // SAFETY: by contract; ends the process.
    unsafe {
        crate::timeline::ended(status.max(0));
        libc::_exit(status.max(0))
    }
}

/// At the interpreter's end, events are left that the program never came to.
///
/// # Safety
/// Replaying; called at the very end.
pub unsafe fn events_left() -> bool {
    // SAFETY: by contract.
    unsafe {
        let rest = source();
        if rest.at_end() {
            return false;
        }
        while rest.peek_code() == Ok(code::COLLECT) {
            // At the very end nothing collects any more, and nothing is there to notice.
            if rest.next_event().is_err() {
                break;
            }
        }
        match rest.peek_code() {
            Ok(code::END | code::STOPPED) => false,
            _ => {
                let (before, at) = events_around();
                let divergence = Divergence {
                    event: rest.index().0,
                    expected: at.unwrap_or_default(),
                    met: "the end of the program".to_owned(),
                    stack: Vec::new(),
                    before,
                };
                let report = divergence.to_string();
                crate::timeline::report_divergence(&report);
                crate::attempt::end_in_doubt("diverged", &report);
                tell(&report);
                true
            }
        }
    }
}
