//! One call across the boundary, as CPython made it.

use crate::capi::_PyType_Lookup;
use crate::external::ExternalType;
use crate::hook::{Convention, Hook, Original};
use crate::python::{Owned, string};
use pyo3_ffi::*;
use retrace_abi::boundary::Convert;
use retrace_replay::event::HookKind;
use std::ptr;

/// All references are borrowed from CPython for the call's duration.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub hook: &'static Hook,
    /// `self`; the module for a function, the class for a class method or `tp_new`.
    pub receiver: *mut PyObject,
    /// Positional arguments, then the values of keyword arguments.
    pub args: &'a [*mut PyObject],
    /// Names of the keyword arguments (a tuple), or null.
    pub keyword_names: *mut PyObject,
    /// For METH_METHOD: the defining class.
    pub class: *mut PyTypeObject,
    /// For the conventions that pass a tuple and a dict: those.
    pub tuple: *mut PyObject,
    pub dict: *mut PyObject,
}

impl<'a> Call<'a> {
    /// The same call with other positional arguments and no keywords.
    ///
    /// For the conventions that pass a C array.
    pub fn with_arguments(&self, args: &'a [*mut PyObject]) -> Call<'a> {
        Call { args, keyword_names: ptr::null_mut(), ..*self }
    }
}

impl Call<'_> {
    pub fn without_arguments(hook: &'static Hook, receiver: *mut PyObject) -> Call<'static> {
        Call {
            hook,
            receiver,
            args: &[],
            keyword_names: ptr::null_mut(),
            class: ptr::null_mut(),
            tuple: ptr::null_mut(),
            dict: ptr::null_mut(),
        }
    }

    pub fn positional(&self) -> usize {
        // SAFETY: the names are a tuple.
        let names = if self.keyword_names.is_null() { 0 } else { unsafe { PyTuple_GET_SIZE(self.keyword_names) } };
        self.args.len() - names as usize
    }

    /// The class that it was called on, or an internal receiver's; null for others.
    ///
    /// # Safety
    /// The call's references are live.
    pub unsafe fn class_of_receiver(&self) -> *mut PyObject {
        match self.hook.kind {
            HookKind::New | HookKind::ClassMethod => self.receiver,
            HookKind::Method if self.hook.external.is_none() && !self.receiver.is_null() => {
                // SAFETY: by contract.
                unsafe { Py_TYPE(self.receiver).cast() }
            }
            _ => ptr::null_mut(),
        }
    }

    /// The external type whose mirrored state the call may change: the receiver's, where the receiver is an instance.
    pub fn mirrored(&self) -> Option<&'static ExternalType> {
        self.hook.mirrored
    }

    /// Calls the original: a new reference, or null with an exception (without one at an iterator's end).
    ///
    /// # Safety
    /// The GIL is held and the call's references are live.
    #[inline]
    pub unsafe fn invoke(&self) -> *mut PyObject {
        // Tests in the order of how often, rather than a jump table: after a system call an indirect jump is dear.
        if let Original::Method { def, convention } = self.hook.original {
            // SAFETY: by contract.
            return unsafe { self.invoke_method(def, convention) };
        }
        // SAFETY: by contract.
        unsafe { self.invoke_slot() }
    }

    #[inline(never)]
    unsafe fn invoke_slot(&self) -> *mut PyObject {
        // SAFETY: by contract; each convention's arguments are those CPython gave for it.
        unsafe {
            match self.hook.original {
                Original::Library => ptr::null_mut(),
                Original::Method { def, convention } => self.invoke_method(def, convention),
                Original::Getter { function, closure } => function(self.receiver, closure),
                Original::Setter { function, closure } => {
                    let value = self.args.first().copied().unwrap_or(ptr::null_mut());
                    none_unless_failed(function(self.receiver, value, closure))
                }
                Original::New(function) => function(self.receiver.cast(), self.tuple, self.dict),
                Original::Init(function) => none_unless_failed(function(self.receiver, self.tuple, self.dict)),
                Original::Next(function) => function(self.receiver),
                Original::Repr(function) => function(self.receiver),
                Original::Call(function) => function(self.receiver, self.tuple, self.dict),
                Original::Function => PyObject_Call(self.receiver, self.tuple, self.dict),
                Original::Hash(function) => {
                    let hash = function(self.receiver);
                    if hash == -1 { ptr::null_mut() } else { PyLong_FromSsize_t(hash) }
                }
                Original::Subscript(function) => function(self.receiver, self.args[0]),
                Original::Assign(function) => {
                    let value = self.args.get(1).copied().unwrap_or(ptr::null_mut());
                    none_unless_failed(function(self.receiver, self.args[0], value))
                }
                Original::Length(function) => number_unless_failed(function(self.receiver)),
                Original::Item(function) => function(self.receiver, PyLong_AsSsize_t(self.args[0])),
                Original::Contains(function) => number_unless_failed(function(self.receiver, self.args[0]) as isize),
                Original::Bool(function) => number_unless_failed(function(self.receiver) as isize),
                Original::Compare(function) => {
                    function(self.receiver, self.args[0], PyLong_AsLong(self.args[1]) as i32)
                }
            }
        }
    }

