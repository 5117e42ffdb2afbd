"""Runs the unit tests of a build folder without meson, which refuses a folder that another version of it made.

    run_units.py FOLDER REGEX       tests whose name matches; ends with "N passed, N failed"
"""

import json
import os
import pathlib
import re
import subprocess
import sys

SLOWER = 2  # than meson's time limits allow: one after the other, in a tree, beside other work


def run(test):
    """None, or what it printed."""
    try:
        done = subprocess.run(test["cmd"], cwd=test["workdir"], env={**os.environ, **test["env"]}, timeout=SLOWER *
                              test["timeout"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"") + b"\ntoo late"
    return None if done.returncode == 0 else done.stdout + f"\nexit code {done.returncode}".encode()


def main(folder, pattern):
    tests = json.loads((pathlib.Path(folder) / "meson-info" / "intro-tests.json").read_text(encoding="utf-8"))
    chosen = [test for test in tests if any("unit" in suite for suite in test["suite"]) and
              re.search(pattern, test["name"])]
    failed = 0
    for test in chosen:
        output = run(test)
        if output is not None:
            failed += 1
            print(output.decode(errors="backslashreplace"), f"--- {test['name']} failed", sep="\n", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return failed or not chosen


if __name__ == "__main__":
    sys.exit(bool(main(*sys.argv[1:])))
