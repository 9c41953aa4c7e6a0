"""duckdb: a database in a file, Parquet, and queries by threads of the library's own."""

import random
import time

import duckdb

database = duckdb.connect("tables.db")
database.execute("create table t as select range a, random() r from range(10000)")
print(database.execute("select count(*), sum(r), max(r), now() from t").fetchall())
database.execute("copy t to 't.parquet'")
print(database.execute("select sum(a) from 't.parquet'").fetchall())
database.executemany("insert into t values (?, ?)", [(i, random.random()) for i in range(10)])
print(database.execute("select a % 7 k, count(*), avg(r) from t group by k order by k").fetchall())
database.execute("begin")
try:
    database.execute("select * from missing")
except duckdb.Error as error:
    print(error)
database.close()
print(time.time())
