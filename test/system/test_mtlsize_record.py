"""The record of a run, with the real library: it has no name, nothing stays behind, and what a program does to its
descriptors, its user or its parent loses no line in silence."""

import json
import os
import signal

import pytest

from conftest import SECRET
from mtlslab import tools
from preload_tools import Service, client_words, nginx, server_words
from test_workers import load

# What is done between the making of the context and the handshake.
PROGRAM = """
import os, socket, ssl, sys
cafile, name, host, port, what = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
if what.startswith("user"):
    os.setgroups([])
    os.setuid(12345)
if what.endswith("close"):
    os.closerange(3, 4096)
if what == "orphan":
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    sys.stdin.readline()
with socket.create_connection((host, int(port)), timeout=20) as plain:
    with context.wrap_socket(plain, server_hostname=name) as conn:
        conn.sendall(b"GET /file HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n" % name.encode())
        while data := conn.recv(65536):
            sys.stdout.buffer.write(data)
sys.stdout.flush()
print("delivered", file=sys.stderr)
"""


def argv(lab, pki, server, what, *flags):
    return [tools.tool("mtlsize"), "run", "--json", *flags, "--config", client_words(lab, server), "/usr/bin/python3", "-c",
            PROGRAM, pki.cafile, pki.name, server.host, server.port, what]


def summary(proc):
    [line] = [json.loads(text) for text in proc.lines() if text.startswith('{"event": "run"')]
    return line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where files would be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert os.listdir(folder) == []


@pytest.mark.parametrize("what, code, verified", [("nothing", 0, 1), ("close", 0, 1), ("user", 0, 1), ("user-close", 2, 0)])
def test_descriptors_of_the_program(lab, pki, server, folder, what, code, verified):
    """A record that was closed is found again; where another user may not, the line is missed, and the run is not
    fine."""
    proc = lab.run(lab.client, argv(lab, pki, server, what))
    assert SECRET in proc.stdout, proc.log()
    assert (proc.wait(), summary(proc)["verified"]) == (code, verified), proc.log()
    assert (b"the record of this run is damaged (1 lines)" in proc.stderr) == (code == 2), proc.log()


def test_orphans(lab, pki, server, folder):
    """What outlives the run is protected and delivered; it finds no record, and makes none."""
    proc = lab.spawn(lab.client, argv(lab, pki, server, "orphan"), stdin=True)
    assert proc.popen.wait(timeout=30) == 0
    assert proc.wait_json(event="run")["verified"] == 0  # its pipes stay open: what it printed comes as it comes
    proc.write(b"\n")
    proc.wait_text("delivered", stream="stderr")
    proc.wait_text(SECRET[:20].decode())
    assert len(server.sessions()) == 1


# Tries once, and hides what came of it.
QUIET = """
import socket, ssl, sys
try:
    context = ssl.create_default_context(cafile=sys.argv[1])
    with socket.create_connection((sys.argv[3], int(sys.argv[4])), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname=sys.argv[2]) as conn:
            print(conn.version())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("policy, version, code, prints", [
    ("require", "-tls1_2", 2, b"SSLError"), ("require", "-tls1_3", 2, b"SSLError"), ("prefer", "-tls1_2", 0, b"TLSv1.2"),
])
def test_exit_code_of_a_program_that_hides_failures(lab, pki, folder, policy, version, code, prints):
    """TLS 1.2, which cannot be confirmed, is a failure under require, whatever the program makes of it."""
    port = lab.port()
    plain = lab.spawn(lab.server, ["openssl", "s_server", version, "-quiet", "-cert", pki.cert, "-key", pki.key, "-accept",
                                   tools.join(lab.addr, port)], stdin=True)
    plain.wait_listening(port)
    words = client_words(lab, policy=policy, host=lab.addr, port=lab.port())
    for flags in ([], ["--json"]):
        proc = lab.run(lab.client, [tools.tool("mtlsize"), "run", *flags, "--config", words, "/usr/bin/python3", "-c", QUIET,
                                    pki.cafile, pki.name, lab.addr, port])
        assert (proc.wait(), proc.stdout.strip()) == (code, prints), proc.log()
        assert (b"tls-version (TLS below 1.3)" in proc.stderr) == (policy == "require" and version == "-tls1_2"), proc.log()
        assert (b"ordinary TLS, not confirmed: " in proc.stderr) == (policy == "prefer"), proc.log()
    assert summary(proc)["exit"] == code and summary(proc)["program_exit"] == 0
    assert (summary(proc)["plain"], summary(proc)["failed"]) == ((1, 0) if code == 0 else (0, 1)), proc.log()


class Run:
    """mtlsize run before a server."""

    def __init__(self, config):
        self.config = config

    def argv(self, words):
        return [tools.tool("mtlsize"), "run", "--json", "--config", self.config, "--", *map(str, words)]


def test_sessions_of_a_server_are_counted(lab, pki, www, folder, tmp_path):
    """They all stand in the summary, whichever process they were in; in the record there are lines of the first 16 plain
    ones alone."""
    port, path2 = lab.port(), lab.port()
    run = Run(server_words(lab, path2, "prefer", per_source=4096, deadline=30000))
    proc = nginx(lab, pki, tmp_path, www, port, run, workers=2, tls=" ssl")
    proc.wait_listening(port)
    server = Service(lab, pki, proc, port, path2, run)
    record = [f"/proc/{proc.pid}/fd/{fd}" for fd in os.listdir(f"/proc/{proc.pid}/fd")]
    [record] = [path for path in record if "memfd:mtlsize" in os.readlink(path)]
    before = os.stat(record).st_size
    verified = load(lab, pki, server, words="reuse=off", count=60, threads=4)
    assert verified["verified"] == 60, verified
    assert os.stat(record).st_size == before
    sizes = []
    for count in (16, 24):
        plain = load(lab, pki, server, plain=True, count=count, threads=4)
        assert plain["plain"] == count, plain
        sizes.append(os.stat(record).st_size)
    assert before < sizes[0] == sizes[1], (before, sizes)
    proc.send(signal.SIGTERM)
    proc.wait()
    found = summary(proc)
    assert (found["verified"], found["plain"], found["failed"], found["exit"]) == (60, 40, 0, 0), found
    assert len(found["plain_peers"]) == 16, found
