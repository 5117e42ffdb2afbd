"""Connection set-up: the time from the first connect() to the first byte of the answer, for every way that a user could
choose, over two paths with delay and loss; and the round trips that it took, by a packet capture.

One process for each way waits for its turn; a round takes one sample of each, in an order that changes.
"""

import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import links
from common import Asked, Server, in_namespace, program, progress, spread
from mtlslab import netns, smkex
from mtlslab.lab import Lab

_TWO = "path2=dev=p2,remote={path2}"
_REQUIRE = "policy=require " + _TWO

_OVER = "policy=require over=mptcp mptcp-helper={helper} path2=dev=p2,local={local2}"

# A second TCP connection beside path 1 with as many messages as path 2 has, and no protocol: what the machine and the
# links take for that much traffic.
_SECOND = ("--device", "p2", "--bare", "{bare}")

# name, server, options, words, the outcome that all must have, round trips of path 1 to the first byte of the answer when
# RTT2 = RTT1 (the specification's), what it is compared with
WAYS = (
    ("TCP", "tcp", (), None, "plain", 2, None),
    ("MPTCP", "mptcp", ("--mptcp",), None, "plain", 2, "TCP"),
    ("single-path DH", "single", ("--smkex",), "mode=single", "single-path", 3, None),
    ("DH, bare 2nd connection", "single", ("--smkex", *_SECOND), "mode=single", "single-path", 3, "single-path DH"),
    ("DH, the same, look-ups", "single", ("--smkex", "--needs", *_SECOND), "mode=single", "single-path", 3, "single-path DH"),
    ("SMKEX", "smkex", ("--smkex", "--announce"), _REQUIRE + " reuse=off tfo=off", "verified", 3, "single-path DH"),
    ("SMKEX, Fast Open", "smkex", ("--smkex", "--announce"), _REQUIRE + " reuse=off", "verified", 3, "single-path DH"),
    ("SMKEX, one MPTCP connection", "smkex-mptcp", ("--smkex", "--mptcp"), _OVER, "verified", 6, "single-path DH"),
    ("TLS 1.3", "plain", ("--tls",), None, "plain", 3, None),
    ("TLS 1.3, bare 2nd connection", "plain", ("--tls", *_SECOND), None, "plain", 3, "TLS 1.3"),
    ("TLS 1.3, the same, cryptography, look-ups", "plain-needs", ("--tls", "--needs", *_SECOND), None, "plain", 3, "TLS 1.3"),
    ("TLS 1.3, the same, empty hook, waits", "plain-gated", ("--tls", "--needs", "--hollow", *_SECOND), None, "plain", 3, "TLS 1.3"),
    ("TLS 1.3, resumed", "plain", ("--tls", "--resume"), None, "resumed", 3, "TLS 1.3"),
    ("TLS 1.3 over MPTCP", "tls-mptcp", ("--tls", "--mptcp"), None, "plain", 3, "TLS 1.3"),
    ("announced", "hooked", ("--tls", "--announce"), _REQUIRE + " reuse=off tfo=off", "verified", 3, "TLS 1.3"),
    ("announced, Fast Open", "hooked", ("--tls", "--announce"), _REQUIRE + " reuse=off", "verified", 3, "TLS 1.3"),
    ("bare hook", "hooked", ("--tls",), _REQUIRE + " reuse=off tfo=off", "verified", 4, "TLS 1.3"),
    ("bare hook, Fast Open", "hooked", ("--tls",), _REQUIRE + " reuse=off", "verified", 3, "TLS 1.3"),
    ("bare hook, path 2 kept", "hooked", ("--tls",), _REQUIRE, "verified", 3, "TLS 1.3"),
    ("late", "hooked", ("--tls",), _REQUIRE + " reuse=off tfo=off early=off", "verified", 5, "TLS 1.3"),
    ("resumed from verified", "hooked", ("--tls", "--resume"), _REQUIRE + " reuse=off tfo=off", "resumed-verified", 3,
     "TLS 1.3, resumed"),
    ("confirm=resume", "plain", ("--tls", "--confirm"), "confirm=resume path2=dev=p2,remote={address}", "verified", 5,
     "TLS 1.3"),
)
COUNT_RTT_MS = 100  # for counting round trips: so long that nothing else matters
CLOSE_MS, CLOSE_TIMES, LOSSY_TIMES = 10, 25, 10  # where our own work shows beside the round trips, and samples are cheap
HALF = 0.5
SETTLE_S = 0.5


