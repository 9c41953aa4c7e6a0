//! Functions that C code looks up by name while it runs, and does not import: ctypes, drivers that load their library
//! themselves. A function of the C library that the boundary has is answered with what an import would be bound to; the
//! library in which anything else was found is redirected as if the module had brought it.

use crate::imports::{Binding, replaced};
use crate::libraries;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;

/// By which C code looks functions up.
pub const LOOKS_UP: &CStr = c"dlsym";

static mut NEXT: *mut c_void = ptr::null_mut();

/// What is put into an extension module's import table.
pub fn bindings() -> [Binding; 1] {
    [Binding { name: LOOKS_UP, with: dlsym as *mut c_void, next: &raw mut NEXT, needed: false }]
}

/// What `dlsym` does next: it returns `answer`, or, where that is null, goes on in `next`.
#[repr(C)]
struct Found {
    answer: *mut c_void,
    next: *mut c_void,
}

/// In place of `dlsym`, which looks at who called it where it was given no library: what is not ours to answer it gets
/// as if it had been called itself.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    std::arch::naked_asm!(
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "call {look_up}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "test rax, rax",
        "jne 2f",
        "jmp rdx",
        "2:",
        "ret",
        look_up = sym look_up,
    )
}

/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    std::arch::naked_asm!(
        "stp x29, x30, [sp, #-32]!",
        "stp x0, x1, [sp, #16]",
        "bl {look_up}",
        "cbnz x0, 2f",
        "mov x16, x1",
        "ldp x0, x1, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "br x16",
        "2:",
        "ldp x29, x30, [sp], #32",
        "ret",
        look_up = sym look_up,
    )
}

/// Whether a handle stands for no library, but for where the caller would look.
fn is_relative(handle: *mut c_void) -> bool {
    [libc::RTLD_DEFAULT, libc::RTLD_NEXT].contains(&handle) || cfg!(target_os = "macos") && (handle as isize) < 0
}

unsafe extern "C" fn look_up(handle: *mut c_void, name: *const c_char) -> Found {
    // SAFETY: called with dlsym's arguments, by an image that was redirected.
    unsafe {
        let next = replaced!(NEXT, *mut c_void, *const c_char => *mut c_void);
        let elsewhere = Found { answer: ptr::null_mut(), next: NEXT };
        let function = libraries::binding(CStr::from_ptr(name));
        if is_relative(handle) && function.is_none() {
            return elsewhere;
        }
        // Of the C library's functions there is one each, wherever one looks from.
        let address = next(if is_relative(handle) { libc::RTLD_DEFAULT } else { handle }, name);
        if address.is_null() {
            return elsewhere;
        }
        if !libraries::is_system(address) {
            libraries::redirect_holder(address);
            return if is_relative(handle) { elsewhere } else { Found { answer: address, ..elsewhere } };
        }
        let Some(binding) = function else { return Found { answer: address, ..elsewhere } };
        if (*binding.next).is_null() {
            *binding.next = address;
        }
        Found { answer: binding.with, ..elsewhere }
    }
}
