"""A man in the middle on path 2, byte by byte and frame by frame.

It takes redirected TCP connections and passes them on to where they were going, changed as the
options say. Without options it is a plain relay. It never holds a key.
"""

import argparse
import asyncio
import os

import common
from mtlslab import wire

TYPES = {"hello": wire.HELLO, "ready": wire.READY, "proof": wire.PROOF, "confirm": wire.CONFIRM,
         "fail": wire.FAIL}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", help="HOST:PORT instead of the connection's own destination")
    parser.add_argument("--family", type=int, default=4)
    parser.add_argument("--accept", choices=["relay", "silent", "close", "garbage", "banner"],
                        default="relay", help="what to do with a connection")
    parser.add_argument("--delay-up", type=int, default=0, metavar="MS", help="to the server")
    parser.add_argument("--delay-down", type=int, default=0, metavar="MS", help="to the client")
    parser.add_argument("--cut-up", type=int, metavar="N", help="close after N bytes to the server")
    parser.add_argument("--cut-down", type=int, metavar="N", help="close after N to the client")
    parser.add_argument("--chop", action="store_true", help="one byte a segment, both ways")
    parser.add_argument("--drop", choices=TYPES, action="append", default=[], metavar="FRAME")
    parser.add_argument("--hold", metavar="FRAME:MS", help="delay frames of this type")
    parser.add_argument("--gate", metavar="FRAME:FILE", help="hold frames until FILE exists")
    parser.add_argument("--modify", metavar="FRAME:OFFSET", help="flip a bit of this body byte")
    parser.add_argument("--repeat", choices=TYPES, metavar="FRAME", help="send it twice")
    parser.add_argument("--insert", metavar="HEX", help="bytes for the client after the first frame")
    parser.add_argument("--swap", action="store_true", help="send the server's first two frames in the other order")
    parser.add_argument("--record-down", metavar="FILE", help="append the server's frames of type PROOF")
    parser.add_argument("--splice", metavar="FILE", help="send this PROOF in place of the server's")
    parser.add_argument("--record", metavar="FILE", help="append the client's frames")
    parser.add_argument("--replay", metavar="FILE", help="send this HELLO instead of the client's")
    parser.add_argument("--copy", action="store_true",
                        help="send the client's HELLO over a second connection of our own as well")
    return parser.parse_args()


class Stream:
    """One direction of one connection: cuts it into frames and applies the options."""

    def __init__(self, options, up, relay):
        self.options, self.up, self.relay = options, up, relay
        self.delay = (options.delay_up if up else options.delay_down) / 1000
        self.cut = options.cut_up if up else options.cut_down
        self.buffer, self.preface, self.passed, self.frames, self.kept = b"", False, 0, 0, b""

    async def change(self, data):
        """Yields what goes on, a frame at a time: a held one does not keep those before it."""
        if self.delay:
            await asyncio.sleep(self.delay)
        self.buffer += data
        if not self.preface and len(self.buffer) >= len(wire.PREFACE):
            if not self.buffer.startswith(wire.PREFACE):
                out, self.buffer = self.buffer, b""  # not ours: pass it as it is
                yield self.limit(out)
                return
            self.preface = True
            self.buffer = self.buffer[len(wire.PREFACE):]
            yield self.limit(wire.PREFACE)
        if self.preface:
            frames, self.buffer = wire.take(self.buffer)
            for frame in frames:
                yield self.limit(await self.one(*frame))

    async def one(self, kind, claim, body, raw):
        options = self.options
        self.frames += 1
        name = next((n for n, value in TYPES.items() if value == kind), str(kind))
        common.say(event="frame", up=self.up, type=name, claim=claim)
        if self.up and options.record:
            with open(options.record, "ab") as file:
                file.write(raw)
        if self.up and kind == wire.HELLO:
            if options.copy:
                await self.relay.copy(raw)
            if options.replay:
                with open(options.replay, "rb") as file:
                    raw = file.read(wire.HEADER + wire.BODY[wire.HELLO])
        if not self.up and kind == wire.PROOF:
            raw = self.other_proof(claim, raw)
        if name in options.drop:
            common.say(event="dropped", type=name)
            return b""
        await self.hold(name)
        if options.modify and options.modify.split(":")[0] == name:
            at = wire.HEADER + int(options.modify.split(":")[1])
            raw = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1:]
        if options.repeat == name:
            raw += raw
        if not self.up and options.swap and self.frames < 3:
            self.kept, raw = (raw, b"") if self.frames == 1 else (b"", raw + self.kept)
            common.say(event="swapped")
        if not self.up and options.insert and self.frames == 1:
            raw += bytes.fromhex(options.insert)
        return raw

    def other_proof(self, claim, raw):
        """One of another session, on this claim."""
        if self.options.record_down:
            with open(self.options.record_down, "ab") as file:
                file.write(raw)
        if not self.options.splice:
            return raw
        with open(self.options.splice, "rb") as file:
            found = file.read()[wire.HEADER:wire.HEADER + wire.BODY[wire.PROOF]]
        common.say(event="spliced")
        return wire.frame(wire.PROOF, claim, found)

    async def hold(self, name):
        if self.options.hold and self.options.hold.split(":")[0] == name:
            await asyncio.sleep(int(self.options.hold.split(":")[1]) / 1000)
        if self.options.gate and self.options.gate.split(":")[0] == name:
            common.say(event="held", type=name)
            while not os.path.exists(self.options.gate.split(":", 1)[1]):
                await asyncio.sleep(0.01)

    def limit(self, out):
        if self.cut is not None and self.passed + len(out) >= self.cut:
            out = out[:self.cut - self.passed]
            self.relay.cut.set()
        self.passed += len(out)
        return out


