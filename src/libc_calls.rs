//! Where an extension module's calls of the C library arrive (`src/libc_table.rs` says which). Recording calls the
//! function and logs what it was given, what it returned and what it wrote; replaying answers from the log, and stops
//! where the module asks for something else than in the recording. With the GIL a call is an event like any other;
//! without it the thread's calls are put together and logged when it takes the GIL again.

use crate::gil::GilCell;
use crate::handler_writes;
use crate::hook::{self, Hook};
use crate::imports::Binding;
use crate::libc_directories as directories;
use crate::libc_ipc as ipc;
use crate::libc_maps as maps;
use crate::libc_memory as memory;
use crate::libc_streams as streams;
use crate::libc_table::{COUNT, FUNCTIONS, Function, Returns, Shape, Waits};
use crate::libc_watches as watches;
use crate::session::{self, Mode};
use crate::trampoline::LIBC_CALLS;
use crate::{console, divergence, native_handlers, platform, replay, schedule, time_stamps, turns, user_threads};
use retrace_abi::boundary::Fds;
use retrace_replay::event::{Call, General, NO_FRAME, Outcome};
use retrace_replay::value::Value;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What a function of the table is called with: as many as it has, and then whatever stood there.
pub type Arguments = [usize; 7];

const _: () = assert!(COUNT <= LIBC_CALLS.len());

/// The library's own functions, by place in the table.
static mut ORIGINALS: [*mut c_void; COUNT] = [ptr::null_mut(); COUNT];
/// Their hooks, once the first module needs them.
static HOOKS: GilCell<Vec<&'static Hook>> = GilCell::new(Vec::new());

/// What is put into an extension module's import table.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn bindings() -> Vec<Binding> {
    // SAFETY: by contract; places are within the array.
    unsafe {
        if HOOKS.get().is_empty() {
            for function in &FUNCTIONS {
                let name = format!("libc.{}", function.name.to_string_lossy());
                HOOKS.get().push(hook::of_library(name));
            }
        }
        let imported = FUNCTIONS.iter().enumerate().filter(|(_, function)| !ipc::is_for_named(function.name));
        let bindings = imported.map(|(place, function)| Binding {
            name: function.name,
            with: directories::in_place_of(function.name)
                .or_else(|| streams::in_place_of(function.name))
                .or_else(|| platform::in_place_of(function.name))
                .unwrap_or(LIBC_CALLS[place] as *mut c_void),
            next: (&raw mut ORIGINALS).cast::<*mut c_void>().add(place),
            needed: false,
        });
        bindings.collect()
    }
}

/// The random bytes that a library asks of us where it would make them of what can't be recorded: drawn from the system,
/// through the table.
///
/// # Safety
/// As a function of the table: called by an extension module's code.
pub unsafe fn random_bytes(into: *mut u8, count: usize) -> bool {
    let mut drawn = 0;
    while drawn < count {
        // SAFETY: by contract; no more is written than is left.
        let n = unsafe { enter_named(c"getrandom", [into.add(drawn) as usize, count - drawn, 0, 0, 0, 0, 0]) } as isize;
        match usize::try_from(n) {
            Ok(n) if n > 0 => drawn += n,
            _ => return false,
        }
    }
    true
}

fn place_of(name: &CStr) -> Option<usize> {
    FUNCTIONS.iter().position(|function| function.name == name)
}

