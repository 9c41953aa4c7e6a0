"""Sockets without a server: pairs, listeners to oneself, datagrams, selectors, names, options, errors."""

import array
import os
import select
import selectors
import socket
import struct
import time

left, right = socket.socketpair()
print(left.send(b"hello"), right.recv(10), left.getsockname(), left.family, left.type, left.gettimeout())
buffer = bytearray(6)
left.sendall(b"0123456789")
print(right.recv_into(buffer), bytes(buffer), right.recv(2, socket.MSG_PEEK), right.recv_into(memoryview(buffer)[2:]), buffer)
left.sendmsg([b"a", b"bc"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
data, ancillary, flags, address = right.recvmsg(10, socket.CMSG_SPACE(4))
print(data, [(level, kind, len(value)) for level, kind, value in ancillary], flags, address)
left.send(b"into what a generator makes")
parts = bytearray(4), bytearray(6)
print(right.recvmsg_into((part for part in parts), 10), parts, right.recvmsg_into(iter([buffer]))[0], right.recv(100))
for wrong in (5, [5], buffer):
    try:
        right.recvmsg_into(wrong)
    except TypeError as error:
        print(error)
for _, _, value in ancillary:
    os.close(struct.unpack("i", value)[0])
right.settimeout(0.01)
try:
    right.recv(1)
except TimeoutError as error:
    print(repr(error), right.timeout)
right.setblocking(False)
try:
    right.recv(1)
except BlockingIOError as error:
    print(error.errno, error)

listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
client = socket.create_connection(("localhost", port), timeout=5)
server, peer = listener.accept()
print(port, peer == client.getsockname(), client.getpeername(), server.fileno() > 2, client)
client.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
with server.makefile("rb") as lines:
    print(lines.readline(), lines.readline())
print(client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > 0, client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
server.shutdown(socket.SHUT_WR)
print(client.recv(1), client.detach() > 2)
server.close()

with selectors.DefaultSelector() as selector:
    selector.register(listener, selectors.EVENT_READ, "listener")
    selector.register(left, selectors.EVENT_READ | selectors.EVENT_WRITE, "left")
    print(sorted((key.data, mask) for key, mask in selector.select(1)), len(selector.get_map()))
    selector.unregister(left)
    print(selector.select(0.01), time.monotonic())
print(select.select([right], [right], [], 0)[1] == [right])
with select.epoll() as epoll:
    epoll.register(right.fileno(), select.EPOLLOUT)
    print(epoll.poll(1, 4) == [(right.fileno(), select.EPOLLOUT)], epoll.closed)

one, two = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
one.bind(("127.0.0.1", 0))
two.sendto(b"datagram", one.getsockname())
print(one.recvfrom(100)[0], two.getsockname())
two.sendto(b"again", one.getsockname())
print(one.recvfrom_into(buffer)[0], buffer)

print(socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM), socket.gethostbyname("localhost"))
print(socket.getservbyname("http"), socket.inet_aton("1.2.3.4"), socket.getfqdn(), socket.if_nameindex())
for address in [("127.0.0.1", 1), ("no-such-host.invalid", 80)]:
    try:
        socket.create_connection(address, timeout=2)
    except OSError as error:
        print(type(error).__name__, error)
for address in ("no-such-socket", 5, ("127.0.0.1", 80)):
    try:
        left.connect(address)
    except (OSError, TypeError) as error:
        print(type(error).__name__, error)
for item in (left, right, listener, one, two):
    item.close()
print(left, left.fileno())
