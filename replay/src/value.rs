//! Values: what crossed the boundary, as it stands in the trace.
#![forbid(unsafe_code)]

use crate::byte_source::{ByteSource, DecodeError};
use crate::text::Text;

pub use crate::notes::Notes;
pub use crate::strings::{Str, put_again, put_str, put_str_head};

/// The byte each encoded value begins with.
#[allow(missing_docs, reason = "the names are the documentation; docs/trace-format.md has the contents of each")]
pub mod tag {
    pub const NULL: u8 = 0x00;
    pub const NONE: u8 = 0x01;
    pub const FALSE: u8 = 0x02;
    pub const TRUE: u8 = 0x03;
    pub const INT1: u8 = 0x04;
    pub const INT2: u8 = 0x05;
    pub const INT4: u8 = 0x06;
    pub const INT8: u8 = 0x07;
    pub const BIGINT: u8 = 0x08;
    pub const FLOAT: u8 = 0x09;
    pub const COMPLEX: u8 = 0x0a;
    pub const BYTES: u8 = 0x0b;
    pub const STR_ASCII: u8 = 0x0c;
    pub const STR1: u8 = 0x0d;
    pub const STR2: u8 = 0x0e;
    pub const STR4: u8 = 0x0f;
    pub const TUPLE: u8 = 0x10;
    pub const LIST: u8 = 0x11;
    pub const DICT: u8 = 0x12;
    pub const SET: u8 = 0x13;
    pub const FROZENSET: u8 = 0x14;
    pub const BYTEARRAY: u8 = 0x15;
    pub const SLICE: u8 = 0x16;
    pub const RANGE: u8 = 0x17;
    pub const STRUCTSEQ: u8 = 0x18;
    pub const GLOBAL: u8 = 0x19;
    pub const PICKLE: u8 = 0x1a;
    pub const EXCEPTION: u8 = 0x1b;
    pub const OPAQUE: u8 = 0x1c;
    pub const RECEIVER: u8 = 0x20;
    pub const ARGUMENT: u8 = 0x21;
    pub const MEMBER: u8 = 0x22;
    pub const HANDLE: u8 = 0x23;
    pub const NEW_HANDLE: u8 = 0x24;
    pub const BOUND: u8 = 0x25;
    pub const DIGEST: u8 = 0x26;
    pub const KEYWORD: u8 = 0x27;
    pub const AGAIN: u8 = 0x28;
    pub const CALLBACK_RESULT: u8 = 0x2a;
    pub const FRAME: u8 = 0x2b;
    pub const ATTRIBUTE: u8 = 0x2c;
    pub const ITEM: u8 = 0x2d;
    pub const KEEP: u8 = 0x2e;
    pub const KEPT: u8 = 0x2f;
    pub const PATH: u8 = 0x30;
    pub const FRESH: u8 = 0x31;
    pub const REFERENCES: u8 = 0x32;
    pub const REDUCED: u8 = 0x33;
    pub const NEW_BARE: u8 = 0x34;
    pub const SIZED: u8 = 0x35;
    pub const INSTANCE: u8 = 0x36;
    /// `SHORT_STR + n` is an ASCII string of `n` characters, of fewer than `SHORT_STRS`.
    pub const SHORT_STR: u8 = 0x40;
    pub const SHORT_STRS: usize = 0x20;
    pub const LAST_SHORT_STR: u8 = SHORT_STR + SHORT_STRS as u8 - 1;
    /// `SHORT_TUPLE + n` is a tuple of `n` values, of fewer than `SHORT_LISTS`; lists likewise.
    pub const SHORT_TUPLE: u8 = 0x60;
    pub const SHORT_LIST: u8 = 0x68;
    pub const SHORT_LISTS: usize = 8;
    pub const LAST_SHORT_TUPLE: u8 = SHORT_TUPLE + SHORT_LISTS as u8 - 1;
    pub const LAST_SHORT_LIST: u8 = SHORT_LIST + SHORT_LISTS as u8 - 1;
    /// `SHORT_AGAIN + n` is the noted string `n`, of fewer than `SHORT_AGAINS`.
    pub const SHORT_AGAIN: u8 = 0x70;
    pub const SHORT_AGAINS: u64 = 0x10;
    pub const LAST_SHORT_AGAIN: u8 = SHORT_AGAIN + SHORT_AGAINS as u8 - 1;
    /// `SMALL_INT + n` is the int `n`, from 0 to 127.
    pub const SMALL_INT: u8 = 0x80;
}

