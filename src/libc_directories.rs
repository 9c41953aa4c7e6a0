//! What C code reads of directories. Replay has a stand-in for a `DIR`, which shows one recorded entry after another.

use crate::libc_calls::Arguments;
use std::ffi::{CStr, c_char, c_int};
use std::mem::offset_of;
use std::ptr;

/// Where an entry's name begins: what is before it is the same on every machine of a platform.
const NAME: usize = offset_of!(libc::dirent, d_name);
/// The most bytes that a name has, with its end.
const NAME_ROOM: usize = size_of::<libc::dirent>() - NAME;

/// A `DIR` of the replay's.
struct Directory {
    /// The recorded descriptor.
    fd: c_int,
    /// What `readdir` returned last.
    entry: libc::dirent,
}

/// The name of an entry.
///
/// # Safety
/// `entry` is the address of a `struct dirent` that `readdir` filled.
pub unsafe fn name<'a>(entry: usize) -> &'a [u8] {
    // SAFETY: by contract.
    unsafe { CStr::from_ptr((entry + NAME) as *const c_char).to_bytes() }
}

/// What is before an entry's name.
///
/// # Safety
/// As [`name`].
pub unsafe fn head(entry: usize) -> Vec<u8> {
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts(entry as *const u8, NAME).to_vec() }
}

/// Fills an entry.
unsafe fn fill(entry: usize, head: &[u8], name: &[u8]) {
    let name = &name[..name.len().min(NAME_ROOM - 1)];
    // SAFETY: by the callers' contract, there is room for a `struct dirent`.
    unsafe {
        ptr::copy_nonoverlapping(head.as_ptr(), entry as *mut u8, head.len().min(NAME));
        ptr::copy_nonoverlapping(name.as_ptr(), (entry + NAME) as *mut u8, name.len());
        *((entry + NAME + name.len()) as *mut u8) = 0;
    }
}

/// What `readdir_r` put into its argument: nothing behind the end of the directory.
///
/// # Safety
/// `args` are those of a call of `readdir_r` that succeeded, and the entry is the argument at `i`.
pub unsafe fn entry_out(args: &Arguments, i: usize) -> Vec<u8> {
    // SAFETY: by contract.
    unsafe {
        let entry = *(args[i + 1] as *const usize);
        if entry == 0 {
            return vec![0];
        }
        [&[1], head(entry).as_slice(), name(entry)].concat()
    }
}

/// Puts it there.
///
/// # Safety
/// As [`entry_out`], in place of the call.
pub unsafe fn make_entry_out(args: &Arguments, i: usize, bytes: &[u8]) {
    // SAFETY: by contract.
    unsafe {
        let found = bytes[0] != 0 && bytes.len() > NAME;
        if found {
            fill(args[i], &bytes[1..=NAME], &bytes[1 + NAME..]);
        }
        *(args[i + 1] as *mut usize) = if found { args[i] } else { 0 };
    }
}

// ---- on replay ----

/// A directory that was opened under this descriptor.
pub fn open(fd: c_int) -> usize {
    // SAFETY: numbers and characters.
    let entry = unsafe { std::mem::zeroed() };
    Box::into_raw(Box::new(Directory { fd, entry })) as usize
}

/// Its descriptor.
///
/// # Safety
/// [`open`] returned `directory`, which is not closed.
pub unsafe fn fd(directory: usize) -> c_int {
    // SAFETY: by contract.
    unsafe { (*(directory as *const Directory)).fd }
}

/// Shows an entry, and returns its address.
///
/// # Safety
/// As [`fd`].
pub unsafe fn show(directory: usize, buffers: &[Vec<u8>], name: &[u8]) -> usize {
    // SAFETY: by contract; the entry is the directory's own.
    unsafe {
        let entry = &raw mut (*(directory as *mut Directory)).entry as usize;
        fill(entry, buffers.first().map_or(&[], Vec::as_slice), name);
        entry
    }
}

/// Closes it, and returns the descriptor that it had.
///
/// # Safety
/// As [`fd`].
pub unsafe fn close(directory: usize) -> c_int {
    // SAFETY: by contract.
    unsafe { Box::from_raw(directory as *mut Directory).fd }
}
