//! The parser of the boundary's TOML form (`abi/boundary/README.md`).
//!
//! The same code runs at two times: in `build_boundary.rs`, which turns the shipped files into static tables, and in
//! the recorded process, for the user's own file. It knows neither Python nor the rest of the library.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{
    ALL_VERSIONS, Convert, Echo, Entry, Environment, Fds, ModuleTable, PY_3_11, PY_3_12, Treatment, TypeTable,
    TypeTreatment,
};

/// What is wrong with a boundary file, and where.
#[derive(Debug)]
pub enum BoundaryError {
    Unreadable {
        file: PathBuf,
        source: std::io::Error,
    },
    /// Not TOML at all.
    Syntax {
        file: PathBuf,
        line: usize,
        message: String,
    },
    /// TOML, but not of the schema.
    Schema {
        file: PathBuf,
        line: usize,
        key: String,
        found: String,
        expected: String,
    },
}

impl fmt::Display for BoundaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, source } => {
                write!(f, "{}: can't read the boundary file: {source}", file.display())
            }
            Self::Syntax { file, line, message } => {
                write!(f, "{}:{line}: not valid TOML: {message}", file.display())
            }
            Self::Schema { file, line, key, found, expected } => {
                write!(f, "{}:{line}: {key}: found {found}, expected {expected}", file.display())
            }
        }
    }
}

impl std::error::Error for BoundaryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Reads and parses a file, or every `.toml` file of a folder in the order of their names; sorted by module.
///
/// # Errors
/// Those of reading and of the schema, and a module that is listed twice.
pub fn parse_path(path: &Path, os: &str) -> Result<Vec<ModuleTable>, BoundaryError> {
    parse_all(&read_path(path)?, os)
}

/// Reads a file, or a folder's files, without parsing them.
pub fn read_path(path: &Path) -> Result<Vec<(PathBuf, String)>, BoundaryError> {
    files(path)?.into_iter().map(|file| read_file(&file).map(|text| (file, text))).collect()
}

fn read_file(file: &Path) -> Result<String, BoundaryError> {
    fs::read_to_string(file).map_err(|source| BoundaryError::Unreadable { file: file.to_owned(), source })
}

/// Parses files that were read: each module may be listed once.
pub fn parse_all(texts: &[(PathBuf, String)], os: &str) -> Result<Vec<ModuleTable>, BoundaryError> {
    let mut found: BTreeMap<&str, (ModuleTable, PathBuf)> = BTreeMap::new();
    for (file, text) in texts {
        let file = file.clone();
        for table in parse(&file, text, os)? {
            if let Some((_, other)) = found.insert(table.module, (table, file.clone())) {
                return Err(BoundaryError::Schema {
                    file,
                    line: 1,
                    key: "module".to_owned(),
                    found: format!("{:?}, which {} lists already", table.module, other.display()),
                    expected: "each module once".to_owned(),
                });
            }
        }
    }
    Ok(found.into_values().map(|(table, _)| table).collect())
}

fn files(path: &Path) -> Result<Vec<PathBuf>, BoundaryError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |source| BoundaryError::Unreadable { file: path.to_owned(), source };
    let entries = fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