/// How deep values may nest. The writer stores what is deeper as opaque; the reader refuses it, because decoding
/// recurses.
pub const MAX_DEPTH: usize = 128;

/// Appends `number` as unsigned LEB128.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends the length of `bytes` and them.
pub fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends the tag of a tuple or list of `length` values, and the length where the tag does not say it.
#[inline]
pub fn put_sequence_head(out: &mut Vec<u8>, tag: u8, length: usize) {
    let short = if tag == tag::TUPLE { tag::SHORT_TUPLE } else { tag::SHORT_LIST };
    if length < tag::SHORT_LISTS {
        out.push(short | length as u8);
    } else {
        out.push(tag);
        put_varint(out, length as u64);
    }
}

/// The tag of a summary: only what there is follows the type's name.
pub fn digest_tag(length: u64, hash: u64) -> u8 {
    match (length, hash) {
        (0, 0) => tag::INSTANCE,
        (_, 0) => tag::SIZED,
        _ => tag::DIGEST,
    }
}

/// What follows the type's name.
pub fn put_digest(out: &mut Vec<u8>, length: u64, hash: u64) {
    if digest_tag(length, hash) != tag::INSTANCE {
        put_varint(out, length);
    }
    if hash != 0 {
        out.extend_from_slice(&hash.to_le_bytes());
    }
}

/// A memory's bytes without the zeros at its end, which the reader puts back.
pub fn without_zeros(scalars: &[u8]) -> &[u8] {
    let used = scalars.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &scalars[..used]
}

fn put_values(out: &mut Vec<u8>, values: &[Value]) {
    put_varint(out, values.len() as u64);
    for value in values {
        value.encode(out);
    }
}

/// An external object at its first crossing.
#[derive(Debug, Clone, PartialEq)]
pub struct NewHandle {
    /// The number by which later events name the object.
    pub id: u64,
    /// Its type.
    pub type_: Value,
    /// Its scalar members' memory, concatenated, without the zeros at the end.
    pub scalars: Vec<u8>,
    /// Its object members.
    pub members: Vec<Value>,
    /// Its `__dict__`: a dict or Null.
    pub dict: Value,
}

impl NewHandle {
    /// Whether there is nothing to say but its type.
    fn is_bare(&self) -> bool {
        self.scalars.is_empty() && self.members.is_empty() && self.dict == Value::Null
    }
}

/// One value. The variants are the format's, in its order.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of docs/trace-format.md, under the same names")]
pub enum Value {
    /// No object at all.
    Null,
    None,
    Bool(bool),
    Int(i64),
    /// Little-endian two's complement.
    BigInt(Vec<u8>),
    Float(f64),
    Complex(f64, f64),
    Bytes(Vec<u8>),
    Str(Str),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Set(Vec<Value>),
    FrozenSet(Vec<Value>),
    ByteArray(Vec<u8>),
    /// Start, stop, step.
    Slice(Box<[Value; 3]>),
    /// Start, stop, step.
    Range(Box<[Value; 3]>),
    StructSeq {
        type_: Box<Value>,
        items: Vec<Value>,
    },
    Global {
        module: Str,
        name: Str,
    },
    Pickle(Vec<u8>),
    /// Type, args, state.
    Exception(Box<[Value; 3]>),
    /// The name of the type of what could not be stored.
    Opaque(Str),
    Receiver,
    Argument(u64),
    Member(u64),
    Handle(u64),
    NewHandle(Box<NewHandle>),
    Bound {
        call: u64,
        argument: u64,
    },
    /// A length and hash of 0 where there are none.
    Digest {
        type_name: Str,
        length: u64,
        hash: u64,
    },
    Keyword {
        name: Str,
        value: Box<Value>,
    },
    CallbackResult(u64),
    Frame,
    Attribute {
        of: Box<Value>,
        name: Str,
    },
    /// A value that the receiver keeps a reference to.
    Keep(Box<Value>),
    /// The receiver's kept object of that number.
    Kept(u64),
    Item {
        of: Box<Value>,
        index: u64,
    },
    /// Where a way begins, a tuple of which references it takes, what it leads to.
    Path(Box<[Value; 3]>),
    /// A new instance of a class, before its `__init__`.
    Fresh(Box<Value>),
    /// An instance that is nothing but its references.
    References {
        type_: Box<Value>,
        items: Vec<Value>,
    },
    /// What a class makes of these arguments.
    Reduced {
        type_: Box<Value>,
        items: Vec<Value>,
    },
}

