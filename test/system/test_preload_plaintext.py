"""No plaintext after a failed verification, by whichever call: neither on the connection itself and
its copies, nor on a new one to the same server. Each beside the same program without an
interceptor."""

import pytest

from mtlslab import attack
from preload_tools import Wrap, client_words

PYTHON = "/usr/bin/python3"

COMMON = r"""
import ctypes, os, socket, ssl, sys, tempfile
cafile, name, host, port = sys.argv[1:5]
port = int(port)
context = ssl.create_default_context(cafile=cafile)
libc = ctypes.CDLL(None, use_errno=True)
libc.fdopen.restype = ctypes.c_void_p
libc.splice.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
                        ctypes.c_size_t, ctypes.c_uint]
libc.pwritev2.argtypes = libc.pwritev64v2.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int,
                                                      ctypes.c_long, ctypes.c_int]
TEXT = b"GET / HTTP/1.0\r\n\r\n"
class Iov(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]
class Msg(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.c_void_p),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p),
                ("controllen", ctypes.c_size_t), ("flags", ctypes.c_long), ("sent", ctypes.c_long)]
iov = (Iov * 1)(Iov(TEXT, len(TEXT)))
def msg():
    return Msg(iov=ctypes.addressof(iov), iovlen=1)
def stdio(fd):
    file = libc.fdopen(fd, b"r+")
    if not file:
        return -1
    libc.fwrite(TEXT, 1, len(TEXT), ctypes.c_void_p(file))
    return libc.fflush(ctypes.c_void_p(file))
def from_pipe(fd):
    r, w = os.pipe()
    os.write(w, TEXT)
    return libc.splice(r, None, fd, None, len(TEXT), 0)
def from_file(call):
    def run(fd):
        with tempfile.TemporaryFile() as file:
            file.write(TEXT)
            file.flush()
            file.seek(0)
            return call(fd, file.fileno(), None, len(TEXT))
    return run
def at_2(fd):
    os.dup2(fd, 60)
    return libc.write(60, TEXT, len(TEXT))
class Aio(ctypes.Structure):  # struct aiocb of libc
    _fields_ = [("fd", ctypes.c_int), ("opcode", ctypes.c_int), ("priority", ctypes.c_int),
                ("buf", ctypes.c_char_p), ("len", ctypes.c_size_t), ("rest", ctypes.c_char * 200)]
kept = []
def aio(call, *before):
    def run(fd):
        one = Aio(fd=fd, opcode=1, buf=TEXT, len=len(TEXT))
        kept.append(one)
        one.rest = b""
        list1 = (ctypes.c_void_p * 1)(ctypes.addressof(one))
        kept.append(list1)
        ctypes.set_errno(0)
        if before:
            return call(0, list1, 1, None)
        return call(ctypes.byref(one))
    return run
def onto_1(fd):
    # what libc prints into it is not seen
    copy = os.dup(1)
    rc = libc.dup2(fd, 1)
    if rc >= 0:
        libc.dup2(copy, 1)
    return rc
WAYS = {
    "aio": aio(libc.aio_write), "aio64": aio(libc.aio_write64), "lio": aio(libc.lio_listio, 0),
    "lio64": aio(libc.lio_listio64, 0), "stdout": onto_1,
    "write": lambda fd: libc.write(fd, TEXT, len(TEXT)),
    "send": lambda fd: libc.send(fd, TEXT, len(TEXT), 0),
    "sendto": lambda fd: libc.sendto(fd, TEXT, len(TEXT), 0, None, 0),
    "sendmsg": lambda fd: libc.sendmsg(fd, ctypes.byref(msg()), 0),
    "sendmmsg": lambda fd: libc.sendmmsg(fd, ctypes.byref(msg()), 1, 0),
    "writev": lambda fd: libc.writev(fd, ctypes.byref(iov), 1),
    "pwritev2": lambda fd: libc.pwritev2(fd, ctypes.byref(iov), 1, -1, 0),
    "pwritev64v2": lambda fd: libc.pwritev64v2(fd, ctypes.byref(iov), 1, -1, 0),
    "sendfile": from_file(libc.sendfile), "sendfile64": from_file(libc.sendfile64),
    "splice": from_pipe, "stdio": stdio, "dprintf": lambda fd: libc.dprintf(fd, TEXT),
    "dup": lambda fd: libc.write(os.dup(fd), TEXT, len(TEXT)), "dup2": at_2,
}
def report(what, rc):
    print(what, "sent" if rc >= 0 else os.strerror(ctypes.get_errno()).split()[0], flush=True)
def tls(keep=None):
    conn = socket.create_connection((host, port), timeout=20)
    copy = os.dup(conn.fileno())
    try:
        with context.wrap_socket(conn, server_hostname=name) as conn:
            print("tls", "fine", flush=True)
    except ssl.SSLError:
        print("tls", "refused", flush=True)
    return copy
"""

