//! CPython's own command line, taken apart: which options, and what it runs.
//!
//! Follows `config_parse_cmdline` in CPython's `Python/initconfig.c` and `Python/getopt.c`: short options may be
//! combined, an option's argument may be attached, and `-c` and `-m` end the options.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What the interpreter was told to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Run {
    /// A script, a folder or an archive.
    File(OsString),
    /// `-m`.
    Module(OsString),
    /// `-c`.
    Command(OsString),
    /// Standard input: `-`, or nothing at all.
    Stdin,
}

/// An interpreter's arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct PythonArguments {
    /// The options, each in an argument of its own, with its value in the next.
    pub options: Vec<OsString>,
    /// What is run.
    pub run: Run,
}

impl PythonArguments {
    /// Takes apart the arguments that follow the interpreter's name.
    pub fn parse(arguments: &[OsString]) -> PythonArguments {
        let mut options = Vec::new();
        let mut rest = arguments.iter().map(OsString::as_os_str);
        while let Some(argument) = rest.next() {
            let bytes = argument.as_bytes();
            match bytes {
                b"-" => {
                    return PythonArguments { options, run: Run::Stdin };
                }
                b"--" => break,
                b"--check-hash-based-pycs" => {
                    options.push(argument.to_owned());
                    options.extend(rest.next().map(OsStr::to_owned));
                }
                [b'-', b'-', ..] => options.push(argument.to_owned()),
                [b'-', flags @ ..] => {
                    if let Some(run) = parse_flags(flags, &mut rest, &mut options) {
                        return PythonArguments { options, run };
                    }
                }
                _ => {
                    return PythonArguments { options, run: Run::File(argument.to_owned()) };
                }
            }
        }
        let run = rest.next().map_or(Run::Stdin, |script| Run::File(script.to_owned()));
        PythonArguments { options, run }
    }
}

/// Takes apart one argument of short options. Returns what is run, if the options end there.
fn parse_flags<'a>(
    flags: &[u8],
    rest: &mut impl Iterator<Item = &'a OsStr>,
    options: &mut Vec<OsString>,
) -> Option<Run> {
    for (i, &flag) in flags.iter().enumerate() {
        if !matches!(flag, b'c' | b'm' | b'W' | b'X') {
            options.push(OsString::from_vec(vec![b'-', flag]));
            continue;
        }
        let attached = &flags[i + 1..];
        let value = match attached {
            [] => rest.next().unwrap_or_default().to_owned(),
            _ => OsString::from_vec(attached.to_vec()),
        };
        match flag {
            b'c' => return Some(Run::Command(value)),
            b'm' => return Some(Run::Module(value)),
            // Ours: it says where to record to.
            b'X' if value == "retrace" || value.as_bytes().starts_with(b"retrace=") => {}
            _ => options.extend([OsString::from_vec(vec![b'-', flag]), value]),
        }
        return None;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> (Vec<String>, Run) {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let PythonArguments { options, run } = PythonArguments::parse(&arguments);
        (options.into_iter().map(|option| option.into_string().unwrap()).collect(), run)
    }

    #[test]
    fn scripts_end_the_options() {
        assert_eq!(parse(&["app.py", "-u"]), (vec![], Run::File("app.py".into())));
        assert_eq!(parse(&["-u", "app.py"]), (vec!["-u".into()], Run::File("app.py".into())));
        assert_eq!(parse(&["--", "-odd.py"]), (vec![], Run::File("-odd.py".into())));
        assert_eq!(parse(&["-", "x"]), (vec![], Run::Stdin));
        assert_eq!(parse(&["-i"]), (vec!["-i".into()], Run::Stdin));
        assert_eq!(parse(&[]), (vec![], Run::Stdin));
    }

    #[test]
    fn flags_may_be_combined_and_values_attached() {
        let flags = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse(&["-OBc", "x = 1", "a"]), (flags(&["-O", "-B"]), Run::Command("x = 1".into())));
        assert_eq!(parse(&["-Omhttp.server", "80"]), (flags(&["-O"]), Run::Module("http.server".into())));
        assert_eq!(parse(&["-Werror", "-W", "ignore", "a.py"]).0, flags(&["-W", "error", "-W", "ignore"]));
        assert_eq!(parse(&["-BXdev", "-X", "utf8=1", "a.py"]).0, flags(&["-B", "-X", "dev", "-X", "utf8=1"]));
        assert_eq!(
            parse(&["--check-hash-based-pycs", "never", "a.py"]),
            (flags(&["--check-hash-based-pycs", "never"]), Run::File("a.py".into()))
        );
    }

    #[test]
    fn our_own_option_is_left_out() {
        assert_eq!(parse(&["-X", "retrace=a.retrace", "-Xretrace=b", "-BX", "retrace", "a.py"]).0, ["-B"]);
        assert_eq!(parse(&["-X", "retraced", "a.py"]).0, ["-X", "retraced"]);
    }
}
