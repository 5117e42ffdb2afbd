"""Unmodified programs under the preload library: verified, refused, and told why."""

import os
import time

import pytest

from conftest import SECRET
from mtlslab import attack, stock, tools
from mtlslab.proc import DEADLINE
from preload_tools import (LIBRARY, Wrap, client_words, curl_argv, nginx, wrapped_server)

PYTHON = "/usr/bin/python3"

URLLIB = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
with urllib.request.urlopen(sys.argv[2], context=context, timeout=20) as answer:
    sys.stdout.buffer.write(answer.read())
"""


def s_client(lab, pki, server, wrap, *options, cafile=None):
    return lab.run(lab.client, wrap.argv([
        "openssl", "s_client", "-connect", tools.join(server.host, server.port), "-servername",
        pki.name, "-CAfile", cafile or pki.cafile, "-verify_return_error", "-quiet", "-ign_eof",
        *options]), stdin=stock.GET)


def curl(lab, pki, server, wrap, *options, cafile=None):
    return lab.run(lab.client, wrap.argv(curl_argv(pki, server.host, server.port, *options,
                                                   cafile=cafile)))


def urllib(lab, pki, server, wrap, cafile=None):
    return lab.run(lab.client, wrap.argv([PYTHON, "-c", URLLIB, cafile or pki.cafile,
                                          f"https://{pki.name}:{server.port}/file"]))


CLIENTS = {"s_client": s_client, "curl": curl, "urllib": urllib}


@pytest.mark.parametrize("name", CLIENTS)
def test_client_verified(lab, pki, server, tmp_path, name):
    wrap = Wrap(tmp_path, client_words(lab, server))
    proc = CLIENTS[name](lab, pki, server, wrap)
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    (line,) = wrap.wait()
    assert (line["outcome"], line["scope"]) == ("verified", "client")
    assert [path["device"] for path in line["paths"]] == ["p1", "p2"]
    assert server.session()["outcome"] == "verified"


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("kind", ["strips", "carries"])
def test_client_refuses_interception(lab, pki, www, tmp_path, mitm_ext, name, kind):
    """The same interceptor succeeds with the same program where it is not wrapped."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    if kind == "strips":
        mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
        plain = Wrap(tmp_path, "policy=off", name="plain")
        proc = CLIENTS[name](lab, pki, server, plain, cafile=pki.bundle)
        assert SECRET in proc.stdout and SECRET in mitm.record, proc.log()
        with open(mitm.record_file, "wb"):
            pass
    else:
        mitm = attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    wrap = Wrap(tmp_path, client_words(lab, server))
    proc = CLIENTS[name](lab, pki, server, wrap, cafile=pki.bundle)
    assert proc.wait() != 0 and SECRET not in proc.stdout and mitm.record == b"", proc.log()
    (line,) = wrap.wait()
    assert line["outcome"] == "failed"
    assert line["message"].encode() in proc.stderr, proc.log()


def test_reason_is_readable(lab, pki, www, tmp_path):
    server = tools.Server(lab, pki, www=www)
    lab.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    for name, run in CLIENTS.items():
        wrap = Wrap(tmp_path, client_words(lab, server), name=name)
        proc = run(lab, pki, server, wrap)
        assert proc.wait() != 0 and b"path 2 was refused" in proc.stderr, proc.log()
        assert wrap.wait()[0]["reason"] == "path2-refused"


def test_nginx_serves_verified_clients_alone(lab, pki, www, tmp_path):
    service = wrapped_server(lab, pki, tmp_path,
                             lambda port, wrap: nginx(lab, pki, tmp_path, www, port, wrap))
    for _ in range(3):
        result = tools.client(lab, pki, service)
        assert (result.code, result.outcome) == (0, "verified"), result
        assert SECRET in result.body
    wrapped = curl(lab, pki, service, Wrap(tmp_path, client_words(lab, service)), "--http2", "-v")
    assert wrapped.wait() == 0 and SECRET in wrapped.stdout, wrapped.log()
    assert b"server accepted h2" in wrapped.stderr, wrapped.log()
    assert len(service.wrap.wait(4, outcome="verified")) == 4
    plain = tools.curl(lab, pki, service.host, service.port)
    assert plain.wait() != 0 and SECRET not in plain.stdout
    assert service.wrap.wait(1, outcome="failed")[0]["reason"] == "not-offered"