def start_servers(lab, pki):
    """Every server that a way needs, in the server's namespace."""
    echo = program("bench_echo")
    servers = {}
    for name, argv in {"tcp": [], "mptcp": ["--mptcp"], "single": ["--words", "mode=single"],
                       "smkex": ["--words", f"policy=require listen={lab.addr}:0"],
                       "smkex-mptcp": ["--mptcp", "--words", "policy=require over=mptcp"]}.items():
        server = Asked([echo, "--host", lab.addr, *argv], lab.server)
        first = server.line()
        server.port, server.path2 = first["port"], first["path2"]
        servers[name] = server
    servers["plain"] = Server(pki, None, lab.addr, lab.server, None, ["--bare", lab.addr])
    servers["plain-needs"] = Server(pki, None, lab.addr, lab.server, None, ["--bare", lab.addr, "--needs"])
    servers["plain-gated"] = Server(pki, None, lab.addr, lab.server, None, ["--bare", lab.addr, "--needs", "--hollow", "--gated"])
    servers["tls-mptcp"] = Server(pki, None, lab.addr, lab.server, None, ["--mptcp"])
    servers["hooked"] = Server(pki, f"policy=require listen={lab.addr}:0", lab.addr, lab.server, None)
    return servers


def start_clients(lab, servers, pki, folder):
    clients, helper = {}, smkex.Helper(lab, folder=folder)
    for name, server, options, words, *_ in WAYS:
        server = servers[server]
        argv = [program("bench_setup"), "--host", lab.addr, "--port", server.port, "--cafile", pki.cafile,
                *[option.format(bare=getattr(server, "bare", 0) or servers["plain"].bare) for option in options]]
        argv += ["--words", words.format(path2=server.path2, address=lab.addr, helper=helper.path,
                                           local2=lab.client_addr(2))] if words else []
        clients[name] = Asked(argv, lab.client)
        clients[name].ask()  # the first is not counted: cookies, tickets, a connection to keep
    return clients


class Scene:
    """A laboratory with two links, servers and clients."""

    def __init__(self, pki, rtt1_ms, rtt2_ms, loss_percent=0.0):
        self.lab, self.lossy = Lab(), loss_percent > 0
        self.lab.__enter__()
        try:
            more = {"loss_percent": loss_percent}
            self.links = [links.calibrated(self.lab, path, int(ms * 1000), **more)
                          for path, ms in ((1, rtt1_ms), (2, rtt2_ms))]
            self.given_ms = [links.measured_ms(self.lab, path) for path in (1, 2)]
            self.servers = start_servers(self.lab, pki)
            self.folder = tempfile.TemporaryDirectory()
            self.clients = start_clients(self.lab, self.servers, pki, self.folder.name)
        except BaseException:
            self.lab.__exit__(None, None, None)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program_ in [*self.clients.values(), *self.servers.values()]:
            program_.process.kill()
            program_.process.wait(10)
        for link in self.links:
            link.stop()
        self.folder.cleanup()
        self.lab.__exit__(None, None, None)

    def sample(self, way):
        """None: it failed, as over links that lose packets it may."""
        name, _, _, _, outcome, _, _ = way
        result = self.clients[name].ask()
        if result["outcome"] == outcome:
            return result
        if not self.lossy:
            sys.exit(f"{name}: {result}, {outcome} was expected")
        progress(f"{name}: {result['outcome']}, with loss")
        return None


def there(values):
    return [v for v in values if v is not None] or [float("nan")]


def cell(pki, rtt1_ms, rtt2_ms, loss_percent, rounds, tell=True):
    """One point of the grid: every way, so many rounds."""
    took = {way[0]: {"first": [], "ready": []} for way in WAYS}
    chance = random.Random(rounds)
    with Scene(pki, rtt1_ms, rtt2_ms, loss_percent) as scene:
        given = scene.given_ms
        for number in range(rounds):
            for way in chance.sample(WAYS, len(WAYS)):
                result = scene.sample(way)
                took[way[0]]["first"].append(result["first_ns"] / 1e6 if result else None)
                took[way[0]]["ready"].append(result["ready_ns"] / 1e6 if result else None)
            if tell:
                progress(f"set-up, RTT {rtt1_ms} and {rtt2_ms} ms, loss {loss_percent} %: round {number + 1} of {rounds}")
    rows = {}
    for name, _, _, _, _, _, base in WAYS:
        row = {"first_ms": spread(there(took[name]["first"])), "ready_ms": spread(there(took[name]["ready"])),
               "samples": [round(v, 4) for v in there(took[name]["first"])], "failed": took[name]["first"].count(None)}
        if base:
            row["to"] = base
            row["ratio"] = spread([a / b for a, b in zip(took[name]["first"], took[base]["first"]) if a and b] or [float("nan")])
        rows[name] = row
    return {"rtt1_ms": rtt1_ms, "rtt2_ms": rtt2_ms, "loss_percent": loss_percent, "given_ms": given, "rounds": rounds,
            "rows": rows}


