//! The boundary between the deterministic interpreter and the outside, as data: how every C callable is treated.
//!
//! The tables come from `abi/boundary/*.toml`, compiled in by `build_boundary.rs`; nothing is parsed at start-up unless
//! the user has a file of their own.

mod parse;
mod table;

use std::path::{Path, PathBuf};

pub use parse::BoundaryError;
pub use table::{
    ALL_VERSIONS, Convert, Echo, Entry, Environment, Fds, ModuleTable, PY_3_11, PY_3_12, Treatment, TypeTable,
    TypeTreatment, version_bit,
};

include!(concat!(env!("OUT_DIR"), "/boundary_table.rs"));

const OS: &str = if cfg!(target_os = "macos") { "macos" } else { "linux" };

/// The shipped table of a module.
pub fn module(name: &str) -> Option<&'static ModuleTable> {
    MODULES.binary_search_by(|m| m.module.cmp(name)).ok().map(|i| &MODULES[i])
}

/// Parses the user's own file, or folder of files (`RETRACE_BOUNDARY`). The tables live as long as the process.
///
/// # Errors
/// Those of reading and of the schema; the message names the file, the line, the key and what was expected there.
pub fn load_user(path: &Path) -> Result<&'static [ModuleTable], BoundaryError> {
    Ok(parse::parse_path(path, OS)?.leak())
}

/// The user's own files, unparsed: what a recording keeps of them, so that its replay treats the same calls alike.
///
/// # Errors
/// Those of reading.
pub fn user_texts(path: &Path) -> Result<Vec<(PathBuf, String)>, BoundaryError> {
    parse::read_path(path)
}

/// Parses what [`user_texts`] returned.
///
/// # Errors
/// Those of the schema.
pub fn load_user_texts(texts: &[(PathBuf, String)]) -> Result<&'static [ModuleTable], BoundaryError> {
    Ok(parse::parse_all(texts, OS)?.leak())
}

fn find_entry(entries: &'static [Entry], name: &str, minor: u8) -> Option<&'static Entry> {
    let entry = entries.binary_search_by(|e| e.name.cmp(name)).ok().map(|i| &entries[i])?;
    (entry.versions & version_bit(minor) != 0).then_some(entry)
}

impl ModuleTable {
    /// The entry of a function, by its `ml_name`; not the default.
    pub fn function(&self, name: &str, minor: u8) -> Option<&'static Entry> {
        find_entry(self.functions, name, minor)
    }

    /// The table of a type, by its `tp_name`.
    pub fn type_by_name(&self, tp_name: &str, minor: u8) -> Option<&'static TypeTable> {
        let i = self.types.binary_search_by(|t| t.name.cmp(tp_name)).ok()?;
        (self.types[i].versions & version_bit(minor) != 0).then_some(&self.types[i])
    }

    /// Whether anything of the module is at the boundary.
    pub fn reaches_outside(&self) -> bool {
        let functions = self.functions.iter().any(|entry| entry.treatment != Treatment::Pass);
        let types = self.types.iter().any(|t| t.treatment == TypeTreatment::External || !t.methods.is_empty());
        let default = self.default_function.is_some_and(|treatment| treatment != Treatment::Pass);
        functions || types || default || self.default_type == Some(TypeTreatment::External)
    }

    /// Whether the module is listed for this version of Python.
    pub fn applies(&self, minor: u8) -> bool {
        self.versions & version_bit(minor) != 0
    }
}

impl TypeTable {
    /// The entry of a method, getter/setter or slot; not the default.
    pub fn method(&self, name: &str, minor: u8) -> Option<&'static Entry> {
        find_entry(self.methods, name, minor)
    }

    /// Whether a slot is listed.
    pub fn has_slots(&self) -> bool {
        let is_slot = |name: &str| ["tp_", "nb_", "mp_", "sq_"].iter().any(|suite| name.starts_with(suite));
        self.methods.iter().any(|entry| is_slot(entry.name))
    }

    /// What a method, getter or slot that is not listed gets.
    pub fn default_method(&self) -> Treatment {
        match self.treatment {
            TypeTreatment::External => Treatment::Record,
            TypeTreatment::Internal => Treatment::Pass,
        }
    }
}

/// The name of an entry that is not listed but follows from a default.
pub const DEFAULT_NAME: &str = "*";

/// The shipped tables with the user's over them, for one version of Python.
#[derive(Clone, Copy, Debug)]
pub struct Boundary {
    user: &'static [ModuleTable],
    minor: u8,
}

impl Boundary {
    pub const fn new(minor: u8, user: &'static [ModuleTable]) -> Boundary {
        Boundary { user, minor }
    }

    /// The tables of a module, the user's before the shipped one.
    pub fn tables(&self, module_name: &str) -> impl Iterator<Item = &'static ModuleTable> + use<> {
        let user = self.user.binary_search_by(|m| m.module.cmp(module_name)).ok().map(|i| &self.user[i]);
        let minor = self.minor;
        user.into_iter().chain(module(module_name)).filter(move |table| table.applies(minor))
    }

    /// Whether the module as a whole is treated at the libc level.
    pub fn is_libc(&self, module_name: &str) -> bool {
        self.tables(module_name).any(|table| table.libc)
    }

    /// Whether the threads that such a module makes take turns with Python's; `None` where no file says anything about it.
    pub fn threads(&self, module_name: &str) -> Option<bool> {
        self.tables(module_name).find_map(|table| table.threads)
    }

    /// How a function is treated; `None` where no file says anything about it.
    ///
    /// A name that any file lists wins over every default, the user's name and default over the shipped ones.
    pub fn function(&self, module_name: &str, name: &str) -> Option<Entry> {
        let listed = self.tables(module_name).find_map(|table| table.function(name, self.minor).copied());
        listed.or_else(|| {
            let treatment = self.tables(module_name).find_map(|table| table.default_function)?;
            Some(Entry { versions: version_bit(self.minor), ..Entry::new(DEFAULT_NAME, treatment) })
        })
    }

    /// How the instances of a type are treated; `None` where no file says anything about it.
    pub fn type_treatment(&self, module_name: &str, tp_name: &str) -> Option<TypeTreatment> {
        let listed = self.type_tables(module_name, tp_name).next().map(|table| table.treatment);
        listed.or_else(|| self.tables(module_name).find_map(|table| table.default_type))
    }

    /// How a method, getter/setter or slot is treated; `None` where no file says anything about its type.
    pub fn method(&self, module_name: &str, tp_name: &str, name: &str) -> Option<Entry> {
        let listed = self.type_tables(module_name, tp_name).find_map(|table| table.method(name, self.minor).copied());
        listed.or_else(|| {
            let treatment = match self.type_treatment(module_name, tp_name)? {
                TypeTreatment::External => Treatment::Record,
                TypeTreatment::Internal => Treatment::Pass,
            };
            Some(Entry { versions: version_bit(self.minor), ..Entry::new(DEFAULT_NAME, treatment) })
        })
    }

    fn type_tables(&self, module_name: &str, tp_name: &str) -> impl Iterator<Item = &'static TypeTable> {
        self.tables(module_name).filter_map(move |table| table.type_by_name(tp_name, self.minor))
    }

    /// Every module any file lists for this version.
    pub fn modules(&self) -> impl Iterator<Item = &'static ModuleTable> {
        let minor = self.minor;
        self.user.iter().chain(MODULES).filter(move |table| table.applies(minor))
    }
}

#[cfg(test)]
mod tests;
