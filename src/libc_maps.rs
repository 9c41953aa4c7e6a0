//! Files that C code maps (`mmap`). The log has what was in them, and replay gives a map of its own with that; what the
//! process writes into such a file afterwards is in the replay's map too. A map without a file is memory, and nothing of
//! the outside.

use crate::file_memory;
use crate::libc_calls::Arguments;
use crate::libc_table::{Function, Returns};
use crate::platform;
use retrace_replay::value::Value;
use std::ffi::c_int;
use std::ptr;

/// What the arguments of `mmap` say.
struct Wanted {
    address: usize,
    size: usize,
    access: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
}

impl Wanted {
    fn of(args: &Arguments) -> Wanted {
        let [address, size, access, flags, fd, offset, _] = *args;
        let [access, flags, fd] = [access, flags, fd].map(|number| number as c_int);
        Wanted { address, size, access, flags, fd, offset: offset as i64 }
    }

    fn has_file(&self) -> bool {
        self.fd >= 0 && self.flags & libc::MAP_ANONYMOUS == 0
    }

    /// Whether what is written into the file shows in the map: in one that is not written to it does, private or not.
    fn shows_writes(&self) -> bool {
        self.flags & libc::MAP_FIXED == 0
            && (self.flags & libc::MAP_PRIVATE == 0 || self.access & libc::PROT_WRITE == 0)
    }
}

/// Whether a call of the table makes a map without a file.
pub fn is_memory(function: &Function, args: &Arguments) -> bool {
    function.returns == Returns::Map && !Wanted::of(args).has_file()
}

// ---- recording ----

/// Where in a new map there is anything, from its beginning on; or why its contents are not recorded.
fn ranges(wanted: &Wanted) -> Result<Vec<(usize, usize)>, &'static str> {
    let Some(status) = platform::regular_file(wanted.fd) else {
        return Err("its contents were not recorded: it is not a file's");
    };
    let end = usize::try_from(status.st_size - wanted.offset).unwrap_or(0).min(wanted.size);
    file_memory::data_of(wanted.fd, wanted.offset, end)
}

/// What is in a new map: for each part the offset in eight bytes, and the bytes. What is not there is zero.
pub fn contents(args: &Arguments) -> Vec<Vec<u8>> {
    let wanted = Wanted::of(args);
    let ranges = ranges(&wanted).unwrap_or_default();
    let parts = ranges.into_iter().map(|(from, size)| {
        let bytes = platform::bytes_of_file(wanted.fd, wanted.offset + from as i64, size);
        [&(from as u64).to_le_bytes(), bytes.as_slice()].concat()
    });
    parts.filter(|part| part[8..].iter().any(|&byte| byte != 0)).collect()
}

/// What the log has in the place of the address: the file's number (-1: the map shares with none), and why its contents
/// are not there, where they are not.
pub fn described(args: &Arguments) -> Value {
    let wanted = Wanted::of(args);
    let number = if wanted.shows_writes() { file_memory::number_of(wanted.fd) } else { None };
    let mut parts = vec![Value::Int(number.map_or(-1, i64::from))];
    if let Err(why) = ranges(&wanted) {
        parts.push(Value::Bytes(why.into()));
    }
    Value::Tuple(parts)
}

/// Of a call that has written: the number of the file, if it is mapped, and where in it the bytes are now.
pub fn written(function: &Function, args: &Arguments, result: usize) -> Option<Value> {
    let offset = match function.name.to_bytes() {
        _ if !file_memory::has_files() => return None,
        b"pwrite" | b"pwrite64" => Some(args[3] as i64),
        b"write" | b"writev" => None,
        _ => return None,
    };
    let fd = args[0] as c_int;
    let number = file_memory::known_number_of(fd)?;
    // SAFETY: asks where the file's position is, which is behind what was written.
    let offset = offset.unwrap_or_else(|| unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) } - result as i64);
    Some(Value::Tuple(vec![Value::Int(number.into()), Value::Int(offset)]))
}

// ---- replaying ----

/// A map with the recorded contents: its address, or why there is none.
///
/// # Safety
/// Replaying, in place of the call.
pub unsafe fn make(args: &Arguments, described: &[Value], buffers: &[Vec<u8>]) -> Result<usize, String> {
    let wanted = Wanted::of(args);
    let size = wanted.size;
    if let Some(Value::Bytes(why)) = described.get(1) {
        let why = String::from_utf8_lossy(why);
        return Err(format!("a map of {size} bytes by C code: {why}"));
    }
    let number = described.first().and_then(Value::as_int).and_then(|number| u32::try_from(number).ok());
    // SAFETY: by contract; what is written lies within the map that was just made.
    unsafe {
        let memory = if wanted.flags & libc::MAP_FIXED != 0 {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let memory = libc::mmap(wanted.address as *mut _, size, access, kind, -1, 0);
            (memory != libc::MAP_FAILED).then_some(memory.cast())
        } else {
            file_memory::map(number.zip(usize::try_from(wanted.offset).ok()), size)
        };
        let Some(memory) = memory else {
            return Err(format!("a map of {size} bytes by C code: there is not so much memory here"));
        };
        file_memory::clear(memory, size);
        for part in buffers {
            let Some((offset, bytes)) = part.split_first_chunk() else { continue };
            let from = u64::from_le_bytes(*offset) as usize;
            if from.checked_add(bytes.len()).is_some_and(|end| end <= size) {
                ptr::copy_nonoverlapping(bytes.as_ptr(), memory.add(from), bytes.len());
            }
        }
        Ok(memory as usize)
    }
}

/// What [`written`] said of a call is done to the maps.
///
/// # Safety
/// Replaying.
pub unsafe fn write(said: &Value, bytes: &[u8]) {
    if let Value::Tuple(place) = said
        && let [Value::Int(number), Value::Int(offset)] = place[..]
        && let (Ok(number), Ok(offset)) = (u32::try_from(number), usize::try_from(offset))
    {
        // SAFETY: by contract.
        unsafe { file_memory::write(number, offset, bytes) };
    }
}
