"""joblib: threads, processes of loky's, a cache, dumps."""

from joblib import Parallel, delayed, Memory, dump, load
import time, random, os, numpy as np


def f(x):
    return x * x, random.random() >= 0


if __name__ == "__main__":
    print(Parallel(n_jobs=2, backend="threading")(delayed(f)(i) for i in range(10)))
    print(Parallel(n_jobs=2)(delayed(f)(i) for i in range(10)))
    m = Memory("cache", verbose=0)
    g = m.cache(f)
    print(g(3) == g(3))
    dump(np.arange(5), "x.job")
    print(load("x.job"), time.time())
