"""smkexize: unmodified plain-TCP programs talk SMKEX over two paths."""

import subprocess
import sys

import pytest

from conftest import noise
from mtlslab import smkex, tools

class Service:
    """A program behind smkexize --on, in the server's namespace."""

    def __init__(self, lab, *argv, flags=(), port=None, stdin=None):
        self.lab, self.host = lab, lab.addr
        self.port, self.path2_port = port or lab.port(), lab.port()
        words = [tools.tool("smkexize"), "run", "--on", f"{self.host}:{self.port}", "--verbose",
                 "--path2-listen", f"{self.host}:{self.path2_port}", *flags, "--",
                 *[str(w).replace("PORT", str(self.port)) for w in argv]]
        self.proc = lab.spawn(lab.server, words, name="smkexize", stdin=stdin, env=tools._SANITIZER)
        self.proc.wait_listening(self.port)

    def reach(self, *argv, flags=None, stdin=None, port=None):
        """Runs a program behind smkexize --to in the client's namespace."""
        flags = ["--path2", tools.spec(self.lab, self)] if flags is None else flags
        words = [tools.tool("smkexize"), "run", "--to", f"{self.host}:{self.port}", *flags, "--",
                 *[str(w).replace("PORT", str(port or self.port)) for w in argv]]
        proc = self.lab.run(self.lab.client, words, name="smkexize", stdin=stdin,
                            env=tools._SANITIZER)
        tools.check_sanitizer(proc)
        return proc


@pytest.fixture
def redis(lab):
    service = Service(lab, "redis-server", "--port", "PORT", "--bind", "0.0.0.0", "--save", "",
                      "--protected-mode", "no", "--appendonly", "no", "--dir", "/tmp")
    ready(service)
    return service


def ready(service):
    service.proc.wait_text("Ready to accept connections")


def cli(service, *words, **options):
    return service.reach("redis-cli", "-h", service.host, "-p", "PORT", *words, **options)


def test_redis(redis):
    """redis-cli and redis-server as Debian ships them."""
    value = noise(1 << 20)
    done = cli(redis, "-x", "set", "key", stdin=value)
    assert done.wait() == 0 and done.stdout == b"OK\n", done.log()
    assert cli(redis, "--raw", "get", "key").stdout == value + b"\n"
    assert "verified" in redis.proc.log(20000)


def test_redis_sees_who_is_there(lab, redis):
    """Not its helper: the client's real address."""
    done = cli(redis, "client", "list")
    assert f"addr={lab.client_addr(1)}:".encode() in done.stdout, done.log()
    assert f"laddr={lab.addr}:{redis.port}".encode() in done.stdout, done.log()


def test_redis_protected_mode_still_protects(lab):
    """A program that trusts loopback does not take the network for it."""
    service = Service(lab, "redis-server", "--port", "PORT", "--bind", "0.0.0.0", "--save", "",
                      "--dir", "/tmp")
    ready(service)
    assert b"DENIED" in cli(service, "ping").stdout


def test_many_connections_at_once(redis):
    """epoll, non-blocking sockets, pipelines."""
    done = redis.reach("redis-benchmark", "-h", redis.host, "-p", "PORT", "-c", "40",
                            "-n", "2000", "-P", "4", "-q", "-t", "set,get")
    assert done.wait() == 0 and b"GET" in done.stdout, done.log()


def test_plain_client_is_refused(lab, redis):
    done = lab.run(lab.client, ["redis-cli", "-h", redis.host, "-p", str(redis.port),
                                "ping"], name="redis-cli")
    assert b"PONG" not in done.stdout, done.log()


def test_man_in_the_middle(lab, redis, tmp_path):
    middle = smkex.mitm(lab, tmp_path, redis.port)
    done = cli(redis, "set", "key", "the secret")
    assert b"OK" not in done.stdout and middle.events("answered"), done.log()
    assert b"proof is wrong" in done.stderr, done.log()
    assert middle.record == b""


