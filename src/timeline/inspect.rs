//! Questions about the state of a stopped replay. What answers them is Python (`inspect.py`), because a value is shown by
//! its own `__repr__`; it runs in a copy that is thrown away, so that nothing it does can change the timeline.

use super::expressions::{Made, Scope, diverted, diverted_in};
use super::process::{self, Channel, fork};
use crate::gil::GilCell;
use crate::python::{Definition, Owned, SavedError, attribute, string, text};
use crate::session::{self, Mode};
use crate::user_threads;
use pyo3_ffi::*;
use retrace_replay::debug_protocol::{Report, Watch};
use serde_json::{Map, Value, json};
use std::ffi::{CStr, CString, c_int};
use std::ptr;

/// `sys`, which nothing imports any more where the interpreter ends.
static SYS: GilCell<*mut PyObject> = GilCell::new(ptr::null_mut());
/// Functions of `sys`, which it loses there, by the names that `inspect.py` has for them.
const GIVEN: [(&CStr, &CStr); 2] = [(c"current_frames", c"_current_frames"), (c"frame_at", c"_getframe")];
/// These, in the same order.
static FUNCTIONS: GilCell<[*mut PyObject; 2]> = GilCell::new([ptr::null_mut(); 2]);
/// The namespace of `inspect.py`.
static NAMESPACE: GilCell<*mut PyObject> = GilCell::new(ptr::null_mut());
/// Whether its `begin_here` has run in this process.
static mut IS_BEGUN: bool = false;
/// The stream in it that nobody reads: borrowed.
static QUIET: GilCell<*mut PyObject> = GilCell::new(ptr::null_mut());
/// The exception that passes where this process stands: borrowed, or null.
static EXCEPTION: GilCell<*mut PyObject> = GilCell::new(ptr::null_mut());

unsafe extern "C" {
    fn PyFrame_LocalsToFast(frame: *mut PyFrameObject, clear: std::ffi::c_int);
}

/// Puts what changed in a frame's `f_locals` into the frame, which Python code can't.
unsafe extern "C" fn locals_to_fast(_module: *mut PyObject, frame: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by inspect.py with a frame.
    unsafe {
        // Nothing is deleted: 3.12's code counts on what it has found in a variable.
        PyFrame_LocalsToFast(frame.cast(), 0);
        let none = Py_None();
        Py_INCREF(none);
        none
    }
}

static LOCALS_TO_FAST: Definition = Definition::new(c"locals_to_fast", locals_to_fast, METH_O);

/// Whether a file is the user's own and not a library's.
unsafe extern "C" fn is_mine(_module: *mut PyObject, path: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by inspect.py with a string.
    unsafe { PyBool_FromLong(std::ffi::c_long::from(super::ticks::is_mine(&text(path)))) }
}

static IS_MINE: Definition = Definition::new(c"is_mine", is_mine, METH_O);

/// The contents of a library's file, by its path, or by its name in the standard library; None where there is no such file.
unsafe extern "C" fn library_file(_module: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by inspect.py with a string.
    unsafe {
        match super::ticks::library_file(&text(name)) {
            Some(contents) => PyBytes_FromStringAndSize(contents.as_ptr().cast(), contents.len() as Py_ssize_t),
            None => Owned::borrowed(Py_None()).into_raw(),
        }
    }
}

/// The names of what is in a library's folder, as a list; empty where there is no such folder.
unsafe extern "C" fn library_folder(_module: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by inspect.py with a string.
    unsafe {
        let names = super::ticks::library_folder(&text(name));
        to_python(&names.into_iter().map(Value::from).collect::<Vec<_>>().into(), 0).into_raw()
    }
}

/// How many answers of the outside have been given again so far.
unsafe extern "C" fn given_again(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by inspect.py.
    unsafe { PyLong_FromUnsignedLongLong(crate::last_said::used()) }
}

/// The addresses that code has been given for a number since this was asked last, though nobody knows what they were.
unsafe extern "C" fn made_up_addresses(_module: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by inspect.py.
    unsafe { to_python(&crate::address::made_up().into(), 0).into_raw() }
}

static MADE_UP_ADDRESSES: Definition = Definition::new(c"made_up_addresses", made_up_addresses, METH_NOARGS);

static GIVEN_AGAIN: Definition = Definition::new(c"given_again", given_again, METH_NOARGS);

