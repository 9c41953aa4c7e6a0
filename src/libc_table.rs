//! The functions of the C library by which an extension module's own code reaches the outside, as data: what each
//! argument is, what is written through it, what comes back. `src/libc_calls.rs` is the generic code that records and
//! answers them; a function that is not here stays the library's own.
//!
//! A name that the platform's C library lacks is passed over. Functions that can't touch the outside (memory, strings,
//! numbers) are not here, nor are those of streams that are already open: a stream is made from what was recorded when
//! it was opened.

use crate::libc_records::Kind;
use Len::{Argument, At, Fixed, Headed, Items, Result, Terminated};
use Returns::{
    Attached, Code, Directory, Entry, Int, Known, Long, Map, Nothing, Record, Semaphore, Stream, Text, TextAt,
};
use Shape::{
    Addresses, EntryList, EntryOut, Events, Found, Gather, Ignored, In, InOut, Interfaces, Lookup, Message, MessageOut,
    Messages, MessagesOut, Number, Out, Request, Scatter, String, Strings, Template, Watch, Wide, Words,
};
use retrace_abi::boundary::Fds;
use std::ffi::CStr;

/// How many bytes lie behind a pointer. Arguments are counted from 0.
#[derive(Clone, Copy, Debug)]
pub enum Len {
    Fixed(usize),
    /// As many as that argument says.
    Argument(usize),
    /// As many as the call returned, and no more than that argument says.
    Result(usize),
    /// As many items of so many bytes as that argument says.
    Items(usize, usize),
    /// As many as the `socklen_t` behind that argument says: the room before the call, what there was after it.
    At(usize),
    /// A C string in a buffer of as many bytes as that argument says.
    Terminated(usize),
    /// A C `long`, and behind it as many as that argument says, or, written by the call, as it returned: `struct msgbuf`.
    Headed(usize),
}

/// What an argument is.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A C `int`, compared.
    Number,
    /// A C `long`, `size_t` or `off_t`, compared.
    Wide,
    /// An address that means nothing to the outside.
    Ignored,
    /// A C string, or NULL, compared.
    String,
    /// A C string, compared, that the call makes a name of in its place.
    Template,
    /// Bytes that the call reads: compared.
    In(Len),
    /// Bytes that the call writes if it succeeds.
    Out(Len),
    /// Bytes that the call may change however it ends.
    InOut(Len),
    /// `struct iovec`s, as many as that argument says, whose bytes the call reads.
    Gather(usize),
    /// The same, whose bytes the call writes: as many as it returned.
    Scatter(usize),
    /// A `struct msghdr` that is sent.
    Message,
    /// A `struct msghdr` that is received into.
    MessageOut,
    /// `struct mmsghdr`s that are sent, as many as that argument says; what was sent of each is written there.
    Messages(usize),
    /// The same, received into: as many as the call returned.
    MessagesOut(usize),
    /// A list of C strings that ends with NULL, compared: a program's arguments.
    Strings,
    /// What stands behind it depends on the request, the argument before: `ioctl`, `fcntl`, `semctl` and its like.
    Request,
    /// Where `getaddrinfo` puts its list.
    Addresses,
    /// Where `getifaddrs` puts its list.
    Interfaces,
    /// Where `readdir_r` puts an entry; the next argument is where the entry's address goes, or NULL at the end.
    EntryOut,
    /// Where `scandir` puts its list, which the caller frees. `src/libc_directories.rs` leaves out and sorts.
    EntryList,
    /// `glob`'s `glob_t`, which the caller frees.
    Found,
    /// `epoll_ctl`'s `struct epoll_event`, which says what `epoll_wait` shall call the descriptor before it.
    Watch,
    /// The `struct epoll_event`s that `epoll_wait` fills, as many as it returned.
    Events,
    /// `wordexp`'s `wordexp_t`, which the caller frees.
    Words,
    /// `getpwnam_r` and its like: a struct, and in the next arguments a buffer, its size, and where the result's address goes.
    Lookup(Kind),
}

/// What a call returns, and when it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// A C `int`; negative for failure.
    Int,
    /// A C `long` or `ssize_t`; negative for failure.
    Long,
    /// A C `int`; anything but 0 is failure.
    Code,
    /// A C string of the library's own, or NULL.
    Text,
    /// A C string, or NULL: in that argument's buffer, or in new memory where that is NULL.
    TextAt(usize),
    /// A struct of so many bytes that the next such call writes over, or NULL.
    Record(usize),
    /// One of the structs of `src/libc_records.rs`, or NULL.
    Known(Kind),
    /// A `FILE *`, or NULL.
    Stream,
    /// A `DIR *`, or NULL.
    Directory,
    /// A `struct dirent *` of the directory that is the first argument; NULL at its end, too.
    Entry,
    /// The address of a map of a file, or MAP_FAILED: `src/libc_maps.rs`.
    Map,
    /// A semaphore that has a name, or NULL: `src/libc_ipc.rs`.
    Semaphore,
    /// The address of memory that processes share by a key, or -1.
    Attached,
    Nothing,
}

