"""A client and a server of gRPC in one process: one call after another, streams, an error, and several at once."""

from concurrent import futures

import grpc


def greet(request, context):
    return b"hello " + request


def count(request, context):
    for i in range(int(request)):
        yield str(i).encode()


def total(requests, context):
    return str(sum(int(r) for r in requests)).encode()


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no " + request.decode())


METHODS = {
    "Greet": grpc.unary_unary_rpc_method_handler(greet),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
}
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Greeter", METHODS),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    call = channel.unary_unary("/test.Greeter/Greet")
    for i in range(20):
        print(call(b"%d" % i).decode())
    print([message.decode() for message in channel.unary_stream("/test.Greeter/Count")(b"5")])
    print(channel.stream_unary("/test.Greeter/Total")(b"%d" % i for i in range(6)))
    try:
        channel.unary_unary("/test.Greeter/Fail")(b"such thing")
    except grpc.RpcError as error:
        print(error.code(), error.details())
    calls = [call.future(b"%d" % i) for i in range(20)]
    print([call.result() for call in calls])
server.stop(0).wait()
print("done", port)
