"""The committed vectors are what the reference makes, and the reference rejects the tampered twin
of everything that it accepts."""
import os
import re

import pytest

import make_vectors as make
import mtls_reference as ref
import rfc8448

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors")
MADE = make.vectors()


def entries(file, **wanted):
    return [e for e in MADE[file] if all(e.get(k) == v for k, v in wanted.items())]


def named(file, **wanted):
    found = entries(file, **wanted)
    return pytest.mark.parametrize("entry", found, ids=[e["name"] for e in found])


def unhex(texts):
    return [bytes.fromhex(t) for t in texts]


@pytest.mark.parametrize("name", sorted(MADE))
def test_committed_vectors_are_current(name):
    with open(os.path.join(VECTORS, name), encoding="ascii") as file:
        assert file.read() == make.as_text(MADE[name])


def test_no_other_vector_files():
    assert sorted(f for f in os.listdir(VECTORS) if f.endswith(".json")) == sorted(MADE)


@pytest.mark.parametrize("name", sorted(MADE))
def test_entries_are_flat_and_named_once(name):
    names = [e["name"] for e in MADE[name]]
    assert len(set(names)) == len(names)
    for value in (v for e in MADE[name] for v in e.values()):
        assert type(value) in (str, int) or all(type(v) is str for v in value)


# ---- RFC 8448 -----------------------------------------------------------------------------------

TRACE = pytest.mark.parametrize("trace", rfc8448.TRACES, ids=[t["name"] for t in rfc8448.TRACES])


@TRACE
def test_trace_gives_the_printed_secret(trace):
    hash_name, th = ref.transcript(make.trace_messages(trace))
    assert th.hex() == trace["th"]
    secret = ref.exporter_master_secret(hash_name, bytes.fromhex(trace["master_secret"]), th)
    assert secret.hex() == trace["exporter_master_secret"]


@TRACE
def test_every_message_up_to_finished_counts_and_none_after(trace):
    messages = make.trace_messages(trace)
    last = next(i for i, (s, m) in enumerate(messages) if s == "server" and m[0] == 20)
    for i, (sender, msg) in enumerate(messages):
        changed = messages[:i] + [(sender, make.flip(msg, -1))] + messages[i + 1:]
        try:
            same = ref.transcript(changed)[1].hex() == trace["th"]
        except ref.ProtocolError:
            same = False
        assert same == (i > last)


def test_message_hash_rule_is_not_the_plain_hash():
    trace = next(t for t in rfc8448.TRACES if "Retry" in t["name"])
    joined = b"".join(m for _, m in make.trace_messages(trace))
    assert ref.sha256(joined).hex() != trace["th"]


# ---- Extension and frames -----------------------------------------------------------------------

@named("ext.json", out_result="ok")
def test_extension_is_rejected_when_cut_or_longer(entry):
    parse = ref.ext_ch_parse if entry["in_message"] == "client_hello" else ref.ext_ee_parse
    data = bytes.fromhex(entry["in_bytes"])
    parse(data)
    for bad in [data[:n] for n in range(len(data))] + [data + b"\0"]:
        with pytest.raises(ref.ProtocolError):
            parse(bad)


@named("frames.json")
def test_frames_do_not_depend_on_the_split(entry):
    stream = bytes.fromhex(entry["in_stream"])
    for cut in range(len(stream) + 1):
        reader, raws, result = ref.FrameReader(entry["in_from"]), [], "ok"
        try:
            for piece in (stream[:cut], stream[cut:]):
                for _, _, _, raw in reader.feed(piece):
                    raws.append(raw.hex())
        except ref.ProtocolError as error:
            result = str(error)
        assert (raws, result, reader.consumed) == (
            entry["out_frames"], entry["out_result"], entry["out_consumed"])


@named("frames.json", out_result="ok")
def test_header_of_a_frame_cannot_be_changed(entry):
    stream = bytes.fromhex(entry["in_stream"])
    for at in range(min(len(stream), 12)):  # preface, type, version, length
        reader = ref.FrameReader(entry["in_from"])
        with pytest.raises(ref.ProtocolError):
            list(reader.feed(make.flip(stream, at)))


# ---- Keys and tags ------------------------------------------------------------------------------

def keys_of(entry):
    exporter = ref.ek(entry["in_hash"], bytes.fromhex(entry["in_exporter_master_secret"]))
    return ref.Keys(bytes.fromhex(entry["in_th"]), exporter)


