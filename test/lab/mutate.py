"""Builds each weakened copy of the sources (mutants.py) and runs the cells that must notice. The unweakened copy runs
them all first: they must come out as promised there."""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from mtlslab import netns, tools  # noqa: E402

import show  # noqa: E402
from document import generated  # noqa: E402
from mutants import MUTANTS  # noqa: E402
from run import plan  # noqa: E402
from runner import Runner  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parents[2]
PARTS = ["include", "provider", "smkex", "mtls", "preload", "apps", "man"]
TARGETS = [f"apps/{name}" for name in ("mtls-client", "mtls-server", "smkex-client", "smkex-server",
                                       "mtls-mptcp-helper")]
MARKS = ("<!-- generated: scripts/lab --mutants --write -->", "<!-- end of the weakened builds -->")


class Misfit(Exception):
    """A mutation that does not fit the sources, or does not build."""


def weakened(top, changes):
    """{file: text} with the changes made."""
    texts = {}
    for name, old, new in changes:
        text = texts.get(top / name) or (top / name).read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise Misfit(f"{name} has {text.count(old)} times: {old}")
        texts[top / name] = text.replace(old, new)
    return texts


def misfits(mutants):
    """What does not fit the sources, a line each."""
    lines = []
    for mutant in mutants:
        try:
            weakened(TOP, mutant.changes)
        except Misfit as error:
            lines.append(f"{mutant.key}: {error}")
    return lines


class Copy:
    """The sources and their build folder, away from the tree."""

    def __init__(self, folder):
        self.top, self.build = pathlib.Path(folder) / "src", pathlib.Path(folder) / "build"
        self.top.mkdir()
        for part in PARTS:
            shutil.copytree(TOP / part, self.top / part)
        for name in ("meson.build", "meson_options.txt"):
            shutil.copy(TOP / name, self.top)
        self._run("meson", "setup", self.build, self.top, "-Dtests=false", "--buildtype=debug", "-Db_lto=false")

    @staticmethod
    def _run(*argv):
        done = subprocess.run([str(word) for word in argv], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise Misfit(f"{' '.join(str(word) for word in argv)}:\n{done.stdout[-4000:]}")

    def make(self):
        self._run("ninja", "-j2", "-C", self.build, *TARGETS)

    def change(self, changes):
        """Weakens the copy; returns what puts it right again."""
        was = {self.top / name: (self.top / name).read_text(encoding="utf-8") for name, _, _ in changes}
        for path, text in weakened(self.top, changes).items():
            path.write_text(text, encoding="utf-8")
        return was

    @staticmethod
    def restore(was):
        for path, text in was.items():
            path.write_text(text, encoding="utf-8")


def cells(runner, runs):
    """{key: verdict, or None where it was as promised}."""
    return {result.run.key: (None if result.as_promised else result.verdict, result) for result in runner.results(runs)}


def tried(copy, runner, mutant, runs):
    """[(cell, verdict)] of what noticed, or raises."""
    was = copy.change(mutant.changes)
    try:
        copy.make()
        found = cells(runner, runs)
    finally:
        copy.restore(was)
    for key, (verdict, result) in found.items():
        if verdict == "error":  # it did not take place, which shows nothing
            raise Misfit(f"{key} could not be carried out:\n{result.log[-3000:]}")
        if verdict is None:
            raise Misfit(f"{key} came out as promised ({result.run.promised}): nobody noticed")
    return [(key, found[key][0]) for key in mutant.cells]


def table(noticed):
    """The part of doc/threats.md."""
    out = ["| what is taken away | noticed by | what came of it there |", "| --- | --- | --- |"]
    for mutant in MUTANTS:
        if mutant.missing:
            out.append(f"| {mutant.says} | not run: {mutant.missing} | |")
            continue
        for number, (cell, verdict) in enumerate(noticed[mutant.key]):
            out.append(f"| {mutant.says if number == 0 else ''} | `{cell}` | **{verdict}** |")
    return "\n".join(out)


def twin(copy, runner, runs):
    """The same cells on the copy as it is."""
    copy.make()
    wrong = [result for verdict, result in cells(runner, runs).values() if verdict]
    for result in wrong:
        print(f"unweakened: {result.run.key}: {result.verdict}\n{result.log[-3000:]}")
    return not wrong


def carry_out(folder, chosen, runs):
    """({mutant: what noticed}, how many failed)."""
    noticed, failed, copy = {}, 0, Copy(folder)
    with Runner() as runner:
        tools.BUILD = str(copy.build)
        everything = [runs[key] for key in sorted({key for mutant in chosen for key in mutant.cells})]
        began = time.monotonic()
        if not twin(copy, runner, everything):
            return noticed, 1
        print(f"unweakened: {len(everything)} cells as promised  {time.monotonic() - began:.0f} s", flush=True)
        for mutant in chosen:
            began = time.monotonic()
            try:
                noticed[mutant.key] = tried(copy, runner, mutant, [runs[key] for key in mutant.cells])
                word = show.paint(show.GREEN, "noticed")
                text = "; ".join(f"{cell}: {verdict}" for cell, verdict in noticed[mutant.key])
            except Misfit as error:
                failed, word, text = failed + 1, show.paint(show.RED, "NOT NOTICED"), str(error)
            print(f"{mutant.key}: {word}  {time.monotonic() - began:.0f} s  {text}", flush=True)
    return noticed, failed


def main():
    parser = argparse.ArgumentParser(prog="scripts/lab --mutants", description=__doc__)
    parser.add_argument("--only", metavar="KEY", help="this one alone")
    parser.add_argument("--list", action="store_true", help="print them")
    parser.add_argument("--fits", action="store_true", help="only look whether they fit the sources")
    parser.add_argument("--write", action="store_true", help="write the result into doc/threats.md")
    parser.add_argument("--check", action="store_true", help="fail if doc/threats.md shows another one")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not mutant.missing and options.only in (None, mutant.key)]
    missing = [mutant for mutant in MUTANTS if mutant.missing]
    if options.list:
        print("\n".join(f"{mutant.key}: {mutant.says}{' (missing)' * bool(mutant.missing)}" for mutant in MUTANTS))
        return 0
    if options.fits:
        print("\n".join(misfits(chosen)), end="")
        return 1 if misfits(chosen) else 0
    runs = {run.key: run for run in plan(None)}
    unknown = [key for mutant in chosen for key in mutant.cells if key not in runs]
    if unknown or not chosen:
        sys.exit(f"lab: no such cells or mutant: {unknown}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    netns.remove_stale()
    with tempfile.TemporaryDirectory(prefix="mtls-mutants-") as folder:
        try:
            noticed, failed = carry_out(folder, chosen, runs)
        except Misfit as error:
            sys.exit(f"lab: {error}")
        except KeyboardInterrupt:
            sys.exit("\nlab: interrupted, cleaned up")
    for mutant in missing:
        print(f"{mutant.key}: {show.paint(show.YELLOW, 'missing')}  {mutant.missing}")
    good = failed or options.only or generated(MARKS, table(noticed), options.write, options.check)
    print(f"lab: {len(noticed)} weakened builds noticed, {failed} not; {len(missing)} are missing"
          + ("" if good else "; doc/threats.md differs"))
    return 1 if failed or not good else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
