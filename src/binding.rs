//! Internal objects that external code keeps: named by the call that they were given to and their place among its
//! arguments. Only calls whose boundary entry says `keeps` are counted, alike in both directions.

use crate::call::Call;
use crate::gil::GilCell;
use crate::python::SavedError;
use pyo3_ffi::*;
use retrace_abi::boundary::Treatment;
use rustc_hash::{FxHashMap, FxHasher};
use std::ffi::c_int;
use std::hash::Hasher;
use std::ptr;

#[derive(Default)]
struct Bindings {
    /// Recording: object to name. The weak reference tells a dead object's address from a live one's.
    names: FxHashMap<usize, ((u64, u64), *mut PyObject)>,
    /// Replaying: name to object. What no call named has no weak reference.
    objects: FxHashMap<(u64, u64), Kept>,
    /// Replaying: what a receiver keeps, by its address.
    keepers: FxHashMap<usize, Vec<Keeping>>,
    /// Recording: what external code has made and may have still, in the order of the calls: with a weak reference.
    made: Vec<(u64, *mut PyObject)>,
    /// All of them are to be looked at when there are so many.
    full: usize,
    calls: u64,
    /// How many results of callbacks were kept.
    results: u64,
    /// Replaying: names that were asked for since the last outcome began.
    read: Vec<(u64, u64)>,
}

/// What a receiver keeps, of a call of this hook.
struct Keeping {
    hook: u16,
    /// See [`key`].
    key: u64,
    name: (u64, u64),
    /// The real receiver shows it to the collector.
    is_shown: bool,
}

/// An object that external code keeps, on replay.
struct Kept {
    object: *mut PyObject,
    weak: *mut PyObject,
    /// A reference is held: the external code that holds one in the recording is not here to do so.
    is_held: bool,
}

static BINDINGS: GilCell<Option<Bindings>> = GilCell::new(None);

unsafe fn bindings() -> &'static mut Bindings {
    // SAFETY: only with the GIL held, never kept across a call into Python.
    unsafe { BINDINGS.get().get_or_insert_with(Bindings::default) }
}

/// Names an object that external code made, as the argument of a call of its own. Alike in both directions.
///
/// # Safety
/// In a session; the GIL is held; `object` is live.
pub unsafe fn bind(object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe { bind_as(object, true) }
}

/// The same for one that external code found: it has a reference for as long as the call takes, as a rule, which is the
/// caller's affair on replay.
///
/// # Safety
/// As [`bind`].
pub unsafe fn bind_found(object: *mut PyObject) {
    // SAFETY: by contract.
    unsafe { bind_as(object, false) };
}

unsafe fn bind_as(object: *mut PyObject, held: bool) {
    // SAFETY: by the contract of `bind`.
    unsafe {
        let serial = next_call();
        if (*Py_TYPE(object)).tp_weaklistoffset != 0 {
            name(object, (serial, 0), held);
            if held
                && let Some(&((call, _), weak)) = bindings().names.get(&(object as usize))
                && call == serial
            {
                Py_INCREF(weak);
                bindings().made.push((serial, weak));
            }
        }
    }
}

unsafe fn next_call() -> u64 {
    // SAFETY: the GIL is held.
    unsafe {
        let bindings = bindings();
        bindings.calls += 1;
        bindings.calls - 1
    }
}

/// `held`: the external code has a reference to it.
unsafe fn name(object: *mut PyObject, name: (u64, u64), held: bool) {
    // SAFETY: the GIL is held; the object has weak references.
    unsafe {
        let weak = PyWeakref_NewRef(object, ptr::null_mut());
        if weak.is_null() {
            PyErr_Clear();
        } else if crate::session::is_replaying() {
            if held {
                Py_INCREF(object);
            }
            bindings().objects.insert(name, Kept { object, weak, is_held: held });
        } else if let Some((_, old)) = bindings().names.insert(object as usize, (name, weak)) {
            Py_DECREF(old);
        }
    }
}

