//! What CPython calls in place of a hooked function or slot. Each trampoline knows its place in its pool, and thereby
//! its hook; all go on to [`crate::cross`]. The calling conventions are the original's own, so CPython has already
//! raised every arity and keyword error, and the specialising interpreter stays right.

use crate::cross;
use crate::external::{self, ExternalType};
use crate::hook::{Convention, Hook};
use pyo3_ffi::*;
use std::ffi::c_int;
use std::ptr;

type Object = *mut PyObject;

pub type NoargsFunction = unsafe extern "C" fn(Object, Object) -> Object;
pub type OneFunction = unsafe extern "C" fn(Object, Object) -> Object;
pub type FastcallFunction = unsafe extern "C" fn(Object, *mut Object, Py_ssize_t) -> Object;
pub type FastcallKeywordsFunction = unsafe extern "C" fn(Object, *const Object, Py_ssize_t, Object) -> Object;
pub type MethodFunction = unsafe extern "C" fn(Object, *mut PyTypeObject, *const Object, Py_ssize_t, Object) -> Object;
pub type VarargsFunction = unsafe extern "C" fn(Object, Object) -> Object;
pub type VarargsKeywordsFunction = unsafe extern "C" fn(Object, Object, Object) -> Object;
pub type NewSlot = unsafe extern "C" fn(*mut PyTypeObject, Object, Object) -> Object;
pub type InitSlot = unsafe extern "C" fn(Object, Object, Object) -> c_int;
pub type NextSlot = unsafe extern "C" fn(Object) -> Object;
pub type ReprSlot = unsafe extern "C" fn(Object) -> Object;
pub type CallSlot = unsafe extern "C" fn(Object, Object, Object) -> Object;
pub type HashSlot = unsafe extern "C" fn(Object) -> Py_hash_t;
pub type CompareSlot = unsafe extern "C" fn(Object, Object, c_int) -> Object;
pub type SubscriptSlot = unsafe extern "C" fn(Object, Object) -> Object;
pub type AssignSlot = unsafe extern "C" fn(Object, Object, Object) -> c_int;
pub type LengthSlot = unsafe extern "C" fn(Object) -> Py_ssize_t;
pub type ItemSlot = unsafe extern "C" fn(Object, Py_ssize_t) -> Object;
pub type ContainsSlot = unsafe extern "C" fn(Object, Object) -> c_int;
pub type BoolSlot = unsafe extern "C" fn(Object) -> c_int;
pub type DeallocSlot = unsafe extern "C" fn(Object);
pub type FinalizeSlot = unsafe extern "C" fn(Object);
/// Any function of the C library's whose arguments are integers and addresses: it finds them in registers, and reads
/// what its caller passed. The seventh is on the stack on some platforms, where there is always something to read.
pub type LibcCall = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize, usize) -> usize;

include!(concat!(env!("OUT_DIR"), "/trampoline_tables.rs"));

/// The hooks of one pool, by place. Written with the GIL held before the trampoline becomes reachable.
struct Pool<const N: usize> {
    hooks: [*const Hook; N],
    used: usize,
}

impl<const N: usize> Pool<N> {
    const fn new() -> Pool<N> {
        Pool { hooks: [ptr::null(); N], used: 0 }
    }
}

static mut NOARGS_HOOKS: Pool<{ NOARGS.len() }> = Pool::new();
static mut ONE_HOOKS: Pool<{ ONE.len() }> = Pool::new();
static mut FASTCALL_HOOKS: Pool<{ FASTCALL.len() }> = Pool::new();
static mut FASTCALL_KEYWORDS_HOOKS: Pool<{ FASTCALL_KEYWORDS.len() }> = Pool::new();
static mut METHOD_HOOKS: Pool<{ METHOD.len() }> = Pool::new();
static mut VARARGS_HOOKS: Pool<{ VARARGS.len() }> = Pool::new();
static mut VARARGS_KEYWORDS_HOOKS: Pool<{ VARARGS_KEYWORDS.len() }> = Pool::new();

/// A free trampoline of `convention` for `hook`, as `ml_meth`; `None` when the pool is used up.
///
/// # Safety
/// The GIL is held; `hook` is never freed.
pub unsafe fn claim(convention: Convention, hook: *const Hook) -> Option<PyMethodDefPointer> {
    macro_rules! claim {
        ($pool:ident, $table:ident, $field:ident) => {{
            // SAFETY: the GIL is held, so this is the only access to the pool's bookkeeping; the place becomes
            // reachable only when our caller publishes the trampoline.
            let pool = unsafe { &mut *(&raw mut $pool) };
            let place = pool.used;
            if place == pool.hooks.len() {
                return None;
            }
            pool.hooks[place] = hook;
            pool.used += 1;
            Some(PyMethodDefPointer { $field: $table[place] })
        }};
    }
    match convention {
        Convention::Noargs => claim!(NOARGS_HOOKS, NOARGS, PyCFunction),
        Convention::One => claim!(ONE_HOOKS, ONE, PyCFunction),
        Convention::Fastcall => claim!(FASTCALL_HOOKS, FASTCALL, PyCFunctionFast),
        Convention::FastcallKeywords => {
            claim!(FASTCALL_KEYWORDS_HOOKS, FASTCALL_KEYWORDS, PyCFunctionFastWithKeywords)
        }
        Convention::Method => claim!(METHOD_HOOKS, METHOD, PyCMethod),
        Convention::Varargs => claim!(VARARGS_HOOKS, VARARGS, PyCFunction),
        Convention::VarargsKeywords => claim!(VARARGS_KEYWORDS_HOOKS, VARARGS_KEYWORDS, PyCFunctionWithKeywords),
    }
}

