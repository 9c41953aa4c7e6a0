//! What differs between platforms, one file each.

#[cfg(target_os = "linux")]
#[path = "platform_linux.rs"]
mod imp;
#[cfg(target_os = "macos")]
#[path = "platform_macos.rs"]
mod imp;

pub use imp::{address_size, data_size, other_address, set_other_address, written_by_ioctl};
pub use imp::{
    anonymous_file, answer_time_stamps, at_exit, confine, data_ranges, end_with_parent, errno, in_place_of, is_free,
    is_once_done, is_thread_asleep, key_destructor, let_timer_interrupt, other_threads_run, read_memory, refused_call,
    set_errno, set_stack, start_timer, wake_after,
};
pub use imp::{stream_over, thread_cpu_us, thread_id, wait_for_change, wake, wake_all, without_time_stamps};

type ReadStream = unsafe fn(libc::c_int, *mut libc::c_char, usize) -> isize;
type WriteStream = unsafe fn(libc::c_int, *const libc::c_char, usize) -> isize;

/// What a stream of [`stream_over`] reads and writes by.
struct Cookie {
    fd: libc::c_int,
    read: ReadStream,
    write: WriteStream,
}

/// What such a stream is closed by.
unsafe extern "C" fn cookie_close(cookie: *mut libc::c_void) -> libc::c_int {
    // SAFETY: called by the C library with what `stream_over` gave it, for the last time.
    drop(unsafe { Box::from_raw(cookie.cast::<Cookie>()) });
    0
}

/// What a descriptor leads to.
fn status_of(descriptor: libc::c_int) -> Option<libc::stat> {
    let mut status = std::mem::MaybeUninit::uninit();
    // SAFETY: `status` is writable, and filled where the call succeeds.
    unsafe { (libc::fstat(descriptor, status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

/// The same, where that is a regular file.
pub fn regular_file(descriptor: libc::c_int) -> Option<libc::stat> {
    status_of(descriptor).filter(|status| status.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// The size of a page in bytes.
pub fn page_size() -> usize {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Up to `size` bytes of a file from `from` on. What is not there, or can't be read, is left out.
pub fn bytes_of_file(descriptor: libc::c_int, from: i64, size: usize) -> Vec<u8> {
    const PART: usize = 64 << 10;
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let known = bytes.len();
        bytes.resize(size.min(known + PART), 0);
        let part = &mut bytes[known..];
        // SAFETY: writes into `part`; reading at a position moves nothing.
        let n = unsafe { libc::pread(descriptor, part.as_mut_ptr().cast(), part.len(), from + known as libc::off_t) };
        bytes.truncate(known + usize::try_from(n).unwrap_or(0));
        if n <= 0 {
            break;
        }
    }
    bytes
}

/// Where there is anything but zeros in `size` bytes of a file from `from` on, found by reading: offsets from there and
/// sizes. None where that would take long.
pub fn written_ranges(descriptor: libc::c_int, from: i64, size: usize) -> Option<Vec<(usize, usize)>> {
    const PART: usize = 64 << 10;
    const LONGEST: usize = 1 << 30;
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < size && size <= LONGEST {
        let part = bytes_of_file(descriptor, from + at as i64, PART.min(size - at));
        if part.is_empty() {
            break;
        }
        if part.iter().fold(0, |all, byte| all | byte) != 0 {
            match ranges.last_mut().filter(|(first, known)| first + known == at) {
                Some((_, known)) => *known += part.len(),
                None => ranges.push((at, part.len())),
            }
        }
        at += part.len();
    }
    (size <= LONGEST).then_some(ranges)
}

/// How [`wait_for_change`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// Perhaps: who waits looks again.
    Changed,
    /// A signal's handler ran.
    Interrupted,
    TimedOut,
}
