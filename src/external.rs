//! External types: their instances' C state belongs to the outside world. Recording hooks their methods, getters and
//! slots and logs the state that other code reads as memory (*mirrored state*); replaying makes *stand-ins*, real
//! instances of the real type whose C state is never initialised, and writes the mirrored state into them.

use crate::deaths;
use crate::gil::GilCell;
use crate::hook::{self, Hook, Original};
use crate::patch;
use crate::python::{Owned, SavedError};
use crate::trampoline;
use pyo3_ffi::*;
use retrace_abi::boundary::{Entry, Treatment, TypeTable};
use retrace_abi::{MemberDescr, WrapperDescr, special};
use retrace_replay::event::HookKind;
use rustc_hash::{FxHashMap, FxHashSet};
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

/// Indices of an external type's slot hooks.
pub const NEW: usize = 0;
pub const INIT: usize = 1;
pub const NEXT: usize = 2;
pub const REPR: usize = 3;
pub const CALL: usize = 4;
pub const HASH: usize = 5;
pub const COMPARE: usize = 6;
pub const STR: usize = 7;
pub const ITER: usize = 8;
pub const SUBSCRIPT: usize = 9;
pub const ASSIGN: usize = 10;
pub const LENGTH: usize = 11;
pub const SQ_LENGTH: usize = 12;
pub const SQ_ITEM: usize = 13;
pub const CONTAINS: usize = 14;
pub const BOOL: usize = 15;
const SLOTS: usize = 16;

pub struct ExternalType {
    pub class: *mut PyTypeObject,
    pub name: String,
    /// Mirrored scalars: (offset, length) in bytes.
    pub scalars: Vec<(usize, usize)>,
    /// Mirrored object members: offsets.
    pub objects: Vec<usize>,
    /// Mirrored members that are C strings: offsets.
    strings: Vec<usize>,
    /// `tp_dictoffset` where positive, else 0.
    pub dict_offset: usize,
    slots: [Option<&'static Hook>; SLOTS],
    quick_offset: u32,
    quick_mask: [u64; 2],
    dealloc: destructor,
    finalize: Option<destructor>,
    clear: Option<inquiry>,
    pub special: special::External,
}

// Written with the GIL held before a trampoline that reads it becomes reachable.
static TYPES: GilCell<Vec<&'static ExternalType>> = GilCell::new(Vec::new());
static BY_CLASS: GilCell<Option<FxHashMap<usize, &'static ExternalType>>> = GilCell::new(None);

#[inline(always)]
pub fn by_place(place: usize) -> &'static ExternalType {
    // SAFETY: a type's trampolines are installed after its entry was pushed; entries are never removed.
    unsafe { TYPES.get()[place] }
}

/// The external type that `class` is or derives from.
///
/// # Safety
/// `class` is a live type; the GIL is held.
pub unsafe fn of_class(class: *mut PyTypeObject) -> Option<&'static ExternalType> {
    // SAFETY: by contract.
    unsafe {
        let known = BY_CLASS.get().as_ref()?;
        let mut class = class;
        while !class.is_null() {
            if let Some(external) = known.get(&(class as usize)) {
                return Some(external);
            }
            class = (*class).tp_base;
        }
        None
    }
}

/// Whether the type's instances have stand-ins on replay.
///
/// # Safety
/// Called by the fingerprints; `class` is a live type; the GIL is held, or its mutex.
pub unsafe extern "C" fn has_stand_ins(class: *mut PyTypeObject) -> i32 {
    // SAFETY: by contract.
    i32::from(unsafe { of_class(class) }.is_some())
}

/// Bytes copied from an object before a call, to see afterwards what changed.
pub struct Snapshot {
    state: [u8; 192],
    len: usize,
    dict_version: u64,
    entries: [(usize, usize); 12],
    entry_count: usize,
}

impl ExternalType {
    /// Whether its finalizer issues a ResourceWarning, which is internal code.
    fn warns(&self) -> bool {
        self.finalize.is_some() && self.special.has_finalizer()
    }