static LIBRARY_FOLDER: Definition = Definition::new(c"library_folder", library_folder, METH_O);

static LIBRARY_FILE: Definition = Definition::new(c"library_file", library_file, METH_O);

/// The most that a value's text takes.
const ROOM: usize = 64 << 10;

/// What a function says, called in a copy of this process that has a second for that; None where it says nothing.
unsafe extern "C" fn run_apart(_module: *mut PyObject, callable: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by inspect.py with a function, in a copy that nothing goes on with. The memory is shared with the
    // child, which has ended when it is read.
    unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANON);
        let room = libc::mmap(ptr::null_mut(), ROOM, access, kind, -1, 0);
        if room == libc::MAP_FAILED {
            return PyErr_NoMemory();
        }
        let words = room.cast::<u8>();
        let child = fork();
        if child == 0 {
            process::limit_time(process::VALUE_US);
            let result = Owned(PyObject_CallNoArgs(callable));
            let said = text(result.0);
            let length = said.len().min(ROOM - 8);
            ptr::copy_nonoverlapping(said.as_ptr(), words.add(8), length);
            words.cast::<usize>().write(length);
            libc::_exit(i32::from(result.is_null()));
        }
        let mut status = -1;
        while child > 0 && libc::waitpid(child, &mut status, 0) < 0 && crate::platform::errno() == libc::EINTR {}
        let said = std::slice::from_raw_parts(words.add(8), words.cast::<usize>().read());
        let result = if status == 0 { string(&String::from_utf8_lossy(said)) } else { Owned::borrowed(Py_None()) };
        libc::munmap(room, ROOM);
        result.into_raw()
    }
}

static RUN_APART: Definition = Definition::new(c"run_apart", run_apart, METH_O);

/// How deep a question or an answer may be.
const DEPTH: usize = 32;

/// # Safety
/// The GIL is held.
pub unsafe fn prepare() {
    // SAFETY: by contract.
    unsafe {
        let source = concat!(
            include_str!("inspect.py"),
            include_str!("evaluation.py"),
            include_str!("completions.py"),
            include_str!("code.py")
        );
        let source = CString::new(source).expect("no zero in the source");
        *SYS.get() = PyImport_ImportModule(c"sys".as_ptr());
        *FUNCTIONS.get() = GIVEN.map(|(_, name)| attribute(*SYS.get(), name).into_raw());
        let Some(namespace) =
            make_namespace(&source).filter(|_| retrace_abi::line_events::retrace_line_events_prepare() == 0)
        else {
            PyErr_Print();
            libc::_exit(2);
        };
        *NAMESPACE.get() = namespace;
        *QUIET.get() = PyDict_GetItemString(namespace, c"QUIET".as_ptr());
    }
}

/// The exception that passes here from now on; null where none does.
///
/// # Safety
/// It lives as long as this process stands here.
pub unsafe fn set_exception(exception: *mut PyObject) {
    // SAFETY: by contract.
    unsafe { *EXCEPTION.get() = exception };
}

/// From now on code may run here that the program never ran.
///
/// # Safety
/// In a copy that will never be part of the timeline; the GIL is held.
pub unsafe fn divert() {
    // SAFETY: by contract.
    unsafe {
        session::set_mode(Mode::Diverted);
        confine();
    }
}

/// Whether this process can't reach outside any more.
static mut CONFINED: bool = false;

/// Keeps code that the program never ran, and what it calls, from reaching outside. Where the system can't, hooks still
/// refuse.
///
/// # Safety
/// In a copy that is thrown away; the GIL is held.
pub unsafe fn confine() {
    // SAFETY: by contract.
    unsafe {
        if !CONFINED {
            CONFINED = true;
            crate::platform::confine();
        }
    }
}

/// What C code wanted to do outside since this was last asked, in words for the user.
fn refused() -> Option<String> {
    let name = crate::libc_calls::refused_call().map(str::to_owned).or_else(crate::platform::refused_call)?;
    Some(format!("{name} was refused: it would leave the replay, which is not possible in a diversion"))
}

