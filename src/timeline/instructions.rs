//! Positions inside of lines. Where they are wanted each instruction is an event too, and they are numbered from the line
//! event on. The instruction that begins a line has that event's number, 0.

use super::generators::NONE;
use super::run::{Runner, is_over, stops_of};
use super::ticks::{Tick, find_back};
use super::{clock, process, timeline};
use crate::user_threads;
use pyo3_ffi::*;
use retrace_abi::line_events::{retrace_instruction_events, retrace_offset_above};
use retrace_abi::{ThreadState, innermost_frame};
use retrace_replay::debug_protocol::{Before, Cause, Find, Found, Goal, Report, Stopped, Stops};
use std::ffi::c_int;

#[derive(Default)]
pub struct Instructions {
    is_on: bool,
    /// Line events are on, without which there are none.
    can_be_on: bool,
    /// The frame and the instruction of the last line event.
    line: (usize, c_int),
    /// What came so far, where that is asked for, and its ticks and numbers.
    steps: Vec<Tick>,
    numbers: Vec<(u64, u32)>,
    /// The breakpoints that are on the first instruction of this line, but not on the line.
    pub at_line: Vec<usize>,
}

impl Runner {
    /// Line events have been turned on.
    ///
    /// # Safety
    /// The GIL is held, the thread state set.
    pub unsafe fn begin(&mut self) {
        self.instructions.can_be_on = true;
        // SAFETY: by contract.
        unsafe { self.follow_instructions() };
    }

    pub(super) fn has_instructions(&self) -> bool {
        self.instructions.is_on
    }

    /// Has the instructions be events, if they are of interest here.
    pub(super) unsafe fn follow_instructions(&mut self) {
        let wanted = match &self.run.goal {
            Goal::Tick { tick, instruction, .. } => *instruction > 0 && self.position.tick >= *tick,
            Goal::Before(Before { from, .. }) => self.position.tick >= *from,
            Goal::First(stops) | Goal::Last(stops) => stops.has_instructions(),
        };
        if self.instructions.can_be_on && wanted != self.instructions.is_on {
            self.instructions.is_on = wanted;
            if self.position.tick > 0 && (self.position.raise, self.position.instruction) == (0, 0) {
                // At a line event: its instruction comes now.
                // SAFETY: the GIL is held, the thread state set.
                unsafe {
                    let tstate = PyThreadState_Get().cast();
                    self.instructions.line = (innermost_frame(tstate) as usize, retrace_offset_above(tstate, 0));
                }
            }
            // SAFETY: the GIL is held. What it makes is not the program's.
            unsafe {
                if clock::uncounted(|| retrace_instruction_events(c_int::from(wanted))) < 0 {
                    PyErr_Print();
                    process::leave();
                }
            }
        }
    }

    /// At a line event.
    pub(super) unsafe fn instructions_begin_line(
        &mut self,
        tstate: *mut ThreadState,
        code: *mut PyObject,
        index: usize,
    ) {
        if !self.instructions.is_on {
            return;
        }
        // SAFETY: the GIL is held; the event's code.
        unsafe {
            let offset = retrace_offset_above(tstate, 0);
            self.instructions.line = (innermost_frame(tstate) as usize, offset);
            let stops = stops_of(&self.run);
            self.instructions.at_line =
                stops.map(|stops| self.codes.breakpoints_inside(index, code, offset, stops)).unwrap_or_default();
            let (thread, depth, is_mine) = (self.position.thread, self.position.depth, self.codes.get(index).is_mine);
            self.keep(thread, depth, is_mine);
        }
        self.come_to((self.position.tick, 0, 0));
    }