    pub fn slot_hook(&self, slot: usize) -> &'static Hook {
        self.slots[slot].expect("the trampoline of a slot is installed only with its hook")
    }

    /// Whether the mirrored state is a few scalars side by side and no more, or nothing at all.
    pub fn is_quick(&self) -> bool {
        self.objects.is_empty()
            && self.strings.is_empty()
            && self.dict_offset == 0
            && (self.scalars.is_empty() || self.quick_offset != 0)
    }

    /// Where the mirrored state of such a type is: at an offset at which an instance has 16 bytes, and which of their
    /// bits are part of it. 0 where there is no mirrored state.
    pub fn quick_range(&self) -> (u32, [u64; 2]) {
        (self.quick_offset, self.quick_mask)
    }

    /// A snapshot made of those bits.
    pub fn snapshot_of(&self, quick: [u64; 2]) -> Snapshot {
        let mut snapshot = Snapshot { state: [0; 192], len: 0, dict_version: 0, entries: [(0, 0); 12], entry_count: 0 };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&quick[0].to_ne_bytes());
        bytes[8..].copy_from_slice(&quick[1].to_ne_bytes());
        for &(offset, length) in &self.scalars {
            let from = offset - self.quick_offset as usize;
            snapshot.state[snapshot.len..snapshot.len + length].copy_from_slice(&bytes[from..from + length]);
            snapshot.len += length;
        }
        snapshot
    }

    /// Scalars that lie side by side in 16 bytes can be read at once.
    fn find_quick_range(&mut self, basic_size: usize) {
        let Some(start) = self.scalars.iter().map(|s| s.0).min() else { return };
        let end = self.scalars.iter().map(|s| s.0 + s.1).max().unwrap_or(start);
        let length: usize = self.scalars.iter().map(|s| s.1).sum();
        if end - start == length
            && length <= 16
            && start + 16 <= basic_size
            && let Ok(offset) = u32::try_from(start)
        {
            // The first bytes in memory, whatever the byte order.
            let mask = |n: usize| if n == 0 { 0 } else { u64::MAX >> (64 - 8 * n) }.to_le();
            self.quick_offset = offset;
            self.quick_mask = [mask(length.min(8)), mask(length.saturating_sub(8))];
        }
    }

    /// Where an instance has what a snapshot copies: offsets and lengths.
    fn state_places(&self) -> impl Iterator<Item = (usize, usize)> {
        let pointers = self.objects.iter().chain(&self.strings).map(|&offset| (offset, size_of::<*mut PyObject>()));
        self.scalars.iter().copied().chain(pointers)
    }

    /// # Safety
    /// `object` is an instance; the GIL is held.
    unsafe fn raw_state(&self, object: *mut PyObject, into: &mut [u8; 192]) -> usize {
        let base = object.cast::<u8>();
        let mut n = 0;
        // SAFETY: the offsets are those of the type's own members.
        unsafe {
            for (offset, length) in self.state_places() {
                ptr::copy_nonoverlapping(base.add(offset), into.as_mut_ptr().add(n), length);
                n += length;
            }
        }
        n
    }

    unsafe fn dict(&self, object: *mut PyObject) -> *mut PyObject {
        if self.dict_offset == 0 {
            return ptr::null_mut();
        }
        // SAFETY: `tp_dictoffset` of the type.
        unsafe { *object.cast::<u8>().add(self.dict_offset).cast() }
    }

    /// # Safety
    /// `object` is an instance; the GIL is held.
    pub unsafe fn snapshot(&self, object: *mut PyObject) -> Snapshot {
        let mut snapshot = Snapshot { state: [0; 192], len: 0, dict_version: 0, entries: [(0, 0); 12], entry_count: 0 };
        // SAFETY: by contract.
        unsafe {
            snapshot.len = self.raw_state(object, &mut snapshot.state);
            let dict = self.dict(object);
            if !dict.is_null() {
                snapshot.dict_version = retrace_abi::retrace_dict_version(dict);
                let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
                while snapshot.entry_count < snapshot.entries.len()
                    && PyDict_Next(dict, &mut position, &mut key, &mut value) != 0
                {
                    snapshot.entries[snapshot.entry_count] = (key as usize, value as usize);
                    snapshot.entry_count += 1;
                }
            }
        }
        snapshot
    }

    /// What the snapshot has addresses of: the object members and the values of the `__dict__`, owned. While they are held, what
    /// the call puts into their places has other addresses.
    ///
    /// # Safety
    /// As [`ExternalType::snapshot`], which has just been taken.
    pub unsafe fn hold(&self, object: *mut PyObject, snapshot: &Snapshot) -> Vec<Owned> {
        if self.objects.is_empty() && snapshot.entry_count == 0 {
            return Vec::new();
        }
        // SAFETY: by contract: both are as they were copied.
        unsafe {
            let members = (0..self.objects.len()).map(|index| *self.member(object, index));
            let values = snapshot.entries[..snapshot.entry_count].iter().map(|entry| entry.1 as *mut PyObject);
            members.chain(values).filter(|member| !member.is_null()).map(|member| Owned::borrowed(member)).collect()
        }
    }

    /// Whether anything differs from the snapshot.
    ///
    /// # Safety
    /// As [`ExternalType::snapshot`].
    pub unsafe fn changed(&self, object: *mut PyObject, before: &Snapshot) -> bool {
        // SAFETY: by contract.
        unsafe { self.members_changed(object, before) || !self.dict_changes(object, before).is_empty() }
    }

    /// Whether scalars or object members differ from the snapshot.
    ///
    /// # Safety
    /// As [`ExternalType::snapshot`].
    pub unsafe fn members_changed(&self, object: *mut PyObject, before: &Snapshot) -> bool {
        if before.len == 0 {
            return false;
        }
        let base = object.cast::<u8>();
        let mut rest = &before.state[..before.len];
        self.state_places().any(|(offset, length)| {
            let (was, others) = rest.split_at(length);
            rest = others;
            // SAFETY: the offsets are those of the type's own members.
            was != unsafe { std::slice::from_raw_parts(base.add(offset), length) }
        })
    }

    /// Whether object member `index` is what it was at the snapshot.
    ///
    /// # Safety
    /// As [`ExternalType::snapshot`].
    pub unsafe fn is_unchanged(&self, object: *mut PyObject, index: usize, before: &Snapshot) -> bool {
        let scalars: usize = self.scalars.iter().map(|(_, length)| length).sum();
        let at = scalars + index * size_of::<*mut PyObject>();
        if index >= self.objects.len() || at + size_of::<*mut PyObject>() > before.len {
            return false;
        }
        // SAFETY: by contract.
        let now = unsafe { *self.member(object, index) } as usize;
        now != 0 && before.state[at..at + size_of::<usize>()] == now.to_ne_bytes()
    }

    /// The entries of the instance's `__dict__` that are new or have another value: (key, value), borrowed.
    ///
    /// # Safety
    /// As [`ExternalType::snapshot`].
    pub unsafe fn dict_changes(&self, object: *mut PyObject, before: &Snapshot) -> Vec<(*mut PyObject, *mut PyObject)> {
        let mut changes = Vec::new();
        // SAFETY: by contract.
        unsafe {
            let dict = self.dict(object);
            if dict.is_null() || retrace_abi::retrace_dict_version(dict) == before.dict_version {
                return changes;
            }
            let old = &before.entries[..before.entry_count];
            let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
            while PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
                if !old.contains(&(key as usize, value as usize)) {
                    changes.push((key, value));
                }
            }
        }
        changes
    }

    /// The receiver's object member that is `object` itself.
    ///
    /// # Safety
    /// As [`ExternalType::snapshot`].
    pub unsafe fn member_that_is(&self, receiver: *mut PyObject, object: *mut PyObject) -> Option<usize> {
        self.objects.iter().position(|&offset| {
            // SAFETY: an object member's offset.
            unsafe { *receiver.cast::<u8>().add(offset).cast::<*mut PyObject>() == object }
        })
    }

    /// # Safety
    /// As [`ExternalType::snapshot`]; `index` is below `objects.len()`.
    pub unsafe fn member(&self, receiver: *mut PyObject, index: usize) -> *mut *mut PyObject {
        // SAFETY: an object member's offset.
        unsafe { receiver.cast::<u8>().add(self.objects[index]).cast() }
    }

    /// How many members the trace holds as values: the object members, then the strings.
    pub fn member_count(&self) -> usize {
        self.objects.len() + self.strings.len()
    }

    /// Member `index` as a value: a new reference, or null.
    ///
    /// # Safety
    /// As [`ExternalType::snapshot`]; `index` is below `member_count()`.
    pub unsafe fn member_value(&self, receiver: *mut PyObject, index: usize) -> Owned {
        // SAFETY: by contract.
        unsafe {
            if index < self.objects.len() {
                return Owned::borrowed(*self.member(receiver, index));
            }
            let offset = self.strings[index - self.objects.len()];
            let text = *receiver.cast::<u8>().add(offset).cast::<*const std::ffi::c_char>();
            if text.is_null() {
                return Owned(ptr::null_mut());
            }
            let bytes = CStr::from_ptr(text).to_bytes();
            Owned(PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as Py_ssize_t))
        }
    }

    /// Writes member `index`, taking the reference. What it held before is given back.
    ///
    /// # Safety
    /// As [`ExternalType::member_value`], in a replay.
    pub unsafe fn write_member(&self, object: *mut PyObject, index: usize, value: Owned) {
        // SAFETY: by contract. A string's memory is never freed: its owner would be the C code that does not run.
        unsafe {
            if index < self.objects.len() {
                let before = ptr::replace(self.member(object, index), value.into_raw());
                Py_XDECREF(before);
                return;
            }
            let text = if value.is_null() || PyBytes_Check(value.0) == 0 {
                ptr::null_mut()
            } else {
                std::ffi::CString::new(crate::encode::bytes_of(value.0)).unwrap_or_default().into_raw()
            };
            let offset = self.strings[index - self.objects.len()];
            *object.cast::<u8>().add(offset).cast::<*mut std::ffi::c_char>() = text;
        }
    }

    /// # Safety
    /// As [`ExternalType::snapshot`].
    pub unsafe fn write_scalars(&self, object: *mut PyObject, bytes: &[u8]) -> bool {
        let size = self.scalars.iter().map(|s| s.1).sum::<usize>();
        if bytes.len() > size {
            return false;
        }
        let whole: Vec<u8> = bytes.iter().copied().chain(std::iter::repeat(0)).take(size).collect();
        let mut bytes = &whole[..];
        for &(offset, length) in &self.scalars {
            // SAFETY: a member's offset and length.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), object.cast::<u8>().add(offset), length) };
            bytes = &bytes[length..];
        }
        true
    }

    /// # Safety
    /// As [`ExternalType::snapshot`].
    pub unsafe fn read_scalars(&self, object: *mut PyObject, into: &mut Vec<u8>) {
        for &(offset, length) in &self.scalars {
            // SAFETY: a member's offset and length.
            into.extend_from_slice(unsafe { std::slice::from_raw_parts(object.cast::<u8>().add(offset), length) });
        }
    }

    /// The slot that holds the instance's `__dict__`, or null where instances have none of the type's own.
    ///
    /// # Safety
    /// As [`ExternalType::snapshot`].
    pub unsafe fn dict_slot(&self, object: *mut PyObject) -> *mut *mut PyObject {
        if self.dict_offset == 0 {
            return ptr::null_mut();
        }
        // SAFETY: `tp_dictoffset` of the type.
        unsafe { object.cast::<u8>().add(self.dict_offset).cast() }
    }
}

