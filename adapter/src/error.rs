//! What can go wrong on the command line, each with what the user can do.

use std::io;
use std::path::PathBuf;

use retrace_replay::TraceError;
use thiserror::Error;

/// An error that ends the command.
#[derive(Debug, Error)]
pub enum CliError {
    #[error("{0}")]
    Trace(#[from] TraceError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("cannot listen on port {port}: {source}")]
    Port { port: u16, source: io::Error },
    #[error("cannot find {file}; looked in {}; set RETRACE_LIBRARY_DIR to the folder that holds it", looked.join(", "))]
    NoLibrary { file: String, looked: Vec<String> },
    #[error("{}: command not found", .0.display())]
    CommandNotFound(PathBuf),
    #[error("cannot run {}: {source}", command.display())]
    CannotRun { command: PathBuf, source: io::Error },
    #[error("{} holds no start of process {process}; it died before it ran any Python, so there is nothing to replay", path.display())]
    NoStart { path: PathBuf, process: u32 },
    #[error("{} is not usable: {reason}", python.display())]
    BadPython { python: PathBuf, reason: String },
    #[error(
        "{} was recorded with Python {version}, and no such interpreter was found; tried {}; install one or name it \
         with --python",
        path.display(), tried.join(", ")
    )]
    NoPython { path: PathBuf, version: String, tried: Vec<String> },
    #[error("cannot debug {}: {reason}", path.display())]
    NoDebugging { path: PathBuf, reason: String },
    #[error("no Python was found on PATH; name one with --python")]
    NoPythonOnPath,
    #[error("cannot make a temporary folder: {0}")]
    Scratch(io::Error),
    #[error("{} holds no source {source_path:?}; `retrace sources {}` lists what it holds", path.display(), path.display())]
    NoSource { path: PathBuf, source_path: String },
    #[error("{} answered something else than a report: {reason}", python.display())]
    NoReport { python: PathBuf, reason: String },
}

impl CliError {
    /// The exit code: the shell's for a command that cannot be run, 2 for everything that is wrong with the input.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::CommandNotFound(_) => 127,
            CliError::CannotRun { .. } => 126,
            _ => 2,
        }
    }

    /// Whether the reader of our output has gone away.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
