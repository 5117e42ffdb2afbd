"""The generated parts of doc/threats.md, each between two marks, and its picture."""

import pathlib

import show

FILE = pathlib.Path(__file__).resolve().parents[2] / "doc" / "threats.md"


def picture(now, write, check):
    """doc/threats.svg likewise."""
    file = FILE.with_suffix(".svg")
    if write:
        file.write_text(now, encoding="utf-8")
    if check and file.read_text(encoding="utf-8") != now:
        print(show.paint(show.RED, "doc/threats.svg shows another table (--write)"))
        return False
    return True


def split(text, marks):
    """A generated part, and what is around it."""
    before, rest = text.split(marks[0], 1)
    part, after = rest.split(marks[1], 1)
    return before, part.strip(), after


def generated(marks, now, write, check):
    """Writes the part between the marks, or compares it; True if it is as it should be."""
    text = FILE.read_text(encoding="utf-8")
    before, part, after = split(text, marks)
    now = now.strip()
    if write:
        FILE.write_text(f"{before}{marks[0]}\n\n{now}\n\n{marks[1]}{after}", encoding="utf-8")
        return True
    if check and part != now:
        print(show.paint(show.RED, "doc/threats.md shows another table (--write):"))
        old, new = part.splitlines(), now.splitlines()
        for line in [f"  - {x}" for x in old if x not in new] + [f"  + {x}" for x in new if x not in old]:
            print(line)
        return False
    return True