// ---- handles: the numbers by which the trace names external objects ----

static HANDLES: GilCell<Option<Handles>> = GilCell::new(None);

#[derive(Default)]
struct Handles {
    by_object: FxHashMap<usize, u32>,
    by_number: FxHashMap<u32, usize>,
    last: u32,
}

unsafe fn handles() -> &'static mut Handles {
    // SAFETY: only with the GIL held, and never kept across a call.
    unsafe { HANDLES.get().get_or_insert_with(Handles::default) }
}

/// The object's handle, if it has one.
///
/// # Safety
/// The GIL is held.
pub unsafe fn handle_of(object: *mut PyObject) -> Option<u32> {
    // SAFETY: by contract.
    unsafe { handles().by_object.get(&(object as usize)).copied() }
}

/// Gives the object the next handle.
///
/// # Safety
/// The GIL is held; the object has none.
pub unsafe fn new_handle(object: *mut PyObject) -> u32 {
    // SAFETY: by contract.
    unsafe {
        let number = handles().last + 1;
        bind_handle(object, number);
        number
    }
}

/// # Safety
/// The GIL is held.
pub unsafe fn bind_handle(object: *mut PyObject, number: u32) {
    // SAFETY: by contract.
    unsafe {
        let handles = handles();
        handles.last = handles.last.max(number);
        handles.by_object.insert(object as usize, number);
        handles.by_number.insert(number, object as usize);
    }
}

