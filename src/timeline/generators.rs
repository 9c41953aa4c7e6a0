//! Which generator or coroutine a frame belongs to. Such a frame is left and gone back to, and to whoever steps it is the
//! same one all the time; by its depth alone it would be another one each time.

use retrace_abi::line_events::{retrace_generator_frames, retrace_generators};
use retrace_abi::{Frame, ThreadState};
use std::collections::HashMap;
use std::ffi::c_int;

/// No generator; no frame of one.
pub const NONE: u32 = 0;

/// A generator's frame on a thread's stack, and the next one below.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link {
    depth: u16,
    generator: u32,
    below: u32,
}

/// Those seen in a run. They are numbered from 1 in the order in which they are met, so that all runs through a window
/// number them alike.
#[derive(Default)]
pub struct Generators {
    /// By the frame's address.
    known: HashMap<usize, u32>,
    /// Where each one's frame was when the window began; 0 for those that have begun since.
    first: Vec<usize>,
    /// What threads' stacks have: a stack is the number of its innermost link, or 0.
    links: Vec<Link>,
}

impl Generators {
    /// The generator of a frame. `begins`: it is another one than was at that address.
    pub fn number(&mut self, frame: usize, begins: bool) -> u32 {
        if let (Some(number), false) = (self.known.get(&frame), begins) {
            return *number;
        }
        self.first.push(if begins { 0 } else { frame });
        let number = self.first.len() as u32;
        self.known.insert(frame, number);
        number
    }

    /// A frame has begun, or goes on, on a stack.
    pub fn enter(&mut self, stack: u32, depth: u16, generator: u32) -> u32 {
        let below = self.leave(stack, depth.saturating_sub(1));
        if generator == NONE {
            return below;
        }
        let link = Link { depth, generator, below };
        if self.links.last() != Some(&link) {
            self.links.push(link);
        }
        self.links.len() as u32
    }

    /// The stack without frames that are deeper.
    pub fn leave(&self, mut stack: u32, depth: u16) -> u32 {
        while let Some(link) = self.link(stack)
            && link.depth > depth
        {
            stack = link.below;
        }
        stack
    }

    fn link(&self, stack: u32) -> Option<&Link> {
        self.links.get((stack as usize).wrapping_sub(1))
    }

    /// The generator whose frame is the one at that depth.
    pub fn at(&self, stack: u32, depth: u16) -> u32 {
        self.link(self.leave(stack, depth)).filter(|link| link.depth == depth).map_or(NONE, |link| link.generator)
    }

    /// The generators of frames that are not deeper.
    pub fn up_to(&self, stack: u32, depth: u16) -> Vec<u32> {
        let mut found = Vec::new();
        let mut stack = self.leave(stack, depth);
        while let Some(link) = self.link(stack) {
            found.push(link.generator);
            stack = link.below;
        }
        found
    }

    /// The stack that a thread has.
    ///
    /// # Safety
    /// The GIL is held.
    pub unsafe fn stack_of(&mut self, tstate: *mut ThreadState, depth: u16) -> u32 {
        let mut frames = vec![0; depth as usize];
        // SAFETY: by contract; room for so many.
        unsafe { retrace_generator_frames(tstate, frames.as_mut_ptr(), c_int::from(depth)) };
        let mut stack = NONE;
        for (place, frame) in frames.into_iter().enumerate() {
            let generator = if frame == 0 { NONE } else { self.number(frame as usize, false) };
            stack = self.enter(stack, place as u16 + 1, generator);
        }
        stack
    }

    /// Where the frames of these are now. Of those that are gone, nowhere.
    pub fn addresses(&self, numbers: &[u32]) -> Vec<u64> {
        let known = self.known.iter().filter(|(_, number)| numbers.contains(number));
        known.map(|(frame, _)| *frame as u64).collect()
    }

    /// Where the frames of these were when the window began.
    pub fn first_addresses(&self, numbers: &[u32]) -> impl Iterator<Item = u64> {
        numbers.iter().map(|number| self.first[*number as usize - 1] as u64).filter(|frame| *frame != 0)
    }

    /// By where the frame is now; `Err` for one that the run has not met.
    pub fn by_address(&self, frame: u64) -> Result<u32, u64> {
        self.known.get(&(frame as usize)).copied().ok_or(frame)
    }
}

/// The frame's address if it is a generator's, or 0.
///
/// # Safety
/// A live frame, or null.
pub unsafe fn generator_frame(frame: *mut Frame) -> usize {
    // SAFETY: by contract.
    if unsafe { retrace_abi::line_events::retrace_is_generator_frame(frame) } != 0 { frame as usize } else { 0 }
}

/// Where the frames of all generators are, in the order in which the collector has them: which is the same in each copy
/// of a replay that has come to the same place.
///
/// # Safety
/// The GIL is held.
pub unsafe fn all() -> Vec<u64> {
    // SAFETY: by contract; room for as many as there are.
    unsafe {
        let count = retrace_generators(std::ptr::null_mut(), 0);
        let mut frames = vec![0; count as usize];
        retrace_generators(frames.as_mut_ptr(), count);
        frames
    }
}
