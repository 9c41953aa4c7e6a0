//! From the trace's values back to Python objects.

use crate::capi::is_method;
use crate::encode::struct_sequence;
use crate::external::{self, ExternalType};
use crate::globals::resolve_global;
use crate::python::{Owned, attribute, string, text};
use pyo3_ffi::*;
use retrace_replay::byte_source::{ByteSource, DecodeError};
use retrace_replay::text::Width;
use retrace_replay::trace_reader::EventStream;
use retrace_replay::value::tag;
use std::ptr;

/// Why a value could not be made.
#[derive(Debug)]
pub enum Failure {
    /// The trace's bytes are wrong.
    Trace(DecodeError),
    /// The value refers to something that is not there now.
    Missing(String),
    /// The value could not be stored when it was recorded.
    Opaque(String),
    /// Python raised while the value was made; the exception is set.
    Raised,
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        Failure::Trace(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Trace(error) => write!(f, "the trace is damaged: {error}"),
            Failure::Missing(what) => f.write_str(what),
            Failure::Opaque(name) => {
                write!(f, "a value of type {name} was not stored: no form of the trace can hold it")
            }
            Failure::Raised => f.write_str("Python raised an exception"),
        }
    }
}

/// What references in a value refer to.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub receiver: *mut PyObject,
    pub external: Option<&'static ExternalType>,
    pub args: &'a [*mut PyObject],
}

impl Context<'_> {
    pub const NONE: Context<'static> = Context { receiver: ptr::null_mut(), external: None, args: &[] };
}

pub struct Decoder<'a> {
    pub source: &'a mut EventStream,
    context: Context<'a>,
    /// Those that have been made.
    tracebacks: Vec<Owned>,
}

type Decoded = Result<Owned, Failure>;

fn made(object: *mut PyObject) -> Decoded {
    if object.is_null() { Err(Failure::Raised) } else { Ok(Owned(object)) }
}

impl<'a> Decoder<'a> {
    pub fn new(source: &'a mut EventStream, context: Context<'a>) -> Self {
        Decoder { source, context, tracebacks: Vec::new() }
    }

