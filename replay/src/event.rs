//! Events: calls that crossed the boundary, and what else has to be known to run the program again.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::byte_source::{ByteSource, DecodeError, SliceSource};
use crate::notes::{NOTED, Notes};
use crate::value::{Str, Value, put_prefixed, put_varint};

/// Codes of the events that are not calls. A smaller code is the index of the hook that was called.
#[allow(missing_docs, reason = "docs/trace-format.md describes each under this name")]
pub mod code {
    pub const START: u16 = 0xf00;
    pub const HOOKS: u16 = 0xf01;
    pub const CALLBACK: u16 = 0xf02;
    pub const CALLBACK_END: u16 = 0xf03;
    pub const COLLECT: u16 = 0xf04;
    pub const END: u16 = 0xf05;
    pub const STOPPED: u16 = 0xf06;
    pub const SWITCH: u16 = 0xf07;
    pub const WARNING: u16 = 0xf08;
    pub const MODULE: u16 = 0xf09;
    pub const DIVERT: u16 = 0xf0a;
    pub const THREAD: u16 = 0xf0b;
    pub const BUSY: u16 = 0xf0c;
    pub const WAIT: u16 = 0xf0d;
    pub const SIGNAL: u16 = 0xf0e;
    pub const SIGNAL_END: u16 = 0xf0f;
    pub const FORK: u16 = 0xf10;
    pub const RETRY: u16 = 0xf11;
    pub const RELEASED: u16 = 0xf12;
    pub const ANNOTATION: u16 = 0xf13;
    pub const WRITTEN: u16 = 0xf14;
    pub const ENDED: u16 = 0xf16;
    pub const PENDING: u16 = 0xf17;
    pub const FORGOTTEN: u16 = 0xf18;
    pub const OUTPUT: u16 = 0xf19;
    pub const DROPPED: u16 = 0xf1a;
    /// Not an event: see [`notes`](crate::notes).
    pub const NOTE: u16 = 0xf15;
    /// The part of an event's head that is the code.
    pub const MASK: u16 = 0x0fff;
}

/// Forms of a call's outcome: bits 12 to 14 of the head.
#[allow(missing_docs, reason = "docs/trace-format.md describes each under this name")]
pub mod form {
    pub const GENERAL: u16 = 0;
    pub const NONE: u16 = 1;
    pub const FLOAT: u16 = 2;
    pub const VALUE: u16 = 3;
    pub const RAISED: u16 = 4;
    pub const END: u16 = 5;
    pub const FILLED: u16 = 6;
    /// Where a form stands in the head.
    pub const SHIFT: u16 = 12;
}

/// Which sections a general outcome has.
#[allow(missing_docs, reason = "docs/trace-format.md describes each under this name")]
pub mod flag {
    pub const RESULT: u8 = 1;
    pub const RAISED: u8 = 2;
    pub const SCALARS: u8 = 4;
    pub const MEMBERS: u8 = 8;
    pub const DICT: u8 = 16;
    pub const BUFFERS: u8 = 32;
    pub const EXTRA: u8 = 64;
}

/// Set in the head of a call whose arguments follow.
pub const ARGUMENTS_BIT: u16 = 0x8000;

/// `at` of a call without a Python frame.
pub const NO_FRAME: u16 = 0xffff;

/// What a hook replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "docs/trace-format.md describes each under this name")]
pub enum HookKind {
    Function = 0,
    Method = 1,
    ClassMethod = 2,
    Getter = 3,
    Setter = 4,
    New = 5,
    Init = 6,
    IterNext = 7,
    Repr = 8,
    Call = 9,
    Finalizer = 10,
    Slot = 11,
    Library = 12,
}

impl HookKind {
    const ALL: [HookKind; 13] = [
        HookKind::Function,
        HookKind::Method,
        HookKind::ClassMethod,
        HookKind::Getter,
        HookKind::Setter,
        HookKind::New,
        HookKind::Init,
        HookKind::IterNext,
        HookKind::Repr,
        HookKind::Call,
        HookKind::Finalizer,
        HookKind::Slot,
        HookKind::Library,
    ];

    /// The kind's name in listings.
    pub fn name(self) -> &'static str {
        match self {
            HookKind::Function => "function",
            HookKind::Method => "method",
            HookKind::ClassMethod => "class method",
            HookKind::Getter => "getter",
            HookKind::Setter => "setter",
            HookKind::New => "new",
            HookKind::Init => "init",
            HookKind::IterNext => "iternext",
            HookKind::Repr => "repr",
            HookKind::Call => "call",
            HookKind::Finalizer => "finalizer",
            HookKind::Slot => "slot",
            HookKind::Library => "C function",
        }
    }
}

