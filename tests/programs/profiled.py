"""cProfile: its times are those of the recording, and its code objects those of the program."""

import cProfile
import io
import os
import pstats


def leaf(number):
    return sum(range(number))


def branch(number):
    return [leaf(k) for k in range(number)] + [len(str(leaf(k))) for k in range(number)]


profile = cProfile.Profile()
with profile:
    branch(300)

codes = {entry.code for entry in profile.getstats()}
print(leaf.__code__ in codes, any(code is branch.__code__ for code in codes), len(codes))
text = io.StringIO()
pstats.Stats(profile, stream=text).sort_stats("cumulative", "name").print_stats().print_callers()
print(text.getvalue())
profile.dump_stats("profile.out")
print(os.path.getsize("profile.out"), pstats.Stats("profile.out").total_calls)

# One that calls Python for its times.
ticks = iter(range(100000))
profile = cProfile.Profile(lambda: next(ticks))
profile.runcall(branch, 3)
print(sorted((str(entry.code), entry.callcount, entry.totaltime) for entry in profile.getstats() if isinstance(entry.code, str)))
