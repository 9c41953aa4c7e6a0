"""Digests, keys and sets by C and Rust, some with threads of their own; drawn numbers and identifiers."""

import os
import random

import blake3
import gmpy2
import mmh3
import pyroaring
import uuid_utils
import xxhash
from argon2 import PasswordHasher

data = os.urandom(2_000_000)
print(xxhash.xxh3_64_hexdigest(data), mmh3.hash128(data), blake3.blake3(data, max_threads=4).hexdigest())
numbers = pyroaring.BitMap(random.sample(range(10**6), 500))
print(len(numbers), numbers.max(), list(numbers)[:3])
state = gmpy2.random_state(random.getrandbits(30))
print(gmpy2.mpz_urandomb(state, 100), gmpy2.next_prime(10**20))
hasher = PasswordHasher(time_cost=1, memory_cost=2000, parallelism=4)
hashed = hasher.hash("secret")
print(hashed, hasher.verify(hashed, "secret"))
print(uuid_utils.uuid1(), uuid_utils.uuid4(), uuid_utils.uuid7())