SAME = COMMON + """
WAYS["raw"] = lambda fd: libc.syscall(1, fd, TEXT, len(TEXT))
for way in sys.argv[5:]:
    report(way, WAYS[way](tls()))
"""

NEW = COMMON + """
tls()
def connected(way):
    conn = socket.socket()
    if way == "fast-open-connect":
        conn.setsockopt(socket.IPPROTO_TCP, 30, 1)
    if way != "fast-open":
        conn.connect((host, port))
    return conn
for way in WAYS:
    conn = connected(way)
    report(way, WAYS[way](conn.fileno()))
for way in ("fast-open", "fast-open-connect"):
    conn = connected(way)
    try:
        conn.sendto(TEXT, socket.MSG_FASTOPEN, (host, port)) if way == "fast-open" else conn.send(TEXT)
        print(way, "sent")
    except OSError as e:
        print(way, os.strerror(e.errno).split()[0])
"""


def run(lab, pki, server, wrap, script, *words):
    proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", script, pki.bundle, pki.name, server.host,
                                          server.port, *words]))
    assert proc.wait() == 0, proc.log()
    pairs = [line.split(" ", 1) for line in proc.stdout.decode().splitlines()]
    return pairs, proc


def test_on_a_new_connection(lab, pki, server, tmp_path):
    fine = Wrap(tmp_path, client_words(lab, server), name="fine")
    pairs, proc = run(lab, pki, server, fine, NEW)
    assert pairs[0] == ["tls", "fine"] and {word for _, word in pairs[1:]} == {"sent"}, proc.log()
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    wrap = Wrap(tmp_path, client_words(lab, server))
    pairs, proc = run(lab, pki, server, wrap, NEW)
    assert pairs[0] == ["tls", "refused"] and {word for _, word in pairs[1:]} == {"Software"}, proc.log()
    assert len(wrap.lines("refused")) == len(pairs) - 1 >= 22
    assert {line["peer"] for line in wrap.lines("refused")} == {f"{server.host}:{server.port}"} | {
        ""}, wrap.lines("refused")  # not connected yet: a Fast Open


def test_on_the_failed_connection(lab, pki, server, tmp_path):
    """Shut for every copy: what cannot be interposed fails there too."""
    ways = ("write", "stdio", "splice", "raw")
    fine = Wrap(tmp_path, client_words(lab, server), name="fine")
    pairs, proc = run(lab, pki, server, fine, SAME, *ways)
    assert [word for what, word in pairs if what != "tls"] == ["sent"] * 4, proc.log()
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    wrap = Wrap(tmp_path, client_words(lab, server))
    pairs, proc = run(lab, pki, server, wrap, SAME, *ways)
    assert [word for what, word in pairs if what == "tls"] == ["refused"] * 4, proc.log()
    assert dict(pairs) == {"tls": "refused", "write": "Software", "stdio": "Software",
                           "splice": "Software", "raw": "Broken"}, proc.log()


