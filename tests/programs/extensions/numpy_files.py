"""numpy: generators that are seeded by the system and by the program, its own file formats, maps of files."""

import os
import tempfile

import numpy as np

print(np.random.rand(3), np.random.default_rng().integers(0, 1000, 5), np.random.default_rng(5).random(2))
folder = tempfile.mkdtemp()


def path(name):
    return os.path.join(folder, name)


numbers = np.arange(12.0).reshape(3, 4)
np.save(path("numbers.npy"), numbers)
print(np.load(path("numbers.npy")), np.load(path("numbers.npy"), mmap_mode="r").sum())
np.savez(path("several.npz"), numbers=numbers, random=np.random.default_rng().random(3))
print({name: array.tolist() for name, array in np.load(path("several.npz")).items()})
numbers.tofile(path("raw"))
print(np.fromfile(path("raw"))[:3], np.fromfile(path("raw"), count=2, offset=16))
with open(path("raw"), "r+b") as file:
    file.seek(8)
    print(np.fromfile(file, count=2), file.tell())
    np.array([77.0]).tofile(file)
    print(file.tell())
mapped = np.memmap(path("map"), dtype="f8", mode="w+", shape=(4,))
mapped[:] = 3
mapped.flush()
print(mapped, np.memmap(path("map"), dtype="f8", mode="r"))
np.savetxt(path("text"), numbers)
print(np.loadtxt(path("text"))[1], np.genfromtxt(path("text")).shape)
print(numbers @ numbers.T, np.linalg.inv(np.eye(2) * 4), np.fft.fft([1, 2, 3, 4]))
