//! Mach-O: the symbol pointers of the image that contains an address. Compiled in CI's cross check only: nobody ran it.

use super::{Binding, Image, ImportError, Storage, ThreadVariables};
use std::ffi::{CStr, c_char, c_void};
use std::ptr;

/// `mach-o/loader.h`.
#[repr(C)]
struct Header {
    magic: u32,
    cpu_type: i32,
    cpu_subtype: i32,
    file_type: u32,
    commands: u32,
    commands_size: u32,
    flags: u32,
    reserved: u32,
}

#[repr(C)]
struct Command {
    kind: u32,
    size: u32,
}

#[repr(C)]
struct Segment {
    command: Command,
    name: [u8; 16],
    address: u64,
    memory_size: u64,
    file_offset: u64,
    file_size: u64,
    max_protection: i32,
    protection: i32,
    sections: u32,
    flags: u32,
}

#[repr(C)]
struct Section {
    name: [u8; 16],
    segment: [u8; 16],
    address: u64,
    size: u64,
    offset: u32,
    align: u32,
    relocations: u32,
    relocation_count: u32,
    flags: u32,
    /// For symbol pointers: where in the indirect symbol table they begin.
    indirect: u32,
    reserved: [u32; 2],
}

#[repr(C)]
struct SymbolTable {
    command: Command,
    symbols: u32,
    count: u32,
    strings: u32,
    strings_size: u32,
}

#[repr(C)]
struct DynamicSymbolTable {
    command: Command,
    counts: [u32; 12],
    indirect: u32,
    indirect_count: u32,
    more: [u32; 4],
}

#[repr(C)]
struct Symbol {
    name: u32,
    kind: u8,
    section: u8,
    description: u16,
    value: u64,
}

const SEGMENT: u32 = 0x19;
const SYMTAB: u32 = 0x2;
const DYSYMTAB: u32 = 0xb;
const SECTION_KIND: u32 = 0xff;
const NON_LAZY_POINTERS: u32 = 6;
const LAZY_POINTERS: u32 = 7;
const INDIRECT_LOCAL_OR_ABSOLUTE: u32 = 0xc000_0000;

unsafe extern "C" {
    static mach_task_self_: u32;
    fn vm_protect(task: u32, address: usize, size: usize, set_maximum: i32, protection: i32) -> i32;
}

/// VM_PROT_READ | VM_PROT_WRITE | VM_PROT_COPY: __DATA_CONST is mapped read-only once it is bound.
const WRITABLE_COPY: i32 = 1 | 2 | 16;

/// `mach-o/loader.h`: LC_LOAD_DYLIB and LC_LOAD_WEAK_DYLIB.
const LOAD_LIBRARY: [u32; 2] = [0xc, 0x8000_0018];

/// The beginning of `struct dylib_command`.
#[repr(C)]
struct Library {
    command: Command,
    name: u32,
}

unsafe extern "C" {
    fn _dyld_image_count() -> u32;
    fn _dyld_get_image_name(index: u32) -> *const c_char;
    fn _dyld_get_image_header(index: u32) -> *const Header;
}

/// See [`super::images`].
pub fn images() -> Vec<Image> {
    // SAFETY: the names and headers of loaded images; null for one that has just been unloaded.
    unsafe {
        let found = (0.._dyld_image_count()).filter_map(|i| {
            let (name, header) = (_dyld_get_image_name(i), _dyld_get_image_header(i));
            let path = (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())?;
            (!header.is_null()).then_some(Image { path, address: header as usize })
        });
        found.collect()
    }
}

/// The load commands of the image that contains `image`.
unsafe fn commands(image: *const c_void) -> Option<(*const Header, Vec<*const Command>)> {
    // SAFETY: `dladdr` gives the header of a loaded image, whose load commands are mapped behind it.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(image, &mut info) == 0 {
            return None;
        }
        let header = info.dli_fbase.cast::<Header>().cast_const();
        let mut command = header.add(1).cast::<Command>();
        let mut found = Vec::new();
        for _ in 0..(*header).commands {
            found.push(command);
            command = command.byte_add((*command).size as usize);
        }
        Some((header, found))
    }
}

/// See [`super::thread_variables`]. Nobody asks (`crate::libraries`).
///
/// # Safety
/// As there.
pub unsafe fn thread_variables(_image: *const c_void) -> Option<ThreadVariables> {
    None
}

/// See [`super::is_by_table`]. Nobody asks.
///
/// # Safety
/// As there.
pub unsafe fn is_by_table(_image: usize, _address: *const u8) -> bool {
    false
}

/// See [`super::storage`]. Nobody asks.
///
/// # Safety
/// As there.
pub unsafe fn storage(_image: usize) -> *mut Storage {
    std::ptr::null_mut()
}