    /// At an instruction.
    pub(super) unsafe fn instruction(&mut self, tstate: *mut ThreadState, code: *mut PyObject, offset: c_int) {
        // SAFETY: the GIL is held; an event's values.
        unsafe {
            let frame = innermost_frame(tstate) as usize;
            if std::mem::take(&mut self.instructions.line) == (frame, offset) || !self.instructions.is_on {
                return;
            }
            let thread = user_threads::running();
            let depth = self.depth(tstate, thread);
            let index = self.codes.index(code, stops_of(&self.run));
            let is_mine = self.codes.get(index).is_mine;
            self.position.instruction += 1;
            let low = self.keep(thread as u32, depth, is_mine);
            self.come_to((self.position.tick, 0, self.position.instruction));
            loop {
                let (tick, instruction) = (self.position.tick, self.position.instruction);
                let cause = match &mut self.run.goal {
                    Goal::Tick { tick: to_tick, instruction: to, .. } => {
                        (*to > 0 && (*to_tick, *to) == (tick, instruction)).then_some(Cause::Goal)
                    }
                    Goal::Last(stops) if is_over(stops, tick, instruction) => self.end_window(true),
                    Goal::First(stops) | Goal::Last(stops) => {
                        let is_behind = (tick, instruction) > (stops.after, stops.after_instruction);
                        let step = is_behind && ends_step(stops, thread as u32, depth, low, is_mine);
                        match (is_behind, step) {
                            (false, _) => None,
                            (true, true) => Some(Cause::Step),
                            (true, false) => self.breakpoint_inside(index, code, offset),
                        }
                    }
                    Goal::Before(_) => None,
                };
                let Some(cause) = cause else { return };
                let path = self.codes.get(index).path.clone();
                let (thread, raise) = (thread as u32, 0);
                if !self.stop(Stopped { path, cause, thread, depth, raise, ..self.position.clone() }) {
                    return;
                }
            }
        }
    }

    unsafe fn breakpoint_inside(&mut self, index: usize, code: *mut PyObject, offset: c_int) -> Option<Cause> {
        let stops = stops_of(&self.run)?;
        // SAFETY: an event's code; the GIL is held.
        let places = unsafe { self.codes.breakpoints_inside(index, code, offset, stops) };
        // SAFETY: as above.
        places.into_iter().find_map(|place| unsafe { self.breakpoint(place) })
    }

    /// Keeps what a line or an instruction is, where that is asked for.
    /// Returns the fewest frames since the one before.
    unsafe fn keep(&mut self, thread: u32, depth: u32, is_mine: bool) -> u32 {
        // SAFETY: the GIL is held.
        let actor = unsafe { self.actor(thread as usize) };
        let low = std::mem::replace(&mut actor.low_instruction, u32::MAX).min(depth);
        if matches!(self.run.goal, Goal::Before(_)) {
            self.instructions.steps.push(Tick { thread: thread as u16, depth, low, is_mine, stack: NONE });
            self.instructions.numbers.push((self.position.tick, self.position.instruction));
        }
        low
    }

    /// Answers what comes before a position, if this is the one. A raise is no step of its own.
    pub(super) fn come_to(&mut self, position: (u64, u32, u32)) {
        if let Goal::Before(before) = &self.run.goal
            && before.to.is_some_and(|to| to == position || to.0 < position.0)
        {
            let is_step = position.1 == 0;
            self.answer_before(is_step);
        }
    }

    /// The same at the window's end.
    pub(super) fn come_to_end(&mut self) {
        if matches!(self.run.goal, Goal::Before(_)) {
            self.answer_before(false);
        }
    }

    fn answer_before(&mut self, is_step: bool) -> ! {
        let Goal::Before(Before { thread, depth, change, mine_only, .. }) = self.run.goal else { process::leave() };
        let before = is_step.then_some(self.instructions.steps.len() as u64);
        let ends = self.lows_since_instructions();
        let find =
            Find::Back { thread: Some(thread), before, depth, change, mine_only, generators: Vec::new(), leaves: 0 };
        let found = find_back(&self.instructions.steps, &ends, &self.generators, &find);
        let number = found.tick.map(|place| self.instructions.numbers[place as usize - 1]);
        let (tick, instruction) = number.map_or((None, 0), |(tick, instruction)| (Some(tick), instruction));
        timeline_send(&Report::Found(Found { tick, instruction, ..found }));
        process::leave()
    }
}

fn timeline_send(report: &Report) {
    // SAFETY: the GIL is held by whoever runs an event; this process is one of a timeline.
    unsafe { timeline() }.channel.send(report);
}

fn ends_step(stops: &mut Stops, thread: u32, depth: u32, low: u32, is_mine: bool) -> bool {
    let shown = is_mine || !stops.mine_only;
    let Some(step) = stops.step.as_mut().filter(|step| step.is_instruction && step.thread == thread) else {
        return false;
    };
    if step.depth != u32::MAX {
        step.lower(low.max(1));
    }
    depth <= step.depth && shown
}