impl TryFrom<u8> for HookKind {
    type Error = DecodeError;

    fn try_from(byte: u8) -> Result<HookKind, DecodeError> {
        HookKind::ALL.get(usize::from(byte)).copied().ok_or(DecodeError::UnknownHookKind(byte))
    }
}

/// A hook as the trace names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// `module.name` or `module.type.name`.
    pub name: Str,
    /// What it replaced.
    pub kind: HookKind,
}

/// A call's outcome in the general form.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct General {
    /// What it returned.
    pub result: Option<Value>,
    /// What it raised.
    pub raised: Option<Value>,
    /// The receiver's scalar members' memory after the call.
    pub scalars: Option<Vec<u8>>,
    /// The receiver's object members after the call.
    pub members: Option<Vec<Value>>,
    /// The receiver's `__dict__` after the call.
    pub dict: Option<Value>,
    /// What was written into the buffers that were arguments.
    pub buffers: Option<Vec<Vec<u8>>>,
    /// More, by the hook's own rule.
    pub extra: Option<Value>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It returned None.
    None,
    /// It returned a float.
    Float(f64),
    /// It returned a value.
    Value(Value),
    /// It raised.
    Raised(Value),
    /// It returned NULL without an exception.
    End,
    /// It wrote these bytes into its only buffer, and returned how many.
    Filled(Vec<u8>),
    /// Anything more than that.
    General(Box<General>),
}

/// A call that crossed the boundary.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The hook's index.
    pub hook: u16,
    /// The caller's instruction offset in bytes, modulo 65,536; [`NO_FRAME`] without one.
    pub at: u16,
    /// The arguments, where they were recorded. At most 254.
    pub arguments: Option<Vec<Value>>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Where in a program that runs no boundary call something happened: what its thread's frames looked like at that check
/// of the eval breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// The frames and their instructions.
    pub place: u64,
    /// And what their variables hold, one level deep.
    pub shallow: u64,
    /// And what can be reached from there, within a budget.
    pub deep: u64,
    /// The innermost frame alone, which is quick to compare.
    pub near: u64,
    /// The thread's CPU time so far, in microseconds: a measure of how long a search for the position may take.
    pub cpu_us: u64,
}

impl Fingerprint {
    /// Reads one.
    pub fn decode<S: ByteSource>(source: &mut S) -> Result<Fingerprint, DecodeError> {
        Ok(Fingerprint {
            place: source.read_u64()?,
            shallow: source.read_u64()?,
            deep: source.read_u64()?,
            near: source.read_u64()?,
            cpu_us: source.read_varint()?,
        })
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for hash in [self.place, self.shallow, self.deep, self.near] {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        put_varint(out, self.cpu_us);
    }
}

/// Where a thread was when the GIL went to another one, or when a signal's handler ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// It gave the GIL up itself, outside of any external call, for the n-th time (from 1) since it got it from another
    /// thread. Of a signal: in the wait for a lock that the `wait` event before says was interrupted, after that many
    /// tries of a lock.
    Released(u64),
    /// Inside the external call whose event comes next on that thread.
    InCall,
    /// At a check of the eval breaker.
    Check(Fingerprint),
    /// In code of a library's, without the GIL, where it kept the turn to itself: behind the n-th (from 1) of the calls that
    /// the recorder sees, since it got the turn from another thread.
    Between(u64),
    /// While C code freed or finalized the n-th (from 1) external object that went outside of any external call since the
    /// thread got the GIL from another one. 0: the one of before that.
    Freeing(u64),
    /// While C code freed an external object that the trace has no number for, after the n-th one that it has one for.
    Freed(u64),
}

