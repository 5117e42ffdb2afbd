"""A peer of Multipath TLS, client and server, written from doc/protocol.md alone.

It shares nothing with the library or with the other reference implementation: where it and they
agree, the document sufficed. Rules are cited as [KEY-1]. Here: extension, frames, tags and the
client; stranger_server.py is the server, stranger_tls.py the way to the system's libssl.
A minimal peer (section 1) that also does several paths, reuse and resumption; no `prefer`.
"""

import hashlib
import hmac
import itertools
import os
import selectors
import socket
import struct
import time

from stranger_tls import EXT_TYPE, SSL, Failed, Tls

MAGIC = b"MTL1"
RECORD_HELD = CONFIRM_NEEDED = 0x01
PREFACE = bytes.fromhex("f04d544c53320d0a")
HELLO, READY, PROOF, CONFIRM, FAIL = range(1, 6)
LENGTH = {HELLO: 67, READY: 65, PROOF: 34, CONFIRM: 35, FAIL: 1}
SENDS = {"client": (HELLO, CONFIRM, FAIL), "server": (READY, PROOF, FAIL)}
OK, BUSY, NOT_HERE = range(3)
NO_SESSION, PROOF_WRONG, CONFIRM_WRONG, LIMIT, ABANDONED, NOT_COUNTED = range(1, 7)
DECODE_ERROR, ILLEGAL_PARAMETER, HANDSHAKE_FAILURE, INTERNAL_ERROR = 50, 47, 40, 80
SUITE_HASH = {0x1301: "sha256", 0x1302: "sha384", 0x1303: "sha256"}
HRR_RANDOM = hashlib.sha256(b"HelloRetryRequest").digest()


class BadStream(Exception):
    """A connection of path 2 is to be closed, [P2-4] or [P2-5]."""


# Section 3: the extension ------------------------------------------------------------------------


def client_ext(join, versions=b"\1", flags=0):
    return MAGIC + bytes([len(versions)]) + versions + bytes([flags]) + join


def parse_client_ext(data):
    """(versions, flags, join), or None for someone else's bytes [EXT-4]."""
    if data is None or data[:4] != MAGIC:
        return None
    nver = data[4] if len(data) > 4 else 0
    if not 1 <= nver <= 16 or len(data) != 22 + nver:
        raise Failed("malformed extension", DECODE_ERROR)  # [EXT-5]
    return data[5:5 + nver], data[5 + nver], data[6 + nver:]


def server_ext(flags=0, port=0, max_age=0, version=1):
    return MAGIC + struct.pack("!BBHIB", version, flags, port, max_age, 0)


def parse_server_ext(data, offered=b"\1"):
    """(version, flags, port, max_age, [(family, address, port)])."""
    if data[:4] != MAGIC or (len(data) > 4 and data[4] not in offered):
        raise Failed("not our answer", ILLEGAL_PARAMETER)  # [EXT-10]
    if len(data) < 13 or data[12] > 8:
        raise Failed("malformed extension", DECODE_ERROR)  # [EXT-9]
    version, flags, port, max_age, count = struct.unpack("!BBHIB", data[4:13])
    addresses, at = [], 13
    for _ in range(count):
        size = {4: 4, 6: 16}.get(data[at] if at < len(data) else None)
        if size is None or len(data) < at + 3 + size:
            raise Failed("malformed extension", DECODE_ERROR)
        own = int.from_bytes(data[at + 1 + size:at + 3 + size], "big")
        addresses.append((data[at], data[at + 1:at + 1 + size], own))
        at += 3 + size
    if at != len(data):
        raise Failed("malformed extension", DECODE_ERROR)
    return version, flags, port, max_age, addresses


# Section 4: frames -------------------------------------------------------------------------------


def frame(kind, claim, body):
    assert len(body) == LENGTH[kind]
    return struct.pack("!BBHI", kind, 1, len(body), claim) + body


def check_frame(raw):
    """The fields' ranges, [P2-4]; raw may be cut anywhere behind the header."""
    kind = raw[0]
    limits = {HELLO: {10: 7}, READY: {8: 2}, PROOF: {8: 7, 9: 1}, CONFIRM: {8: 7, 10: 8}}
    for at, most in limits.get(kind, {}).items():
        if len(raw) > at and raw[at] > most:
            raise BadStream("field out of range")
    if kind == CONFIRM and len(raw) > 9:
        if not 1 <= raw[9] <= 8 or (len(raw) > 10 and raw[9] > raw[10]):
            raise BadStream("k and n out of range")


