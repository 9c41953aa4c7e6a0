//! Compiles `abi/boundary/*.toml` into `$OUT_DIR/boundary_table.rs`, which `src/boundary.rs` includes.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;

// The library's own tables and parser. What only the library uses of them is dead code here.
#[allow(dead_code)]
#[path = "src/boundary/parse.rs"]
mod parse;
#[allow(dead_code)]
#[path = "src/boundary/table.rs"]
mod table;

use table::{ALL_VERSIONS, Convert, Echo, Entry, Environment, Fds, ModuleTable, TypeTable};

/// Writes the tables of every file in `abi/boundary` for the target's platform.
///
/// # Panics
/// On a file that can't be read or does not obey the schema, naming file, line and key: the build fails.
pub fn generate(out_dir: &Path) {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("boundary");
    println!("cargo:rerun-if-changed={}", folder.display());
    println!("cargo:rerun-if-changed=src/boundary");
    let os = env::var("CARGO_CFG_TARGET_OS").expect("cargo sets it");

    let modules = parse::parse_path(&folder, &os).unwrap_or_else(|error| panic!("{error}"));
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    for (table, t) in modules.iter().flat_map(|table| table.types.iter().map(move |t| (table, t))) {
        if let Some(other) = types.insert(t.name, table.module) {
            panic!("{}: the type {} is listed in {}.toml and {other}.toml", folder.display(), t.name, table.module);
        }
    }

    let mut text = String::from("/// The shipped tables, sorted by module.\npub static MODULES: &[ModuleTable] = &[\n");
    for table in &modules {
        write_module(&mut text, table);
    }
    text.push_str("];\n");
    fs::write(out_dir.join("boundary_table.rs"), text).expect("write boundary_table.rs");
}

fn write_module(text: &mut String, table: &ModuleTable) {
    let default_function = match table.default_function {
        Some(treatment) => format!("Some(Treatment::{treatment:?})"),
        None => "None".to_owned(),
    };
    let default_type = match table.default_type {
        Some(treatment) => format!("Some(TypeTreatment::{treatment:?})"),
        None => "None".to_owned(),
    };
    let _ = writeln!(text, "    ModuleTable {{ module: {:?}, functions: &[", table.module);
    table.functions.iter().for_each(|entry| write_entry(text, "        ", entry));
    text.push_str("    ], types: &[\n");
    table.types.iter().for_each(|t| write_type(text, t));
    let _ = writeln!(
        text,
        "    ], data: &{:?}, default_function: {default_function}, default_type: {default_type}, libc: {}, \
         threads: {:?}, versions: {} }},",
        table.data, table.libc, table.threads, table.versions
    );
}

fn write_type(text: &mut String, table: &TypeTable) {
    let _ = writeln!(
        text,
        "        TypeTable {{ key: {:?}, name: {:?}, treatment: TypeTreatment::{:?}, versions: {}, methods: &[",
        table.key, table.name, table.treatment, table.versions
    );
    table.methods.iter().for_each(|entry| write_entry(text, "            ", entry));
    text.push_str("        ] },\n");
}

/// Writes what differs from `Entry::new`, so that the table stays readable.
fn write_entry(text: &mut String, indent: &str, entry: &Entry) {
    // All of them: one that is not written would not be in force.
    let Entry {
        name,
        treatment,
        out,
        echo,
        fds,
        convert,
        environment,
        last,
        fork,
        seed,
        keeps,
        keeps_result,
        kept_by_result,
        live,
        namespace,
        terminal,
        may_fail,
        only_reads,
        asks,
        tells,
        address,
        evaluator,
        zone,
        replaces,
        releases,
        weakly,
        shown,
        steady,
        departs,
        unseen,
        versions,
    } = *entry;
    let mut options = String::new();
    let flags = [
        ("out", out),
        ("last", last),
        ("fork", fork),
        ("seed", seed),
        ("keeps", keeps),
        ("keeps_result", keeps_result),
        ("kept_by_result", kept_by_result),
        ("live", live),
        ("namespace", namespace),
        ("terminal", terminal),
        ("may_fail", may_fail),
        ("only_reads", only_reads),
        ("asks", asks),
        ("address", address),
        ("evaluator", evaluator),
        ("zone", zone),
        ("replaces", replaces),
        ("releases", releases),
        ("weakly", weakly),
        ("shown", shown),
        ("steady", steady),
        ("departs", departs),
        ("unseen", unseen),
    ];
    for (flag, _) in flags.iter().filter(|(_, set)| *set) {
        let _ = write!(options, "{flag}: true, ");
    }
    if let Some(tells) = tells {
        let _ = write!(options, "tells: Some({tells:?}), ");
    }
    if echo != Echo::None {
        let _ = write!(options, "echo: Echo::{:?}, ", echo);
    }
    if fds != Fds::None {
        let _ = write!(options, "fds: Fds::{:?}, ", fds);
    }
    if convert != Convert::None {
        let _ = write!(options, "convert: Convert::{:?}, ", convert);
    }
    if environment != Environment::None {
        let _ = write!(options, "environment: Environment::{:?}, ", environment);
    }
    if versions != ALL_VERSIONS {
        let _ = write!(options, "versions: {}, ", versions);
    }
    let plain = format!("Entry::new({:?}, Treatment::{:?})", name, treatment);
    let _ = if options.is_empty() {
        writeln!(text, "{indent}{plain},")
    } else {
        writeln!(text, "{indent}Entry {{ {options}..{plain} }},")
    };
}