impl Position {
    /// Reads one.
    pub fn decode<S: ByteSource>(source: &mut S) -> Result<Position, DecodeError> {
        Ok(match source.read_u8()? {
            0 => Position::Released(source.read_varint()?),
            1 => Position::InCall,
            2 => Position::Check(Fingerprint::decode(source)?),
            3 => Position::Between(source.read_varint()?),
            4 => Position::Freeing(source.read_varint()?),
            5 => Position::Freed(source.read_varint()?),
            other => return Err(DecodeError::UnknownForm(other)),
        })
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Position::Released(count) => {
                out.push(0);
                put_varint(out, *count);
            }
            Position::InCall => out.push(1),
            Position::Check(fingerprint) => {
                out.push(2);
                fingerprint.encode(out);
            }
            Position::Between(count) => {
                out.push(3);
                put_varint(out, *count);
            }
            Position::Freeing(count) => {
                out.push(4);
                put_varint(out, *count);
            }
            Position::Freed(count) => {
                out.push(5);
                put_varint(out, *count);
            }
        }
    }
}

/// How a wait for a lock ended that did not end with the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum WaitEnd {
    /// The time was over.
    TimedOut = 1,
    /// A signal came.
    Interrupted = 2,
}

impl TryFrom<u8> for WaitEnd {
    type Error = DecodeError;

    fn try_from(byte: u8) -> Result<WaitEnd, DecodeError> {
        match byte {
            1 => Ok(WaitEnd::TimedOut),
            2 => Ok(WaitEnd::Interrupted),
            other => Err(DecodeError::UnknownForm(other)),
        }
    }
}

/// How an extension module is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ModuleTreatment {
    /// It is deterministic: it runs in replay, and nothing of it is recorded.
    Internal = 0,
    /// It runs in replay, and what it calls of the C library is recorded.
    Libc = 1,
    /// What is listed of it is recorded, and not called in replay.
    Record = 2,
}

impl ModuleTreatment {
    /// As a boundary file spells it.
    pub fn name(self) -> &'static str {
        match self {
            ModuleTreatment::Internal => "internal",
            ModuleTreatment::Libc => "libc",
            ModuleTreatment::Record => "record",
        }
    }
}

impl TryFrom<u8> for ModuleTreatment {
    type Error = DecodeError;

    fn try_from(byte: u8) -> Result<ModuleTreatment, DecodeError> {
        match byte {
            0 => Ok(ModuleTreatment::Internal),
            1 => Ok(ModuleTreatment::Libc),
            2 => Ok(ModuleTreatment::Record),
            other => Err(DecodeError::UnknownForm(other)),
        }
    }
}

/// Set in `generation` of a collection's first event where its fingerprint follows.
pub const COLLECT_AT_CHECK: u8 = 0x10;

/// One event of a process's stream.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of docs/trace-format.md, under the same names")]
pub enum Event {
    Call(Call),
    /// The first event of a process: a dict, see [`Start`](crate::start::Start).
    Start(Value),
    Hooks {
        first: u64,
        hooks: Vec<Hook>,
    },
    Callback {
        serial: u64,
        callable: Value,
        arguments: Value,
        keywords: Value,
    },
    CallbackEnd {
        serial: u64,
        raised: bool,
    },
    Collect {
        generation: u8,
        found: u64,
        /// Where [`COLLECT_AT_CHECK`] is set.
        at: Option<Fingerprint>,
    },
    /// The process ends.
    End {
        /// Its exit status, or -1 where nobody knew it.
        status: i32,
        /// Functions of the C library that were called and not recorded.
        unrecorded: Vec<Str>,
    },
    Stopped(Str),
    Switch {
        thread: u64,
        from: Position,
    },
    Thread {
        serial: u64,
        ident: u64,
        kind: u8,
        error: i32,
    },
    Busy {
        tries: u64,
    },
    /// How a wait for a lock ended, and after how many releases of the GIL since the thread got it from another one: 0 where
    /// it got it just now.
    Wait {
        end: WaitEnd,
        releases: u64,
    },
    Retry {
        tries: u64,
    },
    Signal {
        number: u64,
        at: Position,
    },
    SignalEnd {
        raised: bool,
    },
    Fork {
        serial: u64,
        pid: i64,
    },
    /// What the thread that has just taken the GIL called of the C library while it was without: whole calls.
    Released(Vec<Call>),
    /// What a thread that has ended called of the C library after it gave the GIL up for the last time.
    Ended {
        thread: u64,
        calls: Vec<Call>,
    },
    /// What C code asked the interpreter to call between two instructions is called: by `thread`, as the `number`th such
    /// request of its own, from 0.
    Pending {
        thread: u64,
        number: u64,
        at: Position,
    },
    /// A call into an extension module that runs in replay too; what it called of the C library came before.
    Annotation(Call),
    /// The call that comes next on this thread wrote to a descriptor after calls of these threads that come later.
    Written {
        after: Vec<u64>,
    },
    /// Nobody but the recorder referred any more to what these callbacks of the present call had returned.
    Forgotten {
        serials: Vec<u64>,
    },
    /// External code has let go of these objects, which it had made: by the numbers of [`Bound`](crate::Value::Bound).
    Dropped {
        /// It freed an external object, of this number (see [`Position::Freeing`]), and makes the callback that comes next
        /// there, or not. None: in a call, whose event comes later.
        freeing: Option<(u64, bool)>,
        calls: Vec<u64>,
    },
    /// External code wrote to a descriptor by Python's streams, in a call that comes next or is no call (a deallocator).
    Output {
        fd: u64,
        bytes: Vec<u8>,
    },
    Warning {
        handle: u64,
    },
    Module {
        name: Str,
        file: Str,
        size: u64,
        hash: u64,
        treatment: ModuleTreatment,
        /// What it imports that reaches the outside, separated by spaces, where that decided.
        reasons: Str,
    },
    Divert(u8),
}

