//! Names for internal objects that no call gave to external code, but that it found: a function in a table that the
//! program can see, an attribute of an argument. The name is the way there: which references to follow, from the call's
//! receiver, its arguments, what external code was given before, or a module. Both directions then bind the object, so that
//! a way is looked for once.

use crate::encode::Context;
use crate::external;
use crate::python::{text, type_name};
use pyo3_ffi::*;
use std::collections::HashSet;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;

/// The most objects that are looked at for one name.
const LOOKED_AT: usize = 300_000;
/// How often nothing may be found: such a search costs tens of milliseconds.
const FRUITLESS: u32 = 16;
static mut FRUITLESS_SEARCHES: u32 = 0;

/// Where a way begins.
#[derive(Clone)]
pub enum Root {
    Receiver,
    Argument(usize),
    /// An object that was given to an earlier call.
    Bound(u64, u64),
    Module(String),
}

pub struct Path {
    pub root: Root,
    /// Of the references that each object has, which one leads on.
    pub steps: Vec<u32>,
}

unsafe extern "C" fn collect(child: *mut PyObject, into: *mut c_void) -> c_int {
    // SAFETY: called by `references` alone.
    unsafe { (*into.cast::<Vec<*mut PyObject>>()).push(child) };
    0
}

/// What an object refers to, borrowed, in an order that is the same wherever the program is at the same point. Of an
/// external object what is mirrored, which may be null: a stand-in has no more.
unsafe fn references(object: *mut PyObject, into: &mut Vec<*mut PyObject>) {
    into.clear();
    // SAFETY: the object is live; traversal neither runs Python code nor changes a count.
    unsafe {
        let class = Py_TYPE(object);
        if let Some(external) = external::of_class(class) {
            into.extend((0..external.objects.len()).map(|i| *external.member(object, i)));
            let dict = external.dict_slot(object);
            if !dict.is_null() {
                into.push(*dict);
            }
            return;
        }
        if PyObject_IS_GC(object) != 0
            && let Some(traverse) = (*class).tp_traverse
        {
            traverse(object, collect, ptr::from_mut(into).cast());
        }
    }
}

/// Whether an instance of a class made in Python has no attribute of its own. Asks nothing that would make its `__dict__`.
///
/// # Safety
/// The GIL is held; `object` is live.
pub unsafe fn is_fresh(object: *mut PyObject) -> bool {
    // SAFETY: by contract; `tp_new` is compared only.
    unsafe {
        let class = Py_TYPE(object);
        let plain = PyBaseObject_Type.tp_new.map(|new| new as usize);
        if (*class).tp_new.map(|new| new as usize) != plain {
            return false;
        }
        let mut children = Vec::new();
        references(object, &mut children);
        children
            .iter()
            .all(|&child| child == class.cast() || (PyDict_CheckExact(child) != 0 && PyDict_Size(child) == 0))
    }
}

/// Whether all that follows the header of an instance of a C type is references that the collector knows, or null: then
/// they are all that the instance is.
///
/// # Safety
/// The GIL is held; `object` is live.
pub unsafe fn is_only_references(object: *mut PyObject) -> bool {
    // SAFETY: by contract; the words read lie within the instance.
    unsafe {
        let class = Py_TYPE(object);
        let size = (*class).tp_basicsize as usize - size_of::<PyObject>();
        if PyObject_IS_GC(object) == 0
            || (*class).tp_itemsize != 0
            || (*class).tp_dictoffset != 0
            || (*class).tp_weaklistoffset != 0
            || !size.is_multiple_of(size_of::<usize>())
            || size == 0
        {
            return false;
        }
        let mut children = Vec::new();
        references(object, &mut children);
        let words = std::slice::from_raw_parts(object.add(1).cast::<*mut PyObject>(), size / size_of::<usize>());
        words.iter().all(|word| word.is_null() || children.contains(word))
    }
}

