"""anyio on the event loop that is named: listeners, task groups, threads, processes, memory streams, files, limits and time-outs."""

import sys
import time

import anyio
from anyio import from_thread, to_thread
from anyio.abc import SocketAttribute


async def answer(stream):
    async with stream:
        async for data in stream:
            await stream.send(data.upper())


async def sockets():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)

    async def ask(k):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"hello %d" % k)
            print(k, await stream.receive())

    async with anyio.create_task_group() as servers:
        servers.start_soon(listener.serve, answer)
        async with anyio.create_task_group() as clients:
            for k in range(10):
                clients.start_soon(ask, k)
        servers.cancel_scope.cancel()


def in_thread():
    return from_thread.run(anyio.sleep, 0.01), from_thread.run_sync(time.time)


async def threads():
    print(await to_thread.run_sync(time.time_ns), await to_thread.run_sync(in_thread))


async def streams():
    sender, receiver = anyio.create_memory_object_stream(5)

    async def produce():
        async with sender:
            for k in range(20):
                await sender.send((k, time.monotonic_ns()))

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        async with receiver:
            print([item async for item in receiver])


async def limits():
    limiter = anyio.CapacityLimiter(2)

    async def limited(k):
        async with limiter:
            await anyio.sleep(0.001)
            print(k, anyio.current_time())

    async with anyio.create_task_group() as group:
        for k in range(6):
            group.start_soon(limited, k)
    with anyio.move_on_after(0.02) as scope:
        await anyio.sleep(5)
    print(scope.cancelled_caught)


async def main():
    await sockets()
    await threads()
    print((await anyio.run_process(["sh", "-c", "echo $$"])).stdout)
    await streams()
    await limits()
    async with await anyio.open_file("note.txt", "w") as file:
        await file.write("hello")
    print(await anyio.Path("note.txt").read_text(), (await anyio.Path("note.txt").stat()).st_mtime_ns)


anyio.run(main, backend=sys.argv[1])
