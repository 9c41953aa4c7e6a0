//! The start of a session. The interpreter is initialised as ever; when CPython says that it is about to run the
//! program (the `cpython.run_*` audit events), recording begins, or the recorded program is replayed.

use crate::call::Call;
use crate::capi::{PySys_AddAuditHook, PyThread_get_thread_ident, PyThread_get_thread_native_id};
use crate::children::{self, Parent};
use crate::decode::{Context, Decoder};
use crate::encode::{self, Encoder, put_bytes, put_int, put_str};
use crate::gil::GilCell;
use crate::modules;
use crate::python::{Owned, SavedError, attribute, loaded_module, string, text};
use crate::session::{self, Mode};
use crate::{record, replay};
use pyo3_ffi::*;
use retrace_abi::boundary;
use retrace_replay::event::code;
use retrace_replay::trace_writer::WriteError;
use retrace_replay::value::{Value, put_varint, tag};
use retrace_replay::{Options, Trace, TraceWriter};
use std::env;
use std::ffi::{CStr, CString, OsString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

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
/// Where this machine has extension modules; `sys.path` of the replaying interpreter before it was restored.
static LOCAL_PATH: GilCell<Vec<String>> = GilCell::new(Vec::new());

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
        let options = Options { max_bytes: self.max_bytes, python, recording_id: self.id, ..Options::default() };
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
        crate::signals::take_over();
        if retrace_abi::collector::retrace_collector_install(observer) < 0 {
            return Err("the garbage collector can't be taken over".into());
        }
        if observer.is_some() {
            crate::schedule::learn_collections()?;
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
            let diverged = replay_ended();
            crate::timeline::ended(if diverged { crate::divergence::EXIT_STATUS } else { 0 });
            if diverged {
                libc::_exit(crate::divergence::EXIT_STATUS);
            }
        } else {
            session::end_recording(-1);
        }
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

/// The program that is about to run.
struct Main {
    run: &'static str,
    /// The script's path, the module's name, or the command.
    what: String,
    source: Option<Vec<u8>>,
}

impl Main {
    unsafe fn of(run: Run, args: *mut PyObject) -> Result<Main, String> {
        // SAFETY: by the contract of `program_starts`.
        unsafe {
            let what = if PyTuple_Check(args) != 0 && PyTuple_GET_SIZE(args) > 0 {
                text(PyTuple_GET_ITEM(args, 0))
            } else {
                String::new()
            };
            let mut main = Main { run: run.name(), what, source: None };
            match run {
                Run::File => main.source = std::fs::read(&main.what).ok(),
                Run::Stdin => {
                    if libc::isatty(0) == 1 || is_interactive() {
                        return Err("an interactive session can't be recorded".into());
                    }
                    main.source = Some(take_stdin().map_err(|error| format!("stdin can't be read: {error}"))?);
                }
                // `python folder` and `python archive.zip` run the module __main__ without -m.
                Run::Module if main.what == "__main__" && !runs_module_option() => main.run = "path",
                Run::Module | Run::Command => {}
            }
            Ok(main)
        }
    }

    fn source_path(&self) -> Option<&str> {
        (self.run == "file" && self.source.is_some()).then_some(self.what.as_str())
    }
}

unsafe fn runs_module_option() -> bool {
    // SAFETY: the GIL is held; PySys_GetObject is borrowed.
    unsafe {
        let argv = PySys_GetObject(c"orig_argv".as_ptr());
        if argv.is_null() || PyList_Check(argv) == 0 {
            return false;
        }
        (1..PyList_GET_SIZE(argv)).any(|i| {
            let arg = text(PyList_GET_ITEM(argv, i));
            arg.starts_with('-') && !arg.starts_with("--") && arg.contains('m')
        })
    }
}

/// With `-i`, CPython runs each statement from a pipe as it comes, and whoever writes them may wait for its output.
unsafe fn is_interactive() -> bool {
    // SAFETY: the GIL is held; PySys_GetObject is borrowed.
    unsafe {
        let flags = PySys_GetObject(c"flags".as_ptr());
        let interactive = if flags.is_null() { Owned(ptr::null_mut()) } else { attribute(flags, c"interactive") };
        !interactive.is_null() && PyObject_IsTrue(interactive.0) == 1
    }
}

/// The program on stdin, which CPython is about to read through C's `stdin`: all of it, and put back.
fn take_stdin() -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::{AsRawFd, FromRawFd};
    // SAFETY: descriptor 0 stays open: ManuallyDrop.
    let mut stdin = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(0) });
    if let Ok(at) = stdin.stream_position() {
        let mut source = Vec::new();
        stdin.read_to_end(&mut source)?;
        stdin.seek(SeekFrom::Start(at))?;
        return Ok(source);
    }
    let mut source = Vec::new();
    stdin.read_to_end(&mut source)?;
    if source.len() <= 60 << 10 {
        // A pipe takes it whole, and stdin stays the pipe it was.
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(&source)?;
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(reader.as_raw_fd(), 0) };
    } else {
        let mut file = anonymous_file()?;
        file.write_all(&source)?;
        file.rewind()?;
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(file.as_raw_fd(), 0) };
    }
    Ok(source)
}

