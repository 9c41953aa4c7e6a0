//! Writes the trampoline tables: one function per (calling convention, place), because a C function that CPython calls
//! is told its `self` and its arguments but not which function object it was called through.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

/// External types; each has its own set of slot functions.
const TYPES: usize = 96;

/// Table, type of its elements, generic function in `src/trampoline.rs`, places.
const TABLES: [(&str, &str, &str, usize); 26] = [
    ("LIBC_CALLS", "LibcCall", "libc_call", 512),
    ("NOARGS", "NoargsFunction", "noargs", 640),
    ("ONE", "OneFunction", "one", 384),
    ("FASTCALL", "FastcallFunction", "fastcall", 640),
    ("FASTCALL_KEYWORDS", "FastcallKeywordsFunction", "fastcall_keywords", 512),
    ("METHOD", "MethodFunction", "method", 128),
    ("VARARGS", "VarargsFunction", "varargs", 640),
    ("VARARGS_KEYWORDS", "VarargsKeywordsFunction", "varargs_keywords", 256),
    ("NEW", "NewSlot", "tp_new", TYPES),
    ("INIT", "InitSlot", "tp_init", TYPES),
    ("NEXT", "NextSlot", "tp_iternext", TYPES),
    ("REPR", "ReprSlot", "tp_repr", TYPES),
    ("CALL", "CallSlot", "tp_call", TYPES),
    ("HASH", "HashSlot", "tp_hash", TYPES),
    ("COMPARE", "CompareSlot", "tp_richcompare", TYPES),
    ("STR", "ReprSlot", "tp_str", TYPES),
    ("ITER", "ReprSlot", "tp_iter", TYPES),
    ("SUBSCRIPT", "SubscriptSlot", "mp_subscript", TYPES),
    ("ASSIGN", "AssignSlot", "mp_ass_subscript", TYPES),
    ("LENGTH", "LengthSlot", "mp_length", TYPES),
    ("SQ_LENGTH", "LengthSlot", "sq_length", TYPES),
    ("SQ_ITEM", "ItemSlot", "sq_item", TYPES),
    ("CONTAINS", "ContainsSlot", "sq_contains", TYPES),
    ("BOOL", "BoolSlot", "nb_bool", TYPES),
    ("DEALLOC", "DeallocSlot", "tp_dealloc", TYPES),
    ("FINALIZE", "FinalizeSlot", "tp_finalize", TYPES),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let mut text = format!("pub const TYPES: usize = {TYPES};\n");
    for (table, kind, function, size) in TABLES {
        write!(text, "pub static {table}: [{kind}; {size}] = [").expect("a string");
        for place in 0..size {
            write!(text, "{function}::<{place}>,").expect("a string");
        }
        text.push_str("];\n");
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("trampoline_tables.rs"), text).expect("OUT_DIR is writable");
}
