//! Where encoded values and events are read from: a slice, or a process's event stream across its extents.
#![forbid(unsafe_code)]

use thiserror::Error;

/// What can be wrong with encoded bytes. Small and `Copy`, because every read of the replay's hot path returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end before the item does.
    #[error("the data ends in the middle of an item")]
    UnexpectedEnd,
    /// A LEB128 number of more than ten bytes, or one that exceeds 64 bits.
    #[error("a number is longer than 64 bits")]
    VarintTooLong,
    /// A value begins with a byte that is no tag.
    #[error("0x{0:02x} is not the tag of a value")]
    UnknownTag(u8),
    /// A value stands where the format wants a string.
    #[error("tag 0x{0:02x} stands where a string is due")]
    NotAString(u8),
    /// String data that is not what its tag promises.
    #[error("a string holds characters that its kind cannot")]
    BadText,
    /// Values nested more than [`MAX_DEPTH`](crate::value::MAX_DEPTH) deep.
    #[error("values are nested too deeply")]
    TooDeep,
    /// An event whose code is reserved and unknown.
    #[error("0x{0:03x} is not the code of an event")]
    UnknownCode(u16),
    /// An event's form that is unknown, or that its code does not allow.
    #[error("{0} is not a form of this event")]
    UnknownForm(u8),
    /// Flags of a general form that are unknown.
    #[error("0x{0:02x} has flags that are unknown")]
    UnknownFlags(u8),
    /// A kind of hook that is unknown.
    #[error("{0} is not a kind of hook")]
    UnknownHookKind(u8),
    /// A number under which nothing has been noted.
    #[error("the stream has noted nothing under the number {0}")]
    UnknownNote(u64),
    /// More notes than a stream may have.
    #[error("there are more notes than a stream may have")]
    TooManyNotes,
    /// A thread that there is not.
    #[error("the stream has made no thread that is the {0}th from the last")]
    UnknownThread(u64),
    /// A byte that is neither 0 nor 1 where a truth value is due.
    #[error("{0} stands where 0 or 1 is due")]
    NotABool(u8),
}

/// A cursor over encoded bytes.
pub trait ByteSource {
    /// How many bytes are left. Bounds every allocation a decoder makes.
    fn remaining(&self) -> u64;

    /// Fills `buffer` from the cursor on.
    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), DecodeError>;

    /// Reads one byte.
    #[inline]
    fn read_u8(&mut self) -> Result<u8, DecodeError> {
        let mut buffer = [0; 1];
        self.read_exact(&mut buffer)?;
        Ok(buffer[0])
    }

    /// Reads a little-endian `u16`.
    #[inline]
    fn read_u16(&mut self) -> Result<u16, DecodeError> {
        let mut buffer = [0; 2];
        self.read_exact(&mut buffer)?;
        Ok(u16::from_le_bytes(buffer))
    }

    /// Reads a little-endian `u32`.
    #[inline]
    fn read_u32(&mut self) -> Result<u32, DecodeError> {
        let mut buffer = [0; 4];
        self.read_exact(&mut buffer)?;
        Ok(u32::from_le_bytes(buffer))
    }

    /// Reads a little-endian `u64`.
    #[inline]
    fn read_u64(&mut self) -> Result<u64, DecodeError> {
        let mut buffer = [0; 8];
        self.read_exact(&mut buffer)?;
        Ok(u64::from_le_bytes(buffer))
    }

    /// Reads an IEEE 754 double, bit for bit.
    #[inline]
    fn read_f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_bits(self.read_u64()?))
    }

    /// Reads an unsigned LEB128 number of at most ten bytes.
    #[inline]
    fn read_varint(&mut self) -> Result<u64, DecodeError> {
        let mut result = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.read_u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::VarintTooLong);
            }
            result |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(result);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// Reads `length` bytes into a new vector, which is only allocated when the source holds that many.
    fn read_vec(&mut self, length: u64) -> Result<Vec<u8>, DecodeError> {
        if length > self.remaining() {
            return Err(DecodeError::UnexpectedEnd);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| DecodeError::UnexpectedEnd)?];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a length and that many bytes.
    fn read_prefixed(&mut self) -> Result<Vec<u8>, DecodeError> {
        let length = self.read_varint()?;
        self.read_vec(length)
    }

    /// Reads the number of items that follow, each of which takes at least `item_size` bytes. Returns it with a
    /// capacity that is safe to reserve.
    fn read_count(&mut self, item_size: u64) -> Result<(u64, usize), DecodeError> {
        let count = self.read_varint()?;
        if count > self.remaining() / item_size {
            return Err(DecodeError::UnexpectedEnd);
        }
        // A decoded item is larger than an encoded one: let the vector grow as items really come.
        Ok((count, count.min(256) as usize))
    }
}

/// A slice read from front to back.
#[derive(Debug, Clone)]
pub struct SliceSource<'a> {
    rest: &'a [u8],
}

impl<'a> SliceSource<'a> {
    /// Reads `bytes` from its beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        SliceSource { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `length` bytes without copying them.
    pub fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::UnexpectedEnd)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl ByteSource for SliceSource<'_> {
    fn remaining(&self) -> u64 {
        self.rest.len() as u64
    }

    #[inline]
    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(buffer.len()).ok_or(DecodeError::UnexpectedEnd)?;
        buffer.copy_from_slice(taken);
        self.rest = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::put_varint;

    #[test]
    fn varints_round_trip_at_the_edges() {
        for number in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert!(bytes.len() <= 10);
            let mut source = SliceSource::new(&bytes);
            assert_eq!(source.read_varint(), Ok(number));
            assert!(source.rest().is_empty());
        }
    }

    #[test]
    fn varints_that_exceed_64_bits_are_refused() {
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(SliceSource::new(&too_large).read_varint(), Err(DecodeError::VarintTooLong));
        let endless = [0x80; 11];
        assert_eq!(SliceSource::new(&endless).read_varint(), Err(DecodeError::VarintTooLong));
    }

    #[test]
    fn a_length_beyond_the_data_allocates_nothing() {
        let mut source = SliceSource::new(&[1, 2, 3]);
        assert_eq!(source.read_vec(u64::MAX), Err(DecodeError::UnexpectedEnd));
    }
}
