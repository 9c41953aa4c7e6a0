"""SQLAlchemy's ORM and core, with its pool. Argument: the database's URL."""

import datetime
import sys

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

engine = sa.create_engine(sys.argv[1], pool_size=3, echo=False)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    seen: Mapped[datetime.datetime] = mapped_column(server_default=sa.func.clock_timestamp())
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    price: Mapped[float] = mapped_column(sa.Numeric(8, 2))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


Base.metadata.drop_all(engine)
Base.metadata.create_all(engine)
with Session(engine) as session:
    for name in ("Ada", "Grace", "Margaret"):
        books = [Book(title=f"{name}'s book {n}", price=n + 0.5) for n in range(3)]
        session.add(Author(name=name, books=books))
    session.commit()
    for author in session.scalars(sa.select(Author).order_by(Author.id)):
        print(author.id, author.name, author.seen, [(book.id, book.title, book.price) for book in author.books])
    session.delete(session.get(Author, 2))
    session.commit()
    print(session.scalar(sa.select(sa.func.count()).select_from(Book)))
    try:
        session.add(Book(title="nobody's", price=1, author_id=999))
        session.commit()
    except sa.exc.IntegrityError as error:
        print(type(error.orig), error.orig)

for n in range(20):
    with engine.connect() as connection:
        print(connection.execute(sa.text("SELECT :n, random(), clock_timestamp()"), {"n": n}).one())
print(sorted(sa.inspect(engine).get_table_names()))
Base.metadata.drop_all(engine)
engine.dispose()
