#!/usr/bin/python3
"""Writes the seed corpora of the fuzz targets: corpus/TARGET/NAME, small binary files.

One function per target returns {name: bytes}. Run it after a change and commit what it writes.
"""
import datetime
import hashlib
import os
import struct

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

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


def steps(*ops):
    """Operations of the state machines' targets: numbers as bytes, bytes with their length before."""
    return b"".join(bytes([op]) if isinstance(op, int) else bytes([len(op)]) + op for op in ops)


def path2_server():
    """First byte: bit 0, only port 443 is hooked. Then steps: see step() in fuzz_path2_server.c."""
    greet, say_hello, confirmed, session, keys, end, time, pull = range(1, 9)
    return {
        "session-first": steps(0, session, 0, keys, greet, say_hello, 1, 0, confirmed, 1, 0, end, 5),
        "hello-first": steps(0, greet, say_hello, 1, 0, pull, session, 0, keys, confirmed, 1, 0),
        "not-here": steps(1, greet, say_hello, 1, 0x80, pull, say_hello, 2, 0, pull),
        "wait-and-expire": steps(0, greet, say_hello, 1, 0, time, 9, time, 2, pull, time, 40),
        "two-sessions": steps(0, session, 0, session | 0x10, 0, greet, say_hello, 1, 2, keys,
                              keys | 0x10, confirmed, 1, 1, end, 5, end | 0x10, 5),
        "ended-join": steps(0, session, 1, end, 5, session, 1, greet, say_hello, 1, 1, pull, time, 70,
                            session, 1),
        "wrong-keys": steps(0, session, 0, keys, session | 0x10, 1, keys | 0x10, greet,
                            say_hello, 1, 0, confirmed, 1, 1),
        "two-paths": steps(0, session, 0, keys, greet, greet | 0x10, say_hello, 1, 0,
                           say_hello | 0x10, 1, 2, confirmed | 0x10, 1, 0, confirmed, 1, 0),
        "nine-claims": steps(0, session, 0, keys, greet, *[b for i in range(1, 10)
                                                          for b in (say_hello, i, 2 * i & 15)], pull),
        "full": steps(0, greet, greet | 0x10, *[b for i in range(1, 12) for b in (say_hello, i, i & 1,
                                                 say_hello | 0x10, i, i & 1)], pull, 15),
        "raw": steps(0, 0, PREFACE + hello(), session, 0, keys, 0, confirm(), 0, fail()),
        "again": steps(0, greet, say_hello, 5, 0, say_hello, 4, 0),
        "banner": steps(0, 0, b"GET / HTTP/1.1"),
    }


def handover_message(kind, body, version=1):
    """A step: the message with its length."""
    data = bytes([version, kind]) + body
    return bytes([1]) + struct.pack(">H", len(data)) + data


def raw_bytes(data, conn=0):
    return bytes([conn << 4]) + struct.pack(">H", len(data)) + data


def join(number):
    """As join_of() in fuzz_handover.c."""
    if number > 1:
        return bytes([number]) * 16
    return hashlib.sha256(b"mtls1 join\0" + bytes([number]) * 32).digest()[:16]


def claim_state(claim=1, path=0, proofs=0, confirmed=0, slot=0, number=2, p2=None):
    return (struct.pack(">IBBBB", claim, path, proofs, confirmed, slot) + join(number)
            + (p2 or bytes([claim]) * 32))


def conn_message(*claims, last=9, preface=1, sent=1, read=b""):
    return handover_message(7, struct.pack(">IBBB", last, preface, sent, len(read)) + read
                            + bytes([len(claims)]) + b"".join(claims))


