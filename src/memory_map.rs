//! `mmap.mmap`: internal code reads and writes a map as memory, without any call. So replay gives it a map of its own,
//! private and anonymous, with the contents that the recorded one had when it was made; reading and writing it is
//! internal from then on. Maps of one file are one memory (`crate::file_memory`). What another process writes into it
//! later is `crate::shared_memory`'s.

use crate::call::Call;
use crate::decode::Failure;
use crate::external;
use crate::file_memory::{self, LARGEST};
use crate::hook::Original;
use crate::python::Owned;
use crate::shared_memory;
use pyo3_ffi::*;
use retrace_abi::special::{External, MapFields};
use retrace_replay::event::HookKind;
use std::ptr;

/// Whether a call makes a map.
pub fn makes_map(call: &Call) -> bool {
    call.hook.kind == HookKind::New && call.hook.external.is_some_and(|external| external.special == External::Map)
}

/// The number of the file that a map shares with others of the same file; None where it shares with none.
unsafe fn file_of(call: &Call, fields: &MapFields) -> Option<i64> {
    // SAFETY: the GIL is held.
    let shares = unsafe {
        fields.descriptor >= 0
            && !shared_memory::is_private(call)
            && !shared_memory::is_flagged(call, libc::MAP_ANONYMOUS)
    };
    if shares { file_memory::number_of(fields.descriptor).map(i64::from) } else { None }
}

/// What is in a map: None where it is all zero; bytes; a tuple of offsets and bytes where a large file has holes; or a
/// string that says why it is not known. And the bytes as far as they were read at once.
unsafe fn contents(fields: &MapFields) -> (Owned, Vec<u8>) {
    // SAFETY: the GIL is held; the memory is read through the kernel, because parts of it may not be readable: no access
    // rights, or no file behind them.
    unsafe {
        let nothing = || Owned::borrowed(Py_None());
        let bytes =
            |contents: &[u8]| Owned(PyBytes_FromStringAndSize(contents.as_ptr().cast(), contents.len() as isize));
        if fields.descriptor < 0 || fields.data.is_null() {
            return (nothing(), Vec::new());
        }
        let read = |from: usize, size: usize| {
            let mut contents = vec![0; size];
            let read = crate::platform::read_memory(fields.data.add(from), &mut contents);
            contents.truncate(read);
            contents
        };
        if fields.size <= LARGEST {
            let all = read(0, fields.size);
            let described = if all.iter().all(|&byte| byte == 0) { nothing() } else { bytes(&all) };
            return (described, all);
        }
        let ranges = match file_memory::data_of(fields.descriptor, fields.offset, fields.size) {
            Ok(ranges) => ranges,
            // Said in the trace; a replay that comes here stops.
            Err(why) => return (crate::python::string(why), Vec::new()),
        };
        let pieces = Owned(PyTuple_New(ranges.len() as isize * 2));
        for (i, (from, size)) in ranges.into_iter().enumerate() {
            PyTuple_SET_ITEM(pieces.0, i as isize * 2, PyLong_FromSize_t(from));
            PyTuple_SET_ITEM(pieces.0, i as isize * 2 + 1, bytes(&read(from, size)).into_raw());
        }
        (pieces, Vec::new())
    }
}

/// What the log says of a new map: a tuple of its handle, its size, its contents, the number of its file (-1: it shares
/// with none), and where in the file it begins.
///
/// # Safety
/// Recording; the GIL is held; `map` is the new map.
pub unsafe fn describe(call: &Call, map: *mut PyObject) -> Owned {
    // SAFETY: by contract.
    unsafe {
        let handle = external::new_handle(map);
        let fields = External::Map.map_fields(map);
        let file = file_of(call, &fields).unwrap_or(-1);
        let (described, known) = contents(&fields);
        if described.is_null() {
            PyErr_Clear();
            return described;
        }
        if let Some(is_anonymous) = shared_memory::may_change(call, map) {
            shared_memory::watch(map, handle, is_anonymous, known);
        }
        let (number, size) = (Owned(PyLong_FromLong(handle.into())), Owned(PyLong_FromSize_t(fields.size)));
        let (file, offset) = (Owned(PyLong_FromLongLong(file)), Owned(PyLong_FromLongLong(fields.offset)));
        Owned(PyTuple_Pack(5, number.0, size.0, described.0, file.0, offset.0))
    }
}

