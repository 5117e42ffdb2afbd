"""The vectors through the peer that was written from doc/protocol.md alone."""

import json
import os

import pytest

import stranger_peer as peer
from stranger_tls import Failed

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors")


def vectors(name):
    with open(os.path.join(VECTORS, name + ".json"), encoding="ascii") as file:
        return [pytest.param(each, id=each["name"]) for each in json.load(file)]


def unhex(values):
    return [bytes.fromhex(each) for each in values]


@pytest.mark.parametrize("vector", vectors("ext"))
def test_ext_vector(vector):
    data = bytes.fromhex(vector["in_bytes"])
    hello = vector["in_message"] == "client_hello"
    codes = {"ext-not-ours": peer.ILLEGAL_PARAMETER, "ext-version": peer.ILLEGAL_PARAMETER,
             "ext-malformed": peer.DECODE_ERROR}
    if vector["out_result"] != "ok" and not (hello and vector["out_result"] == "ext-not-ours"):
        with pytest.raises(Failed) as caught:
            (peer.parse_client_ext if hello else peer.parse_server_ext)(data)
        assert caught.value.alert == codes[vector["out_result"]]
    elif hello:
        got = peer.parse_client_ext(data)
        assert got is None if vector["out_result"] != "ok" else got == (
            bytes.fromhex(vector["out_versions"]), vector["out_flags"],
            bytes.fromhex(vector["out_join"]))
    else:
        *fixed, addresses = peer.parse_server_ext(data)
        assert fixed == [vector[f"out_{each}"] for each in ("version", "flags", "port", "max_age")]
        assert [bytes([family]) + address + port.to_bytes(2, "big")
                for family, address, port in addresses] == unhex(vector["out_addresses"])


@pytest.mark.parametrize("vector", vectors("frames"))
def test_frames_vector(vector):
    reader, frames, consumed, failed = peer.Reader(vector["in_from"]), [], 0, False
    for byte in bytes.fromhex(vector["in_stream"]):
        consumed += 1
        try:
            frames += reader.feed(bytes([byte]))
        except peer.BadStream:
            failed = True
            break
    assert failed == (vector["out_result"] != "ok")
    assert frames == unhex(vector["out_frames"])
    assert consumed == vector["out_consumed"]


@pytest.mark.parametrize("vector", vectors("confirm"))
def test_confirm_vector(vector):
    keys = peer.Keys(bytes.fromhex(vector["out_ek"]), bytes.fromhex(vector["in_th"]),
                     vector["in_version"])
    assert peer.join_of(bytes.fromhex(vector["in_secret"])).hex() == vector["out_join"]
    p2 = [peer.p2_of(*pair) for pair in zip(unhex(vector["in_hello"]), unhex(vector["in_ready"]))]
    assert p2 == unhex(vector["out_p2"])
    assert [keys.tag_s(each) for each in p2] == unhex(vector["out_tag_s"])
    claims = list(zip((int(path) for path in vector["in_paths"]), p2))
    for each, tag, raw in zip(p2, unhex(vector["out_tag_c"]), unhex(vector["out_confirm"])):
        assert keys.tag_c(each, vector["in_k"], claims) == tag
        body = bytes([vector["in_slot"], vector["in_k"], len(p2)]) + tag
        assert peer.frame(peer.CONFIRM, peer.claim_of(raw), body) == raw


@pytest.mark.parametrize("vector", vectors("search"))
def test_search_vector(vector):
    keys = peer.Keys(bytes.fromhex(vector["in_ek"]), bytes.fromhex(vector["in_th"]))
    paths = [int(path) for path in vector["in_paths"]]
    claims = list(zip(paths, unhex(vector["in_p2"])))
    found = keys.search(bytes.fromhex(vector["in_confirm"])[8:], vector["in_index"], claims)
    assert (found is not None) == (vector["out_result"] == "right")
    assert [str(each) for each in found or ()] == vector["out_counted"]


@pytest.mark.parametrize("vector", [each for each in vectors("transcript")
                                    if each.values[0]["out_result"] == "ok"])
def test_transcript_vector(vector):
    senders = [sender == "client" for sender in vector["in_senders"]]
    name, th = peer.transcript_hash(list(zip(senders, unhex(vector["in_messages"]))))
    assert (name, th.hex()) == (vector["out_hash"], vector["out_th"])
