"""asyncio: streams, threads, executors, subprocesses, timeouts, signals, queues and cancellation."""

import asyncio
import os
import signal
import sys
import threading
import time


async def answer(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def ask(port, k):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for i in range(3):
        writer.write(b"hello %d %d\n" % (k, i))
        await writer.drain()
        answers.append(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return answers


async def streams():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    done = []

    async def note(k):
        done.append((k, await ask(port, k)))

    await asyncio.gather(*(note(k) for k in range(10)))
    print(port, done)
    server.close()
    await server.wait_closed()


async def threads():
    loop = asyncio.get_running_loop()
    print(await asyncio.to_thread(lambda: threading.current_thread().name))
    print(await asyncio.gather(*(loop.run_in_executor(None, time.time_ns) for _ in range(8))))
    future = loop.create_future()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(future.set_result, time.time()))
    thread.start()
    print(await future)
    thread.join()


async def subprocesses():
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("sh", "-c", "cat; echo $$; exit 3", stdin=pipe, stdout=pipe)
    print(await process.communicate(b"to the child\n"), process.returncode)
    shells = [await asyncio.create_subprocess_shell(f"echo {k}; exit {k}", stdout=pipe) for k in range(4)]
    print([await shell.communicate() for shell in shells], [shell.returncode for shell in shells])
    process = await asyncio.create_subprocess_exec("sleep", "100")
    process.terminate()
    print(await process.wait())


async def timeouts():
    try:
        await asyncio.wait_for(asyncio.sleep(100), 0.01)
    except asyncio.TimeoutError:
        print("timed out")
    try:
        async with asyncio.timeout(0.005):
            await asyncio.Event().wait()
    except TimeoutError:
        print("timed out again", asyncio.get_running_loop().time())
    tasks = {asyncio.create_task(asyncio.sleep(0.001 * k, k), name=str(k)) for k in range(6)}
    print([task.get_name() for task in tasks])
    for task in asyncio.as_completed(tasks):
        print(await task, end=" ")
    print()


async def signals():
    loop, event, seen = asyncio.get_running_loop(), asyncio.Event(), []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append(time.time()), event.set()))
    os.kill(os.getpid(), signal.SIGUSR1)
    await event.wait()
    loop.add_signal_handler(signal.SIGALRM, seen.append, "alarm")
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    while len(seen) < 6:
        await asyncio.sleep(0.001)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(seen[:6], loop.remove_signal_handler(signal.SIGUSR1), loop.remove_signal_handler(signal.SIGALRM))


async def queues():
    queue, log = asyncio.Queue(3), []

    async def produce():
        for k in range(40):
            await queue.put((k, time.monotonic_ns()))

    async def consume(name):
        while True:
            item = await queue.get()
            log.append((name, item))
            await asyncio.sleep(0.0002 if name == "a" else 0)
            queue.task_done()

    consumers = [asyncio.create_task(consume(name)) for name in "abc"]
    await produce()
    await queue.join()
    for consumer in consumers:
        consumer.cancel()
    print(await asyncio.gather(*consumers, return_exceptions=True), log)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(100))
            group.create_task(asyncio.wait_for(asyncio.sleep(100), 0.002))
    except* TimeoutError as group:
        print(group.exceptions)


async def main():
    # On a busy machine the debug mode would report slow callbacks, with addresses.
    asyncio.get_running_loop().slow_callback_duration = 3600
    for part in (streams, threads, subprocesses, timeouts, signals, queues):
        print(part.__name__)
        await part()


asyncio.run(main(), debug="debug" in sys.argv)
