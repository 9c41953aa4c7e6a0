"""uvloop: names looked up in its library's threads, servers and clients by name, number and path, datagrams, executors,
files, time-outs, other threads, programs."""

import asyncio
import signal
import socket
import sys
import threading

import uvloop


async def answer(reader, writer):
    while line := await reader.readline():
        writer.write(b"echo " + line)
        await writer.drain()
    writer.close()


async def ask(open_connection, lines):
    reader, writer = await open_connection
    out = []
    for line in lines:
        writer.write(line)
        out.append(await reader.readline())
    writer.close()
    return out


async def names(loop):
    wanted = [(host, 80 + k) for k in range(20) for host in ("127.0.0.1", "localhost")]
    found = await asyncio.gather(*(loop.getaddrinfo(*name, type=socket.SOCK_STREAM) for name in wanted))
    print(len(found), found[0])
    try:
        await loop.getaddrinfo("no.such.host.invalid", 80)
    except socket.gaierror:
        print("no such host")
    print(await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV))


async def streams():
    server = await asyncio.start_server(answer, "localhost", 0)
    port = server.sockets[0].getsockname()[1]
    lines = [[b"hi %d %d\n" % (k, i) for i in range(5)] for k in range(40)]
    asked = (ask(asyncio.open_connection(host, port), lines[k]) for k in range(40) for host in ("localhost",))
    print(await asyncio.gather(*asked))
    server.close()
    server = await asyncio.start_unix_server(answer, "uvloop.socket")
    print(await ask(asyncio.open_unix_connection("uvloop.socket"), [b"by path\n"]))
    server.close()


class Receiver(asyncio.DatagramProtocol):
    def __init__(self, received):
        self.received = received

    def datagram_received(self, data, address):
        self.received.set_result(data)


async def datagrams(loop):
    received = loop.create_future()
    receiver, _ = await loop.create_datagram_endpoint(lambda: Receiver(received), local_addr=("127.0.0.1", 0))
    sender, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
    )
    sender.sendto(b"datagram")
    print(await received)
    receiver.close()
    sender.close()


async def threads(loop):
    print(await asyncio.gather(*(loop.run_in_executor(None, sum, range(10000 + k)) for k in range(20))))
    event = asyncio.Event()
    threading.Thread(target=loop.call_soon_threadsafe, args=(event.set,)).start()
    await event.wait()
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)
    except TimeoutError:
        print("too late")


async def run(*command, given=None, **options):
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, **options
    )
    out, _ = await process.communicate(given)
    return out, process.returncode


async def programs(loop):
    print(await run("echo", "hi"), await run("cat", given=b"given " * 1000))
    print(await asyncio.gather(*(run("sh", "-c", f"echo $A; exit {k}", env={"A": str(k)}) for k in range(8))))
    process = await asyncio.create_subprocess_shell("echo from a shell; exec sleep 60", stdout=asyncio.subprocess.PIPE)
    print(await process.stdout.readline())
    process.kill()
    print(await process.wait())
    try:
        await run("/no/such/program")
    except FileNotFoundError as error:
        print(error.errno)
    print(await run(sys.executable, "-c", "import os; print(os.getcwd() == '/')", cwd="/"))
    came = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, came.set)
    signal.raise_signal(signal.SIGUSR1)
    await came.wait()
    print(loop.remove_signal_handler(signal.SIGUSR1))


async def main():
    loop = asyncio.get_running_loop()
    print(type(loop))
    await names(loop)
    await streams()
    await datagrams(loop)
    await threads(loop)
    await programs(loop)


uvloop.run(main())
