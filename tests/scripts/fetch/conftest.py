"""A pod's view of the fetch script, and a hub in memory that remembers what it was asked for."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from components.scripts import fetch_model

Reply = tuple[int, dict[str, str], bytes | Iterator[bytes]]
Answer = Callable[[str, dict[str, str], bytes], Reply]
Serve = Callable[[Answer], str]
Spoil = Callable[[int, dict[str, str], bytes], Reply]
SCRIPT = Path(fetch_model.__file__)
REPO = "acme/tiny-GGUF"
MODEL, SMALL = "tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf"
CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT, LATER = "0123456789" * 4, "abcdef0123" * 4
NOWHERE = "http://127.0.0.1:1"


def plain(status: int, headers: dict[str, str], body: bytes) -> Reply:
    """An answer as it is."""
    return status, headers, body


class Shelf:
    """A hub of one repository: its files by commit; `spoil` may change each answer to a download."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.commits = {COMMIT: files}
        self.asked: list[str] = []
        """`listing`, or a file's name and the byte from which on it was wanted."""
        self.spoil: Spoil = plain

    @property
    def files(self) -> dict[str, bytes]:
        """At the commit that `main` is."""
        return list(self.commits.values())[-1]

    def __call__(self, path: str, headers: dict[str, str], _body: bytes) -> Reply:
        parts = urlsplit(path).path.split("/")
        if parts[1] == "api":
            self.asked.append("listing")
            return 200, {}, json.dumps({"sha": list(self.commits)[-1], "siblings": self._siblings()}).encode()
        commit, name = parts[4], "/".join(parts[5:])
        start = int(headers["range"].removeprefix("bytes=").removesuffix("-"))
        self.asked.append(f"{name} {start}")
        if name not in self.commits.get(commit, {}):
            return 404, {"X-Error-Code": "EntryNotFound" if commit in self.commits else "RevisionNotFound"}, b""
        content = self.commits[commit][name]
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.spoil(206, {"Content-Range": span}, content[start:])

    def _siblings(self) -> list[dict[str, Any]]:
        return [
            {"rfilename": name, "size": len(content), "lfs": {"sha256": hashlib.sha256(content).hexdigest()}}
            for name, content in self.files.items()
        ]


class Pod:
    """A pod's view: its ConfigMap, its volume, its termination message."""

    def __init__(self, directory: Path, endpoint: str) -> None:
        self.models = directory / "models"
        self.models.mkdir(parents=True)
        self.weights = self.models / "weights"
        self.config = directory / "models.json"
        self.log = directory / "termination-log"
        self.model: dict[str, Any] = {
            "name": "Tiny",
            "repo": REPO,
            "quant": "Q4_K_M",
            "filename": None,
            "revision": "main",
            "model_path": str(self.weights / "model.gguf"),
            "deadline_seconds": 60,
            "commit": None,
            "files": [],
        }
        self.record: dict[str, Any] = {"endpoint": endpoint, "deadline_seconds": 20, "models": [self.model]}

    def add(self, name: str, **changes: object) -> dict[str, Any]:
        """One more model, with a folder of its own; the first one makes the volume a pool's."""
        model = {**self.model, "name": name, "model_path": str(self.weights / name / "model.gguf"), **changes}
        self.record["models"] = [*(other for other in self.record["models"] if other is not self.model), model]
        return model

    def command(self, action: str) -> list[str]:
        self.config.write_text(json.dumps(self.record))
        files = ["--config", str(self.config), "--models", str(self.models), "--termination-log", str(self.log)]
        return [action, *files]

    def run(self, action: str, **changes: object) -> str:
        """What the script leaves as its termination message: empty where all went well."""
        for key, value in changes.items():
            (self.record if key in {"endpoint", "deadline_seconds"} else self.model)[key] = value
        self.log.unlink(missing_ok=True)
        status = fetch_model.main(self.command(action))
        verdict = self.log.read_text() if self.log.exists() else ""
        assert status == (1 if verdict else 0)
        assert "\n" not in verdict
        return verdict

    @contextmanager
    def running(self, action: str) -> Generator[subprocess.Popen[bytes]]:
        """The script as a process, as in a pod."""
        command = [sys.executable, str(SCRIPT), *self.command(action)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            yield process

    def path(self, name: str = MODEL, commit: str = COMMIT) -> Path:
        """Where a file of a model lies."""
        return self.models / "files" / REPO / commit / name

    def files(self) -> dict[str, bytes]:
        """Files of models on the volume, by their path in the repository."""
        root = self.models / "files" / REPO
        return {"/".join(path.relative_to(root).parts[1:]): path.read_bytes() for path in root.rglob("*.gguf")}

    def parts(self) -> list[bytes]:
        """What has come of files that are not whole."""
        return [path.read_bytes() for path in (self.models / "parts").iterdir()]

    def leave_part(self, content: bytes, sha256: str = SHA256) -> None:
        """What an earlier run might have left of a file."""
        path = self.models / "parts" / f"{sha256}.part"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    def links(self) -> dict[str, bytes]:
        """What a server would read, by its path below the weights."""
        return {str(path.relative_to(self.weights)): path.read_bytes() for path in self.weights.rglob("*.gguf")}


def locked(files: dict[str, bytes], *names: str, commit: str = COMMIT) -> dict[str, Any]:
    """What a record says of a model whose files the lock has."""
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in names}
    listed = [{"path": name, "bytes": len(files[name]), "sha256": digest} for name, digest in digests.items()]
    return {"commit": commit, "files": listed}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf({MODEL: CONTENT, SMALL: b"q8"})


@pytest.fixture
def pod(tmp_path: Path, serve: Serve, shelf: Shelf) -> Pod:
    """One whose model the lock has."""
    made = Pod(tmp_path / "pod", serve(shelf))
    made.model |= locked(shelf.files, MODEL)
    return made


@pytest.fixture
def unlocked(pod: Pod) -> Pod:
    """One whose model the lock does not know."""
    pod.model |= {"commit": None, "files": []}
    return pod


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made
