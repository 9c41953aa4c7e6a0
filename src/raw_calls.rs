//! System calls that an extension module's code makes itself, without the C library (the crate rustix): those with a number
//! in the code, `mov eax, NUMBER … syscall`, whose function the table of the C library's has. In place of the load stands a
//! jump to a piece of our own, which does what stood between the two, and calls `src/libc_calls.rs` in place of the system.
//! And where it reads the processor's time stamp counter: what stands behind `rdtsc`, mostly a shift, is done in the piece.
//!
//! Code is written over only where its function, of which the unwinder's table says where it begins, was read instruction by
//! instruction from there to its end: the five bytes of a load (who jumps to behind it makes the call as it was), or an
//! `rdtsc` and as many instructions as a jump takes, if no jump leads between them.

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
/// The length of `syscall`, and of `rdtsc`.
const TWO: usize = 2;
/// How much longer a piece is than its site: it steps over the red zone, calls, and goes back.
const REST_OF_CALL: usize = 29;
const REST_OF_STAMP: usize = 30;
/// From where a jump reaches the code, and back.
const REACH: usize = 1 << 30;
const PAGE: usize = 4096;
/// Of an image with more code nothing is looked at: all of it would be read from the disk when it is imported.
const MOST_CODE: usize = 64 << 20;

/// What is done in a piece of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// From the load of a call's number to behind its `syscall`.
    Call,
    /// From `rdtsc` to behind what has to go with it.
    Stamp,
}

#[derive(Debug, PartialEq, Eq)]
struct Site {
    what: What,
    range: Range<usize>,
}

impl Site {
    /// How long its piece is.
    fn size(&self) -> usize {
        let rest = match self.what {
            What::Call => REST_OF_CALL,
            What::Stamp => REST_OF_STAMP,
        };
        self.range.len() + rest
    }

    /// Its piece, which lies there and calls `function`.
    unsafe fn piece(&self, at: usize, function: usize) -> Vec<u8> {
        // SAFETY: the code is loaded.
        unsafe {
            match self.what {
                What::Call => piece_of_call(at, &self.range, function),
                What::Stamp => piece_of_stamp(at, &self.range, function),
            }
        }
    }
}

/// Redirects the calls of an image, and its looks at the counter.
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
        let places: Vec<(usize, usize)> = sites.iter().map(|site| (site.range.start, site.size())).collect();
        write_over(image, &places, |i, at| {
            let function = match sites[i].what {
                What::Call => arrive as *const () as usize,
                What::Stamp => arrive_for_stamp as *const () as usize,
            };
            sites[i].piece(at, function)
        });
    }
}

/// Writes code of an image over with jumps to pieces of ours. `places`: where each jump stands, and how long its piece is, at
/// most; `piece` makes that of a place, by its number, to lie at an address.
///
/// # Safety
/// The code is loaded, none of it runs; the pieces go on behind what they replace, and nothing jumps between the five bytes that
/// a jump takes.
pub unsafe fn write_over(image: &Image, places: &[(usize, usize)], piece: impl Fn(usize, usize) -> Vec<u8>) {
    let size: usize = places.iter().map(|place| place.1).sum();
    // SAFETY: by contract.
    unsafe {
        let Some(start) = (size > 0).then(|| room(image.address, size)).flatten() else { return };
        let next = |at: &mut usize, &(from, size): &(usize, usize)| Some((from, std::mem::replace(at, *at + size)));
        let jumps: Vec<(usize, usize)> = places.iter().scan(start, next).collect();
        for (i, &(_, at)) in jumps.iter().enumerate() {
            let piece = piece(i, at);
            ptr::copy_nonoverlapping(piece.as_ptr(), at as *mut u8, piece.len());
        }
        // Nothing leads there before the pieces are complete.
        if libc::mprotect(start as *mut c_void, size, libc::PROT_READ | libc::PROT_EXEC) == 0 {
            for (from, at) in jumps {
                write_jump(from, at);
            }
        }
    }
}

/// The sites in one part of an image's code.
unsafe fn sites(part: &[u8], unwinding: &[u8]) -> Vec<Site> {
    let start = part.as_ptr() as usize;
    let mut sites: Vec<Site> = Vec::new();
    let mut seen = start;
    let ends = memchr::memmem::find_iter(part, b"\x0f\x05").chain(memchr::memmem::find_iter(part, b"\x0f\x31"));
    let mut ends: Vec<usize> = ends.collect();
    ends.sort_unstable();
    for at in ends {
        let at = start + at;
        // The function was read as a whole.
        if at < seen {
            continue;
        }
        // SAFETY: the table of the image that the part is of.
        let Some(code) = (unsafe { function_around(part, at - start, unwinding) }) else { continue };
        let from = code.as_ptr() as usize;
        seen = from + code.len();
        let found = sites_of(code).unwrap_or_default().into_iter();
        sites.extend(found.map(|site| Site { range: site.range.start + from..site.range.end + from, ..site }));
    }
    sites
}

