"""Multipath TLS version 1, written from doc/protocol.md alone: bytes, hashes, keys and tags.

An independent second opinion for the C library, and a start for whoever writes a peer. Standard
library only. Rule identifiers are those of doc/protocol.md. Nothing here is in constant time except
the comparison of tags; it is a reference, not a library.
"""
import hashlib
import hmac
import itertools
import struct

LABEL = b"mtls1"
VERSION = 1
EXT_TYPE = 0xFF4D
EXT_MAGIC = b"MTL1"
PREFACE = bytes.fromhex("f04d544c53320d0a")
EXPORTER_LABEL = b"EXPORTER-Multipath-TLS-1"
HRR_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
SUITE_HASH = {0x1301: "sha256", 0x1302: "sha384", 0x1303: "sha256", 0x1304: "sha256",
              0x1305: "sha256"}


class ProtocolError(Exception):
    """A rule was broken; str() is the error's name as in reports."""


def sha256(data):
    return hashlib.sha256(data).digest()


# ---- 3 The TLS extension ------------------------------------------------------------------------

def join(secret):
    """[EXT-2]"""
    assert len(secret) == 32
    return sha256(LABEL + b" join\0" + secret)[:16]


def ext_ch_encode(versions, join_value, flags=0):
    assert 1 <= len(versions) <= 16 and len(join_value) == 16
    return EXT_MAGIC + bytes([len(versions)]) + bytes(versions) + bytes([flags]) + join_value


def ext_ch_parse(data):
    """[EXT-4], [EXT-5]"""
    if data[:4] != EXT_MAGIC:
        raise ProtocolError("ext-not-ours")
    if len(data) < 5 or not 1 <= data[4] <= 16 or len(data) != 5 + data[4] + 1 + 16:
        raise ProtocolError("ext-malformed")
    end = 5 + data[4]
    return {"versions": data[5:end], "flags": data[end], "join": data[end + 1:]}


def ext_ee_encode(port=0, max_age=0, addresses=(), flags=0, version=VERSION):
    """addresses: (family, ip bytes, port)"""
    out = EXT_MAGIC + struct.pack(">BBHIB", version, flags, port, max_age, len(addresses))
    for family, ip, addr_port in addresses:
        assert len(ip) == {4: 4, 6: 16}[family]
        out += bytes([family]) + ip + struct.pack(">H", addr_port)
    return out


def ext_ee_parse(data, offered=(VERSION,)):
    """[EXT-9], [EXT-10]"""
    if data[:4] != EXT_MAGIC:
        raise ProtocolError("ext-not-ours")
    if len(data) < 5:
        raise ProtocolError("ext-malformed")
    if data[4] not in offered:
        raise ProtocolError("ext-version")
    if len(data) < 13 or data[12] > 8:
        raise ProtocolError("ext-malformed")
    version, flags, port, max_age, naddr = struct.unpack(">BBHIB", data[4:13])
    addresses, pos = [], 13
    for _ in range(naddr):
        size = {4: 4, 6: 16}.get(data[pos] if pos < len(data) else 0)
        if size is None or len(data) - pos < 1 + size + 2:
            raise ProtocolError("ext-malformed")
        ip, addr_port = struct.unpack(">%dsH" % size, data[pos + 1:pos + 1 + size + 2])
        addresses.append((data[pos], ip, addr_port))
        pos += 1 + size + 2
    if pos != len(data):
        raise ProtocolError("ext-malformed")
    return {"version": version, "flags": flags, "port": port, "max_age": max_age,
            "addresses": addresses}


# ---- 4 Path 2 -----------------------------------------------------------------------------------

# type: name, who sends it, body layout, field names
FRAMES = {
    1: ("hello", "client", ">HB32s32s", ("port1", "path", "secret", "nonce")),
    2: ("ready", "server", ">B32s32s", ("status", "nonce", "hello_hash")),
    3: ("proof", "server", ">BB32s", ("slot", "more", "tag")),
    4: ("confirm", "client", ">BBB32s", ("slot", "k", "n", "tag")),
    5: ("fail", "both", ">B", ("reason",)),
}
TYPES = {entry[0]: number for number, entry in FRAMES.items()}


def frame(name, claim, **fields):
    """[P2-2]"""
    _, _, layout, names = FRAMES[TYPES[name]]
    body = struct.pack(layout, *(fields[n] for n in names))
    return struct.pack(">BBHI", TYPES[name], VERSION, len(body), claim) + body


