"""Path 2 fails in every way that a network or an attacker there can make it fail. A client that requires
verification then refuses, in time, and says why; harmless disturbances leave it verified."""

import time

import pytest

from conftest import SECRET
from mtlslab import attack, check, tools
from mtlslab.tools import client

CLOSED = ("path2-closed", "proof-too-few", "proof-missing")


def start(lab, pki, www, *options, policy=None):
    return tools.Server(lab, pki, *options, www=www, policy=policy)


def quick(milliseconds=1500):
    return ["--deadline", str(milliseconds)]


@pytest.mark.parametrize("rule, reasons", [
    ("reject with tcp reset", ("path2-refused",)),
    ("reject", ("path2-unreachable", "path2-refused", "deadline", "path2-timeout")),
    ("drop", ("path2-timeout", "deadline", "proof-missing"))])
def test_blocked(lab, pki, www, server, rule, reasons):
    """Refused, answered with an ICMP error, black-holed."""
    lab.filter(2, f"tcp dport {server.path2_port} {rule}")
    began = time.monotonic()
    check.refused(client(lab, pki, server, *quick()), *reasons)
    assert time.monotonic() - began < 10


def test_nobody_listens(lab, pki, www):
    """The kernel of the server refuses."""
    server = start(lab, pki, www)
    words = f"dev=p2,remote={tools.join(server.host, lab.port())}"
    check.refused(client(lab, pki, server, path2=[words]), "path2-refused")


@pytest.mark.parametrize("mode, reasons", [
    ("silent", ("path2-timeout", "deadline", "proof-missing")), ("close", CLOSED),
    ("garbage", ("path2-foreign", "frame-preface")), ("banner", ("path2-foreign", "frame-preface"))])
def test_something_else_answers(lab, pki, server, mode, reasons):
    attack.path2_relay(lab, server.path2_port, "--accept", mode)
    check.refused(client(lab, pki, server, *quick()), *reasons)


@pytest.mark.parametrize("delay", [50, 400])
def test_slow(lab, pki, www, server, delay):
    """Slower than path 1, and still within the deadline: verified."""
    attack.path2_relay(lab, server.path2_port, "--delay-up", delay, "--delay-down", delay)
    check.verified(client(lab, pki, server), server, (www / "file").read_bytes())


# Preface 8, READY 73, PROOF 42: the beginning, inside and just after each.
@pytest.mark.parametrize("size", [0, 7, 8, 40, 81, 100, 122])
def test_cut_towards_the_client(lab, pki, server, size):
    attack.path2_relay(lab, server.path2_port, "--cut-down", size)
    check.refused(client(lab, pki, server, *quick()), *CLOSED)


@pytest.mark.parametrize("size", [0, 7, 8, 50, 82])
def test_cut_towards_the_server(lab, pki, server, size):
    """HELLO is cut off somewhere."""
    attack.path2_relay(lab, server.path2_port, "--cut-up", size)
    check.refused(client(lab, pki, server, *quick()), *CLOSED)


@pytest.mark.parametrize("frame, reasons", [
    ("hello", ("deadline", "proof-missing", "path2-timeout")),
    ("ready", ("path2-foreign", "deadline", "proof-missing", "path2-closed", "frame-claim",
               "frame-value")),
    ("proof", ("proof-missing", "deadline"))])
def test_frame_dropped(lab, pki, server, frame, reasons):
    attack.path2_relay(lab, server.path2_port, "--drop", frame)
    check.refused(client(lab, pki, server, *quick()), *reasons)


def test_confirm_dropped(lab, pki, www, tmp_path):
    """The client is verified and cannot know better; the server never is, and discards the
    request unread: no answer comes, and nothing of it reaches the backend."""
    server = start(lab, pki, www, "--deadline", "1000")
    attack.path2_relay(lab, server.path2_port, "--drop", "confirm")
    result = client(lab, pki, server)
    assert result.body == b"" and result.code != tools.EXIT_OK, result
    line = server.session()
    assert (line["outcome"], line["reason"]) == (tools.FAILED, "confirm-missing"), line


@pytest.mark.parametrize("frame, offset, reasons", [
    ("hello", 3, ("path2-foreign", "ready-mismatch")),   # the secret
    ("hello", 40, ("path2-foreign", "ready-mismatch")),  # the nonce
    ("ready", 1, ("proof-wrong",)),                      # the server's nonce
    ("ready", 33, ("path2-foreign", "ready-mismatch")),  # the echo
    ("proof", 2, ("proof-wrong",)), ("proof", 33, ("proof-wrong",))])
def test_frame_modified(lab, pki, server, frame, offset, reasons):
    """One bit of each field that counts. (READY's nonce is in both proofs.)"""
    attack.path2_relay(lab, server.path2_port, "--modify", f"{frame}:{offset}")
    check.refused(client(lab, pki, server, *quick()), *reasons)


@pytest.mark.parametrize("offset", [3, 34])
def test_confirm_modified(lab, pki, www, offset):
    server = start(lab, pki, www, "--deadline", "1000")
    attack.path2_relay(lab, server.path2_port, "--modify", f"confirm:{offset}")
    result = client(lab, pki, server)
    assert result.body == b"" and result.code != tools.EXIT_OK, result
    line = server.session()
    assert line["outcome"] == tools.FAILED, line
    assert line["reason"] in ("confirm-missing", "confirm-wrong"), line


