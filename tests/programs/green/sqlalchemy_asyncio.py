"""SQLAlchemy under asyncio, which runs its own code in greenlets, with aiosqlite, which has a thread a connection."""

import asyncio
import datetime

from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    at: Mapped[datetime.datetime]
    lines: Mapped[list["Line"]] = relationship(lazy="raise")


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    text: Mapped[str]


async def main():
    engine = create_async_engine("sqlite+aiosqlite:///orders.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    for n in range(4):
        async with sessions() as session, session.begin():
            lines = [Line(text=str(k)) for k in range(3)]
            session.add(Order(name=f"order {n}", at=datetime.datetime.now(), lines=lines))
    async with sessions() as session:
        for order in await session.scalars(select(Order).options(selectinload(Order.lines)).order_by(Order.id)):
            print(order.name, order.at, [line.text for line in order.lines])

    async def count(n):
        async with sessions() as session:
            return await session.scalar(select(func.count()).select_from(Line).where(Line.order_id == n))

    print(await asyncio.gather(*[count(n) for n in range(6)]))
    await engine.dispose()


asyncio.run(main())
