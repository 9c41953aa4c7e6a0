//! Code that takes the thread pointer for the number of its thread (mimalloc, in pyarrow and datafusion). Replay's threads are
//! one to the system and have that pointer in common, so on replay such code adds what the running thread's number is another
//! one by: in place of the instruction stands a jump to a piece of our own.
//!
//! An image's are written over all, or none: what one of them has stored another compares. The pointer is also where
//! variables of the thread's own are reckoned from; code that does that is left alone.

use crate::imports::{self, Image};
use crate::instructions;
use crate::raw_calls;
use retrace_abi::thread_pointer::{retrace_shift_thread, retrace_thread_shift_place};
use std::ffi::c_void;

/// `64 REX OPCODE MODRM 25 00 00 00 00`: an instruction with a register and the word at the thread pointer, which is itself.
const LENGTH: usize = 9;
/// All that stands behind an opcode and its register.
const WORD: &[u8] = &[0x25, 0, 0, 0, 0];
const MOV: u8 = 0x8b;
const ADD: u8 = 0x03;
const SUB: u8 = 0x2b;
const XOR: u8 = 0x33;
const CMP: u8 = 0x39;
const CMP_TO: u8 = 0x3b;
/// The longest piece.
const PIECE: usize = 64;
/// How many instructions behind a load are looked at for what becomes of it.
const FAR: usize = 24;

/// The images that were looked at.
static mut LOOKED_AT: Vec<usize> = Vec::new();

/// An instruction to be written over.
struct Load {
    at: usize,
    opcode: u8,
    register: u8,
}

/// What is done with a register.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// Not by this instruction.
    None,
    /// It is compared, stored, returned or given away.
    Number,
    /// Something is reckoned from it, or it is loaded anew.
    Place,
    Unknown,
}

/// Has the image's code take each thread's own number.
///
/// # Safety
/// Replaying; the image is loaded, and none of its code runs but what it ran when it was loaded.
pub unsafe fn redirect(image: &Image) {
    // SAFETY: by contract.
    #[expect(static_mut_refs, reason = "one thread")]
    unsafe {
        if LOOKED_AT.contains(&image.address) {
            return;
        }
        LOOKED_AT.push(image.address);
        let Some(code) = imports::code(image.address as *const c_void) else { return };
        let mut loads = Vec::new();
        for part in &code.parts {
            let Some(found) = loads_in(part, code.unwinding) else { return };
            loads.extend(found);
        }
        let places: Vec<(usize, usize)> = loads.iter().map(|load| (load.at, PIECE)).collect();
        raw_calls::write_over(image, &places, |i, at| piece(&loads[i], at));
    }
}

/// Another thread of the replay runs. No pointer has a number's uppermost bits, nor a number a pointer's lowest ones.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn switch_to(next: usize) {
    let next = next as u64;
    // SAFETY: by contract.
    unsafe { retrace_shift_thread((next << 48).wrapping_add((next >> 16) << 12)) };
}

/// The instructions of a part of the code that are to be written over; `None` where one is not understood.
unsafe fn loads_in(part: &[u8], unwinding: &[u8]) -> Option<Vec<Load>> {
    let start = part.as_ptr() as usize;
    let mut loads = Vec::new();
    for found in memchr::memmem::find_iter(part, WORD) {
        let Some(at) = found.checked_sub(LENGTH - WORD.len()) else { continue };
        let &[0x64, rex @ (0x48 | 0x4c), opcode, form] = &part[at..found] else { continue };
        if form & 0xc7 != 4 || !matches!(opcode, MOV | SUB | XOR | CMP | CMP_TO) {
            continue;
        }
        let register = form >> 3 & 7 | (rex & 4) << 1;
        // SAFETY: the table of the image that the part is of.
        let code = unsafe { raw_calls::function_around(part, at, unwinding) }?;
        let place = start + at - code.as_ptr() as usize;
        if !has_instruction(code, place) {
            return None;
        }
        if opcode != MOV || is_number(&code[place + LENGTH..], register)? {
            loads.push(Load { at: start + at, opcode, register });
        }
    }
    Some(loads)
}

/// Whether an instruction begins there.
fn has_instruction(code: &[u8], wanted: usize) -> bool {
    let mut at = 0;
    while at < wanted
        && let Some(instruction) = instructions::first(&code[at..])
    {
        at += instruction.length;
    }
    at == wanted
}

