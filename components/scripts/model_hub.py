"""The Hugging Face hub that fetch_model.py downloads from, asked patiently until a deadline.

Lies beside fetch_model.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import errno
import json
import math
import re
import time
from http.client import HTTPException, HTTPResponse
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_T = TypeVar("_T")
COMMIT = re.compile(r"[0-9a-f]{40,64}")
_CHUNK = 2**20
MORE_TIME = "raise startup_seconds; the next run goes on from there"
_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # what may be better in a while
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
_READ_SECONDS = 60
_PROGRESS_SECONDS = 5


class Failure(Exception):  # noqa: N818 - it is the verdict, not a fault of the script
    """One line: what is wrong and what to do."""


class Terminated(BaseException):
    """Kubernetes ends the pod; what was going on, and what to do, on one line."""


class File(NamedTuple):
    """One file of a repository at a commit, as the hub lists it."""

    path: str
    size: int
    sha256: str | None = None


class Wanted(NamedTuple):
    """The model triple, and the path that the server will open."""

    name: str
    repo: str
    quant: str
    filename: str | None
    revision: str
    model_path: str

    @property
    def triple(self) -> list[str | None]:
        """What decides which files are meant."""
        return [self.repo, self.quant, self.filename, self.revision]


class Record(NamedTuple):
    """The models of one volume, the hub that has them, and how long a run over all of them may take."""

    endpoint: str
    deadline_seconds: float
    models: list[Wanted]

    @staticmethod
    def read(config: Path) -> Record:
        """The record that the ConfigMap holds; keys for other readers are left alone."""
        record = json.loads(config.read_text(encoding="utf-8"))
        models = [Wanted(*(model[key] for key in Wanted._fields)) for model in record["models"]]
        return Record(record["endpoint"], record["deadline_seconds"], models)


class _OwnHostOnly(HTTPRedirectHandler):
    """Hands the token on to the hub's own pages, never to the host that stores its files."""

    def redirect_request(self, req: Request, *args: Any, **kwargs: Any) -> Request | None:  # noqa: ANN401 - handed on
        following = super().redirect_request(req, *args, **kwargs)
        token = req.unredirected_hdrs.get("Authorization")
        if following and token and urlsplit(following.full_url)[:2] == urlsplit(req.full_url)[:2]:
            following.add_unredirected_header("Authorization", token)
        return following


