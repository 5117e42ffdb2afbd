"""Looks on: TCP segments to or from a port on one device, as JSON lines with the seconds since the first
SYN. capture.py DEVICE PORT"""

import socket
import struct
import sys
import time

import common

ETH_P_ALL = 3


def main(device, port):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    sock.bind((device, ETH_P_ALL))
    common.say(event="ready")
    began = None
    while True:
        packet = sock.recv(65536)
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            continue
        head = (packet[0] & 15) * 4
        sport, dport, _, _, offset, flags = struct.unpack(">HHIIBB", packet[head:head + 14])
        if port not in (sport, dport):
            continue
        began = began or time.monotonic()
        size = struct.unpack(">H", packet[2:4])[0] - head - (offset >> 4) * 4
        common.say(event="segment", up=dport == port, at=time.monotonic() - began, size=size,
                   syn=bool(flags & 2))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
