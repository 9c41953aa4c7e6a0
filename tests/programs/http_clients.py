"""requests, urllib3, httpx and aiohttp as clients of a threaded server in the same process."""

import asyncio
import http.server
import json
import threading

import aiohttp
import httpx
import requests
import urllib3


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, answer):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "flavour=oat")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"path": self.path, "cookie": self.headers.get("Cookie")})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({"length": len(body), "type": self.headers["Content-Type"].split(";")[0]})


def with_requests(url):
    with requests.Session() as session:
        for k in range(5):
            response = session.get(f"{url}/requests{k}", params={"k": k})
            print(response.status_code, response.json(), response.elapsed, dict(session.cookies))
        print(session.post(url, files={"file": ("a.txt", b"hello")}).json(), session.post(url, json={"a": 1}).json())
        with session.get(f"{url}/stream", stream=True) as response:
            print(list(response.iter_content(4)))
    try:
        requests.get("http://127.0.0.1:9/", timeout=0.5)
    except requests.ConnectionError as error:
        print(type(error.args[0].reason).__name__)


def with_urllib3(url):
    pool = urllib3.PoolManager(retries=1)
    print(pool.request("GET", f"{url}/urllib3").json(), pool.request("POST", url, fields={"a": "b"}).json())
    try:
        pool.request("GET", "http://127.0.0.1:9/")
    except urllib3.exceptions.MaxRetryError as error:
        print(type(error.reason).__name__)


async def with_aiohttp(url):
    async with aiohttp.ClientSession() as session:

        async def get(k):
            async with session.get(f"{url}/aiohttp{k}") as response:
                return await response.json()

        print(await asyncio.gather(*(get(k) for k in range(8))))
        async with session.post(url, data=b"x" * 10_000) as response:
            print(await response.text())


async def with_httpx(url):
    async with httpx.AsyncClient() as client:
        answers = await asyncio.gather(*(client.get(f"{url}/httpx{k}") for k in range(5)))
        print([answer.json() for answer in answers])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
thread.start()
url = f"http://127.0.0.1:{server.server_port}"
with_requests(url)
with_urllib3(url)
with httpx.Client() as client:
    print(client.get(f"{url}/httpx").json(), client.post(url, data={"a": "b"}).json())
asyncio.run(with_httpx(url))
asyncio.run(with_aiohttp(url))
server.shutdown()
server.server_close()
thread.join()
