//! How long x86-64 instructions are, and which of them compute the same wherever they stand (Intel's manual, volume 2,
//! appendix A). Only what compilers make is known: what is not ends a look at code, rather than being guessed.

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub length: usize,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `mov eax, imm32`, in five bytes.
    LoadsEax(u32),
    /// `syscall`.
    Syscall,
    /// `rdtsc`.
    ReadsTimeStamp,
    /// Goes, or may go, to so many bytes behind its end.
    Jump(i32),
    /// Moves or computes, and may be copied elsewhere.
    Plain,
    Other,
}

/// Bytes in the order of the code.
struct Code<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Code<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Steps over a distance of four bytes.
    fn jump(&mut self) -> Option<Kind> {
        let distance = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        Some(Kind::Jump(i32::from_le_bytes(distance.try_into().ok()?)))
    }

    /// Steps over an operand. Returns whether it is relative to the instruction, and the register field.
    fn operand(&mut self) -> Option<(bool, u8)> {
        let byte = self.next()?;
        let (mode, field, register) = (byte >> 6, byte >> 3 & 7, byte & 7);
        let is_relative = mode == 0 && register == 5;
        let has_base = mode == 3 || register != 4 || self.next()? & 7 != 5;
        let displacement = match mode {
            0 if is_relative || !has_base => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        self.at += displacement;
        Some((is_relative, field))
    }
}

/// Whether an instruction of the map behind 0F has a byte behind its operand.
const fn has_byte(opcode: u8) -> bool {
    matches!(opcode, 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6)
}

/// The instruction with which `bytes` begins; `None` where it is not known, or cut.
pub fn first(bytes: &[u8]) -> Option<Instruction> {
    let mut code = Code { bytes, at: 0 };
    let mut operand_size = 4;
    let mut has_short_address = false;
    let mut opcode = code.next()?;
    while matches!(opcode, 0x66 | 0x67 | 0xf2 | 0xf3 | 0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65) {
        operand_size = if opcode == 0x66 { 2 } else { operand_size };
        has_short_address |= opcode == 0x67;
        opcode = code.next()?;
    }
    let mut is_wide = false;
    if opcode & 0xf0 == 0x40 {
        is_wide = opcode & 8 != 0;
        opcode = code.next()?;
    }
    let immediate = if is_wide { 4 } else { operand_size };
    let is_bare = code.at == 1;
    let mut kind = Kind::Other;
    match opcode {
        0x0f => return behind_0f(code),
        0x62 | 0xc4 | 0xc5 => return vector(code, opcode),
        // Computes with an operand, or with the accumulator.
        0x00..=0x3f if opcode & 7 < 4 => kind = plain(&mut code, 0)?,
        0x00..=0x3f if opcode & 7 == 4 => code.at += 1,
        0x00..=0x3f if opcode & 7 == 5 => code.at += immediate,
        0x50..=0x5f | 0x6c..=0x6f | 0x90..=0x99 | 0x9b..=0x9f | 0xa4..=0xa7 | 0xaa..=0xaf => {}
        0x63 | 0x84..=0x8b | 0x8d => kind = plain(&mut code, 0)?,
        0x68 | 0xa9 => code.at += immediate,
        0x69 | 0x81 | 0xc7 => kind = plain(&mut code, immediate)?,
        0x6b | 0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 => kind = plain(&mut code, 1)?,
        0x6a | 0xa8 | 0xcd | 0xe4..=0xe7 => code.at += 1,
        0x70..=0x7f | 0xe0..=0xe3 | 0xeb => kind = Kind::Jump((code.next()? as i8).into()),
        0x8c | 0x8e | 0x8f | 0xd8..=0xdf | 0xfe | 0xff => _ = code.operand()?,
        0xd0..=0xd3 => kind = plain(&mut code, 0)?,
        0xa0..=0xa3 => code.at += if has_short_address { 4 } else { 8 },
        0xb0..=0xb7 => {
            code.at += 1;
            kind = Kind::Plain;
        }
        0xb8..=0xbf => {
            code.at += if is_wide { 8 } else { operand_size };
            kind = match bytes.get(1..5) {
                Some(value) if is_bare && opcode == 0xb8 => Kind::LoadsEax(u32::from_le_bytes(value.try_into().ok()?)),
                _ => Kind::Plain,
            };
        }
        0xc2 | 0xca => code.at += 2,
        0xc3 | 0xc9 | 0xcb | 0xcc | 0xcf | 0xd7 | 0xec..=0xef | 0xf1 | 0xf4 | 0xf5 | 0xf8..=0xfd => {}
        0xc8 => code.at += 3,
        0xe8 => code.at += 4,
        0xe9 => kind = code.jump()?,
        0xf6 | 0xf7 => {
            let (_, field) = code.operand()?;
            // `test`; the others have no more.
            code.at += if field > 1 { 0 } else { [1, immediate][usize::from(opcode & 1)] };
        }
        _ => return None,
    }
    whole(&code, kind)
}

fn whole(code: &Code, kind: Kind) -> Option<Instruction> {
    (code.at <= code.bytes.len()).then_some(Instruction { length: code.at, kind })
}

/// Steps over an operand, and as many bytes behind it.
fn plain(code: &mut Code, immediate: usize) -> Option<Kind> {
    let (is_relative, _) = code.operand()?;
    code.at += immediate;
    Some(if is_relative { Kind::Other } else { Kind::Plain })
}

