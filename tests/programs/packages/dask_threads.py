"""dask: arrays and functions, in threads."""

import dask, dask.array as da, time, numpy as np, threading
from dask import delayed

x = da.random.random((1000, 1000), chunks=200)
print(x.mean().compute(), x.sum(axis=0)[:3].compute())


@delayed
def f(i):
    time.sleep(0.005)
    return i, time.time()


print(dask.compute(*[f(i) for i in range(20)], scheduler="threads", num_workers=4))
