"""A stack's updates as a table: what each changed, and whether a rollback can go there."""

from collections.abc import Sequence

from rich.table import Column, Table
from rich.text import Text

from local.console import say
from ops.changes import changed, phase
from ops.choice import local_time, obstacle, standing
from ops.history import Record, read_history
from ops.hold import read_hold
from ops.table import show
from ops.worktree import Checkout

TITLES = ("ended", "took", "result", "phase", "commit", "what changed", "rollback")


def show_history(stack: str, checkout: Checkout, last: int) -> None:
    """The newest updates of a stack, the newest first, and who holds it."""
    print_updates(read_history(stack, checkout.folder), checkout, last)
    if held := read_hold(stack, checkout.folder):
        say(f"stack {stack} is held: {held}; `make resume STACK={stack}` lifts the hold")


def print_updates(records: Sequence[Record], checkout: Checkout, last: int) -> None:
    """The table, on stdout; what is long wraps."""
    table = Table(*(Column(title, overflow="fold") for title in TITLES), box=None)
    now = standing(records)
    for index in reversed(range(len(records))[-last:]):
        record = records[index]
        before = next((it for it in reversed(records[:index]) if it.succeeded), None)
        table.add_row(
            local_time(record.ended),
            f"{(record.ended - record.started).total_seconds():.0f} s",
            Text(record.result, "green" if record.succeeded else "red"),
            phase(record.config) if record.kind == "update" else "",
            record.short,
            Text(_told(before, record)),
            Text("stands" if index == now else _verdict(record, checkout)),
        )
    show(table)
    if len(records) > last:
        say(f"{len(records) - last} older ones are left out: LAST={len(records)} (--last) shows all")


def _told(before: Record | None, record: Record) -> str:
    if record.kind != "update":
        return record.kind
    if not record.touched:
        return "nothing: it ended before its first resource"
    said = [record.message] if record.back_to else []
    told = "; ".join([*said, *changed(before.config if before else {}, record.config)])
    again = before and before.commit == record.commit
    return told or ("nothing: applied again" if again else "the program alone")


def _verdict(record: Record, checkout: Checkout) -> str:
    if record.commit and not checkout.has(record.commit):
        return "no: this clone lacks its commit"
    if reason := obstacle(record, checkout):
        return f"no: {reason}"
    return "yes, with its changed stack file" if record.dirty else "yes"
