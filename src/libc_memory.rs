//! What the C library's functions read and write in an extension module's memory, by the shapes that
//! `src/libc_table.rs` gives their arguments.

#![allow(clippy::unnecessary_cast, reason = "the fields of C's structs are not of one type on every platform")]

use crate::libc_calls::Arguments;
use crate::libc_directories as directories;
use crate::libc_found as found;
use crate::libc_interfaces as interfaces;
use crate::libc_ipc as ipc;
use crate::libc_maps as maps;
use crate::libc_records as records;
use crate::libc_streams as streams;
use crate::libc_table::{Function, Len, Returns, Shape};
use crate::libc_watches as watches;
use crate::platform;
use retrace_replay::content_hash;
use retrace_replay::value::Value;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// Bytes up to this length are logged as they are, longer ones by length and hash.
const SHORT: usize = 64;
/// Of a file that is opened as a stream, no more is logged.
const STREAM_LIMIT: usize = 64 << 20;

/// How much room there was behind each argument before the call.
pub type Rooms = [usize; 7];

/// # Safety
/// So many bytes are readable there, and nobody changes them while what is returned is used.
pub unsafe fn bytes_at<'a>(address: usize, length: usize) -> &'a [u8] {
    // SAFETY: by the callers' contract: a caller of the C library's function gave it this memory.
    if address == 0 || length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(address as *const u8, length) } }
}

fn value_of(bytes: &[u8]) -> Value {
    if bytes.len() <= SHORT {
        return Value::Bytes(bytes.to_vec());
    }
    Value::Digest { type_name: "bytes".into(), length: bytes.len() as u64, hash: content_hash(bytes) }
}

/// Whether two lists of arguments are the same.
pub fn same(recorded: &[Value], met: &[Value]) -> bool {
    recorded == met
}

/// The arguments that count, as values.
///
/// # Safety
/// `args` are the function's, in a call of it.
pub unsafe fn inputs(function: &Function, args: &Arguments) -> Vec<Value> {
    let mut values = Vec::with_capacity(function.arguments.len());
    for (i, shape) in function.arguments.iter().enumerate() {
        // SAFETY: by contract.
        let value = unsafe {
            match *shape {
                Shape::Number => Value::Int((args[i] as c_int).into()),
                Shape::Wide => Value::Int(args[i] as i64),
                Shape::String | Shape::Template if args[i] == 0 => Value::None,
                Shape::String | Shape::Template => value_of(CStr::from_ptr(args[i] as *const c_char).to_bytes()),
                Shape::In(_) if args[i] == 0 => Value::None,
                Shape::In(len) => value_of(bytes_at(args[i], length(len, args))),
                Shape::Gather(_) | Shape::Message => value_of(&gather(*shape, i, args)),
                Shape::Messages(n) => value_of(&sent_messages(args, i, n)),
                Shape::Strings => value_of(&strings(args[i])),
                // What is there when a descriptor is no longer to be watched means nothing.
                Shape::Watch if args[i] == 0 || args[1] as c_int == watches::STOP_WATCHING => Value::None,
                Shape::Watch => Value::Int((*(args[i] as *const u32)).into()),
                _ => continue,
            }
        };
        values.push(value);
    }
    values
}

/// A length that is known before the call.
unsafe fn length(len: Len, args: &Arguments) -> usize {
    match len {
        Len::Fixed(n) => n,
        Len::Argument(i) | Len::Result(i) | Len::Terminated(i) => usize::try_from(args[i] as isize).unwrap_or(0),
        Len::Items(i, size) => usize::try_from(args[i] as isize).unwrap_or(0) * size,
        Len::Headed(i) => size_of::<c_long>() + usize::try_from(args[i] as isize).unwrap_or(0),
        // SAFETY: by the callers' contract, a `socklen_t` or NULL.
        Len::At(i) if args[i] != 0 => unsafe { *(args[i] as *const libc::socklen_t) as usize },
        Len::At(_) => 0,
    }
}

/// # Safety
/// As [`inputs`].
pub unsafe fn rooms(function: &Function, args: &Arguments) -> Rooms {
    let mut rooms = [0; 7];
    for (i, shape) in function.arguments.iter().enumerate() {
        if let Shape::Out(len) | Shape::InOut(len) = *shape
            && args[i] != 0
        {
            // SAFETY: by contract.
            rooms[i] = unsafe { length(len, args) };
        }
        if matches!(shape, Shape::Found | Shape::Words) {
            // SAFETY: by contract.
            rooms[i] = unsafe { found::before(args, i, *shape) };
        }
    }
    rooms
}

