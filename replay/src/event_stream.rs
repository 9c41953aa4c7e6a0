//! A cursor over one process's events.
//!
//! Replay's hooks read from it at every boundary call, so the common case, an item within one extent, is a bounds check
//! and a load; crossing into the next extent is out of line.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::byte_source::{ByteSource, DecodeError};
use crate::event::{Event, code};
use crate::notes::{NOTED, Notes};
use crate::trace_reader::{Contents, TraceError};
use crate::value::Value;

/// The position of an event in its process's stream, from 0 (the `start` event).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventIndex(pub u64);

impl fmt::Display for EventIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of a stream: the committed payload of one extent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Where it begins in the file.
    pub(crate) start: usize,
    /// Where it ends in the file.
    pub(crate) end: usize,
    /// Where it begins in the stream.
    pub(crate) position: u64,
}

/// One stream of one process: its spans, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    pub(crate) spans: Vec<Span>,
    /// The last extent is sealed, so that an item that ends early is damage and not a torn tail.
    pub(crate) sealed: bool,
}

impl Chain {
    /// Bytes in all.
    pub(crate) fn length(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.position + (span.end - span.start) as u64)
    }
}

/// A cursor over one stream. Cloning it is cheap, and the clone moves on its own.
#[derive(Clone)]
pub struct EventStream {
    contents: Arc<Contents>,
    chain: Arc<Chain>,
    process: u32,
    /// Offsets in the file: the cursor, and the current span's end.
    at: usize,
    end: usize,
    /// The stream's position of file offset 0, as it were: `at + skew` is the position. Wrapping.
    skew: u64,
    /// The span after the current one.
    next_span: usize,
    index: EventIndex,
    notes: Notes,
    /// Bytes of notes so far.
    noted: u64,
}

impl EventStream {
    pub(crate) fn new(contents: Arc<Contents>, chain: Arc<Chain>, process: u32) -> EventStream {
        let mut stream = EventStream {
            contents,
            chain,
            process,
            at: 0,
            end: 0,
            skew: 0,
            next_span: 0,
            index: EventIndex(0),
            notes: Notes::default(),
            noted: 0,
        };
        stream.enter_next_span();
        stream.skip_notes();
        stream
    }

    /// Moves on to the next span that is not empty. False at the stream's end.
    fn enter_next_span(&mut self) -> bool {
        while let Some(span) = self.chain.spans.get(self.next_span) {
            self.at = span.start;
            self.end = span.end;
            self.skew = span.position.wrapping_sub(span.start as u64);
            self.next_span += 1;
            if self.at != self.end {
                return true;
            }
        }
        false
    }

    /// Where the trace was opened.
    pub(crate) fn path(&self) -> &Path {
        self.contents.path()
    }

    /// Whether the last extent is sealed: then nothing may be torn.
    pub(crate) fn is_sealed(&self) -> bool {
        self.chain.sealed
    }

    /// Leaves out what remains.
    pub(crate) fn move_to_end(&mut self) {
        while self.enter_next_span() {}
        self.at = self.end;
    }

    /// Leaves out `length` bytes.
    pub fn skip(&mut self, mut length: u64) -> Result<(), DecodeError> {
        if length > self.remaining() {
            return Err(DecodeError::UnexpectedEnd);
        }
        loop {
            let n = length.min((self.end - self.at) as u64);
            self.at += n as usize;
            length -= n;
            if length == 0 {
                return Ok(());
            }
            if !self.enter_next_span() {
                return Err(DecodeError::UnexpectedEnd);
            }
        }
    }

    /// The process whose events these are.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Bytes from the stream's beginning to the cursor.
    #[inline]
    pub fn position(&self) -> u64 {
        (self.at as u64).wrapping_add(self.skew)
    }

    /// The stream's length in bytes.
    pub fn length(&self) -> u64 {
        self.chain.length()
    }

    /// Whether nothing is left.
    #[inline]
    pub fn at_end(&self) -> bool {
        self.at == self.end && self.next_span >= self.chain.spans.len()
    }