/// Names the internal objects among a call's arguments.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn bind_arguments(call: &Call) {
    // SAFETY: by contract.
    unsafe {
        let serial = next_call();
        let entry = call.hook.entry;
        // Internal code that keeps it is there in both directions.
        let held = !entry.weakly && entry.treatment != Treatment::Pass;
        let key = if crate::session::is_replaying() { key(call) } else { 0 };
        for (i, &arg) in call.args.iter().enumerate() {
            let class = Py_TYPE(arg);
            let is_static = PyType_Check(arg) != 0 && (*arg.cast::<PyTypeObject>()).tp_flags & Py_TPFLAGS_HEAPTYPE == 0;
            if arg != Py_None() && (*class).tp_weaklistoffset != 0 && !is_static {
                if crate::external::of_class(class).is_some() {
                    if held && crate::session::is_replaying() && !call.receiver.is_null() {
                        // Named by its own number.
                        keep_by(call, call.receiver, arg, entry.shown);
                    }
                    continue;
                }
                name(arg, (serial, i as u64), held);
                if held && crate::session::is_replaying() {
                    let name = (serial, i as u64);
                    if entry.shown && !call.receiver.is_null() {
                        crate::shown::show_kept(call.receiver);
                    }
                    let keeping = Keeping { hook: call.hook.index, key, name, is_shown: entry.shown };
                    bindings().keepers.entry(call.receiver as usize).or_default().push(keeping);
                }
            }
        }
    }
}

/// What a call says of which of several things it is about: the text and numbers before the object that it gives
/// (`create_function("name", 1, function)`). 0 where there is none.
///
/// # Safety
/// The GIL is held; the call's references are live.
unsafe fn key(call: &Call) -> u64 {
    // SAFETY: by contract.
    let is_plain = |arg: &&*mut PyObject| unsafe { PyUnicode_CheckExact(**arg) != 0 || PyLong_CheckExact(**arg) != 0 };
    let leading = call.args.iter().take_while(is_plain).count();
    if leading == call.args.len() {
        return 0;
    }
    let mut hasher = FxHasher::default();
    for &arg in &call.args[..leading] {
        // SAFETY: as above; text and numbers run no code of the program's.
        hasher.write_isize(unsafe { PyObject_Hash(arg) });
    }
    hasher.finish()
}

/// A call has succeeded. Of one that releases, all that the receiver keeps is let go; of one for which [`bind_arguments`]
/// was called, what the receiver had from an earlier one.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn replaced(call: &Call) {
    if call.hook.entry.releases {
        // SAFETY: by contract.
        return unsafe { keeper_dies(call.receiver) };
    }
    if !call.hook.entry.replaces || call.args.is_empty() {
        return;
    }
    // SAFETY: by contract.
    unsafe {
        let bindings = bindings();
        let this = bindings.calls - 1;
        let Some(kept) = bindings.keepers.get_mut(&(call.receiver as usize)) else { return };
        let key = key(call);
        let is_earlier = |kept: &mut Keeping| kept.hook == call.hook.index && kept.key == key && kept.name.0 < this;
        let earlier = kept.extract_if(.., is_earlier);
        let_go(earlier.map(|kept| kept.name).collect());
    }
}

/// A call has succeeded whose entry says `keeps_result`: its receiver, or what it has made, keeps what a callback returned.
///
/// # Safety
/// Replaying; the GIL is held; the references are live, the last one or null.
pub unsafe fn keep_result(call: &Call, result: *mut PyObject, kept: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let is_external = |object: *mut PyObject| crate::external::of_class(Py_TYPE(object)).is_some();
        let receiver = Some(call.receiver).filter(|receiver| !receiver.is_null() && is_external(*receiver));
        let keeper = receiver.unwrap_or(result);
        if !kept.is_null() && kept != keeper && is_external(keeper) {
            keep_by(call, keeper, kept, true);
        }
    }
}

