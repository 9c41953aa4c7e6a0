//! Exceptions in a run with line events: where they are raised, where they leave the user's code, and which nobody caught.

use super::run::{Runner, is_over, stops_of};
use super::{clock, inspect, process, timeline};
use crate::python::{attribute, text};
use crate::{replay, user_threads};
use pyo3_ffi::*;
use retrace_abi::line_events::{retrace_frame_above, retrace_is_coroutine_frame};
use retrace_abi::{ThreadState, innermost_frame};
use retrace_replay::debug_protocol::{Cause, Goal, Raise, Report, Stopped};
use std::ffi::c_int;

/// Exceptions that a window lists of the user's code, and of the library.
const LISTED: usize = 500;
/// Reports of uncaught exceptions that a window has.
const CRASHES: usize = 100;

/// An exception that passes through the user's code.
pub(super) struct Passing {
    exception: usize,
    /// It is to be stopped at where it leaves that.
    is_wanted: bool,
    /// If it leaves that without being seen in another, C code that a library called has it.
    to_c: bool,
    /// Where it was seen last.
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
            let thread = user_threads::running();
            let depth = self.depth(tstate, thread);
            let position = &mut self.position;
            position.raise += 1;
            let class = class_of(exception);
            let first = origin >= 0;
            let code = self.codes.index(code, stops_of(&self.run));
            let is_mine = self.codes.get(code).is_mine;
            let mut stopped = Stopped {
                cause: Cause::Exception { class: class.clone(), user_unhandled: false },
                thread: thread as u32,
                depth,
                instruction: 0,
                ..position.clone()
            };
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
            let (tick, raise) = (position.tick, position.raise);
            self.come_to((tick, raise, 0));
            if let Goal::Last(stops) = &self.run.goal
                && stops.before == Some(tick)
                && stops.before_raise == raise
            {
                self.end_window(true);
            }
            if let Goal::Tick { tick: to_tick, raise: to_raise, .. } = self.run.goal
                && (to_tick, to_raise) == (tick, raise)
            {
                inspect::set_exception(exception);
                timeline().channel.send(&Report::Stopped(Box::new(stopped)));
                return self.wait();
            }
            let (Goal::First(stops) | Goal::Last(stops)) = &self.run.goal else { return };
            let Some(exceptions) = &stops.exceptions else { return };
            if exceptions.user_unhandled && !is_control(&class) {
                self.leaves_mine(tstate, &stopped, exception, first, is_mine);
            }
            let (Goal::First(stops) | Goal::Last(stops)) = &self.run.goal else { return };
            let Some(exceptions) = &stops.exceptions else { return };
            let in_range = self.position.tick >= stops.after && !is_over(stops, tick, self.position.instruction);
            let shown = is_mine || !stops.mine_only;
            let wanted = exceptions.raised && first && shown && !is_control(&class) && in_range;
            if wanted && inspect::is_of_classes(exception, &exceptions.classes) {
                if matches!(self.run.goal, Goal::Last(_)) {
                    self.last = Some(stopped);
                    return;
                }
                inspect::set_exception(exception);
                stopped.raise = raise;
                timeline().channel.send(&Report::Stopped(Box::new(stopped)));
                self.wait();
            }
        }
    }

    /// An exception passes: whether it has left the user's code. The stop is where it was there last, which has passed: whoever
    /// searches goes there again.
    unsafe fn leaves_mine(
        &mut self,
        tstate: *mut ThreadState,
        at: &Stopped,
        exception: *mut PyObject,
        first: bool,
        is_mine: bool,
    ) {
        // SAFETY: the GIL is held; a live exception.
        unsafe {
            let exceptions = stops_of(&self.run).and_then(|stops| stops.exceptions.as_ref());
            let Some(exceptions) = exceptions else { return };
            if is_mine {
                let is_wanted = inspect::is_of_classes(exception, &exceptions.user_classes);
                let mut variables = std::ptr::null_mut();
                let caller = retrace_frame_above(tstate, 1, &mut variables);
                let of_library = !caller.is_null() && !self.codes.is_mine(caller, stops_of(&self.run));
                let is_coroutine = retrace_is_coroutine_frame(innermost_frame(tstate)) != 0;
                let to_c = of_library && (is_coroutine || !is_lookup(&at.cause));
                let passing = Passing { exception: exception as usize, is_wanted, to_c, at: at.clone() };
                self.passing.insert(at.thread, passing);
                return;
            }
            let Some(passing) = self.passing.remove(&at.thread) else { return };
            if !first && passing.exception == exception as usize && passing.is_wanted {
                self.left_mine(passing.at);
            }
        }
    }

    /// A line comes of a thread with an exception that was last seen in the user's code: it has been caught, or C code that a
    /// library calls has it.
    pub(super) fn passes_no_more(&mut self, thread: u32, depth: u32, low: u32) {
        let Some(passing) = self.passing.get(&thread) else { return };
        if low >= passing.at.depth && depth > passing.at.depth {
            // What that frame calls before it is left: an `__exit__`.
            return;
        }
        if let Some(passing) = self.passing.remove(&thread)
            && low < passing.at.depth
            && passing.to_c
            && passing.is_wanted
        {
            self.left_mine(passing.at);
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

    /// It is reported that nobody caught it.
    pub unsafe fn uncaught(&mut self, exception: *mut PyObject, in_thread: bool) {
        if self.crashes.len() < CRASHES {
            // SAFETY: the GIL is held. What attribute access makes is not the program's.
            self.crashes.extend(unsafe { clock::uncounted(|| raise_of(exception, in_thread)) });
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
        let event = replay::source().index().0;
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
            event,
            in_thread,
            class: class_of(exception),
            path: text(attribute(code.0, c"co_filename").0),
            function: text(attribute(code.0, c"co_qualname").0),
            offset: PyLong_AsLong(attribute(traceback.0, c"tb_lasti").0) as i32,
        })
    }
}

/// What tells C code that there is no such thing, in a function that it has asked: `__getattr__`, `__missing__`, `__getitem__`.
fn is_lookup(cause: &Cause) -> bool {
    matches!(cause, Cause::Exception { class, .. } if ["AttributeError", "KeyError", "IndexError"].contains(&class.as_str()))
}

/// How iteration and generators end.
fn is_control(class: &str) -> bool {
    matches!(class, "StopIteration" | "StopAsyncIteration" | "GeneratorExit")
}
