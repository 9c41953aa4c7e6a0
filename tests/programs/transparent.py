"""What introspection, pickling and wrong arguments say about callables at the boundary: the same recorded or not."""

import _io
import _socket
import copy
import io
import inspect
import os
import pathlib
import pickle
import random
import re
import select
import socket
import ssl
import sys
import time
import types
import datetime

sock = socket.socket()
raw = open("inputs/poem.txt", "rb", buffering=0)
entry = next(os.scandir("inputs"))
epoll = select.epoll()
CALLABLES = """time.time time.sleep time.monotonic time.clock_gettime os.getpid os.stat os.open os.read os.write os.scandir
os.urandom os.fspath os.listdir os.posix_spawn socket.socket.recv _socket.socket.recv_into _socket.gethostname
select.select select.epoll.poll io.FileIO.read io.FileIO.readinto io.FileIO.close io.open ssl.SSLContext.wrap_bio
random.Random.random random.Random.seed random.random datetime.datetime.now datetime.date.today input sock.recv
sock.send raw.read raw.fileno entry.stat entry.is_dir epoll.poll ssl.RAND_bytes os.times _socket.socket.__init__
_io.FileIO.__init__ _socket.socket.close os.fork os._exit open print""".split()


def show(text, value):
    print(text, re.sub(r"0x[0-9a-f]+|fd=\d+", "0x", repr(value)))


def attempt(text):
    try:
        show(text, eval(text))
    except BaseException as error:
        show(text, (type(error), str(error)))


for name in CALLABLES:
    value = eval(name)
    show(name, (value, type(value), getattr(value, "__name__", None), getattr(value, "__qualname__", None)))
    show(name, (getattr(value, "__module__", 0), getattr(value, "__text_signature__", 0), getattr(value, "__doc__", 0)))
    attempt(f"inspect.signature({name})")
    attempt(f"sys.getsizeof({name}), callable({name}), inspect.isbuiltin({name}), inspect.isroutine({name})")
    attempt(f"pickle.loads(pickle.dumps({name})) is {name}")
    attempt(f"copy.copy({name}) is {name}, copy.deepcopy({name}) is {name}")
    attempt(f"{name} == {name}, hash({name}) == hash({name}), {name} in {{{name}}}")
    attempt(f"len(dir({name})), {name}.__reduce__()")
    attempt(f"{name}(not_a_keyword=1)")
    attempt(f"{name}(*[1] * 40)")
    attempt(f"{name}.__self__.__class__")
    attempt(f"{name}.__call__")

for text in """time.time(3)|time.sleep('a')|time.sleep(-1)|time.clock_gettime(-99)|os.stat()|os.stat(3.5)|os.stat('a\\0b')
os.open('x')|os.open('inputs/poem.txt', 0, dir_fd='q')|os.rename(pathlib.Path('/nope'), 3)|os.listdir(3.4)|os.read(0)
os.execv()|os.getpid(1)|os.urandom(-1)|os.urandom('x')|sock.recv()|sock.recv(-1)|sock.recv('x')|sock.connect(1, 2)
sock.fileno(1)|socket.socket.fileno(3)|_socket.socket.recv(3, 4)|_socket.socket.__new__(int)|_socket.socket.__init__(3)
setattr(sock, 'timeout', 3)|setattr(sock, 'family', 3)|delattr(sock, 'timeout')|setattr(raw, 'mode', 'x')|raw.read('x')
raw.read(1, 2)|raw.readinto(b'')|raw.readinto()|io.FileIO()|io.FileIO('/nope', 'zz')|io.FileIO(1.5)|_io.FileIO.__new__(int)
epoll.poll('a')|epoll.register()|epoll.register(99999)|select.epoll(1, 2, 3)|select.select(1, 2, 3)|type(entry)()
select.select([], [], [], -1)|entry.stat(1)|entry.stat(bad=1)|type(entry).stat(3)|ssl.MemoryBIO(3)|random.seed([])
random.getrandbits(-1)|random.Random(1, 2)|datetime.datetime.now(3)|datetime.date.today(1)|_socket.socket.timeout.__get__(3)
os.stat(*'/', **{'dir_fd': None, 'follow_symlinks': True, 'zz': 1})|_socket.socket.recv.__get__(sock)(1, 2, 3)
object.__new__(_io.FileIO)|type.__call__(_io.FileIO)|object.__init__(raw, 3)|os.getpid.__call__(4)|os.close('x')""".replace("\n", "|").split("|"):
    attempt(text)

for text in """os.open in os.supports_dir_fd|os.stat in os.supports_fd|os.stat in os.supports_follow_symlinks|entry.stat() is entry.stat()
os.fspath(entry) is entry.path|type(time.time) is types.BuiltinFunctionType|type(sock.recv) is types.BuiltinMethodType
type(_socket.socket.recv) is types.MethodDescriptorType|type(_io.FileIO.__init__) is types.WrapperDescriptorType
_socket.socket.__mro__|io.FileIO.__mro__|io.FileIO.__flags__ & 1 << 9|socket.socket.__basicsize__|_io.FileIO.__dictoffset__
sys.getsizeof(sock), sys.getsizeof(raw), sys.getsizeof(entry)|raw.__class__, raw.__dict__, raw.name|sorted(vars(_io.FileIO))
sorted(vars(_socket.socket))|sys.getrefcount(raw)|repr(_io.FileIO.closed)|inspect.getdoc(_socket.socket.timeout)
sys._getframe().f_trace|sys.gettrace()|sys.getprofile()|[m for m in sys.modules if 'retrace' in m.lower()]
[p for p in sys.path if 'retrace-' in p]|sys.meta_path|len(sys.path_hooks)|[k for k in os.environ if 'RETRACE' in k or k == 'LD_PRELOAD']
os.path.samefile is os.path.samefile|time.time is __import__('time').time|sorted(vars(time))|sorted(vars(os))|sys._xoptions
os.stat.__class__.__call__(os.stat, 'inputs').st_mode|issubclass(socket.socket, _socket.socket)|sys.warnoptions
getattr(sys, 'monitoring', None) and [sys.monitoring.get_tool(i) for i in range(6)]|sys.flags|sys.implementation.name""".replace("\n", "|").split("|"):
    attempt(text)

try:
    os.stat("nowhere")
except OSError as error:
    import traceback

    traceback.print_exc(file=sys.stdout)
    show("frames", [f.name for f in traceback.extract_tb(error.__traceback__)])
