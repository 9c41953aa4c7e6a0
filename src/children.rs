//! Programs that the recorded program starts. A Python among them joins the recording, as a process of its own that can
//! be replayed alone. What it needs to know is in variables that the recorded program never sees:
//!
//! - Where the preload library was loaded, it gives them to everything that is started from this process, by whatever
//!   code (`cshim/preload_exec.h`). All that is left to do here is to tell it who the parent is.
//! - Else (the `.pth` file) the hooks of the functions that start programs do it. The boundary's table says which they
//!   are and where their environment is. The process's own environment block has the variables during such a call only.

use crate::call::Call;
use crate::encode::bytes_of;
use crate::gil::GilCell;
use crate::python::{Owned, text};
use crate::session;
use pyo3_ffi::*;
use retrace_abi::boundary::Environment;
use retrace_replay::TraceWriter;
use std::env;
use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr;

/// What a process is told by the one that started it. Written `id:process:path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    pub recording: [u8; 16],
    pub process: u32,
    pub path: PathBuf,
}

/// The recording's id as the command line writes it: 32 hexadecimal digits.
pub fn parse_id(text: &[u8]) -> Option<[u8; 16]> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 32)?;
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

impl Parent {
    pub fn parse(text: &OsStr) -> Option<Parent> {
        let mut parts = text.as_bytes().splitn(3, |&byte| byte == b':');
        let recording = parse_id(parts.next()?)?;
        let process = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let path = PathBuf::from(OsString::from_vec(parts.next()?.to_vec()));
        Some(Parent { recording, process, path })
    }

    fn to_text(&self) -> Vec<u8> {
        let id = u128::from_be_bytes(self.recording);
        let mut text = format!("{id:032x}:{}:", self.process).into_bytes();
        text.extend_from_slice(self.path.as_os_str().as_bytes());
        text
    }
}

/// Our variables that children are given; `cshim/preload_environment.h` has the same list.
const PARENT: &str = "RETRACE_PARENT";
const ARGUMENTS: &str = "RETRACE_ARGUMENTS";
const BOUNDARY: &str = "RETRACE_BOUNDARY";
/// A program that was given one of these is told already what to do.
const TOLD: [&str; 3] = ["RETRACE_RECORDING", "RETRACE_REPLAY", "RETRACE_DOCTOR"];

/// Of the preload library: it passes this on from now on; -1 where it passes on nothing.
type PassOn = unsafe extern "C" fn(parent: *const c_char) -> c_int;

/// Of the preload library: where it counts programs that can't open the trace.
type CountAt = unsafe extern "C" fn(counter: *mut u64);

/// What this process passes on.
struct Passing {
    parent: Parent,
    preloaded: Option<PassOn>,
    /// Names and values, where there is no preload library.
    variables: Vec<(CString, CString)>,
    more: Vec<(CString, CString)>,
}

static PASSING: GilCell<Option<Passing>> = GilCell::new(None);
static mut IS_CHILD: bool = false;
/// Calls under way that have the variables in the process's own environment.
static mut LENT: u32 = 0;

/// Whether a recorded process started this one: its stderr is for its parent to read.
///
/// # Safety
/// The GIL is held.
pub unsafe fn is_child() -> bool {
    // SAFETY: by contract.
    unsafe { IS_CHILD }
}

/// # Safety
/// The GIL is held.
pub unsafe fn become_child() {
    // SAFETY: by contract.
    unsafe { IS_CHILD = true };
}

