//! From Python objects to the trace's values.
//!
//! Encoding may run Python (pickling) and may therefore release the GIL: an event is assembled in a buffer first and
//! appended once. The calling thread is marked external meanwhile, so nothing that runs here is recorded.

use crate::capi::{_PyLong_NumBits, bytes_size, is_method, method_receiver};
use crate::external::{self, ExternalType};
use crate::globals::put_global;
use crate::notes;
use crate::path::{Path, Root};
use crate::python::{Interned, Owned, SavedError, attribute, text};
use pyo3_ffi::*;
pub use retrace_replay::value::put_str;
use retrace_replay::value::{
    digest_tag, put_digest, put_prefixed, put_sequence_head, put_str_head, put_varint, tag, without_zeros,
};
use std::ffi::{CStr, c_int};
use std::ptr;
use xxhash_rust::xxh3::xxh3_64;

/// The longest string or bytes argument that is logged by value.
const SHORT: usize = 64;
/// Nesting beyond which a value is opaque: a list may contain itself.
const DEPTH: usize = 64;

static REDUCE: Interned = Interned::new(c"__reduce_ex__");

/// What a value may be the same object as.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub receiver: *mut PyObject,
    pub external: Option<&'static ExternalType>,
    pub args: &'a [*mut PyObject],
    /// The class that it was called on (`tp_new`, a class method), or an internal receiver's.
    pub class: *mut PyObject,
    /// The module whose function was called, or null: types of its own may be in no module that has a name.
    pub module: *mut PyObject,
}

impl Context<'_> {
    pub const NONE: Context<'static> = Context {
        receiver: ptr::null_mut(),
        external: None,
        args: &[],
        class: ptr::null_mut(),
        module: ptr::null_mut(),
    };
}

pub struct Encoder<'a> {
    pub out: &'a mut Vec<u8>,
    pub context: Context<'a>,
    /// Values that could not be stored.
    pub opaque: u32,
    /// What is encoded is given to the program by a callback: an object of the program's own is not to be copied.
    pub to_program: bool,
}