    fn count(&mut self) -> Result<usize, Failure> {
        let n = self.source.read_varint()?;
        if n > self.source.remaining() {
            return Err(DecodeError::UnexpectedEnd.into());
        }
        Ok(n as usize)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Failure> {
        let n = self.source.read_varint()?;
        Ok(self.source.read_vec(n)?)
    }

    /// The next value: a new reference; null for `Null`.
    ///
    /// # Safety
    /// The GIL is held, and the thread is marked external.
    pub unsafe fn value(&mut self) -> Decoded {
        // SAFETY: by contract.
        unsafe {
            let tag = self.source.read_u8()?;
            if tag & tag::SMALL_INT != 0 {
                return made(PyLong_FromLong(i64::from(tag & !tag::SMALL_INT)));
            }
            match tag {
                tag::NULL => Ok(Owned(ptr::null_mut())),
                tag::NONE => Ok(Owned::borrowed(Py_None())),
                tag::FALSE => Ok(Owned::borrowed(Py_False())),
                tag::TRUE => Ok(Owned::borrowed(Py_True())),
                tag::INT1 => made(PyLong_FromLong(i64::from(self.source.read_u8()? as i8))),
                tag::INT2 => made(PyLong_FromLong(i64::from(self.source.read_u16()? as i16))),
                tag::INT4 => made(PyLong_FromLong(i64::from(self.source.read_u32()? as i32))),
                tag::INT8 => made(PyLong_FromLongLong(self.source.read_u64()? as i64)),
                tag::BIGINT => {
                    let bytes = self.bytes()?;
                    made(retrace_abi::retrace_long_from_bytes(bytes.as_ptr(), bytes.len()))
                }
                tag::FLOAT => made(PyFloat_FromDouble(self.source.read_f64()?)),
                tag::COMPLEX => {
                    let real = self.source.read_f64()?;
                    made(PyComplex_FromDoubles(real, self.source.read_f64()?))
                }
                tag::BYTES => {
                    let n = self.source.read_varint()?;
                    if n > self.source.remaining() {
                        return Err(DecodeError::UnexpectedEnd.into());
                    }
                    let bytes = made(PyBytes_FromStringAndSize(ptr::null(), n as Py_ssize_t))?;
                    let data = PyBytes_AS_STRING(bytes.0).cast::<u8>().cast_mut();
                    self.source.read_exact(std::slice::from_raw_parts_mut(data, n as usize))?;
                    Ok(bytes)
                }
                tag::STR_ASCII => self.str(0),
                tag::STR1 => self.str(1),
                tag::STR2 => self.str(2),
                tag::STR4 => self.str(4),
                tag::SHORT_STR..=tag::LAST_SHORT_STR => self.str_of(0, u64::from(tag - tag::SHORT_STR)),
                tag::AGAIN => {
                    let index = self.source.read_varint()?;
                    self.again(index)
                }
                tag::SHORT_AGAIN..=tag::LAST_SHORT_AGAIN => self.again(u64::from(tag - tag::SHORT_AGAIN)),
                tag::TUPLE => {
                    let n = self.count()?;
                    self.tuple(n)
                }
                tag::SHORT_TUPLE..=tag::LAST_SHORT_TUPLE => self.tuple(usize::from(tag - tag::SHORT_TUPLE)),
                tag::LIST => self.list(),
                tag::SHORT_LIST..=tag::LAST_SHORT_LIST => self.list_of(usize::from(tag - tag::SHORT_LIST)),
                tag::DICT => {
                    let n = self.count()?;
                    let dict = made(PyDict_New())?;
                    for _ in 0..n {
                        let key = self.value()?;
                        let value = self.value()?;
                        if PyDict_SetItem(dict.0, key.0, value.0) < 0 {
                            return Err(Failure::Raised);
                        }
                    }
                    Ok(dict)
                }
                tag::SET => {
                    let items = self.list()?;
                    made(PySet_New(items.0))
                }
                tag::FROZENSET => {
                    let items = self.list()?;
                    made(PyFrozenSet_New(items.0))
                }
                tag::BYTEARRAY => {
                    let bytes = self.bytes()?;
                    made(PyByteArray_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as Py_ssize_t))
                }
                tag::STRUCTSEQ => self.struct_sequence(),
                tag::GLOBAL => self.global(),
                tag::PICKLE => {
                    let pickled = self.bytes()?;
                    let known = crate::pickle::Known::of(self.context.receiver, self.context.args);
                    made(crate::pickle::loads(&pickled, &known))
                }
                tag::EXCEPTION => self.exception(),
                tag::OPAQUE => {
                    let name = self.value()?;
                    Err(Failure::Opaque(text(name.0)))
                }
                tag::RECEIVER => self.present(self.context.receiver, "the call's receiver"),
                tag::ARGUMENT => {
                    let i = self.source.read_varint()? as usize;
                    let object = self.context.args.get(i).copied().unwrap_or(ptr::null_mut());
                    self.present(object, "one of the call's arguments")
                }
                tag::MEMBER => {
                    let i = self.source.read_varint()? as usize;
                    match self.context.external {
                        Some(external) if i < external.objects.len() && !self.context.receiver.is_null() => {
                            self.present(*external.member(self.context.receiver, i), "a member of the receiver")
                        }
                        _ => Err(Failure::Missing("the receiver has no such member".into())),
                    }
                }
                tag::HANDLE => {
                    let number = self.source.read_varint()?;
                    let object = external::object_of_handle(number as u32);
                    if object.is_null() {
                        return Err(Failure::Missing(format!("external object {number} is not alive")));
                    }
                    Ok(Owned::borrowed(object))
                }
                tag::NEW_HANDLE => self.new_handle(false),
                tag::NEW_BARE => self.new_handle(true),
                tag::BOUND => {
                    let event = self.source.read_varint()?;
                    let argument = self.source.read_varint()?;
                    self.present(crate::binding::object_of(event, argument), "an object given to an earlier call")
                }
                tag::CALLBACK_RESULT => {
                    let serial = self.source.read_varint()?;
                    self.present(crate::callback::result_of(serial), "what a callback raised")
                }
                tag::ITEM => {
                    let of = self.value()?;
                    let i = self.source.read_varint()? as Py_ssize_t;
                    if of.is_null() {
                        return Err(Failure::Missing("an item of nothing".into()));
                    }
                    made(PySequence_GetItem(of.0, i))
                }
                tag::KEEP => {
                    let object = self.value()?;
                    if !object.is_null() {
                        external::keep(self.context.receiver, object.0);
                    }
                    Ok(object)
                }
                tag::KEPT => {
                    let i = self.source.read_varint()? as usize;
                    self.present(external::kept_object(self.context.receiver, i), "what the receiver keeps")
                }
                tag::PATH => self.path(),
                tag::FRESH => {
                    let class = self.class()?;
                    let none = made(PyTuple_New(0))?;
                    let new =
                        PyBaseObject_Type.tp_new.ok_or_else(|| Failure::Missing("object has no tp_new".into()))?;
                    let object = made(new(class, none.0, ptr::null_mut()))?;
                    crate::binding::bind(object.0);
                    Ok(object)
                }
                tag::REFERENCES => self.references(),
                tag::REDUCED => {
                    let class = self.class()?;
                    let n = self.count()?;
                    let args = self.tuple(n)?;
                    if class == &raw mut PyCode_Type {
                        return made(retrace_abi::retrace_code_new(args.0));
                    }
                    if class == &raw mut PyTraceBack_Type {
                        return self.traceback(args.0);
                    }
                    made(PyObject_CallObject(class.cast(), args.0))
                }
                tag::FRAME => self.present(PyEval_GetFrame().cast(), "a Python frame"),
                tag::ATTRIBUTE => {
                    let of = self.value()?;
                    let name = self.value()?;
                    if of.is_null() || name.is_null() {
                        return Err(Failure::Missing("an attribute of nothing".into()));
                    }
                    if Py_REFCNT(of.0) == 1 && external::of_class(Py_TYPE(of.0)).is_some() {
                        // Only just made, and a callback's arguments have it as well: the external code holds it.
                        crate::callback::hold(of.0);
                    }
                    made(attribute_of(of.0, name.0))
                }
                other => Err(DecodeError::UnknownTag(other).into()),
            }
        }
    }

