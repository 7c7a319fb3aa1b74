"""The command around stored names: what may become what, the table that is shown, and the file that takes it back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Column, Table
from rich.text import Text

from config.errors import UserError
from local.console import say
from ops.mongo import librechat_database
from ops.stack import Stack
from ops.stored_names import Row, put_back, rename
from ops.table import show


def rename_stored(stack: Stack, pairs: Sequence[str], *, apply: bool) -> None:
    """Show what of the stack's endpoint would be renamed, and with `apply` rename it.

    UserError for a mapping that cannot be meant, for all that MongoDB refuses, and where an old name is left.
    """
    endpoint, listed = stack.config.frontend.endpoint_name, stack.config.exposed_names
    mapping = read_mapping(pairs, listed)
    if apply and not mapping:
        raise UserError("There is nothing to rename: name old and new, --map old=new (MAP='old=new' for make).")
    with librechat_database() as database:
        report = rename(database, mapping, endpoint)
        _print(report.found, mapping, listed)
        say(f"{_total(report.found)} names stored for the endpoint {endpoint}, {_total(report.left)} of them to rename")
        if not apply:
            say("a dry run: nothing is changed; --apply (APPLY=1 for make) renames them")
        elif report.left:
            file = Path.cwd() / f"undo-{stack.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
            say(f"what is changed can be put back with --undo {file}")
            report = rename(database, mapping, endpoint, file)
            say(f"changed {report.changed}; to rename now: {_total(report.left)}")
            _print(report.left, mapping, listed)
    if apply and report.left:
        raise UserError("Old names are stored still, as somebody used them meanwhile: run it again.")


def undo_renaming(file: Path) -> None:
    """Put back what a renaming changed, where it was not changed again since."""
    with librechat_database() as database:
        done, told = put_back(database, file)
    say(f"put back {done} of {told}" + ("; the others were changed since" if done < told else ""))


def read_mapping(pairs: Sequence[str], listed: Sequence[str]) -> dict[str, str]:
    """Old name to new, of `old=new` each; UserError names the first pair that cannot be meant."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        old, _, new = pair.partition("=")
        if not old or not new:
            raise UserError(f"--map {pair}: must read old=new.")
        if old in listed:
            raise UserError(f"--map {pair}: the stack serves {old}: only names that it no longer has are renamed.")
        if new not in listed:
            raise UserError(f"--map {pair}: the stack has no model {new}: it has {', '.join(listed)}.")
        if mapping.setdefault(old, new) != new:
            raise UserError(f"--map {pair}: {old} is to become {mapping[old]} too: name it once.")
    return mapping


def _print(rows: Mapping[Row, int], mapping: Mapping[str, str], listed: Sequence[str]) -> None:
    """All but what is right already."""
    shown = [(row, count) for row, count in sorted(rows.items()) if row.name not in listed]
    if not shown:
        return
    titles = ("collection", "field", "stored name", "new name", "entries")
    table = Table(*(Column(title, overflow="fold") for title in titles), box=None)
    for row, count in shown:
        new = Text(mapping[row.name]) if row.name in mapping else Text("unknown", "yellow")
        # users chose these: what is no letter must not reach the terminal
        name = row.name if row.name.isprintable() else repr(row.name)
        table.add_row(row.collection, row.field, Text(name), new, str(count))
    show(table)


def _total(rows: Mapping[Row, int]) -> int:
    return sum(rows.values())
