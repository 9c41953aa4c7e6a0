//! The command line's grammar.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Records a Python program, and runs the recording again.
#[derive(Debug, Parser)]
#[command(name = "retrace", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a Python program and record it
    Record(RecordArguments),
    /// Run a recording again, without the network, files and clock it had
    Replay(ReplayArguments),
    /// Say what a recording holds
    Info(InfoArguments),
    /// List what crossed the boundary
    Events(EventsArguments),
    /// List the source files a recording holds, or print one
    Sources(SourcesArguments),
    /// Debug a recording in the terminal, backwards and forwards
    Debug(DebugArguments),
    /// Debug recordings, for an editor that speaks the Debug Adapter Protocol
    Dap(DapArguments),
    /// Say whether an interpreter can be recorded
    Doctor(DoctorArguments),
}

#[derive(Debug, Args)]
pub struct RecordArguments {
    /// Where to write the trace [default: NAME-PID.retrace, NAME being the script's or module's]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Stop recording when the trace has this size in bytes (suffixes K, M, G)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// How much of the arguments of calls to record
    #[arg(long, value_enum, default_value_t = ArgumentDetail::Summary)]
    pub arguments: ArgumentDetail,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArgumentDetail {
    /// Numbers, names and short strings; length and hash of the rest
    Summary,
    /// All of them
    Full,
}

/// `ReplayArguments::patience` where nobody says otherwise.
pub const PATIENCE: u64 = 10;

#[derive(Debug, Clone, Args)]
pub struct ReplayArguments {
    /// The trace
    pub file: PathBuf,
    /// Which process to replay
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub process: u32,
    /// The interpreter to replay with [default: one of the recorded version]
    #[arg(long, value_name = "EXE")]
    pub python: Option<PathBuf>,
    /// Stop when an argument differs from the recorded one, too
    #[arg(long)]
    pub strict: bool,
    /// Print nothing but what the program prints
    #[arg(long)]
    pub quiet: bool,
    /// How long to go on, in CPU time, without coming to what was recorded next; time that the recording took comes on top
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub patience: u64,
}

#[derive(Debug, Args)]
pub struct InfoArguments {
    /// The trace
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct EventsArguments {
    /// The trace
    pub file: PathBuf,
    /// Which process's events
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub process: u32,
    /// Only calls of functions whose name matches (`*` and `?`); may be given several times
    #[arg(long, value_name = "GLOB")]
    pub function: Vec<String>,
    /// Only events of this thread (0: the main thread)
    #[arg(long, value_name = "N")]
    pub thread: Option<u64>,
    /// Only calls that raised an exception
    #[arg(long)]
    pub raised: bool,
    /// The first event to list
    #[arg(long, value_name = "I", default_value_t = 0)]
    pub from: u64,
    /// The last event to list
    #[arg(long, value_name = "I")]
    pub to: Option<u64>,
    /// The most events to list
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Instead of the events, list how many of each function and kind there are and how many bytes of the trace they take
    #[arg(long)]
    pub sizes: bool,
    /// Print a JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SourcesArguments {
    /// The trace
    pub file: PathBuf,
    /// The source to print
    pub path: Option<String>,
}

#[derive(Debug, Args)]
pub struct DebugArguments {
    /// The trace
    pub file: PathBuf,
    /// Which process to debug
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub process: u32,
    /// The interpreter to replay with [default: one of the recorded version]
    #[arg(long, value_name = "EXE")]
    pub python: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DapArguments {
    /// Listen on this port of 127.0.0.1 instead of talking over standard input and output; 0 for any, which is printed
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The interpreter to look at [default: python3, then python]
    #[arg(long, value_name = "EXE")]
    pub python: Option<PathBuf>,
}

/// A number of bytes: `4096`, `64K`, `512M`, `2G`.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, shift) = match text.char_indices().last() {
        Some((i, 'k' | 'K')) => (&text[..i], 10),
        Some((i, 'm' | 'M')) => (&text[..i], 20),
        Some((i, 'g' | 'G')) => (&text[..i], 30),
        _ => (text, 0),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|size| *size > 0)
        .ok_or_else(|| "expected a number of bytes, such as 4096, 64K, 512M or 2G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64k"), Ok(64 << 10));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        for bad in ["", "G", "-1", "0", "1.5G", "1T", "99999999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_program_s_options_are_its_own() {
        let cli = Cli::parse_from(["retrace", "record", "-o", "x", "--", "python", "-u", "app.py", "--arguments", "y"]);
        let Command::Record(record) = cli.command else { panic!() };
        assert_eq!(record.command, ["python", "-u", "app.py", "--arguments", "y"]);
        let cli = Cli::parse_from(["retrace", "record", "python", "-c", "x", "-o", "y"]);
        let Command::Record(record) = cli.command else { panic!() };
        assert_eq!(record.output, None);
        assert_eq!(record.command, ["python", "-c", "x", "-o", "y"]);
    }
}