    unsafe fn present(&self, object: *mut PyObject, what: &str) -> Decoded {
        if object.is_null() {
            return Err(Failure::Missing(format!("{what} is missing")));
        }
        // SAFETY: live by the contract of `value`.
        Ok(unsafe { Owned::borrowed(object) })
    }

    unsafe fn str(&mut self, kind: i32) -> Decoded {
        let n = self.source.read_varint()?;
        // SAFETY: by the contract of `value`.
        unsafe { self.str_of(kind, n) }
    }

    /// A noted string.
    unsafe fn again(&mut self, index: u64) -> Decoded {
        let text = self.source.notes().string(index).ok_or(DecodeError::UnknownNote(index))?;
        let kind = match text.width() {
            Width::Ascii => 0,
            Width::One => 1,
            Width::Two => 2,
            Width::Four => 4,
        };
        // SAFETY: the data has as many characters of that kind.
        unsafe { made(retrace_abi::retrace_str_new(kind, text.data().as_ptr(), text.len() as Py_ssize_t)) }
    }

    unsafe fn str_of(&mut self, kind: i32, n: u64) -> Decoded {
        let data = self.source.read_vec(n.saturating_mul(kind.max(1) as u64))?;
        // SAFETY: the data has `n` characters of that kind.
        unsafe { made(retrace_abi::retrace_str_new(kind, data.as_ptr(), n as Py_ssize_t)) }
    }

    unsafe fn tuple(&mut self, n: usize) -> Decoded {
        // SAFETY: by the contract of `value`.
        unsafe {
            let tuple = made(PyTuple_New(n as Py_ssize_t))?;
            for i in 0..n {
                PyTuple_SET_ITEM(tuple.0, i as Py_ssize_t, self.value()?.into_raw());
            }
            Ok(tuple)
        }
    }

    unsafe fn list(&mut self) -> Decoded {
        let n = self.count()?;
        // SAFETY: by the contract of `value`.
        unsafe { self.list_of(n) }
    }

