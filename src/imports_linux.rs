//! ELF: the global offset table of the object that contains an address, whether that is a shared library or the
//! executable itself.

use super::{Binding, ImportError};
use std::ffi::{CStr, c_char, c_int, c_void};

#[repr(C)]
struct Dynamic {
    tag: i64,
    value: u64,
}

#[repr(C)]
struct Relocation {
    offset: u64,
    info: u64,
    addend: i64,
}

const DT_PLTRELSZ: i64 = 2;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;

/// Relocations that fill a slot with a function's address.
#[cfg(target_arch = "x86_64")]
const SLOTS: [u64; 3] = [7, 6, 1]; // R_X86_64_JUMP_SLOT, GLOB_DAT, 64
#[cfg(target_arch = "aarch64")]
const SLOTS: [u64; 3] = [1026, 1025, 257]; // R_AARCH64_JUMP_SLOT, GLOB_DAT, ABS64

/// What is read of an object while it is looked for.
struct Object {
    wanted: usize,
    base: usize,
    dynamic: *const Dynamic,
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: called by dl_iterate_phdr with a live description; `data` is our `Object`.
    unsafe {
        let object = &mut *data.cast::<Object>();
        let base = (*info).dlpi_addr as usize;
        let headers = std::slice::from_raw_parts((*info).dlpi_phdr, usize::from((*info).dlpi_phnum));
        let holds = headers.iter().any(|header| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            header.p_type == libc::PT_LOAD && (start..start + header.p_memsz as usize).contains(&object.wanted)
        });
        if !holds {
            return 0;
        }
        object.base = base;
        if let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC) {
            object.dynamic = base.wrapping_add(header.p_vaddr as usize) as *const Dynamic;
        }
        1
    }
}

/// The slots of the object that contains `address`, as (name, slot).
///
/// # Safety
/// `address` is code or data of a loaded object.
unsafe fn slots(address: *const c_void, each: &mut dyn FnMut(&CStr, *mut *mut c_void)) -> Result<(), ImportError> {
    let mut object = Object { wanted: address as usize, base: 0, dynamic: std::ptr::null() };
    // SAFETY: `visit` gets the object back.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut object).cast()) };
    if object.dynamic.is_null() {
        return Err(ImportError::NoTable);
    }
    let (mut strings, mut symbols) = (0usize, 0usize);
    let mut tables = [(0usize, 0usize); 2];
    let mut entry = object.dynamic;
    // SAFETY: the dynamic section of a loaded object, which ends with a zero tag; glibc has made its addresses absolute.
    unsafe {
        while (*entry).tag != 0 {
            let value = (*entry).value as usize;
            match (*entry).tag {
                DT_STRTAB => strings = value,
                DT_SYMTAB => symbols = value,
                DT_JMPREL => tables[0].0 = value,
                DT_PLTRELSZ => tables[0].1 = value,
                DT_RELA => tables[1].0 = value,
                DT_RELASZ => tables[1].1 = value,
                _ => {}
            }
            entry = entry.add(1);
        }
        if strings == 0 || symbols == 0 {
            return Err(ImportError::NoTable);
        }
        // musl leaves them relative.
        let absolute = |at: usize| if at < object.base { at + object.base } else { at };
        let (strings, symbols) = (absolute(strings), absolute(symbols));
        for (table, size) in tables {
            if table == 0 {
                continue;
            }
            let count = size / size_of::<Relocation>();
            let relocations = std::slice::from_raw_parts(absolute(table) as *const Relocation, count);
            for relocation in relocations.iter().filter(|relocation| SLOTS.contains(&(relocation.info & 0xffff_ffff))) {
                let symbol = (symbols as *const libc::Elf64_Sym).add((relocation.info >> 32) as usize);
                let name = CStr::from_ptr((strings as *const c_char).add((*symbol).st_name as usize));
                each(name, object.base.wrapping_add(relocation.offset as usize) as *mut *mut c_void);
            }
        }
    }
    Ok(())
}

/// Makes the slot writable where the loader has protected it (full RELRO), for good: another slot of the page may be
/// written later.
unsafe fn unprotect(slot: *mut *mut c_void) -> bool {
    // SAFETY: changes the protection of the page that the slot lies in; it stays readable.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let start = slot as usize & !(page - 1);
        libc::mprotect(start as *mut c_void, page, libc::PROT_READ | libc::PROT_WRITE) == 0
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
            if let Some(i) = bindings.iter().position(|binding| binding.name == name) {
                found[i].push(slot);
            }
        })?;
    }
    for (binding, slots) in bindings.iter().zip(&found) {
        if slots.is_empty() && binding.needed {
            return Err(ImportError::Missing(binding.name.to_string_lossy().into_owned()));
        }
    }
    for (binding, slots) in bindings.iter().zip(&found) {
        // SAFETY: the library's own function of that name; null where there is none.
        let next = unsafe { libc::dlsym(libc::RTLD_DEFAULT, binding.name.as_ptr()) };
        if slots.is_empty() {
            continue;
        }
        // SAFETY: `next` is where our caller keeps the replaced function; slots are pointer-sized and live.
        unsafe {
            *binding.next = next;
            for &slot in slots {
                if !unprotect(slot) {
                    return Err(ImportError::Protected(binding.name.to_string_lossy().into_owned()));
                }
                *slot = binding.with;
            }
        }
    }
    Ok(())
}
