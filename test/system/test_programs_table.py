"""The table of doc/programs.md is what was measured: every program has its row, and rows that this run measured agree,
versions aside. MTLS_WRITE_PROGRAMS=1 writes it."""

import os
import pathlib
import re

import programs

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "doc" / "programs.md"
HEAD = "| program | version | role | result | remarks |\n| --- | --- | --- | --- | --- |\n"


def rows(text):
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 5 and cells[0] not in ("program", "---"):
            found[cells[0], cells[2]] = [cells[1], cells[3], cells[4]]
    return found


def all_programs():
    return ([(one.name, "client") for one in programs.CLIENTS + programs.REFUSED]
            + [(one.name, "server") for one in programs.SERVERS])


def test_table():
    text = DOCUMENT.read_text(encoding="utf-8")
    if os.environ.get("MTLS_WRITE_PROGRAMS"):
        found = {**rows(text), **programs.MEASURED}
        lines = [f"| {name} | {' | '.join([found[name, role][0], role, *found[name, role][1:]])} |"
                 for name, role in all_programs() if (name, role) in found]
        text = re.sub(r"\| program \|.*?\n(?!\|)", lambda _: HEAD + "\n".join(lines) + "\n", text + "\n", flags=re.S)
        DOCUMENT.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    written = rows(text)
    assert list(written) == all_programs(), "run the tests with MTLS_WRITE_PROGRAMS=1"
    for key, (_, result, hint) in programs.MEASURED.items():
        assert written[key][1:] == [result, hint], key
