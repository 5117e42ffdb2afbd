"""On path 1: passes the connection on untouched, and sends a copy of the client's first flight behind it
to the server over a connection of its own (a copied ClientHello). --delay holds the client's bytes
back, so that path 2 is there first."""

import argparse
import asyncio

import common


class Copier:
    def __init__(self, options):
        self.options = options

    async def copy(self, to, data):
        reader, writer = await asyncio.open_connection(*to)
        writer.write(data)
        await writer.drain()
        got = await reader.read(65536)
        common.say(event="copied", answered=len(got))
        await reader.read()
        writer.close()

    async def handle(self, reader, writer):
        to = common.destination(writer, self.options.to)
        copies = []
        try:
            first = await reader.read(65536)
            if self.options.delay:
                await asyncio.sleep(self.options.delay / 1000)
            up_reader, up_writer = await asyncio.open_connection(*to)
            up_writer.write(first)
            if self.options.copy:  # behind the real one: a copy that is there first may end the session
                copies.append(asyncio.ensure_future(self.copy(to, first)))
            await asyncio.gather(common.pump(reader, up_writer), common.pump(up_reader, writer))
            up_writer.close()
        except (ConnectionError, OSError) as error:
            common.say(event="error", error=str(error))
        finally:
            writer.close()
            for copy in copies:
                copy.cancel()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to")
    parser.add_argument("--family", type=int, default=4)
    parser.add_argument("--copy", action="store_true")
    parser.add_argument("--delay", type=int, default=0, metavar="MS")
    options = parser.parse_args()
    common.run(common.serve(Copier(options).handle, options.family))


if __name__ == "__main__":
    main()
