//! What `glob` finds, and `wordexp` makes: a list that grows if the caller says so, and that the C library's `globfree` or
//! `wordfree` frees.

use crate::libc_calls::Arguments;
use crate::libc_memory::{Reader, put_blob, put_number};
use crate::libc_table::Shape;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;

/// Where in `glob_t` or `wordexp_t` what belongs to a list is.
struct List {
    count: *mut usize,
    texts: *mut *mut *mut c_char,
    offset: *mut usize,
}

/// `wordexp_t`, which is the same in each C library, and its flags.
#[repr(C)]
struct Words {
    count: usize,
    texts: *mut *mut c_char,
    offset: usize,
}

const WORDS_AT_OFFSET: c_int = 1;
const APPEND_WORDS: c_int = 2;

unsafe fn list_of(args: &Arguments, i: usize, shape: Shape) -> List {
    // SAFETY: by the callers' contract.
    unsafe {
        if let Shape::Words = shape {
            let words = args[i] as *mut Words;
            return List {
                count: &raw mut (*words).count,
                texts: &raw mut (*words).texts,
                offset: &raw mut (*words).offset,
            };
        }
        let found = args[i] as *mut libc::glob_t;
        List { count: &raw mut (*found).gl_pathc, texts: &raw mut (*found).gl_pathv, offset: &raw mut (*found).gl_offs }
    }
}

fn at_offset(args: &Arguments, shape: Shape) -> bool {
    match shape {
        Shape::Words => args[2] as c_int & WORDS_AT_OFFSET != 0,
        _ => args[1] as c_int & libc::GLOB_DOOFFS != 0,
    }
}

fn appends(args: &Arguments, shape: Shape) -> bool {
    match shape {
        Shape::Words => args[2] as c_int & APPEND_WORDS != 0,
        _ => args[1] as c_int & libc::GLOB_APPEND != 0,
    }
}

/// How many empty places the caller wants at the beginning of the list.
unsafe fn places(args: &Arguments, i: usize, shape: Shape) -> usize {
    // SAFETY: by the callers' contract.
    if at_offset(args, shape) { unsafe { *list_of(args, i, shape).offset } } else { 0 }
}

/// How many there were in the list before the call.
///
/// # Safety
/// `args` are those of a call of `glob` or `wordexp`, and the list, of that shape, is the argument at `i`; so below.
pub unsafe fn before(args: &Arguments, i: usize, shape: Shape) -> usize {
    // SAFETY: by contract.
    if appends(args, shape) { unsafe { *list_of(args, i, shape).count } } else { 0 }
}

/// Whether there is a list after the call, and what was put into it.
///
/// # Safety
/// As [`before`], after the call.
pub unsafe fn list(args: &Arguments, i: usize, before: usize, shape: Shape) -> Vec<u8> {
    // SAFETY: by contract.
    unsafe {
        let list = list_of(args, i, shape);
        let texts = *list.texts;
        let mut out = Vec::new();
        put_number(&mut out, (!texts.is_null()).into());
        if !texts.is_null() {
            let first = places(args, i, shape);
            for place in first + before..first + *list.count {
                put_blob(&mut out, CStr::from_ptr(*texts.add(place)).to_bytes_with_nul());
            }
        }
        out
    }
}

/// Puts it there, in memory of the C library's.
///
/// # Safety
/// As [`before`], in place of the call.
pub unsafe fn make(args: &Arguments, i: usize, before: usize, shape: Shape, bytes: &[u8]) {
    // SAFETY: by contract; the memory is large enough for what is written.
    unsafe {
        let list = list_of(args, i, shape);
        let first = places(args, i, shape);
        *list.offset = first;
        let old = if appends(args, shape) { *list.texts } else { ptr::null_mut() };
        let mut reader = Reader(bytes);
        if reader.number() == 0 {
            (*list.count, *list.texts) = (before, old);
            return;
        }
        let mut found = Vec::new();
        while !reader.0.is_empty() {
            found.push(reader.blob());
        }
        let count = first + before + found.len() + 1;
        let made = libc::realloc(old.cast(), count * size_of::<*mut c_char>()).cast::<*mut c_char>();
        if made.is_null() {
            return;
        }
        if old.is_null() {
            ptr::write_bytes(made, 0, first);
        }
        for (place, text) in found.iter().enumerate() {
            *made.add(first + before + place) = libc::strdup(text.as_ptr().cast());
        }
        *made.add(count - 1) = ptr::null_mut();
        (*list.count, *list.texts) = (before + found.len(), made);
    }
}
