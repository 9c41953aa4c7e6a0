//! Writing one stream of one process: whole items into a chain of extents.
//!
//! Invariant: the cursor is at most at `hard`, which leaves room for one last event, or else the next extent is held
//! already. So there is always room to say why recording ended.

use std::ptr::{NonNull, null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::extent::Extent;
use crate::trace_writer::WriteError;

/// Room kept for the last event: a `stopped` event with its reason.
pub(crate) const RESERVE: usize = 256;

/// Where a stream gets its extents and leaves them when full.
pub(crate) trait ExtentSupply {
    /// An extent nobody has used.
    fn take(&mut self) -> Result<Extent, WriteError>;
    /// Takes a full extent to be sealed and unmapped.
    fn retire(&mut self, extent: Extent);
}

/// What a stream leaves behind: its last extent, and what it claimed and did not use.
pub(crate) struct Remains {
    pub(crate) last: Extent,
    pub(crate) unused: Option<Extent>,
}

/// The end of a stream's chain. All pointers point into `current`'s payload.
#[repr(C)] // What the hot path reads comes first and shares a cache line.
pub(crate) struct StreamWriter {
    /// Where the next item goes. Null once the stream is closed.
    cursor: *mut u8,
    /// How far the fast path may go: a window's end, at most `hard`. Null once the stream is closed.
    limit: *mut u8,
    /// The payload's beginning.
    base: *mut u8,
    /// The current extent's committed length.
    committed: *const AtomicU64,
    /// Beyond this, the next extent is held.
    hard: *mut u8,
    /// The payload's end.
    end: *mut u8,
    /// None once the stream is finished.
    current: Option<Extent>,
    next: Option<Extent>,
    window: usize,
    process: u32,
    stream: u32,
    sequence: u32,
}

// SAFETY: the pointers point into `current`, which the writer owns and which is itself Send.
unsafe impl Send for StreamWriter {}

impl StreamWriter {
    /// Begins a stream in `extent`. The fast path is let through `window` bytes at a time.
    pub(crate) fn new(extent: Extent, process: u32, stream: u32, window: usize) -> StreamWriter {
        let mut writer = StreamWriter {
            cursor: null_mut(),
            limit: null_mut(),
            base: null_mut(),
            committed: null(),
            hard: null_mut(),
            end: null_mut(),
            current: None,
            next: None,
            window,
            process,
            stream,
            sequence: 0,
        };
        writer.enter(extent);
        writer
    }

    /// Makes `extent` the chain's last. Returns the one before.
    fn enter(&mut self, extent: Extent) -> Option<Extent> {
        extent.begin(self.process, self.sequence, self.stream);
        self.sequence += 1;
        let capacity = extent.capacity();
        self.base = extent.payload();
        self.cursor = self.base;
        self.committed = extent.committed();
        // SAFETY: all of these are within the payload or one past it; RESERVE is smaller than any payload.
        unsafe {
            self.end = self.base.add(capacity);
            self.hard = self.base.add(capacity - RESERVE);
            self.limit = self.base.add(self.window.min(capacity - RESERVE));
        }
        self.current.replace(extent)
    }

    /// The current extent, until the stream is finished.
    pub(crate) fn current(&self) -> Option<&Extent> {
        self.current.as_ref()
    }

    /// Whether the stream takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        self.cursor.is_null()
    }

    /// Bytes from the cursor to `pointer`; 0 where the cursor is beyond.
    fn room(&self, pointer: *mut u8) -> usize {
        (pointer as usize).saturating_sub(self.cursor as usize)
    }

    /// The cursor, if at least `need` (more than no) bytes follow it before the limit.
    #[inline(always)]
    pub(crate) fn cursor(&self, need: usize) -> Option<NonNull<u8>> {
        // Signed: the cursor may be beyond the limit.
        let room = (self.limit as isize).wrapping_sub(self.cursor as isize);
        // SAFETY: a closed stream's limit is its cursor, both null.
        (room >= need as isize && need > 0).then(|| unsafe { NonNull::new_unchecked(self.cursor) })
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

    /// Moves the limit one window on. Returns where in the extent the window after it begins, if there is one.
    pub(crate) fn advance_limit(&mut self) -> Option<usize> {
        if self.limit >= self.hard {
            return None;
        }
        let offset = (self.limit as usize - self.base as usize) + self.window;
        let last = self.hard as usize - self.base as usize;
        // SAFETY: at most `hard`.
        self.limit = unsafe { self.base.add(offset.min(last)) };
        // Windows are whole pages of the extent. The payload is a header behind, which the page before covers.
        Some(offset)
    }

    /// Whether the fast path has been let into the extent's second half.
    pub(crate) fn in_second_half(&self) -> bool {
        (self.limit as usize - self.base as usize) >= (self.end as usize - self.base as usize) / 2
    }

    /// Publishes what was written up to `end`.
    ///
    /// # Safety
    /// `end` is at or after the cursor and not beyond the current extent's payload, and every byte between them has
    /// been written by this thread.
    #[inline(always)]
    pub(crate) unsafe fn commit(&mut self, end: *mut u8) {
        debug_assert!(end >= self.cursor && end <= self.end);
        self.cursor = end;
        let length = (end as usize - self.base as usize) as u64;
        // SAFETY: `committed` points into the current extent's header. Release: see `Extent::committed`.
        unsafe { &*self.committed }.store(length, Ordering::Release);
    }

    /// Copies `bytes` to the cursor without publishing them; they fit in the current extent.
    fn put(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(self.end));
        // SAFETY: the caller has made sure of the room. The extent's memory is this writer's alone.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.cursor, bytes.len());
            self.cursor = self.cursor.add(bytes.len());
        }
    }

    /// Appends a whole item of any size. On an error nothing of it is committed.
    pub(crate) fn append(&mut self, parts: &[&[u8]], supply: &mut dyn ExtentSupply) -> Result<(), WriteError> {
        if self.is_closed() {
            return Ok(());
        }
        let total = parts.iter().map(|part| part.len()).sum::<usize>();
        if total <= self.room(self.hard) {
            self.append_here(parts);
            return Ok(());
        }
        let capacity = self.end as usize - self.base as usize;
        let beyond = total.saturating_sub(self.room(self.end));
        let further = beyond.div_ceil(capacity);
        // Where the item will end in its last extent decides whether one more has to be held.
        let last =
            if further == 0 { capacity - self.room(self.end) + total } else { beyond - (further - 1) * capacity };
        let wanted = further + usize::from(last > capacity - RESERVE);
        let mut extents = Vec::new();
        extents.extend(self.next.take());
        while extents.len() < wanted {
            match supply.take() {
                Ok(extent) => extents.push(extent),
                Err(error) => {
                    self.next = extents.into_iter().next();
                    return Err(error);
                }
            }
        }
        self.append_across(parts, extents, further, supply);
        Ok(())
    }

    fn append_here(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.put(part);
        }
        // SAFETY: everything up to the cursor has just been written.
        unsafe { self.commit(self.cursor) };
    }

    /// Writes an item into the current extent and the first `further` of `extents`, holding the one after. Commits
    /// back to front: the current extent, which makes the item reachable, last.
    fn append_across(&mut self, parts: &[&[u8]], extents: Vec<Extent>, further: usize, supply: &mut dyn ExtentSupply) {
        let mut extents = extents.into_iter();
        let mut filled = Vec::with_capacity(further);
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                if self.room(self.end) == 0 {
                    let Some(extent) = extents.next() else { unreachable!("the item was measured") };
                    filled.extend(self.enter(extent));
                }
                let (now, later) = rest.split_at(rest.len().min(self.room(self.end)));
                self.put(now);
                rest = later;
            }
        }
        self.next = extents.next();
        // SAFETY: everything up to the cursor has just been written.
        unsafe { self.commit(self.cursor) };
        for extent in filled.iter().rev() {
            extent.committed().store(extent.capacity() as u64, Ordering::Release);
        }
        for extent in filled {
            supply.retire(extent);
        }
    }

    /// Appends a last item of at most [`RESERVE`] bytes, for which there always is room, and closes the stream.
    pub(crate) fn close_with(&mut self, item: &[u8], supply: &mut dyn ExtentSupply) {
        if self.is_closed() {
            return;
        }
        if item.len() <= self.room(self.end) {
            self.append_here(&[item]);
        } else if let Some(next) = self.next.take() {
            self.append_across(&[item], vec![next], 1, supply);
        }
        self.close();
    }

    fn close(&mut self) {
        self.cursor = null_mut();
        self.limit = null_mut();
        self.hard = null_mut();
        self.end = null_mut();
        self.base = null_mut();
    }

    /// Seals the last extent and hands over what is left. The stream takes no more.
    pub(crate) fn finish(&mut self) -> Option<Remains> {
        self.close();
        let last = self.current.take()?;
        last.seal();
        Some(Remains { last, unused: self.next.take() })
    }

    /// Unmaps the extents, which are another process's, and touches nothing in them. The stream takes no more.
    pub(crate) fn abandon(&mut self) {
        self.close();
        self.current = None;
        self.next = None;
    }
}
