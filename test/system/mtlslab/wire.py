"""Path 2's frames and a raw peer for it, written from doc/protocol.md with nothing of the library."""

import hashlib
import hmac
import json
import os
import socket
import struct
import sys

PREFACE = bytes.fromhex("f04d544c53320d0a")
HELLO, READY, PROOF, CONFIRM, FAIL = 1, 2, 3, 4, 5
VERSION = 1
HEADER = 8
BODY = {HELLO: 67, READY: 65, PROOF: 34, CONFIRM: 35, FAIL: 1}


def frame(kind, claim, body, version=VERSION):
    return struct.pack(">BBHI", kind, version, len(body), claim) + body


def join_of(secret):
    return hashlib.sha256(b"mtls1 join\0" + secret).digest()[:16]


def hello(claim, port, secret, nonce, path=1):
    return frame(HELLO, claim, struct.pack(">HB", port, path) + secret + nonce)


def confirm(claim, slot, k, n, tag):
    return frame(CONFIRM, claim, bytes([slot, k, n]) + tag)


def tag(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def take(buffer):
    """Splits (frames, rest) off a buffer without preface; a frame is (type, claim, body, raw)."""
    frames = []
    while len(buffer) >= HEADER:
        kind, _, length, claim = struct.unpack(">BBHI", buffer[:HEADER])
        if len(buffer) < HEADER + length:
            break
        raw, buffer = buffer[:HEADER + length], buffer[HEADER + length:]
        frames.append((kind, claim, raw[HEADER:], raw))
    return frames, buffer


class Peer:
    """A client's end of path 2 that says whatever a test wants."""

    def __init__(self, host, port, source=None, device=None, timeout=10):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        if device:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if source:
            self.sock.bind((source, 0))
        self.sock.connect((host, port))
        self._buffer, self._preface, self._frames = b"", False, []

    def send(self, data):
        self.sock.sendall(data)

    def receive(self):
        """The next frame, or None at the end of the connection."""
        while not self._frames:
            try:
                data = self.sock.recv(4096)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._buffer += data
            if not self._preface and len(self._buffer) >= len(PREFACE):
                assert self._buffer.startswith(PREFACE), self._buffer
                self._buffer, self._preface = self._buffer[len(PREFACE):], True
            if self._preface:
                frames, self._buffer = take(self._buffer)
                self._frames += frames
        return self._frames.pop(0)

    def close(self):
        self.sock.close()


def main():
    """`wire.py HOST PORT TLS-PORT COUNT`: as a program inside a namespace it sends COUNT HELLOs
    with secrets of its own, one connection each, and prints what comes back, a JSON line each; it
    stays connected until its standard input ends."""
    host, port, tls_port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    peers = []
    for _ in range(count):
        peer = Peer(host, port)
        sent = hello(1, tls_port, os.urandom(32), os.urandom(32))
        peer.send(PREFACE + sent)
        got = peer.receive()
        answer = {"type": got[0], "status": got[2][0],
                  "echo": got[2][33:65] == hashlib.sha256(sent).digest()} if got else {"type": None}
        print(json.dumps(answer), flush=True)
        peers.append(peer)
    print(json.dumps({"event": "done"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
