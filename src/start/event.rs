//! The start event: what the interpreter was told, and what it and the modules it has loaded took from the outside.

use super::is_file_finder;
use super::program::Main;
use crate::capi::{PyThread_get_thread_ident, PyThread_get_thread_native_id};
use crate::encode::{self, Encoder, put_bytes, put_int, put_str};
use crate::python::{Owned, attribute, loaded_module, string, text};
use crate::{modules, record, session};
use pyo3_ffi::*;
use retrace_replay::event::code;
use retrace_replay::value::{put_varint, tag};
use std::env;
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

/// A dict under construction, in the trace's own form.
struct Dict {
    pairs: u64,
    bytes: Vec<u8>,
}

impl Dict {
    fn new() -> Dict {
        Dict { pairs: 0, bytes: Vec::new() }
    }

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.pairs += 1;
        put_str(&mut self.bytes, key);
        &mut self.bytes
    }

    fn text(&mut self, key: &str, value: &str) {
        put_str(self.key(key), value);
    }

    fn int(&mut self, key: &str, value: i64) {
        put_int(self.key(key), value);
    }

    fn bytes(&mut self, key: &str, value: &[u8]) {
        put_bytes(self.key(key), value);
    }

    fn dict(&mut self, key: &str, value: Dict) {
        let out = self.key(key);
        value.put(out);
    }

    /// # Safety
    /// `value` is live or null; the GIL is held.
    unsafe fn object(&mut self, key: &str, value: *mut PyObject) {
        let out = self.key(key);
        let none = [tag::NONE];
        if value.is_null() {
            out.extend_from_slice(&none);
        } else {
            // SAFETY: by contract.
            unsafe { Encoder::new(out, encode::Context::NONE).value(value) };
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(tag::DICT);
        put_varint(out, self.pairs);
        out.extend_from_slice(&self.bytes);
    }
}

/// Attributes of `sys` that follow from where and how the interpreter was started.
const SYS: [&CStr; 21] = [
    c"argv",
    c"orig_argv",
    c"path",
    c"executable",
    c"prefix",
    c"base_prefix",
    c"exec_prefix",
    c"base_exec_prefix",
    c"platlibdir",
    c"_base_executable",
    c"_stdlib_dir",
    c"_home",
    c"warnoptions",
    c"_xoptions",
    c"dont_write_bytecode",
    c"pycache_prefix",
    c"version",
    c"hexversion",
    c"_git",
    c"copyright",
    c"float_repr_style",
];

/// What modules that were loaded before the start computed from the outside.
const MODULE_STATE: [(&str, &[&CStr]); 2] = [
    ("time", &[c"tzname", c"timezone", c"altzone", c"daylight"]),
    ("site", &[c"ENABLE_USER_SITE", c"USER_SITE", c"USER_BASE", c"PREFIXES"]),
];

pub(super) unsafe fn start_event(main: &Main, parent: Option<u32>, boundary: &[(PathBuf, String)]) -> Vec<u8> {
    // SAFETY: the GIL is held; what encoding runs is not recorded because no session is active yet.
    unsafe {
        let mut start = Dict::new();
        start.int("pid", std::process::id().into());
        start.int("ppid", libc::getppid().into());
        match parent {
            Some(parent) => start.int("parent", parent.into()),
            None => start.object("parent", ptr::null_mut()),
        }
        start.object("forked_at", ptr::null_mut());
        start.int("time_ns", now_ns());
        let mut sys = Dict::new();
        for name in SYS {
            let value = PySys_GetObject(name.as_ptr());
            if !value.is_null() {
                let key = name.to_string_lossy();
                sys.object(&key, value);
                start.object(&key, value);
            }
        }
        start.dict("sys", sys);
        start.object("flags", flags_tuple().0);
        start.text("cwd", &env::current_dir().unwrap_or_default().to_string_lossy());
        let mut environ = Dict::new();
        for (key, value) in env::vars_os() {
            environ.pairs += 1;
            put_bytes(&mut environ.bytes, key.as_bytes());
            put_bytes(&mut environ.bytes, value.as_bytes());
        }
        start.dict("environ", environ);
        let mut size = 0;
        let secret = retrace_abi::retrace_hash_secret(&mut size);
        start.bytes("hash_secret", std::slice::from_raw_parts(secret, size));
        start.text("run", main.run);
        start.text("main", &main.what);
        match &main.source {
            Some(source) => start.bytes("main_source", source),
            None => start.object("main_source", ptr::null_mut()),
        }
        start.object("modules", PyList_AsTupleOf(&modules::loaded_names()).0);
        let mut state = Dict::new();
        for (module, names) in MODULE_STATE {
            let object = loaded_module(module);
            if object.is_null() {
                continue;
            }
            let mut values = Dict::new();
            for name in names {
                let value = attribute(object, name);
                if !value.is_null() {
                    values.object(&name.to_string_lossy(), value.0);
                }
            }
            state.dict(module, values);
        }
        start.dict("module_state", state);
        let main_thread = start.key("main_thread");
        main_thread.push(tag::TUPLE);
        put_varint(main_thread, 2);
        put_int(main_thread, PyThread_get_thread_ident() as i64);
        put_int(main_thread, PyThread_get_thread_native_id() as i64);
        start.object("random_state", random_state().0);
        put_ignored_signals(start.key("ignored_signals"));
        let mut texts = Dict::new();
        for (file, text) in boundary {
            texts.text(&file.to_string_lossy(), text);
        }
        start.dict("boundary", texts);
        start.dict("importers", importers());
        let mut streams = Dict::new();
        for name in [c"stdin", c"stdout", c"stderr"] {
            put_stream(&mut streams, name);
        }
        start.dict("streams", streams);
        start.text("platform", env::consts::OS);
        start.text("machine", env::consts::ARCH);
        start.text("hostname", &hostname());
        let mut event = code::START.to_le_bytes().to_vec();
        start.put(&mut event);
        event
    }
}

