//! What a call writes into writable buffers that are its arguments (`recv_into`, `readinto`, `preadv`).

use crate::call::Call;
use crate::decode::Failure;
use pyo3_ffi::*;
use retrace_replay::byte_source::{ByteSource, DecodeError};
use retrace_replay::trace_reader::EventStream;
use retrace_replay::value::put_varint;

/// The writable buffers among a call's arguments, exported until dropped.
struct Buffers(Vec<Py_buffer>);

impl Drop for Buffers {
    fn drop(&mut self) {
        for view in &mut self.0 {
            // SAFETY: exported by `of`; the GIL is held throughout.
            unsafe { PyBuffer_Release(view) };
        }
    }
}

/// What a list or tuple has, borrowed: of a class of the program's, too, whose own `__len__` may say otherwise. `None` for
/// other objects.
///
/// # Safety
/// The GIL is held; `object` is live, and does not change meanwhile.
pub unsafe fn items_of(object: *mut PyObject) -> Option<impl Iterator<Item = *mut PyObject>> {
    // SAFETY: by contract; what is read lies within the object.
    unsafe {
        let is_list = PyList_Check(object) != 0;
        if !is_list && PyTuple_Check(object) == 0 {
            return None;
        }
        let size = if is_list { PyList_GET_SIZE(object) } else { PyTuple_GET_SIZE(object) };
        Some((0..size).map(move |i| if is_list { PyList_GET_ITEM(object, i) } else { PyTuple_GET_ITEM(object, i) }))
    }
}

/// The object whose memory a buffer of `object` is: what its own `__buffer__` (PEP 688) returned in this call, which is not
/// to be called again.
///
/// # Safety
/// The GIL is held; `object` is live.
pub unsafe fn exporter(object: *mut PyObject) -> *mut PyObject {
    // SAFETY: by contract; results are live.
    unsafe {
        if retrace_abi::MINOR < 12 || (*Py_TYPE(object)).tp_flags & Py_TPFLAGS_HEAPTYPE == 0 {
            return object;
        }
        let method = crate::capi::_PyType_Lookup(Py_TYPE(object), crate::python::string("__buffer__").0);
        if method.is_null() || PyFunction_Check(method) == 0 {
            return object;
        }
        crate::callback::newest_result(|result| PyMemoryView_Check(result) != 0).unwrap_or(object)
    }
}

impl Buffers {
    /// # Safety
    /// The GIL is held; the call's references are live.
    unsafe fn of(call: &Call) -> Buffers {
        let mut buffers = Buffers(Vec::new());
        for &arg in call.args {
            // SAFETY: by contract.
            unsafe {
                match items_of(arg) {
                    Some(items) => items.for_each(|item| buffers.add(item)),
                    None => buffers.add(arg),
                }
            }
        }
        buffers
    }

    unsafe fn add(&mut self, object: *mut PyObject) {
        // SAFETY: by the contract of `of`.
        unsafe {
            if object.is_null() || PyObject_CheckBuffer(object) == 0 || PyBytes_Check(object) != 0 {
                return;
            }
            let mut view: Py_buffer = std::mem::zeroed();
            if PyObject_GetBuffer(exporter(object), &mut view, PyBUF_WRITABLE) < 0 {
                PyErr_Clear();
                return;
            }
            self.0.push(view);
        }
    }
}

/// How many bytes a call wrote, by its result: a number, or a tuple that begins with one. `None`: unknown, all of it.
unsafe fn written(call: &Call, result: *mut PyObject) -> Option<usize> {
    // SAFETY: by the contract of `record`.
    unsafe {
        if call.hook.entry.name == "ioctl" {
            return None;
        }
        let number = if PyTuple_Check(result) != 0 && PyTuple_GET_SIZE(result) > 0 {
            PyTuple_GET_ITEM(result, 0)
        } else {
            result
        };
        if PyLong_Check(number) == 0 {
            return if number == Py_None() { Some(0) } else { None };
        }
        usize::try_from(PyLong_AsSsize_t(number)).ok()
    }
}

/// Appends the section: a count, and each buffer's written part.
///
/// # Safety
/// The GIL is held; the call's references and the result are live.
pub unsafe fn record(out: &mut Vec<u8>, call: &Call, result: *mut PyObject) {
    // SAFETY: by contract; a view's memory is valid until it is released.
    unsafe {
        let buffers = Buffers::of(call);
        let mut left = written(call, result).unwrap_or(usize::MAX);
        put_varint(out, buffers.0.len() as u64);
        for view in &buffers.0 {
            let n = left.min(view.len as usize);
            left -= n;
            put_varint(out, n as u64);
            if n > 0 {
                out.extend_from_slice(std::slice::from_raw_parts(view.buf.cast::<u8>(), n));
            }
        }
    }
}

/// Appends the outcome of a call that did no more than fill its one buffer and say how far; `false` for any other.
///
/// # Safety
/// As [`record`].
pub unsafe fn record_filled(out: &mut Vec<u8>, call: &Call, result: *mut PyObject) -> bool {
    // SAFETY: by contract; a view's memory is valid until it is released.
    unsafe {
        if PyLong_CheckExact(result) == 0 || call.hook.entry.name == "ioctl" {
            return false;
        }
        let buffers = Buffers::of(call);
        let [view] = &buffers.0[..] else { return false };
        match usize::try_from(PyLong_AsSsize_t(result)) {
            Ok(n) if n <= view.len as usize => {
                put_varint(out, n as u64);
                if n > 0 {
                    out.extend_from_slice(std::slice::from_raw_parts(view.buf.cast::<u8>(), n));
                }
                true
            }
            _ => {
                PyErr_Clear();
                false
            }
        }
    }
}

/// Reads what [`record_filled`] wrote: how far the buffer is filled.
///
/// # Safety
/// As [`record`].
pub unsafe fn replay_filled(source: &mut EventStream, call: &Call) -> Result<usize, Failure> {
    // SAFETY: by contract.
    unsafe {
        let buffers = Buffers::of(call);
        let [view] = &buffers.0[..] else {
            return Err(Failure::Missing(format!("{} buffers are arguments, 1 was", buffers.0.len())));
        };
        fill(source, view)
    }
}

/// Reads a length and as many bytes into the buffer.
unsafe fn fill(source: &mut EventStream, view: &Py_buffer) -> Result<usize, Failure> {
    // SAFETY: by the contract of `replay`.
    unsafe {
        let n = source.read_varint()?;
        if n > view.len as u64 {
            return Err(Failure::Missing(format!("a buffer has {} bytes, {n} were written", view.len)));
        }
        if n > source.remaining() {
            return Err(DecodeError::UnexpectedEnd.into());
        }
        if n > 0 {
            source.read_exact(std::slice::from_raw_parts_mut(view.buf.cast::<u8>(), n as usize))?;
        }
        Ok(n as usize)
    }
}

/// Reads the section and writes it into the call's buffers.
///
/// # Safety
/// As [`record`].
pub unsafe fn replay(source: &mut EventStream, call: &Call) -> Result<(), Failure> {
    // SAFETY: as in `record`.
    unsafe {
        let buffers = Buffers::of(call);
        let count = source.read_varint()?;
        if count != buffers.0.len() as u64 {
            return Err(Failure::Missing(format!("{} buffers are arguments, {count} were", buffers.0.len())));
        }
        for view in &buffers.0 {
            fill(source, view)?;
        }
        Ok(())
    }
}