/// Whether a call may wait, and others go on meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    Never,
    Always,
    /// Unless its descriptor, the first argument, is set not to, or those flags (`MSG_DONTWAIT`) say so.
    Descriptor {
        flags: Option<usize>,
    },
    /// Unless that argument, a time in milliseconds, is 0.
    Milliseconds(usize),
}

#[derive(Debug)]
pub struct Function {
    pub name: &'static CStr,
    pub returns: Returns,
    pub arguments: &'static [Shape],
    /// What it does to descriptors if it succeeds.
    pub fds: Fds,
    /// It only asks: a thread that the replay has no say over may call it for real.
    pub asks: bool,
    pub waits: Waits,
}

const fn function(name: &'static CStr, returns: Returns, arguments: &'static [Shape]) -> Function {
    Function { name, returns, arguments, fds: Fds::None, asks: false, waits: Waits::Never }
}

const fn waiting(name: &'static CStr, returns: Returns, arguments: &'static [Shape]) -> Function {
    Function { waits: Waits::Always, ..function(name, returns, arguments) }
}

/// Moves what is there, and waits for more if its descriptor does.
const fn moving(name: &'static CStr, returns: Returns, arguments: &'static [Shape]) -> Function {
    Function { waits: Waits::Descriptor { flags: None }, ..function(name, returns, arguments) }
}

/// The same, of a socket's, with flags.
const fn moving_by(flags: usize, name: &'static CStr, returns: Returns, arguments: &'static [Shape]) -> Function {
    Function { waits: Waits::Descriptor { flags: Some(flags) }, ..function(name, returns, arguments) }
}

const fn waiting_for(time: usize, name: &'static CStr, returns: Returns, arguments: &'static [Shape]) -> Function {
    Function { waits: Waits::Milliseconds(time), ..function(name, returns, arguments) }
}

const fn opening(name: &'static CStr, returns: Returns, arguments: &'static [Shape]) -> Function {
    Function { waits: Waits::Always, ..with(Fds::Open, name, returns, arguments) }
}

const fn with(fds: Fds, name: &'static CStr, returns: Returns, arguments: &'static [Shape]) -> Function {
    Function { fds, ..function(name, returns, arguments) }
}

const fn asking(name: &'static CStr, returns: Returns, arguments: &'static [Shape]) -> Function {
    Function { asks: true, ..function(name, returns, arguments) }
}

/// What the look of a module's own code at the time stamp counter is called.
pub const TIME_STAMP: &CStr = c"rdtsc";

const TIMES: Len = Fixed(2 * size_of::<libc::timespec>());
const STAT: Shape = Out(Fixed(size_of::<libc::stat>()));
const TIMEVAL: Len = Fixed(size_of::<libc::timeval>());
const TIMESPEC: Len = Fixed(size_of::<libc::timespec>());
const TIMER: Len = Fixed(2 * size_of::<libc::timespec>());
const SOCKLEN: Len = Fixed(size_of::<libc::socklen_t>());
/// `struct utmp` of glibc, and of musl.
const UTMP: usize = 384;
/// `struct mq_attr` of glibc: four `long`s, and room for as many.
const MQ_ATTR: Len = Fixed(size_of::<[libc::c_long; 8]>());
/// `struct sembuf`.
const SEMBUF: usize = 6;
const POLLFD: usize = size_of::<libc::pollfd>();
const SCHED_PARAM: Len = Fixed(size_of::<libc::sched_param>());
const FD_SET: Shape = InOut(Fixed(size_of::<libc::fd_set>()));

/// No more than there are trampolines, which `build.rs` makes.
pub const COUNT: usize = 388;