/// Whether the thread pointer, which has been loaded into a register, is taken for a number by the code that comes.
fn is_number(mut code: &[u8], register: u8) -> Option<bool> {
    for _ in 0..FAR {
        match use_of(code, register) {
            Use::None => code = &code[instructions::first(code)?.length..],
            Use::Number => return Some(true),
            Use::Place => return Some(false),
            Use::Unknown => return None,
        }
    }
    None
}

/// Whether an instruction that is known here has an operand, in memory or a register, and most often another register.
const fn has_operand(is_behind_0f: bool, opcode: u8) -> bool {
    if is_behind_0f {
        return matches!(opcode, 0x10 | 0x11 | 0x1e | 0x1f | 0x28 | 0x29 | 0x57 | 0x6e | 0x6f | 0x7e | 0x7f | 0xef)
            || matches!(opcode, 0x40..=0x4f | 0x90..=0x9f | 0xaf | 0xb6 | 0xb7);
    }
    matches!(opcode, 0x01 | 0x03 | 0x09 | 0x0b | 0x21 | 0x23 | 0x29 | 0x2b | 0x31 | 0x33 | 0x38..=0x3b | 0x63)
        || matches!(opcode, 0x80 | 0x81 | 0x83..=0x8b | 0x8d | 0xc1 | 0xc6 | 0xc7 | 0xd1)
}

/// What the first instruction does with a register.
fn use_of(code: &[u8], register: u8) -> Use {
    const RAX: u8 = 0;
    /// RDI, RSI, RDX, RCX, R8, R9.
    const ARGUMENTS: [u8; 6] = [7, 6, 2, 1, 8, 9];
    /// RBX, RBP, R12 to R15.
    const KEPT: [u8; 6] = [3, 5, 12, 13, 14, 15];
    let mut at = code.iter().take_while(|byte| matches!(byte, 0x66 | 0xf2 | 0xf3 | 0xf0 | 0x2e | 0x64)).count();
    let byte = |at: usize| code.get(at).copied().unwrap_or(0);
    let rex = if byte(at) & 0xf0 == 0x40 { byte(at) } else { 0 };
    at += usize::from(rex != 0);
    let opcode = byte(at);
    let (is_behind_0f, operand) = if opcode == 0x0f { (true, at + 2) } else { (false, at + 1) };
    match (is_behind_0f, if is_behind_0f { byte(at + 1) } else { opcode }) {
        // Returns.
        (false, 0xc3) => return if register == RAX { Use::Number } else { Use::Unknown },
        // Calls.
        (false, 0xe8) if ARGUMENTS.contains(&register) => return Use::Number,
        (false, 0xe8) => return if KEPT.contains(&register) { Use::None } else { Use::Unknown },
        // Jumps that may not be taken.
        (false, 0x70..=0x7f) | (true, 0x80..=0x8f) => return Use::None,
        // `push`, `pop`, and loads of constants.
        (false, code @ (0x50..=0x57)) => {
            return if code & 7 | (rex & 1) << 3 == register { Use::Number } else { Use::None };
        }
        (false, code @ (0x58..=0x5f | 0xb8..=0xbf)) => {
            return if code & 7 | (rex & 1) << 3 == register { Use::Place } else { Use::None };
        }
        (false, 0x90) => return Use::None,
        (is_behind_0f, code) if has_operand(is_behind_0f, code) => {}
        _ => return Use::Unknown,
    }
    let form = byte(operand);
    let (mode, field, low) = (form >> 6, form >> 3 & 7 | (rex & 4) << 1, form & 7);
    let sets_byte = is_behind_0f && matches!(byte(at + 1), 0x90..=0x9f);
    let is_vector = is_behind_0f && !matches!(byte(at + 1), 0x40..=0x4f | 0x90..=0x9f | 0xaf | 0xb6 | 0xb7);
    let has_field = !matches!(opcode, 0x80 | 0x81 | 0x83 | 0xc6 | 0xc7 | 0xc1 | 0xd1) && !is_vector && !sets_byte;
    // `movd` and `movq` have one of these beside a vector.
    let is_direct = mode == 3 && (!is_vector || matches!(byte(at + 1), 0x6e | 0x7e));
    let direct = is_direct.then_some(low | (rex & 1) << 3);
    let is_based = match (mode, low) {
        (3, _) | (0, 5) => false,
        (_, 4) => {
            let scaled = byte(operand + 1);
            let (base, index) = (scaled & 7 | (rex & 1) << 3, scaled >> 3 & 7 | (rex & 2) << 2);
            (index != 4 && index == register) || (base == register && (mode != 0 || scaled & 7 != 5))
        }
        _ => low | (rex & 1) << 3 == register,
    };
    let is_field = has_field && field == register;
    match opcode {
        _ if is_based => Use::Place,
        _ if !is_field && direct != Some(register) => Use::None,
        // Compared, or made the difference to another.
        0x29 | 0x2b | 0x31 | 0x33 | 0x38..=0x3b | 0x84 | 0x85 if !(is_field && direct == Some(register)) => Use::Number,
        // Stored.
        0x89 if is_field && direct.is_none() => Use::Number,
        0x0f if byte(at + 1) == 0x6e => Use::Number,
        // Loaded anew, or added to.
        0x8b if is_field && direct != Some(register) => Use::Place,
        0x01 | 0x03 | 0x8d => Use::Place,
        _ => Use::Unknown,
    }
}

