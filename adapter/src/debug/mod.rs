//! The debugger: `retrace dap`, a server of the Debug Adapter Protocol, and `retrace debug`, for a terminal. `timeline` moves through a replay whose processes
//! (`engine`) are forked copies of one another; `debuggee` is an open recording, its movements and state, whatever shows
//! them; `session` turns that into what the protocol knows, `protocol` reads and writes its messages; `terminal` has pdb's
//! commands.
#![forbid(unsafe_code)]

mod debuggee;
mod engine;
mod protocol;
mod session;
mod sources;
mod terminal;
mod timeline;

use std::io;
use std::net::{Shutdown, TcpListener};
use std::process::ExitCode;

use crate::cli::{DapArguments, DebugArguments};
use crate::error::CliError;

/// Debugs a recording in the terminal.
pub fn run_terminal(arguments: &DebugArguments) -> Result<ExitCode, CliError> {
    engine::adopt_orphans();
    terminal::run(arguments)
}

/// Serves one session over standard input and output, or one after another on a port.
pub fn run(arguments: &DapArguments) -> Result<ExitCode, CliError> {
    engine::adopt_orphans();
    let Some(port) = arguments.port else {
        session::serve(io::stdin(), io::stdout());
        return Ok(ExitCode::SUCCESS);
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|source| CliError::Port { port, source })?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let (Ok(reader), Ok(ended)) = (stream.try_clone(), stream.try_clone()) else { continue };
        session::serve(reader, stream);
        // The reader may still wait for more.
        let _ = ended.shutdown(Shutdown::Both);
    }
    Ok(ExitCode::SUCCESS)
}
