"""Confirmation by resumption of unmodified programs: the preloaded library with confirm=resume or
auto, and servers that know nothing of it. [RSM-2] to [RSM-5], [RSM-8] to [RSM-16]

Each refusal stands beside a program that is let through; that the attackers win against a program
without the library is test_confirm_resume.py's test_plain_tls_is_read."""

import os
import subprocess
import sys

import pytest

from conftest import SECRET
from mtlslab import attack, check, stock, tools
from preload_tools import Wrap, curl_argv


def words(lab, path=2, confirm="resume", policy="require", port=None, **more):
    extra = "".join(f" {key.replace('_', '-')}={value}" for key, value in more.items())
    remote = lab.addr if port is None else tools.join(lab.addr, port)
    return f"policy={policy} confirm={confirm} path2=dev=p{path},remote={remote}{extra}"


def wrapped(lab, folder, argv, stdin=None, env=None, **how):
    """(the process that has ended, its log)"""
    wrap = Wrap(str(folder), words(lab, **how), name=os.urandom(4).hex(), **(env or {}))
    lab.hosts(lab.client, server_example=lab.addr)
    proc = lab.run(lab.client, wrap.argv(argv), name=os.path.basename(argv[0]), stdin=stdin)
    return proc, wrap.lines()


def curl(lab, pki, folder, server, *options, cafile=None, path="/file", **how):
    return wrapped(lab, folder, curl_argv(pki, lab.addr, server.port, *options, path=path,
                                          cafile=cafile), **how)


def one(lines, outcome, verdict, reason):
    sessions = [line for line in lines if line["event"] == "session"]
    assert len(sessions) == 1, lines
    found = sessions[0]
    assert (found["outcome"], found["verdict"], found["reason"]) == (outcome, verdict, reason), found
    assert found["role"] == "client" and found["mode"] == "resume", found
    return found


def proved(done):
    proc, lines = done
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    return one(lines, "verified", "verified", "resumed")


def refused(done, verdict, reason):
    proc, lines = done
    assert proc.wait() != 0 and SECRET not in proc.stdout, proc.log()
    return one(lines, "failed", verdict, reason)


def nginx(lab, pki, tmp_path, www, **words_):
    return stock.nginx(lab, pki, tmp_path / "nginx", www, **words_)


# ---- programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [["--http1.1"], ["--tlsv1.3", "-v"], ["--tls-max", "1.3"]])
def test_curl(lab, pki, www, tmp_path, options):
    line = proved(curl(lab, pki, tmp_path, nginx(lab, pki, tmp_path, www), *options))
    assert [path["device"] for path in line["paths"]] == ["p1", "p2"], line
    assert line["tickets"]["received"] == 1 and line["name"] == pki.name


def test_curl_http2(lab, pki, www, tmp_path):
    """The server's SETTINGS come with the ticket and are not lost; path 2 gets no preface."""
    server = nginx(lab, pki, tmp_path, www, tls="ssl http2")
    done = curl(lab, pki, tmp_path, server, "--http2", "-w", "%{http_version}")
    proved(done)
    assert done[0].stdout.endswith(b"2"), done[0].log()


PYTHON = """
import socket, ssl, sys
host, port, name, cafile, timeout = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
with socket.create_connection((host, int(port)), timeout=float(timeout) or None) as sock:
    with context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False) as tls:
        tls.sendall(b"GET /file HTTP/1.0\\r\\nHost: server.example\\r\\n\\r\\n")
        data = b""
        while part := tls.recv(65536):
            data += part
print(data.decode())
"""

ASYNCIO = """
import asyncio, ssl, sys
async def main():
    host, port, name, cafile, count = sys.argv[1:]
    context = ssl.create_default_context(cafile=cafile)
    async def one():
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context,
                                                       server_hostname=name)
        writer.write(b"GET /file HTTP/1.0\\r\\nHost: server.example\\r\\n\\r\\n")
        print((await reader.read(1 << 20)).decode())
        writer.close()
    await asyncio.gather(*(one() for _ in range(int(count))))
asyncio.run(main())
"""


def python(lab, pki, tmp_path, server, text, last, cafile=None, **how):
    return wrapped(lab, tmp_path, [sys.executable, "-c", text, lab.addr, str(server.port), pki.name,
                                   cafile or pki.cafile, str(last)], **how)


