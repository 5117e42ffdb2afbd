"""The vectors of SMKEX: smkex.json (whole exchanges) and smkex_wire.json (OFFER and ANSWER)."""
import hashlib

from cryptography.hazmat.primitives.asymmetric import ed25519

import mtls_reference as ref
import smkex_reference as smkex


def seed(name, size=32):
    return hashlib.sha512(("smkex vectors " + name).encode()).digest()[:size]


def flip(data, at):
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def put(data, at, value):
    return data[:at] + bytes([value]) + data[at + 1:]


def exchange(name, group, suite, signed=True, mode="multipath"):
    single = mode == "single"
    secret, nonce_c, nonce_s = (seed(f"{name} {part}") for part in ("secret", "c", "s"))
    join = seed(name + " random", 16) if single else ref.join(secret)
    client, server = (smkex.Dh(group, seed(f"{name} {part} private")) for part in ("c", "s"))
    signer = ed25519.Ed25519PrivateKey.from_private_bytes(seed(name + " key")) if signed else None
    offer = smkex.offer_encode(join, [(group, client.share)], mode=mode)
    answer = smkex.answer(offer, group, server.share, suite, signer, max_age=3600, mode=mode)
    dh = client.derive(server.share)
    assert dh == server.derive(client.share)
    keys = smkex.Keys(mode, dh, offer, answer)
    entry = {
        "name": name, "in_mode": mode, "in_group": group, "in_suite": suite,
        "in_client_private": seed(name + " c private").hex(),
        "in_server_private": seed(name + " s private").hex(),
        "in_signing_key": seed(name + " key").hex() if signed else "", "in_join": join.hex(),
        "in_max_age": 3600, "out_client_share": client.share.hex(),
        "out_server_share": server.share.hex(), "out_offer": offer.hex(),
        "out_answer": answer.hex(), "out_dh": dh.hex(), "out_th": keys.th.hex(),
        "out_es": keys.es.hex(), "out_k_s": keys.k_s.hex(), "out_k_c": keys.k_c.hex(),
    }
    if single:
        d, k, secrets = bytes(32), 0, keys.traffic()
    else:
        hello = ref.frame("hello", 1, port1=7000, path=0, secret=secret, nonce=nonce_c)
        p2 = ref.p2(hello, ref.ready_for(hello, 0, nonce_s))
        tag_s = keys.tag_s(p2)
        claim = (0, p2, tag_s)
        d, k = ref.decision([claim]), 1
        secrets = keys.traffic(d, 1, 1)
        entry.update(in_p2=p2.hex(), out_tag_s=tag_s.hex(),
                     out_tag_c=keys.tag_c(claim, 1, [claim]).hex())
    entry.update(in_d=d.hex(), in_k=k, out_client_secret=secrets[0].hex(),
                 out_server_secret=secrets[1].hex())
    way = smkex.Direction(mode, suite, secrets[0])
    entry.update(out_key=way.key.hex(), out_iv=way.iv.hex())
    records = [way.seal(smkex.HANDSHAKE, smkex.FINISHED), way.seal(smkex.DATA, b"first data"),
               way.seal(smkex.DATA, b"padded", 25), way.seal(smkex.HANDSHAKE, b"\x18\0\0\1\0")]
    way.update()
    records += [way.seal(smkex.DATA, b"under the next key"), way.seal(smkex.ALERT, b"\1\0")]
    entry["out_records"] = [r.hex() for r in records]
    return entry


def exchanges():
    return [exchange("X25519, AES-128-GCM", smkex.X25519, smkex.AES128),
            exchange("X25519, ChaCha20", smkex.X25519, smkex.CHACHA20, signed=False),
            exchange("P-256, AES-128-GCM", smkex.P256, smkex.AES128, signed=False),
            exchange("P-256, ChaCha20", smkex.P256, smkex.CHACHA20),
            exchange("single path", smkex.X25519, smkex.AES128, mode="single"),
            exchange("single path, no key", smkex.P256, smkex.CHACHA20, False, "single")]


