//! System calls that an extension module's code makes itself, without the C library (the crate rustix): those with a number
//! in the code, `mov eax, NUMBER … syscall`, whose function the table of the C library's has. In place of the load stands a
//! jump to a piece of our own, which does what stood between the two, and calls `src/libc_calls.rs` in place of the system.
//!
//! Only the five bytes of one instruction are written over, and only where the code of its function, of which the unwinder's
//! table says where it begins, was read instruction by instruction from there to its end. Who jumps to behind the load makes
//! the call as it was.

use crate::imports::{self, Image};
use crate::instructions::{self, Kind};
use crate::{libc_calls, platform};
use std::ffi::{c_long, c_void};
use std::ops::Range;
use std::ptr;

/// What the instruction is written over with: as many bytes as it has.
const JUMP: usize = 5;
/// How many bytes may be between it and the end of the call.
const MOST_BETWEEN: usize = 64;
/// `syscall`'s own length.
const CALL: usize = 2;
/// How much longer a piece is than its call: it steps over the red zone, calls, and goes back.
const REST: usize = 29;
/// From where a jump reaches the code, and back.
const REACH: usize = 1 << 30;
const PAGE: usize = 4096;
/// Of an image with more code nothing is looked at: all of it would be read from the disk when it is imported.
const MOST_CODE: usize = 64 << 20;

/// A call: from the load of its number to behind its `syscall`.
type Site = Range<usize>;

/// Redirects the calls of an image.
///
/// # Safety
/// In a session; the image is loaded, and none of its code runs but what it runs when it is loaded.
pub unsafe fn redirect(image: &Image) {
    if !std::arch::is_x86_feature_detected!("xsave") {
        return;
    }
    // SAFETY: by contract.
    unsafe {
        let Some(code) = imports::code(image.address as *const c_void) else { return };
        if code.parts.iter().map(|part| part.len()).sum::<usize>() > MOST_CODE {
            return;
        }
        let sites: Vec<Site> = code.parts.iter().flat_map(|part| sites(part, code.unwinding)).collect();
        let size: usize = sites.iter().map(|site| site.len() + REST).sum();
        let Some(mut at) = (size > 0).then(|| room(image.address, size)).flatten() else { return };
        let start = at;
        for site in &sites {
            write_piece(&mut at, site);
        }
        // Nothing leads there before the pieces are complete.
        if libc::mprotect(start as *mut c_void, size, libc::PROT_READ | libc::PROT_EXEC) != 0 {
            return;
        }
        at = start;
        for site in sites {
            write_jump(&site, at);
            at += site.len() + REST;
        }
    }
}

/// The calls in one part of an image's code.
unsafe fn sites(part: &[u8], unwinding: &[u8]) -> Vec<Site> {
    let start = part.as_ptr() as usize;
    let mut sites: Vec<Site> = Vec::new();
    let mut seen = start;
    for at in memchr::memmem::find_iter(part, b"\x0f\x05") {
        let at = start + at;
        // The function was read as a whole.
        if at < seen {
            continue;
        }
        // SAFETY: the table of the image that the part is of.
        let Some(function) = (unsafe { function_around(at, unwinding) }) else { continue };
        let (Some(from), Some(to)) = (function.start.checked_sub(start), function.end.checked_sub(start)) else {
            continue;
        };
        if let Some(code) = part.get(from..to) {
            seen = function.end;
            let found = calls(code).unwrap_or_default();
            sites.extend(found.into_iter().map(|call| call.start + function.start..call.end + function.start));
        }
    }
    sites
}

/// The calls in a function, by offset. `None` where it holds what is not known.
fn calls(code: &[u8]) -> Option<Vec<Site>> {
    let mut found = Vec::new();
    let mut at = 0;
    // Where the last load is, and of which number, if nothing but what can be copied has come since.
    let mut load: Option<(usize, u32)> = None;
    while at < code.len() {
        let instruction = instructions::first(&code[at..])?;
        let end = at + instruction.length;
        match instruction.kind {
            Kind::LoadsEax(number) => load = Some((at, number)),
            Kind::Plain => {}
            Kind::Syscall => {
                let is_ours = |(from, number): &(usize, u32)| {
                    end - from <= MOST_BETWEEN && libc_calls::by_number((*number).into()).is_some()
                };
                found.extend(load.take().filter(is_ours).map(|(from, _)| from..end));
            }
            Kind::Other => load = None,
        }
        at = end;
    }
    (at == code.len()).then_some(found)
}

