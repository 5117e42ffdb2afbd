"""SMKEX over one MPTCP connection: shares on its first subflow, nonces and proofs on its second, and
the subflows' byte counters, which decide whether that is what happened."""

import json
import os
import sys

import pytest

from conftest import noise
from mtlslab import smkex, tools
from mtlslab.smkex import expect, refused

HELLO, PROOF, CONFIRM = 83, 123, 43  # preface and frames, by direction


@pytest.fixture
def helper(lab):
    return smkex.Helper(lab)


@pytest.fixture
def server(lab, www):
    return smkex.Server(lab, www=www, over="mptcp")


def over(lab, server, helper, *options, **words):
    return tools.Result(smkex.start_over(lab, server, helper, *options, **words))


def test_verified(lab, server, helper, www):
    result = expect(over(lab, server, helper), smkex.VERIFIED, (www / "file").read_bytes(), over="mptcp", scope="client")
    first, second = result.line["subflows"]
    assert second["received"] == PROOF and second["sent"] == HELLO


def subflows(line):
    return [(s["received"], s["sent"]) for s in line["subflows"]]


# ---- Attackers ----------------------------------------------------------------------------------

def test_links_that_are_owned_but_honest(lab, server, helper, www):
    """The twin of what follows: the same machinery, and nothing done with it."""
    smkex.own_links(lab, "pass")
    expect(over(lab, server, helper), smkex.VERIFIED, (www / "file").read_bytes())


def test_a_share_is_changed(lab, server, helper):
    smkex.own_links(lab, "flip")
    refused(over(lab, server, helper, "--deadline", "2000"), "proof-wrong")


def test_path2_bytes_that_came_by_path1_are_noticed_by_the_client(lab, server, helper):
    """The right proof, under the right data-sequence numbers, on the wrong subflow: only the counters tell."""
    attacker = smkex.own_links(lab, "carry-s2c")
    result = refused(over(lab, server, helper), "subflow-bytes")
    carried = attacker.wait_json("stdout", event="carried")["bytes"]
    assert carried == PROOF, attacker.log()
    (first, _), (second, sent) = subflows(result.line)
    assert second == 0 and sent == HELLO and first > PROOF, result.line


def test_path2_bytes_that_came_by_path1_are_noticed_by_the_server(lab, server, helper):
    attacker = smkex.own_links(lab, "carry-c2s")
    result = over(lab, server, helper)
    line = server.session()
    assert line["outcome"] == smkex.FAILED and line["reason"] == "subflow-bytes", line
    assert attacker.wait_json("stdout", event="carried")["bytes"] == CONFIRM
    assert subflows(line)[1] == (HELLO, PROOF)
    assert result.code != 0 and result.reason in ("truncated", "peer-closed") and result.body == b"", result


def test_bytes_that_come_twice_are_noticed(lab, server, helper):
    attacker = smkex.own_links(lab, "repeat")
    refused(over(lab, server, helper), "subflow-bytes")
    attacker.wait_json("stdout", event="repeated")


def test_an_address_that_path1_announces_is_not_used(lab, server, helper, www):
    attacker = smkex.own_links(lab, "add-addr", lab.server_addr(2))
    result = expect(over(lab, server, helper), smkex.VERIFIED, (www / "file").read_bytes())
    attacker.wait_json("stdout", event="announced")
    assert [s["remote"].split(":")[0] for s in result.line["subflows"]] == [lab.addr, lab.addr]


def test_a_third_subflow_is_refused(lab, server, helper):
    """The keys cross path 1 in clear: whoever is there can join. To the server it is one subflow too many."""
    attacker = smkex.own_links(lab, "join", lab.client_addr(1)[:-1] + "77")
    result = over(lab, server, helper)
    attacker.wait_json("stdout", event="joined")
    line = server.session()
    assert line["outcome"] == smkex.FAILED and line["reason"] == "subflow-changed", line
    assert len(line["subflows"]) == 3
    refused(result, "peer-closed")


@pytest.mark.parametrize("options, reason", [([], "mptcp-none"), (["--mptcp"], "subflow-missing")])
def test_man_in_the_middle(lab, tmp_path, www, helper, options, reason):
    """One who ends path 1 himself, by TCP or by MPTCP: nobody knows his connection at the other end of path 2."""
    server = smkex.Server(lab, www=www, over="mptcp,connections")
    attacker = smkex.mitm(lab, tmp_path, server.port, "--to", f"{lab.addr}:{server.port}", *options)
    refused(over(lab, server, helper, "--deadline", "1500"), reason)
    assert attacker.record == b""
    assert bool(attacker.events("answered")) == bool(options)


