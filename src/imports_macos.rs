//! Mach-O: the symbol pointers of the image that contains an address. Compiled in CI's cross check only: nobody ran it.

use super::{Binding, ImportError};
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

/// See [`super::rebind`].
///
/// # Safety
/// As there.
pub unsafe fn rebind(image: *const c_void, bindings: &[Binding]) -> Result<(), ImportError> {
    // SAFETY: `dladdr` gives the header of a loaded image, whose load commands and link edit segment are mapped.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(image, &mut info) == 0 {
            return Err(ImportError::NoTable);
        }
        let header = info.dli_fbase.cast::<Header>();
        let mut segments: Vec<*const Segment> = Vec::new();
        let (mut symtab, mut dysymtab) = (ptr::null::<SymbolTable>(), ptr::null::<DynamicSymbolTable>());
        let mut command = header.add(1).cast::<Command>().cast_const();
        for _ in 0..(*header).commands {
            match (*command).kind {
                SEGMENT => segments.push(command.cast()),
                SYMTAB => symtab = command.cast(),
                DYSYMTAB => dysymtab = command.cast(),
                _ => {}
            }
            command = command.byte_add((*command).size as usize);
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
        let mut seen = vec![false; bindings.len()];
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
                    let Some(name) = name.to_bytes().strip_prefix(b"_") else { continue };
                    let Some(at) = bindings.iter().position(|binding| binding.name.to_bytes() == name) else {
                        continue;
                    };
                    let slot = slots.add(i);
                    if vm_protect(mach_task_self_, slot as usize, 8, 0, WRITABLE_COPY) != 0 {
                        return Err(ImportError::Protected(String::from_utf8_lossy(name).into_owned()));
                    }
                    *bindings[at].next = libc::dlsym(libc::RTLD_DEFAULT, bindings[at].name.as_ptr());
                    *slot = bindings[at].with;
                    seen[at] = true;
                }
            }
        }
        match bindings.iter().zip(seen).find(|(binding, seen)| binding.needed && !seen) {
            Some((binding, _)) => Err(ImportError::Missing(binding.name.to_string_lossy().into_owned())),
            None => Ok(()),
        }
    }
}
