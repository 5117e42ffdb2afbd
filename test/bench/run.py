"""The benchmark behind scripts/bench: starts the programs in turn, A B A B, and prints what they measured as ratios to
plain TLS of the same round: median, and the quartiles as spread.

The numbers of a round come from the same minute: every ratio is formed within one round, so that what else the machine does reaches both sides of it alike.
"""

import argparse
import atexit
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "test", "system"))
from mtlslab import netns, pki as pki_module  # noqa: E402  (the path is set above)
from mtlslab.lab import Lab  # noqa: E402

BUILD = os.environ["MTLS_BUILD"]
PROGRAMS = os.path.join(BUILD, "test", "bench")
SERVER_CPU, CLIENT_CPU = 0, 1
SERVER_WORDS = "policy=require listen=127.0.1.1:0"
PATH2 = "policy=require path2=remote={path2},distinct=server"
SIZES = {  # handshakes a batch, rounds; MiB, rounds; RTT ms, samples; sessions held
    "quick": {"batch": 400, "rounds": 7, "mib": 256, "data_rounds": 3, "rtt_ms": 20, "samples": 3,
              "held": 300, "core": 50000},
    "full": {"batch": 1000, "rounds": 21, "mib": 1024, "data_rounds": 11, "rtt_ms": 20, "samples": 11,
             "held": 2000, "core": 50000},
}


def program(name):
    return os.path.join(PROGRAMS, name)


def progress(text):
    print(f"  {text}", flush=True)


def spread(values):
    """Median and quartiles."""
    values = sorted(values)
    if len(values) < 3:
        return {"median": statistics.median(values), "low": values[0], "high": values[-1], "n": len(values)}
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "low": low, "high": high, "n": len(values)}


def show(s, digits=3, unit=""):
    return f"{s['median']:.{digits}f}{unit} ({s['low']:.{digits}f} .. {s['high']:.{digits}f})"


