//! The command line from outside. The library it loads is an empty one, so Python runs as if alone: what is tested is
//! what `retrace` does around it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use retrace_replay::event::{Call, Event, Hook, HookKind, Outcome, Position};
use retrace_replay::{Options, TraceWriter, Value};
use tempfile::TempDir;

/// A folder with an empty library for the Python on this machine, and that Python.
struct World {
    folder: TempDir,
    python: PathBuf,
    version: (u32, u32),
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable, *sys.version_info[:2], sep='\\n')"])
            .output()
            .expect("the tests need a python3");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines();
        let python = PathBuf::from(lines.next().unwrap());
        let mut number = || lines.next().unwrap().parse().unwrap();
        let world = World { folder, python, version: (number(), number()) };
        let library = world.path("library");
        fs::create_dir(&library).unwrap();
        let preload = library.join(format!("libretrace-preload{}", std::env::consts::DLL_SUFFIX));
        let compiled = Command::new("cc").args(["-shared", "-x", "c", "/dev/null", "-o"]).arg(&preload).status();
        assert!(compiled.expect("the tests need a C compiler").success());
        let (major, minor) = world.version;
        fs::write(library.join(format!("libretrace-{major}.{minor}{}", std::env::consts::DLL_SUFFIX)), "").unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn retrace(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retrace"));
        command.args(arguments).current_dir(self.folder.path()).env("RETRACE_LIBRARY_DIR", self.path("library"));
        command
    }

    /// A trace of a process that ran `code` with `-c`.
    fn trace(&self, code: &str, more: &[(&str, Value)]) -> PathBuf {
        let path = self.path("x.retrace");
        let (major, minor) = self.version;
        let options = Options { extent_size: 4096, max_bytes: None, python: major << 8 | minor, recording_id: None };
        let mut writer = TraceWriter::create(&path, &options).unwrap();
        let strings = |items: &[&str]| Value::List(items.iter().map(|item| Value::from(*item)).collect());
        let environ = Value::Dict(vec![
            (Value::Bytes(b"RECORDED".to_vec()), Value::Bytes(b"yes".to_vec())),
            (Value::Bytes(b"PYTHONPATH".to_vec()), Value::Bytes(b"/recorded".to_vec())),
        ]);
        let mut fields = vec![
            ("pid", Value::Int(4711)),
            ("executable", Value::from(self.python.to_str().unwrap())),
            ("hexversion", Value::Int(i64::from(major << 24 | minor << 16 | 0x0af0))),
            ("orig_argv", strings(&["python", "-X", "retrace=x.retrace", "-B", "-c", code, "one", "two"])),
            ("argv", strings(&["-c", "one", "two"])),
            ("run", Value::from("command")),
            ("main", Value::from(code)),
            ("environ", environ),
        ];
        fields.extend(more.iter().cloned());
        // Later ones replace earlier ones.
        fields.reverse();
        let start = Value::Dict(fields.into_iter().map(|(key, value)| (Value::from(key), value)).collect());
        let hook = Hook { name: "posix.read".into(), kind: HookKind::Function };
        let call = |number| Call {
            hook: 0,
            at: 24,
            arguments: Some(vec![Value::Int(number), Value::Int(100)]),
            outcome: Outcome::Value(Value::Bytes(b"data\n".to_vec())),
        };
        let events = [
            Event::Start(start),
            Event::Hooks { first: 0, hooks: vec![hook] },
            Event::Call(call(3)),
            Event::Callback {
                serial: 1,
                callable: Value::Argument(0),
                arguments: Value::Tuple(vec![Value::Int(1)]),
                keywords: Value::Null,
            },
            Event::Call(call(4)),
            Event::CallbackEnd { serial: 1, raised: false },
            Event::End { status: 0, unrecorded: Vec::new() },
        ];
        for event in events {
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            writer.append(&[&bytes]);
        }
        writer.add_source_bytes(b"/src/app.py", b"print('hello')\n".to_vec());
        writer.close();
        path
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The command failed as bad input does: code 2, one message, nothing on standard output.
#[track_caller]
fn expect_error(output: &Output, code: i32, parts: &[&str]) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} does not contain {part:?}");
    }
}