impl From<&str> for Value {
    fn from(string: &str) -> Value {
        Value::Str(Str::from(string))
    }
}

impl Value {
    /// The string this is, if it is one whose characters are known.
    pub fn as_text(&self) -> Option<&Text> {
        match self {
            Value::Str(string) => string.text(),
            _ => None,
        }
    }

    /// The int this is, if it is one of at most 64 bits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub fn as_items(&self) -> Option<&[Value]> {
        match self {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value of a string key, if this is a dict that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Dict(pairs) = self else {
            return None;
        };
        pairs.iter().find(|(k, _)| k.as_text().is_some_and(|text| text == key)).map(|(_, value)| value)
    }

    /// Appends the value. What is decoded again is equal, though an int may take fewer bytes than it came in.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.push(tag::NULL),
            Value::None => out.push(tag::NONE),
            Value::Bool(false) => out.push(tag::FALSE),
            Value::Bool(true) => out.push(tag::TRUE),
            Value::Int(number) => put_int(out, *number),
            Value::BigInt(bytes) => put_blob(out, tag::BIGINT, bytes),
            Value::Float(number) => {
                out.push(tag::FLOAT);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Value::Complex(real, imaginary) => {
                out.push(tag::COMPLEX);
                out.extend_from_slice(&real.to_le_bytes());
                out.extend_from_slice(&imaginary.to_le_bytes());
            }
            Value::Bytes(bytes) => put_blob(out, tag::BYTES, bytes),
            Value::ByteArray(bytes) => put_blob(out, tag::BYTEARRAY, bytes),
            Value::Pickle(bytes) => put_blob(out, tag::PICKLE, bytes),
            Value::Str(string) => string.encode(out),
            Value::Tuple(items) => put_sequence(out, tag::TUPLE, items),
            Value::List(items) => put_sequence(out, tag::LIST, items),
            Value::Set(items) => put_list(out, tag::SET, items),
            Value::FrozenSet(items) => put_list(out, tag::FROZENSET, items),
            Value::Dict(pairs) => {
                out.push(tag::DICT);
                put_varint(out, pairs.len() as u64);
                for (key, value) in pairs {
                    key.encode(out);
                    value.encode(out);
                }
            }
            Value::Slice(parts) => put_three(out, tag::SLICE, parts),
            Value::Range(parts) => put_three(out, tag::RANGE, parts),
            Value::Exception(parts) => put_three(out, tag::EXCEPTION, parts),
            Value::StructSeq { type_, items } => {
                out.push(tag::STRUCTSEQ);
                type_.encode(out);
                put_values(out, items);
            }
            Value::Global { module, name } => {
                out.push(tag::GLOBAL);
                module.encode(out);
                name.encode(out);
            }
            Value::Opaque(type_name) => {
                out.push(tag::OPAQUE);
                type_name.encode(out);
            }
            Value::Receiver => out.push(tag::RECEIVER),
            Value::Argument(index) => put_number(out, tag::ARGUMENT, *index),
            Value::Member(index) => put_number(out, tag::MEMBER, *index),
            Value::Handle(id) => put_number(out, tag::HANDLE, *id),
            Value::NewHandle(new) => {
                if new.is_bare() {
                    put_number(out, tag::NEW_BARE, new.id);
                    return new.type_.encode(out);
                }
                put_number(out, tag::NEW_HANDLE, new.id);
                new.type_.encode(out);
                put_prefixed(out, &new.scalars);
                put_values(out, &new.members);
                new.dict.encode(out);
            }
            Value::Bound { call, argument } => {
                put_number(out, tag::BOUND, *call);
                put_varint(out, *argument);
            }
            Value::Digest { type_name, length, hash } => {
                out.push(digest_tag(*length, *hash));
                type_name.encode(out);
                put_digest(out, *length, *hash);
            }
            Value::Keyword { name, value } => {
                out.push(tag::KEYWORD);
                name.encode(out);
                value.encode(out);
            }
            Value::CallbackResult(serial) => put_number(out, tag::CALLBACK_RESULT, *serial),
            Value::Frame => out.push(tag::FRAME),
            Value::Attribute { of, name } => {
                out.push(tag::ATTRIBUTE);
                of.encode(out);
                name.encode(out);
            }
            Value::Keep(value) => {
                out.push(tag::KEEP);
                value.encode(out);
            }
            Value::Kept(index) => put_number(out, tag::KEPT, *index),
            Value::Item { of, index } => {
                out.push(tag::ITEM);
                of.encode(out);
                put_varint(out, *index);
            }
            Value::Path(parts) => put_three(out, tag::PATH, parts),
            Value::Fresh(type_) => {
                out.push(tag::FRESH);
                type_.encode(out);
            }
            Value::References { type_, items } => {
                out.push(tag::REFERENCES);
                type_.encode(out);
                put_values(out, items);
            }
            Value::Reduced { type_, items } => {
                out.push(tag::REDUCED);
                type_.encode(out);
                put_values(out, items);
            }
        }
    }

    /// Reads one value. Memory is bounded by a constant factor of what `source` holds, recursion by [`MAX_DEPTH`].
    pub fn decode<S: ByteSource>(source: &mut S, notes: &mut Notes) -> Result<Value, DecodeError> {
        decode(source, notes, MAX_DEPTH)
    }
}