/// A map with the recorded size and contents: a new reference.
///
/// # Safety
/// Replaying; the GIL is held, and the thread is marked external; `described` is what [`describe`] made.
pub unsafe fn make(call: &Call, described: *mut PyObject) -> Result<Owned, Failure> {
    // SAFETY: by contract; the memory written lies within the map that was just made.
    unsafe {
        let damaged = || Failure::Missing("a map's description is damaged".into());
        let Original::New(function) = call.hook.original else {
            return Err(Failure::Missing("a map's constructor is another function here".into()));
        };
        // Three are in traces from before maps shared memory.
        if PyTuple_Check(described) == 0 || ![3, 5].contains(&PyTuple_GET_SIZE(described)) {
            return Err(damaged());
        }
        let number = |place: isize| {
            let mut number = 0;
            let item = PyTuple_GET_ITEM(described, place);
            let is_number = PyLong_Check(item) != 0 && retrace_abi::retrace_long_as_i64(item, &mut number) != 0;
            is_number.then_some(number).ok_or_else(damaged)
        };
        let (handle, size) = (number(0)? as u32, number(1)?);
        let (file, offset) = if PyTuple_GET_SIZE(described) == 5 { (number(3)?, number(4)?) } else { (-1, 0) };
        let Ok(size) = usize::try_from(size) else { return Err(damaged()) };
        let contents = PyTuple_GET_ITEM(described, 2);
        if PyUnicode_Check(contents) != 0 {
            return Err(Failure::Missing(format!("a map of {size} bytes: {}", crate::python::text(contents))));
        }
        // The object is made with a page of its own, which is then exchanged: for memory that belongs to this process
        // alone (a checkpoint of the debugger's keeps what was there), and that other maps of the file have in common.
        let (args, keywords) = arguments(call);
        let map = Owned(function(call.receiver.cast(), args.0, keywords.0));
        if map.is_null() {
            return Err(Failure::Raised);
        }
        let file = u32::try_from(file).ok().zip(usize::try_from(offset).ok());
        file_memory::redirect(function as *const _);
        let Some(memory) = file_memory::map(file, size) else {
            return Err(Failure::Missing(format!("a map of {size} bytes: there is not so much memory here")));
        };
        let before = External::Map.map_fields(map.0);
        libc::munmap(before.data.cast(), before.size);
        External::Map.set_map(map.0, memory, size, offset);
        file_memory::clear(memory, size);
        let write = |from: usize, bytes: &[u8]| {
            let fits = from.checked_add(bytes.len()).is_some_and(|end| end <= size);
            if fits {
                ptr::copy_nonoverlapping(bytes.as_ptr(), memory.add(from), bytes.len());
            }
            fits.then_some(()).ok_or_else(damaged)
        };
        if PyBytes_Check(contents) != 0 {
            write(0, crate::encode::bytes_of(contents))?;
        } else if PyTuple_Check(contents) != 0 {
            for i in (1..PyTuple_GET_SIZE(contents)).step_by(2) {
                let (from, bytes) = (PyTuple_GET_ITEM(contents, i - 1), PyTuple_GET_ITEM(contents, i));
                let from = usize::try_from(PyLong_AsSsize_t(from)).map_err(|_| damaged())?;
                if PyBytes_Check(bytes) == 0 {
                    return Err(damaged());
                }
                write(from, crate::encode::bytes_of(bytes))?;
            }
        }
        external::bind_handle(map.0, handle);
        if let Some(is_anonymous) = shared_memory::may_change(call, map.0) {
            shared_memory::watch(map.0, handle, is_anonymous, Vec::new());
        }
        Ok(map)
    }
}

/// What the constructor is called with in replay: without a file, one byte; but with the program's flags and access.
unsafe fn arguments(call: &Call) -> (Owned, Owned) {
    // SAFETY: by the contract of `make`.
    unsafe {
        let args = Owned(PyTuple_New(2));
        PyTuple_SET_ITEM(args.0, 0, PyLong_FromLong(-1));
        PyTuple_SET_ITEM(args.0, 1, PyLong_FromLong(1));
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
        (args, keywords)
    }
}