def test_confirm_repeated(lab, pki, www, server):
    """A second CONFIRM is ignored."""
    attack.path2_relay(lab, server.path2_port, "--repeat", "confirm")
    check.verified(client(lab, pki, server), server, (www / "file").read_bytes())


@pytest.mark.parametrize("frame", ["ready", "proof"])
def test_frame_repeated(lab, pki, server, frame):
    """A second READY or PROOF closes that connection; it must not crash or verify twice. Where the first
    PROOF was enough the session may have been decided before the second was read."""
    attack.path2_relay(lab, server.path2_port, "--repeat", frame)
    result = client(lab, pki, server, *quick())
    if frame == "ready" or result.outcome != tools.VERIFIED:
        check.refused(result, "frame-repeated", *CLOSED, "path2-foreign")


def test_proof_after_the_deadline(lab, pki, server):
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:1500")
    began = time.monotonic()
    check.refused(client(lab, pki, server, *quick(800)), "deadline", "proof-missing")
    assert time.monotonic() - began < 5


def test_foreign_bytes_between_frames(lab, pki, server):
    attack.path2_relay(lab, server.path2_port, "--insert", "00" * 16)
    check.refused(client(lab, pki, server, *quick()), "frame-type", "frame-version", "frame-length",
                  "path2-foreign", *CLOSED)


def test_replayed_hello(lab, pki, www, tmp_path):
    """A HELLO recorded from an earlier session instead of the client's own: READY echoes another
    frame than was sent, and the client takes it for foreign."""
    server = start(lab, pki, www)
    recorded = tmp_path / "frames"
    attack.path2_relay(lab, server.path2_port, "--record", str(recorded))
    check.verified(client(lab, pki, server), server)
    assert recorded.stat().st_size >= 75
    lab.flush(2)
    attack.path2_relay(lab, server.path2_port, "--replay", str(recorded))
    check.refused(client(lab, pki, server, *quick()), "path2-foreign", "ready-mismatch")


def test_recorded_hello_is_worth_nothing(lab, pki, www, tmp_path):
    """Replayed by itself, later: READY, but no proof - the join of an ended session."""
    server = start(lab, pki, www)
    recorded = tmp_path / "frames"
    attack.path2_relay(lab, server.path2_port, "--record", str(recorded))
    check.verified(client(lab, pki, server), server)
    frames = attack.raw_claim(lab, server, "--hex", recorded.read_bytes()[:75].hex())
    assert [frame["type"] for frame in frames][:1] == [2]
    assert 3 not in [frame["type"] for frame in frames], frames


def test_claimed_by_others_too(lab, pki, www, server):
    """Someone on path 2 copies the HELLO onto a connection of its own: it gets a proof that it cannot
    use, and the session is verified all the same."""
    relay = attack.path2_relay(lab, server.path2_port, "--copy")
    check.verified(client(lab, pki, server), server, (www / "file").read_bytes())
    assert relay.events("copied")


def test_claim_with_the_join_alone(lab, pki, server):
    """Who saw the ClientHello knows the join, not the secret: a HELLO with any other secret gets READY
    and nothing more."""
    frames = attack.raw_claim(lab, server)
    assert frames[0] == {"type": 2, "status": 0, "echo": True}
    assert 3 not in [frame["type"] for frame in frames], frames


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_waiting_table_full(lab, pki, www, policy):
    """READY{busy}, never silence: the client learns that the server speaks Multipath TLS, and does not
    fall back under prefer either."""
    server = start(lab, pki, www, "--config", "max-pending=1")
    attack.fill_waiting(lab, server, 1)
    attack.path1_copy(lab, server.port, "--delay", 300)  # so that HELLO comes first and has to wait
    check.refused(client(lab, pki, server, *quick(), policy=policy), "path2-busy")


def test_per_source_limit(lab, pki, www):
    """One source's claims do not keep another source out."""
    server = start(lab, pki, www, "--config", "per-source=2")
    attack.fill_waiting(lab, server, 2, device="p1")
    check.verified(client(lab, pki, server), None, (www / "file").read_bytes())


def test_server_goes_on_after_garbage(lab, pki, www, server):
    """Garbage on the server's own path-2 port ends that connection alone."""
    done = lab.run(lab.client, ["/usr/bin/python3", "-c", GARBAGE, server.host,
                                str(server.path2_port)])
    assert done.wait() == 0, done.log()
    check.verified(client(lab, pki, server), None, (www / "file").read_bytes())


GARBAGE = """
import os, socket, sys
for data in (b"\\x00", os.urandom(100), os.urandom(5000), bytes.fromhex("f04d544c53320d0b"),
             b"\\xf0", bytes.fromhex("f04d544c53320d0a"), b""):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while s.recv(4096): pass
    except TimeoutError: raise
    except OSError: pass  # reset: as good an end
    s.close()
"""


def test_secret_never_sent(lab, pki, www, tmp_path):
    """Nothing of the request leaves before the decision: path 2 is held at its PROOF, path 1 is watched,
    and the server's log shows no session until the proof is let go."""
    server = tools.Server(lab, pki, "--echo")
    opened = tmp_path / "open"
    relay = attack.path2_relay(lab, server.path2_port, "--gate", f"proof:{opened}")
    running = tools.start_client(lab, pki, server, get=None, stdin=True)
    running.write(SECRET)
    relay.wait("held", type="proof")
    assert SECRET not in running.stdout and not server.sessions()
    opened.touch()
    running.wait_until(lambda: SECRET in running.stdout, "echo")
    running.close_stdin()
    check.verified(tools.Result(running), server, SECRET)
