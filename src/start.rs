//! The start of a session. The interpreter is initialised as ever; when CPython says that it is about to run the
//! program (the `cpython.run_*` audit events), recording begins, or the recorded program is replayed.

mod event;
mod local_modules;
mod program;

use crate::capi::PySys_AddAuditHook;
use crate::children::{self, Parent};
use crate::decode::{Context, Decoder};
use crate::gil::GilCell;
use crate::modules;
use crate::python::{Owned, SavedError, attribute, text};
use crate::session::{self, Mode};
use crate::{record, replay};
use pyo3_ffi::*;
use retrace_abi::boundary;
use retrace_replay::event::code;
use retrace_replay::trace_writer::WriteError;
use retrace_replay::value::Value;
use retrace_replay::{Options, Trace, TraceWriter};
use std::env;
use std::ffi::{CStr, OsString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

pub use event::record_forked_child;
use event::start_event;
pub use local_modules::local_extension;
use local_modules::remember_local_path;
pub use program::source_file;
use program::{Main, run_main};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    File,
    Module,
    Command,
    Stdin,
}

impl Run {
    fn name(self) -> &'static str {
        match self {
            Run::File => "file",
            Run::Module => "module",
            Run::Command => "command",
            Run::Stdin => "stdin",
        }
    }
}

/// What was asked for, until the program starts.
enum Plan {
    Record(Recording),
    Replay { trace: Trace, process: u32, strict: bool },
    Doctor,
}

/// What is recorded, and where.
struct Recording {
    path: PathBuf,
    /// The command line's: whoever finds the recording of this id at the path joins it.
    id: Option<[u8; 16]>,
    /// The recorded process that started this one. Then the recording is there already, or nothing is recorded.
    parent: Option<u32>,
    max_bytes: Option<u64>,
    full_arguments: bool,
    boundary: Option<OsString>,
}

static PLAN: GilCell<Option<Plan>> = GilCell::new(None);
static REPLAYED: GilCell<Option<(Trace, u32)>> = GilCell::new(None);
static mut QUIET: bool = false;

/// Exit status of a replay whose recording ends before the program does.
pub fn status_at_cut() -> i32 {
    71
}

/// # Safety
/// The GIL is held.
pub unsafe fn is_quiet() -> bool {
    // SAFETY: by contract.
    unsafe { QUIET }
}

/// The trace that is replayed, and the process.
///
/// # Safety
/// The GIL is held.
pub unsafe fn replayed_trace() -> Option<(&'static Trace, u32)> {
    // SAFETY: by contract; never cleared.
    unsafe { REPLAYED.get().as_ref().map(|(trace, process)| (trace, *process)) }
}

