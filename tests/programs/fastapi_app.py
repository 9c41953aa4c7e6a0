"""A FastAPI application: coroutines, a function in a thread pool, a validated body, an error. For uvicorn."""

import asyncio
import os
import random
import time
import uuid

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
served = 0


class Item(BaseModel):
    k: int
    at: float
    name: str


def say(*words):
    print(f"[{os.getpid()}]", *words, flush=True)


@app.get("/json/{k}")
async def as_json(k: int) -> Item:
    global served
    await asyncio.sleep(0.001 * (k % 3))
    served += 1
    say("request", k, served)
    return Item(k=k, at=time.time(), name=str(uuid.uuid4()))


@app.get("/work/{k}")
def work(k: int):
    """In a thread of the pool."""
    time.sleep(0.001)
    return {"k": k, "sum": sum(range(k)), "chance": random.random()}
