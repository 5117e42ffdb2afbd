"""The table as a picture, an SVG that is the same whenever the table is. A cell that depends on the attack is drawn in
both colours."""

import html

from scene import SAFE

WIDE, HIGH, LEFT, TOP = 92, 30, 360, 58
COLOURS = {"safe": ("#d5ecd8", "#14532d"), "broken": ("#f6cfcb", "#7f1d1d"), "not run": ("#e5e5e5", "#404040")}
STYLE = "font-family: sans-serif; font-size: 12px"


def kind(words):
    if words in ("not run", "error"):
        return "not run"
    return "safe" if words == SAFE else "broken"


def text_at(x, y, words, colour="#111", anchor="middle", weight="normal"):
    return (f'<text x="{x:g}" y="{y:g}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">'
            f"{html.escape(words)}</text>")


def cell(x, y, text):
    """One field, or two halves where the cell is safe against some of its attacks alone."""
    parts = text.split("; ")
    out, wide = [], WIDE / len(parts)
    for number, words in enumerate(parts):
        back, front = COLOURS[kind(words)]
        left = x + number * wide
        out.append(f'<rect x="{left:g}" y="{y}" width="{wide:g}" height="{HIGH}" fill="{back}" stroke="#fff"/>')
        short = "read" if len(parts) > 1 and words != SAFE else words
        out.append(text_at(left + wide / 2, y + HIGH / 2 + 4, short, front))
    return out


def svg(table, columns):
    """columns: (key, heading, ..) of the table."""
    width, height = LEFT + WIDE * len(columns) + 10, TOP + HIGH * len(table.rows) + 34
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           f'role="img" style="{STYLE}">',
           "<title>The threat table of Multipath TLS</title>",
           f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for number, (_, heading, _) in enumerate(columns):
        for line, words in enumerate(heading.split(" ", 1)):
            out.append(text_at(LEFT + WIDE * (number + 0.5), 22 + 16 * line, words, weight="bold"))
    for number, row in enumerate(table.rows):
        y = TOP + HIGH * number
        out.append(text_at(LEFT - 10, y + HIGH / 2 + 4, table.plain_title(row), anchor="end"))
        for place, (key, _, _) in enumerate(columns):
            out += cell(LEFT + WIDE * place, y, table.text(row, key))
    out.append(text_at(LEFT, height - 12, "Two colours: safe against some of the attacks of the cell. P listens, A acts; "
                       "- they talk to each other, / no channel.", "#555", "start"))
    return "\n".join([*out, "</svg>", ""])
