//! Memory that other processes write to: a map of a file, and one without a file that a fork has given
//! to another process (`multiprocessing.Value`, `SharedMemory`). Reading it is no call, so what the others wrote is logged
//! where it is seen first: after each call of the outside, and before each read that goes through one of the interpreter's
//! functions below. Both directions count these reads, so that replay writes it into its own map at the same one. A read
//! that goes through none of them (numpy's) sees in replay what was there at the call before.

use crate::external;
use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::python::{Owned, loaded_module};
use crate::session::{self, Mode};
use crate::{platform, replay, thread};
use pyo3_ffi::*;
use retrace_abi::GetSetDescr;
use retrace_abi::special::External;
use retrace_replay::event::{Call, NO_FRAME, Outcome};
use retrace_replay::value::Value;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

/// The most that is looked at, in bytes of all maps: it is compared after each call.
const LARGEST: usize = 256 << 10;
/// Changes that are no further apart are logged as one.
const APART: usize = 64;

struct Map {
    handle: u32,
    object: *mut PyObject,
    /// Without a file: others have it only after a fork.
    is_anonymous: bool,
    /// The contents as the log has them. Recording only.
    known: Vec<u8>,
}

static MAPS: GilCell<Vec<Map>> = GilCell::new(Vec::new());
/// The process has forked, or is a fork's child.
static mut FORKED: bool = false;
/// Whether there is anything to look at.
static mut WATCHES: bool = false;
/// Reads of the program's through the functions below while there was a map, in both directions.
static mut READS: i64 = 0;
/// In place of the number of a read: seen after the call whose event comes next.
const AT_CALL: i64 = -1;

static HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);

/// Makes the hook of the changes' events.
///
/// # Safety
/// The GIL is held; called once, before a session begins.
pub unsafe fn prepare() {
    // SAFETY: by contract.
    unsafe {
        *HOOK.get() = Some(hook::of_library("mmap.shared"));
    }
}

/// What a map's constructor was given, if it is a number: by position or by keyword.
unsafe fn given(call: &crate::call::Call, position: usize, name: &str) -> Option<i64> {
    // SAFETY: the GIL is held.
    unsafe {
        let names = call.keyword_names;
        let by_name = || {
            let count = if names.is_null() { 0 } else { PyTuple_GET_SIZE(names) };
            let found = (0..count).find(|&i| crate::python::text(PyTuple_GET_ITEM(names, i)) == name)?;
            call.args.get(call.positional() + found as usize)
        };
        let given = call.args.get(position).filter(|_| position < call.positional()).or_else(by_name)?;
        let mut number = 0;
        (PyLong_Check(*given) != 0 && retrace_abi::retrace_long_as_i64(*given, &mut number) != 0).then_some(number)
    }
}

/// Whether what is written into a new map is for this process alone. `call` is its constructor's.
///
/// # Safety
/// The GIL is held.
pub unsafe fn is_private(call: &crate::call::Call) -> bool {
    const ACCESS_COPY: i64 = 3;
    // SAFETY: by contract.
    unsafe { is_flagged(call, libc::MAP_PRIVATE) || given(call, 4, "access") == Some(ACCESS_COPY) }
}

/// Whether a map's constructor was given this flag.
///
/// # Safety
/// The GIL is held.
pub unsafe fn is_flagged(call: &crate::call::Call, flag: c_int) -> bool {
    // SAFETY: by contract.
    unsafe { given(call, 2, "flags").is_some_and(|flags| flags & i64::from(flag) != 0) }
}

/// Whether a new map of the program's is watched, in both directions, and whether it has no file. `call` is its
/// constructor's.
///
/// # Safety
/// The GIL is held; `map` is the new map.
pub unsafe fn may_change(call: &crate::call::Call, map: *mut PyObject) -> Option<bool> {
    // SAFETY: by contract.
    unsafe {
        let size = External::Map.map_size(map);
        let watched: usize = MAPS.get().iter().map(|map| External::Map.map_size(map.object)).sum();
        let is_watched = !is_private(call) && size > 0 && size + watched <= LARGEST;
        is_watched.then(|| given(call, 0, "fileno") == Some(-1))
    }
}

/// Watches a map, in both directions. `known`: what the log has of its contents.
///
/// # Safety
/// The GIL is held; the map has this handle.
pub unsafe fn watch(map: *mut PyObject, handle: u32, is_anonymous: bool, mut known: Vec<u8>) {
    // SAFETY: by contract.
    unsafe {
        known.resize(External::Map.map_size(map), 0);
        MAPS.get().push(Map { handle, object: map, is_anonymous, known });
        replace_readers();
        settle();
    }
}

/// A map is being freed.
///
/// # Safety
/// The GIL is held.
pub unsafe fn forget(object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let maps = MAPS.get();
        if let Some(place) = maps.iter().position(|map| map.object == object) {
            maps.remove(place);
            settle();
        }
    }
}

