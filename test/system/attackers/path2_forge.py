"""On path 2, in the server's place: speaks the protocol itself, with keys that it has or makes up.

It answers HELLO with a READY of its own (--status: ok, busy, not-here) and then with PROOFs, whose keys
are random, or those of a session that the attackers prepared (--ek, --th: hexadecimal). Every
secret that it hears is reported: the other attacker may use it.
"""

import argparse
import asyncio
import hashlib
import os

import common
from mtlslab import wire

STATUS = {"ok": 0, "busy": 1, "not-here": 2}
HLEN = 32


class Forger:
    def __init__(self, options):
        self.options = options

    def proof(self, claim, p2):
        """tag_s as doc/protocol.md [TAG-3] has it, under the keys that we have."""
        ek = bytes.fromhex(self.options.ek) if self.options.ek else os.urandom(64)
        th = bytes.fromhex(self.options.th) if self.options.th else os.urandom(HLEN)
        text = self.options.label.encode() + b" server proof\0" + bytes([wire.VERSION, HLEN]) + th + p2
        return wire.frame(wire.PROOF, claim, bytes([0, 0]) + wire.tag(ek[:32], text))

    async def handle(self, reader, writer):
        common.say(event="connection")
        buffer, preface = b"", False
        try:
            while data := await reader.read(4096):
                buffer += data
                if not preface and len(buffer) >= len(wire.PREFACE):
                    buffer, preface = buffer[len(wire.PREFACE):], True
                    writer.write(wire.PREFACE)
                frames, buffer = wire.take(buffer) if preface else ([], buffer)
                for kind, claim, body, raw in frames:
                    if kind == wire.HELLO:
                        common.say(event="hello", secret=body[3:35].hex(), raw=raw.hex())
                        ready = wire.frame(wire.READY, claim, bytes([STATUS[self.options.status]])
                                           + os.urandom(32) + hashlib.sha256(raw).digest())
                        writer.write(ready)
                        if self.options.status == "ok":
                            p2 = hashlib.sha256(raw + ready).digest()
                            writer.write(self.proof(claim, p2))
                        common.say(event="forged")
                    elif kind == wire.CONFIRM:
                        common.say(event="confirmed")
                await writer.drain()
        except (ConnectionError, OSError):
            pass
        writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", type=int, default=4)
    parser.add_argument("--status", choices=STATUS, default="ok")
    parser.add_argument("--label", default="mtls1")
    parser.add_argument("--ek")
    parser.add_argument("--th")
    options = parser.parse_args()
    common.run(common.serve(Forger(options).handle, options.family))


if __name__ == "__main__":
    main()
