//! Streams of C code's over what is no regular file: pipes to programs (`popen`), devices (`/dev/urandom`), FIFOs, sockets. What
//! the C library reads and writes for a stream passes no import table, so the program gets a stream of ours over the same
//! descriptor, which reads and writes as an extension module does.

use crate::imports::{self, Binding};
use crate::libc_calls;
use crate::platform;
use crate::session::{self, Mode};
use crate::turns::locked;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::{LazyLock, Mutex};

/// Those that are open: by the stream that the program has, the C library's own.
static OPEN: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);

/// Streams that were just opened, and are over no regular file.
static FOUND: LazyLock<Mutex<HashSet<usize>>> = LazyLock::new(Mutex::default);

/// A stream that was just opened is over no regular file.
pub fn note(stream: usize) {
    locked(&FOUND).insert(stream);
}

static mut NEXT: [*mut c_void; 3] = [ptr::null_mut(); 3];

/// What is put into an extension module's import table besides the table's functions: what asks for a stream's descriptor, or closes it.
pub fn bindings() -> Vec<Binding> {
    let functions: [(&CStr, *mut c_void); 3] = [
        (c"fileno", fileno as *mut c_void),
        (c"fileno_unlocked", fileno as *mut c_void),
        (c"fclose", fclose as *mut c_void),
    ];
    // SAFETY: `NEXT` has a place for each.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast()) }
}

/// What is put into an import table for a function of the table, where that is not a trampoline.
pub fn in_place_of(function: &CStr) -> Option<*mut c_void> {
    match function.to_bytes() {
        b"popen" => Some(popen as *mut c_void),
        b"pclose" => Some(pclose as *mut c_void),
        b"fopen" => Some(fopen as *mut c_void),
        b"fopen64" => Some(fopen64 as *mut c_void),
        b"fdopen" => Some(fdopen as *mut c_void),
        _ => None,
    }
}

unsafe extern "C" fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: called by an extension module with popen's arguments.
    unsafe { opened(libc_calls::enter_named(c"popen", [command as usize, mode as usize, 0, 0, 0, 0, 0]), mode) }
}

unsafe extern "C" fn fopen(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: called by an extension module with fopen's arguments.
    unsafe { opened(libc_calls::enter_named(c"fopen", [path as usize, mode as usize, 0, 0, 0, 0, 0]), mode) }
}

unsafe extern "C" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: as above.
    unsafe { opened(libc_calls::enter_named(c"fopen64", [path as usize, mode as usize, 0, 0, 0, 0, 0]), mode) }
}

unsafe extern "C" fn fdopen(fd: c_int, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: as above.
    unsafe { opened(libc_calls::enter_named(c"fdopen", [fd as usize, mode as usize, 0, 0, 0, 0, 0]), mode) }
}

/// What the program gets of a stream that the C library has opened.
unsafe fn opened(own: usize, mode: *const c_char) -> *mut libc::FILE {
    let stream = own as *mut libc::FILE;
    if own == 0 || !locked(&FOUND).remove(&own) {
        return stream;
    }
    // SAFETY: by the callers' contract.
    unsafe {
        let mode = CStr::from_ptr(mode).to_bytes();
        if mode.contains(&b'+') {
            return stream;
        }
        let made = platform::stream_over(libc::fileno(stream), mode.contains(&b'r'), read, write);
        if made.is_null() {
            return stream;
        }
        locked(&OPEN).insert(made as usize, own);
        made
    }
}

unsafe extern "C" fn fclose(stream: *mut libc::FILE) -> c_int {
    let own = locked(&OPEN).remove(&(stream as usize));
    // SAFETY: called by an extension module with an open stream; ours writes what is left to be written.
    unsafe {
        let result = libc::fclose(stream);
        match own {
            Some(own) => result | libc::fclose(own as *mut libc::FILE),
            None => result,
        }
    }
}

unsafe extern "C" fn pclose(stream: *mut libc::FILE) -> c_int {
    // SAFETY: called by an extension module with a stream of `popen`'s.
    unsafe {
        let own = locked(&OPEN).remove(&(stream as usize));
        let Some(own) = own else {
            return libc_calls::enter_named(c"pclose", [stream as usize, 0, 0, 0, 0, 0, 0]) as c_int;
        };
        // Writes what is left to be written.
        libc::fclose(stream);
        let status = libc_calls::enter_named(c"pclose", [own, 0, 0, 0, 0, 0, 0]) as c_int;
        if session::mode() != Mode::Recording && session::mode() != Mode::Off {
            libc::fclose(own as *mut libc::FILE);
        }
        status
    }
}

unsafe extern "C" fn fileno(stream: *mut libc::FILE) -> c_int {
    let own = locked(&OPEN).get(&(stream as usize)).copied();
    // SAFETY: an open stream.
    unsafe { libc::fileno(own.map_or(stream, |own| own as *mut libc::FILE)) }
}

unsafe fn read(fd: c_int, into: *mut c_char, size: usize) -> isize {
    // SAFETY: called by the C library for a stream of ours.
    unsafe { libc_calls::enter_named(c"read", [fd as usize, into as usize, size, 0, 0, 0, 0]) as isize }
}

unsafe fn write(fd: c_int, from: *const c_char, size: usize) -> isize {
    // SAFETY: as above.
    unsafe { libc_calls::enter_named(c"write", [fd as usize, from as usize, size, 0, 0, 0, 0]) as isize }
}