fn read_bool<S: ByteSource>(source: &mut S) -> Result<bool, DecodeError> {
    match source.read_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(DecodeError::NotABool(other)),
    }
}

/// A count and as many numbers. Nothing is set aside for them: the count may be anything.
fn read_numbers<S: ByteSource>(source: &mut S) -> Result<Vec<u64>, DecodeError> {
    (0..source.read_varint()?).map(|_| source.read_varint()).collect()
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    put_varint(out, numbers.len() as u64);
    numbers.iter().for_each(|number| put_varint(out, *number));
}

impl Event {
    /// Reads one event.
    pub fn decode<S: ByteSource>(source: &mut S, notes: &mut Notes) -> Result<Event, DecodeError> {
        let head = source.read_u16()?;
        let code = head & code::MASK;
        let form = (head & !ARGUMENTS_BIT) >> form::SHIFT;
        if code < code::START {
            return decode_call(code, form, head & ARGUMENTS_BIT != 0, source, notes).map(Event::Call);
        }
        if let Some(event) = notes.turns.decode(head, source)? {
            return Ok(event);
        }
        if head != code {
            return Err(DecodeError::UnknownForm((head >> form::SHIFT) as u8));
        }
        Ok(match code {
            code::START => Event::Start(Value::decode(source, notes)?),
            code::HOOKS => {
                let first = source.read_varint()?;
                let (count, capacity) = source.read_count(3)?;
                let mut hooks = Vec::with_capacity(capacity);
                for _ in 0..count {
                    let name = Str::decode(source, notes)?;
                    hooks.push(Hook { name, kind: source.read_u8()?.try_into()? });
                }
                Event::Hooks { first, hooks }
            }
            code::CALLBACK => Event::Callback {
                serial: source.read_varint()?,
                callable: Value::decode(source, notes)?,
                arguments: Value::decode(source, notes)?,
                keywords: Value::decode(source, notes)?,
            },
            code::CALLBACK_END => Event::CallbackEnd { serial: source.read_varint()?, raised: read_bool(source)? },
            code::COLLECT => {
                let generation = source.read_u8()?;
                let found = source.read_varint()?;
                let placed = generation & COLLECT_AT_CHECK != 0;
                Event::Collect { generation, found, at: placed.then(|| Fingerprint::decode(source)).transpose()? }
            }
            code::END => {
                let status = source.read_u32()? as i32;
                let (count, capacity) = source.read_count(2)?;
                let mut unrecorded = Vec::with_capacity(capacity);
                for _ in 0..count {
                    unrecorded.push(Str::decode(source, notes)?);
                }
                Event::End { status, unrecorded }
            }
            code::STOPPED => Event::Stopped(Str::decode(source, notes)?),
            code::WAIT => Event::Wait { end: source.read_u8()?.try_into()?, releases: source.read_varint()? },
            code::RETRY => Event::Retry { tries: source.read_varint()? },
            code::SIGNAL => Event::Signal { number: source.read_varint()?, at: Position::decode(source)? },
            code::SIGNAL_END => Event::SignalEnd { raised: read_bool(source)? },
            code::FORK => Event::Fork { serial: source.read_varint()?, pid: source.read_u64()? as i64 },
            code::ANNOTATION => {
                let head = source.read_u16()?;
                let form = (head & !ARGUMENTS_BIT) >> form::SHIFT;
                let hook = head & code::MASK;
                Event::Annotation(decode_call(hook, form, head & ARGUMENTS_BIT != 0, source, notes)?)
            }
            code::RELEASED => {
                let bytes = source.read_prefixed()?;
                Event::Released(decode_calls(&bytes)?)
            }
            code::ENDED => {
                let thread = source.read_varint()?;
                Event::Ended { thread, calls: decode_calls(&source.read_prefixed()?)? }
            }
            code::PENDING => Event::Pending {
                thread: source.read_varint()?,
                number: source.read_varint()?,
                at: Position::decode(source)?,
            },
            code::WRITTEN => Event::Written { after: read_numbers(source)? },
            code::FORGOTTEN => Event::Forgotten { serials: read_numbers(source)? },
            code::DROPPED => {
                let freeing = match source.read_u8()? {
                    0 => None,
                    calls_back => Some((source.read_varint()?, calls_back == 2)),
                };
                Event::Dropped { freeing, calls: read_numbers(source)? }
            }
            code::OUTPUT => Event::Output { fd: source.read_varint()?, bytes: source.read_prefixed()? },
            code::WARNING => Event::Warning { handle: source.read_varint()? },
            code::MODULE => Event::Module {
                name: Str::decode(source, notes)?,
                file: Str::decode(source, notes)?,
                size: source.read_u64()?,
                hash: source.read_u64()?,
                treatment: source.read_u8()?.try_into()?,
                reasons: Str::decode(source, notes)?,
            },
            code::DIVERT => Event::Divert(source.read_u8()?),
            // A stream leaves out those that are whole.
            code::NOTE => {
                notes.read(source)?;
                return Err(DecodeError::UnknownCode(code));
            }
            _ => return Err(DecodeError::UnknownCode(code)),
        })
    }

