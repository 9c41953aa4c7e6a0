//! ELF: the global offset table of the object that contains an address, whether that is a shared library or the
//! executable itself.

use super::{Binding, Image, ImportError, Storage, ThreadVariables};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr;

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

/// A symbol that the object does not define itself.
const UNDEFINED: u16 = 0;

const DT_NEEDED: i64 = 1;
const DT_PLTRELSZ: i64 = 2;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;

const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const STT_FUNC: u8 = 2;

/// Relocations that fill a slot with a function's address.
#[cfg(target_arch = "x86_64")]
const SLOTS: [u64; 3] = [7, 6, 1]; // R_X86_64_JUMP_SLOT, GLOB_DAT, 64
#[cfg(target_arch = "aarch64")]
const SLOTS: [u64; 3] = [1026, 1025, 257]; // R_AARCH64_JUMP_SLOT, GLOB_DAT, ABS64

/// A loaded object's code.
#[cfg(target_arch = "x86_64")]
pub struct Code {
    pub parts: Vec<&'static [u8]>,
    /// The table by which the unwinder finds functions.
    pub unwinding: &'static [u8],
}

/// What is read of a loaded object.
struct Object {
    path: String,
    base: usize,
    dynamic: *const Dynamic,
    /// Its segments in memory: from, to.
    segments: Vec<(usize, usize)>,
    /// What of it is never written.
    constants: Vec<&'static [u8]>,
    /// What of it runs.
    #[cfg(target_arch = "x86_64")]
    code: Code,
    /// Its variables that each thread has its own of: the loader's number for them, what they are at first, and their size.
    threads_own: Option<(usize, &'static [u8], usize)>,
}

unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: called by dl_iterate_phdr with a live description; `data` is our vector.
    unsafe {
        let base = (*info).dlpi_addr as usize;
        let headers = std::slice::from_raw_parts((*info).dlpi_phdr, usize::from((*info).dlpi_phnum));
        let at = |header: &libc::Elf64_Phdr| base.wrapping_add(header.p_vaddr as usize);
        let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let constants = loaded.clone().filter(|header| header.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R);
        let threads_own = headers.iter().find(|header| header.p_type == libc::PT_TLS);
        #[cfg(target_arch = "x86_64")]
        let code = {
            let bytes = |header| std::slice::from_raw_parts(at(header) as *const u8, header.p_memsz as usize);
            let runs =
                |header: &&libc::Elf64_Phdr| header.p_flags & (libc::PF_R | libc::PF_X) == libc::PF_R | libc::PF_X;
            let unwinding = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME);
            Code { parts: loaded.clone().filter(runs).map(bytes).collect(), unwinding: unwinding.map_or(&[], bytes) }
        };
        let dynamic = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC);
        (*data.cast::<Vec<Object>>()).push(Object {
            path: CStr::from_ptr((*info).dlpi_name).to_string_lossy().into_owned(),
            base,
            #[cfg(target_arch = "x86_64")]
            code,
            dynamic: dynamic.map_or(std::ptr::null(), |header| at(header) as *const Dynamic),
            threads_own: threads_own.map(|header| {
                let initial = std::slice::from_raw_parts(at(header) as *const u8, header.p_filesz as usize);
                ((*info).dlpi_tls_modid, initial, header.p_memsz as usize)
            }),
            constants: constants
                .map(|header| std::slice::from_raw_parts(at(header) as *const u8, header.p_memsz as usize))
                .collect(),
            segments: loaded.map(|header| (at(header), at(header) + header.p_memsz as usize)).collect(),
        });
        0
    }
}

fn objects() -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    // SAFETY: `visit` gets the vector back.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut objects).cast()) };
    objects
}

impl Object {
    fn holds(&self, address: *const c_void) -> bool {
        self.segments.iter().any(|&(from, to)| (from..to).contains(&(address as usize)))
    }
}

/// The tables that an object's dynamic section names.
struct Tables {
    base: usize,
    strings: usize,
    symbols: usize,
    /// Address and size.
    relocations: [(usize, usize); 2],
    /// Where in `strings` the names of the needed objects are.
    needed: Vec<usize>,
}

