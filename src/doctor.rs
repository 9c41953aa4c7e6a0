//! `retrace doctor`: what this interpreter and its extension modules are to us, as JSON on stdout.

use crate::modules;
use crate::python::{attribute, loaded_module, text};
use pyo3_ffi::*;
use std::ffi::c_int;

fn quoted(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Prints the report. 0: the interpreter goes on with its stub program.
///
/// # Safety
/// The GIL is held.
pub unsafe fn print() -> c_int {
    // SAFETY: by contract.
    unsafe {
        let version = text(PySys_GetObject(c"version".as_ptr()));
        let mut entries = Vec::new();
        for name in modules::loaded_names() {
            let module = loaded_module(&name);
            if module.is_null() {
                continue;
            }
            let file = text(attribute(module, c"__file__").0);
            let listed = modules::boundary().tables(&name).next();
            if listed.is_none() && !(file.ends_with(".so") || file.ends_with(".dylib")) {
                continue;
            }
            let (class, why) = match listed {
                Some(table) if table.functions.is_empty() && table.types.is_empty() => {
                    ("internal", "listed by Retrace")
                }
                Some(_) => ("external", "listed by Retrace"),
                None => ("unknown", "no boundary file lists it"),
            };
            entries.push(format!(
                "{{\"name\":{},\"path\":{},\"class\":{},\"why\":{}}}",
                quoted(&name),
                if file.is_empty() { "null".to_owned() } else { quoted(&file) },
                quoted(class),
                quoted(why)
            ));
        }
        println!(
            "{{\"version\":{},\"supported\":true,\"reason\":\"\",\"modules\":[{}]}}",
            quoted(&version),
            entries.join(",")
        );
        0
    }
}
