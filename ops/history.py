"""Pulumi's own history of a stack: what was applied when, of which commit, with which config."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from config.errors import UserError
from config.model import NAMESPACE

CHANGES = {"update", "destroy"}
"""The kinds of operation after which something else may stand: refreshes and imports touch the state alone."""
NO_CHANGE = {"same", "read", "refresh"}
SHORT = 7
"""Letters of a commit, as people quote it."""
_BACK_TO = re.compile(r"rollback to \S+ of (\S+)")
_RECORD = re.compile(r"(.+)\.history\.json(?:\.gz|\.zst)?")
_CHECKPOINT = re.compile(r"(.+)\.checkpoint\.json(?:\.gz|\.zst)?")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One entry of the history; its times are UTC, and whole seconds."""

    kind: str
    result: str
    message: str
    started: datetime
    ended: datetime
    commit: str | None
    """The checkout's commit; None where it was run outside of one."""
    dirty: bool
    """Whether the checkout had a change, or a file, that this commit lacks: Pulumi keeps one flag for all of it."""
    config: Mapping[str, JsonValue]
    """All plain values by full key, a scalar as text; the project's defaults are among them."""
    secrets: frozenset[str]
    """The keys whose values are encrypted: these are never read."""
    counts: Mapping[str, int]
    """How many resources went through each operation; a step that failed is not counted."""
    paired: bool = True
    """False where the state that it left does not lie beside it: the update was cut off at its very end."""

    @property
    def succeeded(self) -> bool:
        """Whether all that it wanted stands."""
        return self.result == "succeeded"

    @property
    def touched(self) -> bool:
        """Whether it may have changed anything; a program that ends before its first resource has not.

        Pulumi counts the stack itself as one that stayed the same; a step that failed may have changed something.
        """
        others = sum(count for operation, count in self.counts.items() if operation not in NO_CHANGE)
        return self.succeeded or others > 0 or self.counts.get("same", 0) > 1

    @property
    def short(self) -> str:
        """The commit as people quote it."""
        return self.commit[:SHORT] if self.commit else "(none)"

    @property
    def back_to(self) -> datetime | None:
        """Of a rollback, when the update that it restores had ended."""
        found = _BACK_TO.fullmatch(self.message)
        return datetime.fromisoformat(found[1]) if found else None

    def same_as(self, other: "Record") -> bool:
        """Whether both applied the same; what is encrypted is not compared."""
        ours, theirs = (
            (record.kind, record.commit, record.dirty, record.config, record.secrets) for record in (self, other)
        )
        return ours == theirs


def rollback_message(record: Record) -> str:
    """What a rollback is called in the history: the next one reads there what it went back to."""
    return f"rollback to {record.short} of {record.ended:%Y-%m-%dT%H:%M:%SZ}"


def read_history(stack: str, folder: Path) -> list[Record]:
    """Every update and destroy of the stack, the oldest first; `folder` is the Pulumi project's.

    UserError where the backend does not answer, or has no such stack.
    """
    unpaired = _unpaired(stack, folder)
    listed: list[dict[str, Any]] = json.loads(
        ask_pulumi(folder, "stack", "history", "--json", "--page-size", "0", "--stack", stack)
    )
    # from the oldest on, both lists are in order: one that came after the look at the files moves no other
    return [
        _record(entry, paired=index not in unpaired)
        for index, entry in enumerate(reversed(listed))
        if entry["kind"] in CHANGES
    ]


def ask_pulumi(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    """What a Pulumi command prints; UserError with its complaint where it fails."""
    done = subprocess.run(
        ["pulumi", *arguments], cwd=folder, input=stdin or "", capture_output=True, text=True, check=False
    )
    if done.returncode:
        complaint = " ".join(done.stderr.split()).removeprefix("error: ")
        words = " ".join(word for word in arguments[:2] if not word.startswith("-"))
        raise UserError(
            f"pulumi {words} failed: look at PULUMI_BACKEND_URL, at what its backend and the passphrase ask for, and at"
            f" the stack's name: {complaint}"
        )
    return done.stdout


@cache
def backend_folder(folder: Path) -> Path | None:
    """Where a `file://` backend keeps the state; None for every other one."""
    address = urlsplit(str(json.loads(ask_pulumi(folder, "whoami", "--json"))["url"]))
    if address.scheme != "file":
        return None
    return (folder / Path(unquote(address.netloc + address.path)).expanduser()).resolve()


def _unpaired(stack: str, folder: Path) -> set[int]:
    """Which records, counted from the oldest, have no state beside them; only a folder's files can tell."""
    backend = backend_folder(folder)
    place = backend / ".pulumi" / "history" / NAMESPACE / stack if backend else None
    if place is None or not place.is_dir():
        return set()
    names = [path.name for path in place.iterdir()]
    states = {found[1] for found in map(_CHECKPOINT.fullmatch, names) if found}
    records = sorted(found[1] for found in map(_RECORD.fullmatch, names) if found)
    return {index for index, record in enumerate(records) if record not in states}


def _record(entry: Mapping[str, Any], *, paired: bool) -> Record:
    environment: dict[str, str] = entry["environment"]
    config: dict[str, dict[str, Any]] = entry["config"]
    started = _time(entry["startTime"])
    return Record(
        kind=entry["kind"],
        # one without an end is at work, or its backend lost sight of it
        result=entry.get("result") or "in-progress",
        message=entry["message"],
        started=started,
        ended=_time(entry["endTime"]) if "endTime" in entry else started,
        commit=environment.get("git.head"),
        dirty=environment.get("git.dirty") == "true",
        config={
            key: value["objectValue"] if "objectValue" in value else value.get("value", "")
            for key, value in config.items()
            if not value["secret"]
        },
        secrets=frozenset(key for key, value in config.items() if value["secret"]),
        counts=entry.get("resourceChanges") or {},
        paired=paired,
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
