//! The list of the machine's network interfaces, as C code asks for it.

use crate::libc_memory::{Reader, bytes_at, put_blob, put_number};
use crate::platform;
use std::ffi::{CStr, CString};
use std::ptr;

/// `getifaddrs`'s list.
///
/// # Safety
/// `entry` is what the call has just made.
pub unsafe fn list(mut entry: *const libc::ifaddrs) -> Vec<u8> {
    let mut out = Vec::new();
    // SAFETY: by contract.
    unsafe {
        while let Some(interface) = entry.as_ref() {
            put_blob(&mut out, CStr::from_ptr(interface.ifa_name).to_bytes());
            put_number(&mut out, interface.ifa_flags);
            for address in [interface.ifa_addr, interface.ifa_netmask, platform::other_address(interface)] {
                put_blob(&mut out, bytes_at(address as usize, platform::address_size(address)));
            }
            let data = platform::data_size(interface);
            put_blob(&mut out, bytes_at(interface.ifa_data as usize, data));
            entry = interface.ifa_next;
        }
    }
    out
}

/// The list again. It is never freed, as those of addresses.
pub fn make(bytes: &[u8]) -> *mut libc::ifaddrs {
    let mut reader = Reader(bytes);
    let mut entries: Vec<&'static mut libc::ifaddrs> = Vec::new();
    while !reader.0.is_empty() {
        let name = CString::new(reader.blob()).unwrap_or_default().into_raw();
        let flags = reader.number();
        let mut block = || {
            let block: &'static mut [u8] = aligned(reader.blob());
            if block.is_empty() { ptr::null_mut() } else { block.as_mut_ptr() }
        };
        let [address, mask, other, data] = std::array::from_fn(|_| block());
        // SAFETY: numbers and addresses.
        let mut interface: libc::ifaddrs = unsafe { std::mem::zeroed() };
        (interface.ifa_name, interface.ifa_flags) = (name, flags);
        (interface.ifa_addr, interface.ifa_netmask, interface.ifa_data) = (address.cast(), mask.cast(), data.cast());
        platform::set_other_address(&mut interface, other.cast());
        entries.push(Box::leak(Box::new(interface)));
    }
    let mut next = ptr::null_mut();
    for entry in entries.into_iter().rev() {
        entry.ifa_next = next;
        next = entry;
    }
    next
}

/// Bytes where a struct may be.
fn aligned(bytes: &[u8]) -> &'static mut [u8] {
    let words: &'static mut [u64] = vec![0_u64; bytes.len().div_ceil(8)].leak();
    // SAFETY: as many bytes are in the words, and nobody else has them.
    let copy = unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), bytes.len()) };
    copy.copy_from_slice(bytes);
    copy
}
