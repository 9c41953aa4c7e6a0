//! Exceptions in a run with line events: where they are raised, where they leave the user's code, and which nobody caught.

use super::run::{Runner, is_over, stops_of};
use super::{clock, inspect, process, timeline};
use crate::python::{attribute, text};
use crate::user_threads;
use pyo3_ffi::*;
use retrace_abi::line_events::{
    retrace_frame_above, retrace_is_called_by_c, retrace_is_coroutine_frame, retrace_offset_above,
    retrace_reraise_events,
};
use retrace_abi::{ThreadState, innermost_frame};
use retrace_replay::debug_protocol::{Cause, Goal, Raise, Report, Stopped};
use std::ffi::c_int;

/// Exceptions that a window lists of the user's code, and of the library.
const LISTED: usize = 500;

/// The last raise, or where an exception passed.
pub(super) struct Raised {
    /// The frame and the instruction.
    place: (usize, c_int),
    at: Stopped,
}

/// An exception that C code of a library's has got from the user's code, where it may have asked for something.
pub(super) struct Asked {
    exception: usize,
    /// Where it was in the user's code last.
    at: Stopped,
}

impl Runner {
    /// The raise of an exception: that at its address, or the last at its place where it was not raised in the run that
    /// knows the address. Line events change what is allocated, so that it may be elsewhere in this one.
    pub(super) fn origin(&self, raise: &Raise) -> Option<&Stopped> {
        let is_there = |code: usize, offset: c_int, at: &Stopped| {
            let code = self.codes.get(code);
            let is_class = matches!(&at.cause, Cause::Exception { class, .. } if *class == raise.class);
            is_class && offset == raise.offset && code.path == raise.path && code.qualified_name == raise.function
        };
        let is_it = |address: usize| raise.address.is_none_or(|wanted| wanted == address as u64);
        let found =
            self.origins.iter().filter(|((address, code, offset), at)| is_it(*address) && is_there(*code, *offset, at));
        found.map(|(_, at)| at).max_by_key(|at| (at.tick, at.raise))
    }

    pub(super) unsafe fn raise(
        &mut self,
        tstate: *mut ThreadState,
        code: *mut PyObject,
        exception: *mut PyObject,
        origin: c_int,
    ) {
        // SAFETY: the GIL is held.
        unsafe {
            let class = class_of(exception);
            let first = origin >= 0;
            let code = self.codes.index(code, stops_of(&self.run));
            let is_mine = self.codes.get(code).is_mine;
            let mut stopped = self.passes(tstate, &class);
            if first {
                if self.run.record {
                    self.origins.insert((exception as usize, code, origin), stopped.clone());
                }
                let listed = &mut self.listed[usize::from(is_mine)];
                if *listed < LISTED && !is_control(&class) {
                    *listed += 1;
                    self.raised.push(stopped.clone());
                }
            }
            let frame = innermost_frame(tstate) as usize;
            self.in_flight.insert(frame, exception as usize);
            let place = (frame, retrace_offset_above(tstate, 0));
            self.last_raised = Some(Raised { place, at: stopped.clone() });
            let asked = self.asked.remove(&stopped.thread);
            if self.comes_to(exception, &stopped) {
                return;
            }
            if let Some(asked) = asked
                && asked.exception == exception as usize
            {
                self.left_mine(asked.at);
            }
            let (Goal::First(stops) | Goal::Last(stops)) = &self.run.goal else { return };
            let Some(exceptions) = &stops.exceptions else { return };
            let tick = self.position.tick;
            let in_range = tick >= stops.after && !is_over(stops, tick, self.position.instruction);
            let shown = is_mine || !stops.mine_only;
            let wanted = exceptions.raised && first && shown && !is_control(&class) && in_range;
            if wanted && inspect::is_of_classes(exception, &exceptions.classes) {
                if matches!(self.run.goal, Goal::Last(_)) {
                    self.last = Some(stopped);
                    return;
                }
                inspect::set_exception(exception);
                stopped.raise = self.position.raise;
                timeline().channel.send(&Report::Stopped(Box::new(stopped)));
                self.wait();
            }
        }
    }