/// Reads what the command line tool left in the environment, and takes it out again: the program may not see it.
///
/// # Safety
/// Before the interpreter is initialised: this thread is the only one.
pub unsafe fn prepare_from_environment() -> bool {
    let plan = if let Some(path) = env::var_os("RETRACE_REPLAY") {
        let process = env::var("RETRACE_PROCESS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        // SAFETY: by contract.
        unsafe {
            crate::attempt::from_environment();
            crate::timeline::from_environment();
            crate::patience::from_environment();
        }
        match Trace::open(&path) {
            Ok(trace) => Plan::Replay { trace, process, strict: env::var_os("RETRACE_STRICT").is_some() },
            Err(error) => {
                eprintln!("retrace: {error}");
                std::process::exit(2);
            }
        }
    } else if env::var_os("RETRACE_DOCTOR").is_some() {
        Plan::Doctor
    } else if let Some(recording) = Recording::wanted(None) {
        Plan::Record(recording)
    } else {
        return false;
    };
    // SAFETY: by contract.
    unsafe {
        QUIET = env::var_os("RETRACE_QUIET").is_some();
        for name in ["RETRACE_REPLAY", "RETRACE_PROCESS", "RETRACE_STRICT", "RETRACE_QUIET", "RETRACE_DOCTOR"]
            .into_iter()
            .chain(OURS)
            .chain(crate::attempt::VARIABLES)
            .chain([crate::timeline::VARIABLE, crate::patience::VARIABLE])
        {
            env::remove_var(name);
        }
        *PLAN.get() = Some(plan);
        PySys_AddAuditHook(crate::entry::audit, ptr::null_mut());
    }
    true
}

/// Variables that say what to record, as `cshim/preload_environment.h` and `python/retrace/_start.py` know them.
const OURS: [&str; 7] = [
    "RETRACE_LIBRARY_DIR",
    "RETRACE_ARGUMENTS",
    "RETRACE_BOUNDARY",
    "RETRACE_PARENT",
    "RETRACE_RECORDING",
    "RETRACE_ID",
    "RETRACE_MAX_SIZE",
];

impl Recording {
    /// What `file`, or else the environment, asks for. A file that is named wins over the recording that the process
    /// was born into, unless it is the same: a program that starts itself again has its command line once more.
    fn wanted(file: Option<PathBuf>) -> Option<Recording> {
        let named = file.or_else(|| env::var_os("RETRACE_RECORDING").map(PathBuf::from));
        if named.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return None;
        }
        let named = named.map(|path| std::path::absolute(&path).unwrap_or(path));
        let parent = env::var_os("RETRACE_PARENT").and_then(|text| Parent::parse(&text));
        let parent = parent.filter(|parent| named.as_ref().is_none_or(|path| *path == parent.path));
        let id = env::var_os("RETRACE_ID").and_then(|text| children::parse_id(text.as_bytes()));
        Some(Recording {
            id: parent.as_ref().map(|parent| parent.recording).or(id),
            parent: parent.as_ref().map(|parent| parent.process),
            path: named.or_else(|| parent.map(|parent| parent.path))?,
            max_bytes: env::var("RETRACE_MAX_SIZE").ok().and_then(|n| n.parse().ok()),
            full_arguments: env::var("RETRACE_ARGUMENTS").is_ok_and(|v| v == "full"),
            boundary: env::var_os("RETRACE_BOUNDARY"),
        })
    }

    /// The trace's writer. `None` where this is a child and its parent's recording is not there any more: moved,
    /// removed, or replaced by another.
    fn open(&self) -> Result<Option<TraceWriter>, WriteError> {
        let joined = self.id.map(|id| TraceWriter::join_recording(&self.path, &id));
        if self.parent.is_some() || matches!(joined, Some(Ok(_))) {
            return Ok(joined.and_then(Result::ok));
        }
        if self.id.is_none() && TraceWriter::is_being_recorded(&self.path) {
            return TraceWriter::join(&self.path).map(Some);
        }
        let python = 3 << 8 | u32::from(retrace_abi::MINOR);
        let options = Options { python, recording_id: self.id, ..Options::limited(self.max_bytes) };
        match (TraceWriter::create(&self.path, &options), self.id) {
            // Two programs that were started at once: the other one was first.
            (Err(_), Some(id)) if TraceWriter::is_being_recorded(&self.path) => {
                TraceWriter::join_recording(&self.path, &id).map(Some)
            }
            (created, _) => created.map(Some),
        }
    }
}

/// `retrace.start(path)`, from a `.pth` file.
///
/// # Safety
/// The GIL is held.
pub unsafe fn prepare_recording(path: Option<PathBuf>) {
    // SAFETY: by contract.
    unsafe {
        if session::is_active() || PLAN.get().is_some() {
            return;
        }
        let Some(recording) = Recording::wanted(path) else { return };
        *PLAN.get() = Some(Plan::Record(recording));
        if PySys_AddAuditHook(crate::entry::audit, ptr::null_mut()) < 0 {
            PyErr_Clear();
            *PLAN.get() = None;
        }
    }
}

/// Python code runs before CPython has said that it is about to run a program. Where a host runs it, which has no use for
/// CPython's own main, nothing will say so: that no session begins is said here.
///
/// # Safety
/// Called from the audit hook with the GIL held.
pub unsafe fn something_runs(event: &[u8]) {
    static IS_HOST: GilCell<Option<bool>> = GilCell::new(None);
    // SAFETY: by contract.
    unsafe {
        let ends = event == b"cpython._PySys_ClearAuditHooks";
        if !ends && Py_IsInitialized() == 0 || !matches!(PLAN.get(), Some(Plan::Record(_))) {
            return;
        }
        let is_host = *IS_HOST.get().get_or_insert_with(|| !crate::libraries::has_main());
        // An executable that CPython is linked into has the functions, whether it calls them or not.
        if !is_host && !ends {
            return;
        }
        let Some(Plan::Record(recording)) = PLAN.get().take() else { return };
        match (recording.parent, recording.id) {
            // A child's stderr is its parent's to read.
            (Some(_), Some(id)) => TraceWriter::count_unrecorded_program(&recording.path, &id),
            _ => eprintln!(
                "retrace: this program runs Python without CPython's own main (Py_Main, Py_RunMain), so no recording \
                 begins; it runs unrecorded"
            ),
        }
    }
}

