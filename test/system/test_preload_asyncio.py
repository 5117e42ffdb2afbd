"""asyncio under the preload library: memory BIOs, so that nothing but the socket can wake the loop."""

import json

import pytest

from conftest import SECRET
from mtlslab import attack, tools
from preload_tools import Wrap, client_words, wrapped_server

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
    """PROOF 300 ms late: every handshake waits so long, all of them together hardly longer, and the
    loop runs on."""
    attack.path2_relay(lab, server.path2_port, "--hold", "proof:300")
    wrap = Wrap(tmp_path, client_words(lab, server, reuse="off"))
    said = run(lab, pki, server, wrap, count)
    assert said["fine"] == count, said
    assert len(wrap.wait(count, outcome="verified")) == count
    assert 0.3 <= said["slowest"] < 0.3 + 1.5, said
    # Blocked handshakes, one after the other, would stall the loop for 300 ms each.
    assert said["stall"] < 0.25 and said["cpu"] < 1.5, said


def test_wrong_proof(lab, pki, www, tmp_path):
    server = tools.Server(lab, pki, www=www)
    attack.path2_relay(lab, server.path2_port, "--modify", "proof:20")
    wrap = Wrap(tmp_path, client_words(lab, server), name="wrong")
    said = run(lab, pki, server, wrap, 5)
    assert said["fine"] == 0 and "proof is wrong" in said["errors"][0], said
    assert len(wrap.wait(5, outcome="failed")) == 5
    assert said["stall"] < 0.5, said


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
