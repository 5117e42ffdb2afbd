"""Unmodified servers while a handshake waits for path 2: woken once, whatever their event loop is and
whatever the client sends meanwhile. Processor time and context switches are counted."""

import os

import pytest

from conftest import SECRET
from mtlslab import attack, tools
from preload_tools import Wrap, client_words, nginx, wrapped_server

PYTHON = "/usr/bin/python3"
HELD_MS = 500

# A server whose sockets have a timeout: non-blocking ones, with poll(2) inside CPython.
SERVER = """
import socket, ssl, sys, threading
cert, key, host, port = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
listener = socket.create_server((host, int(port)))
def serve(plain):
    plain.settimeout(20)
    try:
        with context.wrap_socket(plain, server_side=True) as conn:
            data = b""
            while b"\\r\\n\\r\\n" not in data:
                data += conn.recv(65536)
            head, rest = data.split(b"\\r\\n\\r\\n", 1)
            length = [int(line.split(b":")[1]) for line in head.split(b"\\r\\n")
                      if line.lower().startswith(b"content-length")]
            left = (length[0] if length else 0) - len(rest)
            while left > 0:
                left -= len(conn.recv(65536))
            conn.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nthe text that nobody on path 1 may read: \\n")
    except OSError as e:
        print(e, file=sys.stderr, flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""

# What it sends at once behind its Finished; then it waits for the answer.
CLIENT = """
import socket, ssl, sys
cafile, name, host, port, what = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
plain = socket.create_connection((host, int(port)), timeout=20)
conn = context.wrap_socket(plain, server_hostname=name)
if what == "upload":
    body = b"x" * (4 << 20)
    try:
        conn.sendall(b"PUT /up HTTP/1.0\\r\\nHost: %s\\r\\nContent-Length: %d\\r\\n\\r\\n" % (name.encode(), len(body)) + body)
    except OSError:
        pass  # haproxy answers before it has read all
else:
    conn.sendall(b"GET /file HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n" % name.encode())
if what == "fin":
    socket.socket(fileno=socket.dup(conn.fileno())).shutdown(socket.SHUT_WR)
while True:
    try:
        data = conn.recv(65536)
    except BrokenPipeError:  # Python 3.13 answers an end without close_notify with an alert
        break
    if not data:
        break
    sys.stdout.buffer.write(data)
"""

HAPROXY = """
global
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend tls
    bind {address}:{port} ssl crt {bundle} ssl-min-ver TLSv1.3
    http-request return status 200 content-type text/plain string "the text that nobody on path 1 may read: "
"""


def start_python(lab, pki, tmp_path, www):
    return lambda port, wrap: lab.spawn(lab.server, wrap.argv([
        PYTHON, "-c", SERVER, pki.cert, pki.key, lab.addr, port]))


def start_nginx(lab, pki, tmp_path, www):
    return lambda port, wrap: nginx(lab, pki, tmp_path, www, port, wrap, tls=" ssl")


def start_haproxy(lab, pki, tmp_path, www):
    bundle, conf = tmp_path / "bundle.pem", tmp_path / "haproxy.cfg"
    with open(pki.cert, encoding="ascii") as cert, open(pki.key, encoding="ascii") as key:
        bundle.write_text(cert.read() + key.read())

    def start(port, wrap):
        conf.write_text(HAPROXY.format(address=lab.addr, port=port, bundle=bundle))
        return lab.spawn(lab.server, wrap.argv([tools.which("haproxy"), "-db", "-f", conf]))
    return start


SERVERS = {"python": start_python, "nginx": start_nginx, "haproxy": start_haproxy}


class Cost:
    """What a process used since."""

    def __init__(self, pid):
        self.pid, self.before = pid, self._now(pid)

    @staticmethod
    def _now(pid):
        ticks = switches = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as file:
                words = file.read().rsplit(")", 1)[1].split()
                ticks += int(words[11]) + int(words[12])
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
                switches += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
        return ticks, switches

    def so_far(self):
        now = self._now(self.pid)
        return ((now[0] - self.before[0]) / os.sysconf("SC_CLK_TCK"), now[1] - self.before[1])


@pytest.mark.parametrize("name, what", [(name, what) for name in SERVERS
                                        for what in ("get", "upload", "fin")
                                        if (name, what) != ("nginx", "upload")])
def test_gated_server_does_not_spin(lab, pki, www, tmp_path, name, what):
    service = wrapped_server(lab, pki, tmp_path, SERVERS[name](lab, pki, tmp_path, www))
    attack.path2_relay(lab, service.path2_port, "--hold", f"confirm:{HELD_MS}")
    cost = Cost(service.proc.pid)
    wrap = Wrap(tmp_path, client_words(lab, service))
    client = lab.run(lab.client, wrap.argv([PYTHON, "-c", CLIENT, pki.cafile, pki.name,
                                            service.host, service.port, what]))
    seconds, switches = cost.so_far()
    assert client.wait() == 0 and SECRET[:20] in client.stdout, client.log()
    (line,) = service.wrap.wait(outcome="verified")
    assert line["times_us"]["decided"] >= HELD_MS * 1000 * 0.9, line
    # A program that spins makes half a million calls in this time.
    assert seconds < 0.2 and switches < 1500, (seconds, switches)
