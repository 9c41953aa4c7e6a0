"""asyncssh: a server and a client in one loop."""

import asyncio, asyncssh, time


async def handle(p):
    p.stdout.write(f"cmd {p.command} {time.time()}\n")
    p.stderr.write("err")
    p.exit(2)


class S(asyncssh.SSHServer):
    def begin_auth(self, u):
        return True

    def password_auth_supported(self):
        return True

    def validate_password(self, u, p):
        return p == "pw"


async def main():
    s = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=S,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=handle,
    )
    async with asyncssh.connect(
        "127.0.0.1",
        s.get_port(),
        username="u",
        password="pw",
        known_hosts=None,
        config=None,
        client_keys=None,
        agent_path=None,
    ) as c:
        for i in range(3):
            r = await c.run(f"do {i}")
            print(r.stdout, r.stderr, r.exit_status)
    s.close()


asyncio.run(main())
