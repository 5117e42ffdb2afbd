"""The laboratory itself and every attacker, tried on stock programs: an attacker that does not work
against plain TLS would prove nothing when it fails against Multipath TLS."""

import json
import os
import subprocess

import pytest

from conftest import SECRET
from mtlslab import attack, netns, stock, tools, wire
from mtlslab.lab import Lab
from mtlslab.proc import ProcError


def test_addresses_and_paths(lab, pki, www):
    """The service is reached over both devices, and the server's own addresses over theirs."""
    server = stock.s_server(lab, pki, www=www)
    for device, host in (("p1", lab.addr), ("p2", lab.addr)):
        done = tools.curl(lab, pki, host, server.port, options=["--interface", device])
        assert done.stdout == (www / "file").read_bytes()
    counts = [json.loads(netns.ip(router, "-j", "-s", "link", "show", "c"))[0]
              ["stats64"]["rx"]["packets"] for router in lab.routers.values()]
    assert all(count > 3 for count in counts), counts


def test_ipv6(lab, pki, www):
    server = stock.s_server(lab, pki, www=www, address=lab.addr6)
    done = tools.curl(lab, pki, f"[{lab.addr6}]", server.port)
    assert done.stdout == (www / "file").read_bytes()


def test_names_of_dead_makers_are_removed():
    """What a crashed run left is removed, what a living one made is not."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale, alive = f"mtls{dead.pid}-1-cli", f"mtls{os.getpid()}-999-cli"
    netns.create(stale, {})
    netns.create(alive, {})
    try:
        netns.remove_stale()
        assert not os.path.exists(f"/run/netns/{stale}")
        assert not os.path.exists(f"{netns.ETC}/{stale}")
        assert os.path.exists(f"/run/netns/{alive}")
    finally:
        netns.delete(stale)
        netns.delete(alive)


def test_everything_goes_away():
    with Lab() as lab:
        names = [lab.client, lab.server, *lab.routers.values()]
        proc = lab.spawn(lab.client, ["cat"], stdin=True)
    assert proc.popen.poll() is not None
    assert not any(os.path.exists(f"/run/netns/{name}") for name in names)


def test_waiting_has_a_deadline(lab):
    proc = lab.spawn(lab.client, ["cat"], stdin=True)
    with pytest.raises(ProcError):
        proc.wait_text("never", timeout=0.1)


def test_interceptor_reads_plain_tls(lab, pki, www, tmp_path):
    """curl, which trusts the rogue authority too, hands the man in the middle everything."""
    server = stock.s_server(lab, pki, www=www)
    mitm = attack.tls_mitm(lab, pki, tmp_path, server.port)
    done = tools.curl(lab, pki, lab.addr, server.port, cafile=pki.bundle)
    assert done.stdout == (www / "file").read_bytes()
    assert b"GET /file" in mitm.record and SECRET in mitm.record
    # The control: a client that trusts the real authority alone notices.
    done = tools.curl(lab, pki, lab.addr, server.port)
    assert done.wait() == 60, done.log()


def test_extension_interceptor_needs_the_extension(lab, pki, www, tmp_path, mitm_ext):
    """Without extension 0xFF4D there is nothing for it to carry over, and it says so."""
    server = stock.s_server(lab, pki, www=www)
    mitm = attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    tools.curl(lab, pki, lab.addr, server.port, cafile=pki.bundle)
    mitm.wait("refused", detail="no extension seen")


def test_extension_interceptor_reads_plain_tls(lab, pki, www, tmp_path, mitm_ext):
    """s_client can send an empty extension of any type, and protects nothing with it."""
    server = stock.s_server(lab, pki, www=www)
    mitm = attack.ext_mitm(lab, pki, tmp_path, mitm_ext, server.port)
    done = stock.s_client(lab, pki, lab.addr, server.port, "-serverinfo", "65357", cafile=pki.bundle)
    assert SECRET in done.stdout, done.log()
    mitm.wait("intercepted")
    assert b"GET /file" in mitm.record and SECRET in mitm.record


@pytest.mark.parametrize("options, fine", [
    ([], True), (["--chop"], True), (["--delay-up", 20, "--delay-down", 20], True),
    (["--cut-down", 2000], False), (["--accept", "close"], False),
    (["--accept", "garbage"], False)])
def test_relay(lab, pki, www, options, fine):
    """The byte relay of path 2, tried on a TLS connection."""
    server = stock.s_server(lab, pki, www=www)
    attack.path2_relay(lab, server.port, *options, path=1)
    done = tools.curl(lab, pki, lab.addr, server.port)
    assert (done.stdout == (www / "file").read_bytes()) is fine
    assert (done.wait() == 0) is fine


def test_copied_first_flight(lab, pki, www, tmp_path):
    """The copier's own connection gets the server's flight, the client's goes on untouched."""
    server = stock.nginx(lab, pki, tmp_path / "nginx", www)
    copier = attack.path1_copy(lab, server.port, "--copy", "--delay", 10)
    done = tools.curl(lab, pki, lab.addr, server.port)
    assert done.stdout == (www / "file").read_bytes()
    assert copier.wait("copied")["answered"] > 500


