//! What the recording last said of external objects, up to where the replay is. Code that a debugger evaluates asks them what
//! the program never asked them there, and the world can't be asked. So the last answer to the same question stands
//! for the one of now, and counts as used, so that what is made of it can be shown as such.
//!
//! Answers are copied: a reference to one would be seen by the program (its count, when it dies).

use crate::call::Call;
use crate::external;
use crate::gil::GilCell;
use crate::hook::{Hook, Original};
use crate::python::Owned;
use pyo3_ffi::*;
use retrace_replay::event::HookKind;
use rustc_hash::FxHashMap;
use std::ptr;

/// A value that has no identity and no code of its own, but for external objects, which are kept by their handles.
#[derive(Clone, PartialEq)]
enum Plain {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str { kind: i32, length: Py_ssize_t, data: Vec<u8> },
    Bytes(Vec<u8>),
    Tuple(Vec<Plain>),
    List(Vec<Plain>),
    Dict(Vec<(Plain, Plain)>),
    External(u32),
}

/// How many values an answer may have in it, and how many bytes a string.
const MOST: usize = 1000;
const MOST_BYTES: isize = 64 << 10;
/// How many answers are kept of one object.
const MOST_ANSWERS: usize = 64;

struct Answer {
    question: &'static str,
    arguments: Vec<Plain>,
    said: Plain,
}

/// By the address of who was asked.
static ANSWERS: GilCell<Option<FxHashMap<usize, Vec<Answer>>>> = GilCell::new(None);
static mut USED: u64 = 0;

/// How many answers have been given again so far.
///
/// # Safety
/// The GIL is held.
pub unsafe fn used() -> u64 {
    // SAFETY: by contract.
    unsafe { USED }
}