class Server:
    """A running bench_server. ns: inside a network namespace."""

    def __init__(self, pki, words=None, host="127.0.0.1", ns=None, cpu=SERVER_CPU, options=()):
        argv = ["ip", "netns", "exec", ns] if ns else []
        argv += [program("bench_server"), "--host", host, "--cert", pki.cert, "--key", pki.key]
        argv += ["--cpu", str(cpu)] if cpu is not None else []
        argv += ["--words", words] if words else []
        argv += options
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        first = json.loads(self.process.stdout.readline())
        self.host, self.port, self.path2 = host, first["port"], first["path2"]
        self.bare = first["bare"]

    def mark(self):
        """What it has done so far."""
        self.process.stdin.write("mark\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def settle(self):
        """The mark once no connection is open and the last of path 2's are dealt with."""
        while self.mark()["open"]:
            time.sleep(0.02)
        time.sleep(0.05)
        return self.mark()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


def client(server, cafile, mode, *options, words=None, ns=None, cpu=CLIENT_CPU):
    """One run of bench_client; returns what it printed."""
    argv = ["ip", "netns", "exec", ns] if ns else []
    argv += [program("bench_client"), "--host", server.host, "--port", str(server.port), "--cafile", cafile]
    argv += ["--cpu", str(cpu)] if cpu is not None else []
    argv += ["--words", words.format(path2=server.path2)] if words else []
    done = subprocess.run(argv + [str(o) for o in options] + [mode], capture_output=True, text=True, check=False,
                          timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(done.args)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


# ---- 1: handshakes ------------------------------------------------------------------------------

# name, which server, the client's words, options of its own, compared with, outcome that all must have
HANDSHAKES = (
    ("plain", "plain", None, (), None, None),
    ("plain, bare 2nd connection", "bare", None, (), "plain", None),
    ("fresh path 2", "hooked", PATH2 + " reuse=off", (), "plain", "verified"),
    ("fresh, reactor=app", "app", PATH2 + " reuse=off", (), "plain", "verified"),
    ("kept path 2", "hooked", PATH2, (), "plain", "verified"),
    ("kept, reactor=app", "app", PATH2, (), "plain", "verified"),
    ("client without", "prefer", None, (), "plain", None),
    ("plain, resumed", "plain", None, ("--resume",), None, "resumed"),
    ("resumed-verified", "hooked", PATH2 + " reuse=off", ("--resume",), "plain, resumed", "resumed_verified"),
)


def handshake_batch(server, cafile, case, batch):
    """Microseconds of CPU a handshake: server's, client's."""
    name, _, words, options, _, outcome = case
    warm = () if words is None else ("--warm", 1)
    warm += ("--bare", server.bare) if server.bare else ()
    before = server.settle()
    result = client(server, cafile, "handshakes", "--count", batch, *warm, *options, words=words)
    after = server.settle()
    done = after["done"] - before["done"]
    if after["failed"] != before["failed"] or result["count"] > done or \
            (outcome and result[outcome] != result["count"]):
        sys.exit(f"{name}: {result}, server {after}, before {before}")
    return (after["cpu_ns"] - before["cpu_ns"]) / done / 1000, result["cpu_ns"] / result["count"] / 1000


def handshakes(pki, size):
    """Part 1."""
    servers = {"plain": Server(pki), "bare": Server(pki, options=["--bare"]), "hooked": Server(pki, SERVER_WORDS),
               "app": Server(pki, SERVER_WORDS + " reactor=app"),
               "prefer": Server(pki, SERVER_WORDS.replace("require", "prefer"))}
    took = {case[0]: [] for case in HANDSHAKES}
    for number in range(size["rounds"] + 1):  # the first is not counted
        for case in HANDSHAKES[::1 if number % 2 else -1]:  # A B, B A
            us = handshake_batch(servers[case[1]], pki.cafile, case, size["batch"])
            if number > 0:
                took[case[0]].append(us)
        progress(f"handshakes: round {number} of {size['rounds']}: " +
                 ", ".join(f"{name} {us[-1][0]:.0f}" for name, us in took.items() if us) + " us")
    for server in servers.values():
        server.stop()
    rows = {}
    for name, _, _, _, base, _ in HANDSHAKES:
        row = {"server_us": spread([us[0] for us in took[name]]), "client_us": spread([us[1] for us in took[name]])}
        if base:
            for end, place in (("server", 0), ("client", 1)):
                row[f"{end}_ratio"] = spread([a[place] / b[place] for a, b in zip(took[name], took[base])])
        rows[name] = row
    return rows


# ---- 2: application data ------------------------------------------------------------------------

def throughput(pki, size):
    """Part 2."""
    servers = {"plain": Server(pki), "hooked": Server(pki, SERVER_WORDS)}
    words = {"plain": None, "hooked": PATH2}
    rates = {name: {"up": [], "down": [], "cpu": []} for name in servers}
    for number in range(size["data_rounds"] + 1):
        for name in list(servers)[::1 if number % 2 else -1]:
            before = servers[name].settle()
            result = client(servers[name], pki.cafile, "throughput", "--bytes", size["mib"] << 20, words=words[name])
            spent = servers[name].settle()["cpu_ns"] - before["cpu_ns"]
            if number == 0:
                continue
            rates[name]["cpu"].append(size["mib"] * 2 / (spent / 1e9))
            for way in ("up", "down"):
                rates[name][way].append(size["mib"] / (result[f"{way}_ns"] / 1e9))
        progress(f"application data: round {number} of {size['data_rounds']}")
    for server in servers.values():
        server.stop()
    return {way: {"plain_mib_s": spread(rates["plain"][way]), "hooked_mib_s": spread(rates["hooked"][way]),
                  "ratio": spread([h / p for h, p in zip(rates["hooked"][way], rates["plain"][way])])}
            for way in ("up", "down", "cpu")}


# ---- 3: round trips -----------------------------------------------------------------------------

LAB_PATH2 = "policy=require path2=dev=p2,remote={path2}"
# name, words, options
LATENCIES = (
    ("plain TLS 1.3", None, ()),
    ("announced", LAB_PATH2 + " reuse=off tfo=off", ("--announce",)),
    ("announced, Fast Open", LAB_PATH2 + " reuse=off", ("--announce",)),
    ("bare hook", LAB_PATH2 + " reuse=off tfo=off", ()),
    ("bare hook, Fast Open", LAB_PATH2 + " reuse=off", ()),
    ("bare hook, kept path 2", LAB_PATH2, ("--warm", 1)),
    ("late", LAB_PATH2 + " reuse=off tfo=off early=off", ()),
)


def delay(lab, path, rtt_us):
    """Sends what the router of a path forwards through delay_link: each way half of the round trip."""
    router = lab.routers[path]
    process = subprocess.Popen(["ip", "netns", "exec", router, program("delay_link"), "delay", str(rtt_us // 2)],
                               stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    if process.stdout.readline() != "ready\n":
        sys.exit("delay_link does not start")
    netns.ip_batch(router, ["link set delay up", "route add default dev delay table 100",
                            "rule add iif c lookup 100 pref 100", "rule add iif s lookup 100 pref 101"])
    return process


def latency_sample(lab, servers, pki, case):
    name, words, options = case
    server = servers["hooked" if words else "plain"]
    result = client(server, pki.cafile, "latency", *options, words=words, ns=lab.client, cpu=None)
    if words and result["outcome"] != "verified":
        sys.exit(f"{name}: {result}")
    return result


def latency_at(pki, size, factor):
    """All ways with RTT2 = factor x RTT1; in round trips of path 1 as TCP's own connect takes them."""
    rtt_us = size["rtt_ms"] * 1000
    took, connects = {case[0]: [] for case in LATENCIES}, []
    with Lab() as lab:
        links = [delay(lab, 1, rtt_us), delay(lab, 2, rtt_us * factor)]
        servers = {"plain": Server(pki, None, lab.addr, lab.server, None),
                   "hooked": Server(pki, f"policy=require listen={lab.addr}:0", lab.addr, lab.server, None)}
        latency_sample(lab, servers, pki, LATENCIES[4])  # leaves a Fast Open cookie
        for number in range(size["samples"]):
            for case in LATENCIES:
                result = latency_sample(lab, servers, pki, case)
                took[case[0]].append(result["ns"] / 1e6)
                if case[1] is None:
                    connects.append(result["connect_ns"] / 1e6)
            progress(f"round trips, RTT2 = {factor} x RTT1: sample {number + 1} of {size['samples']}")
        for server in servers.values():
            server.stop()
        for link in links:
            link.kill()
            link.wait()
    rtt = statistics.median(connects)
    plain = took[LATENCIES[0][0]]
    return {"rtt1_ms": spread(connects),
            "rows": {name: {"ms": spread(ms), "rtts": spread([v / rtt for v in ms]),
                            "ratio": spread([v / p for v, p in zip(ms, plain)])} for name, ms in took.items()}}


def latency(pki, size):
    """Part 3."""
    if os.geteuid() != 0:
        progress("round trips: left out, network namespaces need root")
        return None
    netns.remove_stale()
    return {str(factor): latency_at(pki, size, factor) for factor in (1, 2)}


# ---- 4: memory ----------------------------------------------------------------------------------

def memory_run(*argv):
    done = subprocess.run([program("bench_memory"), *[str(a) for a in argv]], capture_output=True, text=True, check=False,
                          timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(done.args)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def memory(pki, size):
    """Part 4."""
    files = (pki.cert, pki.key, pki.cafile)
    words = SERVER_WORDS + " deadline=120000"
    client_words = PATH2.replace("{path2}", "%s")
    progress("memory: the table alone")
    core = memory_run("core", size["core"])
    progress("memory: pending sessions")
    pending = [memory_run("pending", size["held"], w, "plain", *files)["server_bytes"] for w in ("plain", words)]
    progress("memory: established sessions")
    kept = [memory_run("established", size["held"], w, c, *files)
            for w, c in (("plain", "plain"), (words, client_words))]
    return {"core": core, "pending_plain": pending[0], "pending": pending[1] - pending[0],
            "established_server_plain": kept[0]["server_bytes"],
            "established_server": kept[1]["server_bytes"] - kept[0]["server_bytes"],
            "established_client_plain": kept[0]["client_bytes"],
            "established_client": kept[1]["client_bytes"] - kept[0]["client_bytes"], "sessions": size["held"]}


# ---- the tables ---------------------------------------------------------------------------------

def print_handshakes(rows):
    print("\nServer CPU for each handshake, us (median, quartiles); ratio to the plain one of the same round")
    for name, row in rows.items():
        ratio = f"  x {show(row['server_ratio'])}" if "server_ratio" in row else ""
        print(f"  {name:26} {show(row['server_us'], 1):28}{ratio}")
    print("Client CPU likewise")
    for name, row in rows.items():
        ratio = f"  x {show(row['client_ratio'])}" if "client_ratio" in row else ""
        print(f"  {name:26} {show(row['client_us'], 1):28}{ratio}")


def print_throughput(rows, size):
    print(f"\nApplication data, {size['mib']} MiB over loopback, MiB/s (cpu: MiB a second of the server's CPU time)")
    for way, row in rows.items():
        print(f"  {way:5} plain {show(row['plain_mib_s'], 0)}, hooked {show(row['hooked_mib_s'], 0)}"
              f"  x {show(row['ratio'])}")


def print_latency(result):
    for factor, at in (result or {}).items():
        print(f"\nFrom path 1's connect to the first byte back, RTT2 = {factor} x RTT1; "
              f"RTT1 as TCP's connect takes it: {show(at['rtt1_ms'], 2, ' ms')}")
        for name, row in at["rows"].items():
            print(f"  {name:24} {row['rtts']['median']:5.2f} RTT1  {show(row['ms'], 1, ' ms'):30} "
                  f"x {show(row['ratio'], 2)}")


def print_memory(m):
    print("\nMemory, bytes of ours for each session")
    print(f"  the table alone, {m['core']['count']} sessions: {m['core']['session_bytes']:.0f}; a claim on a connection "
          f"of its own: {m['core']['claim_bytes']:.0f} more")
    print(f"  pending on a server: {m['pending']:.0f} (beside {m['pending_plain']:.0f} of libssl's)")
    print(f"  decided and kept: server {m['established_server']:.0f} (beside {m['established_server_plain']:.0f}), "
          f"client {m['established_client']:.0f} (beside {m['established_client_plain']:.0f})")


def last_line(result):
    words = []
    if "handshakes" in result:
        words.append(f"fresh path 2 x {result['handshakes']['fresh path 2']['server_ratio']['median']:.2f} server CPU")
    if "data" in result:
        words.append(f"data x {min(result['data'][way]['ratio']['median'] for way in ('up', 'down')):.2f}")
    if result.get("latency"):
        words.append(f"announced x {result['latency']['1']['rows']['announced']['ratio']['median']:.2f} time to first byte")
    if "memory" in result:
        words.append(f"{result['memory']['pending']:.0f} bytes a pending session")
    return "bench: " + ", ".join(words)


def main():
    """Runs the parts and prints them."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="a few rounds: about a minute (default)")
    group.add_argument("--full", action="store_true", help="as in doc/benchmark.md: about five minutes")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--part", action="append", choices=["handshakes", "data", "latency", "memory"],
                        help="only this part (several allowed)")
    args = parser.parse_args()
    size = SIZES["full" if args.full else "quick"]
    parts = {"handshakes": (handshakes, print_handshakes), "data": (throughput, lambda r: print_throughput(r, size)),
             "latency": (latency, print_latency), "memory": (memory, print_memory)}
    result = {"size": size}
    with tempfile.TemporaryDirectory() as folder:
        pki = pki_module.Pki(folder)
        for name, (run, print_it) in parts.items():
            if args.part and name not in args.part:
                continue
            result[name] = run(pki, size)
            if result[name] is not None:
                print_it(result[name])
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=1)
    print(last_line(result))


if __name__ == "__main__":
    main()
