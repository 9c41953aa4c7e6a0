//! What processes share beside files, where C code uses it by the C library: semaphores that have a name (`sem_open`), and
//! memory by a key (`shmat`). Replay has neither: a semaphore is memory that nobody looks at, and shared memory is memory of
//! the replay's own, with what was there when it was attached. What another process writes there later is not recorded.
//!
//! A semaphore without a name is the module's own, and none of the outside (`crate::library_waits`).

use crate::imports::{self, Binding, replaced};
use crate::libc_calls;
use crate::libc_table::{Function, Returns};
#[cfg(target_os = "linux")]
use crate::session::{self, Mode};
use crate::turns::locked;
use retrace_replay::value::Value;
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

// ---- semaphores with a name ----

/// Those that are open, and how often: opened twice in one process, a semaphore is at one address.
static NAMED: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);
/// Whether there were any.
static ANY: AtomicBool = AtomicBool::new(false);

const FUNCTIONS: usize = 2;
static mut NEXT: [*mut c_void; FUNCTIONS] = [ptr::null_mut(); FUNCTIONS];

/// What is put into an extension module's import table, besides what `crate::library_waits` puts there for semaphores.
pub fn bindings() -> Vec<Binding> {
    let functions: [(&CStr, *mut c_void); FUNCTIONS] =
        [(c"sem_trywait", sem_trywait as *mut c_void), (c"sem_getvalue", sem_getvalue as *mut c_void)];
    // SAFETY: `NEXT` has a place for each.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast()) }
}

/// Whether a function of the table is called for semaphores that have a name only: it is in no import table itself.
pub fn is_for_named(function: &CStr) -> bool {
    let told_apart = ["sem_wait", "sem_timedwait", "sem_clockwait", "sem_trywait", "sem_post", "sem_getvalue"];
    told_apart.iter().any(|name| name.as_bytes() == function.to_bytes())
}

/// The call `function` of a semaphore that has a name, with its further arguments: recorded, or answered. `None` for other
/// semaphores.
///
/// # Safety
/// Called by an extension module's code, as the function is.
pub unsafe fn of_named(function: &CStr, semaphore: *mut libc::sem_t, more: [usize; 2]) -> Option<c_int> {
    // Relaxed: who uses a semaphore has it from whoever opened it.
    if !ANY.load(Ordering::Relaxed) || !locked(&NAMED).contains_key(&(semaphore as usize)) {
        return None;
    }
    // SAFETY: by contract.
    Some(unsafe { libc_calls::enter_named(function, [semaphore as usize, more[0], more[1], 0, 0, 0, 0]) } as c_int)
}

unsafe extern "C" fn sem_trywait(semaphore: *mut libc::sem_t) -> c_int {
    // SAFETY: called by an extension module with its arguments.
    unsafe {
        of_named(c"sem_trywait", semaphore, [0; 2])
            .unwrap_or_else(|| replaced!(NEXT[0], *mut libc::sem_t => c_int)(semaphore))
    }
}

unsafe extern "C" fn sem_getvalue(semaphore: *mut libc::sem_t, value: *mut c_int) -> c_int {
    // SAFETY: as above.
    unsafe {
        of_named(c"sem_getvalue", semaphore, [value as usize, 0])
            .unwrap_or_else(|| replaced!(NEXT[1], *mut libc::sem_t, *mut c_int => c_int)(semaphore, value))
    }
}

/// What replay's `sem_open` returns.
pub fn make_semaphore() -> usize {
    // SAFETY: zeroed memory, never freed: a closed semaphore may still be named by mistake.
    unsafe { libc::calloc(1, size_of::<libc::sem_t>()) as usize }
}

/// A call has succeeded, in either direction.
pub fn note(function: &Function, first: usize, result: usize) {
    if function.returns == Returns::Semaphore {
        // Relaxed: as above.
        ANY.store(true, Ordering::Relaxed);
        *locked(&NAMED).entry(result).or_default() += 1;
    } else if function.name == c"sem_close" {
        let mut named = locked(&NAMED);
        if let Some(count) = named.get_mut(&first) {
            *count -= 1;
            if *count == 0 {
                named.remove(&first);
            }
        }
    }
}

// ---- memory by a key ----

/// What replay has attached: addresses and sizes.
static ATTACHED: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);