fn behind_0f(mut code: Code) -> Option<Instruction> {
    let opcode = code.next()?;
    let mut kind = Kind::Other;
    match opcode {
        0x05 => kind = Kind::Syscall,
        0x31 => kind = Kind::ReadsTimeStamp,
        0x06 | 0x08 | 0x09 | 0x0b | 0x30 | 0x32 | 0x33 | 0x77 | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf => {}
        0x80..=0x8f => kind = code.jump()?,
        0x38 => {
            code.next()?;
            code.operand()?;
        }
        0x3a => {
            code.next()?;
            code.operand()?;
            code.at += 1;
        }
        0x04 | 0x07 | 0x0a | 0x0c | 0x0e | 0x0f | 0x24..=0x27 | 0x34..=0x37 | 0x39 | 0x3b..=0x3f => return None,
        // Moves of vectors, conditional moves, and moves that extend.
        0x10 | 0x11 | 0x28 | 0x29 | 0x40..=0x4f | 0x57 | 0x6f | 0x7f | 0xb6 | 0xb7 | 0xbe | 0xbf | 0xef => {
            kind = plain(&mut code, 0)?;
        }
        _ => {
            code.operand()?;
            code.at += usize::from(has_byte(opcode));
        }
    }
    whole(&code, kind)
}

/// Behind the prefixes of AVX and AVX-512.
fn vector(mut code: Code, prefix: u8) -> Option<Instruction> {
    let map = match prefix {
        0xc5 => {
            code.next()?;
            1
        }
        0xc4 => {
            let map = code.next()? & 0x1f;
            code.next()?;
            map
        }
        _ => {
            let map = code.next()? & 7;
            code.at += 2;
            map
        }
    };
    let opcode = code.next()?;
    match map {
        // `vzeroupper` and `vzeroall` have no operand.
        1 if opcode == 0x77 && prefix != 0x62 => {}
        1 => {
            code.operand()?;
            code.at += usize::from(has_byte(opcode));
        }
        2 | 5 | 6 => _ = code.operand()?,
        3 => {
            code.operand()?;
            code.at += 1;
        }
        _ => return None,
    }
    whole(&code, Kind::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(mut bytes: &[u8]) -> Vec<usize> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let Some(instruction) = first(bytes) else { break };
            all.push(instruction.length);
            bytes = &bytes[instruction.length..];
        }
        all
    }

    #[test]
    fn instructions_have_their_lengths() {
        // mov eax, 0x107; mov edi, -100; xor edx, edx; syscall
        let call = [0xb8, 7, 1, 0, 0, 0xbf, 0x9c, 0xff, 0xff, 0xff, 0x31, 0xd2, 0x0f, 5];
        assert_eq!(lengths(&call), [5, 5, 2, 2]);
        assert_eq!(first(&call).map(|found| found.kind), Some(Kind::LoadsEax(0x107)));
        assert_eq!(first(&call[12..]).map(|found| found.kind), Some(Kind::Syscall));
        assert_eq!(first(&[0x0f, 0x31]).map(|found| found.kind), Some(Kind::ReadsTimeStamp));
        // jne -2; jmp 0x107; jb -1
        assert_eq!(first(&[0x75, 0xfe]), Some(Instruction { length: 2, kind: Kind::Jump(-2) }));
        assert_eq!(first(&[0xe9, 7, 1, 0, 0]), Some(Instruction { length: 5, kind: Kind::Jump(0x107) }));
        let near = [0x0f, 0x82, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(first(&near), Some(Instruction { length: 6, kind: Kind::Jump(-1) }));
        // mov r8d, 0x107: no `mov eax` at its second byte.
        assert_eq!(first(&[0x41, 0xb8, 7, 1, 0, 0]), Some(Instruction { length: 6, kind: Kind::Plain }));
        // mov dword [rsp - 72], 0x107; mov rax, [rip + 1]; movabs rax, imm64; test byte [rax], 1; neg eax
        assert_eq!(lengths(&[0xc7, 0x44, 0x24, 0xb8, 7, 1, 0, 0]), [8]);
        assert_eq!(first(&[0x48, 0x8b, 5, 1, 0, 0, 0]), Some(Instruction { length: 7, kind: Kind::Other }));
        assert_eq!(lengths(&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xf6, 0, 1, 0xf7, 0xd8]), [10, 3, 2]);
        // vpshufd ymm0, [rdi], 1; vzeroupper; vmovdqu64 zmm0, [rdi + 64]; pshufb xmm0, [rdi]; nop word cs:[rax + rax]
        assert_eq!(lengths(&[0xc5, 0xfd, 0x70, 7, 1, 0xc5, 0xf8, 0x77]), [5, 3]);
        assert_eq!(lengths(&[0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x47, 1, 0x66, 0x0f, 0x38, 0, 7]), [7, 5]);
        assert_eq!(lengths(&[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]), [10]);
    }

    #[test]
    fn what_is_cut_or_unknown_is_none() {
        for code in [&[0xb8, 1, 2][..], &[0x75], &[0xe9, 1], &[0x06], &[0x0f], &[0x66], &[], &[0x0f, 0x04]] {
            assert_eq!(first(code), None);
        }
    }
}
