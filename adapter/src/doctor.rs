//! `retrace doctor`: whether an interpreter can be recorded, and what of its boundary is known.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::Deserialize;

use crate::cli::DoctorArguments;
use crate::error::CliError;
use crate::events::one_line;
use crate::interpreter::{self, Interpreter};
use crate::library::Library;

/// How to have a module treated otherwise.
pub const BOUNDARY_ADVICE: &str = "Another treatment is said in a file that RETRACE_BOUNDARY names: \
     module = \"NAME\", treatment = \"record\", \"internal\" or \"libc\", why = \"…\" (docs/extensions.md)";

/// What the library says about the interpreter it was loaded into.
#[derive(Debug, Deserialize)]
struct Report {
    version: String,
    supported: bool,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    modules: Vec<Module>,
}

#[derive(Debug, Deserialize)]
struct Module {
    name: String,
    #[serde(default)]
    path: Option<String>,
    /// `internal`, `external`, `libc` or `unknown`.
    class: String,
    #[serde(default)]
    why: Option<String>,
}

/// Asks the interpreter, then the library inside it. Exit code 0 if it can be recorded, 1 if not.
pub fn run(arguments: &DoctorArguments) -> Result<ExitCode, CliError> {
    let library = Library::find()?;
    let python = match &arguments.python {
        Some(python) => python.clone(),
        None => ["python3", "python"]
            .iter()
            .find_map(|name| interpreter::on_path(name).next())
            .ok_or(CliError::NoPythonOnPath)?,
    };
    let interpreter =
        Interpreter::probe(&python).map_err(|reason| CliError::BadPython { python: python.clone(), reason })?;
    let (major, minor, micro) = interpreter.version;
    let mut out = io::stdout().lock();
    writeln!(out, "{}: Python {major}.{minor}.{micro}", python.display())?;
    // Asked from outside first: into what it does not know the library is better not loaded.
    if let Some(reason) = interpreter.unsupported(&library) {
        writeln!(out, "not supported: {reason}")?;
        return Ok(ExitCode::from(1));
    }
    let report = ask(&library, &python)?;
    write_report(&mut out, &report)?;
    Ok(ExitCode::from(if report.supported { 0 } else { 1 }))
}

fn ask(library: &Library, python: &Path) -> Result<Report, CliError> {
    let mut command = Command::new(python);
    command.args(["-c", ""]).stdin(Stdio::null()).stderr(Stdio::inherit()).env("RETRACE_DOCTOR", "1");
    for variable in ["RETRACE_RECORDING", "RETRACE_REPLAY"] {
        command.env_remove(variable);
    }
    library.preload(&mut command, Library::inherited_preload());
    let output = command.output().map_err(|source| CliError::CannotRun { command: PathBuf::from(python), source })?;
    let no_report = |reason: String| CliError::NoReport { python: python.to_owned(), reason };
    let text = String::from_utf8_lossy(&output.stdout);
    // Something that site runs may print, too.
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    let line = line.ok_or_else(|| no_report(format!("no JSON on standard output; it ended with {}", output.status)))?;
    serde_json::from_str(line).map_err(|error| no_report(error.to_string()))
}

fn write_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "version: {}", one_line(&report.version))?;
    match (report.supported, &report.reason) {
        (true, _) => writeln!(out, "supported")?,
        (false, Some(reason)) => writeln!(out, "not supported: {}", one_line(reason))?,
        (false, None) => writeln!(out, "not supported")?,
    }
    let classes = [
        ("unknown", "extension modules that can't be loaded:"),
        ("libc", "extension modules with I/O of their own; what they call of the C library is recorded:"),
        ("external", "extension modules at the boundary:"),
        ("internal", "extension modules that are deterministic:"),
    ];
    for (class, heading) in classes {
        let modules: Vec<&Module> = report.modules.iter().filter(|module| module.class == class).collect();
        if modules.is_empty() {
            continue;
        }
        writeln!(out, "\n{heading}")?;
        for module in modules {
            let path = module.path.as_deref().map(|path| format!("  {path}")).unwrap_or_default();
            let why = module.why.as_deref().map(|why| format!("  ({why})")).unwrap_or_default();
            writeln!(out, "  {}{}{}", one_line(&module.name), one_line(&path), one_line(&why))?;
        }
        if class == "libc" {
            writeln!(out, "  {BOUNDARY_ADVICE}")?;
        }
    }
    Ok(())
}
