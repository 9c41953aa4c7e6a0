//! Values that are compared at each line.

use super::inspect;
use super::ticks::names_of;
use crate::python::{Owned, text};
use pyo3_ffi::*;
use retrace_abi::line_events::{retrace_frame_above, retrace_variable_slot};
use retrace_replay::debug_protocol::{Cause, Stopped, Watch};
use std::ffi::{CString, c_int};
use std::ptr;

/// A longer string is not held: what grows it would copy it instead.
const HELD_STRING: Py_ssize_t = 1000;

pub struct Watched {
    watch: Watch,
    /// Its text when it last had a meaning.
    text: Option<String>,
    /// Where it first had one.
    first: Option<(Stopped, String)>,
    /// The call in which it first had one has begun since the run's beginning.
    has_begun: bool,
    variable: Variable,
}

/// A function's own variable. While the same unchanging value is in it, there is nothing to evaluate.
struct Variable {
    /// None where the watched expression is not a name.
    name: Option<CString>,
    /// The code that the frame had at the last look: whether it is the function's, and the variable's place in it.
    code: *mut PyObject,
    is_function: bool,
    slot: c_int,
    /// What was in it, if that cannot change. It is held, so that nothing else takes its place.
    value: Owned,
}

enum Look {
    /// The frame is not there.
    Absent,
    Same,
    Other,
}

impl Watched {
    /// # Safety
    /// `at`: where this stands, at a tick if that is not 0. The GIL is held.
    pub unsafe fn new(watch: &Watch, at: &Stopped) -> Watched {
        // SAFETY: by contract.
        let now = if at.tick == 0 { None } else { unsafe { inspect::watched(watch, at.thread) } };
        // Where it has no meaning here, it is what it was last.
        let text = now.or_else(|| watch.text.clone());
        Watched { watch: watch.clone(), text, first: None, has_begun: false, variable: Variable::new(watch) }
    }

    /// How it has changed since the tick before. `begun`: a call has led to this one.
    ///
    /// # Safety
    /// At the tick `at`; the GIL is held.
    pub unsafe fn change(&mut self, at: &Stopped, begun: bool) -> Option<Cause> {
        let is_call = begun && self.watch.frame.as_ref().is_some_and(|f| (f.thread, f.depth) == (at.thread, at.depth));
        if is_call {
            // What another call left has nothing to do with this one.
            (self.text, self.variable.value) = (None, Owned(ptr::null_mut()));
            self.has_begun |= self.first.is_none();
        }
        // SAFETY: by contract.
        let now = unsafe {
            match self.variable.look(&self.watch, at) {
                Look::Absent => return None,
                Look::Same if self.first.is_some() => return None,
                _ => inspect::watched(&self.watch, at.thread)?,
            }
        };
        if self.first.is_none() {
            self.first = Some((at.clone(), now.clone()));
        }
        if is_call && self.watch.from_call {
            self.text = Some(now.clone());
            return Some(Cause::Change { id: self.watch.id, before: String::new(), after: shown(&now).to_owned() });
        }
        let before = self.text.replace(now.clone()).filter(|before| differ(before, &now))?;
        let (before, after) = (shown(&before).to_owned(), shown(&now).to_owned());
        Some(Cause::Change { id: self.watch.id, before, after })
    }

    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Its text at the end, and where it first had one.
    pub fn into_ends(self) -> (Option<String>, Option<(Stopped, String)>) {
        let shown = |text: String| shown(&text).to_owned();
        (self.text.map(shown), self.first.map(|(at, text)| (at, shown(text))))
    }
}

/// What the user sees of a value's text. Behind it may be which object it is, in this run.
fn shown(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

/// Whether two texts are of values that differ. In another run an object is elsewhere.
fn differ(a: &str, b: &str) -> bool {
    if a.contains('\0') && b.contains('\0') { a != b } else { shown(a) != shown(b) }
}

impl Variable {
    fn new(watch: &Watch) -> Variable {
        let name = watch.expression.trim();
        let is_name = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
        let name = if is_name { CString::new(name).ok() } else { None };
        Variable { name, code: ptr::null_mut(), is_function: false, slot: -1, value: Owned(ptr::null_mut()) }
    }

    unsafe fn look(&mut self, watch: &Watch, at: &Stopped) -> Look {
        let Some(frame) = &watch.frame else { return Look::Other };
        if frame.thread != at.thread || frame.depth > at.depth {
            return Look::Absent;
        }
        // SAFETY: at a tick of this thread; what is read is borrowed, and looked at before anything runs.
        unsafe {
            let mut variables = ptr::null_mut();
            let above = c_int::from(at.depth - frame.depth);
            let code = retrace_frame_above(PyThreadState_Get().cast(), above, &mut variables);
            if code.is_null() {
                return Look::Absent;
            }
            if code != self.code {
                self.code = code;
                self.is_function = text(names_of(code)[2]) == frame.function;
                self.slot = self.name.as_ref().map_or(-1, |name| retrace_variable_slot(code, name.as_ptr()));
                self.value = Owned(ptr::null_mut());
            }
            match (self.is_function, self.slot) {
                (false, _) => return Look::Absent,
                (true, -1) => return Look::Other,
                _ => {}
            }
            let value = *variables.add(self.slot as usize);
            if !value.is_null() && value == self.value.0 {
                return Look::Same;
            }
            self.value = if is_unchanging(value) { Owned::borrowed(value) } else { Owned(ptr::null_mut()) };
            Look::Other
        }
    }
}

unsafe fn is_unchanging(value: *mut PyObject) -> bool {
    // SAFETY: a live object or null; the GIL is held.
    unsafe {
        !value.is_null()
            && (PyLong_CheckExact(value) != 0
                || PyFloat_CheckExact(value) != 0
                || PyBool_Check(value) != 0
                || PyBytes_CheckExact(value) != 0
                || value == Py_None()
                || PyUnicode_CheckExact(value) != 0 && PyUnicode_GetLength(value) < HELD_STRING)
    }
}