    #[inline]
    unsafe fn invoke_method(&self, def: *mut PyMethodDef, convention: Convention) -> *mut PyObject {
        let n = self.positional() as Py_ssize_t;
        // SAFETY: by the contract of `invoke`; the definition's flags gave the convention.
        unsafe {
            let function = (*def).ml_meth;
            if convention == Convention::Fastcall {
                return (function.PyCFunctionFast)(self.receiver, self.args.as_ptr().cast_mut(), n);
            }
            if convention == Convention::Varargs {
                return (function.PyCFunction)(self.receiver, self.tuple);
            }
            if convention == Convention::Noargs {
                return (function.PyCFunction)(self.receiver, ptr::null_mut());
            }
            if convention == Convention::One {
                return (function.PyCFunction)(self.receiver, self.args[0]);
            }
            if convention == Convention::FastcallKeywords {
                let function = function.PyCFunctionFastWithKeywords;
                return function(self.receiver, self.args.as_ptr(), n, self.keyword_names);
            }
            if convention == Convention::Method {
                let function = function.PyCMethod;
                return function(self.receiver, self.class, self.args.as_ptr(), n, self.keyword_names);
            }
            (function.PyCFunctionWithKeywords)(self.receiver, self.tuple, self.dict)
        }
    }

    /// Arguments that the original would convert by calling Python code (`__fspath__`, `__index__`, the `idna` codec,
    /// `fileno()`), converted here: so the conversion is internal code in both directions.
    ///
    /// `Ok(None)` where nothing is to be converted; `Err` with an exception set where a conversion raised.
    ///
    /// # Safety
    /// As [`Call::invoke`]; the thread is not marked external.
    pub unsafe fn convert(&self) -> Result<Option<Converted>, ()> {
        let convert = self.hook.entry.convert;
        // `fileno()` is left to the callback mechanism: select() returns the very objects it was given.
        if matches!(convert, Convert::None | Convert::Fileno) {
            return Ok(None);
        }
        if convert == Convert::Idna {
            // SAFETY: by contract.
            unsafe { self.look_up_idna() };
            return Ok(None);
        }
        let mut converted: Option<Vec<Owned>> = None;
        let positional = self.positional();
        for (i, &arg) in self.args.iter().enumerate() {
            let path = match convert {
                Convert::Fspath => i < 1 || i >= positional,
                Convert::Items => i < 1,
                Convert::Sequence => i == 1,
                Convert::FspathBoth => i < 2 || i >= positional,
                _ => true,
            };
            if !path {
                continue;
            }
            // SAFETY: by contract.
            let replacement = unsafe { converted_argument(convert, arg, 0)? };
            if let Some(replacement) = replacement {
                let all = converted.get_or_insert_with(|| {
                    // SAFETY: by contract.
                    self.args.iter().map(|&a| unsafe { Owned::borrowed(a) }).collect()
                });
                all[i] = replacement;
            }
        }
        let Some(args) = converted else { return Ok(None) };
        // SAFETY: by contract.
        unsafe { self.converted(args) }.map(Some)
    }