/// The hook at a place of a pool.
///
/// # Safety
/// The place was claimed: a trampoline is reachable only then, and places are never rewritten.
#[inline(always)]
unsafe fn hook_at<const N: usize>(pool: *const Pool<N>, place: usize) -> &'static Hook {
    // SAFETY: by contract.
    unsafe { &*(*pool).hooks[place] }
}

unsafe extern "C" fn noargs<const I: usize>(receiver: Object, _: Object) -> Object {
    // SAFETY: called by CPython with the GIL and this convention's arguments; so are all of the following.
    unsafe { cross::noargs(hook_at(&raw const NOARGS_HOOKS, I), receiver) }
}

unsafe extern "C" fn one<const I: usize>(receiver: Object, argument: Object) -> Object {
    // SAFETY: as above.
    unsafe { cross::one(hook_at(&raw const ONE_HOOKS, I), receiver, argument) }
}

unsafe extern "C" fn fastcall<const I: usize>(receiver: Object, args: *mut Object, n: Py_ssize_t) -> Object {
    // SAFETY: as above.
    unsafe { cross::fastcall(hook_at(&raw const FASTCALL_HOOKS, I), receiver, args, n) }
}

unsafe extern "C" fn fastcall_keywords<const I: usize>(
    receiver: Object,
    args: *const Object,
    n: Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: as above.
    unsafe { cross::vector(hook_at(&raw const FASTCALL_KEYWORDS_HOOKS, I), receiver, args, n, names, ptr::null_mut()) }
}

unsafe extern "C" fn method<const I: usize>(
    receiver: Object,
    class: *mut PyTypeObject,
    args: *const Object,
    n: Py_ssize_t,
    names: Object,
) -> Object {
    // SAFETY: as above.
    unsafe { cross::vector(hook_at(&raw const METHOD_HOOKS, I), receiver, args, n, names, class) }
}

unsafe extern "C" fn varargs<const I: usize>(receiver: Object, args: Object) -> Object {
    // SAFETY: as above.
    unsafe { cross::varargs(hook_at(&raw const VARARGS_HOOKS, I), receiver, args) }
}

unsafe extern "C" fn varargs_keywords<const I: usize>(receiver: Object, args: Object, keywords: Object) -> Object {
    // SAFETY: as above.
    unsafe { cross::tuple(hook_at(&raw const VARARGS_KEYWORDS_HOOKS, I), receiver, args, keywords) }
}

/// Getters and setters carry their hook in the closure.
///
/// # Safety
/// Called by CPython; `closure` is the getter's `Hook`.
pub unsafe extern "C" fn getter(receiver: Object, closure: *mut std::ffi::c_void) -> Object {
    // SAFETY: by contract.
    unsafe {
        cross::vector(
            &*(*closure.cast::<[*const Hook; 2]>())[0],
            receiver,
            ptr::null(),
            0,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    }
}

/// See [`getter`]; the pair's second hook is the setter's. A deletion passes no value.
///
/// # Safety
/// Called by CPython; `closure` is the pair of hooks.
pub unsafe extern "C" fn setter(receiver: Object, value: Object, closure: *mut std::ffi::c_void) -> c_int {
    // SAFETY: by contract.
    unsafe {
        let hook = &*(*closure.cast::<[*const Hook; 2]>())[1];
        let n = Py_ssize_t::from(!value.is_null());
        status(cross::vector(hook, receiver, &value, n, ptr::null_mut(), ptr::null_mut()))
    }
}

unsafe fn status(result: Object) -> c_int {
    if result.is_null() {
        return -1;
    }
    // SAFETY: a new reference from `cross`.
    unsafe { Py_DECREF(result) };
    0
}

unsafe extern "C" fn libc_call<const I: usize>(
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
    g: usize,
) -> usize {
    // SAFETY: called by an extension module's code in place of the function at that place of the table.
    unsafe { crate::libc_calls::enter(I, [a, b, c, d, e, f, g]) }
}

fn external_type<const T: usize>() -> &'static ExternalType {
    external::by_place(T)
}

unsafe extern "C" fn tp_new<const T: usize>(class: *mut PyTypeObject, args: Object, keywords: Object) -> Object {
    // SAFETY: called by CPython; a slot's trampoline is installed after its hook; so for all of the following.
    unsafe { cross::tuple(external_type::<T>().slot_hook(external::NEW), class.cast(), args, keywords) }
}