/// Answers a question, in a copy or here.
///
/// # Safety
/// The GIL is held, this thread the only one.
pub unsafe fn answer(channel: &Channel, question: &Value, here: bool) {
    // SAFETY: by contract.
    unsafe {
        if here {
            process::limit_time(process::SHOW_US);
            let answer = ask(question);
            process::lift_limit();
            return channel.send(&Report::Answer(answer));
        }
        let child = fork();
        if child == 0 {
            process::limit_time(process::LIMIT_US);
            divert();
            channel.send(&Report::Answer(ask(question)));
            libc::_exit(0);
        }
        let mut status = 0;
        while libc::waitpid(child, &mut status, 0) < 0 && crate::platform::errno() == libc::EINTR {}
        if status != 0 {
            let why = if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == process::OUT_OF_TIME {
                "this took too long"
            } else {
                "this ended the process it was tried in"
            };
            channel.send(&Report::Answer(json!({ "error": why, "ended": true })));
        }
    }
}

/// The namespace of `inspect.py`. Null: an exception is set.
unsafe fn namespace() -> *mut PyObject {
    // SAFETY: the GIL is held.
    unsafe {
        let namespace = *NAMESPACE.get();
        if !IS_BEGUN {
            let begun = PyObject_CallNoArgs(PyDict_GetItemString(namespace, c"begin_here".as_ptr()));
            if begun.is_null() {
                return ptr::null_mut();
            }
            drop(Owned(begun));
            IS_BEGUN = true;
        }
        namespace
    }
}

/// Runs `inspect.py`. It is there before the program is, because a copy that runs it has to copy the memory that it lies in:
/// a third of a step. What it makes is not to be found, and it gives no object a number.
unsafe fn make_namespace(source: &CStr) -> Option<*mut PyObject> {
    // SAFETY: by the contract of `prepare`.
    unsafe {
        let globals = PyDict_New();
        PyDict_SetItemString(globals, c"__builtins__".as_ptr(), crate::start::builtins());
        PyDict_SetItemString(globals, c"sys".as_ptr(), *SYS.get());
        for ((name, _), function) in GIVEN.iter().zip(FUNCTIONS.get()) {
            PyDict_SetItemString(globals, name.as_ptr(), *function);
        }
        for definition in
            [&LOCALS_TO_FAST, &RUN_APART, &IS_MINE, &LIBRARY_FILE, &LIBRARY_FOLDER, &GIVEN_AGAIN, &MADE_UP_ADDRESSES]
        {
            let definition: *mut PyMethodDef = definition.get();
            let function = Owned(PyCFunction_NewEx(definition, ptr::null_mut(), ptr::null_mut()));
            PyObject_GC_UnTrack(function.0.cast());
            PyDict_SetItemString(globals, (*definition).ml_name, function.0);
        }
        let shifts: Vec<Value> = retrace_abi::ARGUMENT_SHIFTS.iter().map(|shift| json!(shift)).collect();
        PyDict_SetItemString(globals, c"argument_shifts".as_ptr(), to_python(&shifts.into(), 0).0);
        let done = retrace_abi::collector::retrace_run_unseen(source.as_ptr(), c"<retrace>".as_ptr(), globals);
        (done == 0).then_some(globals)
    }
}

/// A function of `inspect.py`. Null: an exception is set.
unsafe fn function(name: &CStr) -> Owned {
    // SAFETY: the GIL is held.
    unsafe {
        let namespace = namespace();
        if namespace.is_null() {
            return Owned(ptr::null_mut());
        }
        Owned::borrowed(PyDict_GetItemString(namespace, name.as_ptr()))
    }
}

unsafe fn ask(question: &Value) -> Value {
    // SAFETY: the GIL is held; the error indicator is put back.
    unsafe {
        let saved = SavedError::take();
        let answer = function(c"answer");
        refused();
        let threads: Vec<Value> =
            user_threads::idents().into_iter().map(|(number, ident)| json!([number, ident])).collect();
        let state = to_python(&json!({ "current": user_threads::running(), "threads": threads }), 0);
        let question = to_python(question, 0);
        let exception = *EXCEPTION.get();
        let exception = if exception.is_null() { Py_None() } else { exception };
        let result = if answer.is_null() || question.is_null() || state.is_null() {
            Owned(ptr::null_mut())
        } else {
            Owned(PyObject_CallFunctionObjArgs(answer.0, question.0, state.0, exception, ptr::null_mut::<PyObject>()))
        };
        let mut answer = if result.is_null() { json!({ "error": error_text() }) } else { from_python(result.0, 0) };
        if let Some(refused) = refused() {
            let failure = ["error", "raised"].into_iter().find(|failure| answer[failure].is_string());
            if let Some(failure) = failure {
                let error = answer[failure].as_str().unwrap_or_default();
                answer[failure] = format!("{error} ({refused})").into();
            } else if let Some(output) = answer["output"].as_str() {
                answer["output"] = format!("{output}{refused}\n").into();
            }
        }
        drop(saved);
        answer
    }
}