class Relay:
    """One connection of the client's."""

    def __init__(self, options):
        self.options = options
        self.cut = asyncio.Event()
        self.writers = []
        self.to = None

    async def copy(self, raw):
        _, writer = await asyncio.open_connection(*self.to)
        self.writers.append(writer)
        writer.write(wire.PREFACE + raw)
        await writer.drain()
        common.say(event="copied")

    async def pump(self, reader, writer, stream):
        try:
            while data := await reader.read(65536):
                async for part in stream.change(data):
                    for piece in self.pieces(part):
                        writer.write(piece)
                        await writer.drain()
                        if self.options.chop:
                            await asyncio.sleep(0)
                    if self.cut.is_set():
                        return
            writer.write_eof()
        except (ConnectionError, OSError):
            self.cut.set()

    def pieces(self, data):
        if self.options.chop:
            return [data[i:i + 1] for i in range(len(data))]
        return [data] if data else []

    async def run(self, reader, writer):
        self.writers.append(writer)
        self.to = common.destination(writer, self.options.to)
        common.say(event="connection", to=f"{self.to[0]}:{self.to[1]}")
        mode = self.options.accept
        if mode == "close":
            return
        if mode in ("garbage", "banner"):
            writer.write(os.urandom(4096) if mode == "garbage" else b"SSH-2.0-OpenSSH_9.2p1\r\n")
            await writer.drain()
            await reader.read()
            return
        if mode == "silent":
            await reader.read()
            return
        up_reader, up_writer = await asyncio.open_connection(*self.to)
        self.writers.append(up_writer)
        both = asyncio.gather(self.pump(reader, up_writer, Stream(self.options, True, self)),
                              self.pump(up_reader, writer, Stream(self.options, False, self)))
        cut = asyncio.ensure_future(self.cut.wait())
        await asyncio.wait([both, cut], return_when=asyncio.FIRST_COMPLETED)
        both.cancel()
        cut.cancel()

    async def handle(self, reader, writer):
        try:
            await self.run(reader, writer)
        except (ConnectionError, OSError) as error:
            common.say(event="error", error=str(error))
        finally:
            for one in self.writers:
                one.close()
            common.say(event="end")


def main():
    options = arguments()
    common.run(common.serve(lambda r, w: Relay(options).handle(r, w), options.family))


if __name__ == "__main__":
    main()