#[track_caller]
fn expect_output(output: &Output) -> String {
    assert_eq!(text(&output.stderr), "");
    assert!(output.status.success(), "{}", output.status);
    text(&output.stdout)
}

#[test]
fn what_is_no_trace_is_an_error_of_every_command() {
    let world = World::new();
    let script = world.path("app.py");
    fs::write(&script, "print('hello')\n").unwrap();
    let newer = world.path("newer.retrace");
    let mut bytes = fs::read(world.trace("1", &[])).unwrap();
    bytes[8] = retrace_replay::layout::FORMAT_VERSION as u8 + 1;
    fs::write(&newer, bytes).unwrap();
    let [format, newer_format] = [0, 1].map(|more| format!("format {}", retrace_replay::layout::FORMAT_VERSION + more));
    for command in ["replay", "info", "events", "sources"] {
        let run = |file: &Path| world.retrace([OsStr::new(command), file.as_os_str()]).output().unwrap();
        expect_error(&run(&world.path("missing.retrace")), 2, &["missing.retrace", "No such file"]);
        expect_error(&run(&script), 2, &["app.py", "is not a trace"]);
        expect_error(&run(&newer), 2, &["newer.retrace", &newer_format, &format]);
        expect_error(&run(world.folder.path()), 2, &["not a regular file"]);
    }
    let output = world.retrace(["events", "x.retrace", "--process", "7"]).output().unwrap();
    expect_error(&output, 2, &["x.retrace", "no process 7", "retrace info"]);
    let output = world.retrace(["sources", "x.retrace", "other.py"]).output().unwrap();
    expect_error(&output, 2, &["other.py", "retrace sources"]);
}