/// The exception that is set, as text; clears it.
///
/// # Safety
/// The GIL is held.
pub unsafe fn error_text() -> String {
    // SAFETY: the GIL is held.
    unsafe {
        let mut saved = SavedError::take();
        saved.normalize();
        if saved.value.is_null() {
            return "unknown".into();
        }
        let kind = crate::python::type_name(saved.value).into_owned();
        let message = Owned(PyObject_Str(saved.value));
        let message = text(message.0);
        drop(saved);
        // With its traceback, which holds the frames of the program.
        PyErr_Clear();
        if message.is_empty() { kind } else { format!("{kind}: {message}") }
    }
}

/// Runs what is the user's with streams that nobody reads: what it prints is not the program's, and would be among what that
/// prints next.
///
/// # Safety
/// The GIL is held, the mode Diverted; no exception is set, then or behind it.
pub unsafe fn quietly<T>(run: impl FnOnce() -> T) -> T {
    const STREAMS: [&CStr; 2] = [c"stdout", c"stderr"];
    // SAFETY: by contract; what is found in `sys` is borrowed.
    unsafe {
        if namespace().is_null() {
            PyErr_Clear();
            return run();
        }
        let quiet = *QUIET.get();
        let before = STREAMS.map(|name| Owned::borrowed(PySys_GetObject(name.as_ptr())));
        STREAMS.iter().for_each(|name| {
            PySys_SetObject(name.as_ptr(), quiet);
        });
        let result = run();
        STREAMS.iter().zip(&before).for_each(|(name, before)| {
            PySys_SetObject(name.as_ptr(), before.0);
        });
        result
    }
}

/// A value's text if it is a string, or why there is no value.
///
/// # Safety
/// The GIL is held. Null: an exception is set.
pub unsafe fn text_or_error(value: &Owned) -> Result<String, String> {
    // SAFETY: by contract.
    unsafe { if value.is_null() { Err(error_text()) } else { Ok(text(value.0)) } }
}

/// What is longer is cut: that of inspect.py.
const TEXT_LIMIT: usize = 4000;

/// What a watched expression shows, by its value. None where it has no meaning.
///
/// # Safety
/// As [`text_or_error`]; the mode is Diverted.
pub unsafe fn watched_text(value: &Owned) -> Option<String> {
    // SAFETY: by contract.
    unsafe {
        if value.is_null() {
            if PyErr_ExceptionMatches(PyExc_Exception) == 0 {
                PyErr_Clear();
                return None;
            }
            return Some(format!("<{}>", error_text()));
        }
        let mut small = 0;
        if PyLong_CheckExact(value.0) != 0 && retrace_abi::retrace_long_as_i64(value.0, &mut small) != 0 {
            return Some(small.to_string());
        }
        if PyUnicode_CheckExact(value.0) != 0 && PyUnicode_GetLength(value.0) <= TEXT_LIMIT as Py_ssize_t {
            let mut shown = text_or_error(&Owned(PyObject_Repr(value.0))).ok()?;
            if let Some((end, _)) = shown.char_indices().nth(TEXT_LIMIT) {
                shown.truncate(end);
                shown.push_str("...");
            }
            return Some(shown);
        }
        let shown = Owned(PyObject_CallOneArg(function(c"watched_text").0, value.0));
        text_or_error(&shown).ok()
    }
}

/// Evaluates in the frame that stops here: `kind` is the function of `inspect.py` that does.
///
/// # Safety
/// The GIL is held; the mode is Diverted.
pub unsafe fn evaluate(kind: &str, expression: &str) -> Result<String, String> {
    // SAFETY: by contract.
    unsafe {
        let saved = SavedError::take();
        let name = CString::new(kind).unwrap_or_default();
        let function = function(&name);
        let expression = string(expression);
        let result = if function.is_null() || expression.is_null() {
            Owned(ptr::null_mut())
        } else {
            Owned(PyObject_CallFunctionObjArgs(function.0, expression.0, ptr::null_mut::<PyObject>()))
        };
        let result = if result.is_null() { Err(error_text()) } else { Ok(text(result.0)) };
        drop(saved);
        result
    }
}