/// The table's function for a system call that a module makes by `syscall`, where it takes and returns the same.
#[cfg(target_os = "linux")]
pub fn by_number(number: c_long) -> Option<usize> {
    const SAME: [(c_long, &CStr); 50] = [
        (libc::SYS_getrandom, c"getrandom"),
        (libc::SYS_clock_gettime, c"clock_gettime"),
        (libc::SYS_getpid, c"getpid"),
        (libc::SYS_gettid, c"gettid"),
        (libc::SYS_statx, c"statx"),
        (libc::SYS_openat, c"openat"),
        (libc::SYS_read, c"read"),
        (libc::SYS_write, c"write"),
        (libc::SYS_close, c"close"),
        (libc::SYS_pipe2, c"pipe2"),
        (libc::SYS_eventfd2, c"eventfd"),
        (libc::SYS_memfd_create, c"memfd_create"),
        (libc::SYS_epoll_create1, c"epoll_create1"),
        (libc::SYS_accept4, c"accept4"),
        (libc::SYS_getppid, c"getppid"),
        (libc::SYS_getuid, c"getuid"),
        (libc::SYS_geteuid, c"geteuid"),
        (libc::SYS_getgid, c"getgid"),
        (libc::SYS_getegid, c"getegid"),
        (libc::SYS_pread64, c"pread64"),
        (libc::SYS_pwrite64, c"pwrite64"),
        (libc::SYS_readv, c"readv"),
        (libc::SYS_writev, c"writev"),
        (libc::SYS_lseek, c"lseek"),
        (libc::SYS_fcntl, c"fcntl"),
        (libc::SYS_dup, c"dup"),
        (libc::SYS_dup3, c"dup3"),
        (libc::SYS_fsync, c"fsync"),
        (libc::SYS_fdatasync, c"fdatasync"),
        (libc::SYS_ftruncate, c"ftruncate"),
        (libc::SYS_fallocate, c"fallocate"),
        (libc::SYS_flock, c"flock"),
        (libc::SYS_copy_file_range, c"copy_file_range"),
        (libc::SYS_splice, c"splice"),
        (libc::SYS_newfstatat, c"fstatat"),
        (libc::SYS_fstat, c"fstat"),
        (libc::SYS_readlinkat, c"readlinkat"),
        (libc::SYS_unlinkat, c"unlinkat"),
        (libc::SYS_renameat, c"renameat"),
        (libc::SYS_renameat2, c"renameat2"),
        (libc::SYS_linkat, c"linkat"),
        (libc::SYS_symlinkat, c"symlinkat"),
        (libc::SYS_mkdirat, c"mkdirat"),
        (libc::SYS_utimensat, c"utimensat"),
        (libc::SYS_epoll_ctl, c"epoll_ctl"),
        (libc::SYS_epoll_pwait, c"epoll_pwait"),
        (libc::SYS_sysinfo, c"sysinfo"),
        (libc::SYS_uname, c"uname"),
        (libc::SYS_prlimit64, c"prlimit64"),
        (libc::SYS_getrusage, c"getrusage"),
    ];
    // The C library has no functions for these.
    const CACHESTAT: c_long = 451;
    const OWN: [(c_long, &CStr); 3] =
        [(libc::SYS_ioprio_get, c"ioprio_get"), (libc::SYS_ioprio_set, c"ioprio_set"), (CACHESTAT, c"cachestat")];
    static PLACES: std::sync::LazyLock<Vec<(c_long, usize)>> = std::sync::LazyLock::new(|| {
        let place = |&(number, name): &(c_long, &CStr)| {
            let place = place_of(name)?;
            // SAFETY: a name; whoever finds the place here comes after this.
            unsafe {
                if ORIGINALS[place].is_null() {
                    ORIGINALS[place] = match OWN.iter().find(|own| own.0 == number) {
                        Some(_) => libc::syscall as *mut c_void,
                        None => libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()),
                    };
                }
                (!ORIGINALS[place].is_null()).then_some((number, place))
            }
        };
        SAME.iter().chain(&OWN).filter_map(place).collect()
    });
    PLACES.iter().find(|entry| entry.0 == number).map(|entry| entry.1)
}

/// A call by `syscall` of the function that [`by_number`] found.
///
/// # Safety
/// As [`enter`].
#[cfg(target_os = "linux")]
pub unsafe fn enter_by_number(place: usize, args: Arguments) -> c_long {
    // SAFETY: by contract.
    let result = unsafe {
        // What the C library has no function for is called by its number.
        let [_, a, b, c, d, e, f] = args;
        let is_own = ORIGINALS[place] == libc::syscall as *mut c_void;
        enter(place, if is_own { args } else { [a, b, c, d, e, f, 0] })
    };
    // Of an int, what is above it in the register means nothing.
    if FUNCTIONS[place].returns == Returns::Int { (result as c_int).into() } else { result as c_long }
}

/// A call of a function of the table that no module need import.
///
/// # Safety
/// As [`enter`].
pub unsafe fn enter_named(name: &CStr, args: Arguments) -> usize {
    let Some(place) = place_of(name) else { return usize::MAX };
    // SAFETY: by contract; a name. Whoever finds the place filled finds the C library's own function there.
    unsafe {
        if ORIGINALS[place].is_null() {
            ORIGINALS[place] = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        }
        enter(place, args)
    }
}