/// The process forks: others have what it has mapped.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn forked() {
    // SAFETY: by contract.
    unsafe {
        FORKED = true;
        settle();
    }
}

unsafe fn settle() {
    // SAFETY: by the callers' contract.
    unsafe {
        let is_shared = |map: &Map| FORKED || !map.is_anonymous;
        WATCHES = session::is_recording() && MAPS.get().iter().any(is_shared);
        if WATCHES {
            // The quick ways of recording do not look.
            hook::record_generally();
        }
    }
}

/// Where memory differs from what is known of it.
fn changes(known: &[u8], now: &[u8]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (block, (old, new)) in known.chunks(APART).zip(now.chunks(APART)).enumerate() {
        if old == new {
            continue;
        }
        let differs = |&k: &usize| old.get(k) != new.get(k);
        let first = (0..new.len()).find(differs).unwrap_or(0);
        let end = (0..new.len()).rev().find(differs).map_or(new.len(), |last| last + 1);
        let (from, to) = (block * APART + first, block * APART + end);
        match found.last_mut() {
            Some(before) if from - before.1 <= APART => before.1 = to,
            _ => found.push((from, to)),
        }
    }
    found
}

/// Logs what has changed. Returns whether anything has.
unsafe fn look(at: i64) -> bool {
    // SAFETY: recording, the GIL held; no Python code runs here.
    unsafe {
        let Some(hook) = *HOOK.get() else { return false };
        let mut has_changed = false;
        for map in MAPS.get().iter_mut().filter(|map| FORKED || !map.is_anonymous) {
            let memory = External::Map.memory(map.object);
            if memory.is_null() {
                continue;
            }
            let mut now = vec![0; map.known.len().min(External::Map.map_size(map.object))];
            // Through the kernel: somebody may have cut the file off.
            let read = platform::read_memory(memory, &mut now);
            now.truncate(read);
            for (from, to) in changes(&map.known, &now) {
                has_changed = true;
                map.known[from..to].copy_from_slice(&now[from..to]);
                let numbers = [at, map.handle.into(), from as i64].map(Value::Int);
                let mut arguments = numbers.to_vec();
                arguments.push(Value::Bytes(now[from..to].to_vec()));
                let call = Call { hook: hook.index, at: NO_FRAME, arguments: Some(arguments), outcome: Outcome::None };
                session::append_event(&retrace_replay::event::Event::Call(call));
            }
        }
        has_changed
    }
}

/// A call of the outside has returned, whose event comes next.
///
/// # Safety
/// Recording; the GIL is held.
#[inline(always)]
pub unsafe fn after_call() {
    // SAFETY: by contract.
    unsafe {
        if WATCHES {
            look(AT_CALL);
        }
    }
}

/// Writes what the log has next into the maps, if that was seen there (the number of a read, or [`AT_CALL`]).
unsafe fn replay_changes(at: i64) -> bool {
    // SAFETY: replaying, the GIL held.
    unsafe {
        let mut has_changed = false;
        let Some(hook) = *HOOK.get() else { return false };
        while let Some(call) = replay::front_call(hook.index) {
            let Some([Value::Int(seen), Value::Int(handle), Value::Int(from), Value::Bytes(bytes)]) =
                call.arguments.as_deref()
            else {
                break;
            };
            if *seen != at {
                break;
            }
            let map = MAPS.get().iter().find(|map| i64::from(map.handle) == *handle);
            if let (Some(map), Ok(from)) = (map, usize::try_from(*from)) {
                let memory = External::Map.memory(map.object);
                let size = External::Map.map_size(map.object);
                if !memory.is_null() && from + bytes.len() <= size {
                    ptr::copy_nonoverlapping(bytes.as_ptr(), memory.add(from), bytes.len());
                }
            }
            replay::pass_native_call();
            has_changed = true;
        }
        has_changed
    }
}

/// What was seen after the call that is replayed now. Returns whether anything was.
///
/// # Safety
/// Replaying; the GIL is held.
#[inline(always)]
pub unsafe fn before_replayed_call() -> bool {
    // SAFETY: by contract.
    unsafe { !MAPS.get().is_empty() && replay_changes(AT_CALL) }
}

/// Internal code reads memory that may be a map's, by `original`, which it may do twice.
#[inline(always)]
unsafe fn read(original: impl Fn() -> *mut PyObject) -> *mut PyObject {
    // SAFETY: called by CPython with the GIL held.
    unsafe {
        if MAPS.get().is_empty() || thread::current().external.get() {
            return original();
        }
        match session::mode() {
            Mode::Recording => {
                READS += 1;
                if !WATCHES {
                    return original();
                }
                look(READS);
                loop {
                    let result = original();
                    // Changed meanwhile: it is not known what was read.
                    if result.is_null() || !session::is_recording() || !look(READS) {
                        return result;
                    }
                    drop(Owned(result));
                }
            }
            Mode::Replaying => {
                READS += 1;
                replay_changes(READS);
                original()
            }
            _ => original(),
        }
    }
}

