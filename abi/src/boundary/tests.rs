use std::path::Path;

use super::*;

fn parse_text(text: &str) -> Result<Vec<ModuleTable>, BoundaryError> {
    parse::parse(Path::new("mine.toml"), text, "linux")
}

/// The message of a text that must be refused.
fn refusal(text: &str) -> String {
    parse_text(text).expect_err("the text is not of the schema").to_string()
}

#[test]
fn shipped_tables_are_sorted_and_consistent() {
    assert!(MODULES.is_sorted_by(|a, b| a.module < b.module));
    for table in MODULES {
        assert!(table.functions.is_sorted_by(|a, b| a.name < b.name), "{}", table.module);
        assert!(table.types.is_sorted_by(|a, b| a.name < b.name), "{}", table.module);
        for entry in table.functions.iter().chain(table.types.iter().flat_map(|t| t.methods)) {
            let name = format!("{}.{}", table.module, entry.name);
            assert_ne!(entry.versions, 0, "{name} is for no version");
            // These say something about an event: without one they would be lost.
            let about_event = entry.out || entry.last || entry.fork || entry.seed || entry.live || entry.namespace;
            let about_event = about_event || entry.steady || entry.departs;
            let recorded = entry.treatment == Treatment::Record;
            assert!(recorded || !about_event, "{name} is not recorded");
            let plain = (Echo::None, Fds::None, Convert::None);
            assert!(recorded || (entry.echo, entry.fds, entry.convert) == plain, "{name} is not recorded");
            assert!(recorded || entry.environment == Environment::None, "{name} is not recorded");
        }
    }
}

#[test]
fn the_compiled_tables_say_what_the_files_say() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("boundary");
    let read = parse::parse_path(&files, std::env::consts::OS).unwrap();
    assert_eq!(read.len(), MODULES.len());
    for (read, compiled) in read.iter().zip(MODULES) {
        assert_eq!(read, compiled, "{}", compiled.module);
    }
}

#[test]
fn shipped_entries_are_found() {
    let posix = module("posix").unwrap();
    let open = posix.function("open", 11).unwrap();
    assert_eq!((open.treatment, open.convert, open.fds), (Treatment::Record, Convert::Fspath, Fds::Open));
    assert!(posix.function("forkpty", 12).unwrap().fork);
    assert!(posix.function("_exit", 12).unwrap().last);
    assert!(posix.function("unshare", 12).is_some());
    assert!(posix.function("unshare", 11).is_none(), "3.12 only");
    assert!(posix.function("unshare", 13).is_none(), "an unknown version has nothing");
    let file = module("_io").unwrap().type_by_name("_io.FileIO", 12).unwrap();
    assert_eq!(file.treatment, TypeTreatment::External);
    assert_eq!(file.method("write", 12).unwrap().echo, Echo::Receiver);
    assert!(file.method("readinto", 12).unwrap().out);
    assert!(file.method("read", 12).is_none());
    assert_eq!(file.default_method(), Treatment::Record);
    assert_eq!(module("time").unwrap().data, ["altzone", "daylight", "timezone", "tzname"]);
    assert!(module("no_such_module").is_none());
}

#[test]
fn defaults_apply_where_nothing_is_listed() {
    let boundary = Boundary::new(12, &[]);
    assert_eq!(boundary.function("math", "sqrt").unwrap().treatment, Treatment::Pass);
    assert_eq!(boundary.function("posix", "no_such_function"), None);
    assert_eq!(boundary.method("_io", "_io.FileIO", "read").unwrap().treatment, Treatment::Record);
    assert_eq!(boundary.method("_random", "_random.Random", "random").unwrap().treatment, Treatment::Pass);
    assert_eq!(boundary.method("psycopg2._psycopg", "psycopg2.extensions.cursor", "execute"), None);
}

