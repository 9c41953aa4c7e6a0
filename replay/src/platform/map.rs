//! The trace's memory: a file mapped for reading, and a part of it mapped for writing that other processes map as well.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use memmap2::{Mmap, MmapMut, MmapOptions, MmapRaw};
use xxhash_rust::xxh3::Xxh3;

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

/// A part of the trace, mapped shared and writable. All of it may change at any time, so it is only reached by atomics, and
/// by the one [`Cursor`](super::Cursor) that writes to it.
pub(crate) struct SharedMap {
    map: MmapRaw,
}

impl SharedMap {
    /// Maps `length` bytes of the file without taking the descriptor over.
    pub(crate) fn new(fd: RawFd, offset: u64, length: usize) -> io::Result<SharedMap> {
        // SAFETY: `fd` is open: its owner lends it for this call, and ManuallyDrop leaves it open.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
        let map = MmapOptions::new().offset(offset).len(length).map_raw(&*file)?;
        Ok(SharedMap { map })
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Where `offset` is. It may be the mapping's end.
    pub(super) fn pointer(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len());
        self.map.as_mut_ptr().wrapping_add(offset)
    }

    fn field<T>(&self, offset: usize) -> *mut T {
        // Mappings are page-aligned.
        assert!(offset.is_multiple_of(size_of::<T>()) && offset + size_of::<T>() <= self.len());
        self.pointer(offset).cast()
    }

    pub(crate) fn u32_at(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: within the mapping, aligned, alive as long as `self`, and reached by atomics only.
        unsafe { AtomicU32::from_ptr(self.field(offset)) }
    }

    pub(crate) fn u64_at(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `u32_at`.
        unsafe { AtomicU64::from_ptr(self.field(offset)) }
    }

    fn u8_at(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: as in `u32_at`.
        unsafe { AtomicU8::from_ptr(self.field(offset)) }
    }

    /// The bytes from `offset` on.
    pub(crate) fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        std::array::from_fn(|i| self.u8_at(offset + i).load(Ordering::Relaxed))
    }

    /// Puts `bytes` to `offset`.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            self.u8_at(offset + i).store(*byte, Ordering::Relaxed);
        }
    }

    /// The format's hash of `length` bytes from `offset` on, which is a multiple of 8.
    pub(crate) fn hash(&self, offset: usize, length: usize) -> u64 {
        let mut hash = Xxh3::new();
        let mut block = [0; 4096];
        for start in (offset..offset + length).step_by(block.len()) {
            let block = &mut block[..(offset + length - start).min(4096)];
            let (words, rest) = block.as_chunks_mut::<8>();
            for (i, word) in words.iter_mut().enumerate() {
                *word = self.u64_at(start + i * 8).load(Ordering::Relaxed).to_ne_bytes();
            }
            let done = start + words.len() * 8;
            for (i, byte) in rest.iter_mut().enumerate() {
                *byte = self.u8_at(done + i).load(Ordering::Relaxed);
            }
            hash.update(block);
        }
        hash.digest()
    }
}

/// Some pages of a mapping, which stays as long as they are asked for.
pub(crate) struct Pages {
    map: Arc<SharedMap>,
    offset: usize,
    length: usize,
}

impl Pages {
    /// What of `[offset, offset + length)` lies in the mapping; `None` where nothing does. `offset` is a multiple of 4096.
    pub(crate) fn of(map: &Arc<SharedMap>, offset: usize, length: usize) -> Option<Pages> {
        let length = length.min(map.len().checked_sub(offset)?);
        (length != 0).then(|| Pages { map: Arc::clone(map), offset, length })
    }

    /// Faults them in for writing. Best effort: a page that is not populated costs its first writer a fault.
    pub(crate) fn populate(&self) {
        // SAFETY: mapped writable as long as `self` has the mapping, and within it by `of`.
        unsafe { super::imp::populate(self.map.pointer(self.offset), self.length) };
    }
}