fn put_int(out: &mut Vec<u8>, number: i64) {
    let (tag, size) = match number {
        0..=127 => return out.push(tag::SMALL_INT | number as u8),
        _ if i8::try_from(number).is_ok() => (tag::INT1, 1),
        _ if i16::try_from(number).is_ok() => (tag::INT2, 2),
        _ if i32::try_from(number).is_ok() => (tag::INT4, 4),
        _ => (tag::INT8, 8),
    };
    out.push(tag);
    out.extend_from_slice(&number.to_le_bytes()[..size]);
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: u64) {
    out.push(tag);
    put_varint(out, number);
}

fn put_blob(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_prefixed(out, bytes);
}

fn put_sequence(out: &mut Vec<u8>, tag: u8, items: &[Value]) {
    put_sequence_head(out, tag, items.len());
    for item in items {
        item.encode(out);
    }
}

fn put_list(out: &mut Vec<u8>, tag: u8, items: &[Value]) {
    out.push(tag);
    put_values(out, items);
}

fn put_three(out: &mut Vec<u8>, tag: u8, parts: &[Value; 3]) {
    out.push(tag);
    for part in parts {
        part.encode(out);
    }
}

fn decode<S: ByteSource>(source: &mut S, notes: &mut Notes, depth: usize) -> Result<Value, DecodeError> {
    let tag = source.read_u8()?;
    if tag >= tag::SMALL_INT {
        return Ok(Value::Int(i64::from(tag - tag::SMALL_INT)));
    }
    if let Some(string) = Str::decode_tagged(tag, source, notes)? {
        return Ok(Value::Str(string));
    }
    Ok(match tag {
        tag::NULL => Value::Null,
        tag::NONE => Value::None,
        tag::FALSE => Value::Bool(false),
        tag::TRUE => Value::Bool(true),
        tag::INT1 => Value::Int(i64::from(source.read_u8()? as i8)),
        tag::INT2 => Value::Int(i64::from(source.read_u16()? as i16)),
        tag::INT4 => Value::Int(i64::from(source.read_u32()? as i32)),
        tag::INT8 => Value::Int(source.read_u64()? as i64),
        tag::BIGINT => Value::BigInt(source.read_prefixed()?),
        tag::FLOAT => Value::Float(source.read_f64()?),
        tag::COMPLEX => Value::Complex(source.read_f64()?, source.read_f64()?),
        tag::BYTES => Value::Bytes(source.read_prefixed()?),
        tag::BYTEARRAY => Value::ByteArray(source.read_prefixed()?),
        tag::PICKLE => Value::Pickle(source.read_prefixed()?),
        tag::GLOBAL => Value::Global { module: Str::decode(source, notes)?, name: Str::decode(source, notes)? },
        tag::OPAQUE => Value::Opaque(Str::decode(source, notes)?),
        tag::RECEIVER => Value::Receiver,
        tag::ARGUMENT => Value::Argument(source.read_varint()?),
        tag::MEMBER => Value::Member(source.read_varint()?),
        tag::HANDLE => Value::Handle(source.read_varint()?),
        tag::BOUND => Value::Bound { call: source.read_varint()?, argument: source.read_varint()? },
        tag::DIGEST | tag::SIZED | tag::INSTANCE => Value::Digest {
            type_name: Str::decode(source, notes)?,
            length: if tag == tag::INSTANCE { 0 } else { source.read_varint()? },
            hash: if tag == tag::DIGEST { source.read_u64()? } else { 0 },
        },
        tag::CALLBACK_RESULT => Value::CallbackResult(source.read_varint()?),
        tag::KEPT => Value::Kept(source.read_varint()?),
        tag::FRAME => Value::Frame,
        _ => return decode_compound(tag, source, notes, depth),
    })
}

