"""A resolver that knows a few names; a lying one when it is given the attacker's address.

Usage: dns_answer.py LISTEN-ADDRESS PORT NAME=ADDRESS...  Other names do not exist. Every question is
reported as a JSON line, so a test sees who asked whom.
"""

import ipaddress
import socket
import struct
import sys

import common

TYPE_A, TYPE_AAAA, CLASS_IN = 1, 28, 1


def question(packet):
    """(name, type, end of the question) of a query."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("ascii", "replace"))
        at += 1 + packet[at]
    kind = struct.unpack(">H", packet[at + 1:at + 3])[0]
    return ".".join(labels).lower(), kind, at + 5


def answer(packet, table):
    name, kind, end = question(packet)
    known = table.get(name)
    records = []
    for address in known or []:
        if (address.version, kind) in ((4, TYPE_A), (6, TYPE_AAAA)):
            records.append(struct.pack(">HHHIH", 0xC00C, kind, CLASS_IN, 60, len(address.packed))
                           + address.packed)
    flags = 0x8580 if known else 0x8583  # authoritative; name error
    head = packet[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
    return name, kind, head + packet[12:end] + b"".join(records)


def main():
    table = {}
    for word in sys.argv[3:]:
        name, address = word.split("=", 1)
        table.setdefault(name.lower(), []).append(ipaddress.ip_address(address))
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((sys.argv[1], int(sys.argv[2])))
    common.say(event="listening", port=sock.getsockname()[1])
    while True:
        packet, peer = sock.recvfrom(4096)
        try:
            name, kind, reply = answer(packet, table)
        except (IndexError, struct.error):
            continue
        common.say(event="question", name=name, type=kind, peer=peer[0])
        sock.sendto(reply, peer)


if __name__ == "__main__":
    main()
