//! `retrace replay`: runs a recording again in an interpreter of the recorded version.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use retrace_replay::Trace;
use retrace_replay::start::Start;

use crate::attempts::{Attempts, Settings};
use crate::cli::ReplayArguments;
use crate::error::CliError;
use crate::interpreter::{self, Interpreter};
use crate::library::Library;
use crate::process::{self, Ending};
use crate::python_arguments::PythonArguments;
use crate::scratch::{self, Scratch};

/// A recorded process, and what it takes to replay it.
pub struct Replay {
    arguments: ReplayArguments,
    start: Start,
    python: PathBuf,
    library: Library,
    pub scratch: Scratch,
}

impl Replay {
    /// Checks the trace and finds an interpreter.
    pub fn prepare(arguments: &ReplayArguments) -> Result<Replay, CliError> {
        let trace = Trace::open(&arguments.file)?;
        // The stream has to exist even where its first event does not.
        trace.events(arguments.process)?;
        let no_start = || CliError::NoStart { path: arguments.file.clone(), process: arguments.process };
        // A forked process is replayed from where its ancestor was started.
        let ancestor = trace.descent(arguments.process)?.ancestor;
        let start = trace.start(ancestor).ok_or_else(no_start)?;
        let library = Library::find()?;
        let python = find_python(arguments, &trace, &start, &library)?;
        let scratch = Scratch::new().map_err(CliError::Scratch)?;
        Ok(Replay { arguments: arguments.clone(), start, python, library, scratch })
    }

    /// The attempts to be made.
    pub fn attempts(&self) -> Attempts {
        Attempts::new(self.scratch.path().join(scratch::ATTEMPT))
    }

    /// The command of one attempt.
    pub fn command(&self, settings: &Settings) -> Result<Command, CliError> {
        let mut command = command(&self.arguments, &self.start, &self.python, &self.library)?;
        command.current_dir(self.scratch.path());
        settings.tell(&mut command, self.arguments.patience);
        process::keep_addresses();
        Ok(command)
    }

    /// Why the interpreter could not be started.
    pub fn cannot_run(&self, source: std::io::Error) -> CliError {
        CliError::CannotRun { command: self.python.clone(), source }
    }
}

/// Runs an interpreter in our place.
pub fn run(arguments: &ReplayArguments) -> Result<ExitCode, CliError> {
    let replay = Replay::prepare(arguments)?;
    let (ending, _) = replay.attempts().run(arguments.quiet, |settings| {
        process::run(&mut replay.command(settings)?).map_err(|source| replay.cannot_run(source))
    })?;
    // Before a signal may end us.
    drop(replay);
    Ok(ExitCode::from(match ending {
        Ending::Exited(code) => code,
        Ending::Signalled(signal) => process::die_by(signal),
    }))
}

/// Major and minor of the interpreter that recorded the process.
fn recorded_version(trace: &Trace, start: &Start) -> (u32, u32) {
    match start.int("hexversion").and_then(|version| u32::try_from(version).ok()) {
        Some(version) => (version >> 24, version >> 16 & 0xff),
        None => (trace.header().python >> 8, trace.header().python & 0xff),
    }
}

/// The interpreter named, else the first of the recorded one, those on PATH and pyenv's that has the recorded version.
fn find_python(
    arguments: &ReplayArguments,
    trace: &Trace,
    start: &Start,
    library: &Library,
) -> Result<PathBuf, CliError> {
    let (major, minor) = recorded_version(trace, start);
    let check = |path: &Path| -> Result<(), String> {
        let found = Interpreter::probe(path)?;
        if found.minor_version() != (major, minor) {
            let (x, y, z) = found.version;
            return Err(format!("it is Python {x}.{y}.{z}; the trace was recorded with {major}.{minor}"));
        }
        found.unsupported(library).map_or(Ok(()), Err)
    };
    if let Some(python) = &arguments.python {
        // A name is looked up here already: the command runs in another folder.
        let by_name = (python.components().count() == 1).then(|| python.to_str().map(interpreter::on_path)).flatten();
        let path = by_name.and_then(|mut found| found.next());
        let path = path.or_else(|| std::path::absolute(python).ok()).unwrap_or_else(|| python.clone());
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(reason) => Err(CliError::BadPython { python: path, reason }),
        };
    }
    let recorded = start.text("executable").map(|text| PathBuf::from(OsString::from_vec(text.to_fs_bytes())));
    let candidates = recorded
        .into_iter()
        .chain(interpreter::on_path(&format!("python{major}.{minor}")))
        .chain(interpreter::of_pyenv(major, minor));
    let mut tried = Vec::new();
    for path in candidates {
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(reason) => tried.push(format!("{} ({reason})", path.display())),
        }
    }
    if tried.is_empty() {
        tried.push(format!("python{major}.{minor} on PATH"));
    }
    Err(CliError::NoPython { path: arguments.file.clone(), version: format!("{major}.{minor}"), tried })
}

