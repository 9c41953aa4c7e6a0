//! Functions that C code looks up by name while it runs, and does not import: ctypes, drivers that load their library
//! themselves. A function of the C library that the boundary has is answered with what an import would be bound to; the
//! library in which anything else was found is redirected as if the module had brought it.

use crate::imports::{Binding, replaced};
use crate::session::{self, Mode};
use crate::{libc_calls, libraries};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

/// By which C code looks functions up.
pub const LOOKS_UP: &CStr = c"dlsym";

static mut NEXT: *mut c_void = ptr::null_mut();
static mut NEXT_OPEN: *mut c_void = ptr::null_mut();

/// What is put into an extension module's import table.
pub fn bindings() -> [Binding; 2] {
    [
        Binding { name: LOOKS_UP, with: dlsym as *mut c_void, next: &raw mut NEXT, needed: false },
        Binding { name: c"dlopen", with: dlopen as *mut c_void, next: &raw mut NEXT_OPEN, needed: false },
    ]
}

/// Whether a library is named by a path from the current folder, which is another one on replay. A name without a slash is
/// looked for elsewhere.
fn is_from_folder(name: &CStr) -> bool {
    !name.to_bytes().starts_with(b"/") && name.to_bytes().contains(&b'/')
}

/// In place of `dlopen`: jumps to what [`open`] returns with what that leaves in place of the name, as `dlopen` looks at who
/// called it.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn dlopen(name: *const c_char, how: c_int) -> *mut c_void {
    std::arch::naked_asm!(
        "push rsi",
        "call {open}",
        "pop rsi",
        "mov rdi, rax",
        "jmp rdx",
        open = sym open,
    )
}

/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn dlopen(name: *const c_char, how: c_int) -> *mut c_void {
    std::arch::naked_asm!(
        "stp x29, x30, [sp, #-32]!",
        "str x1, [sp, #16]",
        "bl {open}",
        "mov x16, x1",
        "ldr x1, [sp, #16]",
        "ldp x29, x30, [sp], #32",
        "br x16",
        open = sym open,
    )
}

/// The name by which a library is opened, as `answer`, and what opens it. The folder is asked for as C code does that is
/// recorded.
unsafe extern "C" fn open(name: *const c_char, _how: c_int) -> Found {
    // SAFETY: called with dlopen's arguments, by an image that was redirected.
    unsafe {
        let as_named = Found { answer: name.cast_mut().cast(), next: NEXT_OPEN };
        if name.is_null() || !is_from_folder(CStr::from_ptr(name)) {
            return as_named;
        }
        let mut folder = [0_u8; libc::PATH_MAX as usize];
        let room = [folder.as_mut_ptr() as usize, folder.len(), 0, 0, 0, 0, 0];
        let found = libc_calls::enter_named(c"getcwd", room);
        if found == 0 || found == usize::MAX || session::mode() != Mode::Replaying {
            return as_named;
        }
        let mut path = CStr::from_ptr(folder.as_ptr().cast()).to_bytes().to_vec();
        path.push(b'/');
        path.extend_from_slice(CStr::from_ptr(name).to_bytes());
        match CString::new(path) {
            // A library is opened a few times: its name stays.
            Ok(path) => Found { answer: path.into_raw().cast(), ..as_named },
            Err(_) => as_named,
        }
    }
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
        "mov rdx, [rsp]",
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
        "mov x2, x30",
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

/// `caller` is where in the image that asks.
unsafe extern "C" fn look_up(handle: *mut c_void, name: *const c_char, caller: *const c_void) -> Found {
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
            libraries::redirect_holder(address, caller);
            return if is_relative(handle) { elsewhere } else { Found { answer: address, ..elsewhere } };
        }
        let Some(binding) = function else { return Found { answer: address, ..elsewhere } };
        if (*binding.next).is_null() {
            *binding.next = address;
        }
        Found { answer: binding.with, ..elsewhere }
    }
}