    /// Numbers a place where an exception passes.
    unsafe fn passes(&mut self, tstate: *mut ThreadState, class: &str) -> Stopped {
        // SAFETY: the GIL is held.
        unsafe {
            let thread = user_threads::running();
            let depth = self.depth(tstate, thread);
            let before = self.position.clone();
            self.position.raise += 1;
            Stopped {
                cause: Cause::Exception { class: class.to_owned(), user_unhandled: false },
                thread: thread as u32,
                depth,
                instruction: 0,
                raise: self.position.raise,
                ..before
            }
        }
    }

    /// Whether the run ended at the place that has been numbered last, and another one has begun there.
    unsafe fn comes_to(&mut self, exception: *mut PyObject, at: &Stopped) -> bool {
        // SAFETY: the GIL is held.
        unsafe {
            self.come_to((at.tick, at.raise, 0));
            if let Goal::Last(stops) = &self.run.goal
                && stops.before == Some(at.tick)
                && stops.before_raise == at.raise
            {
                self.end_window(true);
            }
            let Goal::Tick { tick, raise, .. } = self.run.goal else { return false };
            if (tick, raise) != (at.tick, at.raise) {
                return false;
            }
            inspect::set_exception(exception);
            timeline().channel.send(&Report::Stopped(Box::new(at.clone())));
            self.wait();
            true
        }
    }

    /// Has exceptions that are raised again be events, if it is of interest which one leaves a frame.
    pub(super) unsafe fn follow_reraises(&mut self) {
        let wanted = match &self.run.goal {
            Goal::Tick { raise, .. } => *raise > 0,
            Goal::First(stops) | Goal::Last(stops) => {
                stops.exceptions.as_ref().is_some_and(|exceptions| exceptions.user_unhandled)
            }
            Goal::Before(_) => false,
        };
        // SAFETY: the GIL is held.
        unsafe { retrace_reraise_events(c_int::from(wanted)) };
    }

    /// A frame is left by an exception; null: by the one that was raised in it last. Where the frame is the user's and what
    /// called it is not, that leaves the user's code, at the raise if nothing came in between.
    pub(super) unsafe fn unwind(&mut self, tstate: *mut ThreadState, code: *mut PyObject, exception: *mut PyObject) {
        // SAFETY: the GIL is held; an exception that is on its way lives.
        unsafe {
            let frame = innermost_frame(tstate);
            let known = self.in_flight.remove(&(frame as usize)).unwrap_or_default() as *mut PyObject;
            let exception = if exception.is_null() { known } else { exception };
            self.asked.remove(&(user_threads::running() as u32));
            if !self.is_left(tstate, code) {
                return;
            }
            let class = if exception.is_null() { String::new() } else { class_of(exception) };
            let here = (self.position.tick, self.position.raise);
            let place = (frame as usize, retrace_offset_above(tstate, 0));
            let is_raise = |raised: &&Raised| raised.place == place && (raised.at.tick, raised.at.raise) == here;
            let at = match self.last_raised.as_ref().filter(is_raise) {
                Some(raised) => raised.at.clone(),
                None => {
                    let at = self.passes(tstate, &class);
                    if self.comes_to(exception, &at) {
                        return;
                    }
                    at
                }
            };
            let exceptions = stops_of(&self.run).and_then(|stops| stops.exceptions.as_ref());
            let Some(exceptions) = exceptions.filter(|exceptions| exceptions.user_unhandled) else { return };
            let is_shown = (at.tick, at.raise) > self.began && !exception.is_null() && !is_control(&class);
            if !is_shown || !inspect::is_of_classes(exception, &exceptions.user_classes) {
                return;
            }
            let asks = retrace_is_called_by_c(frame) != 0 && retrace_is_coroutine_frame(frame) == 0;
            if asks && is_lookup(&class) {
                self.asked.insert(at.thread, Asked { exception: exception as usize, at });
            } else {
                self.left_mine(at);
            }
        }
    }

