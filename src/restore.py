# Makes the replaying interpreter look as the recorded one did at its start. Run by src/start.rs before anything is
# replayed, in a namespace of its own; `start` is the recording's start dict. What it imports is taken out again.
import sys
import posix
import _frozen_importlib_external as external


def restore(start):
    restore_modules(start)
    restore_environment(start)
    for name, value in start["sys"].items():
        setattr(sys, name, value)
    for name, attributes in start["module_state"].items():
        module = sys.modules.get(name)
        if module is not None:
            for attribute, value in attributes.items():
                setattr(module, attribute, value)
    restore_main_thread(start)
    if start["random_state"] is not None and "random" in sys.modules:
        import _random

        _random.Random.setstate(sys.modules["random"]._inst, start["random_state"])
    restore_importers(start)
    restore_ignored_signals(start["ignored_signals"])
    for name, settings in start["streams"].items():
        restore_stream(name, settings)


def restore_modules(start):
    """The same modules as at the recorded start: missing ones are imported, others are taken out."""
    recorded = start["modules"]
    for name in recorded:
        if name not in sys.modules:
            try:
                __import__(name)
            except BaseException:
                # Left by a site customisation that this machine has not: its own imports will say more.
                pass
    known = set(recorded)
    for name in list(sys.modules):
        if name not in known:
            del sys.modules[name]
    ordered = [(name, sys.modules[name]) for name in recorded if name in sys.modules]
    sys.modules.clear()
    sys.modules.update(ordered)


def restore_environment(start):
    environ = start["environ"]
    for key in list(posix.environ):
        posix.unsetenv(key)
    for key, value in environ.items():
        posix.putenv(key, value)
    posix.environ.clear()
    posix.environ.update(environ)
    os = sys.modules.get("os")
    if os is not None:
        os.environ._data.clear()
        os.environ._data.update(environ)


def restore_main_thread(start):
    """`get_ident()` answers as recorded, so the main thread's object must say the same."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    main = threading._main_thread
    threading._active.pop(main._ident, None)
    main._ident, main._native_id = start["main_thread"]
    threading._active[main._ident] = main


def restore_ignored_signals(ignored):
    import _signal

    for number in _signal.valid_signals():
        now = _signal.getsignal(number)
        # A program that is started in the background has no handler for SIGINT.
        unset = _signal.default_int_handler if number == _signal.SIGINT else _signal.SIG_DFL
        if number in ignored and now == unset:
            _signal.signal(number, _signal.SIG_IGN)
        elif number not in ignored and now == _signal.SIG_IGN:
            _signal.signal(number, unset)


def restore_importers(start):
    cache = sys.path_importer_cache
    cache.clear()
    loaders = external._get_supported_file_loaders()
    for path, finder_path in start["importers"].items():
        if finder_path is None:
            cache[path] = None
        else:
            finder = external.FileFinder(path, *loaders)
            finder.path = finder_path
            cache[path] = finder


def restore_stream(name, settings):
    if settings is None:
        setattr(sys, name, None)
        setattr(sys, f"__{name}__", None)
        return
    stream = getattr(sys, name)
    if stream is None:
        return
    seekable = settings.get("seekable")
    if seekable is not None and seekable != stream.seekable() and hasattr(stream, "buffer"):
        make_again(name, stream, seekable, settings)
        return
    buffer = getattr(stream, "buffer", None)
    size = settings["buffer_size"]
    if size and buffer is not None and hasattr(buffer, "raw"):
        raw = buffer.raw
        raw._blksize = size
        buffer.__init__(raw, size)
    stream.reconfigure(
        encoding=settings["encoding"],
        errors=settings["errors"],
        line_buffering=settings["line_buffering"],
        **({} if name == "stdin" else {"write_through": settings["write_through"]}),
    )


def make_again(name, stream, seekable, settings):
    """Whether it can seek a stream asks when it is made; so on a descriptor that can, or cannot, for that time."""
    old = getattr(stream.buffer, "raw", stream.buffer)
    fd = old.fileno()
    kept = posix.dup(fd)
    others = [posix.open("/dev/null", posix.O_RDWR)] if seekable else list(posix.pipe())
    posix.dup2(others[-1], fd)
    try:
        raw = type(old)(fd, old.mode, closefd=False)
        raw.name = old.name
        raw.seekable()
        buffer = stream.buffer
        if buffer is old:
            buffer = raw
        else:
            raw._blksize = settings["buffer_size"]
            buffer.__init__(raw, raw._blksize)
        newline = None if name == "stdin" else "\n"
        through = {} if name == "stdin" else {"write_through": settings["write_through"]}
        stream.__init__(
            buffer, settings["encoding"], settings["errors"], newline, settings["line_buffering"], **through
        )
    finally:
        posix.dup2(kept, fd)
        for other in (kept, *others):
            posix.close(other)


restore(start)
