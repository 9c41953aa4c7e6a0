"""COPY in and out, through Python file objects of several kinds; large objects."""

import io
import sys

import psycopg2

connection = psycopg2.connect(sys.argv[1])
cursor = connection.cursor()
cursor.execute("CREATE TEMPORARY TABLE words (n int, word text)")
lines = "".join(f"{n}\tword {n} é\n" for n in range(3000))
cursor.copy_from(io.StringIO(lines), "words", columns=("n", "word"))
print(cursor.rowcount)
cursor.copy_expert("COPY words FROM STDIN WITH (FORMAT csv)", io.BytesIO(b"9001,bytes\n9002,\n"))


class Source:
    def __init__(self, parts):
        self.parts = parts
        self.reads = []

    def read(self, size):
        self.reads.append(size)
        return self.parts.pop(0) if self.parts else ""


source = Source(["9003\tfirst\n90", "04\tsecond\n"])
cursor.copy_from(source, "words")
print(source.reads, cursor.rowcount)

out = io.StringIO()
cursor.copy_to(out, "words", sep="|", null="-")
print(len(out.getvalue()), out.getvalue()[:40])


class Sink:
    def __init__(self):
        self.writes = []

    def write(self, data):
        self.writes.append(data)


sink = Sink()
cursor.copy_expert("COPY (SELECT n, clock_timestamp() FROM words WHERE n > 9000 ORDER BY n) TO STDOUT", sink)
print(sink.writes)


class Failing:
    def read(self, size):
        raise RuntimeError("the source is dry")


try:
    cursor.copy_from(Failing(), "words")
except psycopg2.Error as error:
    print(type(error), error)
connection.rollback()

large = connection.lobject(0, "wb")
large.write(b"a large object" * 1000)
print(large.tell())
large.close()
again = connection.lobject(large.oid, "rb")
again.seek(5)
print(again.read(20), again.seek(0, 2))
again.unlink()
connection.close()