def handover():
    """Steps: see step() in fuzz_handover.c. The high four bits say of which connection or session."""
    say_hello, confirmed, session, keys, end, time, pull, move, tell, begins, ends, lost, greet, close = range(2, 16)
    serial, address = struct.pack(">Q", 7), bytes([4, 192, 0, 2, 1]) + bytes(12) + b"\1\xbb"
    for_claim = serial + struct.pack(">I", 1)
    guest = handover_message(1, serial + claim_state() + address * 2)
    proven = steps(session | 0x20, keys | 0x20) + conn_message(claim_state(), claim_state(4, path=1)) + steps(pull)
    to_holder = [handover_message(3, for_claim + frames) for frames in (proof(), fail(reason=3), proof() + fail(reason=5))]
    return {
        "fresh": conn_message(last=0, preface=0, sent=0) + steps(greet, say_hello, 1, 0, pull, move),
        "in-the-preface": conn_message(last=0, preface=0, sent=0, read=PREFACE[:3]) + raw_bytes(PREFACE[3:]) + steps(move),
        "in-a-hello": conn_message(read=hello(10)[:20]) + steps(move) + raw_bytes(hello(10)[20:]) + steps(pull, move),
        "whole-frame": conn_message(read=fail()) + raw_bytes(bytes(800)),
        "more-than-a-frame": conn_message(read=fail() + bytes(65)) + raw_bytes(bytes(800)),
        "wrong-type": conn_message(read=b"\xc8") + raw_bytes(bytes(800)),
        "claims": proven + steps(move, confirmed, 0, 2, move),
        "claim-confirmed": steps(session | 0x20, keys | 0x20) + conn_message(claim_state(proofs=1, confirmed=1))
        + steps(confirmed, 0, 2, end | 0x20, 5),
        "proof-elsewhere": conn_message(claim_state(proofs=3, path=7)) + steps(confirmed, 0, 2, move),
        "many-claims": conn_message(*[claim_state(i, number=i % 4) for i in range(1, 65)], last=64) + steps(move),
        "one-join": steps(session | 0x20) + conn_message(*[claim_state(i) for i in range(1, 17)], last=16)
        + steps(keys | 0x20, pull, confirmed, 0, 2, end | 0x20, 0),
        "long-preface": conn_message(last=0, preface=0, sent=0, read=bytes(70)) + raw_bytes(bytes(800)),
        "ids-fall": conn_message(claim_state(2), claim_state(1)),
        "guest": steps(session | 0x20, keys | 0x20) + guest + steps(confirmed | 0x90, 0, 2, end | 0x20, 5)
        + handover_message(4, for_claim),
        "guest-input": steps(session | 0x20, keys | 0x20) + guest + handover_message(2, for_claim + confirm()),
        "guest-hello": steps(session | 0x20) + guest + handover_message(2, for_claim + hello(2)),
        "guest-of-nobody": guest + handover_message(2, for_claim + fail()),
        "told": steps(begins | 0x20) + conn_message(claim_state()) + steps(tell, 0, 1) + to_holder[0]
        + steps(pull) + raw_bytes(confirm()) + steps(ends | 0x20) + handover_message(5, for_claim + b"\0"),
        "told-wrong": steps(begins | 0x20) + conn_message(claim_state()) + steps(tell, 0, 1) + to_holder[1],
        "told-end": steps(begins | 0x20) + conn_message(claim_state()) + steps(tell, 0, 1) + to_holder[2] + steps(lost),
        "done-close": steps(begins | 0x20) + conn_message(claim_state()) + steps(tell, 0, 0)
        + handover_message(5, for_claim + b"\1"),
        "want": steps(greet, say_hello, 1, 0, pull, session, keys) + handover_message(6, join(0)) + steps(pull, move, confirmed, 0, 0),
        "hello-then-time": steps(greet, say_hello, 1, 1, pull, begins | 0x10, tell, 0, 0, time, 40, close),
        "version-2": handover_message(6, join(0), version=2),
    }