/// The shortest way to `object`; `None` where there is none within reach.
///
/// # Safety
/// The GIL is held; `object` and the context's objects are live.
pub unsafe fn find(object: *mut PyObject, context: Context) -> Option<Path> {
    // SAFETY: by contract; nothing runs that could free what is borrowed.
    unsafe {
        if FRUITLESS_SEARCHES >= FRUITLESS {
            return None;
        }
        let roots = roots(context);
        let mut met: HashSet<usize> = roots.iter().map(|(_, object)| *object as usize).collect();
        // Each with the place of the one that it was reached from; a root's is its own.
        let mut queue: Vec<(*mut PyObject, usize, u32)> =
            roots.iter().enumerate().map(|(i, &(_, object))| (object, i, 0)).collect();
        let (mut at, mut children) = (0, Vec::new());
        while at < queue.len() && queue.len() < LOOKED_AT {
            references(queue[at].0, &mut children);
            for (step, &child) in children.iter().enumerate() {
                if child == object {
                    let mut steps = vec![step as u32];
                    while at >= roots.len() {
                        steps.push(queue[at].2);
                        at = queue[at].1;
                    }
                    steps.reverse();
                    return Some(Path { root: roots[at].0.clone(), steps });
                }
                if !child.is_null() && PyObject_IS_GC(child) != 0 && met.insert(child as usize) {
                    queue.push((child, at, step as u32));
                }
            }
            at += 1;
        }
        FRUITLESS_SEARCHES += 1;
        None
    }
}

/// The way to `object` if a callable refers to it that the call has, or external code was given before.
///
/// # Safety
/// As [`find`].
pub unsafe fn find_near(object: *mut PyObject, context: Context) -> Option<Path> {
    let mut children = Vec::new();
    // SAFETY: by contract.
    unsafe {
        given(context).into_iter().find_map(|(root, given)| {
            (*Py_TYPE(given)).tp_call?;
            references(given, &mut children);
            let step = children.iter().position(|&child| child == object)?;
            Some(Path { root, steps: vec![step as u32] })
        })
    }
}

/// What the call has, and external code was given before.
unsafe fn given(context: Context) -> Vec<(Root, *mut PyObject)> {
    let mut roots = Vec::new();
    if !context.receiver.is_null() {
        roots.push((Root::Receiver, context.receiver));
    }
    roots.extend(context.args.iter().enumerate().map(|(i, &argument)| (Root::Argument(i), argument)));
    // SAFETY: the GIL is held.
    let bound = unsafe { crate::binding::living() }.into_iter();
    roots.extend(bound.map(|((call, argument), object)| (Root::Bound(call, argument), object)));
    roots
}

unsafe fn roots(context: Context) -> Vec<(Root, *mut PyObject)> {
    // SAFETY: the GIL is held; the dict of modules is borrowed.
    unsafe {
        let mut roots = given(context);
        let (mut position, mut key, mut module) = (0, ptr::null_mut(), ptr::null_mut());
        while PyDict_Next(PyImport_GetModuleDict(), &mut position, &mut key, &mut module) != 0 {
            if PyModule_Check(module) != 0 {
                roots.push((Root::Module(text(key)), module));
            }
        }
        roots
    }
}

/// Where the way leads, borrowed; null where it ends early.
///
/// # Safety
/// The GIL is held; `root` is live or null.
pub unsafe fn follow(root: *mut PyObject, steps: &[u32]) -> *mut PyObject {
    let mut object = root;
    let mut children = Vec::new();
    for &step in steps {
        if object.is_null() {
            break;
        }
        // SAFETY: what a live object refers to is live.
        unsafe { references(object, &mut children) };
        object = children.get(step as usize).copied().unwrap_or(ptr::null_mut());
    }
    object
}

/// By what one can tell that a way led to another object: its type, and its name if it has one.
///
/// # Safety
/// `object` is live; the GIL is held.
pub unsafe fn description(object: *mut PyObject) -> String {
    // SAFETY: by contract.
    unsafe {
        let name = if PyFunction_Check(object) != 0 {
            text(crate::python::attribute(object, c"__qualname__").0)
        } else if PyType_Check(object) != 0 {
            // Of a class, what its statement said: asking for more could run a metaclass's code.
            CStr::from_ptr((*object.cast::<PyTypeObject>()).tp_name).to_string_lossy().into_owned()
        } else {
            String::new()
        };
        format!("{} {name}", type_name(object))
    }
}
