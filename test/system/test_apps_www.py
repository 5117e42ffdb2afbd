"""mtls-server --www and mtls-client --get over ordinary TLS, on the loopback."""

import hashlib
import json
import socket
import ssl
import threading

import pytest

from plain_tools import (WAIT, certs, client, connect, raw, read_all, read_response, run, serve,  # noqa: F401
                         site, start)

@pytest.mark.parametrize("path, body", [
    ("/", b"<p>front</p>\n"), ("/index.html", b"<p>front</p>\n"), ("/sub", b"<p>sub</p>\n"),
    ("/sub/", b"<p>sub</p>\n"), ("/a%20b.txt", b"with a space\n"), ("/empty", b""),
    ("/in", b"with a space\n"), ("/sub/../index.html?query", b"<p>front</p>\n"), ("//sub", b"<p>sub</p>\n"),
])
def test_get(serve, certs, site, path, body):
    server = serve("--www", site)
    done = client(certs, "--get", path, f"localhost:{server.port}")
    assert (done.returncode, done.stdout) == (0, body), done.stderr


def test_get_big_is_the_same_file(serve, certs, site):
    server = serve("--www", site)
    done = client(certs, "--get", "/big", f"127.0.0.1:{server.port}")
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256((site / "big").read_bytes()).digest()


@pytest.mark.parametrize("path", ["/none", "/out", "/up", "/../secret", "/%2e%2e/secret", "/sub/../../secret",
                                  "/..%2fsecret", "/fifo", "/index.html/", "//etc/passwd"])
def test_what_is_not_there_or_leads_out_is_404(serve, certs, site, path):
    server = serve("--www", site)
    answer = raw(certs, server.port, f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ") and b"outside" not in answer and b"root:" not in answer
    done = client(certs, "--json", "--get", path, f"localhost:{server.port}")
    result = json.loads(done.stderr.decode().splitlines()[-1])
    assert (done.returncode, done.stdout) == (3, b"")
    assert result["event"] == "result" and result["outcome"] == "plain" and "404" in result["error"]


@pytest.mark.parametrize("request_bytes, status", [
    (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200),
    (b"\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200),
    (b"GET / HTTP/1.0\r\n\r\n", 200),
    (b"GET https://h/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: a\n\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET index.html HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"\x16\x03\x01 garbage\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", 405),
    (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 17000 + b"\r\n\r\n", 431),
])
def test_status(serve, certs, site, request_bytes, status):
    server = serve("--www", site)
    answer = raw(certs, server.port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1


def test_head_keep_alive_and_pipeline(serve, certs, site):
    server = serve("--www", site)
    with connect(certs, server.port) as sock:
        stream = sock.makefile("rb")
        sock.sendall(b"HEAD /big HTTP/1.1\r\nHost: h\r\n\r\n")
        status, fields, _ = read_response(stream, head=True)
        assert (status, int(fields["content-length"])) == (200, 8_000_003)
        paths = [b"/", b"/none", b"/big", b"/empty", b"/sub"] * 20
        sock.sendall(b"".join(b"GET " + p + b" HTTP/1.1\r\nHost: h\r\n\r\n" for p in paths[:5]))
        seen = [read_response(stream) for _ in paths[:5]]
        assert [s for s, _, _ in seen] == [200, 404, 200, 200, 200]
        assert seen[2][2] == (site / "big").read_bytes() and seen[4][2] == b"<p>sub</p>\n"
    assert len(server.events("session")) == 1


def test_request_byte_by_byte(serve, certs, site):
    server = serve("--www", site)
    with connect(certs, server.port) as sock:
        for byte in b"GET /sub/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert read_all(sock).endswith(b"<p>sub</p>\n")


def test_curl(serve, certs, site):
    server = serve("--www", site)
    base = f"https://127.0.0.1:{server.port}"
    done = run("curl", "-sS", "--cacert", str(certs.ca), base + "/", base + "/sub/")
    assert (done.returncode, done.stdout) == (0, b"<p>front</p>\n<p>sub</p>\n"), done.stderr
    assert len(server.events("session")) == 1


def test_tls12_client_is_served_with_policy_off(serve, certs, site):
    server = serve("--www", site)
    with connect(certs, server.port, maximum=ssl.TLSVersion.TLSv1_2) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert read_all(sock).endswith(b"<p>front</p>\n")


def test_get_through_chunked_server(certs, start):
    """A foreign server's chunked answer, cut into small records."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.cert, certs.key)
    answers = {
        b"/chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                      b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: t\r\n\r\n", 0, b"hello world"),
        b"/continue": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0,
                       b"ok"),
        b"/close": (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 0, b"until the end"),
        b"/short": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", 3, b"short"),
        b"/unfinished": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 3, b"hello"),
        b"/garbage": (b"SSH-2.0-x\r\n", 3, b""),
        b"/error": (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nbody", 3, b""),
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve_all():
            for _ in answers:
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as sock:
                    path = sock.recv(4096).split()[1]
                    for byte in answers[path][0]:
                        sock.sendall(bytes([byte]))
                    try:
                        sock.unwrap()
                    except OSError:
                        pass

        thread = threading.Thread(target=serve_all, daemon=True)
        thread.start()
        for path, (_, code, body) in answers.items():
            done = client(certs, "--get", path.decode(), f"127.0.0.1:{port}")
            assert (path, done.returncode, done.stdout) == (path, code, body)
        thread.join(WAIT)
