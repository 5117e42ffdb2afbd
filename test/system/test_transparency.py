"""A peer that knows nothing of Multipath TLS sees the same TLS whether the other side is hooked or not: messages, their
extensions, record boundaries and sizes, tickets, alerts, how the connection ends, and how long it takes. One program of
ours (tls_subject) with and without the hook, OpenSSL's and GnuTLS's programs and raw bytes as peers, a recorder between."""

import contextlib
import os
import socket
import ssl
import statistics
import time

import pytest

from mtlslab import recorder, tools
from mtlslab.proc import Proc
from mtlslab.recorder import Connection, Recorder, differences

SUBJECT = os.path.join(tools.BUILD, "test", "differential", "tls_subject")
SERVER_HOOK = "policy=prefer listen=127.0.0.1:0"
OURS = 0xFF4D
TICKET_SLACK = 16  # a ticket is encrypted in blocks of 16 bytes, and its content varies by a few
GET = b"GET / HTTP/1.0\r\n\r\n"


@pytest.fixture(scope="module")
def certs(pki):
    """RSA: its signatures have one size."""
    server = pki.real.issue("rsa-server", [pki.name], ["127.0.0.1"], bits=2048)
    client = pki.clients.issue("rsa-client", ["alice.example"], client=True, bits=2048)
    return {"cert": server[0], "key": server[1], "ca": pki.cafile, "client_cert": client[0],
            "client_key": client[1], "client_ca": pki.clients.cafile, "rogue_ca": pki.rogue.cafile,
            "name": pki.name}


@contextlib.contextmanager
def running(argv, wait):
    """Starts a server; gives (process, what wait() says)."""
    proc = Proc(argv)
    try:
        yield proc, wait(proc)
    finally:
        proc.stop()
        tools.check_sanitizer(proc)


def subject(certs, *options, hook=None):
    argv = [SUBJECT, "server", "--cert", certs["cert"], "--key", certs["key"], *options]
    return running(argv + (["--hook", hook] if hook else []),
                   lambda proc: proc.wait_json("stdout", event="listening")["port"])


def ends(proc, count):
    """The lines of the first so many connections."""
    return [proc.wait_json("stdout", event="end", skip=number) for number in range(count)]


def converse(argv, ok=True):
    """A client program that asks, unless it is refused, and stays until the server ends it."""
    proc = Proc(argv, stdin=True)
    try:
        if ok:  # a client that is refused behind its own Finished would ask sometimes, and sometimes not
            proc.write(GET)
        code = proc.wait()
        assert (code == 0) == ok, proc.log()
    finally:
        proc.stop()


# ---- a hooked server, peers that are not ---------------------------------------------------------


def s_client(certs, port, *options, ok=True, cafile=None):
    converse(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", certs["name"], "-CAfile",
              cafile or certs["ca"], "-verify_return_error", "-quiet", *options], ok)


def s_client_twice(certs, port, *options, folder=None):
    session = os.path.join(folder, f"session-{port}")
    s_client(certs, port, *options, "-sess_out", session)
    s_client(certs, port, *options, "-sess_in", session)


def s_client_command(certs, port, letter, marker, ok=True):
    """An interactive command once the handshake is over; marker: what s_client prints of it."""
    proc = Proc(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", certs["name"], "-CAfile",
                 certs["ca"], *(["-tls1_2"] if letter == "R" else [])], stdin=True)
    try:
        proc.wait_text("Verify return code: 0")
        proc.write(letter.encode() + b"\n")
        proc.wait_until(lambda: marker in proc.stdout + proc.stderr, marker)
        if ok:
            proc.write(GET)
        assert (proc.wait() == 0) == ok, proc.log()
    finally:
        proc.stop()


def gnutls(certs, port, *options, ok=True, priority="NORMAL", cafile=None):
    converse(["gnutls-cli", "--x509cafile", cafile or certs["ca"], "--sni-hostname", certs["name"],
              "--verify-hostname", certs["name"], "--logfile", "/dev/null", "--port", str(port), "--priority",
              priority, *options, "127.0.0.1"], ok)