class Reader:
    """Cuts what one side sends; each error shows at its own byte."""

    def __init__(self, sender):
        self.sender, self.greeted, self.rest = sender, False, b""

    def feed(self, data):
        """The frames that are now complete, whole."""
        self.rest += data
        out = []
        if not self.greeted:
            if not PREFACE.startswith(self.rest[:8]):
                raise BadStream("preface")  # [P2-1]
            if len(self.rest) < 8:
                return out
            self.greeted, self.rest = True, self.rest[8:]
        while self.rest:
            raw = self.rest[:8 + self._length()]
            check_frame(raw)
            if len(self.rest) < 8 or len(raw) < 8 + LENGTH[raw[0]]:
                break
            out.append(raw)
            self.rest = self.rest[len(raw):]
        return out

    def _length(self):
        kind = self.rest[0]
        if kind not in SENDS[self.sender]:
            raise BadStream("type")
        if self.rest[1:2] not in (b"", b"\1"):
            raise BadStream("frame version")
        if not LENGTH[kind].to_bytes(2, "big").startswith(self.rest[2:4]):
            raise BadStream("length")
        return LENGTH[kind]


def claim_of(raw):
    return int.from_bytes(raw[4:8], "big")


# Section 5: keys and tags ------------------------------------------------------------------------


def join_of(secret):
    return hashlib.sha256(b"mtls1 join\0" + secret).digest()[:16]  # [EXT-2]


def p2_of(hello, ready):
    return hashlib.sha256(hello + ready).digest()  # [TAG-2]


def transcript_hash(messages):
    """(name of H, TH) of [(from client, message)] up to the server's Finished [KEY-1]."""
    first_server = next(m for client, m in messages if not client)
    suite = int.from_bytes(first_server[39 + first_server[38]:][:2], "big")
    new = hashlib.new
    name = SUITE_HASH[suite]
    running = new(name)
    for at, (client, message) in enumerate(messages):
        if at == 0 and first_server[6:38] == HRR_RANDOM:
            digest = new(name, message).digest()
            message = bytes([254, 0, 0, len(digest)]) + digest
        running.update(message)
        if not client and message[0] == 20:
            return name, running.digest()
    raise Failed("no server Finished in the transcript", INTERNAL_ERROR)


class Keys:
    """What both sides compute tags with."""

    def __init__(self, exported, th, version=1):
        self.k_s, self.k_c = exported[:32], exported[32:64]
        self.base = bytes([version, len(th)]) + th

    def tag_s(self, p2):  # [TAG-3]
        return hmac.digest(self.k_s, b"mtls1 server proof\0" + self.base + p2, "sha256")

    def tag_c(self, p2, k, counted):
        """[TAG-5] over the claim with this P2; counted is [(path, P2)], [TAG-4]."""
        parts = [bytes([path]) + each + self.tag_s(each) for path, each in sorted(counted)]
        d = hashlib.sha256(b"".join(parts)).digest()
        text = b"mtls1 client confirm\0" + self.base + p2 + self.tag_s(p2)
        return hmac.digest(self.k_c, text + bytes([k, len(counted)]) + d, "sha256")

    def search(self, body, mine, claims):
        """The counted set that fits a CONFIRM on claims[mine], or None [CNF-2]."""
        k, n, tag = body[1], body[2], body[3:]
        for chosen in itertools.combinations(range(len(claims)), n):
            counted = [claims[at] for at in chosen]
            if mine not in chosen or len({path for path, _ in counted}) < n:
                continue
            if hmac.compare_digest(tag, self.tag_c(claims[mine][1], k, counted)):
                return chosen
        return None


def keys_of(tls):
    return Keys(tls.exported(), transcript_hash(tls.messages)[1])


def client_hello_exts(messages):
    """Our extension_data of each ClientHello of a transcript, None where there is none."""
    found = []
    for body in (m[4:] for client, m in messages if client and m[0] == 1):
        at = 35 + body[34]
        at += 2 + int.from_bytes(body[at:at + 2], "big")
        at += 1 + body[at] + 2
        exts = {}
        while at < len(body):
            kind, size = struct.unpack("!HH", body[at:at + 4])
            exts[kind] = body[at + 4:at + 4 + size]
            at += 4 + size
        found.append(exts.get(EXT_TYPE))
    return found


