"""Tables on stdout."""

from rich.console import Console
from rich.table import Table

PLAIN_WIDTH = 160
"""Columns of a table where no terminal says how many it has."""


def show(table: Table) -> None:
    """Print a table; what is long wraps."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(table)
