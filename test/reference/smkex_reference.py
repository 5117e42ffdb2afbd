"""SMKEX version 1, written from doc/smkex.md alone: OFFER and ANSWER, keys, records.

An independent second opinion for the C library, and what the tests' own peers and attackers are
made of. The primitives are python3-cryptography's. Path 2 is mtls_reference's, under another label.
"""
import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import mtls_reference as ref

MAGIC = {"multipath": b"\xf0SMKEX\r\n", "single": b"\xf0SPDH1\r\n"}
LABEL = {"multipath": b"smkex1", "single": b"spdh1"}
X25519, P256 = 1, 2
SHARE_LEN = {X25519: 32, P256: 65}
AES128, CHACHA20 = 1, 2
KEY_LEN = {AES128: 16, CHACHA20: 32}
DATA, HANDSHAKE, ALERT = 23, 22, 21
FINISHED, CLOSE_NOTIFY = b"\x14\0\0\0", b"\1\0"
Error = ref.ProtocolError


# ---- 2 OFFER and ANSWER -------------------------------------------------------------------------

def frame(mode, body):
    return MAGIC[mode] + struct.pack(">H", len(body)) + body


def open_frame(data):
    """(mode, body) of one whole message."""
    mode = next((m for m, magic in MAGIC.items() if data[:8] == magic), None)
    if mode is None:
        raise Error("smkex-not-spoken")
    length = int.from_bytes(data[8:10], "big")
    if len(data) < 10 or not 1 <= length <= 1024 or len(data) != 10 + length:
        raise Error("smkex-malformed")
    return mode, data[10:]


class Cursor:
    def __init__(self, data):
        self.data = data

    def take(self, size):
        if len(self.data) < size:
            raise Error("smkex-malformed")
        out, self.data = self.data[:size], self.data[size:]
        return out

    def byte(self):
        return self.take(1)[0]

    def count(self, most):
        value = self.byte()
        if not 1 <= value <= most:
            raise Error("smkex-malformed")
        return value

    def end(self):
        if self.data:
            raise Error("smkex-malformed")


def offer_encode(join, shares, mode="multipath", suites=(AES128, CHACHA20), versions=(1,), flags=0):
    """shares: (group, bytes), the preferred first"""
    body = bytes([len(versions), *versions, flags]) + join + bytes([len(suites), *suites])
    body += bytes([len(shares)])
    for group, share in shares:
        body += bytes([group, len(share)]) + share
    return frame(mode, body)


def offer_parse(data):
    """[OFR-2], [OFR-3]"""
    mode, body = open_frame(data)
    at = Cursor(body)
    versions = at.take(at.count(16))
    flags, join = at.byte(), at.take(16)
    suites = at.take(at.count(16))
    shares = []
    for _ in range(at.count(8)):
        group, length = at.take(2)
        share = at.take(length)
        if group in [g for g, _ in shares] or SHARE_LEN.get(group, length) != length:
            raise Error("smkex-malformed")
        shares.append((group, share))
    at.end()
    return {"mode": mode, "versions": versions, "flags": flags, "join": join, "suites": suites,
            "shares": [s for s in shares if s[0] in SHARE_LEN]}


def answer_unsigned(group, share, suite, max_age=0, mode="multipath", key=None, flags=0):
    """ANSWER without its last 64 bytes, if a key (32 bytes) is shown; the length counts them."""
    body = struct.pack(">BBIBBB", 1, flags | (key is not None), max_age, suite, group, len(share))
    body += share + (key or b"")
    return frame(mode, body if key is None else body + bytes(64))[:None if key is None else -64]


def signed_text(offer, unsigned):
    """[TOF-1]"""
    return LABEL[open_frame(offer)[0]] + b" server key\0" + ref.sha256(offer + unsigned)


def answer(offer, group, share, suite, signer=None, **options):
    if signer is None:
        return answer_unsigned(group, share, suite, **options)
    key = signer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    unsigned = answer_unsigned(group, share, suite, key=key, **options)
    return unsigned + signer.sign(signed_text(offer, unsigned))


def refusal(reason, mode="multipath"):
    return frame(mode, bytes([0, reason]))


