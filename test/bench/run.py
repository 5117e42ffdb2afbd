"""The benchmark behind scripts/bench: runs the parts one after the other, prints them, and keeps them.

Within a part the ways that are compared take turns, A B A B: every ratio is formed within one round, so that what else
the machine does reaches both sides of it alike.
"""

import argparse
import json
import os
import sys
import tempfile
import time

import common
import data
import growth
import handshakes
import instructions
import memory
import page
import servers
import setup
import threads
from mtlslab import pki as pki_module

GRID = [(rtt1, rtt2, 0) for rtt1 in (10, 50, 100) for rtt2 in (10, 50, 100)] + [(20, 40, 0)]
LOSS = [(rtt, rtt, loss) for rtt in (10, 50) for loss in (1, 2)]
SIZES = {  # handshakes a batch, of the many rows, their rounds; MiB, rounds; set-up: rounds, at 0.2 ms, points; sessions held
    "quick": {"batch": 400, "short": 400, "rounds": 7, "server_rounds": 3, "thread_rounds": 3, "growth": [0, 1000], "growth_rounds": 2, "mib": 256, "data_rounds": 3, "held": 300, "core": 50000,
              "setup": {"rounds": 5, "near_rounds": 40, "grid": [(20, 20, 0), (20, 40, 0)]}},
    "full": {"batch": 1000, "short": 250, "rounds": 60, "server_rounds": 5, "thread_rounds": 7, "growth": [0, 100, 1000, 10000], "growth_rounds": 4, "mib": 512, "data_rounds": 11, "held": 2000, "core": 50000,
             "setup": {"rounds": 5, "near_rounds": 150, "grid": GRID + LOSS}},
}


def parts(size, folder):
    """{name: (measure, print)}."""
    return {"setup": (lambda pki: setup.run(pki, size["setup"], folder), setup.show),
            "handshakes": (lambda pki: handshakes.run(pki, size), handshakes.print_rows),
            "threads": (lambda pki: threads.run(pki, size), threads.print_rows),
            "servers": (lambda pki: servers.run(pki, size, folder), servers.print_rows),
            "growth": (lambda pki: growth.run(pki, size), growth.print_rows),
            "instructions": (lambda pki: instructions.run(pki, size), instructions.print_rows),
            "data": (lambda pki: data.run(pki, size), lambda r: data.print_rows(r, size)),
            "memory": (lambda pki: memory.run(pki, size), memory.print_rows)}


def last_line(result):
    words = []
    if "handshakes" in result:
        words.append(f"server CPU x {result['handshakes']['fresh path 2']['server_ratio']['median']:.2f} with a fresh path 2, "
                     f"x {result['handshakes']['kept path 2']['server_ratio']['median']:.2f} with one kept")
    if "data" in result:
        words.append(f"application data x {result['data']['cpu']['ratio']['median']:.2f} a second of CPU")
    if result.get("setup"):
        words.append(f"announced x {result['setup']['cells'][1]['rows']['announced']['ratio']['median']:.3f} time to first byte")
    if "memory" in result:
        words.append(f"{result['memory']['pending']:.0f} bytes a pending session")
    if "instructions" in result:
        words.append(f"{result['instructions']['fresh path 2']['server_own']} instructions of ours on a server")
    return "bench: " + ", ".join(words)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", action="store_true", help="a few rounds (default)")
    group.add_argument("--full", action="store_true", help="as in doc/evaluation.md")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--results", metavar="FOLDER", default=os.path.join(common.BUILD, "results"),
                        help="JSON, CSV, Markdown and pictures go here (default: results in the build folder)")
    parser.add_argument("--record", action="store_true", help="write doc/evaluation.md and doc/evaluation/ as well")
    parser.add_argument("--part", action="append", choices=list(parts(SIZES["quick"], "")),
                        help="only this part (several allowed)")
    parser.add_argument("--check-budget", action="store_true", help="fail when the instructions are over their budget")
    return parser.parse_args()


def keep(result, args):
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=1)
    try:
        import matplotlib  # noqa: F401  pylint: disable=import-outside-toplevel,unused-import
    except ImportError as error:
        common.progress(f"no results folder: {error} (python3-matplotlib)")
        return
    page.write_folder(result, args.results)
    print(f"  results: {os.path.relpath(args.results)}")
    if args.record:
        page.write_folder(result, page.FOLDER)
        page.main_write()


def main():
    """Runs the parts and prints them."""
    args = arguments()
    size = SIZES["full" if args.full else "quick"]
    result = {"command": " ".join(["scripts/bench", *sys.argv[1:]]), "environment": common.environment(), "size": size}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # servers give up root
        pki = pki_module.Pki(folder)
        for name, (measure, print_it) in parts(size, folder).items():
            if args.part and name not in args.part:
                continue
            result[name] = measure(pki)
            if result[name] is not None:
                print_it(result[name])
    result["seconds"] = round(time.monotonic() - began)
    over = instructions.over_budget(result["instructions"]) if args.check_budget else []
    keep(result, args)
    print(last_line(result))
    if over:
        sys.exit("\n".join(over))


if __name__ == "__main__":
    main()
