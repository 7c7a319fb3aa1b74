"""Room on a volume: which catalogs were applied there, and which files may go when others are to come.

Lies beside fetch_model.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from model_files import MARKER, PART, marker_of, write_whole
from model_record import Failure, amount

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from pathlib import Path

RESERVE_BYTES = 64 * 2**20
"""What stays free: a file system that is full to its end is slow, and our markers need some."""
_KEPT_FOR_ROLLBACK = 2
_REMEMBERED = 16  # what left the catalog goes in the order in which it was last applied


class _Spare(NamedTuple):
    """One file under all its names."""

    last_used: float
    size: int
    links: int
    names: list[Path]


class Space:
    """A volume's room. Files leave it only when there is too little, and never those that are needed."""

    def __init__(self, root: Path, manifest: Iterable[Path]) -> None:
        self._root = root.resolve()
        self._applied = self._root / "applied.json"
        self._manifest = set(manifest)

    def add(self, paths: Iterable[Path]) -> None:
        """Files that turned out to belong to this run's catalog."""
        self._manifest.update(paths)

    def make(self, needed: int, name: str) -> None:
        """See that so many bytes fit, beside the reserve; Failure, with nothing deleted, where they cannot."""
        free = shutil.disk_usage(self._root).free
        short = needed + RESERVE_BYTES - free
        if needed <= 0 or short <= 0:
            return
        spare = self._spare()
        if (gone := sum(it.size for it in spare)) < short:
            raise Failure(
                f"{amount(needed)} are to come and {amount(RESERVE_BYTES)} must stay free, and the volume has "
                f"{amount(free)} free and {amount(gone)} that nothing needs: raise storage.size_gib, "
                f"or delete old models below {self._root / 'files'}"
            )
        for it in spare:
            if short <= 0:
                break
            for path in it.names:
                print(f"{name}: {path} makes room: {amount(it.size)} that no catalog has needed lately")
                path.unlink(missing_ok=True)
                marker_of(path).unlink(missing_ok=True)
                self._drop_empty(path.parent)
            short -= it.size

    def adopt(self) -> None:
        """On a volume of an earlier layout, keep in mind what is linked before anything is linked anew."""
        if not self._applied.exists():
            linked = [link.resolve() for link in (self._root / "weights").rglob("*") if link.is_symlink()]
            served = [path for path in linked if path.is_file() and self._root in path.parents]
            if served:
                self.apply(served)

    def apply(self, paths: Iterable[Path]) -> None:
        """Keep in mind that this catalog is served now: rollback finds its files, and those of the two before."""
        files = sorted({str(path.relative_to(self._root)) for path in paths})
        known = self._catalogs()
        if known and known[-1]["files"] == files:
            return  # a pod that starts again writes nothing: its volume may be full
        others = [it for it in known if it["files"] != files]
        catalogs = [*others, {"applied": time.time(), "files": files}]
        write_whole(self._applied, json.dumps(catalogs[-_REMEMBERED:]))

    def _catalogs(self) -> list[dict[str, Any]]:
        """What was applied here, the last one last."""
        try:
            return [
                {"applied": float(it["applied"]), "files": [str(path) for path in it["files"]]}
                for it in json.loads(self._applied.read_text(encoding="utf-8"))
            ]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return []

    def _needed(self) -> Iterator[Path]:
        """This catalog's files, those of the last two others that were applied, and all that a server may open."""
        yield from self._manifest
        others = [paths for it in self._catalogs() if not (paths := self._paths(it)) <= self._manifest]
        for paths in others[-_KEPT_FOR_ROLLBACK:]:
            yield from paths
        for link in (self._root / "weights").rglob("*"):
            if link.is_symlink():
                yield link.resolve()

    def _paths(self, catalog: dict[str, Any]) -> set[Path]:
        return {self._root / path for path in catalog["files"]}

    def _spare(self) -> list[_Spare]:
        """What may go, the one that was used longest ago first; several names of one file go together or not at all."""
        needed = {_identity(path.stat()) for path in self._needed() if path.exists()}
        used = {path: it["applied"] for it in self._catalogs() for path in self._paths(it)}
        found: dict[tuple[int, int], _Spare] = {}
        for path in self._files():
            with suppress(FileNotFoundError):  # another pod has just put it in place
                stat = path.stat()
                if _identity(stat) not in needed and not _is_locked(path):
                    before = found.get(_identity(stat), _Spare(0, stat.st_size, stat.st_nlink, []))
                    last_used = max(before.last_used, used.get(path, stat.st_mtime))
                    names = [*before.names, path]
                    found[_identity(stat)] = before._replace(last_used=last_used, names=names)
        return sorted(it for it in found.values() if it.size and it.links == len(it.names))

    def _files(self) -> Iterator[Path]:
        for folder in ("files", "parts"):
            for path in sorted((self._root / folder).rglob("*")):
                if path.is_file() and not path.is_symlink() and path.suffix not in {MARKER, ".json"}:
                    yield path

    def _drop_empty(self, folder: Path) -> None:
        with suppress(OSError):  # until one is not empty
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _is_locked(path: Path) -> bool:
    """Whether another pod is downloading it right now."""
    if path.suffix != PART:
        return False
    with path.open("rb") as content:
        try:
            fcntl.flock(content, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