@pytest.mark.parametrize("timeout", ["0", "20"])
def test_python(lab, pki, www, tmp_path, timeout):
    """A blocking and a non-blocking socket; the handshake begins with the first write."""
    server = nginx(lab, pki, tmp_path, www)
    proved(python(lab, pki, tmp_path, server, PYTHON, timeout))
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    refused(python(lab, pki, tmp_path, server, PYTHON, timeout, cafile=pki.bundle), "alarm",
            "other-key")


THREADS = """
import socket, ssl, sys, threading
host, port, name, cafile, count = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
def one():
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        with context.wrap_socket(sock, server_hostname=name) as tls:
            tls.sendall(b"GET /file HTTP/1.0\\r\\nHost: server.example\\r\\n\\r\\n")
            while part := tls.recv(65536):
                print(part.decode(), end="", flush=True)
threads = [threading.Thread(target=one) for _ in range(int(count))]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_many_at_once(lab, pki, www, tmp_path):
    """Threads of one SSL_CTX, and transfers of one event loop: each connection has its own verdict."""
    server = nginx(lab, pki, tmp_path, www)
    proc, lines = python(lab, pki, tmp_path, server, THREADS, 8)
    assert proc.wait() == 0 and proc.stdout.count(SECRET) == 8, proc.log()
    assert [line["outcome"] for line in lines] == ["verified"] * 8, lines
    url = f"https://{pki.name}:{server.port}/file"
    proc, lines = curl(lab, pki, tmp_path, server, "-Z", "--parallel-immediate", "--http1.1", url,
                       url, url)
    assert proc.wait() == 0 and proc.stdout.count(SECRET) == 4, proc.log()
    assert 1 <= len(lines) <= 4 and {line["outcome"] for line in lines} <= {
        "verified", "resumed-verified"}, lines
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    proc, lines = python(lab, pki, tmp_path, server, THREADS, 8, cafile=pki.bundle)
    assert SECRET not in proc.stdout, proc.log()
    assert [line["reason"] for line in lines if line["event"] == "session"] == ["other-key"] * 8, lines
    check.nothing_stolen(mitm)


def test_asyncio(lab, pki, www, tmp_path):
    """Memory BIOs: what comes on path 1 is fed by the program."""
    server = nginx(lab, pki, tmp_path, www)
    proved(python(lab, pki, tmp_path, server, ASYNCIO, 1))
    proc, lines = python(lab, pki, tmp_path, server, ASYNCIO, 8)
    assert proc.wait() == 0 and proc.stdout.count(SECRET) == 8, proc.log()
    assert [line["outcome"] for line in lines] == ["verified"] * 8, lines
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    refused(python(lab, pki, tmp_path, server, ASYNCIO, 1, cafile=pki.bundle), "alarm", "other-key")
    check.nothing_stolen(mitm)


def s_client_argv(lab, pki, server, *options, cafile=None):
    return ["openssl", "s_client", "-connect", f"{lab.addr}:{server.port}", "-servername", pki.name,
            "-CAfile", cafile or pki.cafile, "-verify_return_error", "-quiet", "-ign_eof", *options]


def s_client(lab, pki, tmp_path, server, *options, cafile=None, **how):
    return wrapped(lab, tmp_path, s_client_argv(lab, pki, server, *options, cafile=cafile),
                   stdin=stock.GET, **how)


@pytest.mark.parametrize("options", [[], ["-nbio"], ["-async"]])
def test_s_client(lab, pki, www, tmp_path, options):
    server = nginx(lab, pki, tmp_path, www)
    proved(s_client(lab, pki, tmp_path, server, *options))
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    refused(s_client(lab, pki, tmp_path, server, *options, cafile=pki.bundle), "alarm", "other-key")


def test_a_server_that_speaks_first(lab, pki, tmp_path):
    """The program waits at its socket for the greeting, which must not be in libssl already."""
    server = stock.threaded(lab, pki, "--greet")
    wrap = Wrap(str(tmp_path), words(lab))
    proc = lab.spawn(lab.client, wrap.argv(s_client_argv(lab, pki, server, "-nbio")), stdin=True)
    proc.wait_text("220 hello")
    one(wrap.lines(), "verified", "verified", "resumed")


BIO = r"""
#include <stdio.h>
#include <string.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
int main(int argc, char **argv)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    BIO *bio;
    SSL *ssl;
    char buf[4096];
    int n;
    SSL_CTX_load_verify_locations(ctx, argv[2], NULL);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    bio = BIO_new_ssl_connect(ctx);
    BIO_get_ssl(bio, &ssl);
    BIO_set_conn_hostname(bio, argv[1]);
    SSL_set_tlsext_host_name(ssl, "server.example");
    SSL_set1_host(ssl, "server.example");
    if (argc > 3 && BIO_do_handshake(bio) != 1)
        goto failed;
    if (BIO_puts(bio, "GET /file HTTP/1.0\r\nHost: server.example\r\n\r\n") <= 0)
        goto failed;
    while ((n = BIO_read(bio, buf, sizeof(buf))) > 0)
        fwrite(buf, 1, (size_t)n, stdout);
    return 0;
