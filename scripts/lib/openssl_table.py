"""The table of doc/openssl.md: one row for each release that scripts/test --openssl ran on.

    openssl_table.py VERSION "OPENSSL VERSION OUTPUT" SUITES GCC UNIT SYSTEM [UNIT SYSTEM]    writes a row
    openssl_table.py --check VERSION...       fails unless each of them, and no other, has a row without failures
"""

import pathlib
import re
import sys

DOC = pathlib.Path(__file__).resolve().parents[2] / "doc" / "openssl.md"
ROWS = re.compile(r"(<!-- results -->\n\|[^\n]*\n\|[^\n]*\n)((?:\|[^\n]*\n)*)")


def rows(text):
    """{version: line}."""
    found = ROWS.search(text)
    assert found, f"{DOC}: no table behind <!-- results -->"
    return {re.match(r"\| (\d+\.\d+)", line).group(1): line for line in found.group(2).splitlines()}


def write(version, said, suites, gcc, results):
    text = DOC.read_text(encoding="utf-8")
    number = re.match(r"OpenSSL (\S+)", said).group(1)
    assert number.startswith(version + "."), said
    cells = [number, suites, gcc] + results + ["-"] * (4 - len(results))
    table = rows(text)
    table[version] = "| " + " | ".join(cells) + " |"
    lines = "".join(table[key] + "\n" for key in sorted(table))
    DOC.write_text(ROWS.sub(lambda found: found.group(1) + lines, text), encoding="utf-8")


def check(versions):
    table = rows(DOC.read_text(encoding="utf-8"))
    wrong = [f"{version}: no row" for version in versions if version not in table]
    wrong += [f"{version}: not tested any more" for version in table if version not in versions]
    wrong += [line for line in table.values() if re.search(r"\b[1-9]\d* failed", line)]
    print("\n".join(wrong))
    return bool(wrong)


if sys.argv[1] == "--check":
    sys.exit(check(sys.argv[2:]))
write(*sys.argv[1:5], sys.argv[5:])
