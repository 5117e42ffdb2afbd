"""Instructions for each full handshake, by callgrind: repeatable whatever else the machine does, unlike time.

What start-up costs falls out: two runs with different numbers of handshakes are subtracted. "own" is the code of this
repository alone, "all" the whole process in user mode: libssl, libcrypto and libc as well. The budget is checked by CI.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

from common import PATH2, SERVER_WORDS, Server, client, in_namespace, program, progress

FEW, MANY = 16, 80
BUDGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "budget.json")
PLAIN = {"resumed-verified": "plain, resumed"}  # what a case is compared with, else plain
_OWN = re.compile(r"(^|/)(mtls|provider|smkex)/[a-z0-9_/]+\.[ch]$")
_NAME = re.compile(r"^(fl|fi|fe|cfl|cfi)=\((\d+)\)(?: (.*))?$")

# name, server's words, client's words, options
CASES = (
    ("plain", None, None, ()),
    ("plain, resumed", None, None, ("--resume",)),
    ("fresh path 2", SERVER_WORDS, PATH2 + " reuse=off", ()),
    ("kept path 2", SERVER_WORDS, PATH2, ()),
    ("resumed-verified", SERVER_WORDS, PATH2 + " reuse=off", ("--resume",)),
)


def self_costs(file):
    """Instructions by source file, without what they call."""
    names, here, costs, skip = {}, None, {}, False
    with open(file, encoding="utf-8", errors="replace") as rows:
        for row in rows:
            match = _NAME.match(row.rstrip("\n"))
            if match:
                if match[3] is not None:
                    names[match[2]] = match[3]
                if match[1][0] == "f":
                    here = names[match[2]]
            elif row.startswith("calls="):
                skip = True
            elif row[:1] in "0123456789+-*":
                if not skip:
                    costs[here] = costs.get(here, 0) + int(row.split()[1])
                skip = False
    return costs


def misses(file):
    """What missed the simulated first-level cache of instructions, and the branches that were predicted wrongly."""
    events, sums = [], []
    with open(file, encoding="utf-8", errors="replace") as rows:
        for row in rows:
            if row.startswith("events:"):
                events = row.split()[1:]
            elif row.startswith("totals:"):
                sums = [int(word) for word in row.split()[1:]]
    total = dict(zip(events, sums))
    return total["I1mr"], total["Bcm"] + total["Bim"]


def totals(file):
    """Own and all instructions of one process, and its misses."""
    own = everything = 0
    for name, cost in self_costs(file).items():
        everything += cost
        if name and _OWN.search(name):
            own += cost
    return own, everything, *misses(file)


# The same on every machine: size, ways, bytes a line.
CACHES = ("--cache-sim=yes", "--branch-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=33554432,16,64")
COUNTS = ("own", "all", "i1", "branches")


class Counted:
    """valgrind in front of a program's command line; its counts after its end."""

    def __init__(self, folder, label):
        self.file = os.path.join(folder, f"{label}.callgrind")
        self.argv = ["valgrind", "--quiet", "--tool=callgrind", *CACHES, f"--callgrind-out-file={self.file}",
                     f"--log-file={self.file}.log"]

    def read(self):
        return totals(self.file)


def server_counts(folder, pki, case, count):
    name, server_words, words, options = case
    counted = Counted(folder, f"server-{count}")
    server = Server(pki, server_words, cpu=None, before=counted.argv)
    result = client(server, pki.cafile, "handshakes", "--count", count, "--threads", 1,
                    *(("--warm", 1) if words else ()), *options, words=words, cpu=None)
    if result["wrong"]:
        sys.exit(f"{name}: {result}")
    server.settle()
    server.stop()
    return counted.read()


def client_counts(folder, pki, case, count):
    name, server_words, words, options = case
    counted = Counted(folder, f"client-{count}")
    server = Server(pki, server_words, cpu=None)
    argv = [program("bench_client"), "--host", server.host, "--port", server.port, "--cafile", pki.cafile, "--count", count,
            "--threads", 1, *(("--warm", 1) if words else ()), *options]
    argv += ["--words", words.format(path2=server.path2)] if words else []
    done = subprocess.run(in_namespace(None, counted.argv + argv + ["handshakes"]), capture_output=True, text=True,
                          check=False, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{name}: {done.stdout}{done.stderr}")
    server.stop()
    return counted.read()


def run(pki, _size):
    """{case: {"server_own", "server_all", "server_to_plain" and the client's}}, instructions a handshake; to_plain: all of
    them, to those of the same handshake without us. Likewise server_i1 and server_branches: see misses()."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            row, words = {}, case[2]
            for end, counts in (("server", server_counts), ("client", client_counts)):
                few, many = (counts(folder, pki, case, n) for n in (FEW, MANY))
                for what, a, b in zip(COUNTS, few, many):
                    row[f"{end}_{what}"] = round((b - a) / (MANY - FEW))
                if words and not row[f"{end}_own"]:
                    sys.exit("the build has no debug information: meson configure -Ddebug=true")
                if words:
                    plain = rows[PLAIN.get(case[0], "plain")]
                    row[f"{end}_to_plain"] = round(row[f"{end}_all"] / plain[f"{end}_all"], 4)
            rows[case[0]] = row
            progress(f"instructions: {case[0]}: server {row['server_own']}, client {row['client_own']} of ours")
    return rows


def over_budget(rows):
    """[what is above its budget, in words]."""
    with open(BUDGET, encoding="utf-8") as file:
        budget = json.load(file)
    return [f"{name}, {what}: {rows[name][what]}, allowed is {most} (test/bench/budget.json)"
            for name, limits in budget.items() for what, most in limits.items() if rows[name][what] > most]


def print_rows(rows):
    print("\nInstructions for each handshake in user mode, thousands: of this repository's code (of the whole process)")
    for name, row in rows.items():
        print(f"  {name:26} server {row['server_own'] / 1000:6.1f} ({row['server_all'] / 1000:.0f}), "
              f"client {row['client_own'] / 1000:6.1f} ({row['client_all'] / 1000:.0f})"
              + (f", to plain {row['server_to_plain']:.3f}, {row['client_to_plain']:.3f}" if "server_to_plain" in row else ""))
