//! One attempt at a replay. Two positions of a program may look alike in everything that a fingerprint sees; then the
//! first is taken, and the events that follow show whether it was the one. When they show that it was not, the attempt
//! ends without a word, and the command line starts the next one, told which matches to pass over. Output that was shown
//! already is not shown again.

use crate::divergence;
use crate::gil::GilCell;
use std::collections::{HashMap, VecDeque};
use std::env;
use std::path::PathBuf;

/// How many matches are remembered: an early one is not the reason for what happens much later.
const REMEMBERED: usize = 16;

struct Attempt {
    /// Where to say how it ended; `None` outside of the command line.
    report: Option<PathBuf>,
    /// Matches to pass over, by event.
    pass_over: HashMap<u64, u32>,
    /// The events whose positions were found, newest last.
    matches: VecDeque<u64>,
    /// Arguments that differ are not looked into any more.
    accepts_arguments: bool,
    /// Whether it may pass over most of the way to a position (`crate::skip`), and has.
    may_skip: bool,
    has_skipped: bool,
    /// Bytes still to hide and bytes shown or hidden so far, of stdout and stderr.
    hidden: [u64; 2],
    written: [u64; 2],
}

static ATTEMPT: GilCell<Option<Attempt>> = GilCell::new(None);

/// What the command line says, taken out of the environment.
pub const VARIABLES: [&str; 6] = [
    "RETRACE_ATTEMPT",
    "RETRACE_PASS_OVER",
    "RETRACE_SHOWN",
    "RETRACE_ACCEPT_ARGUMENTS",
    "RETRACE_LAYOUT",
    "RETRACE_SKIP",
];

/// # Safety
/// Before the interpreter is initialised: this thread is the only one.
pub unsafe fn from_environment() {
    let pairs = |name, separator| -> Vec<(u64, u64)> {
        let text = env::var(name).unwrap_or_default();
        let pair = |item: &str| {
            let (a, b) = item.split_once(separator)?;
            Some((a.parse().ok()?, b.parse().ok()?))
        };
        text.split(',').filter_map(pair).collect()
    };
    let shown = pairs("RETRACE_SHOWN", '/').first().copied().unwrap_or((0, 0));
    let attempt = Attempt {
        report: env::var_os("RETRACE_ATTEMPT").map(PathBuf::from),
        pass_over: pairs("RETRACE_PASS_OVER", ':').into_iter().map(|(event, n)| (event, n as u32)).collect(),
        matches: VecDeque::new(),
        accepts_arguments: env::var_os("RETRACE_ACCEPT_ARGUMENTS").is_some(),
        may_skip: env::var_os("RETRACE_SKIP").is_some_and(|skip| skip == "1"),
        has_skipped: false,
        hidden: [shown.0, shown.1],
        written: [0, 0],
    };
    // SAFETY: by contract.
    unsafe { *ATTEMPT.get() = Some(attempt) };
    take_room(env::var("RETRACE_LAYOUT").ok().and_then(|layout| layout.parse().ok()).unwrap_or(0));
}

/// Too much for any gap between what is mapped already, and how much more each layout has: another number of pages.
const LAYOUT_ROOM: usize = 256 << 20;
const LAYOUT_STEP: usize = 0x11000;
/// And of the C library's heap.
const LAYOUT_HEAP_STEP: usize = 0x1b0;

/// Takes address space, so that what is loaded and allocated from now on lies elsewhere in each layout. What a library
/// does by its addresses comes out differently then.
fn take_room(layout: usize) {
    let (access, kind) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE);
    // SAFETY: a new map, and memory, that nobody uses. Without them the attempt is like another one.
    unsafe {
        libc::mmap(std::ptr::null_mut(), LAYOUT_ROOM + layout * LAYOUT_STEP, access, kind, -1, 0);
        std::hint::black_box(libc::malloc(layout * LAYOUT_HEAP_STEP + 1));
    }
}

/// The number of an event among all of the attempt's: a replayed process goes on as its children.
unsafe fn event() -> u64 {
    // SAFETY: replaying.
    unsafe {
        let source = crate::replay::source();
        u64::from(source.process()) << 40 | source.index().0
    }
}

/// The position of the next event was found, as it seems. False where this match is to be passed over.
///
/// # Safety
/// Replaying.
pub unsafe fn takes_match() -> bool {
    // SAFETY: by contract.
    unsafe {
        let event = event();
        let Some(attempt) = ATTEMPT.get() else { return true };
        if let Some(left) = attempt.pass_over.get_mut(&event)
            && *left > 0
        {
            *left -= 1;
            return false;
        }
        if attempt.matches.len() == REMEMBERED {
            attempt.matches.pop_front();
        }
        attempt.matches.push_back(event);
        true
    }
}

/// Whether it need not look at all checks on its way to a position.
///
/// # Safety
/// Replaying.
pub unsafe fn may_skip() -> bool {
    // SAFETY: by contract.
    unsafe { ATTEMPT.get() }.as_ref().is_some_and(|attempt| attempt.may_skip && attempt.report.is_some())
}

/// It has not.
///
/// # Safety
/// Replaying.
pub unsafe fn has_skipped() {
    // SAFETY: by contract.
    if let Some(attempt) = unsafe { ATTEMPT.get() } {
        attempt.has_skipped = true;
    }
}

/// This is a copy of the attempt, which looks at all.
///
/// # Safety
/// Replaying.
pub unsafe fn skips_no_more() {
    // SAFETY: by contract.
    if let Some(attempt) = unsafe { ATTEMPT.get() } {
        (attempt.may_skip, attempt.has_skipped) = (false, false);
    }
}

/// What of `bytes` is to be shown on descriptor `own`.
///
/// # Safety
/// Replaying.
pub unsafe fn unseen(own: i32, bytes: &[u8]) -> &[u8] {
    // SAFETY: by contract.
    let attempt = unsafe { ATTEMPT.get() };
    let Some(attempt) = attempt else { return bytes };
    let stream = usize::from(own == 2);
    attempt.written[stream] += bytes.len() as u64;
    let hide = attempt.hidden[stream].min(bytes.len() as u64);
    attempt.hidden[stream] -= hide;
    &bytes[hide as usize..]
}

/// Whether arguments that differ are a reason to doubt the matches so far.
///
/// # Safety
/// Replaying.
pub unsafe fn doubts_arguments() -> bool {
    // SAFETY: by contract.
    let attempt = unsafe { ATTEMPT.get() };
    attempt.as_ref().is_some_and(|a| a.report.is_some() && !a.accepts_arguments && !a.matches.is_empty())
}

/// The attempt has left the recording: ends the process, if the command line waits for that. `what` is the report that is
/// shown if no other attempt does better.
///
/// # Safety
/// Replaying.
pub unsafe fn end_in_doubt(kind: &str, what: &str) {
    // SAFETY: by contract; ends the process without running more of the program.
    unsafe {
        let event = event();
        let Some(attempt) = ATTEMPT.get() else { return };
        let Some(path) = &attempt.report else { return };
        let matches: Vec<String> = attempt.matches.iter().map(u64::to_string).collect();
        let [out, err] = attempt.written;
        let addresses = if crate::turns::are_on() { " addresses" } else { "" };
        let skipped = if attempt.has_skipped { " skipped" } else { "" };
        let text = format!("{kind} {event} {out} {err}{addresses}{skipped}\n{}\n{what}", matches.join(","));
        if std::fs::write(path, text).is_ok() {
            crate::timeline::diverged();
            libc::_exit(divergence::EXIT_STATUS);
        }
    }
}
