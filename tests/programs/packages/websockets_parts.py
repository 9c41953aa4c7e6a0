"""websockets: many clients under asyncio, and one in a thread."""

import asyncio, time, random, websockets, threading
from websockets.sync.client import connect


async def handler(ws):
    async for m in ws:
        await asyncio.sleep(random.random() / 100)
        await ws.send(f"{m} {time.time()}")


async def client(port, n):
    async with websockets.connect(f"ws://127.0.0.1:{port}") as ws:
        out = []
        for i in range(5):
            await ws.send(f"{n}-{i}")
            out.append(await ws.recv())
        await (await ws.ping())
        return out


def sync(port):
    with connect(f"ws://127.0.0.1:{port}") as ws:
        ws.send("x" * 100000)
        return len(ws.recv())


async def main():
    async with websockets.serve(handler, "127.0.0.1", 0) as s:
        port = s.sockets[0].getsockname()[1]
        for r in await asyncio.gather(*[client(port, n) for n in range(6)]):
            print(r)
        print(await asyncio.to_thread(sync, port))


asyncio.run(main())
