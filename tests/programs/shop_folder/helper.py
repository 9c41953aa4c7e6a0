import time

NOW = time.time_ns()
