"""pyarrow: Parquet, CSV and datasets, read by threads of the library's own. Its default allocator tells threads by the
processor's thread pointer, of which a replay has one: so by the C library's."""

import os
import random
import time

os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.csv as csv  # noqa: E402
import pyarrow.dataset as ds  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

ROWS = 10_000
columns = {
    "number": list(range(ROWS)),
    "chance": [random.random() for _ in range(ROWS)],
    "name": [f"name {i % 7}" for i in range(ROWS)],
}
table = pa.table(columns)
pq.write_table(table, "table.parquet", row_group_size=1000)
read = pq.read_table("table.parquet")
print(read.schema, pc.sum(read["chance"]))
print(read.group_by("name").aggregate([("chance", "sum")]).sort_by("name").to_pydict())
csv.write_csv(table, "table.csv")
print(csv.read_csv("table.csv").num_rows, time.time())
print(ds.dataset("table.parquet").to_table(filter=pc.field("number") < 10).to_pydict())
