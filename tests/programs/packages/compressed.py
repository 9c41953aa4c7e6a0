"""Compression by C and Rust, in several threads, and by threads of a library's own."""

import os
import threading

import brotli
import cramjam
import lz4.frame
import pyzstd
import snappy
from zlib_ng import gzip_ng_threaded, zlib_ng

data = os.urandom(3000) * 50
for codec in (brotli, lz4.frame, snappy, pyzstd):
    packed = codec.compress(data)
    print(codec.__name__, len(packed), codec.decompress(packed) == data)
print(bytes(cramjam.gzip.decompress(cramjam.gzip.compress(data))) == data)
sizes = []
threads = [
    threading.Thread(target=lambda level=level: sizes.append((level, len(zlib_ng.compress(data, level)))))
    for level in range(1, 7)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sizes)
compressor = pyzstd.ZstdCompressor({pyzstd.CParameter.nbWorkers: 2})
print(pyzstd.decompress(compressor.compress(data) + compressor.flush()) == data)
with gzip_ng_threaded.open("packed.gz", "wb", threads=2) as file:
    file.write(data)
with gzip_ng_threaded.open("packed.gz", "rb") as file:
    print(file.read() == data)