/// The command that replays: what was recorded, in an environment that leads nowhere.
fn command(arguments: &ReplayArguments, start: &Start, python: &Path, library: &Library) -> Result<Command, CliError> {
    let trace = std::path::absolute(&arguments.file)
        .map_err(|source| CliError::Trace(retrace_replay::TraceError::Open { path: arguments.file.clone(), source }))?;
    let mut command = Command::new(python);
    command.args(python_arguments(start)).env_clear().envs(environment(start)).stdin(Stdio::null());
    library.preload(&mut command, None);
    command.env("RETRACE_REPLAY", trace).env("RETRACE_PROCESS", arguments.process.to_string());
    for (wanted, variable) in [(arguments.strict, "RETRACE_STRICT"), (arguments.quiet, "RETRACE_QUIET")] {
        if wanted {
            command.env(variable, "1");
        }
    }
    Ok(command)
}

/// The recorded environment without what would make the interpreter load other files than the local ones; of those
/// variables, the local values.
fn environment(start: &Start) -> Vec<(OsString, OsString)> {
    let local = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];
    start
        .environ()
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value)))
        .filter(|(name, value)| is_harmless(name) && !value.as_bytes().contains(&0))
        .filter(|(name, _)| !local.iter().any(|local| name == local))
        .chain(local.iter().filter_map(|name| Some(((*name).into(), env::var_os(name)?))))
        .collect()
}

fn is_harmless(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    // A name that no environment can hold would make the spawn fail.
    let possible = !bytes.is_empty() && !bytes.contains(&b'=') && !bytes.contains(&0);
    let removed = [&b"LD_PRELOAD"[..], b"PYTHONPATH", b"PYTHONHOME", b"PYTHONSTARTUP", b"PYTHONPERFSUPPORT"];
    possible && !removed.contains(&bytes) && !bytes.starts_with(b"DYLD_") && !interpreter::is_ours(name)
}

/// The recorded options, what to run, and the program's arguments. A script comes out of the trace, so the interpreter
/// is given an empty command in its place.
fn python_arguments(start: &Start) -> Vec<OsString> {
    let recorded = |key| -> Vec<OsString> {
        let arguments = start.arguments(key).unwrap_or_default();
        arguments.into_iter().map(OsString::from_vec).collect()
    };
    let main = || start.text("main").map(|text| OsString::from_vec(text.to_fs_bytes())).unwrap_or_default();
    let mut arguments = PythonArguments::parse(recorded("orig_argv").get(1..).unwrap_or_default()).options;
    // It writes /tmp/perf-PID.map.
    while let Some(at) = arguments.windows(2).position(|pair| pair[0] == "-X" && pair[1] == "perf") {
        arguments.drain(at..at + 2);
    }
    match start.string("run").as_deref() {
        Some("module") => arguments.extend(["-m".into(), main()]),
        Some("command") => arguments.extend(["-c".into(), main()]),
        _ => arguments.extend(["-c".into(), "".into()]),
    }
    arguments.extend(recorded("argv").into_iter().skip(1));
    arguments
}

#[cfg(test)]
mod tests {
    use retrace_replay::Value;

    use super::*;

    fn start(fields: &[(&str, Value)]) -> Start {
        Start::new(Value::Dict(fields.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect()))
    }

    fn strings(items: &[&str]) -> Value {
        Value::List(items.iter().map(|item| Value::from(*item)).collect())
    }

    #[test]
    fn a_script_becomes_an_empty_command() {
        let start = start(&[
            ("orig_argv", strings(&["python", "-OX", "retrace=x", "-Xperf", "-Werror", "app.py", "--flag"])),
            ("argv", strings(&["app.py", "--flag"])),
            ("run", Value::from("file")),
            ("main", Value::from("/src/app.py")),
        ]);
        assert_eq!(python_arguments(&start), ["-O", "-W", "error", "-c", "", "--flag"]);
    }

    #[test]
    fn modules_and_commands_run_as_they_did() {
        let module = start(&[
            ("orig_argv", strings(&["python", "-m", "http.server", "80"])),
            ("argv", strings(&["/lib/http/server.py", "80"])),
            ("run", Value::from("module")),
            ("main", Value::from("http.server")),
        ]);
        assert_eq!(python_arguments(&module), ["-m", "http.server", "80"]);
        let command = start(&[
            ("orig_argv", strings(&["python", "-Bcprint(1)"])),
            ("argv", strings(&["-c"])),
            ("run", Value::from("command")),
            ("main", Value::from("print(1)")),
        ]);
        assert_eq!(python_arguments(&command), ["-B", "-c", "print(1)"]);
    }

    #[test]
    fn the_environment_leads_nowhere() {
        let names = [
            "HOME",
            "PATH",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "DYLD_X",
            "PYTHONPATH",
            "PYTHONHOME",
            "PYTHONSTARTUP",
            "PYTHONHASHSEED",
            "RETRACE_RECORDING",
            "A=B",
            "",
        ];
        let pairs = names.map(|name| (Value::Bytes(name.into()), Value::Bytes(b"recorded".to_vec())));
        let environment = environment(&start(&[("environ", Value::Dict(pairs.to_vec()))]));
        let recorded: Vec<&OsStr> =
            environment.iter().filter(|(_, value)| value == "recorded").map(|(name, _)| name.as_os_str()).collect();
        assert_eq!(recorded, ["HOME", "PYTHONHASHSEED"]);
        assert!(environment.contains(&("PATH".into(), env::var_os("PATH").unwrap())));
    }
}
