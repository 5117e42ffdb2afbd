"""What the preload library refuses: TLS that libmtls does not know, plaintext after a failed
verification; and what it lets pass."""

import subprocess

import pytest

from conftest import SECRET
from mtlsize_tools import compile_c
from mtlslab import attack, stock, tools
from preload_tools import Wrap, client_words, curl_argv

PYTHON = "/usr/bin/python3"
WORDS = "policy=require path2=dev=p2"


def gnutls(lab, pki, peer, wrap):
    return lab.run(lab.client, wrap.argv([
        "gnutls-cli", "--x509cafile", pki.cafile, "--sni-hostname", pki.name, "--verify-hostname",
        pki.name, "--logfile", "/dev/null", "--port", peer.port, lab.addr]), stdin=stock.GET)


def test_other_tls_client(lab, pki, www, tmp_path):
    peer = stock.s_server(lab, pki, www=www)
    refused = Wrap(tmp_path, WORDS)
    proc = gnutls(lab, pki, peer, refused)
    assert proc.wait() != 0 and SECRET not in proc.stdout, proc.log()
    line = refused.wait(event="refused")[0]
    assert line["peer"] == f"{lab.addr}:{peer.port}" and "libgnutls" in line["why"], line
    for name, words, unhooked in (("allow", WORDS, "allow"), ("off", "policy=off", "refuse")):
        wrap = Wrap(tmp_path, words, name=name, MTLSIZE_UNHOOKED=unhooked)
        proc = gnutls(lab, pki, peer, wrap)
        assert proc.wait() == 0 and SECRET in proc.stdout, proc.log()
        assert len(wrap.lines("unhooked")) == (name == "allow") and not wrap.lines("refused")


def test_other_tls_server(lab, pki, tmp_path):
    for name, unhooked, works in (("refuse", "refuse", False), ("allow", "allow", True)):
        port = lab.port()
        wrap = Wrap(tmp_path, "policy=require listen=127.0.0.1:0", name=name,
                    MTLSIZE_UNHOOKED=unhooked)
        proc = lab.spawn(lab.server, wrap.argv([
            "gnutls-serv", "--http", "--port", port, "--x509certfile", pki.cert, "--x509keyfile",
            pki.key]))
        proc.wait_listening(port)
        got = tools.curl(lab, pki, lab.addr, port, "/")
        assert (got.wait() == 0) == works, got.log()
        assert wrap.wait(event="unhooked" if works else "refused")


def test_bytes_that_only_look_like_tls(lab, pki, tmp_path):
    """A file, a pipe and data that begins like a record are not TLS handshakes."""
    hello = bytes.fromhex("1603010200010001fc0303") + bytes(500)
    script = f"""
import os, socket
hello = bytes.fromhex("{hello.hex()}")
with open("{tmp_path}/file", "wb", buffering=0) as file:
    file.write(hello)
a, b = socket.socketpair()
a.sendall(hello)
listener = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(listener.getsockname())
c.sendall(b"first")
for text in (hello[:3], b"\\x16" + bytes(600), b"\\x16\\x03\\x03\\x00\\x28" + bytes([7] * 40)):
    c.sendall(text)
print("all sent")
c.sendall(hello)
"""
    wrap = Wrap(tmp_path, WORDS)
    proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", script]))
    assert proc.wait() != 0 and b"all sent" in proc.stdout, proc.log()
    assert b"ConnectionAbortedError" in proc.stderr and len(wrap.lines("refused")) == 1, proc.log()