fn anonymous_file() -> std::io::Result<std::fs::File> {
    use std::os::fd::FromRawFd;
    // SAFETY: a new descriptor, owned by the File.
    unsafe {
        let fd = crate::platform::anonymous_file();
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(std::fs::File::from_raw_fd(fd))
    }
}

// ---- the start event ----

/// A dict under construction, in the trace's own form.
struct Dict {
    pairs: u64,
    bytes: Vec<u8>,
}

impl Dict {
    fn new() -> Dict {
        Dict { pairs: 0, bytes: Vec::new() }
    }

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.pairs += 1;
        put_str(&mut self.bytes, key);
        &mut self.bytes
    }

    fn text(&mut self, key: &str, value: &str) {
        put_str(self.key(key), value);
    }

    fn int(&mut self, key: &str, value: i64) {
        put_int(self.key(key), value);
    }

    fn bytes(&mut self, key: &str, value: &[u8]) {
        put_bytes(self.key(key), value);
    }

    fn dict(&mut self, key: &str, value: Dict) {
        let out = self.key(key);
        value.put(out);
    }

    /// # Safety
    /// `value` is live or null; the GIL is held.
    unsafe fn object(&mut self, key: &str, value: *mut PyObject) {
        let out = self.key(key);
        let none = [tag::NONE];
        if value.is_null() {
            out.extend_from_slice(&none);
        } else {
            // SAFETY: by contract.
            unsafe { Encoder::new(out, encode::Context::NONE).value(value) };
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(tag::DICT);
        put_varint(out, self.pairs);
        out.extend_from_slice(&self.bytes);
    }
}

/// Attributes of `sys` that follow from where and how the interpreter was started.
const SYS: [&CStr; 21] = [
    c"argv",
    c"orig_argv",
    c"path",
    c"executable",
    c"prefix",
    c"base_prefix",
    c"exec_prefix",
    c"base_exec_prefix",
    c"platlibdir",
    c"_base_executable",
    c"_stdlib_dir",
    c"_home",
    c"warnoptions",
    c"_xoptions",
    c"dont_write_bytecode",
    c"pycache_prefix",
    c"version",
    c"hexversion",
    c"_git",
    c"copyright",
    c"float_repr_style",
];

/// What modules that were loaded before the start computed from the outside.
const MODULE_STATE: [(&str, &[&CStr]); 2] = [
    ("time", &[c"tzname", c"timezone", c"altzone", c"daylight"]),
    ("site", &[c"ENABLE_USER_SITE", c"USER_SITE", c"USER_BASE", c"PREFIXES"]),
];

