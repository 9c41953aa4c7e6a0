//! What the log says once and refers to from then on, as `retrace_replay::notes` has it: strings (names of types and
//! keywords, results that come again) and the arguments of calls.
//!
//! A note is appended at once, before the event that refers to it is whole: what other threads log in between may refer
//! to it as well. Replay needs no more than what the stream has noted to write an argument as the recorder did.

use crate::gil::GilCell;
use crate::session::{self, Mode};
use retrace_replay::content_hash;
use retrace_replay::notes::{MAX_NOTES, MAX_SECTION, NOTED, put_note};
use retrace_replay::value::{put_again, put_str, put_varint};
use rustc_hash::FxHashMap;

/// Longer names are not noted.
const MAX_STRING: usize = 64;
/// Shorter results would gain nothing.
const MIN_STRING: usize = 4;

/// What this process's stream has noted, and in which order.
#[derive(Default)]
struct Notes {
    strings: FxHashMap<Box<str>, usize>,
    arguments: FxHashMap<Box<[u8]>, usize>,
}

static NOTES: GilCell<Option<Notes>> = GilCell::new(None);
/// Hashes of what was met and not noted yet, where the next one of that place has not driven it out.
static MET: GilCell<[u32; 512]> = GilCell::new([0; 512]);
/// Nothing is to be noted, or referred to: the stream has no start event yet.
static mut PAUSED: bool = false;

/// Appends the value of a name, which is likely to come again.
///
/// # Safety
/// The GIL is held.
pub unsafe fn put_name(out: &mut Vec<u8>, name: &str) {
    // SAFETY: by contract.
    let index = unsafe {
        match session::mode() {
            Mode::Recording => noted_string(name, true),
            Mode::Replaying => crate::replay::source().notes().index_of(name).map(|index| index as usize),
            _ => None,
        }
    };
    match index {
        Some(index) => put_again(out, index as u64),
        None => put_str(out, name),
    }
}

/// Appends the value of a string that came before; `false` where it is new, or too long or short to matter.
///
/// # Safety
/// The GIL is held.
pub unsafe fn put_known(out: &mut Vec<u8>, string: &[u8]) -> bool {
    if !(MIN_STRING..=MAX_STRING).contains(&string.len()) || !string.is_ascii() {
        return false;
    }
    // SAFETY: by contract.
    unsafe {
        if session::mode() != Mode::Recording {
            return false;
        }
        let Ok(string) = str::from_utf8(string) else { return false };
        match noted_string(string, false) {
            Some(index) => put_again(out, index as u64),
            None => return false,
        }
    }
    true
}

unsafe fn noted_string(string: &str, at_once: bool) -> Option<usize> {
    // SAFETY: recording, the GIL held.
    unsafe {
        if PAUSED {
            return None;
        }
        let strings = &mut NOTES.get().get_or_insert_default().strings;
        if let Some(&index) = strings.get(string) {
            return Some(index);
        }
        let index = strings.len();
        if index == MAX_NOTES || string.len() > MAX_STRING || !(at_once || was_met(string.as_bytes())) {
            return None;
        }
        strings.insert(string.into(), index);
        append(&[string], &[]);
        Some(index)
    }
}

/// Puts the number of a note in the place of the arguments section that `out` ends with, from `start` on, if the same one
/// came before.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn shorten_arguments(out: &mut Vec<u8>, start: usize) {
    // The number takes up to three bytes.
    if !(4..=MAX_SECTION).contains(&(out.len() - start)) {
        return;
    }
    // SAFETY: by contract.
    unsafe {
        if PAUSED {
            return;
        }
        let section = &out[start..];
        let arguments = &mut NOTES.get().get_or_insert_default().arguments;
        let index = match arguments.get(section) {
            Some(&index) => index,
            None => {
                let index = arguments.len();
                if index == MAX_NOTES || !was_met(section) {
                    return;
                }
                arguments.insert(section.into(), index);
                append(&[], &[section]);
                index
            }
        };
        out.truncate(start);
        out.push(NOTED);
        put_varint(out, index as u64);
    }
}

/// Whether these bytes were met not long ago; from now on they were.
unsafe fn was_met(bytes: &[u8]) -> bool {
    let hash = content_hash(bytes);
    // SAFETY: the GIL is held.
    let met = unsafe { MET.get() };
    let place = &mut met[(hash >> 32) as usize % met.len()];
    std::mem::replace(place, hash as u32) == hash as u32
}

unsafe fn append(strings: &[&str], arguments: &[&[u8]]) {
    let mut note = Vec::with_capacity(MAX_SECTION + 8);
    put_note(&mut note, strings, arguments);
    // SAFETY: recording, the GIL held.
    unsafe { session::append(&[&note]) };
}

/// A forked child's stream begins: nothing has been noted in it.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn pause() {
    // SAFETY: by contract.
    unsafe { PAUSED = true };
}

/// The stream has begun. What the parent's had noted is noted here as well, in the same order: an event that is being
/// assembled may refer to it.
///
/// # Safety
/// As [`pause`].
pub unsafe fn resume() {
    // SAFETY: by contract.
    unsafe {
        PAUSED = false;
        let Some(notes) = NOTES.get() else { return };
        let mut strings: Vec<(&str, usize)> = notes.strings.iter().map(|(string, &i)| (&**string, i)).collect();
        let mut arguments: Vec<(&[u8], usize)> = notes.arguments.iter().map(|(section, &i)| (&**section, i)).collect();
        strings.sort_unstable_by_key(|(_, index)| *index);
        arguments.sort_unstable_by_key(|(_, index)| *index);
        let strings: Vec<&str> = strings.into_iter().map(|(string, _)| string).collect();
        let arguments: Vec<&[u8]> = arguments.into_iter().map(|(section, _)| section).collect();
        append(&strings, &arguments);
    }
}