/// An integer in its shortest form.
#[inline]
pub fn put_int(out: &mut Vec<u8>, value: i64) {
    if (0..128).contains(&value) {
        out.push(tag::SMALL_INT | value as u8);
    } else if let Ok(v) = i8::try_from(value) {
        out.extend_from_slice(&[tag::INT1, v as u8]);
    } else if let Ok(v) = i16::try_from(value) {
        out.push(tag::INT2);
        out.extend_from_slice(&v.to_le_bytes());
    } else if let Ok(v) = i32::try_from(value) {
        out.push(tag::INT4);
        out.extend_from_slice(&v.to_le_bytes());
    } else {
        out.push(tag::INT8);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(tag::BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The contents of a bytes object.
///
/// # Safety
/// `object` is a bytes object that outlives the use.
pub unsafe fn bytes_of<'a>(object: *mut PyObject) -> &'a [u8] {
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts(PyBytes_AS_STRING(object).cast(), bytes_size(object)) }
}

impl<'a> Encoder<'a> {
    pub fn new(out: &'a mut Vec<u8>, context: Context<'a>) -> Encoder<'a> {
        Encoder { out, context, opaque: 0, to_program: false }
    }

    /// For what a callback gives to the program.
    pub fn for_program(out: &'a mut Vec<u8>, context: Context<'a>) -> Encoder<'a> {
        Encoder { to_program: true, ..Encoder::new(out, context) }
    }

    fn tag_varint(&mut self, tag: u8, n: usize) {
        self.out.push(tag);
        put_varint(self.out, n as u64);
    }

    /// # Safety
    /// `object` is live or null; the GIL is held, and the thread is marked external.
    pub unsafe fn value(&mut self, object: *mut PyObject) {
        // SAFETY: by contract.
        unsafe { self.nested(object, 0) }
    }

    /// None, booleans, exact numbers, strings and bytes: values without an identity worth keeping.
    unsafe fn plain(&mut self, object: *mut PyObject) -> bool {
        // SAFETY: by the contract of `value`; every type is checked before its layout is used.
        unsafe {
            if object.is_null() {
                self.out.push(tag::NULL);
            } else if object == Py_None() {
                self.out.push(tag::NONE);
            } else if object == Py_False() {
                self.out.push(tag::FALSE);
            } else if object == Py_True() {
                self.out.push(tag::TRUE);
            } else if PyLong_CheckExact(object) != 0 {
                self.int(object);
            } else if PyFloat_CheckExact(object) != 0 {
                self.out.push(tag::FLOAT);
                self.out.extend_from_slice(&PyFloat_AS_DOUBLE(object).to_le_bytes());
            } else {
                return false;
            }
            true
        }
    }

    unsafe fn int(&mut self, object: *mut PyObject) {
        // SAFETY: an exact int.
        unsafe {
            let mut small = 0;
            if retrace_abi::retrace_long_as_i64(object, &mut small) != 0 {
                put_int(self.out, small);
                return;
            }
            let bits = _PyLong_NumBits(object);
            let size = bits / 8 + 1;
            self.tag_varint(tag::BIGINT, size);
            let start = self.out.len();
            self.out.resize(start + size, 0);
            retrace_abi::retrace_long_to_bytes(object, self.out.as_mut_ptr().add(start), size);
        }
    }

    unsafe fn str(&mut self, object: *mut PyObject) {
        // SAFETY: an exact str; its raw data is read, so nothing is cached in the object.
        unsafe {
            let (mut length, mut kind): (Py_ssize_t, c_int) = (0, 0);
            let data = retrace_abi::retrace_str_data(object, &mut length, &mut kind);
            if data.is_null() {
                return self.opaque(object);
            }
            let tag = match kind {
                0 => tag::STR_ASCII,
                1 => tag::STR1,
                2 => tag::STR2,
                _ => tag::STR4,
            };
            put_str_head(self.out, tag, length as usize);
            let size = length as usize * (kind.max(1) as usize);
            self.out.extend_from_slice(std::slice::from_raw_parts(data, size));
        }
    }

    /// A string that is likely to be one that came before.
    unsafe fn known_str(&mut self, object: *mut PyObject) -> bool {
        // SAFETY: an exact str, as in `str`.
        unsafe {
            let (mut length, mut kind): (Py_ssize_t, c_int) = (0, 0);
            let data = retrace_abi::retrace_str_data(object, &mut length, &mut kind);
            kind == 0
                && !data.is_null()
                && notes::put_known(self.out, std::slice::from_raw_parts(data, length as usize))
        }
    }

    unsafe fn opaque(&mut self, object: *mut PyObject) {
        self.opaque += 1;
        self.out.push(tag::OPAQUE);
        // SAFETY: a live object.
        put_str(self.out, &unsafe { crate::python::type_name(object) });
    }

    unsafe fn same_object(&mut self, object: *mut PyObject) -> bool {
        let context = self.context;
        if object == context.receiver {
            self.out.push(tag::RECEIVER);
            return true;
        }
        if let Some(i) = context.args.iter().position(|&arg| arg == object) {
            self.tag_varint(tag::ARGUMENT, i);
            return true;
        }
        // SAFETY: the GIL is held.
        if let Some(serial) = unsafe { crate::callback::result_serial(object) } {
            self.tag_varint(tag::CALLBACK_RESULT, serial as usize);
            return true;
        }
        for (i, &arg) in context.args.iter().enumerate() {
            // SAFETY: an argument is live; its type is checked before its layout is used.
            if let Some(j) = unsafe { position_in(arg, object) } {
                self.out.push(tag::ITEM);
                self.tag_varint(tag::ARGUMENT, i);
                put_varint(self.out, j as u64);
                return true;
            }
        }
        // SAFETY: the GIL is held; results are live.
        let in_result = unsafe { crate::callback::place_in_result(|result| position_in(result, object)) };
        if let Some((serial, j)) = in_result {
            self.out.push(tag::ITEM);
            self.tag_varint(tag::CALLBACK_RESULT, serial as usize);
            put_varint(self.out, j as u64);
            return true;
        }
        if let (Some(external), false) = (context.external, context.receiver.is_null()) {
            // SAFETY: the context's receiver is an instance of its external type.
            if let Some(i) = unsafe { external.member_that_is(context.receiver, object) } {
                self.tag_varint(tag::MEMBER, i);
                return true;
            }
        }
        false
    }

    unsafe fn nested(&mut self, object: *mut PyObject, depth: usize) {
        // SAFETY: by the contract of `value`; every type is checked before its layout is used.
        unsafe {
            if self.plain(object) {
                return;
            }
            if depth > DEPTH {
                return self.opaque(object);
            }
            if self.same_object(object) {
                return;
            }
            if PyUnicode_CheckExact(object) != 0 {
                if !self.known_str(object) {
                    self.str(object);
                }
                return;
            }
            if PyBytes_CheckExact(object) != 0 {
                return put_bytes(self.out, bytes_of(object));
            }
            if PyTuple_CheckExact(object) != 0 {
                let n = PyTuple_GET_SIZE(object);
                put_sequence_head(self.out, tag::TUPLE, n as usize);
                for i in 0..n {
                    self.nested(PyTuple_GET_ITEM(object, i), depth + 1);
                }
            } else if PyList_CheckExact(object) != 0 {
                let n = PyList_GET_SIZE(object);
                put_sequence_head(self.out, tag::LIST, n as usize);
                for i in 0..n {
                    self.nested(PyList_GET_ITEM(object, i), depth + 1);
                }
            } else if PyDict_CheckExact(object) != 0 {
                self.tag_varint(tag::DICT, PyDict_Size(object) as usize);
                let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
                while PyDict_Next(object, &mut position, &mut key, &mut value) != 0 {
                    self.nested(key, depth + 1);
                    self.nested(value, depth + 1);
                }
            } else if PyAnySet_CheckExact(object) != 0 {
                let frozen = PyFrozenSet_CheckExact(object) != 0;
                let items = Owned(PySequence_List(object));
                self.tag_varint(if frozen { tag::FROZENSET } else { tag::SET }, PyList_GET_SIZE(items.0) as usize);
                for i in 0..PyList_GET_SIZE(items.0) {
                    self.nested(PyList_GET_ITEM(items.0, i), depth + 1);
                }
            } else if PyByteArray_CheckExact(object) != 0 {
                let n = PyByteArray_Size(object) as usize;
                self.tag_varint(tag::BYTEARRAY, n);
                self.out.extend_from_slice(std::slice::from_raw_parts(PyByteArray_AsString(object).cast(), n));
            } else if PyComplex_CheckExact(object) != 0 {
                self.out.push(tag::COMPLEX);
                self.out.extend_from_slice(&PyComplex_RealAsDouble(object).to_le_bytes());
                self.out.extend_from_slice(&PyComplex_ImagAsDouble(object).to_le_bytes());
            } else if PyExceptionInstance_Check(object) != 0 {
                self.exception(object, depth);
            } else {
                self.object(object, depth);
            }
        }
    }

    unsafe fn object(&mut self, object: *mut PyObject, depth: usize) {
        // SAFETY: by the contract of `value`.
        unsafe {
            let class = Py_TYPE(object);
            if let Some(external) = external::of_class(class) {
                return self.external(object, external, depth);
            }
            let fields = retrace_abi::retrace_structseq_fields(class);
            if fields >= 0 && (self.global_mark(class.cast(), tag::STRUCTSEQ) || self.nameless_mark(class)) {
                put_varint(self.out, fields as u64);
                for i in 0..fields {
                    self.nested(PyTuple_GET_ITEM(object, i), depth + 1);
                }
                return;
            }
            if (PyType_Check(object) != 0 || PyFunction_Check(object) != 0 || PyCFunction_Check(object) != 0)
                && put_global(self.out, object)
            {
                return;
            }
            if PyCode_Check(object) != 0 {
                return self.code(object, depth);
            }
            if PyTraceBack_Check(object) != 0 && self.traceback(object, depth) {
                return;
            }
            if let Some((event, argument)) = crate::binding::name_of(object) {
                self.tag_varint(tag::BOUND, event as usize);
                put_varint(self.out, argument);
                return;
            }
            if self.to_program && self.attribute_of_sys(object) {
                return;
            }
            if self.to_program
                && is_of_the_program(object)
                && (self.receiver_of_argument(object)
                    || self.zone_of_receiver(object)
                    || self.fresh(object, depth)
                    || self.path(crate::path::find(object, self.context), object))
            {
                return;
            }
            if self.references(object, depth) || self.reduced(object, depth) {
                return;
            }
            let Context { receiver, class, args, .. } = self.context;
            let known = crate::pickle::Known::of(if receiver.is_null() { class } else { receiver }, args);
            let pickled = crate::pickle::dumps(object, &known);
            if pickled.is_null() {
                return self.opaque(object);
            }
            let bytes = bytes_of(pickled.0);
            self.tag_varint(tag::PICKLE, bytes.len());
            self.out.extend_from_slice(bytes);
        }
    }

    /// An object that external code found rather than was given, by the way to it from what both directions know.
    ///
    /// # Safety
    /// As [`Encoder::value`].
    unsafe fn path(&mut self, path: Option<Path>, object: *mut PyObject) -> bool {
        // SAFETY: by contract.
        unsafe {
            let Some(path) = path else { return false };
            self.out.push(tag::PATH);
            match path.root {
                Root::Receiver => self.out.push(tag::RECEIVER),
                Root::Argument(i) => self.tag_varint(tag::ARGUMENT, i),
                Root::Bound(call, argument) => {
                    self.tag_varint(tag::BOUND, call as usize);
                    put_varint(self.out, argument);
                }
                Root::Module(name) => put_str(self.out, &name),
            }
            self.tag_varint(tag::TUPLE, path.steps.len());
            for step in path.steps {
                put_int(self.out, step.into());
            }
            put_str(self.out, &crate::path::description(object));
            crate::binding::bind_found(object);
            true
        }
    }

    /// What a bound method among the call's arguments is bound to.
    unsafe fn receiver_of_argument(&mut self, object: *mut PyObject) -> bool {
        // SAFETY: by the contract of `value`.
        unsafe {
            let found = self.context.args.iter().position(|&arg| is_method(arg) && method_receiver(arg) == object);
            let Some(i) = found else { return false };
            self.out.push(tag::ATTRIBUTE);
            self.tag_varint(tag::ARGUMENT, i);
            put_str(self.out, "__self__");
            true
        }
    }

    /// The time zone of the receiver, a datetime: the collector does not know of it, so no way leads there.
    unsafe fn zone_of_receiver(&mut self, object: *mut PyObject) -> bool {
        // SAFETY: by the contract of `value`; a getter in C of a type without references that the collector knows.
        unsafe {
            let receiver = self.context.receiver;
            if receiver.is_null() {
                return false;
            }
            // A subclass of the program's may not have another attribute in its place.
            let mut class = Py_TYPE(receiver);
            let zone = loop {
                let found = PyDict_GetItemString(retrace_abi::retrace_type_dict(class), c"tzinfo".as_ptr());
                if !found.is_null() || !is_of_python(class) {
                    break found;
                }
                class = (*class).tp_base;
            };
            if zone.is_null()
                || (*class).tp_flags & Py_TPFLAGS_HAVE_GC != 0
                || Py_TYPE(zone) != &raw mut PyGetSetDescr_Type
                || attribute(receiver, c"tzinfo").0 != object
            {
                return false;
            }
            self.out.extend_from_slice(&[tag::ATTRIBUTE, tag::RECEIVER]);
            put_str(self.out, "tzinfo");
            true
        }
    }

    /// An instance that external code has just made of a class of the program: it has no attributes yet.
    unsafe fn fresh(&mut self, object: *mut PyObject, depth: usize) -> bool {
        // SAFETY: by the contract of `value`.
        unsafe {
            if !crate::path::is_fresh(object) {
                return false;
            }
            // What a method that was given is bound to may look like that, too.
            if self.path(crate::path::find_near(object, self.context), object) {
                return true;
            }
            self.out.push(tag::FRESH);
            self.nested(Py_TYPE(object).cast(), depth + 1);
            crate::binding::bind(object);
            true
        }
    }

    /// An instance of a C type whose memory is nothing but references, and which can't be pickled (sqlite3.Row).
    unsafe fn references(&mut self, object: *mut PyObject, depth: usize) -> bool {
        const WORD: usize = size_of::<*mut PyObject>();
        // SAFETY: by the contract of `value`; the words read lie within the instance.
        unsafe {
            let class = Py_TYPE(object);
            if !crate::path::is_only_references(object) || !self.global_mark(class.cast(), tag::REFERENCES) {
                return false;
            }
            let words = ((*class).tp_basicsize as usize - size_of::<PyObject>()) / WORD;
            put_varint(self.out, words as u64);
            for i in 0..words {
                self.nested(*object.add(1).cast::<*mut PyObject>().add(i), depth + 1);
            }
            true
        }
    }

    /// What the program has put into `sys`, where C code finds it: a hook, of which an audit hook is told that it is called, or
    /// a stream that is written to.
    unsafe fn attribute_of_sys(&mut self, object: *mut PyObject) -> bool {
        const ATTRIBUTES: [&CStr; 7] =
            [c"stderr", c"stdout", c"stdin", c"unraisablehook", c"excepthook", c"displayhook", c"breakpointhook"];
        // SAFETY: by the contract of `value`; what is found is borrowed.
        let found = ATTRIBUTES.iter().find(|name| unsafe { PySys_GetObject(name.as_ptr()) } == object);
        let Some(name) = found.and_then(|name| name.to_str().ok()) else { return false };
        self.out.push(tag::GLOBAL);
        // SAFETY: as above.
        unsafe {
            notes::put_name(self.out, "sys");
            notes::put_name(self.out, name);
        }
        true
    }

    /// The traceback of an exception that a callback of the call has raised, or that C code has where it tells the program of
    /// an exception: it says where the call was made.
    unsafe fn traceback(&mut self, object: *mut PyObject, depth: usize) -> bool {
        // SAFETY: by the contract of `value`; the attributes of a traceback run no other code.
        unsafe {
            if let Some(serial) = crate::callback::serial_of_traceback(object) {
                self.out.push(tag::ATTRIBUTE);
                self.tag_varint(tag::CALLBACK_RESULT, serial as usize);
                put_str(self.out, "__traceback__");
                return true;
            }
            if !self.to_program || !is_of_call(object) {
                return false;
            }
            self.out.extend_from_slice(&[tag::REDUCED, tag::GLOBAL]);
            notes::put_name(self.out, "types");
            notes::put_name(self.out, "TracebackType");
            put_varint(self.out, 4);
            self.nested(attribute(object, c"tb_next").0, depth + 1);
            self.out.push(tag::FRAME);
            for name in [c"tb_lasti", c"tb_lineno"] {
                self.nested(attribute(object, name).0, depth + 1);
            }
            true
        }
    }

    /// Writes the mark of a struct sequence and the C name of its type, which no module has (what sys.unraisablehook is
    /// given), if that finds it.
    unsafe fn nameless_mark(&mut self, class: *mut PyTypeObject) -> bool {
        // SAFETY: by the contract of `value`.
        unsafe {
            let name = crate::python::lossy(CStr::from_ptr((*class).tp_name).to_bytes());
            if struct_sequence(&name) != Some(class) {
                return false;
            }
            self.out.push(tag::STRUCTSEQ);
            put_str(self.out, &name);
            true
        }
    }

    /// A code object: what its type makes it of. One that is made anew is equal.
    unsafe fn code(&mut self, object: *mut PyObject, depth: usize) {
        // SAFETY: by the contract of `value`; the attributes of a code object run no other code.
        unsafe {
            self.out.extend_from_slice(&[tag::REDUCED, tag::GLOBAL]);
            notes::put_name(self.out, "types");
            notes::put_name(self.out, "CodeType");
            put_varint(self.out, retrace_abi::CODE_FIELDS.len() as u64);
            for name in retrace_abi::CODE_FIELDS {
                self.nested(attribute(object, name).0, depth + 1);
            }
        }
    }

    /// An instance of a C type that is what the type makes of a few plain arguments (a datetime): as the pickler would
    /// say it, but shorter.
    unsafe fn reduced(&mut self, object: *mut PyObject, depth: usize) -> bool {
        // SAFETY: by the contract of `value`.
        unsafe {
            let class = Py_TYPE(object);
            if is_of_python(class) {
                return false;
            }
            let protocol = Owned(PyLong_FromLong(4));
            let reduced = Owned(PyObject_CallMethodOneArg(object, REDUCE.get(), protocol.0));
            if reduced.is_null() {
                PyErr_Clear();
                return false;
            }
            let is_pair = PyTuple_CheckExact(reduced.0) != 0 && PyTuple_GET_SIZE(reduced.0) == 2;
            if !is_pair || PyTuple_GET_ITEM(reduced.0, 0) != class.cast() {
                return false;
            }
            let args = PyTuple_GET_ITEM(reduced.0, 1);
            if PyTuple_CheckExact(args) == 0 || !(0..PyTuple_GET_SIZE(args)).all(|i| self.is_plain(args, i)) {
                return false;
            }
            if !self.global_mark(class.cast(), tag::REDUCED) {
                return false;
            }
            let n = PyTuple_GET_SIZE(args);
            put_varint(self.out, n as u64);
            for i in 0..n {
                self.nested(PyTuple_GET_ITEM(args, i), depth + 1);
            }
            true
        }
    }

    /// Whether an item of `args` is a value without an identity worth keeping, or one that the call has.
    unsafe fn is_plain(&self, args: *mut PyObject, i: Py_ssize_t) -> bool {
        // SAFETY: an item of a live tuple.
        unsafe {
            let item = PyTuple_GET_ITEM(args, i);
            item == Py_None()
                || PyLong_CheckExact(item) != 0
                || PyFloat_CheckExact(item) != 0
                || PyUnicode_CheckExact(item) != 0
                || PyBytes_CheckExact(item) != 0
                || self.context.args.contains(&item)
        }
    }

    unsafe fn external(&mut self, object: *mut PyObject, external: &'static ExternalType, depth: usize) {
        // SAFETY: by the contract of `value`.
        unsafe {
            let number = match external::handle_of(object) {
                // What a callback was given while the call still made it has other members now.
                Some(number) if !self.to_program && external::is_finished(number) => number,
                Some(number) => return self.tag_varint(tag::HANDLE, number as usize),
                None => external::new_handle(object),
            };
            if self.to_program {
                external::is_in_the_making(number);
            }
            let start = self.out.len();
            self.tag_varint(tag::NEW_HANDLE, number as usize);
            let class = Py_TYPE(object).cast::<PyObject>();
            if !self.of_receiver(class) && !put_global(self.out, class) {
                if let Some(i) = self.context.args.iter().position(|&arg| arg == class) {
                    // A function's own class, as a factory.
                    self.tag_varint(tag::ARGUMENT, i);
                } else {
                    // A hidden type (posix.ScandirIterator): by its C name.
                    put_str(self.out, &external.name);
                }
            }
            let mut scalars = Vec::new();
            external.read_scalars(object, &mut scalars);
            let dict = external.dict_slot(object);
            let dict = if dict.is_null() { ptr::null_mut() } else { *dict };
            let scalars = without_zeros(&scalars);
            if scalars.is_empty() && external.member_count() == 0 && dict.is_null() {
                self.out[start] = tag::NEW_BARE;
                return;
            }
            put_prefixed(self.out, scalars);
            put_varint(self.out, external.member_count() as u64);
            for i in 0..external.member_count() {
                self.nested(external.member_value(object, i).0, depth + 1);
            }
            self.nested(dict, depth + 1);
        }
    }

    /// Writes `mark` and then the Global of `class`, if it can be found again by its name.
    unsafe fn global_mark(&mut self, class: *mut PyObject, mark: u8) -> bool {
        let start = self.out.len();
        self.out.push(mark);
        // SAFETY: by the contract of `value`.
        let found = unsafe { put_global(self.out, class) || self.of_module(class) || self.of_receiver(class) };
        if !found {
            self.out.truncate(start);
        }
        found
    }

    /// The receiver's own type, which need not be where its name says.
    fn of_receiver(&mut self, class: *mut PyObject) -> bool {
        let is_it = class == self.context.class;
        if is_it {
            self.out.push(tag::RECEIVER);
        }
        is_it
    }

    /// A type as the attribute of the module whose function was called.
    unsafe fn of_module(&mut self, class: *mut PyObject) -> bool {
        // SAFETY: by the contract of `value`; a module's dict is borrowed.
        unsafe {
            if self.context.module.is_null() {
                return false;
            }
            let (mut position, mut name, mut value) = (0, ptr::null_mut(), ptr::null_mut());
            while PyDict_Next(PyModule_GetDict(self.context.module), &mut position, &mut name, &mut value) != 0 {
                if value == class && PyUnicode_CheckExact(name) != 0 {
                    self.out.extend_from_slice(&[tag::ATTRIBUTE, tag::RECEIVER]);
                    put_str(self.out, &text(name));
                    return true;
                }
            }
            false
        }
    }

    unsafe fn exception(&mut self, object: *mut PyObject, depth: usize) {
        // SAFETY: by the contract of `value`.
        unsafe {
            let start = self.out.len();
            if !self.global_mark(Py_TYPE(object).cast(), tag::EXCEPTION) {
                return self.opaque(object);
            }
            // `__reduce__` gives OSError's file names, which are not in `args`.
            let reduced = Owned(PyObject_CallMethod(object, c"__reduce__".as_ptr(), ptr::null()));
            if reduced.is_null() || PyTuple_Check(reduced.0) == 0 || PyTuple_GET_SIZE(reduced.0) < 2 {
                PyErr_Clear();
                self.out.truncate(start);
                return self.opaque(object);
            }
            self.nested(PyTuple_GET_ITEM(reduced.0, 1), depth + 1);
            let state = if PyTuple_GET_SIZE(reduced.0) > 2 { PyTuple_GET_ITEM(reduced.0, 2) } else { ptr::null_mut() };
            let mut state = Owned::borrowed(if state == Py_None() { ptr::null_mut() } else { state });
            let traceback = Owned(PyException_GetTraceback(object));
            let is_names = state.is_null() || PyDict_CheckExact(state.0) != 0;
            if self.to_program && is_names && !traceback.is_null() && is_of_call(traceback.0) {
                // What has a state is given it attribute by attribute.
                state = Owned(if state.is_null() { PyDict_New() } else { PyDict_Copy(state.0) });
                PyDict_SetItemString(state.0, c"__traceback__".as_ptr(), traceback.0);
                PyErr_Clear();
            }
            self.nested(state.0, depth + 1);
        }
    }

    /// An argument: by value where that is short, else what it takes to notice that another was passed.
    ///
    /// # Safety
    /// As [`Encoder::value`].
    pub unsafe fn argument(&mut self, object: *mut PyObject, full: bool) {
        // SAFETY: by contract.
        unsafe { self.argument_at(object, full, 0) }
    }

    /// A buffer that the call writes into: its type and length.
    ///
    /// # Safety
    /// As [`Encoder::value`].
    pub unsafe fn output_buffer(&mut self, object: *mut PyObject) {
        // SAFETY: by contract.
        unsafe {
            // Not hashed: it may be ten million bytes, of which a few are written.
            let (length, _) = self.summary(object, |_| 0);
            let name = crate::python::type_name(object);
            self.digest(&name, length, 0);
        }
    }

    unsafe fn argument_at(&mut self, object: *mut PyObject, full: bool, depth: usize) {
        // SAFETY: by the contract of `value`.
        unsafe {
            if self.plain(object) {
                return;
            }
            if PyUnicode_CheckExact(object) != 0 {
                if full || PyUnicode_GET_LENGTH(object) as usize <= SHORT {
                    return self.str(object);
                }
                let (mut length, mut kind) = (0, 0);
                let data = retrace_abi::retrace_str_data(object, &mut length, &mut kind);
                let size = if data.is_null() { 0 } else { length as usize * (kind.max(1) as usize) };
                let raw = if size == 0 { &[] } else { std::slice::from_raw_parts(data, size) };
                return self.digest("str", length as u64, xxh3_64(raw));
            }
            if PyBytes_CheckExact(object) != 0 {
                let bytes = bytes_of(object);
                if full || bytes.len() <= SHORT {
                    return put_bytes(self.out, bytes);
                }
                return self.digest("bytes", bytes.len() as u64, xxh3_64(bytes));
            }
            if PyTuple_CheckExact(object) != 0 && PyTuple_GET_SIZE(object) <= 8 && depth < 4 {
                let n = PyTuple_GET_SIZE(object);
                put_sequence_head(self.out, tag::TUPLE, n as usize);
                for i in 0..n {
                    self.argument_at(PyTuple_GET_ITEM(object, i), full, depth + 1);
                }
                return;
            }
            if let Some(number) = external::handle_of(object) {
                return self.tag_varint(tag::HANDLE, number as usize);
            }
            if PyType_Check(object) != 0 && put_global(self.out, object) {
                return;
            }
            let (length, hash) = self.summary(object, xxh3_64);
            let name = crate::python::type_name(object);
            self.digest(&name, length, hash);
        }
    }

    /// The length and, of bytes if there are any, what `hash` makes of them; both 0 where that is not known.
    unsafe fn summary(&mut self, object: *mut PyObject, hash: impl FnOnce(&[u8]) -> u64) -> (u64, u64) {
        // SAFETY: by the contract of `value`.
        unsafe {
            if PyByteArray_CheckExact(object) != 0 || PyMemoryView_Check(object) != 0 {
                let saved = SavedError::take();
                let mut view: Py_buffer = std::mem::zeroed();
                if PyObject_GetBuffer(object, &mut view, PyBUF_SIMPLE) < 0 {
                    PyErr_Clear();
                    drop(saved);
                    return (0, 0);
                }
                let contents = std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize);
                let summary = (contents.len() as u64, if contents.is_empty() { 0 } else { hash(contents) });
                PyBuffer_Release(&mut view);
                drop(saved);
                return summary;
            }
            if PyList_CheckExact(object) != 0 {
                return (PyList_GET_SIZE(object) as u64, 0);
            }
            if PyDict_CheckExact(object) != 0 {
                return (PyDict_Size(object) as u64, 0);
            }
            (0, 0)
        }
    }

    unsafe fn digest(&mut self, name: &str, length: u64, hash: u64) {
        self.out.push(digest_tag(length, hash));
        // SAFETY: the GIL is held.
        unsafe { notes::put_name(self.out, name) };
        put_digest(self.out, length, hash);
    }
}