/// The sites in a function, by offset. `None` where it holds what is not known.
fn sites_of(code: &[u8]) -> Option<Vec<Site>> {
    let mut found = Vec::new();
    let mut targets = Vec::new();
    let mut at = 0;
    // Where the counter is read, if what has come since can be copied, and is not yet as long as a jump.
    let mut stamp: Option<usize> = None;
    // Where the last load is, and of which number, if nothing but what can be copied has come since.
    let mut load: Option<(usize, u32)> = None;
    while at < code.len() {
        let instruction = instructions::first(&code[at..])?;
        let end = at + instruction.length;
        stamp = stamp.filter(|_| matches!(instruction.kind, Kind::Plain | Kind::LoadsEax(_)));
        match instruction.kind {
            Kind::LoadsEax(number) => load = Some((at, number)),
            Kind::Plain => {}
            Kind::Syscall => {
                let is_ours = |(from, number): &(usize, u32)| {
                    end - from <= MOST_BETWEEN && libc_calls::by_number((*number).into()).is_some()
                };
                found.extend(load.take().filter(is_ours).map(|(from, _)| Site { what: What::Call, range: from..end }));
            }
            Kind::ReadsTimeStamp => {
                load = None;
                stamp = Some(at);
            }
            Kind::Jump(distance) => {
                load = None;
                targets.extend(end.checked_add_signed(distance as isize));
            }
            Kind::Other => load = None,
        }
        if stamp.is_some_and(|from| end - from >= JUMP) {
            found.extend(stamp.take().map(|from| Site { what: What::Stamp, range: from..end }));
            // What is written over is in no call.
            load = None;
        }
        at = end;
    }
    let is_led_between =
        |range: &Range<usize>| targets.iter().any(|target| (range.start + 1..range.end).contains(target));
    found.retain(|site: &Site| site.what == What::Call || !is_led_between(&site.range));
    (at == code.len()).then_some(found)
}

/// The code of the function around an instruction of a part, which is given by its offset.
///
/// # Safety
/// `unwinding` is the table of the image that the part is of.
pub unsafe fn function_around<'a>(part: &'a [u8], at: usize, unwinding: &[u8]) -> Option<&'a [u8]> {
    let start = part.as_ptr() as usize;
    // SAFETY: by contract.
    let function = unsafe { function_at(start + at, unwinding) }?;
    part.get(function.start.checked_sub(start)?..function.end.checked_sub(start)?)
}

