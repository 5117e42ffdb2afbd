"""Server CPU for each handshake, as ratios to plain TLS of the same round."""

import sys

from common import BARE, PATH2, SERVER_WORDS, Server, client, progress, show, spread

# name, which server, the client's words, options of its own, compared with, outcome that all must have
HANDSHAKES = (
    ("plain", "plain", None, (), None, None),
    ("plain, bare 2nd connection", "bare", None, (), "plain", None),
    ("the same and an exporter", "bare and exporter", None, (), "plain", None),
    ("the same and all cryptography", "bare and needs", None, (), "plain", None),
    ("the same and an empty hook", "bare, needs, hollow", None, ("--hollow",), "plain", None),
    ("plain, bare kept connection, all cryptography", "bare and needs", None, ("--keep-bare",), "plain", None),
    ("the same and an empty hook, kept connection", "bare, needs, hollow", None, ("--keep-bare", "--hollow"), "plain", None),
    ("fresh path 2", "hooked", PATH2 + " reuse=off", (), "plain", "verified"),
    ("fresh, reactor=app", "app", PATH2 + " reuse=off", (), "plain", "verified"),
    ("kept path 2", "hooked", PATH2, (), "plain", "verified"),
    ("kept, reactor=app", "app", PATH2, (), "plain", "verified"),
    ("client without", "prefer", None, (), "plain", None),
    ("plain, resumed", "plain", None, ("--resume",), None, "resumed"),
    ("plain, resumed, empty hook", "hollow", None, ("--resume", "--hollow"), "plain, resumed", "resumed"),
    ("confirm=resume", "two addresses", "policy=require confirm=resume path2=remote=127.0.1.1,distinct=server", ("--confirm",), "plain",
     "verified"),
    ("resumed-verified", "hooked", PATH2 + " reuse=off", ("--resume",), "plain, resumed", "resumed_verified"),
)


def handshake_batch(server, cafile, case, batch):
    """Microseconds of CPU a handshake: server's, client's."""
    name, _, words, options, _, outcome = case
    warm = () if words is None or "--confirm" in options else ("--warm", 1)
    warm += ("--bare", server.bare) if server.bare else ()
    before = server.settle()
    result = client(server, cafile, "handshakes", "--count", batch, *warm, *options, words=words)
    after = server.settle()
    done = after["done"] - before["done"]
    if after["failed"] != before["failed"] or result["count"] > done or \
            (outcome and result[outcome] != result["count"]):
        sys.exit(f"{name}: {result}, server {after}, before {before}")
    if "--confirm" in options:  # path 2 is a handshake too, and part of the price
        done = result["count"]
    return (after["cpu_ns"] - before["cpu_ns"]) / done / 1000, result["cpu_ns"] / result["count"] / 1000


def run(pki, size):
    """{row: server's and client's microseconds and ratios}."""
    servers = {"plain": Server(pki), "bare": Server(pki, options=BARE), "bare and exporter": Server(pki, options=[*BARE, "--exporter"]),
               "bare and needs": Server(pki, options=[*BARE, "--needs"]),
               "bare, needs, hollow": Server(pki, options=[*BARE, "--needs", "--hollow"]), "hollow": Server(pki, options=["--hollow"]),
               "hooked": Server(pki, SERVER_WORDS),
               "app": Server(pki, SERVER_WORDS + " reactor=app"),
               "prefer": Server(pki, SERVER_WORDS.replace("require", "prefer")),
               "two addresses": Server(pki, host="0.0.0.0")}
    servers["two addresses"].host = "127.0.0.1"  # path 1's
    took = {case[0]: [] for case in HANDSHAKES}
    for number in range(size["rounds"] + 1):  # the first is not counted
        for case in HANDSHAKES[::1 if number % 2 else -1]:  # A B, B A
            us = handshake_batch(servers[case[1]], pki.cafile, case, size["short"])
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


def print_rows(rows):
    print("\nServer CPU for each handshake, us (median, quartiles); ratio to the plain one of the same round")
    for name, row in rows.items():
        ratio = f"  x {show(row['server_ratio'])}" if "server_ratio" in row else ""
        print(f"  {name:26} {show(row['server_us'], 1):28}{ratio}")
    print("Client CPU likewise")
    for name, row in rows.items():
        ratio = f"  x {show(row['client_ratio'])}" if "client_ratio" in row else ""
        print(f"  {name:26} {show(row['client_us'], 1):28}{ratio}")
