//! `retrace doctor`: what this interpreter and its extension modules are to us, as JSON on stdout.

use crate::libraries::{self, Extension};
use crate::modules;
use crate::python::{Owned, attribute, loaded_module, text};
use pyo3_ffi::*;
use retrace_replay::unrecorded;
use std::ffi::c_int;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::path::Path;
use std::ptr;

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

/// One line of the report.
struct Line {
    name: String,
    path: String,
    class: &'static str,
    why: String,
}

impl Line {
    fn json(&self) -> String {
        let path = if self.path.is_empty() { "null".to_owned() } else { quoted(&self.path) };
        let (name, class, why) = (quoted(&self.name), quoted(self.class), quoted(&self.why));
        format!("{{\"name\":{name},\"path\":{path},\"class\":{class},\"why\":{why}}}")
    }
}

/// Prints the report. 0: the interpreter goes on with its stub program.
///
/// # Safety
/// The GIL is held.
pub unsafe fn print() -> c_int {
    // SAFETY: by contract.
    unsafe {
        let version = text(PySys_GetObject(c"version".as_ptr()));
        let mut lines = loaded();
        for (name, path) in installed() {
            if !lines.iter().any(|line| line.name == name) {
                lines.push(classified(name, path));
            }
        }
        let entries: Vec<String> = lines.iter().map(Line::json).collect();
        println!(
            "{{\"version\":{},\"supported\":true,\"reason\":\"\",\"modules\":[{}]}}",
            quoted(&version),
            entries.join(",")
        );
        0
    }
}

/// The modules in `sys.modules` that the boundary lists, or that are extensions.
unsafe fn loaded() -> Vec<Line> {
    let mut lines = Vec::new();
    // SAFETY: the GIL is held.
    unsafe {
        for name in modules::loaded_names() {
            let module = loaded_module(&name);
            if module.is_null() {
                continue;
            }
            let path = text(attribute(module, c"__file__").0);
            let listed = modules::boundary().tables(&name).next();
            if listed.is_none() && !(path.ends_with(".so") || path.ends_with(".dylib")) {
                continue;
            }
            match listed {
                Some(table) => {
                    let class =
                        if table.functions.is_empty() && table.types.is_empty() { "internal" } else { "external" };
                    lines.push(Line { name, path, class, why: "listed by Retrace".into() });
                }
                None => lines.push(classified(name, path)),
            }
        }
    }
    lines
}

/// The extension modules below the folders of installed packages on `sys.path`: name and file.
unsafe fn installed() -> Vec<(String, String)> {
    let mut found = Vec::new();
    // SAFETY: the GIL is held; borrowed items of a live list.
    unsafe {
        let path = PySys_GetObject(c"path".as_ptr());
        let suffixes = suffixes();
        for i in 0..if path.is_null() { 0 } else { PyList_Size(path) } {
            let folder = text(PyList_GetItem(path, i));
            if folder.ends_with("-packages") {
                walk(Path::new(&folder), "", &suffixes, &mut found);
            }
        }
    }
    found.sort();
    found
}

/// The endings of extension modules' files for this interpreter, the longest first.
unsafe fn suffixes() -> Vec<String> {
    // SAFETY: the GIL is held.
    unsafe {
        let list = Owned(PyObject_CallMethod(loaded_module("_imp"), c"extension_suffixes".as_ptr(), ptr::null()));
        if list.is_null() || PyList_Check(list.0) == 0 {
            PyErr_Clear();
            return Vec::new();
        }
        (0..PyList_GET_SIZE(list.0)).map(|i| text(PyList_GET_ITEM(list.0, i))).collect()
    }
}

fn walk(folder: &Path, package: &str, suffixes: &[String], found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if path.is_dir() {
            walk(&path, &format!("{package}{file}."), suffixes, found);
        } else if let Some(stem) = suffixes.iter().find_map(|suffix| file.strip_suffix(suffix.as_str()))
            && !package.contains(".libs.")
        {
            found.push((format!("{package}{stem}"), path.to_string_lossy().into_owned()));
        }
    }
}

/// How a module that is not loaded would be treated. It is looked at in a process of its own: its libraries'
/// constructors run there.
unsafe fn classified(name: String, path: String) -> Line {
    // SAFETY: the GIL is held; the child only loads, writes and ends.
    unsafe {
        let Some(said) = in_a_child(|| {
            let extension = Extension::open(&path)?;
            let (treatment, imports) = libraries::treatment(&name, Some(&extension));
            Some(format!("{} {imports}", treatment.name()))
        }) else {
            let why = "it can't be loaded by itself".into();
            return Line { name, path, class: "unknown", why };
        };
        let (treatment, imports) = said.split_once(' ').unwrap_or((&said, ""));
        let mut why = match imports {
            "" if modules::boundary().tables(&name).next().is_some() => "a boundary file lists it".to_owned(),
            "" => "it imports nothing that reaches the outside".to_owned(),
            imports => format!("it or its libraries import {imports}"),
        };
        if libraries::threads_take_turns(imports.split(' '), modules::boundary().threads(&name)) {
            why.push_str("; threads of its own take turns with Python's");
        } else if imports.split(' ').any(libraries::makes_threads) {
            why.push_str("; what threads of its own do is not recorded");
        }
        let unrecorded: Vec<&str> = unrecorded::among(imports).collect();
        if !unrecorded.is_empty() {
            why.push_str(&format!("; not recorded, where it calls them: {}", unrecorded.join(" ")));
        }
        let class = match treatment {
            "internal" => "internal",
            "record" => "external",
            _ => "libc",
        };
        Line { name, path, class, why }
    }
}

/// What `work` says in a forked process; `None` where it says nothing, or dies.
unsafe fn in_a_child(work: impl FnOnce() -> Option<String>) -> Option<String> {
    // SAFETY: plain system calls; there is no other thread yet.
    unsafe {
        let mut ends = [0; 2];
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return None;
        }
        let child = libc::fork();
        if child == 0 {
            let mut pipe = std::fs::File::from_raw_fd(ends[1]);
            let said = work().is_some_and(|text| pipe.write_all(text.as_bytes()).is_ok());
            libc::_exit(if said { 0 } else { 1 });
        }
        libc::close(ends[1]);
        let mut said = String::new();
        let read = std::fs::File::from_raw_fd(ends[0]).read_to_string(&mut said);
        let mut status = 0;
        if child > 0 {
            libc::waitpid(child, &mut status, 0);
        }
        (child > 0 && read.is_ok() && status == 0 && !said.is_empty()).then_some(said)
    }
}