CUT = COMMON + """
import struct
try:
    conn = context.wrap_socket(socket.create_connection((host, port), timeout=20), server_hostname=name)
except OSError as e:
    print("tls", "refused", flush=True)
conn = socket.create_connection((host, port), timeout=20)
report("plaintext", libc.send(conn.fileno(), TEXT, len(TEXT), 0))
"""

CUTTER = """
import socket, sys
host, port, how = sys.argv[1:]
listener = socket.create_server((host, int(port)))
while True:
    conn = listener.accept()[0]
    if conn.recv(4096)[:1] == b"\\x16":
        conn.send({"alert": b"\\x15\\x03\\x03\\x00\\x02\\x02\\x28", "end": b""}[how])
    conn.close()
"""


@pytest.mark.parametrize("how", ["alert", "end"])
def test_after_a_handshake_that_was_cut(lab, pki, tmp_path, how):
    """An interceptor need not shake hands to make a program fall back to plaintext: under require
    a handshake that the other end ended is a failure. Under prefer it is TLS's own."""
    port = lab.port()
    proc = lab.spawn(lab.server, [PYTHON, "-c", CUTTER, lab.addr, str(port), how], name="cutter")
    proc.wait_listening(port)
    for policy, said in (("prefer", "sent"), ("require", "Software")):
        wrap = Wrap(tmp_path, f"policy={policy} path2=dev=p2", name=policy)
        proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", CUT, pki.bundle, pki.name, lab.addr, port]))
        assert proc.stdout.decode().splitlines() == ["tls refused", f"plaintext {said}"], proc.log()
        assert len(wrap.lines("refused")) == (policy == "require")
        assert [line["reason"] for line in wrap.lines("session")
                if line["outcome"] == "failed"] == (["abandoned"] if policy == "require" else [])


HELLO_THEN_PLAINTEXT = COMMON + """
tls()
with socket.create_connection((host, port), timeout=20) as conn:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        inside.do_handshake()
    except ssl.SSLWantReadError:
        conn.sendall(outgoing.read())
    report("hello", 0)
    report("plaintext", libc.send(conn.fileno(), TEXT, len(TEXT), 0))
"""


def test_behind_a_hello(lab, pki, server, tmp_path):
    """A handshake that is not brought to its end clears nothing."""
    fine = Wrap(tmp_path, client_words(lab, server), name="fine")
    pairs, proc = run(lab, pki, server, fine, HELLO_THEN_PLAINTEXT)
    assert pairs == [["tls", "fine"], ["hello", "sent"], ["plaintext", "sent"]], proc.log()
    attack.tls_mitm(lab, pki, tmp_path, server.port)
    wrap = Wrap(tmp_path, client_words(lab, server))
    pairs, proc = run(lab, pki, server, wrap, HELLO_THEN_PLAINTEXT)
    assert pairs == [["tls", "refused"], ["hello", "sent"], ["plaintext", "Software"]], proc.log()


VERIFIED_BEFORE = COMMON + """
with socket.create_connection((host, port), timeout=20) as plain:
    with context.wrap_socket(plain, server_hostname=name) as conn:
        print("before", "fine", flush=True)
        sys.stdin.readline()
        tls()
        conn.sendall(b"GET /file HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n" % name.encode())
        print("after", len(conn.recv(100)) > 0, flush=True)
"""


def test_a_verified_connection_goes_on(lab, pki, server, tmp_path):
    wrap = Wrap(tmp_path, client_words(lab, server))
    proc = lab.spawn(lab.client, wrap.argv([PYTHON, "-c", VERIFIED_BEFORE, pki.bundle, pki.name,
                                            server.host, server.port]), stdin=True)
    proc.wait_text("before fine")
    lab.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    proc.write(b"\n")
    assert proc.wait() == 0, proc.log()
    assert proc.stdout.decode().splitlines() == ["before fine", "tls refused", "after True"]
    assert not wrap.lines("refused"), wrap.lines()
