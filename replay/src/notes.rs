//! What a stream says once and refers to from then on: strings, and the arguments of calls.
//!
//! A note is an item of the stream between events, and no event itself. It stands before what refers to it, however
//! events of several threads interleave: it is written when it is made, and an event only when it is whole.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use crate::byte_source::{ByteSource, DecodeError};
use crate::event::code;
use crate::strings::Str;
use crate::text::Text;
use crate::turns::Turns;
use crate::value::{put_prefixed, put_str, put_varint};

/// The most strings, and the most argument sections, that a stream notes.
pub const MAX_NOTES: usize = 1024;
/// The longest argument section that may be noted, in bytes.
pub const MAX_SECTION: usize = 96;
/// In the place of a call's number of arguments: the number of a note follows. So no call has more than 254.
pub const NOTED: u8 = 255;

#[derive(Debug, Clone, Default)]
struct Tables {
    strings: Vec<Arc<Text>>,
    indices: HashMap<Arc<Text>, u32>,
    arguments: Vec<Arc<[u8]>>,
}

/// What a decoder has to remember of the stream so far. Part of a stream's position, so cloning it is cheap.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    tables: Option<Arc<Tables>>,
    pub(crate) turns: Turns,
}

impl Notes {
    /// The string of that number, if it has been met.
    pub fn string(&self, index: u64) -> Option<&Arc<Text>> {
        self.tables.as_ref()?.strings.get(usize::try_from(index).ok()?)
    }

    /// The number of a string that has been met.
    pub fn index_of(&self, string: &str) -> Option<u32> {
        self.tables.as_ref()?.indices.get(&Text::from(string)).copied()
    }

    /// The argument section of that number: a count and the values.
    pub fn arguments(&self, index: u64) -> Result<&Arc<[u8]>, DecodeError> {
        let known = self.tables.as_ref().and_then(|tables| tables.arguments.get(usize::try_from(index).ok()?));
        known.ok_or(DecodeError::UnknownNote(index))
    }

    /// Reads a note whose head has been read.
    pub(crate) fn read<S: ByteSource>(&mut self, source: &mut S) -> Result<(), DecodeError> {
        let (mut strings, mut arguments) = (Vec::new(), Vec::new());
        for _ in 0..source.read_varint()? {
            match Str::decode(source, &mut Notes::default())? {
                Str::Plain(text) => strings.push(Arc::new(text)),
                Str::Again(index, _) => return Err(DecodeError::UnknownNote(index)),
            }
            self.bound(strings.len(), 0)?;
        }
        for _ in 0..source.read_varint()? {
            arguments.push(Arc::from(source.read_prefixed()?));
            self.bound(strings.len(), arguments.len())?;
        }
        // Only now: a note is read whole or not at all.
        let tables = Arc::make_mut(self.tables.get_or_insert_default());
        for text in strings {
            let index = tables.strings.len() as u32;
            tables.indices.entry(Arc::clone(&text)).or_insert(index);
            tables.strings.push(text);
        }
        tables.arguments.extend(arguments);
        Ok(())
    }

    /// Whether so many more may come.
    fn bound(&self, strings: usize, arguments: usize) -> Result<(), DecodeError> {
        let (old_strings, old_arguments) =
            self.tables.as_ref().map_or((0, 0), |tables| (tables.strings.len(), tables.arguments.len()));
        let fits = old_strings + strings <= MAX_NOTES && old_arguments + arguments <= MAX_NOTES;
        if fits { Ok(()) } else { Err(DecodeError::TooManyNotes) }
    }
}

/// Appends a note of these strings and argument sections. They get the next numbers.
pub fn put_note(out: &mut Vec<u8>, strings: &[&str], arguments: &[&[u8]]) {
    out.extend_from_slice(&code::NOTE.to_le_bytes());
    put_varint(out, strings.len() as u64);
    for string in strings {
        put_str(out, string);
    }
    put_varint(out, arguments.len() as u64);
    for section in arguments {
        put_prefixed(out, section);
    }
}
