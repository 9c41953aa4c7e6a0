//! Where the library is that is loaded into the interpreter.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::CliError;

/// The variable that names the folder, for us and for the preloaded library.
const VARIABLE: &str = "RETRACE_LIBRARY_DIR";

#[cfg(target_os = "macos")]
const PRELOAD_VARIABLE: &str = "DYLD_INSERT_LIBRARIES";
#[cfg(not(target_os = "macos"))]
const PRELOAD_VARIABLE: &str = "LD_PRELOAD";

/// A folder that holds `libretrace-preload` and one `libretrace-X.Y` for each supported version of Python.
#[derive(Debug, Clone)]
pub struct Library {
    folder: PathBuf,
}

fn file_name(what: &str) -> String {
    format!("libretrace-{what}{}", env::consts::DLL_SUFFIX)
}

impl Library {
    /// The first of `RETRACE_LIBRARY_DIR`, the folder of this program and `../lib/retrace` that has the library.
    pub fn find() -> Result<Library, CliError> {
        let exe = env::current_exe().and_then(|exe| exe.canonicalize()).unwrap_or_default();
        let beside = exe.parent().unwrap_or(Path::new("")).to_owned();
        let folders = match env::var_os(VARIABLE) {
            Some(folder) => vec![PathBuf::from(folder)],
            None => vec![beside.clone(), beside.join("../lib/retrace")],
        };
        let file = file_name("preload");
        // Absolute, and without links: the program may change its folder before the library is loaded.
        let found = folders.iter().find(|folder| folder.join(&file).is_file()).and_then(|f| f.canonicalize().ok());
        match found {
            Some(folder) => Ok(Library { folder }),
            None => {
                let looked = folders.iter().map(|folder| folder.display().to_string()).collect();
                Err(CliError::NoLibrary { file, looked })
            }
        }
    }

    /// Whether the library for a version of Python is there.
    pub fn supports(&self, major: u32, minor: u32) -> bool {
        self.folder.join(file_name(&format!("{major}.{minor}"))).is_file()
    }

    /// The versions of Python the library is there for, as text.
    pub fn versions(&self) -> Vec<String> {
        let (prefix, suffix) = ("libretrace-", env::consts::DLL_SUFFIX);
        let mut versions: Vec<String> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| Some(name.strip_prefix(prefix)?.strip_suffix(suffix)?.to_owned()))
            .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
            .collect();
        versions.sort();
        versions
    }

    /// Has `command` load the library before anything else, ahead of what is preloaded already.
    pub fn preload(&self, command: &mut Command, inherited: Option<OsString>) {
        let mut value = self.folder.join(file_name("preload")).into_os_string();
        if let Some(inherited) = inherited.filter(|inherited| !inherited.is_empty()) {
            value.push(":");
            value.push(inherited);
        }
        command.env(PRELOAD_VARIABLE, value).env(VARIABLE, &self.folder);
    }

    /// What this process was told to preload.
    pub fn inherited_preload() -> Option<OsString> {
        env::var_os(PRELOAD_VARIABLE)
    }
}
