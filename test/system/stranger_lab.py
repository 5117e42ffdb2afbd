"""The tools on loopback, and the peer that was written from doc/protocol.md alone beside them.

Path 1 is 127.0.0.1, path 2 is 127.0.1.1, which differ in their /24 (distinct=server, [PATH-8]).
MTLS_BUILD is the tools' build folder.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "reference"))

import stranger_peer as peer  # noqa: E402
from stranger_peer import Client, Link  # noqa: E402
from stranger_server import Server  # noqa: E402
from stranger_tls import Context  # noqa: E402

NAME = "stranger.test"
SHA256, SHA384 = "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"
SUITES = pytest.mark.parametrize("suite", [SHA256, SHA384])
WAIT = 20


def make_files(folder):
    """A certificate of our own, and an OpenSSL configuration that knows P-384 alone."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
                    "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", folder / "key.pem",
                    "-out", folder / "cert.pem"], check=True, capture_output=True, timeout=WAIT)
    (folder / "p384.cnf").write_text("openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n"
                                     "[c]\nGroups=P-384\n")
    return folder


def tool(name):
    return os.path.join(os.environ["MTLS_BUILD"], "apps", name)


def endpoint(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def first_line(stream, what):
    """The line a tool reports its ports with."""
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        assert ready.select(WAIT), what
    return json.loads(stream.readline())


@contextlib.contextmanager
def running(args, env=None):
    """The tool, its first event, and its further ones when the caller takes them by stop()."""
    with subprocess.Popen(args, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0,
                          env={**os.environ, **(env or {})}) as process:
        try:
            yield process, first_line(process.stderr, args)
        finally:
            process.kill()


class Tool:
    """An mtls-server; outcomes() ends it and gives what it said of each session."""

    def __init__(self, process, event):
        self.process = process
        self.path1, self.path2 = endpoint(event["listen"][0]), endpoint(event["path2"][0])

    def outcomes(self):
        self.process.terminate()
        _, said = self.process.communicate(timeout=WAIT)
        events = [json.loads(line) for line in said.splitlines()]
        return [event["outcome"] for event in events if event["event"] == "session"]


@contextlib.contextmanager
def mtls_server(files, *more, policy="require", env=None):
    args = [tool("mtls-server"), "--listen", "127.0.0.1:0", "--path2-listen", "127.0.1.1:0",
            "--policy", policy, "--cert", files / "cert.pem", "--key", files / "key.pem",
            "--echo", "--json", "--verbose", *more]
    with running(args, env) as (process, event):
        yield Tool(process, event)


@contextlib.contextmanager
def serving(server):
    server.start()
    try:
        yield server
    finally:
        server.stop()


def our_server(files, kind=Server, suite=SHA256, groups=None, **how):
    return serving(kind(Context(suite, groups, cert=files / "cert.pem", key=files / "key.pem"),
                        **how))


def client_args(files, server, *more):
    paths = [("--path2", f"remote={host}:{port},distinct=server")
             for host, port in server.path2_addresses]
    return [tool("mtls-client"), "--policy", "require", *sum(paths, ()), "--cafile",
            files / "cert.pem", "--connect", "127.0.0.1", "--json", "--verbose", *more,
            f"{NAME}:{server.address[1]}"]


def mtls_client(files, server, *more):
    """(exit code, standard output, last event) of a run that sends one line."""
    done = subprocess.run(client_args(files, server, *more), input=b"a line\n",
                          capture_output=True, timeout=WAIT, check=False)
    return done.returncode, done.stdout, json.loads(done.stderr.splitlines()[-1])


@contextlib.contextmanager
def session(files, server, links, suite=SHA256, groups=None, **how):
    context = Context(suite, groups, ca=files / "cert.pem")
    with contextlib.closing(Client(context, server.path1, NAME, links, **how)) as client:
        yield client


@contextlib.contextmanager
def link(server):
    with contextlib.closing(Link(server.path2)) as made:
        yield made


def until(condition, *links):
    peer.wait_for(condition, links, time.monotonic() + WAIT)


def ended(link_):
    """Reads a connection of path 2 to its end."""
    while link_.up:
        link_.sock.settimeout(WAIT)
        link_.pump()
    return True


def alert_of(client):
    """Sends what the handshake has made; the code of the alert in the clear that comes, or None
    when the server's answer is something else, which the handshake is given."""
    client.sock.sendall(client.tls.take())
    client.sock.settimeout(WAIT)
    data = client.sock.recv(16384)
    if data[:1] == b"\x15" and len(data) == 7:
        return data[-1]
    client.tls.feed(data)
    return None
