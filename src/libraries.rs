//! Extension modules that bring I/O of their own: which images a module consists of (its own, and the libraries that it
//! carries), what these import of the C library, and the redirection of that to `src/libc_calls.rs`.

use crate::imports::{self, Binding, Image};
use crate::libc_table::{FUNCTIONS, Function, Returns};
use crate::modules::boundary;
use crate::session::{self, Mode};
use crate::thread_storage;
use crate::turns::locked;
use crate::{
    c11_threads, file_memory, libc_calls, libc_ipc, libc_streams, library_locks, library_threads, library_waits,
    lookups, native_handlers, pending_calls, platform, user_threads,
};
use pyo3_ffi::PyEval_SaveThread;
use retrace_replay::event::ModuleTreatment;
use retrace_replay::unrecorded;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::{Mutex, OnceLock};

/// The C library's own parts, and what every image needs to be loaded: they are the other side of the boundary.
const SYSTEM: [&str; 13] = [
    "libc.so",
    "libc-",
    "libm.so",
    "libdl.so",
    "librt.so",
    "libpthread.so",
    "libresolv.so",
    "libutil.so",
    "libnss_",
    "libgcc_s.so",
    "ld-linux",
    "ld-musl",
    "linux-vdso",
];

/// Images that are redirected already, and whether threads take turns in them. A library may look functions up without the GIL.
static REDIRECTED: Mutex<BTreeMap<usize, bool>> = Mutex::new(BTreeMap::new());

/// Images that call libraries in which threads take turns, which they looked up.
static CALLERS: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// An extension module's file, opened before CPython does: what it needs is loaded, and none of its code has run but its
/// libraries' constructors. To be held until the module is there.
pub struct Extension {
    handle: *mut c_void,
    images: Vec<Image>,
}

impl Drop for Extension {
    fn drop(&mut self) {
        // SAFETY: a handle of `dlopen`. By now CPython has one of its own, or the import has failed.
        unsafe { libc::dlclose(self.handle) };
    }
}

impl Extension {
    /// What can't be opened is CPython's to report.
    ///
    /// # Safety
    /// The GIL is held; the file is one that the program would load.
    pub unsafe fn open(file: &str) -> Option<Extension> {
        // SAFETY: by contract.
        unsafe {
            let before: BTreeSet<usize> = imports::images().iter().map(|image| image.address).collect();
            let name = CString::new(file).ok()?;
            // Allocators make threads when they are loaded.
            let handle =
                platform::without_time_stamps(|| libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL));
            if handle.is_null() {
                libc::dlerror();
                return None;
            }
            Some(Extension { handle, images: parts(file, &before) })
        }
    }

    /// What it and its libraries import that reaches the outside: empty for one that is deterministic.
    pub fn reasons(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let imports: Vec<Vec<String>> = self.images.iter().map(imports_of).collect();
        let has_std_threads = imports.iter().flatten().any(|import| import == library_threads::STD_THREAD_NAME);
        for imports in imports {
            let calls_back = has_std_threads || has(imports.iter().map(String::as_str), &MAKERS);
            for name in imports {
                // Who maps files opens them; others map memory.
                // Semaphores are mostly the module's own.
                let of_outside = |it: &Function| it.returns != Returns::Map && !libc_ipc::is_for_named(it.name);
                let is_recorded = FUNCTIONS.iter().any(|it| it.name.to_bytes() == name.as_bytes() && of_outside(it));
                let reaches = is_recorded || unrecorded::has(&name);
                let by_threads = calls_back && TAKE_GIL.contains(&name.as_str());
                if reaches || by_threads || makes_threads(&name) || name.as_bytes() == lookups::LOOKS_UP.to_bytes() {
                    found.insert(name);
                }
            }
        }
        found
    }

    /// Has what its C code has one of for each thread be each thread's on replay, what it asks the interpreter to call be
    /// called where it was, and the turn given back to a library that it is called by.
    ///
    /// # Safety
    /// In a session; the GIL is held.
    pub unsafe fn divide(&self) {
        for image in &self.images {
            // SAFETY: by contract.
            unsafe { divide(image) };
        }
    }

    /// Has its C code told the number of the recorded process.
    ///
    /// # Safety
    /// Replaying; the GIL is held.
    pub unsafe fn answer_pid(&self) {
        if let Some(image) = self.images.first() {
            // SAFETY: by contract; the function works as the C library's does. An image need not import it.
            let _ = unsafe { imports::rebind(image.address as *const c_void, &[user_threads::pid_binding()]) };
        }
    }

    /// Has what it and its libraries import of the C library come to us. `threads`: what a boundary file says of those that
    /// it makes. Returns whether it may make some that go their own way.
    ///
    /// # Safety
    /// In a session; the GIL is held.
    pub unsafe fn redirect(&self, threads: Option<bool>) -> bool {
        redirect_all(&self.images, threads).has_free_threads
    }
}

