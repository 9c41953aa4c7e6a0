//! The program: what of it the recording keeps, and how a replay runs that.

use super::{Run, item, refuse, replayed_trace};
use crate::encode;
use crate::python::{Owned, attribute, text};
use pyo3_ffi::*;
use std::ffi::{CString, c_int};
use std::ptr;

/// The program that is about to run.
pub(super) struct Main {
    pub(super) run: &'static str,
    /// The script's path, the module's name, or the command.
    pub(super) what: String,
    pub(super) source: Option<Vec<u8>>,
}

impl Main {
    pub(super) unsafe fn of(run: Run, args: *mut PyObject) -> Result<Main, String> {
        // SAFETY: by the contract of `program_starts`.
        unsafe {
            let what = if PyTuple_Check(args) != 0 && PyTuple_GET_SIZE(args) > 0 {
                text(PyTuple_GET_ITEM(args, 0))
            } else {
                String::new()
            };
            let mut main = Main { run: run.name(), what, source: None };
            if is_interactive() {
                return Err("an interactive session can't be recorded".into());
            }
            match run {
                Run::File => main.source = std::fs::read(&main.what).ok(),
                Run::Stdin => {
                    if libc::isatty(0) == 1 {
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

    pub(super) fn source_path(&self) -> Option<&str> {
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
        // The latter alone where PYTHONINSPECT asks for it.
        [c"interactive", c"inspect"].into_iter().any(|name| {
            let flag = if flags.is_null() { Owned(ptr::null_mut()) } else { attribute(flags, name) };
            !flag.is_null() && PyObject_IsTrue(flag.0) == 1
        })
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

/// Runs the program. CPython itself was started to run a stub in place of what is not on this machine any more, and
/// goes on with it when we return 0.
pub(super) unsafe fn run_main(run: Run, start: *mut PyObject) -> c_int {
    // SAFETY: as in `begin_replay`.
    unsafe {
        let kind = text(item(start, c"run"));
        match kind.as_str() {
            "file" => run_source(start, &text(item(start, c"main"))),
            "stdin" => run_source(start, retrace_replay::start::STDIN),
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
        // Python code runs before the parser reads, and a debugger's checkpoint may stand there: its copies have the file's
        // offset in common. So all of it is in the stream's own memory from the beginning, which is never freed. Where the
        // C library knows the offset it keeps that memory when CPython, which looks for a .pyc's header, goes back to the
        // beginning.
        let length = encode::bytes_of(source).len();
        if length > 0 {
            libc::setvbuf(stream, Vec::leak(vec![0u8; length]).as_mut_ptr().cast(), libc::_IOFBF, length);
            libc::rewind(stream);
            libc::ungetc(libc::fgetc(stream), stream);
        }
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
