//! One extent, mapped for writing.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::layout;
use crate::platform;

/// Maps `length` bytes of the file, shared and writable, without taking the descriptor over.
pub(crate) fn map_shared(fd: RawFd, offset: u64, length: usize) -> io::Result<MmapRaw> {
    // SAFETY: `fd` is open: its owner lends it for this call, and ManuallyDrop leaves it open.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    MmapOptions::new().offset(offset).len(length).map_raw(&*file)
}

/// An extent this process has claimed. Dropping it unmaps it and leaves what it holds.
pub(crate) struct Extent {
    map: MmapRaw,
    index: u64,
}

impl Extent {
    /// Maps extent `index`, whose space is allocated.
    pub(crate) fn map(fd: RawFd, index: u64, offset: u64, size: u32) -> io::Result<Extent> {
        Ok(Extent { map: map_shared(fd, offset, size as usize)?, index })
    }

    /// Its index in the file.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Where the payload begins.
    pub(crate) fn payload(&self) -> *mut u8 {
        // SAFETY: an extent is at least a page, larger than its header.
        unsafe { self.map.as_mut_ptr().add(layout::EXTENT_HEADER as usize) }
    }

    /// How many bytes of payload fit.
    pub(crate) fn capacity(&self) -> usize {
        self.map.len() - layout::EXTENT_HEADER as usize
    }

    fn u32_at(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: within the header, aligned (mappings are page-aligned), and alive as long as `self`.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    fn u64_at(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `u32_at`; the offsets of u64 fields are multiples of 8.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    /// The committed length. Stored with Release after the payload it covers; its partners are the readers of the
    /// file, who take it before they look at the payload.
    pub(crate) fn committed(&self) -> &AtomicU64 {
        self.u64_at(layout::COMMITTED)
    }

    /// Makes the extent a part of a stream. The magic comes last: until then a reader takes the extent for unused.
    pub(crate) fn begin(&self, process: u32, sequence: u32, stream: u32) {
        self.u32_at(layout::PROCESS).store(process, Ordering::Relaxed);
        self.u32_at(layout::SEQUENCE).store(sequence, Ordering::Relaxed);
        self.u32_at(layout::STREAM).store(stream, Ordering::Relaxed);
        self.u32_at(0).store(layout::EXTENT_MAGIC, Ordering::Release);
    }

    /// Writes the checksum and marks the extent sealed. Nothing is committed to it afterwards.
    pub(crate) fn seal(&self) {
        let committed = (self.committed().load(Ordering::Acquire) as usize).min(self.capacity());
        // SAFETY: the committed payload is initialised, within the mapping, and no longer written.
        let payload = unsafe { std::slice::from_raw_parts(self.payload(), committed) };
        self.u64_at(layout::CHECKSUM).store(crate::content_hash(payload), Ordering::Relaxed);
        self.u32_at(layout::SEALED).store(1, Ordering::Release);
    }

    /// What of `[offset, offset + length)`, counted from the extent's beginning, lies in the extent.
    pub(crate) fn range(&self, offset: usize, length: usize) -> Option<(*mut u8, usize)> {
        let length = length.min(self.map.len().checked_sub(offset)?);
        // SAFETY: `offset` is at most the mapping's length.
        (length != 0).then(|| (unsafe { self.map.as_mut_ptr().add(offset) }, length))
    }

    /// Faults in the beginning of an extent.
    pub(crate) fn populate_first(&self, length: usize) {
        if let Some((start, length)) = self.range(0, length) {
            // SAFETY: the range is mapped.
            unsafe { platform::populate(start, length) };
        }
    }
}
