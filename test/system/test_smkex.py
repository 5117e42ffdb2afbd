"""SMKEX: smkex-server and smkex-client over two paths, and what attackers make of it."""

import os
import sys
import threading

import pytest

from conftest import SECRET, noise
from mtlslab import attack, netns, smkex, tools
from mtlslab.smkex import client, expect, refused


@pytest.fixture
def server(lab, www):
    return smkex.Server(lab, www=www)


def quick(milliseconds=1500):
    return ["--deadline", str(milliseconds)]


# ---- It works -----------------------------------------------------------------------------------

def test_verified(lab, server, www):
    result = expect(client(lab, server), smkex.VERIFIED, (www / "file").read_bytes(),
                    scope="client", key="none", mode="multipath", group="x25519", suite="aes128")
    assert [p["device"] for p in result.paths] == ["p1", "p2"]
    assert result.paths[1]["state"] == "confirmed"
    line = server.session()
    assert line["outcome"] == smkex.VERIFIED and line["role"] == "server"
    assert line["paths"][1]["remote"].startswith(lab.client_addr(2) + ":")


def test_big_file_and_small_records(lab, server, www):
    expect(client(lab, server, "--config", "pad=512 suites=chacha20 groups=p256", get="/big"),
           smkex.VERIFIED, noise(8 << 20), group="p256", suite="chacha20")


def test_pipe_both_ways(lab):
    server = smkex.Server(lab)
    data = noise(3 << 20)
    expect(client(lab, server, get=None, stdin=data), smkex.VERIFIED, data)


def test_forward_at_both_ends(lab, www):
    """A plain program talks to a plain program through both tools."""
    backend = lab.spawn(lab.server, [sys.executable, "-u", "-c", ECHO], name="backend")
    port = backend.wait_json("stdout", event="listening")["port"]
    server = smkex.Server(lab, service=["--forward", f"127.0.0.1:{port}"])
    forward = smkex.start_client(lab, server, "--forward", "127.0.0.1:0", get=None)
    local = tools.split(forward.wait_json(event="listening")["listen"][0])[1]
    for number in range(3):
        data = noise(300000)[number:]
        done = lab.run(lab.client, [sys.executable, "-c", TALK, str(local)], stdin=data,
                       name="plain")
        assert done.stdout == data
        assert server.session(number)["outcome"] == smkex.VERIFIED


ECHO = """
import json, socket, threading
listener = socket.create_server(("127.0.0.1", 0))
print(json.dumps({"event": "listening", "port": listener.getsockname()[1]}), flush=True)
def serve(conn):
    while data := conn.recv(65536):
        conn.sendall(data)
    conn.close()
while True:
    threading.Thread(target=serve, args=listener.accept()[:1]).start()
"""
TALK = """
import socket, sys, threading
conn = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def send():
    conn.sendall(sys.stdin.buffer.read())
    conn.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
while data := conn.recv(65536):
    sys.stdout.buffer.write(data)
"""


def test_two_of_three_paths(lab3, www):
    server = smkex.Server(lab3, www=www)
    paths = [tools.spec(lab3, server, path=i) for i in (2, 3)]
    result = expect(client(lab3, server, "--need", 2, path2=paths), smkex.VERIFIED)
    assert result.line["confirmed_paths"] == 2
    lab3.filter(3, f"tcp dport {server.path2_port} reject with tcp reset")
    refused(client(lab3, server, "--need", 2, path2=paths), "path2-refused", "proof-too-few")


@pytest.mark.parametrize("single", [False, True])
def test_one_round_trip_after_tcp_connect(lab, www, single):
    """Packet capture: with 200 ms of round trip on both paths the OFFER leaves after one, the request
    after two, with and without the second path [SID-3]."""
    server = smkex.Server(lab, www=www, single=single)
    for path in (1, 2):
        smkex.delay(lab, path, 200)
    seen = smkex.capture(lab, lab.client, "p1", server.port)
    result = client(lab, server, single=single)
    expect(result, smkex.SINGLE if single else smkex.VERIFIED, (www / "file").read_bytes())
    sent = [line for line in seen.jsons("stdout") if line.get("up") and line["size"] > 0]
    offer = sent[0]["at"]
    second = next(line["at"] for line in sent if line["at"] > offer + 0.05)
    assert 0.19 < offer < 0.39, sent
    assert 0.39 < second < 0.59, sent


PEER = os.path.join(tools.REPO, "test", "reference", "smkex_peer.py")