def test_man_in_the_middle_twin(lab, tmp_path, www):
    """The same one reads single-path DH."""
    server = smkex.Server(lab, www=www, single=True)
    smkex.mitm(lab, tmp_path, server.port)
    expect(smkex.client(lab, server, single=True), smkex.SINGLE, (www / "file").read_bytes())


# ---- What is missing ----------------------------------------------------------------------------

class Absent:
    path = "/nowhere/helper"


def test_without_the_helper(lab, server):
    refused(over(lab, server, Absent), "mptcp-helper")


def test_a_helper_that_is_not_allowed(lab, server, helper):
    """Its socket is there, and not for this user."""
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    client = smkex.start_over(lab, server, helper, prefix=argv)
    refused(tools.Result(client), "mptcp-helper")


def test_without_privilege(lab, server, helper, www):
    """The client needs none of its own where it may ask the helper."""
    os.chmod(helper.path, 0o666)
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"]
    client = smkex.start_over(lab, server, helper, prefix=argv)
    expect(tools.Result(client), smkex.VERIFIED, (www / "file").read_bytes(), over="mptcp")


def test_fall_back_that_the_configuration_allows(lab, www):
    server = smkex.Server(lab, www=www, over="mptcp,connections")
    expect(over(lab, server, Absent, over="mptcp,connections", path2=[smkex.spec(lab, server)]), smkex.VERIFIED,
           (www / "file").read_bytes(), over="connections", over_error="mptcp-helper")
    assert server.session()["over"] == "connections"


def test_a_server_for_either(lab, www, helper):
    server = smkex.Server(lab, www=www, over="mptcp,connections")
    expect(over(lab, server, helper), smkex.VERIFIED, over="mptcp")
    expect(smkex.client(lab, server), smkex.VERIFIED, over="connections")
    assert [server.session(n)["over"] for n in (0, 1)] == ["mptcp", "connections"]


def test_a_server_for_the_one_alone(lab, server):
    path2 = [f"dev=p2,remote={lab.addr}:{lab.port()}"]
    refused(smkex.client(lab, server, path2=path2), "smkex-refused")


def test_the_kernels_own_path_manager(lab, server):
    refused(over(lab, server, smkex.Helper(lab, manager=False)), "mptcp-path-manager")


@pytest.mark.parametrize("options, reason", [([], "mptcp-none"), (["--mptcp"], "smkex-not-over-mptcp")])
def test_a_server_that_does_not(lab, www, helper, options, reason):
    server = smkex.Server(lab, *options, www=www)
    refused(over(lab, server, helper), reason)


@pytest.mark.parametrize("rule", ["drop", "reject with tcp reset"])
def test_the_second_subflow_never_comes(lab, server, helper, rule):
    lab.filter(2, f"tcp dport {server.port} {rule}")
    refused(over(lab, server, helper, "--deadline", "1500"), "subflow-missing")
    assert server.session()["outcome"] == smkex.FAILED


@pytest.mark.parametrize("path2, reason", [
    (["dev=p1"], "paths-not-distinct"), (["dev=lo"], "path2-unreachable"), (["dev=p2,remote=name.test"], "path2-inadmissible"),
    (["dev=p2", "dev=p1"], "config-conflict"), (["via=socks5h://10.0.0.1:1"], "config-conflict")])
def test_paths_that_cannot_be_subflows(lab, server, helper, path2, reason):
    refused(over(lab, server, helper, path2=path2), reason)


# ---- The helper, by whoever may ask it ------------------------------------------------------------

ASK = """
import array, json, socket, struct, sys, time
path, op, kind, host, port, fds, size, magic, silent = sys.argv[1:]
own = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(kind))
if int(port):
    own.connect((host, int(port)))
quiet = []
for _ in range(int(silent)):
    quiet.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    quiet[-1].connect(path)
asker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
asker.settimeout(10)
asker.connect(path)
request = struct.pack("=III40x", int(magic), int(op), 1)[:int(size)]
asker.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [own.fileno()] * int(fds)))]
              if int(fds) else [])
reply = asker.recv(64)
print(json.dumps(struct.unpack("=Iii", reply)[1:] if reply else None))
"""
MAGIC, MPTCP, TCP = 0x4D544831, 262, 6
ARG, NONE, MISSING = -2, -314, -319


def asked(lab, helper, server=None, ns=None, op=1, kind=MPTCP, fds=1, size=52, magic=MAGIC, silent=0):
    done = lab.run(ns or lab.client, [sys.executable, "-c", ASK, helper.path, op, kind, lab.addr,
                                      server.port if server else 0, fds, size, magic, silent], name="ask")
    return json.loads(done.stdout)


