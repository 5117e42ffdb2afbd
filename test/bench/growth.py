"""Server CPU for each full handshake while more and more sessions are open on it: the cost of one should not grow with the
number of the others.
"""

import json
import subprocess
import sys

from common import CLIENT_CPU, PATH2, SERVER_WORDS, Server, program, progress, show, spread

CASES = (("plain", None, None), ("fresh path 2", SERVER_WORDS, PATH2 + " reuse=off"))


def sample(server, pki, words, held, batch):
    """Microseconds of CPU a handshake with so many sessions open."""
    argv = [program("bench_client"), "--host", server.host, "--port", str(server.port), "--cafile", pki.cafile, "--cpu",
            str(CLIENT_CPU), "--count", str(batch), "--warm", "1", "--hold", str(held), "handshakes"]
    argv += ["--words", words.format(path2=server.path2)] if words else []
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if held:
            json.loads(process.stdout.readline())
        before = server.mark()
        if held:
            process.stdin.write("\n")
            process.stdin.flush()
        result = json.loads(process.stdout.readline())
        after = server.mark()
        process.stdin.close()
        if process.wait(120) != 0 or (words and result["verified"] != result["count"]):
            sys.exit(f"{' '.join(argv)}: {result}")
    server.settle()
    return (after["cpu_ns"] - before["cpu_ns"]) / (after["done"] - before["done"]) / 1000


def run(pki, size):
    """{held: {case: microseconds, "ratio"}}."""
    servers = {name: Server(pki, words) for name, words, _ in CASES}
    took = {held: {name: [] for name in servers} for held in size["growth"]}
    for number in range(size["growth_rounds"]):
        for held in size["growth"]:
            for name, _, words in CASES[::1 if number % 2 else -1]:
                took[held][name].append(sample(servers[name], pki, words, held, size["batch"]))
        progress(f"growth: round {number + 1} of {size['growth_rounds']}")
    for server in servers.values():
        server.stop()
    return {str(held): {**{name: spread(v) for name, v in cases.items()},
                        "ratio": spread([h / p for h, p in zip(cases["fresh path 2"], cases["plain"])])}
            for held, cases in took.items()}


def print_rows(rows):
    print("\nServer CPU for each handshake, us, while sessions are open")
    for held, row in rows.items():
        print(f"  {held:>6} open: plain {show(row['plain'], 1)}, fresh path 2 {show(row['fresh path 2'], 1)}"
              f"  x {show(row['ratio'])}")
