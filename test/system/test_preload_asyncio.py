"""asyncio under the preload library: memory BIOs, so that nothing but the socket can wake the loop."""

import json

import pytest

from conftest import SECRET
from mtlslab import attack, stock, tools
from preload_tools import Wrap, client_words, nginx, wrapped_server

PYTHON = "/usr/bin/python3"

# Handshakes at once; the longest time that the loop did not run meanwhile, and its processor time.
CLIENT = """
import asyncio, json, resource, ssl, sys, time
cafile, name, host, port, count = sys.argv[1:5] + [int(sys.argv[5])]
context = ssl.create_default_context(cafile=cafile)
async def ticker(stall):
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.001)
        stall[0] = max(stall[0], time.monotonic() - before - 0.001)
async def one():
    before = time.monotonic()
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context,
                                                   server_hostname=name)
    took = time.monotonic() - before
    writer.write(b"GET /file HTTP/1.0\\r\\nHost: " + name.encode() + b"\\r\\n\\r\\n")
    body = await reader.read()
    while not reader.at_eof():
        body += await reader.read()
    writer.close()
    return took, b"the text that nobody" in body
async def main():
    stall = [0.0]
    tick = asyncio.ensure_future(ticker(stall))
    before = time.monotonic()
    done = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
    tick.cancel()
    fine = [item for item in done if isinstance(item, tuple)]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"fine": sum(item[1] for item in fine), "slowest": max([item[0] for item in fine] or [0]),
                      "all": time.monotonic() - before, "stall": stall[0],
                      "errors": [str(item) for item in done if not isinstance(item, tuple)][:3],
                      "cpu": usage.ru_utime + usage.ru_stime}))
asyncio.run(main())
"""

SERVER = """
import asyncio, ssl, sys
cert, key, host, port = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
async def serve(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\nthe text that nobody on path 1 may read: \\n")
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, host, int(port), ssl=context)
    await server.serve_forever()
asyncio.run(main())
"""


def run(lab, pki, server, wrap, count=1, cafile=None):
    proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", CLIENT, cafile or pki.cafile, pki.name,
                                          server.host, server.port, count]))
    assert proc.wait() == 0, proc.log()
    return json.loads(proc.stdout)


@pytest.mark.parametrize("count", [1, 50])
def test_clients_at_once(lab, pki, server, tmp_path, count):
    """PROOF a second late: every handshake waits so long, all of them together hardly longer, and the
    loop runs on."""
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:1000")
    wrap = Wrap(tmp_path, client_words(lab, server, reuse="off"))
    said = run(lab, pki, server, wrap, count)
    assert said["fine"] == count, said
    assert len(wrap.wait(count, outcome="verified")) == count
    assert 1 <= said["slowest"] < 1 + 4, said
    # Blocked handshakes, one after the other, would stall the loop for a second each.
    assert said["stall"] < 0.9 and said["cpu"] < 1.5, said


def test_wrong_proof(lab, pki, www, tmp_path):
    server = tools.Server(lab, pki, www=www)
    attack.path2_relay(lab, server.path2_port, "--modify", "proof:20")
    wrap = Wrap(tmp_path, client_words(lab, server), name="wrong")
    said = run(lab, pki, server, wrap, 5)
    assert said["fine"] == 0 and "proof is wrong" in said["errors"][0], said
    assert len(wrap.wait(5, outcome="failed")) == 5
    assert said["stall"] < 0.9, said


def test_plain_server_under_prefer(lab, pki, www, tmp_path):
    """A server without the extension, path 2 refused: plain at once, nothing is held."""
    server = tools.Server(lab, pki, www=www, path2=False)
    wrap = Wrap(tmp_path, client_words(lab, host=server.host, port=lab.port(), policy="prefer"))
    said = run(lab, pki, server, wrap, 5)
    assert said["fine"] == 5 and said["slowest"] < 0.9, said
    assert len(wrap.wait(5, outcome="plain")) == 5