def wire_entry(name, message, data):
    entry = {"name": f"{message}: {name}", "in_message": message, "in_bytes": data.hex()}
    try:
        got = (smkex.offer_parse if message == "offer" else smkex.answer_parse)(data)
    except smkex.Error as error:
        entry["out_result"] = str(error)
        return entry
    entry["out_result"] = "ok"
    if message == "offer":
        entry.update(out_versions=got["versions"].hex(), out_join=got["join"].hex(),
                     out_suites=got["suites"].hex(),
                     out_shares=[bytes([g]).hex() + s.hex() for g, s in got["shares"]])
    elif got["version"] == 0:
        entry.update(out_version=0, out_refusal=got["refusal"])
    else:
        entry.update(out_version=got["version"], out_max_age=got["max_age"],
                     out_suite=got["suite"], out_share=bytes([got["group"]]).hex()
                     + got["share"].hex(), out_key=(got["key"] or b"").hex())
    return entry


def wire_offers():
    join, x, p = seed("join", 16), (1, seed("x")), (2, b"\4" + seed("p", 64))
    good = smkex.offer_encode(join, [x, p])
    cases = [("usual", good), ("one group", smkex.offer_encode(join, [x])),
             ("single path", smkex.offer_encode(join, [x], mode="single")),
             ("unknown group", smkex.offer_encode(join, [(9, b"odd"), x])),
             ("unknown group alone", smkex.offer_encode(join, [(9, b"")])),
             ("16 versions", smkex.offer_encode(join, [x], versions=range(1, 17))),
             ("16 suites", smkex.offer_encode(join, [x], suites=range(16))),
             ("8 groups", smkex.offer_encode(join, [(g, b"") for g in range(9, 17)])),
             ("unknown flags", smkex.offer_encode(join, [x], flags=0xA5)),
             ("no versions", smkex.offer_encode(join, [x], versions=())),
             ("17 versions", smkex.offer_encode(join, [x], versions=range(17))),
             ("no suites", smkex.offer_encode(join, [x], suites=())),
             ("17 suites", smkex.offer_encode(join, [x], suites=range(17))),
             ("no groups", smkex.offer_encode(join, [])),
             ("9 groups", smkex.offer_encode(join, [(g, b"") for g in range(9, 18)])),
             ("a group twice", smkex.offer_encode(join, [x, x])),
             ("short share", smkex.offer_encode(join, [(1, seed("x", 31))])),
             ("long share", smkex.offer_encode(join, [(2, seed("p", 64) + b"xy")])),
             ("another magic", flip(good, 1)), ("last byte of the magic", flip(good, 7)),
             ("length 0", smkex.MAGIC["multipath"] + bytes(2)),
             ("length 1025", smkex.frame("multipath", bytes(1025))),
             ("a byte behind", smkex.frame("multipath", good[10:] + b"x"))]
    cases += [(f"cut to {n} bytes", smkex.frame("multipath", good[10:n]))
              for n in range(11, len(good), 7)]
    return [wire_entry(name, "offer", data) for name, data in cases]


def wire_answers():
    x, offer = seed("x"), smkex.offer_encode(seed("join", 16), [(1, seed("y"))])
    signer = ed25519.Ed25519PrivateKey.from_private_bytes(seed("signer"))
    good = smkex.answer(offer, 1, x, 1, signer, max_age=0x01020304)
    cases = [("signed", good), ("unsigned", smkex.answer(offer, 1, x, 2)),
             ("P-256", smkex.answer(offer, 2, b"\4" + seed("p", 64), 2)),
             ("single path", smkex.answer(offer, 1, x, 1, mode="single")),
             ("unknown flags", smkex.answer(offer, 1, x, 1, flags=0xF0)),
             ("refusal", smkex.refusal(3)), ("refusal, 255", smkex.refusal(255)),
             ("refusal and more", smkex.frame("multipath", b"\0\1\0")),
             ("refusal without reason", smkex.frame("multipath", b"\0")),
             ("version 2", put(good, 10, 2)), ("unknown group", put(good, 17, 3)),
             ("group of another length", put(good, 17, 2)), ("share length", put(good, 18, 31)),
             ("signed flag without key", put(smkex.answer(offer, 1, x, 2), 11, 1)),
             ("key without signed flag", put(good, 11, 0)),
             ("a byte behind", smkex.frame("multipath", good[10:] + b"x")),
             ("another magic", flip(good, 3))]
    cases += [(f"cut to {n} bytes", smkex.frame("multipath", good[10:n]))
              for n in range(11, len(good), 9)]
    return [wire_entry(name, "answer", data) for name, data in cases]


def vectors():
    return {"smkex.json": exchanges(), "smkex_wire.json": wire_offers() + wire_answers()}