    unsafe fn list_of(&mut self, n: usize) -> Decoded {
        // SAFETY: by the contract of `value`.
        unsafe {
            let list = made(PyList_New(n as Py_ssize_t))?;
            for i in 0..n {
                PyList_SET_ITEM(list.0, i as Py_ssize_t, self.value()?.into_raw());
            }
            Ok(list)
        }
    }

    unsafe fn global(&mut self) -> Decoded {
        // SAFETY: by the contract of `value`.
        unsafe {
            let module = text(self.value()?.0);
            let name = text(self.value()?.0);
            let object = resolve_global(&module, &name);
            if !object.is_null() {
                return Ok(object);
            }
            let imports = crate::pickle::ImportState::now();
            let key = string(&module);
            let imported = PyImport_Import(key.0);
            if imported.is_null() {
                PyErr_Clear();
            }
            drop(Owned(imported));
            let object = resolve_global(&module, &name);
            imports.restore();
            if object.is_null() {
                return Err(Failure::Missing(format!("{module} has no {name}")));
            }
            Ok(object)
        }
    }

    unsafe fn class(&mut self) -> Result<*mut PyTypeObject, Failure> {
        // SAFETY: by the contract of `value`.
        unsafe {
            let class = self.value()?;
            if !class.is_null() && PyType_Check(class.0) != 0 {
                // Held by its module.
                return Ok(class.0.cast());
            }
            if !class.is_null() && PyUnicode_Check(class.0) != 0 {
                let name = text(class.0);
                return external::class_by_name(&name)
                    .or_else(|| struct_sequence(&name))
                    .ok_or_else(|| Failure::Missing(format!("there is no type {name} here")));
            }
            Err(Failure::Missing("a type is missing".into()))
        }
    }

    /// What `Encoder::path` names.
    unsafe fn path(&mut self) -> Decoded {
        // SAFETY: by the contract of `value`.
        unsafe {
            let root = self.value()?;
            let steps = self.value()?;
            let description = text(self.value()?.0);
            let root = match PyUnicode_CheckExact(root.0) {
                0 => root.0,
                _ => crate::python::loaded_module(&text(root.0)),
            };
            let steps: Vec<u32> = match steps.is_null() || PyTuple_CheckExact(steps.0) == 0 {
                true => return Err(Failure::Missing("a way to an object has no steps".into())),
                false => (0..PyTuple_GET_SIZE(steps.0)).map(|i| PyLong_AsLong(PyTuple_GET_ITEM(steps.0, i)) as u32),
            }
            .collect();
            let object = crate::path::follow(root, &steps);
            if object.is_null() || crate::path::description(object) != description {
                return Err(Failure::Missing(format!("the {description} is not where it was")));
            }
            crate::binding::bind_found(object);
            // What a method is bound to lives for as long as that, and goes with it.
            if !is_method(root) {
                crate::callback::hold(object);
            }
            Ok(Owned::borrowed(object))
        }
    }

    /// What `Encoder::references` describes.
    unsafe fn references(&mut self) -> Decoded {
        // SAFETY: by the contract of `value`; the class has that many words after the header, all of them references.
        unsafe {
            let class = self.class()?;
            let n = self.count()?;
            if (*class).tp_basicsize as usize != size_of::<PyObject>() + n * size_of::<*mut PyObject>() {
                return Err(Failure::Missing("a type has another size here".into()));
            }
            let allocate = (*class).tp_alloc.unwrap_or(PyType_GenericAlloc);
            let object = made(allocate(class, 0))?;
            let words = object.0.add(1).cast::<*mut PyObject>();
            for i in 0..n {
                *words.add(i) = self.value()?.into_raw();
            }
            Ok(object)
        }
    }

    unsafe fn struct_sequence(&mut self) -> Decoded {
        // SAFETY: by the contract of `value`; a struct sequence is a tuple with hidden items behind its length.
        unsafe {
            let class = self.class()?;
            let n = self.count()? as Py_ssize_t;
            if retrace_abi::retrace_structseq_fields(class) != n {
                return Err(Failure::Missing("a struct sequence has other fields here".into()));
            }
            let object = made(PyStructSequence_New(class))?;
            for i in 0..n {
                PyTuple_SET_ITEM(object.0, i, self.value()?.into_raw());
            }
            Ok(object)
        }
    }

