"""What the benchmark's parts share: where things are, spreads and confidence, the programs, the environment's record."""

import atexit
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "test", "system"))

BUILD = os.environ.get("MTLS_BUILD", os.path.join(TOP, "build-bench"))
PROGRAMS = os.path.join(BUILD, "test", "bench")
SERVER_CPU, CLIENT_CPU = 0, 1
SERVER_WORDS = "policy=require listen=127.0.1.1:0"
PATH2 = "policy=require path2=remote={path2},distinct=server"
BARE = ["--bare", "127.0.1.1"]  # an address of its own, as path 2 has
RESAMPLES = 1000


def program(name):
    return os.path.join(PROGRAMS, name)


def progress(text):
    print(f"  {text}", flush=True)


def spread(values):
    """Median, quartiles, and the median's confidence interval (95 %, bootstrap; the same numbers give the same one)."""
    values = sorted(values)
    if len(values) < 3:
        return {"median": statistics.median(values), "low": values[0], "high": values[-1], "ci": [values[0], values[-1]],
                "n": len(values)}
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    chance = random.Random(len(values))
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return {"median": statistics.median(values), "low": low, "high": high,
            "ci": [medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975)]], "n": len(values)}


def show(s, digits=3, unit=""):
    return f"{s['median']:.{digits}f}{unit} ({s['low']:.{digits}f} .. {s['high']:.{digits}f})"


def cdf_name(c):
    """The picture of one point of the grid."""
    return f"setup-{c['rtt1_ms']:g}-{c['rtt2_ms']:g}-{c['loss_percent']:g}.svg"


def in_namespace(ns, argv):
    return (["ip", "netns", "exec", ns] if ns else []) + [str(word) for word in argv]


class Asked:
    """A program that says its ports or readiness in lines of JSON and answers a line with a line."""

    def __init__(self, argv, ns=None):
        self.argv = in_namespace(ns, argv)
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            sys.exit(f"{' '.join(self.argv)}: ended with {self.process.wait()}")
        return json.loads(text)

    def ask(self):
        try:
            self.process.stdin.write("mark\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.line()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


class Server(Asked):
    """A running bench_server. ns: inside a network namespace."""

    def __init__(self, pki, words=None, host="127.0.0.1", ns=None, cpu=SERVER_CPU, options=(), before=()):
        argv = [program("bench_server"), "--host", host, "--cert", pki.cert, "--key", pki.key]
        argv += ["--cpu", str(cpu)] if cpu is not None else []
        argv += ["--words", words] if words else []
        super().__init__([*before, *argv, *options], ns)
        first = self.line()
        self.host, self.port, self.path2, self.bare = host, first["port"], first["path2"], first["bare"]

    def mark(self):
        """What it has done so far."""
        return self.ask()

    def settle(self):
        """The mark once no connection is open and the last of path 2's are dealt with."""
        while self.mark()["open"]:
            time.sleep(0.02)
        time.sleep(0.05)
        return self.mark()


def client(server, cafile, mode, *options, words=None, ns=None, cpu=CLIENT_CPU):
    """One run of bench_client; returns what it printed."""
    argv = [program("bench_client"), "--host", server.host, "--port", server.port, "--cafile", cafile]
    argv += ["--cpu", cpu] if cpu is not None else []
    argv += ["--words", words.format(path2=server.path2)] if words else []
    done = subprocess.run(in_namespace(ns, [*argv, *options, mode]), capture_output=True, text=True, check=False,
                          timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(done.args)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def environment():
    """What a reader needs to judge the numbers."""
    def first(path, key):
        with open(path, encoding="utf-8") as file:
            for row in file:
                if row.startswith(key):
                    return row.split(":", 1)[1].strip()
        return "unknown"

    def said(*argv):
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip().split("\n")[0]

    return {"processor": first("/proc/cpuinfo", "model name"), "processors": os.cpu_count(),
            "memory": first("/proc/meminfo", "MemTotal"), "kernel": platform.release(), "openssl": said("openssl", "version"),
            "compiler": said("cc", "--version"), "commit": said("git", "-C", TOP, "rev-parse", "--short", "HEAD"),
            "day": time.strftime("%Y-%m-%d", time.gmtime()), "load_before": round(os.getloadavg()[0], 2)}
