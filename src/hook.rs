//! Hooks: what replaces a callable's pointer, and how they are put in place.
//!
//! Nothing that the program can see is replaced. A function's `m_ml` (a method's `d_method`) is pointed at our copy of
//! its `PyMethodDef`, which differs in `ml_meth` alone; a getter's `d_getset` at our copy of its `PyGetSetDef`.

use crate::external::ExternalType;
use crate::gil::GilCell;
use crate::patch;
use crate::trampoline;
use pyo3_ffi::*;
use retrace_abi::boundary::Entry;
use retrace_abi::{CFunction, GetSetDescr, MethodDescr};
use retrace_replay::event::{HookKind, code};
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Convention {
    Noargs,
    One,
    Fastcall,
    FastcallKeywords,
    Method,
    Varargs,
    VarargsKeywords,
}

impl Convention {
    fn of(flags: c_int) -> Option<Convention> {
        let kind = METH_VARARGS | METH_FASTCALL | METH_NOARGS | METH_O | METH_KEYWORDS | METH_METHOD;
        Some(match flags & kind {
            METH_NOARGS => Convention::Noargs,
            METH_O => Convention::One,
            METH_FASTCALL => Convention::Fastcall,
            f if f == METH_FASTCALL | METH_KEYWORDS => Convention::FastcallKeywords,
            f if f == METH_METHOD | METH_FASTCALL | METH_KEYWORDS => Convention::Method,
            METH_VARARGS => Convention::Varargs,
            f if f == METH_VARARGS | METH_KEYWORDS => Convention::VarargsKeywords,
            _ => return None,
        })
    }
}

/// What a hook calls to reach the outside world.
#[derive(Clone, Copy)]
pub enum Original {
    Method {
        def: *mut PyMethodDef,
        convention: Convention,
    },
    Getter {
        function: getter,
        closure: *mut c_void,
    },
    Setter {
        function: setter,
        closure: *mut c_void,
    },
    New(newfunc),
    Init(initproc),
    Next(iternextfunc),
    Repr(reprfunc),
    Call(ternaryfunc),
    /// The Python function that is the receiver: `crate::external_function`.
    Function,
    Hash(hashfunc),
    Compare(richcmpfunc),
    Subscript(binaryfunc),
    Assign(objobjargproc),
    Length(lenfunc),
    Item(ssizeargfunc),
    Contains(objobjproc),
    Bool(inquiry),
    /// A function of the C library's, which `crate::libc_calls` calls.
    Library,
}

/// How a call is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Way {
    General,
    /// `quick::record` is tried, by `record::call`.
    Quick,
    /// The same, by the function that the trampoline jumps to; no mirrored state can change.
    Direct,
}

/// Never freed: CPython may call through it as long as the process lives.
#[repr(C, align(64))]
pub struct Hook {
    // What the quick way reads comes first: it shares a cache line.
    /// The original, where it is direct.
    pub function: PyMethodDefPointer,
    pub index: u16,
    pub way: Cell<Way>,
    /// The arguments are not logged.
    pub blind: bool,
    /// Where the receiver's few scalars lie, and which bytes there are theirs; 0 where there are none.
    state_offset: u32,
    state_mask: [u64; 2],
    def: PyMethodDef,
    pub original: Original,
    pub kind: HookKind,
    /// `module.name` or `module.type.name`, as the trace names it.
    pub name: String,
    pub entry: &'static Entry,
    /// The type whose instances are receivers, where that type is external.
    pub external: Option<&'static ExternalType>,
    /// The same, where the receiver is an instance of it: its mirrored state may change.
    pub mirrored: Option<&'static ExternalType>,
}

/// Every hook by index. Grows with the GIL held.
static HOOKS: GilCell<Vec<&'static Hook>> = GilCell::new(Vec::new());
/// Indices from here on have not been announced in the trace.
static mut ANNOUNCED: usize = 0;

/// All hooks, by index.
///
/// # Safety
/// The GIL is held.
pub unsafe fn all() -> &'static [&'static Hook] {
    // SAFETY: the GIL orders accesses; elements are never removed.
    unsafe { HOOKS.get().as_slice() }
}

/// The hooks made since the last call: `(first index, hooks)`.
///
/// # Safety
/// The GIL is held.
pub unsafe fn take_unannounced() -> (usize, &'static [&'static Hook]) {
    // SAFETY: as in `all`.
    unsafe {
        let first = ANNOUNCED;
        ANNOUNCED = all().len();
        (first, &all()[first..])
    }
}

/// Whether that many more hooks can be numbered: an event has twelve bits for the number, less the other events' codes.
///
/// # Safety
/// The GIL is held.
pub unsafe fn room_for(more: usize) -> Result<(), patch::Refused> {
    // SAFETY: by contract.
    let used = unsafe { all() }.len();
    if used + more <= usize::from(code::START) { Ok(()) } else { Err(patch::Refused::PoolEmpty) }
}

/// What the boundary says of the C library's functions.
static OF_LIBRARY: Entry = Entry::new("", retrace_abi::boundary::Treatment::Libc);