/// The hash secret of the recording that will be replayed.
pub fn recorded_hash_secret() -> Option<Vec<u8>> {
    // SAFETY: called while the interpreter is being initialised: one thread.
    let plan = unsafe { PLAN.get().as_ref() };
    let Some(Plan::Replay { trace, process, .. }) = plan else { return None };
    match trace.start(trace.descent(*process).ok()?.ancestor)?.get("hash_secret")? {
        Value::Bytes(secret) => Some(secret.clone()),
        _ => None,
    }
}

/// CPython is about to run the program. 0, or -1 with an exception that ends the interpreter.
///
/// # Safety
/// Called from the audit hook with the GIL held; `args` is the event's tuple.
pub unsafe fn program_starts(run: Run, args: *mut PyObject) -> c_int {
    // SAFETY: by contract.
    unsafe {
        let Some(plan) = PLAN.get().take() else { return 0 };
        if retrace_abi::retrace_shim_init() < 0 {
            let why = CStr::from_ptr(retrace_abi::retrace_shim_error()).to_string_lossy();
            if let Plan::Record(recording) = plan {
                if recording.parent.is_none() {
                    eprintln!("retrace: {why}; the program runs unrecorded");
                }
                return 0;
            }
            eprintln!("retrace: {why}");
            libc::_exit(2);
        }
        retrace_abi::learn();
        retrace_abi::retrace_remove_audit_hook(crate::entry::audit as *mut c_void);
        match plan {
            Plan::Record(recording) => {
                let saved = SavedError::take();
                if recording.parent.is_some() {
                    children::become_child();
                }
                if let Err(why) = begin_recording(run, args, &recording)
                    && recording.parent.is_none()
                {
                    eprintln!("retrace: {why}; the program runs unrecorded");
                }
                drop(saved);
                0
            }
            Plan::Replay { trace, process, strict } => begin_replay(run, trace, process, strict),
            Plan::Doctor => crate::doctor::print(),
        }
    }
}

/// A copy of the builtins as they were at the start, borrowed; never freed.
static mut BUILTINS: *mut PyObject = ptr::null_mut();

/// # Safety
/// The GIL is held; a session has begun.
pub unsafe fn builtins() -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        if BUILTINS.is_null() {
            BUILTINS = PyDict_Copy(PyEval_GetBuiltins());
        }
        BUILTINS
    }
}

/// What both directions do to the interpreter before the first event.
unsafe fn take_over(observer: Option<retrace_abi::collector::Observer>) -> Result<(), String> {
    // SAFETY: by the callers' contract.
    unsafe {
        crate::schedule::install(observer.is_none())?;
        if retrace_abi::identity::retrace_identity_install() < 0 {
            let why = CStr::from_ptr(retrace_abi::identity::retrace_identity_error()).to_string_lossy();
            return Err(why.into_owned());
        }
        retrace_abi::identity::retrace_identity_ask_external(crate::thread::is_external);
        retrace_abi::gil::retrace_fingerprint_ask_external(crate::external::has_stand_ins);
        crate::record::learn_evaluator();
        builtins();
        modules::hook_loaded()?;
        crate::library_locks::prepare(observer.is_some());
        crate::shared_memory::prepare();
        crate::thread_count::prepare();
        crate::address::prepare();
        crate::write_order::begin();
        crate::signals::take_over();
        if retrace_abi::collector::retrace_collector_install(observer) < 0 {
            return Err("the garbage collector can't be taken over".into());
        }
        if observer.is_none() {
            retrace_abi::collector::retrace_collected = Some(crate::deaths::collected);
        } else {
            crate::learning::learn_collections()?;
        }
        session::watch_collector(
            retrace_abi::collector::retrace_collector_count(),
            retrace_abi::collector::retrace_collector_limit(),
        );
        // Garbage from before the start would be found by the first collections, and differs between the processes.
        retrace_abi::collector::retrace_collect(2);
        Ok(())
    }
}