    /// The call with other arguments, as many as it has; `Err` with an exception set where memory is short.
    unsafe fn converted(&self, args: Vec<Owned>) -> Result<Converted, ()> {
        // SAFETY: by the contract of `convert`.
        unsafe {
            let mut result = Converted {
                args: args.iter().map(|a| a.0).collect(),
                _owned: args,
                tuple: Owned(ptr::null_mut()),
                dict: Owned(ptr::null_mut()),
            };
            if !self.tuple.is_null() {
                let n = self.positional();
                result.tuple = Owned(PyTuple_New(n as Py_ssize_t));
                if result.tuple.is_null() {
                    return Err(());
                }
                for (i, &arg) in result.args[..n].iter().enumerate() {
                    Py_INCREF(arg);
                    PyTuple_SET_ITEM(result.tuple.0, i as Py_ssize_t, arg);
                }
                if !self.dict.is_null() {
                    result.dict = Owned(PyDict_New());
                    for (i, &arg) in result.args[n..].iter().enumerate() {
                        let name = PyTuple_GET_ITEM(self.keyword_names, i as Py_ssize_t);
                        if result.dict.is_null() || PyDict_SetItem(result.dict.0, name, arg) < 0 {
                            return Err(());
                        }
                    }
                }
            }
            Ok(result)
        }
    }

    /// The call with another argument in the place of the `i`-th; `None` where memory is short.
    ///
    /// # Safety
    /// As [`Call::invoke`]; no exception is set.
    pub unsafe fn with_argument(&self, i: usize, replacement: Owned) -> Option<Converted> {
        // SAFETY: by contract.
        unsafe {
            let mut args: Vec<Owned> = self.args.iter().map(|&arg| Owned::borrowed(arg)).collect();
            args[i] = replacement;
            let converted = self.converted(args);
            if converted.is_err() {
                PyErr_Clear();
            }
            converted.ok()
        }
    }
}

impl Call<'_> {
    /// A host name is encoded in C by the `idna` codec, whose first use imports it: looked up here, as internal code,
    /// because the interpreter's cache of codecs must fill in both directions.
    unsafe fn look_up_idna(&self) {
        // SAFETY: by the contract of `convert`.
        unsafe {
            let Some(&first) = self.args.first() else { return };
            let host = if self.hook.kind == HookKind::Function {
                first
            } else if PyTuple_Check(first) != 0 && PyTuple_GET_SIZE(first) > 0 {
                PyTuple_GET_ITEM(first, 0)
            } else {
                return;
            };
            let encodes_ascii = self.hook.entry.name == "getaddrinfo";
            if PyUnicode_Check(host) != 0 && (encodes_ascii || !crate::python::text(host).is_ascii()) {
                PyCodec_KnownEncoding(c"idna".as_ptr());
            }
        }
    }
}

/// A call's arguments after conversion.
pub struct Converted {
    args: Vec<*mut PyObject>,
    _owned: Vec<Owned>,
    tuple: Owned,
    dict: Owned,
}

impl Converted {
    pub fn apply<'a>(&'a self, call: &Call<'a>) -> Call<'a> {
        Call {
            args: &self.args,
            tuple: if call.tuple.is_null() { ptr::null_mut() } else { self.tuple.0 },
            dict: if call.dict.is_null() { ptr::null_mut() } else { self.dict.0 },
            ..*call
        }
    }
}

unsafe fn number_unless_failed(number: Py_ssize_t) -> *mut PyObject {
    if number < 0 {
        return ptr::null_mut();
    }
    // SAFETY: the GIL is held.
    unsafe { PyLong_FromSsize_t(number) }
}

unsafe fn none_unless_failed(status: i32) -> *mut PyObject {
    if status < 0 {
        return ptr::null_mut();
    }
    // SAFETY: None is immortal or counted; a new reference either way.
    unsafe {
        let none = Py_None();
        Py_INCREF(none);
        none
    }
}