/// The bytes of `struct iovec`s or of a message.
unsafe fn gather(shape: Shape, i: usize, args: &Arguments) -> Vec<u8> {
    // SAFETY: by the contract of `inputs`.
    unsafe {
        let mut bytes = Vec::new();
        for part in vectors(shape, i, args) {
            bytes.extend_from_slice(bytes_at(part.iov_base as usize, part.iov_len));
        }
        bytes
    }
}

/// The `struct iovec`s that an argument leads to.
unsafe fn vectors<'a>(shape: Shape, i: usize, args: &Arguments) -> &'a [libc::iovec] {
    // SAFETY: by the contract of `inputs`.
    unsafe {
        let (first, count) = match shape {
            Shape::Gather(n) | Shape::Scatter(n) => (args[i] as *const libc::iovec, args[n] as c_int as usize),
            _ => {
                let message = &*(args[i] as *const libc::msghdr);
                (message.msg_iov.cast_const(), message.msg_iovlen as usize)
            }
        };
        if first.is_null() || count == 0 { &[] } else { std::slice::from_raw_parts(first, count) }
    }
}

/// All that a function that writes was given to write.
///
/// # Safety
/// As [`inputs`].
pub unsafe fn gathered(function: &Function, args: &Arguments) -> Vec<u8> {
    for (i, shape) in function.arguments.iter().enumerate() {
        // SAFETY: by contract.
        unsafe {
            match *shape {
                Shape::In(len) => return bytes_at(args[i], length(len, args)).to_vec(),
                Shape::Gather(_) | Shape::Message => return gather(*shape, i, args),
                _ => {}
            }
        }
    }
    Vec::new()
}

/// How much of an argument's memory the call wrote.
unsafe fn written(len: Len, address: usize, room: usize, args: &Arguments, result: usize) -> usize {
    match len {
        Len::Result(_) => room.min(usize::try_from(result as isize).unwrap_or(0)),
        Len::Headed(_) => room.min(size_of::<c_long>() + usize::try_from(result as isize).unwrap_or(0)),
        // SAFETY: by the callers' contract.
        Len::At(_) => room.min(unsafe { length(len, args) }),
        Len::Terminated(_) => {
            // SAFETY: as above.
            let bytes = unsafe { bytes_at(address, room) };
            bytes.iter().position(|&byte| byte == 0).map_or(room, |end| end + 1)
        }
        Len::Fixed(_) | Len::Argument(_) | Len::Items(..) => room,
    }
}

/// Whether a shape has a buffer of its own in the log.
fn has_output(shape: Shape) -> bool {
    use Shape::{
        Addresses, EntryList, EntryOut, Events, Found, InOut, Interfaces, Lookup, MessageOut, Messages, MessagesOut,
    };
    use Shape::{Out, Request, Scatter, Template, Words};
    let is_buffer = matches!(shape, Out(_) | Events | InOut(_) | Scatter(_) | MessageOut | Request | Template);
    let is_list = matches!(shape, Addresses | Interfaces | EntryOut | EntryList | Found | Words | Lookup(_));
    is_buffer || is_list || matches!(shape, Messages(_) | MessagesOut(_))
}