@pytest.mark.parametrize("group, name", [(1, "x25519"), (2, "p256")])
def test_peer_written_from_the_document(lab, www, tmp_path, group, name):
    """A client in Python: padding, a key update that asks for one, an unknown group in its OFFER."""
    server = smkex.Server(lab, "--key", smkex.make_key(tmp_path, "key"), www=www)
    done = lab.run(lab.client, [sys.executable, PEER, server.host, str(server.port),
                                str(server.path2_port), lab.client_addr(1), lab.client_addr(2),
                                str(group), "/file"], name="smkex_peer")
    assert done.wait() == 0 and done.stdout.endswith((www / "file").read_bytes()), done.log()
    line = server.session()
    assert line["outcome"] == smkex.VERIFIED and line["group"] == name, line


# ---- Path 1 -------------------------------------------------------------------------------------

def test_mitm_has_all_of_single_path(lab, www, tmp_path):
    """What tcpcrypt's class cannot stop."""
    server = smkex.Server(lab, www=www, single=True)
    middle = smkex.mitm(lab, tmp_path, server.port)
    expect(client(lab, server, single=True), smkex.SINGLE, (www / "file").read_bytes())
    assert SECRET in middle.record


def test_the_same_mitm_is_refused(lab, server, tmp_path):
    middle = smkex.mitm(lab, tmp_path, server.port)
    refused(client(lab, server), "proof-wrong")
    assert middle.events("answered") and middle.record == b""


def test_mitm_under_prefer(lab, server, tmp_path):
    """[SPO-3]: the attacker has shown SMKEX, there is no way back to plain."""
    middle = smkex.mitm(lab, tmp_path, server.port)
    refused(client(lab, server, "--policy", "prefer"), "proof-wrong")
    assert middle.record == b""


def test_stripped_is_a_downgrade(lab, server, tmp_path):
    """Path 2 says what path 1 hides, under prefer too [DWN-1]."""
    smkex.mitm(lab, tmp_path, server.port, "--strip")
    refused(client(lab, server, "--policy", "prefer"), "downgrade")
    refused(client(lab, server), "smkex-not-spoken", "downgrade")


def test_forged_refusal_is_no_way_out(lab, server, tmp_path):
    """[ANS-2]"""
    smkex.mitm(lab, tmp_path, server.port, "--refuse", 1)
    refused(client(lab, server, "--policy", "prefer"), "smkex-refused")


@pytest.mark.parametrize("byte, reasons", [
    (3, ("smkex-not-spoken", "downgrade")), (15, ("proof-wrong",)),
    (30, ("proof-wrong", "smkex-share"))])
def test_answer_changed_on_the_way(lab, server, tmp_path, byte, reasons):
    """Magic, max_age, share."""
    smkex.mitm(lab, tmp_path, server.port, "--flip", byte)
    refused(client(lab, server), *reasons)


def test_record_changed_on_the_way(lab, server, tmp_path):
    """After the decision: the transfer breaks, no wrong byte is delivered."""
    smkex.mitm(lab, tmp_path, server.port, "--flip", 500000)
    result = client(lab, server, get="/big")
    assert result.code == tools.EXIT_NETWORK and result.outcome == smkex.VERIFIED, result
    assert noise(8 << 20).startswith(result.body)
    assert result.line["error"] == "a record was forged or damaged"


# ---- Path 2 -------------------------------------------------------------------------------------

@pytest.mark.parametrize("frame, offset, reasons", [
    ("proof", 20, ("proof-wrong",)),
    ("ready", 5, ("proof-wrong", "path2-foreign", "ready-mismatch")),
    ("ready", 40, ("path2-foreign", "ready-mismatch")),
    ("hello", 50, ("path2-foreign", "ready-mismatch", "proof-missing", "deadline"))])
def test_path2_forged(lab, server, frame, offset, reasons):
    attack.path2_relay(lab, server.path2_port, "--modify", f"{frame}:{offset}")
    refused(client(lab, server, *quick()), *reasons)


@pytest.mark.parametrize("frame", ["ready", "proof"])
def test_path2_dropped(lab, server, frame):
    attack.path2_relay(lab, server.path2_port, "--drop", frame)
    refused(client(lab, server, *quick()), "proof-missing", "deadline", "path2-foreign",
            "frame-claim", "path2-timeout", "path2-closed")


def test_confirm_dropped(lab, www):
    """The server delivers nothing, and answers nothing [SID-1]."""
    server = smkex.Server(lab, "--deadline", 700, www=www)
    attack.path2_relay(lab, server.path2_port, "--drop", "confirm")
    result = client(lab, server)
    assert result.code == tools.EXIT_NETWORK and result.body == b"", result
    line = server.session()
    assert line["outcome"] == smkex.FAILED
    assert line["reason"] in ("confirm-missing", "peer-closed")


