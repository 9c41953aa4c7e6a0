//! Values as JSON, for `--json`.
//!
//! What JSON has stands for itself: null, true, false, numbers, strings, lists. Everything else is an object with a
//! `type`, so that nothing is mistaken for something else: a dict's keys need not be strings, and bytes are no text.
#![forbid(unsafe_code)]

use serde_json::{Value as Json, json};

use crate::value::{Str, Value};

fn list(items: &[Value]) -> Json {
    items.iter().map(Json::from).collect()
}

/// Bytes as Python writes them between the quotes of a bytes literal.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect()
}

impl From<&Str> for Json {
    fn from(string: &Str) -> Json {
        match string {
            Str::Again(index, None) => json!({"type": "string", "index": index}),
            _ => Json::String(string.to_string_lossy()),
        }
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Json {
        match value {
            Value::Null => json!({"type": "null"}),
            Value::None => Json::Null,
            Value::Bool(truth) => Json::Bool(*truth),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) if number.is_finite() => Json::from(*number),
            Value::BigInt(_) => json!({"type": "int", "value": value.to_string()}),
            Value::Float(_) => json!({"type": "float", "value": value.to_string()}),
            Value::Complex(real, imaginary) => {
                json!({"type": "complex", "real": Json::from(&Value::Float(*real)),
                       "imag": Json::from(&Value::Float(*imaginary))})
            }
            Value::Bytes(bytes) => json!({"type": "bytes", "value": escaped(bytes)}),
            Value::ByteArray(bytes) => json!({"type": "bytearray", "value": escaped(bytes)}),
            Value::Pickle(bytes) => json!({"type": "pickle", "value": escaped(bytes)}),
            Value::Str(string) => Json::from(string),
            Value::List(items) => list(items),
            Value::Tuple(items) => json!({"type": "tuple", "items": list(items)}),
            Value::Set(items) => json!({"type": "set", "items": list(items)}),
            Value::FrozenSet(items) => json!({"type": "frozenset", "items": list(items)}),
            Value::Dict(pairs) => {
                let items: Json =
                    pairs.iter().map(|(key, value)| json!([Json::from(key), Json::from(value)])).collect();
                json!({"type": "dict", "items": items})
            }
            Value::Slice(parts) => json!({"type": "slice", "items": list(&parts[..])}),
            Value::Range(parts) => json!({"type": "range", "items": list(&parts[..])}),
            Value::StructSeq { type_, items } => {
                json!({"type": "structseq", "class": Json::from(&**type_), "items": list(items)})
            }
            Value::Global { module, name } => {
                json!({"type": "global", "module": Json::from(module), "name": Json::from(name)})
            }
            Value::Exception(parts) => {
                let [class, args, state] = &**parts;
                json!({"type": "exception", "class": Json::from(class), "args": Json::from(args),
                       "state": Json::from(state)})
            }
            Value::Opaque(class) => json!({"type": "opaque", "class": Json::from(class)}),
            Value::Receiver => json!({"type": "receiver"}),
            Value::Argument(index) => json!({"type": "argument", "index": index}),
            Value::Member(index) => json!({"type": "member", "index": index}),
            Value::Handle(id) => json!({"type": "handle", "id": id}),
            Value::NewHandle(new) => {
                json!({"type": "new handle", "id": new.id, "class": Json::from(&new.type_),
                       "members": list(&new.members), "dict": Json::from(&new.dict)})
            }
            Value::Bound { call, argument } => {
                json!({"type": "bound", "call": call, "argument": argument})
            }
            Value::Digest { type_name, length, hash } => {
                let mut digest = json!({"type": "digest", "class": Json::from(type_name)});
                if (*length, *hash) != (0, 0) {
                    digest["length"] = Json::from(*length);
                }
                if *hash != 0 {
                    digest["hash"] = Json::from(format!("{hash:016x}"));
                }
                digest
            }
            Value::Keyword { name, value } => {
                json!({"type": "keyword", "name": Json::from(name), "value": Json::from(&**value)})
            }
            Value::CallbackResult(serial) => json!({"type": "callback result", "serial": serial}),
            Value::Frame => json!({"type": "frame"}),
            Value::Keep(value) => Json::from(&**value),
            Value::Kept(index) => json!({"type": "kept", "index": index}),
            Value::Item { of, index } => {
                json!({"type": "item", "of": Json::from(&**of), "index": index})
            }
            Value::Path(parts) => json!({"type": "path", "to": Json::from(&parts[2])}),
            Value::Fresh(class) => json!({"type": "fresh", "class": Json::from(&**class)}),
            Value::References { type_, items } => {
                json!({"type": "references", "class": Json::from(&**type_),
                       "items": items.iter().map(Json::from).collect::<Vec<_>>()})
            }
            Value::Reduced { type_, items } => {
                json!({"type": "reduced", "class": Json::from(&**type_), "items": list(items)})
            }
            Value::Attribute { of, name } => {
                json!({"type": "attribute", "of": Json::from(&**of), "name": Json::from(name)})
            }
        }
    }
}
