"""Model names that LibreChat has stored, of one endpoint: found, renamed, and put back.

The fields are those of LibreChat's own schemas (npm's @librechat/data-schemas 0.0.71). docs/rename.md says which others
hold a model's name, and why they are left alone.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from bson import json_util
from bson.errors import BSONError
from pydantic import TypeAdapter

from config.errors import UserError
from ops.mongo import Store

BATCH = 1000
"""Documents that one update names."""

Collection = Literal["conversations", "presets", "agents", "users"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Fields that hold a model's name, beside the one that says of which endpoint it is."""

    collection: Collection
    array: str = ""
    """The list that all of them stand in; empty where they are the document's own."""
    owner: str
    names: tuple[str, ...]


PLACES = (
    Place(collection="conversations", owner="endpoint", names=("model",)),
    Place(collection="presets", owner="endpoint", names=("model",)),
    Place(collection="agents", owner="provider", names=("model", "model_parameters.model")),
    # going back to a version makes it the agent's own state again, its model with it
    Place(collection="agents", array="versions", owner="provider", names=("model", "model_parameters.model")),
    Place(collection="users", array="favorites", owner="endpoint", names=("model",)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One value of one document; a line of the undo file."""

    collection: Collection
    id: Any
    path: str
    """Where it stands, list positions included: `versions.3.model`."""
    owner: str
    """Where the endpoint's name stands; empty where the value holds it itself."""
    endpoint: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A model's name where it was found."""

    name: str
    change: Change
    """One that changes nothing yet."""

    @property
    def row(self) -> "Row":
        """What it is counted as."""
        return Row(self.change.collection, re.sub(r"\.\d+", "[]", self.change.path), self.name)

    def renamed(self, new: str) -> Change:
        """The change that gives it another name."""
        return replace(self.change, after=self.change.before.removesuffix(self.name) + new)


@dataclass(frozen=True, order=True)
class Row:
    """One line of a report."""

    collection: str
    field: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """How many entries hold which name."""

    found: Mapping[Row, int]
    """Every name of the endpoint, as it was before."""
    changed: int
    """Values that were written."""
    left: Mapping[Row, int]
    """Entries with a name that the mapping has, as it is now."""


def rename(database: Store, mapping: Mapping[str, str], endpoint: str, undo_file: Path | None = None) -> Report:
    """Rename what is stored of an endpoint by `mapping`, old name to new; a dry run without `undo_file`.

    The undo file is written whole before anything is changed. A second run finds nothing to change. UserError where
    that file cannot be written.
    """
    stored = list(_stored(database, endpoint))
    found = Counter(entry.row for entry in stored)
    changes = [entry.renamed(mapping[entry.name]) for entry in stored if entry.name in mapping]
    changed = 0
    if undo_file and changes:
        _write(undo_file, changes)
        changed = _change(database, changes)
        stored = list(_stored(database, endpoint))
    left = Counter(entry.row for entry in stored if entry.name in mapping)
    return Report(found=found, changed=changed, left=left)


def put_back(database: Store, undo_file: Path) -> tuple[int, int]:
    """Put back what an undo file tells; returns how many values of how many.

    A value that is no longer what the renaming made of it stays as it is.
    """
    changes = _read(undo_file)
    backwards = [replace(change, before=change.after, after=change.before) for change in changes]
    return _change(database, backwards), len(changes)


def _stored(database: Store, endpoint: str) -> Iterator[Stored]:
    for place in PLACES:
        owner = f"{place.array}.{place.owner}" if place.array else place.owner
        # a list comes whole: MongoDB leaves out what is no document, and every position after it would be wrong
        fields = [place.array] if place.array else [place.owner, *place.names]
        for document in database[place.collection].find({owner: endpoint}, fields):
            yield from _entries(place, document, endpoint)
    yield from _pinned(database, endpoint)


def _entries(place: Place, document: dict[str, Any], endpoint: str) -> Iterator[Stored]:
    items: list[tuple[str, object]] = [("", document)]
    if place.array:
        items = [(f"{place.array}.{i}.", item) for i, item in enumerate(document[place.array])]
    for prefix, item in items:
        if _value(item, place.owner) != endpoint:
            continue
        for field in place.names:
            name = _value(item, field)
            if isinstance(name, str):
                yield Stored(
                    name=name,
                    change=Change(
                        collection=place.collection,
                        id=document["_id"],
                        path=prefix + field,
                        owner=prefix + place.owner,
                        endpoint=endpoint,
                        before=name,
                        after=name,
                    ),
                )


def _pinned(database: Store, endpoint: str) -> Iterator[Stored]:
    """The order of a user's pinned entries: `model:<endpoint>::<name>` is one of them."""
    start = f"model:{endpoint}::"
    for user in database["users"].find({"pinnedOrder": {"$regex": "^model:"}}, ["pinnedOrder"]):
        for i, key in enumerate(user["pinnedOrder"]):
            if isinstance(key, str) and key.startswith(start):
                change = Change(
                    collection="users",
                    id=user["_id"],
                    path=f"pinnedOrder.{i}",
                    owner="",
                    endpoint=endpoint,
                    before=key,
                    after=key,
                )
                yield Stored(name=key.removeprefix(start), change=change)


def _value(item: object, path: str) -> object:
    for part in path.split("."):
        item = cast("dict[str, object]", item).get(part) if isinstance(item, dict) else None
    return item


def _change(database: Store, changes: Sequence[Change]) -> int:
    """Write each value that still is as it was found; returns how many were."""
    groups: dict[Change, list[Any]] = defaultdict(list)
    for change in changes:
        groups[replace(change, id=None)].append(change.id)
    written = 0
    for group, ids in groups.items():
        same = {group.path: group.before} | ({group.owner: group.endpoint} if group.owner else {})
        for start in range(0, len(ids), BATCH):
            some = {"_id": {"$in": ids[start : start + BATCH]}}
            update = {"$set": {group.path: group.after}}
            # LibreChat's `updatedAt` stays: lists that are sorted by it keep their order
            written += database[group.collection].update_many(some | same, update).modified_count
    return written


def _write(file: Path, changes: Sequence[Change]) -> None:
    try:
        # ids of users and of their chats: for its owner alone
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as lines:
            lines.writelines(json_util.dumps(asdict(change)) + "\n" for change in changes)
            lines.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror}): nothing is changed.") from None


def _read(file: Path) -> list[Change]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}): name the file that --apply wrote.") from None
    return [_read_line(file, number, line) for number, line in enumerate(lines, 1)]


def _read_line(file: Path, number: int, line: bytes) -> Change:
    try:
        return TypeAdapter(Change).validate_python(json_util.loads(line))
    except (ValueError, TypeError, BSONError):
        raise UserError(f"{file}: line {number} is none of an undo file's: name the one that --apply wrote.") from None
