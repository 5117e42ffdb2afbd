"""On path 1, without any key: passes a TLS connection on and changes bytes of it.

--strip TYPE     removes this extension from the ClientHello (lengths corrected)
--retry          answers the first ClientHello with a HelloRetryRequest of its own, and passes the second on
--flip-down N    flips a bit of the N-th TLS application-data record from the server
--flip-up N      the same towards the server
--forge-down HEX sends these bytes to the client as a record of application data of its own
--fin-down N     ends the connection to the client after N bytes, as the server would (truncation)
--rst-down N     the same with a reset
"""

import argparse
import asyncio
import socket
import struct

import common

HANDSHAKE, APPLICATION = 22, 23


def strip(hello, kind):
    """A ClientHello record without one extension, and whether it had it."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + struct.unpack(">H", hello[at:at + 2])[0]
    at += 1 + hello[at]
    begin, at, kept, found = at, at + 2, b"", False
    while at < len(hello):
        this, size = struct.unpack(">HH", hello[at:at + 4])
        if this == kind:
            found = True
        else:
            kept += hello[at:at + 4 + size]
        at += 4 + size
    body = hello[9:begin] + struct.pack(">H", len(kept)) + kept
    return (hello[:3] + struct.pack(">H", len(body) + 4) + hello[5:6]
            + struct.pack(">I", len(body))[1:] + body), found


# The random of a ServerHello that is a HelloRetryRequest (RFC 8446 section 4.1.3).
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def retry(hello):
    """A HelloRetryRequest for P-256, answering a ClientHello record."""
    at = 5 + 4 + 2 + 32
    session = hello[at:at + 1 + hello[at]]
    extensions = struct.pack(">HHH", 43, 2, 0x0304) + struct.pack(">HHH", 51, 2, 23)
    body = (b"\x03\x03" + RETRY + session + struct.pack(">HB", 0x1302, 0)
            + struct.pack(">H", len(extensions)) + extensions)
    message = b"\x02" + struct.pack(">I", len(body))[1:] + body
    return struct.pack(">BHH", HANDSHAKE, 0x0303, len(message)) + message


class Editor:
    """One direction of one connection, cut into records."""

    def __init__(self, options, up):
        self.options, self.up = options, up
        self.buffer, self.seen, self.passed, self.first = b"", 0, 0, True

    def records(self, data):
        self.buffer += data
        while len(self.buffer) >= 5:
            size = 5 + struct.unpack(">H", self.buffer[3:5])[0]
            if len(self.buffer) < size:
                return
            record, self.buffer = self.buffer[:size], self.buffer[size:]
            yield self.edit(record)

    def edit(self, record):
        options = self.options
        if self.up and self.first and options.strip is not None and record[0] == HANDSHAKE:
            record, found = strip(record, options.strip)
            common.say(event="edited", what="strip", found=found)
        self.first = False
        if record[0] == APPLICATION:
            self.seen += 1
            if self.seen == (options.flip_up if self.up else options.flip_down):
                record = record[:-1] + bytes([record[-1] ^ 1])
                common.say(event="edited", what="flip")
            if not self.up and self.seen == 1 and options.forge_down:
                data = bytes.fromhex(options.forge_down)
                record = struct.pack(">BHH", APPLICATION, 0x0303, len(data)) + data + record
                common.say(event="edited", what="forge")
        return record


class Relay:
    def __init__(self, options):
        self.options = options

    async def down(self, reader, writer):
        editor, passed = Editor(self.options, False), 0
        limit = self.options.fin_down or self.options.rst_down
        while data := await reader.read(65536):
            for record in editor.records(data):
                if limit and passed + len(record) >= limit:
                    writer.write(record[:limit - passed])
                    await writer.drain()
                    if self.options.rst_down:
                        writer.get_extra_info("socket").setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        writer.transport.abort()
                    else:
                        writer.write_eof()
                    common.say(event="edited", what="cut")
                    return
                passed += len(record)
                writer.write(record)
                await writer.drain()
        writer.write_eof()

    async def up(self, reader, writer):
        editor = Editor(self.options, True)
        while data := await reader.read(65536):
            for record in editor.records(data):
                writer.write(record)
                await writer.drain()
        writer.write_eof()

    async def send_retry(self, reader, writer):
        """Takes the first ClientHello away."""
        head = await reader.readexactly(5)
        hello = head + await reader.readexactly(struct.unpack(">H", head[3:5])[0])
        writer.write(retry(hello))
        await writer.drain()
        common.say(event="edited", what="retry")

    async def handle(self, reader, writer):
        to = common.destination(writer, self.options.to)
        common.say(event="connection", to=f"{to[0]}:{to[1]}")
        up_writer = None
        try:
            if self.options.retry:
                await self.send_retry(reader, writer)
            up_reader, up_writer = await asyncio.open_connection(*to)
            await asyncio.gather(self.up(reader, up_writer), self.down(up_reader, writer))
        except (ConnectionError, OSError, asyncio.IncompleteReadError) as error:
            common.say(event="error", error=str(error))
        finally:
            for one in (writer, up_writer):
                if one:
                    one.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to")
    parser.add_argument("--family", type=int, default=4)
    parser.add_argument("--strip", type=lambda text: int(text, 0))
    parser.add_argument("--retry", action="store_true")
    parser.add_argument("--flip-down", type=int)
    parser.add_argument("--flip-up", type=int)
    parser.add_argument("--forge-down", metavar="HEX")
    parser.add_argument("--fin-down", type=int)
    parser.add_argument("--rst-down", type=int)
    options = parser.parse_args()
    common.run(common.serve(Relay(options).handle, options.family))


if __name__ == "__main__":
    main()