def path2_client():
    """Steps of two bytes or more: see step() in fuzz_path2_client.c."""
    raw, greet, is_ready, is_proof, is_fail, confirmed, failed, release, closed, releasing, opened = range(11)
    begin = steps(opened, 0, greet, 0)
    done = begin + steps(is_ready, 1, 0, is_proof, 1, 0)
    return {
        "confirm": done + steps(confirmed, 1, 0, release, 1, 0),
        "two-proofs": done + steps(is_proof, 1, 9, is_proof, 1, 10, is_fail, 1, 5),
        "busy": begin + steps(is_ready, 1, 1, is_fail, 1, 0, is_proof, 1, 0),
        "not-here": begin + steps(is_ready, 1, 2, opened, 1, is_ready, 2, 0),
        "wrong-echo": steps(opened, 3) + begin + steps(is_ready, 2, 0x80),
        "proof-first": begin + steps(is_proof, 1, 0),
        "same-slot": done + steps(is_proof, 1, 0),
        "ready-twice": begin + steps(is_ready, 1, 0, is_ready, 1, 0),
        "late-frames": done + steps(failed, 1, 6, is_proof, 1, 1, is_fail, 1, 0, release, 1, 0,
                                    is_proof, 1, 0),
        "releasing": steps(releasing, 1) + done + steps(opened, 0, opened, 1, closed, 0),
        "closed": done + steps(opened, 1, is_ready, 2, 0, opened, 2, closed, 0, opened, 0),
        "raw": steps(opened, 0, raw, 0, PREFACE + ready()),
        "raw-fail": steps(opened, 0, raw, 0, PREFACE + fail(reason=1)),
        "never-opened": begin + steps(is_fail, 9, 0),
        "ssh": steps(opened, 0, raw, 0, b"SSH-2.0-OpenSSH_9.2\r\n"),
    }


class Elf:
    """A small ELF file: one segment that maps all of it, and what is asked for."""

    BASE = 0x400000

    def __init__(self, bits=64, big=False, kind=3, machine=62, interp="/lib64/ld-linux-x86-64.so.2",
                 needed=(), soname=None, rpath=None, runpath=None, dynamic=True, symbols=(),
                 go=None, sections=True):
        self.bits, self.order = bits, ">" if big else "<"
        self.kind, self.machine = kind, machine
        header, self.segment_size, self.section_size = (64, 56, 64) if bits == 64 else (52, 32, 40)
        self.body, self.segments, self.section_rows = bytearray(), [], []
        self.start = header + 5 * self.segment_size
        self.names = b"\0.go.buildinfo\0"
        if interp is not None:
            at, size = self.add(interp.encode() + b"\0")
            self.segments.append((3, 4, at, size))
        if dynamic:
            self.add_dynamic(needed, soname, rpath, runpath)
        if go == "note":
            at, size = self.add(struct.pack(self.order + "III", 4, 4, 4) + b"Go\0\0" + b"abcd")
            self.segments.append((4, 4, at, size))
        if go == "magic":
            at, size = self.add(b"\xff Go buildinf:" + bytes(18), 16)
            self.segments.append((1, 6, at, size))
        if sections:
            self.add_sections(symbols, go)

    def add(self, data, align=8):
        self.body += bytes(-(self.start + len(self.body)) % align)
        at = self.start + len(self.body)
        self.body += data
        return at, len(data)

    def words(self, *values):
        return struct.pack(self.order + ("Q" if self.bits == 64 else "I") * len(values), *values)

    def add_dynamic(self, needed, soname, rpath, runpath):
        strings, rows = b"\0", []
        for tag, text in [(1, name) for name in needed] + [(14, soname), (15, rpath), (29, runpath)]:
            if text is not None:
                rows.append((tag, len(strings)))
                strings += text.encode() + b"\0"
        at, size = self.add(strings)
        rows += [(5, self.BASE + at), (10, size), (0, 0)]
        at, size = self.add(b"".join(self.words(*row) for row in rows))
        self.segments.append((2, 6, at, size))

    def add_sections(self, symbols, go):
        strings, table = b"\0", bytes(24 if self.bits == 64 else 16)
        for name, defined in symbols:
            index = 1 if defined else 0
            if self.bits == 64:
                table += struct.pack(self.order + "IBBHQQ", len(strings), 0x12, 0, index, 0, 0)
            else:
                table += struct.pack(self.order + "IIIBBH", len(strings), 0, 0, 0x12, 0, index)
            strings += name.encode() + b"\0"
        rows = [(0, 0, 0, 0, 0), (0, 11, *self.add(table), 2), (0, 3, *self.add(strings), 0),
                (0, 3, *self.add(self.names), 0)]
        if go == "section":
            rows.append((1, 1, *self.add(b"\xff Go buildinf:" + bytes(18)), 0))
        self.section_rows = rows

    def pack(self):
        wide = "Q" if self.bits == 64 else "I"
        end = self.start + len(self.body)
        segments = [(1, 5, 0, end)] + self.segments
        ident = b"\x7fELF" + bytes([2 if self.bits == 64 else 1, 2 if self.order == ">" else 1, 1]) + bytes(9)
        out = ident + struct.pack(self.order + f"HHI{wide}{wide}{wide}IHHHHHH", self.kind, self.machine, 1, 0,
                                  len(ident) + (48 if self.bits == 64 else 36),
                                  end if self.section_rows else 0, 0, len(ident) + 48, self.segment_size,
                                  len(segments), self.section_size, len(self.section_rows),
                                  3 if self.section_rows else 0)
        for kind, flags, at, size in segments:
            place = (at, self.BASE + at, self.BASE + at, size, size)
            if self.bits == 64:
                out += struct.pack(self.order + "IIQQQQQQ", kind, flags, *place, 8)
            else:
                out += struct.pack(self.order + "IIIIIIII", kind, *place, flags, 8)
        out = out.ljust(self.start, b"\0") + bytes(self.body)
        for name, kind, at, size, link in self.section_rows:
            out += struct.pack(self.order + f"II{wide}{wide}{wide}{wide}II{wide}{wide}", name, kind, 0, 0, at, size,
                               link, 0, 8, 24 if self.bits == 64 else 16)
        return out


