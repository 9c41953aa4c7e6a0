"""A function that is called very often."""


def step(number):
    return number % 7


total = 0
for number in range(120_000):
    total += step(number)
print(total)
