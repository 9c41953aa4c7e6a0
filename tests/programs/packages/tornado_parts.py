"""tornado: a server, clients, websockets, an executor."""

import asyncio, time, random, json
import tornado.web, tornado.httpserver, tornado.httpclient, tornado.websocket, tornado.ioloop


class Main(tornado.web.RequestHandler):
    async def get(self, n):
        await asyncio.sleep(random.random() / 50)
        r = await tornado.ioloop.IOLoop.current().run_in_executor(None, lambda: sum(range(1000)))
        self.write({"n": n, "t": time.time(), "r": r})


class Echo(tornado.websocket.WebSocketHandler):
    def on_message(self, m):
        self.write_message(m[::-1] + str(time.time()))


async def main():
    app = tornado.web.Application([(r"/ws", Echo), (r"/(\d+)", Main)])
    s = tornado.httpserver.HTTPServer(app)
    socks = tornado.netutil.bind_sockets(0, "127.0.0.1")
    s.add_sockets(socks)
    port = socks[0].getsockname()[1]
    c = tornado.httpclient.AsyncHTTPClient()
    for r in await asyncio.gather(*[c.fetch(f"http://127.0.0.1:{port}/{i}") for i in range(15)]):
        print(r.code, r.body, r.headers["Date"])
    try:
        await c.fetch(f"http://127.0.0.1:{port}/nope")
    except Exception as e:
        print(e)
    ws = await tornado.websocket.websocket_connect(f"ws://127.0.0.1:{port}/ws")
    for i in range(5):
        await ws.write_message(f"msg {i}")
        print(await ws.read_message())
    ws.close()
    s.stop()
    await asyncio.sleep(0.05)


asyncio.run(main())
