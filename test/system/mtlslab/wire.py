"""Path 2's frames and a raw peer for it, written from doc/protocol.md with nothing of the library."""

import argparse
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


def describe(sent, got):
    """One received frame as a JSON line."""
    kind, _, body, _ = got
    line = {"type": kind}
    if kind == READY:
        line.update(status=body[0], echo=body[33:65] == hashlib.sha256(sent).digest())
    elif kind == FAIL:
        line.update(reason=body[0])
    return line


def main():
    """As a program inside a namespace it sends HELLOs, one connection each, prints the answers, one
    JSON line each, and stays connected until its standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("tls_port", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--hex", help="a whole HELLO instead of one with a random secret")
    parser.add_argument("--device")
    parser.add_argument("--listen-for", type=float, default=0, help="seconds, after READY")
    given = parser.parse_args()
    peers = []
    for _ in range(given.count):
        peer = Peer(given.address, given.port, device=given.device)
        sent = (bytes.fromhex(given.hex) if given.hex
                else hello(1, given.tls_port, os.urandom(32), os.urandom(32)))
        peer.send(PREFACE + sent)
        peers.append(peer)
        got = peer.receive()
        peer.sock.settimeout(given.listen_for or None)
        try:
            while got:
                print(json.dumps(describe(sent, got)), flush=True)
                got = peer.receive() if given.listen_for else None
        except TimeoutError:
            pass
    print(json.dumps({"event": "done"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
