"""multiprocess, dill and cloudpickle: functions and classes of the main module for other processes."""

import multiprocess as mp, dill, cloudpickle, time, random, os


def f(x):
    return x * 2, os.getpid() > 0


if __name__ == "__main__":
    k = random.random()
    g = lambda x: x + k
    print(dill.loads(dill.dumps(g))(1), cloudpickle.loads(cloudpickle.dumps(g))(1))
    with mp.Pool(2) as p:
        print(p.map(lambda x: x * 3, range(10)), p.apply_async(f, (3,)).get())
    q = mp.Queue()
    pr = mp.Process(target=lambda: q.put(time.time()))
    pr.start()
    print(q.get())
    pr.join()
    print(pr.exitcode)

    class A:
        def __init__(self):
            self.x = 3

    print(dill.loads(dill.dumps(A())))
    print("end")