/// Makes the hook of a function of the C library's, or of something that is logged like one.
///
/// # Safety
/// As [`make`].
pub unsafe fn of_library(name: impl Into<String>) -> &'static mut Hook {
    // SAFETY: by contract.
    unsafe { make(name.into(), HookKind::Library, Original::Library, &OF_LIBRARY, None) }
}

/// Makes a hook and gives it the next index.
///
/// # Safety
/// The GIL is held.
#[expect(clippy::mut_from_ref, reason = "the hook is new; the entry is another object")]
pub unsafe fn make(
    name: String,
    kind: HookKind,
    original: Original,
    entry: &'static Entry,
    external: Option<&'static ExternalType>,
) -> &'static mut Hook {
    // SAFETY: as in `all`; the reference is unique until the hook is published.
    unsafe {
        let hooks = HOOKS.get();
        let mirrored = match kind {
            HookKind::New | HookKind::ClassMethod | HookKind::Function => None,
            _ => external,
        };
        let quick = is_quick(entry)
            && external.is_none_or(ExternalType::is_quick)
            && has_no_special(kind, entry)
            && !matches!(original, Original::Function);
        let mut def = PyMethodDef::zeroed();
        let mut way = if quick { Way::Quick } else { Way::General };
        if let Original::Method { def: original, convention } = original {
            def = ptr::read(original);
            if quick && is_direct(convention) && (mirrored.is_none() || entry.steady) {
                way = Way::Direct;
            }
        }
        let (state_offset, state_mask) = match mirrored {
            Some(external) if quick => external.quick_range(),
            _ => (0, [0; 2]),
        };
        let hook = Box::into_raw(Box::new(Hook {
            function: def.ml_meth,
            index: hooks.len() as u16,
            way: Cell::new(if GENERAL { Way::General } else { way }),
            blind: entry.address,
            state_offset,
            state_mask,
            def,
            original,
            kind,
            name,
            entry,
            external,
            mirrored,
        }));
        hooks.push(&*hook);
        &mut *hook
    }
}

/// Set where every call is recorded the general way, which looks at what others wrote into shared memory.
static mut GENERAL: bool = false;

/// Has every call recorded the general way from now on.
///
/// # Safety
/// The GIL is held.
pub unsafe fn record_generally() {
    // SAFETY: by contract.
    unsafe {
        if !GENERAL {
            GENERAL = true;
            all().iter().for_each(|hook| hook.way.set(Way::General));
        }
    }
}

/// Nothing to do but to log arguments and result; what happens to descriptors is replay's business.
fn is_quick(entry: &Entry) -> bool {
    use retrace_abi::boundary::{Convert, Environment, Treatment};
    let special = entry.out
        || entry.last
        || entry.fork
        || entry.seed
        || entry.keeps
        || entry.unseen
        || entry.namespace
        || entry.terminal
        || entry.zone
        || entry.departs;
    // A hook that only watches is not recorded at all.
    !special
        && entry.convert == Convert::None
        && entry.environment == Environment::None
        && entry.treatment == Treatment::Record
}

/// Slots that make objects have their own rules.
fn has_no_special(kind: HookKind, entry: &Entry) -> bool {
    matches!(kind, HookKind::Function | HookKind::Method | HookKind::Getter)
        && entry.name != "close"
        && !entry.evaluator
}

/// Conventions for which `cross` has a function that calls the original itself.
fn is_direct(convention: Convention) -> bool {
    match convention {
        Convention::Noargs | Convention::One | Convention::Fastcall | Convention::Varargs => true,
        Convention::FastcallKeywords | Convention::Method | Convention::VarargsKeywords => false,
    }
}

impl Hook {
    /// The receiver's few scalars.
    ///
    /// # Safety
    /// `receiver` is a call's receiver; the GIL is held.
    #[inline(always)]
    pub unsafe fn state(&self, receiver: *mut PyObject) -> [u64; 2] {
        // Without a branch: where there is no state, any 16 bytes will do.
        let base = if self.state_offset == 0 { ptr::from_ref(self).cast() } else { receiver.cast_const().cast::<u8>() };
        // SAFETY: by contract; the external type saw that its instances have 16 bytes from there on.
        unsafe {
            let words = base.add(self.state_offset as usize).cast::<u64>();
            let [first, second] = self.state_mask;
            [words.read_unaligned() & first, words.add(1).read_unaligned() & second]
        }
    }

    /// Our copy of the definition, calling the trampoline. `None` when the pool of its convention is used up: the
    /// callable then stays as it is, and the caller says so.
    unsafe fn copy_definition(&mut self, def: *mut PyMethodDef, convention: Convention) -> Option<*mut PyMethodDef> {
        // SAFETY: `def` is the live definition of a hooked callable, of which `make` took the copy.
        unsafe {
            self.def.ml_meth = trampoline::claim(convention, self)?;
            retrace_abi::identity::retrace_identity_alias(&mut self.def, def);
        }
        Some(&raw mut self.def)
    }
}

