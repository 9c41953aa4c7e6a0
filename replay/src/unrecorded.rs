//! What of the C library reaches the outside and is not recorded: it is run for real, by the replay as well.

use std::ffi::CStr;
use std::fmt;

/// The functions that an extension module is named for when it calls them. `src/libc_table.rs` has those that are recorded.
pub const FUNCTIONS: [&CStr; 14] = [
    c"aio_read",
    c"aio_read64",
    c"aio_write",
    c"aio_write64",
    c"fts64_open",
    c"fts_open",
    c"ftw",
    c"ftw64",
    c"io_setup",
    c"nftw",
    c"nftw64",
    c"process_vm_readv",
    c"scandirat",
    c"vfork",
];

/// Whether a function is one of them.
pub fn has(name: &str) -> bool {
    FUNCTIONS.iter().any(|function| function.to_bytes() == name.as_bytes())
}

/// Those among a module's imports, which are separated by spaces.
pub fn among(imports: &str) -> impl Iterator<Item = &str> {
    imports.split(' ').filter(|import| has(import))
}

/// What the user is told of a module that has called some of them.
pub fn message(module: &str, called: &[&str]) -> String {
    format!(
        "{module} called {}, which is not recorded: a replay may differ from there. If that does not matter, or its \
         functions can be recorded instead, say so in a file that RETRACE_BOUNDARY names: module = \"{module}\", \
         treatment = \"internal\" or \"record\", why = \"…\" (docs/extensions.md)",
        called.join(", ")
    )
}

/// What a process's last event has of functions that a library's threads called, which go their own way.
const BY_THREADS: &str = "by threads of ";

/// Functions called by threads that these modules, and perhaps other libraries, made for themselves.
pub struct ByThreads {
    /// Names of extension modules; empty where none is known to make threads.
    pub modules: Vec<String>,
    /// Names of functions of the C library.
    pub functions: Vec<String>,
}

impl ByThreads {
    /// Reads what [`fmt::Display`] writes; `None` of anything else.
    pub fn parse(said: &str) -> Option<Self> {
        let (modules, functions) = said.strip_prefix(BY_THREADS)?.split_once(": ")?;
        let names = |list: &str| list.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some(Self { modules: names(modules), functions: names(functions) })
    }

    /// What the user is told of it.
    pub fn message(&self) -> String {
        let makers = if self.modules.is_empty() { "a library".to_owned() } else { self.modules.join(" or ") };
        let (module, functions) = (self.modules.first().map_or("NAME", String::as_str), self.functions.join(", "));
        format!(
            "a thread that {makers} made for itself called {functions}: what such threads do is not recorded, and a replay \
             that comes there ends. To have them take turns with Python's, which is recorded, say so in a file that \
             RETRACE_BOUNDARY names: module = \"{module}\", treatment = \"libc\", threads = \"turns\", why = \"…\" \
             (docs/extensions.md)"
        )
    }
}

impl fmt::Display for ByThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BY_THREADS}{}: {}", self.modules.join(", "), self.functions.join(", "))
    }
}

/// What to say of programs that were started and not recorded.
pub fn programs_message(count: u64) -> String {
    let were = if count == 1 { "program was" } else { "programs were" };
    format!(
        "{count} {were} started that could not be recorded if they ran Python: as another user or under another root, \
         where the trace can't be opened, or without CPython's own main"
    )
}

/// What to say of forked processes that could not be recorded.
pub fn children_message(count: u64) -> String {
    let were = if count == 1 { "process was" } else { "processes were" };
    format!(
        "{count} forked {were} not recorded: the trace could not be opened there, as another user or under another root"
    )
}
