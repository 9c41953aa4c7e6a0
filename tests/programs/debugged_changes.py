"""A global that changes often, in many windows of the timeline."""

total = 0


def add():
    global total
    total += 1


for number in range(3_000):
    sum(range(3_000))
    add()
print(total)
