//! `retrace sources`: the source files a recording holds.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use retrace_replay::Trace;
use retrace_replay::sources::Source;

use crate::cli::SourcesArguments;
use crate::error::CliError;
use crate::events::one_line;

/// Lists the sources, or prints one.
pub fn run(arguments: &SourcesArguments) -> Result<ExitCode, CliError> {
    let trace = Trace::open(&arguments.file)?;
    // By path: processes of one tree import the same files. Another version of a file is another entry.
    let mut sources: BTreeMap<(String, u64), Source> = BTreeMap::new();
    for process in trace.processes() {
        for source in trace.sources(process.index)? {
            let source = source?;
            sources.entry((source.path.to_string_lossy(), source.hash)).or_insert(source);
        }
    }
    let mut out = BufWriter::new(io::stdout().lock());
    match &arguments.path {
        None => {
            for ((path, hash), source) in &sources {
                writeln!(out, "{hash:016x} {:>9}  {}", source.length, one_line(path))?;
            }
        }
        Some(wanted) => {
            let Some(source) = find(&sources, wanted) else {
                return Err(CliError::NoSource { path: arguments.file.clone(), source_path: wanted.clone() });
            };
            out.write_all(&source.contents()?)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The source of that very path, or the only one whose path ends in it.
fn find<'a>(sources: &'a BTreeMap<(String, u64), Source>, wanted: &str) -> Option<&'a Source> {
    let exact = sources.iter().find(|((path, _), _)| path == wanted);
    let ending = format!("/{wanted}");
    let mut ends = sources.iter().filter(|((path, _), _)| path.ends_with(&ending));
    let only = ends.next().filter(|_| ends.next().is_none());
    exact.or(only).map(|(_, source)| source)
}