/// By which a library's threads do I/O: they have to be followed then. One that only computes goes its own way.
const REACHES_OUT: [&str; 6] = ["socket", "accept4", "epoll_create", "epoll_create1", "eventfd", "timerfd_create"];

/// By which threads are made.
const MAKERS: [&str; 3] = [MAKES_THREADS, c11_threads::MAKES_THREADS, library_threads::STD_THREAD_NAME];

/// By which a thread that Python did not make takes the GIL: one of the library's own may call Python then, and what it and
/// Python's do to each other's memory has to be in one order.
const TAKE_GIL: [&str; 2] = ["PyGILState_Ensure", "PyEval_AcquireThread"];

/// Whether threads are made, and take turns with Python's (`crate::turns`), by who imports these. `said`: what a boundary
/// file says.
pub fn threads_take_turns<'a>(imports: impl Iterator<Item = &'a str> + Clone, said: Option<bool>) -> bool {
    let take_turns = said.unwrap_or_else(|| has(imports.clone(), &REACHES_OUT) || has(imports.clone(), &TAKE_GIL));
    cfg!(target_os = "linux") && take_turns && has(imports, &MAKERS)
}

fn has<'a>(mut imports: impl Iterator<Item = &'a str>, names: &[&str]) -> bool {
    imports.any(|import| names.contains(&import))
}

/// Whether these imports are of what does I/O of its own and has one of the names, where there are turns at all.
fn reaches_out_and_has<'a>(imports: impl Iterator<Item = &'a str> + Clone, names: &[&str]) -> bool {
    cfg!(target_os = "linux") && has(imports.clone(), &REACHES_OUT) && has(imports, names)
}

/// By which a library guards what threads share in it, or has one thread wake another.
const SHARES: [&str; 6] =
    ["pthread_mutex_lock", "mtx_lock", "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_once", "eventfd"];

fn imports_of(image: &Image) -> Vec<String> {
    // SAFETY: a loaded image.
    unsafe { imports::imported(image) }.unwrap_or_default()
}

/// What [`redirect_all`] found.
struct Redirected {
    /// Python's threads take turns in it.
    turns: bool,
    /// It may make threads that go their own way.
    has_free_threads: bool,
}

/// Whether threads take turns in the images that belong together, and which of these make some that do. `said`: as in
/// [`threads_take_turns`].
fn turns_in(images: &[Image], imports: &[Vec<String>], said: Option<bool>) -> (bool, Vec<bool>) {
    let each = imports.iter().map(|imports| imports.iter().map(String::as_str));
    let own: Vec<bool> = each.clone().map(|imports| threads_take_turns(imports, said)).collect();
    let all = each.clone().flatten();
    let turns = own.contains(&true) || reaches_out_and_has(all.clone(), &SHARES);
    // What C++'s threads run may be any function, also one that takes the GIL in another image.
    let may_call_back = || has(all.clone(), &TAKE_GIL) && has(all.clone(), &[library_threads::STD_THREAD_NAME]);
    if said.is_some() || !cfg!(target_os = "linux") || !(turns || may_call_back()) {
        return (turns, own);
    }
    // Whoever takes turns may come to wait for any of them.
    let is_followed = |((own, imports), image)| own || (has(imports, &MAKERS) && !is_openmp(image));
    let followed: Vec<bool> = own.into_iter().zip(each).zip(images).map(is_followed).collect();
    (turns || followed.contains(&true), followed)
}