#[test]
fn usage_errors_are_bad_input() {
    let world = World::new();
    for arguments in [&["record"][..], &["record", "--max-size", "big", "--", "true"], &["bogus"], &[]] {
        assert_eq!(world.retrace(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
    let version = expect_output(&world.retrace(["--version"]).output().unwrap());
    assert_eq!(version, format!("retrace {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn record_becomes_the_program() {
    let world = World::new();
    let script = "echo \"$RETRACE_RECORDING|$RETRACE_ARGUMENTS|$RETRACE_MAX_SIZE|$LD_PRELOAD\"; echo err >&2; exit 7";
    let arguments =
        ["record", "-o", "out.retrace", "--max-size", "64K", "--arguments", "full", "--", "sh", "-c", script];
    let mut child = world.retrace(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    assert!(child.stdin.take().is_none());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output.stderr), "err\n");
    let library = world.path("library").canonicalize().unwrap().join("libretrace-preload.so");
    let expected = format!("{}|full|65536|{}\n", world.path("out.retrace").display(), library.display());
    assert_eq!(text(&output.stdout), expected);
    assert!(!world.path("out.retrace").exists());
    assert!(pid > 0);
}

#[test]
fn record_names_the_trace_after_the_script_and_the_pid() {
    let world = World::new();
    fs::write(world.path("app.py"), "import os\nprint(os.environ['RETRACE_RECORDING'], os.getpid())\n").unwrap();
    let mut command = world.retrace(["record", "--"]);
    let output = expect_output(&command.arg(&world.python).arg("app.py").output().unwrap());
    let (path, pid) = output.trim().rsplit_once(' ').unwrap();
    assert_eq!(Path::new(path), world.path(&format!("app-{pid}.retrace")));
}

#[test]
fn record_runs_the_program_even_where_it_cannot_write() {
    let world = World::new();
    let print = "echo \"ran $RETRACE_RECORDING\"";
    let bad = [("/nonexistent/x.retrace", "No such file"), ("/dev/null", "not a regular file"), (".", "regular file")];
    for (file, reason) in bad {
        let output = world.retrace(["record", "-o", file, "--", "sh", "-c", print]).output().unwrap();
        assert_eq!(text(&output.stdout), "ran \n");
        assert!(output.status.success());
        let message = text(&output.stderr);
        assert!(message.contains(reason) && message.lines().count() == 1, "{message}");
    }
    let live = TraceWriter::create(&world.path("live.retrace"), &Options::default()).unwrap();
    let output = world.retrace(["record", "-o", "live.retrace", "--", "sh", "-c", print]).output().unwrap();
    assert_eq!(text(&output.stdout), "ran \n");
    assert!(text(&output.stderr).contains("another process"));
    drop(live);
}

#[test]
fn record_reports_commands_that_cannot_run() {
    let world = World::new();
    expect_error(
        &world.retrace(["record", "no-such-command"]).output().unwrap(),
        127,
        &["no-such-command", "not found"],
    );
    let file = world.path("data.txt");
    fs::write(&file, "x").unwrap();
    expect_error(&world.retrace(["record", file.to_str().unwrap()]).output().unwrap(), 126, &["data.txt"]);
}

#[test]
fn a_missing_library_is_named() {
    let world = World::new();
    let mut command = world.retrace(["record", "true"]);
    let output = command.env("RETRACE_LIBRARY_DIR", world.folder.path()).output().unwrap();
    expect_error(&output, 2, &["libretrace-preload", "RETRACE_LIBRARY_DIR"]);
}

const SHOW: &str = "import os, sys; print(sys.argv, sys.flags.dont_write_bytecode, 'retrace' in sys._xoptions); \
                    print(sorted(k for k in os.environ if k.startswith(('RETRACE', 'RECORDED', 'PYTHON')))); \
                    print(os.environ['RETRACE_REPLAY'], os.environ['RETRACE_PROCESS']); print(os.getcwd()); \
                    print(repr(sys.stdin.read())); sys.exit(5)";

#[test]
fn replay_runs_what_was_recorded_somewhere_else() {
    let world = World::new();
    let trace = world.trace(SHOW, &[]);
    let mut command = world.retrace(["replay", "x.retrace", "--strict"]);
    let output = command.env("PYTHONPATH", "/local").env("LD_PRELOAD", "").stdin(Stdio::null()).output().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(5));
    let shown = text(&output.stdout);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "['-c', 'one', 'two'] 1 False");
    assert_eq!(
        lines[1],
        "['RECORDED', 'RETRACE_ATTEMPT', 'RETRACE_LAYOUT', 'RETRACE_LIBRARY_DIR', 'RETRACE_PATIENCE', \
         'RETRACE_PROCESS', 'RETRACE_REPLAY', 'RETRACE_SHOWN', 'RETRACE_SKIP', 'RETRACE_STRICT']"
    );
    assert_eq!(lines[2], format!("{} 0", trace.display()));
    assert!(!Path::new(lines[3]).exists(), "the temporary folder {} was left behind", lines[3]);
    assert_ne!(Path::new(lines[3]), world.folder.path());
    assert_eq!(lines[4], "''");
}

#[test]
fn replay_dies_as_the_program_died() {
    let world = World::new();
    for signal in [libc_signal("SIGKILL"), libc_signal("SIGTERM"), libc_signal("SIGSEGV")] {
        world.trace(&format!("import os; os.kill(os.getpid(), {signal})"), &[]);
        let status = world.retrace(["replay", "x.retrace"]).status().unwrap();
        assert_eq!(status.signal(), Some(signal));
    }
}

fn libc_signal(name: &str) -> i32 {
    match name {
        "SIGKILL" => 9,
        "SIGSEGV" => 11,
        _ => 15,
    }
}

#[test]
fn replay_ends_by_signals_and_cleans_up() {
    use std::io::{BufRead, BufReader};
    let world = World::new();
    // A handler of the program's does not keep the replay alive; the folder is gone when we have ended.
    world.trace(
        "import os, signal, sys; signal.signal(15, lambda *a: sys.exit(33)); print(os.getcwd(), flush=True); \
         signal.pause()",
        &[],
    );
    let mut child = world.retrace(["replay", "x.retrace"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(Path::new(line.trim()).is_dir());
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    assert!(!Path::new(line.trim()).exists());
}

#[test]
fn replay_wants_the_recorded_version() {
    let world = World::new();
    let other = [("hexversion", Value::Int(0x0301_00f0)), ("executable", Value::from("/nonexistent/python"))];
    world.trace("1", &other);
    let output = world.retrace(["replay", "x.retrace"]).env("PYENV_ROOT", world.folder.path()).output().unwrap();
    expect_error(&output, 2, &["x.retrace", "Python 3.1,", "/nonexistent/python", "--python"]);
    let python = world.python.to_str().unwrap();
    let output = world.retrace(["replay", "x.retrace", "--python", python]).output().unwrap();
    expect_error(&output, 2, &[python, "recorded with 3.1"]);
    let output = world.retrace(["replay", "x.retrace", "--python", "/bin/cat"]).output().unwrap();
    expect_error(&output, 2, &["/bin/cat"]);
}

#[test]
fn replay_falls_back_to_path() {
    let world = World::new();
    world.trace("print('ran')", &[("executable", Value::from("/nonexistent/python"))]);
    let (major, minor) = world.version;
    fs::create_dir(world.path("bin")).unwrap();
    std::os::unix::fs::symlink(&world.python, world.path(&format!("bin/python{major}.{minor}"))).unwrap();
    let mut command = world.retrace(["replay", "x.retrace"]);
    assert_eq!(expect_output(&command.env("PATH", world.path("bin")).output().unwrap()), "ran\n");
}

#[test]
fn replay_of_a_process_that_left_no_start_is_an_error() {
    let world = World::new();
    let path = world.path("x.retrace");
    TraceWriter::create(&path, &Options::default()).unwrap().close();
    expect_error(&world.retrace(["replay", "x.retrace"]).output().unwrap(), 2, &["x.retrace", "no start"]);
}

#[test]
fn events_are_listed() {
    let world = World::new();
    world.trace("1", &[]);
    let list = |more: &[&str]| {
        let arguments = ["events", "x.retrace"].iter().chain(more);
        expect_output(&world.retrace(arguments).output().unwrap())
    };
    let all = list(&[]);
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[2], "       2  posix.read(3, 100) -> b'data\\n'  @24");
    assert_eq!(lines[3], "       3  callback 1: <argument 0>(1)");
    assert_eq!(lines[4], "       4    posix.read(4, 100) -> b'data\\n'  @24");
    assert_eq!(lines[5], "       5  callback 1 returned");
    assert_eq!(list(&["--function", "posix.*"]), format!("{}\n{}\n", lines[2], lines[4]));
    assert_eq!(list(&["--function", "time.*"]), "");
    assert_eq!(list(&["--from", "3", "--to", "4"]), format!("{}\n{}\n", lines[3], lines[4]));
    assert_eq!(list(&["--from", "3", "--limit", "1"]), format!("{}\n", lines[3]));
    let json: serde_json::Value = serde_json::from_str(list(&["--json"]).lines().nth(4).unwrap()).unwrap();
    assert_eq!(json["function"], "posix.read");
    assert_eq!(json["index"], 4);
    assert_eq!(json["depth"], 1);
    assert_eq!(json["arguments"], serde_json::json!([4, 100]));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new();
    let path = world.path("x.retrace");
    let mut writer = TraceWriter::create(&path, &Options::default()).unwrap();
    let mut bytes = Vec::new();
    Event::Switch { thread: 1, from: Position::InCall }.encode(&mut bytes);
    (0..100_000).for_each(|_| writer.append(&[&bytes]));
    writer.close();
    let mut child =
        world.retrace(["events", "x.retrace"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn info_says_what_a_trace_holds() {
    let world = World::new();
    world.trace("1", &[("hostname", Value::from("build\x1b[7mhost"))]);
    let info = expect_output(&world.retrace(["info", "x.retrace"]).output().unwrap());
    for part in ["process 0, pid 4711: exited with status 0", "events     7", "sources    1", "-X retrace=x.retrace -B"]
    {
        assert!(info.contains(part), "{info}");
    }
    assert!(!info.contains('\x1b'));
    let json = expect_output(&world.retrace(["info", "--json", "x.retrace"]).output().unwrap());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["processes"][0]["events"], 7);
    assert_eq!(json["processes"][0]["ending"]["status"], 0);
    assert_eq!(json["processes"][0]["start"]["environ"], serde_json::Value::Null);
}

#[test]
fn info_tells_how_recording_ended() {
    let world = World::new();
    let path = world.path("x.retrace");
    let info = || expect_output(&world.retrace(["info", "x.retrace"]).output().unwrap());
    let writer = TraceWriter::create(&path, &Options::default()).unwrap();
    assert!(info().contains("still recording"));
    drop(writer);
    assert!(info().contains("ended abruptly"));
    let mut writer = TraceWriter::create(&path, &Options::default()).unwrap();
    writer.stop("the disk is full");
    writer.close();
    assert!(info().contains("recording stopped: the disk is full"));
}

#[test]
fn sources_are_listed_and_printed() {
    let world = World::new();
    world.trace("1", &[]);
    let list = expect_output(&world.retrace(["sources", "x.retrace"]).output().unwrap());
    assert!(list.ends_with(" 15  /src/app.py\n"), "{list}");
    for path in ["/src/app.py", "app.py"] {
        let printed = expect_output(&world.retrace(["sources", "x.retrace", path]).output().unwrap());
        assert_eq!(printed, "print('hello')\n");
    }
}

#[test]
fn doctor_refuses_what_it_does_not_know() {
    let world = World::new();
    let (major, minor) = world.version;
    let library = world.path("library").join(format!("libretrace-{major}.{minor}{}", std::env::consts::DLL_SUFFIX));
    let python = world.python.to_str().unwrap();
    let doctor = || world.retrace(["doctor", "--python", python]).output().unwrap();
    // The empty library gives no report.
    let output = doctor();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no JSON"));
    fs::remove_file(library).unwrap();
    let output = doctor();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains(&format!("not supported: it is Python {major}.{minor}")));
    let output = world.retrace(["doctor", "--python", "/nonexistent/python"]).output().unwrap();
    expect_error(&output, 2, &["/nonexistent/python", "No such file"]);
}

/// A Python in name only, which prints `report`.
fn fake_python(world: &World, report: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = world.path("python-fake");
    let (major, minor) = world.version;
    let script = format!(
        "#!/bin/sh\nif [ -n \"$RETRACE_DOCTOR\" ]; then echo noise; echo '{report}'; \
         else echo retrace {major} {minor} 0 cpython flags=; fi\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn doctor_prints_the_library_s_report() {
    let world = World::new();
    let report = r#"{"version":"3.12.1","supported":true,"reason":null,"modules":[
        {"name":"_socket","path":"/lib/_socket.so","class":"external","why":"listed"},
        {"name":"mystery","path":"/lib/mystery.so","class":"unknown","why":"imports connect"}]}"#
        .replace('\n', "");
    let python = fake_python(&world, &report);
    let mut command = world.retrace(["doctor", "--python"]);
    let shown = expect_output(&command.arg(python).output().unwrap());
    assert!(shown.contains("\nsupported\n"), "{shown}");
    assert!(shown.contains("  mystery  /lib/mystery.so  (imports connect)\n"), "{shown}");
    let python = fake_python(&world, r#"{"version":"3.12.1","supported":false,"reason":"static build"}"#);
    let output = world.retrace(["doctor", "--python"]).arg(python).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("not supported: static build"));
}

#[test]
fn names_that_are_no_utf_8_are_taken() {
    let world = World::new();
    let name = OsStr::from_bytes(b"\xff.retrace");
    let output = world.retrace([OsStr::new("info"), name]).output().unwrap();
    expect_error(&output, 2, &["No such file"]);
}
