"""What a second thread brings to a server, and a server that never rests: plain and hooked alike.

Two processors do for server and client together, so the rate says little by itself; what counts is whether the hooked
server's CPU time a handshake grows more than the plain one's, as it would if its threads waited for each other.
"""

import sys

from common import PATH2, SERVER_WORDS, Server, client, progress, show, spread

CLIENTS = 16  # threads: the server always has work
# name, the server's processor (None: both), its threads
SCENES = (("1 thread, saturated", 0, 1), ("1 thread, both processors", None, 1), ("2 threads, both processors", None, 2))
CASES = (("plain", None, None), ("fresh path 2", SERVER_WORDS, PATH2 + " reuse=off"), ("kept path 2", SERVER_WORDS, PATH2))


def sample(server, pki, words, batch):
    """Microseconds of the server's CPU a handshake; handshakes a second."""
    before = server.settle()
    result = client(server, pki.cafile, "handshakes", "--count", batch, "--threads", CLIENTS, *(("--warm", 1) if words else ()),
                    words=words, cpu=None)
    after = server.settle()
    if after["failed"] != before["failed"] or (words and result["verified"] != result["count"]):
        sys.exit(f"{result}, server {after}, before {before}")
    return (after["cpu_ns"] - before["cpu_ns"]) / (after["done"] - before["done"]) / 1000, \
        result["count"] / (result["wall_ns"] / 1e9)


def run(pki, size):
    """{scene: {case: {"us", "rate", "ratio"}}}."""
    running = {(scene, case): Server(pki, words, cpu=cpu, options=["--threads", str(threads)])
               for scene, cpu, threads in SCENES for case, words, _ in CASES}
    took = {key: [] for key in running}
    for number in range(size["thread_rounds"] + 1):
        for scene, _, _ in SCENES:
            for case, _, words in CASES[::1 if number % 2 else -1]:
                value = sample(running[scene, case], pki, words, size["batch"])
                if number:
                    took[scene, case].append(value)
        progress(f"threads: round {number} of {size['thread_rounds']}")
    for server in running.values():
        server.stop()
    rows = {}
    for scene, _, _ in SCENES:
        rows[scene] = {}
        for case, _, _ in CASES:
            row = {"us": spread([v[0] for v in took[scene, case]]), "rate": spread([v[1] for v in took[scene, case]])}
            if case != "plain":
                row["ratio"] = spread([a[0] / b[0] for a, b in zip(took[scene, case], took[scene, "plain"])])
            rows[scene][case] = row
    return rows


def print_rows(rows):
    print("\nThreads: server CPU for each full handshake, us; handshakes a second, client and server on two processors")
    for scene, cases in rows.items():
        for case, row in cases.items():
            ratio = f"  x {show(row['ratio'])}" if "ratio" in row else ""
            print(f"  {scene:28} {case:14} {show(row['us'], 1):28} {row['rate']['median']:6.0f}/s{ratio}")