failed:
    ERR_print_errors_fp(stderr);
    return 1;
}
"""


@pytest.mark.parametrize("more", [[], ["handshake"]])
def test_bio_f_ssl(lab, pki, www, tmp_path, more):
    """libssl calls itself: followed where its own calls can be seen, refused where they cannot."""
    binary = str(tmp_path / "bio")
    (tmp_path / "bio.c").write_text(BIO)
    subprocess.run([os.environ.get("CC", "cc"), "-o", binary, f"{binary}.c", "-lssl", "-lcrypto"],
                   check=True)
    server = nginx(lab, pki, tmp_path, www)
    argv = [binary, f"{lab.addr}:{server.port}", pki.cafile, *more]
    proc, lines = wrapped(lab, tmp_path, argv)
    if lines:
        proved((proc, lines))
    else:
        assert proc.wait() != 0 and b"confirm" in proc.stderr and not proc.stdout, proc.log()
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    argv[2] = pki.bundle
    proc, lines = wrapped(lab, tmp_path, argv)
    assert proc.wait() != 0 and not proc.stdout, proc.log()
    check.nothing_stolen(mitm)


def test_a_server_of_the_programs_own(lab, pki, tmp_path):
    """Nothing can confirm who connects to it: require refuses, prefer does not touch it."""
    argv = ["openssl", "s_server", "-accept", f"{lab.addr}:0", "-cert", pki.cert, "-key", pki.key,
            "-www"]
    lab.hosts(lab.client, server_example=lab.addr)
    for policy, good in (("prefer", True), ("require", False)):
        wrap = Wrap(str(tmp_path), words(lab, policy=policy), name=policy)
        proc = lab.spawn(lab.server, wrap.argv(argv), name="s_server")
        port = int(proc.wait_text("ACCEPT").rsplit(":", 1)[1])
        done = stock.s_client(lab, pki, lab.addr, port)
        assert (b"200 ok" in done.stdout) == good, done.log()
        proc.stop()


# ---- policies and what they let pass --------------------------------------------------------------


def test_no_tickets(lab, pki, tmp_path):
    server = stock.threaded(lab, pki, "--tickets", "0")
    refused(curl(lab, pki, tmp_path, server), "consistent", "no-ticket")
    for how in ({"accept": "consistent"}, {"policy": "prefer"}):
        proc, lines = curl(lab, pki, tmp_path, server, **how)
        assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
        one(lines, "plain", "consistent", "no-ticket")


def test_tls_1_2(lab, pki, tmp_path):
    server = stock.threaded(lab, pki, "--tls12")
    refused(curl(lab, pki, tmp_path, server), "unproven", "tls-version")
    proc, lines = curl(lab, pki, tmp_path, server, policy="prefer")
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    one(lines, "plain", "unproven", "tls-version")


def test_path2_is_silent(lab, pki, www, tmp_path):
    """The deadline ends the wait."""
    server = nginx(lab, pki, tmp_path, www)
    lab.filter(2, f"tcp dport {server.port} drop")
    refused(curl(lab, pki, tmp_path, server, deadline=1500), "unproven", "path2-failed")


def test_client_certificate(lab, pki, tmp_path):
    """[RSM-2] Refused before anything is sent, unless the user allows it by name."""
    server = stock.threaded(lab, pki, "--client-ca", pki.clients.cafile)
    cert = ["--cert", pki.client_cert, "--key", pki.client_key]
    proc, lines = curl(lab, pki, tmp_path, server, *cert)
    assert proc.wait() != 0 and b"expose-certificate" in proc.stderr, proc.log()
    one(lines, "failed", "none", "client-certificate")
    assert not [line for line in server.proc.jsons("stdout") if line["event"] == "handshake"]
    proved(curl(lab, pki, tmp_path, server, *cert, expose_certificate="on"))
    assert server.proc.wait_json("stdout", event="handshake", resumed=False)["client"]


def test_host_of_the_exporter_proof(lab, pki, server, tmp_path):
    """[RSM-14] Verified once by exporter proof: never less, and nothing is sent."""
    hosts = tmp_path / "hosts"
    check.verified(tools.client(lab, pki, server, "--hosts", hosts))
    proc, lines = curl(lab, pki, tmp_path, server, hosts=hosts)
    assert proc.wait() != 0, proc.log()
    one(lines, "failed", "none", "remembered")
    proc, lines = wrapped(lab, tmp_path, curl_argv(pki, lab.addr, server.port), hosts=hosts,
                          confirm="auto", port=server.path2_port)
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    assert [line["outcome"] for line in lines] == ["verified"] and "mode" not in lines[0], lines


# ---- auto -----------------------------------------------------------------------------------------


def auto_words(server):
    return {"confirm": "auto", "port": server.path2_port}


def test_auto(lab, pki, www, server, tmp_path):
    """The exporter proof where the server has it, else a resumption; one report each."""
    proc, lines = curl(lab, pki, tmp_path, server, **auto_words(server))
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    assert [line["outcome"] for line in lines] == ["verified"] and "mode" not in lines[0], lines
    stranger = nginx(lab, pki, tmp_path, www)
    proved(curl(lab, pki, tmp_path, stranger, confirm="auto"))
    for text, last in ((PYTHON, 0), (PYTHON, 20), (ASYNCIO, 1)):
        proved(python(lab, pki, tmp_path, stranger, text, last, confirm="auto"))
    mitm = attack.tls_mitm(lab, pki, tmp_path, stranger.port)
    refused(curl(lab, pki, tmp_path, stranger, cafile=pki.bundle, confirm="auto"), "alarm",
            "other-key")
    check.nothing_stolen(mitm)


def test_auto_does_not_help_a_downgrade(lab, pki, www, tmp_path):
    """The extension is stripped: READY tells, and no resumption is asked."""
    server = tools.Server(lab, pki, www=www, policy="prefer")
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    proc, lines = curl(lab, pki, tmp_path, server, cafile=pki.bundle, **auto_words(server))
    assert proc.wait() != 0, proc.log()
    assert [(line["outcome"], line["reason"]) for line in lines] == [("failed", "downgrade")], lines
    check.nothing_stolen(mitm)


# ---- a man in the middle on path 1 ----------------------------------------------------------------


def mtlsize(lab, pki, server, *options, cafile=None, flags=()):
    lab.hosts(lab.client, server_example=lab.addr)
    return lab.run(lab.client, [
        tools.tool("mtlsize"), "run", *flags, "--path2", f"dev=p2,remote={lab.addr}",
        "--confirm", "resume", *curl_argv(pki, lab.addr, server.port, *options, cafile=cafile)],
        name="mtlsize")


def test_mtlsize_run(lab, pki, www, tmp_path):
    """A stock nginx verified over two paths; refused with an alarm that says why when a rogue
    certificate authority's man in the middle is on path 1."""
    server = nginx(lab, pki, tmp_path, www)
    proc = mtlsize(lab, pki, server, flags=["-v"])
    assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
    assert b"1 verified" in proc.stderr, proc.log()
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    proc = mtlsize(lab, pki, server, cafile=pki.bundle)
    assert proc.wait() not in (0, 2) and not proc.stdout, proc.log()  # curl's own
    assert b"path 2 contradicts path 1: interception" in proc.stderr, proc.log()
    assert b"somebody on path 1 has a certificate of his own" in proc.stderr, proc.log()
    check.nothing_stolen(mitm)


