//! Values as Python would write them, cut to a width.
#![forbid(unsafe_code)]

use std::fmt::{self, Write};

use crate::text::Text;
use crate::value::{Str, Value};

impl Value {
    /// The value on one line of at most `width` characters, the way `repr` would write it. What is cut off ends in
    /// `…`; the work is bounded by the width and not by the value.
    pub fn display(&self, width: usize) -> String {
        let mut out = Truncated { text: String::new(), left: width };
        if write!(out, "{self}").is_err() {
            // Make room for the mark.
            out.text.pop();
            out.text.push('…');
        }
        out.text
    }
}

/// Takes so many characters, then fails, which makes the formatting code return.
struct Truncated {
    text: String,
    left: usize,
}

impl Write for Truncated {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for c in part.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(c);
        }
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("<null>"),
            Value::None => f.write_str("None"),
            Value::Bool(true) => f.write_str("True"),
            Value::Bool(false) => f.write_str("False"),
            Value::Int(number) => write!(f, "{number}"),
            Value::BigInt(bytes) => write_big_int(f, bytes),
            Value::Float(number) => write_float(f, *number),
            Value::Complex(real, imaginary) => {
                f.write_str("(")?;
                write_float(f, *real)?;
                if imaginary.is_sign_positive() {
                    f.write_str("+")?;
                }
                write_float(f, *imaginary)?;
                f.write_str("j)")
            }
            Value::Bytes(bytes) => write_bytes(f, bytes),
            Value::ByteArray(bytes) => {
                f.write_str("bytearray(")?;
                write_bytes(f, bytes)?;
                f.write_str(")")
            }
            Value::Pickle(bytes) => write!(f, "<pickle of {} bytes>", bytes.len()),
            Value::Str(string) => write_str(f, string),
            Value::Tuple(items) if items.len() == 1 => write!(f, "({},)", items[0]),
            Value::Tuple(items) => write_items(f, "(", items, ")"),
            Value::List(items) => write_items(f, "[", items, "]"),
            Value::Set(items) if items.is_empty() => f.write_str("set()"),
            Value::Set(items) => write_items(f, "{", items, "}"),
            Value::FrozenSet(items) if items.is_empty() => f.write_str("frozenset()"),
            Value::FrozenSet(items) => write_items(f, "frozenset({", items, "})"),
            Value::Dict(pairs) => {
                f.write_str("{")?;
                for (i, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Value::Slice(parts) => write_items(f, "slice(", &parts[..], ")"),
            Value::Range(parts) => match &parts[2] {
                Value::Int(1) => write_items(f, "range(", &parts[..2], ")"),
                _ => write_items(f, "range(", &parts[..], ")"),
            },
            Value::StructSeq { type_, items } => {
                write!(f, "{type_}")?;
                write_items(f, "(", items, ")")
            }
            Value::Global { module, name } => match module.text() {
                Some(module) if *module == *"builtins" => f.write_str(&name.to_string_lossy()),
                _ => write!(f, "{}.{}", module.to_string_lossy(), name.to_string_lossy()),
            },
            Value::Exception(parts) => {
                let [type_, args, _] = &**parts;
                match args {
                    Value::Tuple(args) => {
                        write!(f, "{type_}")?;
                        write_items(f, "(", args, ")")
                    }
                    _ => write!(f, "{type_}(*{args})"),
                }
            }
            Value::Opaque(type_name) => write!(f, "<{}>", type_name.to_string_lossy()),
            Value::Receiver => f.write_str("<self>"),
            Value::Argument(index) => write!(f, "<argument {index}>"),
            Value::Member(index) => write!(f, "<member {index}>"),
            Value::Handle(id) => write!(f, "<#{id}>"),
            Value::NewHandle(new) => write!(f, "<#{} new {}>", new.id, new.type_),
            Value::Bound { call, argument: 255 } => write!(f, "<receiver of call {call}>"),
            Value::Bound { call, argument } => write!(f, "<argument {argument} of call {call}>"),
            Value::Digest { type_name, length: 0, hash: 0 } => write!(f, "<{}>", type_name.to_string_lossy()),
            Value::Digest { type_name, length, .. } => write!(f, "<{} of {length}>", type_name.to_string_lossy()),
            Value::Keyword { name, value } => write!(f, "{}={value}", name.to_string_lossy()),
            Value::CallbackResult(serial) => write!(f, "<result of callback {serial}>"),
            Value::Frame => f.write_str("<frame>"),
            Value::Keep(value) => write!(f, "{value}"),
            Value::Kept(index) => write!(f, "<kept {index}>"),
            Value::Item { of, index } => write!(f, "{of}[{index}]"),
            Value::Path(parts) => write!(f, "<the {}>", parts[2]),
            Value::Fresh(class) => write!(f, "<fresh {class}>"),
            Value::References { type_, items } | Value::Reduced { type_, items } => {
                write!(f, "{type_}")?;
                write_items(f, "(", items, ")")
            }
            Value::Attribute { of, name } => write!(f, "{of}.{}", name.to_string_lossy()),
        }
    }
}

fn write_items(f: &mut fmt::Formatter<'_>, open: &str, items: &[Value], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    f.write_str(close)
}