/// What the call wrote, one for each argument that it writes through; none where it failed and writes only if not.
///
/// # Safety
/// As [`inputs`], after the call.
pub unsafe fn outputs(
    function: &Function,
    args: &Arguments,
    rooms: &Rooms,
    result: usize,
    failed: bool,
) -> Vec<Vec<u8>> {
    // SAFETY: by contract.
    unsafe {
        if function.returns == Returns::Stream {
            return if failed { Vec::new() } else { vec![stream_contents(result as *mut libc::FILE)] };
        }
        if function.returns == Returns::Map {
            return if failed { Vec::new() } else { maps::contents(args) };
        }
        if function.returns == Returns::Attached {
            return if failed { Vec::new() } else { ipc::contents(args[0], result) };
        }
        if function.returns == Returns::Entry {
            return if failed { Vec::new() } else { vec![directories::head(result)] };
        }
        let mut buffers = Vec::new();
        for (i, &shape) in function.arguments.iter().enumerate() {
            if !has_output(shape) {
                continue;
            }
            buffers.push(match shape {
                Shape::InOut(len) => bytes_at(args[i], written(len, args[i], rooms[i], args, result)).to_vec(),
                Shape::Found => found::list(args, i, rooms[i], shape),
                Shape::Lookup(kind) => records::found(kind, args, i),
                _ if failed || args[i] == 0 => Vec::new(),
                Shape::Out(len) => bytes_at(args[i], written(len, args[i], rooms[i], args, result)).to_vec(),
                Shape::Scatter(_) => taken(gather(shape, i, args), result),
                Shape::MessageOut => received_message(args[i], result),
                Shape::Messages(_) => sent_lengths(args[i], result),
                Shape::MessagesOut(_) => received_messages(args[i], result),
                Shape::Events => watches::met(args, args[i], result),
                Shape::Request => {
                    let places = request_places(function, args);
                    places.iter().flat_map(|&(at, size)| bytes_at(at, size)).copied().collect()
                }
                Shape::Addresses => list_addresses(*(args[i] as *const *const libc::addrinfo)),
                Shape::Interfaces => interfaces::list(*(args[i] as *const *const libc::ifaddrs)),
                Shape::Words => found::list(args, i, rooms[i], shape),
                Shape::EntryOut => directories::entry_out(args, i),
                Shape::EntryList => directories::entry_list(args[i], result),
                Shape::Template => CStr::from_ptr(args[i] as *const c_char).to_bytes_with_nul().to_vec(),
                _ => Vec::new(),
            });
        }
        if buffers.iter().all(Vec::is_empty) {
            buffers.clear();
        }
        buffers
    }
}

fn taken(mut bytes: Vec<u8>, result: usize) -> Vec<u8> {
    bytes.truncate(usize::try_from(result as isize).unwrap_or(0));
    bytes
}

/// Writes what the recorded call wrote.
///
/// # Safety
/// As [`inputs`], in place of the call; no more is written than there is room.
pub unsafe fn write_outputs(function: &Function, args: &Arguments, rooms: &Rooms, buffers: &[Vec<u8>]) {
    if matches!(function.returns, Returns::Stream | Returns::Map | Returns::Attached) {
        return;
    }
    let places = function.arguments.iter().enumerate().filter(|(_, shape)| has_output(**shape));
    for ((i, &shape), bytes) in places.zip(buffers) {
        // An address list that was not there is not made.
        if args[i] == 0 || bytes.is_empty() {
            continue;
        }
        // SAFETY: by contract.
        unsafe {
            match shape {
                Shape::Scatter(_) => scatter(vectors(shape, i, args), bytes),
                Shape::MessageOut => receive_message(args[i], bytes),
                Shape::Messages(n) => make_sent_lengths(args[i], args[n], bytes),
                Shape::MessagesOut(n) => receive_messages(args[i], args[n], bytes),
                Shape::Found | Shape::Words => found::make(args, i, rooms[i], shape, bytes),
                Shape::Events => watches::make(args, args[i], bytes),
                Shape::Request => {
                    let mut rest = bytes.as_slice();
                    for (at, size) in request_places(function, args) {
                        copy(rest, at, size);
                        rest = &rest[size.min(rest.len())..];
                    }
                }
                Shape::Addresses => *(args[i] as *mut *mut libc::addrinfo) = make_addresses(bytes),
                Shape::Interfaces => *(args[i] as *mut *mut libc::ifaddrs) = interfaces::make(bytes),
                Shape::EntryOut => directories::make_entry_out(args, i, bytes),
                Shape::EntryList => directories::make_entry_list(args[i], bytes),
                Shape::Lookup(kind) => records::make_found(kind, args, i, bytes),
                // As long as the one that it was made of.
                Shape::Template => copy(bytes, args[i], bytes.len()),
                _ => copy(bytes, args[i], rooms[i]),
            }
        }
    }
}

unsafe fn copy(bytes: &[u8], to: usize, room: usize) {
    // SAFETY: by the contract of `write_outputs`.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len().min(room)) };
}

unsafe fn scatter(parts: &[libc::iovec], mut bytes: &[u8]) {
    for part in parts {
        let n = part.iov_len.min(bytes.len());
        // SAFETY: by the contract of `write_outputs`.
        unsafe { copy(&bytes[..n], part.iov_base as usize, n) };
        bytes = &bytes[n..];
    }
}

/// Where `ioctl` and `fcntl` write, by the request before their last argument: addresses and numbers of bytes.
unsafe fn request_places(function: &Function, args: &Arguments) -> Vec<(usize, usize)> {
    if function.name.to_bytes().starts_with(b"fcntl") {
        return if args[1] as c_int == libc::F_GETLK { vec![(args[2], size_of::<libc::flock>())] } else { Vec::new() };
    }
    // SAFETY: by the contract of `outputs`, the argument is what the request wants.
    if let Some(places) = unsafe { ipc::written_by_control(function, args) } {
        return places;
    }
    if args[2] == 0 {
        return Vec::new();
    }
    // SAFETY: as above.
    unsafe { platform::written_by_ioctl(args[1] as libc::c_ulong, args[2]) }
}

