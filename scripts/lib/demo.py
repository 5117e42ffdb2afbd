"""The demo proper. `demo.py paths` lays namespaces (root); `demo.py loopback` does without."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test" / "system"))

from mtlslab import attack, netns, tools  # noqa: E402
from mtlslab.lab import Lab  # noqa: E402
from mtlslab.pki import Pki  # noqa: E402
from mtlslab.proc import Proc  # noqa: E402

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
SECRET = b"Account 4711: 1,000,000 - for the eyes of server.example's customer alone.\n"


def paint(number, text):
    return f"\x1b[{number}m{text}\x1b[0m" if COLOUR else text


def title(text):
    print(f"\n{paint(1, text)}", flush=True)


def tell(text):
    print(f"   {text}", flush=True)


def good(text):
    print(f"   {paint(32, text)}", flush=True)


def bad(text):
    print(f"   {paint(31, text)}", flush=True)


class Unexpected(Exception):
    """The demo did not go as it should."""


def expect(condition, text, log=""):
    if not condition:
        raise Unexpected(f"{text}\n{log}")


def show(proc):
    tell("$ " + " ".join(os.path.basename(proc.argv[0]) if n == 0 else word
                         for n, word in enumerate(proc.argv)))


def picture():
    tell("")
    tell("              p1   path 1: the data       ,---- router 1 ----.")
    tell("     client  <                                                >  server.example")
    tell("              p2   path 2: confirmation   `---- router 2 ----'")
    tell("")


def show_paths(result):
    for number, path in enumerate(result.paths, 1):
        tell(f"path {number}: {path.get('local')} -> {path.get('remote')} by {path.get('device')}"
             + (f", shares {path['shares']} with path 1" if path.get("shares") else ""))


def fetch(lab, pki, server, www):
    title("3  Fetch a file over Multipath TLS")
    tell("The client asks for an 8 MiB file. TLS runs on path 1, path 2 confirms its transcript hash.")
    result = tools.client(lab, pki, server, cafile=pki.bundle, get="/big")
    show(result.proc)
    expect(result.outcome == tools.VERIFIED, "the session was not verified", repr(result))
    show_paths(result)
    expect(result.body == (www / "big").read_bytes(), "the file differs")
    good(f"outcome: verified; {len(result.body)} bytes, the same byte for byte")


def intercept(lab, pki, server, folder):
    title("4  A man in the middle with a rogue certificate moves into router 1")
    tell("An authority that the client trusts has issued him a certificate for server.example. He ends")
    tell("the client's TLS, reads, and passes everything on to the real server.")
    mitm = attack.tls_mitm(lab, pki, Path(folder), server.port)
    tell("")
    tell("Plain TLS (curl, the same trusted authorities):")
    done = tools.curl(lab, pki, server.host, server.port, cafile=pki.bundle)
    show(done)
    expect(done.wait() == 0 and done.stdout == SECRET, "curl did not get the file", done.log())
    tell("curl is content: exit code 0. What the man in the middle wrote down:")
    for line in mitm.record.replace(b"\r", b"").split(b"\n"):
        if line.startswith((b"GET", b"Host", b"Account")):
            bad(f"   | {line.decode()}")
    expect(SECRET in mitm.record, "the man in the middle got nothing from plain TLS")
    with open(mitm.record_file, "wb"):
        pass
    tell("")
    tell("Multipath TLS, the same attacker:")
    result = tools.client(lab, pki, server, cafile=pki.bundle)
    show(result.proc)
    expect(result.outcome == tools.FAILED and result.code == tools.EXIT_UNVERIFIED,
           "the client did not refuse", repr(result))
    expect(mitm.record == b"", "the man in the middle got plaintext", repr(mitm.record[:200]))
    good(f"refused, exit code {result.code}: {result.reason} ({result.line.get('message')})")
    good("the man in the middle holds 0 bytes of the request")


def paths(folder):
    www = Path(folder) / "www"
    www.mkdir()
    (www / "file").write_bytes(SECRET)
    (www / "big").write_bytes(os.urandom(8 << 20))
    netns.remove_stale()
    title("2  Lay two paths")
    with Lab() as lab:
        tell("Four network namespaces: a client with two interfaces, a router on each path, a server.")
        picture()
        pki = Pki(folder, [lab.addr])
        # prefer: clients that do not know Multipath TLS are served as well, curl for one.
        server = tools.Server(lab, pki, www=www, policy="prefer")
        show(server.proc)
        fetch(lab, pki, server, www)
        intercept(lab, pki, server, folder)
    print()
    print("demo: plain TLS was intercepted, Multipath TLS refused the interceptor and delivered the "
          "file byte for byte", flush=True)


def loopback(folder):
    title("2  Not root: no network namespaces")
    tell("Without root there are no two paths and no man in the middle here: run this with sudo to see them.")
    tell("What works without: server and client on loopback addresses in two prefixes, distinct=server.")
    www = Path(folder) / "www"
    www.mkdir()
    (www / "big").write_bytes(os.urandom(8 << 20))
    pki = Pki(folder, ["127.0.0.1"])
    server = Proc([tools.tool("mtls-server"), "--json", "--listen", "127.0.0.1:0", "--path2-listen",
                   "127.0.1.1:0", "--cert", pki.cert, "--key", pki.key, "--www", str(www)])
    try:
        line = server.wait_json(event="listening")
        show(server)
        client = Proc([tools.tool("mtls-client"), f"{pki.name}:{line['listen'][0].split(':')[1]}",
                       "--connect", "127.0.0.1", "--cafile", pki.cafile, "--json", "--path2",
                       f"remote={line['path2'][0]},distinct=server", "--get", "/big"])
        result = tools.Result(client)
        show(client)
    finally:
        server.stop()
    expect(result.outcome == tools.VERIFIED, "the session was not verified", repr(result))
    expect(result.body == (www / "big").read_bytes(), "the file differs")
    show_paths(result)
    print()
    print("demo: verified over two loopback addresses, file the same byte for byte; the interception "
          "needs root", flush=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="mtls-demo-") as folder:
        try:
            (paths if sys.argv[1:] == ["paths"] else loopback)(folder)
        except KeyboardInterrupt:
            print("\ndemo: interrupted, cleaned up")
            return 130
        except (Unexpected, AssertionError, netns.NetError, subprocess.CalledProcessError) as error:
            bad(f"demo: failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