/// An expression as a function of some of a frame's variables, by the frame's code, or None where all names are globals.
/// `maker`: the function of inspect.py that makes it.
///
/// # Safety
/// The GIL is held, the mode Diverted.
pub unsafe fn function_of(maker: &CStr, expression: &str, code: *mut PyObject) -> Made {
    // SAFETY: by contract: what the function of inspect.py returns is a code, a list of numbers and a list of texts or None, or
    // None for all.
    unsafe {
        let saved = SavedError::take();
        let function = function(maker);
        let expression = string(expression);
        let result = if function.is_null() || expression.is_null() {
            Owned(ptr::null_mut())
        } else {
            Owned(PyObject_CallFunctionObjArgs(function.0, expression.0, code, ptr::null_mut::<PyObject>()))
        };
        let mut made = Made::nothing();
        if !result.is_null() && PyList_Check(result.0) != 0 && PyList_GET_SIZE(result.0) == 3 {
            let slots = from_python(PyList_GET_ITEM(result.0, 1), 0);
            made.slots =
                slots.as_array().into_iter().flatten().filter_map(|slot| Some(slot.as_i64()? as c_int)).collect();
            made.code = Owned::borrowed(PyList_GET_ITEM(result.0, 0));
            let texts = PyList_GET_ITEM(result.0, 2);
            made.texts = Owned::borrowed(if texts == Py_None() { ptr::null_mut() } else { texts });
        }
        PyErr_Clear();
        drop(saved);
        made
    }
}

/// What a log point says, by its texts and the values between them.
///
/// # Safety
/// The GIL is held, the mode Diverted. Null: an exception is set.
pub unsafe fn joined(texts: &Owned, values: &Owned) -> Owned {
    // SAFETY: by contract.
    unsafe {
        let function = function(c"joined");
        if function.is_null() {
            return function;
        }
        Owned(PyObject_CallFunctionObjArgs(function.0, texts.0, values.0, ptr::null_mut::<PyObject>()))
    }
}

/// The instructions of a code that begin what is at a line and column, if they do not begin the line.
///
/// # Safety
/// `code` is a live code object; the GIL is held.
pub unsafe fn offsets(code: *mut PyObject, line: u32, column: u32) -> Vec<c_int> {
    // SAFETY: by contract; the mode is put back.
    unsafe {
        diverted(|| {
            let saved = SavedError::take();
            let function = function(c"offsets");
            let place = to_python(&json!([line, column]), 0);
            let result = if function.is_null() {
                Owned(ptr::null_mut())
            } else {
                Owned(PyObject_CallFunctionObjArgs(function.0, code, place.0, ptr::null_mut::<PyObject>()))
            };
            let found = if result.is_null() { Value::Null } else { from_python(result.0, 0) };
            PyErr_Clear();
            drop(saved);
            found.as_array().into_iter().flatten().filter_map(|item| Some(item.as_i64()? as c_int)).collect()
        })
    }
}

/// The text of a watched value. `None` where it has no meaning at this tick.
///
/// # Safety
/// At a tick; the GIL is held.
pub unsafe fn watched(watch: &Watch, depth: u32, scope: Scope) -> Option<String> {
    // SAFETY: by contract.
    unsafe { ask_about_watch(c"watch", &watch.expression, watch, depth, scope).ok().flatten() }
}

/// Whether a watched value's condition is true, or why it fails.
///
/// # Safety
/// As [`watched`].
pub unsafe fn watch_holds(watch: &Watch, depth: u32, scope: Scope) -> Result<bool, String> {
    // SAFETY: by contract.
    unsafe {
        let Some(condition) = &watch.condition else { return Ok(true) };
        Ok(ask_about_watch(c"watch_condition", condition, watch, depth, scope)?.is_some_and(|text| text == "True"))
    }
}

