"""Paths with delay, jitter, loss and a rate between the laboratory's client and server, and what delay they really give."""

import atexit
import json
import statistics
import subprocess
import sys

from common import program
from mtlslab import netns

_PROBE = """
import socket, sys, time
host, device, port, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for _ in range(n):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        began = time.perf_counter()
        s.connect((host, port))
        print((time.perf_counter() - began) * 1000)
"""


class Link:
    """Sends what the router of a path forwards through delay_link: each way half of the round trip."""

    def __init__(self, lab, path, rtt_us, jitter_us=0, loss_percent=0.0, rate_kbit=0):
        self.lab, self.path, self.router = lab, path, lab.routers[path]
        loss_ppm = int(loss_percent * 10000)
        words = ["delay", rtt_us // 2, jitter_us, loss_ppm, rate_kbit, path]
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.router, program("delay_link"), *[str(word) for word in words]],
            stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        if self.process.stdout.readline() != "ready\n":
            sys.exit("delay_link does not start")
        netns.ip_batch(self.router, ["link set delay up", "route replace default dev delay table 100"])
        if "from all iif c" not in netns.ip(self.router, "rule"):
            netns.ip_batch(self.router, ["rule add iif c lookup 100 pref 100", "rule add iif s lookup 100 pref 101"])

    def stop(self):
        """What it passed and dropped."""
        self.process.terminate()
        counts = json.loads(self.process.stdout.readline())
        self.process.wait(10)
        return counts


def measured_ms(lab, path, samples=11):
    """The round trip that TCP's own connect() sees over a path."""
    with Listener(lab) as port:
        done = subprocess.run(["ip", "netns", "exec", lab.client, "/usr/bin/python3", "-c", _PROBE, lab.addr, f"p{path}",
                               str(port), str(samples)], capture_output=True, text=True, check=True, timeout=60)
    return statistics.median(float(row) for row in done.stdout.split())


class Listener:
    """A port in the server's namespace on which nothing but the kernel answers."""

    def __init__(self, lab):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", lab.server, "/usr/bin/python3", "-c",
             "import socket,sys\ns=socket.create_server((sys.argv[1],0),backlog=1000)\n"
             "print(s.getsockname()[1],flush=True)\nsys.stdin.read()", lab.addr],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return int(self.process.stdout.readline())

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)


def calibrated(lab, path, rtt_us, **more):
    """A link whose measured round trip is what was asked for: what the machine itself adds is taken off. Never negative."""
    link = Link(lab, path, rtt_us)
    over_us = int(measured_ms(lab, path) * 1000) - rtt_us
    link.stop()
    return Link(lab, path, max(0, rtt_us - max(0, over_us)), **more)