@named("confirm.json")
def test_server_tag_changes_with_everything_it_covers(entry):
    hello, ready = unhex(entry["in_hello"])[0], unhex(entry["in_ready"])[0]
    tag = bytes.fromhex(entry["out_tag_s"][0])
    keys = keys_of(entry)
    assert keys.tag_s(ref.p2(hello, ready)) == tag
    tags = {tag}
    tags |= {keys.tag_s(ref.p2(make.flip(hello, at), ready)) for at in range(75)}
    tags |= {keys.tag_s(ref.p2(hello, make.flip(ready, at))) for at in range(73)}
    th, ek = bytes.fromhex(entry["in_th"]), bytes.fromhex(entry["out_ek"])
    tags |= {ref.Keys(make.flip(th, at), ek).tag_s(ref.p2(hello, ready)) for at in range(len(th))}
    tags |= {ref.Keys(th, make.flip(ek, at)).tag_s(ref.p2(hello, ready)) for at in range(32)}
    tags.add(ref.Keys(th, ek, version=2).tag_s(ref.p2(hello, ready)))
    assert len(tags) == 1 + 75 + 73 + len(th) + 32 + 1


@named("confirm.json")
def test_client_tag_is_found_and_its_twins_are_not(entry):
    keys, n, k = keys_of(entry), len(entry["in_paths"]), entry["in_k"]
    claims = list(zip(map(int, entry["in_paths"]), unhex(entry["out_p2"]),
                      unhex(entry["out_tag_s"])))
    for i, tag in enumerate(unhex(entry["out_tag_c"])):
        assert ref.confirm_check(keys, claims, i, k, n, tag) == list(range(n))
        assert ref.confirm_check(keys, claims, i, k + 1, n, tag) is None
        assert ref.confirm_check(keys, claims, i, k, n + 1, tag) is None
        for at in range(32):
            assert ref.confirm_check(keys, claims, i, k, n, make.flip(tag, at)) is None
        for j, claim in enumerate(claims):
            twin = list(claims)
            twin[j] = (claim[0], claim[1], make.flip(claim[2], 0))
            assert ref.confirm_check(keys, twin, i, k, n, tag) is None


def test_roles_are_not_interchangeable():
    """No tag of one role is a tag of the other under the same key."""
    keys = ref.Keys(make.seed("roles TH"), make.seed("roles") * 2)
    p2 = make.seed("roles P2")
    tag = keys.tag_s(p2)
    assert keys.tag_c((0, p2, tag), 1, [(0, p2, tag)]) != tag


@named("exporter.json")
def test_exporter_depends_on_label_context_and_secret(entry):
    secret = bytes.fromhex(entry["in_exporter_master_secret"])
    good = ref.tls_exporter(entry["in_hash"], secret, ref.EXPORTER_LABEL, b"", 64)
    assert good.hex() == entry["out_ek"]
    for other in [(secret, b"EXPORTER-Multipath-TLS-2", b""), (secret, ref.EXPORTER_LABEL, b"\0"),
                  (make.flip(secret, 0), ref.EXPORTER_LABEL, b"")]:
        assert ref.tls_exporter(entry["in_hash"], *other, 64) != good


def test_join_is_not_the_bare_hash():
    secret = make.seed("join")
    assert ref.join(secret) != ref.sha256(secret)[:16]
    assert ref.join(make.flip(secret, 31)) != ref.join(secret)


# ---- The document -------------------------------------------------------------------------------

def test_worked_example_of_the_document_is_the_vector():
    path = os.path.join(VECTORS, "..", "..", "doc", "protocol.md")
    with open(path, encoding="utf-8") as file:
        example = file.read().split("\n## 19 ")[1]
    shown = ["".join(block.split()) for block in example.split("\n\n") if block.startswith("    ")]
    v = entries("confirm.json", name="one path")[0]
    preface = ref.PREFACE.hex()
    head = "0120" + v["in_th"] + v["out_p2"][0]
    assert shown == [
        v["in_secret"], ref.ext_ch_encode([1], bytes.fromhex(v["out_join"])).hex(),
        preface + v["in_hello"][0], preface + v["in_ready"][0], v["out_p2"][0], v["in_th"],
        v["in_exporter_master_secret"], v["out_ek"],
        b"mtls1 server proof\0".hex() + head, v["out_proof"][0], v["out_d"],
        b"mtls1 client confirm\0".hex() + head + v["out_tag_s"][0] + "0101" + v["out_d"],
        v["out_confirm"][0]]


def test_rule_identifiers_are_defined_once():
    path = os.path.join(VECTORS, "..", "..", "doc", "protocol.md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    defined = re.findall(r"^(?:- |\| )\[([A-Z0-9]+-\d+)\] ", text, re.M)
    assert len(defined) == len(set(defined))
    assert set(re.findall(r"\[([A-Z0-9]+-\d+)\]", text)) == set(defined)
