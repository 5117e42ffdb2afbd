"""Checks the threat table in a model of the exchange (exchange.pml) with Spin: every cell of the lab's table
(test/lab/table.py) that the model can express must come out there as the lab promises. `model.py [--trace ROW/COLUMN]`
prints the attack on a cell that is not safe; the exit code is 1 if model and lab disagree."""

import argparse
import concurrent.futures
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE / "exchange.pml"
sys.path[:0] = [str(HERE.parent / "lab"), str(HERE.parent / "system")]

import attacks  # noqa: E402
from rows import ROWS as LAB_ROWS  # noqa: E402
from sections import SECTIONS  # noqa: E402
from scene import SAFE  # noqa: E402
from table import COLUMNS as LAB_COLUMNS, PROMISED  # noqa: E402

LIMIT = 120  # seconds for one query; they take about one
JOBS = 2
DEFAULT = {"A1": 0, "A2": 0, "A3": 0, "LINK": 0, "PRE": 0, "ROGUE": 0, "STOLEN": 0, "PATHS": 1, "NEED": 1, "MODE": 1,
           "SLOW": 0, "BUG": 0, "REACH": 0}

COLUMNS = {
    "P-P": {"LINK": 1, "ROGUE": 1}, "P-A": {"A2": 1, "LINK": 1, "ROGUE": 1},
    "A-P": {"A1": 1, "LINK": 1}, "A-P-rogue": {"A1": 1, "LINK": 1, "ROGUE": 1},
    "A/A": {"A1": 1, "A2": 1}, "A/A-rogue": {"A1": 1, "A2": 1, "ROGUE": 1},
    "A/A-pre": {"A1": 1, "A2": 1, "ROGUE": 1, "PRE": 1},
    "A-A": {"A1": 1, "A2": 1, "LINK": 1}, "A-A-rogue": {"A1": 1, "A2": 1, "LINK": 1, "ROGUE": 1},
}
# Anyone's key is taken where there are no certificates; a key that is known already is like one that is certified.
ANY_KEY, KNOWN_KEY = {"ROGUE": 1}, {"ROGUE": 0}
ROWS = {
    "tcp": {"MODE": 6}, "dh": {"MODE": 0, **ANY_KEY}, "dh-known": {"MODE": 0, **KNOWN_KEY}, "tls": {"MODE": 0},
    "smkex": {"MODE": 1, **ANY_KEY}, "smkex-known": {"MODE": 1, **KNOWN_KEY}, "smkex-prefer": {"MODE": 2, **ANY_KEY},
    "require": {"MODE": 1}, "remembered": {"MODE": 1}, "k-of-n": {"MODE": 1, "PATHS": 2, "NEED": 2},
    "prefer": {"MODE": 2}, "resumed": {"MODE": 5}, "confirm-resume": {"MODE": 3},
    "confirm-unproven": {"MODE": 4, "SLOW": 1},
}
# Attacks that are another query than the rest of their cell.
OTHERWISE = {"slow-ready": {"SLOW": 1}, "synchronised": {"A3": 0}}
NOT_EXPRESSED = {"smkex-mptcp": "bytes that the kernel counts for each subflow"}
# Beside the table: (row, attack) of test/lab/sections.py. Everything else there is about what the model has no notion
# of: addresses, names, routes, devices, ports, byte strings, sequence numbers, limits, and the age of tickets.
ASIDE = {
    ("two-addresses", "carried-over"): "A-P-rogue", ("two-addresses", "synchronised-everywhere"): "A-A-rogue",
    ("two-addresses", "carry-forge"): "A/A-rogue",
    ("two-families", "carried-over"): "A-P-rogue", ("two-families", "synchronised-everywhere"): "A-A-rogue",
    ("proxy", "carried-over"): "A-P-rogue", ("proxy", "synchronised-everywhere"): "A-A-rogue",
    ("beside-server", "beside-the-server"): "A-A", ("unchecked", "carried-over"): "A-P-rogue",
    ("unchecked", "synchronised-everywhere"): "A-A-rogue", ("stolen-ticket-key", "stolen-ticket-key"): "A-P-rogue",
    ("confirm-stolen-ticket-key", "stolen-ticket-key"): "A-P-rogue", ("confirm-stolen-key", "stolen-certificate-key"): "A-P-rogue",
}
ASIDE_ROWS = {"stolen-ticket-key": {"MODE": 5, "STOLEN": 1}, "confirm-stolen-ticket-key": {"MODE": 3, "STOLEN": 1},
              "confirm-stolen-key": {"MODE": 3}}