/// A call has succeeded whose entry says `kept_by_result`: what it has made keeps its receiver.
///
/// # Safety
/// As [`keep_result`].
pub unsafe fn keep_receiver(call: &Call, result: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        if crate::external::of_class(Py_TYPE(result)).is_some() {
            keep_by(call, result, call.receiver, call.hook.entry.shown);
        }
    }
}

unsafe fn keep_by(call: &Call, keeper: *mut PyObject, kept: *mut PyObject, is_shown: bool) {
    // SAFETY: by the callers' contracts.
    unsafe {
        if is_shown {
            crate::shown::show_kept(keeper);
        }
        let bindings = bindings();
        // No call has this number: nothing in the trace names it.
        let name = (u64::MAX, bindings.results);
        bindings.results += 1;
        Py_INCREF(kept);
        bindings.objects.insert(name, Kept { object: kept, weak: ptr::null_mut(), is_held: true });
        let keeping = Keeping { hook: call.hook.index, key: 0, name, is_shown };
        bindings.keepers.entry(keeper as usize).or_default().push(keeping);
    }
}

/// A stand-in is going away, or what it stands for is closed, and with it what it keeps.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn keeper_dies(stand_in: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let Some(kept) = bindings().keepers.remove(&(stand_in as usize)) else { return };
        let_go(kept.into_iter().map(|kept| kept.name).collect());
    }
}

/// Calls `visit` with each reference that a stand-in keeps and that the real object would show to the collector, until
/// it returns something else than 0: returns that.
///
/// # Safety
/// Replaying; the GIL is held; `visit` runs no Python.
pub unsafe fn visit_shown(stand_in: *mut PyObject, mut visit: impl FnMut(*mut PyObject) -> c_int) -> c_int {
    // SAFETY: by contract.
    unsafe {
        let bindings = bindings();
        let shown = bindings.keepers.get(&(stand_in as usize)).into_iter().flatten().filter(|kept| kept.is_shown);
        for kept in shown {
            let Some(kept) = bindings.objects.get(&kept.name).filter(|kept| kept.is_held) else { continue };
            let result = visit(kept.object);
            if result != 0 {
                return result;
            }
        }
        0
    }
}

/// The collector has found a stand-in to be garbage: it lets go of what the real object shows it.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn clear_shown(stand_in: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let Some(kept) = bindings().keepers.get_mut(&(stand_in as usize)) else { return };
        let names = kept.extract_if(.., |kept| kept.is_shown).map(|kept| kept.name).collect();
        let_go(names);
    }
}

/// The names stay, as those of objects that live for as long as somebody else holds them.
unsafe fn let_go(names: Vec<(u64, u64)>) {
    // SAFETY: the GIL is held; no reference into the table is kept while finalizers run.
    unsafe {
        for name in names {
            let objects = &mut bindings().objects;
            let Some(kept) = objects.get_mut(&name) else { continue };
            if std::mem::take(&mut kept.is_held) {
                let object = kept.object;
                if kept.weak.is_null() {
                    objects.remove(&name);
                }
                let saved = SavedError::take();
                Py_DECREF(object);
                drop(saved);
            }
        }
    }
}

/// A call of internal code which keeps what external code calls later.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn call(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        bind_arguments(call);
        crate::special::keeps_internally(call);
        call.invoke()
    }
}

/// The name of an object that was bound and still lives.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn name_of(object: *mut PyObject) -> Option<(u64, u64)> {
    // SAFETY: by contract.
    unsafe {
        let &(name, weak) = bindings().names.get(&(object as usize))?;
        (PyWeakref_GetObject(weak) == object).then_some(name)
    }
}

/// Whether there may be anything to [`take_dropped`].
///
/// # Safety
/// The GIL is held.
#[inline(always)]
pub unsafe fn has_made() -> bool {
    // SAFETY: by contract.
    unsafe { BINDINGS.get().as_ref().is_some_and(|bindings| !bindings.made.is_empty()) }
}