def test_http(lab, www):
    service = Service(lab, sys.executable, "-u", "-m", "http.server", "--directory", www, "PORT")
    service.proc.wait_text("Serving HTTP")
    done = service.reach("curl", "-sS", "--noproxy", "*", "--max-time", "20",
                         f"http://{service.host}:PORT/big")
    assert done.wait() == 0 and done.stdout == noise(8 << 20), done.log()


# What programs do with sockets. A listener in the same manner: an echo.
ECHO = """
import socket, threading
listener = socket.create_server(("", PORT), reuse_port=False)
print("up", flush=True)
def serve(conn):
    assert conn.getpeername()[0] == "10.77.1.2", conn.getpeername()
    while data := conn.recv(65536):
        conn.sendall(data)
    conn.close()
while True:
    conn, peer = listener.accept()
    assert peer[0] == "10.77.1.2", peer
    threading.Thread(target=serve, args=[conn]).start()
"""
SOCKETS = """
import errno, os, resource, select, socket, sys
HOST = "10.77.100.1"
def talk(conn, text=b"hello"):
    conn.sendall(text)
    got = b""
    while len(got) < len(text):
        got += conn.recv(65536)
    assert got == text
# non-blocking connect, poll, epoll
conn = socket.socket()
conn.setblocking(False)
code = conn.connect_ex((HOST, PORT))
assert code in (0, errno.EINPROGRESS), code
assert select.select([], [conn], [], 20)[1]
assert conn.getpeername() == (HOST, PORT), conn.getpeername()
conn.send(b"one")
poll = select.epoll()
poll.register(conn, select.EPOLLIN | select.EPOLLET)
assert poll.poll(20)
assert conn.recv(10) == b"one"
# dup, close, fork
copy = conn.dup()
conn.close()
copy.setblocking(True)
talk(copy)
if os.fork() == 0:
    talk(copy, b"from the child")
    os._exit(0)
assert os.wait()[1] == 0
# half-close: what was sent comes back, then the end
copy.sendall(b"last words")
copy.shutdown(socket.SHUT_WR)
got = b""
while data := copy.recv(100):
    got += data
assert got == b"last words", got
# an IPv6 socket to an IPv4 server
six = socket.socket(socket.AF_INET6)
six.connect(("::ffff:" + HOST, PORT))
assert six.getpeername()[:2] == ("::ffff:" + HOST, PORT)
talk(six)
# a descriptor beyond 1023
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
many = [os.dup(0) for _ in range(1100)]
high = socket.create_connection((HOST, PORT))
assert high.fileno() > 1023
talk(high, b"x" * 300000)
# somewhere else: refused, and not in silence; what stays here is not
try:
    socket.create_connection((HOST, PORT + 1))
    sys.exit("another server was reached")
except PermissionError:
    pass
try:
    socket.create_connection(("127.0.0.1", 1))
except ConnectionRefusedError:
    print("all well")
"""


def test_sockets_as_programs_use_them(lab):
    port = lab.port()
    service = Service(lab, sys.executable, "-c", ECHO.replace("PORT", str(port)), port=port)
    service.proc.wait_text("up")
    done = service.reach(sys.executable, "-c", SOCKETS)
    assert done.wait() == 0 and done.stdout == b"all well\n", done.log()
    assert b"would not be protected" in done.stderr


# What becomes of connections that cannot be made, as programs ask for it.
OUTCOMES = """
import errno, select, socket, sys
at, expected = (sys.argv[1], int(sys.argv[2])), getattr(errno, sys.argv[3]) if sys.argv[3] != "0" else 0
conn = socket.socket()
code = conn.connect_ex(at)
assert code == expected, (code, expected)
again = conn.connect_ex(at)  # the same socket
assert again == (expected or errno.EISCONN), again
conn.close()
conn = socket.socket()
conn.setblocking(False)
assert conn.connect_ex(at) in (0, errno.EINPROGRESS)
if expected:  # the helper ends it; until then it looks made
    poll = select.poll()
    poll.register(conn, select.POLLIN)
    assert poll.poll(20000)
code = conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
assert code == expected, (code, expected)
assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
print("all well")
"""


