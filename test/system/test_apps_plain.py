"""mtls-client and mtls-server as TLS tools, on the loopback with policy=off: what they are apart from
Multipath TLS."""

import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from plain_tools import (BUILD, CLIENT, SERVER, WAIT, certs, client, connect, read_all, run, serve,  # noqa: F401
                         site, start)

# ---- echo and pipe ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 5_000_000])
def test_pipe_through_echo(serve, certs, size):
    server = serve("--echo")
    data = os.urandom(size)
    done = client(certs, f"localhost:{server.port}", stdin=None, input=data)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


def test_pipe_from_file_to_file(serve, certs, tmp_path):
    server = serve("--echo")
    (tmp_path / "in").write_bytes(os.urandom(3_000_000))
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        done = subprocess.run([CLIENT, "--cafile", str(certs.ca), "--policy", "off",
                               f"localhost:{server.port}"], stdin=source, stdout=sink, timeout=WAIT)
    assert done.returncode == 0
    assert (tmp_path / "in").read_bytes() == (tmp_path / "out").read_bytes()


def test_client_goes_on_reading_after_its_end_of_input(certs):
    """Half-close: close_notify goes out at the end of standard input, the answer comes after it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.cert, certs.key)
    got = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_one():
            plain, _ = listener.accept()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_side=True)

            def step(function, *args):
                while True:
                    try:
                        result = function(*args)
                        plain.sendall(outgoing.read())
                        return result
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        incoming.write(plain.recv(65536))
                    except ssl.SSLZeroReturnError:
                        return b""

            step(tls.do_handshake)
            while piece := step(tls.read, 65536):
                got.append(piece)
            step(tls.write, b"answer after the end")
            try:
                tls.unwrap()
            except ssl.SSLError:
                pass
            plain.sendall(outgoing.read())
            plain.close()

        thread = threading.Thread(target=serve_one, daemon=True)
        thread.start()
        done = client(certs, f"127.0.0.1:{listener.getsockname()[1]}", stdin=None, input=b"question")
        thread.join(WAIT)
    assert (done.returncode, done.stdout, b"".join(got)) == (0, b"answer after the end", b"question")


def test_cut_connection_is_not_an_end(certs):
    """Without close_notify what came is delivered, but the exit code says that it may not be all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.cert, certs.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_one():
            plain, _ = listener.accept()
            sock = context.wrap_socket(plain, server_side=True)
            sock.sendall(b"partial")
            sock.close()

        thread = threading.Thread(target=serve_one, daemon=True)
        thread.start()
        process = subprocess.Popen([CLIENT, "--cafile", str(certs.ca), "--policy", "off",
                                    f"127.0.0.1:{listener.getsockname()[1]}"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.wait(WAIT) == 3
        assert process.stdout.read() == b"partial"
        thread.join(WAIT)
        process.communicate()


# ---- forward ---------------------------------------------------------------------------------------


@pytest.fixture
def backend():
    """Reads to the end of the input, then answers with its length and hash: needs half-close."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve_one(sock):
        with sock:
            data = read_all(sock)
            sock.sendall(f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode())

    def accept():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve_one, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize("size", [0, 10, 4_000_000])
def test_terminator_keeps_half_close(serve, certs, backend, size):
    server = serve("--forward", f"127.0.0.1:{backend}")
    data = os.urandom(size)
    done = client(certs, f"localhost:{server.port}", stdin=None, input=data)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{size} {hashlib.sha256(data).hexdigest()}"


def test_client_forward_to_server_forward(serve, start, certs, backend):
    server = serve("--forward", f"localhost:{backend}")
    tunnel = start(CLIENT, "--cafile", certs.ca, "--policy", "off", "--json", "--forward", "127.0.0.1:0",
                   f"localhost:{server.port}")
    socks = [socket.create_connection(("127.0.0.1", tunnel.port), timeout=WAIT) for _ in range(20)]
    for number, sock in enumerate(socks):
        sock.sendall(b"x" * number)
    for number, sock in enumerate(socks):
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).decode().split()[0] == str(number)
        sock.close()
    assert tunnel.wait_for("session", 20)["outcome"] == "plain"
    assert tunnel.stop() == 0


def test_backend_that_is_down_cuts_the_connection(serve, certs):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = serve("--forward", f"127.0.0.1:{port}")
    done = client(certs, f"localhost:{server.port}", stdin=None, input=b"data")
    assert done.returncode == 3
    assert "backend" in server.wait_for("error")["message"]


def test_slow_reader_holds_the_sender_back(serve, certs):
    """Back-pressure: with nobody reading, the server takes a bounded amount only."""
    server = serve("--echo")
    with connect(certs, server.port) as sock:
        sock.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 200_000_000:
                sent += sock.send(b"y" * 65536)
    assert sent < 200_000_000


# ---- client certificates, authorities, names -------------------------------------------------------


def test_client_certificate(serve, certs, site):
    server = serve("--www", site, "--client-ca", certs.ca)
    good = client(certs, "--get", "/", "--cert", certs.client_cert, "--key", certs.client_key,
                  f"localhost:{server.port}")
    assert (good.returncode, good.stdout) == (0, b"<p>front</p>\n"), good.stderr
    bad = client(certs, "--get", "/", f"localhost:{server.port}")
    assert (bad.returncode, bad.stdout) == (3, b"")
    assert server.wait_for("error")["outcome"] == "failed"


@pytest.mark.parametrize("host, extra, code", [
    ("localhost", [], 0), ("127.0.0.1", [], 0),
    ("127.0.0.1", ["--servername", "localhost"], 0), ("127.0.0.1", ["--servername", "other.example"], 3),
    ("localhost", ["--servername", "127.0.0.2"], 3),
    ("localhost", ["--connect", "127.0.0.1"], 0), ("other.example", ["--connect", "127.0.0.1"], 3),
])
def test_whom_the_certificate_must_name(serve, certs, site, host, extra, code):
    server = serve("--www", site)
    done = client(certs, "--json", "--get", "/", *extra, f"{host}:{server.port}")
    result = json.loads(done.stderr.decode().splitlines()[-1])
    assert done.returncode == code
    assert (result["outcome"], result["reason"]) == (("plain", "") if code == 0 else ("failed", "certificate"))
    assert (done.stdout == b"") == (code != 0)


def test_unknown_authority_and_unsafe_no_verify(serve, site):
    server = serve("--www", site)
    done = run(CLIENT, "--policy", "off", "--get", "/", f"localhost:{server.port}")
    assert (done.returncode, done.stdout) == (3, b"") and b"certificate" in done.stderr
    done = run(CLIENT, "--policy", "off", "--get", "/", "--unsafe-no-verify", f"localhost:{server.port}")
    assert (done.returncode, done.stdout) == (0, b"<p>front</p>\n")
    assert b"warning" in done.stderr and b"NOT checked" in done.stderr


def test_reload_takes_the_new_certificate(start, serve, certs, tmp_path):
    cert, key = tmp_path / "live.pem", tmp_path / "live.key"
    cert.write_bytes(certs.cert.read_bytes())
    key.write_bytes(certs.key.read_bytes())
    server = serve("--echo", cert=cert, key=key)

    def seen():
        with connect(certs, server.port) as sock:
            return sock.getpeercert()["serialNumber"]

    first = seen()
    new_cert, new_key = certs.issue("renewed", "DNS:localhost,IP:127.0.0.1")
    cert.write_bytes(new_cert.read_bytes())
    server.process.send_signal(signal.SIGHUP)  # the old key beside the new certificate
    server.wait_for("error")
    assert seen() == first
    key.write_bytes(new_key.read_bytes())
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("reloaded")
    assert seen() != first
    assert server.stop() == 0


def test_resumption_across_a_restart_with_a_shared_ticket_key(serve, certs, tmp_path, site):
    keys, session = tmp_path / "ticket.key", tmp_path / "session.pem"
    keys.write_bytes(os.urandom(80))
    keys.chmod(0o600)

    def reused(server):
        done = run("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(certs.ca),
                   "-sess_in", str(session), stdin=None, input=b"")
        return b"Reused, TLSv1.3" in done.stdout

    first = serve("--www", site, "--ticket-key", keys)
    done = client(certs, "--get", "/", "--sess-out", session, f"localhost:{first.port}")
    assert done.returncode == 0
    assert session.stat().st_mode & 0o777 == 0o600
    assert first.stop() == 0
    assert reused(serve("--www", site, "--ticket-key", keys))
    assert not reused(serve("--www", site))
    second = serve("--www", site, "--ticket-key", keys)
    done = client(certs, "--get", "/", "--sess-in", session, f"localhost:{second.port}")
    assert (done.returncode, done.stdout) == (0, b"<p>front</p>\n")


def test_alpn(serve, certs, site):
    server = serve("--www", site, "--alpn", "x/2,x/1")
    base = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(certs.ca)]
    done = run(*base, "-alpn", "x/1,x/2", stdin=None, input=b"")
    assert b"ALPN protocol: x/2" in done.stdout
    done = run(*base, "-alpn", "y", stdin=None, input=b"")
    assert b"no application protocol" in done.stderr


def test_keylog(serve, certs, site, tmp_path):
    log = tmp_path / "keys.log"
    server = serve("--www", site)
    done = client(certs, "--get", "/", f"localhost:{server.port}", env={**os.environ, "SSLKEYLOGFILE": str(log)})
    assert done.returncode == 0 and b"SSLKEYLOGFILE" in done.stderr
    assert log.stat().st_mode & 0o777 == 0o600
    assert {line.split()[0] for line in log.read_text().splitlines()} >= {
        "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET"}


# ---- stopping, limits ------------------------------------------------------------------------------


def test_sigterm_with_nothing_open(serve):
    assert serve("--echo").stop() == 0


def test_sigterm_finishes_the_answer_and_refuses_newcomers(serve, certs, site):
    server = serve("--www", site, "--drain-timeout", "20")
    with connect(certs, server.port) as sock:
        stream = sock.makefile("rb")
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
        begun = stream.read(100)
        server.process.send_signal(signal.SIGTERM)
        rest = stream.read()
    assert (begun + rest).endswith((site / "big").read_bytes())
    assert server.process.wait(WAIT) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)


def test_sigterm_drain_timeout_ends_what_does_not_end(serve, certs):
    server = serve("--echo", "--drain-timeout", "0")
    with connect(certs, server.port) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert server.stop() == 0
        with pytest.raises(OSError):
            sock.recv(1)


def test_max_connections_lets_the_next_one_wait(serve, certs):
    server = serve("--echo", "--max-connections", "1")
    first = connect(certs, server.port)
    second = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
    context = ssl.create_default_context(cafile=str(certs.ca))
    second.settimeout(0.3)
    with pytest.raises(TimeoutError):
        context.wrap_socket(second, server_hostname="localhost")
    second.close()
    first.close()
    with connect(certs, server.port) as third:
        third.sendall(b"z")
        assert third.recv(1) == b"z"


def test_idle_timeout(serve, certs):
    server = serve("--echo", "--idle-timeout", "1")
    with connect(certs, server.port) as sock:
        with pytest.raises(OSError):
            sock.recv(1)


def test_many_connections_at_once(serve, certs, site):
    server = serve("--www", site)
    socks = [connect(certs, server.port) for _ in range(300)]
    for sock in socks:
        sock.sendall(b"GET /sub/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    for sock in socks:
        assert read_all(sock).endswith(b"<p>sub</p>\n")
        sock.close()
    assert server.stop() == 0


# ---- exit codes, usage, output ---------------------------------------------------------------------


def test_connect_refused(certs):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = client(certs, "--json", "--get", "/", f"127.0.0.1:{port}")
    result = json.loads(done.stderr.decode().splitlines()[-1])
    assert done.returncode == 3
    assert (result["event"], result["outcome"], result["reason"]) == ("result", "failed", "connect")


def test_no_such_host(certs):
    done = client(certs, "--json", "--get", "/", "no-such-host.invalid:443")
    result = json.loads(done.stderr.decode().splitlines()[-1])
    assert (done.returncode, result["outcome"], result["reason"]) == (3, "failed", "look-up")


def test_server_that_is_not_tls(certs):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            sock, _ = listener.accept()
            sock.sendall(b"SSH-2.0-OpenSSH\r\n" * 10)
            sock.recv(1)
            sock.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        done = client(certs, "--json", "--get", "/", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join(WAIT)
    result = json.loads(done.stderr.decode().splitlines()[-1])
    assert (done.returncode, result["outcome"], result["reason"]) == (3, "failed", "tls")


def test_picture_with_verbose(serve, certs, site):
    server = serve("--www", site)
    done = client(certs, "-v", "--get", "/", f"localhost:{server.port}")
    assert f"localhost:{server.port}  plain  TLSv1.3" in done.stderr.decode()
    assert client(certs, "--get", "/", f"localhost:{server.port}").stderr == b""


CLIENT_USAGE = [
    [], ["localhost"], ["localhost:0"], ["localhost:70000"], ["::1:443"], ["a:1", "b:2"],
    ["--unknown", "a:1"], ["--ge", "/", "a:1"], ["--get"], ["--get", "x", "a:1"], ["--get", "/a b", "a:1"],
    ["--get", "/", "--get", "/", "a:1"], ["--get", "/", "--head", "/", "a:1"],
    ["--get", "/", "--forward", "127.0.0.1:0", "a:1"], ["--json=yes", "a:1"], ["-4", "-6", "a:1"],
    ["--cert", "x", "a:1"], ["--key", "x", "a:1"], ["--policy", "maybe", "a:1"],
    ["--policy", "off", "--path2", "auto", "a:1"], ["--policy", "off", "--need", "2", "a:1"],
    ["--need", "0", "a:1"], ["--deadline", "1", "a:1"], ["--deadline", "x", "a:1"], ["--timeout", "0", "a:1"],
    ["--unsafe-no-verify", "--cafile", "x", "a:1"], ["--connect", "name", "a:1"],
    ["--connect", "192.0.2.1", "192.0.2.2:1"], ["-6", "192.0.2.2:1"], ["--path2", "a b", "a:1"],
    ["forget", "a:1"], ["--alpn", ",", "a:1"], ["--cafile", "", "a:1"], ["-x", "a:1"],
    ["--cafile", "/nonexistent", "a:1"], ["--sess-in", "/nonexistent", "a:1"],
    ["--sess-out", "/nonexistent/session", "a:1"],
    ["--sess-out", "/dev/null/session", "a:1"], ["--hosts", "/tmp/hosts", "a:1"],
    ["--forward", "nonsense", "127.0.0.1:1"], ["--policy", "off", "--forward", "192.0.2.77:0", "127.0.0.1:1"],
]


@pytest.mark.parametrize("args", CLIENT_USAGE, ids=" ".join)
def test_client_usage_errors(args):
    done = run(CLIENT, *args)
    assert done.returncode == 1 and done.stderr.startswith(b"mtls-client: ")
    assert done.stdout == b""
    said = json.loads(run(CLIENT, "--json", *args).stderr.splitlines()[-1])
    if args.count("--json=yes") == 0:
        assert said["outcome"] == "failed" and said["event"] == "error" and said["message"] != ""


@pytest.mark.parametrize("args, says", [
    (["forget"], b"forget needs --hosts FILE"), (["forget", "--hosts", "/nowhere"], b"HOST:PORT is missing"),
    (["forget", "--hosts", "/nowhere", "a:1", "b:1"], b"unexpected argument b:1"),
])
def test_forget_says_what_is_missing(args, says):
    for program in (CLIENT, str(BUILD / "apps" / "smkex-client")):
        done = run(program, *args)
        assert done.returncode == 1 and says in done.stderr, done.stderr


def test_check_gives_up_on_a_silent_server():
    """The handshake may take five seconds more than the deadline, whatever a connect may take."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = run(CLIENT, "check", "--json", "--path2", f"remote=127.0.1.1:{port},distinct=server",
                   "--deadline", "100", "--timeout", "300", f"127.0.0.1:{port}")
    assert done.returncode == 3 and json.loads(done.stdout)["reason"] == "timeout", done


def test_server_usage_errors(certs, site):
    base = ["--listen", "127.0.0.1:0", "--cert", str(certs.cert), "--key", str(certs.key)]
    off = ["--policy", "off"]
    wrong = [
        [], base, base + ["--www", str(site), "--echo"], base + ["--echo", "--echo"], base + ["--echo", "word"],
        base[2:] + ["--echo"], base[:4] + ["--echo"], base + ["--echo", "--policy", "never"],
        base + off + ["--echo", "--path2-listen", "127.0.0.1:0"], base + ["--echo", "--max-connections", "0"],
        base + ["--forward", "nowhere"], base + off + ["--www", str(site / "big")],
        base + off + ["--www", "/nonexistent"], base + off + ["--echo", "--ticket-key", str(certs.cert)],
        base + off + ["--echo", "--client-ca", str(certs.key)], base + ["--echo", "--config"],
        ["--listen", "localhost:0"] + base[2:] + off + ["--echo"],
        ["--listen", "192.0.2.77:0"] + base[2:] + off + ["--echo"],
        base[:4] + ["--key", str(certs.client_key), "--echo"] + off, base + ["--echo", "--policy", "require"],
        base[:2] + ["--cert", "/nonexistent", "--key", str(certs.key), "--echo"] + off,
    ]
    for args in wrong:
        done = run(SERVER, *args)
        assert done.returncode == 1 and done.stderr.startswith(b"mtls-server: "), args
        assert done.stdout == b""


def test_a_memory_needs_a_policy(serve, certs, site, tmp_path):
    """--hosts without anything to verify with would be plain TLS; who says so gets it."""
    server = serve("--www", site)
    words = ["--cafile", certs.ca, "--hosts", tmp_path / "hosts", "--get", "/", f"localhost:{server.port}"]
    done = run(CLIENT, *map(str, words))
    assert (done.returncode, done.stdout) == (1, b"") and b"--hosts needs --path2 or --policy" in done.stderr
    done = run(CLIENT, "--policy", "off", *map(str, words))
    assert (done.returncode, done.stdout) == (0, (site / "index.html").read_bytes()), done.stderr


def test_require_with_a_listener_from_the_words(start, certs):
    """Its twin without a listener is a usage error."""
    start(SERVER, "--listen", "127.0.0.1:0", "--cert", certs.cert, "--key", certs.key, "--echo", "--json",
          "--policy", "require", "--config", "listen=127.0.0.1:0")


@pytest.mark.parametrize("tool", [CLIENT, SERVER])
def test_help_has_one_column(tool):
    rows = run(tool, "--help").stdout.decode().split("\n\n", 1)[1].splitlines()
    rows = [row for row in rows if row.startswith("  ") and len(row) > 30]
    assert rows and all(row[29] == " " and row[30] != " " for row in rows), rows


@pytest.mark.parametrize("tool", [CLIENT, SERVER])
def test_help_and_version(tool):
    done = run(tool, "--help")
    assert done.returncode == 0 and done.stdout.startswith(b"usage: ") and done.stderr == b""
    assert max(map(len, done.stdout.decode().splitlines())) <= 100
    done = run(tool, "--version")
    assert done.returncode == 0 and re.fullmatch(rb"mtls-(client|server) \d+\.\d+\.\d+\n", done.stdout)
