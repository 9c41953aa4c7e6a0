//! Writing into a mapping: what the hot path does, in plain stores.

use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SharedMap;

/// Where the next item goes in an extent's payload. All pointers point into the mapping that it holds, or are null.
///
/// Invariant: `cursor`, `limit` and `hard` are at most `end`.
#[repr(C)] // What the hot path reads comes first and shares a cache line.
pub struct Cursor {
    /// Null where there is no extent.
    cursor: *mut u8,
    /// How far the fast path may go: a window's end, at most `hard`.
    limit: *mut u8,
    /// The payload's beginning.
    base: *mut u8,
    /// The committed length.
    committed: *const AtomicU64,
    /// Beyond this, the next extent is held.
    hard: *mut u8,
    /// The payload's end.
    end: *mut u8,
    map: Option<Arc<SharedMap>>,
}

// SAFETY: the pointers point into a mapping that goes along, and that threads share anyway.
unsafe impl Send for Cursor {}

impl Cursor {
    /// Nowhere.
    pub(crate) const fn closed() -> Cursor {
        Cursor {
            cursor: null_mut(),
            limit: null_mut(),
            base: null_mut(),
            committed: null(),
            hard: null_mut(),
            end: null_mut(),
            map: None,
        }
    }

    /// At the beginning of a payload, from `payload` on to the mapping's end, whose committed length stands at `committed`.
    /// The last `reserve` bytes are for the last item; the fast path is let through `window` bytes at a time.
    pub(crate) fn new(map: &Arc<SharedMap>, payload: usize, committed: usize, reserve: usize, window: usize) -> Cursor {
        let end = map.len();
        let hard = end - reserve;
        assert!(payload <= hard);
        Cursor {
            cursor: map.pointer(payload),
            // The window may be without end.
            limit: map.pointer(payload + window.min(hard - payload)),
            base: map.pointer(payload),
            committed: map.u64_at(committed),
            hard: map.pointer(hard),
            end: map.pointer(end),
            map: Some(Arc::clone(map)),
        }
    }

    /// Whether it is nowhere.
    #[inline(always)]
    pub(crate) fn is_closed(&self) -> bool {
        self.cursor.is_null()
    }

    /// Bytes of payload that fit.
    pub(crate) fn capacity(&self) -> usize {
        self.end as usize - self.base as usize
    }

    /// Bytes from the cursor to the end.
    pub(crate) fn room(&self) -> usize {
        self.end as usize - self.cursor as usize
    }

    /// Bytes from the cursor to the reserve; 0 where the cursor is beyond.
    pub(crate) fn room_before_reserve(&self) -> usize {
        (self.hard as usize).saturating_sub(self.cursor as usize)
    }

    /// The cursor, if at least `need` (more than no) bytes follow it before the limit.
    #[inline(always)]
    pub(crate) fn get(&self, need: usize) -> Option<NonNull<u8>> {
        // Signed: the cursor may be beyond the limit.
        let room = (self.limit as isize).wrapping_sub(self.cursor as isize);
        // SAFETY: where there is no extent, limit and cursor are both null.
        (room >= need as isize && need > 0).then(|| unsafe { NonNull::new_unchecked(self.cursor) })
    }

    /// Whether `need` bytes follow `place` before the limit.
    #[inline(always)]
    pub(crate) fn has_room(&self, place: *mut u8, need: usize) -> bool {
        (self.limit as isize).wrapping_sub(place as isize) >= need as isize
    }

    /// Fetches the cache lines after the cursor's, for writing.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        for line in [64, 128, 192] {
            // SAFETY: a hint, good for any address, and nothing to a processor that does not know it. In assembly, because
            // the intrinsic fetches for reading unless built for a newer processor.
            unsafe {
                std::arch::asm!("prefetchw [{}]", in(reg) self.cursor.wrapping_add(line),
                    options(nostack, preserves_flags, readonly));
            }
        }
    }

    /// Moves the limit `window` bytes on. Returns where in the payload the window after it begins, if there is one.
    pub(crate) fn advance_limit(&mut self, window: usize) -> Option<usize> {
        if self.limit >= self.hard {
            return None;
        }
        let offset = (self.limit as usize - self.base as usize) + window;
        self.limit = self.base.wrapping_add(offset.min(self.hard as usize - self.base as usize));
        Some(offset)
    }

    /// Whether the fast path has been let into the second half.
    pub(crate) fn in_second_half(&self) -> bool {
        (self.limit as usize - self.base as usize) >= self.capacity() / 2
    }

    /// Publishes what was written up to `end`.
    ///
    /// # Safety
    /// `end` is at or after the cursor and not beyond the payload's end (for who writes in place: past what
    /// [`TraceWriter::cursor`](crate::TraceWriter::cursor) has just returned by at most the bytes asked for), and every byte
    /// between them has been written by this thread.
    #[inline(always)]
    pub unsafe fn commit(&mut self, end: *mut u8) {
        debug_assert!(end >= self.cursor && end <= self.end);
        self.cursor = end;
        let length = (end as usize - self.base as usize) as u64;
        // SAFETY: `committed` points into the mapping's header; there is one, or there would be no `end`. Release, after the
        // payload that it covers; its partners are the readers of the file, who take it before they look at the payload.
        unsafe { &*self.committed }.store(length, Ordering::Release);
    }

    /// Copies `bytes` to the cursor without publishing them. They have to fit.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room());
        // SAFETY: there is room. What is behind the cursor is this writer's alone until it is published.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.cursor, bytes.len());
            self.cursor = self.cursor.add(bytes.len());
        }
    }

    /// Publishes what was put.
    pub(crate) fn publish(&mut self) {
        if !self.is_closed() {
            // SAFETY: everything up to the cursor has been put.
            unsafe { self.commit(self.cursor) };
        }
    }
}