    /// The index of the event at the cursor: how many have been read before.
    #[inline]
    pub fn index(&self) -> EventIndex {
        self.index
    }

    /// Counts an event. For who reads an event's parts itself; [`next_event`](EventStream::next_event) does it.
    #[inline]
    pub fn finish_event(&mut self) {
        self.index.0 += 1;
        self.skip_notes();
    }

    /// Reads the notes at the cursor. One that is damaged stays there: who reads on meets it.
    #[inline]
    fn skip_notes(&mut self) {
        while self.here() == Some(code::NOTE.to_le_bytes()) || self.here::<2>().is_none() && self.is_note_across() {
            if !self.read_note() {
                break;
            }
        }
    }

    #[cold]
    fn is_note_across(&self) -> bool {
        self.clone().read_u16() == Ok(code::NOTE)
    }

    #[inline(never)]
    fn read_note(&mut self) -> bool {
        let mut ahead = self.clone();
        // The tables are this stream's alone while they change, or they would be copied.
        let mut notes = std::mem::take(&mut self.notes);
        ahead.notes = Notes::default();
        let read = ahead.read_u16().and_then(|_| notes.read(&mut ahead));
        self.notes = notes;
        match read {
            Ok(()) => {
                self.noted += ahead.position() - self.position();
                (self.at, self.end, self.skew, self.next_span) = (ahead.at, ahead.end, ahead.skew, ahead.next_span);
            }
            Err(DecodeError::UnexpectedEnd) if !self.chain.sealed => self.move_to_end(),
            Err(_) => return false,
        }
        !self.at_end()
    }

    /// How many bytes of notes have been read.
    pub fn noted(&self) -> u64 {
        self.noted
    }

    /// The next `N` bytes, where they are in the current extent.
    #[inline(always)]
    fn here<const N: usize>(&self) -> Option<[u8; N]> {
        if self.end - self.at < N {
            return None;
        }
        self.contents.bytes().get(self.at..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn read_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.here() {
            Some(bytes) => {
                self.at += N;
                Ok(bytes)
            }
            None => self.read_array_across(),
        }
    }

    #[cold]
    #[inline(never)]
    fn read_array_across<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The next two bytes, an event's head, without moving.
    #[inline]
    pub fn peek_u16(&self) -> Result<u16, DecodeError> {
        match self.here() {
            Some(bytes) => Ok(u16::from_le_bytes(bytes)),
            None => self.clone().read_u16(),
        }
    }

    /// The code of the event at the cursor, without moving: a call's hook, or the kind of another event. With its form
    /// where that kind has none.
    #[inline]
    pub fn peek_code(&self) -> Result<u16, DecodeError> {
        let head = self.peek_u16()?;
        let code = head & code::MASK;
        let has_forms = code < code::START || matches!(code, code::SWITCH | code::THREAD | code::BUSY);
        Ok(if has_forms { code } else { head })
    }

    /// Reads one byte.
    #[inline]
    pub fn read_u8(&mut self) -> Result<u8, DecodeError> {
        self.read_array::<1>().map(|[byte]| byte)
    }

    /// Reads a little-endian `u16`.
    #[inline]
    pub fn read_u16(&mut self) -> Result<u16, DecodeError> {
        self.read_array().map(u16::from_le_bytes)
    }

    /// Reads a little-endian `u32`.
    #[inline]
    pub fn read_u32(&mut self) -> Result<u32, DecodeError> {
        self.read_array().map(u32::from_le_bytes)
    }

    /// Reads a little-endian `u64`.
    #[inline]
    pub fn read_u64(&mut self) -> Result<u64, DecodeError> {
        self.read_array().map(u64::from_le_bytes)
    }

    /// Reads a double, bit for bit.
    #[inline]
    pub fn read_f64(&mut self) -> Result<f64, DecodeError> {
        self.read_array().map(f64::from_le_bytes)
    }

    /// Reads an unsigned LEB128 number.
    #[inline]
    pub fn read_varint(&mut self) -> Result<u64, DecodeError> {
        // Most are of one byte.
        match self.here::<1>() {
            Some([byte @ 0..0x80]) => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => ByteSource::read_varint(self),
        }
    }

    /// Fills `buffer`.
    pub fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), DecodeError> {
        if buffer.len() as u64 > self.remaining() {
            return Err(DecodeError::UnexpectedEnd);
        }
        while !buffer.is_empty() {
            if self.at == self.end && !self.enter_next_span() {
                return Err(DecodeError::UnexpectedEnd);
            }
            let n = buffer.len().min(self.end - self.at);
            let (now, later) = buffer.split_at_mut(n);
            now.copy_from_slice(self.contents.bytes().get(self.at..self.at + n).ok_or(DecodeError::UnexpectedEnd)?);
            self.at += n;
            buffer = later;
        }
        Ok(())
    }