/// The calls of those objects made by external code that have died, or are as wanted, since the last time. Of many only the
/// newest are looked at, but for a look at all of them now and then.
///
/// # Safety
/// Recording; the GIL is held; `is_dropped` runs no Python.
pub unsafe fn take_dropped(is_dropped: impl Fn(*mut PyObject) -> bool) -> Vec<u64> {
    const NEWEST: usize = 4;
    const FEW: usize = 64;
    // SAFETY: by contract; a weak reference without a callback runs nothing when it goes.
    unsafe {
        let Bindings { made, full, .. } = bindings();
        let count = made.len();
        let is_all = count <= FEW || count > *full;
        let from = if is_all { 0 } else { count - NEWEST };
        let is_it = |&(_, weak): &(u64, *mut PyObject)| {
            let object = PyWeakref_GetObject(weak);
            object == Py_None() || is_dropped(object)
        };
        // Most times there is none, and this is asked after each call.
        if !made[from..].iter().any(is_it) {
            return Vec::new();
        }
        let dropped: Vec<_> = made.extract_if(from.., |made| is_it(made)).collect();
        if is_all {
            *full = 2 * made.len();
        }
        dropped
            .into_iter()
            .map(|(call, weak)| {
                Py_DECREF(weak);
                call
            })
            .collect()
    }
}

/// Lets go of what external code had made by these calls. The names of what lives on stay.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn drop_made(calls: &[u64]) {
    // SAFETY: by contract.
    unsafe {
        let_go(calls.iter().map(|call| (*call, 0)).collect());
        for call in calls {
            let objects = &mut bindings().objects;
            if let Some(kept) = objects.get(&(*call, 0))
                && !kept.weak.is_null()
                && PyWeakref_GetObject(kept.weak) == Py_None()
            {
                Py_DECREF(kept.weak);
                objects.remove(&(*call, 0));
            }
        }
    }
}

/// The objects that were bound last and still live, borrowed, in the order of their names.
///
/// # Safety
/// Recording; the GIL is held.
pub unsafe fn living() -> Vec<((u64, u64), *mut PyObject)> {
    /// More would cost a search too much.
    const MOST: usize = 256;
    // SAFETY: by contract.
    unsafe {
        let names = &bindings().names;
        let lives = |&object: &usize, weak| PyWeakref_GetObject(weak) as usize == object;
        let mut living: Vec<_> = (names.iter().filter(|(object, (_, weak))| lives(object, *weak)))
            .map(|(&object, &(name, _))| (name, object as *mut PyObject))
            .collect();
        living.sort_unstable();
        living.split_off(living.len().saturating_sub(MOST))
    }
}

/// How many objects, or calls that keep some, there have been.
///
/// # Safety
/// The GIL is held.
pub unsafe fn count() -> u64 {
    // SAFETY: by contract.
    unsafe { bindings().calls }
}

/// What a call's outcome is read for: the objects that it names.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn begin_outcome() {
    // SAFETY: by contract.
    unsafe { bindings().read.clear() };
}

/// A call is over that made the objects named from `first` on. What it returns of them is the program's: the external code
/// has nothing of it any more.
///
/// # Safety
/// As [`begin_outcome`], after the outcome was read.
pub unsafe fn end_call(first: u64) {
    // SAFETY: by contract.
    unsafe {
        let bindings = bindings();
        let names: Vec<_> = bindings.read.drain(..).filter(|name| name.0 >= first).collect();
        if !names.is_empty() {
            let_go(names);
        }
    }
}

/// The object of a name, borrowed; null where there is none.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn object_of(call: u64, argument: u64) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let bindings = bindings();
        bindings.read.push((call, argument));
        let Some(kept) = bindings.objects.get(&(call, argument)) else { return ptr::null_mut() };
        let lives = kept.is_held || PyWeakref_GetObject(kept.weak) == kept.object;
        if lives { kept.object } else { ptr::null_mut() }
    }
}
