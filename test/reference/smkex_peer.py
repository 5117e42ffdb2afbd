"""A SMKEX client over two TCP connections, written from doc/smkex.md alone: fetches a page by HTTP/1.0 and
writes the answer to standard output. smkex_peer.py HOST PORT PATH2-PORT PATH1-ADDR PATH2-ADDR GROUP PATH"""

import os
import socket
import sys

import mtls_reference as ref
import smkex_reference as smkex


def read_exactly(sock, size):
    out = b""
    while len(out) < size:
        piece = sock.recv(size - len(out))
        if not piece:
            raise smkex.Error("peer-closed")
        out += piece
    return out


def read_message(sock):
    head = read_exactly(sock, 10)
    return head + read_exactly(sock, int.from_bytes(head[8:], "big"))


def read_record(sock, way):
    head = read_exactly(sock, 5)
    return way.open(head + read_exactly(sock, int.from_bytes(head[3:], "big")))


def path_2(sock, port1, secret):
    """HELLO and READY; returns P2 and what reads frames from there on."""
    hello = ref.frame("hello", 1, port1=port1, path=0, secret=secret, nonce=os.urandom(32))
    sock.sendall(ref.PREFACE + hello)
    reader = ref.FrameReader("server")

    def frames():
        while True:
            yield from reader.feed(sock.recv(4096))
    frames = frames()
    name, _, fields, ready = next(frames)
    assert name == "ready" and fields["status"] == 0 and fields["hello_hash"] == ref.sha256(hello)
    return ref.p2(hello, ready), frames


def exchange(one, two, port, group):
    """The records' two ways, proven over both connections."""
    secret, dh = os.urandom(32), smkex.Dh(group)
    offer = smkex.offer_encode(ref.join(secret), [(9, b"unknown"), (group, dh.share)])
    one.sendall(offer)
    p2, frames = path_2(two, port, secret)
    answer = read_message(one)
    got = smkex.answer_parse(answer)
    smkex.verify(offer, answer)
    keys = smkex.Keys("multipath", dh.derive(got["share"]), offer, answer)
    name, _, proof, _ = next(frames)
    assert name == "proof" and proof["tag"] == keys.tag_s(p2), "proof is wrong"
    claim = (0, p2, proof["tag"])
    two.sendall(ref.frame("confirm", 1, slot=proof["slot"], k=1, n=1,
                          tag=keys.tag_c(claim, 1, [claim])))
    secrets = keys.traffic(ref.decision([claim]), 1, 1)
    return [smkex.Direction("multipath", got["suite"], one_way) for one_way in secrets]


def main(host, port, port2, from1, from2, group, path):
    one = socket.create_connection((host, int(port)), source_address=(from1, 0))
    two = socket.create_connection((host, int(port2)), source_address=(from2, 0))
    out, back = exchange(one, two, int(port), int(group))
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    one.sendall(out.seal(smkex.HANDSHAKE, smkex.FINISHED) + out.seal(smkex.DATA, request[:9], 100)
                + out.seal(smkex.HANDSHAKE, b"\x18\0\0\1\1"))
    out.update()
    one.sendall(out.seal(smkex.DATA, request[9:]))
    assert read_record(one, back) == (smkex.HANDSHAKE, smkex.FINISHED)
    while True:
        kind, data = read_record(one, back)
        if kind == smkex.HANDSHAKE:
            assert data == b"\x18\0\0\1\0"
            back.update()
        elif kind == smkex.ALERT:
            assert data == smkex.CLOSE_NOTIFY
            break
        else:
            sys.stdout.buffer.write(data)
    one.sendall(out.seal(smkex.ALERT, smkex.CLOSE_NOTIFY))


if __name__ == "__main__":
    main(*sys.argv[1:])