/// Whether it is an OpenMP runtime. Its threads only compute, and wait by spinning and by system calls that nobody sees: they
/// can't take turns.
fn is_openmp(image: &Image) -> bool {
    // SAFETY: a loaded image.
    unsafe { imports::own_function(image, c"omp_get_num_threads") }.is_some()
}

/// Redirects what belongs together. Python's threads take turns in its code where it does I/O of its own, for several
/// threads at once. `threads`: as in [`Extension::redirect`].
fn redirect_all(images: &[Image], threads: Option<bool>) -> Redirected {
    let imports: Vec<Vec<String>> = images.iter().map(imports_of).collect();
    let (turns, makes_threads) = turns_in(images, &imports, threads);
    let mut has_free = false;
    for ((image, imports), makes_threads) in images.iter().zip(&imports).zip(makes_threads) {
        has_free |= !makes_threads && has(imports.iter().map(String::as_str), &MAKERS);
        // SAFETY: by the callers' contract.
        unsafe { redirect(image, turns, makes_threads) };
    }
    Redirected { turns, has_free_threads: has_free }
}

/// By which threads wait for one another in a library's code.
const WAITS: [&str; 7] = [
    "pthread_cond_wait",
    "pthread_cond_timedwait",
    "pthread_cond_clockwait",
    "cnd_wait",
    "cnd_timedwait",
    "sem_wait",
    "sem_timedwait",
];

/// Whether threads take turns in a library that C code has loaded itself: where it makes some, which may call back by a
/// function that they were given (ctypes'), or where Python's wait for one another in it. Nothing shows the former.
fn is_shared(image: &Image) -> bool {
    let imports = imports_of(image);
    let has = |names: &[&str]| has(imports.iter().map(String::as_str), names);
    cfg!(target_os = "linux") && (has(&MAKERS) || has(&WAITS))
}

/// By which a library runs code of its own beside Python's threads.
const MAKES_THREADS: &str = "pthread_create";

/// Whether a library that imports this runs code of its own beside Python's threads.
pub fn makes_threads(import: &str) -> bool {
    MAKERS.contains(&import)
}

/// How a module is treated, and what it imports that speaks for it: what a boundary file says, or what its imports say.
///
/// # Safety
/// The GIL is held.
pub unsafe fn treatment(name: &str, extension: Option<&Extension>) -> (ModuleTreatment, String) {
    // SAFETY: by contract.
    let boundary = unsafe { boundary() };
    let reasons = extension.map(Extension::reasons).unwrap_or_default();
    let imports = reasons.iter().cloned().collect::<Vec<_>>().join(" ");
    if let Some(table) = boundary.tables(name).next() {
        let treatment = match () {
            () if boundary.is_libc(name) => ModuleTreatment::Libc,
            () if table.reaches_outside() => ModuleTreatment::Record,
            () => ModuleTreatment::Internal,
        };
        return (treatment, imports);
    }
    let treatment = if reasons.is_empty() { ModuleTreatment::Internal } else { ModuleTreatment::Libc };
    (treatment, imports)
}

/// The images that the module's file brought, and what they need of what was there.
unsafe fn parts(file: &str, before: &BTreeSet<usize>) -> Vec<Image> {
    let images = imports::images();
    let brought = images.iter().filter(|image| image.path == file || !before.contains(&image.address));
    // SAFETY: by the callers' contract.
    unsafe { with_needed(brought.cloned().collect(), &images) }
}

/// Those of `found`, and what they need of `images`, which are on the program's side of the boundary.
unsafe fn with_needed(mut found: Vec<Image>, images: &[Image]) -> Vec<Image> {
    let interpreter = interpreter_images(images);
    let own = |image: &Image| !is_system_image(image) && !interpreter.contains(&image.address);
    let mut next = 0;
    while let Some(image) = found.get(next) {
        next += 1;
        // SAFETY: by the callers' contract: the image is loaded.
        for needed in unsafe { imports::needs(image) } {
            let known = |found: &[Image], image: &Image| found.iter().any(|other| other.address == image.address);
            if let Some(image) = images.iter().find(|image| image.file() == needed)
                && own(image)
                && !known(&found, image)
            {
                found.push(image.clone());
            }
        }
    }
    found.retain(own);
    found
}