# A rule left out must show: the model would not notice a missing rule otherwise.
BUGS = [("require", "A-P-rogue", 1), ("prefer", "A-P-rogue", 2), ("k-of-n", "A-A-rogue", 3)]


def switches(row, column, **more):
    """Attackers on all paths, where there are more than two."""
    found = {**DEFAULT, **COLUMNS[column]}
    found["A3"] = found["A2"]
    return {**found, **row, **more}


def run(argv, folder):
    return subprocess.run(argv, cwd=folder, text=True, capture_output=True, timeout=LIMIT, check=False)


def check(query):
    """(safe, the attack as Spin tells it, or "")."""
    flags = [f"-D{name}={value}" for name, value in query.items()]
    with tempfile.TemporaryDirectory(prefix="mtls-model-") as folder:
        shutil.copy(MODEL, folder)
        made = run(["spin", *flags, "-a", MODEL.name], folder)
        built = run(["cc", "-w", "-DSAFETY", "-o", "pan", "pan.c"], folder)
        done = run(["./pan", "-m10000", "-E"], folder) if built.returncode == 0 else built
        if "errors: " not in done.stdout or "max search depth too small" in done.stdout:
            raise RuntimeError(f"{query}:\n{made.stdout}{made.stderr}{built.stderr}{done.stdout}{done.stderr}")
        if "errors: 0" in done.stdout:
            return True, ""
        return False, run(["spin", *flags, "-t", "-p", "-g", MODEL.name], folder).stdout


class Answers:
    """Each query once, two at a time."""

    def __init__(self):
        self.pool, self.known = concurrent.futures.ThreadPoolExecutor(JOBS), {}

    def ask(self, query):
        key = tuple(sorted(query.items()))
        if key not in self.known:
            self.known[key] = self.pool.submit(check, query)
        return self.known[key]


def promised(row, column):
    """{switches that are otherwise: is it safe there} of a cell of the lab's table."""
    cell = PROMISED[row][column]
    while isinstance(cell, str):
        cell = PROMISED[row][cell]
    groups = {}
    for attack, word in cell:
        otherwise = tuple(OTHERWISE.get(attacks.name_of(attack), {}).items())
        groups[otherwise] = groups.get(otherwise, True) and word == SAFE
    return groups


def questions():
    """(name, query, must it be safe) of everything that model and lab both have."""
    for lab_row in LAB_ROWS:
        if lab_row.key in NOT_EXPRESSED:
            continue
        for column, _, _ in LAB_COLUMNS:
            for otherwise, safe in promised(lab_row.key, column).items():
                name = "/".join([lab_row.key, column, *(f"{key}={value}" for key, value in otherwise)])
                yield name, switches(ROWS[lab_row.key], column, **dict(otherwise)), safe
    for _, _, section in SECTIONS:
        for lab_row, runs in section:
            for attack, rogue, word in runs:
                column = ASIDE.get((lab_row.key, attacks.name_of(attack)))
                if column == "A-A" and rogue:
                    column = "A-A-rogue"
                if column:
                    yield (f"{lab_row.key}/{attacks.name_of(attack)}/{'rogue' if rogue else 'auth'}",
                           switches(ASIDE_ROWS.get(lab_row.key, {}), column), word == SAFE)


def tests():
    """(name, query, must it be safe) of what keeps the model itself honest."""
    for row, column, bug in BUGS:
        yield f"{row}/{column} without a rule (BUG={bug})", switches(ROWS[row], column, BUG=bug, A3=0), False
    for row in ROWS:  # with nobody disturbing, the client gets there
        yield f"{row}: data is released", switches(ROWS[row], "P-P", REACH=1), False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", metavar="ROW/COLUMN", help="print the attack on this cell")
    options = parser.parse_args()
    asked = list(questions())
    if options.trace:
        query = next((query for name, query, _ in asked if name == options.trace), None)
        if query is None:
            sys.exit("model: no such cell; it has " + ", ".join(name for name, _, _ in asked))
        safe, trace = check(query)
        print("safe" if safe else trace)
        return 0
    answers, wrong = Answers(), 0
    everything = [*asked, *tests()]
    waiting = [answers.ask(query) for _, query, _ in everything]
    for (name, _, must_be), answer in zip(everything, waiting):
        safe = answer.result()[0]
        print(f"{name}: {'safe' if safe else 'broken'}", flush=True)
        if safe != must_be:
            wrong += 1
            print("    which is not what the lab promises")
    missing = [row.key for row in LAB_ROWS if row.key in NOT_EXPRESSED]
    print(f"model: {len(everything) - wrong} queries as promised, {wrong} not; not expressed: "
          + ", ".join(f"{key} ({NOT_EXPRESSED[key]})" for key in missing))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
