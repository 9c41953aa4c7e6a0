"""redis-py: values of every kind, pipelines, scripts, pub/sub, errors, locks, a pool in threads, asyncio."""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio

port = int(sys.argv[1])
server = redis.Redis(port=port, decode_responses=True)
print(server.set("a", 1), server.incr("a", 5), server.expire("a", 100), server.ttl("a"), server.time())
print(server.hset("h", mapping={"x": 1, "y": "z"}), server.hgetall("h"))
print(server.zadd("z", {"a": 1, "b": 2}), server.zrange("z", 0, -1, withscores=True))
print(server.rpush("l", *range(5)), server.lrange("l", 0, -1), server.info("server")["process_id"])
with server.pipeline() as pipeline:
    pipeline.incr("n")
    pipeline.get("n")
    print(pipeline.execute(), server.eval("return redis.call('get', KEYS[1])", 1, "a"))
with server.pubsub() as subscriber:
    subscriber.subscribe("channel")
    print(subscriber.get_message(timeout=5), server.publish("channel", "hello"), subscriber.get_message(timeout=5))
try:
    server.lpush("a", 1)
except redis.ResponseError as error:
    print(error)
with server.lock("lock", timeout=5):
    print("locked", server.pttl("lock"))

pool = redis.ConnectionPool(port=port, max_connections=10)


def count(k):
    client = redis.Redis(connection_pool=pool)
    for _ in range(20):
        client.incr("count")
        client.set(f"k{k}", time.time())


threads = [threading.Thread(target=count, args=(k,)) for k in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(server.get("count"), server.mget(sorted(server.keys("k*"))))


async def main():
    client = redis.asyncio.Redis(port=port)
    print(await asyncio.gather(*(client.set(f"x{k}", k) for k in range(10))))
    print(await client.mget([f"x{k}" for k in range(10)]))
    await client.aclose()


asyncio.run(main())
