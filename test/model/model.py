"""Checks each cell of the threat table in a model of the exchange (exchange.pml) with Spin, and prints the
attack for a cell that is not safe. `model.py [--trace ROW/COLUMN]`; the exit code is 1 if a cell is not as promised."""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

MODEL = pathlib.Path(__file__).resolve().parent / "exchange.pml"
LIMIT = 60  # seconds for one cell; they take about one

COLUMNS = {
    "P-P": {"LINK": 1, "ROGUE": 1}, "P-A": {"A2": 1, "LINK": 1, "ROGUE": 1},
    "A-P": {"A1": 1, "LINK": 1}, "A-P-rogue": {"A1": 1, "LINK": 1, "ROGUE": 1},
    "A/A": {"A1": 1, "A2": 1}, "A/A-rogue": {"A1": 1, "A2": 1, "ROGUE": 1},
    "A/A-pre": {"A1": 1, "A2": 1, "ROGUE": 1, "PRE": 1},
    "A-A": {"A1": 1, "A2": 1, "LINK": 1}, "A-A-rogue": {"A1": 1, "A2": 1, "LINK": 1, "ROGUE": 1},
}
# The columns that are broken; all others are safe.
ROWS = {
    "tls": ({"MODE": 0}, {"A-P-rogue", "A/A-rogue", "A/A-pre", "A-A-rogue"}),
    "require": ({"MODE": 1}, {"A-A-rogue"}),
    "k-of-n": ({"MODE": 1, "PATHS": 2, "NEED": 2}, set()),
    "k-of-n-all-theirs": ({"MODE": 1, "PATHS": 2, "NEED": 2, "A3": 1}, {"A-A-rogue"}),
    "prefer": ({"MODE": 2}, {"A/A-rogue", "A/A-pre", "A-A-rogue"}),
    "prefer-slow": ({"MODE": 2, "SLOW": 1}, {"A-P-rogue", "A/A-rogue", "A/A-pre", "A-A-rogue"}),
    "confirm-resume": ({"MODE": 3}, {"A/A-pre", "A-A-rogue"}),
    "confirm-unproven": ({"MODE": 4, "SLOW": 1}, {"A-P-rogue", "A/A-rogue", "A/A-pre", "A-A-rogue"}),
}
# A rule left out must show: the model would not notice a missing rule otherwise.
BUGS = [("require", "A-P-rogue", 1), ("prefer", "A-P-rogue", 2), ("k-of-n", "A-A-rogue", 3)]
DEFAULT = {"A1": 0, "A2": 0, "A3": 0, "LINK": 0, "PRE": 0, "ROGUE": 0, "PATHS": 1, "NEED": 1, "MODE": 1,
           "SLOW": 0, "BUG": 0, "REACH": 0}


def run(argv, folder):
    return subprocess.run(argv, cwd=folder, text=True, capture_output=True, timeout=LIMIT, check=False)


def check(row, column, bug=0, reach=0):
    """(safe, the attack as Spin tells it, or "")."""
    switches = {**DEFAULT, **ROWS[row][0], **COLUMNS[column], "BUG": bug, "REACH": reach}
    flags = [f"-D{name}={value}" for name, value in switches.items()]
    with tempfile.TemporaryDirectory(prefix="mtls-model-") as folder:
        shutil.copy(MODEL, folder)
        made = run(["spin", *flags, "-a", MODEL.name], folder)
        built = run(["cc", "-w", "-DSAFETY", "-o", "pan", "pan.c"], folder)
        done = run(["./pan", "-m10000", "-E"], folder) if built.returncode == 0 else built
        if "errors: " not in done.stdout or "max search depth too small" in done.stdout:
            sys.exit(f"model: {row}/{column}:\n{made.stdout}{made.stderr}{built.stderr}{done.stdout}{done.stderr}")
        if "errors: 0" in done.stdout:
            return True, ""
        return False, run(["spin", *flags, "-t", "-p", "-g", MODEL.name], folder).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", metavar="ROW/COLUMN", help="print the attack on this cell")
    options = parser.parse_args()
    if options.trace:
        row, column = options.trace.split("/", 1)
        safe, trace = check(row, column)
        print("safe" if safe else trace)
        return 0
    wrong = 0
    for row, (_, broken) in ROWS.items():
        for column in COLUMNS:
            safe, _ = check(row, column)
            print(f"{row}/{column}: {'safe' if safe else 'broken'}", flush=True)
            if safe == (column in broken):
                wrong += 1
                print("    which is not what is promised")
    for row, column, bug in BUGS:
        if check(row, column, bug)[0]:
            wrong += 1
            print(f"{row}/{column}: safe although a rule is left out (BUG={bug})")
    for row in ROWS:  # with nobody disturbing, the client gets there
        if check(row, "P-P", reach=1)[0]:
            wrong += 1
            print(f"{row}: no data is ever released")
    cells = len(ROWS) * len(COLUMNS) + len(BUGS) + len(ROWS)
    print(f"model: {cells - wrong} cells as promised, {wrong} not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
