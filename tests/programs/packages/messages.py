"""Messages by ZeroMQ: its own thread does the I/O; sockets in threads, under asyncio, and within the process."""

import asyncio
import threading

import zmq
import zmq.asyncio


def serve(socket):
    for _ in range(30):
        socket.send(socket.recv()[::-1])
    socket.close()


def ask(context):
    server, client = context.socket(zmq.REP), context.socket(zmq.REQ)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    thread = threading.Thread(target=serve, args=(server,))
    thread.start()
    client.connect(f"tcp://127.0.0.1:{port}")
    answers = []
    for i in range(30):
        client.send(b"request %d" % i)
        answers.append(client.recv().decode())
    thread.join()
    client.close()
    print(answers[0], answers[-1])


def pass_on(context):
    pushing, pulling = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    pushing.bind("inproc://within")
    pulling.connect("inproc://within")
    thread = threading.Thread(target=lambda: [pushing.send_pyobj(i) for i in range(500)])
    thread.start()
    print(sum(pulling.recv_pyobj() for _ in range(500)))
    thread.join()
    pushing.close()
    pulling.close()


async def route():
    context = zmq.asyncio.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    dealers = [context.socket(zmq.DEALER) for _ in range(3)]

    async def answer():
        for _ in range(30):
            sender, message = await router.recv_multipart()
            await router.send_multipart([sender, message.upper()])

    async def deal(number, socket):
        socket.connect(f"tcp://127.0.0.1:{port}")
        answers = []
        for i in range(10):
            await socket.send(b"dealer %d, message %d" % (number, i))
            answers.append(await socket.recv())
        return answers[-1].decode()

    print(await asyncio.gather(answer(), *(deal(*pair) for pair in enumerate(dealers))))
    for socket in (router, *dealers):
        socket.close()
    context.term()


context = zmq.Context()
ask(context)
pass_on(context)
context.term()
asyncio.run(route())