/// Whether a traceback begins in the frame that made the current call, as one that C code makes there does.
unsafe fn is_of_call(traceback: *mut PyObject) -> bool {
    // SAFETY: a live traceback; the GIL is held.
    unsafe {
        let frame = attribute(traceback, c"tb_frame");
        let next = attribute(traceback, c"tb_next");
        let is_known = next.0 == Py_None() || crate::callback::serial_of_traceback(next.0).is_some();
        is_known && !frame.is_null() && frame.0 == PyEval_GetFrame().cast()
    }
}

/// Whether the object is one whose identity the program knows: a function, a class that it made, or an instance of one.
unsafe fn is_of_the_program(object: *mut PyObject) -> bool {
    // SAFETY: by contract of the caller.
    unsafe {
        let class = Py_TYPE(object);
        PyFunction_Check(object) != 0
            || (PyType_Check(object) != 0 && is_of_python(object.cast()))
            || (is_of_python(class) && (*class).tp_weaklistoffset != 0)
    }
}

/// Whether a `class` statement made the type.
unsafe fn is_of_python(class: *mut PyTypeObject) -> bool {
    // SAFETY: by contract of the caller.
    unsafe { (*class).tp_flags & Py_TPFLAGS_HEAPTYPE != 0 && (*class.cast::<PyHeapTypeObject>()).ht_module.is_null() }
}