def proxy(lab, pki, server, folder, wrap):
    """nginx in the client's place; returns its process and a request through it."""
    location = f"""location / {{ proxy_pass https://{server.host}:{server.port};
        proxy_ssl_server_name on; proxy_ssl_name {pki.name}; proxy_ssl_protocols TLSv1.3;
        proxy_ssl_verify on; proxy_ssl_trusted_certificate {pki.cafile};
        proxy_ssl_session_reuse off; }}"""
    port = lab.port()
    proc = nginx(lab, pki, folder, folder, port, wrap, tls="", location=location,
                 ns=lab.client, address="127.0.0.1")
    proc.wait_listening(port)
    return proc, lambda: lab.run(lab.client, ["curl", "-sS", "--noproxy", "*",
                                              f"http://127.0.0.1:{port}/file"])


def test_nginx_as_proxy(lab, pki, server, tmp_path):
    """nginx as a TLS client, which reads ahead; its own client speaks plain HTTP on loopback."""
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:100")
    wrap = Wrap(tmp_path, client_words(lab, server))
    _, get = proxy(lab, pki, server, tmp_path, wrap)
    for count in range(1, 4):
        got = get()
        assert got.wait() == 0 and SECRET in got.stdout, got.log()
        assert len(wrap.wait(count, outcome="verified")) == count
    nowhere = Wrap(tmp_path, client_words(lab, host=server.host, port=lab.port()), name="nowhere")
    proc, get = proxy(lab, pki, server, tmp_path, nowhere)
    got = get()
    assert b"502 Bad Gateway" in got.stdout and SECRET not in got.stdout, got.log()
    proc.wait_text("path 2 was refused", "stderr")


def test_message_callback_is_shared(lab, pki, server, tmp_path):
    """curl -v and s_client -msg show the handshake's messages, and path 2 confirms all the same."""
    for run, option, text in ((curl, "-v", b"TLS handshake, Finished (20)"),
                              (s_client, "-msg", b"Handshake [length 0034], Finished")):
        wrap = Wrap(tmp_path, client_words(lab, server), name=option)
        proc = run(lab, pki, server, wrap, option)
        assert proc.wait() == 0, proc.log()
        assert text in proc.stdout + proc.stderr, proc.log()
        assert wrap.wait()[0]["outcome"] == "verified"


def test_child_without_tls_is_unchanged(lab, tmp_path):
    wrap = Wrap(tmp_path, "policy=require path2=dev=p2")
    maps = lab.run(lab.client, wrap.argv(["cat", "/proc/self/maps"]))
    assert maps.wait() == 0 and b"libmtls-preload" in maps.stdout
    assert not any(name in maps.stdout for name in (b"libssl", b"libcrypto", b"libmtls.so"))
    fds = lab.run(lab.client, wrap.argv(["ls", "/proc/self/fd"]))
    bare = lab.run(lab.client, ["ls", "/proc/self/fd"])
    assert fds.stdout == bare.stdout
    assert wrap.lines() == []
    assert [line["program"] for line in wrap.lines("loaded")] == ["cat", "ls"]
    assert os.path.exists(LIBRARY)


EARLY = """
import socket, ssl, sys
cafile, name, port = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
with socket.create_connection((name, int(port)), timeout=20) as plain:
    print("connected", flush=True)
    sys.stdin.readline()
    with context.wrap_socket(plain, server_hostname=name) as conn:
        conn.sendall(b"GET /file HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n" % name.encode())
        while data := conn.recv(65536):
            sys.stdout.buffer.write(data)
"""


