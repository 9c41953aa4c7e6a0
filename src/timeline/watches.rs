//! Values that are compared at each line.

use super::expressions::{Expression, HERE, Scope};
use super::generators::{self, Generators};
use super::ticks::names_of;
use super::{clock, inspect};
use crate::python::{Owned, string, text};
use pyo3_ffi::*;
use retrace_abi::line_events::{retrace_frame_above, retrace_variable_slot};
use retrace_replay::debug_protocol::{Cause, Generator, Stopped, Watch, WatchFrame, shown};
use std::ffi::{CString, c_int};
use std::ptr;

pub struct Watched {
    watch: Watch,
    /// Its text when it last had a meaning.
    text: Option<String>,
    /// Where it first had one.
    first: Option<(Stopped, String)>,
    /// What it was where this began: at a tick, or at a checkpoint before any.
    start: Option<String>,
    /// Another object has taken its place since the last tick.
    is_other: bool,
    /// The call in which it first had one has begun since the run's beginning.
    has_begun: bool,
    /// The number of the generator whose frame it has its meaning in; `NONE` until it has begun, or where it is gone.
    generator: u32,
    /// How deep that frame is now, on the thread that runs; 0 where there is none.
    depth: u32,
    variable: Variable,
    expression: Expression,
    /// The name of the module whose global it is, or null.
    module: Owned,
    /// The value that the text is of, if that cannot change. It is held, so that nothing else takes its place.
    value: Owned,
}

/// A function's own variable. While the same unchanging value is in it, there is nothing to evaluate.
struct Variable {
    /// None where the watched expression is not a name.
    name: Option<CString>,
    /// The code that the frame had at the last look: whether it is the function's, and the variable's place in it.
    code: *mut PyObject,
    is_function: bool,
    slot: c_int,
}

enum Look {
    /// The frame is not there.
    Absent,
    Same,
    Other(Scope),
}

/// What a watched value is at a line.
enum Now {
    /// It has no meaning there.
    Absent,
    Same,
    Other(String),
}

impl Watched {
    /// # Safety
    /// `at`: where this stands, at a tick if that is not 0; `stack`: what the thread has there. The GIL is held.
    pub unsafe fn new(watch: &Watch, at: &Stopped, generators: &mut Generators, stack: u32) -> Watched {
        let nothing = || Owned(ptr::null_mut());
        let mut watched = Watched {
            watch: watch.clone(),
            text: None,
            first: None,
            start: None,
            is_other: false,
            has_begun: false,
            generator: generators.number_of(watch.generator().unwrap_or(Generator::Gone)),
            depth: 0,
            variable: Variable::new(watch),
            expression: Expression::new(),
            module: nothing(),
            value: nothing(),
        };
        watched.place(at, generators, stack);
        // SAFETY: by contract.
        unsafe {
            let now = if at.tick == 0 { Now::Absent } else { watched.now(at) };
            // Where it has no meaning here, it is what it was last.
            watched.start = match now {
                Now::Other(text) => Some(text),
                _ => None,
            };
            watched.text = watched.start.clone().or_else(|| watch.text.clone());
        }
        watched
    }

    /// A generator has begun, of that number; all runs know it as `generator`.
    pub fn generator_begins(&mut self, generator: Generator, number: u32) {
        if self.watch.generator() == Some(generator) {
            self.generator = number;
        }
    }

    /// Finds the frame, where a thread stands that has that stack. To be called before whatever looks there.
    pub fn place(&mut self, at: &Stopped, generators: &Generators, stack: u32) {
        self.depth = match &self.watch.frame {
            Some(WatchFrame { here: Some(_), .. }) if self.generator == generators::NONE => 0,
            Some(WatchFrame { here: Some(_), .. }) => generators.depth_of(stack, self.generator).unwrap_or(0),
            Some(frame) if frame.thread == at.thread => frame.depth,
            _ => 0,
        };
    }

