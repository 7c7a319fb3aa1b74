"""One file of a model on a volume: its marker, its digest, and the part of it that has come so far.

Lies beside fetch_model.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING

from model_record import amount

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from model_record import File

_CHUNK = 2**20
MARKER, PART, NEW = ".verified", ".part", ".new"


def is_right(path: Path, file: File) -> bool:
    """Whether the file is there, whole and what it should be; it is read only where no marker tells."""
    return is_whole(path, file) and (file.sha256 is None or file.sha256 == digest_of(path))


def is_whole(path: Path, file: File) -> bool:
    """Whether the file is there with its size, whatever it holds."""
    return path.is_file() and path.stat().st_size == file.size


def digest_of(path: Path) -> str:
    """A file's SHA-256, as its marker has it; one without a marker is read, and marked."""
    stat = path.stat()
    return _marked(path, stat) or _read(path, stat)


def mark(path: Path, stat: os.stat_result, sha256: str) -> None:
    """Keep the digest of a file, good as long as its size and modification time stay."""
    marker = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
    write_whole(marker_of(path), json.dumps(marker))


def marker_of(path: Path) -> Path:
    """Where a file's marker lies."""
    return path.with_name(path.name + MARKER)


def write_whole(path: Path, text: str) -> None:
    """Put a small file in place, whole or not at all."""
    new = path.with_name(f".{path.name}.{token_hex(4)}{NEW}")  # two pods may do this at once
    with new.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _marked(path: Path, stat: os.stat_result) -> str | None:
    try:
        marker = json.loads(marker_of(path).read_text(encoding="utf-8"))
        holds = (marker["bytes"], marker["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
        return str(marker["sha256"]) if holds else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path, stat: os.stat_result) -> str:
    print(f"{path}: no marker tells its digest: its {amount(stat.st_size)} are read once")
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    with suppress(OSError):  # on a full volume it is read again the next time
        mark(path, stat, digest.hexdigest())
    return digest.hexdigest()


class Part:
    """What has come of a file so far, locked against other pods while it is open; its digest grows with it."""

    def __init__(self, path: Path, file: File) -> None:
        self.file, self.size = file, 0
        self._path, self._digest = path, hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._content = path.open("a+b", buffering=0)
        if not self._is_ours():
            self._content.close()
            raise ConnectionError(f"another pod is downloading {file.path}")

    def _is_ours(self) -> bool:
        """Whether no other pod has it, or has just put it in place: then its name is gone, or another file's."""
        try:
            fcntl.flock(self._content, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.fstat(self._content.fileno()).st_ino == self._path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()

    def read(self) -> None:
        """Take up what an earlier run left."""
        self._content.seek(0)
        while chunk := self._content.read(_CHUNK):
            self._digest.update(chunk)
            self.size += len(chunk)
        if self.size > self.file.size:
            self.empty()

    def write(self, chunk: bytes) -> None:
        """Append what came."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._content.write(rest) :]
        self._digest.update(chunk)
        self.size += len(chunk)

    def empty(self) -> None:
        """Throw away what came."""
        self._content.truncate(0)
        self._digest, self.size = hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        """Of what is here."""
        return self._digest.hexdigest()

    def put(self, target: Path) -> None:
        """Put the whole file in its place, marked: under its own name it is never half there."""
        os.fsync(self._content.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        mark(target, os.fstat(self._content.fileno()), self.sha256)
        self._path.replace(target)
        sync_folder(target.parent)

    def drop(self) -> None:
        """Away with it: another pod has brought the file."""
        self._path.unlink()


def part_size(path: Path) -> int:
    """How much of a file is here already."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
