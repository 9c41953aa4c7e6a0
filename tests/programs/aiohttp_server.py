"""An aiohttp server and its clients in one loop: routes, middleware, streams, websockets, uploads, time-outs."""

import asyncio

from aiohttp import ClientSession, ClientTimeout, FormData, WSMsgType, web


async def echo(request):
    return web.json_response({"method": request.method, "path": request.path, "query": dict(request.query)})


async def slow(request):
    await asyncio.sleep(1)
    return web.Response(text="late")


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for k in range(5):
        await response.write(b"part %d" % k)
        await asyncio.sleep(0.001)
    await response.write_eof()
    return response


async def talk(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
    return socket


async def upload(request):
    form = await request.post()
    return web.Response(text=str(len(form["file"].file.read())))


async def fail(request):
    raise RuntimeError("on purpose")


@web.middleware
async def marked(request, handler):
    response = await handler(request)
    if not response.prepared:
        response.headers["X-Marked"] = "yes"
    return response


async def serve():
    app = web.Application(middlewares=[marked])
    app.router.add_get("/", echo)
    for handler in (slow, stream, talk, fail):
        app.router.add_get(f"/{handler.__name__}", handler)
    app.router.add_post("/upload", upload)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"


async def main():
    runner, url = await serve()
    async with ClientSession() as session:

        async def get(k):
            async with session.get(url, params={"k": str(k)}) as response:
                return response.status, await response.json(), response.headers["X-Marked"]

        print(await asyncio.gather(*(get(k) for k in range(30))))
        try:
            await session.get(f"{url}/slow", timeout=ClientTimeout(total=0.05))
        except asyncio.TimeoutError as error:
            print(type(error).__name__)
        async with session.get(f"{url}/stream") as response:
            print(await response.read())
        async with session.ws_connect(f"{url}/talk") as socket:
            for k in range(3):
                await socket.send_str(f"hello {k}")
                print((await socket.receive()).data)
        form = FormData()
        form.add_field("file", b"z" * 5000, filename="z.bin")
        async with session.post(f"{url}/upload", data=form) as response:
            print(await response.text())
        async with session.get(f"{url}/fail") as response:
            print(response.status)
    await runner.cleanup()


asyncio.run(main())
