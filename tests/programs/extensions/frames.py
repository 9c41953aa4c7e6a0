"""pandas and numpy: generators with and without seeds, files in several formats, maps, linear algebra in threads."""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

fresh, seeded = np.random.default_rng(), np.random.default_rng(5)
np.random.seed(3)
print(fresh.random(3), seeded.random(3), np.random.rand(2), np.random.RandomState().rand(2))

frame = pd.DataFrame({"n": fresh.integers(0, 100, 50), "x": fresh.random(50), "kind": list("ab") * 25})
print(frame.describe(), frame.groupby("kind").mean(), pd.Timestamp.now())
frame.to_csv("frame.csv.gz")
frame.to_json("frame.json")
frame.to_pickle("frame.pickle")
print(pd.read_csv("frame.csv.gz", index_col=0).sum(), pd.read_json(io.StringIO(open("frame.json").read())).shape)
print(pd.read_pickle("frame.pickle").equals(frame), sorted(os.listdir()))

shared = np.memmap("shared.dat", dtype="float64", mode="w+", shape=(100, 100))
shared[:] = fresh.random((100, 100))
shared.flush()
print(np.memmap("shared.dat", dtype="float64", mode="r", shape=(100, 100)).sum())


def norm(k):
    return float(np.linalg.norm(np.random.default_rng().random((200, 200)) @ np.full((200, 200), k)))


square = fresh.random((500, 500))
print(np.linalg.svd(square)[1][:3], (square @ square).sum(), np.linalg.inv(square).sum())
with ThreadPoolExecutor(4) as pool:
    print(list(pool.map(norm, range(8))))
