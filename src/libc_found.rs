//! What `glob` finds: a list that grows if the caller says so, and that the C library's `globfree` frees.

use crate::libc_calls::Arguments;
use crate::libc_memory::{Reader, put_blob, put_number};
use std::ffi::{CStr, c_char, c_int};
use std::ptr;

unsafe fn list_of<'a>(args: &Arguments, i: usize) -> &'a mut libc::glob_t {
    // SAFETY: by the callers' contract.
    unsafe { &mut *(args[i] as *mut libc::glob_t) }
}

fn has(args: &Arguments, flag: c_int) -> bool {
    args[1] as c_int & flag != 0
}

/// How many empty places the caller wants at the beginning of the list.
unsafe fn places(args: &Arguments, i: usize) -> usize {
    // SAFETY: by the callers' contract.
    if has(args, libc::GLOB_DOOFFS) { unsafe { list_of(args, i).gl_offs } } else { 0 }
}

/// How many there were in the list before the call.
///
/// # Safety
/// `args` are those of a call of `glob`, and the list is the argument at `i`; so below.
pub unsafe fn before(args: &Arguments, i: usize) -> usize {
    // SAFETY: by contract.
    if has(args, libc::GLOB_APPEND) { unsafe { list_of(args, i).gl_pathc } } else { 0 }
}

/// Whether there is a list after the call, and what was put into it.
///
/// # Safety
/// As [`before`], after the call.
pub unsafe fn list(args: &Arguments, i: usize, before: usize) -> Vec<u8> {
    // SAFETY: by contract.
    unsafe {
        let list = list_of(args, i);
        let mut out = Vec::new();
        put_number(&mut out, (!list.gl_pathv.is_null()).into());
        if !list.gl_pathv.is_null() {
            let first = places(args, i);
            for place in first + before..first + list.gl_pathc {
                put_blob(&mut out, CStr::from_ptr(*list.gl_pathv.add(place)).to_bytes_with_nul());
            }
        }
        out
    }
}

/// Puts it there, in memory of the C library's.
///
/// # Safety
/// As [`before`], in place of the call.
pub unsafe fn make(args: &Arguments, i: usize, before: usize, bytes: &[u8]) {
    // SAFETY: by contract; the memory is large enough for what is written.
    unsafe {
        let list = list_of(args, i);
        let first = places(args, i);
        list.gl_offs = first;
        let old = if has(args, libc::GLOB_APPEND) { list.gl_pathv } else { ptr::null_mut() };
        let mut reader = Reader(bytes);
        if reader.number() == 0 {
            (list.gl_pathc, list.gl_pathv) = (before, old);
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
        (list.gl_pathc, list.gl_pathv) = (before + found.len(), made);
    }
}
