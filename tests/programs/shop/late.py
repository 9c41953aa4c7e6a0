VALUE = __import__("os").getpid()
