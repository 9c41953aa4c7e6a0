//! The memory of a replay's maps. It is private to the process, so that the debugger's checkpoints keep what was in it;
//! the maps of one file are parts of one memory, as they were in the recording: what is written through one is read
//! through the other. The `mmap` module gives a map back by the C library's functions, which are redirected, because
//! others may still have its memory.

use crate::gil::GilCell;
use crate::imports::{self, Binding, replaced};
use crate::platform;
use crate::turns::locked;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};

/// The most of a map's contents that is recorded, in bytes: reading it stops the program for some ten milliseconds.
pub const LARGEST: usize = 64 << 20;

/// Where there is anything in `size` bytes of a file, from `offset` on: offsets from there and sizes. Or why that is not
/// recorded.
pub fn data_of(descriptor: c_int, offset: i64, size: usize) -> Result<Vec<(usize, usize)>, &'static str> {
    let known = if size <= LARGEST {
        None
    } else {
        let told = platform::data_ranges(descriptor, offset, size);
        told.or_else(|| platform::written_ranges(descriptor, offset, size))
    };
    let ranges = known.unwrap_or_else(|| vec![(0, size)]);
    let all: usize = ranges.iter().map(|(_, size)| size).sum();
    if all > LARGEST { Err("its contents were not recorded: it is too large") } else { Ok(ranges) }
}

/// The files that were mapped so that others see what is written, by device and inode. Recording only.
static NUMBERED: Mutex<Vec<(u64, u64)>> = Mutex::new(Vec::new());
static HAS_FILES: AtomicBool = AtomicBool::new(false);

/// The number of the file behind a descriptor, a new one if it has none yet; None where there is no file.
pub fn number_of(descriptor: c_int) -> Option<u32> {
    let file = identity(descriptor)?;
    let mut files = locked(&NUMBERED);
    let place = files.iter().position(|known| *known == file).unwrap_or_else(|| {
        files.push(file);
        files.len() - 1
    });
    // Relaxed: who writes into the file knows of the map.
    HAS_FILES.store(true, Ordering::Relaxed);
    u32::try_from(place).ok()
}

/// The number that the file behind a descriptor has.
pub fn known_number_of(descriptor: c_int) -> Option<u32> {
    let file = identity(descriptor)?;
    locked(&NUMBERED).iter().position(|known| *known == file).and_then(|place| u32::try_from(place).ok())
}

/// Whether any file has a number.
pub fn has_files() -> bool {
    HAS_FILES.load(Ordering::Relaxed)
}

fn identity(descriptor: c_int) -> Option<(u64, u64)> {
    let status = platform::regular_file(descriptor)?;
    #[allow(clippy::unnecessary_cast)] // Signed on macOS.
    Some((status.st_dev as u64, status.st_ino as u64))
}

/// How many addresses are kept free for a file's memory: more than this of it, and twice what is mapped first.
const ROOM: usize = 1 << 30;

/// A file's memory, from the file's beginning on. Only what was mapped is accessible.
struct File {
    number: u32,
    start: *mut u8,
    room: usize,
    /// The addresses and sizes of the maps that have parts of it.
    maps: Vec<(usize, usize)>,
}

impl File {
    /// A part of a map, or all of it, is given back: of one of those that have just that, or else of one that has it.
    fn forget(&mut self, address: usize, size: usize) {
        let page = platform::page_size();
        let whole = |size: usize| size.next_multiple_of(page);
        let end = address + whole(size);
        let is_it = |map: &(usize, usize)| map.0 == address && whole(map.1) == whole(size);
        let has_it = |map: &(usize, usize)| map.0 <= address && end <= map.0 + whole(map.1);
        let maps = &mut self.maps;
        if let Some(place) = maps.iter().position(is_it).or_else(|| maps.iter().position(has_it)) {
            let (from, size) = maps.swap_remove(place);
            let parts = [(from, address - from), (end, (from + whole(size)).saturating_sub(end))];
            maps.extend(parts.into_iter().filter(|(_, size)| *size > 0));
        }
    }

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
        let page = platform::page_size();
        let before = from as usize % page;
        libc::mprotect(from.sub(before).cast(), size + before, READ_WRITE) == 0
    }
}

/// What is put into the import table of code that maps files, on replay.
pub fn bindings() -> Vec<Binding> {
    let functions = [(c"munmap", unmap as *mut c_void), (c"mremap", remap as *mut c_void)];
    // SAFETY: names; as many places, which stay. Code may look the functions up later than it maps.
    unsafe {
        for (place, (name, _)) in functions.iter().enumerate() {
            NEXT[place] = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        }
        imports::optional(functions, (&raw mut NEXT).cast())
    }
}

/// Redirects the `mmap` module, of which `address` is a part.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn redirect(address: *const c_void) {
    static REDIRECT: Once = Once::new();
    // SAFETY: by contract.
    REDIRECT.call_once(|| drop(unsafe { imports::rebind(address, &bindings()) }));
}

/// Memory for a new map of `size` bytes: of a file by its number, from an offset on, or its own.
///
/// # Safety
/// Replaying.
pub unsafe fn map(file: Option<(u32, usize)>, size: usize) -> Option<*mut u8> {
    // SAFETY: by contract.
    unsafe {
        let Some((number, offset)) = file else { return reserve(size, READ_WRITE) };
        // Nobody would give it back.
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
                files.push(File { number, start, room, maps: Vec::new() });
                files.len() - 1
            }
        };
        let memory = files[place].start.add(offset);
        if !open(memory, size) {
            return None;
        }
        files[place].maps.push((memory as usize, size));
        Some(memory)
    }
}

/// Writes into a file's memory, where there is any.
///
/// # Safety
/// Replaying; nobody reads it meanwhile.
pub unsafe fn write(number: u32, offset: usize, bytes: &[u8]) {
    // SAFETY: by contract; what is written lies in the file's room, and is made accessible.
    unsafe {
        for file in FILES.get().iter().filter(|file| file.number == number) {
            let fits = offset.checked_add(bytes.len()).is_some_and(|end| end <= file.room);
            if fits && !bytes.is_empty() && open(file.start.add(offset), bytes.len()) {
                ptr::copy_nonoverlapping(bytes.as_ptr(), file.start.add(offset), bytes.len());
            }
        }
    }
}

/// Makes memory zero: pages that nobody wrote to stay as they are.
///
/// # Safety
/// The memory was made by [`map`].
pub unsafe fn clear(memory: *mut u8, size: usize) {
    // SAFETY: by contract; it may be read and written.
    unsafe {
        let page = platform::page_size();
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
        files[place].forget(address as usize, size);
        if files[place].maps.is_empty() {
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
        let Some(file) = FILES.get().iter_mut().find(|file| file.holds(memory)) else {
            return next(address, size, wanted, flags);
        };
        let offset = memory.offset_from_unsigned(file.start);
        if offset.checked_add(wanted).is_some_and(|end| end <= file.room) && open(memory, size.max(wanted)) {
            if wanted < size {
                // The file ends there now.
                ptr::write_bytes(memory.add(wanted), 0, size - wanted);
            }
            file.forget(address as usize, size);
            file.maps.push((address as usize, wanted));
            return address;
        }
        let Some(moved) = reserve(wanted, READ_WRITE) else { return libc::MAP_FAILED };
        ptr::copy_nonoverlapping(memory, moved, size.min(wanted));
        unmap(address, size);
        moved.cast()
    }
}
