"""The main job, as the README's first command runs it."""

from harness import ROOT, run

import os
import sys


def test_main_job(interpreter, tmp_path):
    env = os.environ | {"TMPDIR": str(tmp_path)}
    demo = ROOT / "examples" / "flaky_api" / "demo"
    done = run([sys.executable, demo, interpreter.path], cwd=tmp_path, env=env)
    assert done.exit == 0, done
    text = done.stdout.decode()
    assert text.count("the API answered with 'We are experiencing higher than usual demand.") == 2, done
    assert text.count("json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)") == 2, done
    assert "SAME: the replay raised the same exception with the same response text in hand" in text, done
    assert not list(tmp_path.glob("retrace-demo-*")), "its folder is gone"