/// # Safety
/// The GIL is held.
pub unsafe fn object_of_handle(number: u32) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe { handles().by_number.get(&number).map_or(ptr::null_mut(), |&object| object as *mut PyObject) }
}

/// Objects that a callback was given before the call that made them was over.
static IN_THE_MAKING: GilCell<Vec<u32>> = GilCell::new(Vec::new());

/// # Safety
/// Recording; the GIL is held.
pub unsafe fn is_in_the_making(number: u32) {
    // SAFETY: by contract.
    unsafe { IN_THE_MAKING.get().push(number) };
}

/// Whether the object was in the making up to now, that a call returns it.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn is_finished(number: u32) -> bool {
    // SAFETY: by contract.
    let objects = unsafe { IN_THE_MAKING.get() };
    let before = objects.len();
    objects.retain(|&other| other != number);
    objects.len() != before
}

unsafe fn forget_handle(object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        crate::shared_memory::forget(object);
        crate::last_said::forget(object);
        let handles = handles();
        if let Some(number) = handles.by_object.remove(&(object as usize)) {
            handles.by_number.remove(&number);
            is_finished(number);
        }
        if let Some(objects) = kept().remove(&(object as usize)) {
            for object in objects {
                Py_DECREF(object);
            }
        }
    }
}

/// What C objects keep of what their methods returned, in both directions: strong references until the receiver dies.
static KEPT: GilCell<Option<FxHashMap<usize, Vec<*mut PyObject>>>> = GilCell::new(None);

unsafe fn kept() -> &'static mut FxHashMap<usize, Vec<*mut PyObject>> {
    // SAFETY: only with the GIL held, never kept across a call into Python.
    unsafe { KEPT.get().get_or_insert_with(FxHashMap::default) }
}

/// Whether a result just returned is referenced from elsewhere too, and is of a kind whose identity shows.
///
/// # Safety
/// `object` is live; the GIL is held.
pub unsafe fn may_be_kept(object: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        Py_REFCNT(object) > 1
            && (PyTuple_Check(object) != 0 && PyTuple_GET_SIZE(object) > 0
                || PyList_CheckExact(object) != 0
                || PyDict_CheckExact(object) != 0)
    }
}

/// # Safety
/// The GIL is held.
pub unsafe fn kept_index(receiver: *mut PyObject, object: *mut PyObject) -> Option<usize> {
    // SAFETY: by contract.
    unsafe { kept().get(&(receiver as usize))?.iter().position(|&kept| kept == object) }
}

/// # Safety
/// `object` is live; the GIL is held.
pub unsafe fn keep(receiver: *mut PyObject, object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        Py_INCREF(object);
        kept().entry(receiver as usize).or_default().push(object);
    }
}

/// The `index`-th object that `receiver` keeps, borrowed, or null.
///
/// # Safety
/// The GIL is held.
pub unsafe fn kept_object(receiver: *mut PyObject, index: usize) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let kept = kept().get(&(receiver as usize)).and_then(|objects| objects.get(index));
        kept.copied().unwrap_or(ptr::null_mut())
    }
}

/// Objects that the replay made and that C code never initialised.
static STAND_INS: GilCell<Option<FxHashSet<usize>>> = GilCell::new(None);

unsafe fn stand_ins() -> &'static mut FxHashSet<usize> {
    // SAFETY: only with the GIL held.
    unsafe { STAND_INS.get().get_or_insert_with(Default::default) }
}

/// # Safety
/// The GIL is held.
pub unsafe fn is_stand_in(object: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe { stand_ins().contains(&(object as usize)) }
}

/// A new stand-in of `class`: a new reference, or null with an exception.
///
/// # Safety
/// `class` is external; the GIL is held.
pub unsafe fn new_stand_in(class: *mut PyTypeObject, number: u32) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let allocate = (*class).tp_alloc.unwrap_or(PyType_GenericAlloc);
        let object = allocate(class, 0);
        if !object.is_null() {
            stand_ins().insert(object as usize);
            bind_handle(object, number);
        }
        object
    }
}

// ---- deallocation ----

static mut FREED: u64 = 0;

/// How many external objects have gone that may hold others. On replay theirs go alone.
///
/// # Safety
/// The GIL is held.
pub unsafe fn freed() -> u64 {
    // SAFETY: by contract.
    unsafe { FREED }
}

