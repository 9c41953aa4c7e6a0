"""The order in which a library's threads got a mutex."""

import allocator

count, order = allocator.run()
print(count, order.hex())
