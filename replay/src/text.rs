//! Python's strings: sequences of code points, lone surrogates among them, in the width they were stored in.
#![forbid(unsafe_code)]

use std::fmt;

/// How many bytes a character of a [`Text`] takes; the first variant holds ASCII only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// One byte, below 0x80.
    Ascii,
    /// One byte: Latin-1.
    One,
    /// Two bytes.
    Two,
    /// Four bytes.
    Four,
}

impl Width {
    /// Bytes a character.
    pub fn bytes(self) -> usize {
        match self {
            Width::Ascii | Width::One => 1,
            Width::Two => 2,
            Width::Four => 4,
        }
    }
}

/// A Python string. It need not be valid Unicode: file names decoded with `surrogateescape` hold lone surrogates.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text {
    width: Width,
    data: Box<[u8]>,
}

impl Text {
    /// A string of raw little-endian characters; `None` where the data are not what `width` allows.
    pub fn from_raw(width: Width, data: Vec<u8>) -> Option<Text> {
        let valid = match width {
            Width::Ascii => data.is_ascii(),
            Width::One => true,
            Width::Two => data.len().is_multiple_of(2),
            Width::Four => {
                data.len().is_multiple_of(4)
                    && data
                        .chunks_exact(4)
                        .all(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]) <= u32::from(char::MAX))
            }
        };
        valid.then(|| Text { width, data: data.into_boxed_slice() })
    }

    /// How the characters are stored.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The characters' raw data.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The number of characters.
    pub fn len(&self) -> usize {
        self.data.len() / self.width.bytes()
    }

    /// Whether there is no character.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The code points.
    pub fn code_points(&self) -> impl Iterator<Item = u32> + '_ {
        self.data.chunks_exact(self.width.bytes()).map(|c| match *c {
            [a] => u32::from(a),
            [a, b] => u32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        })
    }

    /// The string, with U+FFFD in place of lone surrogates.
    pub fn to_string_lossy(&self) -> String {
        self.code_points().map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }

    /// The bytes Python would pass to the operating system (`os.fsencode` in a UTF-8 locale): UTF-8, with the bytes
    /// that `surrogateescape` hid put back.
    pub fn to_fs_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.data.len());
        for c in self.code_points() {
            match c {
                0xdc80..=0xdcff => bytes.push((c - 0xdc00) as u8),
                _ => {
                    let c = char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER);
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        bytes
    }
}

impl From<&str> for Text {
    /// Stores `string` in the narrowest width that holds it, as CPython does (PEP 393).
    fn from(string: &str) -> Text {
        let widest = string.chars().max().unwrap_or('\0');
        let (width, data) = match widest {
            '\0'..='\x7f' => (Width::Ascii, string.as_bytes().to_vec()),
            '\u{80}'..='\u{ff}' => (Width::One, string.chars().map(|c| c as u8).collect()),
            '\u{100}'..='\u{ffff}' => (Width::Two, string.chars().flat_map(|c| (c as u16).to_le_bytes()).collect()),
            _ => (Width::Four, string.chars().flat_map(|c| (c as u32).to_le_bytes()).collect()),
        };
        Text { width, data: data.into_boxed_slice() }
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.code_points().eq(other.chars().map(u32::from))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_take_the_narrowest_width() {
        for (string, width) in
            [("", Width::Ascii), ("abc", Width::Ascii), ("é", Width::One), ("žluť", Width::Two), ("a🐍", Width::Four)]
        {
            let text = Text::from(string);
            assert_eq!(text.width(), width, "{string}");
            assert_eq!(text.to_string_lossy(), string);
            assert_eq!(text.len(), string.chars().count());
            assert!(text == *string);
        }
    }

    #[test]
    fn invalid_data_is_refused() {
        assert!(Text::from_raw(Width::Ascii, vec![0x80]).is_none());
        assert!(Text::from_raw(Width::Two, vec![0]).is_none());
        assert!(Text::from_raw(Width::Four, vec![0, 0, 0x11, 0]).is_none());
    }

    #[test]
    fn surrogateescape_goes_back_to_the_bytes_it_came_from() {
        let text = Text::from_raw(Width::Two, vec![b'a', 0, 0xff, 0xdc]).unwrap();
        assert_eq!(text.to_string_lossy(), "a\u{fffd}");
        assert_eq!(text.to_fs_bytes(), b"a\xff");
    }
}