def test_lying_resolver(lab):
    """Each path has a resolver of its own, and they may say different things."""
    attack.dns(lab, lab.routers[1], lab.router_addr(1), server_example=lab.router_addr(1))
    lab.etc(lab.client, "resolv.conf", f"nameserver {lab.router_addr(1)}\n")
    lab.etc(lab.client, "nsswitch.conf", "hosts: dns\n")
    done = lab.run(lab.client, ["getent", "ahostsv4", "server.example"])
    assert lab.router_addr(1).encode() in done.stdout
    assert lab.run(lab.client, ["getent", "ahostsv4", "nowhere.example"]).wait() != 0


ECHO_ONCE = """
import socket, sys
s = socket.socket(); s.bind((sys.argv[1], 0)); s.listen()
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
print(c.recv(100), flush=True)
sys.stdin.readline()
"""
CONNECT = """
import socket, sys
s = socket.socket(); s.settimeout(1)
if sys.argv[3] == "device":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"p2")
s.bind(("10.77.2.2", 0)); s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b"hello"); print("connected", flush=True); sys.stdin.readline()
try: print(s.recv(100), flush=True)
except TimeoutError: print("nothing", flush=True)
"""


@pytest.mark.parametrize("bound, expected", [("device", "nothing"), ("address", "b'injected'")])
def test_weak_host_injection(lab, bound, expected):
    """A socket bound to an address alone can be written into from path 1's network; one bound to
    the device cannot. This is why local= binds to the device (rule 5)."""
    echo = lab.spawn(lab.server, ["/usr/bin/python3", "-c", ECHO_ONCE, lab.addr], stdin=True)
    port = int(echo.wait_until(lambda: echo.lines("stdout"), "port")[0])
    if bound == "address":  # such a socket follows the routes: keep it on path 2 by a rule
        netns.ip(lab.client, "route", "add", "default", "via", lab.router_addr(2), "dev", "p2",
                 "table", "2")
        netns.ip(lab.client, "rule", "add", "from", lab.client_addr(2), "table", "2")
    sniffer = attack.sniff(lab, lab.routers[2], "c", port)
    connect = lab.spawn(lab.client, ["/usr/bin/python3", "-c", CONNECT, lab.addr, str(port), bound],
                        stdin=True)
    connect.wait_text("connected")
    echo.wait_text("hello")
    attack.inject(lab, sniffer.at(), b"injected")
    connect.write(b"\n")
    assert connect.wait_text("")
    connect.wait()
    assert connect.lines("stdout")[-1] == expected


def test_wire_module():
    """The frames that the tests speak have the lengths of the specification."""
    sent = wire.hello(1, 443, bytes(32), bytes(32))
    assert len(sent) == 75 and sent[:8] == bytes.fromhex("0101004300000001")
    frames, rest = wire.take(sent + sent[:20])
    assert [frame[0] for frame in frames] == [wire.HELLO] and rest == sent[:20]
    assert len(wire.confirm(1, 0, 1, 1, bytes(32))) == 43
