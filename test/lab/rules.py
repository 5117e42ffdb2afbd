"""Attacks on one rule each: whoever finds that rule missing wins by it. test/lab/mutants.py takes the rules away one by
one and looks whether these attacks notice."""

import copy
import pathlib
import sys
import time

import attacks as a
from cases import ATTACKERS_ADDRESS, Late, TwoAddresses, own_machine, weak_host
from mtlslab import attack, netns, tools, wire
from mtlslab.lab import Lab, net4
from scene import LONG, SAFE
from victims import Multipath

RST = 0x04
GATEWAY = net4(1, 9)  # another address of the router of path 1


class Local(Multipath):
    """Path 2 is given by its local address. The routes lead to the server over path 1."""

    def path2(self, scene):
        return [tools.spec(scene.lab, scene.server, dev=None, local=Lab.client_addr(2))]


class Impatient(Multipath):
    """The server waits for CONFIRM no longer than it must."""

    server_options = ("--deadline", "1500")


class LocalByRule(Local):
    """The same, but the routes lead what has this address over path 2, whoever sends it."""

    def lay(self, lab):
        netns.ip(lab.client, "route", "add", "default", "via", lab.router_addr(2), "dev", "p2", "table", "2")
        netns.ip(lab.client, "rule", "add", "from", lab.client_addr(2), "table", "2")


class OneDevice(TwoAddresses):
    """Path 2 goes to the server's other address by another gateway, but over the same device."""

    def lay(self, lab):
        netns.ip(lab.routers[1], "addr", "add", f"{GATEWAY}/24", "dev", "c")
        netns.ip(lab.client, "route", "add", net4(12), "via", GATEWAY, "dev", "p1")

    def path2(self, scene):
        return [f"remote={scene.server.path2[0]}"]


class OneDeviceTwoFamilies(Multipath):
    """IPv4 and IPv6 over one device."""

    everywhere = "[::]"

    def serve(self, scene):
        return tools.Server(scene.lab, scene.pki, www=scene.www, policy="prefer",
                            path2_listen=[f"[{Lab.addr6}]:0"])

    def path2(self, scene):
        return [f"remote={scene.server.path2[0]}"]


class Chained(Multipath):
    """Verified once; the ticket of a resumed session is kept for the next one. Tickets count for some seconds."""

    AGE = 6

    def __init__(self, key, title):
        super().__init__(key, title, before=("--sess-out", "--sess-in"), ticket_key=True,
                         options=["--config", f"resume={self.AGE}"])

    def prepare(self, scene):
        super().prepare(scene)
        scene.verified_at = time.time()


def one_uplink(scene):
    """have the one network that both connections pass"""
    evil = scene.own_server(link=getattr(scene.row, "everywhere", "0.0.0.0"))
    scene.lab.redirect(1, scene.server.path2_port, evil.path2_port)
    scene.deadline = LONG
    scene.fetch()


def weak_host_reset(scene):
    """end the client's TLS on path 1; reset path 2 from path 1's network before READY, with the right sequence number"""
    scene.mitm()
    opened = pathlib.Path(scene.file("open"))
    relay = scene.frames("--gate", f"ready:{opened}")
    sniffer = attack.sniff(scene.lab, scene.lab.routers[2], "c", scene.server.path2_port)
    running = scene.row.start(scene, deadline=3 * LONG)
    relay.wait("held", type="ready")
    at = sniffer.at()
    for unseen in (0, len(wire.PREFACE)):  # the server's preface may not have been acknowledged yet
        attack.inject(scene.lab, {**at, "set": RST, "server_next": at["server_next"] + unseen & 0xFFFFFFFF}, b"")
    opened.touch()
    result = tools.Result(running)
    scene.body, scene.outcome = result.body, scene.row.words(result)


def delayed(scene):
    """hold path 1 back for longer than the grace, then end its TLS, extension removed"""
    scene.mitm(options=["--delay", 2500])
    scene.frames("--hold", "ready:500")  # the network's own slowness, well within the grace
    scene.deadline = LONG
    scene.fetch()


def offered_address(scene):
    """own path 1, and offer in EncryptedExtensions an address of theirs for path 2"""
    port = scene.lab.port()
    own_machine(scene, words=["--config", f"advertise=914 address={ATTACKERS_ADDRESS}:{port}"], path2_port=port)
    scene.fetch()


def ticket_of_plain(scene):
    """strip path 1 and cut path 2 once; later show the ticket of that session, path 2 untouched"""
    scene.answer("--answer-resumed")
    scene.cut()
    scene.deadline = LONG
    first = copy.copy(scene.row)
    first.policy = "prefer"
    result = first.run(scene, "--sess-out", scene.file("kept"), deadline=LONG)
    assert result.outcome == tools.PLAIN, result
    scene.attackers[-1].wait("end")
    with open(scene.attackers[-1].record_file, "r+b") as record:
        record.truncate()  # what the first contact cost is another cell's
    netns.nft(scene.lab.routers[2], "flush ruleset\n")
    result = scene.row.run(scene, "--sess-in", scene.file("kept"), deadline=2000)
    scene.body, scene.outcome = result.body, scene.row.words(result)


