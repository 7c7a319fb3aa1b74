"""Medians, ratios and aims, as one Markdown table."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

HEADINGS = ("measured", "runs", "median", "min", "max", "aim", "")


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a median may be at most."""

    most: float
    text: str

    def verdict(self, median: float) -> str:
        """`met` or `missed`."""
        return "met" if median <= self.most else "missed"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity, measured one or more times."""

    what: str
    values: Sequence[float]
    unit: str
    digits: int = 2
    aim: Aim | None = None

    def cells(self) -> tuple[str, ...]:
        """As `HEADINGS` names them."""
        median = statistics.median(self.values)
        numbers = (f"{it:.{self.digits}f} {self.unit}" for it in (median, min(self.values), max(self.values)))
        aim = (self.aim.text, self.aim.verdict(median)) if self.aim else ("", "")
        return (self.what, str(len(self.values)), *numbers, *aim)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """One ratio a round, of two runs that came right after one another."""
    return [a / b for a, b in zip(above, below, strict=True)]


def markdown(rows: Sequence[Row]) -> str:
    """The table, aligned so that it can be read as it is."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:]))
    padded = [(first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])) for first, *rest in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in (padded[0], rule, *padded[1:]))
