//! What the C library looks up in the system's databases of users, groups, services, protocols and hosts: structs that lead to texts.

use crate::libc_calls::Arguments;
use crate::libc_memory::{Reader, bytes_at, put_blob, put_number};
use std::ffi::{CStr, c_char, c_int};
use std::mem::offset_of;
use std::ptr;

/// One of those structs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    User,
    Group,
    Service,
    Host,
    Protocol,
}

/// What is at an offset of a struct.
enum Field {
    /// A C `int`, or another of its size.
    Number(usize),
    Text(usize),
    /// A list of texts that ends with NULL.
    Texts(usize),
    /// A list of addresses, each as long as the `int` at the other offset says, that ends with NULL.
    Addresses(usize, usize),
}

use Field::{Addresses, Number, Text, Texts};

impl Kind {
    fn fields(self) -> &'static [Field] {
        use libc::{group, hostent, passwd, protoent, servent};
        match self {
            Kind::User => {
                const {
                    &[
                        Number(offset_of!(passwd, pw_uid)),
                        Number(offset_of!(passwd, pw_gid)),
                        Text(offset_of!(passwd, pw_name)),
                        Text(offset_of!(passwd, pw_passwd)),
                        Text(offset_of!(passwd, pw_gecos)),
                        Text(offset_of!(passwd, pw_dir)),
                        Text(offset_of!(passwd, pw_shell)),
                    ]
                }
            }
            Kind::Group => {
                const {
                    &[
                        Number(offset_of!(group, gr_gid)),
                        Texts(offset_of!(group, gr_mem)),
                        Text(offset_of!(group, gr_name)),
                        Text(offset_of!(group, gr_passwd)),
                    ]
                }
            }
            Kind::Service => {
                const {
                    &[
                        Number(offset_of!(servent, s_port)),
                        Texts(offset_of!(servent, s_aliases)),
                        Text(offset_of!(servent, s_name)),
                        Text(offset_of!(servent, s_proto)),
                    ]
                }
            }
            Kind::Host => {
                const {
                    &[
                        Number(offset_of!(hostent, h_addrtype)),
                        Number(offset_of!(hostent, h_length)),
                        Addresses(offset_of!(hostent, h_addr_list), offset_of!(hostent, h_length)),
                        Texts(offset_of!(hostent, h_aliases)),
                        Text(offset_of!(hostent, h_name)),
                    ]
                }
            }
            Kind::Protocol => {
                const {
                    &[
                        Number(offset_of!(protoent, p_proto)),
                        Texts(offset_of!(protoent, p_aliases)),
                        Text(offset_of!(protoent, p_name)),
                    ]
                }
            }
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::User => size_of::<libc::passwd>(),
            Kind::Group => size_of::<libc::group>(),
            Kind::Service => size_of::<libc::servent>(),
            Kind::Host => size_of::<libc::hostent>(),
            Kind::Protocol => size_of::<libc::protoent>(),
        }
    }
}

/// What is in a struct and behind it.
///
/// # Safety
/// The C library has filled it.
pub unsafe fn read(kind: Kind, address: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for field in kind.fields() {
        // SAFETY: by contract.
        unsafe {
            match *field {
                Number(at) => put_number(&mut out, *((address + at) as *const u32)),
                Text(at) => put_text(&mut out, *((address + at) as *const usize), None),
                Texts(at) => put_list(&mut out, *((address + at) as *const usize), None),
                Addresses(at, length) => {
                    let length = usize::try_from(*((address + length) as *const c_int)).unwrap_or(0);
                    put_list(&mut out, *((address + at) as *const usize), Some(length));
                }
            }
        }
    }
    out
}

/// A text with its end, or so many bytes; nothing for NULL.
unsafe fn put_text(out: &mut Vec<u8>, address: usize, length: Option<usize>) {
    // SAFETY: by the contract of `read`.
    let bytes = unsafe {
        match length {
            _ if address == 0 => &[],
            Some(length) => bytes_at(address, length),
            None => CStr::from_ptr(address as *const c_char).to_bytes_with_nul(),
        }
    };
    put_blob(out, bytes);
}

unsafe fn put_list(out: &mut Vec<u8>, address: usize, length: Option<usize>) {
    // SAFETY: by the contract of `read`: a list that ends with NULL, or none.
    unsafe {
        let item = |i: usize| *((address + i * size_of::<usize>()) as *const usize);
        let count = if address == 0 { 0 } else { (0..).take_while(|&i| item(i) != 0).count() };
        put_number(out, count as u32);
        for i in 0..count {
            put_text(out, item(i), length);
        }
    }
}

/// Fills a struct with what was read of one. `room` is asked for so many bytes, where words may be.
///
/// # Safety
/// There is a struct of that kind at the address.
pub unsafe fn fill(kind: Kind, address: usize, bytes: &[u8], room: &mut dyn FnMut(usize) -> usize) {
    let mut reader = Reader(bytes);
    for field in kind.fields() {
        // SAFETY: by contract; what is behind it is in memory that was asked for.
        unsafe {
            match *field {
                Number(at) => *((address + at) as *mut u32) = reader.number(),
                Text(at) => *((address + at) as *mut usize) = text(&mut reader, room),
                Texts(at) | Addresses(at, _) => {
                    let count = reader.number() as usize;
                    let list = room((count + 1) * size_of::<usize>());
                    for i in 0..=count {
                        let item = if i < count { text(&mut reader, room) } else { 0 };
                        *((list + i * size_of::<usize>()) as *mut usize) = item;
                    }
                    *((address + at) as *mut usize) = list;
                }
            }
        }
    }
}

fn text(reader: &mut Reader, room: &mut dyn FnMut(usize) -> usize) -> usize {
    let bytes = reader.blob();
    if bytes.is_empty() {
        return 0;
    }
    let to = room(bytes.len());
    // SAFETY: as many bytes were asked for.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
    to
}

/// Memory that is never freed: a look-up is a rare thing.
fn lasting(size: usize) -> usize {
    vec![0_u64; size.div_ceil(8).max(1)].leak().as_mut_ptr() as usize
}

/// A struct of the library's own, as one was read.
pub fn make(kind: Kind, bytes: &[u8]) -> usize {
    let address = lasting(kind.size());
    // SAFETY: as large as it is.
    unsafe { fill(kind, address, bytes, &mut lasting) };
    address
}

/// What `getgrnam_r` or its like found; a byte for nothing. Its arguments from `i` on are a struct, a buffer, the size of
/// that, and where the result's address goes.
///
/// # Safety
/// `args` are those of a call of one; so below, in place of the call.
pub unsafe fn found(kind: Kind, args: &Arguments, i: usize) -> Vec<u8> {
    // SAFETY: by contract.
    unsafe {
        let found = *(args[i + 3] as *const usize);
        if found == 0 { vec![0] } else { read(kind, found) }
    }
}

/// Puts it there.
///
/// # Safety
/// As [`found`].
pub unsafe fn make_found(kind: Kind, args: &Arguments, i: usize, bytes: &[u8]) {
    let (mut at, end) = (args[i + 1].next_multiple_of(8), args[i + 1] + args[i + 2]);
    let mut room = |size: usize| {
        let size = size.next_multiple_of(8);
        if at + size > end {
            return lasting(size);
        }
        at += size;
        at - size
    };
    let is_found = bytes.len() > 1;
    // SAFETY: by contract.
    unsafe {
        if is_found {
            fill(kind, args[i], bytes, &mut room);
        }
        *(args[i + 3] as *mut usize) = if is_found { args[i] } else { 0 };
    }
}