@pytest.mark.parametrize("options", [["--http1.1"], ["--http2"]])
def test_rogue_authority_with_its_own_tickets(lab, pki, www, tmp_path, options):
    server = nginx(lab, pki, tmp_path, www, tls="ssl http2")
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    for policy in ("require", "prefer"):
        refused(curl(lab, pki, tmp_path, server, *options, cafile=pki.bundle, policy=policy),
                "alarm", "other-key")
    check.nothing_stolen(mitm)


@pytest.mark.parametrize("option,verdict,reason", [
    (["--tickets", "0"], "alarm", "other-key"), (["--tls12"], "unproven", "tls-version")])
def test_rogue_authority_without_tickets(lab, pki, www, tmp_path, option, verdict, reason):
    server = nginx(lab, pki, tmp_path, www)
    fake = stock.threaded(lab, pki, *option, ns=lab.routers[1], cert=pki.rogue_cert,
                          key=pki.rogue_key)
    lab.redirect(1, server.port, fake.port)
    refused(curl(lab, pki, tmp_path, server, cafile=pki.bundle), verdict, reason)
    ends = [line for line in fake.proc.jsons("stdout") if line["event"] == "end"]
    assert all(line["bytes"] == 0 for line in ends), ends


def test_relayed_ticket(lab, pki, tmp_path, mitm_ticket):
    server = stock.threaded(lab, pki, "--stateful")
    record = str(tmp_path / "stolen")
    proc = lab.spawn(lab.routers[1], [mitm_ticket, pki.rogue_cert, pki.rogue_key, lab.addr,
                                      str(server.port), record], name="mitm_ticket")
    attacker = attack.Attacker(proc, record)
    lab.redirect(1, server.port, attacker.port)
    refused(curl(lab, pki, tmp_path, server, cafile=pki.bundle, policy="prefer"), "alarm",
            "ticket-refused")
    check.nothing_stolen(attacker)


