"""The table as people read it: on a terminal, and as Markdown for doc/threats.md."""

import os
import sys

import attacks
from mtlslab.tools import RESUMED, VERIFIED
from scene import SAFE
from table import COLUMNS, PROMISED

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
RED, GREEN, YELLOW, BOLD = 31, 32, 33, 1


def paint(number, text):
    return f"\x1b[{number}m{text}\x1b[0m" if COLOUR else text


def resolve(promised, column):
    """The column that a cell stands for: many cells are the same as another one."""
    while isinstance(promised[column], str):
        column = promised[column]
    return column


def short(verdicts):
    """One word or two for a cell."""
    if not verdicts:
        return "not run"
    if "error" in verdicts:
        return "error"
    kinds = sorted(set(verdicts), key=lambda word: (word != SAFE, word))
    return "; ".join(kinds)


def colour_of(text):
    if text == "not run":
        return YELLOW
    return GREEN if text == SAFE else RED


class Table:
    """Rows, columns and the results by cell."""

    def __init__(self, rows, results):
        self.rows = rows
        self.cells = {}
        for result in results:
            self.cells.setdefault((result.run.row.key, result.run.column), []).append(result)
        for (row, column), found in self.cells.items():
            if column not in PROMISED.get(row, ()):
                continue
            order = [attack for attack, _ in PROMISED[found[0].run.row.key][found[0].run.column]]
            found.sort(key=lambda result: order.index(result.run.attack))

    def cell(self, row, column):
        """The results that a cell shows."""
        if row.missing:
            return []
        return self.cells.get((row.key, resolve(PROMISED[row.key], column)), [])

    def text(self, row, column):
        return short([result.verdict for result in self.cell(row, column)])

    def terminal(self):
        """Lines, columns aligned."""
        width = max(len(self.plain_title(row)) for row in self.rows) + 2
        texts = {(row.key, key): self.text(row, key) for row in self.rows for key, _, _ in COLUMNS}
        widths = {key: max([len(heading)] + [len(texts[row.key, key]) for row in self.rows]) + 2
                  for key, heading, _ in COLUMNS}
        lines = [paint(BOLD, " " * width + "".join(h.ljust(widths[k]) for k, h, _ in COLUMNS))]
        for row in self.rows:
            line = self.plain_title(row).ljust(width)
            for key, _, _ in COLUMNS:
                text = texts[row.key, key]
                line += paint(colour_of(text), text) + " " * (widths[key] - len(text))
            lines.append(line.rstrip())
        return lines

    @staticmethod
    def plain_title(row):
        return row.title.replace("`", "")

    def marked(self, row, column):
        """A cell in Markdown: what is not safe stands out, and by which attack where not by all."""
        text = self.text(row, column)
        if text in (SAFE, "not run"):
            return text
        found = self.cell(row, column)
        broken = [result for result in found if result.verdict != SAFE]
        if len(broken) == len(found):
            return f"**{text}**"
        names = ", ".join(f"`{attacks.name_of(result.run.attack)}`" for result in broken)
        return f"safe; **{short([result.verdict for result in broken])}** by {names}"

    # ---- beside the table ----

    def section(self, key, section):
        """(row, attack, rogue, result or None) of each run of a section, in its order."""
        for row, promised in section:
            found = self.cells.get((row.key, key), [])
            for attack, rogue, _ in promised:
                yield row, attack, rogue, next((result for result in found if result.run.attack is attack
                                                and result.run.rogue == rogue), None)

    def section_terminal(self, key, title, section):
        lines = [paint(BOLD, title.replace("`", ""))]
        for row, attack, rogue, result in self.section(key, section):
            verdict = result.verdict if result else "not run"
            lines.append(f"  {self.plain_title(row)}, {attacks.name_of(attack)}, "
                         f"{'rogue' if rogue else 'auth'}: {paint(colour_of(verdict), verdict)}")
        return lines

    def section_markdown(self, key, title, section):
        out = [f"## {title}", "", "| network, policy | certificate | the attackers | verdict | they read "
               "| they altered | the client |", "| --- | --- | --- | --- | --- | --- | --- |"]
        for row, attack, rogue, result in self.section(key, section):
            verdict = result.verdict if result else "not run"
            out.append(f"| {row.title} | {'rogue' if rogue else 'auth'} | `{attacks.name_of(attack)}`: "
                       f"{attacks.says(attack)} | {verdict if verdict == SAFE else f'**{verdict}**'} | "
                       + (f"{', '.join(result.read) or 'nothing'} | "
                          f"{', '.join(result.altered) or 'nothing'} | {client(result.outcome)} |"
                          if result else " | | |"))
        return out + [""]

    # ---- Markdown -------------------------------------------------------------------------------

    def markdown(self, sections):
        """The generated part of doc/threats.md."""
        out = ["| protocol, policy | " + " | ".join(h for _, h, _ in COLUMNS) + " |",
               "| --- |" + " --- |" * len(COLUMNS)]
        for row in self.rows:
            out.append(f"| {row.title} | "
                       + " | ".join(self.marked(row, key) for key, _, _ in COLUMNS) + " |")
        out += ["", "## Each cell", ""]
        for row in self.rows:
            out += [f"### {row.title}", ""]
            if row.missing:
                out += [f"Not run: the lab has no victim for {row.missing} yet.", ""]
                continue
            out += ["| column | the attackers | they read | they altered | the client |",
                    "| --- | --- | --- | --- | --- |"]
            for key, heading, _ in COLUMNS:
                same = resolve(PROMISED[row.key], key)
                if same != key:
                    other = next(h for k, h, _ in COLUMNS if k == same)
                    out.append(f"| {heading} | as {other} | | | |")
                    continue
                for result in self.cell(row, key):
                    out.append(f"| {heading} | `{attacks.name_of(result.run.attack)}`: "
                               f"{attacks.says(result.run.attack)} | {', '.join(result.read) or 'nothing'} | "
                               f"{', '.join(result.altered) or 'nothing'} | {client(result.outcome)} |")
            out.append("")
        for key, title, section in sections:
            out += self.section_markdown(key, title, section)
        return "\n".join(out)


def client(outcome):
    """What the client says of itself: beside the verdict, never its source. A resumed session is verified if path 2, open
    all the same, has answered already: which of the two it says depends on the moment, and either is right [RES-10]."""
    if outcome.get("outcome") in (VERIFIED, RESUMED):
        return VERIFIED  # its verdict says the same
    if "outcome" in outcome:
        return ": ".join(outcome[key] for key in ("outcome", "verdict") if key in outcome)
    return "done" if outcome.get("exit") == 0 else "error"
