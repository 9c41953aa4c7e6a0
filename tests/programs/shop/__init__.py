import time

LOADED_AT = time.time_ns()