def test_no_plaintext_after_an_alarm(lab, pki, www, tmp_path):
    """A program that falls back to plaintext is kept from it for a minute."""
    text = """
import socket, ssl, sys
host, port, name, cafile, _ = sys.argv[1:]
try:
    with socket.create_connection((host, int(port))) as sock:
        ssl.create_default_context(cafile=cafile).wrap_socket(sock, server_hostname=name)
    print("connected")
except ssl.SSLError as error:
    print("refused", error)
with socket.create_connection((host, int(port))) as sock:
    sock.sendall(b"the password in the clear")
"""
    server = nginx(lab, pki, tmp_path, www)
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    proc, lines = python(lab, pki, tmp_path, server, text, 0, cafile=pki.bundle)
    assert proc.wait() != 0 and b"refused" in proc.stdout, proc.log()
    assert [line["event"] for line in lines] == ["session", "refused"], lines
    assert "plaintext" in lines[1]["why"]


# ---- later connections ----------------------------------------------------------------------------


def test_spare_ticket(lab, pki, www, tmp_path):
    """[RSM-15] [RSM-16] curl's own cache of sessions: its second connection is confirmed by the
    ticket that came after the first one's verdict, without path 2."""
    server = nginx(lab, pki, tmp_path, www)
    url = f"https://{pki.name}:{server.port}/file"
    argv = curl_argv(pki, lab.addr, server.port, "-H", "Connection: close", "-o", "/dev/null", url,
                     "-o", "/dev/null")
    proc, lines = wrapped(lab, tmp_path, argv)
    assert proc.wait() == 0, proc.log()
    assert [(line["outcome"], line["reason"]) for line in lines] == [
        ("verified", "resumed"), ("resumed-verified", "spare-ticket")], lines
    # Its twin: with resume=0 nothing is inherited.
    proc, lines = wrapped(lab, tmp_path, argv, resume=0)
    assert [line["reason"] for line in lines] == ["resumed", "resumed"], lines


@pytest.mark.parametrize("tickets,full,second", [("1", 2, "resumed"), ("2", 1, "spare-ticket")])
def test_the_ticket_of_path2_is_not_used_again(lab, pki, tmp_path, tickets, full, second):
    """[RSM-15] The program gets the tickets that come after the verdict, and those alone."""
    server = stock.threaded(lab, pki, "--tickets", tickets)
    url = f"https://{pki.name}:{server.port}/file"
    proc, lines = wrapped(lab, tmp_path, curl_argv(
        pki, lab.addr, server.port, "-H", "Connection: close", "-o", "/dev/null", url, "-o",
        "/dev/null"))
    assert proc.wait() == 0, proc.log()
    assert [line["reason"] for line in lines] == ["resumed", second], lines
    for n in range(full):
        assert server.proc.wait_json("stdout", event="handshake", resumed=False, skip=n)


def test_a_ticket_of_a_man_in_the_middle_is_not_kept(lab, pki, www, tmp_path):
    """[RSM-13] No ticket of the refused connection reaches the program."""
    text = """
import socket, ssl, sys
host, port, name, cafile, _ = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
sock = socket.create_connection((host, int(port)))
tls = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
try:
    tls.do_handshake()
except ssl.SSLError:
    for call in (lambda: tls.send(b"GET / HTTP/1.0"), lambda: tls.recv(10), tls.do_handshake):
        try:
            print("data", call())
        except (ssl.SSLError, OSError):
            print("dead")
    print("session", tls.session)
"""
    server = nginx(lab, pki, tmp_path, www)
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    proc, _ = python(lab, pki, tmp_path, server, text, 0, cafile=pki.bundle)
    assert proc.wait() == 0 and proc.stdout.count(b"dead") == 3, proc.log()
    check.nothing_stolen(mitm)