unsafe fn begin_recording(run: Run, args: *mut PyObject, recording: &Recording) -> Result<(), String> {
    // SAFETY: by the contract of `program_starts`.
    unsafe {
        let boundary = match &recording.boundary {
            Some(user) => boundary::user_texts(Path::new(user)).map_err(|error| error.to_string())?,
            None => Vec::new(),
        };
        modules::set_user_tables(boundary::load_user_texts(&boundary).map_err(|error| error.to_string())?);
        let main = Main::of(run, args)?;
        let Some(mut writer) = recording.open().map_err(|error| error.to_string())? else { return Ok(()) };
        if !crate::pickle::load() {
            let why = "the module _pickle can't be loaded";
            writer.stop(why);
            writer.close();
            return Err(why.into());
        }
        invalidate_finders();
        if let Err(why) = take_over(Some(record::collection_put_off)) {
            writer.stop(&why);
            writer.close();
            return Err(why);
        }
        let event = start_event(&main, recording.parent, &boundary);
        writer.append(&[&event]);
        if let Some(path) = main.source_path() {
            writer.add_source_bytes(path.as_bytes(), main.source.clone().unwrap_or_default());
        }
        children::begin(&writer, &recording.path, recording.full_arguments, recording.boundary.as_deref());
        session::begin_recording(writer, recording.full_arguments);
        record::announce_hooks();
        Py_AtExit(Some(at_exit));
        Ok(())
    }
}

extern "C" fn at_exit() {
    // SAFETY: the interpreter's last act (Py_FinalizeEx): nothing runs Python any more.
    unsafe {
        if session::is_replaying() {
            crate::turns::take_last();
            let diverged = replay_ended();
            if crate::turns::are_on() {
                // A library's threads go on no more, and what it does at the end may wait for them.
                crate::turns::end();
                crate::platform::at_exit(leave);
            }
            if diverged {
                crate::timeline::diverged();
                libc::_exit(crate::divergence::EXIT_STATUS);
            }
            crate::timeline::ended(0);
        } else {
            session::end_recording(-1);
        }
    }
}

extern "C" fn leave(status: c_int) {
    // SAFETY: ends the process, as `exit()` is doing.
    unsafe {
        libc::fflush(ptr::null_mut());
        libc::_exit(status);
    }
}

unsafe fn replay_ended() -> bool {
    // SAFETY: as in `at_exit`.
    unsafe {
        crate::console::show_held();
        let left = crate::divergence::events_left();
        session::set_mode(Mode::Off);
        left
    }
}

unsafe fn is_file_finder(finder: *mut PyObject) -> bool {
    // SAFETY: a live object.
    unsafe { crate::python::type_name(finder) == "FileFinder" }
}

/// Finders forget what they know of their folders, so that both directions read them anew. `invalidate_caches()` alone
/// keeps the names until they are next asked for, and those are in reach of the threads' fingerprints: what they hold
/// depends on what the process imported before its session, which a replay does otherwise.
///
/// # Safety
/// The GIL is held.
pub unsafe fn invalidate_finders() {
    // SAFETY: the GIL is held; the values are taken as a list.
    unsafe {
        let cache = PySys_GetObject(c"path_importer_cache".as_ptr());
        if cache.is_null() {
            return;
        }
        let finders = Owned(PyDict_Values(cache));
        for i in 0..PyList_GET_SIZE(finders.0) {
            let finder = PyList_GET_ITEM(finders.0, i);
            if is_file_finder(finder) {
                let done = PyObject_CallMethod(finder, c"invalidate_caches".as_ptr(), ptr::null());
                if done.is_null() {
                    PyErr_Clear();
                }
                drop(Owned(done));
                for names in [c"_path_cache", c"_relaxed_path_cache"] {
                    let names = attribute(finder, names);
                    // In place: a new set would count as an allocation in the midst of a session.
                    if !names.is_null() && PySet_Check(names.0) != 0 && PySet_Clear(names.0) != 0 {
                        PyErr_Clear();
                    }
                }
            }
        }
    }
}

// ---- replay ----