@pytest.mark.parametrize("hold", ["", "confirm:300"])
def test_server(lab, pki, tmp_path, hold):
    """The server holds the client's second flight until CONFIRM has come."""
    service = wrapped_server(
        lab, pki, tmp_path,
        lambda port, wrap: lab.spawn(lab.server, wrap.argv([
            PYTHON, "-c", SERVER, pki.cert, pki.key, lab.addr, port])))
    if hold:
        attack.path2_relay(lab, service.path2_port, "--hold", hold)
    for _ in range(3):
        result = tools.client(lab, pki, service)
        assert (result.code, result.outcome) == (0, "verified"), result
        assert SECRET in result.body
    assert len(service.wrap.wait(3, outcome="verified")) == 3
    plain = tools.curl(lab, pki, service.host, service.port)
    assert plain.wait() != 0 and SECRET not in plain.stdout


def test_deadline(lab, pki, www, tmp_path):
    """PROOF does not come: all fail at the deadline, with the loop running."""
    server = tools.Server(lab, pki, www=www)
    attack.path2_relay(lab, server.path2_port, "--drop", "proof")
    wrap = Wrap(tmp_path, client_words(lab, server, deadline=1000))
    said = run(lab, pki, server, wrap, 5)
    assert said["fine"] == 0 and "no proof came" in said["errors"][0], said
    assert 0.9 < said["all"] < 5 and said["stall"] < 0.9 and said["cpu"] < 1, said


def test_hello_retry_request_and_older_tls(lab, pki, www, tmp_path):
    """The second ClientHello must leave while path 2 is silent; a server of TLS 1.2 is plain under
    prefer."""
    service = wrapped_server(lab, pki, tmp_path, lambda port, wrap: nginx(
        lab, pki, tmp_path, www, port, wrap, location="ssl_ecdh_curve secp384r1;"))
    attack.path2_relay(lab, service.path2_port, "--hold", "proof:1000")
    wrap = Wrap(tmp_path, client_words(lab, service, reuse="off"), name="retry")
    said = run(lab, pki, service, wrap, 5)
    assert said["fine"] == 5 and said["stall"] < 0.9, said
    assert len(wrap.wait(5, outcome="verified")) == 5
    old = stock.s_server(lab, pki, "-tls1_2", www=www)
    prefer = Wrap(tmp_path, client_words(lab, host=lab.addr, port=lab.port(), policy="prefer"),
                  name="old")
    old.host = lab.addr
    said = run(lab, pki, old, prefer)
    assert said["fine"] == 1, said
    assert prefer.wait(1, outcome="plain")[0]["reason"] == "tls-version"


def test_server_closes_while_held(lab, pki, server, tmp_path):
    """FIN behind the flight while PROOF is late: the end of the stream reaches the program, no
    spinning, no hang."""
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:500")
    wrap = Wrap(tmp_path, client_words(lab, server))
    script = CLIENT.replace("asyncio.run(main())", "")
    script += """
import socket
async def closed():
    plain = socket.create_connection((host, int(port)))
    plain.setblocking(False)
    before, usage = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    connecting = asyncio.ensure_future(asyncio.open_connection(sock=plain, ssl=context, server_hostname=name))
    await asyncio.sleep(0.2)
    socket.socket(fileno=socket.dup(plain.fileno())).shutdown(socket.SHUT_RD)
    try:
        await connecting
        what = "fine"
    except OSError as e:
        what = type(e).__name__
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"what": what, "took": time.monotonic() - before,
                      "cpu": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime}))
asyncio.run(closed())
"""
    proc = lab.run(lab.client, wrap.argv([PYTHON, "-c", script, pki.cafile, pki.name, server.host,
                                          server.port, 1]))
    assert proc.wait() == 0, proc.log()
    said = json.loads(proc.stdout)
    assert said["took"] < 8 and said["cpu"] < 0.3, said