TLS12 = "NORMAL:-VERS-ALL:+VERS-TLS1.2"
HRR = "NORMAL:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP384R1"
CERT = ["client_cert", "client_key"]

# name: (options of the server, the peer, its options, slack, does it succeed)
SERVERS = {
    "1.3": ([], s_client, [], TICKET_SLACK, True),
    "1.3-stateful": (["--stateful"], s_client, [], 0, True),
    "1.3-five-tickets": (["--tickets", "5", "--stateful"], s_client, [], 0, True),
    "1.3-no-tickets": (["--tickets", "0"], s_client, [], 0, True),
    "1.3-retry": (["--groups", "P-384", "--stateful"], s_client, ["-groups", "X25519:P-384"], 0, True),
    "1.3-resumed": ([], s_client_twice, [], TICKET_SLACK, True),
    "1.3-resumed-stateful": (["--stateful"], s_client_twice, [], 0, True),
    "1.3-certificate": (["--stateful", "--verify", "client_ca"], s_client, ["-cert", CERT[0], "-key", CERT[1]], 0,
                        True),
    "1.3-no-middlebox": (["--stateful"], s_client, ["-no_middlebox"], 0, True),
    "1.2": ([], s_client, ["-tls1_2"], TICKET_SLACK, True),
    "1.2-stateful": (["--stateful"], s_client, ["-tls1_2"], 0, True),
    "1.2-resumed": ([], s_client_twice, ["-tls1_2"], TICKET_SLACK, True),
    "1.2-certificate": (["--stateful", "--verify", "client_ca"], s_client,
                        ["-tls1_2", "-cert", CERT[0], "-key", CERT[1]], 0, True),
    "gnutls-1.3": (["--stateful"], gnutls, [], 0, True),
    "gnutls-1.3-retry": (["--groups", "P-384", "--stateful"], gnutls, ["--single-key-share", "--priority", HRR], 0,
                         True),
    "gnutls-1.3-resumed": ([], gnutls, ["--resume", "--waitresumption"], TICKET_SLACK, True),
    "gnutls-1.3-certificate": (["--stateful", "--verify", "client_ca"], gnutls,
                               ["--x509certfile", CERT[0], "--x509keyfile", CERT[1]], 0, True),
    "gnutls-1.2": (["--stateful"], gnutls, ["--priority", TLS12], 0, True),
    "gnutls-1.2-resumed": ([], gnutls, ["--priority", TLS12, "--resume"], TICKET_SLACK, True),
    # alerts, both ways
    "no-suite": (["--suites", "TLS_AES_256_GCM_SHA384"], s_client,
                 ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], 0, False),
    "no-version": (["--max", "1.2"], s_client, ["-tls1_3"], 0, False),
    "no-group": (["--groups", "P-384"], s_client, ["-tls1_3", "-groups", "X25519"], 0, False),
    "no-certificate": (["--verify", "client_ca", "--stateful"], s_client, [], 0, False),
    "no-certificate-1.2": (["--verify", "client_ca", "--stateful"], s_client, ["-tls1_2"], 0, False),
    "unknown-authority": (["--stateful"], s_client, ["-CAfile", "rogue_ca"], 0, False),
    "gnutls-unknown-authority": (["--stateful"], gnutls, ["--x509cafile", "rogue_ca"], 0, False),
}


def record_server(certs, options, peer, words, hook, **more):
    """Connections of one peer with the subject, and how the subject says each ended."""
    fill = lambda list_: [certs.get(word, word) for word in list_]
    with subject(certs, "--close", "--answer", "40000", *fill(options), hook=hook) as (proc, port):
        with Recorder(port) as relay:
            peer(certs, relay.port, *fill(words), **more)
        for connection in relay.connections if peer is gnutls else ():
            sort_extensions(connection)  # newer releases shuffle them
        return relay.connections, ends(proc, len(relay.connections))


def sort_extensions(connection):
    """Of the ClientHellos."""
    connection.client.messages = [(kind, length, hello[:-1] + (tuple(sorted(hello[-1])),) if hello else hello)
                                  for kind, length, hello in connection.client.messages]


