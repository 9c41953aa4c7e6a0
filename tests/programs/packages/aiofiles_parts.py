"""aiofiles: files that are written and read in asyncio's threads."""

import asyncio
import time

import aiofiles
import aiofiles.os


async def write_and_read(n):
    async with aiofiles.open(f"file-{n}", "w") as file:
        await file.write(f"{n} {time.time()}\n" * 3)
    async with aiofiles.open(f"file-{n}") as file:
        lines = [line async for line in file]
    return lines, (await aiofiles.os.stat(f"file-{n}")).st_size


async def main():
    for lines, size in await asyncio.gather(*[write_and_read(n) for n in range(6)]):
        print(lines, size)


asyncio.run(main())
