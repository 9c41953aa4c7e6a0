"""A Flask application with one JSON endpoint of about 0.7 ms, under Werkzeug's threaded server, for perf/wrk."""

import random
import time

from flask import Flask, jsonify
from werkzeug.serving import WSGIRequestHandler, make_server

app = Flask(__name__)


@app.get("/")
def answer():
    weights = [random.random() for _ in range(2000)]
    best = sorted(range(len(weights)), key=weights.__getitem__)[:10]
    return jsonify(at=time.time(), best=best, total=sum(weights))


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *arguments):
        pass


server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