/// From now on what this process starts belongs to the recording.
///
/// # Safety
/// The GIL is held; the recording begins.
pub unsafe fn begin(writer: &TraceWriter, path: &Path, full_arguments: bool, boundary: Option<&OsStr>) {
    let Some(recording) = writer.recording_id() else { return };
    let mut more = Vec::new();
    if full_arguments {
        more.push((ARGUMENTS, b"full".to_vec()));
    }
    if let Some(boundary) = boundary {
        // Absolute: the child may be started in another folder.
        let boundary = std::path::absolute(boundary).unwrap_or_else(|_| boundary.into());
        more.push((BOUNDARY, boundary.into_os_string().into_vec()));
    }
    let more = more.into_iter().filter_map(|(name, value)| Some((CString::new(name).ok()?, CString::new(value).ok()?)));
    // SAFETY: looks for a symbol among the libraries that were loaded at the start; the preload library's has this type.
    let preloaded = unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"retrace_pass_on".as_ptr());
        (!found.is_null()).then(|| std::mem::transmute::<*mut libc::c_void, PassOn>(found))
    };
    // SAFETY: as above; the counter stays mapped.
    unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"retrace_count_at".as_ptr());
        if !found.is_null()
            && let Some(counter) = writer.unrecorded_programs()
        {
            std::mem::transmute::<*mut libc::c_void, CountAt>(found)(counter.as_ptr());
        }
    }
    let parent = Parent { recording, process: writer.process(), path: path.to_owned() };
    let mut passing = Passing { parent, preloaded, variables: Vec::new(), more: more.collect() };
    passing.announce();
    // SAFETY: by contract.
    unsafe { *PASSING.get() = Some(passing) };
}

impl Passing {
    /// Tells the preload library who the parent is, or, without one, makes the variables anew.
    fn announce(&mut self) {
        let Ok(text) = CString::new(self.parent.to_text()) else { return };
        // SAFETY: a C string, which is copied.
        if self.preloaded.is_some_and(|pass_on| unsafe { pass_on(text.as_ptr()) } == 0) {
            return;
        }
        self.preloaded = None;
        self.variables = self.more.clone();
        self.variables.extend(CString::new(PARENT).ok().map(|name| (name, text)));
    }

    /// A forked process is another parent than the one it was forked from.
    fn become_process(&mut self, process: u32) {
        if self.parent.process != process {
            self.parent.process = process;
            self.announce();
        }
    }
}

/// Calls the original of a function that starts a program: a new reference, or null with an exception.
///
/// # Safety
/// Recording, as [`Call::invoke`]; the thread is marked external: what runs here is part of the call.
#[cold]
pub unsafe fn start(call: &Call, environment: Environment) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let Some(passing) = PASSING.get().as_mut().filter(|_| session::is_recording()) else { return call.invoke() };
        passing.become_process(session::writer().process());
        if passing.preloaded.is_some() || passing.variables.is_empty() {
            return call.invoke();
        }
        let given = match environment {
            Environment::Argument(position) => argument(call, position.into()),
            Environment::Own | Environment::None => None,
        };
        let ours = passing.variables.clone();
        let Some((i, given)) = given else { return with_own_environment(call, &ours) };
        let replacement = if PyList_Check(given) != 0 || PyTuple_Check(given) != 0 {
            list_with(given, &ours)
        } else {
            mapping_with(given, &ours)
        };
        if replacement.is_none() {
            // The original finds out what is wrong, and says it in its own words.
            PyErr_Clear();
        }
        match replacement.and_then(|replacement| call.with_argument(i, replacement)) {
            Some(converted) => converted.apply(call).invoke(),
            None => call.invoke(),
        }
    }
}

/// The environment among the arguments, and its index; `None` where it is None or missing.
unsafe fn argument(call: &Call, position: usize) -> Option<(usize, *mut PyObject)> {
    // SAFETY: by the contract of `start`.
    unsafe {
        let positional = call.positional();
        let named =
            || (positional..call.args.len()).find(|i| keyword(call, i - positional).is_some_and(|name| name == "env"));
        let i = if position < positional { position } else { named()? };
        (call.args[i] != Py_None()).then_some((i, call.args[i]))
    }
}

unsafe fn keyword(call: &Call, i: usize) -> Option<String> {
    // SAFETY: the keyword names are a tuple with a name for each argument that is not positional.
    (!call.keyword_names.is_null()).then(|| unsafe { text(PyTuple_GET_ITEM(call.keyword_names, i as Py_ssize_t)) })
}

