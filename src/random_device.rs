//! C++'s `std::random_device`, where libstdc++ takes the processor's own generator (`rdrand`, `rdseed`): what that gives,
//! nothing can record. Such a device draws from the system instead, which is recorded. One that was made of a file reads it by
//! functions of the C library's, and one that is a generator with a fixed beginning goes on by itself.

use crate::imports::{self, Binding};
use crate::libc_calls;
use crate::turns::locked;
use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::ptr;
use std::sync::{LazyLock, Mutex};

/// What devices are called that libstdc++ may have the processor answer (`random_device::_M_init` in
/// libstdc++-v3/src/c++11/random.cc).
const OF_PROCESSOR: [&CStr; 6] = [c"default", c"rdseed", c"rdrand", c"rdrnd", c"hw", c"hardware"];

/// Where those devices are that are called otherwise. What has gone is here until a device is made in its place.
static OTHERS: LazyLock<Mutex<HashSet<usize>>> = LazyLock::new(Mutex::default);

const FUNCTIONS: usize = 3;
static mut NEXT: [*mut c_void; FUNCTIONS] = [ptr::null_mut(); FUNCTIONS];

/// What is put into an extension module's import table.
pub fn bindings() -> Vec<Binding> {
    let functions: [(&CStr, *mut c_void); FUNCTIONS] = [
        (c"_ZNSt13random_device7_M_initERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", init as *mut c_void),
        // With the strings of before C++11.
        (c"_ZNSt13random_device7_M_initERKSs", init_by_old_string as *mut c_void),
        (c"_ZNSt13random_device9_M_getvalEv", value as *mut c_void),
    ];
    // SAFETY: `NEXT` has a place for each.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast()) }
}

type Init = unsafe extern "C-unwind" fn(*mut c_void, *const *const c_char);
type Value = unsafe extern "C-unwind" fn(*mut c_void) -> c_uint;

/// `token`: a string of either kind begins with the address of its characters, which end with a NUL.
unsafe fn note(device: *mut c_void, token: *const *const c_char) {
    // SAFETY: by the callers' contract.
    let token = unsafe { CStr::from_ptr(*token) };
    if OF_PROCESSOR.contains(&token) {
        locked(&OTHERS).remove(&(device as usize));
    } else {
        locked(&OTHERS).insert(device as usize);
    }
}

// They throw where there is no such device.
unsafe extern "C-unwind" fn init(device: *mut c_void, token: *const *const c_char) {
    // SAFETY: called by C++ code with its arguments.
    unsafe {
        note(device, token);
        std::mem::transmute::<*mut c_void, Init>(NEXT[0])(device, token);
    }
}

unsafe extern "C-unwind" fn init_by_old_string(device: *mut c_void, token: *const *const c_char) {
    // SAFETY: as above.
    unsafe {
        note(device, token);
        std::mem::transmute::<*mut c_void, Init>(NEXT[1])(device, token);
    }
}

unsafe extern "C-unwind" fn value(device: *mut c_void) -> c_uint {
    let mut drawn: c_uint = 0;
    // SAFETY: called by C++ code with its argument; as many bytes are written as there are.
    unsafe {
        let is_other = locked(&OTHERS).contains(&(device as usize));
        if !is_other && libc_calls::random_bytes((&raw mut drawn).cast(), size_of::<c_uint>()) {
            return drawn;
        }
        std::mem::transmute::<*mut c_void, Value>(NEXT[2])(device)
    }
}
