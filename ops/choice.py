"""Which update a rollback goes back to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from config.errors import UserError
from ops.history import Record
from ops.worktree import Checkout

_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What stands, and what is to stand."""

    stands: Record
    since: tuple[Record, ...]
    """What was tried after it, and did not come to stand."""
    target: Record
    passed_over: tuple[tuple[Record, str], ...] = ()
    """What is newer than the target and cannot be restored, each with the reason."""


def choose(records: Sequence[Record], checkout: Checkout, to: str | None) -> Choice:
    """The update to go back to: the last sound one before what stands that applied something else, or the one at `to`.

    `to` is a commit, or a time: what stood then. A rollback stands for the update that it went back to, so that a
    second one goes one further. UserError where there is none.
    """
    now = standing(records)
    if now is None:
        raise UserError("Nothing has changed this stack yet: bring it up with `make up` first.")
    since = tuple(records[now + 1 :])
    if to:
        return Choice(stands=records[now], since=since, target=_at(records, checkout, to))
    passed_over: list[tuple[Record, str]] = []
    for record in reversed(records[: _origin(records, now)]):
        if not record.succeeded or record.kind != "update" or record.same_as(records[now]):
            continue
        reason = obstacle(record, checkout)
        if reason is None:
            return Choice(stands=records[now], since=since, target=record, passed_over=tuple(passed_over))
        passed_over.append((record, reason))
    told = "".join(f"\n  {local_time(record.ended)} {record.short}: {reason}" for record, reason in passed_over)
    raise UserError(
        "There is no older update to roll back to: correct the stack file and run `make up`, or go back a phase."
        f"{f' Passed over:{told}' if told else ''}"
    )


def standing(records: Sequence[Record]) -> int | None:
    """The newest update that may have changed anything; a rollback that failed is to be tried again, so it is none."""
    for index in range(len(records) - 1, -1, -1):
        record = records[index]
        if record.touched and (record.succeeded or record.back_to is None):
            return index
    return None


def obstacle(record: Record, checkout: Checkout) -> str | None:
    """Why an update is none to go back to; None where it is one. UserError where this clone lacks its commit."""
    if record.kind != "update":
        return f"it is a {record.kind}"
    if not record.succeeded:
        return "it failed" if record.result == "failed" else f"it is {record.result}"
    if not record.paired:
        return "its record is incomplete: it was cut off"
    if record.commit is None:
        return "it was run outside of a git checkout"
    if record.dirty and not checkout.explains(record):
        return "its checkout had changes that no commit holds"
    return None


def local_time(moment: datetime) -> str:
    """A time as this machine's clock shows it, and as TO takes it."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _origin(records: Sequence[Record], index: int) -> int:
    """The update that a record stands for: of a rollback, and of one to a rollback, the one that it went back to."""
    while back_to := records[index].back_to:
        earlier = [it for it in range(index) if records[it].ended == back_to and records[it].succeeded]
        if not earlier:
            break
        index = earlier[-1]
    return index


def _at(records: Sequence[Record], checkout: Checkout, to: str) -> Record:
    """The update that `to` names, be it what stands: never another one in its place."""
    if _COMMIT.fullmatch(to):
        found = [record for record in records if (record.commit or "").startswith(to) and record.succeeded]
        if len({record.commit for record in found}) > 1:
            raise UserError(f"TO={to}: several commits begin so: write more of it.")
    else:
        moment = _moment(to)
        found = [record for record in records if record.ended <= moment and record.succeeded]
    if not found:
        raise UserError(f"TO={to}: no update of this stack had succeeded there: `make history` lists them.")
    record = found[-1]
    if reason := obstacle(record, checkout):
        raise UserError(f"TO={to}: {local_time(record.ended)} {record.short}: {reason}: `make history` lists others.")
    return record


def _moment(to: str) -> datetime:
    try:
        return datetime.fromisoformat(to).astimezone()
    except ValueError:
        raise UserError(
            f"TO={to}: write a commit (7 to 40 of 0-9a-f) or a time, such as 2026-01-31 18:00:00 (this machine's clock)"
            " or 2026-01-31T17:00:00Z."
        ) from None
