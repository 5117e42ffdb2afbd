#!/usr/bin/env python3
"""Writes test/vectors/*.json from the reference. Deterministic: every "random" value is
SHA-256 of a name. Each file is a list of flat objects: strings, integers and arrays of strings.

    make_vectors.py [FOLDER]     (default: the vectors folder beside this one)
"""
import hashlib
import json
import os
import struct
import sys

import make_smkex
import mtls_reference as ref
import rfc8448


def seed(name, size=32):
    return hashlib.sha512(("mtls vectors " + name).encode()).digest()[:size]


def hexes(values):
    return [v.hex() for v in values]


def flip(data, at):
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


# ---- ext.json -----------------------------------------------------------------------------------

def ext_entry(name, message, data):
    entry = {"name": name, "in_message": message, "in_bytes": data.hex()}
    try:
        if message == "client_hello":
            got = ref.ext_ch_parse(data)
            entry.update(out_result="ok", out_versions=got["versions"].hex(),
                         out_flags=got["flags"], out_join=got["join"].hex())
        else:
            got = ref.ext_ee_parse(data)
            entry.update(out_result="ok", out_version=got["version"], out_flags=got["flags"],
                         out_port=got["port"], out_max_age=got["max_age"],
                         out_addresses=[bytes([f]).hex() + ip.hex() + "%04x" % port
                                        for f, ip, port in got["addresses"]])
    except ref.ProtocolError as error:
        entry["out_result"] = str(error)
    return entry


def ext_client_hello():
    join = ref.join(seed("ext secret"))
    good = ref.ext_ch_encode([1], join)
    cases = [("one version", good), ("16 versions", ref.ext_ch_encode(range(1, 17), join)),
             ("versions without ours", ref.ext_ch_encode([9, 8], join)),
             ("record held", ref.ext_ch_encode([1], join, 1)),
             ("unknown flags", ref.ext_ch_encode([1], join, 0xA5)),
             ("empty", b""), ("three bytes", good[:3]), ("another magic", flip(good, 0)),
             ("last byte of the magic", flip(good, 3)),
             ("someone else's bytes", bytes(40)), ("magic alone", good[:4]),
             ("no versions", b"MTL1\0\0" + join),
             ("17 versions", b"MTL1\x11" + bytes(17) + b"\0" + join),
             ("255 versions", b"MTL1\xff" + bytes(255) + b"\0" + join),
             ("one byte more", good + b"\0"), ("version count too high", b"MTL1\x02" + good[5:]),
             ("version count too low", b"MTL1\x01\x01\x01\0" + join)]
    cases += [("cut to %d bytes" % n, good[:n]) for n in range(5, len(good))]
    return [ext_entry("ch " + name, "client_hello", data) for name, data in cases]


def ext_encrypted_extensions():
    v4, v6 = bytes([192, 0, 2, 1]), bytes.fromhex("20010db8000000000000000000000001")
    small = ref.ext_ee_encode(914, 15552000)
    full = ref.ext_ee_encode(4434, 86400, [(4, v4, 914), (6, v6, 0)], flags=3)
    most = ref.ext_ee_encode(1, 0xFFFFFFFF, [(6, v6, 65535)] * 8)
    cases = [("small", small), ("nothing said", ref.ext_ee_encode()), ("two addresses", full),
             ("eight addresses", most), ("confirm needed", ref.ext_ee_encode(914, 1, flags=1)),
             ("unknown flags", ref.ext_ee_encode(914, 1, flags=0xFC)),
             ("empty", b""), ("another magic", flip(small, 0)), ("magic cut", small[:3]),
             ("magic alone", small[:4]), ("version 2", ref.ext_ee_encode(914, 1, version=2)),
             ("version 0", ref.ext_ee_encode(914, 1, version=0)),
             ("version 2, nothing after it", b"MTL1\x02"),
             ("one byte more", small + b"\0"), ("one byte more after addresses", full + b"\0"),
             ("nine addresses", small[:12] + b"\x09" + (b"\x04" + v4 + b"\0\x01") * 9),
             ("255 addresses", small[:12] + b"\xff"),
             ("address count too high", full[:12] + b"\x03" + full[13:]),
             ("address count too low", full[:12] + b"\x01" + full[13:])]
    cases += [("family %d" % f, small[:12] + b"\x01" + bytes([f]) + v6 + b"\0\x01")
              for f in (0, 1, 5, 16, 255)]
    cases += [("family 4 with 16 bytes", small[:12] + b"\x01\x04" + v6 + b"\0\x01")]
    cases += [("cut to %d bytes" % n, full[:n]) for n in range(5, len(full))]
    return [ext_entry("ee " + name, "encrypted_extensions", data) for name, data in cases]


