//! The short forms of the events of the schedule: threads by how new they are, idents by their distance.
#![forbid(unsafe_code)]

use crate::byte_source::{ByteSource, DecodeError};
use crate::event::{ARGUMENTS_BIT, Event, Fingerprint, Position, code, form};
use crate::value::put_varint;

/// Forms of a `switch` event. The general one is 0.
mod from {
    pub const IN_CALL: u16 = 1;
    pub const FIRST_RELEASE: u16 = 2;
    pub const RELEASE: u16 = 3;
    pub const CHECK: u16 = 4;
}

/// The form of a `thread` event of the next thread, made without an error.
const NEXT_THREAD: u16 = 1;
/// The most tries that stand in the form of a `busy` event.
const MAX_TRIES: u64 = 7;

/// Which threads the stream has named last. The writer keeps one as the reader does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    /// Who has the GIL, and who had it before.
    running: u64,
    before: u64,
    /// The thread that was made last, and its ident.
    newest: u64,
    ident: u64,
}

impl Turns {
    /// As a stream begins.
    pub const fn new() -> Turns {
        Turns { running: 0, before: 0, newest: 0, ident: 0 }
    }

    fn switched(&mut self, thread: u64) {
        self.before = self.running;
        self.running = thread;
    }

    fn made(&mut self, serial: u64, ident: u64, error: i32) {
        self.newest = serial;
        if error == 0 {
            self.ident = ident;
        }
    }

    /// Appends an event in its shortest form, which depends on the events before.
    pub fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        match *event {
            Event::Switch { thread, from } => {
                if !self.put_switch(out, thread, from) {
                    event.encode(out);
                }
                self.switched(thread);
            }
            Event::Thread { serial, ident, kind, error } => {
                if kind == 0 && error == 0 && Some(serial) == self.newest.checked_add(1) {
                    put_head(out, code::THREAD, NEXT_THREAD);
                    let distance = ident.wrapping_sub(self.ident) as i64;
                    put_varint(out, (distance << 1 ^ distance >> 63) as u64);
                } else {
                    event.encode(out);
                }
                self.made(serial, ident, error);
            }
            Event::Busy { tries: tries @ 1..=MAX_TRIES } => put_head(out, code::BUSY, tries as u16),
            _ => event.encode(out),
        }
    }

    /// False where only the general form can hold it.
    fn put_switch(&self, out: &mut Vec<u8>, thread: u64, from: Position) -> bool {
        let form = match from {
            Position::InCall => from::IN_CALL,
            Position::Released(1) => from::FIRST_RELEASE,
            Position::Released(_) => from::RELEASE,
            Position::Check(_) => from::CHECK,
            // So rare that they have none.
            Position::Between(_) | Position::Freeing(_) | Position::Freed(_) => return false,
        };
        if thread == self.before {
            put_head(out, code::SWITCH | ARGUMENTS_BIT, form);
        } else {
            let age = match self.newest.checked_sub(thread) {
                _ if thread == 0 => 0,
                Some(age) => age + 1,
                None => return false,
            };
            put_head(out, code::SWITCH, form);
            put_varint(out, age);
        }
        match from {
            Position::Released(count) if form == from::RELEASE => put_varint(out, count),
            Position::Check(fingerprint) => fingerprint.encode(out),
            _ => {}
        }
        true
    }

    /// Reads an event of the schedule whose head has been read; `None` where it is none.
    pub(crate) fn decode<S: ByteSource>(&mut self, head: u16, source: &mut S) -> Result<Option<Event>, DecodeError> {
        let form = (head & !ARGUMENTS_BIT) >> form::SHIFT;
        let back = head & ARGUMENTS_BIT != 0;
        let event = match (head & code::MASK, form) {
            (code::SWITCH, 0) if !back => {
                Event::Switch { thread: source.read_varint()?, from: Position::decode(source)? }
            }
            (code::SWITCH, from::IN_CALL..=from::CHECK) => {
                let thread = if back { self.before } else { self.thread_of_age(source.read_varint()?)? };
                let from = match form {
                    from::IN_CALL => Position::InCall,
                    from::FIRST_RELEASE => Position::Released(1),
                    from::RELEASE => Position::Released(source.read_varint()?),
                    _ => Position::Check(Fingerprint::decode(source)?),
                };
                Event::Switch { thread, from }
            }
            (code::THREAD, 0) if !back => Event::Thread {
                serial: source.read_varint()?,
                ident: source.read_u64()?,
                kind: source.read_u8()?,
                error: source.read_u32()? as i32,
            },
            (code::THREAD, NEXT_THREAD) if !back => {
                let serial = self.newest.checked_add(1).ok_or(DecodeError::UnknownThread(u64::MAX))?;
                let zigzag = source.read_varint()?;
                let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                Event::Thread { serial, ident: self.ident.wrapping_add(distance as u64), kind: 0, error: 0 }
            }
            (code::BUSY, 0) if !back => Event::Busy { tries: source.read_varint()? },
            (code::BUSY, tries) if !back => Event::Busy { tries: tries.into() },
            (code::SWITCH | code::THREAD | code::BUSY, _) => {
                return Err(DecodeError::UnknownForm((head >> form::SHIFT) as u8));
            }
            _ => return Ok(None),
        };
        match event {
            Event::Switch { thread, .. } => self.switched(thread),
            Event::Thread { serial, ident, error, .. } => self.made(serial, ident, error),
            _ => {}
        }
        Ok(Some(event))
    }

    /// 0 is the main thread, 1 the one that was made last, 2 the one before that.
    fn thread_of_age(&self, age: u64) -> Result<u64, DecodeError> {
        match age {
            0 => Ok(0),
            _ => self.newest.checked_sub(age - 1).ok_or(DecodeError::UnknownThread(age)),
        }
    }
}

fn put_head(out: &mut Vec<u8>, head: u16, form: u16) {
    out.extend_from_slice(&(head | form << form::SHIFT).to_le_bytes());
}