/// What the processor's time stamp counter says.
///
/// # Safety
/// As [`enter`].
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub unsafe fn time_stamp() -> u64 {
    extern "C" fn read() -> u64 {
        // SAFETY: nothing but the instruction.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    static PLACE: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        let place = place_of(crate::libc_table::TIME_STAMP).expect("it is in the table");
        // SAFETY: whoever finds the place here comes after this.
        unsafe { ORIGINALS[place] = read as *mut c_void };
        place
    });
    // SAFETY: by contract.
    unsafe { enter(*PLACE, [0; 7]) as u64 }
}

/// A call arrives.
///
/// # Safety
/// Called by a trampoline with the arguments of the function at `place`.
pub unsafe fn enter(place: usize, args: Arguments) -> usize {
    if maps::is_memory(&FUNCTIONS[place], &args) {
        // SAFETY: by contract.
        return unsafe { original(place, &args) };
    }
    let _inside = turns::enter();
    // SAFETY: by contract.
    unsafe {
        match native_handlers::mode() {
            Mode::Recording if schedule::logs_native_calls() => record(place, &args),
            // A part of an external call, during which others go on.
            Mode::Recording if may_wait(place, &args) && turns::has() => turns::without(|| original(place, &args)),
            Mode::Recording if !FUNCTIONS[place].asks && !schedule::is_ours() => {
                crate::unrecorded::called_by_thread(place);
                original(place, &args)
            }
            Mode::Replaying => replay(place, &args),
            Mode::Diverted => refused(place),
            Mode::Off if retrace_abi::gil::retrace_handlers() != 0 => in_handler(place, &args),
            _ => original(place, &args),
        }
    }
}

/// A call by a signal's handler.
unsafe fn in_handler(place: usize, args: &Arguments) -> usize {
    let function = &FUNCTIONS[place];
    // SAFETY: by the contract of `enter`.
    unsafe {
        match session::mode() {
            Mode::Recording if function.name == c"write" => {
                handler_writes::writes(args[0] as c_int, args[1] as *const u8, args[2]);
                original(place, args)
            }
            Mode::Replaying => handler_writes::answer(function, args).unwrap_or_else(|| original(place, args)),
            _ => original(place, args),
        }
    }
}

/// The name of the function that was refused last; null for none.
static REFUSED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Remembers that a function was refused to code that a debugger evaluates.
pub fn remember_refused(name: &'static CStr) {
    // Relaxed: for a message.
    REFUSED.store(name.as_ptr().cast_mut(), Ordering::Relaxed);
}

/// The function that was refused since this was last asked.
pub fn refused_call() -> Option<&'static str> {
    let name = REFUSED.swap(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: null, or from a C string that lives for ever.
    if name.is_null() { None } else { unsafe { CStr::from_ptr(name) }.to_str().ok() }
}

/// The answer to code that a debugger evaluates, for which nothing is recorded: it is not permitted.
fn refused(place: usize) -> usize {
    platform::set_errno(libc::EPERM);
    remember_refused(FUNCTIONS[place].name);
    match FUNCTIONS[place].returns {
        Returns::Int | Returns::Long | Returns::Map | Returns::Attached => usize::MAX,
        Returns::Code => libc::EPERM as usize,
        Returns::Text
        | Returns::TextAt(_)
        | Returns::Record(_)
        | Returns::Known(_)
        | Returns::Stream
        | Returns::Semaphore
        | Returns::Directory
        | Returns::Entry
        | Returns::Nothing => 0,
    }
}

/// Calls the library's function. Its arguments are where it looks for them, and more behind them, which it does not see.
unsafe fn original(place: usize, args: &Arguments) -> usize {
    // SAFETY: by the contract of `enter`; `rebind` filled the place before its trampoline became reachable.
    unsafe {
        let function = std::mem::transmute::<*mut c_void, crate::trampoline::LibcCall>(ORIGINALS[place]);
        let [a, b, c, d, e, f, g] = *args;
        function(a, b, c, d, e, f, g)
    }
}

