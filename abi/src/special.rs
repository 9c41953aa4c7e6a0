//! The few external types of the standard library whose C state is read as memory without being declared as members,
//! or whose finalizer warns. Offsets are those of the C structures in CPython's sources (named below), which are the
//! same on 3.11 and 3.12 and on every 64-bit platform.

use pyo3_ffi::PyObject;
use std::ffi::CStr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum External {
    /// `fileio` in Modules/_io/fileio.c.
    FileIO,
    /// `PySocketSockObject` in Modules/socketmodule.h.
    Socket,
    /// `ScandirIterator` in Modules/posixmodule.c.
    ScandirIterator,
    /// `mmap_object` in Modules/mmapmodule.c.
    Map,
    Other,
}

/// FileIO's `fd` (int), flag bits, `finalizing` and `blksize` lie at 16..28; Buffered and TextIOWrapper read them
/// through methods that are `pass`.
const FILEIO_STATE: [(usize, usize); 1] = [(16, 12)];
const FILEIO_FD: usize = 16;
const FILEIO_FLAGS: usize = 20;
/// `created`, `readable`, `writable`, `appending`, two bits of `seekable`, `closefd`.
const FILEIO_CLOSEFD: u8 = 1 << 6;
const FILEIO_FINALIZING: usize = 21;
const SOCKET_FD: usize = 16;
/// `sock_fd`, and then what is declared: `sock_family`, `sock_type`, `sock_proto`.
const SOCKET_STATE: [(usize, usize); 1] = [(SOCKET_FD, 16)];
const SCANDIR_DIRP: usize = 88;
/// `data`, `size`, `pos`, `offset`, `exports` (a size), `fd` (int).
const MAP_DATA: usize = 16;
const MAP_SIZE: usize = 24;
const MAP_OFFSET: usize = 40;
const MAP_FD: usize = 56;

/// What a map's structure says of it.
pub struct MapFields {
    pub data: *mut u8,
    pub size: usize,
    /// Where in its file it begins.
    pub offset: i64,
    /// Of its own; -1 without a file.
    pub descriptor: i32,
}

impl External {
    pub fn of(type_name: &str) -> External {
        match type_name {
            "_io.FileIO" => External::FileIO,
            "_socket.socket" => External::Socket,
            "posix.ScandirIterator" => External::ScandirIterator,
            "mmap.mmap" => External::Map,
            _ => External::Other,
        }
    }

    /// The mirrored scalars, where members that are declared are not all: (offset, length) in bytes.
    pub fn scalars(self) -> Option<&'static [(usize, usize)]> {
        match self {
            External::FileIO => Some(&FILEIO_STATE),
            External::Socket => Some(&SOCKET_STATE),
            External::ScandirIterator | External::Map | External::Other => None,
        }
    }

    /// Whether `tp_finalize` issues a ResourceWarning. FileIO's does so through its hooked `close()`.
    pub fn has_finalizer(self) -> bool {
        matches!(self, External::Socket | External::ScandirIterator)
    }

    /// Whether the finalizer will find something to close.
    ///
    /// # Safety
    /// `object` is an initialised instance of the type.
    pub unsafe fn is_open(self, object: *mut PyObject) -> bool {
        let base = object.cast::<u8>();
        // SAFETY: the structures named at the top.
        unsafe {
            match self {
                External::Socket => *base.add(SOCKET_FD).cast::<i32>() != -1,
                External::ScandirIterator => !(*base.add(SCANDIR_DIRP).cast::<*mut u8>()).is_null(),
                External::FileIO | External::Map | External::Other => false,
            }
        }
    }

    /// The warning's format, as CPython words it; one argument, the object.
    pub fn warning(self) -> &'static CStr {
        match self {
            External::ScandirIterator => c"unclosed scandir iterator %R",
            _ => c"unclosed %R",
        }
    }

    /// The descriptor that the object's memory holds.
    ///
    /// # Safety
    /// As [`External::is_open`].
    pub unsafe fn descriptor(self, object: *mut PyObject) -> Option<i32> {
        match self {
            // SAFETY: as above.
            External::FileIO => Some(unsafe { *object.cast::<u8>().add(FILEIO_FD).cast() }),
            _ => None,
        }
    }

    /// Where a map's memory is.
    ///
    /// # Safety
    /// `object` is an open map.
    pub unsafe fn memory(self, object: *mut PyObject) -> *mut u8 {
        // SAFETY: `data` is the first field.
        unsafe { *object.cast::<u8>().add(MAP_DATA).cast() }
    }

    /// How large a map is, in bytes.
    ///
    /// # Safety
    /// `object` is a map.
    pub unsafe fn map_size(self, object: *mut PyObject) -> usize {
        // SAFETY: `size` is the second field.
        usize::try_from(unsafe { *object.cast::<u8>().add(MAP_SIZE).cast::<isize>() }).unwrap_or(0)
    }

    /// What a map's structure says of it.
    ///
    /// # Safety
    /// `object` is an open map.
    pub unsafe fn map_fields(self, object: *mut PyObject) -> MapFields {
        let base = object.cast::<u8>();
        // SAFETY: fields of the structure.
        unsafe {
            MapFields {
                data: self.memory(object),
                size: self.map_size(object),
                offset: *base.add(MAP_OFFSET).cast(),
                descriptor: *base.add(MAP_FD).cast(),
            }
        }
    }

    /// Gives a map other memory.
    ///
    /// # Safety
    /// `object` is an open map, whose memory was given back; `data` may be given back as the map's memory is.
    pub unsafe fn set_map(self, object: *mut PyObject, data: *mut u8, size: usize, offset: i64) {
        let base = object.cast::<u8>();
        // SAFETY: fields of the structure.
        unsafe {
            *base.add(MAP_DATA).cast() = data;
            *base.add(MAP_SIZE).cast() = size;
            *base.add(MAP_OFFSET).cast() = offset;
        }
    }

    /// Whether closing the object closes its descriptor.
    ///
    /// # Safety
    /// As [`External::is_open`].
    pub unsafe fn owns_descriptor(self, object: *mut PyObject) -> bool {
        // SAFETY: by contract; see the structure named above.
        self != External::FileIO || unsafe { *object.cast::<u8>().add(FILEIO_FLAGS) } & FILEIO_CLOSEFD != 0
    }

    /// FileIO's `finalizing` flag: its `close()` issues the ResourceWarning when it is set.
    ///
    /// # Safety
    /// As [`External::is_open`].
    pub unsafe fn finalizing(self, object: *mut PyObject) -> Option<*mut u8> {
        // SAFETY: as above.
        (self == External::FileIO).then(|| unsafe { object.cast::<u8>().add(FILEIO_FINALIZING) })
    }
}
