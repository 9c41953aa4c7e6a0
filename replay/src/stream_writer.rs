//! Writing one stream of one process: whole items into a chain of extents.
//!
//! Invariant: the cursor is at most at `hard`, which leaves room for one last event, or else the next extent is held
//! already. So there is always room to say why recording ended.
#![forbid(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::extent::Extent;
use crate::platform::Cursor;
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

/// The end of a stream's chain.
#[repr(C)] // The hot path's part first.
pub(crate) struct StreamWriter {
    /// In `current`. Closed once the stream takes no more.
    cursor: Cursor,
    /// None once the stream is finished.
    current: Option<Extent>,
    next: Option<Extent>,
    window: usize,
    process: u32,
    stream: u32,
    sequence: u32,
}

impl StreamWriter {
    /// Begins a stream in `extent`. The fast path is let through `window` bytes at a time.
    pub(crate) fn new(extent: Extent, process: u32, stream: u32, window: usize) -> StreamWriter {
        let mut writer =
            StreamWriter { cursor: Cursor::closed(), current: None, next: None, window, process, stream, sequence: 0 };
        writer.enter(extent);
        writer
    }

    /// Makes `extent` the chain's last. Returns the one before.
    fn enter(&mut self, extent: Extent) -> Option<Extent> {
        extent.begin(self.process, self.sequence, self.stream);
        self.sequence += 1;
        self.cursor = extent.cursor(RESERVE, self.window);
        self.current.replace(extent)
    }

    /// The current extent, until the stream is finished.
    pub(crate) fn current(&self) -> Option<&Extent> {
        self.current.as_ref()
    }

    /// Whether the stream takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        self.cursor.is_closed()
    }

    /// The cursor, if at least `need` (more than no) bytes follow it before the limit.
    #[inline(always)]
    pub(crate) fn cursor(&self, need: usize) -> Option<NonNull<u8>> {
        self.cursor.get(need)
    }

    /// Whether `need` bytes follow `place` before the limit.
    #[inline(always)]
    pub(crate) fn has_room(&self, place: *mut u8, need: usize) -> bool {
        self.cursor.has_room(place, need)
    }

    /// Fetches the cache lines after the cursor's, for writing.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        self.cursor.prefetch();
    }

    /// Moves the limit one window on. Returns where in the extent the window after it begins, if there is one.
    pub(crate) fn advance_limit(&mut self) -> Option<usize> {
        // Windows are whole pages of the extent. The payload is a header behind, which the page before covers.
        self.cursor.advance_limit(self.window)
    }

    /// Whether the fast path has been let into the extent's second half.
    pub(crate) fn in_second_half(&self) -> bool {
        self.cursor.in_second_half()
    }

    /// The cursor itself, to publish what was written at it.
    #[inline(always)]
    pub(crate) fn cursor_mut(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    /// Appends a whole item of any size. On an error nothing of it is committed.
    pub(crate) fn append(&mut self, parts: &[&[u8]], supply: &mut dyn ExtentSupply) -> Result<(), WriteError> {
        if self.is_closed() {
            return Ok(());
        }
        let total = parts.iter().map(|part| part.len()).sum::<usize>();
        if total <= self.cursor.room_before_reserve() {
            self.append_here(parts);
            return Ok(());
        }
        let capacity = self.cursor.capacity();
        let beyond = total.saturating_sub(self.cursor.room());
        let further = beyond.div_ceil(capacity);
        // Where the item will end in its last extent decides whether one more has to be held.
        let last = if further == 0 { capacity - self.cursor.room() + total } else { beyond - (further - 1) * capacity };
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
            self.cursor.put(part);
        }
        self.cursor.publish();
    }

    /// Writes an item into the current extent and the first `further` of `extents`, holding the one after. Commits
    /// back to front: the current extent, which makes the item reachable, last.
    fn append_across(&mut self, parts: &[&[u8]], extents: Vec<Extent>, further: usize, supply: &mut dyn ExtentSupply) {
        let mut extents = extents.into_iter();
        let mut filled = Vec::with_capacity(further);
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                if self.cursor.room() == 0 {
                    let Some(extent) = extents.next() else { unreachable!("the item was measured") };
                    filled.extend(self.enter(extent));
                }
                let (now, later) = rest.split_at(rest.len().min(self.cursor.room()));
                self.cursor.put(now);
                rest = later;
            }
        }
        self.next = extents.next();
        self.cursor.publish();
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
        if item.len() <= self.cursor.room() {
            self.append_here(&[item]);
        } else if let Some(next) = self.next.take() {
            self.append_across(&[item], vec![next], 1, supply);
        }
        self.close();
    }

    fn close(&mut self) {
        self.cursor = Cursor::closed();
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