/// Whether the call may wait for somebody. A driver's sockets don't, mostly: it asks `poll` when to read, and then reads an
/// answer in many small pieces, for each of which the turn would go to and fro.
unsafe fn may_wait(place: usize, args: &Arguments) -> bool {
    match FUNCTIONS[place].waits {
        Waits::Never => false,
        Waits::Always => true,
        Waits::Milliseconds(at) => args[at] as c_int != 0,
        Waits::Descriptor { flags } => {
            if flags.is_some_and(|at| args[at] as c_int & libc::MSG_DONTWAIT != 0) {
                return false;
            }
            let errno = platform::errno();
            // SAFETY: asks about a descriptor that the caller is about to use.
            let settings = unsafe { libc::fcntl(args[0] as c_int, libc::F_GETFL) };
            platform::set_errno(errno);
            settings == -1 || settings & libc::O_NONBLOCK == 0
        }
    }
}

/// Whether a call that does not wait found nothing to do.
fn got_nothing(function: &Function, result: usize) -> bool {
    let result = result as c_int;
    match function.waits {
        Waits::Milliseconds(_) => result == 0,
        _ => result == -1 && matches!(platform::errno(), libc::EAGAIN | libc::EINPROGRESS),
    }
}

/// Whether what was returned says that the call failed.
fn failed(returns: Returns, result: usize) -> bool {
    match returns {
        Returns::Int => (result as c_int) < 0,
        Returns::Long => (result as c_long) < 0,
        Returns::Code => result as c_int != 0,
        Returns::Map | Returns::Attached => result as *mut c_void == libc::MAP_FAILED,
        Returns::Nothing => false,
        _ => result == 0,
    }
}

// ---- recording ----

unsafe fn record(place: usize, args: &Arguments) -> usize {
    let function = &FUNCTIONS[place];
    // SAFETY: by the contract of `enter`.
    unsafe {
        // Before the call: what it writes may lie where it reads.
        let arguments = memory::inputs(function, args);
        let rooms = memory::rooms(function, args);
        let result = if function.waits == Waits::Never || !turns::has() {
            original(place, args)
        } else if may_wait(place, args) {
            turns::without(|| original(place, args))
        } else {
            let result = original(place, args);
            if got_nothing(function, result) {
                // Who asks again and again lets others go on.
                turns::without(|| ());
            } else {
                turns::pass_up();
            }
            result
        };
        let errno = platform::errno();
        let failed = failed(function.returns, result);
        if !failed {
            watches::note(function, args, result);
            ipc::note(function, args[0], result);
        }
        let buffers = memory::outputs(function, args, &rooms, result, failed);
        let call = Call {
            hook: HOOKS.get()[place].index,
            at: caller(),
            arguments: Some(arguments),
            outcome: Outcome::General(Box::new(General {
                result: Some(memory::result_value(function, args, result)),
                buffers: (!buffers.is_empty()).then_some(buffers),
                extra: if failed { Some(Value::Int(errno.into())) } else { maps::written(function, args, result) },
                ..General::default()
            })),
        };
        handler_writes::log();
        schedule::append_native_call(call);
        platform::set_errno(errno);
        result
    }
}

/// The offset in the Python code that called the module, where the calling thread has the GIL.
unsafe fn caller() -> u16 {
    // SAFETY: the thread state is looked at with the GIL only.
    unsafe {
        if !schedule::holds_gil() || retrace_abi::thread_state().is_null() {
            return NO_FRAME;
        }
        crate::record::caller_offset()
    }
}

// ---- replaying ----

unsafe fn replay(place: usize, args: &Arguments) -> usize {
    let function = &FUNCTIONS[place];
    // SAFETY: by the contract of `enter`.
    unsafe {
        if !schedule::is_ours() {
            return elsewhere(place, args);
        }
        let with_gil = user_threads::has_gil();
        if with_gil && crate::thread::current().external.get() {
            return original(place, args);
        }
        let hook = HOOKS.get()[place];
        let arguments = memory::inputs(function, args);
        let in_turn = with_gil || turns::has();
        if function.waits != Waits::Never && turns::has() {
            user_threads::pause();
        }
        handler_writes::replay();
        let call = if in_turn { replay::native_call(hook) } else { user_threads::released_call(hook) };
        if !memory::same(call.arguments.as_deref().unwrap_or_default(), &arguments) || call.at != caller() {
            let shown: Vec<String> = arguments.iter().map(Value::to_string).collect();
            let met = format!("{}({}) by C code", hook.name, shown.join(", "));
            if with_gil {
                divergence::stop_at(&met);
            }
            user_threads::lost_without_gil(met);
        }
        if in_turn {
            user_threads::pass_native_call();
        }
        answer(function, args, call.outcome)
    }
}