/// What a call asks, without its arguments. None where it does something.
pub fn question(hook: &'static Hook) -> Option<&'static str> {
    let reads = matches!(
        hook.original,
        Original::Getter { .. }
            | Original::Hash(_)
            | Original::Compare(_)
            | Original::Subscript(_)
            | Original::Length(_)
            | Original::Item(_)
            | Original::Contains(_)
            | Original::Bool(_)
    );
    let is_text =
        matches!(hook.original, Original::Repr(_)) && (hook.kind == HookKind::Repr || is_called(hook, "tp_str"));
    (reads && hook.external.is_some() || is_text || hook.entry.asks).then(|| own_name(hook))
}

fn own_name(hook: &'static Hook) -> &'static str {
    hook.name.rsplit('.').next().unwrap_or_default()
}

fn is_called(hook: &'static Hook, name: &str) -> bool {
    own_name(hook) == name
}

/// The questions whose answer a call's first argument is from then on. Those with a `-` have another one, that nobody knows.
fn tells(hook: &'static Hook) -> &'static str {
    match hook.original {
        Original::Setter { .. } => own_name(hook),
        _ => hook.entry.tells.unwrap_or_default(),
    }
}

/// The recording said what came of a call; null where that raised.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn note(call: &Call, result: *mut PyObject) {
    // SAFETY: by contract; no code of the program's runs.
    unsafe {
        if let Some(question) = question(call.hook) {
            let Some(arguments) = arguments_of(call) else { return };
            let said = if result.is_null() { None } else { plain(result, &mut { MOST }, false) };
            keep(call.receiver, question, arguments, said);
        } else if !result.is_null() {
            for told in tells(call.hook).split_whitespace() {
                let said = match told.strip_prefix('-') {
                    None => call.args.first().and_then(|&value| plain(value, &mut { MOST }, true)),
                    Some(_) => None,
                };
                keep(call.receiver, told.trim_start_matches('-'), Vec::new(), said);
            }
        }
    }
}

unsafe fn keep(receiver: *mut PyObject, question: &'static str, arguments: Vec<Plain>, said: Option<Plain>) {
    // SAFETY: by the contract of `note`.
    let all = unsafe { ANSWERS.get().get_or_insert_default() };
    if said.is_none() && !all.contains_key(&(receiver as usize)) {
        return;
    }
    let answers = all.entry(receiver as usize).or_default();
    answers.retain(|answer| answer.question != question || answer.arguments != arguments);
    if let Some(said) = said {
        if answers.len() == MOST_ANSWERS {
            answers.remove(0);
        }
        answers.push(Answer { question, arguments, said });
    }
}

/// An object is no more.
///
/// # Safety
/// The GIL is held.
pub unsafe fn forget(object: *mut PyObject) {
    // SAFETY: by contract.
    if let Some(all) = unsafe { ANSWERS.get() } {
        all.remove(&(object as usize));
    }
}

/// The last answer to what a call asks: a new reference, or null where there is none. An object's text is CPython's
/// own then.
///
/// # Safety
/// In a diversion; the GIL is held.
pub unsafe fn answer(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let known = || {
            let (question, arguments) = (question(call.hook)?, arguments_of(call)?);
            let answers = ANSWERS.get().as_ref()?.get(&(call.receiver as usize))?;
            let same = |answer: &&Answer| answer.question == question && answer.arguments == arguments;
            let made = object(&answers.iter().find(same)?.said);
            (!made.is_null()).then(|| made.into_raw())
        };
        if let Some(known) = known() {
            USED += 1;
            return known;
        }
        match PyBaseObject_Type.tp_repr {
            Some(repr) if call.hook.kind == HookKind::Repr => repr(call.receiver),
            _ => ptr::null_mut(),
        }
    }
}

unsafe fn arguments_of(call: &Call) -> Option<Vec<Plain>> {
    // SAFETY: by the callers' contract; the names of arguments are strings.
    unsafe {
        let room = &mut { MOST };
        let mut arguments = Vec::with_capacity(call.args.len());
        for &argument in call.args {
            arguments.push(plain(argument, room, false)?);
        }
        if !call.keyword_names.is_null() && PyTuple_GET_SIZE(call.keyword_names) > 0 {
            arguments.push(plain(call.keyword_names, room, false)?);
        }
        Some(arguments)
    }
}

/// A copy of a value, if it is one that can be copied. `told`: of a subclass of `int` its number is enough, as C code takes it.
unsafe fn plain(object: *mut PyObject, room: &mut usize, told: bool) -> Option<Plain> {
    // SAFETY: `object` is live; the items of what is walked do not change, as no code runs.
    unsafe {
        *room = room.checked_sub(1)?;
        if object == Py_None() {
            return Some(Plain::None);
        }
        if PyBool_Check(object) != 0 {
            return Some(Plain::Bool(object == Py_True()));
        }
        if PyLong_CheckExact(object) != 0 || told && PyLong_Check(object) != 0 {
            let mut overflow = 0;
            let number = PyLong_AsLongLongAndOverflow(object, &mut overflow);
            return (overflow == 0).then_some(Plain::Int(number));
        }
        if PyFloat_CheckExact(object) != 0 {
            return Some(Plain::Float(PyFloat_AsDouble(object)));
        }
        if PyUnicode_CheckExact(object) != 0 {
            let (mut length, mut kind) = (0, 0);
            let data = retrace_abi::retrace_str_data(object, &mut length, &mut kind);
            if data.is_null() || length > MOST_BYTES {
                return None;
            }
            let data = std::slice::from_raw_parts(data, length as usize * kind.max(1) as usize).to_vec();
            return Some(Plain::Str { kind, length, data });
        }
        if PyBytes_CheckExact(object) != 0 {
            return (PyBytes_Size(object) <= MOST_BYTES)
                .then(|| Plain::Bytes(crate::encode::bytes_of(object).to_vec()));
        }
        if PyTuple_CheckExact(object) != 0 {
            let items = (0..PyTuple_GET_SIZE(object)).map(|i| plain(PyTuple_GET_ITEM(object, i), room, told));
            return items.collect::<Option<_>>().map(Plain::Tuple);
        }
        if PyList_CheckExact(object) != 0 {
            let items = (0..PyList_GET_SIZE(object)).map(|i| plain(PyList_GET_ITEM(object, i), room, told));
            return items.collect::<Option<_>>().map(Plain::List);
        }
        if PyDict_CheckExact(object) != 0 {
            let (mut pairs, mut position) = (Vec::new(), 0);
            let (mut key, mut value) = (ptr::null_mut(), ptr::null_mut());
            while PyDict_Next(object, &mut position, &mut key, &mut value) != 0 {
                pairs.push((plain(key, room, told)?, plain(value, room, told)?));
            }
            return Some(Plain::Dict(pairs));
        }
        external::handle_of(object).map(Plain::External)
    }
}

/// The value again: a new reference; null where it is gone or memory is short, without an exception.
unsafe fn object(plain: &Plain) -> Owned {
    // SAFETY: in a diversion, the GIL held.
    unsafe {
        let made = match plain {
            Plain::None => Owned::borrowed(Py_None()),
            Plain::Bool(is) => Owned(PyBool_FromLong((*is).into())),
            Plain::Int(number) => Owned(PyLong_FromLongLong(*number)),
            Plain::Float(number) => Owned(PyFloat_FromDouble(*number)),
            Plain::Str { kind, length, data } => Owned(retrace_abi::retrace_str_new(*kind, data.as_ptr(), *length)),
            Plain::Bytes(data) => Owned(PyBytes_FromStringAndSize(data.as_ptr().cast(), data.len() as Py_ssize_t)),
            Plain::External(number) => Owned::borrowed(external::object_of_handle(*number)),
            Plain::List(items) => list(items),
            Plain::Tuple(items) => {
                let list = list(items);
                if list.is_null() { list } else { Owned(PyList_AsTuple(list.0)) }
            }
            Plain::Dict(pairs) => {
                let dict = Owned(PyDict_New());
                for (key, value) in pairs {
                    let (key, value) = (object(key), object(value));
                    if key.is_null() || value.is_null() || dict.is_null() || PyDict_SetItem(dict.0, key.0, value.0) < 0
                    {
                        PyErr_Clear();
                        return Owned(ptr::null_mut());
                    }
                }
                dict
            }
        };
        if made.is_null() {
            PyErr_Clear();
        }
        made
    }
}

unsafe fn list(items: &[Plain]) -> Owned {
    // SAFETY: as in `object`.
    unsafe {
        let list = Owned(PyList_New(0));
        for item in items {
            let item = object(item);
            if item.is_null() || list.is_null() || PyList_Append(list.0, item.0) < 0 {
                PyErr_Clear();
                return Owned(ptr::null_mut());
            }
        }
        list
    }
}