/// The function around an address, by the unwinder's table (`.eh_frame_hdr`, in the form that linkers give it).
unsafe fn function_around(address: usize, table: &[u8]) -> Option<Range<usize>> {
    // Version 1; addresses relative to the table, in four bytes.
    const FORM: [u8; 4] = [1, 0x1b, 3, 0x3b];
    const ENTRIES: usize = 12;
    const ENTRY: usize = 8;
    if table.get(..4)? != FORM {
        return None;
    }
    let number = |at: usize| Some(i32::from_le_bytes(table.get(at..at + 4)?.try_into().ok()?));
    let place = |at: usize| Some(table.as_ptr().addr().wrapping_add_signed(number(at)? as isize));
    let (mut low, mut high) = (0, usize::try_from(number(8)?).ok()?);
    while low < high {
        let middle = usize::midpoint(low, high);
        if place(ENTRIES + middle * ENTRY)? <= address { low = middle + 1 } else { high = middle }
    }
    let entry = ENTRIES + low.checked_sub(1)? * ENTRY;
    let (start, description) = (place(entry)?, place(entry + 4)?);
    // SAFETY: where the table says that the description is: a length, what is common, and the range.
    unsafe {
        let field = |at: usize| ((description + at) as *const i32).read_unaligned();
        // Relative to itself, as compilers have it. In another form it is another address.
        let is_same = (description + 8).wrapping_add_signed(field(8) as isize) == start;
        let end = start.checked_add(usize::try_from(field(12)).ok()?)?;
        (is_same && address < end).then_some(start..end)
    }
}

/// Memory that jumps reach from an image, to be written.
unsafe fn room(image: usize, size: usize) -> Option<usize> {
    // SAFETY: makes a map where there is none; one that is elsewhere, by a kernel that does not know the flag, goes.
    unsafe {
        for distance in (1..REACH >> 20).map(|step| step << 20) {
            let wanted = (image.checked_sub(distance)?) & !(PAGE - 1);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            let made = libc::mmap(wanted as *mut c_void, size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if made as usize == wanted {
                return Some(wanted);
            }
            if made != libc::MAP_FAILED {
                libc::munmap(made, size);
            }
        }
        None
    }
}

fn relative(from: usize, to: usize) -> [u8; 4] {
    // What is made lies within reach.
    (to.wrapping_sub(from) as i32).to_le_bytes()
}

/// Writes the piece for a call, and steps over it.
unsafe fn write_piece(at: &mut usize, site: &Site) {
    let copied = site.len() - CALL;
    let mut piece = [0; REST + CALL];
    // lea rsp, [rsp - 128]
    piece[..5].copy_from_slice(&[0x48, 0x8d, 0x64, 0x24, 0x80]);
    // mov r11, ADDRESS
    piece[5..7].copy_from_slice(&[0x49, 0xbb]);
    piece[7..15].copy_from_slice(&(arrive as *const () as usize).to_le_bytes());
    // call r11
    piece[15..18].copy_from_slice(&[0x41, 0xff, 0xd3]);
    // lea rsp, [rsp + 128]
    piece[18..26].copy_from_slice(&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]);
    // SAFETY: the code is loaded; there is room for the piece.
    unsafe {
        ptr::copy_nonoverlapping(site.start as *const u8, *at as *mut u8, copied);
        *at += copied;
        let end = *at + piece.len();
        piece[26] = 0xe9;
        piece[27..].copy_from_slice(&relative(end, site.end));
        ptr::copy_nonoverlapping(piece.as_ptr(), *at as *mut u8, piece.len());
        *at = end;
    }
}

