"""mtls-client and mtls-server on the loopback with policy=off: fixtures and helpers. MTLS_BUILD names
the build folder."""

import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import threading

import pytest

BUILD = pathlib.Path(os.environ.get("MTLS_BUILD", "build"))
CLIENT = str(BUILD / "apps" / "mtls-client")
SERVER = str(BUILD / "apps" / "mtls-server")
WAIT = 30  # seconds; how long a broken program may hang before a test fails


def run(*args, **kwargs):
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(args, capture_output=True, timeout=WAIT, **kwargs)


def openssl(*args):
    done = run("openssl", *map(str, args))
    assert done.returncode == 0, done.stderr.decode()


class Certificates:
    """An authority, and a server's and a client's certificate from it."""

    def __init__(self, folder):
        self.folder = folder
        self.ca, self.ca_key = folder / "ca.pem", folder / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                self.ca_key, "-out", self.ca, "-subj", "/CN=test authority", "-days", "30",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self.cert, self.key = self.issue("server", "DNS:localhost,IP:127.0.0.1")
        self.client_cert, self.client_key = self.issue("client", "DNS:client.example")

    def issue(self, name, names):
        key, request = self.folder / f"{name}.key", self.folder / f"{name}.csr"
        cert, ext = self.folder / f"{name}.pem", self.folder / f"{name}.ext"
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                "-out", request, "-subj", f"/CN={name}")
        ext.write_text(f"subjectAltName={names}\nsubjectKeyIdentifier=hash\n"
                       "authorityKeyIdentifier=keyid\n")  # Python from 3.13 on demands them
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial",
                "-out", cert, "-days", "30", "-extfile", ext)
        return cert, key


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certs"))


class Tool:
    """A program that announces where it listens in its first JSON line."""

    def __init__(self, *args, **kwargs):
        self.process = subprocess.Popen(list(map(str, args)), stderr=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL, **kwargs)
        self.lines = []
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        listening = self.wait_for("listening")
        self.port = int(listening["listen"][0].rsplit(":", 1)[1])

    def read(self):
        for line in self.process.stderr:
            with self.news:
                self.lines.append(line.decode())
                self.news.notify_all()
        with self.news:
            self.lines.append(None)
            self.news.notify_all()

    def events(self, name):
        found = [json.loads(line) for line in self.lines if line is not None and line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def wait_for(self, name, count=1):
        with self.news:
            self.news.wait_for(lambda: len(self.events(name)) >= count or None in self.lines, WAIT)
            assert len(self.events(name)) >= count, self.lines
            return self.events(name)[count - 1]

    def stop(self, signum=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signum)
        code = self.process.wait(WAIT)
        self.reader.join(WAIT)
        return code


@pytest.fixture
def start(request):
    tools = []

    def begin(*args, **kwargs):
        tool = Tool(*args, **kwargs)
        tools.append(tool)
        return tool

    yield begin
    for tool in tools:
        if tool.process.poll() is None:
            tool.process.kill()
        tool.process.wait(WAIT)
        tool.reader.join(WAIT)
        print("".join(line for line in tool.lines if line is not None))


@pytest.fixture
def serve(start, certs):
    def begin(*args, cert=None, key=None, **kwargs):
        return start(SERVER, "--listen", "127.0.0.1:0", "--cert", cert or certs.cert, "--key",
                     key or certs.key, "--policy", "off", "--json", *args, **kwargs)

    return begin


@pytest.fixture
def site(tmp_path):
    www = tmp_path / "www"
    (www / "sub").mkdir(parents=True)
    (www / "index.html").write_bytes(b"<p>front</p>\n")
    (www / "sub" / "index.html").write_bytes(b"<p>sub</p>\n")
    (www / "a b.txt").write_bytes(b"with a space\n")
    (www / "empty").write_bytes(b"")
    (www / "big").write_bytes(os.urandom(8_000_003))
    (tmp_path / "secret").write_bytes(b"outside\n")
    (www / "out").symlink_to(tmp_path / "secret")
    (www / "up").symlink_to("../secret")
    (www / "in").symlink_to("a b.txt")
    os.mkfifo(www / "fifo")
    return www


def client(certs, *args, **kwargs):
    return run(CLIENT, "--cafile", str(certs.ca), "--policy", "off", *map(str, args), **kwargs)


def connect(certs, port, **options):
    context = ssl.create_default_context(cafile=str(certs.ca))
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.minimum_version = options.pop("minimum", ssl.TLSVersion.TLSv1_2)
    context.maximum_version = options.pop("maximum", ssl.TLSVersion.TLSv1_3)
    if "cert" in options:
        context.load_cert_chain(options.pop("cert"), options.pop("key"))
    sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    return context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)


def read_all(sock):
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def read_response(stream, head=False):
    status = stream.readline()
    fields = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, value = line.decode().split(":", 1)
        fields[name.lower()] = value.strip()
    body = b"" if head else stream.read(int(fields["content-length"]))
    return int(status.split()[1]), fields, body


def raw(certs, port, request):
    """Sends bytes, reads to the end: the answers as one byte string."""
    with connect(certs, port) as sock:
        sock.sendall(request)
        return read_all(sock)