/// `tp_dealloc` of every external type.
///
/// # Safety
/// Called by CPython with the object's count at zero.
pub unsafe fn dealloc(external: &'static ExternalType, object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        if external.special == special::External::FileIO {
            // Works on mirrored state alone, and its `close()` is a hooked method: internal code in both directions.
            stand_ins().remove(&(object as usize));
            forget_handle(object);
            (external.dealloc)(object);
            return;
        }
        if !is_stand_in(object) {
            // The finalizer is internal code, the rest is not; what the rest calls is part of it.
            if external.warns() && PyObject_CallFinalizerFromDealloc(object) < 0 {
                return;
            }
            clear_weak_references(external, object);
            let has_number = handle_of(object).is_some();
            forget_handle(object);
            if PyType_IS_GC(external.class) != 0 {
                FREED += 1;
            }
            deaths::original(has_number, || (external.dealloc)(object));
            return;
        }
        if external.warns() && PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        clear_weak_references(external, object);
        stand_ins().remove(&(object as usize));
        forget_handle(object);
        deaths::stand_in();
        let base = external.class;
        let class = Py_TYPE(object);
        if PyType_IS_GC(base) != 0 && PyObject_GC_IsTracked(object) != 0 {
            PyObject_GC_UnTrack(object.cast());
        }
        crate::callback::replay_letting_go(|| {
            crate::binding::keeper_dies(object);
            let dict = external.dict_slot(object);
            if !dict.is_null() {
                let value = ptr::replace(dict, ptr::null_mut());
                Py_XDECREF(value);
            }
            for index in 0..external.objects.len() {
                let value = ptr::replace(external.member(object, index), ptr::null_mut());
                Py_XDECREF(value);
            }
        });
        deaths::dropped();
        if let Some(free) = (*class).tp_free {
            free(object.cast());
        }
        // A subclass's own dealloc gives its type back itself; the base gives back only its own (heap) type.
        if (*base).tp_flags & Py_TPFLAGS_HEAPTYPE != 0 {
            Py_DECREF(class.cast());
        }
    }
}

/// Clears the weak references to an object that is going, before its own C code would: their callbacks are internal code.
unsafe fn clear_weak_references(external: &ExternalType, object: *mut PyObject) {
    // SAFETY: by the contract of `dealloc`; the collector does not see an object that callbacks may not find any more.
    unsafe {
        let offset = (*external.class).tp_weaklistoffset;
        if offset <= 0 || (*object.cast::<u8>().offset(offset).cast::<*mut PyObject>()).is_null() {
            return;
        }
        // Inside of a call they are the call's callbacks.
        if !is_stand_in(object) && (!crate::session::is_active() || crate::thread::current().external.get()) {
            return;
        }
        let is_tracked = PyType_IS_GC(external.class) != 0 && PyObject_GC_IsTracked(object) != 0;
        if is_tracked {
            PyObject_GC_UnTrack(object.cast());
        }
        PyObject_ClearWeakRefs(object);
        if is_tracked {
            PyObject_GC_Track(object.cast());
        }
    }
}

/// `tp_clear` of every external type that has one: its C code may let other threads go on, as that of its `tp_dealloc` may.
unsafe extern "C" fn clear(object: *mut PyObject) -> c_int {
    // SAFETY: called by CPython with an instance, in the place of the type's own.
    unsafe {
        match of_class(Py_TYPE(object)).and_then(|external| external.clear) {
            Some(original) => deaths::clearing(|| original(object)),
            None => 0,
        }
    }
}

/// `tp_finalize` of external types that have one of their own: a ResourceWarning where something is still open, then the
/// closing, which is external. The collector calls it by itself, before anything is deallocated.
///
/// The warning runs Python code, so it is issued by us, as internal code, in both directions; the event says that it
/// was, because on replay the stand-in's C state can't.
///
/// # Safety
/// Called by CPython; the GIL is held.
pub unsafe fn finalize(external: &'static ExternalType, object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let Some(original) = external.finalize else { return };
        let thread = crate::thread::current();
        if !crate::session::is_active() || thread.external.get() {
            if !is_stand_in(object) {
                original(object);
            }
            return;
        }
        let open = if !external.warns() {
            false
        } else if crate::session::is_replaying() {
            crate::replay::finalizer_was_open(object)
        } else {
            let open = external.special.is_open(object);
            if open {
                crate::record::finalizer_open(object);
            }
            open
        };
        if open {
            let saved = SavedError::take();
            if PyErr_ResourceWarning(object, 1, external.special.warning().as_ptr(), object) < 0 {
                if PyErr_ExceptionMatches(PyExc_Warning) != 0 {
                    PyErr_WriteUnraisable(object);
                }
                PyErr_Clear();
            }
            drop(saved);
        }
        if is_stand_in(object) {
            deaths::stand_in();
            return deaths::dropped();
        }
        deaths::original(handle_of(object).is_some(), || {
            let saved = SavedError::take();
            if open {
                // Closed by its own method first, so that the original does not warn a second time.
                crate::special::call_own(external.class, c"close", &[object]);
            }
            original(object);
            drop(saved);
        });
    }
}

// ---- hooking a type ----

/// What a method, getter or slot of an external type is unless its table says otherwise; and of an internal one.
static RECORD: Entry = Entry::new("", Treatment::Record);
static PASS: Entry = Entry::new("", Treatment::Pass);