/// Python's `repr` of a float: the shortest digits that read back, as Rust's, in another dress.
fn write_float(f: &mut fmt::Formatter<'_>, number: f64) -> fmt::Result {
    if number.is_nan() {
        return f.write_str("nan");
    }
    if number.is_infinite() {
        return f.write_str(if number > 0.0 { "inf" } else { "-inf" });
    }
    // float_repr_style 'short': an exponent below 1e-4 and from 1e16 on (PyOS_double_to_string in Python/pystrtod.c).
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return write!(f, "{digits}e{sign}{exponent:0>2}");
    }
    write!(f, "{number:?}")
}

fn write_str(f: &mut fmt::Formatter<'_>, string: &Str) -> fmt::Result {
    match string.text() {
        Some(text) => write_text(f, text),
        None => f.write_str(&string.to_string_lossy()),
    }
}

/// The quote `repr` would take: a double one only for what holds single quotes and no double ones.
fn quote_for(mut code_points: impl Iterator<Item = u32>) -> char {
    let mut single = false;
    let double = code_points.any(|c| {
        single |= c == u32::from('\'');
        c == u32::from('"')
    });
    if single && !double { '"' } else { '\'' }
}

/// How far `repr`'s choice of a quote looks: a listing is narrower.
const QUOTE_HORIZON: usize = 1024;

fn write_text(f: &mut fmt::Formatter<'_>, text: &Text) -> fmt::Result {
    let quote = quote_for(text.code_points().take(QUOTE_HORIZON));
    f.write_char(quote)?;
    for c in text.code_points() {
        match char::from_u32(c) {
            Some('\n') => f.write_str("\\n")?,
            Some('\r') => f.write_str("\\r")?,
            Some('\t') => f.write_str("\\t")?,
            Some('\\') => f.write_str("\\\\")?,
            Some(c) if c == quote => write!(f, "\\{c}")?,
            // Control and format characters must not reach a terminal.
            Some(c) if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() => f.write_char(c)?,
            _ if c <= 0xff => write!(f, "\\x{c:02x}")?,
            _ if c <= 0xffff => write!(f, "\\u{c:04x}")?,
            _ => write!(f, "\\U{c:08x}")?,
        }
    }
    f.write_char(quote)
}

fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let quote = quote_for(bytes.iter().take(QUOTE_HORIZON).map(|byte| u32::from(*byte)));
    write!(f, "b{quote}")?;
    for &byte in bytes {
        match byte {
            b'\n' => f.write_str("\\n")?,
            b'\r' => f.write_str("\\r")?,
            b'\t' => f.write_str("\\t")?,
            b'\\' => f.write_str("\\\\")?,
            _ if char::from(byte) == quote => write!(f, "\\{quote}")?,
            0x20..=0x7e => f.write_char(char::from(byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_char(quote)
}

/// Decimal where it fits 128 bits; hexadecimal beyond, where decimal would take quadratic time.
fn write_big_int(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    if bytes.len() <= 16 {
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        return write!(f, "{}", i128::from_le_bytes(wide));
    }
    // The magnitude's bytes: inverted and incremented for a negative number. The increment's carry runs through the
    // bytes that are zero after the inversion's complement, from the lowest on.
    let first_nonzero = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
    let magnitude = |i: usize| match (negative, i.cmp(&first_nonzero)) {
        (false, _) | (true, std::cmp::Ordering::Less) => bytes[i],
        (true, std::cmp::Ordering::Equal) => bytes[i].wrapping_neg(),
        (true, std::cmp::Ordering::Greater) => !bytes[i],
    };
    f.write_str(if negative { "-0x" } else { "0x" })?;
    let mut leading = true;
    for i in (0..bytes.len()).rev() {
        let byte = magnitude(i);
        if leading && byte == 0 {
            continue;
        }
        if leading {
            write!(f, "{byte:x}")?
        } else {
            write!(f, "{byte:02x}")?
        }
        leading = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repr(value: &Value) -> String {
        value.display(80)
    }

    #[test]
    fn floats_look_as_in_python() {
        for (number, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(repr(&Value::Float(number)), expected);
        }
    }

    #[test]
    fn strings_and_bytes_look_as_in_python() {
        assert_eq!(repr(&Value::from("it's")), "\"it's\"");
        assert_eq!(repr(&Value::from("a\n\x1b[0mé")), "'a\\n\\x1b[0mé'");
        assert_eq!(repr(&Value::Bytes(b"a'\"\x00".to_vec())), "b'a\\'\"\\x00'");
    }

    #[test]
    fn big_ints_are_signed() {
        assert_eq!(repr(&Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0, 1])), "18446744073709551616");
        assert_eq!(repr(&Value::BigInt(vec![0xff])), "-1");
        let mut bytes = vec![0; 17];
        bytes[16] = 0x01;
        assert_eq!(repr(&Value::BigInt(bytes.clone())), format!("0x1{}", "0".repeat(32)));
        bytes[16] = 0xff;
        assert_eq!(repr(&Value::BigInt(bytes.clone())), format!("-0x1{}", "0".repeat(32)));
        bytes[0] = 0xff;
        assert_eq!(repr(&Value::BigInt(bytes)), format!("-0x{}01", "f".repeat(30)));
    }

    #[test]
    fn containers_are_cut_to_the_width() {
        let list = Value::List((0..1000).map(Value::Int).collect());
        assert_eq!(list.display(12), "[0, 1, 2, 3…");
        assert_eq!(repr(&Value::Tuple(vec![Value::None])), "(None,)");
        assert_eq!(repr(&Value::Dict(vec![(Value::from("k"), Value::Bool(true))])), "{'k': True}");
    }
}
