//! One extent, mapped for writing.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout;
use crate::platform::{Cursor, Pages, SharedMap};

const HEADER: usize = layout::EXTENT_HEADER as usize;

/// An extent this process has claimed. Dropping it unmaps it and leaves what it holds.
pub(crate) struct Extent {
    map: Arc<SharedMap>,
    index: u64,
}

impl Extent {
    /// Maps extent `index`, whose space is allocated.
    pub(crate) fn map(fd: RawFd, index: u64, offset: u64, size: u32) -> io::Result<Extent> {
        Ok(Extent { map: Arc::new(SharedMap::new(fd, offset, size as usize)?), index })
    }

    /// Its index in the file.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// How many bytes of payload fit.
    pub(crate) fn capacity(&self) -> usize {
        self.map.len() - HEADER
    }

    /// The committed length. Stored with Release after the payload it covers; its partners are the readers of the
    /// file, who take it before they look at the payload.
    pub(crate) fn committed(&self) -> &AtomicU64 {
        self.map.u64_at(layout::COMMITTED)
    }

    /// Makes the extent a part of a stream. The magic comes last: until then a reader takes the extent for unused.
    pub(crate) fn begin(&self, process: u32, sequence: u32, stream: u32) {
        self.map.u32_at(layout::PROCESS).store(process, Ordering::Relaxed);
        self.map.u32_at(layout::SEQUENCE).store(sequence, Ordering::Relaxed);
        self.map.u32_at(layout::STREAM).store(stream, Ordering::Relaxed);
        self.map.u32_at(0).store(layout::EXTENT_MAGIC, Ordering::Release);
    }

    /// A cursor at the payload's beginning. See [`Cursor::new`].
    pub(crate) fn cursor(&self, reserve: usize, window: usize) -> Cursor {
        Cursor::new(&self.map, HEADER, layout::COMMITTED, reserve, window)
    }

    /// Writes the checksum and marks the extent sealed. Nothing is committed to it afterwards.
    pub(crate) fn seal(&self) {
        let committed = (self.committed().load(Ordering::Acquire) as usize).min(self.capacity());
        self.map.u64_at(layout::CHECKSUM).store(self.map.hash(HEADER, committed), Ordering::Relaxed);
        self.map.u32_at(layout::SEALED).store(1, Ordering::Release);
    }

    /// What of `[offset, offset + length)`, counted from the extent's beginning, lies in the extent.
    pub(crate) fn pages(&self, offset: usize, length: usize) -> Option<Pages> {
        Pages::of(&self.map, offset, length)
    }
}