def outcomes(service, port, expected):
    lab = service.lab
    done = lab.run(lab.client, [
        tools.tool("smkexize"), "run", "--to", f"{lab.addr}:{port}", "--path2", tools.spec(lab, service), "--",
        sys.executable, "-c", OUTCOMES, lab.addr, str(port), expected], name="smkexize", env=tools._SANITIZER)
    tools.check_sanitizer(done)
    assert done.wait() == 0 and done.stdout == b"all well\n", done.log()


def test_connect_ends_as_it_would_without_a_helper(lab, redis):
    outcomes(redis, redis.port, "0")
    outcomes(redis, lab.port(), "ECONNREFUSED")


def test_connect_to_a_man_in_the_middle_is_refused(lab, redis, tmp_path):
    smkex.mitm(lab, tmp_path, redis.port)
    outcomes(redis, redis.port, "EACCES")


def test_program_that_cannot_be_protected(lab, redis, tmp_path):
    source = tmp_path / "static.c"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-static", "-o", tmp_path / "static", source], check=True)
    done = redis.reach(str(tmp_path / "static"))
    assert done.wait() == 1 and b"linked statically" in done.stderr, done.log()


def test_exit_codes_are_the_program_s(redis):
    assert redis.reach("sh", "-c", "exit 7").wait() == 7
    assert redis.reach("sh", "-c", "kill -9 $$").wait() == 137
    assert redis.reach("/nowhere/at/all").wait() == 1


@pytest.mark.parametrize("words, text", [
    (["--", "true"], b"neither --to nor --on"), (["--to", "--", "true"], b"needs an address"),
    (["--to", "10.0.0.1:1"], b"-- PROGRAM is missing"), (["--to", "10.0.0.1:1", "--"], b"-- PROGRAM is missing"),
    (["--to", "10.0.0.1:1", "--path2", "auto", "true"], b"-- PROGRAM is missing"),
    (["--others", "plain"] * 800 + ["--", "true"], b"too many addresses"),
    (["--to", "10.0.0.1:1", "--colour", "--", "true"], b"unknown flag"),
    (["--others", "maybe", "--", "true"], b"only plain")])
def test_contradictions_are_refused(lab, words, text):
    done = lab.run(lab.client, [tools.tool("smkexize"), "run", *words], name="smkexize")
    assert done.wait() == 1 and text in done.stderr, done.log()


# ---- netcat, both of Debian's -------------------------------------------------------------------

NETCATS = {"nc.openbsd": ([], ["-N"]), "nc.traditional": (["-p"], ["-q", "1"])}


@pytest.mark.parametrize("program", NETCATS)
def test_netcat(lab, program):
    """Debian's two netcats, each at both ends: a file goes to the one that listens."""
    listens, sends = NETCATS[program]
    service = Service(lab, program, "-l", "-n", *listens, "PORT")
    text = noise(300000)
    done = service.reach(program, "-n", *sends, service.host, "PORT", stdin=text)
    assert done.wait() == 0, done.log()
    assert service.proc.wait() == 0, service.proc.log()
    assert service.proc.stdout == text
    assert "verified" in service.proc.log(400000)


@pytest.mark.parametrize("program", NETCATS)
def test_netcat_answers(lab, program):
    """The other way: what the listening one was given comes out at the other end."""
    listens, sends = NETCATS[program]
    text = noise(300000)
    service = Service(lab, program, "-l", "-n", *sends, *listens, "PORT", stdin=text)
    done = service.reach(program, "-n", *(["-d"] if program == "nc.openbsd" else []), service.host, "PORT")
    assert done.wait() == 0 and done.stdout == text, done.log()


@pytest.mark.parametrize("program", NETCATS)
def test_netcat_under_attack(lab, tmp_path, program):
    """The twin: a man in the middle of path 1 gets nothing, and neither does the one that listens."""
    listens, sends = NETCATS[program]
    service = Service(lab, program, "-l", "-n", *listens, "PORT")
    attacker = smkex.mitm(lab, tmp_path, service.port)
    done = service.reach(program, "-n", *sends, service.host, "PORT", stdin=b"a secret\n")
    assert attacker.events("answered"), done.log()
    assert attacker.record == b"" and service.proc.stdout == b""
