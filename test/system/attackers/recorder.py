"""Passive: writes every TCP payload that passes a device into a file, and changes nothing.

Usage: recorder.py DEVICE FILE. What it got is judged later: whether plaintext is in it. On SIGTERM it takes down
what has arrived and ends.
"""

import signal
import socket
import struct
import sys

import common

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 3, 0x0800, 0x86DD


def payload(kind, packet):
    """The TCP payload of an IP packet, or nothing."""
    if kind == ETH_P_IP and packet[9] == socket.IPPROTO_TCP:
        head, end = (packet[0] & 15) * 4, struct.unpack(">H", packet[2:4])[0]
    elif kind == ETH_P_IPV6 and packet[6] == socket.IPPROTO_TCP:
        head, end = 40, 40 + struct.unpack(">H", packet[4:6])[0]
    else:
        return b""
    return packet[head + (packet[head + 12] >> 4) * 4:end or len(packet)]


class Over(Exception):
    """SIGTERM."""


def over(*_):
    raise Over


def main():
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    sock.bind((sys.argv[1], ETH_P_ALL))
    with open(sys.argv[2], "ab", buffering=0) as record:
        common.say(event="listening", port=0)
        signal.signal(signal.SIGTERM, over)
        told, wait = False, 0
        while True:
            try:
                packet, source = sock.recvfrom(1 << 17, wait)
            except Over:
                wait = socket.MSG_DONTWAIT
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                continue
            except BlockingIOError:
                return
            data = payload(source[1], packet)
            record.write(data)
            if data and not told:
                common.say(event="recording")
                told = True


if __name__ == "__main__":
    main()
