//! The tables of the boundary: what the TOML files become, static for the shipped ones, leaked for the user's.

/// Declares an enum of the schema once: variants, how they are spelt in TOML, and the list that error messages show.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident {
        $(#[$first_doc:meta])* $first:ident = $first_word:literal,
        $($(#[$doc:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[$first_doc])* $first, $($(#[$doc])* $variant,)+ }

        impl $name {
            pub(super) const EXPECTED: &'static str = concat!("one of \"", $first_word, "\"" $(, ", \"", $word, "\"")+);

            pub(super) fn from_word(word: &str) -> Option<Self> {
                match word {
                    $first_word => Some(Self::$first),
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// How a function, method, getter/setter or slot is treated.
    Treatment {
        /// Logged with its result or exception; replay returns that.
        Record = "record",
        /// Runs live in both directions.
        Pass = "pass",
        /// Deterministic given the schedule: runs live; time-outs are decided by the log.
        Emulate = "emulate",
        /// Runs in replay too, its libc calls fed from the log.
        Libc = "libc",
    }
}

words! {
    /// How the instances of a type are treated.
    TypeTreatment {
        /// Stand-ins on replay; what its table does not list is `Record`.
        External = "external",
        /// Ordinary objects; what its table does not list is `Pass`.
        Internal = "internal",
    }
}

words! {
    /// Arguments that C would convert by calling Python; the hook converts them first.
    Convert {
        None = "none",
        /// The first argument, and those given by name, if they have `__fspath__`.
        Fspath = "fspath",
        /// The same of the first two.
        FspathBoth = "fspath-both",
        /// Every argument and every item of a sequence argument.
        FspathItems = "fspath-items",
        /// A `str` host, alone or first in an address tuple, that C encodes with the `idna` codec.
        Idna = "idna",
        /// Arguments with `__index__` that are not `int`.
        Index = "index",
        /// The first argument may be any iterable: C makes a list of it.
        Items = "items",
        /// The second argument may be any sequence: C asks for its length and items.
        Sequence = "sequence",
        /// Arguments (and items of sequence arguments) with `fileno()`.
        Fileno = "fileno",
    }
}

words! {
    /// Where the bytes of the call's arguments go, for showing stdout and stderr in replay.
    Echo {
        None = "none",
        /// To the descriptor that is the first argument.
        Fd = "fd",
        /// To the receiver's descriptor.
        Receiver = "self",
    }
}

words! {
    /// What the call does to descriptor numbers (if it succeeds).
    Fds {
        None = "none",
        /// The result is a new descriptor.
        Open = "open",
        /// The first item of the result is a new descriptor (`socket._accept`).
        OpenFirst = "open-first",
        /// The second item of the result is a new descriptor (`forkpty`).
        OpenSecond = "open-second",
        /// Both items of the result are new descriptors (`pipe`, `openpty`).
        OpenBoth = "open-both",
        /// The result duplicates the first argument.
        Dup = "dup",
        /// The second argument becomes a duplicate of the first.
        Dup2 = "dup2",
        /// Closes the first argument.
        Close = "close",
        /// Closes from the first argument up to, without, the second.
        CloseRange = "closerange",
        /// `fcntl`: `Dup` where the second argument is F_DUPFD or F_DUPFD_CLOEXEC.
        Fcntl = "fcntl",
        /// The first argument becomes 0, 1 and 2, and is closed.
        LoginTty = "login-tty",
        /// The receiver owns a descriptor from now on: a new one or one given to it.
        OpenReceiver = "open-self",
        /// Closes the receiver's descriptor.
        CloseReceiver = "close-self",
        /// The receiver gives its descriptor up without closing it.
        DetachReceiver = "detach-self",
    }
}

/// Which environment the programs get that the call starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// The call starts none.
    None,
    /// The process's own.
    Own,
    /// The argument of this position, or with the name `env`; the process's own where it is None or missing.
    Argument(u8),
}

/// Bits of `versions`: minor version 11 is bit 0.
pub const PY_3_11: u8 = 1;
pub const PY_3_12: u8 = 2;
pub const ALL_VERSIONS: u8 = PY_3_11 | PY_3_12;

/// The bit of a minor version; 0 for one that the tables do not know.
pub const fn version_bit(minor: u8) -> u8 {
    match minor {
        11 => PY_3_11,
        12 => PY_3_12,
        _ => 0,
    }
}

/// A function of a module, or a method, getter/setter or slot of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    pub treatment: Treatment,
    /// Writes into its writable buffer arguments.
    pub out: bool,
    pub echo: Echo,
    pub fds: Fds,
    pub convert: Convert,
    pub environment: Environment,
    /// May not return: the event is committed before the call too.
    pub last: bool,
    pub fork: bool,
    /// The receiver's whole state is logged when the call drew entropy.
    pub seed: bool,
    /// Keeps internal objects given to it, and may hand them back or call them later.
    pub keeps: bool,
    /// Its receiver, or the object that it makes, keeps what the last callback returned, and shows it to the collector.
    pub keeps_result: bool,
    /// Recorded, and replay runs the original too, for its effect on C state that internal code reads.
    pub live: bool,
    /// Rebinds names of its module (or of the module's Python face): what changed there is logged.
    pub namespace: bool,
    /// Reads the terminal in C, where stdin and stdout are one; else it is internal code.
    pub terminal: bool,
    /// What code that a debugger evaluates is told is an OSError, too: callers expect that.
    pub may_fail: bool,
    /// Such code may call it: it reads what replay keeps as it was.
    pub only_reads: bool,
    /// Only asks: such code is told what the recording last was, after the same arguments.
    pub asks: bool,
    /// What of its receiver's that asks is answered with its first argument from then on: names, with a `-` where the answer
    /// is another one, that nobody knows.
    pub tells: Option<&'static str>,
    /// The result is the address of its argument, which it only names: the argument is not logged.
    pub address: bool,
    /// Asks for the interpreter's frame evaluator or sets it: meets the program's own there.
    pub evaluator: bool,
    /// Asks for the local time zone where none is given; else it is internal code.
    pub zone: bool,
    /// With `keeps`: lets go of what an earlier call gave the same receiver.
    pub replaces: bool,
    /// Lets go of all that calls of `keeps` gave its receiver.
    pub releases: bool,
    /// With `keeps`: holds no reference to what it keeps.
    pub weakly: bool,
    /// What it makes keeps its receiver.
    pub kept_by_result: bool,
    /// With `keeps`: the receiver shows what it keeps to the garbage collector.
    pub shown: bool,
    /// A method that changes nothing of its receiver that is mirrored.
    pub steady: bool,
    /// Afterwards the process may no longer reach the trace by its path.
    pub departs: bool,
    /// Internal code, but makes an interpreter whose modules have no hooks: the recording ends.
    pub unseen: bool,
    /// Bit set of `PY_3_11`, `PY_3_12`.
    pub versions: u8,
}

impl Entry {
    /// An entry without options.
    pub const fn new(name: &'static str, treatment: Treatment) -> Entry {
        Entry {
            name,
            treatment,
            out: false,
            echo: Echo::None,
            fds: Fds::None,
            convert: Convert::None,
            environment: Environment::None,
            last: false,
            fork: false,
            seed: false,
            keeps: false,
            keeps_result: false,
            kept_by_result: false,
            live: false,
            namespace: false,
            terminal: false,
            may_fail: false,
            only_reads: false,
            asks: false,
            tells: None,
            address: false,
            evaluator: false,
            zone: false,
            replaces: false,
            releases: false,
            weakly: false,
            shown: false,
            steady: false,
            departs: false,
            unseen: false,
            versions: ALL_VERSIONS,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeTable {
    /// The name under `[types]`.
    pub key: &'static str,
    /// `tp_name`; "module.name" for an exception that C made by calling `type`.
    pub name: &'static str,
    pub treatment: TypeTreatment,
    /// Sorted by name.
    pub methods: &'static [Entry],
    pub versions: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleTable {
    /// The name in `sys.modules`.
    pub module: &'static str,
    /// Sorted by name.
    pub functions: &'static [Entry],
    /// Sorted by `name`.
    pub types: &'static [TypeTable],
    /// Attributes that the module took from the outside when it was made.
    pub data: &'static [&'static str],
    /// What a function that is not listed gets.
    pub default_function: Option<Treatment>,
    /// What a type that is not listed gets.
    pub default_type: Option<TypeTreatment>,
    /// The whole module is treated at the libc level.
    pub libc: bool,
    /// Of such a module: whether the threads that it makes take turns with Python's. Where nothing is said, its imports tell.
    pub threads: Option<bool>,
    pub versions: u8,
}
