"""SQLAlchemy's engine and its pool, used by an executor's threads. Argument: the database's URL."""

import sys
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

engine = sa.create_engine(sys.argv[1], pool_size=3, max_overflow=2)
table = sa.Table("number", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
table.drop(engine, checkfirst=True)
table.create(engine)


def add(n):
    with engine.begin() as connection:
        connection.execute(table.insert().values(n=n))
        count = connection.scalar(sa.select(sa.func.count()).select_from(table))
        return count, connection.scalar(sa.text("SELECT random()"))


for size in (4, 8):
    with ThreadPoolExecutor(size) as executor:
        for n, found in enumerate(executor.map(add, range(40))):
            print(n, *found)
with engine.connect() as connection:
    print(connection.execute(sa.select(sa.func.sum(table.c.n), sa.func.count())).one(), engine.pool.status())
table.drop(engine)
engine.dispose()