def test_the_helper_does_what_is_right(lab, server, helper):
    """The twin of what follows."""
    assert asked(lab, helper, server) == [0, 0]
    assert asked(lab, helper, server, silent=64) == [0, 0]


@pytest.mark.parametrize("words, answer", [
    ({"magic": 1}, [ARG, 0]), ({"op": 0}, [ARG, 0]), ({"op": 99}, [ARG, 0]), ({"fds": 0}, None), ({"fds": 2}, None),
    ({"fds": 100}, None), ({"size": 51}, None), ({"size": 1}, None), ({"kind": TCP}, [NONE, 0]), ({"op": 3}, [MISSING, 0]),
    ({"op": 2}, [ARG, 0])])
def test_the_helper_does_nothing_else(lab, server, helper, words, answer):
    assert asked(lab, helper, server, **words) == answer
    assert asked(lab, helper, server) == [0, 0]


def test_the_helper_touches_no_other_namespace(lab, server, helper):
    assert asked(lab, helper, server, ns=lab.server) == [ARG, 0]


def test_the_helper_has_one_privilege(helper):
    with open(f"/proc/{helper.proc.pid}/status", encoding="ascii") as status:
        found = dict(line.split(":\t", 1) for line in status.read().splitlines() if line.startswith(("Cap", "NoNew")))
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == int(found["CapBnd"], 16) == 1 << 12, found
    assert found["CapInh"].strip("0") == found["CapAmb"].strip("0") == "" and found["NoNewPrivs"] == "1"


# ---- Afterwards ---------------------------------------------------------------------------------

def steered(lab):
    """Whether one of the client's subflows is backup for the other."""
    shown = lab.run(lab.client, ["ss", "-tniH", "state", "established"], name="ss").stdout.decode()
    flags = sorted(word[6:] for word in shown.split() if word.startswith("flags:"))
    assert len(flags) == 2, shown
    return any("b" in f or "B" in f for f in flags)


def test_the_scheduler_has_the_connection_back(lab, helper):
    """Neither subflow is backup for the other once both have decided."""
    server = smkex.Server(lab, over="mptcp")
    client = smkex.start_over(lab, server, helper, get=None, stdin=True)
    client.wait_json(event="session")
    client.write(b"word\n")
    client.wait_text("word")  # behind the server's Finished
    assert not steered(lab)


def test_bytes_behind_the_confirmation(lab, helper):
    """The client's data leaves with its decision, by path 2; the server's judgement comes after it, and holds."""
    server = smkex.Server(lab, over="mptcp")
    smkex.delay(lab, 2, 60)
    data = noise(1 << 18)
    expect(over(lab, server, helper, get=None, stdin=data), smkex.VERIFIED, data)
    assert subflows(server.session())[0][0] < 200, "path 1 carried OFFER alone until the decision"


def one_way(lab, server, helper, *words, stdin=None):
    config = f"policy=require over=mptcp mptcp-helper={helper.path} path2={smkex.over_spec(lab)}"
    program = os.path.join(tools.BUILD, "test", "smkex", "smkex_one_way")
    return lab.spawn(lab.client, [program, lab.addr, str(server.port), config, *words], name="smkex_one_way",
                     env=tools._SANITIZER, stdin=stdin)


def test_a_client_that_only_writes(lab, helper):
    """It closes at once; what it said is judged all the same."""
    server = smkex.Server(lab, over="mptcp")
    for number in range(5):
        client = one_way(lab, server, helper)
        assert client.wait() == 0, client.log()
        assert server.session(number)["outcome"] == smkex.VERIFIED, client.log()


def test_a_client_that_only_writes_gives_the_connection_back(lab, helper):
    """Its second word finds the server's Finished, and takes nothing behind it off the socket."""
    server = smkex.Server(lab, over="mptcp")
    client = one_way(lab, server, helper, "twice", stdin=True)
    client.wait_text("again")
    assert not steered(lab), client.log()
    client.close_stdin()
    assert client.wait() == 0, client.log()


def test_many_bytes_over_both(lab, server, helper):
    expect(over(lab, server, helper, get="/big"), smkex.VERIFIED, noise(8 << 20))


@pytest.mark.parametrize("slow, fast", [(1, 2), (2, 1)])
def test_paths_of_different_length(lab, server, helper, www, slow, fast):
    """On the slow path the client's wish arrives after HELLO, or long before it."""
    smkex.delay(lab, slow, 120)
    expect(over(lab, server, helper), smkex.VERIFIED, (www / "file").read_bytes())