unsafe fn begin_replay(run: Run, trace: Trace, process: u32, strict: bool) -> c_int {
    // SAFETY: by the contract of `program_starts`.
    unsafe {
        let descent = match trace.descent(process) {
            Ok(descent) => descent,
            Err(error) => refuse(&error.to_string()),
        };
        let process = descent.ancestor;
        let mut events = match trace.events(process) {
            Ok(events) => events,
            Err(error) => refuse(&error.to_string()),
        };
        *REPLAYED.get() = Some((trace, process));
        let head = events.read_u16();
        if head != Ok(code::START) {
            refuse("the recording does not begin with a start event");
        }
        let mut decoder = Decoder::new(&mut events, Context::NONE);
        let start = match decoder.value() {
            Ok(start) if !start.is_null() && PyDict_Check(start.0) != 0 => start,
            Ok(_) => refuse("the recording's start event is not a dict"),
            Err(failure) => refuse(&failure.to_string()),
        };
        events.finish_event();
        replay::begin(events, strict, descent.forks);
        remember_local_path();
        if !crate::pickle::load() {
            refuse("the module _pickle can't be loaded");
        }
        restore(start.0);
        restore_boundary(item(start.0, c"boundary"));
        let main_thread = item(start.0, c"main_thread");
        if main_thread.is_null() || PyTuple_Check(main_thread) == 0 {
            refuse("the recording does not name its main thread");
        }
        let pid = item(start.0, c"pid");
        crate::user_threads::set_pid(if pid.is_null() { 0 } else { PyLong_AsLong(pid) });
        crate::user_threads::begin(PyLong_AsUnsignedLong(PyTuple_GetItem(main_thread, 0)));
        if let Err(why) = take_over(None) {
            refuse(&why);
        }
        crate::hook::take_unannounced();
        Py_AtExit(Some(at_exit));
        session::set_mode(Mode::Replaying);
        replay::settle();
        crate::timeline::begin();
        let started = item(start.0, c"time_ns");
        if let Some((trace, _)) = replayed_trace() {
            let started = if started.is_null() { 0 } else { PyLong_AsUnsignedLong(started) };
            crate::patience::begin(started, trace.path());
        }
        run_main(run, start.0)
    }
}

/// The events of another process of the trace, which the replay becomes.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn go_on_as(process: u32) -> retrace_replay::EventStream {
    // SAFETY: by contract.
    unsafe {
        let Some((trace, current)) = REPLAYED.get() else { refuse("there is no recording") };
        *current = process;
        match trace.events(process) {
            Ok(events) => events,
            Err(error) => refuse(&error.to_string()),
        }
    }
}

fn refuse(why: &str) -> ! {
    eprintln!("retrace: {why}");
    // SAFETY: ends the process.
    unsafe { libc::_exit(2) }
}

unsafe fn item(dict: *mut PyObject, key: &CStr) -> *mut PyObject {
    // SAFETY: a live dict; borrowed result.
    unsafe { PyDict_GetItemString(dict, key.as_ptr()) }
}

/// The user's own tables of the boundary, as the recording had them.
unsafe fn restore_boundary(texts: *mut PyObject) {
    // SAFETY: live or null; the GIL is held.
    unsafe {
        let mut recorded = Vec::new();
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while !texts.is_null()
            && PyDict_Check(texts) != 0
            && PyDict_Next(texts, &mut position, &mut key, &mut value) != 0
        {
            recorded.push((PathBuf::from(text(key)), text(value)));
        }
        match boundary::load_user_texts(&recorded) {
            Ok(tables) => modules::set_user_tables(tables),
            Err(error) => refuse(&error.to_string()),
        }
    }
}

/// Runs `restore.py` in a namespace of its own.
unsafe fn restore(start: *mut PyObject) {
    // SAFETY: the GIL is held.
    unsafe {
        let namespace = Owned(PyDict_New());
        PyDict_SetItemString(namespace.0, c"start".as_ptr(), start);
        if !crate::python::run(include_str!("restore.py"), namespace.0) {
            PyErr_Print();
            refuse("the recorded start can't be restored");
        }
        // Who watches the replay may interrupt it, whether the program ignored that or not.
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGINT, ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
        }
        // The functions hold their namespace: broken up here, so that no garbage of ours is left.
        PyDict_Clear(namespace.0);
        let flags = PySys_GetObject(c"flags".as_ptr());
        let recorded = item(start, c"flags");
        if !flags.is_null() && !recorded.is_null() && PyTuple_GET_SIZE(flags) == PyTuple_GET_SIZE(recorded) {
            for i in 0..PyTuple_GET_SIZE(flags) {
                let value = PyTuple_GET_ITEM(recorded, i);
                let before = PyTuple_GET_ITEM(flags, i);
                Py_INCREF(value);
                PyTuple_SET_ITEM(flags, i, value);
                Py_DECREF(before);
            }
        }
    }
}
