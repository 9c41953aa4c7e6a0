"""uvicorn with two workers, each a process of its own, started and asked by this program."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{scope['path']} {time.time()}".encode()})


def ask(port, path):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}").read()


def main():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "uvicorn_workers:app", "--app-dir", "packages", "--workers", "2"]
    outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    server = subprocess.Popen([*command, "--port", str(port)], **outputs)
    while True:
        try:
            print(ask(port, ""))
            break
        except OSError:
            time.sleep(0.05)
    for i in range(10):
        print(ask(port, i))
    server.send_signal(signal.SIGTERM)
    print(server.wait(), b"Finished server process" in server.stderr.read())


if __name__ == "__main__":
    main()
