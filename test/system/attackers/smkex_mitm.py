"""A man in the middle of SMKEX's path 1: one Diffie-Hellman exchange with the client, one with the
server, and the plain text of both in his file. With one path that is all it takes.

It keeps the client's join, so that the server proves to the client's claim on path 2; it cannot make
that proof fit. Written on the tests' own reference implementation.
"""

import argparse
import asyncio
import socket

import common
import smkex_reference as smkex


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", required=True)
    parser.add_argument("--signature", choices=["strip", "keep"], default="strip",
                        help="the server's key and signature: leave out, or pass on as they are")
    parser.add_argument("--alter", metavar="OLD=NEW", help="in what the server sends")
    parser.add_argument("--strip", action="store_true",
                        help="answer the client as a server that does not speak SMKEX")
    parser.add_argument("--refuse", type=int, metavar="REASON", help="refuse the client's OFFER")
    parser.add_argument("--flip", type=int, metavar="N", help="no exchange of his own: a bit of the "
                        "N-th byte from the server is changed")
    parser.add_argument("--mptcp", action="store_true", help="speak Multipath TCP with the client")
    parser.add_argument("--to", metavar="HOST:PORT", help="the server, where the socket does not tell")
    return parser.parse_args()


async def read_message(reader):
    head = await reader.readexactly(10)
    return head + await reader.readexactly(int.from_bytes(head[8:], "big"))


async def read_record(reader):
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[3:], "big"))


class Middle:
    def __init__(self, options):
        self.options = options

    def forge_answer(self, offer, real):
        """An ANSWER with a share of ours, as much like the real one as can be."""
        got, mine = smkex.answer_parse(real), smkex.offer_parse(offer)
        group, peer = mine["shares"][0]
        dh = smkex.Dh(group)
        # What the client asks for is granted, whatever the server says.
        words = {"mode": mine["mode"], "max_age": got["max_age"], "flags": mine["flags"]}
        if got["key"] and self.options.signature == "keep":
            answer = smkex.answer_unsigned(group, dh.share, got["suite"], key=got["key"],
                                           **words) + got["signature"]
        else:
            answer = smkex.answer_unsigned(group, dh.share, got["suite"], **words)
        return answer, dh.derive(peer), got["suite"]

    async def exchange(self, reader, writer, up_reader, up_writer):
        """Both exchanges; the two sides' ways, by what each side sends."""
        offer = await read_message(reader)
        parsed = smkex.offer_parse(offer)
        group = parsed["shares"][0][0]
        dh = smkex.Dh(group)
        own = smkex.offer_encode(parsed["join"], [(group, dh.share)], mode=parsed["mode"],
                                 suites=parsed["suites"], flags=parsed["flags"])
        up_writer.write(own)
        real = await read_message(up_reader)
        forged, secret, suite = self.forge_answer(offer, real)
        common.say(event="answered")
        writer.write(forged)
        mode, got = parsed["mode"], smkex.answer_parse(real)
        client = smkex.Keys(mode, secret, offer, forged).traffic()
        server = smkex.Keys(mode, dh.derive(got["share"]), own, real).traffic()
        return [[smkex.Direction(mode, suite, client[i]),
                 smkex.Direction(mode, got["suite"], server[i])] for i in range(2)]

    def alter(self, data):
        old, _, new = (self.options.alter or "").partition("=")
        if not old or old.encode() not in data:
            return data
        common.say(event="altered")
        return data.replace(old.encode(), new.encode())

    async def pump(self, reader, writer, opens, seals, name):
        while True:
            kind, data = opens.open(await read_record(reader))
            if kind == smkex.DATA:
                with open(self.options.record, "ab") as file:
                    file.write(data)
                common.say(event="stolen", side=name, size=len(data))
                data = self.alter(data) if name == "server" else data
            writer.write(seals.seal(kind, data))
            await writer.drain()

    async def passive(self, reader, writer, up_reader, up_writer):
        """Only flips a bit of what the server sends."""
        left = self.options.flip

        async def down():
            nonlocal left
            while data := await up_reader.read(65536):
                if 0 <= left < len(data):
                    data = data[:left] + bytes([data[left] ^ 1]) + data[left + 1:]
                left -= len(data)
                writer.write(data)
            writer.write_eof()
        await asyncio.gather(common.pump(reader, up_writer), down())

    async def handle(self, reader, writer):
        up_writer = None
        try:
            common.say(event="connection")
            if self.options.strip:
                await reader.readexactly(8)
                writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                writer.write_eof()
                await reader.read()
                return
            if self.options.refuse is not None:
                await read_message(reader)
                writer.write(smkex.refusal(self.options.refuse))
                await reader.read()
                return
            up_reader, up_writer = await asyncio.open_connection(
                *common.destination(writer, self.options.to))
            if self.options.flip is not None:
                await self.passive(reader, writer, up_reader, up_writer)
                return
            (from_client, to_server), (to_client, from_server) = await self.exchange(
                reader, writer, up_reader, up_writer)
            await asyncio.gather(
                self.pump(reader, up_writer, from_client, to_server, "client"),
                self.pump(up_reader, writer, from_server, to_client, "server"))
        except (ConnectionError, OSError, asyncio.IncompleteReadError, smkex.Error) as error:
            common.say(event="error", error=str(error))
        finally:
            writer.close()
            if up_writer:
                up_writer.close()
            common.say(event="end")


def main():
    options = arguments()
    open(options.record, "wb").close()
    common.run(common.serve(lambda r, w: Middle(options).handle(r, w), 4,
                            protocol=socket.IPPROTO_MPTCP if options.mptcp else 0))


if __name__ == "__main__":
    main()
