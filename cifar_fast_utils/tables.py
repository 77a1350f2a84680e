"""Tables in Markdown that read well as plain text too."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence


def unless_nan(value: float, how: str) -> str:
    """The number in this format; empty where it is NaN."""
    return "" if math.isnan(value) else format(value, how)


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up as plain text too; numbers to the right, words to the left."""
    columns = list(zip(head, *lines, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    left = [not all(re.match(r"[\d+−]|$", cell) for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        sized = zip(cells, widths, left, strict=True)
        return "| " + " | ".join(cell.ljust(w) if to_left else cell.rjust(w) for cell, w, to_left in sized) + " |"

    rule = ["-" * w if to_left else "-" * (w - 1) + ":" for w, to_left in zip(widths, left, strict=True)]
    return "\n".join([line(head), line(rule), *map(line, lines)])