def answer_parse(data):
    mode, body = open_frame(data)
    at = Cursor(body)
    version = at.byte()
    if version > 1:
        raise Error("smkex-choice")
    if version == 0:
        out = {"mode": mode, "version": 0, "refusal": at.byte()}
        at.end()
        return out
    flags, max_age, suite, group, length = struct.unpack(">BIBBB", at.take(8))
    if SHARE_LEN.get(group) != length:
        raise Error("smkex-malformed")
    out = {"mode": mode, "version": version, "flags": flags, "max_age": max_age, "suite": suite,
           "group": group, "share": at.take(length), "key": None}
    if flags & 1:
        out["key"], out["signature"] = at.take(32), at.take(64)
    at.end()
    return out


def verify(offer, whole_answer):
    """[TOF-2]: the key that ANSWER proves, None if it shows none."""
    got = answer_parse(whole_answer)
    if got["key"] is None:
        return None
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(got["key"]).verify(
            got["signature"], signed_text(offer, whole_answer[:-64]))
    except InvalidSignature:
        raise Error("server-key-unproven") from None
    return got["key"]


# ---- 4 Keys -------------------------------------------------------------------------------------

class Dh:
    """One key pair; private: 32 bytes, or fresh."""

    def __init__(self, group, private=None):
        self.group = group
        if group == X25519:
            self.key = (x25519.X25519PrivateKey.from_private_bytes(private) if private
                        else x25519.X25519PrivateKey.generate())
            self.share = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        else:
            self.key = (ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
                        if private else ec.generate_private_key(ec.SECP256R1()))
            self.share = self.key.public_key().public_bytes(Encoding.X962,
                                                            PublicFormat.UncompressedPoint)

    def derive(self, peer):
        """[SKY-2], [ANS-3]"""
        if peer == self.share:
            raise Error("smkex-share")
        try:
            if self.group == X25519:
                return self.key.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
            return self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(
                ec.SECP256R1(), peer))
        except ValueError:
            raise Error("smkex-share") from None


def extract(salt, key):
    return hmac.new(salt, key, "sha256").digest()


def expand(key, info, length):
    out, block, i = b"", b"", 0
    while len(out) < length:
        i += 1
        block = hmac.new(key, block + info + bytes([i]), "sha256").digest()
        out += block
    return out[:length]


class Keys(ref.Keys):
    """[SKY-1], [SKY-3], [SPA-3]"""

    def __init__(self, mode, dh, offer, whole_answer):
        self.mode, self.label = mode, LABEL[mode]
        self.th = hashlib.sha256(offer + whole_answer).digest()
        self.es = extract(self.th, dh)
        super().__init__(self.th, expand(self.es, self.label + b" confirm", 64))

    def tag_s(self, p2_value):
        return hmac.new(self.k_s, self.label + b" server proof\0" + self.head + p2_value,
                        "sha256").digest()

    def tag_c(self, claim, k, counted):
        return hmac.new(self.k_c, self.label + b" client confirm\0" + self.head + claim[1]
                        + claim[2] + bytes([k, len(counted)]) + ref.decision(counted),
                        "sha256").digest()

    def traffic(self, d=bytes(32), k=0, n=0):
        """[SKY-4], [SKY-5]: the client's and the server's secret."""
        ms = extract(d, expand(self.es, self.label + b" data", 32))
        return tuple(expand(ms, self.label + side + bytes([0, k, n]), 32)
                     for side in (b" client data", b" server data"))


# ---- 5 Records ----------------------------------------------------------------------------------

class Direction:
    def __init__(self, mode, suite, secret):
        self.label, self.suite, self.secret = LABEL[mode], suite, secret
        self._key()

    def _key(self):
        self.key = expand(self.secret, self.label + b" key", KEY_LEN[self.suite])
        self.iv = expand(self.secret, self.label + b" iv", 12)
        self.aead = (AESGCM if self.suite == AES128 else ChaCha20Poly1305)(self.key)
        self.number = 0

    def update(self):
        self.secret = expand(self.secret, self.label + b" update", 32)
        self._key()

    def _nonce(self):
        number = self.number.to_bytes(12, "big")
        self.number += 1
        return bytes(a ^ b for a, b in zip(self.iv, number))

    def seal(self, kind, data, zeros=0):
        inner = data + bytes([kind]) + bytes(zeros)
        head = b"\x17\x03\x03" + struct.pack(">H", len(inner) + 16)
        return head + self.aead.encrypt(self._nonce(), inner, head)

    def open(self, record):
        """(type, content)"""
        try:
            inner = self.aead.decrypt(self._nonce(), record[5:], record[:5]).rstrip(b"\0")
        except InvalidTag:
            raise Error("record-wrong") from None
        if not inner:
            raise Error("record-wrong")
        return inner[-1], inner[:-1]
