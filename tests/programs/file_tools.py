"""The standard library's file tools on a folder tree, on times and inodes that differ in each run."""

import configparser
import csv
import filecmp
import fileinput
import glob
import gzip
import json
import linecache
import mmap
import os
import pathlib
import pickle
import shelve
import shutil
import stat
import tempfile
import zipfile

root = pathlib.Path("tree")
for folder in ("a/b", "c"):
    (root / folder).mkdir(parents=True)
for name in ("a/1.txt", "a/b/2.txt", "c/3.csv", "top.md"):
    (root / name).write_text(f"content of {name}\n" * 3)

with os.scandir(root) as entries:
    for entry in sorted(entries, key=lambda e: e.name):
        info = entry.stat()
        print(entry.name, entry.is_dir(), entry.is_file(), entry.is_symlink(), entry.path, entry.inode(), info.st_mtime_ns)
        print(entry, info is entry.stat(), os.fspath(entry), stat.filemode(info.st_mode))
print([e.name for e in os.scandir(root)], os.listdir(root / "a"))

for where, folders, files in os.walk(root):
    print(where, folders, files)
for where, folders, files, descriptor in os.fwalk(root, topdown=False):
    print(where, folders, files, os.fstat(descriptor).st_ino)
print(sorted(map(str, root.rglob("*.txt"))), glob.glob("tree/**/*", recursive=True), list(root.iterdir()))
print((root / "top.md").read_text(), (root / "top.md").stat(), (root / "nope").exists(), root.resolve(), pathlib.Path.cwd())
print((root / "top.md").owner(), (root / "c").is_dir(), root.samefile("tree"), pathlib.Path.home())

print(shutil.copy("tree/top.md", "copied.md"), shutil.copy2("tree/top.md", "copied2.md"))
print(filecmp.cmp("copied.md", "copied2.md", shallow=False), os.stat("copied2.md").st_mtime_ns)
print(shutil.copytree("tree", "tree2"), shutil.move("tree2", "tree3"), shutil.disk_usage(".").total)
print(shutil.which("sh"), shutil.make_archive("packed", "zip", "tree3"))
with zipfile.ZipFile("packed.zip") as packed:
    print(sorted(packed.namelist()), packed.read("top.md"), packed.getinfo("top.md").date_time)
shutil.rmtree("tree3")
try:
    shutil.rmtree("tree3")
except FileNotFoundError as error:
    print(error)

with tempfile.TemporaryDirectory() as folder:
    print(folder, os.listdir(folder), tempfile.gettempdir())
    with tempfile.NamedTemporaryFile("w+", dir=folder, suffix=".log") as named:
        named.write("temporary")
        named.seek(0)
        print(named.name, named.read(), os.listdir(folder))
with tempfile.TemporaryFile() as hidden:
    hidden.write(b"hidden" * 2000)
    print(hidden.seek(0), len(hidden.read()))
with tempfile.SpooledTemporaryFile(max_size=10) as spooled:
    spooled.write(b"more than ten bytes")
    print(spooled.seek(0), spooled.read())
descriptor, path = tempfile.mkstemp()
os.close(descriptor)
print(path, tempfile.mkdtemp(prefix="kept-"))
os.unlink(path)

with open("table.csv", "w", newline="") as out:
    writer = csv.DictWriter(out, ["name", "when"])
    writer.writeheader()
    writer.writerows({"name": f"n{i}", "when": os.stat("table.csv").st_ctime_ns} for i in range(3))
with open("table.csv", newline="") as table:
    print(list(csv.DictReader(table)))
with open("inputs/people.csv", newline="") as people:
    print(list(csv.reader(people)))

with open("inputs/blob.bin", "rb") as blob, mmap.mmap(blob.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    print(len(mapped), mapped[:16], mapped.find(b"needle"), mapped[-4:], mapped.readline()[:10], mapped.tell())
with open("mapped.bin", "w+b") as file:
    file.truncate(mmap.PAGESIZE)
    with mmap.mmap(file.fileno(), 0) as mapped:
        mapped[10:15] = b"hello"
        mapped.seek(20)
        mapped.write(b"world")
        mapped.flush()
        print(bytes(mapped[8:28]), mapped.rfind(b"l"), mapped.size(), mapped.read_byte())
    file.seek(10)
    print(file.read(5))
anonymous = mmap.mmap(-1, 4096)
anonymous[:3] = b"abc"
print(anonymous[:4], anonymous.move(8, 0, 3), anonymous[8:11])
anonymous.close()

with gzip.open("packed.gz", "wt") as packed:
    packed.write("compressed\n" * 100)
with gzip.open("packed.gz", "rt") as packed:
    print(sum(1 for _ in packed), os.stat("packed.gz").st_size > 0)
with open("data.json", "w") as out:
    json.dump({"b": [1, 2.5, None], "a": "x"}, out, indent=1)
print(json.loads(pathlib.Path("data.json").read_bytes()))
with open("data.pickle", "w+b") as out:
    pickle.dump([1, {"two": 3}], out)
    out.seek(0)
    print(pickle.load(out))
with fileinput.input(["data.json", "tree/top.md"]) as lines:
    print([(fileinput.filename(), fileinput.filelineno(), line) for line in lines])
config = configparser.ConfigParser()
print(config.read(["missing.ini", "inputs/settings.ini"]), config["server"]["port"], linecache.getline("data.json", 2))
with shelve.open("shelf") as shelf:
    shelf["key"] = {"nested": [1, 2]}
with shelve.open("shelf", flag="r") as shelf:
    print(dict(shelf))
