//! How many frames a thread has, without counting them at each line: in a recursion there may be tens of thousands.

use retrace_abi::line_events::{retrace_frame_inside, retrace_frame_outside};
use retrace_abi::{Frame, ThreadState};

/// Frames that are looked for by their addresses before all are counted again.
const TRIES: u32 = 4;

/// A thread's frames, the outermost one first, as of its last event. Some of the last ones may have ended since: that is no
/// event. What begins, or goes on, in their place tells, so that those before it are as they were.
#[derive(Default)]
pub(super) struct Depths {
    frames: Vec<*mut Frame>,
}

impl Depths {
    /// How many there are now. `begins`: the innermost one has just begun, or goes on; it may lie where another one lay.
    ///
    /// # Safety
    /// The GIL is held by the thread, which is in Python code; it has told of each frame that has begun since the last time.
    pub(super) unsafe fn now(&mut self, tstate: *mut ThreadState, begins: bool) -> u32 {
        // SAFETY: by contract: only frames that are on the stack are looked into.
        unsafe {
            let mut unknown = Vec::new();
            let (mut frame, mut tries, mut known) = (retrace_frame_inside(tstate), 0, 0);
            if begins && !frame.is_null() {
                unknown.push(frame);
                frame = retrace_frame_outside(frame);
            }
            while !frame.is_null() {
                if tries < TRIES {
                    tries += 1;
                    if let Some(place) = self.place_of(frame) {
                        known = place;
                        break;
                    }
                }
                unknown.push(frame);
                frame = retrace_frame_outside(frame);
            }
            self.frames.truncate(known);
            self.frames.extend(unknown.iter().rev());
            self.frames.len() as u32
        }
    }

    /// All of them, the outermost one first, as of when they were counted last.
    pub(super) fn frames(&self) -> &[*mut Frame] {
        &self.frames
    }

    /// How many frames there are with one that is on the stack, if it is known.
    unsafe fn place_of(&self, frame: *mut Frame) -> Option<usize> {
        let place = self.frames.iter().rposition(|other| *other == frame)?;
        let outside = place.checked_sub(1).map_or(std::ptr::null_mut(), |outside| self.frames[outside]);
        // SAFETY: it is on the stack. What has an ended one's address is called by another one, as a rule.
        (unsafe { retrace_frame_outside(frame) } == outside).then_some(place + 1)
    }
}
