"""msgpack, zstandard, cffi, PyNaCl, bcrypt: C code that computes, draws and calls the C library."""

import msgpack, zstandard, cffi, nacl.secret, nacl.utils, nacl.signing, bcrypt, os, time, random

d = {"t": time.time(), "r": [random.random() for _ in range(100)]}
p = msgpack.packb(d)
print(len(p), msgpack.unpackb(p) == d)
z = zstandard.ZstdCompressor(level=5, threads=0).compress(p * 50)
print(len(z), zstandard.ZstdDecompressor().decompress(z) == p * 50)
z = zstandard.ZstdCompressor(level=5, threads=2).compress(os.urandom(100000))
print(len(z))
ffi = cffi.FFI()
ffi.cdef(
    "int getpid(void); double sqrt(double); int printf(const char *, ...); long time(long *); int rand(void); char *getenv(const char *);"
)
C = ffi.dlopen(None)
print(C.getpid() == os.getpid(), C.time(ffi.NULL) > 0, ffi.string(C.getenv(b"HOME")))
print(C.time(ffi.NULL))


@ffi.callback("int(int)")
def cb(x):
    return x + 1


print(cb(4), ffi.new("int[]", [1, 2]))
k = nacl.utils.random(32)
b = nacl.secret.SecretBox(k)
e = b.encrypt(b"secret")
print(e.hex(), b.decrypt(e))
s = nacl.signing.SigningKey.generate()
print(s.sign(b"m").hex())
h = bcrypt.hashpw(b"pw", bcrypt.gensalt(6))
print(h, bcrypt.checkpw(b"pw", h))