def elf():
    libraries = ("libssl.so.3", "libc.so.6")
    used = (("SSL_CTX_new", False), ("main", True))
    return {
        "libssl": Elf(needed=libraries, symbols=used).pack(),
        "libssl-32-bit": Elf(bits=32, machine=3, interp="/lib/ld-linux.so.2", needed=libraries,
                             symbols=used).pack(),
        "big-endian": Elf(big=True, machine=22, interp="/lib/ld64.so.1", needed=libraries,
                          symbols=used).pack(),
        "big-endian-32-bit": Elf(bits=32, big=True, machine=8, needed=libraries, symbols=used).pack(),
        "bundled": Elf(needed=("libc.so.6",), symbols=(("SSL_CTX_new", True),)).pack(),
        "static": Elf(interp=None, dynamic=False, kind=2).pack(),
        "library": Elf(interp=None, soname="libx.so.1", rpath="$ORIGIN/a", runpath="$ORIGIN/b:/c").pack(),
        "go-note": Elf(go="note", interp=None, dynamic=False, kind=2).pack(),
        "go-section": Elf(go="section", needed=("libc.so.6",)).pack(),
        "go-magic": Elf(go="magic", interp=None, dynamic=False, sections=False, kind=2).pack(),
        "no-sections": Elf(needed=libraries, sections=False).pack(),
        "script": b"#! /bin/sh\n",
    }


def smkex_message(body, magic=b"\xf0SMKEX\r\n"):
    return magic + struct.pack(">H", len(body)) + body


