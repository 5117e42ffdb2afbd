"""The hostile lab: carries out every attack of the table and prints what came of it beside what is
promised. scripts/lab starts it."""

import argparse
import json
import os
import pathlib
import resource
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from mtlslab import netns  # noqa: E402

import show  # noqa: E402
from document import generated, picture  # noqa: E402
from picture import svg  # noqa: E402
from sections import SECTIONS  # noqa: E402
from runner import Run, Runner  # noqa: E402
from table import COLUMNS, PROMISED  # noqa: E402
from rows import ROWS  # noqa: E402

MARKS = ("<!-- generated: scripts/lab --write -->", "<!-- end of what is generated -->")


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/lab", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="runs whose ROW/COLUMN/ATTACK contains this")
    parser.add_argument("--list", action="store_true", help="print the runs, and do none")
    parser.add_argument("--json", metavar="FILE", help="write every result there")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the evidence of each run there")
    parser.add_argument("--capture", action="store_true",
                        help="with --keep: also what passed each attacker's router, path-N.pcap (tcpdump)")
    parser.add_argument("--write", action="store_true", help="write the table into doc/threats.md")
    parser.add_argument("--check", action="store_true",
                        help="fail if doc/threats.md shows another table than this run")
    return parser.parse_args()


def plan(only):
    """Every run of the table."""
    runs = []
    for row in ROWS:
        if row.missing:
            continue
        for column, _, rogue in COLUMNS:
            promised = PROMISED[row.key][column]
            if not isinstance(promised, str):
                runs += [Run(row, column, attack, rogue, word) for attack, word in promised]
    for key, _, section in SECTIONS:
        for row, promised in section:
            runs += [Run(row, key, attack, rogue, word) for attack, rogue, word in promised]
    return [run for run in runs if not only or only in run.key]


def progress(number, count, result):
    word = show.paint(show.colour_of(result.verdict), result.verdict)
    mark = "" if result.as_promised else show.paint(show.RED, f"  PROMISED: {result.run.promised}")
    print(f"[{number:3}/{count}] {result.run.key}: {word}{mark}  {result.seconds:.1f} s", flush=True)
    if not result.as_promised:
        print("\n".join("    " + line for line in result.log.splitlines()[-60:]), flush=True)


def carry_out(runs, options):
    results = []
    with Runner(options.keep, options.capture) as runner:
        for result in runner.results(runs):
            results.append(result)
            progress(len(results), len(runs), result)
    return results


def main():
    options = arguments()
    runs = plan(options.only)
    if options.list:
        print("\n".join(f"{run.key}: {run.promised}" for run in runs))
        return 0
    if (options.write or options.check) and options.only:
        sys.exit("scripts/lab: --write and --check are for the whole table")
    if options.capture and not options.keep:
        sys.exit("scripts/lab: --capture needs --keep FOLDER")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    netns.remove_stale()
    try:
        results = carry_out(runs, options)
    except KeyboardInterrupt:
        print("\nlab: interrupted, cleaned up")
        return 130
    table = show.Table(ROWS, results)
    print("\n" + "\n".join(table.terminal()) + "\n")
    for key, title, section in SECTIONS:
        print("\n".join(table.section_terminal(key, title, section)) + "\n")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([result.json() for result in results], file, indent=1)
    good = generated(MARKS, table.markdown(SECTIONS), options.write, options.check)
    good = picture(svg(table, COLUMNS), options.write, options.check) and good
    wrong = [result for result in results if not result.as_promised]
    for result in wrong:  # once more, where the end of a long log is read
        print(f"{result.run.key}: {result.verdict}, promised: {result.run.promised}\n  "
              + "\n  ".join(result.log.splitlines()[:8]))
    missing = [row.title for row in ROWS if row.missing]
    print(f"lab: {len(results) - len(wrong)} attacks came out as promised, {len(wrong)} did not; "
          f"{len(missing)} rows are not run" + ("" if good else "; doc/threats.md differs"))
    return 0 if good and not wrong else 1


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
