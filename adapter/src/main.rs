//! `retrace`: the command line.
//!
//! It starts Python with the library that records or replays, and reads traces. It holds no CPython pointer and no
//! unsafe code: what runs inside the interpreter is another process's business.
#![forbid(unsafe_code)]

mod attempts;
mod cli;
mod debug;
mod doctor;
mod error;
mod events;
mod info;
mod interpreter;
mod library;
mod process;
mod python_arguments;
mod record;
mod replay;
mod scratch;
mod sources;
mod unstored;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Record(arguments) => record::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Sources(arguments) => sources::run(&arguments),
        Command::Debug(arguments) => debug::run_terminal(&arguments),
        Command::Dap(arguments) => debug::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        // Whoever reads our output has seen enough: no news, and not a failure.
        if error.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        eprintln!("retrace: {error}");
        ExitCode::from(error.exit_code())
    })
}