def test_confirm_forged(lab, www):
    server = smkex.Server(lab, "--deadline", 700, www=www)
    attack.path2_relay(lab, server.path2_port, "--modify", "confirm:10")
    result = client(lab, server)
    assert result.code == tools.EXIT_NETWORK and result.body == b"", result
    assert server.session()["outcome"] == smkex.FAILED


def test_path2_late(lab, server, www):
    """Slower than path 1: path 1's data waits on both sides."""
    attack.path2_relay(lab, server.path2_port, "--delay-up", 300, "--delay-down", 300)
    expect(client(lab, server), smkex.VERIFIED, (www / "file").read_bytes())


def test_path2_replayed(lab, server, www, tmp_path):
    """An old HELLO in the place of the new one belongs to no session."""
    record = tmp_path / "hello"
    attack.path2_relay(lab, server.path2_port, "--record", record)
    expect(client(lab, server), smkex.VERIFIED, (www / "file").read_bytes())
    lab.flush(2)
    attack.path2_relay(lab, server.path2_port, "--replay", record)
    refused(client(lab, server, *quick()), "path2-foreign", "ready-mismatch", "proof-missing",
            "deadline", "frame-claim")


# ---- Server keys --------------------------------------------------------------------------------

def own_both_paths(lab, server, fake):
    """Attackers on both paths who work together: all of the server's traffic is theirs."""
    for path in (1, 2):
        smkex.hijack(lab, path, server.port, fake.port)
        smkex.hijack(lab, path, server.path2_port, fake.path2_port)


def test_key_is_remembered_and_both_paths_are_not_enough(lab, www, tmp_path):
    hosts = ["--hosts", tmp_path / "hosts"]
    server = smkex.Server(lab, "--key", smkex.make_key(tmp_path, "key"), www=www)
    fake = smkex.Server(lab, "--key", smkex.make_key(tmp_path, "evil"), www=www)
    expect(client(lab, server, *hosts), smkex.VERIFIED, key="new")
    expect(client(lab, server, *hosts), smkex.VERIFIED, key="known")
    own_both_paths(lab, server, fake)
    expect(client(lab, server), smkex.VERIFIED, key="new")  # a first contact: the attackers win
    result = refused(client(lab, server, *hosts), "server-key-changed")
    assert result.line["key"] == "changed"


def test_changed_key_by_policy(lab, www, tmp_path):
    hosts = ["--hosts", tmp_path / "hosts"]
    old = smkex.Server(lab, "--key", smkex.make_key(tmp_path, "old"), www=www)
    new = smkex.Server(lab, "--key", smkex.make_key(tmp_path, "new"), www=www)
    keyless = smkex.Server(lab, www=www)
    expect(client(lab, old, *hosts), smkex.VERIFIED, key="new")
    own_both_paths(lab, old, new)
    refused(client(lab, old, *hosts), "server-key-changed")
    expect(client(lab, old, *hosts, "--key-change", "vouch"), smkex.VERIFIED, key="changed")
    expect(client(lab, old, *hosts), smkex.VERIFIED, key="known")
    for path in (1, 2):
        lab.flush(path)
    own_both_paths(lab, old, keyless)
    refused(client(lab, old, *hosts), "server-key-missing")


@pytest.mark.parametrize("signature, reason", [
    ("strip", "server-key-missing"), ("keep", "server-key-unproven")])
def test_known_key_saves_single_path(lab, www, tmp_path, signature, reason):
    """From the second contact on, as with ssh."""
    hosts = ["--hosts", tmp_path / "hosts"]
    server = smkex.Server(lab, "--key", smkex.make_key(tmp_path, "key"), www=www, single=True)
    expect(client(lab, server, *hosts, single=True), smkex.SINGLE, key="new")
    middle = smkex.mitm(lab, tmp_path, server.port, "--signature", signature)
    refused(client(lab, server, *hosts, single=True), reason)
    assert middle.record == b""


def test_forget(lab, www, tmp_path):
    hosts = ["--hosts", str(tmp_path / "hosts")]
    server = smkex.Server(lab, "--key", smkex.make_key(tmp_path, "key"), www=www)
    expect(client(lab, server, *hosts), smkex.VERIFIED, key="new")
    done = lab.run(lab.client, [tools.tool("smkex-client"), "forget", *hosts,
                                tools.join(server.host, server.port)], name="forget")
    assert done.wait() == 0
    expect(client(lab, server, *hosts), smkex.VERIFIED, key="new")


# ---- Peers without SMKEX ------------------------------------------------------------------------