fn entry_for(table: &'static TypeTable, name: &str) -> &'static Entry {
    let default = if table.default_method() == Treatment::Record { &RECORD } else { &PASS };
    table.method(name, retrace_abi::MINOR).unwrap_or(default)
}

/// An external type by its `tp_name`.
///
/// # Safety
/// The GIL is held.
pub unsafe fn class_by_name(name: &str) -> Option<*mut PyTypeObject> {
    // SAFETY: by contract.
    unsafe {
        let alive = BY_CLASS.get().as_ref()?;
        let class_of = |external: &&'static ExternalType| (external.name == name).then_some(external.class);
        TYPES.get().iter().filter_map(class_of).find(|class| alive.contains_key(&(*class as usize)))
    }
}

/// `tp_dealloc` of `type`, as it was.
static TYPE_DEALLOC: GilCell<Option<destructor>> = GilCell::new(None);

/// Takes care that no other class is ever found at the address of an external one that has gone. A class is not kept for
/// that: it has its module, whose state may have what the program's own globals hang on (sqlite3's converters), and those
/// would miss their end. Only a class whose metaclass has a way of its own to free it is kept.
unsafe fn keep_or_watch(class: *mut PyTypeObject) {
    // SAFETY: by the contract of `hook_external_type`.
    unsafe {
        let metaclass = &raw mut PyType_Type;
        if Py_TYPE(class.cast()) != metaclass {
            return Py_INCREF(class.cast());
        }
        let known = TYPE_DEALLOC.get();
        if known.is_none() {
            *known = (*metaclass).tp_dealloc;
            (*metaclass).tp_dealloc = Some(class_dealloc);
        }
    }
}

unsafe extern "C" fn class_dealloc(class: *mut PyObject) {
    // SAFETY: called by CPython with a class that nothing refers to, in the place of `type`'s own.
    unsafe {
        if let Some(known) = BY_CLASS.get()
            && known.remove(&(class as usize)).is_some()
        {
            crate::shown::forget(class as usize);
        }
        if let Some(original) = *TYPE_DEALLOC.get() {
            original(class);
        }
    }
}

/// Makes `class` external: hooks its methods, getters and slots in place.
///
/// # Safety
/// `class` is a ready C type; the GIL is held.
pub unsafe fn hook_external_type(class: *mut PyTypeObject, table: &'static TypeTable) -> Result<(), patch::Refused> {
    // SAFETY: by contract.
    unsafe {
        if BY_CLASS.get().as_ref().is_some_and(|known| known.contains_key(&(class as usize))) {
            return Ok(());
        }
        let mut external = new_entry(class)?;
        collect_members(&mut external);
        external.find_quick_range(usize::try_from((*class).tp_basicsize).unwrap_or(0));
        let (entry, place) = add(external);
        BY_CLASS.get().get_or_insert_with(FxHashMap::default).insert(class as usize, &*entry);
        keep_or_watch(class);
        hook_slots(&mut *entry, place, table)?;
        hook_attributes(Some(&*entry), class, &(*entry).name, table)
    }
}

/// What is known of a type whose slots are hooked, but for its mirrored state.
unsafe fn new_entry(class: *mut PyTypeObject) -> Result<Box<ExternalType>, patch::Refused> {
    // SAFETY: by the contract of `hook_external_type`.
    unsafe {
        hook::room_for(SLOTS)?;
        if TYPES.get().len() == trampoline::TYPES {
            return Err(patch::Refused::PoolEmpty);
        }
        let name = CStr::from_ptr((*class).tp_name).to_string_lossy().into_owned();
        let special = special::External::of(&name);
        let Some(dealloc) = (*class).tp_dealloc else { return Err(patch::Refused::Address) };
        let inherited = (*class).tp_base;
        let finalize = (*class)
            .tp_finalize
            .filter(|f| inherited.is_null() || (*inherited).tp_finalize.is_none_or(|g| *f as usize != g as usize));
        Ok(Box::new(ExternalType {
            class,
            name,
            scalars: Vec::new(),
            objects: Vec::new(),
            strings: Vec::new(),
            dict_offset: usize::try_from((*class).tp_dictoffset).unwrap_or(0),
            slots: [None; SLOTS],
            quick_offset: 0,
            quick_mask: [0; 2],
            dealloc,
            finalize,
            clear: match (*class).tp_clear {
                Some(inherited_too) if inherited_too as usize == clear as *const () as usize => {
                    of_class(inherited).and_then(|external| external.clear)
                }
                own => own,
            },
            special,
        }))
    }
}

/// Gives an entry its place among the trampolines.
unsafe fn add(entry: Box<ExternalType>) -> (*mut ExternalType, usize) {
    // From here on the entry is only read: a raw pointer, so that the shared references are derived from it.
    let entry = Box::into_raw(entry);
    // SAFETY: by the contract of `hook_external_type`; entries are never freed.
    unsafe {
        let types = TYPES.get();
        types.push(&*entry);
        (entry, types.len() - 1)
    }
}

/// Hooks the methods of an internal type that reach outside (`datetime.now`), and such slots (`_random.Random()`).
///
/// # Safety
/// As [`hook_external_type`].
pub unsafe fn hook_internal_type(class: *mut PyTypeObject, table: &'static TypeTable) -> Result<(), patch::Refused> {
    // SAFETY: by contract.
    unsafe {
        let name = CStr::from_ptr((*class).tp_name).to_string_lossy().into_owned();
        if table.has_slots() {
            let (entry, place) = add(new_entry(class)?);
            hook_slots(&mut *entry, place, table)?;
        }
        hook_attributes(None, class, &name, table)
    }
}

#[allow(non_upper_case_globals, reason = "CPython's names")]
unsafe fn collect_members(external: &mut ExternalType) {
    // SAFETY: by the contract of `hook_external_type`.
    unsafe {
        if let Some(scalars) = external.special.scalars() {
            external.scalars.extend_from_slice(scalars);
            return;
        }
        let dict = retrace_abi::retrace_type_dict(external.class);
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
            if Py_TYPE(value) != &raw mut PyMemberDescr_Type {
                continue;
            }
            let member = (*value.cast::<MemberDescr>()).d_member;
            let offset = (*member).offset as usize;
            let length = match (*member).type_code {
                Py_T_OBJECT | Py_T_OBJECT_EX => {
                    external.objects.push(offset);
                    continue;
                }
                Py_T_STRING => {
                    external.strings.push(offset);
                    continue;
                }
                Py_T_INT | Py_T_UINT | Py_T_FLOAT => 4,
                Py_T_BOOL | Py_T_CHAR | Py_T_BYTE | Py_T_UBYTE => 1,
                Py_T_SHORT | Py_T_USHORT => 2,
                _ => 8,
            };
            external.scalars.push((offset, length));
        }
    }
}