/// Parses the text of one file; `file` is only for messages.
pub fn parse(file: &Path, text: &str, os: &str) -> Result<Vec<ModuleTable>, BoundaryError> {
    let source = Source { file, text, os };
    let document = DeTable::parse(text).map_err(|error| BoundaryError::Syntax {
        file: file.to_owned(),
        line: source.line(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    source.document(&document)
}

type Table<'i> = DeTable<'i>;
type Value<'i> = Spanned<DeValue<'i>>;

const MODULE_KEYS: &[&str] = &[
    "about",
    "data",
    "default",
    "functions",
    "groups",
    "internal_types",
    "module",
    "optional",
    "platforms",
    "threads",
    "treatment",
    "types",
    "versions",
    "why",
];
const GROUP_KEYS: &[&str] = &["faces", "modules", "optional", "platforms", "treatment", "versions", "why"];
const DEFAULT_KEYS: &[&str] = &["functions", "types"];
const TYPE_KEYS: &[&str] = &["methods", "name", "platforms", "treatment", "versions", "why"];
const ENTRY_KEYS: &[&str] = &[
    "convert",
    "departs",
    "echo",
    "environment",
    "evaluator",
    "fds",
    "fork",
    "keeps",
    "last",
    "live",
    "namespace",
    "out",
    "platforms",
    "seed",
    "steady",
    "terminal",
    "may_fail",
    "only_reads",
    "asks",
    "tells",
    "unseen",
    "address",
    "treatment",
    "versions",
    "shown",
    "weakly",
    "keeps_result",
    "kept_by_result",
    "replaces",
    "releases",
    "zone",
    "why",
];

/// What holds for every name below a table: on which versions, and whether on this platform at all.
#[derive(Clone, Copy)]
struct Scope {
    versions: u8,
    here: bool,
}

struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    os: &'a str,
}

impl Source<'_> {
    fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        1 + self.text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count()
    }

    fn error(&self, offset: usize, key: &str, found: impl Into<String>, expected: impl Into<String>) -> BoundaryError {
        BoundaryError::Schema {
            file: self.file.to_owned(),
            line: self.line(offset),
            key: key.to_owned(),
            found: found.into(),
            expected: expected.into(),
        }
    }

    fn document(&self, document: &Spanned<Table<'_>>) -> Result<Vec<ModuleTable>, BoundaryError> {
        let table = document.get_ref();
        self.known_keys(table, "", MODULE_KEYS)?;
        let mut modules = Vec::new();
        if let Some(groups) = table.get("groups") {
            for (i, group) in self.array(groups, "groups")?.iter().enumerate() {
                self.group(group, &format!("groups[{i}]"), &mut modules)?;
            }
        }
        if table.contains_key("module") {
            modules.extend(self.module(table)?);
        } else if table.get("groups").is_none() {
            return Err(self.error(0, "module", "nothing", "the module's name in sys.modules, as a string"));
        } else if let Some((key, _)) =
            table.iter().find(|(key, _)| !matches!(key.get_ref().as_ref(), "groups" | "about"))
        {
            let name = key.get_ref().as_ref();
            return Err(self.error(
                key.span().start,
                name,
                "it beside [[groups]]",
                "\"module\" too, to say whose it is",
            ));
        }
        Ok(modules)
    }

    /// `[[groups]]`: modules of which everything is treated alike.
    fn group(&self, value: &Value<'_>, path: &str, modules: &mut Vec<ModuleTable>) -> Result<(), BoundaryError> {
        let table = self.table(value, path)?;
        self.known_keys(table, path, GROUP_KEYS)?;
        self.flag(table, path, "optional")?;
        let names = self.required(table, value, path, "modules", "an array of module names")?;
        let scope = self.scope(table, path, Scope { versions: ALL_VERSIONS, here: true })?;
        let treatment = self.required(table, value, path, "treatment", WHOLE_EXPECTED)?;
        let treatment = self.word(treatment, &join(path, "treatment"), WHOLE_EXPECTED, whole_treatment)?;
        let why = self.required(table, value, path, "why", "a string: why all of it is treated so")?;
        self.string(why, &join(path, "why"))?;
        if let Some(faces) = table.get("faces") {
            for face in self.array(faces, &join(path, "faces"))?.iter() {
                self.string(face, &join(path, "faces"))?;
            }
        }
        for name in self.array(names, &join(path, "modules"))?.iter() {
            let module = leak(self.string(name, &join(path, "modules"))?);
            if scope.here {
                modules.push(whole_module(module, treatment, scope.versions));
            }
        }
        Ok(())
    }

    fn module(&self, table: &Table<'_>) -> Result<Option<ModuleTable>, BoundaryError> {
        let module = leak(self.string(&table["module"], "module")?);
        for key in ["about", "why"] {
            if let Some(text) = table.get(key) {
                self.string(text, key)?;
            }
        }
        self.flag(table, "", "optional")?;
        let scope = self.scope(table, "", Scope { versions: ALL_VERSIONS, here: true })?;
        let mut result = match table.get("treatment") {
            Some(value) => {
                let treatment = self.word(value, "treatment", WHOLE_EXPECTED, whole_treatment)?;
                if !table.contains_key("why") {
                    let offset = value.span().start;
                    return Err(self.error(offset, "why", "nothing", "a string: why all of it is treated so"));
                }
                whole_module(module, treatment, scope.versions)
            }
            None => ModuleTable {
                module,
                functions: &[],
                types: &[],
                data: &[],
                default_function: None,
                default_type: None,
                libc: false,
                threads: None,
                versions: scope.versions,
            },
        };
        if let Some(value) = table.get("threads") {
            if !result.libc {
                let expected = "nothing: only of a module whose treatment is \"libc\" are threads followed";
                return Err(self.error(value.span().start, "threads", kind(value.get_ref()), expected));
            }
            let take_turns = |word: &str| match word {
                "turns" => Some(true),
                "free" => Some(false),
                _ => None,
            };
            result.threads = Some(self.word(value, "threads", "one of \"turns\", \"free\"", take_turns)?);
        }
        if let Some(default) = table.get("default") {
            let default = self.table(default, "default")?;
            self.known_keys(default, "default", DEFAULT_KEYS)?;
            if let Some(value) = default.get("functions") {
                let path = "default.functions";
                result.default_function = Some(self.word(value, path, Treatment::EXPECTED, Treatment::from_word)?);
            }
            if let Some(value) = default.get("types") {
                let path = "default.types";
                let treatment = self.word(value, path, TypeTreatment::EXPECTED, TypeTreatment::from_word)?;
                result.default_type = Some(treatment);
            }
        }
        if let Some(names) = table.get("data") {
            let names = self.array(names, "data")?.iter();
            let names: Result<Vec<_>, _> = names.map(|name| self.string(name, "data").map(leak)).collect();
            result.data = names?.leak();
        }
        if let Some(functions) = table.get("functions") {
            result.functions = self.entries(functions, "functions", scope)?;
        }
        let mut types = Vec::new();
        if let Some(names) = table.get("internal_types") {
            for name in self.array(names, "internal_types")?.iter() {
                let name = leak(self.string(name, "internal_types")?);
                let key = name.strip_prefix(module).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
                let treatment = TypeTreatment::Internal;
                types.push(TypeTable { key, name, treatment, methods: &[], versions: scope.versions });
            }
        }
        if let Some(tables) = table.get("types") {
            for (key, value) in self.table(tables, "types")?.iter() {
                types.extend(self.type_table(module, key.get_ref(), value, scope)?);
            }
        }
        types.sort_by_key(|t| t.name);
        if let Some(twice) = types.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(self.error(0, "types", format!("{} twice", twice[0].name), "each type once"));
        }
        result.types = types.leak();
        Ok(scope.here.then_some(result))
    }

    fn type_table(
        &self,
        module: &str,
        key: &str,
        value: &Value<'_>,
        scope: Scope,
    ) -> Result<Option<TypeTable>, BoundaryError> {
        let path = join("types", key);
        let table = self.table(value, &path)?;
        self.known_keys(table, &path, TYPE_KEYS)?;
        let scope = self.scope(table, &path, scope)?;
        let name = match table.get("name") {
            Some(name) => leak(self.string(name, &join(&path, "name"))?),
            None => leak(&format!("{module}.{key}")),
        };
        if let Some(why) = table.get("why") {
            self.string(why, &join(&path, "why"))?;
        }
        let treatment = self.required(table, value, &path, "treatment", TypeTreatment::EXPECTED)?;
        let treatment =
            self.word(treatment, &join(&path, "treatment"), TypeTreatment::EXPECTED, TypeTreatment::from_word)?;
        let methods = match table.get("methods") {
            Some(methods) => self.entries(methods, &join(&path, "methods"), scope)?,
            None => &[],
        };
        let type_table = TypeTable { key: leak(key), name, treatment, methods, versions: scope.versions };
        Ok(scope.here.then_some(type_table))
    }

    /// The entries of `[functions]` or `[types.X.methods]`, sorted by name.
    fn entries(&self, value: &Value<'_>, path: &str, scope: Scope) -> Result<&'static [Entry], BoundaryError> {
        let mut entries = Vec::new();
        for (name, value) in self.table(value, path)?.iter() {
            entries.extend(self.entry(name.get_ref(), value, &join(path, name.get_ref()), scope)?);
        }
        entries.sort_by_key(|entry| entry.name);
        Ok(entries.leak())
    }

    fn entry(&self, name: &str, value: &Value<'_>, path: &str, scope: Scope) -> Result<Option<Entry>, BoundaryError> {
        let name = leak(name);
        let table = match value.get_ref() {
            DeValue::String(_) => {
                let treatment = self.word(value, path, Treatment::EXPECTED, Treatment::from_word)?;
                let entry = Entry { versions: scope.versions, ..Entry::new(name, treatment) };
                return Ok(scope.here.then_some(entry));
            }
            DeValue::Table(table) => table,
            other => {
                let expected = format!("a treatment ({}) or a table with one", Treatment::EXPECTED);
                return Err(self.error(value.span().start, path, kind(other), expected));
            }
        };
        self.known_keys(table, path, ENTRY_KEYS)?;
        let treatment = self.required(table, value, path, "treatment", Treatment::EXPECTED)?;
        let treatment = self.word(treatment, &join(path, "treatment"), Treatment::EXPECTED, Treatment::from_word)?;
        let scope = self.scope(table, path, scope)?;
        if let Some(why) = table.get("why") {
            self.string(why, &join(path, "why"))?;
        }
        let mut entry = Entry { versions: scope.versions, ..Entry::new(name, treatment) };
        entry.out = self.flag(table, path, "out")?;
        entry.last = self.flag(table, path, "last")?;
        entry.fork = self.flag(table, path, "fork")?;
        entry.seed = self.flag(table, path, "seed")?;
        entry.keeps = self.flag(table, path, "keeps")?;
        entry.keeps_result = self.flag(table, path, "keeps_result")?;
        entry.kept_by_result = self.flag(table, path, "kept_by_result")?;
        entry.live = self.flag(table, path, "live")?;
        entry.namespace = self.flag(table, path, "namespace")?;
        entry.terminal = self.flag(table, path, "terminal")?;
        entry.may_fail = self.flag(table, path, "may_fail")?;
        entry.only_reads = self.flag(table, path, "only_reads")?;
        entry.asks = self.flag(table, path, "asks")?;
        if let Some(value) = table.get("tells") {
            entry.tells = Some(leak(self.string(value, &join(path, "tells"))?));
        }
        entry.address = self.flag(table, path, "address")?;
        entry.evaluator = self.flag(table, path, "evaluator")?;
        entry.zone = self.flag(table, path, "zone")?;
        entry.replaces = self.flag(table, path, "replaces")?;
        entry.releases = self.flag(table, path, "releases")?;
        entry.weakly = self.flag(table, path, "weakly")?;
        entry.shown = self.flag(table, path, "shown")?;
        entry.steady = self.flag(table, path, "steady")?;
        entry.departs = self.flag(table, path, "departs")?;
        entry.unseen = self.flag(table, path, "unseen")?;
        if let Some(value) = table.get("echo") {
            entry.echo = self.word(value, &join(path, "echo"), Echo::EXPECTED, Echo::from_word)?;
        }
        if let Some(value) = table.get("fds") {
            entry.fds = self.word(value, &join(path, "fds"), Fds::EXPECTED, Fds::from_word)?;
        }
        if let Some(value) = table.get("convert") {
            entry.convert = self.word(value, &join(path, "convert"), Convert::EXPECTED, Convert::from_word)?;
        }
        if let Some(value) = table.get("environment") {
            entry.environment = self.environment(value, &join(path, "environment"))?;
        }
        Ok(scope.here.then_some(entry))
    }

    fn environment(&self, value: &Value<'_>, path: &str) -> Result<Environment, BoundaryError> {
        let expected = "\"own\" or the position of an argument, from 0";
        match value.get_ref() {
            DeValue::String(word) if word == "own" => Ok(Environment::Own),
            DeValue::Integer(number) => match number.as_str().parse() {
                Ok(position) => Ok(Environment::Argument(position)),
                Err(_) => Err(self.error(value.span().start, path, kind(value.get_ref()), expected)),
            },
            other => Err(self.error(value.span().start, path, kind(other), expected)),
        }
    }

    /// `versions` and `platforms` of a table, within those of the table around it.
    fn scope(&self, table: &Table<'_>, path: &str, outer: Scope) -> Result<Scope, BoundaryError> {
        let mut scope = outer;
        if let Some(value) = table.get("versions") {
            let path = join(path, "versions");
            let mut bits = 0;
            for item in self.array(value, &path)?.iter() {
                bits |= match self.string(item, &path)? {
                    "3.11" => PY_3_11,
                    "3.12" => PY_3_12,
                    other => {
                        let found = format!("{other:?}");
                        return Err(self.error(item.span().start, &path, found, "\"3.11\" or \"3.12\""));
                    }
                };
            }
            scope.versions &= bits;
            if scope.versions == 0 {
                let expected = "a version that the table around it is for";
                return Err(self.error(value.span().start, &path, "none such", expected));
            }
        }
        if let Some(value) = table.get("platforms") {
            let path = join(path, "platforms");
            let mut here = false;
            for item in self.array(value, &path)?.iter() {
                match self.string(item, &path)? {
                    name @ ("linux" | "macos") => here |= name == self.os,
                    other => {
                        let found = format!("{other:?}");
                        return Err(self.error(item.span().start, &path, found, "\"linux\" or \"macos\""));
                    }
                }
            }
            scope.here &= here;
        }
        Ok(scope)
    }

    fn known_keys(&self, table: &Table<'_>, path: &str, known: &[&str]) -> Result<(), BoundaryError> {
        match table.iter().find(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
            None => Ok(()),
            Some((key, _)) => {
                let path = join(path, key.get_ref());
                let expected = format!("one of the keys {}", known.join(", "));
                Err(self.error(key.span().start, &path, "an unknown key", expected))
            }
        }
    }

    fn required<'t, 'i>(
        &self,
        table: &'t Table<'i>,
        at: &Value<'_>,
        path: &str,
        key: &str,
        expected: &str,
    ) -> Result<&'t Value<'i>, BoundaryError> {
        table.get(key).ok_or_else(|| self.error(at.span().start, &join(path, key), "nothing", expected))
    }

    fn word<T>(
        &self,
        value: &Value<'_>,
        path: &str,
        expected: &str,
        from: fn(&str) -> Option<T>,
    ) -> Result<T, BoundaryError> {
        let DeValue::String(word) = value.get_ref() else {
            return Err(self.error(value.span().start, path, kind(value.get_ref()), expected));
        };
        from(word).ok_or_else(|| self.error(value.span().start, path, format!("{word:?}"), expected))
    }

    fn flag(&self, table: &Table<'_>, path: &str, key: &str) -> Result<bool, BoundaryError> {
        match table.get(key) {
            None => Ok(false),
            Some(value) => match value.get_ref() {
                DeValue::Boolean(flag) => Ok(*flag),
                other => Err(self.error(value.span().start, &join(path, key), kind(other), "true or false")),
            },
        }
    }

    fn string<'t>(&self, value: &'t Value<'_>, path: &str) -> Result<&'t str, BoundaryError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            other => Err(self.error(value.span().start, path, kind(other), "a string")),
        }
    }

    fn table<'t, 'i>(&self, value: &'t Value<'i>, path: &str) -> Result<&'t Table<'i>, BoundaryError> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            other => Err(self.error(value.span().start, path, kind(other), "a table")),
        }
    }

    fn array<'t, 'i>(&self, value: &'t Value<'i>, path: &str) -> Result<&'t [Value<'i>], BoundaryError> {
        match value.get_ref() {
            DeValue::Array(array) => Ok(array),
            other => Err(self.error(value.span().start, path, kind(other), "an array")),
        }
    }
}

const WHOLE_EXPECTED: &str = "one of \"record\", \"libc\", \"internal\", \"pass\", \"emulate\"";

/// How a whole module may be treated: "internal" says of it what "pass" says of each of its functions.
fn whole_treatment(word: &str) -> Option<Treatment> {
    if word == "internal" { Some(Treatment::Pass) } else { Treatment::from_word(word) }
}

/// A module of which nothing is listed by name.
fn whole_module(module: &'static str, treatment: Treatment, versions: u8) -> ModuleTable {
    let types = match treatment {
        Treatment::Record => TypeTreatment::External,
        Treatment::Pass | Treatment::Emulate | Treatment::Libc => TypeTreatment::Internal,
    };
    ModuleTable {
        module,
        functions: &[],
        types: &[],
        data: &[],
        default_function: Some(treatment),
        default_type: Some(types),
        libc: treatment == Treatment::Libc,
        threads: None,
        versions,
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => format!("{flag}"),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}