PIECES = r"""
import ctypes, fcntl, os, resource, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (10000, 10000))
class Iov(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]
class Msg(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.c_void_p),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p),
                ("controllen", ctypes.c_size_t), ("flags", ctypes.c_long), ("sent", ctypes.c_long)]
def sendmmsg(conn, *texts):
    parts = (Iov * len(texts))(*(Iov(text, len(text)) for text in texts))
    msgs = (Msg * len(texts))(*(Msg(iov=ctypes.addressof(parts) + i * ctypes.sizeof(Iov), iovlen=1)
                                for i in range(len(texts))))
    if libc.sendmmsg(conn.fileno(), ctypes.byref(msgs), len(texts), 0) != len(texts):
        raise OSError(ctypes.get_errno(), "sendmmsg")
hello = bytes.fromhex(sys.argv[1])
alert = bytes.fromhex("15030300020100")
connect = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"
def each(conn, *texts):
    for text in texts:
        conn.sendall(text)
def unready(conn, *texts):
    early = socket.socket()
    early.setblocking(False)
    try:
        early.send(texts[0])
    except BrokenPipeError:
        early.setblocking(True)
        early.connect(listener.getsockname())
        each(early, *texts)
def copies(conn, *texts):
    with conn.dup() as copy:
        for i, text in enumerate(texts):
            (copy if i % 2 else conn).sendall(text)
def beside(conn, *texts):
    # Others have begun as much: on the number 4096 higher, and on many more.
    others = [socket.create_connection(listener.getsockname()) for _ in range(40)]
    high = fcntl.fcntl(others[0].fileno(), fcntl.F_DUPFD, conn.fileno() + 4096)
    assert high == conn.fileno() + 4096
    for text in texts:
        conn.sendall(text)
        if text != texts[-1]:
            os.write(high, hello[:4])
            each(others[0], b"x")
            for other in others[1:]:
                other.sendall(hello[:2])
    os.close(high)
    for other in others:
        other.close()
def forked(conn, first, last):
    conn.sendall(first)
    if os.fork() == 0:
        try:
            conn.sendall(last)
        except OSError as e:
            os._exit(e.errno)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    if status:
        raise OSError(status, "in the child")
CASES = {
    "copies": (copies, hello[:3], hello[3:7], hello[7:]), "beside": (beside, hello[:3], hello[3:9], hello[9:]),
    "forked": (forked, hello[:3], hello[3:]), "tds": (each, struct.pack(">BBHI", 0x12, 1, len(hello) + 8, 0) + hello),
    "words": (each, b"HELLO MY PROTOCOL\n" + hello), "far": (each, b"x" * 128 + hello),
    "parts": (lambda c, *t: c.sendmsg(t), b"\x16\x03", b"\x03-" + hello[:3], hello[3:]),
    "connect-parts": (lambda c, *t: c.sendmsg(t), connect[:20], connect[20:] + hello[:2], hello[2:]),
    "whole": (each, hello), "1": (each, hello[:1], hello[1:]), "2": (each, hello[:2], hello[2:]),
    "10": (each, hello[:10], hello[10:]), "bytes": (each, *(hello[i:i + 1] for i in range(len(hello)))),
    "later": (each, b"a STARTTLS\r\n", hello[:1], hello[1:3], hello[3:]),
    "alert": (each, alert + hello), "alert-first": (each, alert[:3], alert[3:], hello[:9], hello[9:]),
    "connect": (each, connect + hello), "connect-part": (each, connect + hello[:4], hello[4:]),
    "socks": (each, bytes.fromhex("050100") + hello), "postgresql": (each, bytes.fromhex("0000000804d2162f") + hello),
    "false-start": (each, b"\x16", b"\x16\x03", hello),
    "sendmsg": (lambda c, *t: c.sendmsg(t), b"", hello[:1], hello[1:6], hello[6:]),
    "writev": (lambda c, *t: os.writev(c.fileno(), t), hello[:2], hello[2:]),
    "sendmmsg": (sendmmsg, hello[:2], hello[2:7], hello[7:]), "sendmmsg-behind": (sendmmsg, b"x", hello),
    "sendto": (lambda c, *t: [c.sendto(x, c.getpeername()) for x in t], hello[:2], hello[2:]),
    "write": (lambda c, *t: [os.write(c.fileno(), x) for x in t], hello[:2], hello[2:]),
    "unready": (unready, hello[:1], hello[1:]),
}
listener = socket.create_server(("127.0.0.1", 0))
kept = []
def accept():
    while True:
        kept.append(listener.accept())
threading.Thread(target=accept, daemon=True).start()
for name, (how, *texts) in CASES.items():
    with socket.create_connection(listener.getsockname()) as conn:
        try:
            how(conn, *texts)
            print(name, "sent", flush=True)
        except OSError as e:
            print(name, os.strerror(e.errno).split()[0], flush=True)
"""


