"""What fetch_model.py is told: the models of one volume, their files as the lock has them, and their hub.

Lies beside fetch_model.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = re.compile(r"[0-9a-f]{40,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Failure(Exception):  # noqa: N818 - it is the verdict, not a fault of the script
    """One line: what is wrong and what to do."""


class Terminated(BaseException):
    """Kubernetes ends the pod; what was going on, and what to do, on one line."""


class File(NamedTuple):
    """One file of a repository at a commit; the hub knows no SHA-256 of what git itself holds."""

    path: str
    size: int
    sha256: str | None = None

    @property
    def inside(self) -> bool:
        """Whether its path stays inside the repository's folder."""
        return not {"", "..", "/"} & {*PurePosixPath(self.path).parts} and bool(self.path)


class Wanted(NamedTuple):
    """One model: its triple, what the lock says that it means, and the path that the server will open."""

    name: str
    repo: str
    quant: str
    filename: str | None
    revision: str
    model_path: str
    deadline_seconds: float
    commit: str | None
    """None, as `files` is empty, where the lock knows nothing of it: the hub is asked then."""
    files: list[File]

    @property
    def triple(self) -> list[str | None]:
        """What decides which files are meant where no lock does."""
        return [self.repo, self.quant, self.filename, self.revision]


class Record(NamedTuple):
    """The models of one volume, the hub that has them, and how long a run over all of them may take."""

    endpoint: str
    deadline_seconds: float
    models: list[Wanted]

    @staticmethod
    def read(config: Path) -> Record:
        """The record that the ConfigMap holds; ValueError, KeyError or TypeError where it is not one."""
        record = json.loads(config.read_text(encoding="utf-8"))
        return Record(record["endpoint"], record["deadline_seconds"], [_wanted(model) for model in record["models"]])


def _wanted(model: dict[str, Any]) -> Wanted:
    files = [File(file["path"], int(file["bytes"]), file["sha256"]) for file in model["files"]]
    wanted = Wanted(**{field: model[field] for field in Wanted._fields if field != "files"}, files=files)
    sound = all(file.inside and _SHA256.fullmatch(file.sha256 or "") for file in files)
    if bool(files) != bool(COMMIT.fullmatch(wanted.commit or "")) or not sound:
        raise ValueError(f"{wanted.name} has no commit and files as the lock has them")
    return wanted


def amount(size: float) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"  # noqa: PLR2004 - where megabytes get long
