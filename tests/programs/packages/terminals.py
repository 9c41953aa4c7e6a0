"""pexpect, ptyprocess and prompt_toolkit: programs in terminals, and a prompt of one's own."""

import pexpect, sys, time, ptyprocess

c = pexpect.spawn(sys.executable + " -q", encoding="utf8", timeout=20)
c.expect(">>> ")
for i in range(3):
    c.sendline(f"{i}*7")
    c.expect(">>> ")
    print(repr(c.before))
c.sendline("import time; time.time()")
c.expect(">>> ")
print(repr(c.before))
c.sendeof()
c.expect(pexpect.EOF)
c.close()
print(c.exitstatus)
p = ptyprocess.PtyProcess.spawn(["cat"])
p.write(b"hello\n")
print(p.read())
p.sendeof()
p.wait()
print(p.exitstatus)
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit import PromptSession

with create_pipe_input() as inp:
    inp.send_text("hello\n")
    print(PromptSession(input=inp, output=DummyOutput()).prompt("> "))