/// What an instruction is written over with a jump to.
fn piece(load: &Load, at: usize) -> Vec<u8> {
    // RAX, or RCX.
    let other = u8::from(load.register == 0);
    // SAFETY: asks where a variable is.
    let place = unsafe { retrace_thread_shift_place() } as i32;
    let from_thread_pointer = |opcode: u8, register: u8, place: i32| {
        let mut bytes = vec![0x64, 0x48 | (register >> 3) << 2, opcode, 4 | (register & 7) << 3, 0x25];
        bytes.extend(place.to_le_bytes());
        bytes
    };
    let mut piece = Vec::with_capacity(PIECE);
    if load.opcode == MOV {
        piece.extend(from_thread_pointer(MOV, load.register, 0));
    }
    // lea rsp, [rsp - 128]; push OTHER
    piece.extend([0x48, 0x8d, 0x64, 0x24, 0x80, 0x50 + other]);
    if load.opcode == MOV {
        piece.extend(from_thread_pointer(MOV, other, place));
        // lea REGISTER, [REGISTER + OTHER]: the flags stay.
        let (high, low) = (load.register >> 3, load.register & 7);
        piece.extend([0x48 | high << 2 | high, 0x8d, 0x44 | low << 3, other << 3 | low, 0]);
    } else {
        piece.extend(from_thread_pointer(MOV, other, 0));
        piece.extend(from_thread_pointer(ADD, other, place));
        let (high, low) = (load.register >> 3, load.register & 7);
        piece.extend([0x48 | high << 2, load.opcode, 0xc0 | low << 3 | other]);
    }
    // pop OTHER; lea rsp, [rsp + 128]
    piece.extend([0x58 + other, 0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]);
    piece.extend(raw_calls::jump(at + piece.len(), load.at + LENGTH));
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_told_from_a_place() {
        const RAX: u8 = 0;
        // ret; cmp rax, rcx; mov [rip], rax; pxor xmm0, xmm0 and movups [rip], xmm0, then mov [rdi], rax
        assert_eq!(is_number(&[0xc3], RAX), Some(true));
        assert_eq!(is_number(&[0x48, 0x39, 0xc8], RAX), Some(true));
        assert_eq!(is_number(&[0x48, 0x89, 5, 1, 0, 0, 0], RAX), Some(true));
        assert_eq!(is_number(&[0x66, 0x0f, 0xef, 0xc0, 0x0f, 0x11, 5, 1, 0, 0, 0, 0x48, 0x89, 7], RAX), Some(true));
        // setc al, then mov [rdi], rcx
        assert_eq!(is_number(&[0x0f, 0x92, 0xc0, 0x48, 0x89, 0x0f], 1), Some(true));
        // call, with it in rsi
        assert_eq!(is_number(&[0xe8, 0, 0, 0, 0], 6), Some(true));
        // add rax, [rip]; lea rdi, [rax - 8]; mov rcx, [rip], then mov rax, [rax + rcx]; mov rdi, [rax + 8]
        assert_eq!(is_number(&[0x48, 3, 5, 1, 0, 0, 0], RAX), Some(false));
        assert_eq!(is_number(&[0x48, 0x8d, 0x78, 0xf8], RAX), Some(false));
        assert_eq!(is_number(&[0x48, 0x8b, 0x0d, 1, 0, 0, 0, 0x48, 0x8b, 4, 8], RAX), Some(false));
        assert_eq!(is_number(&[0x48, 0x8b, 0x78, 8], RAX), Some(false));
        // jmp; call, which does not leave it; mov rcx, rax
        assert_eq!(is_number(&[0xeb, 0], RAX), None);
        assert_eq!(is_number(&[0xe8, 0, 0, 0, 0], RAX), None);
        assert_eq!(is_number(&[0x48, 0x89, 0xc1], RAX), None);
    }
}