def test_hellos_in_pieces(lab, pki, tmp_path):
    """Cut anywhere, behind what announces it, by any call; beside it the same with a message that
    is no hello, and with the permission."""
    hello = "16030100800100007c0303" + "a5" * 122
    other = hello.replace("1603010080" + "01", "1603010080" + "0b")
    for name, data, unhooked, said in (("refuse", hello, "refuse", "Software"),
                                       ("other", other, "refuse", "sent"),
                                       ("allow", hello, "allow", "sent")):
        wrap = Wrap(tmp_path, WORDS, name=name, MTLSIZE_UNHOOKED=unhooked)
        proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", PIECES, data]))
        pairs = dict(line.split() for line in proc.stdout.decode().splitlines())
        assert proc.wait() == 0 and len(pairs) == 28 and set(pairs.values()) == {said}, proc.log()
        assert len(wrap.lines("refused")) == (28 if name == "refuse" else 0)
        assert len(wrap.lines("unhooked")) == (28 if name == "allow" else 0)


IN_PIECES = """
import socket, ssl, sys
cafile, name, host, port = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
inside = context.wrap_bio(incoming, outgoing, server_hostname=name)
with socket.create_connection((host, int(port)), timeout=20) as conn:
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    def run(call, *args):
        while True:
            try:
                done = call(*args)
            except ssl.SSLWantReadError:
                done = None
            data = outgoing.read()
            for i in range(min(len(data), 60)):
                conn.sendall(data[i:i + 1])
            conn.sendall(data[60:])
            if done is not None:
                return done
            incoming.write(conn.recv(65536))
    def shake():
        inside.do_handshake()
        return True
    run(shake)
    run(inside.write, b"GET /file HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n")
    print(run(inside.read, 1000).count(b"the text that nobody"))
"""


def test_hooked_hello_in_pieces(lab, pki, server, tmp_path):
    """A program that carries libssl's bytes in pieces is protected like one that does not."""
    wrap = Wrap(tmp_path, client_words(lab, server))
    proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", IN_PIECES, pki.cafile, pki.name, server.host,
                                          server.port]))
    assert proc.wait() == 0 and not wrap.lines("refused"), proc.log()
    assert len(wrap.wait(1, outcome="verified")) == 1


def test_probing_an_address(lab, tmp_path):
    """write() from an address that is not there fails as ever, and does not crash the program."""
    script = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
r, w = os.pipe()
print(libc.write(w, ctypes.c_void_p(1), 1), errno.errorcode[ctypes.get_errno()])
print(libc.writev(w, ctypes.c_void_p(1), 1), errno.errorcode[ctypes.get_errno()])
print(libc.write(w, b"fine", 4), os.read(r, 9))
"""
    wrap = Wrap(tmp_path, WORDS)
    proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", script]))
    assert proc.stdout.decode().split() == ["-1", "EFAULT", "-1", "EFAULT", "4", "b'fine'"], proc.log()


RETRY = """
import socket, ssl, sys
cafile, name, host, port, other = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
def plain(port, *texts):
    with socket.create_connection((host, int(port)), timeout=10) as conn:
        for text in texts:
            conn.sendall(text)
def attempt(what, fn, *args):
    try:
        fn(*args)
        print(what, "fine", flush=True)
    except OSError as e:
        print(what, type(e).__name__, flush=True)
def tls():
    with socket.create_connection((host, int(port)), timeout=10) as conn:
        with context.wrap_socket(conn, server_hostname=name):
            pass
