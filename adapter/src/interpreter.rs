//! Finding an interpreter, and asking it what it is.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::library::Library;

/// What an interpreter says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// Where it was found.
    pub path: PathBuf,
    /// `CPython` for the one we know.
    pub implementation: String,
    /// Major, minor, micro.
    pub version: (u32, u32, u32),
    /// `sys.abiflags`: `d` for a debug build, `t` for a free-threaded one.
    pub abi_flags: String,
}

/// Works on every Python, old ones too.
const QUESTION: &str = "\
import sys
print('retrace %d %d %d %s flags=%s' % (
    sys.version_info[:3]
    + (getattr(getattr(sys, 'implementation', None), 'name', 'cpython'),
       getattr(sys, 'abiflags', '') + ('d' if hasattr(sys, 'gettotalrefcount') else ''))))
";

impl Interpreter {
    /// Asks the interpreter at `path`.
    pub fn probe(path: &Path) -> Result<Interpreter, String> {
        let mut command = Command::new(path);
        command.args(["-E", "-s", "-S", "-c", QUESTION]).stdin(Stdio::null());
        for (variable, _) in env::vars_os() {
            if is_ours(&variable) {
                command.env_remove(variable);
            }
        }
        let output = command.output().map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&output.stdout);
        parse_answer(path, &answer).ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            match complaint.lines().last() {
                Some(line) => format!("it says: {line}"),
                None => "it does not run Python code".to_owned(),
            }
        })
    }

    /// Major and minor.
    pub fn minor_version(&self) -> (u32, u32) {
        (self.version.0, self.version.1)
    }

    /// Why the library cannot run in this interpreter, if it cannot.
    pub fn unsupported(&self, library: &Library) -> Option<String> {
        let (major, minor, micro) = self.version;
        if self.implementation != "cpython" {
            return Some(format!("it is {}, not CPython", self.implementation));
        }
        if self.abi_flags.contains('t') {
            return Some("it is a free-threaded build; the recording's order is the GIL's".to_owned());
        }
        if self.abi_flags.contains('d') {
            return Some("it is a debug build, whose objects are laid out differently".to_owned());
        }
        if !library.supports(major, minor) {
            let versions = library.versions().join(", ");
            return Some(format!("it is Python {major}.{minor}.{micro}; this retrace is made for {versions}"));
        }
        None
    }
}

/// Whether a variable tells the library, or us, something.
pub fn is_ours(variable: &OsStr) -> bool {
    variable.to_str().is_some_and(|name| name.starts_with("RETRACE_"))
}

fn parse_answer(path: &Path, answer: &str) -> Option<Interpreter> {
    let mut words = answer.lines().find_map(|line| line.strip_prefix("retrace "))?.split_whitespace();
    let mut number = || words.next()?.parse().ok();
    let version = (number()?, number()?, number()?);
    let implementation = words.next()?.to_owned();
    let abi_flags = words.next()?.strip_prefix("flags=")?.to_owned();
    Some(Interpreter { path: path.to_owned(), implementation, version, abi_flags })
}

/// The files called `name` in the folders of PATH.
pub fn on_path(name: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let folders: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    let name = name.to_owned();
    folders.into_iter().map(move |folder| folder.join(&name)).filter(|path| path.is_file())
}

/// pyenv's interpreters of a minor version, newest first.
pub fn of_pyenv(major: u32, minor: u32) -> Vec<PathBuf> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| env::home_dir().map(|home| home.join(".pyenv")));
    let Some(root) = root else { return Vec::new() };
    let prefix = format!("{major}.{minor}.");
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(root.join("versions"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let micro = name.strip_prefix(&prefix)?.parse().ok()?;
            Some((micro, entry.path().join(format!("bin/python{major}.{minor}"))))
        })
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let parsed = parse_answer(Path::new("p"), "noise\nretrace 3 13 0 cpython flags=t\n").unwrap();
        assert_eq!((parsed.version, parsed.abi_flags.as_str()), ((3, 13, 0), "t"));
        assert_eq!(parse_answer(Path::new("p"), "retrace 3 x"), None);
        assert_eq!(parse_answer(Path::new("p"), ""), None);
    }
}