impl Tables {
    /// Those of the object that contains `address`.
    ///
    /// # Safety
    /// `address` is code or data of a loaded object.
    unsafe fn of(address: *const c_void) -> Result<Tables, ImportError> {
        let object = objects().into_iter().find(|object| object.holds(address)).ok_or(ImportError::NoTable)?;
        if object.dynamic.is_null() {
            return Err(ImportError::NoTable);
        }
        let mut tables =
            Tables { base: object.base, strings: 0, symbols: 0, relocations: [(0, 0); 2], needed: Vec::new() };
        let mut entry = object.dynamic;
        // musl leaves the addresses relative; glibc has made them absolute.
        let absolute = |at: usize| if at < object.base { at + object.base } else { at };
        // SAFETY: the dynamic section of a loaded object, which ends with a zero tag.
        unsafe {
            while (*entry).tag != 0 {
                let value = (*entry).value as usize;
                match (*entry).tag {
                    DT_NEEDED => tables.needed.push(value),
                    DT_STRTAB => tables.strings = absolute(value),
                    DT_SYMTAB => tables.symbols = absolute(value),
                    DT_JMPREL => tables.relocations[0].0 = absolute(value),
                    DT_PLTRELSZ => tables.relocations[0].1 = value,
                    DT_RELA => tables.relocations[1].0 = absolute(value),
                    DT_RELASZ => tables.relocations[1].1 = value,
                    _ => {}
                }
                entry = entry.add(1);
            }
        }
        if tables.strings == 0 || tables.symbols == 0 { Err(ImportError::NoTable) } else { Ok(tables) }
    }

    /// A string of the object's.
    unsafe fn string(&self, at: usize) -> &CStr {
        // SAFETY: an offset that the object's own tables name.
        unsafe { CStr::from_ptr((self.strings as *const c_char).add(at)) }
    }

    /// The slots that the addresses of what other objects define are put into, as (name, slot).
    unsafe fn slots(&self, each: &mut dyn FnMut(&CStr, *mut *mut c_void)) {
        for (table, size) in self.relocations {
            if table == 0 {
                continue;
            }
            // SAFETY: the table's address and size are the object's own.
            unsafe {
                let count = size / size_of::<Relocation>();
                let relocations = std::slice::from_raw_parts(table as *const Relocation, count);
                for relocation in
                    relocations.iter().filter(|relocation| SLOTS.contains(&(relocation.info & 0xffff_ffff)))
                {
                    let symbol = (self.symbols as *const libc::Elf64_Sym).add((relocation.info >> 32) as usize);
                    if (*symbol).st_shndx != UNDEFINED {
                        continue;
                    }
                    let name = self.string((*symbol).st_name as usize);
                    each(name, self.base.wrapping_add(relocation.offset as usize) as *mut *mut c_void);
                }
            }
        }
    }
}

/// See [`super::images`].
pub fn images() -> Vec<Image> {
    let first = |object: &Object| object.segments.first().map_or(object.base, |segment| segment.0);
    objects().into_iter().map(|object| Image { address: first(&object), path: object.path }).collect()
}

/// What the loader has a variable of a thread's looked up by.
#[repr(C)]
struct Index {
    image: usize,
    offset: usize,
}

/// See [`super::thread_variables`].
///
/// # Safety
/// As there.
pub unsafe fn thread_variables(image: *const c_void) -> Option<ThreadVariables> {
    let object = objects().into_iter().find(|object| object.holds(image))?;
    let (image, initial, size) = object.threads_own?;
    // SAFETY: the loader's own function, and its number of a loaded image.
    let address = unsafe {
        let find = libc::dlsym(libc::RTLD_DEFAULT, c"__tls_get_addr".as_ptr());
        if find.is_null() {
            return None;
        }
        let find = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const Index) -> *mut u8>(find);
        find(&Index { image, offset: 0 })
    };
    let mut initial = initial.to_vec();
    initial.resize(size, 0);
    Some(ThreadVariables { image, address, initial })
}

/// See [`super::is_by_table`]. What was loaded with the program, or has to be near the thread pointer, is in memory that is not
/// freed by itself. What was loaded later is in memory of its own, for good.
///
/// # Safety
/// As there.
pub unsafe fn is_by_table(image: usize, address: *const u8) -> bool {
    // SAFETY: by contract: `__tls_get_addr` has made an entry.
    cfg!(target_env = "gnu")
        && unsafe { ptr::eq((*storage(image)).address, address) && !(*storage(image)).to_free.is_null() }
}

/// See [`super::storage`]: glibc's table (`dtv_t` in `sysdeps/generic/dl-dtv.h`; where it is, in `tls.h` of each processor).
///
/// # Safety
/// As there.
pub unsafe fn storage(image: usize) -> *mut Storage {
    let table: *mut Storage;
    // SAFETY: reads what the C library has at the thread pointer.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, fs:[8]", out(reg) table, options(nostack, readonly));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mrs {0}, tpidr_el0", "ldr {0}, [{0}]", out(reg) table, options(nostack, readonly));
        table.add(image)
    }
}

