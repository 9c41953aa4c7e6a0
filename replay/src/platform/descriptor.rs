//! System calls on the trace's descriptors. A descriptor is a number here and no owner: the program may close any.

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Opens a file that only its owner may read: a recording holds whatever the program read.
pub(crate) fn open(path: &Path, flags: libc::c_int) -> io::Result<RawFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC | libc::O_NOCTTY, 0o600) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Closes a descriptor that the caller gives up.
pub(crate) fn close(fd: RawFd) {
    // SAFETY: a system call on a descriptor.
    unsafe { libc::close(fd) };
}

/// `flock`, without waiting. Where it fails, `errno` says why.
pub(crate) fn lock(fd: RawFd, operation: libc::c_int) -> bool {
    // SAFETY: a system call on a descriptor.
    unsafe { libc::flock(fd, operation | libc::LOCK_NB) == 0 }
}

/// Which file it is: device and inode.
pub(crate) fn identity(fd: RawFd) -> Option<(u64, u64)> {
    // SAFETY: stat is plain numbers, for which zeros are valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is writable.
    let known = unsafe { libc::fstat(fd, &mut stat) } == 0;
    known.then_some((stat.st_dev as u64, stat.st_ino))
}

/// Reads from `offset` on: how many bytes, or less than 0.
pub(crate) fn read_at(fd: RawFd, buffer: &mut [u8], offset: u64) -> isize {
    // SAFETY: `buffer` is writable for its length.
    unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), offset as libc::off_t) }
}

/// Cuts the file. Best effort.
pub(crate) fn truncate(fd: RawFd, length: u64) {
    // SAFETY: a system call on a descriptor.
    unsafe { libc::ftruncate(fd, length as libc::off_t) };
}

/// Random bytes; the ones there where the system has none.
pub(crate) fn random(bytes: &mut [u8; 16]) {
    // SAFETY: writable for its length, which is below getentropy's limit of 256.
    unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), bytes.len()) };
}
