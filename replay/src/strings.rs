//! Notes as the stream stores them: in place, or by the number of one that was noted before.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::byte_source::{ByteSource, DecodeError};
use crate::notes::Notes;
use crate::text::{Text, Width};
use crate::value::{put_varint, tag};

/// Appends `string` as a value.
pub fn put_str(out: &mut Vec<u8>, string: &str) {
    if string.is_ascii() {
        put_str_head(out, tag::STR_ASCII, string.len());
        out.extend_from_slice(string.as_bytes());
    } else {
        put_text(out, &Text::from(string));
    }
}

/// Appends what a string's value begins with: a tag, which holds the length of a short one.
#[inline]
pub fn put_str_head(out: &mut Vec<u8>, tag: u8, length: usize) {
    if tag == tag::STR_ASCII && length < tag::SHORT_STRS {
        out.push(tag::SHORT_STR | length as u8);
    } else {
        out.push(tag);
        put_varint(out, length as u64);
    }
}

/// Appends the value of the noted string of that number.
pub fn put_again(out: &mut Vec<u8>, index: u64) {
    if index < tag::SHORT_AGAINS {
        out.push(tag::SHORT_AGAIN | index as u8);
    } else {
        out.push(tag::AGAIN);
        put_varint(out, index);
    }
}

fn put_text(out: &mut Vec<u8>, text: &Text) {
    let tag = match text.width() {
        Width::Ascii => tag::STR_ASCII,
        Width::One => tag::STR1,
        Width::Two => tag::STR2,
        Width::Four => tag::STR4,
    };
    put_str_head(out, tag, text.len());
    out.extend_from_slice(text.data());
}

/// A string and how the stream stores it.
#[derive(Debug, Clone, PartialEq)]
pub enum Str {
    /// In place.
    Plain(Text),
    /// By the number of a note. The text is `None` where the decoder did not see the stream from its beginning.
    Again(u64, Option<Arc<Text>>),
}

impl Str {
    /// The characters, where known.
    pub fn text(&self) -> Option<&Text> {
        match self {
            Str::Plain(text) => Some(text),
            Str::Again(_, Some(text)) => Some(text),
            Str::Again(_, None) => None,
        }
    }

    /// The string for a listing: lone surrogates and unknown strings are replaced.
    pub fn to_string_lossy(&self) -> String {
        match self {
            Str::Again(index, None) => format!("<string {index}>"),
            _ => self.text().map(Text::to_string_lossy).unwrap_or_default(),
        }
    }

    /// Appends the string as a value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Str::Plain(text) => put_text(out, text),
            Str::Again(index, _) => put_again(out, *index),
        }
    }

    /// Reads a value that has to be a string.
    pub fn decode<S: ByteSource>(source: &mut S, notes: &mut Notes) -> Result<Str, DecodeError> {
        let tag = source.read_u8()?;
        Str::decode_tagged(tag, source, notes)?.ok_or(DecodeError::NotAString(tag))
    }

    /// Reads the string that `tag` began; `None` when it began something else.
    pub(crate) fn decode_tagged<S: ByteSource>(
        tag: u8,
        source: &mut S,
        notes: &Notes,
    ) -> Result<Option<Str>, DecodeError> {
        if let Some(text) = decode_text(tag, source)? {
            return Ok(Some(Str::Plain(text)));
        }
        let index = match tag {
            tag::AGAIN => source.read_varint()?,
            tag::SHORT_AGAIN..=tag::LAST_SHORT_AGAIN => u64::from(tag - tag::SHORT_AGAIN),
            _ => return Ok(None),
        };
        Ok(Some(Str::Again(index, notes.string(index).cloned())))
    }
}

impl From<&str> for Str {
    fn from(string: &str) -> Str {
        Str::Plain(Text::from(string))
    }
}

fn decode_text<S: ByteSource>(tag: u8, source: &mut S) -> Result<Option<Text>, DecodeError> {
    let (width, length) = match tag {
        tag::STR_ASCII => (Width::Ascii, source.read_varint()?),
        tag::STR1 => (Width::One, source.read_varint()?),
        tag::STR2 => (Width::Two, source.read_varint()?),
        tag::STR4 => (Width::Four, source.read_varint()?),
        tag::SHORT_STR..=tag::LAST_SHORT_STR => (Width::Ascii, u64::from(tag - tag::SHORT_STR)),
        _ => return Ok(None),
    };
    let bytes = length.checked_mul(width.bytes() as u64).ok_or(DecodeError::UnexpectedEnd)?;
    let data = source.read_vec(bytes)?;
    Text::from_raw(width, data).ok_or(DecodeError::BadText).map(Some)
}
