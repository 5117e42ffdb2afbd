"""Many sessions at once and one after the other: the server keeps serving, and nothing grows.

The load comes through `mtls-client --forward`, so both tools carry it: plain TCP connections on the
client's loopback, each a Multipath TLS session of its own to an echo server."""

import collections
import os
import sys

import pytest

from mtlslab import check, tools
from mtlslab.tools import client

LOAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mtlslab", "load.py")


@pytest.fixture(scope="module")
def scale():
    """Sanitizer builds are slower and hold freed memory back: fewer sessions, no look at memory."""
    return 5 if tools.sanitizer() else 1


class Forward:
    """mtls-client as a forwarder in front of an echo server."""

    def __init__(self, lab, pki, *options):
        self.lab = lab
        # So many handshakes at once take seconds of both cores: this is no test of the deadline. Nor
        # of the share of one source: where path 2 outruns path 1, all these claims of one client wait.
        patient = ["--deadline", "60000"]
        self.server = tools.Server(lab, pki, "--echo", *patient, "--config", "per-source=4096",
                                   *options)
        self.client = tools.start_client(lab, pki, self.server, "--forward", "127.0.0.1:0", *patient,
                                         get=None)
        line = self.client.wait_json(event="listening")
        self.port = tools.split(line["listen"][0])[1]

    def echo(self, total, at_once, hold=False):
        """Runs so many echo connections; returns the process that holds them, or held them."""
        argv = [sys.executable, LOAD, "echo", "127.0.0.1", str(self.port), str(total), str(at_once)]
        proc = self.lab.spawn(self.lab.client, argv + (["hold"] if hold else []), name="load",
                              stdin=True if hold else None)
        line = proc.wait_json("stdout", event="done", timeout=300)
        assert line == {"event": "done", "right": total, "wrong": 0}, (line, self.reasons())
        return proc

    def reasons(self):
        """How the sessions ended at both ends, for a failure."""
        return {name: collections.Counter((line["outcome"], line["reason"]) for line in proc.jsons()
                                          if line.get("event") == "session")
                for name, proc in (("server", self.server.proc), ("client", self.client))}

    def outcomes(self):
        return [line["outcome"] for line in self.server.sessions()]

    def processes(self):
        return {"server": self.server.proc.pid, "client": self.client.pid}


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid):
    """Kilobytes."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4


def test_nothing_grows(lab, pki, scale):
    """10,000 sessions; after the first 2,000 neither descriptors nor memory grow."""
    load = Forward(lab, pki)
    load.echo(2000 // scale, 50)
    before = {name: (descriptors(pid), resident(pid)) for name, pid in load.processes().items()}
    load.echo(8000 // scale, 50)
    load.server.proc.wait_until(lambda: len(load.outcomes()) == 10000 // scale, "end of sessions")
    for name, pid in load.processes().items():
        files, memory = descriptors(pid), resident(pid)
        assert files <= before[name][0] + 60, (name, before[name], files)
        if scale == 1:
            assert memory <= before[name][1] + 8192, (name, before[name], memory)
    assert set(load.outcomes()) == {tools.VERIFIED}


def test_ports_of_live_connections_are_not_taken(lab, pki):
    """mtls-client keeps path 1 on its device. The kernel's search for a local port overlooks sockets
    bound to a device when the new one is not: with few ports it soon came back to a live one's."""
    lab.run(lab.client, ["sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=40000 40999"])
    load = Forward(lab, pki)
    holding = load.echo(50, 50, hold=True)
    load.echo(400, 10)
    load.server.proc.wait_until(lambda: len(load.outcomes()) == 450, "end of sessions")
    open_now = lab.run(lab.server, ["ss", "-Htn", "state", "established", "sport", "=",
                                    f":{load.server.port}"])
    assert len(open_now.stdout.splitlines()) >= 50, open_now.stdout
    holding.close_stdin()
    assert holding.wait() == 0


def test_many_at_once_beside_a_flood(lab, pki, scale):
    """2,000 sessions open at the same time, and as many silent or garbage path-2 connections from another
    source: every session is verified, and a client that comes then is served too."""
    count = 2000 // scale
    load = Forward(lab, pki)
    flood = lab.spawn(lab.routers[2], [sys.executable, LOAD, "flood", load.server.host,
                                       str(load.server.path2_port), str(count)], name="flood",
                      stdin=True)
    flood.wait_json("stdout", event="done", timeout=120)
    holding = load.echo(count, count, hold=True)
    check.verified(client(lab, pki, load.server, get=None, stdin=b"and one more"), None,
                   b"and one more")
    holding.close_stdin()
    assert holding.wait() == 0
    load.server.proc.wait_until(lambda: len(load.outcomes()) == count + 1, "end of sessions")
    assert set(load.outcomes()) == {tools.VERIFIED}