@pytest.mark.parametrize("name", SERVERS)
def test_hooked_server(certs, tmp_path, name):
    """Twice each, one after the other: what varies in itself would be seen as well."""
    options, peer, words, slack, ok = SERVERS[name]
    more = {"folder": str(tmp_path)} if peer is s_client_twice else {"ok": ok}
    runs = [record_server(certs, options, peer, words, hook, **more) for hook in (None, SERVER_HOOK) * 2]
    plain, said = runs[0]
    assert all(connection.server.records for connection in plain), plain
    assert all(line["handshake"] for line in said) or not ok
    assert [line["resumed"] for line in said] == [False, True][:len(said)]
    for hooked, also_said in runs[1:]:
        assert len(hooked) == len(plain)
        for one, other in zip(plain, hooked):
            assert differences(one, other, slack) == ""
        assert also_said == said


@pytest.mark.parametrize("letter, marker, ok", [("K", b"KEYUPDATE", True), ("R", b"no renegotiation", False)],
                         ids=["key-update", "renegotiation"])
def test_hooked_server_later(certs, letter, marker, ok):
    runs = [record_server(certs, ["--stateful"], s_client_command, [letter, marker], hook, ok=ok)
            for hook in (None, SERVER_HOOK)]
    assert runs[0][1] == runs[1][1]
    assert differences(runs[0][0][0], runs[1][0][0]) == ""


def test_the_comparison_sees_eight_bytes(certs):
    """0-RTT is refused on hooked contexts: their tickets lack the early_data extension. Nothing else differs."""
    runs = [record_server(certs, ["--stateful", "--early", "1000"], s_client, [], hook)[0][0]
            for hook in (None, SERVER_HOOK)]
    found = differences(*runs)
    assert found != "" and differences(*runs, slack=8) == ""
    assert [line.split(",")[0] for line in found.splitlines()] == ["server"] * 2
    sizes = [[record[2] for record in run.server.records] for run in runs]
    assert sorted(a - b for a, b in zip(*sizes)) == [0] * (len(sizes[0]) - 2) + [8, 8]


# ---- raw bytes against a hooked server -----------------------------------------------------------


