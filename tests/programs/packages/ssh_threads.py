"""paramiko: a server and a client, with a thread each."""

import paramiko, socket, threading, time, logging

key = paramiko.RSAKey.generate(2048)


class S(paramiko.ServerInterface):
    def check_auth_password(self, u, p):
        return paramiko.AUTH_SUCCESSFUL if p == "pw" else paramiko.AUTH_FAILED

    def check_channel_request(self, k, c):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, ch, cmd):
        def run():
            time.sleep(0.05)
            ch.sendall(b"ran " + cmd + b"\n" + str(time.time()).encode())
            ch.send_exit_status(3)
            ch.close()

        threading.Thread(target=run).start()
        return True


l = socket.socket()
l.bind(("127.0.0.1", 0))
l.listen()


def serve():
    s, _ = l.accept()
    t = paramiko.Transport(s)
    t.add_server_key(key)
    t.start_server(server=S())
    t.join()


th = threading.Thread(target=serve)
th.start()
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
c.connect("127.0.0.1", l.getsockname()[1], "me", "pw", look_for_keys=False, allow_agent=False)
for i in range(3):
    i, o, e = c.exec_command(f"do {i}")
    print(o.read(), o.channel.recv_exit_status())
c.close()
th.join(10)
print("end")