// ---- what has a form of its own in the log ----

/// A reader of our own little records.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        first
    }

    pub fn number(&mut self) -> u32 {
        self.take(4).try_into().map_or(0, u32::from_le_bytes)
    }

    pub fn blob(&mut self) -> &'a [u8] {
        let n = self.number();
        self.take(n as usize)
    }
}

pub fn put_number(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

unsafe fn received_message(address: usize, result: usize) -> Vec<u8> {
    // SAFETY: by the contract of `outputs`.
    unsafe {
        let message = &*(address as *const libc::msghdr);
        let mut out = Vec::new();
        put_number(&mut out, message.msg_flags as u32);
        put_blob(&mut out, bytes_at(message.msg_name as usize, message.msg_namelen as usize));
        put_blob(&mut out, bytes_at(message.msg_control as usize, message.msg_controllen as usize));
        let args = [0, address, 0, 0, 0, 0, 0];
        out.extend_from_slice(&taken(gather(Shape::MessageOut, 1, &args), result));
        out
    }
}

unsafe fn receive_message(address: usize, bytes: &[u8]) {
    // SAFETY: by the contract of `write_outputs`.
    unsafe {
        let message = &mut *(address as *mut libc::msghdr);
        let mut reader = Reader(bytes);
        message.msg_flags = reader.number() as c_int;
        let name = reader.blob();
        copy(name, message.msg_name as usize, message.msg_namelen as usize);
        message.msg_namelen = message.msg_namelen.min(name.len() as u32);
        let control = reader.blob();
        copy(control, message.msg_control as usize, message.msg_controllen as usize);
        message.msg_controllen = message.msg_controllen.min(control.len() as _);
        scatter(vectors(Shape::MessageOut, 1, &[0, address, 0, 0, 0, 0, 0]), reader.0);
    }
}

/// `struct mmsghdr`.
#[repr(C)]
struct Mmsghdr {
    message: libc::msghdr,
    length: c_uint,
}

/// The first ones of those that an argument leads to.
unsafe fn messages<'a>(address: usize, count: usize) -> &'a mut [Mmsghdr] {
    let count = usize::try_from(count as c_int).unwrap_or(0);
    if address == 0 || count == 0 {
        return &mut [];
    }
    // SAFETY: by the contract of `inputs`.
    unsafe { std::slice::from_raw_parts_mut(address as *mut Mmsghdr, count) }
}

unsafe fn sent_messages(args: &Arguments, i: usize, n: usize) -> Vec<u8> {
    // SAFETY: by the contract of `inputs`.
    unsafe {
        let mut out = Vec::new();
        for header in messages(args[i], args[n]) {
            put_blob(&mut out, &gather(Shape::Message, 1, &[0, &raw const header.message as usize, 0, 0, 0, 0, 0]));
        }
        out
    }
}

unsafe fn sent_lengths(address: usize, result: usize) -> Vec<u8> {
    let mut out = Vec::new();
    // SAFETY: by the contract of `outputs`.
    for header in unsafe { messages(address, result) } {
        put_number(&mut out, header.length);
    }
    out
}

unsafe fn make_sent_lengths(address: usize, count: usize, bytes: &[u8]) {
    let mut reader = Reader(bytes);
    // SAFETY: by the contract of `write_outputs`.
    for header in unsafe { messages(address, count) }.iter_mut().take(bytes.len() / 4) {
        header.length = reader.number();
    }
}

unsafe fn received_messages(address: usize, result: usize) -> Vec<u8> {
    // SAFETY: by the contract of `outputs`.
    unsafe {
        let mut out = Vec::new();
        for header in messages(address, result) {
            put_number(&mut out, header.length);
            put_blob(&mut out, &received_message(&raw const header.message as usize, header.length as usize));
        }
        out
    }
}

unsafe fn receive_messages(address: usize, count: usize, bytes: &[u8]) {
    let mut reader = Reader(bytes);
    // SAFETY: by the contract of `write_outputs`.
    unsafe {
        for header in messages(address, count) {
            if reader.0.is_empty() {
                return;
            }
            header.length = reader.number();
            receive_message(&raw mut header.message as usize, reader.blob());
        }
    }
}

/// A list of strings that ends with NULL.
unsafe fn strings(address: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut next = address as *const *const c_char;
    // SAFETY: by the contract of `inputs`.
    unsafe {
        while !next.is_null() && !(*next).is_null() {
            out.extend_from_slice(CStr::from_ptr(*next).to_bytes_with_nul());
            next = next.add(1);
        }
    }
    out
}

/// `getaddrinfo`'s list.
unsafe fn list_addresses(mut entry: *const libc::addrinfo) -> Vec<u8> {
    let mut out = Vec::new();
    // SAFETY: the list that the call has just made.
    unsafe {
        while !entry.is_null() {
            let info = &*entry;
            for number in [info.ai_flags, info.ai_family, info.ai_socktype, info.ai_protocol] {
                put_number(&mut out, number as u32);
            }
            put_blob(&mut out, bytes_at(info.ai_addr as usize, info.ai_addrlen as usize));
            let name = if info.ai_canonname.is_null() { None } else { Some(CStr::from_ptr(info.ai_canonname)) };
            put_number(&mut out, name.is_some().into());
            put_blob(&mut out, name.map_or(&[], CStr::to_bytes));
            entry = info.ai_next;
        }
    }
    out
}

/// The list again. It is never freed: a lookup is a rare thing.
fn make_addresses(bytes: &[u8]) -> *mut libc::addrinfo {
    let mut reader = Reader(bytes);
    let mut entries: Vec<&'static mut libc::addrinfo> = Vec::new();
    while !reader.0.is_empty() {
        let [flags, family, kind, protocol] = std::array::from_fn(|_| reader.number() as c_int);
        let address: &'static mut [u8] = reader.blob().to_vec().leak();
        let named = reader.number() != 0;
        let name = CString::new(reader.blob()).unwrap_or_default();
        entries.push(Box::leak(Box::new(libc::addrinfo {
            ai_flags: flags,
            ai_family: family,
            ai_socktype: kind,
            ai_protocol: protocol,
            ai_addrlen: address.len() as libc::socklen_t,
            ai_addr: if address.is_empty() { ptr::null_mut() } else { address.as_mut_ptr().cast() },
            ai_canonname: if named { name.into_raw() } else { ptr::null_mut() },
            ai_next: ptr::null_mut(),
        })));
    }
    let mut next = ptr::null_mut();
    for entry in entries.into_iter().rev() {
        entry.ai_next = next;
        next = entry;
    }
    next
}

// ---- results ----

/// What a call returned, as a value.
///
/// # Safety
/// The function has just returned it, and was called with `args`.
pub unsafe fn result_value(function: &Function, args: &Arguments, result: usize) -> Value {
    // SAFETY: by contract.
    unsafe {
        match function.returns {
            Returns::Map if result as *mut c_void == libc::MAP_FAILED => Value::Int(-1),
            Returns::Map => maps::described(args),
            Returns::Attached if result == usize::MAX => Value::Int(-1),
            Returns::Attached => Value::Tuple(vec![ipc::described(args[0])]),
            Returns::Int | Returns::Code => Value::Int((result as c_int).into()),
            Returns::Long => Value::Int(result as c_long),
            Returns::Nothing => Value::None,
            _ if result == 0 => Value::None,
            Returns::Text | Returns::TextAt(_) => {
                Value::Bytes(CStr::from_ptr(result as *const c_char).to_bytes().to_vec())
            }
            Returns::Known(kind) => Value::Bytes(records::read(kind, result)),
            Returns::Record(size) => Value::Bytes(bytes_at(result, size).to_vec()),
            Returns::Semaphore => Value::Tuple(Vec::new()),
            Returns::Directory => Value::Int(libc::dirfd(result as *mut libc::DIR).into()),
            Returns::Entry => Value::Bytes(directories::name(result).to_vec()),
            Returns::Stream => {
                let fd = libc::fileno(result as *mut libc::FILE);
                let offset = libc::lseek(fd, 0, libc::SEEK_CUR);
                let mut place = vec![Value::Int(fd.into()), Value::Int(offset.max(0))];
                if platform::regular_file(fd).is_none() {
                    streams::note(result);
                    place.push(Value::Int(1));
                }
                Value::Tuple(place)
            }
        }
    }
}

/// What the recorded call returned, in this process's memory.
///
/// # Safety
/// As [`write_outputs`].
pub unsafe fn make_result(
    function: &Function,
    args: &Arguments,
    recorded: Option<&Value>,
    buffers: &[Vec<u8>],
) -> usize {
    match (function.returns, recorded) {
        (Returns::Directory, Some(Value::Int(fd))) => directories::open(*fd as c_int),
        // SAFETY: a directory of ours, which replay's `opendir` returned.
        (Returns::Entry, Some(Value::Bytes(name))) => unsafe { directories::show(args[0], buffers, name) },
        (Returns::Semaphore, Some(Value::Tuple(_))) => ipc::make_semaphore(),
        (Returns::Attached, Some(Value::Tuple(size))) => {
            let size = size.first().and_then(Value::as_int).and_then(|size| usize::try_from(size).ok());
            ipc::attach(size.unwrap_or_default(), buffers.first().map_or(&[], Vec::as_slice))
        }
        (_, Some(Value::Int(number))) => *number as usize,
        (Returns::Text, Some(Value::Bytes(text))) => lasting_text(text),
        (Returns::Known(kind), Some(Value::Bytes(known))) => records::make(kind, known),
        (Returns::Record(_), Some(Value::Bytes(record))) => shown_record(record),
        (Returns::TextAt(i), Some(Value::Bytes(text))) => {
            let text = CString::new(text.as_slice()).unwrap_or_default();
            // SAFETY: the caller's buffer, which was large enough for the same text; or new memory, which it frees.
            unsafe {
                if args[i] == 0 {
                    return libc::strdup(text.as_ptr()) as usize;
                }
                copy(text.as_bytes_with_nul(), args[i], usize::MAX);
            }
            args[i]
        }
        (Returns::Stream, Some(Value::Tuple(place))) => {
            let number = |i: usize| place.get(i).and_then(Value::as_int).unwrap_or(0);
            let contents = buffers.first().map_or(&[][..], Vec::as_slice);
            // `tmpfile` is not given one.
            let mode = if function.arguments.len() > 1 { args[1] as *const c_char } else { c"w+b".as_ptr() };
            // SAFETY: the mode is the call's second argument.
            let stream = unsafe { make_stream(contents, number(0) as c_int, number(1), mode) as usize };
            if number(2) != 0 && stream != 0 {
                streams::note(stream);
            }
            stream
        }
        _ => 0,
    }
}

/// A struct that is the library's own, where the one before it was.
fn shown_record(bytes: &[u8]) -> usize {
    static SHOWN: Mutex<[u64; 64]> = Mutex::new([0; 64]);
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let size = bytes.len().min(size_of_val(&*shown));
    // SAFETY: within the array, which stays where it is.
    unsafe { copy(bytes, shown.as_mut_ptr() as usize, size) };
    shown.as_ptr() as usize
}

/// A text that the library would keep: made once for each.
fn lasting_text(text: &[u8]) -> usize {
    static TEXTS: std::sync::Mutex<Vec<CString>> = std::sync::Mutex::new(Vec::new());
    let text = CString::new(text).unwrap_or_default();
    let mut texts = TEXTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = texts.iter().find(|known| **known == text) {
        return known.as_ptr() as usize;
    }
    // The text's memory stays where it is when the vector grows.
    let address = text.as_ptr() as usize;
    texts.push(text);
    address
}

/// All that is in a regular file that was opened as a stream.
unsafe fn stream_contents(stream: *mut libc::FILE) -> Vec<u8> {
    // SAFETY: an open stream.
    let fd = unsafe { libc::fileno(stream) };
    platform::regular_file(fd).map_or(Vec::new(), |_| platform::bytes_of_file(fd, 0, STREAM_LIMIT))
}

/// A stream over a file without a name, under the recorded descriptor's number where that is free.
unsafe fn make_stream(contents: &[u8], number: c_int, offset: i64, mode: *const c_char) -> *mut libc::FILE {
    // SAFETY: descriptors of our own, and a number that nobody uses or that stands for the recorded one.
    unsafe {
        let mut fd = platform::anonymous_file();
        if fd < 0 {
            return ptr::null_mut();
        }
        let mut rest = contents;
        while !rest.is_empty() {
            match usize::try_from(libc::write(fd, rest.as_ptr().cast(), rest.len())) {
                Ok(n) if n > 0 => rest = &rest[n..],
                _ => break,
            }
        }
        libc::lseek(fd, offset, libc::SEEK_SET);
        if fd != number && (crate::console::stands_for(number) || libc::fcntl(number, libc::F_GETFD) == -1) {
            libc::dup2(fd, number);
            libc::close(fd);
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
            fd = number;
        }
        libc::fdopen(fd, mode)
    }
}