/// Does what the recorded call did to the module's memory, and returns what it returned.
unsafe fn answer(function: &Function, args: &Arguments, outcome: Outcome) -> usize {
    let Outcome::General(general) = outcome else { return 0 };
    // SAFETY: by the contract of `enter`.
    unsafe {
        let rooms = memory::rooms(function, args);
        let buffers = general.buffers.unwrap_or_default();
        memory::write_outputs(function, args, &rooms, &buffers);
        let result = if let (Returns::Map, Some(Value::Tuple(described))) = (function.returns, &general.result) {
            maps::make(args, described, &buffers).unwrap_or_else(|why| {
                if user_threads::has_gil() {
                    divergence::stop_at(&why);
                }
                user_threads::lost_without_gil(why)
            })
        } else {
            memory::make_result(function, args, general.result.as_ref(), &buffers)
        };
        if !failed(function.returns, result) {
            watches::note(function, args, result);
            ipc::note(function, args[0], result);
            if function.name == c"shmdt" {
                ipc::detach(args[0]);
            }
            let opened = if function.returns == Returns::Directory { directories::fd(result) } else { result as c_int };
            descriptors(function, args, opened);
            if function.name == c"closedir" {
                console::effect(Fds::Close, directories::close(args[0]).into(), 0, 0);
            }
            echo(function, args, result);
            if let Some(said) = &general.extra {
                let bytes = memory::gathered(function, args);
                maps::write(said, &bytes[..result.min(bytes.len())]);
            }
            if function.name == c"read" {
                handler_writes::reads(args[0] as c_int, std::slice::from_raw_parts_mut(args[1] as *mut u8, result));
            }
            if function.name == c"clock_gettime" {
                time_stamps::clock_read(args[0] as c_int, &*(args[1] as *const libc::timespec));
            }
        }
        if let Some(errno) = general.extra.as_ref().and_then(Value::as_int) {
            platform::set_errno(errno as c_int);
        }
        result
    }
}

/// Keeps the numbers of recorded descriptors taken.
unsafe fn descriptors(function: &Function, args: &Arguments, result: c_int) {
    // SAFETY: replaying, on its one thread; a pair's address is the argument that the table says is written.
    unsafe {
        let [first, second, third] = [args[0] as c_int, args[1] as c_int, result].map(i64::from);
        if function.fds == Fds::OpenBoth {
            let at = function.arguments.iter().position(|shape| matches!(shape, Shape::Out(_))).unwrap_or_default();
            let pair = args[at] as *const [c_int; 2];
            console::effect(Fds::Open, first, second, (*pair)[0].into());
            console::effect(Fds::Open, first, second, (*pair)[1].into());
            handler_writes::opens(*pair);
        } else if function.fds != Fds::None {
            console::effect(function.fds, first, second, third);
        }
    }
}

/// Shows what the module wrote to stdout or stderr.
unsafe fn echo(function: &Function, args: &Arguments, result: usize) {
    let writes = matches!(function.name.to_bytes(), b"write" | b"send" | b"writev");
    if !writes {
        return;
    }
    // SAFETY: as in `descriptors`; as many bytes as the recorded call wrote were given to it.
    unsafe {
        let bytes = memory::gathered(function, args);
        let written = result.min(bytes.len());
        console::show_bytes((args[0] as c_int).into(), &bytes[..written]);
    }
}

/// A thread of a library's own, which no replay has a say over.
unsafe fn elsewhere(place: usize, args: &Arguments) -> usize {
    let function = &FUNCTIONS[place];
    if !function.asks {
        let name = function.name.to_string_lossy();
        eprintln!(
            "retrace: a thread that a library made for itself calls {name} here: what such threads do was not recorded \
             (retrace info says what can be done)"
        );
        // SAFETY: ends the process.
        unsafe { libc::_exit(divergence::EXIT_STATUS) };
    }
    // SAFETY: by the contract of `enter`.
    unsafe { original(place, args) }
}