/// `_Py_T_OBJECT` (Include/descrobject.h).
#[allow(non_upper_case_globals, reason = "CPython's name")]
const Py_T_OBJECT: i32 = 6;

unsafe fn hook_slots(
    external: &'static mut ExternalType,
    place: usize,
    table: &'static TypeTable,
) -> Result<(), patch::Refused> {
    // SAFETY: by the contract of `hook_external_type`.
    unsafe {
        let class = external.class;
        let base = (*class).tp_base;
        let this: *mut ExternalType = external;
        // An internal type's instances have no state of the outside.
        let owner = of_class(class).filter(|owner| owner.class == class);
        let mut wrapped: Vec<(usize, usize)> = Vec::new();
        macro_rules! slot {
            ($place:expr, $field:ident, $index:expr, $kind:expr, $original:expr, $table:ident) => {{
                let place_in = $place;
                // A slot of the type itself, not one that it inherited.
                let value = |class: *mut PyTypeObject| if class.is_null() { None } else { read_slot(class, place_in) };
                if let Some(function) = value(class)
                    && value(base) != Some(function)
                    && !trampoline::$table.iter().any(|ours| *ours as usize == function)
                {
                    let entry = entry_for(table, stringify!($field));
                    if entry.treatment == Treatment::Record && !GENERIC.iter().any(|g| g() == function) {
                        let name = format!("{}.{}", (*this).name, stringify!($field));
                        let original = $original(std::mem::transmute_copy(&function));
                        (*this).slots[$index] = Some(hook::make(name, $kind, original, entry, owner));
                        let replacement = trampoline::$table[place] as usize;
                        replace_slot(class, place_in, function, replacement)?;
                        wrapped.push((function, replacement));
                    }
                }
            }};
        }
        macro_rules! direct {
            ($field:ident) => {
                SlotPlace { suite: None, offset: std::mem::offset_of!(PyTypeObject, $field) }
            };
        }
        macro_rules! within {
            ($suite:ident, $type:ident, $field:ident) => {
                SlotPlace {
                    suite: Some(std::mem::offset_of!(PyTypeObject, $suite)),
                    offset: std::mem::offset_of!($type, $field),
                }
            };
        }
        slot!(direct!(tp_new), tp_new, NEW, HookKind::New, Original::New, NEW);
        slot!(direct!(tp_init), tp_init, INIT, HookKind::Init, Original::Init, INIT);
        slot!(direct!(tp_iternext), tp_iternext, NEXT, HookKind::IterNext, Original::Next, NEXT);
        slot!(direct!(tp_repr), tp_repr, REPR, HookKind::Repr, Original::Repr, REPR);
        slot!(direct!(tp_call), tp_call, CALL, HookKind::Call, Original::Call, CALL);
        slot!(direct!(tp_hash), tp_hash, HASH, HookKind::Slot, Original::Hash, HASH);
        slot!(direct!(tp_richcompare), tp_richcompare, COMPARE, HookKind::Slot, Original::Compare, COMPARE);
        slot!(direct!(tp_str), tp_str, STR, HookKind::Slot, Original::Repr, STR);
        slot!(direct!(tp_iter), tp_iter, ITER, HookKind::Slot, Original::Repr, ITER);
        let subscript = within!(tp_as_mapping, PyMappingMethods, mp_subscript);
        slot!(subscript, mp_subscript, SUBSCRIPT, HookKind::Slot, Original::Subscript, SUBSCRIPT);
        let assign = within!(tp_as_mapping, PyMappingMethods, mp_ass_subscript);
        slot!(assign, mp_ass_subscript, ASSIGN, HookKind::Slot, Original::Assign, ASSIGN);
        let length = within!(tp_as_mapping, PyMappingMethods, mp_length);
        slot!(length, mp_length, LENGTH, HookKind::Slot, Original::Length, LENGTH);
        let length = within!(tp_as_sequence, PySequenceMethods, sq_length);
        slot!(length, sq_length, SQ_LENGTH, HookKind::Slot, Original::Length, SQ_LENGTH);
        let item = within!(tp_as_sequence, PySequenceMethods, sq_item);
        slot!(item, sq_item, SQ_ITEM, HookKind::Slot, Original::Item, SQ_ITEM);
        let contains = within!(tp_as_sequence, PySequenceMethods, sq_contains);
        slot!(contains, sq_contains, CONTAINS, HookKind::Slot, Original::Contains, CONTAINS);
        let truth = within!(tp_as_number, PyNumberMethods, nb_bool);
        slot!(truth, nb_bool, BOOL, HookKind::Slot, Original::Bool, BOOL);
        if owner.is_some() {
            replace_slot(class, direct!(tp_dealloc), (*this).dealloc as usize, trampoline::DEALLOC[place] as usize)?;
            replace_function(class, CLEAR, (*this).clear, clear as *const () as usize)?;
            if let Some(function) = (*this).finalize {
                let replacement = trampoline::FINALIZE[place] as usize;
                replace_slot(class, direct!(tp_finalize), function as usize, replacement)?;
                wrapped.push((function as usize, replacement));
            }
        }
        // What `super().__init__` calls.
        let dict = retrace_abi::retrace_type_dict(class);
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
            if Py_TYPE(value) == &raw mut PyWrapperDescr_Type {
                let descriptor = value.cast::<WrapperDescr>();
                if let Some(&(_, replacement)) = wrapped.iter().find(|w| w.0 == (*descriptor).d_wrapped as usize) {
                    patch::write(&raw mut (*descriptor).d_wrapped, replacement as *mut c_void)?;
                }
            }
        }
        PyType_Modified(class);
        Ok(())
    }
}

