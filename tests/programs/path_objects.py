"""Path objects and the like reach what is called as they were given: seen by factories, audit hooks, exceptions."""

import io
import locale
import os
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile


class Path:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path

    def __repr__(self):
        return f"Path({self.path!r})"


class Index:
    def __index__(self):
        return 999

    def __repr__(self):
        return "Index()"


class Text(str):
    pass


class Connection(sqlite3.Connection):
    def __init__(self, database, *args, **keywords):
        print("Connection", database)
        super().__init__(database, *args, **keywords)


def factory(*args, **keywords):
    print("factory", args, sorted(keywords), keywords.get("database"))


audited = []


def hook(name, args):
    if name.startswith(("os.", "open", "sqlite3.connect", "socket.", "shutil.")):
        audited.append((name, args))


def attempt(function, *args, **keywords):
    audited.clear()
    try:
        result = function(*args, **keywords)
    except Exception as error:
        names = getattr(error, "filename", None), getattr(error, "filename2", None)
        shown = (type(error).__name__, str(error).split("(_ssl.c")[0], *names)
    else:
        shown = result if isinstance(result, str | list) else type(result).__name__
        if isinstance(result, sqlite3.Connection | io.FileIO):
            result.close()
    seen = audited.copy()
    print(function.__name__, args, "->", shown, [event for event in seen if " at 0x" not in repr(event)])


folder = tempfile.mkdtemp(dir=".")
os.chdir(folder)
with open("there", "w") as file:
    file.write("x")
sys.addaudithook(hook)
there, nowhere = Path("there"), Path("no/where")
for path in there, nowhere:
    for function in (
        os.chdir, os.chroot, os.listdir, os.listxattr, os.lstat, os.readlink, os.rmdir, os.scandir, os.stat, os.statvfs
    ):  # fmt: skip
        attempt(function, path if function is not os.chroot else nowhere)
    attempt(lambda path: open(path).close(), path)
    attempt(lambda path: repr(io.FileIO(path).name), path)
    attempt(os.open, path, os.O_WRONLY | os.O_EXCL | os.O_CREAT)
    attempt(os.open, path, path)
    attempt(os.mkdir, Path("."), path)
    attempt(os.mkfifo, Path("."), path)
    attempt(os.access, path, os.F_OK)
    attempt(os.chmod, path, 0o644)
    attempt(os.chmod, path, mode=0o644)
    attempt(os.chown, path, -1, -1)
    attempt(os.pathconf, path, "PC_NAME_MAX")
    attempt(os.truncate, path, 1)
    attempt(os.utime, path)
    attempt(os.link, path, nowhere)
    attempt(os.rename, path, nowhere)
    attempt(os.replace, path, dst=nowhere)
    attempt(os.symlink, path, nowhere)
    attempt(os.getxattr, path, Path("user.a"))
    attempt(os.setxattr, nowhere, Path("user.a"), b"x")
    attempt(os.removexattr, path, Path("user.a"))
    attempt(os.execv, nowhere, [path, "b"])
    attempt(os.execve, nowhere, (path, "b"), {"A": path})
    attempt(os.posix_spawn, path, [path], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 3, path, 0, 0)])
    attempt(subprocess.call, [Path("/bin/true"), path])
    attempt(subprocess.call, [Path("/bin/true"), path], cwd=path)
attempt(os.unlink, nowhere)
attempt(os.fchdir, Index())
attempt(os.chdir, Index())
attempt(os.stat, Index())
attempt(os.read, Index(), Index())
attempt(os.stat, Text("nowhere"))
attempt(os.memfd_create, Path("name"), Path("flags"))
attempt(socket.if_nametoindex, Path("nowhere"))
attempt(locale.bindtextdomain, Path("domain"), Path("folder"))
attempt(locale.bindtextdomain, "domain", Path("folder"))
context = ssl.create_default_context()
attempt(context.load_cert_chain, nowhere, nowhere)
attempt(context.load_cert_chain, there, keyfile=there)
attempt(context.load_verify_locations, nowhere)
attempt(context.load_verify_locations, there, nowhere, Path("data"))
attempt(context.load_dh_params, nowhere)
attempt(context.load_dh_params, there)
for database in Path(":memory:"), nowhere:
    attempt(sqlite3.connect, database)
    attempt(sqlite3.connect, database=database)
    attempt(sqlite3.connect, database, factory=Connection)
    attempt(sqlite3.connect, database, factory=factory)
    attempt(sqlite3.connect, database=database, factory=factory)
    attempt(Connection, database)
    attempt(sqlite3.Connection, database)
os.chdir("..")
shutil.rmtree(folder)