    /// How deep the frame is, or 0.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Looks where no tick is, at the checkpoint that this begins at: which of two objects that are shown alike it is means
    /// nothing to another run.
    ///
    /// # Safety
    /// `at`: the thread that stands there, and its frames. The GIL is held.
    pub unsafe fn begin(&mut self, at: &Stopped) {
        // SAFETY: by contract.
        self.start = unsafe { self.between(at) };
    }

    /// As [`Self::begin`], at the checkpoint that this ends at.
    ///
    /// # Safety
    /// As `begin`'s.
    pub unsafe fn end(&mut self, at: &Stopped) {
        let last = if self.first.is_some() { &self.text } else { &self.start };
        let Some(last) = last.as_ref().filter(|last| last.contains('\0')).cloned() else { return };
        // SAFETY: by contract.
        let now = unsafe { self.between(at) };
        self.is_other = now.is_some_and(|now| differ(&last, &now));
    }

    unsafe fn between(&mut self, at: &Stopped) -> Option<String> {
        // Where it has no place of its own, it has a meaning at ticks alone.
        if self.watch.frame.is_none() && self.watch.module.is_none() {
            return None;
        }
        self.value = Owned(ptr::null_mut());
        // SAFETY: by the callers' contract.
        match unsafe { self.now(at) } {
            Now::Other(text) => Some(text),
            Now::Absent | Now::Same => None,
        }
    }

    /// Where the watched expression has its meaning, and its condition. None where it has none.
    ///
    /// # Safety
    /// At the tick `at`; the GIL is held.
    pub unsafe fn scope(&mut self, at: &Stopped) -> Option<Scope> {
        // SAFETY: by contract.
        unsafe {
            match self.look(at) {
                Look::Absent => None,
                Look::Same => self.frame_scope(at),
                Look::Other(scope) => Some(scope),
            }
        }
    }

    unsafe fn frame_scope(&mut self, at: &Stopped) -> Option<Scope> {
        match (&self.watch.module, &self.watch.frame) {
            (Some(name), _) => {
                if self.module.is_null() {
                    // SAFETY: as in `scope`.
                    self.module = unsafe { clock::uncounted(|| string(name)) };
                }
                Some(Scope::Module(self.module.0))
            }
            (None, None) => Some(HERE),
            (None, Some(_)) if self.depth == 0 => None,
            (None, Some(_)) => Some(Scope::Frame(at.depth.checked_sub(self.depth)? as c_int)),
        }
    }

    unsafe fn look(&mut self, at: &Stopped) -> Look {
        // SAFETY: as in `scope`.
        let Some(scope) = (unsafe { self.frame_scope(at) }) else { return Look::Absent };
        let (Some(frame), Scope::Frame(above)) = (&self.watch.frame, scope) else { return Look::Other(scope) };
        let variable = &mut self.variable;
        // SAFETY: at a tick of this thread; what is read is borrowed, and looked at before anything runs.
        unsafe {
            let mut variables = ptr::null_mut();
            let code = retrace_frame_above(PyThreadState_Get().cast(), above, &mut variables);
            if code.is_null() {
                return Look::Absent;
            }
            if code != variable.code {
                variable.code = code;
                variable.is_function = text(names_of(code)[2]) == frame.function;
                variable.slot = variable.name.as_ref().map_or(-1, |name| retrace_variable_slot(code, name.as_ptr()));
                self.value = Owned(ptr::null_mut());
            }
            if !variable.is_function {
                return Look::Absent;
            }
            let value = if variable.slot < 0 { ptr::null_mut() } else { *variables.add(variable.slot as usize) };
            if !value.is_null() && value == self.value.0 { Look::Same } else { Look::Other(scope) }
        }
    }