    unsafe fn exception(&mut self) -> Decoded {
        // SAFETY: by the contract of `value`.
        unsafe {
            let class = self.class()?;
            let args = self.value()?;
            let state = self.value()?;
            if args.is_null() || PyTuple_Check(args.0) == 0 {
                return Err(Failure::Missing("an exception has no arguments".into()));
            }
            let exception = made(PyObject_CallObject(class.cast(), args.0))?;
            if !state.is_null() {
                let done = PyObject_CallMethod(exception.0, c"__setstate__".as_ptr(), c"O".as_ptr(), state.0);
                if done.is_null() {
                    return Err(Failure::Raised);
                }
                Py_DECREF(done);
            }
            Ok(exception)
        }
    }

    /// A traceback of the frame that made the call. C code that tells of an exception has it twice, by itself and of the
    /// exception: one object.
    unsafe fn traceback(&mut self, args: *mut PyObject) -> Decoded {
        // SAFETY: by the contract of `value`; the attributes of a traceback run no other code.
        unsafe {
            let names = [c"tb_next", c"tb_frame", c"tb_lasti", c"tb_lineno"];
            let is_same = |other: &&Owned| {
                names.iter().enumerate().all(|(i, name)| {
                    let wanted = PyTuple_GetItem(args, i as Py_ssize_t);
                    !wanted.is_null() && PyObject_RichCompareBool(attribute(other.0, name).0, wanted, Py_EQ) == 1
                })
            };
            if let Some(same) = self.tracebacks.iter().find(is_same) {
                return Ok(Owned::borrowed(same.0));
            }
            let new = made(PyObject_CallObject((&raw mut PyTraceBack_Type).cast(), args))?;
            self.tracebacks.push(Owned::borrowed(new.0));
            Ok(new)
        }
    }

    /// An external object: a new one, or what has become of one. `bare`: there is nothing but its type.
    unsafe fn new_handle(&mut self, bare: bool) -> Decoded {
        // SAFETY: by the contract of `value`.
        unsafe {
            let number = self.source.read_varint()? as u32;
            let class = self.class()?;
            let Some(external) = external::of_class(class) else {
                return Err(Failure::Missing("a type that was external is not".into()));
            };
            let object = match external::object_of_handle(number) {
                known if known.is_null() => made(external::new_stand_in(class, number))?,
                // A callback was given it before: it is finished now.
                known if Py_TYPE(known) == class => Owned::borrowed(known),
                _ => return Err(Failure::Missing(format!("external object {number} is of another type"))),
            };
            if bare {
                return match external.member_count() {
                    0 => Ok(object),
                    _ => Err(Failure::Missing(format!("{} has other members here", external.name))),
                };
            }
            let scalars = self.bytes()?;
            if !external.write_scalars(object.0, &scalars) {
                return Err(Failure::Missing(format!("{} has other members here", external.name)));
            }
            self.members(external, object.0)?;
            let dict = self.value()?;
            let slot = external.dict_slot(object.0);
            if !dict.is_null() && !slot.is_null() {
                let before = ptr::replace(slot, dict.into_raw());
                Py_XDECREF(before);
            }
            Ok(object)
        }
    }

    /// The object members of `object`, with their count.
    ///
    /// # Safety
    /// As [`Decoder::value`]; `object` is an instance of `external`.
    pub unsafe fn members(&mut self, external: &'static ExternalType, object: *mut PyObject) -> Result<(), Failure> {
        // SAFETY: by contract.
        unsafe {
            if self.count()? != external.member_count() {
                return Err(Failure::Missing(format!("{} has other members here", external.name)));
            }
            for i in 0..external.member_count() {
                external.write_member(object, i, self.value()?);
            }
            Ok(())
        }
    }
}

/// An attribute, without what the program's class has to say of all its attributes.
unsafe fn attribute_of(object: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    // SAFETY: by the contract of `value`.
    unsafe {
        let asks = crate::capi::_PyType_Lookup(Py_TYPE(object), string("__getattribute__").0);
        if PyType_Check(object) == 0 && !asks.is_null() && PyFunction_Check(asks) != 0 {
            return PyObject_GenericGetAttr(object, name);
        }
        PyObject_GetAttr(object, name)
    }
}
