"""mtls-client --list-paths: which second paths there are, what they share with path 1, their round trips."""

import json
import sys

import pytest

from mtlslab import attack, netns, smkex, tools

MPTCP_SERVER = """
import json, socket, sys
listener = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[2]))
listener.bind((sys.argv[1], 0)); listener.listen()
print(json.dumps({"event": "listening", "port": listener.getsockname()[1]}), flush=True)
kept = []
while True:
    kept.append(listener.accept())
"""


def listening(lab, address=None, protocol=0):
    """A server that only accepts."""
    proc = lab.spawn(lab.server, [sys.executable, "-u", "-c", MPTCP_SERVER, address or lab.addr, protocol],
                     name="server")
    return proc.wait_json("stdout", event="listening")["port"]


class Listing:
    def __init__(self, lab, host, *options):
        self.done = lab.run(lab.client, [tools.tool("mtls-client"), "--list-paths", "--json", *options, host],
                            name="list", env=tools._SANITIZER)
        lines = [json.loads(line) for line in self.done.stdout.splitlines()]
        self.code = self.done.wait()
        self.mptcp = next((line["mptcp"] for line in lines if line["event"] == "mptcp"), None)
        self.rows = [line for line in lines if line["event"] == "path"]

    def row(self, **members):
        found = [r for r in self.rows if all(r[k] == v for k, v in members.items())]
        assert len(found) == 1, (members, self.done.log())
        return found[0]


def test_two_devices(lab):
    port = listening(lab)
    seen = Listing(lab, f"{lab.addr}:{port}")
    first, second = seen.row(kind="path1"), seen.row(kind="device")
    assert seen.code == 0 and len(seen.rows) == 2, seen.done.log()
    assert (first["device"], first["local"]) == ("p1", lab.client_addr(1))
    assert (second["device"], second["local"]) == ("p2", lab.client_addr(2))
    assert second["counts"] and second["auto"] and second["scope"] == "client" and second["error"] == ""
    assert second["shares"] == "remote-address,remote-prefix"
    assert first["rtt_us"] > 0 and second["rtt_us"] > 0


def test_round_trips_are_the_paths_own(lab):
    port = listening(lab)
    smkex.delay(lab, 2, 80)
    seen = Listing(lab, f"{lab.addr}:{port}")
    assert seen.row(kind="device")["rtt_us"] >= 80000
    assert seen.row(kind="path1")["rtt_us"] < seen.row(kind="device")["rtt_us"]


def test_path_1_by_another_device(lab):
    port = listening(lab)
    seen = Listing(lab, f"{lab.addr}:{port}", "--path1-dev", "p2")
    assert seen.row(kind="path1")["device"] == "p2" and seen.row(kind="device")["device"] == "p1"


def test_a_path_that_does_not_answer(lab):
    port = listening(lab)
    lab.filter(2, f"tcp dport {port} drop")
    seen = Listing(lab, f"{lab.addr}:{port}", "--timeout", "1")
    assert seen.row(kind="device")["error"] == "no answer" and seen.row(kind="device")["counts"]
    assert seen.code == tools.EXIT_NETWORK and seen.row(kind="path1")["error"] == ""


def test_a_closed_port_has_a_round_trip_too(lab):
    row = Listing(lab, f"{lab.addr}:{lab.port()}").row(kind="device")
    assert row["error"] == "Connection refused" and row["rtt_us"] > 0


def test_a_device_on_path_1s_device_does_not_count(lab):
    port = listening(lab)
    netns.ip_batch(lab.client, ["link add v1 link p1 type macvlan mode bridge", "addr add 10.77.1.9/24 dev v1",
                                "link set v1 up", f"route add default via {lab.router_addr(1)} dev v1 metric 900"])
    row = Listing(lab, f"{lab.addr}:{port}").row(device="v1")
    assert not row["counts"] and not row["auto"] and row["why"] == "stands on path 1's device"


def test_a_tunnel_counts_only_by_name(lab):
    port = listening(lab)
    tun = lab.spawn(lab.client, attack.program("delay_link.py") + ["t1", "0"], name="tun")
    tun.wait_json("stdout", event="ready")
    netns.ip_batch(lab.client, ["addr add 10.99.0.1/30 dev t1", "link set t1 up",
                                "route add default dev t1 metric 900"])
    seen = Listing(lab, f"{lab.addr}:{port}", "--timeout", "1", "--path2", "dev=t1,tunnel=yes")
    assert not seen.row(device="t1", kind="device")["counts"]
    assert "tunnel=yes" in seen.row(device="t1", kind="device")["why"]
    assert seen.row(device="t1", kind="configured")["counts"]


def test_proxies_of_the_configuration(lab):
    port = listening(lab)
    proxy = listening(lab, lab.server_addr(2))
    words = f"via=socks5h://{lab.server_addr(2)}:{proxy}"
    seen = Listing(lab, f"{lab.addr}:{port}", "--path2", words, "--path2", words + ",dev=p2,tunnel=yes")
    plain = seen.row(kind="proxy", spec=words)
    assert not plain["counts"] and "tunnel=yes" in plain["why"] and plain["rtt_us"] > 0
    assert seen.row(kind="proxy", device="p2")["counts"]


def test_a_name_with_both_families(lab):
    lab.hosts(lab.client, server_example=lab.addr)
    with open(f"{netns.ETC}/{lab.client}/hosts", "a", encoding="ascii") as hosts:
        hosts.write(f"{lab.addr6} server.example\n")
    port = listening(lab)
    seen = Listing(lab, f"server.example:{port}")
    assert {row["family"] for row in seen.rows} == {4, 6}
    assert all(row["counts"] for row in seen.rows if row["kind"] == "device"), seen.done.log()


@pytest.mark.parametrize("protocol, word", [(262, "yes"), (0, "no")])
def test_multipath_tcp(lab, protocol, word):
    for ns in (lab.client, lab.server):
        netns.ip(ns, "mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2")
    netns.ip(lab.client, "mptcp", "endpoint", "add", lab.client_addr(2), "dev", "p2", "subflow")
    port = listening(lab, protocol=protocol)
    seen = Listing(lab, f"{lab.addr}:{port}")
    assert seen.mptcp.split(":")[0] == word, seen.done.log()
    subflows = [row for row in seen.rows if row["kind"] == "subflow"]
    assert [(row["device"], row["counts"]) for row in subflows] == ([("p2", True)] if protocol else [])


def test_the_table(lab):
    port = listening(lab)
    done = lab.run(lab.client, [tools.tool("mtls-client"), f"{lab.addr}:{port}", "--list-paths"], name="list")
    lines = done.stdout.decode().splitlines()
    assert lines[0].split()[:2] == ["PATH", "DEVICE"] and [line.split()[:2] for line in lines[1:3]] == [
        ["path1", "p1"], ["device", "p2"]], done.log()


@pytest.mark.parametrize("words, code", [
    (["--list-paths"], 1), (["--list-paths", "a:1", "b:2"], 1), (["--list-paths", "10.0.0.1:x"], 1),
    (["--list-paths", "10.0.0.1", "--path2", "colour=red"], 1), (["--list-paths", "no.such.name.invalid"], 3),
    (["--list-paths", "10.0.0.1", "--get", "/"], 1), (["--list-paths", "10.0.0.1", "--path1-dev", "nothing"], 3)])
def test_what_cannot_be_listed(lab, words, code):
    lab.etc(lab.client, "resolv.conf", "nameserver 127.0.0.1\n")
    done = lab.run(lab.client, [tools.tool("mtls-client"), *words, "--timeout", "1"], name="list")
    assert done.wait() == code and done.stderr, done.log()