unsafe fn start_event(main: &Main, parent: Option<u32>, boundary: &[(PathBuf, String)]) -> Vec<u8> {
    // SAFETY: the GIL is held; what encoding runs is not recorded because no session is active yet.
    unsafe {
        let mut start = Dict::new();
        start.int("pid", std::process::id().into());
        start.int("ppid", libc::getppid().into());
        match parent {
            Some(parent) => start.int("parent", parent.into()),
            None => start.object("parent", ptr::null_mut()),
        }
        start.object("forked_at", ptr::null_mut());
        start.int("time_ns", now_ns());
        let mut sys = Dict::new();
        for name in SYS {
            let value = PySys_GetObject(name.as_ptr());
            if !value.is_null() {
                let key = name.to_string_lossy();
                sys.object(&key, value);
                start.object(&key, value);
            }
        }
        start.dict("sys", sys);
        start.object("flags", flags_tuple().0);
        start.text("cwd", &env::current_dir().unwrap_or_default().to_string_lossy());
        let mut environ = Dict::new();
        for (key, value) in env::vars_os() {
            environ.pairs += 1;
            put_bytes(&mut environ.bytes, key.as_bytes());
            put_bytes(&mut environ.bytes, value.as_bytes());
        }
        start.dict("environ", environ);
        let mut size = 0;
        let secret = retrace_abi::retrace_hash_secret(&mut size);
        start.bytes("hash_secret", std::slice::from_raw_parts(secret, size));
        start.text("run", main.run);
        start.text("main", &main.what);
        match &main.source {
            Some(source) => start.bytes("main_source", source),
            None => start.object("main_source", ptr::null_mut()),
        }
        start.object("modules", PyList_AsTupleOf(&modules::loaded_names()).0);
        let mut state = Dict::new();
        for (module, names) in MODULE_STATE {
            let object = loaded_module(module);
            if object.is_null() {
                continue;
            }
            let mut values = Dict::new();
            for name in names {
                let value = attribute(object, name);
                if !value.is_null() {
                    values.object(&name.to_string_lossy(), value.0);
                }
            }
            state.dict(module, values);
        }
        start.dict("module_state", state);
        let main_thread = start.key("main_thread");
        main_thread.push(tag::TUPLE);
        put_varint(main_thread, 2);
        put_int(main_thread, PyThread_get_thread_ident() as i64);
        put_int(main_thread, PyThread_get_thread_native_id() as i64);
        start.object("random_state", random_state().0);
        put_ignored_signals(start.key("ignored_signals"));
        let mut texts = Dict::new();
        for (file, text) in boundary {
            texts.text(&file.to_string_lossy(), text);
        }
        start.dict("boundary", texts);
        start.dict("importers", importers());
        let mut streams = Dict::new();
        for name in [c"stdin", c"stdout", c"stderr"] {
            put_stream(&mut streams, name);
        }
        start.dict("streams", streams);
        start.text("platform", env::consts::OS);
        start.text("machine", env::consts::ARCH);
        start.text("hostname", &hostname());
        let mut event = code::START.to_le_bytes().to_vec();
        start.put(&mut event);
        event
    }
}

/// The signals that the process was started with as ignored: `signal.getsignal()` shows them.
fn put_ignored_signals(out: &mut Vec<u8>) {
    let is_ignored = |number: &i32| {
        // SAFETY: only asks; the structure is plain data, for which zeros are valid.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(*number, ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
        }
    };
    let ignored: Vec<i32> = (1..65).filter(is_ignored).collect();
    out.push(tag::TUPLE);
    put_varint(out, ignored.len() as u64);
    for number in ignored {
        put_int(out, number.into());
    }
}

/// A tuple of strings.
#[allow(non_snake_case)]
unsafe fn PyList_AsTupleOf(names: &[String]) -> Owned {
    // SAFETY: the GIL is held.
    unsafe {
        let tuple = PyTuple_New(names.len() as Py_ssize_t);
        for (i, name) in names.iter().enumerate() {
            PyTuple_SET_ITEM(tuple, i as Py_ssize_t, string(name).into_raw());
        }
        Owned(tuple)
    }
}

fn now_ns() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as i64)
}