# ---- round trips, from the packets ----------------------------------------------------------------

_PACKET = re.compile(r"^(\d+\.\d+) \S+ +(?:In|Out) +IP (\S+) > (\S+): Flags \[(\S+)\].* length (\d+)")


class Capture:
    """The packets of both paths at the client, by tcpdump."""

    def __init__(self, lab, file):
        self.file = file
        self.process = subprocess.Popen(
            in_namespace(lab.client, ["tcpdump", "-i", "any", "-n", "-U", "--immediate-mode", "-w", file, "tcp"]),
            stderr=subprocess.PIPE, text=True)
        for row in self.process.stderr:
            if "listening on" in row:
                return
        sys.exit("tcpdump does not start")

    def packets(self):
        """[(time, from the client, flags, length)] so far; the capture ends."""
        time.sleep(SETTLE_S)  # the kernel hands packets over in blocks
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        done = subprocess.run(["tcpdump", "-r", self.file, "-n", "-tt"], capture_output=True, text=True, check=True)
        found = []
        for row in done.stdout.splitlines():
            match = _PACKET.match(row)
            if match:
                found.append((float(match[1]), match[2], match[4], int(match[5])))
        return found


def round_trips(packets, lab, first_at):
    """From path 1's SYN to the last payload that had come when the client had its answer, in the capture's own RTT."""
    own = tuple(lab.client_addr(path) + "." for path in lab.paths)
    syn = next(p for p in packets if p[2] == "S" and p[1].startswith(own[0]))
    syn_ack = next(p for p in packets if p[2] == "S." and p[0] > syn[0])
    answers = [p for p in packets if p[3] > 0 and not p[1].startswith(own) and p[0] <= first_at]
    return (answers[-1][0] - syn[0]) / (syn_ack[0] - syn[0])


def counted(pki, folder):
    """{way: {"counted", "specified", "exact"}}; a difference is a failure that the page shows."""
    rows = {}
    with Scene(pki, COUNT_RTT_MS, COUNT_RTT_MS) as scene:
        for way in WAYS:
            capture = Capture(scene.lab, os.path.join(folder, f"{re.sub('[^a-z0-9]+', '-', way[0].lower())}.pcap"))
            result = scene.sample(way)
            exact = round_trips(capture.packets(), scene.lab, result["first_at_ns"] / 1e9)
            rows[way[0]] = {"exact": round(exact, 3), "counted": round(exact / HALF) * HALF, "specified": way[5]}
            progress(f"round trips, by capture: {way[0]}: {exact:.2f}, specified {way[5]}")
    return rows


# ---- the part -------------------------------------------------------------------------------------

def run(pki, size, folder):
    """size: {"rounds", "near_rounds", "grid": [(RTT1, RTT2, loss)]}."""
    if os.geteuid() != 0:
        progress("set-up: left out, network namespaces need root")
        return None
    netns.remove_stale()
    began = time.monotonic()
    result = {"round_trips": counted(pki, folder), "cells": []}
    result["cells"].append(cell(pki, 0.2, 0.2, 0, size["near_rounds"], tell=False))
    for rtt1, rtt2, loss in size["grid"]:
        close = CLOSE_TIMES if loss == 0 else LOSSY_TIMES
        rounds = size["rounds"] * (close if max(rtt1, rtt2) <= CLOSE_MS else 1)
        result["cells"].append(cell(pki, rtt1, rtt2, loss, rounds, tell=False))
        done = len(result["cells"]) - 1
        progress(f"set-up: {done} of {len(size['grid'])} points of the grid, {time.monotonic() - began:.0f} s")
    return result


def show(result):
    print("\nRound trips of path 1 to the first byte of the answer, RTT2 = RTT1, by packet capture")
    for name, row in result["round_trips"].items():
        print(f"  {name:26} {row['counted']:.1f}   specified {row['specified']}"
              f"{'' if row['counted'] == row['specified'] else '   DIFFERS'}")
    for c in result["cells"]:
        given = ", ".join(f"{ms:.2f}" for ms in c["given_ms"])
        print(f"\nSet-up, RTT {c['rtt1_ms']} and {c['rtt2_ms']} ms (measured {given}), loss {c['loss_percent']} %, "
              f"{c['rounds']} rounds: ms to the first byte (median, quartiles)")
        for name, row in c["rows"].items():
            s = row["first_ms"]
            ratio = f"  x {row['ratio']['median']:.3f} of {row['to']}" if "ratio" in row else ""
            print(f"  {name:26} {s['median']:9.2f} ({s['low']:.2f} .. {s['high']:.2f}){ratio}")


def median_of(c, name):
    return statistics.median(c["rows"][name]["samples"])
