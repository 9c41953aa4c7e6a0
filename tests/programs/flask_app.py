"""A Flask application with a lock, a database, a session and an error; as a program, under Werkzeug's threaded server,
until SIGTERM. Every line of its own begins with the process's number."""

import os
import random
import signal
import sqlite3
import threading
import time
import uuid

from flask import Flask, g, jsonify, request, session

app = Flask(__name__)
app.secret_key = "not secret"
lock = threading.Lock()
served = 0


def say(*words):
    print(f"[{os.getpid()}]", *words, flush=True)


def database():
    if "database" not in g:
        g.database = sqlite3.connect("app.db", timeout=60)
        g.database.execute("create table if not exists hits (path text, at real)")
    return g.database


@app.teardown_appcontext
def close_database(_):
    if "database" in g:
        g.pop("database").close()


@app.get("/json/<int:k>")
def as_json(k):
    global served
    with lock:
        served += 1
        n = served
    say("request", k, n, threading.current_thread().name.split("-")[0])
    return jsonify(k=k, n=n, at=time.time(), id=str(uuid.uuid4()), chance=random.random())


@app.get("/hits/<int:k>")
def hits(k):
    with database() as connection:
        connection.execute("insert into hits values (?, ?)", (request.path, time.time()))
    session["last"] = k
    return jsonify(count=database().execute("select count(*) from hits").fetchone()[0])


def main():
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    say("serving on", server.server_port)
    server.serve_forever(poll_interval=0.05)
    say("served", served)


if __name__ == "__main__":
    main()
