"""trio: nurseries, deadlines, channels, threads and back, sockets, processes, files, signals, groups of exceptions."""

import os
import signal
import threading
import time

import trio


async def sleep_and_note(k, delay, noted):
    await trio.sleep(delay)
    noted.append(k)


async def nurseries():
    noted = []
    async with trio.open_nursery() as nursery:
        for k in range(5):
            nursery.start_soon(sleep_and_note, k, 0.01 * (5 - k), noted)
    print(noted, trio.current_time())


async def deadlines():
    with trio.move_on_after(0.02) as scope:
        await trio.sleep_forever()
    print("given up", scope.cancelled_caught)
    try:
        with trio.fail_after(0.02):
            await trio.sleep(10)
    except trio.TooSlowError as error:
        print(type(error).__name__)


async def channels():
    sender, receiver = trio.open_memory_channel(2)

    async def produce():
        async with sender:
            for k in range(5):
                await sender.send((k, time.monotonic_ns()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        async for item in receiver:
            print(*item)


def in_thread(k):
    time.sleep(0.01)
    back = trio.from_thread.run_sync(lambda: trio.lowlevel.current_task().name)
    return k, threading.current_thread().name, back


async def threads():
    async def ask(k):
        print(await trio.to_thread.run_sync(in_thread, k))

    async with trio.open_nursery() as nursery:
        for k in range(4):
            nursery.start_soon(ask, k)


async def answer(stream):
    async for data in stream:
        await stream.send_all(data.upper())


async def sockets():
    async with trio.open_nursery() as nursery:

        async def serve(task_status):
            await trio.serve_tcp(answer, 0, host="127.0.0.1", task_status=task_status)

        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"hello from %d" % port)
            print(await stream.receive_some())
        nursery.cancel_scope.cancel()


async def processes_and_files():
    done = await trio.run_process(["sh", "-c", "echo $$; exit 3"], capture_stdout=True, check=False)
    print(done.stdout, done.returncode)
    async with await trio.open_file("inputs/poem.txt") as file:
        print(len(await file.read()))


async def signals():
    with trio.open_signal_receiver(signal.SIGUSR1) as received:
        os.kill(os.getpid(), signal.SIGUSR1)
        async for number in received:
            print("signal", number)
            break


async def failures():
    async def fail():
        raise ValueError(time.time_ns())

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)
    except* ValueError as group:
        print(group.exceptions)


async def main():
    for part in (nurseries, deadlines, channels, threads, sockets, processes_and_files, signals, failures):
        await part()


trio.run(main)