def smkex_wire():
    x, p = b"\1\x20" + NONCE_C, b"\2\x41\4" + NONCE_C + NONCE_S
    head = b"\1\1\0" + SECRET[:16] + b"\2\1\2"
    answer = struct.pack(">BBIB", 1, 0, 3600, 1) + x
    return {
        "offer": smkex_message(head + b"\2" + x + p),
        "offer-unknown-group": smkex_message(head + b"\2\7\0" + x),
        "offer-single": smkex_message(head + b"\1" + x, b"\xf0SPDH1\r\n"),
        "answer": smkex_message(answer),
        "answer-signed": smkex_message(b"\1\1" + answer[2:] + SECRET + NONCE_C + NONCE_S),
        "refusal": smkex_message(b"\0\3"),
        "foreign": b"HTTP/1.1 400 Bad Request\r\n",
    }


def smkex_inband():
    """For each message: how it is cut (high four bits), how many changes (low), and these: where, what."""
    return {
        "honest": bytes([0xF0, 0xF0, 0xF0]),
        "byte-by-byte": bytes([0, 0, 0]),
        "hello": bytes([0xF1, 20, 1]),
        "proof": bytes([0xF0, 0xF2, 9, 2, 100, 7]),
        "confirm": bytes([0xF0, 0x40, 0x11, 42, 0]),
    }


def smkex_machine():
    """One step a byte, as fuzz_smkex_machine.c reads them; 0x80: the server does it."""
    met = bytes([0x81, 0x83, 0x01])  # OFFER, answer, ANSWER
    decided = met + bytes([0x04, 0x84, 0x81, 0x01])
    data = bytes([0x05, 9, 0x81, 0x85, 200, 0x01])
    return {
        "exchange": b"\0" + decided + data,
        "single": b"\1" + decided + data,
        "byte-by-byte": b"\0" + bytes([0x82, 1]) * 12 + bytes([0x81, 0x83]) + bytes([2, 3]) * 9,
        "updates": b"\0" + decided + bytes([6, 1]) + data + bytes([0x86, 0]) + data,
        "ends": b"\0" + decided + data + bytes([7, 0x81, 0x88, 0x87, 1, 8]),
        "cut": b"\0" + decided + bytes([8, 0x88]),
        "forged": b"\0" + decided + b"\x80\x16\x17\3\3\0\x11" + NONCE_C[:17] + data,
        "early": b"\0" + met + b"\0\4abcd" + bytes([4]),
        "refused": b"\0" + bytes([0x81, 0x89, 1]),
        "foreign": b"\0\0\x08HTTP/1.1\x80\4GET ",
    }


def message(side, kind, body, keep=True):
    """A line of an evidence bundle, and the message."""
    data = bytes([kind]) + struct.pack(">I", len(body))[1:] + body
    return (f"message {side} {kind} {len(data)} 7 {hashlib.sha256(data).hexdigest()} {data.hex() if keep else '-'}", data)