def client_hello(certs, version):
    """A ClientHello of OpenSSL's, as records."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    context.load_verify_locations(certs["ca"])
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=certs["name"]).do_handshake()
    return out.read()


def record(kind, body, version=b"\x03\x03"):
    return bytes([kind]) + version + len(body).to_bytes(2, "big") + body


def strange_openings(certs):
    """(what, bytes): ClientHellos with one byte changed all over, cut short, cut into pieces, and other messages."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        hello = client_hello(certs, version)
        body = hello[5:]
        for at in range(0, len(hello), max(1, len(hello) // 90)):
            for bits in (0x01, 0xFF):
                yield f"{version.name} byte {at} ^ {bits}", hello[:at] + bytes([hello[at] ^ bits]) + hello[at + 1:]
        for at in range(1, len(hello), max(1, len(hello) // 20)):
            yield f"{version.name} cut at {at}", hello[:at]
        for size in (1, 7, 64):
            yield f"{version.name} records of {size}", b"".join(
                record(22, body[at:at + size]) for at in range(0, len(body), size))
        yield f"{version.name} twice", hello * 2
        yield f"{version.name} and a byte", record(22, body + b"\0")
        yield f"{version.name} after CCS", record(20, b"\x01") + hello
        yield f"{version.name}, CCS twice", hello + record(20, b"\x01") * 2
        yield f"{version.name}, data", hello + record(23, bytes(40))
        yield f"{version.name}, alert", hello + record(21, b"\x02\x28")
        yield f"{version.name}, warning", hello + record(21, b"\x01\x5a")
        yield f"{version.name}, close_notify", hello + record(21, b"\x01\x00")
        yield f"{version.name}, empty record", hello + record(22, b"")
        yield f"{version.name}, long record", hello + record(23, bytes(16384 + 257))
        yield f"{version.name}, KeyUpdate", hello + record(22, b"\x18\0\0\x01\0")
        yield f"{version.name}, Finished", hello + record(22, b"\x14\0\0\x20" + bytes(32))
    yield "HTTP", GET
    yield "nothing", b""
    yield "alert alone", record(21, b"\x02\x28")
    yield "data alone", record(23, bytes(40))
    yield "SSLv2", bytes.fromhex("802e0100020015000000100100800300800700c0") + bytes(28)
    yield "zeros", bytes(100)


def exchange(port, sent):
    """What comes back, as records."""
    got = Connection().server
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):  # a reset may overtake what was sent before it
            while data := sock.recv(65536):
                got.feed(data)
    return got


def test_strange_openings(certs):
    """Answered byte for byte alike in size and alert, and for the same reason."""
    openings = list(strange_openings(certs))
    with subject(certs, "--stateful") as (plain, port), subject(certs, "--stateful", hook=SERVER_HOOK) as (
            hooked, hooked_port):
        for number, (what, sent) in enumerate(openings):
            one, other = exchange(port, sent), exchange(hooked_port, sent)
            assert repr(one) == repr(other), what
            said = [proc.wait_json("stdout", event="end", skip=number) for proc in (plain, hooked)]
            assert said[0] == said[1], what
    reasons = {line["reason"] for line in plain.jsons("stdout") if "reason" in line}
    assert len(reasons) > 10, reasons  # they were different things


# ---- a hooked client, servers that are not -------------------------------------------------------


def s_server(certs, *options):
    argv = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certs["cert"], "-key", certs["key"], "-www",
            *options]
    return running(argv, lambda proc: int(proc.wait_text("ACCEPT").rsplit(":", 1)[1]))


def gnutls_serv(certs, *options):
    port = recorder.unused_port()  # it cannot say which port it took
    argv = ["gnutls-serv", "--http", "--port", str(port), "--x509certfile", certs["cert"], "--x509keyfile", certs["key"],
            *options]

    def listening(proc):
        proc.wait_listening(port, tables=("tcp",))
        return port
    return running(argv, listening)


# name: (server, its options, options of the subject, connections, slack, does it succeed)
CLIENTS = {
    "1.3": (s_server, [], [], 1, TICKET_SLACK, True),
    "1.3-no-tickets": (s_server, ["-num_tickets", "0"], [], 1, 0, True),
    "1.3-retry": (s_server, ["-groups", "P-384", "-num_tickets", "0"], ["--groups", "X25519:P-384"], 1, 0, True),
    "1.3-resumed": (s_server, [], ["--session", "session"], 2, TICKET_SLACK, True),
    "1.3-certificate": (s_server, ["-num_tickets", "0", "-Verify", "1", "-CAfile", "client_ca"],
                        ["--cert", "client_cert", "--key", "client_key"], 1, 0, True),
    "1.2": (s_server, ["-tls1_2", "-no_ticket"], [], 1, 0, True),
    "1.2-resumed": (s_server, ["-tls1_2"], ["--session", "session"], 2, TICKET_SLACK, True),
    "1.2-certificate": (s_server, ["-tls1_2", "-no_ticket", "-Verify", "1", "-CAfile", "client_ca"],
                        ["--cert", "client_cert", "--key", "client_key"], 1, 0, True),
    "gnutls-1.3": (gnutls_serv, ["--noticket"], [], 1, 0, True),
    "gnutls-1.3-retry": (gnutls_serv, ["--noticket", "--priority", "NORMAL:-GROUP-ALL:+GROUP-SECP384R1"],
                         ["--groups", "X25519:P-384"], 1, 0, True),
    "gnutls-1.3-resumed": (gnutls_serv, [], ["--session", "session"], 2, TICKET_SLACK, True),
    "gnutls-1.2": (gnutls_serv, ["--priority", TLS12, "--noticket"], [], 1, 0, True),
    "unknown-authority": (s_server, ["-num_tickets", "0"], ["--verify", "rogue_ca"], 1, 0, False),
    "unknown-authority-1.2": (s_server, ["-tls1_2"], ["--verify", "rogue_ca"], 1, 0, False),
    "no-suite": (s_server, ["-ciphersuites", "TLS_AES_256_GCM_SHA384", "-tls1_3"],
                 ["--suites", "TLS_AES_128_GCM_SHA256"], 1, 0, False),
}


def record_client(certs, folder, case, hook):
    """The connections of the subject with one server, and how it says that each ended."""
    server, options, words, count, _, ok = case
    session = os.path.join(folder, f"session-{hook is not None}-{len(os.listdir(folder))}")
    names = {**certs, "session": session}
    fill = lambda list_: [names.get(word, word) for word in list_]
    verify = [] if "--verify" in words else ["--verify", certs["ca"]]
    said = []
    with server(certs, *fill(options)) as (_, port), Recorder(port) as relay:
        for _ in range(count):
            proc = Proc([SUBJECT, "client", str(relay.port), "--answer", "0", *verify, *fill(words),
                         *(["--hook", hook] if hook else [])])
            try:
                assert (proc.wait() == 0) == ok, proc.log()
                tools.check_sanitizer(proc)
                said.append(proc.wait_json("stdout", event="end"))
            finally:
                proc.stop()
        relay.wait()
    return relay.connections, said


def without_ours(connection):
    """Takes our extension out of the ClientHellos: each has it once."""
    direction = connection.client
    for number, (kind, length, hello) in enumerate(direction.messages):
        if kind != 1:
            continue
        found = [size for type_, size in hello[-1] if type_ == OURS]
        assert len(found) == 1, hello
        extra = 4 + found[0]
        rest = tuple(pair for pair in hello[-1] if pair[0] != OURS)
        direction.messages[number] = (kind, length - extra, hello[:-1] + (rest,))
        at = [i for i, one in enumerate(direction.records) if one[0] == "handshake"][number]
        direction.records[at] = (*direction.records[at][:2], direction.records[at][2] - extra)
    return connection


@pytest.fixture
def refused_port():
    """Bound, not listening: whoever connects is refused."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.mark.parametrize("name", CLIENTS)
def test_hooked_client(certs, tmp_path, refused_port, name):
    """Hooked without a path, or with policy off, nothing at all differs; with one, our extension alone."""
    case = CLIENTS[name]
    slack, ok = case[4:]
    plain, said = record_client(certs, str(tmp_path), case, None)
    assert len(plain) == case[3] and all(line["handshake"] == ok for line in said), said
    assert [line["resumed"] for line in said] == [False, True][:len(said)]
    for hook in ("policy=off", "policy=prefer", f"policy=prefer path2=remote=127.0.0.1:{refused_port}"):
        hooked, also_said = record_client(certs, str(tmp_path), case, hook)
        if "path2" in hook:
            hooked = [without_ours(connection) for connection in hooked]
        assert len(hooked) == len(plain)
        for one, other in zip(plain, hooked):
            assert differences(one, other, slack) == "", hook
        assert also_said == said


# ---- time ----------------------------------------------------------------------------------------


def handshake_time(certs, port):
    context = ssl.create_default_context(cafile=certs["ca"])
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as sock, context.wrap_socket(
            sock, server_hostname=certs["name"]) as tls:
        tls.sendall(GET)
        assert tls.recv(4)
    return time.monotonic() - began


def alert_time(_, port):
    began = time.monotonic()
    got = exchange(port, record(22, b"\x01\0\0\x04\x03\x03\0\0"))
    assert got.records[0][0].startswith("alert"), got
    return time.monotonic() - began


@pytest.mark.parametrize("measure", [handshake_time, alert_time])
def test_timing(certs, measure):
    """Of the same class: the medians of interleaved runs differ by less than half, plus a millisecond of noise; any wait
    of ours (a nap, a grace, a look at the clock of an event loop) is longer or as long."""
    times = {None: [], SERVER_HOOK: []}
    with contextlib.ExitStack() as stack:
        ports = {hook: stack.enter_context(subject(certs, hook=hook))[1] for hook in times}
        for _ in range(60):
            for hook, port in ports.items():
                times[hook].append(measure(certs, port))
    plain, hooked = (statistics.median(of) for of in times.values())
    assert hooked <= plain * (3 if tools.sanitizer() else 1.5) + 0.001, (plain, hooked)