/// The call, with the variables in the process's environment as long as it takes.
unsafe fn with_own_environment(call: &Call, ours: &[(CString, CString)]) -> *mut PyObject {
    // SAFETY: the GIL is held around the changes; the C library has a lock for its environment.
    unsafe {
        if TOLD.iter().any(|name| env::var_os(name).is_some()) {
            return call.invoke();
        }
        for (name, value) in ours {
            libc::setenv(name.as_ptr(), value.as_ptr(), 1);
        }
        LENT += 1;
        let result = call.invoke();
        LENT -= 1;
        // Another thread may be starting a program at the same time (`system` gives the GIL up).
        if LENT == 0 {
            for (name, _) in ours {
                libc::unsetenv(name.as_ptr());
            }
        }
        result
    }
}

/// How a variable bears on what we add.
enum Name {
    Theirs,
    /// To be replaced by ours.
    Ours,
    /// The program is told already what to do.
    Told,
}

fn judge(name: &[u8]) -> Name {
    let is = |ours: &&str| ours.as_bytes() == name;
    if TOLD.iter().any(is) {
        Name::Told
    } else if [PARENT, ARGUMENTS, BOUNDARY].iter().any(is) {
        Name::Ours
    } else {
        Name::Theirs
    }
}

/// A sequence of `b"NAME=value"` with ours; `None` where it stays, perhaps with an exception.
unsafe fn list_with(sequence: *mut PyObject, ours: &[(CString, CString)]) -> Option<Owned> {
    // SAFETY: a live list or tuple.
    unsafe {
        let result = Owned(PyList_New(0));
        let n = PySequence_Size(sequence);
        if result.is_null() || n < 0 {
            return None;
        }
        for i in 0..n {
            let item = Owned(PySequence_GetItem(sequence, i));
            if item.is_null() || PyBytes_Check(item.0) == 0 {
                return None;
            }
            match judge(bytes_of(item.0).split(|&byte| byte == b'=').next().unwrap_or_default()) {
                Name::Told => return None,
                Name::Ours => {}
                Name::Theirs if PyList_Append(result.0, item.0) < 0 => return None,
                Name::Theirs => {}
            }
        }
        for (name, value) in ours {
            let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
            let entry = Owned(PyBytes_FromStringAndSize(entry.as_ptr().cast(), entry.len() as Py_ssize_t));
            if entry.is_null() || PyList_Append(result.0, entry.0) < 0 {
                return None;
            }
        }
        Some(result)
    }
}

/// A mapping with ours, as a dict; `None` where it stays, perhaps with an exception. Reads it as `parse_envlist` does
/// (CPython's Modules/posixmodule.c): its keys, then its values.
unsafe fn mapping_with(mapping: *mut PyObject, ours: &[(CString, CString)]) -> Option<Owned> {
    // SAFETY: a live object.
    unsafe {
        if PyMapping_Check(mapping) == 0 {
            return None;
        }
        let keys = Owned(PyMapping_Keys(mapping));
        let values = if keys.is_null() { Owned(ptr::null_mut()) } else { Owned(PyMapping_Values(mapping)) };
        let result = Owned(PyDict_New());
        if values.is_null() || result.is_null() || PyList_Check(keys.0) == 0 || PyList_Check(values.0) == 0 {
            return None;
        }
        if PyList_GET_SIZE(keys.0) != PyList_GET_SIZE(values.0) {
            return None;
        }
        for i in 0..PyList_GET_SIZE(keys.0) {
            let key = PyList_GET_ITEM(keys.0, i);
            let name = if PyBytes_Check(key) != 0 { bytes_of(key).to_vec() } else { text(key).into_bytes() };
            match judge(&name) {
                Name::Told => return None,
                Name::Ours => {}
                Name::Theirs if PyDict_SetItem(result.0, key, PyList_GET_ITEM(values.0, i)) < 0 => return None,
                Name::Theirs => {}
            }
        }
        for (name, value) in ours {
            let bytes = |text: &CStr| Owned(PyBytes_FromString(text.as_ptr()));
            let (name, value) = (bytes(name), bytes(value));
            if name.is_null() || value.is_null() || PyDict_SetItem(result.0, name.0, value.0) < 0 {
                return None;
            }
        }
        Some(result)
    }
}
