"""One repository of the hub: its files, their digests, its commit and who may read it."""

import hashlib
import hmac
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from local.hub.faults import Faults

_GATE = ".hub.json"
_DIGESTS = ".hub-digests.json"
_LFS_SUFFIXES = {".gguf", ".safetensors", ".bin"}
_LFS_BYTES = 10 * 2**20
_digesting = threading.Lock()  # two first requests for one big file read it once


class Digest(NamedTuple):
    """A file's digests, good as long as its size and modification time stay."""

    size: int
    mtime_ns: int
    sha256: str
    blob: str
    """git's object id of the file's content."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One file as the hub's API tells of it."""

    path: str
    """With slashes, relative to the repository."""
    local: Path
    digest: Digest

    @property
    def size(self) -> int:
        """Bytes."""
        return self.digest.size

    @property
    def lfs(self) -> bool:
        """Whether git would hold only a pointer to it: model files, and whatever is large."""
        return self.local.suffix in _LFS_SUFFIXES or self.size >= _LFS_BYTES

    @property
    def etag(self) -> str:
        """SHA-256 of an LFS file, else git's object id: as the Hugging Face hub does."""
        return self.digest.sha256 if self.lfs else self.digest.blob

    @property
    def pointer(self) -> bytes:
        """What git itself holds of an LFS file."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.digest.sha256}\nsize {self.size}\n".encode()
        )

    @property
    def oid(self) -> str:
        """Object id in git: of the pointer, where the file is an LFS one."""
        if not self.lfs:
            return self.digest.blob
        return hashlib.sha1(_blob_header(len(self.pointer)) + self.pointer, usedforsecurity=False).hexdigest()


class Repo:
    """The files below `<root>/<owner>/<name>`, hidden ones left out."""

    def __init__(self, root: Path, repo_id: str) -> None:
        self.id = repo_id
        self._directory = root / repo_id
        self._gate = self._read_json(_GATE)

    @staticmethod
    def find(root: Path, owner: str, name: str) -> "Repo | None":
        """The repository of that name, if there is one."""
        plain = re.compile(r"\w[\w.-]*")  # no way out of the root, no hidden directory
        if not plain.fullmatch(owner) or not plain.fullmatch(name):
            return None
        return Repo(root, f"{owner}/{name}") if (root / owner / name).is_dir() else None

    @property
    def gated(self) -> bool:
        """Whether its files are for a token's owner only."""
        return bool(self._gate.get("gated"))

    def admits(self, token: str | None) -> bool:
        """Whether the token opens its files. A gate without a token's hash opens to nobody."""
        if not self.gated:
            return True
        given = hashlib.sha256((token or "").encode()).hexdigest()
        return token is not None and hmac.compare_digest(given, str(self._gate.get("token_sha256", "")))

    @property
    def faults(self) -> Faults:
        """What its downloads suffer from."""
        return Faults(**self._gate.get("faults", {}))

    def files(self) -> list[File]:
        """All files in order of path; digests come from the sidecar unless a file has changed."""
        with _digesting:
            known = {path: Digest(*entry) for path, entry in self._read_json(_DIGESTS).items()}
            found = {
                path.relative_to(self._directory).as_posix(): path
                for path in sorted(self._directory.rglob("*"))
                if path.is_file() and not any(p.startswith(".") for p in path.relative_to(self._directory).parts)
            }
            digests = {name: _digest(path, known.get(name)) for name, path in found.items()}
            if digests != known:
                self._write_sidecar(digests)
        return [File(path=name, local=path, digest=digests[name]) for name, path in found.items()]

    @staticmethod
    def commit(files: list[File]) -> str:
        """A commit id that changes exactly when a name, a size or a content does."""
        listing = "".join(f"{file.path}\0{file.size}\0{file.digest.sha256}\n" for file in files)
        return hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return cast("dict[str, Any]", json.loads((self._directory / name).read_text()))
        except FileNotFoundError:
            return {}

    def _write_sidecar(self, digests: dict[str, Digest]) -> None:
        part = self._directory / f"{_DIGESTS}.part"
        try:
            part.write_text(json.dumps(digests))
            part.replace(self._directory / _DIGESTS)
        except OSError:  # a hub on a read-only directory only starts slower
            return


def _blob_header(size: int) -> bytes:
    return b"blob %d\0" % size


def _digest(path: Path, known: Digest | None) -> Digest:
    stat = path.stat()
    if known and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
        return known
    sha256, blob = hashlib.sha256(), hashlib.sha1(_blob_header(stat.st_size), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            sha256.update(chunk)
            blob.update(chunk)
    return Digest(stat.st_size, stat.st_mtime_ns, sha256.hexdigest(), blob.hexdigest())