get = b"GET / HTTP/1.0\\r\\n\\r\\n"
attempt("before", plain, port, get)
attempt("tls", tls)
attempt("after", plain, port, get)
attempt("smtp", plain, port, b"EHLO me\\r\\n", b"STARTTLS\\r\\n")
attempt("mail", plain, port, b"EHLO me\\r\\n", b"MAIL FROM:<a@b>\\r\\n")
attempt("sslrequest", plain, port, bytes.fromhex("0000000804d2162f"))
attempt("startup", plain, port, bytes.fromhex("00000009000300007500"))
attempt("other", plain, other, get)
attempt("again", tls)
"""


def test_no_plaintext_after_a_failed_verification(lab, pki, server, tmp_path):
    """The same program, with and without an interceptor; another port is another matter."""
    other = lab.port()
    lab.spawn(lab.server, [PYTHON, "-m", "http.server", "-b", lab.addr, other]).wait_listening(other)
    argv = [PYTHON, "-c", RETRY, pki.bundle, pki.name, server.host, server.port, other]
    fine = Wrap(tmp_path, client_words(lab, server), name="fine")
    proc = lab.run(lab.client, fine.argv(argv))
    assert proc.wait() == 0 and proc.stdout.decode().split() == [
        word for what in ("before", "tls", "after", "smtp", "mail", "sslrequest", "startup", "other",
                          "again") for word in (what, "fine")], proc.log()
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    wrap = Wrap(tmp_path, client_words(lab, server))
    proc = lab.run(lab.client, wrap.argv(argv))
    aborted = "ConnectionAbortedError"
    assert proc.stdout.decode().split() == [
        "before", "fine", "tls", "SSLError", "after", aborted, "smtp", "fine", "mail", aborted,
        "sslrequest", "fine", "startup", aborted, "other", "fine", "again", "SSLError"], proc.log()
    assert len(wrap.lines("refused")) == 3
    assert all("plaintext" in line["why"] for line in wrap.lines("refused"))


def test_a_child_that_was_forked_knows(lab, pki, server, tmp_path):
    script = RETRY.split("get = b")[0] + """
import os
attempt("tls", tls)
if os.fork() == 0:
    attempt("child", plain, port, b"GET / HTTP/1.0\\r\\n\\r\\n")
    os._exit(0)
