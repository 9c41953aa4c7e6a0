//! Mapping a trace for reading: the reader's only unsafe code.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::{Mmap, MmapMut};

/// A file's bytes, mapped read-only.
#[derive(Debug)]
pub(crate) struct Map {
    map: Mmap,
}

impl Map {
    /// Maps the file as long as it is now.
    ///
    /// The trace may still be growing: its writer only appends, and publishes what is whole by a length that a reader
    /// takes once, so the bytes a reader looks at no longer change. Whoever truncates a trace while it is read gets
    /// SIGBUS, as with every mapped file.
    pub(crate) fn open(path: &Path) -> io::Result<Map> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // SAFETY: the mapping is private to this process and read-only. Other processes only write bytes that no
        // committed length covers yet (see above), and header fields, which are copied out before they are used.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Map { map })
    }

    /// A copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Map> {
        let mut map = MmapMut::map_anon(bytes.len())?;
        map.copy_from_slice(bytes);
        Ok(Map { map: map.make_read_only()? })
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }
}
