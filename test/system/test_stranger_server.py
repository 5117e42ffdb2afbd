"""Our server, written from doc/protocol.md alone, against mtls-client."""

import contextlib
import json
import selectors
import socket
import subprocess
import time

import pytest

from stranger_lab import (SUITES, WAIT, client_args, endpoint, make_files, mtls_client, our_server,
                          peer, running)
from stranger_peer import RECORD_HELD
from stranger_server import Server


@pytest.fixture(name="files", scope="module")
def fixture_files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("stranger"))


@SUITES
def test_server_is_verified(files, suite):
    with our_server(files, suite=suite) as server:
        code, out, event = mtls_client(files, server)
        assert (code, out, event["outcome"]) == (0, b"a line\n", "verified")
        assert server.wait("confirmed") == [(1, 1)] and server.wait("verified") == [1]
        hello = server.wait("hello")[0]
        assert int.from_bytes(hello.hello[8:10], "big") == server.address[1]  # [RDY-1]


def test_server_after_hello_retry_request(files):
    with our_server(files, groups="P-384") as server:
        code, out, _ = mtls_client(files, server)
        assert (code, out) == (0, b"a line\n")
        offers = server.wait("flight")[0]
        assert len(offers) == 2 and offers[0] == offers[1]  # [EXT-3]


@pytest.mark.parametrize("need", [1, 2])
def test_server_with_two_paths(files, need):
    with our_server(files, path2=("127.0.1.1", "127.0.2.1")) as server:
        code, out, event = mtls_client(files, server, "--need", str(need))
        assert (code, out, event["outcome"]) == (0, b"a line\n", "verified")
        k, n = server.wait("confirmed")[0]
        assert k == need <= n <= 2
        assert len({hello.path for hello in server.wait("hello", need)}) >= need


class Misbehaving(Server):
    """Each fault of a server's side of path 2, and of its answer, by name."""

    fault = ""

    def answer(self, tls):
        right = super().answer(tls)
        return {"no extension": None, "not ours": b"ABCD" + right[4:], "version 2":
                right[:4] + b"\2" + right[5:], "short": right[:-1], "long": right + b"\0",
                "family 5": right[:12] + b"\1\5" + bytes(6)}.get(self.fault, right)

    def ready(self, conn, raw):
        right = super().ready(conn, raw)
        return {"busy": b"\1" + right[1:], "not here": b"\2" + right[1:], "status 3":
                b"\3" + right[1:], "hash": right[:-1] + bytes([right[-1] ^ 1])
                }.get(self.fault, right)

    def proof(self, claim, slot, more, tag):
        wrong = tag[:-1] + bytes([tag[-1] ^ 1])
        if self.fault == "wrong proof":
            super().proof(claim, slot, more, wrong)
        elif self.fault == "fail":
            claim.send(peer.FAIL, b"\0")
        elif self.fault == "slot 8":
            super().proof(claim, 8, more, tag)
        elif self.fault == "close":
            claim.link.sock.shutdown(socket.SHUT_WR)
        elif self.fault != "silent":
            super().proof(claim, slot, more, tag)


def fault(name):
    return type("Faulty", (Misbehaving,), {"fault": name})


def small_records(data):
    """Only records that a client sends without its second flight: ChangeCipherSpec, alerts."""
    while data:
        size = int.from_bytes(data[3:5], "big")
        if data[0] not in (20, 21) and not (data[0] == 23 and size == 19):
            return False
        data = data[5 + size:]
    return True


@pytest.mark.parametrize("name", [
    "wrong proof", "silent", "fail", "slot 8", "close", "busy", "not here", "status 3", "hash",
    "no extension", "not ours", "version 2", "short", "long", "family 5"])
def test_client_refuses(files, name):
    """No second flight, no data, and a failure that is told [CLI-1], [ERR-1]."""
    with our_server(files, fault(name)) as server:
        began = time.monotonic()
        deadline = "1000" if name == "silent" else "10000"
        code, out, event = mtls_client(files, server, "--deadline", deadline)
        assert (out, event["outcome"]) == (b"", "failed") and code != 0
        assert (0.9 if name == "silent" else 0) < time.monotonic() - began < 8
        server.stop()
        unread = server.wait("unread")[0]
        assert small_records(unread), unread
        names = [each for each, _ in server.events]
        assert "confirmed" not in names and "verified" not in names
        if name == "wrong proof":
            assert event["reason"] == "proof-wrong" and ("fail", 2) in server.events  # [PRF-5]


class Copied(Server):
    """Says that a copied ClientHello had slot 0; ours is in slot 5."""

    def proof(self, claim, slot, more, tag):
        claim.proofs[5] = claim.proofs.pop(slot)
        super().proof(claim, 0, 1, bytes(32))
        super().proof(claim, 5, 1, tag)


def test_client_takes_the_right_one_of_two_proofs(files):
    with our_server(files, Copied) as server:
        code, out, _ = mtls_client(files, server)
        assert (code, out) == (0, b"a line\n")
        server.wait("confirmed")


class Quiet(Server):
    """No proof for a resumed session, which might be verified anew by it [RES-3]."""

    def proof(self, claim, slot, more, tag):
        if not claim.proofs[slot].facts["resumed"]:
            super().proof(claim, slot, more, tag)


