"""Forked processes go on as they would unrecorded."""

# The child ends when its last thread does: its first thread is the one that forked, which returns.
FORKS_IN_A_THREAD = """\
import os, threading, time
def fork():
    pid = os.fork()
    if pid:
        print(os.waitpid(pid, 0)[1])
    else:
        import colorsys
        threading.Thread(target=lambda: (time.sleep(0.1), print("outlives it", flush=True))).start()
threading.Thread(target=fork).start()
"""


def test_a_process_that_a_thread_forked_ends_with_its_last_thread(trial):
    trial.prepare()
    (trial.work / "forks.py").write_text(FORKS_IN_A_THREAD)
    plain = trial.plain(["forks.py"])
    recorded = trial.record(["forks.py"])
    assert plain.exit == recorded.exit == 0
    assert plain.stdout == recorded.stdout == b"outlives it\n0\n"
    sources = trial.tool("sources", trial.trace)
    assert b"colorsys" in sources.stdout, sources
    assert trial.replay(trial.trace).stdout == b"0\n"
    child = trial.replay(trial.trace, "--process", "1")
    assert (child.stdout, child.stderr, child.exit) == (b"outlives it\n", b"", 0), child