def body_ok(kind, body):
    """[P2-4] for as much of the body as is there: a range is judged as soon as its byte is here."""
    if kind == 1 and len(body) > 2:
        return body[2] <= 7
    if kind == 2 and len(body) > 0:
        return body[0] <= 2
    if kind == 3 and len(body) > 0:
        return body[0] <= 7 and (len(body) < 2 or body[1] <= 1)
    if kind == 4 and len(body) > 0:
        return (body[0] <= 7 and (len(body) < 2 or 1 <= body[1] <= 8)
                and (len(body) < 3 or body[1] <= body[2] <= 8))
    return True


class FrameReader:
    """Cuts what one side ("client" or "server") sends into frames, at any split."""

    def __init__(self, sender):
        self.sender = sender
        self.preface = b""
        self.buf = b""
        self.consumed = 0

    def _check(self):
        buf = self.buf
        if buf[0] not in FRAMES or FRAMES[buf[0]][1] not in (self.sender, "both"):
            raise ProtocolError("frame-type")
        if len(buf) > 1 and buf[1] != VERSION:
            raise ProtocolError("frame-version")
        length = struct.pack(">H", struct.calcsize(FRAMES[buf[0]][2]))
        if not length.startswith(buf[2:4]):
            raise ProtocolError("frame-length")
        if not body_ok(buf[0], buf[8:]):
            raise ProtocolError("frame-value")
        return len(buf) == 8 + length[1]

    def feed(self, data):
        """Yields (name, claim, fields, raw)."""
        for byte in data:
            self.consumed += 1
            if len(self.preface) < len(PREFACE):
                self.preface += bytes([byte])
                if not PREFACE.startswith(self.preface):
                    raise ProtocolError("frame-preface")
                continue
            self.buf += bytes([byte])
            if self._check():
                raw, self.buf = self.buf, b""
                yield frame_parse(raw)


def frame_parse(raw):
    name, _, layout, names = FRAMES[raw[0]]
    fields = dict(zip(names, struct.unpack(layout, raw[8:])))
    return name, struct.unpack(">I", raw[4:8])[0], fields, raw


def ready_for(hello, status, nonce):
    """[RDY-4]"""
    return frame("ready", frame_parse(hello)[1], status=status, nonce=nonce,
                 hello_hash=sha256(hello))


# ---- 5 Keys and tags ----------------------------------------------------------------------------

def hkdf_expand_label(hash_name, secret, label, context, length):
    """RFC 8446, section 7.1"""
    full = b"tls13 " + label
    info = struct.pack(">HB", length, len(full)) + full + bytes([len(context)]) + context
    out, block, i = b"", b"", 0
    while len(out) < length:
        i += 1
        block = hmac.new(secret, block + info + bytes([i]), hash_name).digest()
        out += block
    return out[:length]


def exporter_master_secret(hash_name, master_secret, th):
    return hkdf_expand_label(hash_name, master_secret, b"exp master", th, len(th))


def tls_exporter(hash_name, exporter_master, label, context, length):
    """RFC 8446, section 7.5"""
    empty = hashlib.new(hash_name, b"").digest()
    secret = hkdf_expand_label(hash_name, exporter_master, label, empty, len(empty))
    return hkdf_expand_label(hash_name, secret, b"exporter",
                             hashlib.new(hash_name, context).digest(), length)


def ek(hash_name, exporter_master):
    """[KEY-3]"""
    return tls_exporter(hash_name, exporter_master, EXPORTER_LABEL, b"", 64)


