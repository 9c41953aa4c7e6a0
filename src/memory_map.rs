//! `mmap.mmap`: internal code reads and writes a map as memory, without any call. So replay gives it a map of its own,
//! private and anonymous, with the contents that the recorded one had when it was made; reading and writing it is
//! internal from then on. What another process writes into it later is `crate::shared_memory`'s.

use crate::call::Call;
use crate::decode::Failure;
use crate::external;
use crate::hook::Original;
use crate::python::Owned;
use crate::shared_memory;
use pyo3_ffi::*;
use retrace_abi::special::External;
use retrace_replay::event::HookKind;
use std::ptr;

/// The largest map whose contents are recorded, in bytes: reading it stops the program for some ten milliseconds.
const LARGEST: usize = 64 << 20;

/// Whether a call makes a map.
pub fn makes_map(call: &Call) -> bool {
    call.hook.kind == HookKind::New && call.hook.external.is_some_and(|external| external.special == External::Map)
}

/// What the log says of a new map: a tuple of its handle, its size, and its contents (None where they are all zero).
///
/// # Safety
/// Recording; the GIL is held; `map` is the new map.
pub unsafe fn describe(call: &Call, map: *mut PyObject) -> Owned {
    // SAFETY: by contract; the view's memory is the map's.
    unsafe {
        let handle = external::new_handle(map);
        let mut view: Py_buffer = std::mem::zeroed();
        if PyObject_GetBuffer(map, &mut view, PyBUF_SIMPLE) < 0 {
            PyErr_Clear();
            return Owned(ptr::null_mut());
        }
        if view.len as usize > LARGEST {
            // Said in the trace; a replay that comes here stops.
            PyBuffer_Release(&mut view);
            let number = Owned(PyLong_FromLong(handle.into()));
            let size = Owned(PyLong_FromSsize_t(view.len));
            let reason = crate::python::string("its contents were not recorded: it is too large");
            return Owned(PyTuple_Pack(3, number.0, size.0, reason.0));
        }
        // Through the kernel, because parts of a map may not be readable: no access rights, or no file behind them.
        let anonymous = call.args.first().is_some_and(|&fd| {
            let mut number = 0;
            PyLong_Check(fd) != 0 && retrace_abi::retrace_long_as_i64(fd, &mut number) != 0 && number == -1
        });
        let mut contents = vec![0; if anonymous { 0 } else { view.len as usize }];
        let read = crate::platform::read_memory(view.buf.cast(), &mut contents);
        contents.truncate(read);
        let bytes = if contents.iter().all(|&byte| byte == 0) {
            Owned::borrowed(Py_None())
        } else {
            Owned(PyBytes_FromStringAndSize(contents.as_ptr().cast(), contents.len() as Py_ssize_t))
        };
        let number = Owned(PyLong_FromLong(handle.into()));
        let size = Owned(PyLong_FromSsize_t(view.len));
        PyBuffer_Release(&mut view);
        if let Some(is_anonymous) = shared_memory::may_change(call, map) {
            shared_memory::watch(map, handle, is_anonymous, contents);
        }
        Owned(PyTuple_Pack(3, number.0, size.0, bytes.0))
    }
}

/// A map with the recorded size and contents: a new reference.
///
/// # Safety
/// Replaying; the GIL is held, and the thread is marked external; `described` is what [`describe`] made.
pub unsafe fn make(call: &Call, described: *mut PyObject) -> Result<Owned, Failure> {
    // SAFETY: by contract; the memory written lies within the map that was just made.
    unsafe {
        let Original::New(function) = call.hook.original else {
            return Err(Failure::Missing("a map's constructor is another function here".into()));
        };
        if PyTuple_Check(described) == 0 || PyTuple_GET_SIZE(described) != 3 {
            return Err(Failure::Missing("a map's description is damaged".into()));
        }
        let (number, size, contents) =
            (PyTuple_GET_ITEM(described, 0), PyTuple_GET_ITEM(described, 1), PyTuple_GET_ITEM(described, 2));
        if PyUnicode_Check(contents) != 0 {
            let bytes = PyLong_AsSsize_t(size);
            return Err(Failure::Missing(format!("a map of {bytes} bytes: {}", crate::python::text(contents))));
        }
        let args = Owned(PyTuple_New(2));
        PyTuple_SET_ITEM(args.0, 0, PyLong_FromLong(-1));
        Py_INCREF(size);
        PyTuple_SET_ITEM(args.0, 1, size);
        let keywords = Owned(if call.dict.is_null() { PyDict_New() } else { PyDict_Copy(call.dict) });
        for (i, name) in [c"fileno", c"length", c"flags", c"prot", c"access", c"offset"].into_iter().enumerate() {
            let given = call.args.get(i).filter(|_| i < call.positional());
            match (name.to_bytes(), given) {
                (b"fileno" | b"length" | b"offset", _) => {
                    if PyDict_DelItemString(keywords.0, name.as_ptr()) < 0 {
                        PyErr_Clear();
                    }
                }
                (_, Some(&value)) => drop(PyDict_SetItemString(keywords.0, name.as_ptr(), value)),
                (_, None) => {}
            }
        }
        let map = Owned(function(call.receiver.cast(), args.0, keywords.0));
        if map.is_null() {
            return Err(Failure::Raised);
        }
        if PyBytes_Check(contents) != 0 {
            let bytes = crate::encode::bytes_of(contents);
            let memory = External::Map.memory(map.0);
            // A read-only map is made writable for a moment.
            let read_only = libc::mprotect(memory.cast(), bytes.len(), libc::PROT_READ | libc::PROT_WRITE) == 0;
            ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
            if read_only && !External::Map.is_writable_map(map.0) {
                libc::mprotect(memory.cast(), bytes.len(), libc::PROT_READ);
            }
        }
        let handle = PyLong_AsLong(number) as u32;
        external::bind_handle(map.0, handle);
        if let Some(is_anonymous) = shared_memory::may_change(call, map.0) {
            shared_memory::watch(map.0, handle, is_anonymous, Vec::new());
        }
        Ok(map)
    }
}