// ---- the interpreter's functions that read memory ----

static mut MEMORY_ITEM: Option<ssizeargfunc> = None;
static mut MEMORY_SUBSCRIPT: Option<binaryfunc> = None;
static mut MAP_ITEM: Option<ssizeargfunc> = None;
static mut MAP_SUBSCRIPT: Option<binaryfunc> = None;
static mut ARRAY_ITEM: Option<ssizeargfunc> = None;
static mut ARRAY_SUBSCRIPT: Option<binaryfunc> = None;
static mut VALUE: Option<getter> = None;

macro_rules! reader {
    ($name:ident, $original:ident, ($($argument:ident: $kind:ty),*)) => {
        unsafe extern "C" fn $name($($argument: $kind),*) -> *mut PyObject {
            // SAFETY: called by CPython; the original was noted before this could be reached.
            unsafe { read(|| $original.map_or(ptr::null_mut(), |original| original($($argument),*))) }
        }
    };
}

reader!(memory_item, MEMORY_ITEM, (object: *mut PyObject, index: Py_ssize_t));
reader!(memory_subscript, MEMORY_SUBSCRIPT, (object: *mut PyObject, key: *mut PyObject));
reader!(map_item, MAP_ITEM, (object: *mut PyObject, index: Py_ssize_t));
reader!(map_subscript, MAP_SUBSCRIPT, (object: *mut PyObject, key: *mut PyObject));
reader!(array_item, ARRAY_ITEM, (object: *mut PyObject, index: Py_ssize_t));
reader!(array_subscript, ARRAY_SUBSCRIPT, (object: *mut PyObject, key: *mut PyObject));
reader!(value, VALUE, (object: *mut PyObject, closure: *mut c_void));

/// Replaces the two functions by which a type's items are read. Where one can't be, others' writes are seen later.
unsafe fn replace_items(
    class: *mut PyTypeObject,
    (item, our_item): (*mut Option<ssizeargfunc>, ssizeargfunc),
    (subscript, our_subscript): (*mut Option<binaryfunc>, binaryfunc),
) {
    // SAFETY: the GIL is held; the type is live.
    unsafe {
        let (sequence, mapping) = ((*class).tp_as_sequence, (*class).tp_as_mapping);
        if !sequence.is_null() && (*item).is_none() {
            *item = (*sequence).sq_item;
            let _ = external::replace_function(class, external::ITEM, *item, our_item as usize);
        }
        if !mapping.is_null() && (*subscript).is_none() {
            *subscript = (*mapping).mp_subscript;
            let _ = external::replace_function(class, external::BY_KEY, *subscript, our_subscript as usize);
        }
    }
}

/// Puts the functions above in place, as far as their modules are loaded and they are not there yet.
unsafe fn replace_readers() {
    // SAFETY: the GIL is held; the types and the descriptor are live, and no Python code runs here.
    unsafe {
        let item = (&raw mut MEMORY_ITEM, memory_item as ssizeargfunc);
        replace_items(&raw mut PyMemoryView_Type, item, (&raw mut MEMORY_SUBSCRIPT, memory_subscript));
        if let Some(class) = external::class_by_name("mmap.mmap") {
            replace_items(class, (&raw mut MAP_ITEM, map_item), (&raw mut MAP_SUBSCRIPT, map_subscript));
        }
        let ctypes = loaded_module("_ctypes");
        if ctypes.is_null() {
            return;
        }
        let class = |name: &CStr| {
            let class = crate::python::attribute(ctypes, name);
            if class.is_null() || PyType_Check(class.0) == 0 { ptr::null_mut() } else { class.into_raw().cast() }
        };
        let array: *mut PyTypeObject = class(c"Array");
        if !array.is_null() {
            replace_items(array, (&raw mut ARRAY_ITEM, array_item), (&raw mut ARRAY_SUBSCRIPT, array_subscript));
        }
        let simple: *mut PyTypeObject = class(c"_SimpleCData");
        let is_there = &raw const VALUE;
        if !simple.is_null() && (*is_there).is_none() {
            let descriptor = PyDict_GetItemString(retrace_abi::retrace_type_dict(simple), c"value".as_ptr());
            if !descriptor.is_null() && Py_TYPE(descriptor) == &raw mut PyGetSetDescr_Type {
                let definition = (*descriptor.cast::<GetSetDescr>()).d_getset;
                VALUE = (*definition).get;
                (*definition).get = Some(value);
            }
        }
    }
}
