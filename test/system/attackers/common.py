"""What the attackers share: where a redirected connection wanted to go, and how they report."""

import asyncio
import json
import os
import socket
import struct
import sys

SO_ORIGINAL_DST = 80
# The frames' lengths come from the tests' own wire module, which knows nothing of the library.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))


def say(**members):
    """One JSON line for the test that waits."""
    print(json.dumps(members), flush=True)


def original_destination(sock):
    """(address, port) before the redirect rule changed it."""
    if sock.family == socket.AF_INET6:
        raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack(">H", raw[2:4])[0]
    raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    return socket.inet_ntoa(raw[4:8]), struct.unpack(">H", raw[2:4])[0]


def destination(writer, given):
    """Where this connection should go on to: the given HOST:PORT, or what it asked for."""
    if given:
        host, port = given.rsplit(":", 1)
        return host.strip("[]"), int(port)
    return original_destination(writer.get_extra_info("socket"))


async def serve(handle, family, tls=None, protocol=0):
    """Listens on a free port, says which, and serves until the end."""
    sock = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM, protocol)
    if family == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("::" if family == 6 else "0.0.0.0", 0))
    server = await asyncio.start_server(handle, sock=sock, ssl=tls)
    say(event="listening", port=server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


async def pump(reader, writer, each=None):
    """Copies until the end; each(data) sees, and may be a coroutine that changes, every piece."""
    try:
        while data := await reader.read(65536):
            if each:
                data = each(data)
                if asyncio.iscoroutine(data):
                    data = await data
            if data:
                writer.write(data)
                await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
    except (ConnectionError, OSError):
        writer.close()


def run(main):
    try:
        asyncio.run(main)
    except KeyboardInterrupt:
        pass