# Section 6: the client ---------------------------------------------------------------------------


def left(by):
    """Seconds to a deadline; at the deadline the session fails [CLI-3]."""
    rest = by - time.monotonic()
    if rest <= 0:
        raise Failed("deadline")
    return rest


def distinct(one, other):
    """[PATH-8] of two live IPv4 sockets."""
    prefixes = {socket.inet_aton(each.getpeername()[0])[:3] for each in (one, other)}
    return len(prefixes) == 2


class Claim:
    """A claim at either side: its HELLO, READY, the PROOFs by slot, and whether it has ended."""

    def __init__(self, link, hello, ready=None):
        self.link, self.hello, self.ready = link, hello, ready
        self.number, self.path, self.join = claim_of(hello), hello[10], join_of(hello[11:43])
        self.proofs, self.ended, self.reason = {}, False, None

    def p2(self):
        return p2_of(self.hello, self.ready)

    def end(self, reason=None):
        self.ended, self.reason = True, reason

    def send(self, kind, body):
        self.link.send(frame(kind, self.number, body))
        if kind in (CONFIRM, FAIL):
            self.end()  # [P2-6]


class Link:
    """The client's end of a secondary connection; it may serve many sessions [REU-1]."""

    def __init__(self, address, wait=10):
        self.sock = socket.create_connection(address, wait)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader, self.claims, self.up = Reader("server"), {}, True

    def send(self, data):
        self.sock.sendall(data)

    def claim(self, port1, path, secret, number=None):
        """Sends HELLO, with the preface before the first [P2-1]."""
        number = number or max(self.claims, default=0) + 1
        raw = frame(HELLO, number, struct.pack("!HB", port1, path) + secret + os.urandom(32))
        self.send(raw if self.claims else PREFACE + raw)
        self.claims[number] = Claim(self, raw)
        return self.claims[number]

    def pump(self):
        """Takes what is there; an error here closes this connection and no more [ERR-3]."""
        try:
            data = self.sock.recv(4096)
            for raw in self.reader.feed(data):
                self._take(self.claims.get(claim_of(raw)), raw)
        except (BadStream, ConnectionError):
            data = b""
        if not data:
            self.close()

    def _take(self, claim, raw):
        if claim is None:
            raise BadStream("a claim that was never opened")
        if claim.ended:
            return  # [P2-6]
        if raw[0] == READY:
            if claim.ready or not hmac.compare_digest(hashlib.sha256(claim.hello).digest(),
                                                      raw[41:]):
                raise BadStream("READY")  # [RDY-6]
            claim.ready, claim.ended = raw, raw[8] != OK
        elif raw[0] == PROOF:
            if not claim.ready or raw[8] in claim.proofs:
                raise BadStream("PROOF")
            claim.proofs[raw[8]] = raw
        else:
            claim.end(raw[8])

    def close(self):
        """So that what was sent arrives [CNF-6]."""
        if self.up:
            self.up = False
            for claim in self.claims.values():
                claim.end(claim.reason)
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.sock.close()


def wait_for(condition, links, by):
    """Reads the links until the condition holds; at the deadline the session fails."""
    while not condition():
        with selectors.DefaultSelector() as ready:
            for link in links:
                if link.up:
                    ready.register(link.sock, selectors.EVENT_READ, link)
            if not ready.get_map():
                raise Failed("every path 2 has ended")
            for key, _ in ready.select(left(by)):
                key.data.pump()


