"""twisted: lines, a web server and its client, threads, a program, an error."""

import time, random, sys
from twisted.internet import reactor, protocol, defer, threads, task, endpoints
from twisted.protocols.basic import LineReceiver
from twisted.web import server, resource, client
from twisted.python import log


class Echo(LineReceiver):
    def lineReceived(self, line):
        reactor.callLater(random.random() / 50, self.sendLine, line[::-1] + str(time.time()).encode())


class F(protocol.Factory):
    protocol = Echo


class Page(resource.Resource):
    isLeaf = True

    def render_GET(self, r):
        return b"page %s %f" % (r.path, time.time())


class C(LineReceiver):
    def connectionMade(self):
        self.got = 0
        for i in range(5):
            self.sendLine(b"line %d" % i)

    def lineReceived(self, line):
        print(line)
        self.got += 1
        if self.got == 5:
            self.transport.loseConnection()

    def connectionLost(self, why):
        print(why.type.__name__)
        self.factory.done.callback(None)


class CF(protocol.ClientFactory):
    protocol = C


@defer.inlineCallbacks
def main():
    p = reactor.listenTCP(0, F(), interface="127.0.0.1")
    w = reactor.listenTCP(0, server.Site(Page()), interface="127.0.0.1")
    ds = []
    for i in range(3):
        f = CF()
        f.done = defer.Deferred()
        ds.append(f.done)
        reactor.connectTCP("127.0.0.1", p.getHost().port, f)
    yield defer.DeferredList(ds)
    agent = client.Agent(reactor)
    for i in range(3):
        r = yield agent.request(b"GET", b"http://127.0.0.1:%d/%d" % (w.getHost().port, i))
        print((yield client.readBody(r)))
    print((yield threads.deferToThread(sum, range(100))))
    rs = yield defer.gatherResults([threads.deferToThread(lambda n: (n, time.time()), n) for n in range(8)])
    print(rs)
    try:
        yield task.deferLater(reactor, 0.01, lambda: 1 / 0)
    except ZeroDivisionError as e:
        print(repr(e))
    from twisted.internet.utils import getProcessOutput

    print((yield getProcessOutput("/bin/echo", [b"out"])))
    reactor.stop()


log.startLogging(sys.stdout)
reactor.callWhenRunning(main)
reactor.run()