    /// Appends the event, in the form its fields call for. [`Turns::encode`](crate::turns::Turns::encode) knows shorter ones.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Event::Call(call) => encode_call(call, out),
            Event::Start(dict) => {
                put_head(out, code::START);
                dict.encode(out);
            }
            Event::Hooks { first, hooks } => {
                put_head(out, code::HOOKS);
                put_varint(out, *first);
                put_varint(out, hooks.len() as u64);
                for hook in hooks {
                    hook.name.encode(out);
                    out.push(hook.kind as u8);
                }
            }
            Event::Callback { serial, callable, arguments, keywords } => {
                put_head(out, code::CALLBACK);
                put_varint(out, *serial);
                callable.encode(out);
                arguments.encode(out);
                keywords.encode(out);
            }
            Event::CallbackEnd { serial, raised } => {
                put_head(out, code::CALLBACK_END);
                put_varint(out, *serial);
                out.push(u8::from(*raised));
            }
            Event::Collect { generation, found, at } => {
                put_head(out, code::COLLECT);
                out.push(*generation);
                put_varint(out, *found);
                if let Some(at) = at {
                    at.encode(out);
                }
            }
            Event::End { status, unrecorded } => {
                put_head(out, code::END);
                out.extend_from_slice(&status.to_le_bytes());
                put_varint(out, unrecorded.len() as u64);
                for name in unrecorded {
                    name.encode(out);
                }
            }
            Event::Stopped(reason) => {
                put_head(out, code::STOPPED);
                reason.encode(out);
            }
            Event::Switch { thread, from } => {
                put_head(out, code::SWITCH);
                put_varint(out, *thread);
                from.encode(out);
            }
            Event::Thread { serial, ident, kind, error } => {
                put_head(out, code::THREAD);
                put_varint(out, *serial);
                out.extend_from_slice(&ident.to_le_bytes());
                out.push(*kind);
                out.extend_from_slice(&error.to_le_bytes());
            }
            Event::Busy { tries } => {
                put_head(out, code::BUSY);
                put_varint(out, *tries);
            }
            Event::Wait { end, releases } => {
                put_head(out, code::WAIT);
                out.push(*end as u8);
                put_varint(out, *releases);
            }
            Event::Retry { tries } => {
                put_head(out, code::RETRY);
                put_varint(out, *tries);
            }
            Event::Signal { number, at } => {
                put_head(out, code::SIGNAL);
                put_varint(out, *number);
                at.encode(out);
            }
            Event::SignalEnd { raised } => {
                put_head(out, code::SIGNAL_END);
                out.push(u8::from(*raised));
            }
            Event::Fork { serial, pid } => {
                put_head(out, code::FORK);
                put_varint(out, *serial);
                out.extend_from_slice(&pid.to_le_bytes());
            }
            Event::Annotation(call) => {
                put_head(out, code::ANNOTATION);
                encode_call(call, out);
            }
            Event::Released(calls) => {
                put_head(out, code::RELEASED);
                put_calls(out, calls);
            }
            Event::Ended { thread, calls } => {
                put_head(out, code::ENDED);
                put_varint(out, *thread);
                put_calls(out, calls);
            }
            Event::Pending { thread, number, at } => {
                put_head(out, code::PENDING);
                put_varint(out, *thread);
                put_varint(out, *number);
                at.encode(out);
            }
            Event::Written { after } => {
                put_head(out, code::WRITTEN);
                put_numbers(out, after);
            }
            Event::Output { fd, bytes } => {
                put_head(out, code::OUTPUT);
                put_varint(out, *fd);
                put_prefixed(out, bytes);
            }
            Event::Forgotten { serials } => {
                put_head(out, code::FORGOTTEN);
                put_numbers(out, serials);
            }
            Event::Dropped { freeing, calls } => {
                put_head(out, code::DROPPED);
                match freeing {
                    None => out.push(0),
                    Some((number, calls_back)) => {
                        out.push(1 + u8::from(*calls_back));
                        put_varint(out, *number);
                    }
                }
                put_numbers(out, calls);
            }
            Event::Warning { handle } => {
                put_head(out, code::WARNING);
                put_varint(out, *handle);
            }
            Event::Module { name, file, size, hash, treatment, reasons } => {
                put_head(out, code::MODULE);
                name.encode(out);
                file.encode(out);
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(&hash.to_le_bytes());
                out.push(*treatment as u8);
                reasons.encode(out);
            }
            Event::Divert(n) => {
                put_head(out, code::DIVERT);
                out.push(*n);
            }
        }
    }
}