/// Where a slot is: in the type, or in one of its suites (`tp_as_mapping`).
#[derive(Clone, Copy)]
pub struct SlotPlace {
    suite: Option<usize>,
    offset: usize,
}

/// The slots by which an object's items are read.
pub const ITEM: SlotPlace = SlotPlace {
    suite: Some(std::mem::offset_of!(PyTypeObject, tp_as_sequence)),
    offset: std::mem::offset_of!(PySequenceMethods, sq_item),
};
pub const BY_KEY: SlotPlace = SlotPlace {
    suite: Some(std::mem::offset_of!(PyTypeObject, tp_as_mapping)),
    offset: std::mem::offset_of!(PyMappingMethods, mp_subscript),
};

/// Those by which it shows the collector what it refers to, and lets go of it.
pub const TRAVERSE: SlotPlace = SlotPlace { suite: None, offset: std::mem::offset_of!(PyTypeObject, tp_traverse) };
pub const CLEAR: SlotPlace = SlotPlace { suite: None, offset: std::mem::offset_of!(PyTypeObject, tp_clear) };

/// Replaces a slot that is no hook's, where the type has `original` there.
///
/// # Safety
/// The GIL is held; `class` is live; `original` is a function, as `replacement` is, of the slot's type.
pub unsafe fn replace_function<F: Copy>(
    class: *mut PyTypeObject,
    place: SlotPlace,
    original: Option<F>,
    replacement: usize,
) -> Result<(), patch::Refused> {
    // SAFETY: by contract.
    unsafe {
        let Some(original) = original else { return Ok(()) };
        replace_slot(class, place, std::mem::transmute_copy(&original), replacement)
    }
}

/// Slot functions that do nothing to the instance's C state.
const GENERIC: [fn() -> usize; 2] =
    [|| PyObject_SelfIter as *const () as usize, || PyObject_HashNotImplemented as *const () as usize];

unsafe fn slot_pointer(class: *mut PyTypeObject, place: SlotPlace) -> *mut *mut c_void {
    // SAFETY: the offsets are those of PyTypeObject and of the suite's structure.
    unsafe {
        let mut base = class.cast::<u8>();
        if let Some(suite) = place.suite {
            base = *base.add(suite).cast::<*mut u8>();
            if base.is_null() {
                return ptr::null_mut();
            }
        }
        base.add(place.offset).cast()
    }
}

unsafe fn read_slot(class: *mut PyTypeObject, place: SlotPlace) -> Option<usize> {
    // SAFETY: as above.
    unsafe {
        let slot = slot_pointer(class, place);
        if slot.is_null() || (*slot).is_null() { None } else { Some(*slot as usize) }
    }
}

/// Replaces a slot in the type and in every existing subclass that inherited the pointer; later ones inherit ours.
unsafe fn replace_slot(
    class: *mut PyTypeObject,
    place: SlotPlace,
    original: usize,
    replacement: usize,
) -> Result<(), patch::Refused> {
    // SAFETY: by the contract of `hook_external_type`.
    unsafe {
        if read_slot(class, place) != Some(original) {
            return Ok(());
        }
        patch::write(slot_pointer(class, place), replacement as *mut c_void)?;
        let subclasses = Owned(PyObject_CallMethod(
            (&raw mut PyType_Type).cast(),
            c"__subclasses__".as_ptr(),
            c"O".as_ptr(),
            class.cast::<PyObject>(),
        ));
        if subclasses.is_null() {
            PyErr_Clear();
            return Ok(());
        }
        for i in 0..PyList_GET_SIZE(subclasses.0) {
            replace_slot(PyList_GET_ITEM(subclasses.0, i).cast(), place, original, replacement)?;
        }
        Ok(())
    }
}

unsafe fn hook_attributes(
    external: Option<&'static ExternalType>,
    class: *mut PyTypeObject,
    type_name: &str,
    table: &'static TypeTable,
) -> Result<(), patch::Refused> {
    // SAFETY: by the contract of `hook_external_type`; items are taken as a list because hooking may not change the
    // dictionary while it is walked.
    unsafe {
        let items = Owned(PyDict_Items(retrace_abi::retrace_type_dict(class)));
        if items.is_null() {
            PyErr_Clear();
            return Err(patch::Refused::Address);
        }
        for i in 0..PyList_GET_SIZE(items.0) {
            let item = PyList_GET_ITEM(items.0, i);
            let name = crate::python::text(PyTuple_GET_ITEM(item, 0));
            let descriptor = PyTuple_GET_ITEM(item, 1);
            let entry = match table.method(&name, retrace_abi::MINOR) {
                None if NEVER.contains(&name.as_str()) => continue,
                _ => entry_for(table, &name),
            };
            if entry.treatment != Treatment::Record {
                continue;
            }
            let full_name = format!("{type_name}.{name}");
            let kind = Py_TYPE(descriptor);
            if kind == &raw mut PyMethodDescr_Type {
                hook::hook_method(descriptor, full_name, HookKind::Method, entry, external)?;
            } else if kind == &raw mut PyClassMethodDescr_Type {
                hook::hook_method(descriptor, full_name, HookKind::ClassMethod, entry, None)?;
            } else if kind == &raw mut PyGetSetDescr_Type {
                hook::hook_getset(descriptor, &full_name, entry, external)?;
            }
        }
        Ok(())
    }
}

/// Attributes of an external type that have nothing to do with its C state.
const NEVER: [&str; 7] =
    ["__dict__", "__weakref__", "__class_getitem__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"];
