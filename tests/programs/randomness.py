"""Every source of randomness, seeded and not."""

import _random
import hashlib
import os
import random
import secrets
import ssl
import tempfile
import uuid

random.seed(42)
print("seeded", [random.random() for _ in range(3)], random.getrandbits(70), random.randint(1, 6))
print(random.sample(range(1000), 5), random.gauss(0, 1), random.choice("abcdef"))
state = random.getstate()
first = [random.random() for _ in range(5)]
random.setstate(state)
print("state restored", first == [random.random() for _ in range(5)])

random.seed()
print("from the system", [random.random() for _ in range(3)], random.getrandbits(64), random.randrange(10**9))
items = list(range(20))
random.shuffle(items)
print(items, random.choices("abc", k=5), random.randbytes(6), random.uniform(1, 2), random.triangular())

print("a fresh generator", random.Random().random(), random.Random(7).random(), random.Random("text").random())
print("seed of bytes", random.Random(b"xyz").random(), random.Random(2.5).random(), random.Random(-3).random())


class Bare(_random.Random):
    def __init__(self, *seed):
        super().__init__(*seed)


print("of the C type", _random.Random().random(), Bare().random(), Bare(3).random(), _random.Random(None).random())
again = _random.Random(5)
print(again.random(), again.__init__(), again.random(), _random.Random.__new__(_random.Random).random())


class Dice(random.Random):
    def random(self):
        return super().random() / 2


dice = Dice()
print("subclass", dice.random(), dice.randint(1, 6), Dice(3).random())

system = random.SystemRandom()
print("SystemRandom", system.random(), system.getrandbits(33), system.choice("xyz"), system.randbytes(4))

print("secrets", secrets.token_hex(8), secrets.token_urlsafe(8), secrets.token_bytes(4), secrets.randbelow(1000))
print("choice", secrets.choice(range(50)), secrets.randbits(40))
print("urandom", os.urandom(16), os.getrandom(5), os.urandom(0))
print("ssl", ssl.RAND_bytes(8), ssl.RAND_status())
print("uuid1", uuid.uuid1(), "uuid4", uuid.uuid4(), "uuid5", uuid.uuid5(uuid.NAMESPACE_DNS, "example.org"))
print("node", uuid.getnode(), uuid.uuid1(node=1, clock_seq=2))
print("names", next(tempfile._get_candidate_names()))
print("hash of a string", hash("retrace"), hash(b"retrace"), hash((1, "x")), hash(frozenset("abc")))
print("not random", hash(12345), hash(2.5), hashlib.sha256(b"x").hexdigest()[:8])
print(len({random.random() for _ in range(3000)}), sum(random.random() for _ in range(3000)))