class Hub:
    """One repository of a Hugging Face hub at one revision, for one model; patient until a deadline of the clock."""

    def __init__(self, endpoint: str, wanted: Wanted, token: str | None, deadline: float) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._name, self._repo, self._revision = wanted.name, wanted.repo, wanted.revision
        self._token = token
        self._seconds = round(deadline - time.monotonic(), 1)  # what the models before it left
        self._deadline = deadline
        self._opener = build_opener(_OwnHostOnly)
        self._received = 0  # by the action that is patiently tried
        self._file: File | None = None
        self._done = 0

    def open(self, path: str, start: int = 0) -> HTTPResponse:
        """The answer to a GET, from byte `start` on where the hub knows ranges."""
        request = Request(self._endpoint + path, headers={"User-Agent": "llama-chat"})  # noqa: S310 - http(s) by config
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        if start:
            request.add_header("Range", f"bytes={start}-")
        left = self._deadline - time.monotonic()
        return cast("HTTPResponse", self._opener.open(request, timeout=min(max(1.0, left), _READ_SECONDS)))

    def patiently(self, action: Callable[[], _T]) -> _T:
        """What the action returns; it is run again, after growing pauses, while the hub is away or overloaded."""
        self._received = 0
        pause = 1.0
        while True:
            try:
                return action()
            except HTTPError as error:
                reason = f"HTTP {error.code}"
                if error.code not in _AGAIN:
                    raise Failure(self._refusal(error)) from None
            except (OSError, HTTPException) as error:
                if getattr(error, "errno", None) in _DISK:
                    raise
                reason = str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
            if time.monotonic() + pause > self._deadline:
                raise self._late(reason)
            print(f"{self._name}: {self._endpoint}: {reason}: again in {pause:g} s")
            time.sleep(pause)
            pause = min(2 * pause, 30.0)

    def begin(self, file: File, done: int) -> None:
        """From here on it is this file that the hub's verdicts tell of; `done` bytes of it are here."""
        self._file, self._done = file, done

    def rest(self, file: File, response: HTTPResponse) -> Iterator[bytes]:
        """What comes of the file, with a line of progress every few seconds; TimeoutError past the deadline."""
        begun = shown = time.monotonic()
        start = self._done
        for chunk in self._chunks(response, file.size - self._done):
            yield chunk
            self._done += len(chunk)
            now = time.monotonic()
            if now - shown >= _PROGRESS_SECONDS or self._done == file.size:
                shown, speed = now, (self._done - start) / max(now - begun, 1e-3) / 1e6
                percent = 100 * self._done // file.size
                print(f"{self._name}: {file.path}: {percent} % of {file.size / 1e9:.2f} GB, {speed:.0f} MB/s")

    def _chunks(self, response: HTTPResponse, missing: float = math.inf) -> Iterator[bytes]:
        while chunk := response.read1(_CHUNK):  # read() would wait until a whole chunk is there
            self._received += len(chunk)
            missing -= len(chunk)
            yield chunk
            if missing and time.monotonic() > self._deadline:
                raise TimeoutError("too slow")

    def progress(self) -> str:
        """How far this run has come."""
        if self._file is None:
            return f"the list of files of {self._repo} is not here yet"
        return f"{self._done / 1e9:.2f} of {self._file.size / 1e9:.2f} GB of {self._file.path} are here"

    def _late(self, reason: str) -> Failure:
        if self._received:
            return Failure(f"{self.progress()} after {self._seconds:g} s ({reason}): {MORE_TIME}")
        what = f" of {self._file.path}" if self._file else ""
        remedy = "check hub.endpoint, the network and startup_seconds, then run it again"
        return Failure(f"nothing{what} from the hub {self._endpoint} in {self._seconds:g} s ({reason}): {remedy}")

    def listing(self) -> tuple[str, list[File]]:
        """The revision's commit, and all files of the repository at it."""
        if self._seconds <= 0:
            raise Failure(f"no time was left for it: {MORE_TIME}")
        path = f"/api/models/{quote(self._repo)}/revision/{quote(self._revision, safe='')}?blobs=true"

        def read() -> bytes:
            with self.open(path) as response:
                return b"".join(self._chunks(response))

        answer = self.patiently(read)
        try:
            info: dict[str, Any] = json.loads(answer)
            files = [_file(entry) for entry in info["siblings"]]
            commit = str(info["sha"])
        except (ValueError, KeyError, TypeError):
            commit, files = "", []
        outside = [file for file in files if {"", "..", "/"} & {*PurePosixPath(file.path).parts}]
        if outside or not COMMIT.fullmatch(commit):
            raise Failure(f"{self._endpoint} does not answer as a Hugging Face hub does: check hub.endpoint")
        return commit, files

    def _refusal(self, error: HTTPError) -> str:
        code, page = error.headers.get("X-Error-Code", ""), f"{self._endpoint}/{self._repo}"
        if error.code in {401, 403} and self._token:
            what, remedy = "refuses the token for", f"ask for access at {page}, or renew the Secret of hub.token_secret"
        elif error.code in {401, 403}:
            what, remedy = "wants a token for", "check repo, or name a Secret with a token in hub.token_secret"
        elif code == "RevisionNotFound":
            what, remedy = f"has no revision {self._revision} of", f"set revision to a branch, tag or commit of {page}"
        elif code == "EntryNotFound":
            what, remedy = "lists a file that it does not have in", "run it again, or set another revision"
        elif error.code == 404:  # noqa: PLR2004 - HTTP's own number
            what, remedy = "has no repository", "check repo and hub.endpoint"
        else:
            what, remedy = "refuses", f"look at {page}"
        return f"the hub {what} {self._repo} (HTTP {error.code}): {remedy}"


def _file(sibling: dict[str, Any]) -> File:
    lfs: dict[str, str] = sibling.get("lfs") or {}  # absent where git itself holds the file
    return File(sibling["rfilename"], int(sibling["size"]), lfs.get("sha256"))