#[test]
fn the_user_file_adds_and_overrides() {
    let folder = std::env::temp_dir().join(format!("retrace-boundary-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("mine.toml");
    let text = r#"
        module = "time"
        [functions]
        time = "pass"
        [types.struct_time]
        treatment = "external"
        methods = { tp_repr = "pass" }
    "#;
    std::fs::write(&file, text).unwrap();
    let boundary = Boundary::new(11, load_user(&file).unwrap());
    std::fs::write(folder.join("other.toml"), "[[groups]]\nmodules = [\"time\"]\ntreatment = \"pass\"\nwhy = \"\"\n")
        .unwrap();
    let twice = load_user(&folder).unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(twice.contains("other.toml:1: module: found \"time\", which "), "{twice}");
    assert!(twice.ends_with("mine.toml lists already, expected each module once"), "{twice}");
    assert_eq!(boundary.function("time", "time").unwrap().treatment, Treatment::Pass);
    assert_eq!(boundary.function("time", "sleep").unwrap().treatment, Treatment::Record, "the shipped entry stands");
    assert_eq!(boundary.type_treatment("time", "time.struct_time"), Some(TypeTreatment::External));
    assert_eq!(boundary.method("time", "time.struct_time", "tp_repr").unwrap().treatment, Treatment::Pass);
    assert_eq!(boundary.method("time", "time.struct_time", "tp_str").unwrap().treatment, Treatment::Record);

    let missing = load_user(Path::new("/nonexistent/mine.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/mine.toml: can't read the boundary file: "), "{missing}");
}

#[test]
fn a_libc_module() {
    let text = "module = \"grpc._cython.cygrpc\"\ntreatment = \"libc\"\nwhy = \"I/O of its own\"\n";
    let tables = parse_text(text).unwrap();
    assert!(tables[0].libc);
    assert_eq!(tables[0].default_function, Some(Treatment::Libc));
}

#[test]
fn threads_of_a_libc_module() {
    let text = |threads| format!("module = \"m\"\ntreatment = \"libc\"\nwhy = \"w\"\n{threads}");
    let said = |threads| parse_text(&text(threads)).unwrap()[0].threads;
    assert_eq!(said(""), None);
    assert_eq!(said("threads = \"turns\"\n"), Some(true));
    assert_eq!(said("threads = \"free\"\n"), Some(false));
    assert_eq!(
        refusal(&text("threads = \"some\"\n")),
        "mine.toml:4: threads: found \"some\", expected one of \"turns\", \"free\""
    );
    assert_eq!(
        refusal("module = \"m\"\nthreads = \"turns\"\n"),
        "mine.toml:2: threads: found the string \"turns\", \
         expected nothing: only of a module whose treatment is \"libc\" are threads followed"
    );
}

#[test]
fn every_option_is_read() {
    let text = r#"
        module = "m"
        [functions]
        g = { treatment = "record", echo = "self", fds = "close-self", convert = "fileno", environment = 2, versions = ["3.12"] }
        h = { treatment = "record", platforms = ["macos"] }
        [functions.f]
        treatment = "record"
        out = true
        last = true
        fork = true
        seed = true
        keeps = true
        keeps_result = true
        kept_by_result = true
        live = true
        namespace = true
        terminal = true
        may_fail = true
        only_reads = true
        asks = true
        tells = "timeout"
        address = true
        evaluator = true
        zone = true
        replaces = true
        releases = true
        weakly = true
        shown = true
        steady = true
        departs = true
        unseen = true
        environment = "own"
    "#;
    let table = parse_text(text).unwrap()[0];
    let [f, g] = table.functions else { panic!("h is macOS's: {:?}", table.functions) };
    assert!(f.out && f.last && f.fork && f.seed && f.keeps && f.live && f.namespace && f.terminal && f.address);
    assert!(f.evaluator && f.zone && f.replaces && f.releases && f.keeps_result && f.weakly && f.shown);
    assert!(f.steady && f.departs && f.unseen && f.kept_by_result && f.may_fail && f.only_reads && f.asks);
    assert_eq!((f.tells, g.tells), (Some("timeout"), None));
    assert_eq!((f.versions, g.versions), (ALL_VERSIONS, PY_3_12));
    assert_eq!((g.echo, g.fds, g.convert), (Echo::Receiver, Fds::CloseReceiver, Convert::Fileno));
    assert_eq!((f.environment, g.environment), (Environment::Own, Environment::Argument(2)));
}

#[test]
fn versions_and_platforms_are_inherited() {
    let text = r#"
        module = "m"
        versions = ["3.11"]
        [functions]
        f = "pass"
        [types.T]
        treatment = "external"
        methods = { g = { treatment = "record", versions = ["3.11", "3.12"] } }
    "#;
    let table = parse_text(text).unwrap()[0];
    assert_eq!(table.functions[0].versions, PY_3_11);
    assert_eq!(table.types[0].versions, PY_3_11);
    assert_eq!(table.types[0].methods[0].versions, PY_3_11);
    assert_eq!(
        refusal(
            "module = \"m\"\nversions = [\"3.11\"]\n[functions]\nf = { treatment = \"pass\", versions = [\"3.12\"] }\n"
        ),
        "mine.toml:4: functions.f.versions: found none such, expected a version that the table around it is for"
    );
    assert!(parse_text("module = \"m\"\nplatforms = [\"macos\"]\n[functions]\nf = \"pass\"\n").unwrap().is_empty());
}

#[test]
fn groups_treat_whole_modules() {
    let text = "[[groups]]\nmodules = [\"a\", \"b\"]\ntreatment = \"pass\"\nwhy = \"pure\"\n";
    let tables = parse_text(text).unwrap();
    assert_eq!(tables.iter().map(|t| t.module).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(tables[1].default_function, Some(Treatment::Pass));
    assert_eq!(tables[1].default_type, Some(TypeTreatment::Internal));
}

#[test]
fn not_toml() {
    let message = refusal("module = \"m\"\n[functions\nf = \"pass\"\n");
    assert!(message.starts_with("mine.toml:2: not valid TOML: "), "{message}");
    let twice = refusal("module = \"m\"\n[functions]\nf = \"pass\"\nf = \"record\"\n");
    assert!(twice.starts_with("mine.toml:4: not valid TOML: "), "{twice}");
}

#[test]
fn unknown_keys() {
    let message = refusal("module = \"m\"\nfunction = 1\n");
    assert!(message.starts_with("mine.toml:2: function: found an unknown key, expected one of the keys about, "));
    let message = refusal("module = \"m\"\n[functions]\nf = { treatment = \"record\", ouy = true }\n");
    assert!(
        message.starts_with("mine.toml:3: functions.f.ouy: found an unknown key, expected one of the keys convert, ")
    );
    let message = refusal("module = \"m\"\n[types.T]\ntreatment = \"external\"\nslots = []\n");
    assert!(message.starts_with("mine.toml:4: types.T.slots: found an unknown key, "), "{message}");
}

#[test]
fn unknown_words() {
    assert_eq!(
        refusal("module = \"m\"\n\n[functions]\nf = \"recrod\"\n"),
        "mine.toml:4: functions.f: found \"recrod\", \
         expected one of \"record\", \"pass\", \"emulate\", \"libc\""
    );
    assert_eq!(
        refusal("module = \"m\"\n[types.T]\ntreatment = \"record\"\n"),
        "mine.toml:3: types.T.treatment: found \"record\", expected one of \"external\", \"internal\""
    );
    assert_eq!(
        refusal("module = \"m\"\n[functions]\nf = { treatment = \"record\", convert = \"path\" }\n"),
        "mine.toml:3: functions.f.convert: found \"path\", \
         expected one of \"none\", \"fspath\", \"fspath-both\", \"fspath-items\", \"idna\", \"index\", \"items\", \"sequence\", \"fileno\""
    );
    assert_eq!(
        refusal("module = \"m\"\nversions = [\"3.11\",\n  \"3.10\"]\n"),
        "mine.toml:3: versions: found \"3.10\", expected \"3.11\" or \"3.12\""
    );
    assert_eq!(
        refusal("module = \"m\"\n[functions]\nf = { treatment = \"pass\", platforms = [\"windows\"] }\n"),
        "mine.toml:3: functions.f.platforms: found \"windows\", expected \"linux\" or \"macos\""
    );
}

#[test]
fn wrong_types() {
    assert_eq!(refusal("module = 7\n"), "mine.toml:1: module: found the number 7, expected a string");
    assert_eq!(
        refusal("module = \"m\"\n[functions]\nf = { treatment = \"record\", out = \"yes\" }\n"),
        "mine.toml:3: functions.f.out: found the string \"yes\", expected true or false"
    );
    assert_eq!(
        refusal("module = \"m\"\nfunctions = [\"f\"]\n"),
        "mine.toml:2: functions: found an array, expected a table"
    );
    assert_eq!(
        refusal("module = \"m\"\n[functions]\nf = true\n"),
        "mine.toml:3: functions.f: found true, expected a treatment \
         (one of \"record\", \"pass\", \"emulate\", \"libc\") or a table with one"
    );
    assert_eq!(
        refusal("module = \"m\"\nversions = \"3.11\"\n"),
        "mine.toml:2: versions: found the string \"3.11\", expected an array"
    );
}

#[test]
fn missing_keys() {
    assert_eq!(
        refusal("about = \"nothing\"\n"),
        "mine.toml:1: module: found nothing, expected the module's name in sys.modules, as a string"
    );
    assert_eq!(
        refusal("module = \"m\"\n[functions]\nf = { out = true }\n"),
        "mine.toml:3: functions.f.treatment: found nothing, \
         expected one of \"record\", \"pass\", \"emulate\", \"libc\""
    );
    assert_eq!(
        refusal("module = \"m\"\ntreatment = \"pass\"\n"),
        "mine.toml:2: why: found nothing, expected a string: why all of it is treated so"
    );
    assert_eq!(
        refusal("[[groups]]\nmodules = [\"m\"]\ntreatment = \"pass\"\n"),
        "mine.toml:1: groups[0].why: found nothing, expected a string: why all of it is treated so"
    );
}