/// The signals that the process was started with as ignored: `signal.getsignal()` shows them.
fn put_ignored_signals(out: &mut Vec<u8>) {
    let is_ignored = |number: &i32| {
        // SAFETY: only asks; the structure is plain data, for which zeros are valid.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(*number, ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
        }
    };
    let ignored: Vec<i32> = (1..65).filter(is_ignored).collect();
    out.push(tag::TUPLE);
    put_varint(out, ignored.len() as u64);
    for number in ignored {
        put_int(out, number.into());
    }
}

/// A tuple of strings.
#[allow(non_snake_case)]
unsafe fn PyList_AsTupleOf(names: &[String]) -> Owned {
    // SAFETY: the GIL is held.
    unsafe {
        let tuple = PyTuple_New(names.len() as Py_ssize_t);
        for (i, name) in names.iter().enumerate() {
            PyTuple_SET_ITEM(tuple, i as Py_ssize_t, string(name).into_raw());
        }
        Owned(tuple)
    }
}

fn now_ns() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as i64)
}

fn hostname() -> String {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer's own size; the last byte stays zero.
    unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    CStr::from_bytes_until_nul(&buffer).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

unsafe fn flags_tuple() -> Owned {
    // SAFETY: the GIL is held; `sys.flags` is a struct sequence.
    unsafe {
        let flags = PySys_GetObject(c"flags".as_ptr());
        Owned(PySequence_Tuple(flags))
    }
}

/// The state of the shared generator, where `random` was loaded before the start (a site customisation did): it was
/// seeded from entropy that nobody recorded.
unsafe fn random_state() -> Owned {
    // SAFETY: the GIL is held.
    unsafe {
        let random = loaded_module("random");
        if random.is_null() {
            return Owned(ptr::null_mut());
        }
        let shared = attribute(random, c"_inst");
        if shared.is_null() { Owned(ptr::null_mut()) } else { crate::seed::state_of(shared.0) }
    }
}

unsafe fn importers() -> Dict {
    let mut dict = Dict::new();
    // SAFETY: the GIL is held.
    unsafe {
        let cache = PySys_GetObject(c"path_importer_cache".as_ptr());
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while !cache.is_null() && PyDict_Next(cache, &mut position, &mut key, &mut value) != 0 {
            if value == Py_None() {
                dict.object(&text(key), ptr::null_mut());
            } else if is_file_finder(value) {
                dict.object(&text(key), attribute(value, c"path").0);
            }
        }
    }
    dict
}

/// How a standard stream was set up: it decides where its output is cut into writes.
unsafe fn put_stream(streams: &mut Dict, name: &CStr) {
    // SAFETY: the GIL is held.
    unsafe {
        let stream = PySys_GetObject(name.as_ptr());
        let key = name.to_string_lossy();
        if stream.is_null() || stream == Py_None() {
            return streams.object(&key, ptr::null_mut());
        }
        let mut settings = Dict::new();
        for field in [c"encoding", c"errors", c"line_buffering", c"write_through"] {
            settings.object(&field.to_string_lossy(), attribute(stream, field).0);
        }
        let buffer = attribute(stream, c"buffer");
        let raw = if buffer.is_null() { Owned(ptr::null_mut()) } else { attribute(buffer.0, c"raw") };
        let size = if raw.is_null() { Owned(ptr::null_mut()) } else { attribute(raw.0, c"_blksize") };
        settings.object("buffer_size", size.0);
        // Asked when it was made.
        let seekable = Owned(PyObject_CallMethodNoArgs(stream, string("seekable").0));
        PyErr_Clear();
        settings.object("seekable", seekable.0);
        streams.dict(&key, settings);
    }
}

/// The start event of a process that was forked from a recorded one.
///
/// # Safety
/// Recording, in the child; the GIL is held.
pub unsafe fn record_forked_child(parent: u32, fork: u64) {
    // SAFETY: by contract.
    unsafe {
        crate::notes::pause();
        let mut start = Dict::new();
        start.int("pid", std::process::id().into());
        start.int("ppid", libc::getppid().into());
        start.int("parent", parent.into());
        start.int("forked_at", fork as i64);
        start.int("time_ns", now_ns());
        for name in [c"argv", c"orig_argv", c"executable", c"version"] {
            start.object(&name.to_string_lossy(), PySys_GetObject(name.as_ptr()));
        }
        let mut event = code::START.to_le_bytes().to_vec();
        start.put(&mut event);
        session::append(&[&event]);
        let hooks = record::hooks_event(0, crate::hook::all());
        session::append(&[&hooks]);
        crate::notes::resume();
    }
}
