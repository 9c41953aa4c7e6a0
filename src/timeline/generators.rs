//! Which generator or coroutine a frame belongs to. Such a frame is left and gone back to, and to whoever steps it is the
//! same one all the time; by its depth alone it would be another one each time.

use super::each_thread;
use pyo3_ffi::PyObject;
use retrace_abi::line_events::{depth_of, retrace_frame_codes, retrace_generator_frames, retrace_generators};
use retrace_abi::{Frame, ThreadState};
use retrace_replay::debug_protocol::Generator;
use std::collections::HashMap;
use std::ffi::c_int;

/// No generator; no frame of one.
pub const NONE: u32 = 0;

/// A generator's frame on a thread's stack, and the next one below.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link {
    depth: u32,
    generator: u32,
    below: u32,
}

/// What is known of one.
struct Facts {
    /// Where its frame was when the window began; 0 for one that has begun since.
    first: usize,
    /// How many ticks there had been when it began, if it has in this run.
    began: Option<u64>,
    /// Then its number among those that have, from 1.
    serial: u64,
    /// Its code is not the user's. False, too, where that is not known.
    is_library: bool,
}

/// Those seen in a run. They are numbered from 1 in the order in which they are met, so that all runs through a window
/// number them alike.
#[derive(Default)]
pub struct Generators {
    /// By the frame's address.
    known: HashMap<usize, u32>,
    facts: Vec<Facts>,
    /// How many have begun in this run.
    begun: u64,
    /// What threads' stacks have: a stack is the number of its innermost link, or 0.
    links: Vec<Link>,
}

impl Generators {
    /// The generator of a frame. `begins`: it is another one than was at that address, and there have been so many ticks.
    pub fn number(&mut self, frame: usize, begins: Option<u64>) -> u32 {
        if let (Some(number), None) = (self.known.get(&frame), begins) {
            return *number;
        }
        self.begun += u64::from(begins.is_some());
        let (first, serial) = if begins.is_some() { (0, self.begun) } else { (frame, 0) };
        self.facts.push(Facts { first, began: begins, serial, is_library: false });
        let number = self.facts.len() as u32;
        self.known.insert(frame, number);
        number
    }

    fn facts(&self, generator: u32) -> Option<&Facts> {
        self.facts.get((generator as usize).wrapping_sub(1))
    }

    /// Whether a generator's code is known not to be the user's.
    pub fn is_library(&self, generator: u32) -> bool {
        self.facts(generator).is_some_and(|facts| facts.is_library)
    }

    pub fn set_library(&mut self, generator: u32, is_library: bool) {
        if let Some(facts) = self.facts.get_mut((generator as usize).wrapping_sub(1)) {
            facts.is_library = is_library;
        }
    }

    /// Whether a generator had not begun before a tick, the first of which is 1.
    pub fn begins_at(&self, generator: u32, tick: u64) -> bool {
        self.facts(generator).and_then(|facts| facts.began).is_some_and(|before| before + 1 >= tick)
    }

    /// The generator that has just begun, as all runs know it.
    pub fn newest(&self) -> Generator {
        Generator::Begins(self.begun)
    }

    /// The generator whose frame is there now, as all runs know it.
    pub fn known_as(&self, frame: usize) -> Generator {
        match self.known.get(&frame).and_then(|number| self.facts(*number)) {
            Some(facts) if facts.began.is_some() => Generator::Begins(facts.serial),
            // One that has not been met is where it was.
            Some(Facts { first, .. }) => Generator::There(*first as u64),
            None => Generator::There(frame as u64),
        }
    }

    /// The number of one that all runs know, if it has been met.
    fn met(&self, generator: Generator) -> Option<u32> {
        let is_it = |facts: &Facts| match generator {
            Generator::There(first) => facts.first as u64 == first,
            Generator::Begins(serial) => facts.serial == serial,
            Generator::Gone => false,
        };
        self.facts.iter().position(is_it).map(|place| place as u32 + 1)
    }

    /// The same of one that is yet to be met; `NONE` of one that has not begun, or is gone.
    pub fn number_of(&mut self, generator: Generator) -> u32 {
        match (self.met(generator), generator) {
            (Some(number), _) => number,
            (None, Generator::There(first)) if !self.known.contains_key(&(first as usize)) => {
                self.number(first as usize, None)
            }
            _ => NONE,
        }
    }

    /// Where the frame of one that all runs know is now; `None` of one that is gone.
    pub fn place_of(&self, generator: Generator) -> Option<usize> {
        match (self.met(generator), generator) {
            (Some(number), _) => self.place(number),
            (None, Generator::There(first)) => Some(first as usize).filter(|first| !self.known.contains_key(first)),
            _ => None,
        }
    }

    /// How deep a generator's frame is on a stack.
    pub fn depth_of(&self, mut stack: u32, generator: u32) -> Option<u32> {
        while let Some(link) = self.link(stack) {
            if link.generator == generator {
                return Some(link.depth);
            }
            stack = link.below;
        }
        None
    }

    /// Where a generator's frame is now; `None` of one that is gone.
    pub fn place(&self, generator: u32) -> Option<usize> {
        self.known.iter().find(|(_, number)| **number == generator).map(|(frame, _)| *frame)
    }

    /// A frame has begun, or goes on, on a stack.
    pub fn enter(&mut self, stack: u32, depth: u32, generator: u32) -> u32 {
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
    pub fn leave(&self, mut stack: u32, depth: u32) -> u32 {
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
    pub fn at(&self, stack: u32, depth: u32) -> u32 {
        self.link(self.leave(stack, depth)).filter(|link| link.depth == depth).map_or(NONE, |link| link.generator)
    }

    /// The generators of frames that are not deeper.
    pub fn up_to(&self, stack: u32, depth: u32) -> Vec<u32> {
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
    pub unsafe fn stack_of(
        &mut self,
        tstate: *mut ThreadState,
        depth: u32,
        mut is_mine: impl FnMut(*mut PyObject) -> bool,
    ) -> u32 {
        let (mut frames, mut codes) = (vec![0; depth as usize], vec![std::ptr::null_mut(); depth as usize]);
        // SAFETY: by contract; room for so many.
        unsafe {
            retrace_generator_frames(tstate, frames.as_mut_ptr(), depth as c_int);
            retrace_frame_codes(tstate, codes.as_mut_ptr(), depth as c_int);
        }
        let mut stack = NONE;
        for (place, (frame, code)) in frames.into_iter().zip(codes).enumerate() {
            let generator = if frame == 0 { NONE } else { self.number(frame as usize, None) };
            if generator != NONE {
                self.set_library(generator, !is_mine(code));
            }
            stack = self.enter(stack, place as u32 + 1, generator);
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
        let first = |number: &u32| self.facts(*number).map(|facts| facts.first as u64);
        numbers.iter().filter_map(first).filter(|frame| *frame != 0)
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

/// A thread's frame of that depth, if it is a generator's.
///
/// # Safety
/// The GIL is held.
pub unsafe fn frame_of_thread(thread: u32, depth: u32) -> Option<usize> {
    let mut found = 0;
    // SAFETY: by contract; room for so many.
    unsafe {
        each_thread(|number, tstate| {
            let mut frames = vec![0; depth_of(tstate) as usize];
            if number == thread && depth as usize <= frames.len() && depth > 0 {
                retrace_generator_frames(tstate, frames.as_mut_ptr(), frames.len() as c_int);
                found = frames[depth as usize - 1] as usize;
            }
        });
    }
    (found != 0).then_some(found)
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