/// See [`super::needs`].
///
/// # Safety
/// As there.
pub unsafe fn needs(image: *const c_void) -> Vec<String> {
    // SAFETY: the name lies in its command.
    unsafe {
        let Some((_, commands)) = commands(image) else { return Vec::new() };
        let libraries = commands.into_iter().filter(|&command| LOAD_LIBRARY.contains(&(*command).kind));
        let names = libraries.map(|command| {
            let name = command.byte_add((*command.cast::<Library>()).name as usize).cast::<c_char>();
            let path = CStr::from_ptr(name).to_string_lossy().into_owned();
            path.rsplit('/').next().unwrap_or_default().to_owned()
        });
        names.collect()
    }
}

/// See [`super::imported`].
///
/// # Safety
/// As there.
pub unsafe fn imported(image: *const c_void) -> Result<Vec<String>, ImportError> {
    let mut names = Vec::new();
    // SAFETY: by contract.
    unsafe { slots(image, &mut |name, _| names.push(String::from_utf8_lossy(name).into_owned())) }?;
    Ok(names)
}

/// The symbol pointers of the image that contains `image`, as (name, slot).
unsafe fn slots(image: *const c_void, each: &mut dyn FnMut(&[u8], *mut *mut c_void)) -> Result<(), ImportError> {
    // SAFETY: a loaded image's load commands and link edit segment are mapped.
    unsafe {
        let Some((header, commands)) = commands(image) else { return Err(ImportError::NoTable) };
        let mut segments: Vec<*const Segment> = Vec::new();
        let (mut symtab, mut dysymtab) = (ptr::null::<SymbolTable>(), ptr::null::<DynamicSymbolTable>());
        for command in commands {
            match (*command).kind {
                SEGMENT => segments.push(command.cast()),
                SYMTAB => symtab = command.cast(),
                DYSYMTAB => dysymtab = command.cast(),
                _ => {}
            }
        }
        let named = |name: &[u8]| segments.iter().copied().find(|&segment| (&(*segment).name).starts_with(name));
        let (Some(text), Some(edit)) = (named(b"__TEXT\0"), named(b"__LINKEDIT\0")) else {
            return Err(ImportError::NoTable);
        };
        if symtab.is_null() || dysymtab.is_null() {
            return Err(ImportError::NoTable);
        }
        let slide = (header as u64).wrapping_sub((*text).address);
        let file = slide.wrapping_add((*edit).address).wrapping_sub((*edit).file_offset);
        let symbols = (file + u64::from((*symtab).symbols)) as *const Symbol;
        let strings = (file + u64::from((*symtab).strings)) as *const c_char;
        let indirect = (file + u64::from((*dysymtab).indirect)) as *const u32;
        for segment in segments {
            let sections = std::slice::from_raw_parts(segment.add(1).cast::<Section>(), (*segment).sections as usize);
            for section in sections {
                if !matches!(section.flags & SECTION_KIND, NON_LAZY_POINTERS | LAZY_POINTERS) {
                    continue;
                }
                let slots = slide.wrapping_add(section.address) as *mut *mut c_void;
                for i in 0..(section.size / 8) as usize {
                    let index = *indirect.add(section.indirect as usize + i);
                    if index & INDIRECT_LOCAL_OR_ABSOLUTE != 0 {
                        continue;
                    }
                    // C names begin with an underscore there.
                    let name = CStr::from_ptr(strings.add((*symbols.add(index as usize)).name as usize));
                    if let Some(name) = name.to_bytes().strip_prefix(b"_") {
                        each(name, slots.add(i));
                    }
                }
            }
        }
        Ok(())
    }
}

/// See [`super::rebind`].
///
/// # Safety
/// As there.
pub unsafe fn rebind(image: *const c_void, bindings: &[Binding]) -> Result<(), ImportError> {
    let mut found = vec![Vec::new(); bindings.len()];
    // SAFETY: by contract.
    unsafe {
        slots(image, &mut |name, slot| {
            if let Some(at) = bindings.iter().position(|binding| binding.name.to_bytes() == name) {
                found[at].push(slot);
            }
        })?;
    }
    let named = |binding: &Binding| binding.name.to_string_lossy().into_owned();
    if let Some((binding, _)) = bindings.iter().zip(&found).find(|(binding, slots)| binding.needed && slots.is_empty())
    {
        return Err(ImportError::Missing(named(binding)));
    }
    for (binding, slots) in bindings.iter().zip(found) {
        for slot in slots {
            // SAFETY: `next` is where our caller keeps the replaced function; slots are pointer-sized and live.
            unsafe {
                if vm_protect(mach_task_self_, slot as usize, 8, 0, WRITABLE_COPY) != 0 {
                    return Err(ImportError::Protected(named(binding)));
                }
                *binding.next = libc::dlsym(libc::RTLD_DEFAULT, binding.name.as_ptr());
                *slot = binding.with;
            }
        }
    }
    Ok(())
}

/// See [`super::own_function`]. Of those that others can't see nothing is known here.
///
/// # Safety
/// As there.
pub unsafe fn own_function(image: &Image, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the image is loaded.
    unsafe {
        let path = std::ffi::CString::new(image.path.as_str()).ok()?;
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_FIRST);
        if handle.is_null() {
            return None;
        }
        let found = libc::dlsym(handle, name.as_ptr());
        libc::dlclose(handle);
        (!found.is_null()).then_some(found)
    }
}
