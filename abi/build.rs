//! Builds the C shim against the interpreter found (`PYO3_PYTHON`, else `python3`), checks our layout constants against
//! its headers, and compiles the boundary's TOML files into tables.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "build_boundary.rs"]
mod build_boundary;

/// The versions this library knows. A version that is not here is refused at build time and at load.
const KNOWN: [(u8, u8); 2] = [(3, 11), (3, 12)];

struct Interpreter {
    version: (u8, u8),
    include: PathBuf,
}

fn find_interpreter() -> Interpreter {
    println!("cargo:rerun-if-env-changed=PYO3_PYTHON");
    let program = env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = "import sys, sysconfig; print(sys.version_info[0], sys.version_info[1]); \
                  print(sysconfig.get_path('include'))";
    let output = Command::new(&program)
        .args(["-I", "-c", script])
        .output()
        .unwrap_or_else(|e| panic!("cannot run {program}: {e} (set PYO3_PYTHON to a Python 3.11 or 3.12)"));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let version: Vec<u8> = lines.next().unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let version = match version[..] {
        [major, minor] if KNOWN.contains(&(major, minor)) => (major, minor),
        _ => panic!("{program} is Python {version:?}; Retrace knows {KNOWN:?} (set PYO3_PYTHON)"),
    };
    Interpreter { version, include: PathBuf::from(lines.next().unwrap_or_default()) }
}

/// `pub const NAME: usize = 24;` lines of the version's layout file become `-DLAYOUT_NAME=24`, so that the shim's
/// static assertions compare the very numbers that Rust uses with what the headers say.
fn layout_constants(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).expect("layout file");
    text.lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.strip_suffix(';'))
        .filter_map(|rest| {
            let (name, value) = rest.split_once(": usize = ")?;
            Some((format!("LAYOUT_{name}"), value.to_owned()))
        })
        .collect()
}

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let Interpreter { version: (major, minor), include } = find_interpreter();

    for (a, b) in KNOWN {
        println!("cargo:rustc-check-cfg=cfg(py{a}_{b})");
    }
    println!("cargo:rustc-cfg=py{major}_{minor}");

    let layout = root.join(format!("src/layout_{major}_{minor}.rs"));
    println!("cargo:rerun-if-changed={}", layout.display());
    println!("cargo:rerun-if-changed={}", root.join("boundary").display());

    let shim = root.join("../cshim");
    println!("cargo:rerun-if-changed={}", shim.display());
    let mut build = cc::Build::new();
    build
        .include(&include)
        .include(include.join("internal"))
        .include(&shim)
        .define("Py_BUILD_CORE", None)
        .define("Py_BUILD_CORE_MODULE", None)
        .flag("-fvisibility=hidden")
        .flag("-fno-strict-aliasing")
        .flag("-std=gnu11")
        .opt_level(2)
        .warnings(true)
        .extra_warnings(false);
    for (name, value) in layout_constants(&layout) {
        build.define(&name, value.as_str());
    }
    let mut sources: Vec<PathBuf> = fs::read_dir(&shim)
        .expect("cshim")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let other_version = name.starts_with("version_") && name != format!("version_{major}_{minor}.c");
            // preload.c is a library of its own: it is loaded into programs that are not Python.
            name.ends_with(".c") && name != "preload.c" && !other_version
        })
        .collect();
    sources.sort();
    build.files(sources).compile("retrace_cshim");

    build_boundary::generate(&out);
}