@SUITES
def test_client_resumes_with_us(files, suite, tmp_path):
    ticket = tmp_path / "ticket"
    with our_server(files, Quiet, suite) as server:
        assert mtls_client(files, server, "--sess-out", ticket)[0] == 0
        code, out, event = mtls_client(files, server, "--sess-in", ticket)
        assert (code, out, event["outcome"]) == (0, b"a line\n", "resumed-verified")
        server.wait("resumed-verified")
        assert len(server.wait("confirmed")) == 1
        assert server.flags == [0, 0]  # path 2 was begun with the connect [RES-11]


@pytest.mark.parametrize("age", [3600, 0])
def test_client_asks_no_proof(files, tmp_path, age):
    """Late mode: RECORD_HELD, and a claim only if we have no record any more [RES-11]."""
    ticket = tmp_path / "ticket"
    with our_server(files, max_age=age) as server:
        assert mtls_client(files, server, "--sess-out", ticket)[0] == 0
        code, out, event = mtls_client(files, server, "--sess-in", ticket, "--config", "early=off")
        assert (code, out) == (0, b"a line\n")
        assert event["outcome"] == ("resumed-verified" if age else "verified")
        assert server.flags == [0, RECORD_HELD]
        assert len(server.wait("hello")) == (1 if age else 2)


@SUITES
def test_client_resumes_or_confirms(files, suite, tmp_path):
    """With proofs on the way the client decides by what comes first."""
    ticket = tmp_path / "ticket"
    with our_server(files, suite=suite) as server:
        for _ in range(4):
            more = ["--sess-in", ticket] if ticket.exists() else []
            code, out, event = mtls_client(files, server, "--sess-out", ticket, *more)
            assert (code, out) == (0, b"a line\n")
            assert event["outcome"] == "verified" or more


def test_client_confirms_when_our_record_is_gone(files, tmp_path):
    """CONFIRM_NEEDED is set though the PSK is accepted [RES-5], [RES-7]."""
    ticket = tmp_path / "ticket"
    with our_server(files, max_age=0) as server:
        assert mtls_client(files, server, "--sess-out", ticket)[0] == 0
        code, out, event = mtls_client(files, server, "--sess-in", ticket)
        assert (code, out, event["outcome"]) == (0, b"a line\n", "verified")
        assert len(server.wait("confirmed", 2)) == 2


def test_client_without_record_says_nothing(files, tmp_path):
    """A ticket is offered, but it vouches for nothing here: PROOF is needed [RES-11]."""
    ticket = tmp_path / "ticket"
    with our_server(files) as server:
        assert mtls_client(files, server, "--sess-out", ticket)[0] == 0
        code, out, event = mtls_client(files, server, "--sess-in", ticket, "--config",
                                       "resume=0 early=off")
        assert (code, out, event["outcome"]) == (0, b"a line\n", "verified")
        assert server.flags == [0, 0]


class Elsewhere(Server):
    """EncryptedExtensions, which are not verified yet, name a port and an address for path 2."""

    port = None

    def answer(self, tls):
        right = super().answer(tls)
        port = (self.port or self.path2_addresses[0][1]).to_bytes(2, "big")
        address = b"\1\4" + bytes([127, 0, 1, 1]) + port
        return right[:6] + port + right[8:12] + address

    def _listen(self, host, accept):
        """Path 2 on path 1's port where the test says so."""
        if accept == self._accept1 or not self.port:
            return super()._listen(host, accept)
        sock = socket.create_server((host, self.listener.getsockname()[1]))
        type(self).port = sock.getsockname()[1]
        self.poll.register(sock, selectors.EVENT_READ, lambda: accept(*sock.accept()))
        return sock


@pytest.mark.parametrize("own", [False, True])
def test_client_follows_no_other_port(files, own):
    """Late mode without a port of its own: path 1's port alone is taken from an answer that nobody
    has verified, any other may be the attacker's [PATH-4]; so 914 is tried, where nobody is."""
    kind, made = type("Named", (Elsewhere,), {"port": own}), None
    for _ in range(20):  # path 1's port may be taken on path 2's address
        with contextlib.suppress(OSError):
            made = made or our_server(files, kind)
    with made as server:
        args = client_args(files, server, "--config", "early=off", "--deadline", "2000")
        args[args.index("--path2") + 1] = "remote=127.0.1.1,distinct=server"
        done = subprocess.run(args, input=b"a line\n", capture_output=True, timeout=WAIT,
                              check=False)
        event = json.loads(done.stderr.splitlines()[-1])
        assert event["outcome"] == ("verified" if own else "failed"), event
        assert done.stdout == (b"a line\n" if own else b"")
        assert bool([1 for name, _ in server.events if name == "hello"]) == own
        assert event["paths"][1]["remote"] in (f"127.0.1.1:{server.address[1] if own else 914}", "")


def test_client_reuses_its_connection(files):
    with our_server(files) as server:
        args = client_args(files, server, "--forward", "127.0.0.1:0")
        with running(args) as (_, event):
            for line in (b"one", b"two"):
                with socket.create_connection(endpoint(event["listen"][0]), WAIT) as plain:
                    plain.sendall(line)
                    assert plain.recv(100) == line
            one, two = server.wait("hello", 2)
            assert one.link is two.link and one.number < two.number  # [P2-3], [REU-1]
            server.wait("confirmed", 2)