/// What an argument becomes; `None` where it stays. The failures of a conversion that the original would report in
/// its own words are left to the original: only what Python code raised propagates.
unsafe fn converted_argument(convert: Convert, arg: *mut PyObject, depth: usize) -> Result<Option<Owned>, ()> {
    // SAFETY: by the contract of `Call::convert`.
    unsafe {
        if arg.is_null()
            || arg == Py_None()
            || PyLong_CheckExact(arg) != 0
            || PyBytes_CheckExact(arg) != 0
            || PyUnicode_CheckExact(arg) != 0
        {
            return Ok(None);
        }
        let items = !matches!(convert, Convert::Fspath | Convert::FspathBoth | Convert::Items | Convert::Sequence);
        if items && depth < 2 && (PyTuple_CheckExact(arg) != 0 || PyList_CheckExact(arg) != 0) {
            return converted_sequence(convert, arg, depth);
        }
        match convert {
            Convert::None | Convert::Fileno | Convert::Idna => Ok(None),
            Convert::Fspath | Convert::FspathBoth | Convert::FspathItems => {
                if PyUnicode_Check(arg) != 0 || PyBytes_Check(arg) != 0 || !has_method(arg, "__fspath__") {
                    return Ok(None);
                }
                // What may be a descriptor or a buffer is none of a path to C where it takes those: it asks itself.
                if PyIndex_Check(arg) != 0 || PyObject_CheckBuffer(arg) != 0 {
                    return Ok(None);
                }
                let path = PyOS_FSPath(arg);
                if !path.is_null() {
                    return Ok(Some(Owned(path)));
                }
                if PyErr_ExceptionMatches(PyExc_TypeError) != 0 {
                    // `__fspath__` gave something that is no path: the original words it better.
                    PyErr_Clear();
                    return Ok(None);
                }
                Err(())
            }
            Convert::Items => {
                if PyTuple_Check(arg) != 0 || PyList_Check(arg) != 0 {
                    return Ok(None);
                }
                let items = Owned(PyObject_GetIter(arg));
                if items.is_null() {
                    if PyErr_ExceptionMatches(PyExc_TypeError) == 0 {
                        return Err(());
                    }
                    // The original words it better.
                    PyErr_Clear();
                    return Ok(None);
                }
                let list = PySequence_List(items.0);
                if list.is_null() { Err(()) } else { Ok(Some(Owned(list))) }
            }
            Convert::Sequence => {
                let is_plain = PyTuple_CheckExact(arg) != 0 || PyList_CheckExact(arg) != 0;
                if is_plain || PySequence_Check(arg) == 0 {
                    return Ok(None);
                }
                let list = Owned(PyList_New(0));
                let size = PySequence_Size(arg);
                if list.is_null() || size < 0 {
                    return Err(());
                }
                for i in 0..size {
                    let item = Owned(PySequence_GetItem(arg, i));
                    if item.is_null() || PyList_Append(list.0, item.0) < 0 {
                        return Err(());
                    }
                }
                Ok(Some(list))
            }
            Convert::Index => {
                if PyLong_Check(arg) != 0 || PyIndex_Check(arg) == 0 {
                    return Ok(None);
                }
                let number = PyNumber_Index(arg);
                if number.is_null() { Err(()) } else { Ok(Some(Owned(number))) }
            }
        }
    }
}

unsafe fn converted_sequence(convert: Convert, sequence: *mut PyObject, depth: usize) -> Result<Option<Owned>, ()> {
    // SAFETY: an exact tuple or list.
    unsafe {
        let is_list = PyList_CheckExact(sequence) != 0;
        let n = if is_list { PyList_GET_SIZE(sequence) } else { PyTuple_GET_SIZE(sequence) };
        let mut copy: Option<Owned> = None;
        for i in 0..n {
            let item = if is_list { PyList_GET_ITEM(sequence, i) } else { PyTuple_GET_ITEM(sequence, i) };
            let Some(replacement) = converted_argument(convert, item, depth + 1)? else { continue };
            if copy.is_none() {
                // A list in either case: what accepts a sequence accepts one, but an address must stay a tuple.
                let list = Owned(PySequence_List(sequence));
                if list.is_null() {
                    return Err(());
                }
                copy = Some(list);
            }
            if let Some(list) = &copy {
                PyList_SetItem(list.0, i, replacement.into_raw());
            }
        }
        match copy {
            Some(list) if !is_list => Ok(Some(Owned(PyList_AsTuple(list.0)))),
            other => Ok(other),
        }
    }
}

unsafe fn has_method(object: *mut PyObject, name: &str) -> bool {
    // SAFETY: by the contract of `Call::convert`.
    unsafe {
        let key = string(name);
        !_PyType_Lookup(Py_TYPE(object), key.0).is_null()
    }
}