fn put_head(out: &mut Vec<u8>, head: u16) {
    out.extend_from_slice(&head.to_le_bytes());
}

/// Whole calls, with their length before them.
fn put_calls(out: &mut Vec<u8>, calls: &[Call]) {
    let mut bytes = Vec::new();
    calls.iter().for_each(|call| encode_call(call, &mut bytes));
    put_prefixed(out, &bytes);
}

/// Calls one after the other, to the end. Nothing in them refers to the stream's notes.
fn decode_calls(bytes: &[u8]) -> Result<Vec<Call>, DecodeError> {
    let mut source = SliceSource::new(bytes);
    let mut notes = Notes::default();
    let mut calls = Vec::new();
    while source.remaining() > 0 {
        // Not by `Event::decode`: an event of calls within another one would recurse as deep as a trace likes.
        let head = source.read_u16()?;
        let hook = head & code::MASK;
        let form = (head & !ARGUMENTS_BIT) >> form::SHIFT;
        if hook >= code::START {
            return Err(DecodeError::UnknownForm(form as u8));
        }
        calls.push(decode_call(hook, form, head & ARGUMENTS_BIT != 0, &mut source, &mut notes)?);
    }
    Ok(calls)
}

fn decode_call<S: ByteSource>(
    hook: u16,
    form: u16,
    has_arguments: bool,
    source: &mut S,
    notes: &mut Notes,
) -> Result<Call, DecodeError> {
    let at = source.read_u16()?;
    let arguments = if has_arguments { Some(decode_arguments(source, notes)?) } else { None };
    let outcome = match form {
        form::GENERAL => Outcome::General(Box::new(decode_general(source, notes)?)),
        form::NONE => Outcome::None,
        form::FLOAT => Outcome::Float(source.read_f64()?),
        form::VALUE => Outcome::Value(Value::decode(source, notes)?),
        form::RAISED => Outcome::Raised(Value::decode(source, notes)?),
        form::END => Outcome::End,
        form::FILLED => Outcome::Filled(source.read_prefixed()?),
        _ => return Err(DecodeError::UnknownForm(form as u8)),
    };
    Ok(Call { hook, at, arguments, outcome })
}

/// An arguments section, or the number of one that was noted.
pub fn decode_arguments<S: ByteSource>(source: &mut S, notes: &mut Notes) -> Result<Vec<Value>, DecodeError> {
    match source.read_u8()? {
        NOTED => {
            let section = Arc::clone(notes.arguments(source.read_varint()?)?);
            let mut section = SliceSource::new(&section);
            let count = section.read_u8()?;
            if count == NOTED {
                return Err(DecodeError::UnknownNote(count.into()));
            }
            decode_values(count, &mut section, notes)
        }
        count => decode_values(count, source, notes),
    }
}