class Plain:
    """A plain HTTP server."""

    def __init__(self, lab, www):
        self.host, self.port, self.path2_port = lab.addr, lab.port(), lab.port()
        self.proc = lab.spawn(lab.server, [sys.executable, "-u", "-m", "http.server", "--bind",
                                           self.host, "--directory", str(www), str(self.port)],
                              name="http.server")
        self.proc.wait_listening(self.port)


def test_plain_server_by_policy(lab, www, tmp_path):
    plain = Plain(lab, www)
    refused(client(lab, plain), "smkex-not-spoken")
    expect(client(lab, plain, "--policy", "prefer"), smkex.PLAIN, (www / "file").read_bytes(),
           reason="smkex-not-spoken")
    expect(client(lab, plain, "--policy", "off", path2=[]), smkex.PLAIN,
           (www / "file").read_bytes())


def test_remembered_server_is_never_plain(lab, www, tmp_path):
    hosts = ["--hosts", tmp_path / "hosts", "--policy", "prefer"]
    server = smkex.Server(lab, www=www)
    expect(client(lab, server, *hosts), smkex.VERIFIED)
    smkex.mitm(lab, tmp_path, server.port, "--strip")
    lab.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    refused(client(lab, server, *hosts), "remembered")
    result = client(lab, server, "--policy", "prefer")  # a first contact: strip and drop win
    assert result.outcome == smkex.PLAIN, result


@pytest.mark.parametrize("policy, code", [("require", 52), ("prefer", 0)])
def test_plain_client_by_policy(lab, www, policy, code):
    server = smkex.Server(lab, "--policy", policy, www=www)
    done = lab.run(lab.client, ["curl", "-sS", "--max-time", "10",
                                f"http://{server.host}:{server.port}/file"], name="curl")
    assert done.wait() in ((0,) if code == 0 else (52, 56)), done.log()
    assert done.stdout == ((www / "file").read_bytes() if code == 0 else b"")
    assert server.session()["outcome"] == (smkex.PLAIN if code == 0 else smkex.FAILED)


# ---- Path 1 by Multipath TCP [PATH-13] -----------------------------------------------------------

def subflow(lab, path):
    """The client's kernel adds a subflow by this path to each MPTCP connection."""
    for ns in (lab.client, lab.server):
        netns.ip(ns, "mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2")
    netns.ip(lab.client, "mptcp", "endpoint", "add", lab.client_addr(path), "dev", f"p{path}", "subflow")


@pytest.mark.parametrize("path, verified", [(3, True), (2, False)])
def test_path_1_with_two_subflows(lab3, www, path, verified):
    """A second path that no subflow uses counts, one that a subflow uses does not. Path 2 is held until the
    second subflow is up."""
    lab, gate = lab3, www.parent / f"subflow-{path}"
    subflow(lab, path)
    server = smkex.Server(lab, "--mptcp", www=www)
    attack.path2_relay(lab, server.path2_port, "--gate", f"proof:{gate}")
    running = smkex.start_client(lab, server, "--mptcp")
    await_subflows(lab)
    gate.touch()
    result = tools.Result(running)
    if verified:
        expect(result, smkex.VERIFIED, (www / "file").read_bytes())
    else:
        refused(result, "paths-not-distinct")


def await_subflows(lab):
    pause = threading.Event()
    for _ in range(150):
        found = lab.run(lab.client, ["ss", "-tniH", "state", "established"], name="ss")
        if found.stdout.count(b"tcp-ulp-mptcp") >= 2:
            return
        pause.wait(0.05)
    raise AssertionError("no second subflow: " + found.log())


# ---- The command line ---------------------------------------------------------------------------

@pytest.mark.parametrize("words, text", [
    (["smkex-client", "10.0.0.1:1"], b"--path2 is missing"),
    (["smkex-client", "10.0.0.1:1", "--single-path", "--path2", "dev=p2"], b"contradicts"),
    (["smkex-client", "--single-path"], b"HOST:PORT is missing"),
    (["smkex-client", "10.0.0.1:1", "--single-path", "--key-change", "vouch"], b"needs --hosts"),
    (["smkex-client", "10.0.0.1:1", "--path2", "dev=p2", "--config", "pad=-1"], b"pad"),
    (["smkex-server", "--listen", "127.0.0.1:0", "--echo"], b"--path2-listen is missing"),
    (["smkex-server", "--listen", "127.0.0.1:0", "--echo", "--single-path", "--key", "/nowhere"],
     b"No such file")])
def test_contradictions_are_refused(lab, words, text):
    done = lab.run(lab.client, [tools.tool(words[0]), *words[1:]], name=words[0])
    assert done.wait() == tools.EXIT_USAGE and text in done.stderr, done.log()