def certificate(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server.example")])
    when = datetime.datetime(2024, 1, 1)
    return (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(7).not_valid_before(when).not_valid_after(when + datetime.timedelta(days=1))
            .sign(key, None).public_bytes(serialization.Encoding.DER))


def bundle(reason, *lines, role="client"):
    head = ["mtls-evidence 1", "written-at 2024-01-01T00:00:00Z", "library 0.1.0", "openssl OpenSSL 3.0.0", f"role {role}",
            "outcome failed", f"reason {reason}", "name server.example", "port 443", "tls TLSv1.3 TLS_AES_128_GCM_SHA256",
            "join " + "51" * 16, "transcript-hash " + "52" * 32]
    tail = ["path 1 192.0.2.1:1 192.0.2.2:443 p1 - -", "path 2 192.0.2.3:1 192.0.2.2:914 p2 wrong -",
            "claim 0 ready 10 20 - " + "53" * 32, "proof 0 0 0 wrong " + "54" * 32, "report {}", "end", ""]
    return "\n".join([*head, *lines, *tail]).encode()


def explain():
    """A handshake whose signature is right, one whose is not, and what else a bundle may hold."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    cert = certificate(key)
    entry = struct.pack(">I", len(cert))[1:] + cert + b"\0\0"
    lines, hashed = [], b""
    for side, kind, body in (("client", 1, SECRET), ("server", 2, NONCE_S), ("server", 8, b"\0\0"),
                             ("server", 11, b"\0" + struct.pack(">I", len(entry))[1:] + entry)):
        line, data = message(side, kind, body)
        lines.append(line)
        hashed += data
    signed = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + hashlib.sha256(hashed).digest()
    right = key.sign(signed)
    verify = [message("server", 15, struct.pack(">HH", scheme, len(tag)) + tag)[0]
              for scheme, tag in ((0x0807, right), (0x0807, TAG * 2), (0x0804, TAG * 2))]
    return {
        "signed": bundle("proof-wrong", *lines, verify[0]),
        "not-signed": bundle("proof-wrong", *lines, verify[1]),
        "other-scheme": bundle("downgrade", *lines, verify[2]),
        "hash-alone": bundle("proof-missing", message("client", 1, SECRET, keep=False)[0], *lines[1:], verify[0]),
        "server": bundle("confirm-missing", role="server"),
        "retry": bundle("remembered", lines[0], *lines),
        "damaged": bundle("deadline", lines[0][:-1]),
        "other": b"mtls-evidence 2\n",
        "smkex": bundle("subflow-bytes", "mode smkex", "offer " + "01" * 40, "answer -"),
        "resume": b"mtls-evidence 1\nrole client\nmode resume\noutcome failed\nverdict alarm\n"
                  b"reason ticket-refused\nmeaning somebody\nname a.example\n"
                  b"path 1 192.0.2.1:5 192.0.2.2:443 p1 - -\ncertificate 1 0 " + cert.hex().encode() +
                  b"\npath 2 192.0.2.1:6 192.0.2.2:443 p2 alert -\ntry 2 alert ticket not-resumed alert-51\n"
                  b"try 2-without-ticket completed no-ticket not-resumed -\n"
                  b"certificate 2-without-ticket 0 " + cert.hex().encode()[:-2] + b"\nend\n",
    }


def record():
    """Both modes, at the bounds, and cut."""
    def one(mode=1, k=1, scope=1, at=1700000000, age=86400, port=443, name=b"server.example"):
        return b"MTLr\1" + struct.pack(">BBBqIHB", mode, k, scope, at, age, port, len(name)) + name
    return {
        "exporter": one(), "resume": one(mode=2), "both-ends": one(scope=3, k=8), "week": one(age=604800),
        "server": one(name=b""), "long-name": one(name=b"a" * 63 + b"." + b"b" * 63), "mode-3": one(mode=3),
        "future": one(at=(1 << 63) - 1), "cut": one()[:-1],
    }


def resume_verdict():
    return {
        "verified": bytes([0x01, 0x9b, 1, 0, 0]), "record": bytes([0, 0x23, 0, 0, 0]),
        "consistent": bytes([0x02, 0x8b, 1, 1, 0]), "other-key": bytes([0x02, 0x8b, 1, 3, 0]),
        "alert": bytes([0x00, 0x9b, 2, 0, 51]), "shows-less": bytes([0x02, 0xcb, 1, 1, 0]),
    }


TARGETS = {"elf": elf, "explain": explain, "handover": handover, "path2_client": path2_client, "path2_server": path2_server,
           "record": record, "resume_verdict": resume_verdict,
           "smkex_inband": smkex_inband, "smkex_machine": smkex_machine, "smkex_wire": smkex_wire, "wire_ext": wire_ext,
           "wire_frame": wire_frame}


def main():
    for target, seeds in TARGETS.items():
        folder = os.path.join(HERE, "corpus", target)
        os.makedirs(folder, exist_ok=True)
        for name, data in seeds().items():
            with open(os.path.join(folder, name), "wb") as out:
                out.write(data)


if __name__ == "__main__":
    main()