def wait_connected(pid, port):
    """Until somebody is connected to this port in the namespace of pid."""
    limit = time.monotonic() + DEADLINE
    while time.monotonic() < limit:
        with open(f"/proc/{pid}/net/tcp", encoding="ascii") as rows:
            for row in rows:
                word = row.split()
                if word[3] == "01" and word[1].endswith(f":{port:04X}"):
                    return
        time.sleep(0.01)
    raise AssertionError(f"nobody connected to {port}")


def test_path2_opens_with_connect(lab, pki, www, tmp_path):
    """Path 2 does not wait for the ClientHello where the name that was looked up is one that the
    configuration names; of another host it learns nothing early."""
    far = lab.server_addr(2)
    server = tools.Server(lab, pki, www=www, path2_listen=[tools.join(far, 0)])
    for words, early in (({}, False), ({"name": pki.name}, True)):
        wrap = Wrap(tmp_path, client_words(lab, server, host=far, tfo="off", **words),
                    name=f"early{early}")
        proc = lab.spawn(lab.client, wrap.argv([PYTHON, "-c", EARLY, pki.cafile, pki.name,
                                                server.port]), stdin=True)
        proc.wait_text("connected")
        if early:
            wait_connected(server.proc.pid, server.path2_port)
        proc.write(b"\n")
        assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
        (line,) = wrap.wait(outcome="verified")
        assert (line["times_us"]["path2_connected"] < 0) == early, line


def test_datagram_tls_is_left_alone(lab, pki, tmp_path):
    port = lab.port()
    lab.spawn(lab.server, ["openssl", "s_server", "-dtls1_2", "-accept", f"{lab.addr}:{port}", "-cert",
                           pki.cert, "-key", pki.key, "-quiet"], stdin=True, name="dtls")
    wrap = Wrap(tmp_path, "policy=require path2=dev=p2")
    client = lab.spawn(lab.client, wrap.argv([
        "openssl", "s_client", "-dtls1_2", "-connect", f"{lab.addr}:{port}", "-CAfile", pki.cafile,
        "-verify_return_error"]), stdin=True)
    client.wait_text("Verify return code: 0 (ok)")
    (line,) = wrap.lines()
    assert line["event"] == "notice" and "DTLS and QUIC are left alone" in line["why"], line
    wrap = Wrap(tmp_path, "policy=require path2=dev=p2", name="tls")
    made = "import ssl; ssl.create_default_context(); ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"
    assert lab.run(lab.client, wrap.argv(["/usr/bin/python3", "-c", made])).wait() == 0 and wrap.lines() == []


CLOSES = """
import os, socket, ssl, sys, time
cafile, name, host, port = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
plain = socket.create_connection((host, int(port)))
plain.setblocking(False)
conn = context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
import select
while True:
    try:
        conn.do_handshake()
    except ssl.SSLWantReadError:
        if not select.select([conn], [], [], 0.5)[0]:
            break  # held: path 2 is silent
print("copies", sum(os.path.realpath(f"/proc/self/fd/{n}") == os.path.realpath(f"/proc/self/fd/{conn.fileno()}")
                    for n in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{n}")))
inode = os.path.realpath(f"/proc/self/fd/{conn.fileno()}")
os.close(conn.fileno())
def left():
    return sum(os.path.realpath(f"/proc/self/fd/{n}") == inode for n in os.listdir("/proc/self/fd")
               if os.path.lexists(f"/proc/self/fd/{n}"))
limit = time.monotonic() + 10 # another thread closes the copy, at once
while left() > 0 and time.monotonic() < limit:
    time.sleep(0.001)
print("left", left(), flush=True)
os.read(0, 1)
conn.detach()
"""


def test_close_before_free(lab, pki, server, tmp_path):
    """The program closes its socket in mid-handshake and keeps the SSL: no copy of ours keeps the
    connection open."""
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:5000")
    wrap = Wrap(tmp_path, client_words(lab, server))
    proc = lab.spawn(lab.client, wrap.argv([PYTHON, "-c", CLOSES, pki.cafile, pki.name, server.host,
                                            server.port]), stdin=True)
    proc.wait_text("left 0")
    proc.wait_text("copies 2")
    proc.write(b"x")
    assert proc.wait() == 0, proc.log()