/// Where the function around an address is, by the unwinder's table (`.eh_frame_hdr`, in the form that linkers give it).
unsafe fn function_at(address: usize, table: &[u8]) -> Option<Range<usize>> {
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

/// A jump's distance.
fn relative(from: usize, to: usize) -> [u8; 4] {
    // What is made lies within reach.
    (to.wrapping_sub(from) as i32).to_le_bytes()
}

/// lea rsp, [rsp - 128]: what is below the stack is the function's.
const BELOW: [u8; 5] = [0x48, 0x8d, 0x64, 0x24, 0x80];
/// lea rsp, [rsp + 128]
const ABOVE: [u8; 8] = [0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0];

/// The instructions that an image has loaded there.
unsafe fn loaded<'a>(range: Range<usize>) -> &'a [u8] {
    // SAFETY: by contract.
    unsafe { std::slice::from_raw_parts(range.start as *const u8, range.len()) }
}

/// jmp TARGET, at `at`
pub fn jump(at: usize, target: usize) -> [u8; JUMP] {
    let mut jump = [0xe9, 0, 0, 0, 0];
    jump[1..].copy_from_slice(&relative(at + JUMP, target));
    jump
}

/// The piece for a call, which lies there and calls `function`.
unsafe fn piece_of_call(at: usize, site: &Range<usize>, function: usize) -> Vec<u8> {
    // SAFETY: the code is loaded.
    let mut piece = unsafe { loaded(site.start..site.end - TWO) }.to_vec();
    piece.extend(BELOW);
    // mov r11, FUNCTION
    piece.extend([0x49, 0xbb]);
    piece.extend(function.to_le_bytes());
    // call r11
    piece.extend([0x41, 0xff, 0xd3]);
    piece.extend(ABOVE);
    piece.extend(jump(at + piece.len(), site.end));
    piece
}

/// The piece for a look at the counter, likewise. Behind its code is whom it calls.
unsafe fn piece_of_stamp(at: usize, site: &Range<usize>, function: usize) -> Vec<u8> {
    let mut piece = BELOW.to_vec();
    // call [rip + …]
    let address = site.len() + REST_OF_STAMP - size_of::<usize>();
    piece.extend([0xff, 0x15]);
    piece.extend(((address - piece.len() - size_of::<u32>()) as u32).to_le_bytes());
    piece.extend(ABOVE);
    // SAFETY: the code is loaded.
    piece.extend(unsafe { loaded(site.start + TWO..site.end) });
    piece.extend(jump(at + piece.len(), site.end));
    piece.extend(function.to_le_bytes());
    piece
}

/// Has the code go to a piece. Where its page can't be written it stays as it is.
unsafe fn write_jump(start: usize, piece: usize) {
    let jump = jump(start, piece);
    let first = start & !(PAGE - 1);
    let size = start + JUMP - first;
    // SAFETY: the code is loaded, and stays executable throughout: others of the page may run.
    unsafe {
        let (page, read_and_run) = (first as *mut c_void, libc::PROT_READ | libc::PROT_EXEC);
        if libc::mprotect(page, size, read_and_run | libc::PROT_WRITE) == 0 {
            ptr::copy_nonoverlapping(jump.as_ptr(), start as *mut u8, JUMP);
            libc::mprotect(page, size, read_and_run);
        }
    }
}

/// What of the processor's vector registers a system call leaves as it is: SSE, AVX, and AVX-512's three. In XSAVE's form they
/// take some 2,700 bytes, behind which is room.
const VECTORS: u32 = 0b1110_0110;

/// Keeps them on the stack, behind a header that has to be in order. RSP, RAX and RDX are changed.
macro_rules! keep_vectors {
    () => {
        "sub rsp, 3072
        and rsp, -64
        xor eax, eax
        mov [rsp + 512], rax
        mov [rsp + 520], rax
        mov [rsp + 528], rax
        mov [rsp + 536], rax
        mov [rsp + 544], rax
        mov [rsp + 552], rax
        mov [rsp + 560], rax
        mov [rsp + 568], rax
        mov eax, {vectors}
        xor edx, edx
        xsave64 [rsp]
        cld"
    };
}

/// Has them back, and in R11 what was in RAX.
macro_rules! restore_vectors {
    () => {
        "mov r11, rax
        mov eax, {vectors}
        xor edx, edx
        xrstor64 [rsp]"
    };
}

/// Where the pieces of calls call, with the system call's registers: all but RAX, RCX and R11 are left as they were.
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
        keep_vectors!(),
        "push rax",
        "push r9",
        "mov r9, r8",
        "mov r8, r10",
        "mov rcx, [rbp - 24]",
        "mov rdx, rsi",
        "mov rsi, rdi",
        "mov rdi, r11",
        "call {called}",
        "add rsp, 16",
        restore_vectors!(),
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

/// Where the pieces of looks at the counter call: EDX and EAX are the answer's halves, all else is left as it was.
#[unsafe(naked)]
unsafe extern "C" fn arrive_for_stamp() {
    std::arch::naked_asm!(
        "pushfq",
        "push rbp",
        "mov rbp, rsp",
        "push rdi",
        "push rsi",
        "push rcx",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        keep_vectors!(),
        "call {stamp}",
        restore_vectors!(),
        "mov eax, r11d",
        "mov rdx, r11",
        "shr rdx, 32",
        "lea rsp, [rbp - 56]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        "popfq",
        "ret",
        stamp = sym stamp,
        vectors = const VECTORS,
    )
}

/// What the counter says, or said when it was recorded.
unsafe extern "C" fn stamp() -> u64 {
    let errno = platform::errno();
    // SAFETY: called by a module's code.
    let stamp = unsafe { libc_calls::time_stamp() };
    platform::set_errno(errno);
    stamp
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
        assert_eq!(sites_of(&code), Some(vec![Site { what: What::Call, range: 1..15 }]));
        // A number that the table has nothing for; a jump between; what is not known in the function.
        assert_eq!(sites_of(&[0xb8, 0xff, 0xff, 0, 0, 0x0f, 5]), Some(vec![]));
        assert_eq!(sites_of(&[0xb8, 7, 1, 0, 0, 0xeb, 0, 0x0f, 5]), Some(vec![]));
        assert_eq!(sites_of(&[0xb8, 7, 1, 0, 0, 0x0f, 5, 0x06]), None);
    }

    #[test]
    fn a_stamp_has_what_a_jump_takes() {
        // ret; rdtsc; mov eax, eax; shl rdx, 32; ret
        let code = [0xc3, 0x0f, 0x31, 0x89, 0xc0, 0x48, 0xc1, 0xe2, 0x20, 0xc3];
        assert_eq!(sites_of(&code), Some(vec![Site { what: What::Stamp, range: 1..9 }]));
        // Its end too near; a jump that leads between; one that leads to its beginning.
        assert_eq!(sites_of(&[0x0f, 0x31, 0x89, 0xc0, 0xc3]), Some(vec![]));
        assert_eq!(sites_of(&[0xeb, 2, 0x0f, 0x31, 0x89, 0xc0, 0x89, 0xc0, 0xc3]), Some(vec![]));
        let led_to = [0xeb, 0, 0x0f, 0x31, 0x89, 0xc0, 0x89, 0xc0, 0xc3];
        assert_eq!(sites_of(&led_to), Some(vec![Site { what: What::Stamp, range: 2..8 }]));
    }

    #[test]
    fn pieces_are_as_long_as_they_say() {
        let code = [0x90_u8; 64];
        let start = code.as_ptr() as usize;
        for length in [5, 9, 40] {
            for what in [What::Call, What::Stamp] {
                let site = Site { what, range: start..start + length };
                // SAFETY: what is copied is there.
                assert_eq!(unsafe { site.piece(start, 0) }.len(), site.size());
            }
        }
    }
}