    unsafe fn now(&mut self, at: &Stopped) -> Now {
        // SAFETY: by the contract of `change`.
        unsafe {
            let scope = match self.look(at) {
                Look::Absent => return Now::Absent,
                Look::Same => return Now::Same,
                Look::Other(scope) => scope,
            };
            let (held, expression) = (&mut self.value, &self.watch.expression);
            let now = self.expression.call(expression, scope, |value| {
                if !value.is_null() && value.0 == held.0 {
                    return Now::Same;
                }
                let now = inspect::watched_text(&value).map_or(Now::Absent, Now::Other);
                *held = if is_unchanging(value.0) { value } else { Owned(ptr::null_mut()) };
                now
            });
            now.unwrap_or_else(|| {
                self.value = Owned(ptr::null_mut());
                inspect::watched(&self.watch, self.depth, scope).map_or(Now::Absent, Now::Other)
            })
        }
    }

    /// How it has changed since the tick before. `begun`: a call has led to this one.
    ///
    /// # Safety
    /// At the tick `at`; the GIL is held.
    pub unsafe fn change(&mut self, at: &Stopped, begun: bool) -> Option<Cause> {
        let is_call = begun && self.watch.frame.is_some() && self.depth == at.depth;
        if is_call {
            // What another call left has nothing to do with this one.
            (self.text, self.value) = (None, Owned(ptr::null_mut()));
            self.has_begun |= self.first.is_none();
        }
        // SAFETY: by contract.
        let now = match unsafe { self.now(at) } {
            Now::Absent => return None,
            Now::Same if self.first.is_some() => return None,
            Now::Same => self.start.clone().or_else(|| self.text.clone())?,
            Now::Other(text) => text,
        };
        let mut is_other = false;
        if self.first.is_none() {
            let start = self.start.as_ref().filter(|_| !is_call && now.contains('\0'));
            is_other = start.is_some_and(|start| differ(start, &now));
            self.first = Some((at.clone(), format!("{}{}", compared(&now), if is_other { CAME } else { "" })));
        }
        if is_call && self.watch.from_call {
            self.text = Some(now.clone());
            return Some(Cause::Change { id: self.watch.id, before: String::new(), after: shown(&now).to_owned() });
        }
        let before = self.text.replace(now.clone()).filter(|before| is_other || differ(before, &now))?;
        let (before, after) = (shown(&before).to_owned(), shown(&now).to_owned());
        Some(Cause::Change { id: self.watch.id, before, after })
    }

    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Its text at the end, and where it first had one.
    pub fn ends(&self) -> (Option<String>, Option<(Stopped, String)>) {
        // Without a tick it is as it was left before.
        let text = self.text.as_ref().or_else(|| self.start.as_ref().filter(|_| self.is_other));
        let was_other = self.first.is_none() && self.text.as_ref().is_some_and(|text| text.ends_with(LEFT));
        let mark = if self.is_other || was_other { LEFT } else { "" };
        (text.map(|text| format!("{}{mark}", compared(text))), self.first.clone())
    }
}

/// Behind a text that is told to another run: another object has taken the place of what was there at a window's last tick,
/// or came to its place before the first one.
const LEFT: &str = "\0left";
const CAME: &str = "\0came";

/// What of a value's text means the same in each run. Behind it may be which object it is, in this run.
fn compared(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

/// Whether two texts are of values that differ. In another run an object is elsewhere.
fn differ(a: &str, b: &str) -> bool {
    if a.contains('\0') && b.contains('\0') { a != b } else { compared(a) != compared(b) }
}

impl Variable {
    fn new(watch: &Watch) -> Variable {
        let name = watch.expression.trim();
        let is_name = name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
        let name = if is_name { CString::new(name).ok() } else { None };
        Variable { name, code: ptr::null_mut(), is_function: false, slot: -1 }
    }
}

/// Whether a value can be told by its address while it is held. Not a string: one that nobody else holds grows in place.
unsafe fn is_unchanging(value: *mut PyObject) -> bool {
    // SAFETY: a live object or null; the GIL is held.
    unsafe {
        !value.is_null()
            && (PyLong_CheckExact(value) != 0
                || PyFloat_CheckExact(value) != 0
                || PyBool_Check(value) != 0
                || PyBytes_CheckExact(value) != 0
                || value == Py_None())
    }
}