/// Where an exact list or tuple has this very object.
unsafe fn position_in(sequence: *mut PyObject, object: *mut PyObject) -> Option<usize> {
    /// A longer one is not searched: select() takes no more descriptors than this.
    const SEARCHED: Py_ssize_t = 1024;
    // SAFETY: by contract of the caller.
    unsafe {
        if PyList_CheckExact(sequence) != 0 {
            let n = PyList_GET_SIZE(sequence).min(SEARCHED);
            (0..n).position(|i| PyList_GET_ITEM(sequence, i) == object)
        } else if PyTuple_CheckExact(sequence) != 0 {
            let n = PyTuple_GET_SIZE(sequence).min(SEARCHED);
            (0..n).position(|i| PyTuple_GET_ITEM(sequence, i) == object)
        } else {
            None
        }
    }
}

/// The struct sequence type of this C name, in whatever module: the first one that was made.
///
/// # Safety
/// The GIL is held, and the thread is marked external.
pub unsafe fn struct_sequence(name: &str) -> Option<*mut PyTypeObject> {
    // SAFETY: by contract; the list holds the types that are compared.
    unsafe {
        let tuple: *mut PyObject = (&raw mut PyTuple_Type).cast();
        let classes = Owned(PyObject_CallMethod(tuple, c"__subclasses__".as_ptr(), ptr::null()));
        if classes.is_null() {
            PyErr_Clear();
            return None;
        }
        (0..PyList_GET_SIZE(classes.0)).map(|i| PyList_GET_ITEM(classes.0, i).cast::<PyTypeObject>()).find(|&class| {
            retrace_abi::retrace_structseq_fields(class) >= 0
                && CStr::from_ptr((*class).tp_name).to_bytes() == name.as_bytes()
        })
    }
}