pub static FUNCTIONS: [Function; COUNT] = [
    // Sockets.
    with(Fds::Open, c"socket", Int, &[Number, Number, Number]),
    with(Fds::OpenBoth, c"socketpair", Int, &[Number, Number, Number, Out(Fixed(8))]),
    moving(c"connect", Int, &[Number, In(Argument(2)), Number]),
    function(c"bind", Int, &[Number, In(Argument(2)), Number]),
    function(c"listen", Int, &[Number, Number]),
    opening(c"accept", Int, &[Number, Out(At(2)), InOut(SOCKLEN)]),
    opening(c"accept4", Int, &[Number, Out(At(2)), InOut(SOCKLEN), Number]),
    function(c"shutdown", Int, &[Number, Number]),
    function(c"getsockopt", Int, &[Number, Number, Number, Out(At(4)), InOut(SOCKLEN)]),
    function(c"setsockopt", Int, &[Number, Number, Number, In(Argument(4)), Number]),
    function(c"getsockname", Int, &[Number, Out(At(2)), InOut(SOCKLEN)]),
    function(c"getpeername", Int, &[Number, Out(At(2)), InOut(SOCKLEN)]),
    moving_by(3, c"send", Long, &[Number, In(Argument(2)), Wide, Number]),
    moving_by(3, c"sendto", Long, &[Number, In(Argument(2)), Wide, Number, In(Argument(5)), Number]),
    moving_by(2, c"sendmsg", Long, &[Number, Message, Number]),
    moving_by(3, c"recv", Long, &[Number, Out(Result(2)), Wide, Number]),
    moving_by(4, c"__recv_chk", Long, &[Number, Out(Result(2)), Wide, Wide, Number]),
    moving_by(3, c"recvfrom", Long, &[Number, Out(Result(2)), Wide, Number, Out(At(5)), InOut(SOCKLEN)]),
    moving_by(4, c"__recvfrom_chk", Long, &[Number, Out(Result(2)), Wide, Wide, Number, Out(At(6)), InOut(SOCKLEN)]),
    moving_by(2, c"recvmsg", Long, &[Number, MessageOut, Number]),
    moving_by(3, c"sendmmsg", Int, &[Number, Messages(2), Number, Number]),
    moving_by(3, c"recvmmsg", Int, &[Number, MessagesOut(2), Number, Number, InOut(TIMESPEC)]),
    // Waiting.
    waiting_for(2, c"poll", Int, &[InOut(Items(1, POLLFD)), Wide, Number]),
    waiting_for(2, c"__poll_chk", Int, &[InOut(Items(1, POLLFD)), Wide, Number, Ignored]),
    waiting(c"ppoll", Int, &[InOut(Items(1, POLLFD)), Wide, In(TIMESPEC), Ignored]),
    waiting(c"__ppoll_chk", Int, &[InOut(Items(1, POLLFD)), Wide, In(TIMESPEC), Ignored, Ignored]),
    waiting(c"select", Int, &[Number, FD_SET, FD_SET, FD_SET, InOut(TIMEVAL)]),
    waiting(c"pselect", Int, &[Number, FD_SET, FD_SET, FD_SET, In(TIMESPEC), Ignored]),
    with(Fds::Open, c"epoll_create", Int, &[Number]),
    with(Fds::Open, c"epoll_create1", Int, &[Number]),
    function(c"epoll_ctl", Int, &[Number, Number, Number, Watch]),
    waiting_for(3, c"epoll_wait", Int, &[Number, Events, Number, Number]),
    waiting_for(3, c"epoll_pwait", Int, &[Number, Events, Number, Number, Ignored]),
    waiting(c"epoll_pwait2", Int, &[Number, Events, Number, In(TIMESPEC), Ignored]),
    with(Fds::Open, c"inotify_init", Int, &[]),
    with(Fds::Open, c"inotify_init1", Int, &[Number]),
    function(c"inotify_add_watch", Int, &[Number, String, Number]),
    function(c"inotify_rm_watch", Int, &[Number, Number]),
    with(Fds::Open, c"timerfd_create", Int, &[Number, Number]),
    function(c"timerfd_settime", Int, &[Number, Number, In(TIMER), Out(TIMER)]),
    waiting(c"nanosleep", Int, &[In(TIMESPEC), InOut(TIMESPEC)]),
    waiting(c"thrd_sleep", Int, &[In(TIMESPEC), InOut(TIMESPEC)]),
    waiting(c"clock_nanosleep", Code, &[Number, Number, In(TIMESPEC), InOut(TIMESPEC)]),
    waiting(c"usleep", Int, &[Number]),
    waiting(c"sleep", Int, &[Number]),
    // Names.
    waiting(c"getaddrinfo", Code, &[String, String, In(Fixed(16)), Addresses]),
    function(c"freeaddrinfo", Nothing, &[Ignored]),
    waiting(
        c"getnameinfo",
        Code,
        &[In(Argument(1)), Number, Out(Terminated(3)), Number, Out(Terminated(5)), Number, Number],
    ),
    asking(c"gethostname", Int, &[Out(Terminated(1)), Wide]),
    asking(c"__gethostname_chk", Int, &[Out(Terminated(1)), Wide, Ignored]),
    asking(c"if_nametoindex", Int, &[String]),
    function(c"getifaddrs", Int, &[Interfaces]),
    function(c"freeifaddrs", Nothing, &[Ignored]),
    asking(c"uname", Int, &[Out(Fixed(390))]),
    waiting(c"getpwnam_r", Code, &[String, Lookup(Kind::User), Ignored, Wide, Ignored]),
    waiting(c"getpwuid_r", Code, &[Number, Lookup(Kind::User), Ignored, Wide, Ignored]),
    waiting(c"getgrnam_r", Code, &[String, Lookup(Kind::Group), Ignored, Wide, Ignored]),
    waiting(c"getgrgid_r", Code, &[Number, Lookup(Kind::Group), Ignored, Wide, Ignored]),
    waiting(c"getpwnam", Known(Kind::User), &[String]),
    waiting(c"getpwuid", Known(Kind::User), &[Number]),
    waiting(c"getgrnam", Known(Kind::Group), &[String]),
    waiting(c"getgrgid", Known(Kind::Group), &[Number]),
    waiting(c"getservbyname", Known(Kind::Service), &[String, String]),
    waiting(c"getservbyport", Known(Kind::Service), &[Number, String]),
    waiting(c"gethostbyname", Known(Kind::Host), &[String]),
    waiting(c"gethostbyname2", Known(Kind::Host), &[String, Number]),
    waiting(c"gethostbyname_r", Code, &[String, Lookup(Kind::Host), Ignored, Wide, Ignored, InOut(Fixed(4))]),
    waiting(c"gethostbyname2_r", Code, &[String, Number, Lookup(Kind::Host), Ignored, Wide, Ignored, InOut(Fixed(4))]),
    waiting(c"gethostbyaddr", Known(Kind::Host), &[In(Argument(1)), Number, Number]),
    waiting(c"getservbyname_r", Code, &[String, String, Lookup(Kind::Service), Ignored, Wide, Ignored]),
    waiting(c"getservbyport_r", Code, &[Number, String, Lookup(Kind::Service), Ignored, Wide, Ignored]),
    waiting(c"getprotobyname", Known(Kind::Protocol), &[String]),
    waiting(c"getprotobynumber", Known(Kind::Protocol), &[Number]),
    waiting(c"getprotobyname_r", Code, &[String, Lookup(Kind::Protocol), Ignored, Wide, Ignored]),
    waiting(c"getprotobynumber_r", Code, &[Number, Lookup(Kind::Protocol), Ignored, Wide, Ignored]),
    // All that there are, one after the other.
    function(c"setpwent", Nothing, &[]),
    waiting(c"getpwent", Known(Kind::User), &[]),
    waiting(c"getpwent_r", Code, &[Lookup(Kind::User), Ignored, Wide, Ignored]),
    function(c"endpwent", Nothing, &[]),
    function(c"setgrent", Nothing, &[]),
    waiting(c"getgrent", Known(Kind::Group), &[]),
    waiting(c"getgrent_r", Code, &[Lookup(Kind::Group), Ignored, Wide, Ignored]),
    function(c"endgrent", Nothing, &[]),
    function(c"setservent", Nothing, &[Number]),
    waiting(c"getservent", Known(Kind::Service), &[]),
    function(c"endservent", Nothing, &[]),
    function(c"setprotoent", Nothing, &[Number]),
    waiting(c"getprotoent", Known(Kind::Protocol), &[]),
    function(c"endprotoent", Nothing, &[]),
    // Questions to name servers.
    waiting(c"res_query", Int, &[String, Number, Number, Out(Result(4)), Number]),
    waiting(c"res_search", Int, &[String, Number, Number, Out(Result(4)), Number]),
    waiting(c"res_nquery", Int, &[Ignored, String, Number, Number, Out(Result(5)), Number]),
    waiting(c"res_nsearch", Int, &[Ignored, String, Number, Number, Out(Result(5)), Number]),
    // Descriptors.
    moving(c"read", Long, &[Number, Out(Result(2)), Wide]),
    moving(c"__read_chk", Long, &[Number, Out(Result(2)), Wide, Ignored]),
    waiting(c"pread", Long, &[Number, Out(Result(2)), Wide, Wide]),
    waiting(c"pread64", Long, &[Number, Out(Result(2)), Wide, Wide]),
    waiting(c"__pread_chk", Long, &[Number, Out(Result(2)), Wide, Wide, Ignored]),
    waiting(c"__pread64_chk", Long, &[Number, Out(Result(2)), Wide, Wide, Ignored]),
    moving(c"readv", Long, &[Number, Scatter(2), Number]),
    waiting(c"preadv", Long, &[Number, Scatter(2), Number, Wide]),
    waiting(c"preadv64", Long, &[Number, Scatter(2), Number, Wide]),
    moving(c"write", Long, &[Number, In(Argument(2)), Wide]),
    waiting(c"pwrite", Long, &[Number, In(Argument(2)), Wide, Wide]),
    waiting(c"pwrite64", Long, &[Number, In(Argument(2)), Wide, Wide]),
    moving(c"writev", Long, &[Number, Gather(2), Number]),
    waiting(c"pwritev", Long, &[Number, Gather(2), Number, Wide]),
    waiting(c"pwritev64", Long, &[Number, Gather(2), Number, Wide]),
    waiting(c"sendfile", Long, &[Number, Number, InOut(Fixed(8)), Wide]),
    waiting(c"sendfile64", Long, &[Number, Number, InOut(Fixed(8)), Wide]),
    waiting(c"copy_file_range", Long, &[Number, InOut(Fixed(8)), Number, InOut(Fixed(8)), Wide, Number]),
    waiting(c"splice", Long, &[Number, InOut(Fixed(8)), Number, InOut(Fixed(8)), Wide, Number]),
    function(c"lseek", Long, &[Number, Wide, Number]),
    function(c"lseek64", Long, &[Number, Wide, Number]),
    with(Fds::Close, c"close", Int, &[Number]),
    with(Fds::Dup, c"dup", Int, &[Number]),
    with(Fds::Dup2, c"dup2", Int, &[Number, Number]),
    with(Fds::Dup2, c"dup3", Int, &[Number, Number, Number]),
    with(Fds::OpenBoth, c"pipe", Int, &[Out(Fixed(8))]),
    with(Fds::OpenBoth, c"pipe2", Int, &[Out(Fixed(8)), Number]),
    with(Fds::Open, c"eventfd", Int, &[Number, Number]),
    with(Fds::Open, c"memfd_create", Int, &[String, Number]),
    waiting(c"eventfd_read", Int, &[Number, Out(Fixed(8))]),
    waiting(c"eventfd_write", Int, &[Number, Wide]),
    with(Fds::Fcntl, c"fcntl", Int, &[Number, Number, Request]),
    with(Fds::Fcntl, c"fcntl64", Int, &[Number, Number, Request]),
    function(c"ioctl", Int, &[Number, Wide, Request]),
    waiting(c"flock", Int, &[Number, Number]),
    waiting(c"fsync", Int, &[Number]),
    waiting(c"fdatasync", Int, &[Number]),
    function(c"ftruncate", Int, &[Number, Wide]),
    function(c"ftruncate64", Int, &[Number, Wide]),
    function(c"fallocate", Int, &[Number, Number, Wide, Wide]),
    function(c"fallocate64", Int, &[Number, Number, Wide, Wide]),
    function(c"posix_fallocate", Code, &[Number, Wide, Wide]),
    function(c"posix_fallocate64", Code, &[Number, Wide, Wide]),
    function(c"posix_fadvise", Code, &[Number, Wide, Wide, Number]),
    function(c"posix_fadvise64", Code, &[Number, Wide, Wide, Number]),
    waiting(c"sync", Nothing, &[]),
    waiting(c"syncfs", Int, &[Number]),
    waiting(c"sync_file_range", Int, &[Number, Wide, Wide, Number]),
    function(c"timerfd_gettime", Int, &[Number, Out(TIMER)]),
    with(Fds::Open, c"posix_openpt", Int, &[Number]),
    function(c"grantpt", Int, &[Number]),
    function(c"unlockpt", Int, &[Number]),
    function(c"ptsname", Text, &[Number]),
    function(c"ptsname_r", Code, &[Number, Out(Terminated(2)), Wide]),
    function(c"__ptsname_r_chk", Code, &[Number, Out(Terminated(2)), Wide, Ignored]),
    function(c"ttyname", Text, &[Number]),
    function(c"ttyname_r", Code, &[Number, Out(Terminated(2)), Wide]),
    function(c"__ttyname_r_chk", Code, &[Number, Out(Terminated(2)), Wide, Ignored]),
    function(c"isatty", Int, &[Number]),
    function(c"mmap", Map, &[Ignored, Wide, Number, Number, Number, Wide]),
    function(c"mmap64", Map, &[Ignored, Wide, Number, Number, Number, Wide]),
    // Files by name.
    opening(c"open", Int, &[String, Number, Ignored]),
    opening(c"open64", Int, &[String, Number, Ignored]),
    opening(c"__open_2", Int, &[String, Number]),
    opening(c"__open64_2", Int, &[String, Number]),
    opening(c"openat", Int, &[Number, String, Number, Ignored]),
    opening(c"openat64", Int, &[Number, String, Number, Ignored]),
    opening(c"__openat_2", Int, &[Number, String, Number]),
    opening(c"__openat64_2", Int, &[Number, String, Number]),
    opening(c"creat", Int, &[String, Number]),
    waiting(c"fopen", Stream, &[String, String]),
    waiting(c"fopen64", Stream, &[String, String]),
    waiting(c"setmntent", Stream, &[String, String]),
    function(c"fdopen", Stream, &[Number, String]),
    // Whose streams are ours: `src/libc_streams.rs`.
    waiting(c"popen", Stream, &[String, String]),
    waiting(c"pclose", Int, &[Ignored]),
    waiting(c"tmpfile", Stream, &[]),
    waiting(c"tmpfile64", Stream, &[]),
    opening(c"mkstemp", Int, &[Template]),
    opening(c"mkstemp64", Int, &[Template]),
    opening(c"mkostemp", Int, &[Template, Number]),
    opening(c"mkostemp64", Int, &[Template, Number]),
    opening(c"mkstemps", Int, &[Template, Number]),
    opening(c"mkstemps64", Int, &[Template, Number]),
    opening(c"mkostemps", Int, &[Template, Number, Number]),
    opening(c"mkostemps64", Int, &[Template, Number, Number]),
    function(c"mkdtemp", TextAt(0), &[String]),
    function(c"access", Int, &[String, Number]),
    function(c"faccessat", Int, &[Number, String, Number, Number]),
    function(c"eaccess", Int, &[String, Number]),
    function(c"stat", Int, &[String, STAT]),
    function(c"stat64", Int, &[String, STAT]),
    function(c"lstat", Int, &[String, STAT]),
    function(c"lstat64", Int, &[String, STAT]),
    function(c"fstat", Int, &[Number, STAT]),
    function(c"fstat64", Int, &[Number, STAT]),
    function(c"fstatat", Int, &[Number, String, STAT, Number]),
    function(c"fstatat64", Int, &[Number, String, STAT, Number]),
    function(c"__xstat", Int, &[Number, String, STAT]),
    function(c"__xstat64", Int, &[Number, String, STAT]),
    function(c"__lxstat", Int, &[Number, String, STAT]),
    function(c"__lxstat64", Int, &[Number, String, STAT]),
    function(c"__fxstat", Int, &[Number, Number, STAT]),
    function(c"__fxstat64", Int, &[Number, Number, STAT]),
    function(c"statx", Int, &[Number, String, Number, Number, Out(Fixed(256))]),
    function(c"statfs", Int, &[String, Out(Fixed(120))]),
    function(c"fstatfs", Int, &[Number, Out(Fixed(120))]),
    function(c"statvfs", Int, &[String, Out(Fixed(112))]),
    function(c"fstatvfs", Int, &[Number, Out(Fixed(112))]),
    function(c"readlink", Long, &[String, Out(Result(2)), Wide]),
    function(c"realpath", TextAt(1), &[String, Ignored]),
    function(c"__realpath_chk", TextAt(1), &[String, Ignored, Ignored]),
    function(c"__readlink_chk", Long, &[String, Out(Result(2)), Wide, Ignored]),
    function(c"readlinkat", Long, &[Number, String, Out(Result(3)), Wide]),
    function(c"__readlinkat_chk", Long, &[Number, String, Out(Result(3)), Wide, Ignored]),
    asking(c"getcwd", TextAt(0), &[Ignored, Wide]),
    asking(c"__getcwd_chk", TextAt(0), &[Ignored, Wide, Ignored]),
    function(c"unlink", Int, &[String]),
    function(c"remove", Int, &[String]),
    function(c"rename", Int, &[String, String]),
    function(c"link", Int, &[String, String]),
    function(c"symlink", Int, &[String, String]),
    function(c"mkdir", Int, &[String, Number]),
    function(c"rmdir", Int, &[String]),
    function(c"chdir", Int, &[String]),
    function(c"chmod", Int, &[String, Number]),
    function(c"fchmod", Int, &[Number, Number]),
    function(c"chown", Int, &[String, Number, Number]),
    function(c"fchown", Int, &[Number, Number, Number]),
    function(c"truncate", Int, &[String, Wide]),
    function(c"truncate64", Int, &[String, Wide]),
    function(c"unlinkat", Int, &[Number, String, Number]),
    function(c"renameat", Int, &[Number, String, Number, String]),
    function(c"renameat2", Int, &[Number, String, Number, String, Number]),
    function(c"linkat", Int, &[Number, String, Number, String, Number]),
    function(c"symlinkat", Int, &[String, Number, String]),
    function(c"mkdirat", Int, &[Number, String, Number]),
    function(c"fchdir", Int, &[Number]),
    function(c"fchmodat", Int, &[Number, String, Number, Number]),
    function(c"lchown", Int, &[String, Number, Number]),
    function(c"fchownat", Int, &[Number, String, Number, Number, Number]),
    function(c"mkfifo", Int, &[String, Number]),
    function(c"mknod", Int, &[String, Number, Wide]),
    function(c"utime", Int, &[String, In(Fixed(size_of::<libc::utimbuf>()))]),
    function(c"utimes", Int, &[String, In(TIMES)]),
    function(c"lutimes", Int, &[String, In(TIMES)]),
    function(c"futimes", Int, &[Number, In(TIMES)]),
    function(c"utimensat", Int, &[Number, String, In(TIMES), Number]),
    function(c"futimens", Int, &[Number, In(TIMES)]),
    function(c"getxattr", Long, &[String, String, Out(Result(3)), Wide]),
    function(c"lgetxattr", Long, &[String, String, Out(Result(3)), Wide]),
    function(c"fgetxattr", Long, &[Number, String, Out(Result(3)), Wide]),
    function(c"setxattr", Int, &[String, String, In(Argument(3)), Wide, Number]),
    function(c"lsetxattr", Int, &[String, String, In(Argument(3)), Wide, Number]),
    function(c"fsetxattr", Int, &[Number, String, In(Argument(3)), Wide, Number]),
    function(c"listxattr", Long, &[String, Out(Result(2)), Wide]),
    function(c"llistxattr", Long, &[String, Out(Result(2)), Wide]),
    function(c"flistxattr", Long, &[Number, Out(Result(2)), Wide]),
    function(c"removexattr", Int, &[String, String]),
    function(c"lremovexattr", Int, &[String, String]),
    function(c"fremovexattr", Int, &[Number, String]),
    opening(c"shm_open", Int, &[String, Number, Number]),
    function(c"shm_unlink", Int, &[String]),
    // What processes share: by name, then by key. What comes after the flags is there with O_CREAT only.
    function(c"sem_open", Semaphore, &[String, Number, Ignored, Ignored]),
    function(c"sem_close", Int, &[Ignored]),
    function(c"sem_unlink", Int, &[String]),
    waiting(c"sem_wait", Int, &[Ignored]),
    function(c"sem_trywait", Int, &[Ignored]),
    waiting(c"sem_timedwait", Int, &[Ignored, In(TIMESPEC)]),
    waiting(c"sem_clockwait", Int, &[Ignored, Number, In(TIMESPEC)]),
    function(c"sem_post", Int, &[Ignored]),
    function(c"sem_getvalue", Int, &[Ignored, Out(Fixed(4))]),
    with(Fds::Open, c"mq_open", Int, &[String, Number, Ignored, Ignored]),
    with(Fds::Open, c"__mq_open_2", Int, &[String, Number]),
    with(Fds::Close, c"mq_close", Int, &[Number]),
    function(c"mq_unlink", Int, &[String]),
    waiting(c"mq_send", Int, &[Number, In(Argument(2)), Wide, Number]),
    waiting(c"mq_timedsend", Int, &[Number, In(Argument(2)), Wide, Number, In(TIMESPEC)]),
    waiting(c"mq_receive", Long, &[Number, Out(Result(2)), Wide, Out(Fixed(4))]),
    waiting(c"mq_timedreceive", Long, &[Number, Out(Result(2)), Wide, Out(Fixed(4)), In(TIMESPEC)]),
    function(c"mq_getattr", Int, &[Number, Out(MQ_ATTR)]),
    function(c"mq_setattr", Int, &[Number, In(MQ_ATTR), Out(MQ_ATTR)]),
    function(c"mq_notify", Int, &[Number, Ignored]),
    function(c"semget", Int, &[Number, Number, Number]),
    waiting(c"semop", Int, &[Number, In(Items(2, SEMBUF)), Wide]),
    waiting(c"semtimedop", Int, &[Number, In(Items(2, SEMBUF)), Wide, In(TIMESPEC)]),
    function(c"semctl", Int, &[Number, Number, Number, Request]),
    function(c"msgget", Int, &[Number, Number]),
    waiting(c"msgsnd", Int, &[Number, In(Headed(2)), Wide, Number]),
    waiting(c"msgrcv", Long, &[Number, Out(Headed(2)), Wide, Wide, Number]),
    function(c"msgctl", Int, &[Number, Number, Request]),
    function(c"shmget", Int, &[Number, Wide, Number]),
    function(c"shmat", Attached, &[Number, Ignored, Number]),
    function(c"shmdt", Int, &[Ignored]),
    function(c"shmctl", Int, &[Number, Number, Request]),
    // Directories: replay has a stand-in for each, so everything that takes one is here.
    opening(c"opendir", Directory, &[String]),
    function(c"fdopendir", Directory, &[Number]),
    function(c"readdir", Entry, &[Ignored]),
    function(c"readdir64", Entry, &[Ignored]),
    function(c"readdir_r", Code, &[Ignored, EntryOut, Ignored]),
    function(c"readdir64_r", Code, &[Ignored, EntryOut, Ignored]),
    function(c"rewinddir", Nothing, &[Ignored]),
    function(c"telldir", Long, &[Ignored]),
    function(c"seekdir", Nothing, &[Ignored, Wide]),
    function(c"dirfd", Int, &[Ignored]),
    function(c"closedir", Int, &[Ignored]),
    function(c"scandir", Int, &[String, EntryList, Ignored, Ignored]),
    function(c"scandir64", Int, &[String, EntryList, Ignored, Ignored]),
    // What is called of its errors, or instead of reading folders, is not called on replay.
    function(c"glob", Code, &[String, Number, Ignored, Found]),
    function(c"glob64", Code, &[String, Number, Ignored, Found]),
    // The commands in it are run by the recording alone.
    waiting(c"wordexp", Code, &[String, Words, Number]),
    // Clocks.
    asking(c"time", Long, &[Out(Fixed(8))]),
    asking(c"gettimeofday", Int, &[Out(TIMEVAL), Ignored]),
    asking(c"clock_gettime", Int, &[Number, Out(TIMESPEC)]),
    asking(c"timespec_get", Int, &[Out(TIMESPEC), Number]),
    asking(c"clock_getres", Int, &[Number, Out(TIMESPEC)]),
    asking(c"clock", Long, &[]),
    // The processor's counter, which is no function: src/raw_calls.rs.
    asking(TIME_STAMP, Long, &[]),
    asking(c"times", Long, &[Out(Fixed(32))]),
    asking(c"getrusage", Int, &[Number, Out(Fixed(144))]),
    // Entropy.
    asking(c"getrandom", Long, &[Out(Result(1)), Wide, Number]),
    asking(c"getentropy", Int, &[Out(Argument(1)), Wide]),
    asking(c"arc4random", Int, &[]),
    asking(c"arc4random_uniform", Int, &[Number]),
    asking(c"arc4random_buf", Nothing, &[Out(Argument(1)), Wide]),
    // Who and where the process is.
    asking(c"getenv", Text, &[String]),
    asking(c"secure_getenv", Text, &[String]),
    asking(c"__secure_getenv", Text, &[String]),
    asking(c"getpid", Int, &[]),
    asking(c"getppid", Int, &[]),
    asking(c"gettid", Int, &[]),
    asking(c"getuid", Int, &[]),
    asking(c"geteuid", Int, &[]),
    asking(c"getgid", Int, &[]),
    asking(c"getegid", Int, &[]),
    asking(c"getpgrp", Int, &[]),
    asking(c"getsid", Int, &[Number]),
    asking(c"sysconf", Long, &[Number]),
    asking(c"get_nprocs", Int, &[]),
    asking(c"get_nprocs_conf", Int, &[]),
    asking(c"sched_getaffinity", Int, &[Number, Wide, Out(Argument(1))]),
    asking(c"sched_getcpu", Int, &[]),
    asking(c"getgroups", Int, &[Number, Out(Items(0, size_of::<libc::gid_t>()))]),
    asking(c"__getgroups_chk", Int, &[Number, Out(Items(0, size_of::<libc::gid_t>())), Ignored]),
    asking(c"getpgid", Int, &[Number]),
    asking(c"getlogin", Text, &[]),
    asking(c"getlogin_r", Code, &[Out(Terminated(1)), Wide]),
    asking(c"__getlogin_r_chk", Code, &[Out(Terminated(1)), Wide, Ignored]),
    asking(c"gethostid", Long, &[]),
    asking(c"getdomainname", Int, &[Out(Terminated(1)), Wide]),
    asking(c"__getdomainname_chk", Int, &[Out(Terminated(1)), Wide, Ignored]),
    asking(c"getpriority", Int, &[Number, Number]),
    function(c"setpriority", Int, &[Number, Number, Number]),
    // By their numbers.
    asking(c"ioprio_get", Long, &[Wide, Number, Number]),
    function(c"ioprio_set", Long, &[Wide, Number, Number, Number]),
    function(c"cachestat", Long, &[Wide, Number, In(Fixed(16)), Out(Fixed(40)), Number]),
    function(c"nice", Int, &[Number]),
    function(c"umask", Int, &[Number]),
    asking(c"getloadavg", Int, &[Out(Items(1, size_of::<f64>())), Number]),
    asking(c"sysinfo", Int, &[Out(Fixed(112))]),
    function(c"sched_setaffinity", Int, &[Number, Wide, In(Argument(1))]),
    asking(c"sched_getscheduler", Int, &[Number]),
    function(c"sched_setscheduler", Int, &[Number, Number, In(SCHED_PARAM)]),
    asking(c"sched_getparam", Int, &[Number, Out(SCHED_PARAM)]),
    asking(c"prlimit", Int, &[Number, Number, In(Fixed(16)), Out(Fixed(16))]),
    asking(c"prlimit64", Int, &[Number, Number, In(Fixed(16)), Out(Fixed(16))]),
    function(c"setrlimit", Int, &[Number, In(Fixed(16))]),
    function(c"setrlimit64", Int, &[Number, In(Fixed(16))]),
    function(c"setutent", Nothing, &[]),
    function(c"setutxent", Nothing, &[]),
    function(c"getutent", Record(UTMP), &[]),
    function(c"getutxent", Record(UTMP), &[]),
    function(c"endutent", Nothing, &[]),
    function(c"endutxent", Nothing, &[]),
    asking(c"getrlimit", Int, &[Number, Out(Fixed(16))]),
    asking(c"getrlimit64", Int, &[Number, Out(Fixed(16))]),
    // Threads, by idents that mean something to the system.
    asking(c"pthread_setname_np", Code, &[Ignored, String]),
    asking(c"pthread_getname_np", Code, &[Ignored, Out(Terminated(2)), Wide]),
    asking(c"pthread_getcpuclockid", Code, &[Ignored, Out(Fixed(size_of::<libc::clockid_t>()))]),
    asking(c"pthread_setaffinity_np", Code, &[Ignored, Wide, In(Argument(1))]),
    asking(c"pthread_getaffinity_np", Code, &[Ignored, Wide, Out(Argument(1))]),
    asking(c"pthread_setschedparam", Code, &[Ignored, Number, In(SCHED_PARAM)]),
    asking(c"pthread_getschedparam", Code, &[Ignored, Out(Fixed(4)), Out(SCHED_PARAM)]),
    function(c"pthread_kill", Code, &[Ignored, Number]),
    // What it tells others.
    function(c"kill", Int, &[Number, Number]),
    // No process is started on replay.
    function(c"posix_spawn", Code, &[Out(Fixed(4)), String, Ignored, Ignored, Strings, Ignored]),
    function(c"posix_spawnp", Code, &[Out(Fixed(4)), String, Ignored, Ignored, Strings, Ignored]),
    waiting(c"waitpid", Int, &[Number, Out(Fixed(size_of::<libc::c_int>())), Number]),
    waiting(
        c"wait4",
        Int,
        &[Number, Out(Fixed(size_of::<libc::c_int>())), Number, Out(Fixed(size_of::<libc::rusage>()))],
    ),
    waiting(c"waitid", Int, &[Number, Number, Out(Fixed(size_of::<libc::siginfo_t>())), Number]),
    waiting(c"system", Int, &[String]),
    function(c"openlog", Nothing, &[Ignored, Number, Number]),
    function(c"syslog", Nothing, &[Number, Ignored]),
    function(c"__syslog_chk", Nothing, &[Number, Number, Ignored]),
    function(c"closelog", Nothing, &[]),
];

/// The place of a function of the table.
#[cfg(target_os = "linux")]
pub const fn place(name: &CStr) -> usize {
    let mut place = 0;
    while !is_same(FUNCTIONS[place].name.to_bytes(), name.to_bytes()) {
        place += 1;
    }
    place
}

#[cfg(target_os = "linux")]
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}