fn decode_values<S: ByteSource>(count: u8, source: &mut S, notes: &mut Notes) -> Result<Vec<Value>, DecodeError> {
    (0..count).map(|_| Value::decode(source, notes)).collect()
}

fn decode_general<S: ByteSource>(source: &mut S, notes: &mut Notes) -> Result<General, DecodeError> {
    let flags = source.read_u8()?;
    if flags & 0x80 != 0 {
        return Err(DecodeError::UnknownFlags(flags));
    }
    let mut general = General::default();
    if flags & flag::RESULT != 0 {
        general.result = Some(Value::decode(source, notes)?);
    }
    if flags & flag::RAISED != 0 {
        general.raised = Some(Value::decode(source, notes)?);
    }
    if flags & flag::SCALARS != 0 {
        general.scalars = Some(source.read_prefixed()?);
    }
    if flags & flag::MEMBERS != 0 {
        let (count, capacity) = source.read_count(1)?;
        let mut members = Vec::with_capacity(capacity);
        for _ in 0..count {
            members.push(Value::decode(source, notes)?);
        }
        general.members = Some(members);
    }
    if flags & flag::DICT != 0 {
        general.dict = Some(Value::decode(source, notes)?);
    }
    if flags & flag::BUFFERS != 0 {
        let (count, capacity) = source.read_count(1)?;
        let mut buffers = Vec::with_capacity(capacity);
        for _ in 0..count {
            buffers.push(source.read_prefixed()?);
        }
        general.buffers = Some(buffers);
    }
    if flags & flag::EXTRA != 0 {
        general.extra = Some(Value::decode(source, notes)?);
    }
    Ok(general)
}

fn encode_call(call: &Call, out: &mut Vec<u8>) {
    let form = match call.outcome {
        Outcome::General(_) => form::GENERAL,
        Outcome::None => form::NONE,
        Outcome::Float(_) => form::FLOAT,
        Outcome::Value(_) => form::VALUE,
        Outcome::Raised(_) => form::RAISED,
        Outcome::End => form::END,
        Outcome::Filled(_) => form::FILLED,
    };
    let arguments_bit = if call.arguments.is_some() { ARGUMENTS_BIT } else { 0 };
    put_head(out, call.hook & code::MASK | form << form::SHIFT | arguments_bit);
    out.extend_from_slice(&call.at.to_le_bytes());
    if let Some(arguments) = &call.arguments {
        let arguments = &arguments[..arguments.len().min(usize::from(NOTED) - 1)];
        out.push(arguments.len() as u8);
        for argument in arguments {
            argument.encode(out);
        }
    }
    match &call.outcome {
        Outcome::None | Outcome::End => {}
        Outcome::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        Outcome::Value(value) | Outcome::Raised(value) => value.encode(out),
        Outcome::Filled(bytes) => put_prefixed(out, bytes),
        Outcome::General(general) => encode_general(general, out),
    }
}

fn encode_general(general: &General, out: &mut Vec<u8>) {
    let sections = [
        (general.result.is_some(), flag::RESULT),
        (general.raised.is_some(), flag::RAISED),
        (general.scalars.is_some(), flag::SCALARS),
        (general.members.is_some(), flag::MEMBERS),
        (general.dict.is_some(), flag::DICT),
        (general.buffers.is_some(), flag::BUFFERS),
        (general.extra.is_some(), flag::EXTRA),
    ];
    out.push(sections.iter().filter(|(present, _)| *present).map(|(_, flag)| flag).sum());
    for value in [&general.result, &general.raised].into_iter().flatten() {
        value.encode(out);
    }
    if let Some(scalars) = &general.scalars {
        put_prefixed(out, scalars);
    }
    if let Some(members) = &general.members {
        put_varint(out, members.len() as u64);
        for member in members {
            member.encode(out);
        }
    }
    if let Some(dict) = &general.dict {
        dict.encode(out);
    }
    if let Some(buffers) = &general.buffers {
        put_varint(out, buffers.len() as u64);
        for buffer in buffers {
            put_prefixed(out, buffer);
        }
    }
    if let Some(extra) = &general.extra {
        extra.encode(out);
    }
}