def _wait_for(scene, part):
    """Until the verification has reached this part of its age: what is tested is time itself."""
    time.sleep(max(0, scene.verified_at + part * scene.row.AGE - time.time()))


def aged_ticket(scene):
    """take over path 1 with the stolen ticket key, when the verification is too old and the last ticket is not"""
    kept = scene.file("kept")
    _wait_for(scene, 0.6)
    result = scene.row.run(scene, "--sess-in", kept, "--sess-out", kept, deadline=LONG)
    assert result.outcome in (tools.RESUMED, tools.VERIFIED), result
    scene.own_server(ticket_key=scene.ticket_key)
    _wait_for(scene, 1.2)
    scene.fetch()


def spliced(scene):
    """a proof of an earlier session in the place of this session's"""
    recorded = scene.file("proof")
    scene.frames("--record-down", recorded)
    scene.deadline = LONG
    scene.fetch()
    assert scene.outcome["outcome"] == tools.VERIFIED, scene.outcome
    scene.attackers.clear()
    scene.need.clear()
    scene.lab.flush(2)
    scene._keep(scene.frames("--splice", recorded), "spliced", path=2)  # pylint: disable=protected-access
    scene.fetch()


def reordered(scene):
    """proof before READY"""
    scene._keep(scene.frames("--swap"), "swapped", path=2)  # pylint: disable=protected-access
    scene.fetch()


def repeated(scene):
    """each proof twice"""
    scene.frames("--repeat", "proof")
    scene.deadline = LONG
    scene.fetch()


def truncated(scene):
    """end path 2 in the middle of the proof"""
    scene.frames("--cut-down", 100)
    scene.fetch()


def proof_dropped(scene):
    """drop the proof"""
    scene._keep(scene.frames("--drop", "proof"), "dropped", path=2)  # pylint: disable=protected-access
    scene.fetch()


def confirm_dropped(scene):
    """drop CONFIRM: the client is verified, the server never reads its request"""
    scene._keep(scene.frames("--drop", "confirm"), "dropped", path=2)  # pylint: disable=protected-access
    scene.record(1)
    scene.fetch()


def held_back(scene):
    """hold the proof back for a second"""
    scene.frames("--hold", "proof:1000")
    scene.deadline, scene.delivers = LONG, True
    scene.fetch()


PATH_2 = [(attack_, True, SAFE) for attack_ in (spliced, reordered, repeated, truncated, proof_dropped, confirm_dropped,
                                                held_back)]


def _flood(scene, ns, device):
    """As many claims as one source may have, which wait for a ClientHello that never comes."""
    words = [scene.server.host, str(scene.server.path2_port), str(scene.server.port), "--count", "257", "--device", device]
    proc = scene.lab.spawn(ns, [sys.executable, attack.WIRE, *words], name="flooder", stdin=True)
    proc.wait_json("stdout", event="done")
    answers = [line["status"] for line in proc.jsons("stdout") if "status" in line]
    assert answers == [0] * 256 + [1], answers


def flooded(scene):
    """fill the table of waiting claims from an address of theirs, as far as it lets them"""
    _flood(scene, scene.lab.routers[2], "s")
    scene.record(1)
    scene.deadline, scene.delivers = LONG, True
    scene.fetch()


def flooded_from_client(scene):
    """fill it from the client's own address, then end its TLS on path 1"""
    _flood(scene, scene.lab.client, "p2")
    scene.carry()
    scene.fetch()


FURTHER = [
    (Local("local", "`require`, path 2 by its local address"), [(a.listen, True, SAFE), (weak_host, True, SAFE)]),
    (LocalByRule("local-prefer", "`prefer`, path 2 by its local address and a rule of the client's routes",
                 policy="prefer", options=["--config", "grace=20000"]), [(weak_host_reset, True, SAFE)]),
    (OneDevice("one-device", "`require`, path 2 by another gateway of the same device"), [(one_uplink, True, SAFE)]),
    (OneDeviceTwoFamilies("one-device-6", "`require`, path 2 by the other family over the same device"),
     [(one_uplink, True, SAFE)]),
    (Late("late-prefer", "`prefer`, path 2 opened when path 1 has answered", policy="prefer",
          options=["--config", "early=off grace=2000"]), [(delayed, True, SAFE)]),
    (Late("late-address", "`require`, path 2 opened when path 1 has answered", options=["--config", "early=off"]),
     [(offered_address, True, SAFE)]),
    (Multipath("ticket-of-plain", "`prefer` once, then `require`, with the ticket of the first session"),
     [(ticket_of_plain, True, SAFE)]),
    (Chained("aged", "resumed from verified, verified longer ago than tickets may count, ticket key stolen"),
     [(aged_ticket, True, SAFE)]),
    (Impatient("frames", "`require`, path 2 alone"), PATH_2),
    (Multipath("flooded", "`require`"), [(flooded, True, SAFE), (flooded_from_client, True, SAFE)]),
]