class Client:
    """A session under `require` and distinct=server; verify() is the order of section 6."""

    def __init__(self, context, address, name, links, need=1, resume=None, wait=10, flags=0):
        self.by = time.monotonic() + wait
        self.links, self.need, self.resume, self.claims = links, need, resume, []
        self.secret, self.answer, self.outcome, self.held = os.urandom(32), None, None, b""
        self.ext = client_ext(join_of(self.secret), flags=flags)
        self.tls = Tls(context, False, lambda _tls: self.ext, self._judge)
        self.tls.expect(name)
        if resume:
            SSL.SSL_set_session(self.tls.ssl, resume[0])
        self.sock = socket.create_connection(address, wait)

    def _judge(self, data):
        self.answer = parse_server_ext(data)

    def hello(self):
        """Path 2 at once (early mode)."""
        port = self.sock.getpeername()[1]
        self.claims = [link.claim(port, path, self.secret) for path, link in enumerate(self.links)]

    def flight(self):
        """Up to the server's Finished; our own second flight is made but held [CLI-1]."""
        while not self.tls.handshake():
            self.sock.sendall(self.tls.take())
            self.tls.feed(self._receive(self.by))
        self.held = self.tls.take()
        if self.answer is None:
            raise Failed("no extension")
        self.keys = keys_of(self.tls)

    def _receive(self, by):
        self.sock.settimeout(left(by))
        try:
            data = self.sock.recv(16384)
        except (ConnectionError, TimeoutError) as error:
            raise Failed(f"path 1: {error}") from error
        if not data:
            raise Failed("path 1 closed")
        return data

    def resumed(self):
        """[RES-1], [RES-2] for a record of our own: port of path 1, and until when it is good."""
        return bool(self.resume and SSL.SSL_session_reused(self.tls.ssl)
                    and not self.answer[1] & CONFIRM_NEEDED
                    and self.resume[1][0] == self.sock.getpeername()[1]
                    and time.time() < self.resume[1][1])

    def right(self, claim):
        """The slot of the right PROOF of a claim, or None [PRF-4]."""
        for slot, raw in claim.proofs.items():
            if hmac.compare_digest(raw[10:], self.keys.tag_s(claim.p2())):
                return slot
        return None

    def counted(self):
        """The claims with right proofs over pairwise distinct paths, [PATH-9], [MUL-2]."""
        chosen, socks = [], [self.sock]
        for claim in self.claims:
            if self.right(claim) is not None and claim.link.up and \
                    all(distinct(claim.link.sock, each) for each in socks):
                chosen.append(claim)
                socks.append(claim.link.sock)
        return chosen

    def proven(self):
        """Whether enough is there; a claim that is wrong for good fails the session [PRF-5]."""
        if len(self.counted()) >= self.need:
            return True
        for claim in self.claims:
            finals = [raw[9] == 0 for raw in claim.proofs.values()]
            if finals and all(finals) and self.right(claim) is None:
                if not claim.ended:
                    claim.send(FAIL, bytes([PROOF_WRONG]))
                raise Failed("proof wrong")
        return False

    def prove(self):
        wait_for(self.proven, self.links, self.by)

    def confirm(self, spoil=0):
        """CONFIRM on every counted claim [CNF-1]; spoil is added to the tag's last bits."""
        counted = self.counted()
        pairs = [(claim.path, claim.p2()) for claim in counted]
        for claim in counted:
            tag = bytearray(self.keys.tag_c(claim.p2(), self.need, pairs))
            tag[-1] ^= spoil
            claim.send(CONFIRM, bytes([self.right(claim), self.need, len(pairs)]) + tag)
        for claim in self.claims:
            if not claim.ended:
                claim.send(FAIL, bytes([NOT_COUNTED]))  # [CLI-5]

    def release(self, outcome="verified"):
        self.sock.sendall(self.held)
        self.outcome = outcome

    def verify(self):
        if not self.resume:
            self.hello()
        self.flight()
        if self.resumed():
            return self.release("resumed-verified")
        if not self.claims:
            self.hello()  # [RES-7]
        self.prove()
        self.confirm()
        return self.release()

    def ask(self, data, wait=10):
        """Sends data and reads as much back."""
        by, got = time.monotonic() + wait, b""
        self.sock.sendall(self.tls.write(data))
        while len(got) < len(data):
            part = self.tls.read()
            if part == b"":
                raise Failed("closed")
            if part is None:
                self.tls.feed(self._receive(by))
            got += part or b""
        return got

    def session(self, max_age=3600):
        """What a later Client takes as resume: a ticket with its record [RES-8]."""
        assert self.outcome == "verified"
        return SSL.SSL_get1_session(self.tls.ssl), (self.sock.getpeername()[1],
                                                    time.time() + max_age)

    def close(self):
        """Path 1 in order, and our claims; the links are whoever's that opened them."""
        for claim in self.claims:
            if not claim.ended and claim.link.up:
                claim.send(FAIL, bytes([ABANDONED]))  # [CLI-4]
        if self.tls.ssl:
            if self.outcome:
                SSL.SSL_shutdown(self.tls.ssl)
                self.sock.sendall(self.tls.take())
            self.tls.free()
        self.sock.close()