fn is_system_image(image: &Image) -> bool {
    SYSTEM.iter().any(|name| image.file().starts_with(name))
}

/// Whether what is at `address` belongs to the other side of the boundary, or to the interpreter.
pub fn is_system(address: *const c_void) -> bool {
    let images = imports::images();
    let image = imports::image_at(address, &images);
    image.is_none_or(|image| is_system_image(image) || interpreter_images(&images).contains(&image.address))
}

/// Redirects the image that holds `address`, which is not the system's, and what it needs. `caller` is in the image that is
/// about to call it.
///
/// # Safety
/// In a session; the images are loaded.
pub unsafe fn redirect_holder(address: *const c_void, caller: *const c_void) {
    let images = imports::images();
    let Some(holder) = imports::image_at(address, &images).cloned() else { return };
    let known = locked(&REDIRECTED).get(&holder.address).copied();
    // SAFETY: by contract.
    unsafe {
        let turns = known.unwrap_or_else(|| {
            let is_shared = is_shared(&holder);
            if is_shared {
                redirect(&holder, true, true);
            }
            redirect_all(&with_needed(vec![holder], &images), None).turns || is_shared
        });
        if turns
            && let Some(caller) = imports::image_at(caller, &images)
            && locked(&CALLERS).insert(caller.address)
        {
            let _ = imports::rebind(caller.address as *const c_void, &library_threads::going_into());
        }
    }
}

/// What `retrace record` and `retrace replay` have the loader load first.
const PRELOADED: &str = "libretrace-preload";

/// The executable, libpython and Retrace itself.
fn interpreter_images(images: &[Image]) -> BTreeSet<usize> {
    let file_of = |address: *const c_void| {
        // SAFETY: `info` is writable; the name it gets is the loader's.
        unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
                return None;
            }
            Some(CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned())
        }
    };
    let ours = [file_of(PyEval_SaveThread as *const c_void), file_of(interpreter_images as *const c_void)];
    let is_ours =
        |image: &Image| ours.iter().flatten().any(|path| *path == image.path) || image.file().starts_with(PRELOADED);
    let first = images.first().map(|image| image.address);
    images.iter().filter(|image| is_ours(image)).map(|image| image.address).chain(first).collect()
}

/// What is put into an extension module's import table.
unsafe fn bindings() -> &'static [Binding] {
    static BINDINGS: OnceLock<Bindings> = OnceLock::new();
    let made = BINDINGS.get_or_init(|| {
        // SAFETY: by the callers' contract.
        unsafe {
            let mut bindings = libc_calls::bindings();
            bindings.extend(library_locks::bindings());
            bindings.extend(libc_streams::bindings());
            bindings.extend(libc_ipc::bindings());
            bindings.extend(lookups::bindings());
            bindings.extend(crate::random_device::bindings());
            bindings.extend(native_handlers::bindings());
            bindings.extend(library_waits::bindings());
            bindings.extend(library_threads::bindings());
            bindings.extend(crate::unrecorded::bindings());
            if session::mode() == Mode::Replaying {
                bindings.extend(file_memory::bindings());
            }
            Bindings(bindings)
        }
    });
    &made.0
}

struct Bindings(Vec<Binding>);

// SAFETY: their pointers are to functions, and to statics that are written as `Binding` says.
unsafe impl Send for Bindings {}
// SAFETY: as above.
unsafe impl Sync for Bindings {}

/// What takes the place of the C library's function of that name in a module's import table.
///
/// # Safety
/// In a session; an image was redirected.
pub unsafe fn binding(name: &CStr) -> Option<&'static Binding> {
    // SAFETY: by contract.
    unsafe { bindings() }.iter().find(|binding| binding.name == name)
}