unsafe extern "C" fn tp_init<const T: usize>(receiver: Object, args: Object, keywords: Object) -> c_int {
    // SAFETY: as above.
    unsafe { status(cross::tuple(external_type::<T>().slot_hook(external::INIT), receiver, args, keywords)) }
}

unsafe extern "C" fn tp_iternext<const T: usize>(receiver: Object) -> Object {
    // SAFETY: as above.
    unsafe { cross::noargs(external_type::<T>().slot_hook(external::NEXT), receiver) }
}

unsafe extern "C" fn tp_repr<const T: usize>(receiver: Object) -> Object {
    // SAFETY: as above.
    unsafe { cross::noargs(external_type::<T>().slot_hook(external::REPR), receiver) }
}

unsafe extern "C" fn tp_call<const T: usize>(receiver: Object, args: Object, keywords: Object) -> Object {
    // SAFETY: as above.
    unsafe { cross::tuple(external_type::<T>().slot_hook(external::CALL), receiver, args, keywords) }
}

unsafe extern "C" fn tp_hash<const T: usize>(receiver: Object) -> Py_hash_t {
    // SAFETY: as above; the hook's original wraps the number in an int.
    unsafe {
        let result = cross::noargs(external_type::<T>().slot_hook(external::HASH), receiver);
        if result.is_null() {
            return -1;
        }
        let hash = PyLong_AsSsize_t(result);
        Py_DECREF(result);
        hash
    }
}

unsafe extern "C" fn tp_richcompare<const T: usize>(receiver: Object, other: Object, operation: c_int) -> Object {
    // SAFETY: as above; the operation travels as an int.
    unsafe {
        let number = PyLong_FromLong(operation.into());
        let args = [other, number];
        let hook = external_type::<T>().slot_hook(external::COMPARE);
        let result = cross::vector(hook, receiver, args.as_ptr(), 2, ptr::null_mut(), ptr::null_mut());
        Py_XDECREF(number);
        result
    }
}

/// A slot without arguments that returns an object.
macro_rules! unary_slot {
    ($name:ident, $index:ident) => {
        unsafe extern "C" fn $name<const T: usize>(receiver: Object) -> Object {
            // SAFETY: as above.
            unsafe { cross::noargs(external_type::<T>().slot_hook(external::$index), receiver) }
        }
    };
}

unary_slot!(tp_str, STR);
unary_slot!(tp_iter, ITER);

/// The number in a result, which is given back; -1 where there is none.
unsafe fn number(result: Object) -> Py_ssize_t {
    if result.is_null() {
        return -1;
    }
    // SAFETY: a new reference from `cross`.
    unsafe {
        let number = PyLong_AsSsize_t(result);
        Py_DECREF(result);
        number
    }
}

/// A slot without arguments that returns a number.
macro_rules! number_slot {
    ($name:ident, $index:ident, $type:ty) => {
        unsafe extern "C" fn $name<const T: usize>(receiver: Object) -> $type {
            // SAFETY: as above; the hook's original wraps the number in an int.
            unsafe { number(cross::noargs(external_type::<T>().slot_hook(external::$index), receiver)) as $type }
        }
    };
}

number_slot!(mp_length, LENGTH, Py_ssize_t);
number_slot!(sq_length, SQ_LENGTH, Py_ssize_t);
number_slot!(nb_bool, BOOL, c_int);

unsafe extern "C" fn mp_subscript<const T: usize>(receiver: Object, key: Object) -> Object {
    // SAFETY: as above.
    unsafe { cross::slot(external_type::<T>().slot_hook(external::SUBSCRIPT), receiver, &[key]) }
}

unsafe extern "C" fn mp_ass_subscript<const T: usize>(receiver: Object, key: Object, value: Object) -> c_int {
    // SAFETY: as above; a deletion passes no value.
    unsafe {
        let args = [key, value];
        let n = if value.is_null() { 1 } else { 2 };
        status(cross::slot(external_type::<T>().slot_hook(external::ASSIGN), receiver, &args[..n]))
    }
}

unsafe extern "C" fn sq_contains<const T: usize>(receiver: Object, key: Object) -> c_int {
    // SAFETY: as above.
    unsafe { number(cross::slot(external_type::<T>().slot_hook(external::CONTAINS), receiver, &[key])) as c_int }
}

unsafe extern "C" fn sq_item<const T: usize>(receiver: Object, index: Py_ssize_t) -> Object {
    // SAFETY: as above; the index travels as an int.
    unsafe {
        let index = PyLong_FromSsize_t(index);
        let result = cross::slot(external_type::<T>().slot_hook(external::SQ_ITEM), receiver, &[index]);
        Py_XDECREF(index);
        result
    }
}

unsafe extern "C" fn tp_dealloc<const T: usize>(object: Object) {
    // SAFETY: as above.
    unsafe { external::dealloc(external_type::<T>(), object) }
}

unsafe extern "C" fn tp_finalize<const T: usize>(object: Object) {
    // SAFETY: as above.
    unsafe { external::finalize(external_type::<T>(), object) }
}
