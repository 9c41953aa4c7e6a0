import time


def inner(n):
    total = 0
    for i in range(n):
        total += i * 2
    return total


def middle(x):
    a = inner(x)
    b = inner(x + 1)
    if b > a:
        return divide(a, b - b)
    return a


def divide(p, q):
    text = "dividing"
    return p / q


def main():
    print("start", time.time() > 0, flush=True)
    for k in range(3):
        inner(1000)
        print("round", k, flush=True)
    print("result", middle(50))


main()
