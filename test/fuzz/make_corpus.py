#!/usr/bin/python3
"""Writes the seed corpora of the fuzz targets: corpus/TARGET/NAME, small binary files.

One function per target returns {name: bytes}. Run it after a change and commit what it writes.
"""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))

PREFACE = bytes.fromhex("f04d544c53320d0a")
MAGIC = b"MTL1"
SECRET, NONCE_C, NONCE_S, TAG = (bytes([i]) * 32 for i in (0x51, 0x52, 0x53, 0x54))


def frame(kind, claim, body):
    return struct.pack(">BBHI", kind, 1, len(body), claim) + body


def hello(claim=1, port=443, path=0):
    return frame(1, claim, struct.pack(">HB", port, path) + SECRET + NONCE_C)


def ready(claim=1, status=0):
    return frame(2, claim, bytes([status]) + NONCE_S + TAG)


def proof(claim=1, slot=0, more=0):
    return frame(3, claim, bytes([slot, more]) + TAG)


def confirm(claim=1, slot=0, k=1, n=1):
    return frame(4, claim, bytes([slot, k, n]) + TAG)


def fail(claim=1, reason=0):
    return frame(5, claim, bytes([reason]))


def ch(versions=b"\x01", flags=0, join=SECRET[:16]):
    return MAGIC + bytes([len(versions)]) + versions + bytes([flags]) + join


def ee(version=1, flags=0, port=914, max_age=15552000, addresses=()):
    return (MAGIC + struct.pack(">BBHIB", version, flags, port, max_age, len(addresses))
            + b"".join(addresses))


IPV4 = bytes([4, 192, 0, 2, 1]) + struct.pack(">H", 914)
IPV6 = bytes([6]) + bytes.fromhex("20010db8000000000000000000000001") + struct.pack(">H", 0)


def wire_ext():
    return {
        "ch": ch(),
        "ch-16-versions": ch(bytes(range(1, 17))),
        "ch-no-version": ch(b""),
        "ch-long": ch() + b"\x00",
        "ch-cut": ch()[:-1],
        "ee": ee(),
        "ee-confirm-needed": ee(flags=1),
        "ee-addresses": ee(addresses=[IPV4, IPV6]),
        "ee-8-addresses": ee(addresses=[IPV6] * 8),
        "ee-9-addresses": ee(addresses=[IPV4] * 9),
        "ee-family-5": ee(addresses=[b"\x05" + IPV4[1:]]),
        "ee-version-2": ee(version=2),
        "ee-cut": ee(addresses=[IPV4])[:-1],
        "magic": MAGIC,
        "not-ours": b"abcd",
    }


def wire_frame():
    """The first byte: bit 0 the sender (1 = client), the rest the step of the stream, less 1."""
    client, server, bytewise = b"\xff", b"\xfe", b"\x01"
    return {
        "client": client + PREFACE + hello() + confirm(),
        "client-bytewise": bytewise + PREFACE + hello() + confirm(),
        "client-two-claims": (client + PREFACE + hello(1) + hello(2, path=7) + fail(1, 6)
                              + confirm(2)),
        "client-8-of-8": client + PREFACE + confirm(k=8, n=8, slot=7),
        "client-k-over-n": client + PREFACE + confirm(k=2, n=1),
        "client-path-8": client + PREFACE + hello(path=8),
        "server": server + PREFACE + ready() + proof(),
        "server-busy": server + PREFACE + ready(status=1),
        "server-two-proofs": server + PREFACE + ready() + proof(more=1) + proof(slot=1, more=1),
        "server-fail": server + PREFACE + ready() + fail(reason=1),
        "server-says-hello": server + PREFACE + hello(),
        "length": client + PREFACE + b"\x01\x01\x00\x44" + bytes(80),
        "version": client + PREFACE + b"\x01\x02",
        "ssh": server + b"SSH-2.0-OpenSSH_9.2\r\n",
    }


TARGETS = {"wire_ext": wire_ext, "wire_frame": wire_frame}


def main():
    for target, seeds in TARGETS.items():
        folder = os.path.join(HERE, "corpus", target)
        os.makedirs(folder, exist_ok=True)
        for name, data in seeds().items():
            with open(os.path.join(folder, name), "wb") as out:
                out.write(data)


if __name__ == "__main__":
    main()