os.wait()
"""
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    wrap = Wrap(tmp_path, client_words(lab, server))
    proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", script, pki.bundle, pki.name, server.host,
                                          server.port, 0]))
    assert proc.stdout.decode().split() == ["tls", "SSLError", "child", "ConnectionAbortedError"]


def test_library_missing_is_no_plain_tls(lab, pki, server, tmp_path):
    """libmtls cannot be loaded: no SSL_CTX is made, and the program says why."""
    wrap = Wrap(tmp_path, client_words(lab, server), MTLSIZE_LIBRARY=f"{tmp_path}/none.so")
    proc = lab.run(lab.client, wrap.argv(curl_argv(pki, server.host, server.port)))
    assert proc.wait() != 0 and SECRET not in proc.stdout, proc.log()
    assert "none.so" in wrap.lines("refused")[0]["why"]
    assert len(server.sessions()) == 0
    bad = Wrap(tmp_path, "policy=requires", name="bad")
    proc = lab.run(lab.client, bad.argv(["openssl", "s_client", "-connect",
                                         tools.join(server.host, server.port)]), stdin=b"")
    assert proc.wait() != 0 and b"bad value" in proc.stderr, proc.log()


@pytest.fixture(scope="module")
def static_program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("static")
    source = folder / "hello.c"
    source.write_text('#include <unistd.h>\nint main(void) { return write(1, "ran\\n", 4) != 4; }\n')
    subprocess.run(["cc", "-static", "-o", str(folder / "hello"), str(source)], check=True)
    return str(folder / "hello")


def test_static_program(lab, tmp_path, static_program):
    """Noted, because nothing of ours is in it; refused only where that was asked for."""
    for name, unhooked, runs in (("noted", "refuse", True), ("refused", "refuse-exec", False)):
        wrap = Wrap(tmp_path, WORDS, name=name, MTLSIZE_UNHOOKED=unhooked)
        for argv in (["sh", "-c", f"{static_program}; echo $?"], ["env", static_program],
                     [PYTHON, "-c", f"import subprocess; subprocess.run(['{static_program}'])"]):
            proc = lab.run(lab.client, wrap.argv(argv))
            assert (b"ran" in proc.stdout) == runs, proc.log()
        lines = wrap.lines("notice" if runs else "refused")
        assert len(lines) == 3 and all("linked statically" in line["why"] for line in lines), lines


def test_script_of_a_static_interpreter(lab, tmp_path, static_program):
    script, other = tmp_path / "script", tmp_path / "other"
    script.write_text(f"#! {static_program} -x\n")
    other.write_text("#!/bin/sh\necho ran\n")
    for path in (script, other):
        path.chmod(0o755)
    for unhooked, event in (("refuse", "notice"), ("refuse-exec", "refused")):
        wrap = Wrap(tmp_path, WORDS, name=unhooked, MTLSIZE_UNHOOKED=unhooked)
        proc = lab.run(lab.client, wrap.argv(["sh", "-c", f"{other}; {script}"]))
        assert proc.stdout.count(b"ran") == (2 if event == "notice" else 1), proc.log()
        (line,) = wrap.lines(event)
        assert "script is linked statically" in line["why"], line


TLS_PROGRAMS = {
    "openssl": ('#include <openssl/ssl.h>\nint main(void) { return puts("ran") < 0 || SSL_CTX_new(TLS_client_method()) == 0; }\n',
                ["-static", "pkg-config"]),
    "rust": ('int main(void) { return puts("ran, rustls::client") < 0; }\n', ["-static"]),
    # what the linker of Go writes: a note of its name, in a program that may be linked dynamically
    "go": ('__asm__(".pushsection .note.go.buildid,\\"a\\",@note\\n.long 4,4,4\\n.ascii \\"Go\\\\0\\\\0id00\\"\\n.popsection");'
           '\nint main(void) { return puts("ran, crypto/tls.(*Conn).Read") < 0; }\n', []),
}
NO_TLS = {
    "static": (TLS_PROGRAMS["rust"][0].replace("rustls::client", "rust"), ["-static"]),
    "dynamic": TLS_PROGRAMS["rust"][:1] + ([],),
    "go": (TLS_PROGRAMS["go"][0].replace("crypto/tls", "crypto"), []),
}


def static_libssl(flags):
    """A libssl may need compression libraries as well."""
    if "pkg-config" not in flags:
        return flags
    found = subprocess.run(["pkg-config", "--static", "--libs", "libssl"], capture_output=True, text=True, check=True)
    return ["-static", *found.stdout.split()]


@pytest.mark.parametrize("unhooked", ["refuse", "allow"])
@pytest.mark.parametrize("kind", TLS_PROGRAMS)
def test_program_with_tls_that_is_started(lab, tmp_path, kind, unhooked):
    """A script starts what mtlsize check would refuse: refused as any TLS that cannot be hooked."""
    text, flags = TLS_PROGRAMS[kind]
    program = compile_c(tmp_path / "program", "#include <stdio.h>\n" + text, *static_libssl(flags))
    wrap = Wrap(tmp_path, WORDS, MTLSIZE_UNHOOKED=unhooked)
    proc = lab.run(lab.client, wrap.argv(["sh", "-c", f"{program}; echo $?"]))
    assert proc.stdout.startswith(b"ran") == (unhooked == "allow"), proc.log()
    (line,) = wrap.lines("refused" if unhooked == "refuse" else "unhooked")
    assert "program brings TLS of its own: cannot be protected" in line["why"], line


@pytest.mark.parametrize("kind", NO_TLS)
def test_program_without_tls_that_is_started(lab, tmp_path, kind):
    text, flags = NO_TLS[kind]
    program = compile_c(tmp_path / "program", "#include <stdio.h>\n" + text, *flags)
    wrap = Wrap(tmp_path, WORDS)
    proc = lab.run(lab.client, wrap.argv(["sh", "-c", f"{program}; echo $?"]))
    assert proc.stdout.startswith(b"ran"), proc.log()
    assert [line["event"] for line in wrap.lines()] == ["notice"] * (kind != "dynamic")
