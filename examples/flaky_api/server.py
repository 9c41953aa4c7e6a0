"""A flaky HTTP API: it answers with JSON, and once in a while with prose.

`server.py [PORT]`: prints its address, serves until it is terminated.
"""

import json
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROSE = "We are experiencing higher than usual demand. Please try again in {} minutes."


class FlakyApi(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self):
        symbol = self.path.rsplit("/", 1)[-1]
        if random.random() < 1 / 25:
            body = PROSE.format(random.randint(2, 60))
        else:
            body = json.dumps({"symbol": symbol, "price": round(random.uniform(1, 500), 2), "at": time.time()})
        # The bug is on both sides: the API says JSON either way.
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), FlakyApi)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