    /// Goes on behind the arguments section at the cursor if it is this one, in place or as a note.
    pub fn passes(&mut self, section: &[u8]) -> bool {
        let mut ahead = self.clone();
        let same = match ahead.read_u8() {
            Ok(NOTED) => {
                let noted = ahead.read_varint().and_then(|index| self.notes.arguments(index));
                noted.is_ok_and(|noted| **noted == *section)
            }
            Ok(count) if section.first() == Some(&count) && ahead.remaining() >= section.len() as u64 - 1 => {
                let mut theirs = vec![0; section.len() - 1];
                ahead.read_exact(&mut theirs).is_ok() && theirs == section[1..]
            }
            _ => false,
        };
        if same {
            (self.at, self.end, self.skew, self.next_span) = (ahead.at, ahead.end, ahead.skew, ahead.next_span);
        }
        same
    }

    /// Reads `length` bytes; borrowed from the trace where they are in one extent.
    pub fn read_bytes(&mut self, length: u64) -> Result<Cow<'_, [u8]>, DecodeError> {
        if length <= (self.end - self.at) as u64 {
            let start = self.at;
            self.at += length as usize;
            let bytes = self.contents.bytes().get(start..self.at).ok_or(DecodeError::UnexpectedEnd)?;
            return Ok(Cow::Borrowed(bytes));
        }
        self.read_vec(length).map(Cow::Owned)
    }

    /// Reads one value.
    pub fn read_value(&mut self) -> Result<Value, DecodeError> {
        self.with_notes(Value::decode)
    }

    /// What the stream has noted so far.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Reads with what the stream has noted.
    pub fn with_notes<T>(&mut self, read: impl FnOnce(&mut Self, &mut Notes) -> T) -> T {
        let mut notes = std::mem::take(&mut self.notes);
        let result = read(self, &mut notes);
        self.notes = notes;
        result
    }

    /// Reads the next event and its index. `None` at the end, which is also where a torn tail begins.
    pub fn next_event(&mut self) -> Result<Option<(EventIndex, Event)>, TraceError> {
        if self.at_end() {
            return Ok(None);
        }
        let (index, position) = (self.index, self.position());
        match self.with_notes(Event::decode) {
            Ok(event) => {
                self.finish_event();
                Ok(Some((index, event)))
            }
            Err(DecodeError::UnexpectedEnd) if !self.chain.sealed => {
                self.move_to_end();
                Ok(None)
            }
            Err(source) => Err(self.malformed(index, position, source)),
        }
    }

    /// The error for bytes that make no sense, with where they are. For who reads an event's parts itself.
    pub fn malformed(&self, index: EventIndex, position: u64, source: DecodeError) -> TraceError {
        let path = self.contents.path().to_owned();
        TraceError::Malformed { path, process: self.process, event: index, position, source }
    }
}

impl ByteSource for EventStream {
    #[inline]
    fn remaining(&self) -> u64 {
        self.chain.length() - self.position()
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), DecodeError> {
        EventStream::read_exact(self, buffer)
    }

    #[inline]
    fn read_u8(&mut self) -> Result<u8, DecodeError> {
        EventStream::read_u8(self)
    }
}
