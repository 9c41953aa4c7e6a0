//! Strings as the stream stores them: in place, or by the number of one that came before.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::byte_source::{ByteSource, DecodeError};
use crate::text::{Text, Width};
use crate::value::{put_prefixed, put_varint, tag};

/// Appends `string` as a value.
pub fn put_str(out: &mut Vec<u8>, string: &str) {
    if string.is_ascii() {
        out.push(tag::STR_ASCII);
        put_prefixed(out, string.as_bytes());
    } else {
        put_text(out, &Text::from(string));
    }
}

fn put_text(out: &mut Vec<u8>, text: &Text) {
    out.push(match text.width() {
        Width::Ascii => tag::STR_ASCII,
        Width::One => tag::STR1,
        Width::Two => tag::STR2,
        Width::Four => tag::STR4,
    });
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.data());
}

/// The strings a stream has interned so far. Part of a stream's position: a decoder carries it along.
#[derive(Debug, Clone, Default)]
pub struct Strings {
    interned: Vec<Arc<Text>>,
}

impl Strings {
    /// The string that `Again(index)` means, if it has been met.
    pub fn get(&self, index: u64) -> Option<&Arc<Text>> {
        self.interned.get(usize::try_from(index).ok()?)
    }
}

/// A string and how the stream stores it.
#[derive(Debug, Clone, PartialEq)]
pub enum Str {
    /// In place.
    Plain(Text),
    /// In place, and from here on to be referred to by number.
    Interned(Arc<Text>),
    /// By number. The text is `None` where the decoder did not see the stream from its beginning.
    Again(u64, Option<Arc<Text>>),
}

impl Str {
    /// The characters, where known.
    pub fn text(&self) -> Option<&Text> {
        match self {
            Str::Plain(text) => Some(text),
            Str::Interned(text) | Str::Again(_, Some(text)) => Some(text),
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
            Str::Interned(text) => {
                out.push(tag::INTERNED);
                put_text(out, text);
            }
            Str::Again(index, _) => {
                out.push(tag::AGAIN);
                put_varint(out, *index);
            }
        }
    }

    /// Reads a value that has to be a string.
    pub fn decode<S: ByteSource>(source: &mut S, strings: &mut Strings) -> Result<Str, DecodeError> {
        let tag = source.read_u8()?;
        Str::decode_tagged(tag, source, strings)?.ok_or(DecodeError::NotAString(tag))
    }

    /// Reads the string that `tag` began; `None` when it began something else.
    pub(crate) fn decode_tagged<S: ByteSource>(
        tag: u8,
        source: &mut S,
        strings: &mut Strings,
    ) -> Result<Option<Str>, DecodeError> {
        if let Some(text) = decode_text(tag, source)? {
            return Ok(Some(Str::Plain(text)));
        }
        match tag {
            tag::INTERNED => {
                let inner = source.read_u8()?;
                let text = Arc::new(decode_text(inner, source)?.ok_or(DecodeError::NotAString(inner))?);
                strings.interned.push(Arc::clone(&text));
                Ok(Some(Str::Interned(text)))
            }
            tag::AGAIN => {
                let index = source.read_varint()?;
                Ok(Some(Str::Again(index, strings.get(index).cloned())))
            }
            _ => Ok(None),
        }
    }
}

impl From<&str> for Str {
    fn from(string: &str) -> Str {
        Str::Plain(Text::from(string))
    }
}

fn decode_text<S: ByteSource>(tag: u8, source: &mut S) -> Result<Option<Text>, DecodeError> {
    let width = match tag {
        tag::STR_ASCII => Width::Ascii,
        tag::STR1 => Width::One,
        tag::STR2 => Width::Two,
        tag::STR4 => Width::Four,
        _ => return Ok(None),
    };
    let bytes = source.read_varint()?.checked_mul(width.bytes() as u64).ok_or(DecodeError::UnexpectedEnd)?;
    let data = source.read_vec(bytes)?;
    Text::from_raw(width, data).ok_or(DecodeError::BadText).map(Some)
}
