"""aiodns: c-ares' own thread calls back by cffi, into a loop; the server is ours."""

import asyncio
import socket
import threading

import pycares

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))


def serve():
    while True:
        query, client = server.recvfrom(2000)
        name = query[12 : query.index(0, 12) + 5]
        if b"end" in name:
            return
        if b"silent" in name:
            continue
        number = name[1] - ord("0")
        answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04" + bytes([10, 0, 0, number])
        server.sendto(query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + name + answer, client)


async def main():
    import aiodns

    port = server.getsockname()[1]
    resolver = aiodns.DNSResolver(nameservers=["127.0.0.1"], udp_port=port, timeout=0.3, tries=1)

    async def ask(name):
        try:
            return [answer.host for answer in await resolver.query(name, "A")]
        except aiodns.error.DNSError as error:
            return error.args

    names = [f"{i}.example.test" for i in range(8)]
    print(await asyncio.gather(*map(ask, names)))
    for name in ("5.example.test", "silent.example.test"):
        print(await ask(name))
    await resolver.close()


thread = threading.Thread(target=serve, daemon=True)
thread.start()
asyncio.run(main())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
    last.sendto(bytes(12) + b"\x03end\x00" + bytes(4), server.getsockname())
thread.join()
print(pycares.__name__)