# ---- frames.json --------------------------------------------------------------------------------

def field_text(name, claim, fields):
    words = ["%s claim=%d" % (name, claim)]
    for key, value in fields.items():
        words.append("%s=%s" % (key, value.hex() if isinstance(value, bytes) else value))
    return " ".join(words)


def frame_entry(name, sender, stream):
    reader, frames, fields, result = ref.FrameReader(sender), [], [], "ok"
    try:
        for kind, claim, values, raw in reader.feed(stream):
            frames.append(raw)
            fields.append(field_text(kind, claim, values))
    except ref.ProtocolError as error:
        result = str(error)
    return {"name": name, "in_from": sender, "in_stream": stream.hex(), "out_result": result,
            "out_consumed": reader.consumed, "out_frames": hexes(frames), "out_fields": fields}


def one_of_each():
    hello = ref.frame("hello", 1, port1=443, path=0, secret=seed("frame secret"),
                      nonce=seed("frame nonce_c"))
    return {
        "hello": hello,
        "ready": ref.ready_for(hello, 0, seed("frame nonce_s")),
        "proof": ref.frame("proof", 1, slot=0, more=0, tag=seed("frame tag_s")),
        "confirm": ref.frame("confirm", 1, slot=0, k=1, n=1, tag=seed("frame tag_c")),
        "fail": ref.frame("fail", 1, reason=1),
    }


SENDER = {"hello": "client", "ready": "server", "proof": "server", "confirm": "client",
          "fail": "server"}


def put(data, at, byte):
    return data[:at] + bytes([byte]) + data[at + 1:]


def frames_valid(each):
    pre, secret, nonce = ref.PREFACE, seed("frame secret"), seed("frame nonce_c")
    last = ref.frame("hello", 0xFFFFFFFF, port1=65535, path=7, secret=secret, nonce=nonce)
    cases = [("preface alone", "client", pre), ("nothing", "client", b""),
             ("preface cut", "server", pre[:5])]
    cases += [(kind, SENDER[kind], pre + raw) for kind, raw in each.items()]
    cases += [
        ("fail from the client", "client", pre + each["fail"]),
        ("highest hello", "client", pre + last),
        ("two hellos", "client", pre + each["hello"] + put(each["hello"], 7, 2)),
        ("client's whole exchange", "client", pre + each["hello"] + each["confirm"]),
        ("server's whole exchange", "server", pre + each["ready"] + each["proof"]),
        ("busy", "server", pre + ref.ready_for(each["hello"], 1, nonce)),
        ("not-here", "server", pre + ref.ready_for(each["hello"], 2, nonce)),
        ("slot 7, more", "server", pre + put(put(each["proof"], 8, 7), 9, 1)),
        ("8 of 8", "client", pre + put(put(each["confirm"], 9, 8), 10, 8)),
        ("1 of 8", "client", pre + put(each["confirm"], 10, 8)),
        ("fail with an unknown reason", "server", pre + put(each["fail"], 8, 255)),
        ("hello and a part of the next", "client", pre + each["hello"] + each["hello"][:40]),
    ]
    return cases


