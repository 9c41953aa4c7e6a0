//! `retrace record`: becomes the program, with the recorder loaded.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};

use retrace_replay::TraceWriter;
use rustix::fs::Access;

use crate::cli::{ArgumentDetail, RecordArguments};
use crate::error::CliError;
use crate::library::Library;
use crate::python_arguments::{PythonArguments, Run};

/// Replaces this process by the program: output, exit code and signals are its own, and it has our pid.
pub fn run(arguments: &RecordArguments) -> Result<ExitCode, CliError> {
    let library = Library::find()?;
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(CliError::CommandNotFound(PathBuf::new()));
    };
    let output = arguments.output.clone().unwrap_or_else(|| default_output(program, rest));
    let mut command = Command::new(program);
    command.args(rest);
    for variable in ["RETRACE_REPLAY", "RETRACE_PROCESS", "RETRACE_STRICT", "RETRACE_DOCTOR"] {
        command.env_remove(variable);
    }
    match check_output(&output) {
        Ok(output) => {
            library.preload(&mut command, Library::inherited_preload());
            command.env("RETRACE_RECORDING", output).env("RETRACE_ID", random_id());
            // Run by a recorded program: this recording is another one.
            command.env_remove("RETRACE_PARENT");
            command.env(
                "RETRACE_ARGUMENTS",
                match arguments.arguments {
                    ArgumentDetail::Summary => "summary",
                    ArgumentDetail::Full => "full",
                },
            );
            match arguments.max_size {
                Some(size) => command.env("RETRACE_MAX_SIZE", size.to_string()),
                None => command.env_remove("RETRACE_MAX_SIZE"),
            };
        }
        Err(reason) => {
            // A recorder must not be the reason that a program does not run.
            eprintln!("retrace: not recording: {}: {reason}", output.display());
            command.env_remove("RETRACE_RECORDING");
        }
    }
    let source = command.exec();
    match source.kind() {
        io::ErrorKind::NotFound => Err(CliError::CommandNotFound(program.into())),
        _ => Err(CliError::CannotRun { command: program.into(), source }),
    }
}

/// The recording's id. Whichever programs of the command line find the trace with this id join it, so that a shell
/// script's second Python does not replace what the first one left.
fn random_id() -> String {
    // Each has a key of its own from the system's entropy.
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

/// Whether a trace can be created at `output`; its absolute path.
fn check_output(output: &Path) -> Result<PathBuf, String> {
    let output = std::path::absolute(output).map_err(|error| error.to_string())?;
    match output.metadata() {
        Ok(metadata) if !metadata.is_file() => return Err("it is not a regular file".to_owned()),
        Ok(_) if TraceWriter::is_being_recorded(&output) => {
            return Err("another process is recording into it".to_owned());
        }
        _ => {}
    }
    let folder = output.parent().ok_or("it is a folder")?;
    rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| io::Error::from(error).to_string())?;
    Ok(output)
}

/// The script's or module's name, and our pid, which will be the program's.
fn default_output(program: &OsStr, arguments: &[OsString]) -> PathBuf {
    let program_name = stem(program);
    let name = if program_name.to_string_lossy().starts_with("python") {
        match PythonArguments::parse(arguments).run {
            Run::File(script) => stem(&script),
            Run::Module(module) => module,
            Run::Command(_) => "command".into(),
            Run::Stdin => "stdin".into(),
        }
    } else {
        program_name
    };
    let mut file = name;
    file.push(format!("-{}.retrace", process::id()));
    PathBuf::from(file)
}

/// A path's last part without its extension.
fn stem(path: &OsStr) -> OsString {
    let path = Path::new(path);
    // `python app/` and `python .` run a folder's __main__.
    let absolute = std::path::absolute(path).unwrap_or_default();
    let stem = path.file_stem().or_else(|| absolute.file_stem());
    stem.unwrap_or(OsStr::new("program")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(command: &[&str]) -> String {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let output = default_output(&command[0], &command[1..]).into_os_string().into_string().unwrap();
        output.strip_suffix(&format!("-{}.retrace", process::id())).unwrap().to_owned()
    }

    #[test]
    fn the_trace_is_named_after_what_runs() {
        assert_eq!(name(&["python", "-u", "src/app.py", "x"]), "app");
        assert_eq!(name(&["/usr/bin/python3.11", "-m", "http.server"]), "http.server");
        assert_eq!(name(&["python", "-c", "1"]), "command");
        assert_eq!(name(&["python"]), "stdin");
        assert_eq!(name(&["/usr/bin/gunicorn", "app:app"]), "gunicorn");
    }

    #[test]
    fn python3_11_is_a_python() {
        assert_eq!(name(&["python3.11", "a.py"]), "a");
    }
}
