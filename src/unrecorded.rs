//! Calls of the C library that are not recorded. An extension module that makes one is named at the end of the recording:
//! what comes of it, a replay can't know.

use crate::imports::{self, Binding};
use crate::libc_table;
use retrace_replay::unrecorded::{self, ByThreads, FUNCTIONS};
use std::ffi::{CStr, c_void};
use std::io::{IsTerminal, stderr};
use std::ptr;
use std::sync::Mutex;

const COUNT: usize = FUNCTIONS.len();

// What is recorded is not listed.
const _: () = {
    let mut place = 0;
    while place < COUNT {
        let mut other = 0;
        while other < libc_table::COUNT {
            assert!(
                !is_same(FUNCTIONS[place], libc_table::FUNCTIONS[other].name),
                "a function is recorded, and listed as not"
            );
            other += 1;
        }
        place += 1;
    }
};

const fn is_same(one: &CStr, other: &CStr) -> bool {
    let (one, other) = (one.to_bytes(), other.to_bytes());
    let mut place = 0;
    while place < one.len() && place < other.len() && one[place] == other[place] {
        place += 1;
    }
    place == one.len() && place == other.len()
}

/// Which have been called: written by any thread, in C code, always with 1.
static mut CALLED: [u8; COUNT] = [0; COUNT];
/// The C library's own.
static mut NEXT: [*mut c_void; COUNT] = [ptr::null_mut(); COUNT];
/// Which functions of the table threads have called that go their own way: written like [`CALLED`].
static mut BY_THREADS: [u8; libc_table::COUNT] = [0; libc_table::COUNT];
/// The modules that may make such threads.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// The modules that import some, and which.
static IMPORTED: Mutex<Vec<(String, Vec<String>)>> = Mutex::new(Vec::new());

/// In place of a function with whatever arguments: notes the call and goes on in the function itself.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn pass<const PLACE: usize>() {
    std::arch::naked_asm!(
        "mov byte ptr [rip + {called} + {place}], 1",
        "jmp qword ptr [rip + {next} + 8 * {place}]",
        called = sym CALLED,
        next = sym NEXT,
        place = const PLACE,
    )
}

/// As above.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
#[unsafe(naked)]
unsafe extern "C" fn pass<const PLACE: usize>() {
    std::arch::naked_asm!(
        "adrp x16, {called}",
        "add x16, x16, :lo12:{called}",
        "mov w17, #1",
        "strb w17, [x16, #{place}]",
        "adrp x16, {next}",
        "add x16, x16, :lo12:{next}",
        "ldr x16, [x16, #8 * {place}]",
        "br x16",
        called = sym CALLED,
        next = sym NEXT,
        place = const PLACE,
    )
}

/// As above.
#[cfg(all(target_arch = "aarch64", target_os = "macos"))]
#[unsafe(naked)]
unsafe extern "C" fn pass<const PLACE: usize>() {
    std::arch::naked_asm!(
        "adrp x16, {called}@PAGE",
        "add x16, x16, {called}@PAGEOFF",
        "mov w17, #1",
        "strb w17, [x16, #{place}]",
        "adrp x16, {next}@PAGE",
        "add x16, x16, {next}@PAGEOFF",
        "ldr x16, [x16, #8 * {place}]",
        "br x16",
        called = sym CALLED,
        next = sym NEXT,
        place = const PLACE,
    )
}

/// What is put into an extension module's import table.
pub fn bindings() -> Vec<Binding> {
    let pass: [unsafe extern "C" fn(); COUNT] = [
        pass::<0>, pass::<1>, pass::<2>, pass::<3>, pass::<4>, pass::<5>, pass::<6>, pass::<7>, pass::<8>, pass::<9>,
        pass::<10>, pass::<11>, pass::<12>, pass::<13>,
    ];
    let mut place = 0;
    let functions = FUNCTIONS.map(|name| {
        place += 1;
        (name, pass[place - 1] as *mut c_void)
    });
    // SAFETY: `NEXT` has a place for each.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast()) }
}

/// A module imports these, some of which may be such functions.
pub fn imported(module: &str, imports: &str) {
    let found: Vec<String> = unrecorded::among(imports).map(str::to_owned).collect();
    if !found.is_empty()
        && let Ok(mut modules) = IMPORTED.lock()
    {
        modules.push((module.to_owned(), found));
    }
}

/// A module may make threads that go their own way.
pub fn has_free_threads(module: &str) {
    if let Ok(mut modules) = FREE.lock() {
        modules.push(module.to_owned());
    }
}

/// A thread that goes its own way calls the function of the table at `place`.
pub fn called_by_thread(place: usize) {
    // SAFETY: within the array; a byte that is only ever set.
    unsafe { (&raw mut BY_THREADS).cast::<u8>().add(place).write_volatile(1) };
}

/// The functions that have been called, for the last event.
pub fn called() -> Vec<String> {
    // SAFETY: within the arrays; one that is set just now may be missed.
    let is_set = |bytes: *const u8, place: usize| unsafe { bytes.add(place).read_volatile() != 0 };
    let called = FUNCTIONS.iter().enumerate().filter(|(place, _)| is_set((&raw const CALLED).cast(), *place));
    let mut called: Vec<String> = called.map(|(_, name)| name.to_string_lossy().into_owned()).collect();
    let functions = libc_table::FUNCTIONS.iter().enumerate();
    let functions = functions.filter(|(place, _)| is_set((&raw const BY_THREADS).cast(), *place));
    let functions: Vec<String> = functions.map(|(_, function)| function.name.to_string_lossy().into_owned()).collect();
    if !functions.is_empty() {
        let modules = FREE.lock().map(|modules| modules.clone()).unwrap_or_default();
        called.push(ByThreads { modules, functions }.to_string());
    }
    called
}

/// A forked process has called none yet.
pub fn forget() {
    let clear = |bytes: *mut u8, count: usize| {
        // SAFETY: within the arrays.
        (0..count).for_each(|place| unsafe { bytes.add(place).write_volatile(0) });
    };
    clear((&raw mut CALLED).cast(), COUNT);
    clear((&raw mut BY_THREADS).cast(), libc_table::COUNT);
}

/// Names the modules, and says how many forked processes are missing, to who looks on. The program's stderr is its own where it goes anywhere else: `retrace info` says it.
pub fn tell(called: &[String], children: u64) {
    if called.is_empty() && children == 0 || !stderr().is_terminal() {
        return;
    }
    if children > 0 {
        eprintln!("retrace: {}", unrecorded::children_message(children));
    }
    for by_threads in called.iter().filter_map(|said| ByThreads::parse(said)) {
        eprintln!("retrace: {}", by_threads.message());
    }
    for (module, imports) in IMPORTED.lock().iter().flat_map(|modules| modules.iter()) {
        let found: Vec<&str> = imports.iter().filter(|name| called.contains(name)).map(String::as_str).collect();
        if !found.is_empty() {
            eprintln!("retrace: {}", unrecorded::message(module, &found));
        }
    }
}