def frames_invalid(each):
    pre = ref.PREFACE
    cases = [("preface byte %d" % i, "client", put(pre, i, pre[i] ^ 1) + each["hello"])
             for i in range(len(pre))]
    cases += [("TLS instead of the preface", "server", bytes.fromhex("160301")),
              ("HTTP instead of the preface", "server", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
              ("SSH instead of the preface", "server", b"SSH-2.0-x\r\n"),
              ("preface twice", "client", pre + pre)]
    for kind, raw in each.items():
        sender = SENDER[kind]
        if kind != "fail":
            other = "server" if sender == "client" else "client"
            cases.append((kind + " from the wrong side", other, pre + raw))
        cases += [(kind + " type 0", sender, pre + put(raw, 0, 0)),
                  (kind + " type 6", sender, pre + put(raw, 0, 6)),
                  (kind + " type 255", sender, pre + put(raw, 0, 255)),
                  (kind + " version 0", sender, pre + put(raw, 1, 0)),
                  (kind + " version 2", sender, pre + put(raw, 1, 2)),
                  (kind + " length high byte", sender, pre + put(raw, 2, 1)),
                  (kind + " a byte too long", sender, pre + put(raw, 3, raw[3] + 1) + b"\0"),
                  (kind + " a byte too short", sender, pre + put(raw, 3, raw[3] - 1)),
                  (kind + " length 0", sender, pre + put(raw, 3, 0))]
    values = [("hello", 10, 8), ("hello", 10, 255), ("ready", 8, 3), ("ready", 8, 255),
              ("proof", 8, 8), ("proof", 9, 2), ("confirm", 8, 8), ("confirm", 9, 0),
              ("confirm", 9, 2), ("confirm", 9, 9), ("confirm", 10, 0), ("confirm", 10, 9)]
    cases += [("%s byte %d is %d" % v, SENDER[v[0]], pre + put(each[v[0]], v[1], v[2]))
              for v in values]
    cases.append(("bad frame after a good one", "client", pre + each["hello"] + b"\x07"))
    return cases


# ---- confirm.json, search.json ------------------------------------------------------------------

class Session:
    """A made-up session with its keys and claims."""

    def __init__(self, name, hash_name, paths, port1=443):
        size = hashlib.new(hash_name).digest_size
        self.name, self.hash_name, self.paths = name, hash_name, paths
        self.exporter_master = seed(name + " exporter master", size)
        self.th = seed(name + " TH", size)
        self.secret = seed(name + " secret")
        self.ek = ref.ek(hash_name, self.exporter_master)
        self.keys = ref.Keys(self.th, self.ek)
        self.hello = [ref.frame("hello", 1 + i, port1=port1, path=path, secret=self.secret,
                                nonce=seed("%s nonce_c %d" % (name, i)))
                      for i, path in enumerate(paths)]
        self.ready = [ref.ready_for(hello, 0, seed("%s nonce_s %d" % (name, i)))
                      for i, hello in enumerate(self.hello)]
        self.p2 = [ref.p2(*pair) for pair in zip(self.hello, self.ready)]
        self.tag_s = [self.keys.tag_s(p2) for p2 in self.p2]
        self.claims = list(zip(paths, self.p2, self.tag_s))

    def confirm(self, index, k, chosen, slot=0):
        tag = self.keys.tag_c(self.claims[index], k, [self.claims[i] for i in chosen])
        return ref.frame("confirm", 1 + index, slot=slot, k=k, n=len(chosen), tag=tag)

    def proof(self, index, slot=0, more=0):
        return ref.frame("proof", 1 + index, slot=slot, more=more, tag=self.tag_s[index])


def confirm_entry(session, k, slot=0, more=0):
    every = range(len(session.paths))
    confirms = [session.confirm(i, k, every, slot) for i in every]
    return {
        "name": session.name, "in_hash": session.hash_name, "in_version": ref.VERSION,
        "in_exporter_master_secret": session.exporter_master.hex(), "in_th": session.th.hex(),
        "in_secret": session.secret.hex(), "in_k": k, "in_slot": slot, "in_more": more,
        "in_paths": ["%d" % p for p in session.paths],
        "in_hello": hexes(session.hello), "in_ready": hexes(session.ready),
        "out_join": ref.join(session.secret).hex(), "out_ek": session.ek.hex(),
        "out_k_s": session.keys.k_s.hex(), "out_k_c": session.keys.k_c.hex(),
        "out_p2": hexes(session.p2), "out_tag_s": hexes(session.tag_s),
        "out_d": ref.decision(session.claims).hex(),
        "out_tag_c": [c[-32:].hex() for c in confirms],
        "out_proof": hexes(session.proof(i, slot, more) for i in every),
        "out_confirm": hexes(confirms),
    }


def confirm_entries():
    return [
        confirm_entry(Session("one path", "sha256", [0]), 1),
        confirm_entry(Session("one path, SHA-384", "sha384", [0]), 1),
        confirm_entry(Session("one path, number 7", "sha256", [7], 8443), 1, slot=7, more=1),
        confirm_entry(Session("two paths, one needed", "sha256", [0, 1]), 1),
        confirm_entry(Session("two paths, two needed, SHA-384", "sha384", [2, 5]), 2),
        confirm_entry(Session("three paths, two needed", "sha256", [0, 3, 6], 65535), 2, slot=1),
        confirm_entry(Session("three paths, three needed, SHA-384", "sha384", [1, 2, 4]), 3),
        confirm_entry(Session("eight paths", "sha256", list(range(8))), 8),
    ]


def search_entry(name, session, index, confirm):
    _, _, fields, _ = ref.frame_parse(confirm)
    got = ref.confirm_check(session.keys, session.claims, index, fields["k"], fields["n"],
                            fields["tag"])
    return {
        "name": name, "in_hash": session.hash_name, "in_th": session.th.hex(),
        "in_ek": session.ek.hex(), "in_paths": ["%d" % p for p in session.paths],
        "in_p2": hexes(session.p2), "in_index": index, "in_confirm": confirm.hex(),
        "out_result": "wrong" if got is None else "right",
        "out_counted": [] if got is None else ["%d" % i for i in got],
    }


def search_entries():
    eight = Session("search eight", "sha256", list(range(8)))
    twins = Session("search twins", "sha384", [0, 0, 1, 1, 2])
    four = eight.confirm(4, 2, [1, 4, 5, 7])
    cases = [
        ("alone among eight", eight, 3, eight.confirm(3, 1, [3])),
        ("two of eight", eight, 6, eight.confirm(6, 2, [0, 6])),
        ("four of eight", eight, 4, four), ("all eight", eight, 0, eight.confirm(0, 1, range(8))),
        ("last set of four", eight, 7, eight.confirm(7, 4, [4, 5, 6, 7])),
        ("second claim of a path", twins, 1, twins.confirm(1, 2, [1, 2])),
        ("two claims of a path, one each", twins, 4, twins.confirm(4, 3, [1, 3, 4])),
        ("tag changed", eight, 4, flip(four, -1)), ("k changed", eight, 4, put(four, 9, 1)),
        ("n lowered", eight, 4, put(four, 10, 3)), ("n raised", eight, 4, put(four, 10, 5)),
        ("sent on another claim", eight, 5, four),
        ("sent on a claim not counted", eight, 2, four),
        ("another session's", twins, 4, four),
        ("more than there are", twins, 4, put(four, 10, 8)),
    ]
    return [search_entry(*case) for case in cases]


# ---- transcript.json, exporter.json -------------------------------------------------------------

def message(kind, body):
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def extension(kind, data):
    return struct.pack(">HH", kind, len(data)) + data


def hello_message(kind, random, suite, extensions):
    suites = struct.pack(">H", suite)
    if kind == 1:
        suites = struct.pack(">H", len(suites)) + suites + b"\x01"
    body = b"\x03\x03" + random + b"\0" + suites + b"\0"
    return message(kind, body + struct.pack(">H", len(extensions)) + extensions)


def made_up(name, suite, retry):
    """A well-formed flight of made-up content: the transcript does not check signatures."""
    version = extension(43, b"\x03\x04")
    share = extension(51, struct.pack(">HH", 0x1D, 32) + seed(name + " share"))
    client = extension(43, b"\x02\x03\x04") + extension(0xFF4D, ref.ext_ch_encode(
        [1], ref.join(seed(name + " secret"))))
    hello = hello_message(1, seed(name + " client random"), suite, client)
    out = [("client", hello)]
    if retry:
        out.append(("server", hello_message(2, ref.HRR_RANDOM, suite,
                                            version + extension(51, b"\0\x1d"))))
        out.append(("client", hello_message(1, seed(name + " client random"), suite,
                                            client + extension(44, b"\0\x04cook"))))
    answer = extension(0xFF4D, ref.ext_ee_encode(914, 15552000))
    size = hashlib.new(ref.SUITE_HASH.get(suite, "sha256")).digest_size
    out += [("server", hello_message(2, seed(name + " server random"), suite, version + share)),
            ("server", message(8, struct.pack(">H", len(answer)) + answer)),
            ("server", message(11, b"\0\0\0\x0b\0\0\x06" + seed(name + " cert", 6) + b"\0\0")),
            ("server", message(15, b"\x04\x03\0\x08" + seed(name + " signature", 8))),
            ("server", message(20, seed(name + " finished", size)))]
    return out


def server_hello_12():
    return hello_message(2, seed("1.2 server random"), 0x1301, extension(0xFF01, b"\0"))


def transcript_entry(name, source, messages, trace=None):
    entry = {"name": name, "source": source, "in_senders": [s for s, _ in messages],
             "in_messages": hexes(m for _, m in messages)}
    try:
        hash_name, th = ref.transcript(messages)
        entry.update(out_result="ok", out_hash=hash_name, out_th=th.hex())
    except ref.ProtocolError as error:
        entry["out_result"] = str(error)
    if trace is not None:
        master = bytes.fromhex(trace["master_secret"])
        exporter = ref.exporter_master_secret(hash_name, master, th)
        assert th.hex() == trace["th"] and exporter.hex() == trace["exporter_master_secret"]
        entry.update(in_master_secret=master.hex(), out_exporter_master_secret=exporter.hex())
    return entry


def trace_messages(trace):
    return [(sender, bytes.fromhex(msg)) for sender, msg in trace["messages"]]


def transcript_entries():
    made = "made up"
    out = [transcript_entry(t["name"], t["source"], trace_messages(t), t) for t in rfc8448.TRACES]
    plain, retried = made_up("plain", 0x1301, False), made_up("retried", 0x1302, True)
    late = plain + [("server", message(4, seed("ticket", 40))), ("client", message(24, b"\0"))]
    cases = [("SHA-256", plain), ("SHA-384", made_up("sha384", 0x1302, False)),
             ("SHA-384, HelloRetryRequest", retried),
             ("ChaCha20", made_up("chacha", 0x1303, False)),
             ("messages after Finished", late),
             ("a changed ClientHello", [("client", flip(plain[0][1], 10))] + plain[1:]),
             ("unknown suite", made_up("unknown suite", 0x1399, False)),
             ("unknown suite, HelloRetryRequest", made_up("unknown suite", 0x1399, True)),
             ("nothing", []), ("ClientHello alone", plain[:1]), ("no Finished", plain[:-1]),
             ("two HelloRetryRequests", retried[:3] + retried[1:]),
             ("HelloRetryRequest without a second ClientHello", retried[:2] + retried[3:]),
             ("begins with the server", plain[1:]), ("begins with Finished", plain[-1:]),
             ("client speaks before Finished", plain[:3] + [late[-1]] + plain[3:]),
             ("header says more", [("client", plain[0][1] + b"\0")] + plain[1:]),
             ("header says less", [("client", plain[0][1][:-1])] + plain[1:]),
             ("header cut", plain[:2] + [("server", b"\x08\0\0")]),
             ("no ServerHello", plain[:1] + plain[2:]),
             ("no EncryptedExtensions", plain[:2] + plain[3:]),
             ("EncryptedExtensions twice", plain[:3] + plain[2:]),
             ("TLS 1.2", plain[:1] + [("server", server_hello_12())] + plain[2:]),
             ("suite changed after HelloRetryRequest",
              retried[:3] + made_up("retried", 0x1301, True)[3:])]
    return out + [transcript_entry(name, made, messages) for name, messages in cases]


def exporter_entry(name, hash_name, exporter_master):
    ek = ref.ek(hash_name, exporter_master)
    return {"name": name, "in_hash": hash_name,
            "in_exporter_master_secret": exporter_master.hex(),
            "in_label": ref.EXPORTER_LABEL.decode(), "in_context": "", "in_length": 64,
            "out_ek": ek.hex(), "out_k_s": ek[:32].hex(), "out_k_c": ek[32:].hex()}


def exporter_entries():
    out = [exporter_entry(t["name"], "sha256", bytes.fromhex(t["exporter_master_secret"]))
           for t in rfc8448.TRACES]
    return out + [exporter_entry("SHA-256", "sha256", seed("exporter", 32)),
                  exporter_entry("SHA-384", "sha384", seed("exporter", 48))]


# ---- record.json --------------------------------------------------------------------------------

def record_entry(name, data):
    entry = {"name": name, "in_bytes": data.hex()}
    try:
        got = ref.record_parse(data)
        got["name"] = got["name"].decode()
        entry["out_result"] = "ok"
        entry.update(("out_" + key, value) for key, value in got.items())
    except ref.ProtocolError as error:
        entry["out_result"] = str(error)
    return entry


def record_entries():
    good = ref.record_encode(1, 1, 1, 1700000000, 86400, 443, b"www.example.com")
    cases = [("usual", good),
             ("no name", ref.record_encode(1, 2, 3, 1700000000, 604800, 8443, b"")),
             ("longest", ref.record_encode(1, 8, 2, 0x1FFFFFFFF, 1, 65535, b"a." * 127 + b"b")),
             ("resume mode", ref.record_encode(2, 1, 1, 0, 1, 1, b"x")), ("empty", b""),
             ("magic", flip(good, 0)), ("version 0", put(good, 4, 0)),
             ("version 2", put(good, 4, 2)), ("mode 0", put(good, 5, 0)),
             ("mode 3", put(good, 5, 3)), ("k 0", put(good, 6, 0)), ("k 9", put(good, 6, 9)),
             ("scope 0", put(good, 7, 0)), ("scope 4", put(good, 7, 4)),
             ("verified in the far past of a signed clock", put(good, 8, 0x80)),
             ("upper case", good[:-1] + b"M"), ("space in the name", good[:-1] + b" "),
             ("zero in the name", good[:-1] + b"\0"), ("name not ASCII", good[:-1] + b"\xfc"),
             ("age 0", ref.record_encode(1, 1, 1, 0, 0, 443, b"x")),
             ("age over 7 days", ref.record_encode(1, 1, 1, 0, 604801, 443, b"x")),
             ("one byte more", good + b"x"), ("name length over the end", put(good, 22, 16)),
             ("name length too short", put(good, 22, 14))]
    cases += [("cut to %d bytes" % n, good[:n]) for n in range(1, len(good))]
    return [record_entry(name, data) for name, data in cases]


def vectors():
    each = one_of_each()
    return {
        "ext.json": ext_client_hello() + ext_encrypted_extensions(),
        "frames.json": [frame_entry(*case) for case in frames_valid(each) + frames_invalid(each)],
        "confirm.json": confirm_entries(),
        "search.json": search_entries(),
        "transcript.json": transcript_entries(),
        "exporter.json": exporter_entries(),
        "record.json": record_entries(),
        **make_smkex.vectors(),
    }


def as_text(entries):
    return json.dumps(entries, indent=1) + "\n"


def main(folder):
    for name, entries in vectors().items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as out:
            out.write(as_text(entries))


if __name__ == "__main__":
    HERE = os.path.dirname(os.path.abspath(__file__))
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "vectors"))