    /// Whether with the innermost frame the user's code is left: to a library's, or to C code that nothing called but the
    /// interpreter. The main program's own end is not that.
    unsafe fn is_left(&mut self, tstate: *mut ThreadState, code: *mut PyObject) -> bool {
        // SAFETY: the GIL is held; the frame's code.
        unsafe {
            let index = self.codes.index(code, stops_of(&self.run));
            if !self.codes.get(index).is_mine {
                return false;
            }
            let mut variables = std::ptr::null_mut();
            let caller = retrace_frame_above(tstate, 1, &mut variables);
            if caller.is_null() {
                return self.codes.get(index).name != "<module>";
            }
            !self.codes.is_mine(caller, stops_of(&self.run))
        }
    }

    /// An exception has left the user's code, where it was last there.
    fn left_mine(&mut self, last: Stopped) {
        let Cause::Exception { class, .. } = &last.cause else { return };
        let cause = Cause::Exception { class: class.clone(), user_unhandled: true };
        let last = Stopped { cause, ..last };
        let place = (last.tick, last.raise);
        match &self.run.goal {
            Goal::First(stops) if last.tick >= stops.after => {
                // SAFETY: a process of a timeline.
                unsafe { timeline() }.channel.send(&Report::Stopped(Box::new(last)));
                process::leave();
            }
            Goal::Last(stops)
                if !is_over(stops, last.tick, 0)
                    && self.last.as_ref().is_none_or(|other| (other.tick, other.raise) < place) =>
            {
                self.last = Some(last);
            }
            _ => {}
        }
    }

    /// It is reported that nobody caught it. The crash is the last one of its kind.
    pub unsafe fn uncaught(&mut self, exception: *mut PyObject, in_thread: bool) {
        // SAFETY: the GIL is held. What attribute access makes is not the program's.
        if let Some(raise) = unsafe { clock::uncounted(|| raise_of(exception, in_thread)) } {
            self.crashes.retain(|other| other.in_thread != in_thread);
            self.crashes.push(raise);
        }
    }
}

unsafe fn class_of(exception: *mut PyObject) -> String {
    // SAFETY: the GIL is held.
    let name = unsafe { crate::python::type_name(exception) };
    name.rsplit('.').next().unwrap_or_default().to_owned()
}

/// Where an exception's traceback says that it was raised. None without one: no Python frame was there.
unsafe fn raise_of(exception: *mut PyObject, in_thread: bool) -> Option<Raise> {
    // SAFETY: the GIL is held.
    unsafe {
        let mut traceback = attribute(exception, c"__traceback__");
        if traceback.0.is_null() || traceback.0 == Py_None() {
            return None;
        }
        loop {
            let next = attribute(traceback.0, c"tb_next");
            if next.0.is_null() || next.0 == Py_None() {
                break;
            }
            traceback = next;
        }
        let frame = attribute(traceback.0, c"tb_frame");
        let code = attribute(frame.0, c"f_code");
        Some(Raise {
            address: Some(exception as u64),
            in_thread,
            class: class_of(exception),
            path: text(attribute(code.0, c"co_filename").0),
            function: text(attribute(code.0, c"co_qualname").0),
            offset: PyLong_AsLong(attribute(traceback.0, c"tb_lasti").0) as i32,
        })
    }
}

/// What tells C code that there is no such thing, in a function that it has asked: `__getattr__`, `__missing__`, `__getitem__`.
fn is_lookup(class: &str) -> bool {
    matches!(class, "AttributeError" | "KeyError" | "IndexError")
}

/// How iteration and generators end.
fn is_control(class: &str) -> bool {
    matches!(class, "StopIteration" | "StopAsyncIteration" | "GeneratorExit")
}
