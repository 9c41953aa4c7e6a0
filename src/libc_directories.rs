//! What C code reads of directories. Replay has a stand-in for a `DIR`, which shows one recorded entry after another.

use crate::libc_calls::{self, Arguments};
use crate::libc_memory::{Reader, put_blob};
use std::ffi::{CStr, c_char, c_int, c_void};
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

/// What `scandir` found, in the order in which the folder has it.
///
/// # Safety
/// `list` is where a call that returned `count` has put it.
pub unsafe fn entry_list(list: usize, count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    // SAFETY: by contract.
    for &entry in unsafe { std::slice::from_raw_parts(*(list as *const *const usize), count as c_int as usize) } {
        // SAFETY: entries that the call has made.
        unsafe {
            out.extend_from_slice(&head(entry));
            put_blob(&mut out, name(entry));
        }
    }
    out
}

/// Puts it there, in memory of the C library's, which the caller frees.
///
/// # Safety
/// In place of a call of `scandir` that succeeded.
pub unsafe fn make_entry_list(list: usize, bytes: &[u8]) {
    let mut reader = Reader(bytes);
    let mut entries = Vec::new();
    while reader.0.len() > NAME {
        let (head, rest) = reader.0.split_at(NAME);
        reader.0 = rest;
        // SAFETY: as large as a `struct dirent`.
        unsafe {
            let entry = libc::malloc(size_of::<libc::dirent>()) as usize;
            fill(entry, head, reader.blob());
            entries.push(entry);
        }
    }
    // SAFETY: by contract.
    unsafe {
        let made = libc::malloc((entries.len() * size_of::<usize>()).max(1)).cast::<usize>();
        ptr::copy_nonoverlapping(entries.as_ptr(), made, entries.len());
        *(list as *mut *mut usize) = made;
    }
}

type Filter = unsafe extern "C" fn(usize) -> c_int;
type Compare = unsafe extern "C" fn(*const c_void, *const c_void) -> c_int;

/// `scandir` without what it calls: all that is in the folder is recorded, and the program's functions see it in both
/// directions.
unsafe fn scan(
    function: &CStr,
    path: usize,
    list: *mut *mut usize,
    filter: Option<Filter>,
    compare: Option<Compare>,
) -> c_int {
    // SAFETY: called with scandir's arguments by an extension module.
    unsafe {
        let count = libc_calls::enter_named(function, [path, list as usize, 0, 0, 0, 0, 0]) as c_int;
        let Ok(found) = usize::try_from(count) else { return count };
        let mut kept = 0;
        for at in 0..found {
            let entry = *(*list).add(at);
            if filter.is_none_or(|filter| filter(entry) != 0) {
                *(*list).add(kept) = entry;
                kept += 1;
            } else {
                libc::free(entry as *mut c_void);
            }
        }
        if let Some(compare) = compare {
            libc::qsort((*list).cast(), kept, size_of::<usize>(), Some(compare));
        }
        kept as c_int
    }
}

unsafe extern "C" fn scandir(
    path: usize,
    list: *mut *mut usize,
    filter: Option<Filter>,
    compare: Option<Compare>,
) -> c_int {
    // SAFETY: as in `scan`.
    unsafe { scan(c"scandir", path, list, filter, compare) }
}

unsafe extern "C" fn scandir64(
    path: usize,
    list: *mut *mut usize,
    filter: Option<Filter>,
    compare: Option<Compare>,
) -> c_int {
    // SAFETY: as in `scan`.
    unsafe { scan(c"scandir64", path, list, filter, compare) }
}

/// What is put into an import table for a function of the table, where that is not a trampoline.
pub fn in_place_of(function: &CStr) -> Option<*mut c_void> {
    match function.to_bytes() {
        b"scandir" => Some(scandir as *mut c_void),
        b"scandir64" => Some(scandir64 as *mut c_void),
        _ => None,
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