def transcript(messages):
    """[KEY-1] messages: ("client" or "server", whole handshake message). Returns (hash name, TH).
    What follows the server's Finished is not looked at."""
    seen, hash_name, retried, hello = [], None, False, False
    for sender, msg in messages:
        if len(msg) < 4 or len(msg) != 4 + int.from_bytes(msg[1:4], "big"):
            raise ProtocolError("transcript-order")
        expect_client = not seen or (retried is not False and len(seen) == 2)
        if (sender == "client") != expect_client or (expect_client and msg[0] != 1):
            raise ProtocolError("transcript-order")
        if sender == "server" and not hello:
            if msg[0] != 2 or len(msg) < 4 + 2 + 32 + 1:
                raise ProtocolError("transcript-order")
            suite, chosen = server_hello(msg)
            if chosen != 0x0304:
                raise ProtocolError("tls-version")
            if suite not in SUITE_HASH or retried not in (False, suite):
                raise ProtocolError("transcript-suite")
            hash_name = SUITE_HASH[suite]
            if msg[6:38] == HRR_RANDOM:
                if retried is not False:
                    raise ProtocolError("transcript-order")
                retried = suite
                digest = hashlib.new(hash_name, seen[0]).digest()
                seen[0] = bytes([0xFE, 0, 0, len(digest)]) + digest
            else:
                hello = len(seen) + 1
        elif sender == "server" and (msg[0] == 8) != (len(seen) == hello):
            raise ProtocolError("transcript-order")
        seen.append(msg)
        if sender == "server" and msg[0] == 20:
            return hash_name, hashlib.new(hash_name, b"".join(seen)).digest()
    raise ProtocolError("transcript-lost")


def server_hello(msg):
    """(cipher suite, version chosen in supported_versions or 0)"""
    pos = 4 + 2 + 32
    pos += 1 + msg[pos]
    suite, pos = int.from_bytes(msg[pos:pos + 2], "big"), pos + 3
    pos, chosen = pos + 2, 0
    while pos + 4 <= len(msg):
        kind, size = struct.unpack(">HH", msg[pos:pos + 4])
        if kind == 43:
            chosen = int.from_bytes(msg[pos + 4:pos + 4 + size], "big")
        pos += 4 + size
    return suite, chosen


def p2(hello, ready):
    """[TAG-2]"""
    assert len(hello) == 75 and len(ready) == 73
    return sha256(hello + ready)


class Keys:
    """What both sides hold once the handshake has got there."""

    def __init__(self, th, ek_value, version=VERSION):
        assert len(ek_value) == 64 and len(th) in (32, 48)
        self.k_s, self.k_c = ek_value[:32], ek_value[32:]
        self.head = bytes([version, len(th)]) + th

    def tag_s(self, p2_value):
        """[TAG-3]"""
        return hmac.new(self.k_s, LABEL + b" server proof\0" + self.head + p2_value,
                        "sha256").digest()

    def tag_c(self, claim, k, counted):
        """[TAG-5] claim and counted: (path, P2, tag_s)"""
        return hmac.new(self.k_c, LABEL + b" client confirm\0" + self.head + claim[1] + claim[2]
                        + bytes([k, len(counted)]) + decision(counted), "sha256").digest()


def decision(counted):
    """[TAG-4] D"""
    counted = sorted(counted)
    assert 1 <= len(counted) <= 8
    assert all(a[0] < b[0] for a, b in zip(counted, counted[1:]))
    return sha256(b"".join(bytes([path]) + p2_value + tag for path, p2_value, tag in counted))


def confirm_check(keys, claims, index, k, n, tag):
    """[CNF-2] claims: (path, P2, tag_s) of the session, at most 8. The indices of the counted set
    for which the tag on claims[index] fits, or None."""
    others = [i for i in range(len(claims)) if i != index]
    for rest in itertools.combinations(others, n - 1):
        chosen = sorted(rest + (index,))
        counted = [claims[i] for i in chosen]
        if len({c[0] for c in counted}) != n:
            continue
        if hmac.compare_digest(keys.tag_c(claims[index], k, counted), tag):
            return chosen
    return None


# ---- 13 Resumption record -----------------------------------------------------------------------

def record_encode(mode, k, scope, verified_at, max_age, port, name):
    return b"MTLr" + struct.pack(">BBBBQIHB", 1, mode, k, scope, verified_at, max_age, port,
                                 len(name)) + name


def record_parse(data):
    if len(data) < 23 or data[:5] != b"MTLr\x01" or len(data) != 23 + data[22]:
        raise ProtocolError("resumption-record")
    mode, k, scope, verified_at, max_age, port, _ = struct.unpack(">BBBQIHB", data[5:23])
    if (mode not in (1, 2) or not 1 <= k <= 8 or not 1 <= scope <= 3 or verified_at >= 1 << 63
            or not 1 <= max_age <= 604800):
        raise ProtocolError("resumption-record")
    if any(not 0x21 <= byte <= 0x7E or chr(byte).isupper() for byte in data[23:]):
        raise ProtocolError("resumption-record")
    return {"mode": mode, "k": k, "scope": scope, "verified_at": verified_at, "max_age": max_age,
            "port": port, "name": data[23:]}