/// The values that hold values. Apart from `decode`, so that its frames, which the recursion does not need, stay small.
fn decode_compound<S: ByteSource>(
    tag: u8,
    source: &mut S,
    notes: &mut Notes,
    depth: usize,
) -> Result<Value, DecodeError> {
    let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
    Ok(match tag {
        tag::TUPLE => Value::Tuple(decode_values(source, notes, depth)?),
        tag::SHORT_TUPLE..=tag::LAST_SHORT_TUPLE => {
            Value::Tuple(decode_some(u64::from(tag - tag::SHORT_TUPLE), source, notes, depth)?)
        }
        tag::SHORT_LIST..=tag::LAST_SHORT_LIST => {
            Value::List(decode_some(u64::from(tag - tag::SHORT_LIST), source, notes, depth)?)
        }
        tag::LIST => Value::List(decode_values(source, notes, depth)?),
        tag::SET => Value::Set(decode_values(source, notes, depth)?),
        tag::FROZENSET => Value::FrozenSet(decode_values(source, notes, depth)?),
        tag::DICT => {
            let (count, capacity) = source.read_count(2)?;
            let mut pairs = Vec::with_capacity(capacity);
            for _ in 0..count {
                pairs.push((decode(source, notes, depth)?, decode(source, notes, depth)?));
            }
            Value::Dict(pairs)
        }
        tag::SLICE => Value::Slice(decode_three(source, notes, depth)?),
        tag::RANGE => Value::Range(decode_three(source, notes, depth)?),
        tag::EXCEPTION => Value::Exception(decode_three(source, notes, depth)?),
        tag::STRUCTSEQ => Value::StructSeq {
            type_: Box::new(decode(source, notes, depth)?),
            items: decode_values(source, notes, depth)?,
        },
        tag::NEW_HANDLE => Value::NewHandle(Box::new(NewHandle {
            id: source.read_varint()?,
            type_: decode(source, notes, depth)?,
            scalars: source.read_prefixed()?,
            members: decode_values(source, notes, depth)?,
            dict: decode(source, notes, depth)?,
        })),
        tag::NEW_BARE => Value::NewHandle(Box::new(NewHandle {
            id: source.read_varint()?,
            type_: decode(source, notes, depth)?,
            scalars: Vec::new(),
            members: Vec::new(),
            dict: Value::Null,
        })),
        tag::KEYWORD => {
            Value::Keyword { name: Str::decode(source, notes)?, value: Box::new(decode(source, notes, depth)?) }
        }
        tag::ATTRIBUTE => {
            Value::Attribute { of: Box::new(decode(source, notes, depth)?), name: Str::decode(source, notes)? }
        }
        tag::PATH => Value::Path(decode_three(source, notes, depth)?),
        tag::FRESH => Value::Fresh(Box::new(decode(source, notes, depth)?)),
        tag::REFERENCES => Value::References {
            type_: Box::new(decode(source, notes, depth)?),
            items: decode_values(source, notes, depth)?,
        },
        tag::REDUCED => Value::Reduced {
            type_: Box::new(decode(source, notes, depth)?),
            items: decode_values(source, notes, depth)?,
        },
        tag::KEEP => Value::Keep(Box::new(decode(source, notes, depth)?)),
        tag::ITEM => Value::Item { of: Box::new(decode(source, notes, depth)?), index: source.read_varint()? },
        _ => return Err(DecodeError::UnknownTag(tag)),
    })
}

fn decode_values<S: ByteSource>(source: &mut S, notes: &mut Notes, depth: usize) -> Result<Vec<Value>, DecodeError> {
    let (count, _) = source.read_count(1)?;
    decode_some(count, source, notes, depth)
}

/// So many values. A decoded one is larger than an encoded one: the vector grows as they really come.
fn decode_some<S: ByteSource>(
    count: u64,
    source: &mut S,
    notes: &mut Notes,
    depth: usize,
) -> Result<Vec<Value>, DecodeError> {
    let mut values = Vec::with_capacity(count.min(256) as usize);
    for _ in 0..count {
        values.push(decode(source, notes, depth)?);
    }
    Ok(values)
}

fn decode_three<S: ByteSource>(
    source: &mut S,
    notes: &mut Notes,
    depth: usize,
) -> Result<Box<[Value; 3]>, DecodeError> {
    Ok(Box::new([decode(source, notes, depth)?, decode(source, notes, depth)?, decode(source, notes, depth)?]))
}