fn hostname() -> String {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer's own size; the last byte stays zero.
    unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    CStr::from_bytes_until_nul(&buffer).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

unsafe fn flags_tuple() -> Owned {
    // SAFETY: the GIL is held; `sys.flags` is a struct sequence.
    unsafe {
        let flags = PySys_GetObject(c"flags".as_ptr());
        Owned(PySequence_Tuple(flags))
    }
}

/// The state of the shared generator, where `random` was loaded before the start (a site customisation did): it was
/// seeded from entropy that nobody recorded.
unsafe fn random_state() -> Owned {
    // SAFETY: the GIL is held.
    unsafe {
        let random = loaded_module("random");
        if random.is_null() {
            return Owned(ptr::null_mut());
        }
        let shared = attribute(random, c"_inst");
        if shared.is_null() { Owned(ptr::null_mut()) } else { crate::seed::state_of(shared.0) }
    }
}

unsafe fn importers() -> Dict {
    let mut dict = Dict::new();
    // SAFETY: the GIL is held.
    unsafe {
        let cache = PySys_GetObject(c"path_importer_cache".as_ptr());
        let (mut position, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while !cache.is_null() && PyDict_Next(cache, &mut position, &mut key, &mut value) != 0 {
            if value == Py_None() {
                dict.object(&text(key), ptr::null_mut());
            } else if is_file_finder(value) {
                dict.object(&text(key), attribute(value, c"path").0);
            }
        }
    }
    dict
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

/// How a standard stream was set up: it decides where its output is cut into writes.
unsafe fn put_stream(streams: &mut Dict, name: &CStr) {
    // SAFETY: the GIL is held.
    unsafe {
        let stream = PySys_GetObject(name.as_ptr());
        let key = name.to_string_lossy();
        if stream.is_null() || stream == Py_None() {
            return streams.object(&key, ptr::null_mut());
        }
        let mut settings = Dict::new();
        for field in [c"encoding", c"errors", c"line_buffering", c"write_through"] {
            settings.object(&field.to_string_lossy(), attribute(stream, field).0);
        }
        let buffer = attribute(stream, c"buffer");
        let raw = if buffer.is_null() { Owned(ptr::null_mut()) } else { attribute(buffer.0, c"raw") };
        let size = if raw.is_null() { Owned(ptr::null_mut()) } else { attribute(raw.0, c"_blksize") };
        settings.object("buffer_size", size.0);
        streams.dict(&key, settings);
    }
}

/// The start event of a process that was forked from a recorded one.
///
/// # Safety
/// Recording, in the child; the GIL is held.
pub unsafe fn record_forked_child(parent: u32, fork: u64) {
    // SAFETY: by contract.
    unsafe {
        let mut start = Dict::new();
        start.int("pid", std::process::id().into());
        start.int("ppid", libc::getppid().into());
        start.int("parent", parent.into());
        start.int("forked_at", fork as i64);
        start.int("time_ns", now_ns());
        for name in [c"argv", c"orig_argv", c"executable", c"version"] {
            start.object(&name.to_string_lossy(), PySys_GetObject(name.as_ptr()));
        }
        let mut event = code::START.to_le_bytes().to_vec();
        start.put(&mut event);
        session::append(&[&event]);
        let hooks = record::hooks_event(0, crate::hook::all());
        session::append(&[&hooks]);
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
        let mut decoder = Decoder { source: &mut events, context: Context::NONE };
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

/// Runs the program. CPython itself was started to run a stub in place of what is not on this machine any more, and
/// goes on with it when we return 0.
unsafe fn run_main(run: Run, start: *mut PyObject) -> c_int {
    // SAFETY: as in `begin_replay`.
    unsafe {
        let kind = text(item(start, c"run"));
        match kind.as_str() {
            "file" => run_source(start, &text(item(start, c"main"))),
            "stdin" => run_source(start, "<stdin>"),
            "path" => {
                let runpy = Owned(PyImport_ImportModule(c"runpy".as_ptr()));
                if runpy.is_null() {
                    return -1;
                }
                let name = c"_run_module_as_main".as_ptr();
                let done = Owned(PyObject_CallMethod(runpy.0, name, c"si".as_ptr(), c"__main__".as_ptr(), 0));
                if done.is_null() { -1 } else { 0 }
            }
            _ if kind == run.name() => 0,
            other => refuse(&format!("the recording ran a {other}, this interpreter was started for a {}", run.name())),
        }
    }
}

unsafe fn run_source(start: *mut PyObject, name: &str) -> c_int {
    use std::io::{Seek, Write};
    use std::os::fd::IntoRawFd;
    // SAFETY: as in `begin_replay`; the stream owns the descriptor and CPython closes it.
    unsafe {
        let source = item(start, c"main_source");
        if source.is_null() || PyBytes_Check(source) == 0 {
            refuse("the recording has no source of the main program");
        }
        let file = anonymous_file().and_then(|mut file| {
            file.write_all(encode::bytes_of(source))?;
            file.rewind()?;
            Ok(file)
        });
        let Ok(file) = file else { refuse("no memory for the main program") };
        let stream = libc::fdopen(file.into_raw_fd(), c"rb".as_ptr());
        let name = CString::new(name).unwrap_or_default();
        let mut flags = PyCompilerFlags { cf_flags: 0, cf_feature_version: retrace_abi::MINOR.into() };
        if PyRun_AnyFileExFlags(stream.cast(), name.as_ptr(), 1, &mut flags) == 0 {
            return 0;
        }
        // CPython printed the exception. Its exit status is 1, and SystemExit is the quiet way to it.
        let one = Owned(PyLong_FromLong(1));
        PyErr_SetObject(PyExc_SystemExit, one.0);
        -1
    }
}

/// A recorded source as an open file, by its path; `None` where the trace has no such source.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn source_file(path: &str) -> Option<i32> {
    use std::io::{Seek, Write};
    use std::os::fd::IntoRawFd;
    if !path.ends_with(".py") {
        return None;
    }
    // SAFETY: by contract.
    let (trace, process) = unsafe { replayed_trace() }?;
    let descent = trace.descent(process).ok()?;
    // A forked child's earlier sources are its ancestors'.
    let processes = descent.forks.iter().rev().map(|(_, process)| *process).chain([descent.ancestor]);
    let source = processes
        .filter_map(|process| trace.sources(process).ok())
        .find_map(|mut sources| sources.find_map(|source| source.ok().filter(|s| s.path.to_string_lossy() == path)))?;
    let mut file = anonymous_file().ok()?;
    file.write_all(&source.contents().ok()?).ok()?;
    file.rewind().ok()?;
    Some(file.into_raw_fd())
}

/// `sys.path` as it is now.
unsafe fn module_path() -> Vec<String> {
    // SAFETY: the GIL is held.
    unsafe {
        let path = PySys_GetObject(c"path".as_ptr());
        if path.is_null() || PyList_Check(path) == 0 {
            return Vec::new();
        }
        (0..PyList_GET_SIZE(path)).map(|i| text(PyList_GET_ITEM(path, i))).collect()
    }
}

unsafe fn remember_local_path() {
    // SAFETY: the GIL is held.
    unsafe { *LOCAL_PATH.get() = module_path() };
}

/// A spec whose origin points at this machine's file until dropped.
pub struct LocalExtension {
    spec: Owned,
    origin: Owned,
}

impl Drop for LocalExtension {
    fn drop(&mut self) {
        // SAFETY: the GIL is held; an error of the creation in progress is kept.
        unsafe {
            let saved = SavedError::take();
            if PyObject_SetAttrString(self.spec.0, c"origin".as_ptr(), self.origin.0) < 0 {
                PyErr_Clear();
            }
            drop(saved);
        }
    }
}

/// An extension module is about to be created: where the recorded file is not there, this machine's own is taken, by
/// its place relative to a folder of the module path.
///
/// # Safety
/// Replaying; the GIL is held; `call` is one of `_imp.create_*`.
pub unsafe fn local_extension(call: &Call) -> Option<LocalExtension> {
    // SAFETY: by contract.
    unsafe {
        if call.hook.name != "_imp.create_dynamic" {
            return None;
        }
        let spec = *call.args.first()?;
        let origin = attribute(spec, c"origin");
        let recorded = text(origin.0);
        if recorded.is_empty() || Path::new(&recorded).exists() {
            return None;
        }
        let found = find_locally(Path::new(&recorded))?;
        let local = string(found.to_str()?);
        if PyObject_SetAttrString(spec, c"origin".as_ptr(), local.0) < 0 {
            PyErr_Clear();
            return None;
        }
        Some(LocalExtension { spec: Owned::borrowed(spec), origin })
    }
}

unsafe fn find_locally(recorded: &Path) -> Option<PathBuf> {
    // SAFETY: the GIL is held.
    let (folders, recorded_folders) = unsafe { (&*LOCAL_PATH.get(), module_path()) };
    let below = |tail: &Path| folders.iter().map(|folder| Path::new(folder).join(tail)).find(|path| path.exists());
    // By the name that the module has below a folder of the recorded path; in an environment of its own that is another
    // folder than the interpreter's, which may have another version of the same.
    let mut tails: Vec<&Path> =
        recorded_folders.iter().filter_map(|folder| recorded.strip_prefix(folder).ok()).collect();
    tails.sort_by_key(|tail| tail.components().count());
    if let Some(found) = tails.into_iter().find_map(below) {
        return Some(found);
    }
    // Else the longest tail of the recorded path that exists below one of our folders.
    let parts: Vec<_> = recorded.components().collect();
    (1..parts.len()).find_map(|skipped| below(&parts[skipped..].iter().collect::<PathBuf>()))
}