/// Redirects an image's imports, once. `turns`: threads take turns in it, or in another part of its module; `makes_threads`:
/// those among them that it makes itself.
unsafe fn redirect(image: &Image, turns: bool, makes_threads: bool) {
    // SAFETY: by the callers' contract.
    unsafe {
        if locked(&REDIRECTED).insert(image.address, turns).is_some() {
            return;
        }
        let mut bindings = bindings().to_vec();
        bindings.extend(c11_threads::bindings());
        if turns {
            bindings.extend(library_threads::with_turns());
        }
        if makes_threads {
            bindings.extend(library_threads::making());
        } else {
            bindings.extend(library_threads::making_for_others());
        }
        // What the library does to take another generator is not the program's doing, and none of the recording.
        feed_generator(image);
        // An image without an import table imports nothing.
        let _ = imports::rebind(image.address as *const c_void, &bindings);
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        crate::raw_calls::redirect(image);
        divide(image);
    }
}

/// See [`Extension::divide`].
unsafe fn divide(image: &Image) {
    let mut bindings = pending_calls::bindings();
    // Where they do, what they call back by was replaced by `redirect`, or will be.
    if locked(&REDIRECTED).get(&image.address) != Some(&true) {
        bindings.extend(library_threads::calling_back());
    }
    // SAFETY: by the callers' contract; the functions work as those that they replace. An image need not import them.
    unsafe {
        if session::mode() == Mode::Replaying {
            thread_storage::watch(image);
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            crate::thread_pointer::redirect(image);
            bindings.extend(library_threads::at_end_of_thread());
        }
        let _ = imports::rebind(image.address as *const c_void, &bindings);
    }
}

/// OpenSSL's `RAND_METHOD`.
#[repr(C)]
struct RandomMethod {
    seed: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
    bytes: unsafe extern "C" fn(*mut u8, c_int) -> c_int,
    cleanup: Option<unsafe extern "C" fn()>,
    add: unsafe extern "C" fn(*const c_void, c_int, f64) -> c_int,
    pseudo_bytes: unsafe extern "C" fn(*mut u8, c_int) -> c_int,
    status: unsafe extern "C" fn() -> c_int,
}

unsafe extern "C" fn random_seed(_: *const c_void, _: c_int) -> c_int {
    1
}

unsafe extern "C" fn random_add(_: *const c_void, _: c_int, _: f64) -> c_int {
    1
}

unsafe extern "C" fn random_status() -> c_int {
    1
}

unsafe extern "C" fn random_bytes(into: *mut u8, count: c_int) -> c_int {
    // SAFETY: called by OpenSSL with a buffer of that size.
    c_int::from(usize::try_from(count).is_ok_and(|count| unsafe { libc_calls::random_bytes(into, count) }))
}

static RANDOM: RandomMethod = RandomMethod {
    seed: random_seed,
    bytes: random_bytes,
    cleanup: None,
    add: random_add,
    pseudo_bytes: random_bytes,
    status: random_status,
};

/// OpenSSL's generator also takes the processor's time stamp counter, which nothing can record. A library that lets one
/// give it another generator gets one that draws from the system.
unsafe fn feed_generator(image: &Image) {
    // SAFETY: the image is loaded; the function is the one that OpenSSL declares.
    unsafe {
        let Some(set) = imports::own_function(image, c"RAND_set_rand_method") else { return };
        let set = std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const RandomMethod) -> c_int>(set);
        set(&raw const RANDOM);
    }
}

/// Whether this process may come to run CPython's own main: the executable, or a library, calls it. One that CPython is
/// linked into has it in any case.
pub fn has_main() -> bool {
    // SAFETY: looks for a symbol.
    let main = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"Py_RunMain".as_ptr()) };
    let images = imports::images();
    let Some(interpreter) = imports::image_at(main, &images).map(|image| image.address) else { return true };
    let calls = |image: &Image| {
        // SAFETY: the image is loaded.
        let names = unsafe { imports::imported(image) }.unwrap_or_default();
        names.iter().any(|name| ["Py_BytesMain", "Py_Main", "Py_RunMain"].contains(&name.as_str()))
    };
    let is_executable = images.first().is_some_and(|first| first.address == interpreter);
    is_executable || images.iter().filter(|image| image.address != interpreter).any(calls)
}
