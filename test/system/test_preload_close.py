"""Descriptors that are closed while handshakes wait for path 2: by children that borrow the memory
(vfork), in signal handlers, all at once, by being replaced."""

import json
import time

from mtlslab import attack, tools
from preload_tools import Wrap, client_words

PYTHON = "/usr/bin/python3"

# While the handshake waits, the program does what is asked; then whether it came to its end.
CLIENT = """
import asyncio, ctypes, json, os, resource, signal, socket, ssl, subprocess, sys, time
cafile, name, host, port, what = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
libc = ctypes.CDLL(None)
def others():
    pair = socket.socketpair()
    for end in pair:
        end.close()
async def meanwhile(conn):
    if what == "vfork":
        for _ in range(5):
            subprocess.run(["/bin/true"], check=True)
    if what == "vfork-dup2":
        subprocess.run(["/bin/cat"], check=True, stdout=subprocess.PIPE, input=b"x")
    if what == "signal":
        signal.signal(signal.SIGALRM, lambda *_: others())
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            others()
            await asyncio.sleep(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    if what == "fork":
        if (pid := os.fork()) == 0:
            os.closerange(3, 4096)
            os._exit(0)
        os.waitpid(pid, 0)
    if what == "failing-dup2":
        assert libc.dup2(4000, conn.fileno()) == -1
    if what == "closefrom":
        asked = os.dup2(os.open("/dev/null", os.O_RDWR), 90)
        libc.closefrom(91) # ours are among them; their numbers are used again at once
        for n in range(91, 140):
            os.dup2(asked, n)
    if what == "close":
        conn.close()
async def main():
    conn = socket.create_connection((host, int(port)))
    conn.setblocking(False)
    before = time.monotonic()
    job = asyncio.ensure_future(asyncio.open_connection(sock=conn, ssl=context, server_hostname=name))
    await asyncio.sleep(0.15)
    assert not job.done()
    if what == "close":
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        print(json.dumps({"closed": True}), flush=True)
        await asyncio.sleep(30)
    await meanwhile(conn)
    try:
        reader, writer = await job
        writer.write(b"GET /file HTTP/1.0\\r\\nHost: " + name.encode() + b"\\r\\n\\r\\n")
        said = b"the text that nobody" in await reader.read(1000)
    except OSError as e:
        said = str(e)
    if what == "closefrom":
        assert all(os.readlink(f"/proc/self/fd/{n}") == "/dev/null" for n in range(91, 140))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"said": said, "took": time.monotonic() - before,
                      "cpu": usage.ru_utime + usage.ru_stime}), flush=True)
    os._exit(0)
asyncio.run(main())
"""


def start(lab, pki, server, wrap, what):
    return lab.spawn(lab.client, wrap.argv([PYTHON, "-c", CLIENT, pki.cafile, pki.name, server.host,
                                            server.port, what]))


def said(lab, pki, server, tmp_path, what, deadline=8000):
    wrap = Wrap(tmp_path, client_words(lab, server, deadline=deadline), name=what)
    proc = start(lab, pki, server, wrap, what)
    assert proc.wait() == 0, proc.log()
    return json.loads(proc.stdout), wrap


def test_nothing_of_the_handshakes(lab, pki, www, tmp_path):
    """What closes something else, or closes in another process, changes nothing."""
    server = tools.Server(lab, pki, www=www)
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:1000")
    for what in ("nothing", "vfork", "vfork-dup2", "signal", "fork", "failing-dup2"):
        got, wrap = said(lab, pki, server, tmp_path, what)
        assert got["said"] is True and 0.9 < got["took"] < 4 and got["cpu"] < 1.5, (what, got)
        assert len(wrap.wait(1, outcome="verified")) == 1


def test_closefrom(lab, pki, www, tmp_path):
    """Our own descriptors are closed and their numbers used again: the connection ends, and no
    number that is the program's by now is touched."""
    server = tools.Server(lab, pki, www=www)
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:1000")
    got, _ = said(lab, pki, server, tmp_path, "closefrom", deadline=2000)
    assert got["said"] is not True and got["took"] < 8 and got["cpu"] < 1.5, got


def connections(lab, port):
    """States of the client's connections to this port."""
    rows = lab.run(lab.client, ["cat", "/proc/net/tcp"]).stdout.decode().splitlines()[1:]
    return [row.split()[3] for row in rows if row.split()[2].endswith(f":{port:04X}")]


def test_the_connection_ends_with_close(lab, pki, www, tmp_path):
    """What the library has a copy of is closed with the program's own descriptor."""
    server = tools.Server(lab, pki, www=www)
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:20000")
    wrap = Wrap(tmp_path, client_words(lab, server, deadline=25000))
    proc = start(lab, pki, server, wrap, "close")
    proc.wait_text("closed")
    limit = time.monotonic() + 10
    while "01" in connections(lab, server.port):  # established
        assert time.monotonic() < limit, connections(lab, server.port)
        time.sleep(0.01)