#[cfg(target_os = "linux")]
fn size_of_segment(segment: c_int) -> usize {
    // SAFETY: all zeros is one; `shmctl` fills it, or fails.
    unsafe {
        let mut status: libc::shmid_ds = std::mem::zeroed();
        if libc::shmctl(segment, libc::IPC_STAT, &raw mut status) == 0 { status.shm_segsz } else { 0 }
    }
}

#[cfg(not(target_os = "linux"))]
fn size_of_segment(_: c_int) -> usize {
    0
}

/// What the log has in the place of the address of memory that was attached: its size.
pub fn described(segment: usize) -> Value {
    Value::Int(size_of_segment(segment as c_int) as i64)
}

/// What is in it, up to the last byte that is not zero.
///
/// # Safety
/// `shmat` has just returned `address` for this segment.
pub unsafe fn contents(segment: usize, address: usize) -> Vec<Vec<u8>> {
    // SAFETY: by contract; a segment that can't be asked about is taken for empty.
    let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, size_of_segment(segment as c_int)) };
    match bytes.iter().rposition(|&byte| byte != 0) {
        Some(last) => vec![bytes[..=last].to_vec()],
        None => Vec::new(),
    }
}

/// What replay's `shmat` returns.
pub fn attach(size: usize, contents: &[u8]) -> usize {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: new memory, and no more is written than it has.
    unsafe {
        let memory = libc::mmap(ptr::null_mut(), size.max(1), access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        if memory != libc::MAP_FAILED {
            ptr::copy_nonoverlapping(contents.as_ptr(), memory.cast::<u8>(), contents.len().min(size));
            locked(&ATTACHED).insert(memory as usize, size.max(1));
        }
        memory as usize
    }
}

/// On replay, `shmdt` has succeeded.
pub fn detach(address: usize) {
    if let Some(size) = locked(&ATTACHED).remove(&address) {
        // SAFETY: made by `attach`, and nobody uses it any more.
        unsafe { libc::munmap(address as *mut c_void, size) };
    }
}

/// `struct semid_ds` of glibc's <bits/types/struct_semid_ds.h>: its size, and where in it the number of semaphores is.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const SEMID_DS: usize = 104;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const SEM_NSEMS: usize = 80;
#[cfg(all(target_os = "linux", not(target_arch = "x86_64")))]
const SEMID_DS: usize = 88;
#[cfg(all(target_os = "linux", not(target_arch = "x86_64")))]
const SEM_NSEMS: usize = 64;

/// How many semaphores a set has. On replay there is none, and the log has so many: as many as there may be.
#[cfg(target_os = "linux")]
fn semaphores_in(set: c_int) -> usize {
    const MOST: usize = 32_000;
    let mut status = [0_u64; 16];
    // SAFETY: `semctl` fills what is larger than its struct, or fails.
    let is_told =
        unsafe { session::mode() != Mode::Replaying && libc::semctl(set, 0, libc::IPC_STAT, status.as_mut_ptr()) >= 0 };
    if !is_told {
        return MOST;
    }
    status[SEM_NSEMS / 8] as usize
}

/// Where `semctl`, `shmctl` and `msgctl` write, by their command: the address and how many bytes. `None` for other functions.
///
/// # Safety
/// `args` are the function's.
#[cfg(target_os = "linux")]
pub unsafe fn written_by_control(function: &Function, args: &libc_calls::Arguments) -> Option<Vec<(usize, usize)>> {
    const GETALL: c_int = 13;
    let (command, at, size) = match function.name.to_bytes() {
        b"semctl" => (args[2] as c_int, args[3], SEMID_DS),
        b"shmctl" => (args[1] as c_int, args[2], size_of::<libc::shmid_ds>()),
        b"msgctl" => (args[1] as c_int, args[2], size_of::<libc::msqid_ds>()),
        _ => return None,
    };
    Some(match command {
        libc::IPC_STAT if at != 0 => vec![(at, size)],
        GETALL if function.name == c"semctl" => vec![(at, 2 * semaphores_in(args[0] as c_int))],
        _ => Vec::new(),
    })
}

#[cfg(not(target_os = "linux"))]
pub unsafe fn written_by_control(_: &Function, _: &libc_calls::Arguments) -> Option<Vec<(usize, usize)>> {
    None
}