/// Hooks a builtin function object in place.
///
/// # Safety
/// `function` is a builtin function or method object; the GIL is held.
pub unsafe fn hook_function(
    function: *mut PyObject,
    name: String,
    entry: &'static Entry,
) -> Result<(), patch::Refused> {
    // SAFETY: by contract.
    unsafe {
        let place = &raw mut (*function.cast::<CFunction>()).m_ml;
        hook_definition(place, name, HookKind::Function, entry, None)
    }
}

/// Hooks a method or class method descriptor in place.
///
/// # Safety
/// `descriptor` is a method descriptor (or class method descriptor, told by `kind`); the GIL is held.
pub unsafe fn hook_method(
    descriptor: *mut PyObject,
    name: String,
    kind: HookKind,
    entry: &'static Entry,
    external: Option<&'static ExternalType>,
) -> Result<(), patch::Refused> {
    // SAFETY: by contract.
    unsafe {
        let place = &raw mut (*descriptor.cast::<MethodDescr>()).d_method;
        hook_definition(place, name, kind, entry, external)
    }
}

/// Hooks the callable whose definition `place` points at.
unsafe fn hook_definition(
    place: *mut *mut PyMethodDef,
    name: String,
    kind: HookKind,
    entry: &'static Entry,
    external: Option<&'static ExternalType>,
) -> Result<(), patch::Refused> {
    // SAFETY: `place` is a live callable's; the GIL is held.
    unsafe {
        let def = *place;
        if is_ours(def) {
            return Ok(());
        }
        let convention = Convention::of((*def).ml_flags).ok_or(patch::Refused::Convention)?;
        room_for(1)?;
        let hook = make(name, kind, Original::Method { def, convention }, entry, external);
        let copy = hook.copy_definition(def, convention).ok_or(patch::Refused::PoolEmpty)?;
        patch::write(place, copy)
    }
}

/// Hooks a getter and setter in place.
///
/// # Safety
/// `descriptor` is a getset descriptor; the GIL is held.
pub unsafe fn hook_getset(
    descriptor: *mut PyObject,
    name: &str,
    entry: &'static Entry,
    external: Option<&'static ExternalType>,
) -> Result<(), patch::Refused> {
    // SAFETY: by contract.
    unsafe {
        let descriptor = descriptor.cast::<GetSetDescr>();
        let def = (*descriptor).d_getset;
        room_for(2)?;
        let pair: &'static mut [*const Hook; 2] = Box::leak(Box::new([ptr::null(); 2]));
        let copy: &'static mut PyGetSetDef = Box::leak(Box::new(ptr::read(def)));
        copy.closure = pair.as_mut_ptr().cast();
        if let Some(function) = (*def).get {
            let original = Original::Getter { function, closure: (*def).closure };
            pair[0] = make(name.to_owned(), HookKind::Getter, original, entry, external);
            copy.get = Some(trampoline::getter);
        }
        if let Some(function) = (*def).set {
            let original = Original::Setter { function, closure: (*def).closure };
            pair[1] = make(name.to_owned(), HookKind::Setter, original, entry, external);
            copy.set = Some(trampoline::setter);
        }
        patch::write(&raw mut (*descriptor).d_getset, copy)
    }
}

/// Whether a definition is one of our copies.
unsafe fn is_ours(def: *mut PyMethodDef) -> bool {
    // SAFETY: the GIL is held by every caller.
    unsafe { all() }.iter().any(|hook| std::ptr::eq(&raw const hook.def, def))
}

/// Builtin function objects that were bound before we came (`recv = sock.recv`) hold the old definition: points all
/// that `gc.get_objects()` finds at ours.
///
/// # Safety
/// The GIL is held.
pub unsafe fn repoint_bound_functions() {
    // SAFETY: by contract; the list and its items are live while we walk it.
    unsafe {
        let definitions: std::collections::HashMap<usize, *mut PyMethodDef> = all()
            .iter()
            .filter_map(|hook| match hook.original {
                Original::Method { def, .. } if !hook.def.ml_name.is_null() => {
                    Some((def as usize, (&raw const hook.def).cast_mut()))
                }
                _ => None,
            })
            .collect();
        let gc = crate::python::loaded_module("gc");
        if gc.is_null() {
            return;
        }
        let objects = crate::python::Owned(PyObject_CallMethod(gc, c"get_objects".as_ptr(), ptr::null()));
        if objects.is_null() {
            PyErr_Clear();
            return;
        }
        for i in 0..PyList_GET_SIZE(objects.0) {
            let object = PyList_GET_ITEM(objects.0, i);
            if PyCFunction_Check(object) == 0 {
                continue;
            }
            let function = object.cast::<CFunction>();
            if let Some(&ours) = definitions.get(&((*function).m_ml as usize)) {
                // Not remembered for undo: the object may be gone by then, and the copy works as the original does.
                (*function).m_ml = ours;
            }
        }
    }
}

/// The C name in a definition.
///
/// # Safety
/// `function` is a builtin function object.
pub unsafe fn function_name(function: *mut PyObject) -> String {
    // SAFETY: `ml_name` of a live definition is a C string.
    unsafe { CStr::from_ptr((*(*function.cast::<CFunction>()).m_ml).ml_name).to_string_lossy().into_owned() }
}
