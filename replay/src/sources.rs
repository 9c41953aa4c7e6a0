//! The source files stored in a trace.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::byte_source::DecodeError;
use crate::content_hash;
use crate::event_stream::EventStream;
use crate::layout;
use crate::text::Text;
use crate::trace_reader::TraceError;
use crate::value::{Notes, Str};

/// One stored source file.
#[derive(Clone)]
pub struct Source {
    /// The path the program imported it from.
    pub path: Text,
    /// XXH3 of the contents.
    pub hash: u64,
    /// The length of the contents in bytes.
    pub length: u64,
    /// A cursor at the compressed contents, here or where they were first stored.
    cursor: EventStream,
    compressed: u64,
}

impl Source {
    /// Decompresses the contents, and checks them.
    pub fn contents(&self) -> Result<Vec<u8>, TraceError> {
        self.decompress().map_err(|what| malformed(&self.cursor, self.cursor.position(), what))
    }

    fn decompress(&self) -> Result<Vec<u8>, String> {
        // The length is what will be allocated: a hostile trace may say anything.
        if self.length > layout::MAX_SOURCE {
            return Err(format!("it is said to have {} bytes", self.length));
        }
        let mut cursor = self.cursor.clone();
        let compressed = cursor.read_bytes(self.compressed).map_err(|error| error.to_string())?;
        let contents = zstd::bulk::decompress(&compressed, self.length as usize).map_err(|error| error.to_string())?;
        if contents.len() as u64 != self.length || content_hash(&contents) != self.hash {
            return Err("its contents are not those it was stored with".to_owned());
        }
        Ok(contents)
    }
}

fn malformed(stream: &EventStream, position: u64, what: String) -> TraceError {
    TraceError::MalformedSource { path: stream.path().to_owned(), process: stream.process(), position, what }
}

/// The sources of one process, in the order they were stored. Ends after an error.
pub struct Sources {
    stream: EventStream,
    /// Where the contents of each hash are.
    stored: HashMap<u64, (EventStream, u64)>,
}

impl Sources {
    pub(crate) fn new(stream: EventStream) -> Sources {
        Sources { stream, stored: HashMap::new() }
    }

    fn read(&mut self) -> Result<Source, DecodeError> {
        let kind = self.stream.read_u8()?;
        if kind != layout::SOURCE_ITEM {
            return Err(DecodeError::UnknownTag(kind));
        }
        let path = match Str::decode(&mut self.stream, &mut Notes::default())? {
            Str::Plain(path) => path,
            _ => return Err(DecodeError::BadText),
        };
        let hash = self.stream.read_u64()?;
        let length = self.stream.read_varint()?;
        let compressed = self.stream.read_varint()?;
        let here = (self.stream.clone(), compressed);
        self.stream.skip(compressed)?;
        // No bytes: the contents were stored before, under another path perhaps. Damage shows when they are read.
        let (cursor, compressed) = match compressed {
            0 => self.stored.get(&hash).cloned().unwrap_or(here),
            _ => {
                self.stored.insert(hash, here.clone());
                here
            }
        };
        Ok(Source { path, hash, length, cursor, compressed })
    }
}

impl Iterator for Sources {
    type Item = Result<Source, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stream.at_end() {
            return None;
        }
        let position = self.stream.position();
        match self.read() {
            Ok(source) => Some(Ok(source)),
            Err(error) => {
                let torn = error == DecodeError::UnexpectedEnd && !self.stream.is_sealed();
                self.stream.move_to_end();
                (!torn).then(|| Err(malformed(&self.stream, position, error.to_string())))
            }
        }
    }
}