/// See [`super::needs`].
///
/// # Safety
/// As there.
pub unsafe fn needs(image: *const c_void) -> Vec<String> {
    // SAFETY: by contract.
    unsafe {
        let Ok(tables) = Tables::of(image) else { return Vec::new() };
        tables.needed.iter().map(|&at| tables.string(at).to_string_lossy().into_owned()).collect()
    }
}

/// The code of the image that holds an address.
#[cfg(target_arch = "x86_64")]
pub fn code(address: *const c_void) -> Option<Code> {
    objects().into_iter().find(|object| object.holds(address)).map(|object| object.code)
}

/// See [`super::has_constant`]. A linker may put them beside the code.
pub fn has_constant(address: *const c_void, bytes: &[u8]) -> bool {
    let Some(object) = objects().into_iter().find(|object| object.holds(address)) else { return false };
    object.constants.iter().any(|part| memchr::memmem::find(part, bytes).is_some())
}

/// See [`super::own_function`]. What others can't see only the file names, and only if it was not stripped.
///
/// # Safety
/// As there.
pub unsafe fn own_function(image: &Image, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: by contract.
    let base = unsafe { Tables::of(image.address as *const c_void) }.ok()?.base;
    let value = function_in_file(&File::open(&image.path).ok()?, name)?;
    Some(base.wrapping_add(value as usize) as *mut c_void)
}

/// The value of a function's symbol in an ELF file for this machine. Only the tables are read: a library may be large.
fn function_in_file(file: &File, name: &CStr) -> Option<u64> {
    let length = file.metadata().ok()?.len();
    let part = |at: u64, size: u64| -> Option<Vec<u8>> {
        at.checked_add(size).filter(|end| *end <= length)?;
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    };
    let start = part(0, size_of::<libc::Elf64_Ehdr>() as u64)?;
    if !start.starts_with(b"\x7fELF") {
        return None;
    }
    let header: libc::Elf64_Ehdr = read_at(&start, 0)?;
    let size = u64::from(header.e_shentsize);
    let sections = part(header.e_shoff, u64::from(header.e_shnum) * size)?;
    let section = |i: u64| -> Option<libc::Elf64_Shdr> { read_at(&sections, usize::try_from(i * size).ok()?) };
    for table in (0..u64::from(header.e_shnum)).filter_map(section) {
        if ![SHT_SYMTAB, SHT_DYNSYM].contains(&table.sh_type) {
            continue;
        }
        let names = section(table.sh_link.into())?;
        let names = part(names.sh_offset, names.sh_size)?;
        let symbols = part(table.sh_offset, table.sh_size)?;
        for at in (0..symbols.len()).step_by(size_of::<libc::Elf64_Sym>()) {
            let symbol: libc::Elf64_Sym = read_at(&symbols, at)?;
            let is_own_function = symbol.st_info & 0xf == STT_FUNC && symbol.st_shndx != UNDEFINED;
            if is_own_function && names.get(symbol.st_name as usize..)?.starts_with(name.to_bytes_with_nul()) {
                return Some(symbol.st_value);
            }
        }
    }
    None
}

/// A structure of plain numbers in a file, wherever it lies.
fn read_at<T: Copy>(file: &[u8], at: usize) -> Option<T> {
    let bytes = file.get(at..at.checked_add(size_of::<T>())?)?;
    // SAFETY: as many bytes as it has, of any values.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// See [`super::imported`].
///
/// # Safety
/// As there.
pub unsafe fn imported(image: *const c_void) -> Result<Vec<String>, ImportError> {
    let mut names = Vec::new();
    // SAFETY: by contract.
    unsafe { Tables::of(image)?.slots(&mut |name, _| names.push(name.to_string_lossy().into_owned())) };
    Ok(names)
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
        Tables::of(image)?.slots(&mut |name, slot| {
            if let Some(i) = bindings.iter().position(|binding| binding.name == name) {
                found[i].push(slot);
            }
        });
    }
    for (binding, slots) in bindings.iter().zip(&found) {
        if slots.is_empty() && binding.needed {
            return Err(ImportError::Missing(binding.name.to_string_lossy().into_owned()));
        }
    }
    for (binding, slots) in bindings.iter().zip(&found) {
        // SAFETY: the library's own function of that name; null where there is none.
        let next = unsafe { libc::dlsym(libc::RTLD_DEFAULT, binding.name.as_ptr()) };
        let Some(&first) = slots.first() else { continue };
        // SAFETY: a live slot. What no search finds, in a library that was loaded for one module, is in it by now.
        let next = if next.is_null() { unsafe { *first } } else { next };
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