/// Calls a function of `inspect.py` with an expression and where it has its meaning.
unsafe fn ask_about_watch(
    name: &CStr,
    expression: &str,
    watch: &Watch,
    depth: u32,
    scope: Scope,
) -> Result<Option<String>, String> {
    // SAFETY: at a tick.
    unsafe {
        let of_function = watch.frame.as_ref().map_or("", |frame| frame.function.as_str());
        diverted_in(scope, || {
            let saved = SavedError::take();
            let function = function(name);
            let module = watch.module.as_deref().unwrap_or_default();
            let arguments =
                (string(expression), Owned(PyLong_FromLong(depth.into())), string(of_function), string(module));
            let result = if function.is_null() {
                Owned(ptr::null_mut())
            } else {
                Owned(PyObject_CallFunctionObjArgs(
                    function.0,
                    arguments.0.0,
                    arguments.1.0,
                    arguments.2.0,
                    arguments.3.0,
                    ptr::null_mut::<PyObject>(),
                ))
            };
            let found = if result.is_null() {
                Err(error_text())
            } else {
                Ok(if result.0 == Py_None() { None } else { Some(text(result.0)) })
            };
            drop(saved);
            found
        })
    }
}

/// Whether an exception is of one of the named classes; of any where none is named.
///
/// # Safety
/// `exception` is live; the GIL is held.
pub unsafe fn is_of_classes(exception: *mut PyObject, names: &[String]) -> bool {
    // SAFETY: by contract: a class's `__mro__` is a tuple of classes.
    unsafe {
        if names.is_empty() {
            return true;
        }
        let mro = attribute(Py_TYPE(exception).cast(), c"__mro__");
        if mro.is_null() || PyTuple_Check(mro.0) == 0 {
            return false;
        }
        (0..PyTuple_GET_SIZE(mro.0)).any(|i| {
            let class = PyTuple_GET_ITEM(mro.0, i);
            let name = text(attribute(class, c"__qualname__").0);
            let full = format!("{}.{name}", text(attribute(class, c"__module__").0));
            names.iter().any(|wanted| *wanted == name || *wanted == full)
        })
    }
}

unsafe fn to_python(value: &Value, depth: usize) -> Owned {
    // SAFETY: the GIL is held.
    unsafe {
        if depth > DEPTH {
            return Owned::borrowed(Py_None());
        }
        match value {
            Value::Null => Owned::borrowed(Py_None()),
            Value::Bool(true) => Owned::borrowed(Py_True()),
            Value::Bool(false) => Owned::borrowed(Py_False()),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Owned(PyLong_FromLongLong(number)),
                (_, Some(number)) => Owned(PyLong_FromUnsignedLongLong(number)),
                _ => Owned(PyFloat_FromDouble(number.as_f64().unwrap_or(0.0))),
            },
            Value::String(value) => string(value),
            Value::Array(items) => {
                let list = PyList_New(0);
                for item in items {
                    PyList_Append(list, to_python(item, depth + 1).0);
                }
                Owned(list)
            }
            Value::Object(pairs) => {
                let dict = PyDict_New();
                for (key, item) in pairs {
                    PyDict_SetItem(dict, string(key).0, to_python(item, depth + 1).0);
                }
                Owned(dict)
            }
        }
    }
}

unsafe fn from_python(object: *mut PyObject, depth: usize) -> Value {
    // SAFETY: a live object; the GIL is held.
    unsafe {
        if object == Py_None() || depth > DEPTH {
            Value::Null
        } else if object == Py_True() {
            Value::Bool(true)
        } else if object == Py_False() {
            Value::Bool(false)
        } else if PyLong_Check(object) != 0 {
            let mut value = 0;
            if retrace_abi::retrace_long_as_i64(object, &mut value) != 0 { json!(value) } else { Value::Null }
        } else if PyFloat_Check(object) != 0 {
            json!(PyFloat_AsDouble(object))
        } else if PyUnicode_Check(object) != 0 {
            Value::String(text(object))
        } else if PyList_Check(object) != 0 {
            let items = (0..PyList_GET_SIZE(object)).map(|i| from_python(PyList_GET_ITEM(object, i), depth + 1));
            Value::Array(items.collect())
        } else if PyDict_Check(object) != 0 {
            let mut pairs = Map::new();
            let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
            while PyDict_Next(object, &mut position, &mut key, &mut value) != 0 {
                pairs.insert(text(key), from_python(value, depth + 1));
            }
            Value::Object(pairs)
        } else {
            Value::Null
        }
    }
}
