//! The memory of a replay's maps. It is private to the process, so that the debugger's checkpoints keep what was in it;
//! the maps of one file are parts of one memory, as they were in the recording: what is written through one is read
//! through the other. The `mmap` module gives a map back by the C library's functions, which are redirected, because
//! others may still have its memory.

use crate::gil::GilCell;
use crate::imports::{self, replaced};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Once;

/// How many addresses are kept free for a file's memory: more than this of it, and twice what is mapped first.
const ROOM: usize = 1 << 30;

/// A file's memory, from the file's beginning on. Only what was mapped is accessible.
struct File {
    number: u32,
    start: *mut u8,
    room: usize,
    /// How many maps have parts of it.
    maps: usize,
}

impl File {
    fn holds(&self, address: *const u8) -> bool {
        (self.start as usize..self.start as usize + self.room).contains(&(address as usize))
    }
}

static FILES: GilCell<Vec<File>> = GilCell::new(Vec::new());

static mut NEXT: [*mut c_void; 2] = [ptr::null_mut(); 2];

unsafe fn reserve(size: usize, access: c_int) -> Option<*mut u8> {
    // SAFETY: a new map, which nobody has.
    unsafe {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let memory = libc::mmap(ptr::null_mut(), size, access, kind, -1, 0);
        (memory != libc::MAP_FAILED).then_some(memory.cast())
    }
}

const READ_WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;

/// The pages that hold `size` bytes from `from` on are accessible.
unsafe fn open(from: *mut u8, size: usize) -> bool {
    // SAFETY: by the callers: within a file's room.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let before = from as usize % page;
        libc::mprotect(from.sub(before).cast(), size + before, READ_WRITE) == 0
    }
}

/// Memory for a new map of `size` bytes: of a file by its number, from an offset on, or its own. `module`: an address in
/// the `mmap` module.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn map(file: Option<(u32, usize)>, size: usize, module: *const c_void) -> Option<*mut u8> {
    static REDIRECT: Once = Once::new();
    // SAFETY: by contract.
    unsafe {
        let Some((number, offset)) = file else { return reserve(size, READ_WRITE) };
        REDIRECT.call_once(|| {
            let functions = [(c"munmap", unmap as *mut c_void), (c"mremap", remap as *mut c_void)];
            let _ = imports::rebind(module, &imports::optional(functions, (&raw mut NEXT).cast()));
        });
        if NEXT[0].is_null() {
            return reserve(size, READ_WRITE);
        }
        let end = offset.checked_add(size)?;
        let files = FILES.get();
        let known = files.iter().position(|file| file.number == number && end <= file.room);
        let place = match known {
            Some(place) => place,
            None => {
                let room = ROOM.max(end.checked_mul(2)?);
                let Some(start) = reserve(room, libc::PROT_NONE) else { return reserve(size, READ_WRITE) };
                files.push(File { number, start, room, maps: 0 });
                files.len() - 1
            }
        };
        let memory = files[place].start.add(offset);
        if !open(memory, size) {
            return None;
        }
        files[place].maps += 1;
        Some(memory)
    }
}

/// Makes memory zero: pages that nobody wrote to stay as they are.
///
/// # Safety
/// The memory was made by [`map`].
pub unsafe fn clear(memory: *mut u8, size: usize) {
    // SAFETY: by contract; it may be read and written.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let whole = size / page * page;
        if cfg!(target_os = "linux") && whole > 0 && (memory as usize).is_multiple_of(page) {
            libc::madvise(memory.cast(), whole, libc::MADV_DONTNEED);
        } else {
            ptr::write_bytes(memory, 0, whole);
        }
        ptr::write_bytes(memory.add(whole), 0, size - whole);
    }
}

/// In place of the module's `munmap`.
unsafe extern "C" fn unmap(address: *mut c_void, size: usize) -> c_int {
    // SAFETY: called with the GIL held.
    unsafe {
        let next = replaced!(NEXT[0], *mut c_void, usize => c_int);
        let files = FILES.get();
        let Some(place) = files.iter().position(|file| file.holds(address.cast())) else { return next(address, size) };
        files[place].maps -= 1;
        if files[place].maps == 0 {
            let file = files.remove(place);
            return next(file.start.cast(), file.room);
        }
        0
    }
}

/// In place of the module's `mremap`, which changes a map's size.
unsafe extern "C" fn remap(address: *mut c_void, size: usize, wanted: usize, flags: c_int) -> *mut c_void {
    // SAFETY: called with the GIL held; both ranges are within the file's room.
    unsafe {
        let next = replaced!(NEXT[1], *mut c_void, usize, usize, c_int => *mut c_void);
        let memory = address.cast::<u8>();
        let Some(file) = FILES.get().iter().find(|file| file.holds(memory)) else {
            return next(address, size, wanted, flags);
        };
        let offset = memory.offset_from_unsigned(file.start);
        if offset.checked_add(wanted).is_some_and(|end| end <= file.room) && open(memory, size.max(wanted)) {
            if wanted < size {
                // The file ends there now.
                ptr::write_bytes(memory.add(wanted), 0, size - wanted);
            }
            return address;
        }
        let Some(moved) = reserve(wanted, READ_WRITE) else { return libc::MAP_FAILED };
        ptr::copy_nonoverlapping(memory, moved, size.min(wanted));
        unmap(address, size);
        moved.cast()
    }
}