/// Has the code go to its piece. Where its page can't be written it stays as it is.
unsafe fn write_jump(site: &Site, piece: usize) {
    let mut jump = [0xe9, 0, 0, 0, 0];
    jump[1..].copy_from_slice(&relative(site.start + JUMP, piece));
    let first = site.start & !(PAGE - 1);
    let size = site.start + JUMP - first;
    // SAFETY: the code is loaded, and stays executable throughout: others of the page may run.
    unsafe {
        let (page, read_and_run) = (first as *mut c_void, libc::PROT_READ | libc::PROT_EXEC);
        if libc::mprotect(page, size, read_and_run | libc::PROT_WRITE) == 0 {
            ptr::copy_nonoverlapping(jump.as_ptr(), site.start as *mut u8, JUMP);
            libc::mprotect(page, size, read_and_run);
        }
    }
}

/// What of the processor's vector registers a system call leaves as it is: SSE, AVX, and AVX-512's three. In XSAVE's form they
/// take some 2,700 bytes, behind which is room.
const VECTORS: u32 = 0b1110_0110;

/// Where the pieces call, with the system call's registers: all but RAX, RCX and R11 are left as they were.
#[unsafe(naked)]
unsafe extern "C" fn arrive() {
    std::arch::naked_asm!(
        "pushfq",
        "push rbp",
        "mov rbp, rsp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push r10",
        "push r8",
        "push r9",
        "mov r11, rax",
        "sub rsp, 3072",
        "and rsp, -64",
        // The header, which has to be in order.
        "xor eax, eax",
        "mov [rsp + 512], rax",
        "mov [rsp + 520], rax",
        "mov [rsp + 528], rax",
        "mov [rsp + 536], rax",
        "mov [rsp + 544], rax",
        "mov [rsp + 552], rax",
        "mov [rsp + 560], rax",
        "mov [rsp + 568], rax",
        "mov eax, {vectors}",
        "xor edx, edx",
        "xsave64 [rsp]",
        "push rax",
        "push r9",
        "mov r9, r8",
        "mov r8, r10",
        "mov rcx, [rbp - 24]",
        "mov rdx, rsi",
        "mov rsi, rdi",
        "mov rdi, r11",
        "cld",
        "call {called}",
        "add rsp, 16",
        "mov r11, rax",
        "mov eax, {vectors}",
        "xor edx, edx",
        "xrstor64 [rsp]",
        "mov rax, r11",
        "lea rsp, [rbp - 48]",
        "pop r9",
        "pop r8",
        "pop r10",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        "popfq",
        "ret",
        called = sym called,
        vectors = const VECTORS,
    )
}

/// Answers as the system does: an error is a negative number, and `errno` is nobody's business.
unsafe extern "C" fn called(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    let errno = platform::errno();
    // SAFETY: called with the arguments of a system call.
    let result = unsafe {
        match libc_calls::by_number(number) {
            Some(place) => libc_calls::enter_by_number(place, [number as usize, a, b, c, d, e, f]),
            None => libc::syscall(number, a, b, c, d, e, f),
        }
    };
    let result = if result == -1 { -c_long::from(platform::errno()) } else { result };
    platform::set_errno(errno);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_from_its_load_to_its_end() {
        // ret; mov eax, 263; mov edi, -100; xor edx, edx; syscall; ret
        let code = [0xc3, 0xb8, 7, 1, 0, 0, 0xbf, 0x9c, 0xff, 0xff, 0xff, 0x31, 0xd2, 0x0f, 5, 0xc3];
        assert_eq!(calls(&code).as_deref(), Some(&[Site { start: 1, end: 15 }][..]));
        // A number that the table has nothing for; a jump between; what is not known in the function.
        assert_eq!(calls(&[0xb8, 0xff, 0xff, 0, 0, 0x0f, 5]), Some(vec![]));
        assert_eq!(calls(&[0xb8, 7, 1, 0, 0, 0xeb, 0, 0x0f, 5]), Some(vec![]));
        assert_eq!(calls(&[0xb8, 7, 1, 0, 0, 0x0f, 5, 0x06]), None);
    }
}
